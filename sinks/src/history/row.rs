//! What is kept of each event. Pure.

use std::collections::BTreeMap;

use base::{
    event::{Body, Event},
    time::Timestamp,
};

use crate::wire;

/// One thing to be kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// What was said.
    Transcript(TranscriptRow),
    /// A change in a stream's life.
    Status(StatusRow),
    /// A stretch that was not analysed.
    Gap(GapRow),
    /// How a stream fared for some seconds.
    Sample(Sample),
    /// Somebody changed something, or was refused.
    Audit(Audit),
}

/// The final words of a segment. All times in milliseconds; wall-clock ones since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TranscriptRow {
    /// Id of the record.
    pub id: String,
    /// Name of the stream.
    pub stream: String,
    /// The session.
    pub session: String,
    /// Stream time at which the speech begins.
    pub start_ms: i64,
    /// Stream time at which it ends.
    pub end_ms: i64,
    /// Wall clock of its begin by the source; none where the recording carries no date.
    pub captured_ms: Option<i64>,
    /// Wall clock when it was told.
    pub told_ms: i64,
    /// The words.
    pub text: String,
    /// The record as on the wire.
    pub record: String,
}

impl TranscriptRow {
    /// The moment by which it is found: when it was said by the source's clock, or where nobody knows, when it was told.
    pub fn at_ms(&self) -> i64 {
        self.captured_ms.unwrap_or(self.told_ms).max(0)
    }
}

/// A change in a stream's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusRow {
    /// Id of the record.
    pub id: String,
    /// Name of the stream.
    pub stream: String,
    /// Wall clock when it was told, milliseconds since 1970.
    pub at_ms: i64,
    /// The word of the wire.
    pub state: &'static str,
    /// More, in words.
    pub detail: Option<String>,
}

/// A stretch that was not analysed; wall-clock milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GapRow {
    /// Id of the record.
    pub id: String,
    /// Name of the stream.
    pub stream: String,
    /// Begin: the end less its length.
    pub from_ms: i64,
    /// End: when it was told.
    pub to_ms: i64,
    /// The word of the wire.
    pub reason: &'static str,
    /// More, in words.
    pub detail: Option<String>,
}

/// How a stream fared for some seconds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sample {
    /// Name of the stream.
    pub stream: String,
    /// Wall clock at the begin, milliseconds since 1970.
    pub at_ms: i64,
    /// Frames analysed a second; none where nobody looks.
    pub fps: Option<f64>,
    /// Frames analysed.
    pub n_frames: u64,
    /// Most sound that waited to be transcribed; none where nobody listens.
    pub speech_lag_ms: Option<u64>,
    /// Frames left out, by reason.
    pub drops: BTreeMap<String, u64>,
    /// Of each class: most objects in one frame, and their sum over all frames.
    pub objects: BTreeMap<String, (u64, u64)>,
}

/// Somebody changed something, or was refused, or logged in. Never holds a token, a password of a URL or a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub user: String,
    /// As what: `viewer`, `operator`, or empty where nobody was known.
    pub role: String,
    /// From where.
    pub address: String,
    /// What: the method.
    pub method: String,
    /// The route, with `{name}` for its parameters.
    pub route: String,
    /// What it was about: the stream, rule, alert or silence.
    pub subject: Option<String>,
    /// The answer's status.
    pub status: u16,
}

impl Row {
    /// What is kept of an event that is told `now`; none for most.
    pub fn of(event: &Event, now: Timestamp) -> Option<Self> {
        let told_ms = now.as_millisecond();
        let (id, stream) = (event.id.clone(), event.stream.name.to_string());
        Some(match &event.body {
            Body::Transcript(heard) if heard.is_final && !heard.text.trim().is_empty() => {
                let (start_ms, end_ms) = (signed(heard.start.millis()), signed(heard.end.millis()));
                let since_start = signed(event.pts.millis()).saturating_sub(start_ms);
                let captured = event.captured.map(|c| c.at.as_millisecond().saturating_sub(since_start));
                Self::Transcript(TranscriptRow {
                    id,
                    stream,
                    session: event.session.to_string(),
                    start_ms,
                    end_ms,
                    captured_ms: captured,
                    told_ms,
                    // Snippets mark what was found with control characters.
                    text: heard.text.replace(char::is_control, " "),
                    record: wire::encode(event, Some(now)),
                })
            }
            Body::Status(status) => Self::Status(StatusRow {
                id,
                stream,
                at_ms: told_ms,
                state: status.state.as_str(),
                detail: status.detail.clone(),
            }),
            Body::Gap(gap) => {
                let length_ms = signed(u64::try_from(gap.to.since(gap.from).as_millis()).unwrap_or(u64::MAX));
                Self::Gap(GapRow {
                    id,
                    stream,
                    from_ms: told_ms.saturating_sub(length_ms),
                    to_ms: told_ms,
                    reason: gap.reason.as_str(),
                    detail: gap.detail.clone(),
                })
            }
            _ => return None,
        })
    }

    /// When it came, by which it is let go of: milliseconds since 1970.
    pub fn told_ms(&self) -> i64 {
        match self {
            Self::Transcript(row) => row.told_ms,
            Self::Status(row) => row.at_ms,
            Self::Gap(row) => row.to_ms,
            Self::Sample(row) => row.at_ms,
            Self::Audit(row) => row.at.as_millisecond(),
        }
    }
}

/// SQLite's integers are signed; no time of ours comes near 2^63.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
