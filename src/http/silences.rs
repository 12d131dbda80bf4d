//! `/v1/silences`: of which alerts somebody wants to hear nothing for a while. Writing waits for the disk, on blocking threads.

use std::time::Duration;

use axum::{
    Extension,
    extract::{Path, RawQuery, Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use base::{media::StreamName, time::Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Shared,
    alerts::waiting,
    audit::Subject,
    body,
    error::{Refusal, json as answer},
    guard::Pass,
    params::Params,
    streams,
};
use crate::evidence::{DeskError, Silence, SilenceWish};

/// Longest silence: 30 days.
const MOST_MINUTES: u32 = 30 * 24 * 60;
/// Characters of a reason or a note.
const MOST_TEXT: usize = 500;
/// Characters of a rule's name.
const MOST_RULE: usize = 200;

/// Body of a `POST`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SilenceRequest {
    /// Only alerts of this stream. Default: of all.
    #[serde(default)]
    stream: Option<String>,
    /// Only alerts of this rule. Default: of all.
    #[serde(default)]
    rule: Option<String>,
    /// For how long: 1 to 43200 (30 days).
    #[schemars(range(min = 1, max = 43200))]
    minutes: u32,
    /// Why, for whoever wonders: 1 to 500 characters.
    #[schemars(length(min = 1, max = 500))]
    reason: String,
}

/// All that hold now.
pub(super) async fn list(State(service): State<Shared>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    Params::parse(query.as_deref(), &[])?;
    let silences: Vec<Value> = service.desk.silences().iter().map(described).collect();
    Ok(answer(&json!({ "silences": silences })))
}

/// One more.
pub(super) async fn silence(
    State(service): State<Shared>,
    Extension(pass): Extension<Pass>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Refusal> {
    Params::parse(query.as_deref(), &[])?;
    let SilenceRequest { stream, rule, minutes, reason } = body::read(request).await?;
    if !(1..=MOST_MINUTES).contains(&minutes) {
        return Err(Refusal::bad(format!("`minutes` is {minutes} and must be 1 to {MOST_MINUTES}")));
    }
    let reason = text("reason", Some(reason))?.ok_or_else(|| Refusal::bad("`reason` is empty: say why"))?;
    if rule.as_ref().is_some_and(|rule| rule.is_empty() || rule.chars().count() > MOST_RULE) {
        return Err(Refusal::bad("`rule` is no name of a rule"));
    }
    if let Some(name) = &stream {
        StreamName::new(name).map_err(|e| Refusal::bad(format!("`stream`: {e}")))?;
        let seen = streams::find_seen(&service, name)?;
        if let Some(refusal) = streams::with_another(&service, &seen) {
            return Err(refusal);
        }
    }
    let by = pass.user().to_owned();
    let lasts = Duration::from_secs(u64::from(minutes) * 60);
    let desk = service.desk.clone();
    let silence = waiting(move || desk.silence(SilenceWish { stream, rule, by, lasts, reason })).await?;
    let silence = silence.map_err(refused)?;
    let mut response = answer(&described(&silence));
    *response.status_mut() = StatusCode::CREATED;
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/silences/{}", silence.id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response.extensions_mut().insert(Subject(about(&silence)));
    Ok(response)
}

/// What is silenced, for the audit.
fn about(Silence { id, stream, rule, .. }: &Silence) -> String {
    let all = |name: &Option<String>| name.clone().unwrap_or_else(|| "*".into());
    format!("{id}: rule {} of stream {}", all(rule), all(stream))
}

/// One less.
pub(super) async fn lift(
    State(service): State<Shared>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    Params::parse(query.as_deref(), &[])?;
    let (desk, asked) = (service.desk.clone(), id.clone());
    let was_there = waiting(move || desk.lift(&asked)).await?.map_err(refused)?;
    if was_there {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let shown: String = id.chars().take(64).collect();
    let message = format!("no silence `{shown}` holds here now; /v1/silences lists them");
    Err(Refusal::new(StatusCode::NOT_FOUND, message))
}

fn described(silence: &Silence) -> Value {
    json!({
        "id": silence.id,
        "stream": silence.stream,
        "rule": silence.rule,
        "by": silence.by,
        "created_at": time(silence.since_ms),
        "until": time(silence.until_ms),
        "reason": silence.reason,
    })
}

/// RFC 3339.
pub(super) fn time(ms: i64) -> Option<String> {
    Timestamp::from_millisecond(ms).ok().map(|at| format!("{at:.3}"))
}

/// What somebody wrote, without blanks around it; none where that is nothing.
pub(super) fn text(field: &str, given: Option<String>) -> Result<Option<String>, Refusal> {
    let given = given.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    match &given {
        Some(text) if text.chars().count() > MOST_TEXT => {
            Err(Refusal::bad(format!("`{field}` has more than {MOST_TEXT} characters")))
        }
        _ => Ok(given),
    }
}

pub(super) fn refused(error: DeskError) -> Refusal {
    match error {
        DeskError::TooMany => Refusal::new(StatusCode::CONFLICT, error.to_string()),
        DeskError::NoId | DeskError::Write { .. } => {
            tracing::error!(%error, "what was said about alerts is not kept");
            Refusal::busy(error.to_string())
        }
    }
}
