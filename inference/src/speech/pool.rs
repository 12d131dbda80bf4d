//! The speech pool: a few named threads (`speech-<n>`), each with its own models, shared by all streams.
//!
//! The stream that was served longest ago has the next turn, and a turn asks the model at most once: too much speech
//! delays every stream by the same, which [`Ear::reading`] shows, and never one stream silently. The lock is held for
//! bookkeeping only: never while a model runs, never while a callback runs.

use std::{
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use base::{
    event::ModelId,
    media::{AudioChunk, SessionId, StreamName},
    time::{Clock, Pts},
};
use parking_lot::{Condvar, Mutex};

use super::{
    config::{SpeechConfig, SpeechPoolConfig, samples, time},
    guard::Guard,
    listener::{Heard, Listener, Sound, Tools},
    load::{TranscriberFactory, TranscriberSettings},
    vad::Vad,
};
use crate::{InferenceError, store::Model};

/// Takes what was heard, in order. Called on the pool's threads, by one at a time; it must be quick, for no other stream is
/// served by this thread meanwhile, and must not wait for its own ear.
pub type OnHeard = Box<dyn FnMut(Heard) + Send>;

/// What an ear does with sound that comes faster than it can be transcribed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarPolicy {
    /// The oldest waiting sound is left out and told as a gap: live media.
    Live,
    /// [`Ear::push`] waits: recordings, where nothing may be lost.
    Block,
    /// As `Live`, with more room: a client that sends sound and looks at [`EarReading::waiting`] before it sends more.
    Paced,
}

/// Sound that waits at most in a recording's ear.
const BATCH_PENDING: Duration = Duration::from_secs(10);
/// Sound that waits at most in the ear of a client that paces itself.
const PACED_PENDING: Duration = Duration::from_secs(60);
/// Live sound is looked at when there is so much of it.
const WAKE: Duration = Duration::from_millis(96);

/// The pool.
pub struct SpeechPool {
    shared: Arc<Shared>,
    config: SpeechPoolConfig,
    model: Arc<ModelId>,
    settings: TranscriberSettings,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    table: Mutex<Table>,
    /// Sound waits, or the end has come.
    work: Condvar,
    /// Sound was used up, or the end has come.
    progress: Condvar,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Table {
    ears: BTreeMap<u64, State>,
    n_ever: u64,
    n_turns: u64,
    stopped: bool,
    n_workers: usize,
}

struct State {
    stream: StreamName,
    policy: EarPolicy,
    pending: VecDeque<(Sound, Duration)>,
    n_samples: usize,
    most_samples: usize,
    /// Samples that the listener was given and has not used up.
    n_taken: usize,
    /// Nobody holds the ear any more: the last turn removes it.
    closing: bool,
    /// Away while a worker has it.
    work: Option<(Listener, OnHeard)>,
    /// The listener has more to do with what it was given.
    more: bool,
    /// Somebody waits until all is worked off, however little it is.
    drained: bool,
    served: u64,
    /// When the oldest sound that is not yet worked off arrived.
    behind_since: Option<Duration>,
    n_lost_samples: u64,
}

/// How an ear is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EarReading {
    /// Age of the oldest sound that has not been worked off.
    pub lag: Duration,
    /// Length of the sound that has not been worked off.
    pub waiting: Duration,
    /// Sound that was left out because too much of it came.
    pub lost: Duration,
}

/// One stream's way into the pool. Dropping it gives up what waits, and waits for what is being worked on, so that
/// afterwards its callback is never called again.
pub struct Ear {
    shared: Arc<Shared>,
    id: u64,
    /// [`Ear::finish`] or [`Ear::abandon`] have seen to the end.
    left: bool,
}

impl SpeechPool {
    /// Loads the models once a worker, checks them, and starts the threads. Takes a second or so; blocks.
    ///
    /// # Errors
    /// Those of [`TranscriberFactory::open`] for the transcriber; for the voice activity model
    /// [`InferenceError::WrongTask`], [`InferenceError::WrongChecksum`], [`InferenceError::Onnx`];
    /// [`InferenceError::BadSetting`], [`InferenceError::Thread`].
    pub fn load(
        transcriber: &Model,
        vad: &Model,
        config: &SpeechPoolConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, InferenceError> {
        config.check()?;
        let factory =
            TranscriberFactory::open(transcriber, &super::load::SpeechEngineConfig { threads: config.threads })?;
        let tools = || Ok(Tools { vad: Vad::load(vad)?, transcriber: factory.make()? });
        let tools = (0..config.n_workers()).map(|_| tools()).collect::<Result<Vec<_>, InferenceError>>()?;
        let n_workers = tools.len();
        let pool = Self::start(tools, factory.model_id(), factory.settings().clone(), config, clock)?;
        tracing::info!(model = pool.model.name, version = pool.model.version, n_workers, "speech model loaded");
        Ok(pool)
    }

    /// Starts a thread for each set of models.
    ///
    /// # Errors
    /// [`InferenceError::Thread`].
    pub(crate) fn start(
        tools: Vec<Tools>,
        model: Arc<ModelId>,
        settings: TranscriberSettings,
        config: &SpeechPoolConfig,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, InferenceError> {
        let shared =
            Arc::new(Shared { table: Mutex::default(), work: Condvar::new(), progress: Condvar::new(), clock });
        let pool = Self { shared, config: config.clone(), model, settings, workers: Mutex::default() };
        for (n, tools) in tools.into_iter().enumerate() {
            let (name, shared) = (format!("speech-{n}"), Arc::clone(&pool.shared));
            // It counts from now on: who waits for its work must not take it for dead.
            shared.table.lock().n_workers += 1;
            let thread = thread::Builder::new().name(name.clone()).spawn(move || shared.work(tools));
            match thread {
                Ok(thread) => pool.workers.lock().push(thread),
                Err(source) => {
                    pool.shared.table.lock().n_workers -= 1;
                    return Err(InferenceError::Thread { name, source });
                }
            }
        }
        Ok(pool)
    }

    /// Name and version for the wire.
    pub fn model_id(&self) -> Arc<ModelId> {
        Arc::clone(&self.model)
    }

    /// Holds a stream's wishes against what the model can.
    ///
    /// # Errors
    /// [`InferenceError::BadSetting`]: a language that the model does not know, a translation it cannot make.
    pub fn check(&self, config: &SpeechConfig) -> Result<(), InferenceError> {
        config.check()?;
        let known = &self.settings.languages;
        if let Some(language) = config.language()
            && !known.contains(&language)
        {
            return Err(InferenceError::UnknownLanguage {
                name: self.model.name.clone(),
                language: language.to_owned(),
                known: known.join(", "),
            });
        }
        if config.translate && known.len() == 1 {
            return Err(InferenceError::CannotTranslate { name: self.model.name.clone() });
        }
        Ok(())
    }

    /// Opens a stream's ear.
    ///
    /// # Errors
    /// Those of [`SpeechPool::check`].
    pub fn ear(
        &self,
        stream: StreamName,
        policy: EarPolicy,
        config: &SpeechConfig,
        on_heard: OnHeard,
    ) -> Result<Ear, InferenceError> {
        self.check(config)?;
        let guard = Guard {
            no_speech: self.settings.no_speech,
            logprob: self.settings.logprob,
            compression: self.settings.compression,
        };
        let batch = policy == EarPolicy::Block;
        let most = match policy {
            EarPolicy::Live => Duration::from_secs(self.config.max_pending_secs),
            EarPolicy::Block => BATCH_PENDING,
            EarPolicy::Paced => PACED_PENDING,
        };
        let listener = Listener::new(config.clone(), batch, Arc::clone(&self.model), guard);
        let mut table = self.shared.table.lock();
        table.n_ever += 1;
        let id = table.n_ever;
        let state = State {
            stream,
            policy,
            pending: VecDeque::new(),
            n_samples: 0,
            most_samples: samples(most),
            n_taken: 0,
            closing: false,
            work: Some((listener, on_heard)),
            more: false,
            drained: false,
            served: table.n_turns,
            behind_since: None,
            n_lost_samples: 0,
        };
        table.ears.insert(id, state);
        Ok(Ear { shared: Arc::clone(&self.shared), id, left: false })
    }

    /// Stops the threads after the turn they are at; waiting sound is given up. Drain the ears first to lose none. A second
    /// call does nothing. Never call it from a callback.
    pub fn shutdown(&self) {
        self.shared.table.lock().stopped = true;
        self.shared.work.notify_all();
        self.shared.progress.notify_all();
        for worker in self.workers.lock().drain(..) {
            if worker.join().is_err() {
                tracing::error!(model = self.model.name, "a speech thread had panicked; this is a bug");
            }
        }
    }
}

impl Drop for SpeechPool {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// A worker's end, even by a panic, wakes those who wait for it.
struct WakeAtEnd<'a>(&'a Shared);

impl Drop for WakeAtEnd<'_> {
    fn drop(&mut self) {
        self.0.table.lock().n_workers -= 1;
        self.0.progress.notify_all();
    }
}

impl Shared {
    fn work(&self, mut tools: Tools) {
        let _wake = WakeAtEnd(self);
        while let Some((id, (mut listener, mut on_heard))) = self.next() {
            let turn = catch_unwind(AssertUnwindSafe(|| listener.turn(&mut tools, &mut on_heard)));
            let more = turn.unwrap_or_else(|_| {
                // One stream's sound must not silence the others.
                tracing::error!("a turn of the speech pool panicked; this is a bug");
                listener.start_over(&mut on_heard)
            });
            let n_left = if more { listener.backlog() } else { 0 };
            let mut table = self.table.lock();
            let mut gone = None;
            if let Some(state) = table.ears.get_mut(&id) {
                state.work = Some((listener, on_heard));
                state.more = more;
                state.n_taken = n_left;
                if !more {
                    state.behind_since = state.pending.front().map(|(_, arrived)| *arrived);
                }
                if state.closing && !more && state.pending.is_empty() {
                    gone = table.ears.remove(&id);
                }
            }
            drop(table);
            // Its callback may have something to drop that takes a while.
            drop(gone);
            self.progress.notify_all();
        }
    }

    /// Waits for the ear whose turn it is. None once stopped.
    fn next(&self) -> Option<(u64, (Listener, OnHeard))> {
        let mut table = self.table.lock();
        loop {
            if table.stopped {
                return None;
            }
            let ready =
                table.ears.iter().filter(|(_, s)| s.is_ready()).min_by_key(|(_, s)| s.served).map(|(id, _)| *id);
            if let Some(id) = ready {
                table.n_turns += 1;
                let turn = table.n_turns;
                let state = table.ears.get_mut(&id)?;
                state.served = turn;
                state.drained = false;
                let (mut listener, on_heard) = state.work.take()?;
                // First what it has, so that what waits stays where it can be counted, and left out.
                if !state.more {
                    listener.take(state.pending.drain(..).map(|(sound, _)| sound));
                    state.n_taken = std::mem::take(&mut state.n_samples);
                }
                drop(table);
                self.progress.notify_all();
                return Some((id, (listener, on_heard)));
            }
            self.work.wait(&mut table);
        }
    }

    fn push(&self, id: u64, chunk: AudioChunk) {
        let now = self.clock.monotonic();
        let mut table = self.table.lock();
        loop {
            if table.stopped || table.n_workers == 0 {
                return;
            }
            let Some(state) = table.ears.get_mut(&id) else { return };
            if state.policy != EarPolicy::Block || state.n_samples < state.most_samples {
                break;
            }
            self.progress.wait(&mut table);
        }
        let Some(state) = table.ears.get_mut(&id) else { return };
        state.behind_since.get_or_insert(now);
        state.n_samples += chunk.samples.len();
        state.pending.push_back((Sound::Chunk(chunk), now));
        if state.policy != EarPolicy::Block {
            state.make_room();
        }
        let ready = state.is_ready();
        drop(table);
        if ready {
            self.work.notify_one();
        }
    }

    fn end(&self, id: u64) {
        let now = self.clock.monotonic();
        if let Some(state) = self.table.lock().ears.get_mut(&id) {
            state.pending.push_back((Sound::End, now));
        }
        self.work.notify_one();
    }

    /// Waits until everything this ear was given is worked off.
    fn drain(&self, id: u64) {
        let mut table = self.table.lock();
        while !table.stopped && table.n_workers > 0 {
            let Some(state) = table.ears.get_mut(&id) else { return };
            if state.work.is_some() && state.pending.is_empty() && !state.more {
                return;
            }
            // Less than what wakes a worker by itself still counts.
            state.drained = true;
            self.work.notify_one();
            self.progress.wait(&mut table);
        }
    }
}

impl State {
    fn is_ready(&self) -> bool {
        let enough = self.n_samples >= samples(WAKE) || matches!(self.pending.back(), Some((Sound::End, _)));
        self.work.is_some() && (self.more || self.drained || enough)
    }

    /// Throws the oldest sound away until the rest may wait; what was lost stands in its place.
    fn make_room(&mut self) {
        while self.n_samples + self.n_taken > self.most_samples {
            let Some(at) = self.pending.iter().position(|(s, _)| matches!(s, Sound::Chunk(_))) else { return };
            let Some((Sound::Chunk(chunk), arrived)) = self.pending.remove(at) else { return };
            self.n_samples -= chunk.samples.len();
            self.n_lost_samples += chunk.samples.len() as u64;
            let span = chunk.span();
            match at.checked_sub(1).and_then(|before| self.pending.get_mut(before)) {
                Some((Sound::Lost { session, to, .. }, _)) if *session == chunk.session => *to = span.end,
                _ => self.pending.insert(at, (lost(chunk.session, span.start, span.end), arrived)),
            }
            if self.n_lost_samples == chunk.samples.len() as u64 {
                tracing::error!(
                    stream = self.stream.as_str(),
                    "speech comes faster than it can be transcribed: sound is left out"
                );
            }
        }
    }
}

fn lost(session: SessionId, from: Pts, to: Pts) -> Sound {
    Sound::Lost { session, from, to }
}

impl Ear {
    /// Gives the next sound. Live it never waits; a recording's waits until there is room.
    pub fn push(&self, chunk: AudioChunk) {
        self.shared.push(self.id, chunk);
    }

    /// No more sound comes through this connection: what is open becomes final.
    pub fn end(&self) {
        self.shared.end(self.id);
    }

    /// Waits until all that was given has been worked off and told. Never call it from a callback.
    pub fn drain(&self) {
        self.shared.drain(self.id);
    }

    /// No more sound comes: what was given is worked off and told, then the callback is dropped. Does not wait.
    pub fn finish(mut self) {
        self.left = true;
        if let Some(state) = self.shared.table.lock().ears.get_mut(&self.id) {
            state.closing = true;
        }
        self.end();
    }

    /// Gives up what waits. The callback is dropped as soon as nobody runs it. Does not wait.
    pub fn abandon(mut self) {
        self.left = true;
        let mut table = self.shared.table.lock();
        let gone = match table.ears.get_mut(&self.id) {
            Some(state) if state.work.is_none() => {
                state.closing = true;
                state.pending.clear();
                state.n_samples = 0;
                None
            }
            _ => table.ears.remove(&self.id),
        };
        drop(table);
        drop(gone);
    }

    /// How it is doing.
    pub fn reading(&self) -> EarReading {
        let now = self.shared.clock.monotonic();
        let table = self.shared.table.lock();
        let Some(state) = table.ears.get(&self.id) else { return EarReading::default() };
        EarReading {
            lag: state.behind_since.map_or(Duration::ZERO, |since| now.saturating_sub(since)),
            waiting: time(state.n_samples + state.n_taken),
            lost: time(state.n_lost_samples as usize),
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        let mut table = self.shared.table.lock();
        if let Some(state) = table.ears.get_mut(&self.id) {
            state.pending.clear();
            (state.n_samples, state.more) = (0, false);
        }
        while table.n_workers > 0 && table.ears.get(&self.id).is_some_and(|s| s.work.is_none()) {
            self.shared.progress.wait(&mut table);
        }
        table.ears.remove(&self.id);
    }
}
