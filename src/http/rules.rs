//! `/v1/streams/{name}/rules`: what somebody is to be told of a stream, and what of that can be drawn. Any worker answers: it
//! knows all attachments, and has the configuration.

use axum::{
    extract::{Path, RawQuery, State},
    response::Response,
};
use serde_json::{Value, json};

use super::{
    Shared,
    error::{Refusal, json as answer},
    params::Params,
    streams,
};
use crate::{
    config::RuleConfig,
    control::{resolver::RuleOrigin, selectors::Selectors},
};
use inference::rules::Rule;

/// The route.
pub(super) async fn list(
    State(service): State<Shared>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    Params::parse(query.as_deref(), &[])?;
    let attachment = streams::find_seen(&service, &name)?.attachment();
    Ok(answer(&json!({ "rules": (service.control.rules)(&name, &attachment) })))
}

/// A rule, as it is listed.
pub(super) fn described(origin: RuleOrigin, config: &RuleConfig, rule: &Rule) -> Value {
    let config = RuleConfig { select: Selectors::default(), ..config.clone() };
    let shapes: Vec<Value> = rule
        .shapes()
        .iter()
        .map(|shape| {
            let kind = if shape.is_closed { "zone" } else { "line" };
            json!({ "kind": kind, "points": &*shape.points })
        })
        .collect();
    // Rules are plain data: that they cannot be written does not come.
    let written = serde_json::to_value(config).unwrap_or_default();
    json!({ "name": rule.name(), "origin": origin.as_str(), "rule": written, "shapes": shapes })
}
