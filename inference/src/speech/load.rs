//! From a manifest to transcribers: the manifest's `engine` says which implementation runs the model. Loaded once on the
//! thread that builds the pool; one transcriber is then made for each of the pool's threads.

use std::{sync::Arc, time::Duration};

use base::event::ModelId;

use super::{
    transcriber::Transcriber,
    whisper_cpp::{CppOptions, WhisperCppModel},
    whisper_onnx::{WhisperFiles, WhisperOnnx, WhisperOptions},
};
use crate::{
    InferenceError,
    manifest::{Role, SpeechEngine, Transcribe},
    store::Model,
};

/// How a speech model is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpeechEngineConfig {
    /// Threads that one call computes on, its own included; at least 1. More give an answer sooner where cores are idle.
    pub threads: usize,
}

impl Default for SpeechEngineConfig {
    fn default() -> Self {
        Self { threads: 1 }
    }
}

/// What the manifest says about how far the model's word is taken, ready for use.
#[derive(Debug, Clone, PartialEq)]
pub struct TranscriberSettings {
    /// Least length of sound that the model is shown.
    pub floor: Duration,
    /// Probability of "no speech" above which unsure words are dropped, 0..=1.
    pub no_speech: f32,
    /// Mean log-probability below which words are unsure; 0 or less.
    pub logprob: f32,
    /// Length of the text over its compressed length above which it repeats itself; 1 or more.
    pub compression: f32,
    /// The languages that the model knows.
    pub languages: Arc<[&'static str]>,
}

impl TranscriberSettings {
    fn new(manifest: &Transcribe) -> Self {
        Self {
            floor: Duration::from_secs_f32(manifest.floor_secs),
            no_speech: manifest.no_speech,
            logprob: manifest.logprob,
            compression: manifest.compression,
            languages: manifest.languages.codes().into(),
        }
    }

    /// Whether it tells languages apart and can translate into English.
    pub fn multilingual(&self) -> bool {
        self.languages.len() > 1
    }
}

/// A loaded speech model: makes as many transcribers as there are threads.
pub struct TranscriberFactory {
    model_id: Arc<ModelId>,
    settings: TranscriberSettings,
    threads: usize,
    source: Source,
}

/// What every transcriber of one model is made from.
enum Source {
    /// Each makes its own sessions from these bytes.
    Onnx(WhisperFiles),
    /// All share these weights.
    Cpp(Arc<WhisperCppModel>),
}

impl TranscriberFactory {
    /// Reads and checks the weights.
    ///
    /// # Errors
    /// [`InferenceError::WrongTask`] for a model that does not transcribe; [`InferenceError::Io`] and
    /// [`InferenceError::WrongChecksum`] name the file; [`InferenceError::WhisperCpp`] and [`InferenceError::Processor`].
    pub fn open(model: &Model, config: &SpeechEngineConfig) -> Result<Self, InferenceError> {
        let manifest = &model.manifest;
        let transcribe = manifest.transcriber()?;
        let settings = TranscriberSettings::new(transcribe);
        let name = manifest.name.clone();
        let source = match transcribe.engine {
            SpeechEngine::WhisperOnnx => Source::Onnx(WhisperFiles {
                encoder: model.read(Role::Encoder)?,
                decoder: model.read(Role::Decoder)?,
                vocabulary: model.read(Role::Vocabulary)?,
                name,
            }),
            SpeechEngine::WhisperCpp => {
                let languages = Arc::clone(&settings.languages);
                Source::Cpp(Arc::new(WhisperCppModel::load(name, &model.read(Role::Weights)?, languages)?))
            }
        };
        let model_id = Arc::new(ModelId { name: manifest.name.clone(), version: manifest.version() });
        Ok(Self { model_id, settings, threads: config.threads.max(1), source })
    }

    /// A transcriber for one thread.
    ///
    /// # Errors
    /// Those of the engine when it cannot make its state: out of memory, or ONNX Runtime is missing.
    pub fn make(&self) -> Result<Box<dyn Transcriber>, InferenceError> {
        let (threads, floor) = (self.threads, self.settings.floor);
        Ok(match &self.source {
            Source::Onnx(files) => Box::new(WhisperOnnx::load(files.clone(), WhisperOptions { threads, floor })?),
            Source::Cpp(model) => Box::new(model.transcriber(CppOptions { threads, floor })?),
        })
    }

    /// The model's name and version, for events.
    pub fn model_id(&self) -> Arc<ModelId> {
        Arc::clone(&self.model_id)
    }

    /// What the manifest says.
    pub fn settings(&self) -> &TranscriberSettings {
        &self.settings
    }
}
