//! Models and what they see: manifests, the model store, detection on ONNX Runtime, and tracking.
//!
//! The only crate that knows ONNX Runtime. Inference runs on its own named OS threads (`infer-<model>`), never on
//! GStreamer's and never on Tokio's. It must never know where frames come from or where events go.

pub mod captions;
pub mod engine;
pub mod error;
pub mod filter;
mod layout;
pub mod manifest;
pub mod remote;
pub mod rules;
pub mod runtime;
pub mod speech;
pub mod store;
mod tensor;
pub mod track;

pub use error::InferenceError;
