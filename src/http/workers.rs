//! `/v1/workers`: who runs the streams.

use std::collections::BTreeMap;

use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use serde_json::{Value, json};

use super::{
    Service, Shared,
    error::{Refusal, json as answer},
    params::Params,
};

/// The route.
pub(super) async fn list(State(service): State<Shared>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    Params::parse(query.as_deref(), &[])?;
    let (workers, board) = (all(&service), &service.control.board);
    Ok(answer(&json!({ "workers": workers, "trouble": board.trouble(), "attachable": service.control.desk.is_some() })))
}

/// All workers, as they are shown.
pub(super) fn all(service: &Service) -> Vec<Value> {
    let board = &service.control.board;
    let now = service.clock.wall().as_millisecond();
    let mut load: BTreeMap<String, f32> = BTreeMap::new();
    for (_, listed) in board.streams() {
        if let Some(report) = listed.report.filter(|report| !report.released) {
            *load.entry(report.worker).or_default() += listed.attachment.weight;
        }
    }
    board
        .workers()
        .into_iter()
        .map(|(id, listed)| {
            let said = listed.announcement;
            json!({
                "load": load.get(&id).copied().unwrap_or_default(),
                "id": id,
                "is_this": listed.is_this,
                "capacity": said.capacity,
                "n_streams": said.n_streams,
                "leases": said.leases,
                "draining": said.draining,
                "address": said.address,
                "version": said.version,
                "age_ms": now.saturating_sub(listed.at_ms).max(0),
            })
        })
        .collect()
}
