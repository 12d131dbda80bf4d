//! The engine's settings: execution providers, threads, batch size. Pure data.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::InferenceError;

/// How a model is run. One per model; all streams share it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EngineConfig {
    /// Execution providers in order of preference, e.g. `["tensorrt", "cuda", "cpu"]`. One that is absent or fails is
    /// left out with a warning that says why; `cpu` always stands at the end, named or not.
    pub providers: Vec<Provider>,
    /// Number of the GPU, from 0, for `cuda` and `tensorrt`.
    pub device_id: u32,
    /// CPU threads for one picture. 1 costs the least CPU for each picture, more give the least time. 0: half of the cores,
    /// at most 4, because the streams' decoders need the others.
    pub threads: usize,
    /// Pictures of different streams in one run. `"auto"`: 8 on a GPU when the model's batch side is free, else 1, because
    /// on a CPU a batch takes as long as its pictures one by one.
    pub max_batch: MaxBatch,
    /// `[width, height]` of the model's input in pixels, for models whose input size is free (`multiple_of` in the
    /// manifest), e.g. `[1280, 736]` to find smaller faces. Absent: the manifest's.
    pub input_size: Option<[u32; 2]>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            providers: vec![Provider::Cpu],
            device_id: 0,
            threads: 0,
            max_batch: MaxBatch::Word(Auto::Auto),
            input_size: None,
        }
    }
}

/// What runs a model's operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// ONNX Runtime's own kernels. Always there.
    Cpu,
    /// NVIDIA GPUs.
    Cuda,
    /// NVIDIA GPUs through TensorRT: slow to start, then faster than `cuda`.
    Tensorrt,
    /// Intel CPUs, GPUs and NPUs.
    Openvino,
    /// Apple's.
    Coreml,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Cpu, Self::Cuda, Self::Tensorrt, Self::Openvino, Self::Coreml];

    /// The word used in configuration and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Tensorrt => "tensorrt",
            Self::Openvino => "openvino",
            Self::Coreml => "coreml",
        }
    }

    /// Whether several pictures in one run take less time than one by one.
    pub(crate) const fn gains_from_batches(self) -> bool {
        matches!(self, Self::Cuda | Self::Tensorrt)
    }
}

/// Pictures in one run: `"auto"` or a number from 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum MaxBatch {
    /// Chosen by provider and model.
    Word(Auto),
    /// At most so many, if the model's batch side is free.
    Pictures(#[schemars(range(min = 1, max = 64))] usize),
}

/// The word `auto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auto {
    /// Chosen for you.
    Auto,
}

impl EngineConfig {
    /// Refuses what is out of range, before anything is loaded.
    ///
    /// # Errors
    /// [`InferenceError::BadSetting`].
    pub fn check(&self) -> Result<(), InferenceError> {
        let bad = |key, value: String, expected| Err(InferenceError::BadSetting { key, value, expected });
        match self.max_batch {
            MaxBatch::Pictures(n) if !(1..=64).contains(&n) => bad("max_batch", n.to_string(), "\"auto\", or 1 to 64"),
            _ if self.threads > 256 => bad("threads", self.threads.to_string(), "0 (all cores) to 256"),
            _ => Ok(()),
        }
    }
}
