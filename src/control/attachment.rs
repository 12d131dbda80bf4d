//! The desired state of a stream, as it is asked for, stored, listed and published. Holds no secret.

use std::collections::BTreeMap;

use ingest::SourceConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A stream that is to be run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// Where the media comes from, such as `rtsp://192.0.2.10/stream1` or `https://example.org/live.m3u8`, without user and
    /// password: those belong into a secret.
    pub url: String,
    /// Name of the secret with the source's user and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<String>,
    /// Which profile to run. Default: the one whose selectors fit, else `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Free key-value pairs, written into every event of the stream; selectors look at them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// How much work the stream is, next to others. Workers are given equal shares of the sum, by their capacity.
    /// Default: 1.
    #[serde(default = "one")]
    pub weight: f32,
    /// How to connect.
    #[serde(default)]
    pub source: SourceConfig,
}

const fn one() -> f32 {
    1.0
}

/// Who asked for an attachment, and alone may change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A request: REST or the command line.
    Api,
    /// A file of the watched folder.
    Folder,
    /// The configuration file. Such a stream is never stored.
    Config,
}

/// An attachment as it lies in the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// What is wished.
    #[serde(flatten)]
    pub attachment: Attachment,
    /// By whom.
    pub origin: Origin,
    /// When it was attached, milliseconds since 1970: a stream that is detached and attached again is another one, whatever its
    /// name. Changes and moves keep it.
    #[serde(default)]
    pub born: u64,
    /// Grows by one with every change. Of two texts for one name, the one born later holds, then the one with more changes.
    pub revision: u64,
    /// Revision at which the URL was last changed: how far a run of an earlier one has come says nothing about this one.
    #[serde(default)]
    pub url_since: u64,
    /// The greatest epoch, of other leases than its own, when the stream was attached: an earlier stream of this name may have
    /// been run under it, and this one must be run under a greater one.
    #[serde(default)]
    pub after: u64,
    /// The stream has moved to this lease; what is written here only says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<u32>,
}

impl Stored {
    /// Of two texts for one name, the one with the greater rank holds.
    pub fn rank(&self) -> (u64, u64) {
        (self.born, self.revision)
    }
}
