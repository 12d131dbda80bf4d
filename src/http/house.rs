//! What the service needs of the rest of the house: seams that the topology fills in.

use std::{sync::Arc, time::Duration};

use crate::{
    control::report::Figures,
    feed::{Kind, Kinds, Reader, Start, Tape},
    metrics::Scrape,
};
use base::{event::Event, time::Clock};
use sinks::SinkReading;

/// What the house tells about itself. Called on the service's threads: must be quick and must not wait.
pub trait HouseView: Send + Sync {
    /// Whether models are loaded and streams started.
    ///
    /// # Errors
    /// What is still missing, in words.
    fn ready(&self) -> Result<(), String>;

    /// Sound of a stream received but not yet transcribed; none where nobody listens.
    fn speech_lag(&self, stream: &str) -> Option<Duration>;

    /// A stream's counters as they are now; none where it is not run here, or nobody counts.
    fn figures(&self, stream: &str) -> Option<Figures> {
        let _ = stream;
        None
    }

    /// How the sinks are.
    fn sinks(&self) -> Vec<SinkReading> {
        Vec::new()
    }

    /// Writes all metrics of the house, see [`Scrape`].
    fn scrape(&self, out: &mut Scrape);
}

/// What a client of `/v1/transcribe` asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpeechRequest {
    /// ISO 639-1; none lets the model tell.
    pub language: Option<String>,
}

/// Why a speaker is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpeechRefused {
    /// The request cannot be met, whenever it is tried: in words, naming what can (languages, model).
    #[error("{0}")]
    Unsupported(String),
    /// Not now: in words.
    #[error("{0}")]
    Busy(String),
}

/// Opens speech recognition for sound that comes from a client.
pub trait SpeechPort: Send + Sync {
    /// Begins one session. Everything heard goes to `output`; dropping the last clone of it ends the answers.
    ///
    /// # Errors
    /// When the session cannot be had.
    fn open(&self, request: &SpeechRequest, output: SpeechOutput) -> Result<Box<dyn SpeechInput>, SpeechRefused>;
}

/// The sound of one session. Dropping it without [`SpeechInput::end`] gives the session up: what is not yet
/// transcribed is left out.
pub trait SpeechInput: Send {
    /// Takes sound: mono `f32`, 16 000 samples a second, values -1.0..=1.0. Must not wait.
    ///
    /// # Errors
    /// Why no more sound is taken, in words (the service stops, the model failed).
    fn push(&mut self, samples: Arc<[f32]>) -> Result<(), String>;

    /// Sound taken but not yet transcribed. While it is more than [`MOST_AHEAD`], nothing is pushed.
    fn lag(&self) -> Duration;

    /// No more sound: what is pending is transcribed, then the session's [`SpeechOutput`] is dropped.
    fn end(self: Box<Self>);
}

/// Sound that may wait in a session: a client that sends faster is not read until the session has caught up. A
/// [`SpeechInput`] must have room for this and one message (8 s) more.
pub const MOST_AHEAD: Duration = Duration::from_secs(10);

/// Answers kept for a client that is slow to read them.
const MOST_ANSWERS: usize = 256;

/// Takes what is heard in one session, from any thread, without ever waiting. A client too slow to read is told how much
/// it lost.
#[derive(Debug, Clone)]
pub struct SpeechOutput(Arc<Output>);

#[derive(Debug)]
struct Output {
    tape: Arc<Tape>,
    clock: Arc<dyn Clock>,
}

impl SpeechOutput {
    /// An output and the reader of these kinds of records.
    pub(super) fn new(kinds: Kinds, clock: Arc<dyn Clock>) -> (Self, Reader) {
        let tape = Tape::new(MOST_ANSWERS);
        let reader = tape.read(kinds, &Start::Now);
        (Self(Arc::new(Output { tape, clock })), reader)
    }

    /// Hands an event to the client; kinds that it did not ask for are left out.
    pub fn publish(&self, event: &Arc<Event>) {
        if let Some(kind) = Kind::of(event) {
            let json = sinks::wire::encode(event, Some(self.0.clock.wall()));
            self.0.tape.put(kind, Arc::clone(event), json);
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.tape.close();
    }
}
