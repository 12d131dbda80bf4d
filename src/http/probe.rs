//! `/v1/probe`: what a URL gives, or why it gives nothing, before it is kept. The trying itself waits on a blocking
//! thread, never on the service's own.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{RawQuery, Request, State},
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ingest::ProbeReport;
use serde_json::Value;

use super::{
    Shared, body,
    control::ProbeRequest,
    error::{Refusal, json as answer},
    params::Params,
};

/// Probes at the same time.
pub(super) const MOST_AT_ONCE: usize = 4;
/// Each has so long.
const PROBED_WITHIN: Duration = Duration::from_secs(20);
const JPEG: &str = "image/jpeg";

/// The route.
pub(super) async fn probe(
    State(service): State<Shared>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Refusal> {
    Params::parse(query.as_deref(), &[])?;
    let prober = service
        .control
        .prober
        .clone()
        .ok_or_else(|| Refusal::new(StatusCode::NOT_IMPLEMENTED, "this service cannot try URLs"))?;
    let wants_picture = wants_picture(&request);
    let wanted: ProbeRequest = body::read(request).await?;
    let place = Arc::clone(&service.probes)
        .try_acquire_owned()
        .map_err(|_| Refusal::busy(format!("{MOST_AT_ONCE} URLs are being tried already; try again later")))?;
    let tried = tokio::task::spawn_blocking(move || {
        let tried = prober.probe(&wanted, PROBED_WITHIN);
        // Held until the prober has let go, even if the client has not waited.
        drop(place);
        tried
    });
    let report = tried
        .await
        .map_err(|_| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the probe broke down; this is a bug"))?
        .map_err(|failed| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, base::redact::scrub_urls(&failed.0)))?;
    match report.snapshot {
        Some(picture) if wants_picture => Ok(([(header::CONTENT_TYPE, JPEG)], picture.jpeg).into_response()),
        None if wants_picture => {
            Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "the source has no picture; ask for `application/json`"))
        }
        _ => Ok(answer(&describe(&report))),
    }
}

fn wants_picture(request: &Request) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    accept.split([',', ';']).next().unwrap_or_default().trim().eq_ignore_ascii_case(JPEG)
}

/// As JSON, the picture within as a data URL (RFC 2397).
pub fn describe(report: &ProbeReport) -> Value {
    let picture = report.snapshot.as_ref().map(|s| format!("data:{JPEG};base64,{}", BASE64_STANDARD.encode(&s.jpeg)));
    // Plain data: that it cannot be written does not come.
    let mut json = serde_json::to_value(report).unwrap_or_default();
    json["snapshot"] = picture.into();
    json
}
