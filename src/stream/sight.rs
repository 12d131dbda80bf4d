//! What is seen: turns the detections of one stream into tracks and events. Owned by the stream's lane, runs on the model's
//! thread. Never does I/O.

use std::sync::Arc;

use base::{
    event::{Body, Detection, Detections, Event, ModelId, TrackedObject},
    media::{Frame, SessionId, StreamInfo},
    time::Clock,
};
use inference::{
    filter::ReportThresholds,
    track::{Tracker, TrackerConfig},
};

use super::{
    Findings,
    order::{Branch, Outlet},
};

pub(super) struct Sight {
    pub(super) info: Arc<StreamInfo>,
    pub(super) model: Arc<ModelId>,
    pub(super) tracker_config: Option<TrackerConfig>,
    pub(super) thresholds: ReportThresholds,
    /// The user named least scores: then they hold for tracked objects too.
    pub(super) strict: bool,
    pub(super) tracker: Option<(SessionId, Tracker)>,
    pub(super) newest_track: u64,
    pub(super) outlet: Outlet,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) findings: Arc<Findings>,
}

impl Sight {
    pub(super) fn take(&mut self, frame: Frame, detections: Vec<Detection>) {
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
            counts.pts = counts.pts.max(frame.pts);
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
        self.outlet.publish(Branch::Sight, event);
        self.outlet.told_until(Branch::Sight, frame.pts);
    }
}
