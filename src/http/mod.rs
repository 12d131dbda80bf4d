//! The HTTP service: attaching streams, live captions (SSE, WebSocket, WebVTT), transcription of sound sent in, metrics and
//! health.
//!
//! A Tokio runtime of its own on two threads, `http-0` and `http-1`, which do I/O only. Must never hold up the pipeline:
//! everything it reads is a bounded [`Feed`](crate::feed::Feed) or a quick question to [`HouseView`]. Everything a client can make grow
//! is bounded: connections, readers, headers, messages, waiting answers.

mod alerts;
mod attach;
mod body;
mod captions;
mod config;
pub mod control;
mod error;
mod file;
mod guard;
mod house;
pub mod openapi;
mod page;
mod params;
mod patient;
mod probe;
mod profiles;
mod routes;
mod rules;
mod schemas;
mod server;
mod socket;
mod streams;
mod table;
mod tail;
mod transcribe;
mod vtt;
mod workers;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::Router;
use base::time::Clock;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

pub use self::{
    config::HttpConfig,
    error::HttpError,
    house::{HouseView, MOST_AHEAD, SpeechInput, SpeechOutput, SpeechPort, SpeechRefused, SpeechRequest},
    openapi::{Route, Verb},
    probe::describe as probed,
    server::{HttpServer, serve},
};
use self::{control::Control, error::Refusal, guard::Guard};
use crate::{evidence::EvidenceStore, feed::Feed};

/// What the service serves.
pub struct AppState {
    /// The live feed.
    pub feed: Feed,
    /// The rest of the house.
    pub house: Arc<dyn HouseView>,
    /// Speech recognition for `/v1/transcribe`; none where no model listens.
    pub speech: Option<Arc<dyn SpeechPort>>,
    /// What is kept of alerts; none where nothing is.
    pub alerts: Option<EvidenceStore>,
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
    house: Arc<dyn HouseView>,
    speech: Option<Arc<dyn SpeechPort>>,
    alerts: Option<EvidenceStore>,
    control: Control,
    probes: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
    playlist: Option<&'static str>,
    extra_routes: &'static [Route],
    openapi: String,
    guard: Guard,
    clients: Arc<Semaphore>,
    max_clients: usize,
    keep_alive: Duration,
    stopping: watch::Receiver<bool>,
    /// Answers by route and status.
    requests: Mutex<BTreeMap<(String, u16), u64>>,
}

type Shared = Arc<Service>;

impl Service {
    /// A place for one more reader or speaker, for as long as the permit lives.
    fn client(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        if *self.stopping.borrow() {
            return Err(Refusal::busy("the service is stopping"));
        }
        Arc::clone(&self.clients).try_acquire_owned().map_err(|_| {
            Refusal::busy(format!(
                "all {} places for readers are taken (`http.max_clients`); try again later",
                self.max_clients
            ))
        })
    }
}

/// Waits until the service is told to stop.
async fn told(stopping: &mut watch::Receiver<bool>) {
    // An error says that the server is gone: that is a stop as well.
    let _ = stopping.wait_for(|stop| *stop).await;
}
