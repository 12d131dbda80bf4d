//! Whisper on whisper.cpp (Radford et al. 2022; ggml-org/whisper.cpp, MIT), CPU only. Weights are read once and shared;
//! each of the speech pool's threads has a transcriber with a state of its own.
//!
//! Greedy, temperature 0, no timestamp tokens, nothing carried over from call to call, no second try: the caller judges.
//! The encoder sees the sound (or the floor) and a margin, not 30 s. Words get their times by dynamic time warping over
//! the cross-attention of the heads that follow the sound (Radford's `timing.py`).

use std::{
    sync::{Arc, Once},
    time::Duration,
};

use whisper_rs::{
    DtwMode, DtwModelPreset, DtwParameters, FullParams, SamplingStrategy, WhisperContext, WhisperContextParameters,
    WhisperError, WhisperState,
};

use super::{
    repetition,
    transcriber::{Hypothesis, Request, Token, Transcriber},
    words::{self, Piece},
};
use crate::InferenceError;

/// Samples a second.
const RATE: usize = 16_000;
/// Positions of the encoder a second: one for 20 ms.
const POSITIONS_PER_SEC: usize = 50;
/// Positions behind the sound: without silence after the last word the model loops or drops it.
const MARGIN: usize = 16;
/// The longest sound: 30 s.
const LONGEST: usize = 30 * RATE;
/// The shortest that whisper.cpp looks at, 100 ms, and a bit.
const SHORTEST: usize = RATE / 8;
/// Nobody says more tokens a second, in any writing; what goes beyond is a loop.
const TOKENS_PER_SEC: usize = 16;
/// From so many tokens on a vocabulary has more languages than English.
const MULTILINGUAL: i32 = 51_865;
/// Begin of every whisper.cpp file, little-endian.
const MAGIC: i32 = 0x6767_6d6c;

/// The weights and everything that all transcribers of one model share.
pub struct WhisperCppModel {
    name: String,
    context: WhisperContext,
    languages: Arc<[&'static str]>,
    /// For each of the languages what a call is told. Made once: the library never frees a language's name.
    parameters: Vec<FullParams<'static, 'static>>,
}

/// How to run it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CppOptions {
    /// Threads that one call computes on, its own included; at least 1.
    pub threads: usize,
    /// Least length of sound that the model is shown, up to 30 s.
    pub floor: Duration,
}

/// A transcriber of one thread.
pub struct WhisperCpp {
    model: Arc<WhisperCppModel>,
    state: WhisperState,
    options: CppOptions,
}

impl WhisperCppModel {
    /// Reads the weights (a whisper.cpp file); `languages` are the manifest's.
    ///
    /// # Errors
    /// [`InferenceError::Processor`] before anything is computed that this machine cannot; [`InferenceError::WhisperCpp`]
    /// when it is no such file; [`InferenceError::WrongTensor`] when the manifest tells of languages that the weights lack.
    pub fn load(name: String, weights: &[u8], languages: Arc<[&'static str]>) -> Result<Self, InferenceError> {
        check_processor(&name)?;
        // Its own log, which is long, comes as ours: `whisper_rs=info` shows it.
        static LOG: Once = Once::new();
        LOG.call_once(whisper_rs::install_logging_hooks);

        let Some(header) = Header::read(weights) else {
            return Err(InferenceError::WhisperCpp { name, cause: "the weights are no file of whisper.cpp's".into() });
        };
        let multilingual = header.n_vocabulary >= MULTILINGUAL;
        if languages.len() > 1 && !multilingual {
            return Err(InferenceError::WrongTensor {
                name,
                what: "vocabulary".into(),
                expected: format!("{MULTILINGUAL} tokens or more for {} languages (manifest)", languages.len()),
                found: format!("{} tokens, for English alone", header.n_vocabulary),
            });
        }
        let mut with = WhisperContextParameters::new();
        with.use_gpu(false)
            .flash_attn(false)
            .dtw_parameters(DtwParameters { mode: header.alignment(), ..DtwParameters::default() });
        let context = WhisperContext::new_from_buffer_with_params(weights, with)
            .map_err(|e| failure(&name, "cannot load the weights", e))?;
        let parameters = languages.iter().map(|language| parameters(language)).collect();
        Ok(Self { name, context, languages, parameters })
    }

    /// Makes a transcriber that shares these weights.
    ///
    /// # Errors
    /// [`InferenceError::WhisperCpp`] when there is no memory for its state.
    pub fn transcriber(self: &Arc<Self>, options: CppOptions) -> Result<WhisperCpp, InferenceError> {
        let state = self.context.create_state().map_err(|e| failure(&self.name, "cannot make a state", e))?;
        Ok(WhisperCpp { model: Arc::clone(self), state, options })
    }
}

fn failure(name: &str, what: &str, cause: WhisperError) -> InferenceError {
    InferenceError::WhisperCpp { name: name.to_owned(), cause: format!("{what}: {cause}") }
}

/// whisper.cpp is built for a fixed set of instructions (.cargo/config.toml); a processor without them would kill the
/// whole process.
fn check_processor(name: &str) -> Result<(), InferenceError> {
    #[cfg(target_arch = "x86_64")]
    {
        let needed = [
            ("AVX2", is_x86_feature_detected!("avx2")),
            ("FMA", is_x86_feature_detected!("fma")),
            ("F16C", is_x86_feature_detected!("f16c")),
            ("BMI2", is_x86_feature_detected!("bmi2")),
        ];
        let words = |wanted: &dyn Fn(bool) -> bool| {
            let named: Vec<&str> = needed.iter().filter(|(_, there)| wanted(*there)).map(|(word, _)| *word).collect();
            named.join(", ")
        };
        let lacking = words(&|there| !there);
        if !lacking.is_empty() {
            return Err(InferenceError::Processor { name: name.to_owned(), needed: words(&|_| true), lacking });
        }
    }
    let _ = name;
    Ok(())
}

/// What a whisper.cpp file says of itself before its tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    n_vocabulary: i32,
    n_audio_layers: i32,
    n_text_layers: i32,
}

impl Header {
    /// None when it is another kind of file.
    fn read(weights: &[u8]) -> Option<Self> {
        let field = |i: usize| Some(i32::from_le_bytes(weights.get(i * 4..i * 4 + 4)?.try_into().ok()?));
        (field(0)? == MAGIC).then_some(())?;
        Some(Self { n_vocabulary: field(1)?, n_audio_layers: field(5)?, n_text_layers: field(9)? })
    }

    /// The decoder's heads that follow the sound; they are known for OpenAI's models, which their size tells apart.
    fn alignment(self) -> DtwMode<'static> {
        let english = self.n_vocabulary < MULTILINGUAL;
        let model_preset = match (self.n_audio_layers, self.n_text_layers, english) {
            (4, 4, true) => DtwModelPreset::TinyEn,
            (4, 4, false) => DtwModelPreset::Tiny,
            (6, 6, true) => DtwModelPreset::BaseEn,
            (6, 6, false) => DtwModelPreset::Base,
            (12, 12, true) => DtwModelPreset::SmallEn,
            (12, 12, false) => DtwModelPreset::Small,
            (24, 24, true) => DtwModelPreset::MediumEn,
            (24, 24, false) => DtwModelPreset::Medium,
            (32, 32, _) if self.n_vocabulary > MULTILINGUAL => DtwModelPreset::LargeV3,
            (32, 32, _) => DtwModelPreset::LargeV2,
            (32, 4, _) => DtwModelPreset::LargeV3Turbo,
            // Any other model (a distilled one): all heads of the upper half.
            (_, n, _) => return DtwMode::TopMost { n_top: (n / 2).max(1) },
        };
        DtwMode::ModelPreset { model_preset }
    }
}

/// What every call in this language is told.
fn parameters(language: &'static str) -> FullParams<'static, 'static> {
    let mut parameters = FullParams::new(SamplingStrategy::Greedy { best_of: 1 });
    parameters.set_language(Some(language));
    parameters.set_no_context(true);
    parameters.set_single_segment(true);
    parameters.set_no_timestamps(true);
    parameters.set_suppress_blank(true);
    parameters.set_suppress_nst(true);
    parameters.set_temperature(0.0);
    parameters.set_temperature_inc(0.0);
    // Whether to believe it is the caller's matter: nothing is left out here.
    parameters.set_no_speech_thold(1.0);
    parameters.set_print_special(false);
    parameters.set_print_progress(false);
    parameters.set_print_realtime(false);
    parameters.set_print_timestamps(false);
    parameters
}

/// The encoder's positions for so much sound: at least the floor, at most 30 s.
fn audio_ctx(n_samples: usize, floor: Duration) -> usize {
    let floor = (floor.as_secs_f64() * POSITIONS_PER_SEC as f64).ceil() as usize;
    let sound = (n_samples * POSITIONS_PER_SEC).div_ceil(RATE) + MARGIN;
    sound.max(floor).min(30 * POSITIONS_PER_SEC)
}

impl WhisperCpp {
    fn parameters(&self, language: usize, n_samples: usize, floor: Duration) -> FullParams<'static, 'static> {
        let mut parameters = self.model.parameters[language].clone();
        parameters.set_n_threads(i32::try_from(self.options.threads).unwrap_or(i32::MAX));
        parameters.set_audio_ctx(audio_ctx(n_samples, floor) as i32);
        parameters.set_max_tokens((TOKENS_PER_SEC * n_samples).div_ceil(RATE) as i32 + 8);
        parameters
    }

    fn run(&mut self, parameters: FullParams<'_, '_>, samples: &[f32]) -> Result<(), InferenceError> {
        let done = self.state.full(parameters, samples);
        done.map_err(|e| failure(&self.model.name, "cannot transcribe", e))
    }

    /// The language to be written in the model's prompt, as its place in the model's list.
    fn language(&mut self, request: &Request<'_>, samples: &[f32], floor: Duration) -> Result<usize, InferenceError> {
        let known = &self.model.languages;
        match request.language {
            Some(asked) => known.iter().position(|k| *k == asked).ok_or_else(|| InferenceError::UnknownLanguage {
                name: self.model.name.clone(),
                language: asked.to_owned(),
                known: known.join(", "),
            }),
            None if known.len() == 1 => Ok(0),
            None => self.detect(samples, floor),
        }
    }

    /// The most probable of the model's languages. Costs one run of the encoder.
    fn detect(&mut self, samples: &[f32], floor: Duration) -> Result<usize, InferenceError> {
        // whisper.cpp takes the encoder's length from the last whole call. A call about no time computes the spectrum, sets
        // the length, and ends there; otherwise the answer would depend on what this thread did before.
        let mut parameters = self.parameters(0, samples.len(), floor);
        parameters.set_duration_ms(100);
        self.run(parameters, samples)?;
        let (_, probabilities) = self
            .state
            .lang_detect(0, self.options.threads)
            .map_err(|e| failure(&self.model.name, "cannot tell the language", e))?;
        let probability = |place: &usize| {
            let id = whisper_rs::get_lang_id(self.model.languages[*place]).and_then(|id| usize::try_from(id).ok());
            id.and_then(|id| probabilities.get(id)).copied().unwrap_or(0.0)
        };
        let places = 0..self.model.languages.len();
        Ok(places.max_by(|a, b| probability(a).total_cmp(&probability(b))).unwrap_or(0))
    }

    /// Probability of "no speech" where the text would begin, over the encoder's last output.
    fn no_speech(&mut self) -> Result<f32, InferenceError> {
        // Not what the library itself tells: it reads the wrong row (ggml-org/whisper.cpp, pull request 3945), which holds
        // what was left there by the call before.
        let context = &self.model.context;
        let failed = |e| failure(&self.model.name, "cannot tell speech from silence", e);
        self.state.decode(&[context.token_sot()], 0, self.options.threads).map_err(failed)?;
        let logits = self.state.get_logits().map_err(failed)?;
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = logits.iter().map(|l| (l - largest).exp()).sum();
        let wanted = usize::try_from(context.token_nosp()).ok().and_then(|i| logits.get(i)).copied();
        Ok(wanted.map_or(0.0, |l| (l - largest).exp() / sum))
    }

    /// What the last run wrote; its no-speech probability is not in it.
    fn written(&self, samples: &[f32]) -> Hypothesis {
        let Some(segment) = self.state.get_segment(0) else {
            return Hypothesis::default();
        };
        let end_of_text = self.model.context.token_eot();
        let mut tokens: Vec<Token> = Vec::new();
        let mut pieces: Vec<Piece> = Vec::new();
        let (mut sum, mut n_scored, mut cut) = (0.0, 0, true);
        let mut before = Duration::ZERO;
        for token in (0..segment.n_tokens()).filter_map(|i| segment.get_token(i)) {
            let data = token.token_data();
            sum += data.plog;
            n_scored += 1;
            if data.id >= end_of_text {
                cut &= data.id != end_of_text;
                continue;
            }
            // The alignment tells where a token ends, in hundredths of a second; -1 where it tells nothing.
            let end = u64::try_from(data.t_dtw).map_or(before, |t| Duration::from_millis(t * 10)).max(before);
            let bytes = token.to_bytes().unwrap_or_default().to_vec();
            pieces.push(Piece { bytes, probability: data.p, span: before..end });
            tokens.push(Token::try_from(data.id).unwrap_or_default());
            before = end;
        }
        let text: Vec<u8> = pieces.iter().flat_map(|p| p.bytes.iter().copied()).collect();
        Hypothesis {
            words: words::join(&pieces, samples),
            tokens,
            avg_logprob: sum / n_scored.max(1) as f32,
            no_speech: 0.0,
            compression_ratio: repetition::compression_ratio(String::from_utf8_lossy(&text).trim()),
            cut,
            language: None,
        }
    }
}

impl Transcriber for WhisperCpp {
    /// Leaves [`Request::forced`] and [`Request::draft`] aside.
    fn transcribe(&mut self, request: &Request<'_>) -> Result<Hypothesis, InferenceError> {
        if request.translate && self.model.languages.len() == 1 {
            return Err(InferenceError::CannotTranslate { name: self.model.name.clone() });
        }
        let samples = &request.samples[..request.samples.len().min(LONGEST)];
        if samples.len() < SHORTEST {
            return Ok(Hypothesis { no_speech: 1.0, ..Hypothesis::default() });
        }
        let floor = request.context.unwrap_or(self.options.floor);
        let language = self.language(request, samples, floor)?;
        let mut parameters = self.parameters(language, samples.len(), floor);
        parameters.set_translate(request.translate);
        self.run(parameters, samples)?;
        let no_speech = self.no_speech()?;
        let mut heard = Hypothesis { no_speech, ..self.written(samples) };
        heard.language = Some(self.model.languages[language].to_owned());
        Ok(heard)
    }

    fn languages(&self) -> &[&'static str] {
        &self.model.languages
    }

    fn can_be_forced(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
