//! One try: posts a body and takes the answer in. On the endpoint's posting threads, which it holds for the configured
//! time. Must never follow a redirect, nor give out a text with a secret in it.

use std::{error::Error, io::Read, sync::Arc, time::Duration};

use base::time::Clock;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::{
    StatusCode, Url,
    blocking::{Client, Response},
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect::Policy,
};

use super::{config::EndpointConfig, config::Secrets, encode::Body, read::Raw};
use crate::InferenceError;

/// Bytes of a refusal that are looked at for its text.
const TEXT_BYTES: u64 = 4096;
/// Characters of it that are told.
const TOLD_CHARS: usize = 200;
/// No server may ask for a longer wait.
const LONGEST_ASKED: Duration = Duration::from_secs(60);

const JSON_BYTES: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Why a try brought nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    /// Free of secrets.
    pub(super) cause: String,
    /// Whether the same request may get another answer later.
    pub(super) may_pass: bool,
    /// The wait that the server asked for.
    pub(super) asked: Option<Duration>,
}

impl Trouble {
    pub(super) fn for_good(cause: String) -> Self {
        Self { cause, may_pass: false, asked: None }
    }
}

/// Sends requests to one server. Made and dropped on threads that may block.
pub(super) struct Poster {
    client: Client,
    url: Url,
    shown: String,
    headers: HeaderMap,
    secrets: Secrets,
    max_answer_bytes: usize,
    timeout: Duration,
    clock: Arc<dyn Clock>,
}

impl Poster {
    /// # Errors
    /// [`InferenceError::Endpoint`] when a secret cannot be read, or the TLS library cannot be set up.
    pub(super) fn new(config: &EndpointConfig, clock: Arc<dyn Clock>) -> Result<Self, InferenceError> {
        let mut secrets = config.secrets()?;
        let mut headers = secrets.headers.clone();
        let accept = HeaderValue::from_str(&config.accept).unwrap_or(HeaderValue::from_static("*/*"));
        headers.insert(ACCEPT, accept);
        let client = Client::builder()
            .tls_certs_merge(std::mem::take(&mut secrets.certificates))
            .redirect(Policy::none())
            .referer(false)
            .user_agent(concat!("eyewitness/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| InferenceError::Endpoint { key: "url".into(), problem: with_causes(&error) })?;
        Ok(Self {
            client,
            url: config.post_url()?,
            shown: config.shown(),
            headers,
            secrets,
            max_answer_bytes: config.max_answer_bytes,
            timeout: config.timeout(),
            clock,
        })
    }

    /// Tries once.
    pub(super) fn post(&self, body: &Body) -> Result<Raw, Trouble> {
        let mut request = self
            .client
            .post(self.url.clone())
            .headers(self.headers.clone())
            .header(CONTENT_TYPE, body.content_type)
            .timeout(self.timeout)
            .body(body.bytes.clone());
        if let Some(json_bytes) = body.json_bytes {
            request = request.header(JSON_BYTES, json_bytes);
        }
        match request.send() {
            Ok(response) => self.take(response),
            Err(error) => Err(self.failure(error)),
        }
    }

    fn take(&self, response: Response) -> Result<Raw, Trouble> {
        let status = response.status();
        let header = |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
        if !status.is_success() {
            let asked = header(RETRY_AFTER).and_then(|value| self.wait_asked(value));
            return Err(self.refusal(status, asked, response));
        }
        let json_bytes = header(JSON_BYTES).and_then(|value| value.trim().parse().ok());
        let content_type = header(CONTENT_TYPE).unwrap_or("application/octet-stream").to_owned();
        let most = self.max_answer_bytes;
        let mut bytes = Vec::new();
        if let Err(error) = response.take(most as u64 + 1).read_to_end(&mut bytes) {
            let cause = self.told_of(&self.secrets.scrub(&with_causes(&error)));
            return Err(Trouble { cause, may_pass: true, asked: None });
        }
        if bytes.len() > most {
            let cause = format!("its answer has more than {most} bytes: raise `max_answer_bytes` if that is wanted");
            return Err(Trouble::for_good(self.told_of(&cause)));
        }
        Ok(Raw { content_type, json_bytes, body: bytes.into() })
    }

    fn refusal(&self, status: StatusCode, asked: Option<Duration>, response: Response) -> Trouble {
        let mut text = Vec::new();
        // What was read of it is told.
        let _ = response.take(TEXT_BYTES).read_to_end(&mut text);
        let mut cause = status.to_string();
        if status.is_redirection() {
            cause.push_str("; redirects are not followed: write the final address into `url`");
        } else if let Some(text) = one_line(&self.secrets.scrub(&String::from_utf8_lossy(&text))) {
            cause.push_str(": ");
            cause.push_str(&text);
        }
        Trouble { cause: self.told_of(&cause), may_pass: may_pass(status), asked }
    }

    fn failure(&self, error: reqwest::Error) -> Trouble {
        let cause = if error.is_timeout() {
            format!("no answer within {} s", self.timeout.as_secs())
        } else {
            self.secrets.scrub(&with_causes(&error.without_url()))
        };
        Trouble { cause: self.told_of(&cause), may_pass: true, asked: None }
    }

    /// `Retry-After` as a time from now: seconds, or a date (RFC 9110, section 10.2.3).
    fn wait_asked(&self, value: &str) -> Option<Duration> {
        let asked = match value.trim().parse() {
            Ok(secs) => Duration::from_secs(secs),
            Err(_) => {
                let date = DateTimeParser::new().parse_timestamp(value.trim()).ok()?;
                // A date that has passed means now.
                Duration::try_from(date.duration_since(self.clock.wall())).unwrap_or_default()
            }
        };
        Some(asked.min(LONGEST_ASKED))
    }

    pub(super) fn told_of(&self, cause: &str) -> String {
        format!("POST {}: {cause}", self.shown)
    }

    pub(super) fn scrub(&self, text: &str) -> String {
        self.secrets.scrub(text)
    }
}

/// Whether the same request may get another answer later. 424 is what SageMaker says when the model's container failed.
fn may_pass(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 424 | 425 | 429) || status.is_server_error()
}

/// The beginning of a text, on one line; none when it is empty.
pub(super) fn one_line(text: &str) -> Option<String> {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let text = words.collect::<Vec<_>>().join(" ");
    let mut chars = text.chars();
    let mut told: String = chars.by_ref().take(TOLD_CHARS).collect();
    if chars.next().is_some() {
        told.push_str("...");
    }
    (!told.is_empty()).then_some(told)
}

/// The error with all its causes, each once.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
