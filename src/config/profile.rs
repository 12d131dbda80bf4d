//! What to run on a stream. Plain data.

use std::collections::BTreeMap;

use inference::{
    captions::CaptionConfig, filter::DetectionFilter, remote::EndpointConfig, speech::config::SpeechConfig,
    track::TrackerConfig,
};
use ingest::Sampling;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::control::selectors::Selectors;

/// What to run on a stream.
#[derive(Debug, Deserialize, JsonSchema, Clone, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct ProfileConfig {
    /// Streams that this profile is for, where they name none themselves: `{ names = ["front", "gate-*"], tags = [{ key =
    /// "Location", values = ["Front"] }] }`, all of which must fit, or a list of such, any of which may. Where several
    /// profiles fit, the first by name is taken; where none does, `default`.
    pub select: Selectors,
    /// Detector: a built-in model's name (see `eyewitness models list`) or the path of a manifest; `none` leaves pictures
    /// alone.
    pub detect: String,
    /// An HTTP model server that looks at the pictures, in the detector's place.
    pub endpoint: Option<EndpointConfig>,
    /// Transcriber, such as `whisper-tiny.en`: likewise. `none` leaves sound alone: nobody is listened to unasked.
    pub transcribe: String,
    /// Which frames to look at.
    pub sampling: Sampling,
    /// Classes to report, in the model's own words; empty for all.
    pub classes: Vec<String>,
    /// Least score (0 to 1) of a reported detection; without it, the model's own.
    pub min_score: Option<f32>,
    /// Least score by class, above `min_score` in rank.
    pub class_scores: BTreeMap<String, f32>,
    /// Follow objects over frames.
    pub track: bool,
    /// How objects are followed.
    pub tracker: TrackerConfig,
    /// How speech is cut and transcribed.
    pub speech: SpeechConfig,
    /// How words become captions.
    pub captions: CaptionConfig,
    /// Sinks that get the stream's events, by name; empty for all.
    pub sinks: Vec<String>,
}

/// Detector of a profile that names none.
pub const DEFAULT_DETECTOR: &str = "ssdlite-mbv2";
/// Transcriber of the demo.
pub const DEFAULT_TRANSCRIBER: &str = "whisper-tiny.en";
/// In a model's place: no model.
pub const NO_MODEL: &str = "none";

impl Default for ProfileConfig {
    fn default() -> Self {
        Self {
            select: Selectors::default(),
            detect: DEFAULT_DETECTOR.into(),
            endpoint: None,
            transcribe: NO_MODEL.into(),
            sampling: Sampling::Fps(5.0),
            classes: Vec::new(),
            min_score: None,
            class_scores: BTreeMap::new(),
            track: true,
            tracker: TrackerConfig::default(),
            speech: SpeechConfig::default(),
            captions: CaptionConfig::default(),
            sinks: Vec::new(),
        }
    }
}

impl ProfileConfig {
    /// The detector that runs here, if pictures are looked at and no endpoint does it.
    pub fn detector(&self) -> Option<&str> {
        (self.detect != NO_MODEL && self.endpoint.is_none()).then_some(self.detect.as_str())
    }

    /// The transcriber, if sound is listened to.
    pub fn transcriber(&self) -> Option<&str> {
        (self.transcribe != NO_MODEL).then_some(self.transcribe.as_str())
    }

    /// What of the model's detections is reported.
    pub fn filter(&self) -> DetectionFilter {
        DetectionFilter {
            classes: self.classes.clone(),
            score: self.min_score,
            per_class: self.class_scores.clone(),
            low_score: None,
        }
    }
}
