//! Attaching, changing and detaching: `PUT`, `PATCH` and `DELETE` of `/v1/streams/{name}`. A wish is checked here, and then
//! handed to the keeper; the answer comes when it is written down for good.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Path, RawQuery, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use base::media::StreamName;
use tokio::time::{sleep, timeout};

use super::{Service, Shared, body, error::Refusal, params::Params, streams};
use crate::control::{
    attachment::{Attachment, Origin, Patch},
    desk::{Desk, Granted, Refused, Wish},
};

/// The keeper has so long to write something down.
const WRITTEN_WITHIN: Duration = Duration::from_secs(15);
/// What is written down is on the board soon after: an answer waits so long for it, so that whoever reads next sees it.
const SHOWN_WITHIN: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// `PUT`.
pub(super) async fn attach(
    State(service): State<Shared>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Refusal> {
    let begun = begin(&service, &name, query.as_deref(), request.headers())?;
    let attachment: Attachment = body::read(request).await?;
    begun.condition.check(&service, &name)?;
    let attachment = validate(&service, &name, attachment).await?;
    let wish = Wish::Put { name: name.clone(), attachment: Box::new(attachment) };
    let granted = ask(&begun.desk, wish).await?;
    let status = if granted.created { StatusCode::CREATED } else { StatusCode::OK };
    shown(&service, &name, status, granted.revision).await
}

/// `PATCH`.
pub(super) async fn change(
    State(service): State<Shared>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Refusal> {
    let begun = begin(&service, &name, query.as_deref(), request.headers())?;
    let patch: Patch = body::read(request).await?;
    begun.condition.check(&service, &name)?;
    // What belongs to somebody else is shown without its secrets, and refused by the keeper.
    let listed = service.control.board.stream(&name).filter(|listed| listed.origin == Origin::Api);
    if let Some(mut attachment) = listed.map(|listed| listed.attachment) {
        patch.clone().apply(&mut attachment);
        validate(&service, &name, attachment).await?;
    }
    let granted = ask(&begun.desk, Wish::Patch { name: name.clone(), patch: Box::new(patch) }).await?;
    shown(&service, &name, StatusCode::OK, granted.revision).await
}

/// `DELETE`.
pub(super) async fn detach(
    State(service): State<Shared>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let begun = begin(&service, &name, query.as_deref(), &headers)?;
    begun.condition.check(&service, &name)?;
    ask(&begun.desk, Wish::Remove { name: name.clone() }).await?;
    patiently(|| service.control.board.stream(&name).is_none()).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// What every wish needs first.
struct Begun {
    desk: Desk,
    condition: Condition,
}

fn begin(service: &Service, name: &str, query: Option<&str>, headers: &HeaderMap) -> Result<Begun, Refusal> {
    Params::parse(query, &[])?;
    let desk = service.control.desk.clone().ok_or_else(|| {
        Refusal::new(
            StatusCode::CONFLICT,
            "this service has no store for attachments, so that nothing can be attached or detached while it runs: put an \
             `[attachments]` table into its configuration, or the stream under `[streams]`",
        )
    })?;
    StreamName::new(name).map_err(|e| Refusal::bad(e.to_string()))?;
    Ok(Begun { desk, condition: Condition::read(headers)? })
}

/// Checks what is wished, on a thread that may wait.
async fn validate(service: &Service, name: &str, attachment: Attachment) -> Result<Attachment, Refusal> {
    let (validate, of) = (Arc::clone(&service.control.validate), name.to_owned());
    let checked = tokio::task::spawn_blocking(move || validate(&of, &attachment).map(|()| attachment));
    let checked = checked
        .await
        .map_err(|_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the check broke down; this is a bug"))?;
    checked.map_err(|reasons| {
        let message = format!("stream `{name}` cannot be attached like this: {}", reasons.join("; "));
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, message).and("reasons", reasons)
    })
}

/// What must be so for a wish to hold (RFC 9110, section 13.1). Looked at once, before the keeper is asked: of two who
/// write at the same moment, both may find their condition met.
#[derive(Debug, Default, PartialEq, Eq)]
struct Condition {
    /// `If-Match`: one of these revisions; an empty list stands for any.
    matches: Option<Vec<u64>>,
    /// `If-None-Match: *`.
    absent: bool,
}

impl Condition {
    fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
        let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok()).map(str::trim);
        let matches = match text(header::IF_MATCH) {
            None => None,
            Some("*") => Some(Vec::new()),
            Some(tags) => {
                let revision = |tag: &str| tag.trim().strip_prefix('"')?.strip_suffix('"')?.parse().ok();
                let revisions: Option<Vec<u64>> = tags.split(',').map(revision).collect();
                Some(revisions.ok_or_else(|| {
                    Refusal::bad("`If-Match` holds no revision: send the `ETag` of an answer, such as `\"3\"`")
                })?)
            }
        };
        let absent = match text(header::IF_NONE_MATCH) {
            None => false,
            Some("*") => true,
            Some(_) => return Err(Refusal::bad("`If-None-Match` is understood as `*` alone")),
        };
        Ok(Self { matches, absent })
    }

    fn check(&self, service: &Service, name: &str) -> Result<(), Refusal> {
        self.holds(service.control.board.stream(name).map(|listed| listed.revision))
            .map_err(|why| Refusal::new(StatusCode::PRECONDITION_FAILED, format!("stream `{name}` {why}")))
    }

    fn holds(&self, revision: Option<u64>) -> Result<(), String> {
        match (revision, &self.matches) {
            (Some(_), _) if self.absent => Err("is there already".into()),
            (None, Some(_)) => Err("is not there".into()),
            (Some(now), Some(wanted)) if !wanted.is_empty() && !wanted.contains(&now) => {
                Err(format!("is at revision {now}: somebody changed it; read it again"))
            }
            _ => Ok(()),
        }
    }
}

async fn ask(desk: &Desk, wish: Wish) -> Result<Granted, Refusal> {
    let answer = timeout(WRITTEN_WITHIN, desk.ask(wish, Origin::Api)).await.map_err(|_| {
        Refusal::busy(format!(
            "the store did not answer within {} s, and it may still do what was asked: look at the stream before trying again",
            WRITTEN_WITHIN.as_secs()
        ))
    })?;
    let answer =
        answer.map_err(|_| Refusal::busy("too many wishes are waiting, or the service is stopping; try again"))?;
    answer.map_err(|refused| match refused {
        Refused::Missing(why) => Refusal::new(StatusCode::NOT_FOUND, why),
        Refused::Conflict(why) => Refusal::new(StatusCode::CONFLICT, why),
        Refused::Invalid(why) => Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, why),
        Refused::Unavailable(why) => Refusal::busy(why),
    })
}

/// The stream as it is now.
async fn shown(service: &Service, name: &str, status: StatusCode, revision: u64) -> Result<Response, Refusal> {
    let is_shown = || service.control.board.stream(name).is_some_and(|listed| listed.revision >= revision);
    patiently(is_shown).await;
    let mut response = match streams::find_seen(service, name) {
        Ok(seen) => streams::answer_one(service, &seen),
        // It is written down, whatever the board shows by now.
        Err(_) => super::error::json(&serde_json::json!({ "name": name, "revision": revision })),
    };
    *response.status_mut() = status;
    if status == StatusCode::CREATED
        && let Ok(location) = HeaderValue::from_str(&format!("/v1/streams/{name}"))
    {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

async fn patiently(is_so: impl Fn() -> bool) {
    let look = async {
        while !is_so() {
            sleep(LOOK_AGAIN).await;
        }
    };
    let _ = timeout(SHOWN_WITHIN, look).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions() {
        let check = |headers: &[(&'static str, &'static str)], revision: Option<u64>, expected: Result<(), &str>| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(*name, HeaderValue::from_static(value));
            }
            let got = Condition::read(&map).map_err(|r| format!("{r:?}")).and_then(|c| c.holds(revision));
            match (&got, expected) {
                (Ok(()), Ok(())) => {}
                (Err(got), Err(part)) => assert!(got.contains(part), "{headers:?}: {got}"),
                (got, expected) => panic!("{headers:?} {revision:?}: {got:?}, not {expected:?}"),
            }
        };
        check(&[], None, Ok(()));
        check(&[], Some(3), Ok(()));
        check(&[("if-match", "\"3\"")], Some(3), Ok(()));
        check(&[("if-match", "\"2\", \"3\"")], Some(3), Ok(()));
        check(&[("if-match", "\"2\"")], Some(3), Err("revision 3"));
        check(&[("if-match", "\"2\"")], None, Err("not there"));
        check(&[("if-match", "*")], Some(3), Ok(()));
        check(&[("if-match", "*")], None, Err("not there"));
        check(&[("if-match", "3")], Some(3), Err("no revision"));
        check(&[("if-match", "W/\"3\"")], Some(3), Err("no revision"));
        check(&[("if-none-match", "*")], None, Ok(()));
        check(&[("if-none-match", "*")], Some(1), Err("there already"));
        check(&[("if-none-match", "\"1\"")], Some(1), Err("`*` alone"));
    }
}
