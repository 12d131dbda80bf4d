//! One try: makes a request, sends it, and reads the answer. On the thread that delivers, which it may hold for the
//! configured time. Must never follow a redirect: a signed body goes where it was meant to go.

use std::{error::Error, io::Read, time::Duration};

use base::time::Timestamp;
use reqwest::{
    StatusCode,
    blocking::{Client, ClientBuilder, Response},
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect::Policy,
};

use super::{Parcel, body::Body, pace, sign, sign::Key, target::Target};

/// Bytes of an answer that are looked at for its text.
const ANSWER_BYTES: u64 = 4096;
/// Characters of it that are told.
const TOLD_CHARS: usize = 200;
/// Bytes of an answer that are read so that the connection can be used again.
const DRAIN_BYTES: u64 = 64 * 1024;

/// What became of one try. Texts hold no secrets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The receiver has it.
    Taken,
    /// It may take it later; perhaps it said when.
    Later { cause: String, asked: Option<Duration> },
    /// It never will.
    Never { cause: String },
}

/// A request, the same at each try but for its date and signature.
pub(super) struct Request {
    /// `webhook-id`.
    id: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Request {
    /// One record. Its attributes go with the record itself only: no other body is what they say.
    pub(super) fn single(parcel: &Parcel, body: &Body) -> Result<Self, String> {
        let id = webhook_id(&parcel.id);
        let headers = if body.is_record() { Self::attributes(parcel) } else { HeaderMap::new() };
        Ok(Self { id, headers, body: body.single(&parcel.payload)?.into_bytes() })
    }

    fn attributes(parcel: &Parcel) -> HeaderMap {
        let kind = format!("eyewitness.{}", parcel.kind);
        let source = format!("/eyewitness/streams/{}", parcel.stream);
        let attributes = [
            ("ce-specversion", "1.0"),
            ("ce-id", &parcel.id),
            ("ce-type", &kind),
            ("ce-source", &source),
            ("ce-subject", &parcel.session),
        ];
        let time = parcel.time.as_deref().map(|time| ("ce-time", time));
        let mut headers = HeaderMap::new();
        for (name, value) in attributes.into_iter().chain(time) {
            headers.insert(HeaderName::from_static(name), header_value(value));
        }
        headers
    }

    /// Any number of records: an array of them.
    pub(super) fn batch(parcels: &[Parcel], body: &Body) -> Result<Self, String> {
        let first = parcels.first().map_or("", |parcel| &parcel.id);
        let id = webhook_id(&format!("{first}+{}", parcels.len()));
        let payloads: Vec<&str> = parcels.iter().map(|parcel| parcel.payload.as_str()).collect();
        Ok(Self { id, headers: HeaderMap::new(), body: body.batch(&payloads)?.into_bytes() })
    }
}

/// A full stop would make it unclear what was signed (Standard Webhooks, "Signature scheme").
fn webhook_id(id: &str) -> String {
    id.replace('.', "_")
}

/// As CloudEvents' HTTP binding 1.0.2, section 3.1.3.2, says: percent-encoded where it is not printable ASCII.
fn header_value(text: &str) -> HeaderValue {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'"' | b'%' | ..=b' ' | 0x7f.. => encoded.push_str(&format!("%{byte:02X}")),
            _ => encoded.push(char::from(byte)),
        }
    }
    HeaderValue::from_str(&encoded).unwrap_or(HeaderValue::from_static("-"))
}

/// Sends requests to one receiver, over one connection while that lasts.
pub(super) struct Poster {
    client: Client,
    target: Target,
    keys: Vec<Key>,
    /// What the user wants in each request.
    headers: HeaderMap,
    timeout: Duration,
}

impl Poster {
    /// # Errors
    /// When the TLS library cannot be set up.
    pub(super) fn new(
        client: ClientBuilder,
        target: Target,
        keys: Vec<Key>,
        headers: HeaderMap,
        timeout: Duration,
    ) -> Result<Self, String> {
        let client = client
            .redirect(Policy::none())
            .referer(false)
            .user_agent(concat!("eyewitness/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| target.scrub(&with_causes(&error)))?;
        Ok(Self { client, target, keys, headers, timeout })
    }

    /// Tries once; `now` is the time that is signed.
    pub(super) fn post(&self, request: &Request, now: Timestamp) -> Answer {
        let at = now.as_second();
        let mut headers = request.headers.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("webhook-id", header_value(&request.id));
        headers.insert("webhook-timestamp", HeaderValue::from(at));
        if !self.keys.is_empty() {
            let signature = sign::sign(&self.keys, &request.id, at, &request.body);
            if let Ok(value) = HeaderValue::from_str(&signature) {
                headers.insert("webhook-signature", value);
            }
        }
        headers.extend(self.headers.clone());
        let post = self.client.post(self.target.url()).headers(headers).body(request.body.clone());
        match post.timeout(self.timeout).send() {
            Ok(response) => self.judge(response, now),
            Err(error) => Answer::Later { cause: self.tell(&self.failure(error)), asked: None },
        }
    }

    fn judge(&self, mut response: Response, now: Timestamp) -> Answer {
        let status = response.status();
        if status.is_success() {
            // Whether its end comes or not: the status says that the receiver has it.
            let _ = std::io::copy(&mut response.take(DRAIN_BYTES), &mut std::io::sink());
            return Answer::Taken;
        }
        let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let asked = asked.and_then(|value| pace::retry_after(value, now));
        let mut text = Vec::new();
        // What was read of it is told.
        let _ = response.by_ref().take(ANSWER_BYTES).read_to_end(&mut text);
        let mut cause = status.to_string();
        if status.is_redirection() {
            cause.push_str("; redirects are not followed: write the final address into `url`");
        } else if let Some(text) = told(&self.target.scrub(&String::from_utf8_lossy(&text))) {
            cause.push_str(": ");
            cause.push_str(&text);
        }
        let cause = self.tell(&cause);
        if may_pass(status) { Answer::Later { cause, asked } } else { Answer::Never { cause } }
    }

    fn failure(&self, error: reqwest::Error) -> String {
        if error.is_timeout() {
            return format!("no answer within {} s", self.timeout.as_secs_f32());
        }
        let mut cause = with_causes(&error.without_url());
        if cause.contains("certificate verify failed") {
            cause.push_str(
                "; if the receiver's certificate comes from an authority of your own, name that in `ca_file`",
            );
        }
        self.target.scrub(&cause)
    }

    fn tell(&self, cause: &str) -> String {
        format!("POST {}: {cause}", self.target)
    }
}

/// Whether the same request may get another answer later.
fn may_pass(status: StatusCode) -> bool {
    matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS)
        || status.is_server_error()
}

/// The beginning of an answer's text, on one line; none when it is empty.
fn told(text: &str) -> Option<String> {
    let one_line = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let text = one_line.collect::<Vec<_>>().join(" ");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::WebhookConfig;

    #[test]
    fn which_answers_may_pass() {
        let check = |status: u16, expected: bool| {
            let status = StatusCode::from_u16(status).expect("status");
            assert_eq!(may_pass(status), expected, "{status}");
        };
        for status in [408, 425, 429, 500, 501, 502, 503, 504, 599] {
            check(status, true);
        }
        for status in [301, 302, 304, 307, 400, 401, 403, 404, 409, 410, 413, 422] {
            check(status, false);
        }
    }

    #[test]
    fn answers_are_told_on_one_line() {
        let check = |text: &str, expected: Option<&str>| assert_eq!(told(text).as_deref(), expected);
        check("", None);
        check(" \r\n\u{1b}", None);
        check("no\u{1b}[31m such\r\n\thook ", Some("no [31m such hook"));
        check(&"é".repeat(300), Some(&format!("{}...", "é".repeat(200))));
    }

    #[test]
    fn header_values_are_encoded() {
        let check = |text: &str, expected: &str| assert_eq!(header_value(text), expected);
        check("front-door-7", "front-door-7");
        check("a b\"c%\n", "a%20b%22c%25%0A");
        // The example of the binding.
        check("Euro € 😀", "Euro%20%E2%82%AC%20%F0%9F%98%80");
    }

    #[test]
    fn ids_of_requests() {
        let parcel = |id: &str| Parcel { id: id.into(), payload: format!(r#"{{"id":"{id}"}}"#), ..Parcel::default() };
        let (first, second) = (parcel("s.1-status-3"), parcel("s.1-gap-4"));
        let body = Body::from_config(&WebhookConfig::new("http://h")).expect("no template");
        assert_eq!(Request::single(&first, &body).expect("as it is").id, "s_1-status-3");
        let batch = Request::batch(&[first, second], &body).expect("as they are");
        assert_eq!(batch.id, "s_1-status-3+2");
        assert_eq!(batch.body, br#"[{"id":"s.1-status-3"},{"id":"s.1-gap-4"}]"#);
    }
}
