//! What an attachment means here and now, or every reason why it cannot be run. One check for all who attach: requests, the
//! watched folder, the keeper. Reads the named secret and makes (but does not start) the source, on the caller's thread.

use std::collections::BTreeMap;

use base::{
    media::StreamName,
    redact::{SourceUrl, holds_secret_values, is_secret_parameter},
};
use url::Url;

use super::{
    attachment::Attachment,
    secrets::Secrets,
    selectors::{Selectors, profile_for},
};
use crate::config::{CheckedStream, ProfileConfig};

/// The profiles of a configuration, by name; `default` may be missing.
pub type Profiles = BTreeMap<String, ProfileConfig>;

/// Most tags of a stream.
pub const MOST_TAGS: usize = 50;
/// Most characters of a tag's key.
pub const KEY_CHARS: usize = 128;
/// Most characters of a tag's value.
pub const VALUE_CHARS: usize = 256;

/// What an attachment means.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Name of the profile that is run.
    pub profile: String,
    /// The stream, ready to be started, but for its rules. Its profile has no selectors: they have done their work, and a change of them alone
    /// is no change of the stream.
    pub stream: CheckedStream,
}

/// Resolves an attachment.
///
/// # Errors
/// All that is wrong with it, in words that name the key in backquotes and hold no secret.
pub fn check(
    name: &str,
    attachment: &Attachment,
    profiles: &Profiles,
    secrets: &Secrets,
) -> Result<Resolved, Vec<String>> {
    let Attachment { url, credentials, profile, tags, weight, source, rules: _ } = attachment;
    let mut wrong = Vec::new();
    let checked_name = StreamName::new(name).map_err(|e| wrong.push(e.to_string())).ok();
    let checked_url = source_of(url, credentials.as_deref(), secrets).and_then(|url| {
        if let Some(name) = &checked_name {
            ingest::check(name, &url, source).map_err(|e| {
                // Whoever is told knows which stream it is about.
                let told = e.to_string();
                format!("`url`: {}", told.strip_prefix(&format!("stream `{name}`: ")).unwrap_or(&told))
            })?;
        }
        Ok(url)
    });
    let checked_url = checked_url.map_err(|e| wrong.push(e)).ok();
    let chosen = profile_for(name, tags, profile.as_deref(), profiles);
    let chosen = chosen.map_err(|e| wrong.push(format!("`profile`: {e}"))).ok();
    if !(weight.is_finite() && *weight > 0.0) {
        wrong.push(format!("`weight` is {weight} and must be a number above 0; 1 is an ordinary stream"));
    }
    wrong.extend(check_tags(tags));
    match (checked_name, checked_url, chosen) {
        (Some(name), Some(url), Some(chosen)) if wrong.is_empty() => Ok(Resolved {
            profile: chosen.to_owned(),
            stream: CheckedStream {
                name,
                url,
                profile: profile_settings(chosen, profiles),
                tags: tags.clone(),
                source: source.clone(),
                rules: Vec::new(),
            },
        }),
        _ => Err(wrong),
    }
}

/// The settings of a profile that [`profile_for`] gave, without its selectors.
pub fn profile_settings(name: &str, profiles: &Profiles) -> ProfileConfig {
    let profile = profiles.get(name).cloned().unwrap_or_default();
    ProfileConfig { select: Selectors::default(), ..profile }
}

/// Every reason why these cannot be a stream's tags.
pub fn check_tags(tags: &BTreeMap<String, String>) -> Vec<String> {
    let mut wrong = Vec::new();
    if tags.len() > MOST_TAGS {
        wrong.push(format!("`tags` has {} tags; at most {MOST_TAGS} can be kept", tags.len()));
    }
    for (key, value) in tags {
        let n_chars = key.chars().count();
        let shown: String = key.chars().take(20).collect();
        if !(1..=KEY_CHARS).contains(&n_chars) {
            wrong.push(format!("`tags`: a key has 1 to {KEY_CHARS} characters; `{shown}` has {n_chars}"));
        }
        let n_chars = value.chars().count();
        if n_chars > VALUE_CHARS {
            wrong
                .push(format!("`tags`: a value has at most {VALUE_CHARS} characters; that of `{shown}` has {n_chars}"));
        }
    }
    wrong
}

/// The URL that is opened: that of an attachment, with the user and password of the secret it names.
///
/// # Errors
/// When the URL holds a secret itself, or there is no such secret, in words that name the key in backquotes.
pub fn source_of(url: &str, credentials: Option<&str>, secrets: &Secrets) -> Result<SourceUrl, String> {
    let plain = check_url(url)?;
    match credentials {
        None => Ok(plain),
        Some(secret) => secrets.url_with(url, secret).map_err(|e| format!("`credentials`: {e}")),
    }
}

/// The URL of an attachment, which is listed and published: it may hold no secret.
fn check_url(text: &str) -> Result<SourceUrl, String> {
    const INSTEAD: &str = "put them into a secret ([secrets.NAME], or a folder of attachments.secrets_folder) and name it in `credentials`";
    if text.contains("${") {
        return Err(format!("`url`: no variables are put into the URL of an attachment; user and password: {INSTEAD}"));
    }
    if text.trim() != text || !(text.contains("://") || text.starts_with('/')) {
        return Err(format!(
            "`url`: `{}` is neither a URL, such as rtsp://192.0.2.10/stream1, nor an absolute path",
            base::redact::scrub_urls(text)
        ));
    }
    let url = ingest::source_url(text).map_err(|e| format!("`url`: {e}"))?;
    let parsed = Url::parse(url.expose()).map_err(|e| format!("`url`: `{url}` is no URL ({e})"))?;
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(format!(
            "`url`: `{url}` has a user or a password in it, and attachments are listed and published: {INSTEAD}"
        ));
    }
    if parsed.query_pairs().any(|(_, value)| Url::parse(&value).is_ok_and(|inner| inner.password().is_some())) {
        return Err(format!(
            "`url`: a URL within it has a password, and attachments are listed and published: {INSTEAD}"
        ));
    }
    let before_query = url.expose().split('?').next().unwrap_or_default();
    let behind = parsed.fragment().unwrap_or_default();
    if holds_secret_values(before_query) || holds_secret_values(behind) {
        return Err(format!(
            "`url`: `{url}` holds a password or token in its path, and attachments are listed and published: {INSTEAD}; \
             a camera that takes it nowhere else goes into [streams] of the configuration file"
        ));
    }
    let secret = parsed.query_pairs().find(|(name, value)| is_secret_parameter(name) && !value.is_empty());
    if let Some((name, _)) = secret {
        return Err(format!(
            "`url`: the value of `{name}` is a secret, and attachments are listed and published: leave it empty \
             (`{name}=`), {}",
            INSTEAD.replacen("them", "it", 1)
        ));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> Secrets {
        // A variable that every process has.
        let text = "yard = { user = 'admin', password_env = 'PATH' }\ngone.password_file = '/no/such/file'";
        Secrets::new(toml::from_str(text).expect("secrets"), None)
    }

    fn profiles() -> Profiles {
        let text = "people = { classes = ['person'], select = { tags = [{ key = 'Location', values = ['Front'] }] } }";
        toml::from_str(text).expect("profiles")
    }

    fn resolve(name: &str, text: &str) -> Result<Resolved, Vec<String>> {
        check(name, &toml::from_str(text).expect(text), &profiles(), &secrets())
    }

    #[test]
    fn an_attachment_is_resolved() {
        let check = |text: &str, profile: &str, shown: &str| {
            let resolved = resolve("cam", text).expect(text);
            assert_eq!(
                (resolved.profile.as_str(), resolved.stream.url.to_string().as_str()),
                (profile, shown),
                "{text}"
            );
            assert_eq!(resolved.stream.profile.classes.len(), usize::from(profile == "people"));
            assert!(resolved.stream.profile.select.is_empty());
            let path = std::env::var("PATH").expect("PATH");
            assert!(!format!("{resolved:?}").contains(&path), "{resolved:?}");
        };
        check("url = 'test://'", "default", "test://");
        check("url = 'test://'\ntags = { Location = 'Front' }", "people", "test://");
        check("url = 'test://'\ntags = { Location = 'Yard' }", "default", "test://");
        check("url = 'test://'\nprofile = 'people'", "people", "test://");
        check("url = 'test://'\nprofile = 'default'\ntags = { Location = 'Front' }", "default", "test://");
        check("url = 'rtsp://h/1'\ncredentials = 'yard'\nweight = 0.25", "default", "rtsp://***@h/1");
        check("url = 'udp://@239.0.0.1:5004'", "default", "udp://239.0.0.1:5004");
        check("url = '/srv/clip.mp4'", "default", "file:///srv/clip.mp4");
        check("url = 'https://h/a.m3u8?token=&x=1'\ncredentials = 'yard'", "default", "https://h/a.m3u8?token=***&x=1");
    }

    #[test]
    fn all_that_is_wrong_is_told() {
        let check = |name: &str, text: &str, expected: &[&str]| {
            let wrong = resolve(name, text).expect_err(text);
            assert_eq!(wrong.len(), expected.len(), "{wrong:?}");
            for (wrong, expected) in wrong.iter().zip(expected) {
                assert!(wrong.contains(expected), "{expected}: {wrong}");
                assert!(!wrong.contains("hunter2") && !wrong.contains("/usr/bin"), "{wrong}");
            }
        };
        check("a b", "url = 'test://'", &["`a b` is no stream name"]);
        check("a", "url = 'rtsp://u:hunter2@h/1'", &["`url`: `rtsp://***@h/1` has a user or a password in it"]);
        check("a", "url = 'rtsp://u:hunter2@h/1'", &["name it in `credentials`"]);
        check("a", "url = 'rtsp://hunter2@h/1'", &["name it in `credentials`"]);
        check("a", "url = 'rtsp://:hunter2@h/1'", &["name it in `credentials`"]);
        check("a", "url = 'rtsp://u:${PASSWORD}@h/1'", &["no variables"]);
        check("a", "url = 'https://h/a.m3u8?x=1&token=hunter2'", &["the value of `token` is a secret"]);
        check("a", "url = 'srt://h:1?passphrase=hunter2hunter2'", &["leave it empty (`passphrase=`), put it into"]);
        check("a", "url = 'rtsp://u:hunter2@[x/'", &["is no URL"]);
        check("a", "url = 'gopher2://h/'", &["`url`: "]);
        check(
            "a",
            "url = 'rtsp://h/1'\ncredentials = 'yrd'",
            &["`credentials`: no secret is called `yrd`; did you mean `yard`?"],
        );
        check(
            "a",
            "url = 'rtsp://h/1'\ncredentials = 'gone'",
            &["`credentials`: secret `gone`: `password_file`: cannot read"],
        );
        check("a", "url = 'rtsp://h/1'\ncredentials = '../x'", &["is no name of a secret"]);
        check(
            "a",
            "url = 'test://'\nprofile = 'peple'",
            &["`profile`: no profile is called `peple`; did you mean `people`?"],
        );
        check("a", "url = 'test://'\nweight = 0", &["`weight` is 0 and must be"]);
        check("a", "url = 'test://'\nweight = -1", &["`weight`"]);
        check("a", "url = 'test://'\nweight = nan", &["`weight`"]);
        check("a", "url = 'test://'\nweight = inf", &["`weight`"]);
        check("a", "url = 'test://'\ntags = { '' = 'x' }", &["a key has 1 to 128"]);
        let (key, value) = ("k".repeat(129), "v".repeat(257));
        check("a", &format!("url = 'test://'\ntags = {{ {key} = '{value}' }}"), &["has 129", "has 257"]);
        let many: String = (0..51).map(|n| format!("k{n} = ''\n")).collect();
        check("a", &format!("url = 'test://'\n[tags]\n{many}"), &["`tags` has 51 tags"]);
        check(
            "a b",
            "url = 'rtsp://u:hunter2@h/'\nprofile = 'x'\nweight = 0",
            &["`a b`", "`url`", "`profile`", "`weight`"],
        );
        let (key, value) = ("ä".repeat(128), "ö".repeat(256));
        resolve("a", &format!("url = 'test://'\ntags = {{ '{key}' = '{value}' }}")).expect("as long as may be");
    }
}
