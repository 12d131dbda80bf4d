//! What captions may look like. Plain data; the numbers and where they come from.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::InferenceError;

/// How words become captions. The defaults are those of broadcasters: Netflix's English timed text style guide (42
/// characters a line, 2 lines, 20 characters a second, 5/6 to 7 seconds, 2 frames between cues) and the BBC's subtitle
/// guidelines (160 to 180 words a minute).
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CaptionConfig {
    /// Lines of a cue at most, 1 to 3.
    pub max_lines: u32,
    /// Width of a line at most, 10 to 120, counted in columns: a Latin letter is one, a Chinese or Japanese one two.
    pub max_chars_per_line: u32,
    /// Reading speed, 5 to 60 columns a second: a cue stays long enough to be read at it, where the next cue leaves room.
    /// No word is ever left out because somebody speaks faster.
    pub max_chars_per_second: f32,
    /// Milliseconds for which a cue is shown at least, where the next cue leaves room, 0 to 5000.
    pub min_duration_ms: u32,
    /// Milliseconds for which a cue is shown at most, 1000 to 30000; a single longer word excepted.
    pub max_duration_ms: u32,
    /// Milliseconds without text between two cues, where the words leave room, 0 to 1000: the eye notices the change.
    pub min_gap_ms: u32,
    /// Milliseconds for which a cue stays after its last word when nobody goes on speaking, 0 to 10000.
    pub linger_ms: u32,
    /// Show words at once, while they may still be revised. `false` shows only words that will never change: later, and
    /// nothing shown is ever rewritten.
    pub show_unstable: bool,
}

impl Default for CaptionConfig {
    fn default() -> Self {
        Self {
            max_lines: 2,
            max_chars_per_line: 42,
            max_chars_per_second: 20.0,
            min_duration_ms: 833,
            max_duration_ms: 7000,
            min_gap_ms: 83,
            linger_ms: 1500,
            show_unstable: true,
        }
    }
}

impl CaptionConfig {
    /// Refuses what is out of range.
    ///
    /// # Errors
    /// [`InferenceError::BadSetting`].
    pub fn check(&self) -> Result<(), InferenceError> {
        let whole = [
            ("max_lines", self.max_lines, 1..=3, "1 to 3"),
            ("max_chars_per_line", self.max_chars_per_line, 10..=120, "10 to 120"),
            ("min_duration_ms", self.min_duration_ms, 0..=5000, "0 to 5000"),
            ("max_duration_ms", self.max_duration_ms, 1000..=30_000, "1000 to 30000"),
            ("min_gap_ms", self.min_gap_ms, 0..=1000, "0 to 1000"),
            ("linger_ms", self.linger_ms, 0..=10_000, "0 to 10000"),
        ];
        if let Some((key, value, _, expected)) = whole.into_iter().find(|(_, value, range, _)| !range.contains(value)) {
            return Err(InferenceError::BadSetting { key, value: value.to_string(), expected });
        }
        if !(5.0..=60.0).contains(&self.max_chars_per_second) {
            let value = self.max_chars_per_second.to_string();
            return Err(InferenceError::BadSetting { key: "max_chars_per_second", value, expected: "5 to 60" });
        }
        if self.min_duration_ms > self.max_duration_ms {
            let value = self.min_duration_ms.to_string();
            let expected = "at most max_duration_ms";
            return Err(InferenceError::BadSetting { key: "min_duration_ms", value, expected });
        }
        Ok(())
    }

    pub(super) fn limits(&self) -> Limits {
        let ns = |ms: u32| u64::from(ms) * 1_000_000;
        Limits {
            lines: self.max_lines as usize,
            width: self.max_chars_per_line as usize,
            ns_per_column: (1e9 / f64::from(self.max_chars_per_second)).round() as u64,
            min: ns(self.min_duration_ms),
            max: ns(self.max_duration_ms),
            gap: ns(self.min_gap_ms),
            linger: ns(self.linger_ms),
            pause: ns(self.linger_ms).max(MIN_PAUSE.as_nanos() as u64),
        }
    }
}

/// After a pause of this length, or of `linger` where that is longer, a new cue begins whatever the text.
const MIN_PAUSE: Duration = Duration::from_millis(1000);

/// The configuration in the units of the computation: times in nanoseconds of stream time, widths in columns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) lines: usize,
    pub(super) width: usize,
    pub(super) ns_per_column: u64,
    pub(super) min: u64,
    pub(super) max: u64,
    pub(super) gap: u64,
    pub(super) linger: u64,
    pub(super) pause: u64,
}
