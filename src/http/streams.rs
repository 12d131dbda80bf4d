//! `/v1/streams`: which streams there are and how they fare.

use axum::{
    extract::{Path, RawQuery, State},
    http::StatusCode,
    response::Response,
};
use serde_json::{Value, json};

use super::{
    Service, Shared,
    error::{Refusal, json as answer},
    params::{Params, unknown},
};
use crate::feed::{Kind, StreamView};

/// All streams.
pub(super) async fn list(State(service): State<Shared>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    Params::parse(query.as_deref(), &[])?;
    let streams: Vec<Value> = service.feed.streams().iter().map(|stream| describe(&service, stream)).collect();
    Ok(answer(&json!({ "streams": streams })))
}

/// One stream.
pub(super) async fn one(
    State(service): State<Shared>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    Params::parse(query.as_deref(), &[])?;
    Ok(answer(&describe(&service, &find(&service, &name)?)))
}

/// The stream of this name.
pub(super) fn find(service: &Service, name: &str) -> Result<StreamView, Refusal> {
    service.feed.stream(name).ok_or_else(|| {
        let streams = service.feed.streams();
        let known = streams.iter().map(|s| s.info.name.as_str());
        Refusal::new(StatusCode::NOT_FOUND, unknown("stream", name, known))
    })
}

fn describe(service: &Service, stream: &StreamView) -> Value {
    let name = stream.info.name.as_str();
    let (session, status) = stream.latest.as_ref().map_or((None, None), |(s, status)| (Some(s.as_str()), Some(status)));
    let media = status.and_then(|s| s.source.as_ref());
    let video = media
        .and_then(|m| m.video.as_ref())
        .map(|v| json!({ "codec": v.codec, "width": v.size.map(|s| s.0), "height": v.size.map(|s| s.1) }));
    let counts: serde_json::Map<String, Value> =
        Kind::ALL.iter().zip(stream.tape.counts()).map(|(kind, n)| (kind.plural().to_owned(), n.into())).collect();
    json!({
        "name": name,
        "tags": stream.info.tags,
        "state": status.map_or("connecting", |s| s.state.as_str()),
        "detail": status.and_then(|s| s.detail.as_deref()),
        "session": session,
        "source": media.map(|m| json!({ "video": video, "audio": m.audio.as_ref().map(|a| json!({ "codec": a.codec })) })),
        "speech_lag_ms": service.house.speech_lag(name).map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
        "records": counts,
        "n_readers": stream.tape.n_readers(),
        "captions": format!("/v1/streams/{name}/captions"),
        "playlist": service.playlist.map(|path| path.replace("{name}", name)),
    })
}
