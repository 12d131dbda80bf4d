//! Tracks through crossings, occlusions, weak boxes and gaps.

use base::time::Pts;
use proptest::prelude::*;

use super::*;

fn at(class: &str, score: f32, x: f32, y: f32) -> Detection {
    Detection { class: class.into(), score, box_in_image: BoxInImage { x, y, width: 30.0, height: 80.0 } }
}

fn person(score: f32, x: f32) -> Detection {
    at("person", score, x, 100.0)
}

fn tracker() -> Tracker {
    Tracker::new(TrackerConfig::default(), ReportThresholds::same(0.4))
}

/// Runs frames at 10 a second; gives each frame's published tracks in the order of its detections.
fn run(tracker: &mut Tracker, frames: &[Vec<Detection>]) -> Vec<Vec<Option<u64>>> {
    let mut ids = |(i, frame): (usize, &Vec<Detection>)| {
        tracker.update(Pts::from_millis(100 * i as u64), frame).iter().map(|o| o.track).collect()
    };
    frames.iter().enumerate().map(&mut ids).collect()
}

#[test]
fn an_id_comes_with_the_second_sight() {
    let frames: Vec<_> = (0..4).map(|i| vec![person(0.9, 10.0 * i as f32)]).collect();
    assert_eq!(run(&mut tracker(), &frames), [[None], [Some(1)], [Some(1)], [Some(1)]]);
    let at_once = TrackerConfig { confirm_frames: 1, ..Default::default() };
    let mut tracker = Tracker::new(at_once, ReportThresholds::same(0.4));
    assert_eq!(run(&mut tracker, &frames[..2]), [[Some(1)], [Some(1)]]);
}

#[test]
fn a_flash_gets_no_id_and_wastes_none() {
    let frames = [vec![person(0.9, 0.0)], vec![], vec![person(0.9, 300.0)], vec![person(0.9, 300.0)]];
    assert_eq!(run(&mut tracker(), &frames), [vec![None], vec![], vec![None], vec![Some(1)]]);
}

#[test]
fn two_who_cross_keep_their_ids() {
    // They walk towards each other, one a little lower in the picture; the boxes meet in the middle.
    let frames: Vec<_> = (0..=20)
        .map(|i| vec![at("person", 0.9, 10.0 * i as f32, 100.0), at("person", 0.88, 200.0 - 10.0 * i as f32, 125.0)])
        .collect();
    let ids = run(&mut tracker(), &frames);
    assert!(ids[1..].iter().all(|f| *f == [Some(1), Some(2)]), "{ids:?}");
}

#[test]
fn an_occlusion_keeps_the_id_until_the_object_is_given_up() {
    let check = |n_hidden: usize, expected: u64| {
        let mut frames: Vec<_> = (0..10).map(|i| vec![person(0.9, 5.0 * i as f32)]).collect();
        frames.extend(vec![Vec::new(); n_hidden]);
        frames.extend((0..2).map(|i| vec![person(0.9, 5.0 * (10 + n_hidden + i) as f32)]));
        let ids = run(&mut tracker(), &frames);
        assert_eq!(ids.last(), Some(&vec![Some(expected)]), "{n_hidden} frames hidden: {ids:?}");
    };
    check(1, 1);
    check(15, 1);
    check(25, 2);
}

#[test]
fn weak_boxes_keep_a_track_alive_but_begin_none() {
    let strong: Vec<_> = (0..3).map(|i| vec![person(0.9, 5.0 * i as f32)]).collect();
    // Half hidden behind something: below the report threshold, published all the same, because it is somebody known.
    let weak: Vec<_> = (3..40).map(|i| vec![person(0.15, 5.0 * i as f32), at("person", 0.2, 600.0, 100.0)]).collect();
    let ids = run(&mut tracker(), &[strong, weak].concat());
    assert!(ids[3..].iter().all(|f| *f == [Some(1)]), "{ids:?}");
}

#[test]
fn what_is_published() {
    let check = |score: f32, expected: &[Option<u64>]| {
        // Never strong enough for a track of its own.
        let frames = vec![vec![person(score, 0.0)]; 3];
        assert_eq!(run(&mut tracker(), &frames)[2], expected, "score {score}");
    };
    check(0.39, &[]);
    check(0.4, &[None]);
    check(0.7, &[None]);
    check(0.76, &[Some(1)]);
    let per_class = ReportThresholds { score: 0.4, per_class: [("dog".into(), 0.6)].into() };
    let mut tracker = Tracker::new(TrackerConfig::default(), per_class);
    let published = tracker.update(Pts::ZERO, &[at("dog", 0.5, 0.0, 0.0), person(0.5, 300.0)]);
    assert_eq!(published.iter().map(|o| &*o.detection.class).collect::<Vec<_>>(), ["person"]);
}

#[test]
fn classes_never_mix() {
    let mut tracker = tracker();
    let frames = [vec![at("car", 0.9, 0.0, 0.0)], vec![at("car", 0.9, 0.0, 0.0)], vec![at("bus", 0.9, 0.0, 0.0)]];
    assert_eq!(run(&mut tracker, &frames), [[None], [Some(1)], [None]]);
}

#[test]
fn time_counts_not_frames() {
    // The same walk at 5 px and 50 ms a frame, then one frame after a gap of a second.
    let check = |gap_ms: u64, x_after: f32, expected: Option<u64>| {
        let mut tracker = tracker();
        for i in 0..20 {
            tracker.update(Pts::from_millis(50 * i), &[person(0.9, 5.0 * i as f32)]);
        }
        let published = tracker.update(Pts::from_millis(50 * 19 + gap_ms), &[person(0.9, x_after)]);
        assert_eq!(published[0].track, expected, "after {gap_ms} ms at {x_after}");
    };
    check(1000, 195.0, Some(1));
    check(1000, 95.0, None);
    check(50, 100.0, Some(1));
}

#[test]
fn one_frame_in_five_seconds_still_makes_tracks() {
    let mut tracker = tracker();
    let ids: Vec<_> =
        (0..4).map(|i| tracker.update(Pts::from_millis(5000 * i), &[person(0.9, 50.0)])[0].track).collect();
    assert_eq!(ids, [None, Some(1), Some(1), Some(1)]);
}

#[test]
fn settings_out_of_range_are_named() {
    let check = |config: TrackerConfig, expected: &str| {
        assert_eq!(config.check().expect_err("refused").to_string(), expected);
    };
    let ok = TrackerConfig::default;
    assert!(ok().check().is_ok());
    check(TrackerConfig { min_iou: 1.5, ..ok() }, "min_iou = 1.5 is out of range: 0 to 1");
    check(TrackerConfig { low_score: 0.8, ..ok() }, "low_score = 0.8 is out of range: at most high_score");
    check(TrackerConfig { lost_secs: -1.0, ..ok() }, "lost_secs = -1 is out of range: 0 to 3600");
    check(TrackerConfig { confirm_frames: 0, ..ok() }, "confirm_frames = 0 is out of range: 1 or more");
}

fn any_frames() -> impl Strategy<Value = Vec<(u64, Vec<Detection>)>> {
    let one = (0..2usize, 0.05..1.0f32, 0.0..300.0f32, 0.0..300.0f32)
        .prop_map(|(class, score, x, y)| at(["person", "car"][class], score, x, y));
    prop::collection::vec((0..700u64, prop::collection::vec(one, 0..8)), 0..30)
}

proptest! {
    #[test]
    fn ids_are_unique_in_a_frame_grow_from_one_and_repeat_exactly(frames in any_frames()) {
        let (mut tracker, mut again) = (tracker(), tracker());
        let (mut pts, mut n_ids) = (0, 0);
        for (ms, detections) in &frames {
            pts += ms;
            let published = tracker.update(Pts::from_millis(pts), detections);
            prop_assert_eq!(&published, &again.update(Pts::from_millis(pts), detections));
            let mut ids: Vec<u64> = published.iter().filter_map(|o| o.track).collect();
            ids.sort_unstable();
            prop_assert!(ids.windows(2).all(|w| w[0] < w[1]), "{:?}", ids);
            // A new id is the next one.
            for id in ids {
                prop_assert!(id <= n_ids + 1, "{} after {}", id, n_ids);
                n_ids = n_ids.max(id);
            }
            for object in &published {
                let b = object.detection.box_in_image;
                prop_assert!(b.width > 0.0 && b.height > 0.0 && b.x.is_finite() && b.y.is_finite());
                prop_assert!(object.track.is_some() || object.detection.score >= 0.4);
            }
            let n_strong = detections.iter().filter(|d| d.score >= 0.4).count();
            prop_assert!(published.len() >= n_strong && published.len() <= detections.len());
        }
    }
}
