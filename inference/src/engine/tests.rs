//! The engine on real models: the built-in detector on a real picture, and tiny hand-made networks for what it cannot show.

use std::{sync::Arc, time::Duration};

use base::{
    event::{BoxInImage, Detection},
    ledger::{DropReason, Ledger},
    media::{Frame, Image, PixelFormat, SessionId, StreamName},
    time::Pts,
};
use parking_lot::Mutex;

use super::*;
use crate::{
    manifest::Labels,
    store::{ModelStore, Weights},
};

const BRIGHTNESS: &[u8] = include_bytes!("../../tests/data/brightness.onnx");
const SIZES: &[u8] = include_bytes!("../../tests/data/sizes.onnx");
/// One picture of the bundled clip (frame 131), 768x576 scaled to 300x300.
const STREET: &[u8] = include_bytes!("../../tests/data/street_300x300.ppm");

fn built_in(name: &str) -> Model {
    let store = ModelStore::at("/nonexistent");
    store.resolve(name).expect("built in")
}

fn tiny(weights: &'static [u8], layout: &str) -> Model {
    let manifest = format!(
        "name = 'tiny'\ntask = 'detect'\nfile = 'tiny.onnx'\nsha256 = '{}'\nlicence = 'Apache-2.0'\n\
         origin = 'tests/data/make_models.py'\nlabels = ['bright']\n[input]\nwidth = 8\nheight = 8\n\
         [output]\nlayout = '{layout}'\n[thresholds]\nscore = 0.1\n",
        hex(&<sha2::Sha256 as sha2::Digest>::digest(weights))
    );
    Model { manifest: Manifest::parse("tiny", &manifest).expect("manifest"), weights: vec![Weights::Embedded(weights)] }
}

fn frame(index: u64, source: (u32, u32), size: (u32, u32), data: Vec<u8>) -> Frame {
    Frame {
        session: SessionId::derived([]),
        index,
        pts: Pts::from_millis(index * 100),
        captured: None,
        decoded_at: Duration::ZERO,
        source_width: source.0,
        source_height: source.1,
        image: Image {
            width: size.0,
            height: size.1,
            stride: 3 * size.0 as usize,
            format: PixelFormat::Rgb8,
            data: data.into(),
        },
    }
}

/// A picture for the tiny networks, all of one brightness, of a source of 80x80.
fn grey(index: u64, brightness: u8) -> Frame {
    frame(index, (80, 80), (8, 8), vec![brightness; 192])
}

fn name(text: &str) -> StreamName {
    StreamName::new(text).expect("name")
}

type Seen = Arc<Mutex<Vec<(u64, Vec<Detection>)>>>;

/// A lane that writes down what it is told.
fn recording_lane(engine: &Engine, stream: &str, filter: &DetectionFilter) -> (Lane, Ledger, Seen) {
    let (ledger, seen) = (Ledger::default(), Seen::default());
    let on_result: OnResult = {
        let seen = Arc::clone(&seen);
        Box::new(move |frame, detections| seen.lock().push((frame.index, detections)))
    };
    let lane = engine.lane(name(stream), LanePolicy::Block, ledger.clone(), filter, on_result).expect("lane");
    (lane, ledger, seen)
}

fn submit(lane: &Lane, ledger: &Ledger, frame: Frame) {
    ledger.decoded();
    lane.submit(frame);
}

#[test]
fn sees_the_people_in_a_street() {
    // By eye, on the picture: left, top, right, bottom.
    const PEOPLE: [[f32; 4]; 5] = [
        [382., 183., 407., 266.], // the man left of the sign
        [592., 205., 638., 307.], // two, one before the other
        [592., 119., 614., 184.], // a couple
        [616., 123., 638., 187.],
        [684., 120., 704., 189.], // the man behind them
    ];
    let engine = Engine::load(&built_in("ssdlite-mbv2"), &EngineConfig::default()).expect("engine");
    let request = engine.picture_request();
    assert_eq!(request.scaled_size(768, 576), (300, 300));
    assert_eq!(engine.model_id().version, "b42166a4");
    let person = DetectionFilter { classes: vec!["person".into()], ..Default::default() };
    let (lane, ledger, seen) = recording_lane(&engine, "street", &person);
    submit(&lane, &ledger, frame(0, (768, 576), (300, 300), STREET[STREET.len() - 270_000..].to_vec()));
    lane.drain();
    let seen = seen.lock();
    let (_, people) = &seen[0];
    assert!(people.iter().all(|d| &*d.class == "person" && d.score >= 0.4), "{people:?}");
    assert!(people.is_sorted_by(|a, b| a.score >= b.score));
    let found = |b: &[f32; 4]| {
        let b = BoxInImage { x: b[0], y: b[1], width: b[2] - b[0], height: b[3] - b[1] };
        people.iter().any(|d| d.box_in_image.iou(&b) >= 0.5)
    };
    let n_found = PEOPLE.iter().filter(|b| found(b)).count();
    assert!(n_found >= 4, "{n_found} of 5 people among {people:?}");
    assert!(people.len() <= 9, "{people:?}");
}

#[test]
fn every_stream_gets_its_own_picture_of_a_batch() {
    for (weights, layout, expected) in [
        (BRIGHTNESS, "yolov8", BoxInImage { x: 20.0, y: 30.0, width: 40.0, height: 20.0 }),
        (SIZES, "rtdetr_export", BoxInImage { x: 0.0, y: 0.0, width: 40.0, height: 40.0 }),
    ] {
        let config = EngineConfig { max_batch: MaxBatch::Pictures(4), ..Default::default() };
        let engine = Engine::load(&tiny(weights, layout), &config).expect("engine");
        assert_eq!(engine.max_batch(), 4);
        let lanes: Vec<_> =
            (0..6).map(|i| recording_lane(&engine, &format!("s{i}"), &DetectionFilter::default())).collect();
        for round in 0..5 {
            for (i, (lane, ledger, _)) in lanes.iter().enumerate() {
                submit(lane, ledger, grey(round, 40 + 20 * i as u8 + round as u8));
            }
        }
        for (i, (lane, ledger, seen)) in lanes.iter().enumerate() {
            lane.drain();
            let seen = seen.lock();
            let scores: Vec<f32> = seen.iter().map(|(_, d)| (d[0].score * 255.0).round()).collect();
            let brightness: Vec<f32> = (0..5).map(|round| (40 + 20 * i + round) as f32).collect();
            assert_eq!(scores, brightness, "stream {i} of {layout}");
            assert!(seen.iter().all(|(_, d)| d.len() == 1 && d[0].box_in_image == expected), "{seen:?}");
            assert_eq!((ledger.read().n_inferred, ledger.read().n_in_flight()), (5, 0));
        }
    }
}

#[test]
fn a_fixed_batch_side_and_a_cpu_mean_one_at_a_time() {
    let check = |model: Model, max_batch, expected| {
        let engine = Engine::load(&model, &EngineConfig { max_batch, ..Default::default() }).expect("engine");
        assert_eq!(engine.max_batch(), expected);
    };
    check(tiny(BRIGHTNESS, "yolov8"), MaxBatch::Word(Auto::Auto), 1);
    check(built_in("ssdlite-mbv2"), MaxBatch::Pictures(8), 1);
}

#[test]
fn one_streams_trouble_is_not_anothers() {
    let engine = Engine::load(&tiny(BRIGHTNESS, "yolov8"), &EngineConfig::default()).expect("engine");
    let (good, good_ledger, good_seen) = recording_lane(&engine, "good", &DetectionFilter::default());
    let (bad, bad_ledger, bad_seen) = recording_lane(&engine, "bad", &DetectionFilter::default());
    for i in 0..4 {
        submit(&good, &good_ledger, grey(i, 100));
        submit(
            &bad,
            &bad_ledger,
            match i {
                0 => grey(i, 250),                             // the run fails
                1 => frame(i, (80, 80), (7, 8), vec![0; 168]), // not the size that was asked for
                2 => frame(i, (80, 80), (8, 8), vec![0; 191]), // a byte short
                _ => grey(i, 150),
            },
        );
    }
    good.drain();
    bad.drain();
    assert_eq!(good_seen.lock().iter().map(|s| s.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(bad_seen.lock().iter().map(|s| s.0).collect::<Vec<_>>(), [3]);
    let bad = bad_ledger.read();
    assert_eq!((bad.n_inferred, bad.n_in_flight()), (1, 0));
    assert_eq!((bad.dropped(DropReason::InferenceFailed), bad.dropped(DropReason::Conversion)), (1, 2));
    assert_eq!(good_ledger.read().n_inferred, 4);
}

#[test]
fn shutdown_loses_no_account() {
    let engine = Engine::load(&tiny(BRIGHTNESS, "yolov8"), &EngineConfig::default()).expect("engine");
    let ledger = Ledger::default();
    let lane = engine
        .lane(name("s"), LanePolicy::Latest, ledger.clone(), &DetectionFilter::default(), Box::new(|_, _| {}))
        .expect("lane");
    for i in 0..50 {
        submit(&lane, &ledger, grey(i, 100));
    }
    engine.shutdown();
    submit(&lane, &ledger, grey(50, 100));
    let reading = ledger.read();
    assert_eq!(reading.n_in_flight(), 0, "{reading:?}");
    assert!(reading.dropped(DropReason::Shutdown) >= 1, "{reading:?}");
    engine.shutdown();
    lane.drain();
}

#[test]
fn what_does_not_fit_is_refused_at_load() {
    let check = |change: &dyn Fn(&mut Model), expected: &str| {
        let mut model = built_in("ssdlite-mbv2");
        change(&mut model);
        let error = Engine::load(&model, &EngineConfig::default()).err().expect("refused").to_string();
        assert!(error.contains(expected), "{error}\ndoes not contain\n{expected}");
    };
    let labels = |n: usize| Some(Labels::List((0..n).map(|i| format!("c{i}")).collect()));
    check(
        &|m| m.manifest.labels = labels(79),
        "output (output): expected f32 [batch, 83 (4 + 79 labels), any], found `output0` f32 [1, 84, 1917]",
    );
    check(
        &|m| m.manifest.input.as_mut().expect("input").width = 320,
        "input: expected f32 [batch, 3 (manifest), 300 (manifest), 320 (manifest)], found `images` f32 [1, 3, 300, 300]",
    );
    check(
        &|m| m.manifest.files[0].sha256 = "0".repeat(64),
        "expected sha256 0000000000000000000000000000000000000000000000000000000000000000, found b42166a4",
    );
    // Weights of another task under a detector's manifest.
    check(
        &|m| {
            let silero = built_in("silero-vad");
            (m.weights, m.manifest.files) = (silero.weights, silero.manifest.files);
        },
        "found `input` f32 [any, any], `state` f32 [2, any, 128], `sr` i64 []",
    );
    let not_onnx: &'static [u8] = b"no network";
    check(
        &|m| {
            m.weights = vec![Weights::Embedded(not_onnx)];
            m.manifest.files[0].sha256 = hex(&<sha2::Sha256 as sha2::Digest>::digest(not_onnx));
        },
        "model `ssdlite-mbv2`: ",
    );
    let error = Engine::load(&built_in("silero-vad"), &EngineConfig::default()).err().expect("refused");
    assert_eq!(error.to_string(), "model `silero-vad` is for `vad`, not for `detect`");
}

#[test]
fn a_free_input_size_can_be_chosen() {
    let size = |w, h| EngineConfig { input_size: Some([w, h]), ..Default::default() };
    let engine = Engine::load(&built_in("centerface"), &size(320, 256)).expect("engine");
    assert_eq!(engine.picture_request().scaled_size(1280, 720), (320, 180));
    let check = |model: &str, config: EngineConfig, expected: &str| {
        let error = Engine::load(&built_in(model), &config).err().expect("refused").to_string();
        assert!(error.contains(expected), "{error}");
    };
    check("centerface", size(320, 250), "expected multiples of 32 up to 4096, found 320x250");
    check("ssdlite-mbv2", size(320, 320), "expected 300x300, this model's only size, found 320x320");
    check("ssdlite-mbv2", EngineConfig { max_batch: MaxBatch::Pictures(0), ..Default::default() }, "max_batch = 0");
}

#[test]
fn an_absent_provider_leaves_a_warning() {
    let built_in_providers = crate::runtime::init().expect("ONNX Runtime").providers;
    let absent: Vec<Provider> = Provider::ALL.into_iter().filter(|p| !built_in_providers.contains(p)).collect();
    // No build of ONNX Runtime has them all: CoreML is Apple's only.
    assert!(!absent.is_empty());
    let config = EngineConfig { providers: absent.clone(), ..Default::default() };
    let engine = Engine::load(&tiny(BRIGHTNESS, "yolov8"), &config).expect("falls back");
    let report = engine.providers();
    assert_eq!(report.running, [Provider::Cpu]);
    assert_eq!(report.warnings.len(), absent.len());
    for (warning, provider) in report.warnings.iter().zip(absent) {
        let why = format!("{}: the ONNX Runtime at ", provider.as_str());
        assert!(warning.starts_with(&why) && warning.contains("built without it (it has cpu"), "{warning}");
    }
    let (lane, ledger, seen) = recording_lane(&engine, "s", &DetectionFilter::default());
    submit(&lane, &ledger, grey(0, 100));
    lane.drain();
    assert_eq!(seen.lock().len(), 1);
}
