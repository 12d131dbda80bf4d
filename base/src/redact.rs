//! Keeping secrets out of everything that is printed: URLs with credentials, and free text that repeats them.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

/// What stands in place of a secret.
pub const REDACTED: &str = "***";

/// Query parameters whose value is a secret in the URLs of cameras and streaming services.
const SECRET_PARAMETERS: [&str; 25] = [
    "password",
    "passwd",
    "pass",
    "pwd",
    "user",
    "username",
    "token",
    "access_token",
    "auth",
    "key",
    "apikey",
    "api_key",
    "passphrase",
    "secret",
    "signature",
    "sig",
    "usr",
    "loginuse",
    "loginpas",
    "jwt",
    "hdnts",
    "hdnea",
    "x-amz-signature",
    "x-amz-credential",
    "x-amz-security-token",
];

/// URL of a source. `Display` and `Debug` show it without user, password and secret parameters.
#[derive(Clone)]
pub struct SourceUrl {
    secret: SecretString,
    shown: String,
    scheme: String,
    secrets: Vec<String>,
}

/// Why a text is no source URL. Never repeats the text beyond what can be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// Not a URL at all.
    #[error("`{shown}` is no URL ({cause}); write something like rtsp://camera.lan:554/stream or file:///srv/clip.mp4")]
    Malformed {
        /// The text with what looks like credentials left out.
        shown: String,
        /// From the parser.
        cause: String,
    },
}

impl SourceUrl {
    /// Parses a URL.
    pub fn parse(text: &str) -> Result<Self, BadUrl> {
        let url =
            Url::parse(text).map_err(|e| BadUrl::Malformed { shown: without_user(text), cause: e.to_string() })?;
        let mut secrets = Vec::new();
        if let Some(password) = url.password() {
            secrets.extend(both_spellings(password));
        }
        // The user's name alone is no secret worth tearing texts apart for ("admin" stands in many words),
        // but RTSP cameras that take a bare token put it there.
        if url.password().is_none() && !url.username().is_empty() {
            secrets.extend(both_spellings(url.username()));
        }
        let pieces = text.split(['/', '?', '&', ';', '#']).filter_map(|piece| piece.split_once('='));
        for (_, value) in
            pieces.filter(|(name, value)| !value.is_empty() && is_secret_parameter(&percent_decoded(name)))
        {
            secrets.extend(both_spellings(value));
        }
        secrets.retain(|s| s.len() >= 3);
        secrets.sort_by_key(|s| std::cmp::Reverse(s.len()));
        secrets.dedup();
        Ok(Self { secret: text.into(), shown: redact(&url), scheme: url.scheme().into(), secrets })
    }

    /// A file on this machine; `path` must be absolute.
    ///
    /// # Errors
    /// When the path is not absolute.
    pub fn from_path(path: &std::path::Path) -> Result<Self, BadUrl> {
        let url = Url::from_file_path(path).map_err(|()| BadUrl::Malformed {
            shown: path.display().to_string(),
            cause: "not an absolute path".into(),
        })?;
        Self::parse(url.as_str())
    }

    /// The whole URL, secrets included: only for handing to the library that opens it.
    pub fn expose(&self) -> &str {
        self.secret.expose_secret()
    }

    /// The scheme, lower case.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Takes this URL's secrets, and the credentials of any URL, out of a text that comes from elsewhere.
    pub fn scrub(&self, text: &str) -> String {
        let mut clean = scrub_urls(text);
        for secret in &self.secrets {
            clean = clean.replace(secret.as_str(), REDACTED);
        }
        clean
    }
}

impl fmt::Display for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceUrl({})", self.shown)
    }
}

/// Any text as one part of a URL: everything but letters, digits and `-._~` becomes `%XX` (RFC 3986, section 2).
pub fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Some cameras take `user=admin&password=...` in the path, some services a token behind `;` or `#`: the text with such values
/// hidden, wherever they stand in a URL.
fn hide_values(url: &str) -> String {
    let is_end = |c: char| matches!(c, '/' | '?' | '&' | ';' | '#');
    let mut out = String::with_capacity(url.len());
    for piece in url.split_inclusive(is_end) {
        let (piece, end) =
            piece.split_at(piece.rfind(is_end).filter(|at| at + 1 == piece.len()).unwrap_or(piece.len()));
        match piece.split_once('=') {
            Some((name, value)) if !value.is_empty() && is_secret_parameter(&percent_decoded(name)) => {
                out.push_str(name);
                out.push('=');
                out.push_str(REDACTED);
            }
            _ => out.push_str(piece),
        }
        out.push_str(end);
    }
    out
}

/// Whether a URL holds a secret anywhere behind its host: in the path, in the query, behind `;` or `#`.
pub fn holds_secret_values(url: &str) -> bool {
    hide_values(url) != url
}

/// Whether the value of this query parameter is kept secret.
pub fn is_secret_parameter(name: &str) -> bool {
    SECRET_PARAMETERS.iter().any(|p| name.eq_ignore_ascii_case(p))
}

fn percent_decoded(text: &str) -> String {
    // `a=` makes it a form; a plus sign stays a plus sign when written %2B.
    let form = format!("a={}", text.replace('+', "%2B"));
    url::form_urlencoded::parse(form.as_bytes()).next().map(|(_, v)| v.into_owned()).unwrap_or_default()
}

fn both_spellings(text: &str) -> [String; 3] {
    let decoded = percent_decoded(text);
    let encoded = percent_encoded(&decoded);
    [text.to_owned(), decoded, encoded]
}

/// The URL as it may be shown.
fn redact(url: &Url) -> String {
    let mut shown = url.clone();
    let has_user = !url.username().is_empty() || url.password().is_some();
    if has_user {
        // Fails only for URLs that cannot carry a user, which have none to hide.
        let _ = shown.set_username(REDACTED);
        let _ = shown.set_password(None);
    }
    if url.query().is_some() {
        let query: Vec<String> = url
            .query()
            .unwrap_or_default()
            .split('&')
            .map(|pair| match pair.split_once('=') {
                Some((name, _)) if is_secret_parameter(&percent_decoded(name)) => format!("{name}={REDACTED}"),
                _ => pair.to_owned(),
            })
            .collect();
        shown.set_query(Some(&query.join("&")));
    }
    hide_values(shown.as_str())
}

/// Takes the credentials out of everything in a text that looks like a URL.
pub fn scrub_urls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after
            .find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '`' | ')'))
            .unwrap_or(after.len());
        let (body, next) = after.split_at(end);
        out.push_str(&scrub_url_body(body));
        rest = next;
    }
    out.push_str(rest);
    out
}

/// For a text that could not be read as a URL: all between `://` and the last `@` may be a password with odd characters.
fn without_user(text: &str) -> String {
    match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => {
            format!("{}{REDACTED}{}", &text[..scheme + 3], scrub_urls(&text[at..]))
        }
        _ => scrub_urls(text),
    }
}

/// `body` is what follows `scheme://`.
fn scrub_url_body(body: &str) -> String {
    let authority_end = body.find(['/', '?', '#']).unwrap_or(body.len());
    // A password may hold an unescaped `/`: where an `@` follows before the query, all before it is credentials.
    let until_query = body.find(['?', '#']).unwrap_or(body.len());
    let at = body[..authority_end]
        .rfind('@')
        .or_else(|| body[..authority_end].contains(':').then(|| body[..until_query].rfind('@')).flatten());
    let mut out = String::new();
    let tail = match at {
        Some(at) => {
            out.push_str(REDACTED);
            &body[at..]
        }
        None => body,
    };
    match tail.split_once('?') {
        None => out.push_str(tail),
        Some((path, query)) => {
            out.push_str(path);
            for (i, pair) in query.split('&').enumerate() {
                out.push(if i == 0 { '?' } else { '&' });
                match pair.split_once('=') {
                    Some((name, _)) if is_secret_parameter(name) => {
                        out.push_str(name);
                        out.push('=');
                        out.push_str(REDACTED);
                    }
                    _ => out.push_str(pair),
                }
            }
        }
    }
    hide_values(&out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_without_secrets() {
        let check = |url: &str, expected: &str| {
            let url = SourceUrl::parse(url).expect(url);
            assert_eq!(url.to_string(), expected);
            assert_eq!(format!("{url:?}"), format!("SourceUrl({expected})"));
        };
        check("rtsp://cam.lan/1", "rtsp://cam.lan/1");
        check("rtsp://admin:hunter2@cam.lan:554/1", "rtsp://***@cam.lan:554/1");
        check("rtsp://tok3n@cam.lan/1", "rtsp://***@cam.lan/1");
        check("https://a.b/c.m3u8?token=abc123&x=1", "https://a.b/c.m3u8?token=***&x=1");
        check("srt://h:9000?mode=caller&PassPhrase=s3cretpass", "srt://h:9000?mode=caller&PassPhrase=***");
        check("rtsp://h/user=admin&password=hunter2&channel=1.sdp", "rtsp://h/user=***&password=***&channel=1.sdp");
        check("https://h/a;token=hunter2/b?x=1;sig=hunter2#jwt=hunter2", "https://h/a;token=***/b?x=1;sig=***#jwt=***");
    }

    #[test]
    fn free_text_is_scrubbed() {
        let url = SourceUrl::parse("rtsp://admin:hun%40ter2@cam.lan/1?token=qwerty").expect("url");
        let check = |text: &str, expected: &str| assert_eq!(url.scrub(text), expected);
        check("could not open rtsp://admin:hun%40ter2@cam.lan/1: no", "could not open rtsp://***@cam.lan/1: no");
        check("pass hun@ter2, again hun%40ter2", "pass ***, again ***");
        check("at \"http://u:p/w@h/x?token=a&b=c\" and qwerty", "at \"http://***@h/x?token=***&b=c\" and ***");
        check("nothing to hide", "nothing to hide");
    }

    #[test]
    fn a_bad_url_does_not_show_its_password() {
        let error = SourceUrl::parse("rtsp://u:secretword@[bad/1").expect_err("bad host").to_string();
        assert!(!error.contains("secretword"), "{error}");
        assert!(error.contains("rtsp://***@[bad/1"), "{error}");
        for odd in ["hun#ter2secret", "hun?ter2secret", "hun ter2secret", "hun)ter2secret"] {
            if let Err(error) = SourceUrl::parse(&format!("rtsp://admin:{odd}@cam.lan/1")) {
                assert!(!error.to_string().contains("secret"), "{error}");
            }
        }
        assert!(SourceUrl::parse("no url").is_err());
    }

    proptest::proptest! {
        /// Whatever the password, neither the shown URL, nor a text that repeats it in any spelling, holds it.
        #[test]
        fn no_password_survives(user in "[a-z]{1,8}", password in "[!-~]{6,20}", path in "[a-z/]{0,10}") {
            let encoded = percent_encoded(&password);
            let text = format!("rtsp://{user}:{encoded}@cam.lan/{path}");
            let url = SourceUrl::parse(&text).expect("url");
            let told = url.scrub(&format!("cannot open {text}: refused '{password}' ({encoded})"));
            for shown in [url.to_string(), format!("{url:?}"), told] {
                proptest::prop_assert!(!shown.contains(&password) && !shown.contains(&encoded), "{}", shown);
            }
        }

        /// No text makes the scrubbing panic, and what holds no URL stays as it is.
        #[test]
        fn any_text_can_be_scrubbed(text in ".{0,80}") {
            let clean = scrub_urls(&text);
            proptest::prop_assert!(text.contains("://") || clean == text);
        }
    }
}
