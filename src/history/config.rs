//! The table `[history]`.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;
use sinks::history::Limits;

use crate::config::values::{BadValue, folder, in_range};

/// What was said and how streams fared, kept in one file to be searched and drawn. Only with `[http]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HistoryConfig {
    /// Whether anything is kept. Without it `/v1/history` has nothing to show. Default: true.
    pub enabled: bool,
    /// Folder of the file `history.db`; of this process alone. A relative path begins at the working directory. Default:
    /// "eyewitness-out/history".
    pub dir: PathBuf,
    /// Days for which anything is kept, 1 to 3650. Default: 7.
    #[schemars(range(min = 1, max = 3650))]
    pub keep_days: u32,
    /// Most bytes of the file, at least 10 MB; the oldest of everything goes first. Default: 1073741824 (1 GiB).
    #[schemars(range(min = 10_000_000))]
    pub max_bytes: u64,
    /// Most bytes of clips: the picture and sound of what was said, of streams with H.264, in the folder `clips`. The oldest go
    /// first. 0 keeps none. Default: 1073741824 (1 GiB).
    pub clips_bytes: u64,
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            dir: "eyewitness-out/history".into(),
            keep_days: 7,
            max_bytes: 1 << 30,
            clips_bytes: 1 << 30,
        }
    }
}

impl HistoryConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// A number out of its range or an empty path, naming the key.
    pub fn check(&self) -> Result<(), BadValue> {
        in_range([
            ("keep_days", u64::from(self.keep_days), 1..=3650, "1 to 3650"),
            ("max_bytes", self.max_bytes, 10_000_000..=u64::MAX, "at least 10000000"),
        ])?;
        folder("dir", &self.dir)
    }

    pub(super) fn limits(&self) -> Limits {
        Limits { keep: Duration::from_secs(u64::from(self.keep_days) * 24 * 3600), max_bytes: self.max_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::values;

    #[test]
    fn checks() {
        let check = |json: &str, expected| values::check(json, HistoryConfig::check, expected);
        check("{}", Ok(()));
        check(r#"{"enabled":false,"dir":"/var/lib/x","keep_days":3650,"max_bytes":10000000,"clips_bytes":0}"#, Ok(()));
        check(r#"{"keep_days":0}"#, Err("`keep_days` is 0 and must be 1 to 3650"));
        check(r#"{"keep_days":3651}"#, Err("`keep_days`"));
        check(r#"{"max_bytes":9999999}"#, Err("`max_bytes`"));
        check(r#"{"dir":""}"#, Err("`dir` is empty"));
        check(r#"{"path":"x"}"#, Err("unknown field `path`"));
    }
}
