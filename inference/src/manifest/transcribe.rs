//! What a manifest says about a speech model.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Role;

/// How a speech model is run and how far its word is taken.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Transcribe {
    /// What runs it.
    pub engine: SpeechEngine,
    /// The languages it knows: a list of ISO 639-1 codes such as `["en"]`, or `whisper99`. A model that knows more than
    /// English can also translate into it.
    pub languages: Languages,
    /// Least length of sound that it is shown, 1 to 30 seconds; what is missing is filled with silence. On bare short sound
    /// Whisper repeats itself or never ends.
    #[serde(default = "ten")]
    pub floor_secs: f32,
    /// Probability of "no speech", 0 to 1, above which unsure words are dropped (Radford et al. 2022, section 4.5).
    #[serde(default = "no_speech")]
    pub no_speech: f32,
    /// Mean log-probability of the words, 0 or less, below which they are unsure.
    #[serde(default = "logprob")]
    pub logprob: f32,
    /// Length of the text over its compressed length, from 1, above which it repeats itself.
    #[serde(default = "compression")]
    pub compression: f32,
}

fn ten() -> f32 {
    10.0
}

fn no_speech() -> f32 {
    0.6
}

fn logprob() -> f32 {
    -1.0
}

fn compression() -> f32 {
    2.4
}

/// What runs a speech model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpeechEngine {
    /// Whisper on ONNX Runtime: files `encoder`, `decoder` and `vocabulary`, as `models/recipes/whisper_onnx.py` writes them.
    WhisperOnnx,
    /// whisper.cpp: one file of its own format (`ggml`).
    WhisperCpp,
}

impl SpeechEngine {
    /// The word used in manifests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WhisperOnnx => "whisper_onnx",
            Self::WhisperCpp => "whisper_cpp",
        }
    }

    pub(super) const fn roles(self) -> &'static [Role] {
        match self {
            Self::WhisperOnnx => &[Role::Encoder, Role::Decoder, Role::Vocabulary],
            Self::WhisperCpp => &[Role::Weights],
        }
    }
}

/// The languages of a speech model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Languages {
    /// A known list: `whisper99`.
    Known(KnownLanguages),
    /// The codes themselves.
    List(Vec<String>),
}

/// Lists of languages that manifests may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KnownLanguages {
    /// The 99 languages of multilingual Whisper.
    Whisper99,
}

impl Languages {
    /// The codes, in the order of the list.
    pub fn codes(&self) -> Vec<&'static str> {
        match self {
            Self::Known(KnownLanguages::Whisper99) => WHISPER99.to_vec(),
            Self::List(codes) => codes.iter().filter_map(|c| known(c)).collect(),
        }
    }
}

fn known(code: &str) -> Option<&'static str> {
    WHISPER99.iter().copied().find(|k| *k == code)
}

impl Transcribe {
    pub(super) fn check(&self) -> Result<(), String> {
        if let Languages::List(codes) = &self.languages {
            if codes.is_empty() {
                return Err("transcribe.languages: expected at least one".into());
            }
            if let Some(unknown) = codes.iter().find(|c| known(c).is_none()) {
                return Err(format!(
                    "transcribe.languages: {unknown:?} is no language of Whisper; expected ISO 639-1, such as \"en\""
                ));
            }
        }
        let ranges = [
            ("floor_secs", self.floor_secs, 1.0..=30.0, "1 to 30"),
            ("no_speech", self.no_speech, 0.0..=1.0, "0 to 1"),
            ("logprob", self.logprob, f32::MIN..=0.0, "0 or less"),
            ("compression", self.compression, 1.0..=f32::MAX, "1 or more"),
        ];
        match ranges.into_iter().find(|(_, value, range, _)| !range.contains(value)) {
            Some((key, value, _, expected)) => Err(format!("transcribe.{key} = {value}: expected {expected}")),
            None => Ok(()),
        }
    }
}

/// Multilingual Whisper's languages in the order of its tokens (openai/whisper, `tokenizer.py`; MIT): ISO 639-1 where there
/// is such a code, else ISO 639-3 (`haw`); `jw` is Javanese.
#[rustfmt::skip]
pub const WHISPER99: [&str; 99] = [
    "en", "zh", "de", "es", "ru", "ko", "fr", "ja", "pt", "tr", "pl", "ca", "nl", "ar", "sv", "it", "id", "hi", "fi",
    "vi", "he", "uk", "el", "ms", "cs", "ro", "da", "hu", "ta", "no", "th", "ur", "hr", "bg", "lt", "la", "mi", "ml",
    "cy", "sk", "te", "fa", "lv", "bn", "sr", "az", "sl", "kn", "et", "mk", "br", "eu", "is", "hy", "ne", "mn", "bs",
    "kk", "sq", "sw", "gl", "mr", "pa", "si", "km", "sn", "yo", "so", "af", "oc", "ka", "be", "tg", "sd", "gu", "am",
    "yi", "lo", "uz", "fo", "ht", "ps", "tk", "nn", "mt", "sa", "lb", "my", "bo", "tl", "mg", "as", "tt", "haw", "ln",
    "ha", "ba", "jw", "su",
];
