//! `/v1/profiles`: what can be run on a stream.

use std::collections::BTreeMap;

use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use serde_json::{Value, json};

use super::{
    Shared,
    error::{Refusal, json as answer},
    params::Params,
};

/// The route.
pub(super) async fn list(State(service): State<Shared>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    Params::parse(query.as_deref(), &[])?;
    let mut n_streams: BTreeMap<String, usize> = BTreeMap::new();
    for (_, listed) in service.control.board.streams() {
        *n_streams.entry(listed.profile).or_default() += 1;
    }
    let profiles: Vec<Value> = (service.control.profiles)()
        .into_iter()
        .map(|profile| {
            json!({
                "n_streams": n_streams.get(&profile.name).copied().unwrap_or_default(),
                "name": profile.name,
                "detect": profile.detect,
                "transcribe": profile.transcribe,
                "select": profile.select,
            })
        })
        .collect();
    Ok(answer(&json!({ "profiles": profiles })))
}
