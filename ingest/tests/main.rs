//! Ingest against real parts: clips made on the spot with real encoders, played from disk, over HTTP, HLS, UDP, SRT, RTMP
//! and from a real RTSP server on loopback.

mod clips;
mod decode;
mod harness;
mod network;
mod probe;
mod relay;
mod resume;
mod rtmp;
mod rtsp;
mod sampling;
mod segments;
mod trouble;
