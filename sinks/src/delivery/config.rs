//! What the user says about the backlog of a sink with a far end.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::SinkError;

/// Where events wait until the far end has them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SpoolConfig {
    /// On disk, or in memory. Default: `disk`.
    pub store: Store,
    /// Directory of this sink's own; made when missing. Default: `eyewitness-out/spool/<name of the sink>`.
    pub path: Option<PathBuf>,
    /// Most bytes that may wait, at least 1 MiB. Default: 1 GiB on disk, 64 MiB in memory.
    pub max_bytes: Option<u64>,
    /// What happens to one more event when so many bytes wait. Default: `block`.
    pub when_full: WhenSpoolFull,
    /// How far an event gets before it counts as accepted. Default: `os`.
    pub durability: Durability,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self {
            store: Store::Disk,
            path: None,
            max_bytes: None,
            when_full: WhenSpoolFull::Block,
            durability: Durability::Os,
        }
    }
}

/// Where events wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    /// In a spool: accepted events outlive this process.
    #[default]
    Disk,
    /// In memory: what waits when the process ends is lost, and counted.
    Memory,
}

/// What happens to one more event when the backlog is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenSpoolFull {
    /// It waits, and with it the pipeline: nothing accepted is lost, but live frames are dropped (and counted) before
    /// they are analysed, and a `gap` event says so.
    #[default]
    Block,
    /// The oldest events are let go and counted, and a `gap` record says which stretch is missing.
    DropOldest,
}

/// How far an event gets before it counts as accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// To the operating system: survives the end of this process, however it ends. A power cut may take the last seconds.
    #[default]
    Os,
    /// The same, and to the disk about once a second: a power cut takes that second.
    Interval,
    /// To the disk itself: survives a power cut. Costs a disk flush for every group of events.
    Disk,
}

/// What is in a file that the configuration names under `key`, such as a password.
pub(crate) fn text_of_file(key: &str, path: &Path) -> Result<String, SinkError> {
    std::fs::read_to_string(path)
        .map_err(|cause| SinkError::config(key, format!("cannot read {}: {cause}", path.display())))
}

const LEAST_BYTES: u64 = 1024 * 1024;
const DISK_BYTES: u64 = 1024 * 1024 * 1024;
const MEMORY_BYTES: u64 = 64 * 1024 * 1024;

impl SpoolConfig {
    /// The directory of the spool of the sink called `name`.
    pub fn directory(&self, name: &str) -> PathBuf {
        self.path.clone().unwrap_or_else(|| Path::new("eyewitness-out/spool").join(name))
    }

    /// Most bytes that may wait.
    pub fn max_bytes(&self) -> u64 {
        self.max_bytes.unwrap_or(match self.store {
            Store::Disk => DISK_BYTES,
            Store::Memory => MEMORY_BYTES,
        })
    }

    /// Checks what the types cannot.
    pub(crate) fn validate(&self) -> Result<(), SinkError> {
        if self.max_bytes.is_some_and(|n| n < LEAST_BYTES) {
            return Err(SinkError::config("spool.max_bytes", "at least 1048576 (1 MiB)"));
        }
        if self.store == Store::Memory {
            for (set, key) in
                [(self.path.is_some(), "spool.path"), (self.durability != Durability::Os, "spool.durability")]
            {
                if set {
                    return Err(SinkError::config(key, "has no effect with `store = \"memory\"`; take it out"));
                }
            }
        }
        Ok(())
    }
}
