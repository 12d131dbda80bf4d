//! Speech: voice activity, segments, transcribers, words that firm up, and the pool that all streams share.
//!
//! Runs on the pool's named threads (`speech-<n>`). Must never know where sound comes from or where words go.

mod align;
pub mod config;
mod firming;
mod guard;
mod listener;
pub mod load;
mod mel;
mod onnx;
pub mod pool;
mod repetition;
mod segmenter;
#[cfg(test)]
mod test_media;
#[cfg(test)]
mod tests;
mod tokenizer;
pub mod transcriber;
mod vad;
pub mod whisper_cpp;
pub mod whisper_onnx;
mod words;

pub use listener::Heard;
