//! Talks to a running service over its HTTP interface, for the commands that need one. Blocks the thread that calls.
//!
//! What the service says is shown without control characters: it may name streams and texts of anybody's making.

use std::{env, ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use base::redact::{percent_encoded, scrub_urls};
use reqwest::{
    Method, StatusCode, Url,
    blocking::{ClientBuilder, Response},
    header::{ACCEPT, CONTENT_TYPE},
    redirect::Policy,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{EXIT_REFUSED, say_err};

/// Connecting may take so long.
const CONNECTED_WITHIN: Duration = Duration::from_secs(5);
/// An answer may take so long: attaching waits for the store.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// A connection that has gone dead is noticed after about so long.
const ALIVE: Duration = Duration::from_secs(15);
const TOKEN: &str = "EYEWITNESS_TOKEN";
const SERVICE: &str = "EYEWITNESS_SERVICE";

/// Which service is talked to.
#[derive(clap::Args, Clone)]
pub(super) struct At {
    /// Address of the running service; else the environment variable EYEWITNESS_SERVICE is used
    #[arg(long, value_name = "URL", default_value_t = usual_service(env::var_os(SERVICE)))]
    service: String,
    /// File that holds the service's token; else the environment variable EYEWITNESS_TOKEN is used
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// The service, as a client sees it.
#[derive(Clone)]
pub(super) struct Remote {
    http: reqwest::blocking::Client,
    /// Without a slash at its end.
    base: String,
    token: Option<SecretString>,
}

/// Why a service did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// Nobody answers.
    #[error(
        "no service answers at {base} ({cause}); start it with `eyewitness run`, its `[http]` table set, or name another with --service or EYEWITNESS_SERVICE"
    )]
    Unreachable {
        /// Where.
        base: String,
        /// Why.
        cause: String,
    },
    /// The token is missing or wrong.
    #[error(
        "the service at {base} does not let us in: {said}; give its token with --token-file or in EYEWITNESS_TOKEN"
    )]
    Token {
        /// Where.
        base: String,
        /// What it said.
        said: String,
    },
    /// There is no such thing.
    #[error("{0}")]
    Missing(String),
    /// It cannot be done, however often it is asked for.
    #[error("the service refuses: {said}")]
    Refused {
        /// How.
        status: StatusCode,
        /// What it said.
        said: String,
        /// Each reason, where there are several.
        reasons: Vec<String>,
    },
    /// Another worker has it.
    #[error("{said}")]
    Elsewhere {
        /// What it said.
        said: String,
        /// Where to ask.
        address: Option<String>,
    },
    /// Anything else.
    #[error("the service at {base} failed: {said}")]
    Failed {
        /// Where.
        base: String,
        /// What it said.
        said: String,
    },
}

impl At {
    /// Gets ready to talk.
    pub(super) fn open(&self) -> anyhow::Result<Remote> {
        let token = match &self.token_file {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("the token's file {} cannot be read", path.display()))?;
                Some(text.trim().to_owned())
            }
            None => env::var(TOKEN).ok().filter(|token| !token.is_empty()),
        };
        Remote::new(&self.service, token.map(SecretString::from))
    }

    /// Whether the service is on this machine, so that it sees the same files.
    pub(super) fn is_here(&self) -> bool {
        Url::parse(&self.service).is_ok_and(|url| is_loopback(&url))
    }
}

/// The service where the command line names none; a variable that is empty counts as not set.
fn usual_service(set: Option<OsString>) -> String {
    let set = set.filter(|set| !set.is_empty()).map(|set| set.to_string_lossy().into_owned());
    set.unwrap_or_else(|| "http://127.0.0.1:8642".to_owned())
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// A client; without `within`, an answer may go on for ever.
fn client(url: &Url, within: Option<Duration>) -> anyhow::Result<reqwest::blocking::Client> {
    let mut builder = ClientBuilder::new()
        .connect_timeout(CONNECTED_WITHIN)
        .timeout(within)
        .tcp_keepalive(ALIVE)
        .redirect(Policy::none())
        .user_agent(concat!("eyewitness/", env!("CARGO_PKG_VERSION")));
    if is_loopback(url) {
        builder = builder.no_proxy();
    }
    builder.build().context("the HTTP client cannot be made")
}

impl Remote {
    fn new(service: &str, token: Option<SecretString>) -> anyhow::Result<Self> {
        let wrong = "write an address such as http://127.0.0.1:8642";
        let url = Url::parse(service)
            .map_err(|e| anyhow::anyhow!("--service `{}` is no address ({e}): {wrong}", scrub_urls(service)))?;
        let is_web = matches!(url.scheme(), "http" | "https") && url.host_str().is_some();
        anyhow::ensure!(is_web, "--service is no address of a service: {wrong}");
        let is_bare = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        anyhow::ensure!(is_bare, "--service may hold neither user, password nor query: {wrong}");
        let base = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { http: client(&url, Some(ANSWERED_WITHIN))?, base, token })
    }

    /// The same, at another address, for answers that have no end. A worker may tell its address as host and port alone.
    pub(super) fn endless(&self, address: Option<&str>) -> anyhow::Result<Self> {
        let base = address.unwrap_or(&self.base).trim_end_matches('/');
        let base = if base.contains("://") { base.to_owned() } else { format!("http://{base}") };
        let url = Url::parse(&base).context("a worker says that it has an address, which is none")?;
        Ok(Self { http: client(&url, None)?, base, token: self.token.clone() })
    }

    /// The same, giving up sooner.
    pub(super) fn within(&self, patience: Duration) -> anyhow::Result<Self> {
        let url = Url::parse(&self.base).context("the service's address")?;
        Ok(Self { http: client(&url, Some(patience))?, ..self.clone() })
    }

    /// One request; a good answer, its body not yet read.
    pub(super) fn send(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Response, Trouble> {
        let mut request = self.http.request(method, format!("{}{path}", self.base)).header(ACCEPT, accept);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let response = request.send().map_err(|e| self.unreachable(e))?;
        if response.status().is_success() { Ok(response) } else { Err(self.trouble(response)) }
    }

    /// One request whose answer is JSON.
    pub(super) fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, T), Trouble> {
        let response = self.send(method, path, "application/json", body, &[])?;
        let status = response.status();
        let text = response.text().map_err(|e| self.unreachable(e))?;
        let text = if text.is_empty() { "null" } else { &text };
        let value = serde_json::from_str(text).map_err(|e| Trouble::Failed {
            base: self.base.clone(),
            said: format!("its answer is not what this version understands ({e})"),
        })?;
        Ok((status, value))
    }

    fn unreachable(&self, error: reqwest::Error) -> Trouble {
        let error = error.without_url();
        let mut cause: &dyn std::error::Error = &error;
        while let Some(next) = cause.source() {
            cause = next;
        }
        let cause = if error.is_timeout() { "it took too long".to_owned() } else { cause.to_string() };
        Trouble::Unreachable { base: self.base.clone(), cause }
    }

    fn trouble(&self, response: Response) -> Trouble {
        /// What a refusal says.
        #[derive(Default, Deserialize)]
        struct Said {
            error: String,
            #[serde(default)]
            reasons: Vec<String>,
            worker: Option<String>,
            address: Option<String>,
        }
        let base = self.base.clone();
        let status = response.status();
        let text = response.text().unwrap_or_default();
        let Ok(said) = serde_json::from_str::<Said>(&text) else {
            return Trouble::Failed { base, said: format!("{status}; is that eyewitness?") };
        };
        let reasons = said.reasons.iter().map(|reason| plain(reason)).collect();
        let error = plain(&said.error);
        match status.as_u16() {
            401 => Trouble::Token { base, said: error },
            404 => Trouble::Missing(error),
            421 if said.worker.is_some() => Trouble::Elsewhere { said: error, address: said.address },
            400 | 409 | 412 | 413 | 415 | 422 => Trouble::Refused { status, said: error, reasons },
            _ => Trouble::Failed { base, said: error },
        }
    }
}

/// Tells what went wrong; a refusal with every reason on a line of its own.
pub(super) fn told(trouble: Trouble) -> anyhow::Result<ExitCode> {
    let Trouble::Refused { said, reasons, .. } = trouble else { return Err(trouble.into()) };
    if reasons.len() > 1 {
        // The reasons stand in the sentence as well, behind a colon.
        let head = said.split(": ").next().unwrap_or(&said);
        say_err(&scrub_urls(&format!("error: the service refuses: {head}:")));
        for reason in reasons {
            say_err(&scrub_urls(&format!("  {reason}")));
        }
    } else {
        say_err(&scrub_urls(&format!("error: the service refuses: {said}")));
    }
    Ok(ExitCode::from(EXIT_REFUSED))
}

/// The path of one stream.
pub(super) fn stream_path(name: &str) -> String {
    format!("/v1/streams/{}", percent_encoded(name))
}

/// `?name=...&tag=...`, or nothing.
pub(super) fn query(pairs: &[(&str, &str)]) -> String {
    if pairs.is_empty() {
        return String::new();
    }
    format!("?{}", url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish())
}

/// A text without what a terminal would obey.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `key=value` of the command line.
pub(super) fn tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write key=value, such as Location=Front".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_services() {
        let check = |service: &str, expected: Result<&str, &str>| match (Remote::new(service, None), expected) {
            (Ok(remote), Ok(base)) => assert_eq!(remote.base, base),
            (Err(e), Err(part)) => {
                assert!(e.to_string().contains(part), "{e}");
                assert!(!e.to_string().contains("hunter2"), "{e}");
            }
            (got, expected) => panic!("{service}: {:?}, not {expected:?}", got.map(|r| r.base)),
        };
        check("http://127.0.0.1:8642", Ok("http://127.0.0.1:8642"));
        check("https://cams.example/eyewitness/", Ok("https://cams.example/eyewitness"));
        check("127.0.0.1:8642", Err("no address"));
        check("rtsp://h/", Err("no address of a service"));
        check("http://u:hunter2@h/", Err("neither user"));
    }

    #[test]
    fn addresses_of_workers() {
        let remote = Remote::new("http://127.0.0.1:8642", None).expect("remote");
        let check = |address: Option<&str>, expected: &str| {
            assert_eq!(remote.endless(address).expect("remote").base, expected, "{address:?}");
        };
        check(None, "http://127.0.0.1:8642");
        check(Some("192.0.2.2:8642"), "http://192.0.2.2:8642");
        check(Some("[2001:db8::2]:8642"), "http://[2001:db8::2]:8642");
        check(Some("worker-2.lan:8642"), "http://worker-2.lan:8642");
        check(Some("https://worker-2.lan/"), "https://worker-2.lan");
    }

    #[test]
    fn the_usual_service() {
        let check = |set: Option<&str>, expected: &str| assert_eq!(usual_service(set.map(OsString::from)), expected);
        check(None, "http://127.0.0.1:8642");
        check(Some(""), "http://127.0.0.1:8642");
        check(Some("http://cams.lan:1"), "http://cams.lan:1");
    }

    #[test]
    fn tags_and_queries() {
        assert_eq!(tag("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(tag("=b").is_err() && tag("a").is_err());
        assert_eq!(query(&[]), "");
        assert_eq!(query(&[("name", "a*"), ("tag", "a:b c")]), "?name=a*&tag=a%3Ab+c");
        assert_eq!(plain("a\u{1b}[31mb\n"), "a [31mb ");
    }
}
