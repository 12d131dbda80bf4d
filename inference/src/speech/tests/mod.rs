//! Tests of hearing as a whole: real speech, the real models, real threads. What stands in for the transcriber in some of
//! them, and why, is said there.

mod overload;
mod promises;
mod quiet;
mod stability;
mod trouble;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use base::{
    event::ModelId,
    media::{AudioChunk, SessionId, StreamName},
    time::{Pts, SystemClock},
};
use parking_lot::Mutex;

use super::{
    Heard,
    config::SpeechPoolConfig,
    listener::Tools,
    load::{SpeechEngineConfig, TranscriberFactory, TranscriberSettings},
    pool::{Ear, OnHeard, SpeechPool},
    transcriber::{Hypothesis, Request, Transcriber},
    vad::Vad,
};
use crate::{InferenceError, store::ModelStore};

/// The real voice activity model.
fn vad() -> Vad {
    Vad::load(&ModelStore::at("nowhere").resolve("silero-vad").expect("embedded")).expect("loads")
}

/// The real default transcriber.
fn whisper() -> Box<dyn Transcriber> {
    factory().make().expect("loads")
}

fn factory() -> TranscriberFactory {
    let model = ModelStore::at("nowhere").resolve("whisper-tiny.en").expect("embedded");
    TranscriberFactory::open(&model, &SpeechEngineConfig::default()).expect("opens")
}

/// A pool with a thread for each transcriber, and the real voice activity model.
fn pool(config: &SpeechPoolConfig, transcribers: Vec<Box<dyn Transcriber>>) -> SpeechPool {
    let tools = transcribers.into_iter().map(|transcriber| Tools { vad: vad(), transcriber }).collect();
    SpeechPool::start(tools, model_id(), settings(), config, SystemClock::new()).expect("starts")
}

fn model_id() -> Arc<ModelId> {
    Arc::new(ModelId { name: "whisper-tiny.en".into(), version: "0".repeat(8) })
}

/// Those of the default model.
fn settings() -> TranscriberSettings {
    factory().settings().clone()
}

fn name(text: &str) -> StreamName {
    StreamName::new(text).expect("a name")
}

fn session(number: u32) -> SessionId {
    SessionId::derived([number.to_le_bytes().as_slice()])
}

fn chunk(session: &SessionId, pts: Pts, samples: &[f32]) -> AudioChunk {
    let session = session.clone();
    AudioChunk { session, pts, captured: None, samples: samples.into(), discontinuity: false }
}

/// The time of so many samples.
fn pts(n_samples: usize) -> Pts {
    Pts::from_nanos(n_samples as u64 * 62_500)
}

/// A transcriber that counts how often it is asked.
struct Counted {
    inner: Box<dyn Transcriber>,
    n_asked: Arc<AtomicUsize>,
}

impl Counted {
    fn around(inner: Box<dyn Transcriber>) -> (Box<dyn Transcriber>, Arc<AtomicUsize>) {
        let n_asked = Arc::new(AtomicUsize::new(0));
        (Box::new(Self { inner, n_asked: Arc::clone(&n_asked) }), n_asked)
    }
}

impl Transcriber for Counted {
    fn transcribe(&mut self, request: &Request<'_>) -> Result<Hypothesis, InferenceError> {
        self.n_asked.fetch_add(1, SeqCst);
        self.inner.transcribe(request)
    }

    fn languages(&self) -> &[&'static str] {
        self.inner.languages()
    }

    fn can_be_forced(&self) -> bool {
        self.inner.can_be_forced()
    }
}

/// All that an ear told, in order.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Heard>>>);

impl Told {
    fn callback(&self) -> OnHeard {
        let told = Arc::clone(&self.0);
        Box::new(move |heard| told.lock().push(heard))
    }

    fn all(&self) -> Vec<Heard> {
        self.0.lock().clone()
    }
}

/// The words of all finals, bare.
fn final_words(heard: &[Heard]) -> Vec<String> {
    let finals = heard.iter().filter_map(|h| match h {
        Heard::Words { transcript, .. } if transcript.is_final => Some(&transcript.words),
        _ => None,
    });
    finals.flatten().map(|w| super::firming::bare(&w.text)).collect()
}

/// Numbers that are the same in every run: SplitMix64 (Steele, Lea, Flood 2014).
struct Dice(u64);

impl Dice {
    fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// 0..1.
    fn part(&mut self) -> f32 {
        (self.throw() >> 40) as f32 / (1_u64 << 24) as f32
    }

    fn below(&mut self, n: usize) -> usize {
        (self.throw() % n as u64) as usize
    }

    fn happens(&mut self, probability: f32) -> bool {
        self.part() < probability
    }
}
