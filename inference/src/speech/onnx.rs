//! Sessions of the speech models on ONNX Runtime: CPU, no spinning, named threads.

use ort::{
    logging::LogLevel,
    session::{Session, builder::GraphOptimizationLevel},
};

use crate::{InferenceError, engine::NamedThreads, runtime};

/// A session on the CPU with `threads` threads a run.
///
/// # Errors
/// [`InferenceError::Onnx`] for weights that ONNX Runtime refuses, and those of [`runtime::init`].
pub(crate) fn session(name: &str, weights: &[u8], threads: usize) -> Result<Session, InferenceError> {
    runtime::init()?;
    let failed = |e: String| InferenceError::Onnx { name: name.to_owned(), cause: e };
    let environment = runtime::environment()?;
    let builder = || -> ort::Result<_> {
        Ok(Session::builder(&environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(threads.max(1))?
            .with_intra_op_spinning(false)?
            .with_thread_manager(NamedThreads(format!("speech-{name}")))?
            .with_log_id(name)?
            .with_log_level(LogLevel::Error)?)
    };
    builder().map_err(|e| failed(e.to_string()))?.commit_from_memory(weights).map_err(|e| failed(e.to_string()))
}
