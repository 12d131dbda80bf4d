//! Who is who: a track that is lost and found under another id is still the same object. One for all rules of a stream.

use std::collections::{BTreeMap, BTreeSet};

use base::event::{BoxInImage, Detections, TrackedObject};

use super::{At, geometry::Point};
use crate::rules::config::{Anchor, Objects};

/// Two tracks can be one object if the second begins so soon after the first was lost.
const REJOINED_WITHIN: At = 3000;
/// How far an object may have come meanwhile, in parts of its height: at once, and more for each second.
const REACH: f32 = 0.5;
const REACH_A_SECOND: f32 = 0.5;
/// What was lost this close to the picture's edge has left, in parts of the picture.
const EDGE: f32 = 0.01;
/// Forgotten when not seen for so long.
const FORGOTTEN: At = 120_000;

/// One object of a frame.
pub(super) struct Thing<'a> {
    /// The same over all its tracks; none while it has no track.
    pub(super) who: Option<u64>,
    pub(super) object: &'a TrackedObject,
    size: (f32, f32),
}

impl Thing<'_> {
    /// The point that stands for it, in parts of the picture.
    pub(super) fn anchor(&self, anchor: Anchor) -> Point {
        let (b, (w, h)) = (self.object.detection.box_in_image, self.size);
        let down = if anchor == Anchor::Feet { b.height } else { b.height / 2.0 };
        [(b.x + b.width / 2.0) / w, ((b.y + down) / h).min(1.0)]
    }

    /// Its height in parts of the picture's.
    pub(super) fn height(&self) -> f32 {
        self.object.detection.box_in_image.height / self.size.1
    }

    pub(super) fn fits(&self, wanted: &Objects) -> bool {
        let detection = &self.object.detection;
        (wanted.classes.is_empty() || wanted.classes.iter().any(|class| **class == *detection.class))
            && detection.score >= wanted.min_score
    }
}

struct Known {
    class: String,
    place: BoxInImage,
    seen_at: At,
    has_left: bool,
}

/// The objects of a stream.
#[derive(Default)]
pub(super) struct Identities {
    by_track: BTreeMap<u64, u64>,
    known: BTreeMap<u64, Known>,
    newest: u64,
    /// Ids of tracks have been seen: then what has none is not confirmed yet.
    pub(super) are_tracked: bool,
}

impl Identities {
    /// Ids of tracks begin anew.
    pub(super) fn restart(&mut self) {
        self.by_track.clear();
        self.known.clear();
    }

    /// The objects of a frame, as far as they count: with tracking, those that have a track.
    pub(super) fn of_frame<'a>(&mut self, at: At, seen: &'a Detections) -> Vec<Thing<'a>> {
        self.are_tracked |= seen.objects.iter().any(|object| object.track.is_some());
        let size = (seen.width.max(1) as f32, seen.height.max(1) as f32);
        let here: BTreeSet<u64> = seen.objects.iter().filter_map(|o| self.by_track.get(&o.track?).copied()).collect();
        let mut things = Vec::with_capacity(seen.objects.len());
        let mut claimed = here.clone();
        for object in &seen.objects {
            let Some(track) = object.track else {
                if !self.are_tracked {
                    things.push(Thing { who: None, object, size });
                }
                continue;
            };
            let who = match self.by_track.get(&track) {
                Some(who) => *who,
                None => self.rejoined(at, object, &claimed).unwrap_or_else(|| {
                    self.newest += 1;
                    self.newest
                }),
            };
            claimed.insert(who);
            self.by_track.insert(track, who);
            let place = object.detection.box_in_image;
            let has_left = place.x <= EDGE * size.0
                || place.y <= EDGE * size.1
                || place.x + place.width >= (1.0 - EDGE) * size.0
                || place.y + place.height >= (1.0 - EDGE) * size.1;
            self.known.insert(who, Known { class: object.detection.class.to_string(), place, seen_at: at, has_left });
            things.push(Thing { who: Some(who), object, size });
        }
        if self.known.len() > 2 * seen.objects.len() + 64 {
            self.known.retain(|_, known| at - known.seen_at < FORGOTTEN);
            let known = &self.known;
            self.by_track.retain(|_, who| known.contains_key(who));
        }
        things
    }

    /// Whose new track this is, if it is that of somebody who was lost just now and just there.
    fn rejoined(&self, at: At, object: &TrackedObject, claimed: &BTreeSet<u64>) -> Option<u64> {
        let place = object.detection.box_in_image;
        let off = |known: &Known| {
            let (a, b) = (center(known.place), center(place));
            let height = known.place.height.max(place.height).max(1.0);
            let away = (at - known.seen_at) as f32 / 1000.0;
            ((a.0 - b.0).hypot(a.1 - b.1)) / height / (REACH + REACH_A_SECOND * away)
        };
        self.known
            .iter()
            .filter(|(who, known)| {
                !claimed.contains(who)
                    && !known.has_left
                    && known.class == *object.detection.class
                    && (1..=REJOINED_WITHIN).contains(&(at - known.seen_at))
            })
            .map(|(who, known)| (*who, off(known)))
            .filter(|(_, off)| *off <= 1.0)
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .map(|(who, _)| who)
    }
}

fn center(place: BoxInImage) -> (f32, f32) {
    (place.x + place.width / 2.0, place.y + place.height / 2.0)
}
