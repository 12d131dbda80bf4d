//! What workers tell each other about streams and about themselves: the texts of checkpoints and announcements.

use std::collections::BTreeMap;

use inference::rules::Carried;
use serde::{Deserialize, Serialize};

/// How a stream is and how far it has come, told by the worker that runs it about once a second. It is what a successor
/// goes on from, and what every worker's API shows.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Report {
    /// Id of the worker.
    pub worker: String,
    /// The lease's epoch: a report with a smaller one than another report's is old.
    pub epoch: u64,
    /// When the attachment that is run was attached, milliseconds since 1970: a report about an earlier stream of the same name
    /// says nothing about this one.
    #[serde(default)]
    pub born: u64,
    /// Of the attachment that is run.
    #[serde(default)]
    pub revision: u64,
    /// `starting`, `connecting`, `playing`, `interrupted`, `ended`, `failed`, `stopped`.
    pub state: String,
    /// In words, free of secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The worker has let go of the stream in good order: what it had in hand is published.
    #[serde(default)]
    pub released: bool,
    /// The newest session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Stream time in that session up to which the stream was analysed, milliseconds.
    pub pts_ms: u64,
    /// Wall clock when that was analysed, milliseconds since 1970; none before the first media.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysed_at_ms: Option<i64>,
    /// Of a source that can be resumed: its own time, in milliseconds, up to which every event has arrived at the far ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position_ms: Option<u64>,
    /// Alerts that are open, or over only just now: whoever takes the stream over goes on with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<Carried>,
    /// Wall clock of this report, milliseconds since 1970.
    pub at_ms: i64,
    /// What it counts.
    #[serde(default)]
    pub figures: Figures,
}

/// A stream's figures, for people.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Frames analysed a second, over the last seconds.
    pub fps: f64,
    /// Half of the records came sooner after the picture was decoded than this, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<f64>,
    /// Sound received and not yet transcribed, milliseconds; none where nobody listens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speech_lag_ms: Option<u64>,
    /// Frames decoded.
    pub n_decoded: u64,
    /// Frames analysed.
    pub n_inferred: u64,
    /// Frames left out, by reason; reasons that never came are left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub n_dropped: BTreeMap<String, u64>,
    /// Gaps.
    pub n_gaps: u64,
}

/// How a worker is, told every other second.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Announcement {
    /// Weight that it can take, next to other workers.
    pub capacity: f32,
    /// Leases that it has.
    pub leases: Vec<u32>,
    /// Streams that it runs.
    pub n_streams: usize,
    /// It is leaving.
    #[serde(default)]
    pub draining: bool,
    /// Address of its HTTP service, where it has one that others can reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Version of the program.
    pub version: String,
}
