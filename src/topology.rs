//! Every queue and every thread's beginning and end, declared in one place. Assembles the house, runs nothing itself.
//!
//! | queue | items | when full | counter |
//! |---|---|---|---|
//! | `lane:<stream>` (in the model's engine) | 1 frame | the newest takes its place (live); blocks (replay) | ledger `superseded` |
//! | `endpoint:<model>` (in the model server's endpoint, behind the same lanes) | 5000 encoded frames (`endpoint.queue`), 256 MiB | the oldest of the stream with the most (live); blocks (replay) | ledger `superseded` |
//! | `ear:<stream>` (in the speech pool) | 30 s of sound (`speech.max_pending_secs`); 10 s in a replay | the oldest is left out (live); blocks (replay) | a `gap` event, `speech_overload` |
//! | `feed` | 4096 events | the oldest is dropped: readers are told what they lost | queue `n_dropped` |
//! | `sink:<name>` | events, capacity by sink | by sink: file and Kafka block, console drops its oldest | queue `n_dropped` |
//!
//! Draining goes upstream first: streams, then engines and the speech pool, then sinks.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Context as _;
use base::{
    event::Event,
    media::{SessionId, StreamInfo},
    queue::{self, QueueReading, Sender, WhenFull},
    time::Clock,
    trace::Tracer,
};
use inference::{
    engine::{Engine, EngineConfig},
    remote::{EndpointConfig, RemoteEngine},
    speech::{config::SpeechPoolConfig, pool::SpeechPool},
    store::ModelStore,
};
use ingest::{Mode, SegmentOptions, Stream, StreamOptions};
use sinks::{BuildContext, SinkConfig, SinkHandle, SinkReport, Stamp};

use crate::{
    config::{CheckedStream, ProfileConfig},
    feed::Feed,
    hls::{Captions, HlsStore},
    roster::{QueueProbe, Roster},
    stream::{
        Analysis, AnalysisOptions, HearingOptions, SightOptions,
        eyes::Eyes,
        holdup::{Holdups, LONG},
    },
};

/// Gives every event to every sink.
#[derive(Clone, Default)]
pub struct Fanout {
    sinks: Vec<Sender<Arc<Event>>>,
    holdups: Holdups,
    /// Players want cues beside the pictures: told at once, before anybody says that the cues are settled.
    players: Option<Arc<HlsStore>>,
}

impl FromIterator<Sender<Arc<Event>>> for Fanout {
    fn from_iter<I: IntoIterator<Item = Sender<Arc<Event>>>>(sinks: I) -> Self {
        Self { sinks: sinks.into_iter().collect(), ..Self::default() }
    }
}

impl Fanout {
    /// Sends; waits where a sink's queue blocks. What a full queue refuses is counted by the queue.
    pub fn publish(&self, event: Event) {
        let event = self.show(event);
        for sink in &self.sinks {
            sink.send(Arc::clone(&event));
        }
    }

    /// The same, and notes where it had to wait long; gives whether it had to.
    pub fn publish_timed(&self, event: Event, clock: &dyn Clock) -> bool {
        let event = self.show(event);
        let mut was_held_up = false;
        let mut since = clock.monotonic();
        for sink in &self.sinks {
            sink.send(Arc::clone(&event));
            let until = clock.monotonic();
            if until.saturating_sub(since) >= LONG {
                was_held_up = true;
                self.holdups.note(sink.read().name.trim_start_matches("sink:"), since, until);
            }
            since = until;
        }
        was_held_up
    }

    /// Who waited for a sink.
    pub fn holdups(&self) -> &Holdups {
        &self.holdups
    }

    fn show(&self, event: Event) -> Arc<Event> {
        let event = Arc::new(event);
        if let Some(players) = &self.players {
            players.event(&event);
        }
        event
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
    models: ModelSettings,
    engines: HashMap<String, Arc<Engine>>,
    endpoints: Vec<(EndpointConfig, Arc<RemoteEngine>)>,
    pools: HashMap<String, Arc<SpeechPool>>,
    fanout: Fanout,
    tracer: Option<Arc<dyn Tracer>>,
    sinks: Vec<(SinkHandle, QueueProbe)>,
    streams: Vec<Attached>,
    roster: Arc<Roster>,
    feed: Option<(Feed, JoinHandle<()>)>,
    segments: Option<SegmentOptions>,
}

/// Events that the feed may be behind.
const FEED_QUEUE: usize = 4096;

/// Those who look at what the house does while it does it.
#[derive(Clone)]
pub struct Onlookers {
    /// Readers of captions.
    pub feed: Feed,
    /// Players of the streams themselves, and how their media are cut.
    pub players: Option<(Arc<HlsStore>, SegmentOptions)>,
}

/// How models run.
#[derive(Clone, Default)]
pub struct ModelSettings {
    /// Detectors.
    pub engine: EngineConfig,
    /// Transcribers.
    pub speech: SpeechPoolConfig,
}

/// The models of a profile, loaded.
#[derive(Clone)]
pub struct ProfileModels {
    /// Its detector, if it looks.
    pub engine: Option<Eyes>,
    /// Its transcriber, if it listens.
    pub pool: Option<Arc<SpeechPool>>,
}

/// The voice activity model of all profiles.
const VAD: &str = "silero-vad";

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
        Self {
            roster: Arc::new(Roster::new(Arc::clone(&clock))),
            clock,
            store: ModelStore::open_default(),
            models,
            engines: HashMap::new(),
            endpoints: Vec::new(),
            pools: HashMap::new(),
            fanout: Fanout::default(),
            tracer: None,
            sinks: Vec::new(),
            streams: Vec::new(),
            feed: None,
            segments: None,
        }
    }

    /// Spans of frames and deliveries go there. Before [`House::connect`].
    pub fn trace(&mut self, tracer: Arc<dyn Tracer>) {
        self.tracer = Some(tracer);
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
        let mut senders = Vec::new();
        for (name, config) in sinks {
            let context =
                BuildContext { tracer: self.tracer.clone(), ..BuildContext::new(Arc::clone(&self.clock), stamp) };
            let sink = config.build(name, context).with_context(|| format!("sink `{name}`"))?;
            let settings = config.queue();
            let (sender, receiver) = queue::queue(format!("sink:{name}"), settings.capacity, settings.when_full);
            let probe: QueueProbe = Arc::new(receiver.probe());
            self.roster.queue(Arc::clone(&probe));
            let handle = sinks::spawn(name, sink, receiver, grace, Arc::clone(&self.clock))?;
            self.roster.sink(handle.probe());
            self.sinks.push((handle, probe));
            senders.push(sender);
        }
        self.fanout = Fanout::from_iter(senders);
        if let Some(onlookers) = onlookers {
            let (sender, receiver) = queue::queue("feed", FEED_QUEUE, WhenFull::DropOldest);
            self.roster.queue(Arc::new(receiver.probe()));
            self.fanout.sinks.push(sender);
            let thread = onlookers.feed.start(receiver).context("cannot start thread feed")?;
            self.feed = Some((onlookers.feed, thread));
            if let Some((players, cut)) = onlookers.players {
                self.fanout.players = Some(players);
                self.segments = Some(cut);
            }
        }
        Ok(())
    }

    /// The streams and queues, for those who ask how they are.
    pub fn roster(&self) -> Arc<Roster> {
        Arc::clone(&self.roster)
    }

    /// The engine of a detector: loaded once, shared by all streams.
    fn engine(&mut self, model: &str) -> anyhow::Result<Arc<Engine>> {
        if let Some(engine) = self.engines.get(model) {
            return Ok(Arc::clone(engine));
        }
        let resolved = self.store.resolve(model)?;
        let engine = Arc::new(Engine::load(&resolved, &self.models.engine)?);
        self.engines.insert(model.to_owned(), Arc::clone(&engine));
        Ok(engine)
    }

    /// The endpoint of a model server: one for all streams whose profiles say the same of it.
    fn endpoint(&mut self, config: &EndpointConfig) -> anyhow::Result<Arc<RemoteEngine>> {
        if let Some((_, endpoint)) = self.endpoints.iter().find(|(known, _)| known == config) {
            return Ok(Arc::clone(endpoint));
        }
        let endpoint = Arc::new(RemoteEngine::start(config, Arc::clone(&self.clock))?);
        self.roster.queue(Arc::new(endpoint.probe()));
        self.endpoints.push((config.clone(), Arc::clone(&endpoint)));
        Ok(endpoint)
    }

    /// The pool of a transcriber: loaded once, shared by all streams.
    fn pool(&mut self, model: &str) -> anyhow::Result<Arc<SpeechPool>> {
        if let Some(pool) = self.pools.get(model) {
            return Ok(Arc::clone(pool));
        }
        let (transcriber, vad) = (self.store.resolve(model)?, self.store.resolve(VAD)?);
        let pool = Arc::new(SpeechPool::load(&transcriber, &vad, &self.models.speech, Arc::clone(&self.clock))?);
        self.pools.insert(model.to_owned(), Arc::clone(&pool));
        Ok(pool)
    }

    /// Loads a profile's models and holds the profile against them, so that nothing starts when one of them does not fit.
    ///
    /// # Errors
    /// When a model is missing, corrupt, for another task or not what its manifest says; for classes and languages that it
    /// does not know.
    pub fn prepare(&mut self, profile: &ProfileConfig) -> anyhow::Result<ProfileModels> {
        let mut models = ProfileModels { engine: None, pool: None };
        if let Some(model) = profile.detector() {
            models.engine = Some(Eyes::Here(self.engine(model).with_context(|| format!("model `{model}`"))?));
        } else if let Some(config) = &profile.endpoint {
            models.engine = Some(Eyes::There(self.endpoint(config).context("endpoint")?));
        }
        if let Some(engine) = &models.engine {
            engine.thresholds(&profile.filter())?;
        }
        if let Some(model) = profile.transcriber() {
            let pool = self.pool(model).with_context(|| format!("model `{model}`"))?;
            pool.check(&profile.speech)?;
            models.pool = Some(pool);
        }
        Ok(models)
    }

    /// Attaches one stream.
    ///
    /// # Errors
    /// As [`House::prepare`], and when its URL cannot be used at all.
    pub fn attach(&mut self, stream: CheckedStream, running: &Running) -> anyhow::Result<()> {
        let profile = stream.profile;
        let models = self.prepare(&profile).with_context(|| format!("stream `{}`", stream.name))?;
        let info = Arc::new(StreamInfo { name: stream.name, tags: stream.tags, epoch: None });
        let (mode, session) = match running {
            Running::Live => (Mode::Live, None),
            Running::Replay { session } => (Mode::Batch, Some(session.clone())),
        };
        if let Some((feed, _)) = &self.feed {
            feed.attach(Arc::clone(&info));
        }
        if let Some(players) = &self.fanout.players {
            let captions = match models.pool {
                Some(_) => Captions::Expected { language: profile.speech.language().map(str::to_owned) },
                None => Captions::None,
            };
            players.attach(&info.name, captions);
        }
        let video = models.engine.as_ref().map(|engine| engine.picture_request());
        let audio = models.pool.is_some();
        let analysis = Analysis::start(AnalysisOptions {
            info: Arc::clone(&info),
            sight: models.engine.map(|engine| SightOptions {
                engine,
                filter: profile.filter(),
                tracker: profile.track.then(|| profile.tracker.clone()),
            }),
            hearing: models.pool.map(|pool| HearingOptions {
                pool,
                speech: profile.speech.clone(),
                captions: profile.captions.clone(),
            }),
            players: self.fanout.players.clone(),
            recorded: matches!(running, Running::Replay { .. }),
            fanout: self.fanout.clone(),
            tracer: self.tracer.clone(),
            clock: Arc::clone(&self.clock),
            session: session.clone(),
        })?;
        let ingest = Stream::spawn(
            StreamOptions {
                info,
                url: stream.url,
                source: stream.source,
                sampling: profile.sampling,
                video,
                audio,
                segments: self.segments,
                mode,
                session,
                clock: Arc::clone(&self.clock),
            },
            Arc::clone(&analysis) as _,
        )?;
        self.roster.attach(Arc::clone(&analysis));
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

    /// Everything is loaded and attached.
    pub fn settle_in(&self) {
        self.roster.set_ready(true);
    }

    /// Stops and drains: streams, engines, sinks. Returns how the sinks fared; the analyses keep their counters.
    pub fn close(mut self) -> (Vec<Arc<Analysis>>, Vec<SinkOutcome>) {
        self.roster.set_ready(false);
        for stream in &self.streams {
            stream.ingest.stop();
        }
        let streams = std::mem::take(&mut self.streams);
        let stop = || {
            let stop = |stream: Attached| {
                stream.ingest.join();
                stream.analysis.close();
                stream.analysis
            };
            streams.into_iter().map(stop).collect()
        };
        let analyses = while_sinks_take(&self.sinks, stop);
        for engine in self.engines.values() {
            engine.shutdown();
        }
        self.engines.clear();
        for (_, endpoint) in self.endpoints.drain(..) {
            endpoint.shutdown();
        }
        for pool in self.pools.values() {
            pool.shutdown();
        }
        self.pools.clear();
        drop(self.fanout);
        if let Some((_, thread)) = self.feed
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

/// How often a stop looks whether a sink holds it up.
const LOOK_AFTER: Duration = Duration::from_millis(20);

/// Does what still publishes, and then begins the sinks' grace period. A sink whose full queue holds that up begins its
/// own at once: else nothing would ever come to an end.
fn while_sinks_take<T>(sinks: &[(SinkHandle, QueueProbe)], work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    let drain_full = || {
        while !done.load(Relaxed) {
            for (sink, queue) in sinks {
                let QueueReading { n_items, capacity, when_full, .. } = queue();
                if when_full == WhenFull::Block && n_items >= capacity {
                    sink.drain();
                }
            }
            std::thread::sleep(LOOK_AFTER);
        }
    };
    let outcome = std::thread::scope(|scope| {
        let watch = std::thread::Builder::new().name("closing".into()).spawn_scoped(scope, drain_full);
        if watch.is_err() {
            // Nobody would let go of a full one.
            sinks.iter().for_each(|(sink, _)| sink.drain());
        }
        let _ends_the_watch = Done(&done);
        work()
    });
    sinks.iter().for_each(|(sink, _)| sink.drain());
    outcome
}

/// Says so when it is dropped, also by a panic.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[cfg(test)]
mod tests;
