//! Following a reader for as long as its client stays: what SSE, WebSocket and live WebVTT have in common.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    Service,
    place::{Over, Place},
};
use crate::feed::{Next, Reader, Record};

/// A client that follows a stream.
pub(super) struct Tail {
    stream: String,
    reader: Reader,
    keep_alive: Duration,
    place: Place,
}

/// What to tell the client next.
pub(super) enum Step {
    /// A record.
    Record(Arc<Record>),
    /// The record `lost`: records are missing.
    Lost(String),
    /// Nothing for a while: a sign of life is due.
    Idle,
    /// Nothing will come any more; why, in words.
    End(&'static str),
    /// The client has to leave.
    Over(Over),
}

impl Tail {
    pub(super) fn new(service: &Service, stream: &str, reader: Reader, place: Place) -> Self {
        Self { stream: stream.into(), reader, keep_alive: service.keep_alive, place }
    }

    /// Waits for the next step. Loses nothing when dropped while waiting.
    pub(super) async fn step(&mut self) -> Step {
        let next = tokio::select! {
            biased;
            over = self.place.over() => match self.reader.try_next() {
                // What is there already is still given.
                Some(next @ (Next::Record(_) | Next::Lost(_))) if over == Over::Stopping => Ok(next),
                _ => return Step::Over(over),
            },
            next = timeout(self.keep_alive, self.reader.next()) => next,
        };
        match next {
            Ok(Next::Record(record)) => Step::Record(record),
            Ok(Next::Lost(n_records)) => Step::Lost(lost(&self.stream, n_records)),
            Ok(Next::Closed) => Step::End("no more will come: the stream was detached, or the service is stopping"),
            Err(_) => Step::Idle,
        }
    }
}

/// The record that says that records are missing. Without a name: of no stream, or of all.
pub(super) fn lost(stream: &str, n_records: Option<u64>) -> String {
    let detail = match n_records {
        Some(_) => "this reader was too slow; it goes on with the oldest record that is kept",
        None => "the last event id is not kept any more; all records that are kept follow",
    };
    serde_json::json!({ "type": "lost", "stream": stream, "n_records": n_records, "detail": detail }).to_string()
}
