//! ByteTrack (Zhang et al. 2022, "Multi-Object Tracking by Associating Every Detection Box"): boxes become tracks.
//!
//! One tracker a stream and session, owned by whoever consumes that stream's detections. Pure and deterministic: same
//! detections at the same stream times, same ids. Times are stream time, so frame rates may vary and frames may be missing.

mod assign;
mod kalman;

use std::sync::Arc;

use base::{
    event::{BoxInImage, Detection, TrackedObject},
    time::Pts,
};
use schemars::JsonSchema;
use serde::Deserialize;

use self::{assign::assign, kalman::Motion};
use crate::{InferenceError, filter::ReportThresholds};

/// How boxes become tracks.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrackerConfig {
    /// Least score of boxes that are matched first, 0 to 1. Weaker ones only keep tracks alive that they fit well.
    pub high_score: f32,
    /// Least score of the boxes of the second pass, 0 to 1: those of people half hidden.
    pub low_score: f32,
    /// Least score of a box that begins a track, 0 to 1.
    pub new_track_score: f32,
    /// Least overlap (intersection over union, weighted by the score) of a track and a box in the first pass, 0 to 1.
    pub min_iou: f32,
    /// Least overlap of a track and a weak box in the second pass, 0 to 1.
    pub min_iou_low: f32,
    /// Least overlap of a new track and its second box, 0 to 1.
    pub min_iou_new: f32,
    /// Seconds of stream time for which a track that is not seen keeps its id.
    pub lost_secs: f32,
    /// Frames in a row in which a new object must be seen before it gets an id; 1 gives it at once.
    pub confirm_frames: u32,
}

impl Default for TrackerConfig {
    fn default() -> Self {
        Self {
            high_score: 0.5,
            low_score: 0.1,
            new_track_score: 0.6,
            min_iou: 0.2,
            min_iou_low: 0.5,
            min_iou_new: 0.3,
            lost_secs: 2.0,
            confirm_frames: 2,
        }
    }
}

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
            ("min_iou_new", self.min_iou_new),
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
    /// the same order: every one that belongs to a confirmed track, with its id, and every other one at or above its
    /// report threshold, without. `pts` must not go backwards.
    pub fn update(&mut self, pts: Pts, detections: &[Detection]) -> Vec<TrackedObject> {
        let secs = self.last.map_or(0.0, |last| pts.since(last).as_secs_f64());
        self.last = Some(pts);
        let lost_secs = f64::from(self.config.lost_secs);
        self.tracks.retain(|t| pts.since(t.last_seen).as_secs_f64() <= lost_secs.max(secs));
        for track in &mut self.tracks {
            track.motion.predict(secs, track.seen);
        }
        let track_of = self.associate(pts, detections);
        let object = |(detection, id): (&Detection, &Option<u64>)| {
            let reported = id.is_some() || detection.score >= self.thresholds.of(&detection.class);
            reported.then(|| TrackedObject { detection: detection.clone(), track: *id })
        };
        detections.iter().zip(&track_of).filter_map(object).collect()
    }

    /// The passes. Gives the confirmed track's id of each detection.
    fn associate(&mut self, pts: Pts, detections: &[Detection]) -> Vec<Option<u64>> {
        let config = self.config.clone();
        let boxes: Vec<BoxInImage> = self.tracks.iter().map(|t| t.motion.box_in_image()).collect();
        let mut track_of: Vec<Option<usize>> = vec![None; detections.len()];
        let mut matched = vec![false; self.tracks.len()];
        let mut pass = |wanted_track: &dyn Fn(&Track) -> bool,
                        wanted_score: std::ops::Range<f32>,
                        min_iou: f32,
                        weighted: bool| {
            let rows: Vec<usize> =
                (0..self.tracks.len()).filter(|t| !matched[*t] && wanted_track(&self.tracks[*t])).collect();
            let columns: Vec<usize> = (0..detections.len())
                .filter(|d| track_of[*d].is_none() && wanted_score.contains(&detections[*d].score))
                .collect();
            let cost = |t: usize, d: usize| {
                let (track, detection) = (&self.tracks[t], &detections[d]);
                if track.class != detection.class {
                    return f64::INFINITY;
                }
                let iou = boxes[t].iou(&detection.box_in_image);
                f64::from(1.0 - if weighted { iou * detection.score } else { iou })
            };
            let costs: Vec<Vec<f64>> = rows.iter().map(|&t| columns.iter().map(|&d| cost(t, d)).collect()).collect();
            for (row, column) in assign(&costs, f64::from(1.0 - min_iou)) {
                matched[rows[row]] = true;
                track_of[columns[column]] = Some(rows[row]);
            }
        };
        let (high, low) = (config.high_score..f32::INFINITY, config.low_score..config.high_score);
        // Confirmed tracks, seen or lost, with strong boxes; then those seen a frame ago with weak ones; then new tracks.
        pass(&|t| t.id.is_some(), high.clone(), config.min_iou, true);
        pass(&|t| t.id.is_some() && t.seen, low, config.min_iou_low, false);
        pass(&|t| t.id.is_none(), high, config.min_iou_new, true);

        let mut ids = vec![None; detections.len()];
        for (d, detection) in detections.iter().enumerate() {
            ids[d] = match track_of[d] {
                Some(t) => self.see(t, pts, &detection.box_in_image),
                None if detection.score >= config.new_track_score.max(config.high_score) => {
                    let motion = Motion::new(&detection.box_in_image);
                    let class = Arc::clone(&detection.class);
                    self.tracks.push(Track { id: None, class, motion, n_seen: 0, last_seen: pts, seen: true });
                    self.see(self.tracks.len() - 1, pts, &detection.box_in_image)
                }
                None => None,
            };
        }
        for (track, matched) in self.tracks.iter_mut().zip(&matched) {
            track.seen = *matched;
        }
        // A new track must be seen again in the very next frame.
        self.tracks.retain(|t| t.id.is_some() || t.seen);
        ids
    }

    /// A track has been seen; gives its id if it is confirmed.
    fn see(&mut self, t: usize, pts: Pts, at: &BoxInImage) -> Option<u64> {
        let track = &mut self.tracks[t];
        if track.n_seen > 0 {
            track.motion.update(at);
        }
        track.n_seen += 1;
        track.last_seen = pts;
        if track.id.is_none() && track.n_seen >= self.config.confirm_frames {
            self.n_ids += 1;
            track.id = Some(self.n_ids);
        }
        track.id
    }
}

#[cfg(test)]
mod tests;
