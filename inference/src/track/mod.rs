//! ByteTrack (Zhang et al. 2022, "Multi-Object Tracking by Associating Every Detection Box"): boxes become tracks.
//!
//! Both of its association passes, strong boxes first, then weak ones for the tracks that are left. Three things differ,
//! each because it lost fewer identities at 3 to 10 frames a second: motion is in seconds and trusts a box by its score
//! (`kalman.rs`), the weak boxes may also bring back tracks that were lost, and a third pass matches with grown boxes.
//!
//! One tracker a stream and session, owned by whoever consumes that stream's detections. Pure and deterministic: same
//! detections at the same stream times, same ids. Times are stream time, so frame rates may vary and frames may be missing.

mod assign;
mod kalman;

use std::{ops::Range, sync::Arc};

use base::{
    event::{BoxInImage, Detection, TrackedObject},
    time::Pts,
};
use schemars::JsonSchema;
use serde::Deserialize;

use self::{assign::assign, kalman::Motion};
use crate::{InferenceError, filter::ReportThresholds};

/// How boxes become tracks. The defaults suit people and vehicles at 3 to 30 frames a second.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrackerConfig {
    /// Least score of boxes that are matched first, 0 to 1. Weaker ones only keep tracks alive that they fit well.
    pub high_score: f32,
    /// Least score of the boxes of the second pass, 0 to 1: those of people half hidden.
    pub low_score: f32,
    /// Least score of a box that begins a track, 0 to 1.
    pub new_track_score: f32,
    /// Least overlap (intersection over union) of a track and a strong box, 0 to 1.
    pub min_iou: f32,
    /// Least overlap of a track and a weak box, 0 to 1.
    pub min_iou_low: f32,
    /// Seconds of stream time for which a track that is not seen keeps its id; at least until the next frame.
    pub lost_secs: f32,
    /// Frames in a row in which a new object must be seen before it gets an id; 1 gives it at once.
    pub confirm_frames: u32,
}

impl Default for TrackerConfig {
    fn default() -> Self {
        Self {
            high_score: 0.65,
            low_score: 0.1,
            new_track_score: 0.75,
            min_iou: 0.15,
            min_iou_low: 0.45,
            lost_secs: 2.0,
            confirm_frames: 2,
        }
    }
}

/// The third pass, for objects that moved more than was foreseen: boxes grown on each side by this part of their size
/// (Yang et al. 2023, "Hard to Track Objects with Irregular Motions and Similar Appearances? Make It Easier by Buffering
/// the Matching Space") need this much overlap. New tracks, of unknown velocity, need as little.
const GROWTH: f32 = 0.3;
const MIN_IOU_LOOSE: f32 = 0.1;

impl TrackerConfig {
    /// Refuses what is out of range.
    ///
    /// # Errors
    /// [`InferenceError::BadSetting`].
    pub fn check(&self) -> Result<(), InferenceError> {
        let units = [
            ("high_score", self.high_score),
            ("low_score", self.low_score),
            ("new_track_score", self.new_track_score),
            ("min_iou", self.min_iou),
            ("min_iou_low", self.min_iou_low),
        ];
        let bad =
            |key, value: f32, expected| Err(InferenceError::BadSetting { key, value: value.to_string(), expected });
        if let Some((key, value)) = units.into_iter().find(|(_, v)| !(0.0..=1.0).contains(v)) {
            return bad(key, value, "0 to 1");
        }
        if self.low_score > self.high_score {
            return bad("low_score", self.low_score, "at most high_score");
        }
        if !(0.0..=3600.0).contains(&self.lost_secs) {
            return bad("lost_secs", self.lost_secs, "0 to 3600");
        }
        if self.confirm_frames == 0 {
            return bad("confirm_frames", 0.0, "1 or more");
        }
        Ok(())
    }
}

#[derive(Debug, Clone)]
struct Track {
    /// From 1, given when confirmed, never given twice.
    id: Option<u64>,
    class: Arc<str>,
    motion: Motion,
    n_seen: u32,
    last_seen: Pts,
    /// Whether it was seen in the frame before.
    seen: bool,
}

/// Follows the objects of one session of one stream.
#[derive(Debug, Clone)]
pub struct Tracker {
    config: TrackerConfig,
    thresholds: ReportThresholds,
    tracks: Vec<Track>,
    n_ids: u64,
    last: Option<Pts>,
}

impl Tracker {
    /// A tracker without tracks. `thresholds` say which detections are worth reporting even without a track.
    pub fn new(config: TrackerConfig, thresholds: ReportThresholds) -> Self {
        Self { config, thresholds, tracks: Vec::new(), n_ids: 0, last: None }
    }

    /// Takes the detections of one frame, from [`TrackerConfig::low_score`] up, and gives back those to be published, in
    /// the same order: every one that belongs to a confirmed track, with the track's id and its smoothed box, and every
    /// other one at or above its report threshold as it is. `pts` must not go backwards.
    pub fn update(&mut self, pts: Pts, detections: &[Detection]) -> Vec<TrackedObject> {
        let secs = self.last.map_or(0.0, |last| pts.since(last).as_secs_f64());
        self.last = Some(pts);
        let lost_secs = f64::from(self.config.lost_secs);
        self.tracks.retain(|t| pts.since(t.last_seen).as_secs_f64() <= lost_secs.max(secs));
        for track in &mut self.tracks {
            track.motion.predict(secs, track.seen);
        }
        let track_of = self.associate(detections);
        let mut published = Vec::with_capacity(detections.len());
        for (detection, track) in detections.iter().zip(&track_of) {
            let (id, box_in_image) = match track {
                Some(t) => self.see(*t, pts, detection),
                None => (self.begin(pts, detection), detection.box_in_image),
            };
            if id.is_some() || detection.score >= self.thresholds.of(&detection.class) {
                let detection = Detection { box_in_image, ..detection.clone() };
                published.push(TrackedObject { detection, track: id });
            }
        }
        for track in &mut self.tracks {
            track.seen = track.last_seen == pts;
        }
        // A new track must be seen again in the very next frame.
        self.tracks.retain(|t| t.id.is_some() || t.seen);
        published
    }

    /// The passes. Gives the track of each detection that continues one.
    fn associate(&self, detections: &[Detection]) -> Vec<Option<usize>> {
        let TrackerConfig { high_score, low_score, min_iou, min_iou_low, .. } = self.config;
        let mut matching = Matching {
            tracks: &self.tracks,
            boxes: self.tracks.iter().map(|t| t.motion.box_in_image()).collect(),
            detections,
            track_of: vec![None; detections.len()],
            matched: vec![false; self.tracks.len()],
        };
        let (strong, weak) = (high_score..f32::INFINITY, low_score..high_score);
        matching.pass(true, &strong, min_iou, 0.0);
        matching.pass(true, &weak, min_iou_low, 0.0);
        matching.pass(true, &strong, MIN_IOU_LOOSE, GROWTH);
        matching.pass(false, &strong, MIN_IOU_LOOSE, 0.0);
        matching.track_of
    }

    /// A detection that continues no track begins one if it is strong enough. Gives the id if that confirms it at once.
    fn begin(&mut self, pts: Pts, detection: &Detection) -> Option<u64> {
        if detection.score < self.config.new_track_score.max(self.config.high_score) {
            return None;
        }
        let motion = Motion::new(&detection.box_in_image);
        let class = Arc::clone(&detection.class);
        let id = self.id_after(1);
        self.tracks.push(Track { id, class, motion, n_seen: 1, last_seen: pts, seen: true });
        id
    }

    /// A track has been seen. Gives its id if it is confirmed, and its box after taking the new one in.
    fn see(&mut self, t: usize, pts: Pts, detection: &Detection) -> (Option<u64>, BoxInImage) {
        let n_seen = self.tracks[t].n_seen + 1;
        let id = self.tracks[t].id.or_else(|| self.id_after(n_seen));
        let track = &mut self.tracks[t];
        track.motion.update(&detection.box_in_image, detection.score);
        (track.id, track.n_seen, track.last_seen) = (id, n_seen, pts);
        (id, track.motion.box_in_image())
    }

    /// A fresh id for a track that has been seen often enough.
    fn id_after(&mut self, n_seen: u32) -> Option<u64> {
        (n_seen >= self.config.confirm_frames).then(|| {
            self.n_ids += 1;
            self.n_ids
        })
    }
}

/// One frame's matching while it is made.
struct Matching<'a> {
    tracks: &'a [Track],
    /// Of each track, where it should be now.
    boxes: Vec<BoxInImage>,
    detections: &'a [Detection],
    track_of: Vec<Option<usize>>,
    matched: Vec<bool>,
}

impl Matching<'_> {
    /// Matches what is left of the confirmed (or the new) tracks with what is left of the boxes of certain scores.
    fn pass(&mut self, confirmed: bool, scores: &Range<f32>, min_iou: f32, growth: f32) {
        let wanted = |t: &usize| !self.matched[*t] && self.tracks[*t].id.is_some() == confirmed;
        let rows: Vec<usize> = (0..self.tracks.len()).filter(wanted).collect();
        let wanted = |d: &usize| self.track_of[*d].is_none() && scores.contains(&self.detections[*d].score);
        let columns: Vec<usize> = (0..self.detections.len()).filter(wanted).collect();
        let cost = |t: usize, d: usize| {
            let detection = &self.detections[d];
            if self.tracks[t].class != detection.class {
                return f64::INFINITY;
            }
            f64::from(1.0 - grown(&self.boxes[t], growth).iou(&grown(&detection.box_in_image, growth)))
        };
        let costs: Vec<Vec<f64>> = rows.iter().map(|&t| columns.iter().map(|&d| cost(t, d)).collect()).collect();
        for (row, column) in assign(&costs, f64::from(1.0 - min_iou)) {
            self.matched[rows[row]] = true;
            self.track_of[columns[column]] = Some(rows[row]);
        }
    }
}

/// A box grown on each side by a part of its size.
fn grown(b: &BoxInImage, part: f32) -> BoxInImage {
    let (dx, dy) = (b.width * part, b.height * part);
    BoxInImage { x: b.x - dx, y: b.y - dy, width: b.width + 2.0 * dx, height: b.height + 2.0 * dy }
}

#[cfg(test)]
mod tests;
