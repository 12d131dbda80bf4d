//! What an analysis is made of.

use std::sync::Arc;

use base::{
    media::{SessionId, StreamInfo},
    time::Clock,
    trace::Tracer,
};
use inference::{
    captions::CaptionConfig,
    filter::DetectionFilter,
    rules::Rule,
    speech::{config::SpeechConfig, pool::SpeechPool},
    track::TrackerConfig,
};

use super::eyes::Eyes;
use crate::{
    control::stage::Earlier,
    evidence::{AlertDesk, EvidenceStore},
    hls::HlsStore,
    topology::Fanout,
    views::Preview,
};

/// What a stream's pictures go through.
pub struct SightOptions {
    /// The shared detector.
    pub engine: Eyes,
    /// What to report.
    pub filter: DetectionFilter,
    /// How to follow objects; none to leave it.
    pub tracker: Option<TrackerConfig>,
}

/// What a stream's sound goes through.
pub struct HearingOptions {
    /// The shared transcribers.
    pub pool: Arc<SpeechPool>,
    /// How speech is cut and transcribed.
    pub speech: SpeechConfig,
    /// How words become captions.
    pub captions: CaptionConfig,
}

/// What an analysis needs.
pub struct AnalysisOptions {
    /// Name and tags.
    pub info: Arc<StreamInfo>,
    /// What its pictures go through, if anything.
    pub sight: Option<SightOptions>,
    /// What its sound goes through, if anything.
    pub hearing: Option<HearingOptions>,
    /// Whether it is a recording, of which nothing may be lost; else the newest media go first.
    pub recorded: bool,
    /// Where events go.
    pub fanout: Fanout,
    /// Takes the spans of frames, where anybody wants them.
    pub tracer: Option<Arc<dyn Tracer>>,
    /// Who hands its media on to players, if anybody.
    pub players: Option<Arc<HlsStore>>,
    /// Shows the newest analysed picture, where anybody may ask for it.
    pub preview: Option<Arc<Preview>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The fixed session of a recording.
    pub session: Option<SessionId>,
    /// What an earlier run left of it.
    pub earlier: Option<Earlier>,
    /// What somebody is to be told of.
    pub rules: Vec<Arc<Rule>>,
    /// Where evidence of that is kept, if anywhere.
    pub evidence: Option<EvidenceStore>,
    /// Says which alerts are silenced, if anybody can say so.
    pub desk: Option<AlertDesk>,
}
