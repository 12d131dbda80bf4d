//! What can go wrong with models and inference. Every message says which model or file, what was expected and found,
//! and what to do. Never carries a secret: URLs are redacted before they get here.

use std::path::PathBuf;

/// Any failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum InferenceError {
    /// ONNX Runtime's shared library was found nowhere ([`crate::runtime::init`]).
    #[error(
        "ONNX Runtime {version} not found; looked at {looked}; run `make setup`, or set EYEWITNESS_ONNXRUNTIME to libonnxruntime.so"
    )]
    RuntimeMissing {
        /// The version we want.
        version: &'static str,
        /// The places, in order, separated by commas.
        looked: String,
    },
    /// The library is there but cannot be used ([`crate::runtime::init`]): a wrong version, or not ONNX Runtime at all.
    #[error("cannot use ONNX Runtime at {path}: {cause}; version {version} is needed, run `make setup`")]
    RuntimeUnusable {
        /// The library.
        path: String,
        /// From the loader.
        cause: String,
        /// The version we want.
        version: &'static str,
    },
    /// A manifest cannot be read, is no valid TOML, or has a key that is unknown, missing or out of range.
    #[error("manifest {path}: {cause}")]
    BadManifest {
        /// The file.
        path: String,
        /// With line and key where the parser knows them.
        cause: String,
    },
    /// No model of that name, and no manifest at that path.
    #[error("no model `{name}`{suggestion}; known are {known}; a path to a manifest (.toml) may stand here too")]
    UnknownModel {
        /// What was asked for.
        name: String,
        /// `, did you mean ...?` or nothing.
        suggestion: String,
        /// The built-in names, separated by commas.
        known: String,
    },
    /// The model is known, but its weights are not on this machine.
    #[error("weights of model `{name}` are not here: looked at {looked}; run {remedy}")]
    WeightsMissing {
        /// The model.
        name: String,
        /// The places of the missing files, separated by commas.
        looked: String,
        /// The commands that help.
        remedy: String,
    },
    /// `pull` was given no source and the manifest names none.
    #[error(
        "model `{name}` has no address to pull {file} from (origin: {origin}); {recipe}give one: `eyewitness models pull {name} --from FILE|DIR|URL`"
    )]
    NoSource {
        /// The model.
        name: String,
        /// The weights' file names, separated by commas.
        file: String,
        /// ``make it with `...` in a checkout of the source, or `` or nothing.
        recipe: String,
        /// Where the weights come from, in words.
        origin: String,
    },
    /// The weights are not the ones that the manifest speaks of.
    #[error("wrong checksum of model `{name}` in {path}: expected sha256 {expected}, found {found}")]
    WrongChecksum {
        /// The model.
        name: String,
        /// The file or address.
        path: String,
        /// In the manifest.
        expected: String,
        /// Of what is there.
        found: String,
    },
    /// Weights could not be fetched.
    #[error("cannot fetch model `{name}` from {from}: {cause}")]
    Fetch {
        /// The model.
        name: String,
        /// The file or address, redacted.
        from: String,
        /// Why.
        cause: String,
    },
    /// A model of several files was to be pulled from a single one.
    #[error("model `{name}` has several files ({files}): name the folder that holds them, not {from}")]
    SeveralFiles {
        /// The model.
        name: String,
        /// Their names, separated by commas.
        files: String,
        /// What was named.
        from: String,
    },
    /// A file of the model store cannot be read or written.
    #[error("{action} {path}: {source}")]
    Io {
        /// `cannot read`, `cannot write`...
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// From the operating system.
        source: std::io::Error,
    },
    /// The model is for another task.
    #[error("model `{name}` is for `{found}`, not for `{expected}`")]
    WrongTask {
        /// The model.
        name: String,
        /// The task that is asked for.
        expected: &'static str,
        /// The manifest's task.
        found: &'static str,
    },
    /// A tensor of the model is not what its manifest says. Refused at start.
    #[error("model `{name}` does not fit its manifest: {what}: expected {expected}, found {found}")]
    WrongTensor {
        /// The model.
        name: String,
        /// Which tensor or property.
        what: String,
        /// By the manifest.
        expected: String,
        /// In the weights.
        found: String,
    },
    /// A detection filter names a class that the model does not know.
    #[error("model `{name}` knows no class `{class}`{suggestion}; it knows {known}")]
    UnknownClass {
        /// The model.
        name: String,
        /// The word in the filter.
        class: String,
        /// `, did you mean ...?` or nothing.
        suggestion: String,
        /// Its classes.
        known: String,
    },
    /// A setting of the engine, a filter or the tracker is out of range.
    #[error("{key} = {value} is out of range: {expected}")]
    BadSetting {
        /// The key.
        key: &'static str,
        /// What it was set to.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// ONNX Runtime refused the weights or failed on a run.
    #[error("model `{name}`: {cause}")]
    Onnx {
        /// The model.
        name: String,
        /// From ONNX Runtime.
        cause: String,
    },
    /// whisper.cpp refused the weights or failed on a run.
    #[error("model `{name}`: whisper.cpp: {cause}")]
    WhisperCpp {
        /// The model.
        name: String,
        /// From whisper.cpp, or what its file lacks.
        cause: String,
    },
    /// This processor lacks instructions that whisper.cpp is built with.
    #[error(
        "model `{name}` needs a processor with {needed}, this one lacks {lacking}; use a model that runs on ONNX Runtime"
    )]
    Processor {
        /// The model.
        name: String,
        /// All that are needed.
        needed: String,
        /// Those that are not there.
        lacking: String,
    },
    /// A frame does not have the picture that [`crate::engine::Engine::picture_request`] asks for.
    #[error("picture of {found} does not fit the model's input: expected {expected}")]
    WrongPicture {
        /// The size asked for.
        expected: String,
        /// The frame's.
        found: String,
    },
    /// A stream's language is none that the speech model knows.
    #[error("model `{name}` knows no language `{language}`; it knows {known}, or write `auto`")]
    UnknownLanguage {
        /// The model.
        name: String,
        /// What was asked for.
        language: String,
        /// Its languages, separated by commas.
        known: String,
    },
    /// A translation is asked of a model of one language.
    #[error(
        "model `{name}` cannot translate: it knows one language only; take a multilingual one such as `whisper-base`"
    )]
    CannotTranslate {
        /// The model.
        name: String,
    },
    /// A key of an endpoint is wrong, or what it names cannot be read.
    #[error("`{key}`: {problem}")]
    Endpoint {
        /// The key within the endpoint's table, such as `headers.accept`.
        key: String,
        /// What is wrong with it, free of secrets.
        problem: String,
    },
    /// The operating system gave no thread.
    #[error("cannot start thread {name}: {source}")]
    Thread {
        /// The thread's name.
        name: String,
        /// From the operating system.
        source: std::io::Error,
    },
}

/// `, did you mean ...?` for the known word that is nearest to `word`, or nothing when none is near.
pub(crate) fn suggestion<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(&word.to_lowercase(), &k.to_lowercase()), k))
        .filter(|(distance, k)| *distance <= 1 + k.len() / 4)
        .min()
        .map(|(_, k)| format!(", did you mean `{k}`?"))
        .unwrap_or_default()
}
