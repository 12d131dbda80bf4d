//! `/v1/streams/{name}/preview.jpg`: the newest analysed picture. Made on a blocking thread, and only when asked for.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Path, RawQuery, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use base::media::Frame;
use tokio::{task::spawn_blocking, time::timeout};

use super::{Shared, error::Refusal, params::Params, streams::find};
use crate::views::Preview;

/// Who asks first waits so long for a picture.
const WAIT: Duration = Duration::from_secs(2);

/// The route.
pub(super) async fn preview(
    State(service): State<Shared>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    Params::parse(query.as_deref(), &[])?;
    find(&service, &name)?;
    let missing = |why: &str| Refusal::new(StatusCode::NOT_FOUND, format!("stream `{name}` has no picture: {why}"));
    let preview = service.views.view(&name).and_then(|view| view.preview);
    let preview = preview.ok_or_else(|| missing("nobody looks at its pictures; give its profile a `detect` model"))?;
    let frame = newest(&preview).await.ok_or_else(|| {
        missing("none was analysed since somebody asked; one is kept as soon as it comes, try again")
            .with(header::RETRY_AFTER, HeaderValue::from_static("1"))
    })?;
    let broken = |cause: String| {
        Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the picture of stream `{name}` cannot be made: {cause}"),
        )
    };
    let value = |text: &str| HeaderValue::from_str(text).map_err(|e| broken(e.to_string()));
    let tag = Preview::tag(&frame);
    let mut told = HeaderMap::new();
    told.insert(header::ETAG, value(&tag)?);
    told.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    told.insert(HeaderName::from_static("eyewitness-session"), value(frame.session.as_str())?);
    told.insert(HeaderName::from_static("eyewitness-pts-ms"), HeaderValue::from(frame.pts.millis()));
    if let Some(captured) = &frame.captured {
        told.insert(HeaderName::from_static("eyewitness-captured-at"), value(&captured.at.to_string())?);
    }
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if known.split(',').any(|known| known.trim() == tag) {
        return Ok((StatusCode::NOT_MODIFIED, told).into_response());
    }
    let made = spawn_blocking(move || preview.jpeg(&frame)).await;
    let jpeg = made.map_err(|e| broken(e.to_string()))?.map_err(broken)?;
    told.insert(header::CONTENT_TYPE, HeaderValue::from_static("image/jpeg"));
    Ok((told, jpeg).into_response())
}

async fn newest(preview: &Arc<Preview>) -> Option<Frame> {
    let mut news = preview.news();
    if let Some(frame) = preview.ask() {
        return Some(frame);
    }
    let _ = timeout(WAIT, news.changed()).await;
    preview.ask()
}
