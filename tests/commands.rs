//! The commands as a user meets them: what they print, and what they refuse.

use std::fs;

use crate::harness::{CLIP, Scene, assert_valid, of_type};

#[test]
fn the_demo_sees_people_and_sums_up() {
    let scene = Scene::new();
    let done = scene.run(&["demo", "--secs", "8"]).expect(0);
    let records = scene.records("eyewitness-out/demo.jsonl");
    assert_valid(&records);
    let detections = of_type(&records, "detections");
    assert!(detections.iter().any(|r| r["objects"].as_array().unwrap().iter().any(|o| o["class"] == "person")));
    assert!(detections.iter().all(|r| r["tags"]["Location"] == "Campus"));
    for part in ["demo-camera", "person", "decoded", "inferred", "tracks", "p50"] {
        assert!(done.stdout.contains(part), "`{part}` is missing in:\n{}", done.stdout);
    }
    assert!(!done.stdout.contains("loopback@"), "{}", done.stdout);
    assert!(done.stderr.is_empty(), "{}", done.stderr);
}

#[test]
fn help_has_examples_and_exit_codes() {
    let scene = Scene::new();
    let help = scene.run(&["--help"]).expect(0).stdout;
    for part in ["Examples:", "Exit codes:", "replay", "doctor"] {
        assert!(help.contains(part), "`{part}` is missing in:\n{help}");
    }
    for command in ["run", "replay", "validate", "schema", "demo"] {
        let help = scene.run(&[command, "--help"]).expect(0).stdout;
        assert!(help.contains("Example"), "no example in {command}:\n{help}");
    }
    scene.run(&["watch"]).expect(2);
}

#[test]
fn a_bad_input_gets_one_clear_error() {
    let scene = Scene::new();
    scene.file("empty.mp4", "");
    scene.file("text.mp4", "this is no film, this is a text that somebody called .mp4\n".repeat(50));
    let clip = fs::read(CLIP).unwrap();
    // The clip's index stands at its beginning, so half of it still plays.
    scene.file("half.mp4", &clip[..clip.len() / 2]);
    scene.file("head.mp4", &clip[..1000]);
    let check = |args: &[&str], parts: &[&str]| {
        let done = scene.run(&[&["replay"], args].concat()).expect(1).complains(parts);
        let errors = done.stderr.lines().filter(|l| l.starts_with("error")).count();
        assert_eq!(errors, 1, "{}", done.stderr);
    };
    check(&["nowhere.mp4"], &["nowhere.mp4"]);
    check(&["empty.mp4", "--out", "empty.mp4"], &["the output is the input"]);
    check(&["empty.mp4"], &["empty"]);
    check(&["text.mp4"], &["text"]);
    check(&["head.mp4"], &["head"]);
    check(&["half.mp4", "--sample", "every=10", "--out", "half.jsonl"], &["half", "truncated"]);
    assert!(of_type(&scene.records("half.jsonl"), "detections").len() >= 10, "what could be read is analysed");
    check(&["gopher2://h/x"], &["gopher2"]);
    check(&[CLIP, "--detect", "ssdlite-mbv9"], &["ssdlite-mbv9", "ssdlite-mbv2"]);
    check(&[CLIP, "--classes", "persom"], &["persom", "person"]);
    check(&[CLIP, "--out", "text.mp4/x.jsonl"], &["text.mp4", "directory"]);
}

#[test]
fn a_model_that_is_not_what_it_says_is_refused_at_start() {
    let scene = Scene::new();
    let root = env!("CARGO_MANIFEST_DIR");
    let manifest = fs::read_to_string(format!("{root}/models/ssdlite-mbv2.toml")).unwrap();
    let weights = "ssdlite_mbv2_coco_300.onnx";
    fs::copy(format!("{root}/models/{weights}"), scene.path(weights)).unwrap();
    let check = |name: &str, from: &str, to: &str, parts: &[&str]| {
        let changed = manifest.replace(from, to);
        assert_ne!(changed, manifest, "{from}");
        scene.file(name, changed);
        scene.run(&["replay", CLIP, "--detect", name, "--out", "out.jsonl"]).expect(1).complains(parts);
        assert!(!scene.path("out.jsonl").exists(), "nothing is opened before the model is known to fit");
    };
    check("size.toml", "width = 300", "width = 320", &["320", "300", "expected", "found"]);
    check("layout.toml", "layout = \"yolov8\"", "layout = \"yolox\"", &["expected", "found", "1917"]);
    let sum = manifest.split("sha256 = \"").nth(1).unwrap().split('"').next().unwrap();
    check("sum.toml", sum, &"0".repeat(64), &["0000", &sum[..8], "expected", "found"]);
    check("key.toml", "licence", "license", &["license", "licence"]);
    scene.file("same.toml", &manifest);
    scene.run(&["replay", CLIP, "--detect", "same.toml", "--sample", "every=200", "--out", "x.jsonl"]).expect(0);
}

#[test]
fn models_are_listed_pulled_and_verified() {
    let scene = Scene::new();
    let store = scene.path("store");
    let models = |args: &[&str]| {
        let mut command = scene.command(&[&["models"], args].concat());
        crate::harness::Done::from(command.env("EYEWITNESS_MODELS", &store).output().unwrap())
    };
    let list = models(&["list"]).expect(0).stdout;
    for name in ["ssdlite-mbv2", "yolox-nano", "centerface", "silero-vad"] {
        assert!(list.contains(name), "`{name}` is missing in:\n{list}");
    }
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/models");
    models(&["pull", "ssdlite-mbv2", "--from", shipped]).expect(0);
    models(&["verify"]).expect(0);
    let wrong = scene.file("yolox_nano.onnx", "not these weights");
    models(&["pull", "yolox-nano", "--from", wrong.to_str().unwrap()]).expect(1).complains(&["expected", "found"]);
    models(&["pull", "yolox-mano"]).expect(1).complains(&["yolox-nano"]);
    let stored = store.join("ssdlite-mbv2/ssdlite_mbv2_coco_300.onnx");
    let mut bytes = fs::read(&stored).unwrap();
    bytes[1000] ^= 1;
    fs::write(&stored, bytes).unwrap();
    models(&["verify"]).expect(1).complains(&["ssdlite-mbv2"]);
}

#[test]
fn the_doctor_finds_what_the_set_up_installed() {
    let done = Scene::new().run(&["doctor"]).expect(0);
    for part in ["GStreamer", "ONNX Runtime", "ssdlite-mbv2"] {
        assert!(done.stdout.contains(part), "`{part}` is missing in:\n{}", done.stdout);
    }
    let scene = Scene::new();
    let mut command = scene.command(&["doctor"]);
    command.env("ORT_DYLIB_PATH", scene.path("nowhere.so"));
    let done = crate::harness::Done::from(command.output().unwrap()).expect(1);
    assert!(done.stdout.contains("nowhere.so"), "{}", done.stdout);
}

#[test]
fn validate_and_schema_speak_plainly() {
    let scene = Scene::new();
    scene.file("good.toml", "[streams.a]\nurl = 'rtsp://u:hunter2@cam.lan/1'\n");
    let done = scene.run(&["validate", "good.toml"]).expect(0);
    assert!(done.stdout.contains("good") && !done.stdout.contains("hunter2"), "{}", done.stdout);
    scene.file("bad.toml", "[streams.a]\nurl = 'rtsp://u:hunter2@cam.lan/1'\nprofil = 'x'\n");
    let done = scene.run(&["validate", "bad.toml"]).expect(2).complains(&["bad.toml:3", "did you mean `profile`"]);
    assert!(!done.stderr.contains("hunter2"), "{}", done.stderr);
    scene.run(&["validate", "none.toml"]).expect(2).complains(&["none.toml"]);
    let schema = scene.run(&["schema", "detections"]).expect(0).stdout;
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    assert!(schema["$schema"].as_str().unwrap().contains("2020-12"));
}
