//! The streams in the house: how they come, how they go, and what is taken down behind them. Shared by the house and its
//! stage.
//!
//! Whoever starts or stops a stream never waits: models are loaded on a thread of their own (`load-<stream>`), and a stream
//! that goes is joined, drained and taken down on another (`out-<stream>`). Locks are held for bookkeeping only: never
//! while a model is loaded, a stream is joined or an event published.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use anyhow::Context as _;
use base::{
    media::{StreamInfo, StreamName},
    time::{Clock, Pts},
    trace::Tracer,
};
use inference::rules::Rule;
use ingest::{Mode, StartAt, Stream, StreamOptions};
use parking_lot::{Condvar, Mutex};
use sinks::delivery::Progress;

use super::{
    Running,
    fanout::Outputs,
    models::{Models, ProfileModels, Stay},
};
use crate::{
    config::CheckedStream,
    control::{
        fence::Fence,
        stage::{Earlier, Start},
    },
    evidence::{AlertDesk, EvidenceStore},
    hls::Captions,
    roster::Roster,
    stream::{Analysis, AnalysisOptions, HearingOptions, SightOptions},
};

/// One stream at work.
pub(super) struct Attached {
    pub(super) analysis: Arc<Analysis>,
    pub(super) ingest: Stream,
    info: Arc<StreamInfo>,
    /// Held so that they stay loaded.
    _models: ProfileModels,
}

/// A name that is taken.
pub(super) struct Resident {
    pub(super) epoch: Option<u64>,
    /// What an earlier run left: holds for as long as this one has no account of its own.
    pub(super) earlier: Option<Earlier>,
    pub(super) phase: Phase,
    /// Of a source that can be resumed: up to where it has arrived, as far as is known.
    pub(super) position: Option<Pts>,
    /// Rules that came while its models were being loaded.
    rules: Option<Vec<Arc<Rule>>>,
}

pub(super) enum Phase {
    /// Its models are being loaded.
    Loading,
    /// The same, and it was told to stop meanwhile.
    GivenUp,
    Running(Attached),
    /// It is on its way out.
    Leaving(Arc<Analysis>),
    /// It could not be started after all, for this reason. Stays until it is stopped.
    Failed(String),
}

/// The streams in the house.
pub(super) struct Residents {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) roster: Arc<Roster>,
    pub(super) models: Mutex<Models>,
    pub(super) fence: OnceLock<Arc<Fence>>,
    pub(super) tracer: OnceLock<Arc<dyn Tracer>>,
    pub(super) evidence: OnceLock<EvidenceStore>,
    pub(super) desk: OnceLock<AlertDesk>,
    /// How far streams under a lease have arrived at the far ends.
    pub(super) progress: Progress,
    /// None before the house is connected, and after it has closed.
    pub(super) outputs: Mutex<Option<Arc<Outputs>>>,
    pub(super) streams: Mutex<BTreeMap<StreamName, Resident>>,
    /// Nobody comes in any more; those who leave are still in the closing account.
    closing: AtomicBool,
    departed: Mutex<Vec<Arc<Analysis>>>,
    n_helpers: Mutex<usize>,
    helper_done: Condvar,
}

impl Residents {
    pub(super) fn new(models: Models, roster: Arc<Roster>, clock: Arc<dyn Clock>) -> Self {
        Self {
            roster,
            clock,
            models: Mutex::new(models),
            fence: OnceLock::new(),
            tracer: OnceLock::new(),
            evidence: OnceLock::new(),
            desk: OnceLock::new(),
            progress: Progress::default(),
            outputs: Mutex::default(),
            streams: Mutex::default(),
            closing: AtomicBool::new(false),
            departed: Mutex::default(),
            n_helpers: Mutex::new(0),
            helper_done: Condvar::new(),
        }
    }

    /// Starts a stream; where its models have to be loaded first, that goes on after this has returned.
    pub(super) fn start(self: &Arc<Self>, start: Start) -> anyhow::Result<()> {
        let Start { stream, epoch, earlier } = start;
        let name = stream.name.clone();
        self.take_name(&name, epoch, earlier.clone())?;
        // Somebody may be loading: that can take a while.
        let loaded = self.models.try_lock().and_then(|mut models| {
            models.has(&stream.profile).then(|| models.prepare(&stream.profile, Stay::WhileUsed))
        });
        if let Some(models) = loaded {
            let opened = models.and_then(|models| self.open(stream, models, epoch, earlier, &Running::Live));
            return self.opened(&name, opened);
        }
        let unfinished = Unfinished { residents: Arc::clone(self), name: name.clone() };
        self.help(format!("load-{name}"), move |residents| {
            let _unfinished = unfinished;
            let models = residents.models.lock().prepare(&stream.profile, Stay::WhileUsed);
            let opened = models.and_then(|models| residents.open(stream, models, epoch, earlier, &Running::Live));
            match opened {
                Ok(attached) => residents.moved_in(&name, attached),
                Err(error) => residents.failed(&name, &error),
            }
        });
        Ok(())
    }

    /// What the run before a stream's has come to meanwhile.
    pub(super) fn earlier(&self, name: &StreamName, earlier: Earlier) {
        let mut streams = self.streams.lock();
        match streams.get_mut(name) {
            Some(Resident { phase: Phase::Running(attached), .. }) => attached.analysis.begin_after(earlier),
            Some(resident) => resident.earlier = Some(earlier),
            None => {}
        }
    }

    /// A stream that goes on gets other rules. Nobody waits for a sink here.
    pub(super) fn exchange_rules(self: &Arc<Self>, name: &StreamName, rules: Vec<Arc<Rule>>) {
        let mut streams = self.streams.lock();
        match streams.get_mut(name) {
            Some(Resident { phase: Phase::Running(attached), .. }) => {
                let analysis = Arc::clone(&attached.analysis);
                drop(streams);
                analysis.wish_rules(rules);
                self.help(format!("rules-{name}"), move |_| analysis.take_rules());
            }
            Some(resident) => resident.rules = Some(rules),
            None => {}
        }
    }

    /// Attaches a stream, loading its models if need be.
    pub(super) fn attach(self: &Arc<Self>, stream: CheckedStream, running: &Running) -> anyhow::Result<()> {
        let name = stream.name.clone();
        self.take_name(&name, None, None)?;
        let models = self.models.lock().prepare(&stream.profile, Stay::WhileUsed);
        let opened = models.and_then(|models| self.open(stream, models, None, None, running));
        self.opened(&name, opened).with_context(|| format!("stream `{name}`"))
    }

    fn take_name(&self, name: &StreamName, epoch: Option<u64>, earlier: Option<Earlier>) -> anyhow::Result<()> {
        anyhow::ensure!(!self.closing.load(Relaxed), "the service is stopping");
        let mut streams = self.streams.lock();
        anyhow::ensure!(!streams.contains_key(name), "stream `{name}` is there already, or not yet gone");
        let position = earlier.as_ref().and_then(|earlier| earlier.position);
        let resident = Resident { epoch, earlier, phase: Phase::Loading, position, rules: None };
        streams.insert(name.clone(), resident);
        Ok(())
    }

    /// Connects and starts; takes everything back where that fails.
    fn open(
        &self,
        stream: CheckedStream,
        models: ProfileModels,
        epoch: Option<u64>,
        earlier: Option<Earlier>,
        running: &Running,
    ) -> anyhow::Result<Attached> {
        let CheckedStream { name, url, profile, tags, source, rules } = stream;
        let outputs = self.outputs.lock().clone().context("the house has no outputs, or not any more")?;
        // Without a lease nobody else can have the stream.
        let fence = epoch.and(self.fence.get()).map(Arc::clone);
        let fanout = outputs.fanout(&profile.sinks, fence)?;
        let info = Arc::new(StreamInfo { name, tags, epoch });
        let (mode, session) = match running {
            Running::Live => (Mode::Live, None),
            Running::Replay { session } => (Mode::Batch, Some(session.clone())),
        };
        let captions = match models.pool {
            Some(_) => Captions::Expected { language: profile.speech.language().map(str::to_owned) },
            None => Captions::None,
        };
        let video = models.engine.as_ref().map(|engine| engine.picture_request());
        let audio = models.pool.is_some();
        let view = outputs.attach(&info, captions, video.is_some(), &self.clock);
        let analysis = Analysis::start(AnalysisOptions {
            info: Arc::clone(&info),
            sight: models.engine.clone().map(|engine| SightOptions {
                engine,
                filter: profile.filter(),
                tracker: profile.track.then(|| profile.tracker.clone()),
            }),
            hearing: models.pool.clone().map(|pool| HearingOptions {
                pool,
                speech: profile.speech.clone(),
                captions: profile.captions.clone(),
            }),
            players: outputs.players.as_ref().map(|(store, _)| Arc::clone(store)),
            preview: view.as_ref().and_then(|view| view.preview.clone()),
            recorded: matches!(running, Running::Replay { .. }),
            fanout,
            tracer: self.tracer.get().cloned(),
            clock: Arc::clone(&self.clock),
            session: session.clone(),
            earlier: earlier.clone(),
            rules,
            evidence: self.evidence.get().filter(|store| store.is_enabled()).cloned(),
            desk: self.desk.get().cloned(),
        })
        .inspect_err(|_| outputs.detach(&info))?;
        let ingest = Stream::spawn(
            StreamOptions {
                info: Arc::clone(&info),
                url,
                source,
                sampling: profile.sampling,
                video,
                audio,
                segments: outputs.segments(),
                relay: view.map(|view| view.relay),
                mode,
                start_at: earlier.and_then(|earlier| earlier.position).map(|position| StartAt { position }),
                session,
                clock: Arc::clone(&self.clock),
            },
            Arc::clone(&analysis) as _,
        )
        .inspect_err(|_| outputs.detach(&info))?;
        self.roster.attach(Arc::clone(&analysis));
        Ok(Attached { analysis, ingest, info, _models: models })
    }

    /// It runs, or its name is free again.
    fn opened(self: &Arc<Self>, name: &StreamName, opened: anyhow::Result<Attached>) -> anyhow::Result<()> {
        match opened {
            Ok(attached) => self.moved_in(name, attached),
            Err(error) => {
                self.streams.lock().remove(name);
                return Err(error);
            }
        }
        Ok(())
    }

    /// It runs; or it was told to stop meanwhile, and goes at once.
    fn moved_in(self: &Arc<Self>, name: &StreamName, attached: Attached) {
        let mut streams = self.streams.lock();
        match streams.get_mut(name) {
            Some(resident) if matches!(resident.phase, Phase::Loading) => {
                if let Some(rules) = resident.rules.take() {
                    let analysis = Arc::clone(&attached.analysis);
                    analysis.wish_rules(rules);
                    self.help(format!("rules-{name}"), move |_| analysis.take_rules());
                }
                // It may have gone on while the models were loaded.
                if let Some(earlier) = resident.earlier.take() {
                    attached.analysis.begin_after(earlier);
                }
                resident.phase = Phase::Running(attached);
            }
            _ => {
                drop(streams);
                self.let_go(attached);
                self.streams.lock().remove(name);
            }
        }
    }

    /// What was begun in the background came to nothing.
    fn failed(&self, name: &StreamName, error: &anyhow::Error) {
        let cause = base::redact::scrub_urls(&format!("{error:#}"));
        tracing::error!(stream = name.as_str(), "the stream cannot be run: {cause}");
        if let Some(resident) = self.streams.lock().get_mut(name)
            && matches!(resident.phase, Phase::Loading)
        {
            resident.phase = Phase::Failed(cause);
        }
    }

    /// A stream that is told to go next is detached.
    pub(super) fn detached(&self, name: &StreamName) {
        if let Some(Resident { phase: Phase::Running(attached), .. }) = self.streams.lock().get(name) {
            attached.analysis.detached();
        }
    }

    /// Tells a stream to go; returns at once.
    pub(super) fn stop(self: &Arc<Self>, name: &StreamName) {
        let mut streams = self.streams.lock();
        let Some(resident) = streams.get_mut(name) else { return };
        let attached = match std::mem::replace(&mut resident.phase, Phase::GivenUp) {
            Phase::Running(attached) => attached,
            Phase::Failed(_) => {
                streams.remove(name);
                return;
            }
            Phase::Loading | Phase::GivenUp => return,
            leaving @ Phase::Leaving(_) => {
                resident.phase = leaving;
                return;
            }
        };
        resident.phase = Phase::Leaving(Arc::clone(&attached.analysis));
        drop(streams);
        attached.ingest.stop();
        let gone = Gone { residents: Arc::clone(self), name: name.clone() };
        self.help(format!("out-{name}"), move |residents| {
            let _gone = gone;
            residents.let_go(attached);
        });
    }

    /// Waits for its last media, analyses and publishes what is in hand, and takes down everything that was put up for it.
    fn let_go(&self, attached: Attached) {
        let Attached { analysis, ingest, info, _models } = attached;
        ingest.stop();
        ingest.join();
        analysis.close();
        self.roster.detach(&info.name);
        if let Some(outputs) = &*self.outputs.lock() {
            outputs.detach(&info);
        }
        if self.closing.load(Relaxed) {
            self.departed.lock().push(analysis);
        }
    }

    /// Does something on a thread of its own; on this one where there is none to be had.
    pub(super) fn help(self: &Arc<Self>, thread: String, work: impl FnOnce(&Arc<Self>) + Send + 'static) {
        *self.n_helpers.lock() += 1;
        let helping = Helping(Arc::clone(self));
        let work = Arc::new(Mutex::new(Some((helping, work))));
        let shared = Arc::clone(&work);
        let run = move || {
            let taken = shared.lock().take();
            if let Some((helping, work)) = taken {
                work(&helping.0);
            }
        };
        if let Err(cause) = std::thread::Builder::new().name(thread).spawn(run) {
            tracing::warn!(%cause, "no thread could be started: done without one, which holds others up");
            let taken = work.lock().take();
            if let Some((helping, work)) = taken {
                work(&helping.0);
            }
        }
    }

    /// From now on nobody comes in.
    pub(super) fn wind_up(&self) {
        self.closing.store(true, Relaxed);
    }

    /// Stops every stream and waits until all are gone; gives the accounts of those that left since the closing began.
    pub(super) fn clear(self: &Arc<Self>) -> Vec<Arc<Analysis>> {
        let names: Vec<StreamName> = self.streams.lock().keys().cloned().collect();
        names.iter().for_each(|name| self.stop(name));
        let mut n_helpers = self.n_helpers.lock();
        while *n_helpers > 0 {
            self.helper_done.wait(&mut n_helpers);
        }
        drop(n_helpers);
        let mut departed = std::mem::take(&mut *self.departed.lock());
        departed.sort_by(|a, b| a.info().name.cmp(&b.info().name));
        departed
    }

    /// The streams that run.
    pub(super) fn analyses(&self) -> Vec<Arc<Analysis>> {
        let streams = self.streams.lock();
        let running = streams.values().filter_map(|resident| match &resident.phase {
            Phase::Running(attached) => Some(Arc::clone(&attached.analysis)),
            _ => None,
        });
        running.collect()
    }

    /// Whether every stream has come to its end or has been given up.
    pub(super) fn finished(&self) -> bool {
        self.streams.lock().values().all(|resident| match &resident.phase {
            Phase::Running(attached) => attached.ingest.is_finished(),
            Phase::Failed(_) => true,
            Phase::Loading | Phase::GivenUp | Phase::Leaving(_) => false,
        })
    }

    /// Once the fence is open again, every stream of which something was held back tells so. Nobody waits for a sink here.
    pub(super) fn tell_held_back(self: &Arc<Self>) {
        for analysis in self.analyses() {
            if analysis.was_held_back() {
                self.help(format!("held-{}", analysis.info().name), move |_| analysis.tell_held_back());
            }
        }
    }

    /// Lets go of models that nobody has used for a while.
    pub(super) fn let_go_of_idle_models(self: &Arc<Self>) {
        let Some(idle) = self.models.try_lock().map(|mut models| models.take_idle()) else { return };
        if !idle.is_empty() {
            self.help("unload".into(), move |_| drop(idle));
        }
    }
}

/// A start that goes on in the background, also until a panic.
struct Unfinished {
    residents: Arc<Residents>,
    name: StreamName,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let mut streams = self.residents.streams.lock();
        match streams.get_mut(&self.name).map(|resident| &mut resident.phase) {
            Some(phase @ Phase::Loading) => *phase = Phase::Failed("its start panicked, which is a bug".into()),
            Some(Phase::GivenUp) => drop(streams.remove(&self.name)),
            _ => {}
        }
    }
}

/// The name is free again, also after a panic.
struct Gone {
    residents: Arc<Residents>,
    name: StreamName,
}

impl Drop for Gone {
    fn drop(&mut self) {
        self.residents.streams.lock().remove(&self.name);
    }
}

/// A helper at work, also until a panic.
struct Helping(Arc<Residents>);

impl Drop for Helping {
    fn drop(&mut self) {
        *self.0.n_helpers.lock() -= 1;
        self.0.helper_done.notify_all();
    }
}
