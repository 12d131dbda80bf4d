//! Voice activity: Silero VAD on ONNX Runtime, one probability for every 32 ms. One session a pool thread, one state a
//! stream; runs on the pool's threads. Source: Silero Team, "Silero VAD" (2021), model card of version 6.

use ort::{session::Session, value::TensorRef};

use super::onnx;
use crate::{
    InferenceError,
    manifest::{Role, Task},
    store::Model,
};

/// Samples of one step: 32 ms at 16 kHz.
pub(crate) const WINDOW: usize = 512;
/// Samples of the step before that the model sees again.
const CONTEXT: usize = 64;
const STATE: usize = 2 * 128;
/// Below this peak there is nothing to be heard in 16-bit sound: the model is not asked.
const SILENT: f32 = 1.5 / 32768.0;

/// The model: `input` f32 [1, 576], `state` f32 [2, 1, 128], `sr` i64 [] -> `output` f32 [1, 1], `stateN` f32 [2, 1, 128].
pub(crate) struct Vad {
    name: String,
    session: Session,
}

/// What the model remembers of one stream.
#[derive(Clone)]
pub(crate) struct VadState {
    state: [f32; STATE],
    /// Context and window, as the model takes them.
    input: [f32; CONTEXT + WINDOW],
}

impl Default for VadState {
    fn default() -> Self {
        Self { state: [0.0; STATE], input: [0.0; CONTEXT + WINDOW] }
    }
}

impl Vad {
    /// Checks the weights and makes the session; one run on silence shows whether its tensors fit.
    ///
    /// # Errors
    /// [`InferenceError::WrongTask`], [`InferenceError::WrongChecksum`], [`InferenceError::Onnx`], and those of the runtime.
    pub(crate) fn load(model: &Model) -> Result<Self, InferenceError> {
        let manifest = &model.manifest;
        if manifest.task != Task::Vad {
            return Err(InferenceError::WrongTask {
                name: manifest.name.clone(),
                expected: Task::Vad.as_str(),
                found: manifest.task.as_str(),
            });
        }
        let weights = model.read(Role::Weights)?;
        let session = onnx::session(&manifest.name, &weights, 1)?;
        let mut vad = Self { name: manifest.name.clone(), session };
        vad.run(&mut VadState::default())?;
        Ok(vad)
    }

    /// Probability 0..=1 that there is speech in this window, the next one of the stream.
    ///
    /// # Errors
    /// [`InferenceError::Onnx`].
    pub(crate) fn probability(&mut self, state: &mut VadState, window: &[f32; WINDOW]) -> Result<f32, InferenceError> {
        state.input.copy_within(WINDOW.., 0);
        state.input[CONTEXT..].copy_from_slice(window);
        if state.input.iter().all(|s| s.abs() < SILENT) {
            state.state = [0.0; STATE];
            return Ok(0.0);
        }
        self.run(state)
    }

    fn run(&mut self, state: &mut VadState) -> Result<f32, InferenceError> {
        let name = self.name.clone();
        let failed = |e: ort::Error| InferenceError::Onnx { name: name.clone(), cause: e.to_string() };
        let rate = [16_000_i64];
        let inputs = ort::inputs! {
            "input" => TensorRef::from_array_view(([1_usize, CONTEXT + WINDOW], &state.input[..])).map_err(failed)?,
            "state" => TensorRef::from_array_view(([2_usize, 1, 128], &state.state[..])).map_err(failed)?,
            "sr" => TensorRef::from_array_view(([0_usize; 0], &rate[..])).map_err(failed)?,
        };
        let outputs = self.session.run(inputs).map_err(failed)?;
        let wrong = |what: &str| InferenceError::WrongTensor {
            name: name.clone(),
            what: what.into(),
            expected: "f32 [1, 1] and f32 [2, 1, 128]".into(),
            found: "something else".into(),
        };
        let next =
            outputs.get("stateN").and_then(|v| v.try_extract_tensor::<f32>().ok()).ok_or_else(|| wrong("stateN"))?;
        let next: &[f32; STATE] = next.1.try_into().map_err(|_| wrong("stateN"))?;
        let output =
            outputs.get("output").and_then(|v| v.try_extract_tensor::<f32>().ok()).ok_or_else(|| wrong("output"))?;
        let probability = *output.1.first().ok_or_else(|| wrong("output"))?;
        state.state = *next;
        Ok(probability)
    }
}
