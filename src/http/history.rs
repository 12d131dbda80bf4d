//! `/v1/history`: what was said, searched or as a file, and how streams fared over time. The file is read on blocking threads,
//! few at a time, each with a deadline; a client that goes away stops its search.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use base::time::Timestamp;
use futures_util::stream;
use serde_json::{Map, Value, json};
use sinks::history::{
    Heard, HistoryError, Order, Page, Phrase, Reader, Search, Stretch,
    export::{Export, Format},
};
use tokio::{task::spawn_blocking, time::timeout};

use super::{Service, Shared, error::Refusal, file, openapi::reference, params::Params, table::JSON};
use crate::history::{Stop, Unread};

/// Words of `format`.
pub(super) const FORMATS: [&str; 5] = ["json", "vtt", "srt", "jsonl", "csv"];
/// Look-ups at the same time; one more waits.
pub(super) const MOST_AT_ONCE: usize = 2;
const OF_TRANSCRIPTS: [&str; 7] = ["q", "stream", "from", "to", "limit", "after", "format"];
const OF_SERIES: [&str; 4] = ["stream", "from", "to", "step_secs"];
/// Transcripts in an answer where the client says nothing, and at most.
const USUAL: usize = 100;
const MOST: usize = 1000;
/// Rows of a file that are read at once.
const PIECE: usize = 500;
/// Longest text to search for, in characters.
const LONGEST: usize = 500;
/// A look-up that takes longer is given up; so is one that waits longer for its turn.
const WITHIN: Duration = Duration::from_secs(5);
/// Steps of a series where the client says nothing, and at most.
const USUAL_STEPS: i64 = 360;
const MOST_STEPS: usize = 2000;
/// Seconds of a sample: a shorter step has holes.
const LEAST_STEP: i64 = 10;
const HOUR_MS: i64 = 3_600_000;

/// Stops a look-up when nobody waits for it any more.
struct Waiting(Stop);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.stop();
    }
}

async fn look_up<T: Send + 'static>(
    service: &Service,
    work: impl FnOnce(&Reader) -> Result<T, HistoryError> + Send + 'static,
) -> Result<T, Refusal> {
    let history = service.history.clone().ok_or_else(none)?;
    let slow = |_| {
        let within = WITHIN.as_secs();
        Refusal::busy(format!("it took longer than {within} s: ask for a shorter time, fewer streams, or rarer words"))
    };
    let broken = |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the look-up broke down; this is a bug");
    let turn = timeout(WITHIN, Arc::clone(&service.lookups).acquire_owned()).await.map_err(slow)?;
    let stop = Stop::default();
    let waiting = Waiting(stop.clone());
    let task = spawn_blocking(move || {
        let _turn = turn;
        history.look_up(&stop, work)
    });
    let looked = timeout(WITHIN, task).await.map_err(slow)?.map_err(broken)?;
    drop(waiting);
    looked.map_err(|why| match why {
        Unread::Stopped => Refusal::busy("the look-up was stopped"),
        Unread::Failed(why) => Refusal::busy(why),
    })
}

/// Milliseconds since 1970.
fn moment(params: &Params, name: &str) -> Result<Option<i64>, Refusal> {
    let Some(text) = params.get(name) else { return Ok(None) };
    // A `+` of an offset that was not encoded has become a blank.
    let repaired = if text.contains('T') { text.replace(' ', "+") } else { text.to_owned() };
    match repaired.parse::<Timestamp>() {
        Ok(at) => Ok(Some(at.as_millisecond())),
        Err(_) => {
            let shown: String = text.chars().take(64).collect();
            Err(Refusal::bad(format!("`{name}={shown}` is no time: write it as 2026-11-22T09:30:00Z (RFC 3339)")))
        }
    }
}

fn span(from_ms: Option<i64>, to_ms: Option<i64>) -> Result<(), Refusal> {
    match (from_ms, to_ms) {
        (Some(from), Some(to)) if from >= to => Err(Refusal::bad("`from` is not before `to`")),
        _ => Ok(()),
    }
}

/// What was said.
pub(super) async fn transcripts(State(service): State<Shared>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let params = Params::parse_repeated(query.as_deref(), &OF_TRANSCRIPTS, &["stream"])?;
    let format = params.choice("format", &FORMATS)?.and_then(Format::of);
    let (from_ms, to_ms) = (moment(&params, "from")?, moment(&params, "to")?);
    span(from_ms, to_ms)?;
    let limit = params.number("limit")?;
    if limit == Some(0) {
        return Err(Refusal::bad("`limit` must be at least 1"));
    }
    let after = params.get("after").map(str::parse).transpose();
    let after = after.map_err(|_| Refusal::bad("`after` is not what an earlier answer gave"))?;
    let typed = params.get("q");
    if typed.is_some_and(|typed| typed.chars().count() > LONGEST) {
        return Err(Refusal::bad(format!("`q` is longer than {LONGEST} characters")));
    }
    let words = typed.and_then(Phrase::parse);
    let wanted = Wanted {
        // Nothing of what was typed is a word: so nothing is found.
        nothing: typed.is_some() && words.is_none(),
        search: Search {
            words,
            streams: params.pairs().filter(|(name, _)| *name == "stream").map(|(_, value)| value.to_owned()).collect(),
            from_ms,
            to_ms,
            after,
            limit: USUAL,
            order: Order::NewestFirst,
        },
    };
    match format {
        Some(format) => export(service, wanted, format, limit).await,
        None => list(&service, wanted, limit.unwrap_or(USUAL)).await,
    }
}

struct Wanted {
    search: Search,
    nothing: bool,
}

impl Wanted {
    async fn page(&self, service: &Service, limit: usize) -> Result<Page, Refusal> {
        let (search, nothing) = (Search { limit, ..self.search.clone() }, self.nothing);
        let none = Page { found: Vec::new(), after: None };
        look_up(service, move |reader| if nothing { Ok(none) } else { reader.transcripts(&search) }).await
    }
}

async fn list(service: &Service, wanted: Wanted, limit: usize) -> Result<Response, Refusal> {
    if limit > MOST {
        return Err(Refusal::bad(format!("`limit={limit}` is more than {MOST}; go on with `after`")));
    }
    let page = wanted.page(service, limit).await?;
    // Each is JSON already.
    let clip =
        |id: &str| Some((format!("/v1/history/transcripts/{id}/clip.mp4"), service.history.as_ref()?.clip_begins(id)?));
    let shown = |heard: &Heard| {
        let clip = clip(&heard.id);
        heard.to_json(clip.as_ref().map(|(path, from_ms)| (path.as_str(), *from_ms)))
    };
    let found: Vec<String> = page.found.iter().map(shown).collect();
    let after = page.after.map_or("null".to_owned(), |after| format!("\"{after}\""));
    let body = format!("{{\"transcripts\":[{}],\"after\":{after}}}\n", found.join(","));
    Ok(([(header::CONTENT_TYPE, JSON)], body).into_response())
}

/// The picture and sound of one.
pub(super) async fn clip(
    State(service): State<Shared>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    Params::parse(query.as_deref(), &[])?;
    let history = service.history.as_ref().ok_or_else(none)?;
    let path = history.clip(&id).ok_or_else(|| {
        Refusal::new(
            StatusCode::NOT_FOUND,
            "there is no clip of it: clips are made some seconds after the last word, of streams with H.264 that this worker \
             runs, and the oldest go first (`history.clips_bytes`, `history.keep_days`)",
        )
    })?;
    file::serve(path, "video/mp4", &headers).await
}

fn none() -> Refusal {
    Refusal::new(StatusCode::NOT_IMPLEMENTED, "this service keeps no history: `history.enabled` is false")
}

/// All of it as a file, read as the client takes it: whatever its length, a piece is in memory.
async fn export(
    service: Shared,
    mut wanted: Wanted,
    format: Format,
    limit: Option<usize>,
) -> Result<Response, Refusal> {
    wanted.search.order = Order::OldestFirst;
    let streams = &wanted.search.streams;
    if format.has_cues() && streams.len() != 1 {
        return Err(Refusal::bad(format!(
            "`format={}` has one timeline: choose one stream with `stream=`",
            format.extension()
        )));
    }
    let of = match streams.as_slice() {
        [one] => one.chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).collect::<String>() + "-",
        _ => String::new(),
    };
    let name = format!("attachment; filename=\"{of}transcripts.{}\"", format.extension());
    let export = Export::new(format);
    let head = export.head();
    let mut writing = Writing { service, wanted, export, left: limit.unwrap_or(usize::MAX) };
    // What goes wrong at once is told as such.
    let (first, is_over) = writing.step().await?;
    let pieces = stream::unfold((writing, Some(head + &first), is_over), |(mut writing, ready, is_over)| async move {
        if let Some(ready) = ready {
            return Some((Ok(ready), (writing, None, is_over)));
        }
        if is_over {
            return None;
        }
        match writing.step().await {
            Ok((text, is_over)) => Some((Ok(text), (writing, None, is_over))),
            // The answer is cut off, so that nobody takes it for whole.
            Err(_) => {
                Some((Err(std::io::Error::other("the history cannot be read any further")), (writing, None, true)))
            }
        }
    });
    let headers = [(header::CONTENT_TYPE, format.media_type().to_owned()), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

struct Writing {
    service: Shared,
    wanted: Wanted,
    export: Export,
    left: usize,
}

impl Writing {
    /// The next piece, and whether it is the last.
    async fn step(&mut self) -> Result<(String, bool), Refusal> {
        let page = self.wanted.page(&self.service, PIECE.min(self.left)).await?;
        self.left -= page.found.len().min(self.left);
        self.wanted.search.after = page.after;
        let text = page.found.iter().map(|heard| self.export.write(heard)).collect();
        Ok((text, page.after.is_none() || self.left == 0))
    }
}

/// How a stream fared.
pub(super) async fn series(State(service): State<Shared>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let params = Params::parse(query.as_deref(), &OF_SERIES)?;
    let stream = params.get("stream").ok_or_else(|| Refusal::bad("`stream` is missing: whose series?"))?.to_owned();
    let to_ms = moment(&params, "to")?.unwrap_or_else(|| service.clock.wall().as_millisecond());
    let from_ms = moment(&params, "from")?.unwrap_or(to_ms - HOUR_MS);
    span(Some(from_ms), Some(to_ms))?;
    let step_secs = match params.number("step_secs")? {
        Some(secs) => i64::try_from(secs).unwrap_or(i64::MAX / 1000),
        None => ((to_ms - from_ms) / 1000 / USUAL_STEPS).max(LEAST_STEP),
    };
    if step_secs < LEAST_STEP {
        return Err(Refusal::bad(format!("`step_secs={step_secs}` is less than {LEAST_STEP}, the length of a sample")));
    }
    let stretch = Stretch { stream, from_ms, to_ms, step_ms: step_secs.saturating_mul(1000) };
    if stretch.n_steps() > MOST_STEPS {
        let secs = (to_ms - from_ms) / 1000 / MOST_STEPS as i64 + 1;
        return Err(Refusal::bad(format!(
            "these are {} steps, and at most {MOST_STEPS} are given: use `step_secs={secs}` or more, or a shorter time",
            stretch.n_steps()
        )));
    }
    let series = look_up(&service, move |reader| reader.series(&stretch)).await?;
    let broken = |_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the answer cannot be written; this is a bug");
    let body = serde_json::to_string(&series).map_err(broken)? + "\n";
    Ok(([(header::CONTENT_TYPE, JSON)], body).into_response())
}

/// For the OpenAPI document.
pub(super) fn schemas() -> Map<String, Value> {
    let time = || json!({ "type": "string", "format": "date-time" });
    let list = |of: &str| json!({ "type": "array", "items": { "type": [of, "null"] } });
    let piece = json!({ "type": "object", "required": ["text", "hit"],
                        "properties": { "text": { "type": "string" }, "hit": { "type": "boolean" } } });
    let heard = json!({
        "type": "object",
        "required": ["id", "stream", "session", "start_ms", "end_ms", "captured_at", "at", "text", "snippet", "words",
                     "clip"],
        "properties": {
            "id": { "type": "string", "description": "Of the transcript record." },
            "stream": { "type": "string" },
            "session": { "type": "string" },
            "start_ms": { "type": "integer", "description": "Stream time." },
            "end_ms": { "type": "integer" },
            "captured_at": { "type": ["string", "null"], "format": "date-time",
                             "description": "When `start_ms` was, by the source; null where a recording carries no date." },
            "at": { "type": "string", "format": "date-time",
                    "description": "`captured_at`, or where that is null when it was told: what `from` and `to` look at." },
            "text": { "type": "string" },
            "snippet": { "type": ["array", "null"], "items": piece,
                         "description": "Plain text in pieces, those that were searched for marked; null without `q`." },
            "words": { "type": "array", "items": { "type": "object" }, "description": "As in the transcript record." },
            "clip": { "type": ["object", "null"],
                      "properties": { "path": { "type": "string" },
                                      "from_ms": { "type": "integer", "description": "Stream time of its first picture." } },
                      "description": "Its picture and sound; null where there are none (yet)." },
        },
    });
    let by_key = |of: Value| json!({ "type": "object", "additionalProperties": of });
    let objects = json!({ "type": "object", "properties": { "most": list("integer"), "mean": list("number") } });
    let marks = |properties: Value| json!({ "type": "array", "items": { "type": "object", "properties": properties } });
    let series = json!({
        "type": "object",
        "required": ["stream", "from", "to", "step_secs", "times", "fps", "speech_lag_ms", "drops", "objects", "gaps", "states"],
        "properties": {
            "stream": { "type": "string" },
            "from": time(),
            "to": time(),
            "step_secs": { "type": "integer" },
            "times": { "type": "array", "items": time(), "description": "Begin of each step." },
            "fps": list("number"),
            "speech_lag_ms": list("integer"),
            "drops": by_key(list("integer")),
            "objects": by_key(objects),
            "gaps": marks(json!({ "from": time(), "to": time(), "reason": { "type": "string" } })),
            "states": marks(json!({ "at": time(), "state": { "type": "string" }, "detail": { "type": ["string", "null"] } })),
        },
    });
    let transcripts = json!({
        "type": "object",
        "required": ["transcripts", "after"],
        "properties": {
            "transcripts": { "type": "array", "items": reference("HistoryTranscript") },
            "after": { "type": ["string", "null"], "description": "For the next page; null where there is none." },
        },
    });
    let all = [("HistoryTranscript", heard), ("HistoryTranscripts", transcripts), ("HistorySeries", series)];
    all.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect()
}
