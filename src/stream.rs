//! One stream's analysis: takes frames from ingest, sends them to the model, follows objects, publishes events.
//!
//! `frame` runs on the stream's decoding thread and only enqueues; results come back on the model's thread; `notice`
//! runs on the stream's supervising thread. Never does I/O.

use std::sync::Arc;

use base::{
    event::{Body, Detection, Detections, Event, Gap, ModelId, Status, StreamState, TrackedObject},
    ledger::Ledger,
    media::{AudioChunk, Frame, MediaConsumer, Notice, SessionId, SourceDescription, StreamInfo},
    time::{Clock, Pts},
};
use inference::{
    InferenceError,
    engine::{Engine, Lane, LanePolicy},
    filter::{DetectionFilter, ReportThresholds},
    track::{Tracker, TrackerConfig},
};
use parking_lot::Mutex;

use crate::{latency::Latency, topology::Fanout};

/// What an analysis needs.
pub struct AnalysisOptions {
    /// Name and tags.
    pub info: Arc<StreamInfo>,
    /// The shared detector.
    pub engine: Arc<Engine>,
    /// What to report.
    pub filter: DetectionFilter,
    /// What happens to frames that come faster than the model.
    pub policy: LanePolicy,
    /// How to follow objects; none to leave it.
    pub tracker: Option<TrackerConfig>,
    /// Where events go.
    pub fanout: Fanout,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The fixed session of a recording.
    pub session: Option<SessionId>,
}

/// What a stream has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It still runs, or was stopped by us.
    Open,
    /// Its recording came to the end.
    Ended,
    /// It was given up, for this reason.
    Failed(String),
}

/// One stream's analysis and accounts.
pub struct Analysis {
    info: Arc<StreamInfo>,
    ledger: Ledger,
    /// Emptied at the close, so that the sinks see their last sender go.
    fanout: Mutex<Fanout>,
    lane: Mutex<Option<Lane>>,
    life: Mutex<Life>,
    /// What the results have added up to.
    pub findings: Arc<Findings>,
}

struct Life {
    session: SessionId,
    n_status: u64,
    n_gaps: u64,
    pts: Pts,
    outcome: Outcome,
    source: Option<SourceDescription>,
}

/// Counts over all results of a stream.
#[derive(Debug, Default)]
pub struct Findings {
    /// From the decoder's output to the event's publication.
    pub latency: Latency,
    counts: Mutex<Counts>,
}

/// What was found so far.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Records published, one a frame.
    pub n_records: u64,
    /// Objects in them.
    pub n_objects: u64,
    /// Different tracks among them.
    pub n_tracks: u64,
    /// Outages.
    pub n_gaps: u64,
    /// Stream time of the newest record.
    pub pts: Pts,
}

impl Findings {
    /// The counts now.
    pub fn counts(&self) -> Counts {
        self.counts.lock().clone()
    }
}

/// Turns the results of one stream into events. Owned by the stream's lane, runs on the model's thread.
struct Results {
    info: Arc<StreamInfo>,
    model: Arc<ModelId>,
    tracker_config: Option<TrackerConfig>,
    thresholds: ReportThresholds,
    /// The user named least scores: then they hold for tracked objects too.
    strict: bool,
    tracker: Option<(SessionId, Tracker)>,
    newest_track: u64,
    fanout: Fanout,
    clock: Arc<dyn Clock>,
    findings: Arc<Findings>,
}

impl Results {
    fn take(&mut self, frame: Frame, detections: Vec<Detection>) {
        let mut objects: Vec<TrackedObject> = match &self.tracker_config {
            None => detections.into_iter().map(|detection| TrackedObject { detection, track: None }).collect(),
            Some(config) => {
                // Ids count within a session: what moved during an outage is not the same object for sure.
                if self.tracker.as_ref().is_none_or(|(session, _)| *session != frame.session) {
                    self.tracker = Some((frame.session.clone(), Tracker::new(config.clone(), self.thresholds.clone())));
                    self.newest_track = 0;
                }
                let Some((_, tracker)) = &mut self.tracker else { return };
                tracker.update(frame.pts, &detections)
            }
        };
        if self.strict {
            objects.retain(|o| o.detection.score >= self.thresholds.of(&o.detection.class));
        }
        for object in &mut objects {
            object.detection.box_in_image =
                object.detection.box_in_image.within(frame.source_width, frame.source_height);
        }
        {
            let mut counts = self.findings.counts.lock();
            counts.n_records += 1;
            counts.n_objects += objects.len() as u64;
            counts.pts = frame.pts;
            for track in objects.iter().filter_map(|o: &TrackedObject| o.track) {
                if track > self.newest_track {
                    self.newest_track = track;
                    counts.n_tracks += 1;
                }
            }
        }
        let body = Body::Detections(Detections {
            width: frame.source_width,
            height: frame.source_height,
            index: frame.index,
            model: Arc::clone(&self.model),
            objects,
        });
        let event = Event::new(&self.info, &frame.session, frame.index, frame.pts, frame.captured, body);
        self.findings.latency.add(self.clock.monotonic().saturating_sub(frame.decoded_at));
        self.fanout.publish(event);
    }
}

impl Analysis {
    /// Opens the stream's lane into the model.
    ///
    /// # Errors
    /// When the filter names a class that the model does not know.
    pub fn start(options: AnalysisOptions) -> Result<Arc<Self>, InferenceError> {
        let ledger = Ledger::default();
        let findings = Arc::new(Findings::default());
        let mut results = Results {
            info: Arc::clone(&options.info),
            model: options.engine.model_id(),
            thresholds: options.engine.thresholds(&options.filter)?,
            strict: options.filter.score.is_some() || !options.filter.per_class.is_empty(),
            tracker_config: options.tracker,
            tracker: None,
            newest_track: 0,
            fanout: options.fanout.clone(),
            clock: Arc::clone(&options.clock),
            findings: Arc::clone(&findings),
        };
        // The tracker's second pass lives on detections too weak to be reported by themselves.
        let low_score = results.tracker_config.as_ref().map(|t| t.low_score);
        let filter = DetectionFilter { low_score, ..options.filter };
        let lane = options.engine.lane(
            options.info.name.clone(),
            options.policy,
            ledger.clone(),
            &filter,
            Box::new(move |frame, detections| results.take(frame, detections)),
        )?;
        // What happens before the first session (a refused password, say) belongs to a session too: this one.
        let session = options.session.unwrap_or_else(|| SessionId::live(options.clock.wall()));
        let life = Life { session, n_status: 0, n_gaps: 0, pts: Pts::ZERO, outcome: Outcome::Open, source: None };
        Ok(Arc::new(Self {
            info: options.info,
            ledger,
            fanout: Mutex::new(options.fanout),
            lane: Mutex::new(Some(lane)),
            life: Mutex::new(life),
            findings,
        }))
    }

    /// Name and tags.
    pub fn info(&self) -> &StreamInfo {
        &self.info
    }

    /// What became of it.
    pub fn outcome(&self) -> Outcome {
        self.life.lock().outcome.clone()
    }

    /// What the source turned out to be, once it played.
    pub fn source(&self) -> Option<SourceDescription> {
        self.life.lock().source.clone()
    }

    /// After ingest has been joined: infers what is pending, publishes the end, lets go of the model and the sinks.
    pub fn close(&self) {
        self.drain();
        self.lane.lock().take();
        if self.outcome() == Outcome::Open {
            self.status(StreamState::Stopped, None, None);
        }
        *self.fanout.lock() = Fanout::default();
    }

    fn publish(&self, event: Event) {
        // Not under the lock: a sink may make us wait.
        let fanout = self.fanout.lock().clone();
        fanout.publish(event);
    }

    fn drain(&self) {
        if let Some(lane) = &*self.lane.lock() {
            lane.drain();
        }
    }

    fn status(&self, state: StreamState, detail: Option<String>, source: Option<SourceDescription>) {
        let mut life = self.life.lock();
        life.pts = life.pts.max(self.findings.counts().pts);
        let event = Event::new(
            &self.info,
            &life.session,
            life.n_status,
            life.pts,
            None,
            Body::Status(Status { state, detail, source }),
        );
        life.n_status += 1;
        drop(life);
        self.publish(event);
    }
}

impl MediaConsumer for Analysis {
    fn frame(&self, frame: Frame) {
        if let Some(lane) = &*self.lane.lock() {
            lane.submit(frame);
        }
    }

    fn audio(&self, _chunk: AudioChunk) {
        // Not asked for: see `topology`.
    }

    fn notice(&self, notice: Notice) {
        let stream = self.info.name.as_str();
        // What was seen before the change is told before the change.
        self.drain();
        match notice {
            Notice::Connecting { attempt } => tracing::debug!(stream, attempt, "connecting"),
            Notice::Playing { session, source } => {
                tracing::info!(stream, %session, source = %describe(&source), "playing");
                {
                    let mut life = self.life.lock();
                    if life.session != session {
                        (life.n_status, life.n_gaps) = (0, 0);
                        life.session = session;
                    }
                    life.pts = Pts::ZERO;
                    life.source = Some(source.clone());
                    self.findings.counts.lock().pts = Pts::ZERO;
                }
                self.status(StreamState::Playing, None, Some(source));
            }
            Notice::Interrupted { reason, detail, retry_in } => {
                tracing::warn!(stream, reason = reason.as_str(), retry_in_ms = retry_in.as_millis() as u64, "{detail}");
                self.status(StreamState::Interrupted, Some(detail), None);
            }
            Notice::Gap { session, from, to, reason, detail } => {
                let mut life = self.life.lock();
                let session = session.unwrap_or_else(|| life.session.clone());
                let body = Body::Gap(Gap { from, to, reason, n_frames_dropped: None, detail: Some(detail) });
                let event = Event::new(&self.info, &session, life.n_gaps, from, None, body);
                life.n_gaps += 1;
                drop(life);
                self.findings.counts.lock().n_gaps += 1;
                let outage = to.since(from);
                tracing::warn!(stream, reason = reason.as_str(), outage_ms = outage.as_millis() as u64, "gap");
                self.publish(event);
            }
            Notice::Ended => {
                tracing::info!(stream, "ended");
                self.life.lock().outcome = Outcome::Ended;
                self.status(StreamState::Ended, None, None);
            }
            Notice::Failed { detail } => {
                tracing::error!(stream, "{detail}");
                self.life.lock().outcome = Outcome::Failed(detail.clone());
                self.status(StreamState::Failed, Some(detail), None);
            }
        }
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}

/// A source in a few words: `h264 768x576, aac`.
pub fn describe(source: &SourceDescription) -> String {
    let tracks: Vec<String> = [&source.video, &source.audio]
        .into_iter()
        .flatten()
        .map(|m| match m.size {
            Some((width, height)) => format!("{} {width}x{height}", m.codec),
            None => m.codec.clone(),
        })
        .collect();
    if tracks.is_empty() { "no media".into() } else { tracks.join(", ") }
}

#[cfg(test)]
mod tests {
    use base::media::MediaDescription;

    use super::*;

    #[test]
    fn sources_are_described() {
        let video = Some(MediaDescription { codec: "h264".into(), size: Some((768, 576)) });
        let audio = Some(MediaDescription { codec: "aac".into(), size: None });
        assert_eq!(describe(&SourceDescription { video, audio }), "h264 768x576, aac");
        assert_eq!(describe(&SourceDescription::default()), "no media");
    }
}
