//! The seam between the speech pool and the models that turn sound into words. Plain data and one trait; runs on the
//! pool's threads, never on GStreamer's or Tokio's.

use std::{ops::Range, time::Duration};

use crate::InferenceError;

/// Id of a token in the model's own vocabulary.
pub type Token = u32;

/// One call: the sound of (a part of) a segment, and what is known about it already.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Mono, 16 000 samples a second, -1.0..=1.0; at most 30 s.
    pub samples: &'a [f32],
    /// Least length that the model is shown; what is missing is filled with silence. On bare short audio Whisper loops.
    /// None: the transcriber's own floor.
    pub context: Option<Duration>,
    /// Tokens that the text must begin with: words already promised to readers. A transcriber that cannot be forced
    /// leaves them aside.
    pub forced: &'a [Token],
    /// A guess of what follows `forced`: the last hypothesis. Only ever saves work, never changes the result.
    pub draft: &'a [Token],
    /// Spoken language (ISO 639-1); none to find it out, where the model can.
    pub language: Option<&'a str>,
    /// Write English, whatever is spoken; only for models that can.
    pub translate: bool,
}

impl<'a> Request<'a> {
    /// A call about these samples with nothing known.
    pub fn new(samples: &'a [f32]) -> Self {
        Self { samples, context: None, forced: &[], draft: &[], language: None, translate: false }
    }
}

/// A word as the model heard it.
#[derive(Debug, Clone, PartialEq)]
pub struct HeardWord {
    /// As written, with its punctuation, without blanks around it.
    pub text: String,
    /// Begin and end, from the first sample of the request.
    pub span: Range<Duration>,
    /// Mean probability of its tokens, 0..=1.
    pub confidence: f32,
    /// Its tokens in [`Hypothesis::tokens`].
    pub tokens: Range<usize>,
}

/// What the model made of one request.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Hypothesis {
    /// In the order of speaking; begins with the words of [`Request::forced`] where the transcriber can be forced.
    pub words: Vec<HeardWord>,
    /// The text's tokens (no special ones), `forced` first.
    pub tokens: Vec<Token>,
    /// Mean log-probability of the tokens after `forced`, end of text included; 0 or less.
    pub avg_logprob: f32,
    /// Probability that there is no speech at all, 0..=1.
    pub no_speech: f32,
    /// Length of the text over its compressed length: above 2.4 it repeats itself (Radford et al. 2022, section 4.5).
    pub compression_ratio: f32,
    /// The model did not come to an end of text by itself: it was stopped by the cap on tokens or by the guard against
    /// repetition.
    pub cut: bool,
    /// The language, where the model tells (ISO 639-1).
    pub language: Option<String>,
}

/// A model that turns sound into words. One instance a thread; never shared.
pub trait Transcriber: Send {
    /// Transcribes. Blocks for as long as the model computes.
    ///
    /// # Errors
    /// [`InferenceError::Onnx`] and the like when the model fails; the caller drops this sound and counts it.
    fn transcribe(&mut self, request: &Request<'_>) -> Result<Hypothesis, InferenceError>;

    /// The languages it knows (ISO 639-1): one for an English-only model.
    fn languages(&self) -> &[&'static str];

    /// Whether it can be forced to begin with given tokens.
    fn can_be_forced(&self) -> bool;
}
