//! The table `[evidence]`.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::values::{BadValue, folder, in_range};

/// What is kept of alerts: the record, an annotated picture and a clip.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EvidenceConfig {
    /// Whether anything is kept. Without it `/v1/alerts` has nothing to show, and an alert that is open when the service is
    /// restarted may be told a second time. Default: true.
    pub enabled: bool,
    /// Folder with one folder an alert. A relative path begins at the working directory. Default:
    /// "eyewitness-out/alerts".
    pub path: PathBuf,
    /// Seconds of a clip before its alert was opened, up to 60, as far as players' segments are still there (`[hls]`:
    /// two playlists' worth of segments). Clips begin at the keyframe before. Default: 5.
    #[schemars(range(max = 60))]
    pub pre_roll_secs: u32,
    /// Seconds of a clip after its alert was closed, up to 60. Default: 5.
    #[schemars(range(max = 60))]
    pub post_roll_secs: u32,
    /// Seconds of a clip, 5 to 300. Of an alert that goes on for longer the beginning is kept. Clips end with the segment
    /// in which this falls. Default: 60.
    #[schemars(range(min = 5, max = 300))]
    pub max_clip_secs: u32,
    /// Days for which an alert is kept after its last record, 1 to 3650. Default: 30.
    #[schemars(range(min = 1, max = 3650))]
    pub keep_days: u32,
    /// Most bytes of all alerts together, at least 10 MB; the oldest go first, closed ones before open ones. Default:
    /// 10737418240 (10 GiB).
    #[schemars(range(min = 10_000_000))]
    pub keep_bytes: u64,
}

impl Default for EvidenceConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            path: "eyewitness-out/alerts".into(),
            pre_roll_secs: 5,
            post_roll_secs: 5,
            max_clip_secs: 60,
            keep_days: 30,
            keep_bytes: 10 << 30,
        }
    }
}

impl EvidenceConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// A number out of its range or an empty path, naming the key.
    pub fn check(&self) -> Result<(), BadValue> {
        in_range([
            ("pre_roll_secs", u64::from(self.pre_roll_secs), 0..=60, "0 to 60"),
            ("post_roll_secs", u64::from(self.post_roll_secs), 0..=60, "0 to 60"),
            ("max_clip_secs", u64::from(self.max_clip_secs), 5..=300, "5 to 300"),
            ("keep_days", u64::from(self.keep_days), 1..=3650, "1 to 3650"),
            ("keep_bytes", self.keep_bytes, 10_000_000..=u64::MAX, "at least 10000000"),
        ])?;
        folder("path", &self.path)
    }

    pub(super) fn pre_roll(&self) -> Duration {
        Duration::from_secs(self.pre_roll_secs.into())
    }

    pub(super) fn post_roll(&self) -> Duration {
        Duration::from_secs(self.post_roll_secs.into())
    }

    pub(super) fn max_clip(&self) -> Duration {
        Duration::from_secs(self.max_clip_secs.into())
    }

    pub(super) fn keep(&self) -> Duration {
        Duration::from_secs(u64::from(self.keep_days) * 24 * 3600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::values;

    #[test]
    fn checks() {
        let check = |json: &str, expected| values::check(json, EvidenceConfig::check, expected);
        check("{}", Ok(()));
        check(r#"{"enabled":false,"pre_roll_secs":0,"post_roll_secs":0}"#, Ok(()));
        check(r#"{"pre_roll_secs":61}"#, Err("`pre_roll_secs` is 61 and must be 0 to 60"));
        check(r#"{"max_clip_secs":4}"#, Err("`max_clip_secs`"));
        check(r#"{"keep_days":0}"#, Err("`keep_days`"));
        check(r#"{"keep_bytes":5}"#, Err("`keep_bytes`"));
        check(r#"{"path":""}"#, Err("`path` is empty"));
        check(r#"{"keep_hours":1}"#, Err("unknown field `keep_hours`"));
    }
}
