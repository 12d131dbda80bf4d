//! The stream's own video and sound as a live HLS playlist (RFC 8216), with its captions as a WebVTT rendition in time.
//!
//! Segments come from ingest on its threads, captions from the captioner's, and the HTTP service reads; all they share is a
//! [`HlsStore`], whose lock is held for moments only. Nothing is written to disk. Must never wait for a client, nor keep
//! more of a stream than [`HlsConfig::stream_bytes`], nor more than that in each [`Tap`].

mod playlist;
mod routes;
mod store;
mod stretch;
mod tap;
mod vtt;
mod window;

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::values::{BadValue, in_range};

pub use self::{
    routes::{PLAYLIST, ROUTES, router},
    store::{Captions, HlsStore, Usage},
    stretch::{Fit, Stretch},
    tap::{NoTap, Tap, TapEnd},
};

/// Live HLS of every stream: the video as the camera sends it, and its captions as subtitles.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HlsConfig {
    /// Whether streams can be watched at all. Costs a copy of the encoded media and its memory, and no encoding.
    /// Default: true.
    pub enabled: bool,
    /// Seconds a segment is aimed to last, 1 to 10. Segments begin at keyframes: a camera that sends one every 4 s gives
    /// segments of 4 s. Less is sooner, more is steadier. Default: 2.
    #[schemars(range(min = 1, max = 10))]
    pub segment_secs: u32,
    /// Segments in a playlist, 6 to 60. As many again, and one more, are kept for players that are slow to fetch.
    /// Default: 6.
    #[schemars(range(min = 6, max = 60))]
    pub window: usize,
    /// Milliseconds that a segment waits for the captions of its words, up to 60000. Words firm up seconds after they
    /// were spoken, and a player fetches subtitles only once. Streams that nobody transcribes do not wait. Default: 4000.
    #[schemars(range(max = 60000))]
    pub patience_ms: u64,
    /// Most bytes of media kept a stream, at least 1 MB; the oldest segments go first. Default: 67108864 (64 MiB).
    #[schemars(range(min = 1_000_000))]
    pub stream_bytes: usize,
}

impl Default for HlsConfig {
    fn default() -> Self {
        Self { enabled: true, segment_secs: 2, window: 6, patience_ms: 4000, stream_bytes: 64 << 20 }
    }
}

impl HlsConfig {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// A number out of its range, naming its key.
    pub fn check(&self) -> Result<(), BadValue> {
        in_range([
            ("segment_secs", u64::from(self.segment_secs), 1..=10, "1 to 10"),
            ("window", self.window as u64, 6..=60, "6 to 60"),
            ("patience_ms", self.patience_ms, 0..=60_000, "0 to 60000"),
            ("stream_bytes", self.stream_bytes as u64, 1_000_000..=u64::MAX, "at least 1000000"),
        ])
    }

    /// What ingest is asked for; none when HLS is off.
    pub fn segments(&self) -> Option<ingest::SegmentOptions> {
        let target = Duration::from_secs(u64::from(self.segment_secs));
        self.enabled.then_some(ingest::SegmentOptions { target })
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(self.patience_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::values;

    #[test]
    fn checks() {
        let check = |json: &str, expected| values::check(json, HlsConfig::check, expected);
        check("{}", Ok(()));
        check(r#"{"enabled":false}"#, Ok(()));
        check(r#"{"segment_secs":0}"#, Err("`segment_secs` is 0 and must be 1 to 10"));
        check(r#"{"window":5}"#, Err("`window` is 5 and must be 6 to 60"));
        check(r#"{"patience_ms":60001}"#, Err("`patience_ms`"));
        check(r#"{"stream_bytes":10}"#, Err("`stream_bytes`"));
        check(r#"{"windov":6}"#, Err("unknown field `windov`"));
    }
}
