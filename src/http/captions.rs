//! `/v1/streams/{name}/captions`: one address, four ways to read it. WebSocket when asked to upgrade; else SSE, live
//! WebVTT or JSON, by `format` or `Accept`.

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension,
    body::Body,
    extract::{Path, RawQuery, State, WebSocketUpgrade, ws::rejection::WebSocketUpgradeRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use base::event::Body as EventBody;
use futures_util::stream;
use serde_json::Value;
use sinks::vtt;

use super::{
    Shared,
    error::Refusal,
    guard::Pass,
    params::Params,
    socket,
    streams::find,
    tail::{Step, Tail},
    vtt::Cues,
};
use crate::feed::{Kind, Kinds, Record, Start, StreamView};

/// What the route understands.
pub(super) const PARAMETERS: [&str; 4] = ["types", "format", "last_event_id", "recent"];
/// The words of `format`.
pub(super) const FORMATS: [&str; 3] = ["json", "sse", "vtt"];
/// Records in a JSON answer where the client says nothing.
pub(super) const RECENT: usize = 100;
/// A browser waits so long before it comes back.
const RETRY: Duration = Duration::from_secs(2);

/// The route.
pub(super) async fn captions(
    State(service): State<Shared>,
    Extension(pass): Extension<Pass>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let stream = find(&service, &name)?;
    let params = Params::parse(query.as_deref(), &PARAMETERS)?;
    let kinds = params.kinds()?;
    let start = start(&params, &headers)?;
    if headers.contains_key(header::UPGRADE) {
        let upgrade = upgrade.map_err(|e| Refusal::new(StatusCode::UPGRADE_REQUIRED, format!("no WebSocket: {e}")))?;
        let reader = stream.tape.read(kinds.unwrap_or(live_kinds()), &start.unwrap_or(Start::Now));
        let tail = Tail::new(&service, &name, reader, service.place(&pass)?);
        return Ok(socket::follow(upgrade, tail));
    }
    let format = params.choice("format", &FORMATS)?.unwrap_or_else(|| accepted(&headers));
    match format {
        "sse" => {
            let reader = stream.tape.read(kinds.unwrap_or(live_kinds()), &start.unwrap_or(Start::Now));
            Ok(events(Tail::new(&service, &name, reader, service.place(&pass)?)))
        }
        "vtt" => {
            if kinds.is_some_and(|kinds| kinds != Kinds::of(&[Kind::Caption])) {
                return Err(Refusal::bad("WebVTT has captions alone: leave `types` out, or read them as `format=sse`"));
            }
            let reader = stream.tape.read(Kinds::of(&[Kind::Caption]), &start.unwrap_or(Start::Now));
            Ok(cues(Tail::new(&service, &name, reader, service.place(&pass)?)))
        }
        _ => recent(&stream, kinds.unwrap_or(Kinds::of(&[Kind::Caption])), start),
    }
}

/// What a live reader gets who names no types: captions, and why there are none.
fn live_kinds() -> Kinds {
    Kinds::of(&[Kind::Caption, Kind::Status, Kind::Gap])
}

/// Where to begin: the header goes before the parameter, as browsers repeat the first URL when they come back.
fn start(params: &Params, headers: &HeaderMap) -> Result<Option<Start>, Refusal> {
    let header = headers.get("last-event-id").and_then(|v| v.to_str().ok()).filter(|v| !v.is_empty());
    if let Some(id) = header.or_else(|| params.get("last_event_id")) {
        return Ok(Some(Start::After(id.to_owned())));
    }
    Ok(params.number("recent")?.map(Start::Recent))
}

/// The first format in `Accept` that we know.
fn accepted(headers: &HeaderMap) -> &'static str {
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    for range in accept {
        match range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "text/event-stream" => return "sse",
            "text/vtt" => return "vtt",
            "application/json" => return "json",
            _ => {}
        }
    }
    "json"
}

/// The newest revision of each of the last cues and segments, and where to go on live.
fn recent(stream: &StreamView, kinds: Kinds, start: Option<Start>) -> Result<Response, Refusal> {
    let most = match start {
        None => RECENT,
        Some(Start::Recent(n)) => n,
        Some(_) => return Err(Refusal::bad("`last_event_id` goes with `format=sse`, `format=vtt` or a WebSocket")),
    };
    let records = stream.tape.records(kinds);
    let last = records.last().map(|r| r.id().to_owned());
    let shown = newest_revisions(records);
    let shown = &shown[shown.len().saturating_sub(most)..];
    let records: Result<Vec<Value>, _> = shown.iter().map(|r| serde_json::from_str(&r.json)).collect();
    let records = records.map_err(|e| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
    let body = serde_json::json!({ "stream": stream.info.name.as_str(), "records": records, "last_event_id": last });
    Ok(super::error::json(&body))
}

/// Of each cue and segment the last revision, in the order in which they first appeared; what was taken back is left out.
fn newest_revisions(records: Vec<Arc<Record>>) -> Vec<Arc<Record>> {
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut newest: Vec<Arc<Record>> = Vec::new();
    for record in records {
        let key = match &record.event.body {
            EventBody::Caption(caption) => &caption.cue,
            EventBody::Transcript(transcript) => &transcript.segment,
            _ => &record.event.id,
        };
        match places.get(key) {
            Some(place) => newest[*place] = record,
            None => {
                places.insert(key.clone(), newest.len());
                newest.push(record);
            }
        }
    }
    newest.retain(|record| match &record.event.body {
        EventBody::Caption(caption) => !caption.lines.is_empty(),
        EventBody::Transcript(transcript) => !transcript.words.is_empty(),
        _ => true,
    });
    newest
}

/// An endless answer: `head`, then what `write` makes of each step; nothing is sent for an empty text.
fn endless<W>(tail: Tail, content_type: &'static str, head: String, write: W) -> Response
where
    W: FnMut(Step) -> String + Send + 'static,
{
    let steps = stream::unfold((tail, write, Some(head), false), |(mut tail, mut write, head, ended)| async move {
        if ended {
            return None;
        }
        if let Some(head) = head {
            return Some((Ok::<_, Infallible>(head), (tail, write, None, false)));
        }
        loop {
            let step = tail.step().await;
            let ended = matches!(step, Step::End(_) | Step::Over(_));
            let text = write(step);
            if !text.is_empty() || ended {
                return Some((Ok(text), (tail, write, None, ended)));
            }
        }
    });
    // No proxy may hold an endless answer back until it is whole.
    let headers = [(header::CONTENT_TYPE, content_type), (header::HeaderName::from_static("x-accel-buffering"), "no")];
    (headers, Body::from_stream(steps)).into_response()
}

/// Server-sent events (HTML Living Standard, section 9.2). Ids and JSON never hold a line break.
fn events(tail: Tail) -> Response {
    endless(tail, "text/event-stream", format!("retry: {}\n\n", RETRY.as_millis()), |step| match step {
        Step::Record(r) => format!("id: {}\nevent: {}\ndata: {}\n\n", r.id(), r.kind.as_str(), r.json),
        // Without an id: the browser keeps the last one.
        Step::Lost(json) => format!("event: lost\ndata: {json}\n\n"),
        Step::Idle => ": alive\n\n".into(),
        Step::End(why) => format!(": end, {why}\n\n"),
        Step::Over(over) => format!(": end, {}\n\n", over.why()),
    })
}

/// Live WebVTT: the header, then final cues as they come.
fn cues(tail: Tail) -> Response {
    let mut cues = Cues::default();
    endless(tail, "text/vtt; charset=utf-8", vtt::header().to_owned(), move |step| match step {
        Step::Record(record) => cues.write(&record.event),
        Step::Lost(_) => vtt::note("captions are missing here"),
        Step::Idle => vtt::note("alive"),
        Step::End(why) => vtt::note(&format!("end, {why}")),
        Step::Over(over) => vtt::note(&format!("end, {}", over.why())),
    })
}

/// Only for the OpenAPI document: what a JSON answer looks like.
pub(super) fn answer_schema(record: &Value) -> Value {
    serde_json::json!({
        "type": "object",
        "required": ["stream", "records", "last_event_id"],
        "properties": {
            "stream": { "type": "string" },
            "records": { "type": "array", "items": record },
            "last_event_id": {
                "type": ["string", "null"],
                "description": "Go on live from here: `?format=sse&last_event_id=...`",
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn content_negotiation() {
        let check = |accept: &str, expected: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_str(accept).expect("value"));
            assert_eq!(accepted(&headers), expected, "{accept}");
        };
        check("text/event-stream", "sse");
        check("Text/Event-Stream; q=0.9, */*", "sse");
        check("text/html, text/vtt", "vtt");
        check("application/json, text/vtt", "json");
        check("*/*", "json");
        check("", "json");
        assert_eq!(accepted(&HeaderMap::new()), "json");
    }

    #[test]
    fn resume_header_goes_before_parameters() {
        let check = |header: Option<&str>, query: &str, expected: Option<Start>| {
            let mut headers = HeaderMap::new();
            if let Some(id) = header {
                headers.insert("last-event-id", HeaderValue::from_str(id).expect("value"));
            }
            let params = Params::parse(Some(query), &PARAMETERS).expect("parameters");
            assert_eq!(start(&params, &headers).expect("start"), expected, "{header:?} {query}");
        };
        let after = |id: &str| Some(Start::After(id.into()));
        check(None, "", None);
        check(None, "recent=5", Some(Start::Recent(5)));
        check(None, "recent=5&last_event_id=a", after("a"));
        check(Some("b"), "last_event_id=a", after("b"));
        check(Some(""), "last_event_id=a", after("a"));
    }
}
