//! Replays of the bundled clip: complete, the same bytes every time, and as accurate as the model is.

use std::fs;

use serde_json::Value;

use crate::harness::{CLIP, Scene, assert_valid, of_type};

#[test]
fn two_replays_are_the_same_bytes_and_every_sampled_frame_has_a_record() {
    let check = |sample: &str, indices: Vec<u64>| {
        let scene = Scene::new();
        for out in ["a.jsonl", "b.jsonl"] {
            scene.run(&["replay", CLIP, "--sample", sample, "--out", out]).expect(0);
        }
        let bytes = fs::read(scene.path("a.jsonl")).unwrap();
        assert!(bytes == fs::read(scene.path("b.jsonl")).unwrap(), "{sample}: two replays differ");
        let records = scene.records("a.jsonl");
        assert_valid(&records);
        let found: Vec<u64> =
            of_type(&records, "detections").iter().map(|r| r["frame"]["index"].as_u64().unwrap()).collect();
        assert_eq!(found, indices, "{sample}");
        let states: Vec<&Value> = of_type(&records, "status").iter().map(|r| &r["state"]).collect();
        assert_eq!(states, ["playing", "ended"]);
        assert!(records.iter().all(|r| r.get("published_at").is_none()));
    };
    check("every=8", (0..400).step_by(8).collect());
    check("fps=1", (0..400).step_by(10).collect());
    // One key frame every 20 frames; the others are never decoded.
    check("keyframes", (0..20).collect());
}

#[test]
fn ids_depend_on_the_settings() {
    let scene = Scene::new();
    scene.run(&["replay", CLIP, "--sample", "every=100", "--out", "a.jsonl"]).expect(0);
    scene.run(&["replay", CLIP, "--sample", "every=100", "--min-score", "0.6", "--out", "b.jsonl"]).expect(0);
    assert_ne!(scene.records("a.jsonl")[0]["session"], scene.records("b.jsonl")[0]["session"]);
}

#[test]
fn what_is_seen_agrees_with_labels_made_by_hand() {
    let labels: Value = serde_json::from_str(include_str!("../media/demo_labels.json")).unwrap();
    let scene = Scene::new();
    let out = scene.run(&["replay", CLIP, "--no-track", "--min-score", "0.4", "--classes", "person"]).expect(0);
    let records: Vec<Value> = out.stdout.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let (mut n_true, mut n_found, mut n_labels) = (0, 0, 0);
    let to_box = |v: &Value| -> [f64; 4] { std::array::from_fn(|i| v[i].as_f64().unwrap()) };
    for (index, labelled) in labels["frames"].as_object().unwrap() {
        let index: u64 = index.parse().unwrap();
        let of_frame = |r: &&Value| r["frame"]["index"] == index;
        let record = of_type(&records, "detections").into_iter().find(of_frame).unwrap();
        let mut people: Vec<[f64; 4]> = labelled.as_array().unwrap().iter().map(|p| to_box(&p["box"])).collect();
        n_labels += people.len();
        // Best score first, as published.
        for object in record["objects"].as_array().unwrap() {
            n_found += 1;
            let found = to_box(&object["box"]);
            let best = (0..people.len()).max_by(|a, b| iou(&people[*a], &found).total_cmp(&iou(&people[*b], &found)));
            if let Some(best) = best.filter(|b| iou(&people[*b], &found) >= 0.5) {
                people.swap_remove(best);
                n_true += 1;
            }
        }
    }
    let (precision, recall) = (f64::from(n_true) / f64::from(n_found), f64::from(n_true) / n_labels as f64);
    assert!(n_labels >= 80, "{n_labels}");
    assert!(precision >= 0.80 && recall >= 0.62, "precision {precision:.3} recall {recall:.3}");
}

fn iou(a: &[f64; 4], b: &[f64; 4]) -> f64 {
    let w = (a[0] + a[2]).min(b[0] + b[2]) - a[0].max(b[0]);
    let h = (a[1] + a[3]).min(b[1] + b[3]) - a[1].max(b[1]);
    let inter = w.max(0.0) * h.max(0.0);
    inter / (a[2] * a[3] + b[2] * b[3] - inter)
}
