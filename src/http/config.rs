//! The HTTP service's keys, and what is refused of them. Pure, except for reading the token's file.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use schemars::JsonSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer};

use super::HttpError;

/// Fewest characters of a token: what 96 random bits are in Base64.
const LEAST_TOKEN: usize = 16;

/// The HTTP service: captions, metrics, health.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Address and port to listen on; port 0 takes any free one. Default: `127.0.0.1:8642`, which only this machine can
    /// reach. Any address that others can reach needs a token.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// Address at which others reach this service, where that is not the one it listens on, such as `worker-2.lan:8642` or
    /// `https://worker-2.example.org`: other workers name it to whoever asks them for a stream that this one has. Needed with
    /// `[cluster]` where `listen` is `0.0.0.0` or `[::]`. `${NAME}` is replaced by that environment variable. Default: `listen`.
    pub advertise: Option<String>,
    /// The secret that clients have to send (`Authorization: Bearer ...`): at least 16 letters, digits or `-._~+/=`.
    /// Example: `"${EYEWITNESS_TOKEN}"`; make one with `openssl rand -hex 24`. Default: none, everybody on this machine
    /// may read.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "Option<String>")]
    pub token: Option<SecretString>,
    /// File that holds the token; spaces and newlines around it are ignored.
    pub token_file: Option<PathBuf>,
    /// Origins of other web sites whose pages may use this service, such as `["https://wall.example.org"]`. The host of
    /// each is also accepted as a name of this service behind a proxy. Default: none but our own page.
    pub allowed_origins: Vec<String>,
    /// Records (captions, transcripts, status, gaps) kept a stream for readers that are slow or come back. Default: 1024.
    pub feed_records: usize,
    /// Readers and speakers served at the same time. One more is told to try again later. Default: 256.
    pub max_clients: usize,
    /// Seconds without a record after which a sign of life is sent to a reader. Default: 15.
    pub keep_alive_secs: u64,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8642)),
            advertise: None,
            token: None,
            token_file: None,
            allowed_origins: Vec::new(),
            feed_records: 1024,
            max_clients: 256,
            keep_alive_secs: 15,
        }
    }
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretString::from))
}

impl HttpConfig {
    /// Checks what the types cannot, touching neither disk nor network.
    ///
    /// # Errors
    /// Every [`HttpError`] but `TokenFile`, `Bind` and `Start`.
    pub fn check(&self) -> Result<(), HttpError> {
        if self.token.is_some() && self.token_file.is_some() {
            return Err(HttpError::TwoTokens);
        }
        if let Some(token) = &self.token {
            check_token(token)?;
        } else if self.token_file.is_none() && !self.is_private() {
            return Err(HttpError::WideWithoutToken { listen: self.listen });
        }
        if let Some(address) = &self.advertise
            && !is_reachable(address)
        {
            // A password before a host is nothing to show.
            let shown = if address.contains('@') { "..." } else { address };
            return Err(HttpError::BadAdvertise { address: shown.to_owned() });
        }
        for origin in &self.allowed_origins {
            if authority(origin).is_none() {
                return Err(HttpError::BadOrigin { origin: origin.clone() });
            }
        }
        for (key, value) in [("feed_records", self.feed_records), ("max_clients", self.max_clients)] {
            if value == 0 {
                return Err(HttpError::Zero { key });
            }
        }
        if self.keep_alive_secs == 0 {
            return Err(HttpError::Zero { key: "keep_alive_secs" });
        }
        Ok(())
    }

    /// Whether only this machine can reach the address.
    pub(super) fn is_private(&self) -> bool {
        self.listen.ip().to_canonical().is_loopback()
    }

    pub(super) fn keep_alive(&self) -> Duration {
        Duration::from_secs(self.keep_alive_secs)
    }

    /// The token, from wherever it is.
    pub(super) fn read_token(&self) -> Result<Option<SecretString>, HttpError> {
        let Some(path) = &self.token_file else { return Ok(self.token.clone()) };
        let text = fs::read_to_string(path).map_err(|source| HttpError::TokenFile { path: path.clone(), source })?;
        let token = SecretString::from(text.trim());
        check_token(&token)?;
        Ok(Some(token))
    }
}

/// RFC 6750, section 2.1: `b64token`.
fn check_token(token: &SecretString) -> Result<(), HttpError> {
    let token = token.expose_secret();
    if token.len() < LEAST_TOKEN {
        return Err(HttpError::ShortToken { length: token.len(), least: LEAST_TOKEN });
    }
    if !token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b)) {
        return Err(HttpError::TokenCharacters);
    }
    Ok(())
}

/// `host:port`, or the URL of a service, in characters that stand in a header.
fn is_reachable(address: &str) -> bool {
    let host = match address.contains("://") {
        true => authority(address.strip_suffix('/').unwrap_or(address)),
        false => authority(&format!("http://{address}")).is_some().then_some(address),
    };
    let Some(host) = host else { return false };
    let Ok(uri) = host.parse::<axum::http::uri::Authority>() else { return false };
    let ip = uri.host().trim_matches(['[', ']']).parse::<IpAddr>();
    let has_port = uri.port_u16().is_some_and(|port| port > 0) || (uri.port().is_none() && address.contains("://"));
    has_port && !uri.host().is_empty() && !ip.is_ok_and(|ip| ip.is_unspecified())
}

/// The `host[:port]` of an origin `scheme://host[:port]`.
pub(super) fn authority(origin: &str) -> Option<&str> {
    let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    (!rest.is_empty() && rest.chars().all(plain)).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    #[test]
    fn checks() {
        let check = |json: &str, expected: Result<(), &[&str]>| {
            let got = serde_json::from_str::<HttpConfig>(json)
                .map_err(|e| e.to_string())
                .and_then(|c| c.check().map_err(|e| e.to_string()));
            match (&got, expected) {
                (Ok(()), Ok(())) => {}
                (Err(got), Err(parts)) => {
                    for part in parts {
                        assert!(got.contains(part), "{json}: `{part}` is missing in: {got}");
                    }
                    assert!(!got.contains("hunter2"), "{got}");
                }
                _ => panic!("{json}: {got:?}, not {expected:?}"),
            }
        };
        check("{}", Ok(()));
        check(r#"{"listen":"[::1]:0"}"#, Ok(()));
        check(r#"{"listen":"[::ffff:127.0.0.1]:80"}"#, Ok(()));
        let wide: &[&str] = &["0.0.0.0:8642", "`token`", "`token_file`", "127.0.0.1:8642"];
        check(r#"{"listen":"0.0.0.0:8642"}"#, Err(wide));
        check(r#"{"listen":"[::]:8642"}"#, Err(&["[::]:8642"]));
        check(r#"{"listen":"192.0.2.7:80"}"#, Err(&["192.0.2.7:80"]));
        check(&format!(r#"{{"listen":"0.0.0.0:8642","token":"{TOKEN}"}}"#), Ok(()));
        check(r#"{"listen":"0.0.0.0:8642","token_file":"t"}"#, Ok(()));
        check(&format!(r#"{{"token":"{TOKEN}","token_file":"t"}}"#), Err(&["`token`", "`token_file`"]));
        check(r#"{"token":"hunter2"}"#, Err(&["7 characters", "at least 16"]));
        check(r#"{"token":"hunter2 hunter2 hunter2"}"#, Err(&["letters, digits"]));
        check(r#"{"allowed_origins":["https://a.example:8443"]}"#, Ok(()));
        for origin in ["a.example", "https://", "https://a.example/", "*", "null", "https://u:p@a.example"] {
            check(&format!(r#"{{"allowed_origins":["{origin}"]}}"#), Err(&["allowed_origins", "https://"]));
        }
        for address in
            ["192.0.2.7:8642", "[2001:db8::2]:8642", "worker-2.lan:80", "https://w.example/", "http://w:8642"]
        {
            check(&format!(r#"{{"advertise":"{address}"}}"#), Ok(()));
        }
        for address in
            ["", "worker-2", "0.0.0.0:8642", "[::]:8642", "w:0", "w:99999", "ftp://w", "https://w/x", "a b:1"]
        {
            check(&format!(r#"{{"advertise":"{address}"}}"#), Err(&["`advertise`", "worker-2.lan:8642"]));
        }
        for address in ["https://u:hunter2@w.example", "u:hunter2@w.example:80"] {
            check(&format!(r#"{{"advertise":"{address}"}}"#), Err(&["`advertise`"]));
        }
        check(r#"{"feed_records":0}"#, Err(&["`feed_records`"]));
        check(r#"{"max_clients":0}"#, Err(&["`max_clients`"]));
        check(r#"{"listen":"localhost"}"#, Err(&["invalid socket address"]));
        check(r#"{"tokn":"x"}"#, Err(&["unknown field `tokn`"]));
    }

    #[test]
    fn the_token_is_never_shown() {
        let config: HttpConfig = serde_json::from_str(&format!(r#"{{"token":"{TOKEN}"}}"#)).expect("configuration");
        assert!(!format!("{config:?}").contains(TOKEN));
    }

    #[test]
    fn token_file() {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("token");
        let config = HttpConfig { token_file: Some(path.clone()), ..HttpConfig::default() };
        assert!(config.read_token().expect_err("no file").to_string().contains("token_file"));
        std::fs::write(&path, format!("  {TOKEN}\n")).expect("file");
        assert_eq!(config.read_token().expect("token").expect("token").expose_secret(), TOKEN);
        std::fs::write(&path, "\n").expect("file");
        assert!(config.read_token().is_err());
    }
}
