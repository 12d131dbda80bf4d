//! Bodies of requests: JSON of bounded length, read in bounded time, and every mistake told with its field and place.
//!
//! A body has to say that it is JSON: a form of another site, which a browser sends unasked, cannot say so.

use std::time::Duration;

use axum::{
    extract::Request,
    http::{HeaderMap, StatusCode, header},
};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::{error::Refusal, params::unknown};
use crate::config::problem::without_values;

/// Longest body, bytes.
pub(super) const MOST_BODY: usize = 64 * 1024;
/// A client has so long to send it.
const BODY_WITHIN: Duration = Duration::from_secs(20);

/// Reads the body of a request.
pub(super) async fn read<T: DeserializeOwned>(request: Request) -> Result<T, Refusal> {
    says_json(request.headers())?;
    let mut chunks = request.into_body().into_data_stream();
    let whole = async {
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|e| Refusal::bad(format!("the body could not be read: {e}")))?;
            if bytes.len() + chunk.len() > MOST_BODY {
                let message = format!("the body is longer than {} KiB", MOST_BODY / 1024);
                return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, message));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    };
    let late = |_| {
        let message = format!("the body took longer than {} s to come", BODY_WITHIN.as_secs());
        Refusal::new(StatusCode::REQUEST_TIMEOUT, message)
    };
    let bytes = timeout(BODY_WITHIN, whole).await.map_err(late)??;
    parse(&bytes).map_err(Refusal::bad)
}

fn says_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let said = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = said.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "the body must be JSON and say so: send `Content-Type: application/json`",
    ))
}

/// What a body says, or what is wrong with it: field, line and column. Values are not repeated, they may be secret.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err("the body is empty; it must be a JSON object".into());
    }
    // serde would take its values for those of the fields, in order.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err("the body must be a JSON object".into());
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|e| told(&e.path().to_string(), e.inner()))?;
    json.end().map_err(|e| told(".", &e))?;
    Ok(value)
}

fn told(path: &str, error: &serde_json::Error) -> String {
    let text = error.to_string();
    let message = text.rsplit_once(" at line ").map_or(&*text, |(message, _)| message);
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let what = match quoted.split_first() {
        Some((found, known)) if message.starts_with("unknown field") => {
            return format!("{}{}", unknown("field", found, known.iter().copied()), place(error));
        }
        Some((found, known)) if message.starts_with("unknown variant") => {
            unknown("value", found, known.iter().copied())
        }
        _ => without_values(message),
    };
    let field = if matches!(path, "." | "?") { String::new() } else { format!("`{path}`: ") };
    format!("{field}{what}{}", place(error))
}

fn place(error: &serde_json::Error) -> String {
    format!(", at line {}, column {} of the body", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::attachment::Attachment;

    #[test]
    fn mistakes_are_told_with_field_and_place() {
        let check = |body: &str, parts: &[&str]| {
            let told = parse::<Attachment>(body.as_bytes()).expect_err(body);
            for part in parts {
                assert!(told.contains(part), "`{part}` is missing in: {told}");
            }
            assert!(!told.contains("hunter2"), "{told}");
        };
        check("", &["empty"]);
        check("{\"url\":\"a\",\n \"profil\":\"x\"}", &["`profil`", "did you mean `profile`?", "line 2, column 9"]);
        check(r#"{"url":"a","source":{"transport":"tpc"}}"#, &["`source.transport`", "did you mean `tcp`?"]);
        check(r#"{"url":"a","source":{"latency":1}}"#, &["unknown field `latency`", "latency_ms"]);
        check(r#"{"url":"a","weight":"hunter2"}"#, &["`weight`", "line 1"]);
        check(r#"{"url":"a","tags":{"a":1}}"#, &["`tags.a`", "string"]);
        check(r#"{"tags":{}}"#, &["missing field `url`"]);
        check(r#"{"url":"rtsp://u:hunter2@h/","url":"b"}"#, &["duplicate field `url`"]);
        check(r#"{"url":"a"} {"#, &["trailing characters", "column 13"]);
        check("nonsense", &["line 1"]);
        check(" [1]", &["must be a JSON object"]);
    }

    #[test]
    fn only_what_says_that_it_is_json() {
        let check = |said: Option<&str>, expected: bool| {
            let mut headers = HeaderMap::new();
            if let Some(said) = said {
                headers.insert(header::CONTENT_TYPE, said.parse().expect("value"));
            }
            assert_eq!(says_json(&headers).is_ok(), expected, "{said:?}");
        };
        check(Some("application/json"), true);
        check(Some("Application/JSON; charset=utf-8"), true);
        for said in
            [None, Some(""), Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("multipart/form-data")]
        {
            check(said, false);
        }
    }
}
