//! Records of a stream's life and of what was not analysed. Plain data; see the module above.

use std::borrow::Cow;

use base::{
    event::{Gap, Status},
    media::{MediaDescription, SourceDescription},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Envelope;

/// A change in a stream's life.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatusRecord<'a> {
    /// The common fields.
    #[serde(flatten, borrow)]
    pub envelope: Envelope<'a>,
    /// The state the stream is in now.
    pub state: State,
    /// More, in words.
    #[serde(borrow)]
    pub detail: Option<Cow<'a, str>>,
    /// What the source turned out to be; only when `state` is `playing`, otherwise null.
    pub source: Option<Source>,
}

/// State of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A session began.
    Playing,
    /// The connection was lost; trying again.
    Interrupted,
    /// The source came to its end.
    Ended,
    /// Given up: the cause will not go away by itself.
    Failed,
    /// The stream was told to stop.
    Stopped,
}

/// The tracks of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// The pictures; null when there are none.
    pub video: Option<Video>,
    /// The sound; null when there is none.
    pub audio: Option<Audio>,
}

/// Pictures of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Video {
    /// `h264`, `h265`, `vp8`, `vp9`, `av1`, `mjpeg`...
    pub codec: String,
    /// Width in pixels; null when not known.
    pub width: Option<u32>,
    /// Height in pixels; null when not known.
    pub height: Option<u32>,
}

/// Sound of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Audio {
    /// `aac`, `opus`, `pcmu`, `pcma`, `pcm`...
    pub codec: String,
}

/// A stretch of a stream that was not analysed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GapRecord<'a> {
    /// The common fields.
    #[serde(flatten, borrow)]
    pub envelope: Envelope<'a>,
    /// Stream time of the last media before the gap, in milliseconds of the session that broke.
    pub from_pts_ms: u64,
    /// `from_pts_ms` plus the length of the gap in milliseconds.
    pub to_pts_ms: u64,
    /// Why.
    pub reason: Reason,
    /// Frames known to be lost; null when nobody can know.
    pub n_frames_dropped: Option<u64>,
    /// The cause in words.
    #[serde(borrow)]
    pub detail: Option<Cow<'a, str>>,
}

/// Why a stretch of a stream was not analysed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The connection broke or the server closed it.
    SourceLost,
    /// Connected, but nothing arrived.
    Stalled,
    /// The source refused us, or could not be reached at all.
    Unreachable,
    /// What arrived could not be decoded.
    DecodeError,
    /// Speech came faster than it could be transcribed; pictures were not affected.
    SpeechOverload,
    /// The speech model failed; pictures were not affected.
    SpeechFailed,
    /// A sink took nothing, so that analysis had to wait.
    SinkBlocked,
    /// It was analysed, but a full spool had to let go of the records. Told only to those who read from that sink.
    SpoolFull,
    /// The worker that had the stream was lost. Told by the worker that has it now, of the session that broke.
    WorkerLost,
    /// The worker that had the stream was stopped, and nobody else had it meanwhile. Told by the worker that has it now.
    WorkerStopped,
}

pub(super) fn status<'a>(envelope: Envelope<'a>, s: &'a Status) -> StatusRecord<'a> {
    let source =
        |s: &SourceDescription| Source { video: s.video.as_ref().map(video), audio: s.audio.as_ref().map(audio) };
    StatusRecord {
        envelope,
        state: s.state.into(),
        detail: s.detail.as_deref().map(Cow::from),
        source: s.source.as_ref().map(source),
    }
}

pub(super) fn gap<'a>(envelope: Envelope<'a>, g: &'a Gap) -> GapRecord<'a> {
    GapRecord {
        envelope,
        from_pts_ms: g.from.millis(),
        to_pts_ms: g.to.millis(),
        reason: g.reason.into(),
        n_frames_dropped: g.n_frames_dropped,
        detail: g.detail.as_deref().map(Cow::from),
    }
}

fn video(video: &MediaDescription) -> Video {
    Video { codec: video.codec.clone(), width: video.size.map(|s| s.0), height: video.size.map(|s| s.1) }
}

fn audio(audio: &MediaDescription) -> Audio {
    Audio { codec: audio.codec.clone() }
}
