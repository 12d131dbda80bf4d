//! Every queue and every thread's beginning and end, declared in one place. Assembles the house, runs nothing itself.
//!
//! | queue | items | when full | counter |
//! |---|---|---|---|
//! | `lane:<stream>` (in the model's engine) | 1 frame | the newest takes its place (live); blocks (replay) | ledger `superseded` |
//! | `endpoint:<model>` (in the model server's endpoint, behind the same lanes) | 5000 encoded frames (`endpoint.queue`), 256 MiB | the oldest of the stream with the most (live); blocks (replay) | ledger `superseded` |
//! | `ear:<stream>` (in the speech pool) | 30 s of sound (`speech.max_pending_secs`); 10 s in a replay | the oldest is left out (live); blocks (replay) | a `gap` event, `speech_overload` |
//! | `feed` | 4096 events | the oldest is dropped: readers are told what they lost | queue `n_dropped` |
//! | `evidence` (in the store of alerts) | 1024 records of alerts, at most 32 of them with a picture | the oldest is dropped: a later record of the same alert replaces it | queue `n_dropped` |
//! | `history` | 4096 transcripts, changes of state, gaps and entries of the audit | the oldest is dropped | queue `n_dropped` |
//! | `clips` (in the history) | 64 transcripts whose clips are to be made | the oldest is dropped: it has no clip | queue `n_dropped` |
//! | `sink:<name>` | events, capacity by sink | by sink: file and Kafka block, console drops its oldest | queue `n_dropped` |
//!
//! Streams come and go while it runs, see `residents`. Draining goes upstream first: streams, then engines and the speech
//! pool, then sinks.

mod closing;
mod fanout;
mod models;
mod reading;
mod residents;
mod stage;

use std::{collections::BTreeMap, sync::Arc, thread::JoinHandle, time::Duration};

use anyhow::Context as _;
use base::{
    media::SessionId,
    queue::{self, QueueReading, WhenFull},
    time::Clock,
    trace::Tracer,
};
use ingest::SegmentOptions;
use sinks::{BuildContext, SinkConfig, SinkHandle, SinkReport, Stamp};

use self::{
    closing::while_sinks_take,
    fanout::Outputs,
    models::{Models, Stay},
    residents::Residents,
};
pub use self::{
    fanout::Fanout,
    models::{ModelSettings, ProfileModels},
    stage::HouseStage,
};
use crate::{
    config::{CheckedStream, ProfileConfig},
    control::fence::Fence,
    evidence::{AlertDesk, EvidenceStore},
    feed::{Entrance, Feed},
    history::History,
    hls::HlsStore,
    roster::{QueueProbe, Roster},
    stream::Analysis,
    views::Views,
};

/// The running house.
pub struct House {
    residents: Arc<Residents>,
    sinks: Vec<(SinkHandle, QueueProbe)>,
    feed: Option<JoinHandle<()>>,
}

/// Events that the feed may be behind.
const FEED_QUEUE: usize = 4096;
/// What the history may be behind.
const HISTORY_QUEUE: usize = 4096;

/// Those who look at what the house does while it does it.
#[derive(Clone)]
pub struct Onlookers {
    /// Readers of captions.
    pub feed: Feed,
    /// Players of the streams themselves, and how their media are cut.
    pub players: Option<(Arc<HlsStore>, SegmentOptions)>,
    /// What is kept to be searched. Closed by whoever opened it, after the last who may add to its audit.
    pub history: Option<History>,
    /// Those who look at the pictures right now.
    pub views: Views,
}

/// How a sink fared.
#[derive(Debug)]
pub struct SinkOutcome {
    /// Its own account.
    pub report: SinkReport,
    /// Events that its queue dropped by its policy.
    pub n_dropped: u64,
    /// Events that came after it had closed, its grace period being over.
    pub n_refused: u64,
}

/// How the house runs: a service over live streams, or a batch over a recording.
#[derive(Clone)]
pub enum Running {
    /// Live: the newest frame wins, sources are reconnected, records are stamped with their time of publication.
    Live,
    /// Replay: nothing is dropped, and the same input gives the same bytes.
    Replay {
        /// The session of the recording.
        session: SessionId,
    },
}

impl House {
    /// A house without outputs: its models can be loaded before any of them is opened.
    pub fn new(models: ModelSettings, clock: Arc<dyn Clock>) -> Self {
        let roster = Arc::new(Roster::new(Arc::clone(&clock)));
        let models = Models::new(models, Arc::clone(&roster), Arc::clone(&clock));
        Self { residents: Arc::new(Residents::new(models, roster, clock)), sinks: Vec::new(), feed: None }
    }

    /// Streams under a lease publish nothing while this is closed. Once, before the first stream is attached.
    pub fn put_up_fence(&self, fence: Arc<Fence>) {
        self.residents.roster.fence(Arc::clone(&fence));
        let _ = self.residents.fence.set(fence);
    }

    /// Evidence of alerts is kept there. Before the first stream is attached.
    pub fn keep_evidence(&self, store: EvidenceStore) {
        let _ = self.residents.evidence.set(store);
    }

    /// Alerts are silenced there. Before the first stream is attached.
    pub fn listen_to_desk(&self, desk: AlertDesk) {
        let _ = self.residents.desk.set(desk);
    }

    /// Spans of frames and deliveries go there. Before [`House::connect`].
    pub fn trace(&mut self, tracer: Arc<dyn Tracer>) {
        let _ = self.residents.tracer.set(tracer);
    }

    /// Builds the sinks and starts them; `onlookers` where there are any. Once, before the first stream is attached.
    ///
    /// # Errors
    /// When a sink cannot be built (unwritable path, unreachable broker where that is fatal), or no thread be started.
    pub fn connect(
        &mut self,
        sinks: &BTreeMap<String, SinkConfig>,
        running: &Running,
        onlookers: Option<Onlookers>,
        grace: Duration,
    ) -> anyhow::Result<()> {
        let stamp = match running {
            Running::Live => Stamp::Published,
            Running::Replay { .. } => Stamp::Omitted,
        };
        let (clock, roster) = (&self.residents.clock, &self.residents.roster);
        let mut outputs = Outputs::default();
        for (name, config) in sinks {
            let tracer = self.residents.tracer.get().cloned();
            let progress = Some(self.residents.progress.clone());
            let context = BuildContext { tracer, progress, ..BuildContext::new(Arc::clone(clock), stamp) };
            let sink = config.build(name, context).with_context(|| format!("sink `{name}`"))?;
            let settings = config.queue();
            let (sender, receiver) = queue::queue(format!("sink:{name}"), settings.capacity, settings.when_full);
            let probe: QueueProbe = Arc::new(receiver.probe());
            roster.queue(Arc::clone(&probe));
            let handle = sinks::spawn(name, sink, receiver, grace, Arc::clone(clock))?;
            roster.sink(handle.probe());
            self.sinks.push((handle, probe));
            outputs.sinks.push((name.clone(), sender));
        }
        if let Some(onlookers) = onlookers {
            let (sender, receiver) = queue::queue("feed", FEED_QUEUE, WhenFull::DropOldest);
            roster.queue(Arc::new(receiver.probe()));
            self.feed = Some(onlookers.feed.start(receiver).context("cannot start thread feed")?);
            outputs.feed = Some(Entrance::new(onlookers.feed, sender));
            outputs.players = onlookers.players;
            if let Some(history) = onlookers.history {
                let (sender, receiver) = queue::queue("history", HISTORY_QUEUE, WhenFull::DropOldest);
                roster.queue(Arc::new(receiver.probe()));
                history.start(sender, receiver, Arc::clone(roster) as _).context("cannot start thread history")?;
                outputs.history = Some(history);
            }
            outputs.views = Some(onlookers.views);
        }
        *self.residents.outputs.lock() = Some(Arc::new(outputs));
        Ok(())
    }

    /// The streams and queues, for those who ask how they are.
    pub fn roster(&self) -> Arc<Roster> {
        Arc::clone(&self.residents.roster)
    }

    /// Loads a profile's models and holds the profile against them, so that nothing starts when one of them does not fit.
    /// They stay as long as the house, so that streams of this profile start at once.
    ///
    /// # Errors
    /// When a model is missing, corrupt, for another task or not what its manifest says; for classes and languages that it
    /// does not know.
    pub fn prepare(&self, profile: &ProfileConfig) -> anyhow::Result<ProfileModels> {
        self.residents.models.lock().prepare(profile, Stay::ForGood)
    }

    /// Attaches one stream for as long as the house stands. Loads its models where nobody has prepared them.
    ///
    /// # Errors
    /// As [`House::prepare`]; when its URL cannot be used at all, a sink of its profile is not there, or its name is taken.
    pub fn attach(&self, stream: CheckedStream, running: &Running) -> anyhow::Result<()> {
        self.residents.attach(stream, running)
    }

    /// For whoever starts and stops streams while the house runs.
    pub fn stage(&self) -> HouseStage {
        HouseStage(Arc::clone(&self.residents))
    }

    /// The streams that run, by name.
    pub fn analyses(&self) -> Vec<Arc<Analysis>> {
        self.residents.analyses()
    }

    /// Whether every stream has come to its end or has been given up.
    pub fn finished(&self) -> bool {
        self.residents.finished()
    }

    /// Everything is loaded and attached.
    pub fn settle_in(&self) {
        self.residents.roster.set_ready(true);
    }

    /// The closing begins: no stream is started any more, and those that are let go of from now on are in the account that
    /// [`House::close`] gives. For those who stop the streams themselves before they close.
    pub fn wind_up(&self) {
        self.residents.roster.set_ready(false);
        self.residents.wind_up();
    }

    /// Does what lets go of the streams, which is over once they are gone. A sink that takes nothing would hold it up for
    /// ever: from when streams `are_stopped` on (while they are handed over they go on as ever), its grace period begins.
    pub fn while_streams_go<T>(&self, are_stopped: impl Fn() -> bool + Sync, work: impl FnOnce() -> T) -> T {
        while_sinks_take(&self.sinks, are_stopped, work)
    }

    /// Stops and drains: streams, engines, sinks. Returns how the sinks fared; the analyses keep their counters.
    pub fn close(self) -> (Vec<Arc<Analysis>>, Vec<SinkOutcome>) {
        self.wind_up();
        let analyses = while_sinks_take(&self.sinks, || true, || self.residents.clear());
        self.residents.models.lock().shutdown();
        if let Some(store) = self.residents.evidence.get() {
            store.clone().close();
        }
        // The last senders: sinks and feed come to their end.
        self.residents.outputs.lock().take();
        if let Some(thread) = self.feed
            && thread.join().is_err()
        {
            tracing::error!("the feed's thread had panicked; this is a bug");
        }
        let outcomes = self
            .sinks
            .into_iter()
            .map(|(handle, queue)| {
                let report = handle.join();
                let QueueReading { n_dropped, n_refused, .. } = queue();
                SinkOutcome { report, n_dropped, n_refused }
            })
            .collect();
        (analyses, outcomes)
    }
}

#[cfg(test)]
mod tests;
