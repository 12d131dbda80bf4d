//! The shared vocabulary of eyewitness: time, media, events, queues, shutdown, redaction.
//!
//! Runs on nobody's thread and must never do I/O, nor know GStreamer, ONNX Runtime, Kafka or a serialisation format.
//! `ingest`, `inference` and `sinks` meet only through the types in here.

pub mod event;
pub mod expand;
pub mod ledger;
pub mod media;
pub mod queue;
pub mod redact;
pub mod shutdown;
pub mod time;
pub mod trace;
