//! `/v1/alerts`: what is kept of alerts, and alerts as they come. Files are read on blocking threads.

use std::{convert::Infallible, time::Duration};

use axum::{
    Extension,
    body::Body,
    extract::{Path, RawQuery, Request, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use futures_util::stream;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{task::spawn_blocking, time::timeout};

use super::{
    Service, Shared, body,
    error::Refusal,
    file,
    guard::Pass,
    params::Params,
    place::{Over, Place},
    silences::{self, refused, text},
    table::JSON,
    tail::lost,
};
use crate::evidence::{AlertDesk, AlertFile, AlertFilter, EvidenceStore, NewsReader, NextNews, NoFile};

/// Words of `state`.
pub(super) const STATES: [&str; 4] = ["open", "opened", "updated", "closed"];
/// Words of `severity`.
pub(super) const SEVERITIES: [&str; 3] = ["info", "warning", "critical"];
const REPEATABLE: [&str; 4] = ["stream", "rule", "state", "severity"];
const OF_LIST: [&str; 5] = ["stream", "rule", "state", "severity", "limit"];
const OF_EVENTS: [&str; 5] = ["stream", "rule", "state", "severity", "last_event_id"];
/// Alerts in a list where the client says nothing, and at most.
const USUAL: usize = 100;
const MOST: usize = 1000;
/// A browser waits so long before it comes back.
const RETRY: Duration = Duration::from_secs(2);
/// Whoever names an alert that is being written down waits for it so long, and looks so often.
const ARRIVAL: Duration = Duration::from_secs(10);
const ARRIVAL_STEP: Duration = Duration::from_millis(20);

impl Service {
    fn kept(&self) -> Result<EvidenceStore, Refusal> {
        self.alerts.clone().ok_or_else(|| {
            Refusal::new(
                StatusCode::NOT_IMPLEMENTED,
                "this service keeps nothing of alerts: `evidence.enabled` is false, or `evidence.path` cannot be written; the log says which",
            )
        })
    }
}

/// Reads or writes where waiting for a disk holds nobody up.
pub(super) async fn waiting<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
    let broken = |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the disk's thread broke down; this is a bug");
    spawn_blocking(work).await.map_err(broken)
}

fn filter(params: &Params) -> Result<AlertFilter, Refusal> {
    params.check_words("state", &STATES)?;
    params.check_words("severity", &SEVERITIES)?;
    let all = |name| params.pairs().filter(|(n, _)| *n == name).map(|(_, value)| value.to_owned()).collect();
    Ok(AlertFilter { streams: all("stream"), rules: all("rule"), states: all("state"), severities: all("severity") })
}

/// All that fit.
pub(super) async fn list(State(service): State<Shared>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let params = Params::parse_repeated(query.as_deref(), &OF_LIST, &REPEATABLE)?;
    let filter = filter(&params)?;
    let most = params.number("limit")?.unwrap_or(USUAL);
    if most > MOST {
        return Err(Refusal::bad(format!("`limit={most}` is more than {MOST}")));
    }
    let kept = service.kept()?;
    let desk = service.desk.clone();
    let all = waiting(move || kept.newest(&filter, most).iter().map(|json| with_desk(&desk, json)).collect::<Vec<_>>());
    // Each is JSON already.
    let body = format!("{{\"alerts\":[{}]}}\n", all.await?.join(","));
    Ok(([(header::CONTENT_TYPE, JSON)], body).into_response())
}

/// A record with what people said about its alert.
fn with_desk(desk: &AlertDesk, json: &str) -> String {
    let Ok(mut record) = serde_json::from_str::<Value>(json) else { return json.to_owned() };
    let word = |key: &str| record[key].as_str().unwrap_or_default();
    let acknowledged = desk
        .acknowledged(word("alert"))
        .map(|said| json!({ "by": said.by, "at": silences::time(said.at_ms), "note": said.note }));
    let silenced = match word("state") {
        // As it was when it ended.
        "closed" => record.get("silenced").cloned(),
        _ => desk.silence_of(word("stream"), word("rule")).map(|silence| {
            let until = silences::time(silence.until_ms);
            json!({ "id": silence.id, "by": silence.by, "until": until, "reason": silence.reason })
        }),
    };
    record["acknowledged"] = acknowledged.unwrap_or_default();
    record["silenced"] = silenced.unwrap_or_default();
    record.to_string()
}

/// One.
pub(super) async fn one(
    State(service): State<Shared>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    Params::parse(query.as_deref(), &[])?;
    let kept = service.kept()?;
    arrived(&kept, &id).await?;
    shown(&service, kept, id).await
}

/// Waits for one that was told of a moment ago and is being written down.
async fn arrived(kept: &EvidenceStore, id: &str) -> Result<(), Refusal> {
    for _ in 0..ARRIVAL.as_millis() / ARRIVAL_STEP.as_millis() {
        if !kept.is_coming(id) {
            break;
        }
        tokio::time::sleep(ARRIVAL_STEP).await;
    }
    if kept.has(id) { Ok(()) } else { Err(unknown(id)) }
}

async fn shown(service: &Service, kept: EvidenceStore, id: String) -> Result<Response, Refusal> {
    let (desk, asked) = (service.desk.clone(), id.clone());
    let record = waiting(move || kept.record(&asked).map(|json| with_desk(&desk, &json))).await?;
    let record = record.ok_or_else(|| unknown(&id))?;
    Ok(([(header::CONTENT_TYPE, JSON)], record + "\n").into_response())
}

/// Body of an acknowledgement.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Acknowledgement {
    /// What the next one should know: up to 500 characters. Default: nothing.
    #[serde(default)]
    #[schemars(length(max = 500))]
    note: Option<String>,
}

/// Somebody has seen to it.
pub(super) async fn acknowledge(
    State(service): State<Shared>,
    Extension(pass): Extension<Pass>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Refusal> {
    Params::parse(query.as_deref(), &[])?;
    let kept = service.kept()?;
    let Acknowledgement { note } = body::read(request).await?;
    let note = text("note", note)?;
    arrived(&kept, &id).await?;
    let (desk, by, of, asked) = (service.desk.clone(), pass.user().to_owned(), kept.clone(), id.clone());
    waiting(move || desk.acknowledge(&asked, &by, note, |alert| of.has(alert))).await?.map_err(refused)?;
    shown(&service, kept, id).await
}

/// Nobody has, after all.
pub(super) async fn unacknowledge(
    State(service): State<Shared>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    Params::parse(query.as_deref(), &[])?;
    let kept = service.kept()?;
    arrived(&kept, &id).await?;
    let (desk, asked) = (service.desk.clone(), id.clone());
    waiting(move || desk.unacknowledge(&asked)).await?.map_err(refused)?;
    shown(&service, kept, id).await
}

/// The picture.
pub(super) async fn snapshot(
    State(service): State<Shared>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    evidence(&service, &id, query.as_deref(), &headers, AlertFile::Snapshot).await
}

/// The clip.
pub(super) async fn clip(
    State(service): State<Shared>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    evidence(&service, &id, query.as_deref(), &headers, AlertFile::Clip).await
}

async fn evidence(
    service: &Service,
    id: &str,
    query: Option<&str>,
    headers: &HeaderMap,
    file: AlertFile,
) -> Result<Response, Refusal> {
    Params::parse(query, &[])?;
    let kept = service.kept()?;
    let asked = id.to_owned();
    let (what, kind) = match file {
        AlertFile::Snapshot => ("snapshot", "image/jpeg"),
        AlertFile::Clip => ("clip", "video/mp4"),
    };
    let found = waiting(move || kept.file(&asked, file)).await?;
    let path = found.map_err(|why| match why {
        NoFile::Unknown => unknown(id),
        NoFile::NotYet => Refusal::new(
            StatusCode::NOT_FOUND,
            format!("the {what} is not there yet: a clip is made once the alert is closed, or has its full length"),
        )
        .with(header::RETRY_AFTER, axum::http::HeaderValue::from_static("5")),
        NoFile::None(cause) => Refusal::new(StatusCode::NOT_FOUND, format!("this alert has no {what}: {cause}")),
    })?;
    file::serve(path, kind, headers).await
}

fn unknown(id: &str) -> Refusal {
    let shown: String = id.chars().take(200).collect();
    Refusal::new(
        StatusCode::NOT_FOUND,
        format!(
            "no alert `{shown}` is kept here: it may be too old, or with the worker that ran its stream; /v1/alerts lists them"
        ),
    )
}

/// Alerts as they come.
pub(super) async fn events(
    State(service): State<Shared>,
    Extension(pass): Extension<Pass>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let params = Params::parse_repeated(query.as_deref(), &OF_EVENTS, &REPEATABLE)?;
    let filter = filter(&params)?;
    // The header goes first, as browsers repeat the first URL when they come back.
    let resumed = headers.get("last-event-id").and_then(|v| v.to_str().ok()).filter(|v| !v.is_empty());
    let reader = service.kept()?.news(filter, resumed.or_else(|| params.get("last_event_id")));
    let reader = reader.ok_or_else(|| Refusal::busy("the service is stopping"))?;
    let follower =
        Follower { reader, desk: service.desk.clone(), keep_alive: service.keep_alive, place: service.place(&pass)? };
    let head = Some(format!("retry: {}\n\n", RETRY.as_millis()));
    let texts = stream::unfold((follower, head, false), |(mut follower, head, is_over)| async move {
        if is_over {
            return None;
        }
        if let Some(head) = head {
            return Some((Ok::<_, Infallible>(head), (follower, None, false)));
        }
        let (text, is_over) = follower.step().await;
        Some((Ok(text), (follower, None, is_over)))
    });
    // No proxy may hold an endless answer back until it is whole.
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (HeaderName::from_static("x-accel-buffering"), "no")];
    Ok((headers, Body::from_stream(texts)).into_response())
}

/// A client that follows alerts.
struct Follower {
    reader: NewsReader,
    desk: AlertDesk,
    keep_alive: Duration,
    place: Place,
}

impl Follower {
    /// The next event (HTML Living Standard, section 9.2), and whether it is the last. Ids and JSON never hold a line break.
    async fn step(&mut self) -> (String, bool) {
        let next = tokio::select! {
            biased;
            over = self.place.over() => match self.reader.try_next() {
                // What is there already is still given.
                Some(next) if over == Over::Stopping => Ok(next),
                _ => return (format!(": end, {}\n\n", over.why()), true),
            },
            next = timeout(self.keep_alive, self.reader.next()) => next,
        };
        match next {
            Ok(NextNews::Item(item)) => {
                let json = with_desk(&self.desk, &item.json);
                (format!("id: {}\nevent: alert\ndata: {json}\n\n", item.id), false)
            }
            // Without an id: the browser keeps the last one.
            Ok(NextNews::Lost(n_records)) => (format!("event: lost\ndata: {}\n\n", lost("", n_records)), false),
            Ok(NextNews::Closed) => (": end, the service is stopping\n\n".into(), true),
            Err(_) => (": alive\n\n".into(), false),
        }
    }
}

#[cfg(test)]
mod tests;
