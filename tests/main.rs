//! The integration tests: one harness, real parts. Each module drives the `eyewitness` binary, or the assembled house,
//! against a real RTSP server, real media, a real model, a real Apache Kafka.

#![expect(clippy::unwrap_used, reason = "tests")]

mod attach;
#[path = "../sinks/tests/broker/mod.rs"]
mod broker;
mod browser;
mod chaos;
mod commands;
mod cycles;
mod endpoint;
mod examples;
mod harness;
mod helm;
mod hls;
mod http;
mod invariants;
mod kafka;
mod live;
mod network;
mod page;
mod replay;
mod rtsp;
mod rules;
mod speech;
mod spool;
mod traces;
mod workers;
