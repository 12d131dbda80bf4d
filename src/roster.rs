//! Who is in the house and how they are doing: what the HTTP service asks. Reads counters only, never waits.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use base::{
    media::{MediaConsumer as _, StreamName},
    queue::QueueReading,
    time::Clock,
};
use parking_lot::RwLock;
use sinks::{SinkProbe, SinkReading};

use crate::{
    control::{fence::Fence, report::Figures},
    http::HouseView,
    metrics::Scrape,
    stream::{Analysis, Outcome},
};

/// Reads a queue, also after its senders are gone.
pub type QueueProbe = Arc<dyn Fn() -> QueueReading + Send + Sync>;

/// The streams, queues and sinks of a house.
pub struct Roster {
    clock: Arc<dyn Clock>,
    streams: RwLock<BTreeMap<String, Arc<Analysis>>>,
    queues: RwLock<Vec<QueueProbe>>,
    sinks: RwLock<Vec<SinkProbe>>,
    fence: OnceLock<Arc<Fence>>,
    ready: AtomicBool,
}

impl Roster {
    /// Nobody is there yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            streams: RwLock::default(),
            queues: RwLock::default(),
            sinks: RwLock::default(),
            fence: OnceLock::new(),
            ready: AtomicBool::default(),
        }
    }

    /// A stream was attached.
    pub fn attach(&self, analysis: Arc<Analysis>) {
        self.streams.write().insert(analysis.info().name.to_string(), analysis);
    }

    /// A stream is gone.
    pub fn detach(&self, name: &StreamName) {
        self.streams.write().remove(name.as_str());
    }

    /// Streams under a lease are fenced.
    pub fn fence(&self, fence: Arc<Fence>) {
        let _ = self.fence.set(fence);
    }

    /// A queue was made.
    pub fn queue(&self, probe: QueueProbe) {
        self.queues.write().push(probe);
    }

    /// A sink was started.
    pub fn sink(&self, probe: SinkProbe) {
        self.sinks.write().push(probe);
    }

    /// Models are loaded and streams started, or no longer so.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Relaxed);
    }
}

impl HouseView for Roster {
    fn ready(&self) -> Result<(), String> {
        if !self.ready.load(Relaxed) {
            return Err("models are being loaded and streams started, or the service is stopping".into());
        }
        let streams = self.streams.read();
        let failed: Vec<&str> = streams
            .iter()
            .filter(|(_, s)| matches!(s.outcome(), Outcome::Failed(_)))
            .map(|(name, _)| name.as_str())
            .collect();
        if !failed.is_empty() && failed.len() == streams.len() {
            return Err(format!("every stream was given up: {}", failed.join(", ")));
        }
        Ok(())
    }

    fn speech_lag(&self, stream: &str) -> Option<Duration> {
        self.streams.read().get(stream)?.hearing().map(|reading| reading.lag)
    }

    fn figures(&self, stream: &str) -> Option<Figures> {
        self.streams.read().get(stream).map(|analysis| analysis.figures())
    }

    fn sinks(&self) -> Vec<SinkReading> {
        self.sinks.read().iter().map(SinkProbe::read).collect()
    }

    fn scrape(&self, out: &mut Scrape) {
        for (name, analysis) in self.streams.read().iter() {
            out.ledger(name, &analysis.ledger().read());
            let counts = analysis.findings.counts();
            let labels = [("stream", name.as_str())];
            out.counter("eyewitness_gaps_total", "Stretches that were not analysed.", &labels, counts.n_gaps as f64);
            out.counter(
                "eyewitness_rules_late_frames_total",
                "Analysed frames that no rule has looked at, because later ones had come before.",
                &labels,
                analysis.n_late() as f64,
            );
            if let Some(reading) = analysis.hearing() {
                out.speech_lag(name, reading.lag);
                for (reason, n) in counts.speech_gaps {
                    out.speech_gaps(name, reason.as_str(), n);
                }
                let lost = reading.lost.as_secs_f64();
                out.counter(
                    "eyewitness_speech_lost_seconds_total",
                    "Sound left out because it came faster than it could be transcribed.",
                    &labels,
                    lost,
                );
                out.counter("eyewitness_words_total", "Words of final transcripts.", &labels, counts.n_words as f64);
            }
        }
        if let Some(fence) = self.fence.get() {
            out.counter(
                "eyewitness_fenced_events_total",
                "Events left out because the worker could not be sure that their streams were still its own.",
                &[],
                fence.n_fenced() as f64,
            );
            out.gauge(
                "eyewitness_fence_closed",
                "1 while events are left out for that reason.",
                &[],
                f64::from(u8::from(!fence.is_open())),
            );
        }
        for queue in self.queues.read().iter() {
            out.queue(&queue());
        }
        for sink in self.sinks.read().iter() {
            out.sink(&sink.read(), self.clock.wall());
        }
    }
}
