//! What a user can set about speech: how it is cut, how it firms up, and how much of the machine it may use. Pure data.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::InferenceError;

/// How the speech pool runs. One for all streams.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SpeechPoolConfig {
    /// Transcriptions that run at once, each on one thread. 0: half of the cores, at most 8. All streams share them in turn,
    /// so that too much speech delays everybody evenly.
    pub workers: usize,
    /// CPU threads for one transcription. 1 costs the least CPU; more give the least time where cores are idle.
    pub threads: usize,
    /// Seconds of sound that may wait for a worker, for each stream. What comes on top pushes out the oldest, which is told
    /// as a gap.
    pub max_pending_secs: u64,
}

impl Default for SpeechPoolConfig {
    fn default() -> Self {
        Self { workers: 0, threads: 1, max_pending_secs: 30 }
    }
}

impl SpeechPoolConfig {
    /// Refuses what is out of range, before anything is loaded.
    ///
    /// # Errors
    /// [`InferenceError::BadSetting`].
    pub fn check(&self) -> Result<(), InferenceError> {
        within("workers", self.workers as u64, 0..=64, "0 (half of the cores) to 64")?;
        within("threads", self.threads as u64, 1..=64, "1 to 64")?;
        within("max_pending_secs", self.max_pending_secs, 2..=600, "2 to 600")
    }

    /// Workers on this machine.
    pub(crate) fn n_workers(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        if self.workers == 0 { (cores / 2).clamp(1, 8) } else { self.workers }
    }
}

/// How a stream's speech is cut and transcribed.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SpeechConfig {
    /// Spoken language (ISO 639-1, such as `en`), or `auto` to find it out, where the model knows several.
    pub language: String,
    /// Write English, whatever is spoken; only for models that can.
    pub translate: bool,
    /// Publish revisions while people still speak. Without them there are only finals, which costs a third of the CPU.
    pub partials: bool,
    /// New sound after which the words are revised, in milliseconds. Less shows words sooner and costs more CPU.
    pub step_ms: u64,
    /// Probability (0 to 1) from which on a 32 ms window counts as speech.
    pub vad_threshold: f32,
    /// Speech shorter than this, in milliseconds, is no speech.
    pub min_speech_ms: u64,
    /// Silence, in milliseconds, that ends a segment.
    pub hangover_ms: u64,
    /// Sound before the first speech that belongs to the segment, in milliseconds.
    pub pre_roll_ms: u64,
    /// A segment that grows longer is ended at a good place, in seconds.
    pub max_segment_secs: u64,
}

impl Default for SpeechConfig {
    fn default() -> Self {
        Self {
            language: "auto".into(),
            translate: false,
            partials: true,
            step_ms: 450,
            vad_threshold: 0.5,
            min_speech_ms: 96,
            hangover_ms: 800,
            pre_roll_ms: 320,
            max_segment_secs: 24,
        }
    }
}

impl SpeechConfig {
    /// Refuses what is out of range, before anything starts.
    ///
    /// # Errors
    /// [`InferenceError::BadSetting`].
    pub fn check(&self) -> Result<(), InferenceError> {
        within("step_ms", self.step_ms, 100..=5000, "100 to 5000")?;
        within("min_speech_ms", self.min_speech_ms, 32..=2000, "32 to 2000")?;
        within("hangover_ms", self.hangover_ms, 100..=5000, "100 to 5000")?;
        within("pre_roll_ms", self.pre_roll_ms, 0..=1000, "0 to 1000")?;
        within("max_segment_secs", self.max_segment_secs, 5..=28, "5 to 28")?;
        if !(0.05..=0.95).contains(&self.vad_threshold) {
            return Err(InferenceError::BadSetting {
                key: "vad_threshold",
                value: self.vad_threshold.to_string(),
                expected: "0.05 to 0.95",
            });
        }
        Ok(())
    }

    /// The language asked for; none for `auto`.
    pub fn language(&self) -> Option<&str> {
        (self.language != "auto").then_some(self.language.as_str())
    }

    pub(crate) fn step(&self) -> usize {
        samples(Duration::from_millis(self.step_ms))
    }
}

/// Samples at 16 kHz in so much time.
pub(crate) fn samples(time: Duration) -> usize {
    (time.as_micros() as u64 * 16 / 1000) as usize
}

/// Time of so many samples at 16 kHz.
pub(crate) fn time(n_samples: usize) -> Duration {
    Duration::from_nanos(n_samples as u64 * 62_500)
}

fn within(
    key: &'static str,
    value: u64,
    range: std::ops::RangeInclusive<u64>,
    expected: &'static str,
) -> Result<(), InferenceError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(InferenceError::BadSetting { key, value: value.to_string(), expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert!(SpeechConfig::default().check().is_ok() && SpeechPoolConfig::default().check().is_ok());
        let check = |change: fn(&mut SpeechConfig), expected: &str| {
            let mut config = SpeechConfig::default();
            change(&mut config);
            assert_eq!(config.check().expect_err(expected).to_string(), expected);
        };
        check(|c| c.step_ms = 5, "step_ms = 5 is out of range: 100 to 5000");
        check(|c| c.vad_threshold = f32::NAN, "vad_threshold = NaN is out of range: 0.05 to 0.95");
        check(|c| c.max_segment_secs = 31, "max_segment_secs = 31 is out of range: 5 to 28");
        let pool = SpeechPoolConfig { threads: 0, ..SpeechPoolConfig::default() };
        assert_eq!(pool.check().expect_err("threads").to_string(), "threads = 0 is out of range: 1 to 64");
        assert_eq!((samples(Duration::from_millis(32)), time(512)), (512, Duration::from_millis(32)));
    }
}
