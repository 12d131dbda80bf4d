//! `/v1/health`: what is wrong, and what to do about it. Made of the numbers of `/metrics`, of what counters stood at during
//! the last minute, and of what the workers tell; [`checks`] is the table of what is looked at.

mod checks;
mod disks;
mod facts;
mod findings;

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use serde_json::{Value, json};
use tokio::{task::spawn_blocking, time::sleep};

use self::facts::{Facts, Model};
pub(super) use self::{
    disks::Disks,
    facts::{Past, StreamFact},
};
use super::{
    Service, Shared,
    alerts::waiting,
    error::{Refusal, json as answer},
    params::Params,
    told, workers,
};

/// How often counters are written down.
const EVERY: Duration = Duration::from_secs(10);

/// How much something matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Ok,
    Warn,
    Bad,
}

impl Level {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

/// Writes counters down until the service stops.
pub(super) async fn watch(service: Arc<Service>) {
    let mut stopping = service.stopping.clone();
    loop {
        let looking = Arc::clone(&service);
        // Not waited for: it may take for ever.
        drop(spawn_blocking(move || looking.disks.look()));
        let facts = Facts::now(&service, Vec::new());
        service.past.lock().note(&facts, service.clock.monotonic());
        tokio::select! {
            biased;
            () = told(&mut stopping) => return,
            () = sleep(EVERY) => {}
        }
    }
}

/// The route.
pub(super) async fn health(State(service): State<Shared>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    Params::parse(query.as_deref(), &[])?;
    let profiles = (service.control.profiles)();
    let models = waiting(move || facts::models(&profiles)).await?;
    let facts = Facts::now(&service, models);
    let past = service.past.lock().before(service.clock.monotonic());
    let found = checks::all(&facts, &past);
    let level = found.iter().map(|found| found.level).max().unwrap_or(Level::Ok);
    let checks: Vec<Value> = found
        .iter()
        .map(|found| {
            json!({ "id": found.id, "level": found.level.as_str(), "subject": found.subject, "says": found.says,
                    "do": found.advice })
        })
        .collect();
    let model =
        |model: &Model| json!({ "name": model.name, "profiles": model.profiles, "is_there": model.missing.is_none() });
    Ok(answer(&json!({
        "level": level.as_str(),
        "checks": checks,
        "workers": workers::all(&service),
        "models": facts.models.iter().map(model).collect::<Vec<_>>(),
        "queues": facts.queues().map(|queue| queue.to_json(&past)).collect::<Vec<_>>(),
        "sinks": facts.sinks_json(),
    })))
}
