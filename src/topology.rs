//! Every queue and every thread's beginning and end, declared in one place. Assembles the house, runs nothing itself.
//!
//! | queue | items | when full | counter |
//! |---|---|---|---|
//! | `lane:<stream>` (in the model's engine) | 1 frame | the newest takes its place (live); blocks (replay) | ledger `superseded` |
//! | `sink:<name>` | events, capacity by sink | by sink: file and Kafka block, console drops its oldest | queue `n_dropped` |
//!
//! Draining goes upstream first: streams, then engines, then sinks.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use base::{
    event::Event,
    media::{SessionId, StreamInfo},
    queue::{self, QueueReading, Sender},
    time::Clock,
};
use inference::{
    engine::{Engine, EngineConfig, LanePolicy},
    store::ModelStore,
};
use ingest::{Mode, Stream, StreamOptions};
use sinks::{BuildContext, SinkConfig, SinkHandle, SinkReport, Stamp};

use crate::{
    config::{CheckedStream, ProfileConfig},
    stream::{Analysis, AnalysisOptions},
};

/// Gives every event to every sink.
#[derive(Clone, Default)]
pub struct Fanout(Vec<Sender<Arc<Event>>>);

impl Fanout {
    /// Sends; waits where a sink's queue blocks. What a full queue refuses is counted by the queue.
    pub fn publish(&self, event: Event) {
        let event = Arc::new(event);
        for sink in &self.0 {
            sink.send(Arc::clone(&event));
        }
    }
}

/// One stream at work.
pub struct Attached {
    /// What it does and has counted.
    pub analysis: Arc<Analysis>,
    ingest: Stream,
}

/// The running house.
pub struct House {
    clock: Arc<dyn Clock>,
    store: ModelStore,
    engine_config: EngineConfig,
    engines: HashMap<String, Arc<Engine>>,
    fanout: Fanout,
    sinks: Vec<(SinkHandle, QueueProbe)>,
    streams: Vec<Attached>,
}

/// Reads a sink's queue after its senders are gone.
type QueueProbe = Box<dyn Fn() -> QueueReading + Send>;

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
    /// Builds the sinks and starts them.
    ///
    /// # Errors
    /// When a sink cannot be built (unwritable path, unreachable broker where that is fatal).
    pub fn open(
        sinks: &BTreeMap<String, SinkConfig>,
        engine_config: EngineConfig,
        running: &Running,
        grace: Duration,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let stamp = match running {
            Running::Live => Stamp::Published,
            Running::Replay { .. } => Stamp::Omitted,
        };
        let mut handles = Vec::new();
        let mut senders = Vec::new();
        for (name, config) in sinks {
            let context = BuildContext { clock: Arc::clone(&clock), stamp };
            let sink = config.build(name, context).with_context(|| format!("sink `{name}`"))?;
            let settings = config.queue();
            let (sender, receiver) = queue::queue(format!("sink:{name}"), settings.capacity, settings.when_full);
            let probe = receiver.probe();
            handles
                .push((sinks::spawn(name, sink, receiver, grace, Arc::clone(&clock))?, Box::new(probe) as QueueProbe));
            senders.push(sender);
        }
        Ok(Self {
            clock,
            store: ModelStore::open_default(),
            engine_config,
            engines: HashMap::new(),
            fanout: Fanout(senders),
            sinks: handles,
            streams: Vec::new(),
        })
    }

    /// The engine of a model: loaded once, shared by all streams.
    ///
    /// # Errors
    /// When the model is missing, corrupt or not what its manifest says.
    pub fn engine(&mut self, model: &str) -> anyhow::Result<Arc<Engine>> {
        if let Some(engine) = self.engines.get(model) {
            return Ok(Arc::clone(engine));
        }
        let resolved = self.store.resolve(model).with_context(|| format!("model `{model}`"))?;
        let engine =
            Arc::new(Engine::load(&resolved, &self.engine_config).with_context(|| format!("model `{model}`"))?);
        self.engines.insert(model.to_owned(), Arc::clone(&engine));
        Ok(engine)
    }

    /// Loads a profile's model and holds the profile against it, so that nothing starts when one of them does not fit.
    ///
    /// # Errors
    /// As [`House::engine`], and for classes that the model does not know.
    pub fn prepare(&mut self, profile: &ProfileConfig) -> anyhow::Result<Arc<Engine>> {
        let engine = self.engine(&profile.detect)?;
        engine.thresholds(&profile.filter())?;
        Ok(engine)
    }

    /// Attaches one stream.
    ///
    /// # Errors
    /// As [`House::prepare`], and when its URL cannot be used at all.
    pub fn attach(&mut self, stream: CheckedStream, running: &Running) -> anyhow::Result<()> {
        let profile = stream.profile;
        let engine = self.prepare(&profile).with_context(|| format!("stream `{}`", stream.name))?;
        let info = Arc::new(StreamInfo { name: stream.name, tags: stream.tags });
        let (mode, session, policy) = match running {
            Running::Live => (Mode::Live, None, LanePolicy::Latest),
            Running::Replay { session } => (Mode::Batch, Some(session.clone()), LanePolicy::Block),
        };
        let analysis = Analysis::start(AnalysisOptions {
            info: Arc::clone(&info),
            engine: Arc::clone(&engine),
            filter: profile.filter(),
            policy,
            tracker: profile.track.then(|| profile.tracker.clone()),
            fanout: self.fanout.clone(),
            clock: Arc::clone(&self.clock),
            session: session.clone(),
        })?;
        let ingest = Stream::spawn(
            StreamOptions {
                info,
                url: stream.url,
                source: stream.source,
                sampling: profile.sampling,
                video: Some(engine.picture_request()),
                // The speech branch is built and tested in ingest; nothing here listens yet.
                audio: false,
                mode,
                session,
                clock: Arc::clone(&self.clock),
            },
            Arc::clone(&analysis) as _,
        )?;
        self.streams.push(Attached { analysis, ingest });
        Ok(())
    }

    /// The streams attached.
    pub fn streams(&self) -> &[Attached] {
        &self.streams
    }

    /// Whether every stream has come to its end or has been given up.
    pub fn finished(&self) -> bool {
        self.streams.iter().all(|s| s.ingest.is_finished())
    }

    /// Stops and drains: streams, engines, sinks. Returns how the sinks fared; the analyses keep their counters.
    pub fn close(mut self) -> (Vec<Arc<Analysis>>, Vec<SinkOutcome>) {
        for (sink, _) in &self.sinks {
            sink.drain();
        }
        for stream in &self.streams {
            stream.ingest.stop();
        }
        let mut analyses = Vec::new();
        for stream in self.streams.drain(..) {
            stream.ingest.join();
            stream.analysis.close();
            analyses.push(stream.analysis);
        }
        for engine in self.engines.values() {
            engine.shutdown();
        }
        self.engines.clear();
        drop(self.fanout);
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
