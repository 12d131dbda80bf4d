//! Sources and decoding: from a URL to [`base::media::Frame`] and [`base::media::AudioChunk`].
//!
//! The only crate that knows GStreamer. Each stream has one supervising thread (`stream`) and GStreamer's own; their
//! callbacks only map, stamp, enqueue and return. Must never do inference, nor print, nor let GStreamer print.

pub mod camera;
pub mod clips;

mod announcer;
mod audio;
mod capture;
mod clip;
mod codecs;
mod config;
mod doctor;
mod error;
mod log;
mod pacer;
mod probe;
mod registry;
mod relay;
mod resume;
mod sampling;
mod segment;
mod session;
mod sources;
mod stream;
mod timeline;
mod trouble;
mod video;
mod wiring;

pub use config::{
    Mode, Reconnect, RtspTransport, Sampling, SegmentOptions, SourceConfig, StartAt, StreamOptions, TlsVerify,
};
pub use doctor::{Check, doctor};
pub use error::IngestError;
pub use log::init;
pub use probe::{ProbeReport, ProbedAudio, ProbedVideo, Snapshot, probe};
pub use registry::{SourceKindInfo, source_kinds, source_url};
pub use relay::{Piece, Readiness, Relay, Taken, Viewer, Wake};
pub use stream::{Stream, check};
