//! The HTTP service: attaching streams, live captions (SSE, WebSocket, WebVTT), transcription of sound sent in, metrics and
//! health.
//!
//! A Tokio runtime of its own on two threads, `http-0` and `http-1`, which do I/O only. Must never hold up the pipeline:
//! everything it reads is a bounded [`Feed`](crate::feed::Feed) or a quick question to [`HouseView`]. Everything a client can make grow
//! is bounded: connections, readers, headers, messages, waiting answers.

mod alerts;
mod attach;
mod audit;
mod body;
mod captions;
mod config;
pub mod control;
mod error;
mod file;
mod guard;
mod health;
mod history;
mod house;
mod limits;
mod live;
pub mod openapi;
mod page;
mod params;
mod patient;
mod place;
mod preview;
mod probe;
mod profiles;
mod proxies;
mod routes;
mod rules;
mod schemas;
mod seats;
mod server;
mod session;
mod sessions;
mod silences;
mod socket;
mod streams;
mod table;
mod tail;
mod transcribe;
mod users;
mod video;
mod vtt;
mod workers;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use axum::Router;
use base::time::Clock;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use self::{audit::AuditLog, control::Control, guard::Guard};
pub use self::{
    config::HttpConfig,
    error::HttpError,
    house::{HouseView, MOST_AHEAD, SpeechInput, SpeechOutput, SpeechPort, SpeechRefused, SpeechRequest},
    openapi::{Route, Verb},
    probe::describe as probed,
    server::{HttpServer, serve},
    users::{Role, UserConfig},
};
use crate::{
    evidence::{AlertDesk, EvidenceStore},
    feed::Feed,
    history::History,
    views::Views,
};

/// What the service serves.
pub struct AppState {
    /// The live feed.
    pub feed: Feed,
    /// What streams show of themselves right now.
    pub views: Views,
    /// The rest of the house.
    pub house: Arc<dyn HouseView>,
    /// Speech recognition for `/v1/transcribe`; none where no model listens.
    pub speech: Option<Arc<dyn SpeechPort>>,
    /// What is kept of alerts; none where nothing is.
    pub alerts: Option<EvidenceStore>,
    /// What was said and how streams fared; none where nothing is kept.
    pub history: Option<History>,
    /// What people said about alerts.
    pub desk: AlertDesk,
    /// Folders that the service writes to, and what each is for: `/v1/health` looks at the room on their disks.
    pub folders: Vec<(String, PathBuf)>,
    /// What is attached, and the way to change it.
    pub control: Control,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Path of a stream's HLS playlist with `{name}` in place of the stream, for our page; none where there is none.
    pub playlist: Option<&'static str>,
    /// More routes, behind the same guard. Must have no fallback of its own.
    pub extra: Router,
    /// What `extra` answers, for the OpenAPI document.
    pub extra_routes: &'static [Route],
}

/// What all requests share.
struct Service {
    feed: Feed,
    views: Views,
    house: Arc<dyn HouseView>,
    speech: Option<Arc<dyn SpeechPort>>,
    alerts: Option<EvidenceStore>,
    history: Option<History>,
    /// Those who look something up in the history.
    lookups: Arc<Semaphore>,
    control: Control,
    probes: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
    playlist: Option<&'static str>,
    extra_routes: &'static [Route],
    openapi: String,
    guard: Guard,
    clients: Arc<Semaphore>,
    /// Requests that may change something and are not answered yet.
    changes: Arc<Semaphore>,
    max_clients: usize,
    keep_alive: Duration,
    stopping: watch::Receiver<bool>,
    /// Answers by route and status.
    requests: Mutex<BTreeMap<(String, u16), u64>>,
    audit: AuditLog,
    desk: AlertDesk,
    /// What counters stood at during the last minute.
    past: Mutex<health::Past>,
    disks: health::Disks,
}

type Shared = Arc<Service>;

/// Waits until the service is told to stop.
async fn told(stopping: &mut watch::Receiver<bool>) {
    // An error says that the server is gone: that is a stop as well.
    let _ = stopping.wait_for(|stop| *stop).await;
}
