//! Where attachments, and the secrets of their sources, are kept. Plain data.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

/// Streams that are attached and detached while the service runs. Needs `[http]`, a `folder`, or `[cluster]`; without any of
/// them there are only those under `[streams]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AttachmentsConfig {
    /// Folder of the store, which outlives restarts. In a cluster attachments are kept in Kafka, and this says nothing.
    pub store: PathBuf,
    /// Folder whose files (`*.toml`, `*.json`) hold `[streams.NAME]` tables of attachments. It is watched: a stream is
    /// attached, changed and detached as its table is. Without it nothing is watched.
    pub folder: Option<PathBuf>,
    /// Folder with a folder for each secret, which holds the files `username` and `password`: a secret as Kubernetes mounts
    /// it. Attachments name them in `credentials`.
    pub secrets_folder: Option<PathBuf>,
}

impl Default for AttachmentsConfig {
    fn default() -> Self {
        Self { store: "eyewitness-out/attachments".into(), folder: None, secrets_folder: None }
    }
}
