//! Schemas of what is attached, for the OpenAPI document. Requests are those of the types that read them.

use ingest::ProbeReport;
use schemars::{JsonSchema, schema_for};
use serde_json::{Map, Value, json};

use super::{
    alerts::Acknowledgement,
    control::ProbeRequest,
    openapi::{reference, relocate},
    session::Credentials,
    silences::SilenceRequest,
};
use crate::{
    config::RuleConfig,
    control::{
        attachment::{Attachment, Patch},
        resolver::RuleOrigin,
        selectors::STATES,
    },
};

/// By name.
pub(super) fn control() -> Map<String, Value> {
    let mut schemas = Map::new();
    let list = |key: &str, of: &str| {
        json!({ "type": "object", "required": [key],
                "properties": { key: { "type": "array", "items": reference(of) } } })
    };
    schemas.insert("Attachment".into(), request::<Attachment>("Attachment"));
    schemas.insert("Patch".into(), request::<Patch>("Patch"));
    schemas.insert("Rules".into(), rules());
    schemas.insert("ProbeRequest".into(), request::<ProbeRequest>("ProbeRequest"));
    schemas.insert("Stream".into(), stream());
    schemas.insert("Streams".into(), list("streams", "Stream"));
    schemas.insert("Figures".into(), figures());
    schemas.insert("Profile".into(), profile());
    schemas.insert("Profiles".into(), list("profiles", "Profile"));
    schemas.insert("Worker".into(), worker());
    let mut workers = list("workers", "Worker");
    workers["properties"]["trouble"] =
        json!({ "type": ["string", "null"], "description": "What stands between this worker and the store." });
    workers["properties"]["attachable"] =
        json!({ "type": "boolean", "description": "Streams can be attached and detached while the service runs." });
    schemas.insert("Workers".into(), workers);
    schemas.insert("Probe".into(), probe());
    schemas.extend(super::history::schemas());
    schemas.insert("Alerts".into(), list("alerts", "KeptAlert"));
    schemas.insert("KeptAlert".into(), kept_alert());
    schemas.insert("Acknowledgement".into(), request::<Acknowledgement>("Acknowledgement"));
    schemas.insert("SilenceRequest".into(), request::<SilenceRequest>("SilenceRequest"));
    schemas.insert("Silence".into(), silence());
    schemas.insert("Silences".into(), list("silences", "Silence"));
    schemas.insert("Credentials".into(), request::<Credentials>("Credentials"));
    schemas.insert("Session".into(), session());
    schemas.insert("AuditRecord".into(), audit_record());
    schemas.insert("Audit".into(), list("records", "AuditRecord"));
    schemas.insert("Check".into(), check());
    schemas.insert("Health".into(), health());
    schemas
}

fn request<T: JsonSchema>(name: &str) -> Value {
    let mut schema = schema_for!(T).as_value().clone();
    relocate(&mut schema, name);
    schema
}

fn stream() -> Value {
    json!({
        "type": "object",
        "required": ["name", "tags", "state", "detail", "session", "source", "speech_lag_ms", "records", "n_readers",
                     "captions", "playlist", "url", "credentials", "profile", "weight", "origin", "revision", "worker",
                     "address", "epoch", "figures", "report_age_ms"],
        "properties": {
            "name": { "type": "string" },
            "tags": { "type": "object", "additionalProperties": { "type": "string" } },
            "state": { "enum": STATES, "description": "`waiting`: no worker has it yet." },
            "detail": { "type": ["string", "null"] },
            "session": { "type": ["string", "null"] },
            "source": { "type": ["object", "null"],
                        "description": "Codecs and picture size; null when not playing, and of another worker's stream." },
            "speech_lag_ms": { "type": ["integer", "null"],
                               "description": "Sound received but not yet transcribed; null where nobody listens." },
            "records": { "type": "object", "additionalProperties": { "type": "integer" },
                         "description": "Records ever put into this worker's feed, by type." },
            "n_readers": { "type": "integer" },
            "captions": { "type": "string", "description": "Path of the caption feed, at the worker that runs the stream." },
            "playlist": { "type": ["string", "null"], "description": "Path of the HLS playlist, likewise." },
            "url": { "type": ["string", "null"], "description": "Without secrets." },
            "credentials": { "type": ["string", "null"], "description": "Name of the secret that it is opened with." },
            "profile": { "type": ["string", "null"], "description": "The profile that it runs or would run." },
            "weight": { "type": ["number", "null"] },
            "origin": { "enum": ["api", "folder", "config", null], "description": "Who asked for it, and alone may change it." },
            "revision": { "type": ["integer", "null"],
                          "description": "Grows with every change; 0 of a stream of the configuration file." },
            "worker": { "type": ["string", "null"], "description": "Who runs it, as was told last." },
            "address": { "type": ["string", "null"], "description": "That worker's HTTP service, where it is known." },
            "epoch": { "type": ["integer", "null"], "description": "Of the lease that it runs under." },
            "figures": { "oneOf": [reference("Figures"), { "type": "null" }] },
            "report_age_ms": { "type": ["integer", "null"], "description": "How long ago the worker told this." },
        },
    })
}

fn rules() -> Value {
    let mut schema = json!({
        "type": "object",
        "required": ["rules"],
        "properties": { "rules": { "type": "array", "items": {
            "type": "object",
            "required": ["name", "origin", "rule", "shapes"],
            "properties": {
                "name": { "type": "string" },
                "origin": { "enum": RuleOrigin::ALL.map(RuleOrigin::as_str),
                            "description": "Where it stands, and is changed: `[rules]` of the configuration, or the stream's attachment." },
                "shapes": { "type": "array", "description": "What it draws over the picture.", "items": {
                    "type": "object",
                    "required": ["kind", "points"],
                    "properties": {
                        "kind": { "enum": ["zone", "line"], "description": "A zone is closed." },
                        "points": { "type": "array", "description": "Parts of the picture's width and height, origin top left.",
                                    "items": { "type": "array", "items": { "type": "number" }, "minItems": 2, "maxItems": 2 } },
                    },
                } },
            },
        } } },
    });
    let mut rule = schema_for!(RuleConfig).as_value().clone();
    if let Some(shared) = rule.as_object_mut().and_then(|rule| rule.remove("$defs")) {
        schema["$defs"] = shared;
    }
    schema["properties"]["rules"]["items"]["properties"]["rule"] = rule;
    relocate(&mut schema, "Rules");
    schema
}

fn figures() -> Value {
    json!({
        "type": "object",
        "required": ["fps", "n_decoded", "n_inferred", "n_gaps"],
        "properties": {
            "fps": { "type": "number", "description": "Frames analysed a second, over the last seconds." },
            "latency_ms": { "type": "number", "description": "Median from the decoded picture to its record." },
            "speech_lag_ms": { "type": "integer" },
            "n_decoded": { "type": "integer" },
            "n_inferred": { "type": "integer" },
            "n_dropped": { "type": "object", "additionalProperties": { "type": "integer" },
                           "description": "Frames left out, by reason." },
            "n_gaps": { "type": "integer" },
        },
    })
}

fn profile() -> Value {
    json!({
        "type": "object",
        "required": ["name", "detect", "transcribe", "select", "n_streams"],
        "properties": {
            "name": { "type": "string" },
            "detect": { "type": ["string", "null"], "description": "The detector, if it looks." },
            "transcribe": { "type": ["string", "null"], "description": "The transcriber, if it listens." },
            "select": { "description": "Its selectors, as they are configured; null without any." },
            "n_streams": { "type": "integer", "description": "Streams bound to it." },
        },
    })
}

fn worker() -> Value {
    json!({
        "type": "object",
        "required": ["id", "is_this", "capacity", "load", "n_streams", "leases", "draining", "address", "version", "age_ms"],
        "properties": {
            "id": { "type": "string" },
            "is_this": { "type": "boolean", "description": "It is the one that answers." },
            "capacity": { "type": "number" },
            "load": { "type": "number", "description": "Sum of the weights of its streams." },
            "n_streams": { "type": "integer" },
            "leases": { "type": "array", "items": { "type": "integer" } },
            "draining": { "type": "boolean", "description": "It is leaving." },
            "address": { "type": ["string", "null"] },
            "version": { "type": "string" },
            "age_ms": { "type": "integer", "description": "How long ago it told this." },
        },
    })
}

fn probe() -> Value {
    let mut schema = request::<ProbeReport>("Probe");
    schema["properties"]["snapshot"] =
        json!({ "type": ["string", "null"], "description": "The first whole picture: a JPEG as a data URL." });
    schema
}

fn time(description: &str) -> Value {
    json!({ "type": ["string", "null"], "format": "date-time", "description": description })
}

fn kept_alert() -> Value {
    let acknowledged = json!({
        "type": ["object", "null"],
        "description": "Who has seen to it; null where nobody has.",
        "required": ["by", "at", "note"],
        "properties": { "by": { "type": "string" }, "at": time("When."), "note": { "type": ["string", "null"] } },
    });
    let silenced = json!({
        "type": ["object", "null"],
        "description": "Who wants to hear nothing of it: now, or of a closed one when it ended; null where nobody does.",
        "required": ["id", "by", "until", "reason"],
        "properties": { "id": { "type": "string" }, "by": { "type": "string" }, "until": time("Until when."),
                        "reason": { "type": "string" } },
    });
    json!({ "allOf": [reference("alert"),
                      { "type": "object", "required": ["acknowledged", "silenced"],
                        "properties": { "acknowledged": acknowledged, "silenced": silenced } }] })
}

fn silence() -> Value {
    json!({
        "type": "object",
        "required": ["id", "stream", "rule", "by", "created_at", "until", "reason"],
        "properties": {
            "id": { "type": "string" },
            "stream": { "type": ["string", "null"], "description": "Null for all." },
            "rule": { "type": ["string", "null"], "description": "Null for all." },
            "by": { "type": "string", "description": "The user who wished it." },
            "created_at": time("When."),
            "until": time("Until when."),
            "reason": { "type": "string" },
        },
    })
}

fn session() -> Value {
    json!({
        "type": "object",
        "required": ["user", "role", "token_needed", "expires_at", "version"],
        "properties": {
            "user": { "type": "string", "description": "`local` where no token is needed." },
            "role": { "enum": ["viewer", "operator"] },
            "token_needed": { "type": "boolean", "description": "This service has users with tokens." },
            "expires_at": time("When the session ends; null without one."),
            "version": { "type": "string", "description": "Of the service." },
        },
    })
}

fn audit_record() -> Value {
    json!({
        "type": "object",
        "required": ["at", "user", "role", "address", "method", "route", "kind", "subject", "status"],
        "properties": {
            "at": time("When it was answered."),
            "user": { "type": ["string", "null"], "description": "Null where nobody knows." },
            "role": { "enum": ["viewer", "operator", null] },
            "address": { "type": "string" },
            "method": { "type": "string" },
            "route": { "type": "string", "description": "As in this document." },
            "kind": { "enum": ["stream", "alert", "silence", null], "description": "What the path names." },
            "subject": { "type": ["string", "null"], "description": "Its name, as it was asked for." },
            "status": { "type": "integer", "description": "The answer's." },
        },
    })
}

fn check() -> Value {
    json!({
        "type": "object",
        "required": ["id", "level", "subject", "says", "do"],
        "properties": {
            "id": { "type": "string", "description": "The kind of check." },
            "level": { "enum": ["ok", "warn", "bad"] },
            "subject": { "type": ["string", "null"], "description": "The stream, worker, model, queue or sink; null for the service." },
            "says": { "type": "string", "description": "What is." },
            "do": { "type": ["string", "null"], "description": "What to do about it; null where all is well." },
        },
    })
}

fn health() -> Value {
    let list = |of: Value| json!({ "type": "array", "items": of });
    json!({
        "type": "object",
        "required": ["level", "checks", "workers", "models", "queues", "sinks"],
        "properties": {
            "level": { "enum": ["ok", "warn", "bad"], "description": "The worst of the checks." },
            "checks": list(reference("Check")),
            "workers": list(reference("Worker")),
            "models": list(json!({
                "type": "object",
                "required": ["name", "profiles", "is_there"],
                "properties": {
                    "name": { "type": "string" },
                    "profiles": { "type": "array", "items": { "type": "string" } },
                    "is_there": { "type": "boolean", "description": "Its weights are on this machine." },
                },
            })),
            "queues": list(json!({
                "type": "object",
                "required": ["name", "n_items", "capacity", "n_dropped", "n_dropped_last_minute"],
                "properties": {
                    "name": { "type": "string" }, "n_items": { "type": "integer" }, "capacity": { "type": "integer" },
                    "n_dropped": { "type": "integer" }, "n_dropped_last_minute": { "type": "integer" },
                },
            })),
            "sinks": list(json!({
                "type": "object",
                "required": ["name", "n_accepted", "n_delivered", "n_failed", "n_dropped", "n_waiting", "waiting_part",
                             "oldest_secs", "trouble"],
                "properties": {
                    "name": { "type": "string" }, "n_accepted": { "type": "integer" },
                    "n_delivered": { "type": ["integer", "null"], "description": "Null, like what follows, where there is no far end." },
                    "n_failed": { "type": ["integer", "null"] }, "n_dropped": { "type": ["integer", "null"] },
                    "n_waiting": { "type": ["integer", "null"] },
                    "waiting_part": { "type": ["number", "null"], "description": "Of the spool that is used, 0 to 1." },
                    "oldest_secs": { "type": ["number", "null"] },
                    "trouble": { "type": ["string", "null"], "description": "What stands in the way of delivery." },
                },
            })),
        },
    })
}
