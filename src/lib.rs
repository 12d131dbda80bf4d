//! eyewitness, assembled: configuration, topology, supervision and the command line over `ingest`, `inference` and `sinks`.
//!
//! A thin library so that `main` reads in one screen and the integration tests can reach the parts.

pub mod cli;
pub mod config;
pub mod control;
pub mod dictation;
pub mod evidence;
pub mod feed;
pub mod front;
pub mod history;
pub mod hls;
pub mod http;
pub mod latency;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod probing;
pub mod reference;
pub mod roster;
pub mod signals;
pub mod stream;
pub mod summary;
pub mod topology;
pub mod traces;
pub mod views;
