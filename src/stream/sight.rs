//! What is seen: turns the detections of one stream into tracks and events. Owned by the stream's lane, runs on the model's
//! thread. Never does I/O.

use std::{sync::Arc, time::Duration};

use base::{
    event::{Body, Detections, Event, ModelId, TrackedObject},
    media::{Frame, SessionId, StreamInfo},
    time::Clock,
    trace::{Span, Tracer, span_of_part, trace_of},
};
use inference::{
    filter::ReportThresholds,
    remote::Seen,
    track::{Tracker, TrackerConfig},
};

use super::{
    account::Findings,
    order::{Branch, Outlet},
};
use crate::views::Preview;

pub(super) struct Sight {
    pub(super) info: Arc<StreamInfo>,
    pub(super) model: Arc<ModelId>,
    /// All that it knows.
    pub(super) classes: Arc<[Arc<str>]>,
    pub(super) tracker_config: Option<TrackerConfig>,
    pub(super) thresholds: ReportThresholds,
    /// The user named least scores: then they hold for tracked objects too.
    pub(super) strict: bool,
    pub(super) tracker: Option<(SessionId, Tracker)>,
    pub(super) newest_track: u64,
    pub(super) outlet: Outlet,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) findings: Arc<Findings>,
    pub(super) tracer: Option<Arc<dyn Tracer>>,
    pub(super) preview: Option<Arc<Preview>>,
}

impl Sight {
    pub(super) fn take(&mut self, frame: Frame, seen: Seen) {
        let Seen { detections, labels, answer } = seen;
        let inferred_at = self.clock.monotonic();
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
            counts.reach(&frame.session, frame.pts, self.clock.wall());
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
            labels,
            answer,
            classes: Arc::clone(&self.classes),
        });
        let event = Event::new(&self.info, &frame.session, frame.index, frame.pts, frame.captured, body);
        self.findings.latency.add(self.clock.monotonic().saturating_sub(frame.decoded_at));
        let id = self.tracer.is_some().then(|| event.id.clone());
        if let Some(preview) = &self.preview {
            preview.see(&frame);
        }
        self.outlet.picture(&frame);
        self.outlet.publish(Branch::Sight, event);
        if let Some(id) = id {
            self.trace(&frame, &id, inferred_at);
        }
        self.outlet.told_until(Branch::Sight, frame.pts);
    }
    /// Spans of the frame: all of its way to the sinks' queues, and in it the wait for the model and its run.
    fn trace(&self, frame: &Frame, id: &str, inferred_at: Duration) {
        let Some(tracer) = &self.tracer else { return };
        let trace = trace_of(frame.session.as_str(), frame.pts.millis());
        if !tracer.is_sampled(&trace) {
            return;
        }
        let (now, end) = (self.clock.monotonic(), self.clock.wall());
        let wall = |at: Duration| end - jiff::SignedDuration::try_from(now.saturating_sub(at)).unwrap_or_default();
        let of = |name, parent, start, end, attributes| {
            let id = span_of_part(id, name);
            tracer.record(Span { trace, id, parent, name, start, end, attributes, error: None });
        };
        let whole = vec![
            ("stream", self.info.name.to_string()),
            ("session", frame.session.to_string()),
            ("pts_ms", frame.pts.millis().to_string()),
            ("id", id.to_owned()),
        ];
        let parent = Some(span_of_part(id, "record"));
        of("record", None, wall(frame.decoded_at), end, whole);
        of("infer", parent, wall(frame.decoded_at), wall(inferred_at), vec![("model", self.model.name.clone())]);
        of("publish", parent, wall(inferred_at), end, Vec::new());
    }
}
