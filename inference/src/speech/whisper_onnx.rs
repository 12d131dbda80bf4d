//! Whisper on ONNX Runtime: greedy, exact, made for being called again and again on a growing stretch of sound. Runs on the
//! speech pool's threads.
//!
//! Two graphs of our own recipe (`models/recipes/whisper_onnx.py`, which documents their tensors). What was promised already
//! is forced, and the last hypothesis is checked in one pass of the decoder: a token costs time only where it is new. A draft
//! never changes the result: a token of it is taken only where the model would have chosen it.
//!
//! Source: Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision" (2022), and the reference
//! implementation (OpenAI, MIT) for the rules of decoding; Leviathan et al. 2023 for checking drafts.

use std::{borrow::Cow, ops::Range, time::Duration};

use super::{
    align::{Attention, PER_SECOND},
    mel::{HOP, MelSpectrogram, RATE},
    repetition,
    tokenizer::Tokenizer,
    transcriber::{Hypothesis, Request, Token, Transcriber},
    words::{self, Piece},
};
use crate::InferenceError;

mod graphs;
#[cfg(test)]
mod tests;

use graphs::{Cache, Graphs, Sound};

/// Most sound of one call, in seconds; the encoder knows no more positions.
const LONGEST_SECS: usize = 30;
/// Silence that is shown as finely as the sound before it, in positions: half a second.
const FINE_SILENCE: usize = PER_SECOND / 2;
/// So many positions of the silence after that are shown as one.
const COARSE: usize = 8;
/// Positions of the decoder: special tokens and text.
const POSITIONS: usize = 448;
/// Nobody says more tokens a second than that...
const TOKENS_PER_SECOND: usize = 10;
/// ...but for so many on a very short stretch.
const TOKENS_AT_LEAST: usize = 16;

/// The three files of a Whisper model, as the recipe `models/recipes/whisper_onnx.py` writes them.
#[derive(Debug, Clone)]
pub struct WhisperFiles {
    /// The model's name, for errors and threads.
    pub name: String,
    /// `encoder.onnx`.
    pub encoder: Cow<'static, [u8]>,
    /// `decoder.onnx`.
    pub decoder: Cow<'static, [u8]>,
    /// `vocabulary.bin`.
    pub vocabulary: Cow<'static, [u8]>,
}

/// How to run it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WhisperOptions {
    /// Threads that one call computes on, its own included; at least 1.
    pub threads: usize,
    /// Least length of sound that is shown in full resolution, 0 to 30 s: silence beyond it is shown coarsely. The model
    /// always sees 30 s, so that none is needed.
    pub floor: Duration,
}

impl Default for WhisperOptions {
    fn default() -> Self {
        Self { threads: 1, floor: Duration::ZERO }
    }
}

/// A Whisper model, ready to transcribe.
pub struct WhisperOnnx {
    name: String,
    floor: Duration,
    tokenizer: Tokenizer,
    languages: Vec<&'static str>,
    mel: MelSpectrogram,
    graphs: Graphs,
    attention: Attention,
}

/// How a sound and the silence that fills it up to 30 s are laid out on the encoder's positions. The silence is coarse: one
/// position stands for [`COARSE`] of them and weighs as much in attention. So the model sees the 30 s that it was trained on,
/// on less than which it loops, at a fraction of their cost.
#[derive(Debug, PartialEq)]
struct View {
    /// Positions from the start that are shown one by one.
    n_fine: usize,
    frames: Vec<i64>,
    places: Vec<i64>,
    /// Logarithm of how many positions each stands for.
    weights: Vec<f32>,
}

impl View {
    /// For so many samples; up to `floor`, silence is shown finely.
    fn of(n_samples: usize, floor: Duration) -> Self {
        const ALL: usize = LONGEST_SECS * PER_SECOND;
        let floor = (floor.as_secs_f32() * PER_SECOND as f32).ceil() as usize;
        let n_fine = (n_samples.div_ceil(RATE / PER_SECOND) + FINE_SILENCE).max(floor).min(ALL);
        let mut places: Vec<i64> = (0..n_fine as i64).collect();
        let mut weights = vec![0.0; n_fine];
        for begin in (n_fine..ALL).step_by(COARSE) {
            let n = COARSE.min(ALL - begin);
            places.push((begin + n / 2) as i64);
            weights.push((n as f32).ln());
        }
        // The frame after the fine ones is silence, and stands for all that follow.
        let frames = places.iter().map(|place| (*place).min(n_fine as i64)).collect();
        Self { n_fine, frames, places, weights }
    }

    /// Samples that the spectrogram must cover: beyond the fine positions, as many as the frame of silence is made from.
    fn n_samples(&self) -> usize {
        (self.n_fine + 2).min(LONGEST_SECS * PER_SECOND) * 2 * HOP
    }
}

/// What came out of the decoder.
#[derive(Debug, Default)]
struct Decoded {
    /// All of the text's tokens, forced ones first.
    tokens: Vec<Token>,
    /// Of each of `tokens`; 1 for forced ones.
    probabilities: Vec<f32>,
    /// Of the end of the text, where the model came to one.
    end: Option<f32>,
    no_speech: f32,
    language: Option<&'static str>,
    cut: bool,
    /// The row of the attention that stands for the choice of the first token.
    first_row: usize,
}

impl WhisperOnnx {
    /// Makes the sessions, checks that the three files belong together, and runs them once on silence.
    ///
    /// # Errors
    /// [`InferenceError::WrongTensor`] names the file, what was expected and what was found; [`InferenceError::Onnx`] for a
    /// graph that ONNX Runtime refuses; those of [`crate::runtime::init`].
    pub fn load(files: WhisperFiles, options: WhisperOptions) -> Result<Self, InferenceError> {
        let tokenizer = Tokenizer::read(&files.name, &files.vocabulary)?;
        let graphs = Graphs::load(&files, options.threads, tokenizer.len())?;
        let mut model = Self {
            mel: MelSpectrogram::new(graphs.n_mels()),
            languages: tokenizer.languages().iter().map(|(code, _)| *code).collect(),
            floor: options.floor,
            attention: Attention::default(),
            name: files.name,
            tokenizer,
            graphs,
        };
        model.transcribe(&Request { context: Some(Duration::ZERO), ..Request::new(&[0.0; RATE / 10]) })?;
        Ok(model)
    }

    fn check(&self, request: &Request<'_>) -> Result<(), InferenceError> {
        if request.samples.len() > LONGEST_SECS * RATE {
            let found = format!("{} at 16 kHz", request.samples.len());
            return Err(refuse("samples", found, "at most 30 s"));
        }
        if let Some(token) = request.forced.iter().find(|t| !self.tokenizer.is_text(**t)) {
            return Err(refuse("forced", format!("token {token}"), "tokens of text only"));
        }
        if request.forced.len() > POSITIONS / 2 {
            return Err(refuse("forced", format!("{} tokens", request.forced.len()), "at most 224 tokens"));
        }
        if let Some(language) = request.language
            && !self.languages.contains(&language)
        {
            return Err(InferenceError::UnknownLanguage {
                name: self.name.clone(),
                language: language.to_owned(),
                known: self.languages.join(", "),
            });
        }
        if request.translate && !self.tokenizer.multilingual {
            return Err(InferenceError::CannotTranslate { name: self.name.clone() });
        }
        Ok(())
    }

    /// The language that the model takes the sound for, and the probability that there is no speech.
    fn listen(&mut self, sound: &Sound, cache: &mut Cache) -> Result<(&'static str, f32), InferenceError> {
        let mut pass = self.graphs.decode(&[self.tokenizer.sot], &[0], cache, sound)?;
        cache.len = 1;
        self.attention.push(pass.attention()?, 1, 0..1);
        let row = pass.row(0)?;
        let probability = |token: Token| row.get(token as usize).copied().unwrap_or(0.0);
        let best = self.tokenizer.languages().iter().max_by(|a, b| probability(a.1).total_cmp(&probability(b.1)));
        Ok((best.map_or("en", |(code, _)| *code), probability(self.tokenizer.no_speech)))
    }

    /// Greedy decoding.
    fn decode(&mut self, request: &Request<'_>, sound: &Sound) -> Result<Decoded, InferenceError> {
        let mut cache = Cache::default();
        let language = request.language.and_then(|l| self.languages.iter().copied().find(|known| *known == l));
        let mut heard = Decoded { language, ..Decoded::default() };
        // What is still to be given to the decoder: special tokens, what is forced, and what is only guessed.
        let mut input = vec![self.tokenizer.sot];
        if self.tokenizer.multilingual {
            if language.is_none() {
                let (language, no_speech) = self.listen(sound, &mut cache)?;
                (heard.language, heard.no_speech) = (Some(language), no_speech);
                input.clear();
            }
            let known = self.tokenizer.languages().iter().find(|(code, _)| Some(*code) == heard.language);
            input.extend(known.map(|(_, token)| *token));
            input.push(if request.translate { self.tokenizer.translate } else { self.tokenizer.transcribe });
        } else {
            heard.language = self.languages.first().copied();
        }
        input.push(self.tokenizer.no_timestamps);
        heard.first_row = cache.len + input.len() - 1;
        let most = (request.samples.len() * TOKENS_PER_SECOND).div_ceil(RATE) + TOKENS_AT_LEAST;
        let most = most.max(request.forced.len() + TOKENS_AT_LEAST).min(POSITIONS - heard.first_row - 1);
        input.extend(request.forced);
        heard.tokens.extend(request.forced);
        heard.probabilities.resize(request.forced.len(), 1.0);
        // What of the draft may still come, and how much of it is worth a try.
        let n_text = request.draft.iter().take_while(|t| self.tokenizer.is_text(**t)).count();
        let (mut ahead, mut worth) = (&request.draft[..n_text], usize::MAX);
        // With nothing to guess, the token before is computed again: see `Graphs::decode`.
        let mut n_again = 0;
        loop {
            let guess = &ahead[..ahead.len().min(worth).min(most - heard.tokens.len())];
            let certain = input.len();
            input.extend(guess);
            let mut rows: Vec<i64> = (certain - 1..input.len()).map(|row| row as i64).collect();
            if cache.len == 0 || n_again > 0 {
                // After the very first token, the model says whether there is speech at all.
                rows.push(0);
            }
            let mut pass = self.graphs.decode(&input, &rows, &mut cache, sound)?;
            if cache.len == 0 {
                heard.no_speech = pass.row(guess.len() + 1)?.get(self.tokenizer.no_speech as usize).map_or(0.0, |p| *p);
            }
            let mut n_taken = 0;
            let done = loop {
                let (token, probability) = choose(&self.tokenizer, pass.row(n_taken)?, heard.tokens.is_empty());
                if token == self.tokenizer.eot {
                    heard.end = Some(probability);
                    break true;
                }
                heard.tokens.push(token);
                heard.probabilities.push(probability);
                if let Some(keep) = repetition::looped(&heard.tokens, request.forced.len()) {
                    heard.tokens.truncate(keep);
                    heard.probabilities.truncate(keep);
                    heard.cut = true;
                    break true;
                }
                if heard.tokens.len() >= most {
                    heard.cut = true;
                    break true;
                }
                if guess.get(n_taken) != Some(&token) {
                    break false;
                }
                n_taken += 1;
            };
            self.attention.push(pass.attention()?, input.len(), n_again..certain + n_taken);
            cache.len += certain + n_taken;
            let Some(&token) = heard.tokens.last().filter(|_| !done) else { return Ok(heard) };
            // The draft may go on after this token, or, if it stands in for another one, after that.
            let rest = &ahead[n_taken..];
            (ahead, worth) = match rest.iter().take(RESYNC).position(|t| *t == token) {
                Some(at) => (&rest[at + 1..], usize::MAX),
                None => (rest.get(1..).unwrap_or_default(), 2),
            };
            let before = input[certain + n_taken - 1];
            input.clear();
            n_again = usize::from(ahead.is_empty());
            if n_again > 0 {
                input.push(before);
                cache.len -= 1;
            }
            input.push(token);
        }
    }

    /// Words with their times.
    fn words(&self, heard: &Decoded, samples: &[f32]) -> Vec<super::transcriber::HeardWord> {
        let begins = self.attention.begins(heard.first_row);
        let time = |i: usize| begins.get(i).or(begins.last()).map_or(0, |p| *p) as u64 * 1000 / PER_SECOND as u64;
        let end = Duration::from_micros(samples.len() as u64 * 1_000_000 / RATE as u64);
        let span = |i: usize| -> Range<Duration> {
            Duration::from_millis(time(i)).min(end)..Duration::from_millis(time(i + 1)).min(end)
        };
        let pieces = heard.tokens.iter().zip(&heard.probabilities).enumerate().map(|(i, (token, probability))| Piece {
            bytes: self.tokenizer.bytes(*token).to_vec(),
            probability: *probability,
            span: span(i),
        });
        words::join(&pieces.collect::<Vec<_>>(), samples)
    }
}

fn refuse(key: &'static str, value: String, expected: &'static str) -> InferenceError {
    InferenceError::BadSetting { key, value, expected }
}

/// How far ahead in a draft the token is looked for that the model chose instead.
const RESYNC: usize = 4;

/// The likeliest token that may come next, and its probability among those. `row` is changed.
fn choose(tokenizer: &Tokenizer, row: &mut [f32], first: bool) -> (Token, f32) {
    let begin: &[Token] = if first { &tokenizer.suppress_begin } else { &[] };
    let (allowed, special) = row.split_at_mut((tokenizer.eot as usize + 1).min(row.len()));
    let mut excluded: f32 = special.iter().sum();
    for token in tokenizer.suppress.iter().chain(begin) {
        if let Some(probability) = allowed.get_mut(*token as usize) {
            excluded += std::mem::take(probability);
        }
    }
    // In lanes, so that the compiler makes it parallel.
    let mut lanes = [0.0_f32; 16];
    let (chunks, rest) = allowed.as_chunks::<16>();
    for chunk in chunks {
        for (most, value) in lanes.iter_mut().zip(chunk) {
            *most = if *value > *most { *value } else { *most };
        }
    }
    let most = lanes.iter().chain(rest).fold(0.0_f32, |a, b| a.max(*b));
    let token = allowed.iter().position(|p| *p >= most).map_or(tokenizer.eot, |at| at as Token);
    (token, (most / (1.0 - excluded).max(most).max(f32::MIN_POSITIVE)).min(1.0))
}

impl Transcriber for WhisperOnnx {
    /// Words of [`Request::forced`] have confidence 1. Tokens that cannot be text end the draft.
    ///
    /// # Errors
    /// [`InferenceError::Onnx`]; [`InferenceError::BadSetting`] for more than 30 s, or for tokens that cannot be forced;
    /// [`InferenceError::UnknownLanguage`] and [`InferenceError::CannotTranslate`].
    fn transcribe(&mut self, request: &Request<'_>) -> Result<Hypothesis, InferenceError> {
        self.check(request)?;
        let n_samples = request.samples.len();
        let floor = request.context.unwrap_or(self.floor);
        let view = View::of(n_samples, floor);
        let mel = self.mel.compute(request.samples, view.n_samples());
        let sound = self.graphs.encode(mel, view)?;
        self.attention.reset(self.graphs.n_aligned(), n_samples.div_ceil(RATE / PER_SECOND));
        let heard = self.decode(request, &sound)?;
        let words = self.words(&heard, request.samples);
        let new = heard.probabilities[request.forced.len()..].iter().chain(&heard.end);
        let (sum, n) = new.fold((0.0, 0), |(sum, n), p| (sum + p.max(f32::MIN_POSITIVE).ln(), n + 1));
        let text = self.tokenizer.text(&heard.tokens);
        Ok(Hypothesis {
            words,
            avg_logprob: sum / n.max(1) as f32,
            no_speech: heard.no_speech,
            compression_ratio: repetition::compression_ratio(text.trim()),
            cut: heard.cut,
            language: heard.language.map(str::to_owned),
            tokens: heard.tokens,
        })
    }

    fn languages(&self) -> &[&'static str] {
        &self.languages
    }

    fn can_be_forced(&self) -> bool {
        true
    }
}
