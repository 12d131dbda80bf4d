//! Recordings that are heard: as many words right as the model's weights give, at their true times, in captions that
//! others can read, and the same bytes every time. `live` hears a camera and a microphone.

mod live;

use std::{collections::BTreeMap, fs, process::Command, sync::OnceLock};

use serde_json::Value;

use crate::harness::{CLIP, Scene, assert_valid, of_type, python};

const MEDIA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/media");
const MODEL: [&str; 2] = ["--transcribe", "whisper-tiny.en"];

/// Words as they are compared: what `tools/eval/speech.py` does, so that both count the same.
fn bare(text: &str) -> Vec<String> {
    let text = text.to_lowercase().replace('’', "'").replace('-', " ");
    let kept: String = text.chars().map(|c| if c.is_alphanumeric() || "_'".contains(c) { c } else { ' ' }).collect();
    let spelled = |word: &str| match word {
        "mr" => "mister".into(),
        "mrs" => "missus".into(),
        "dr" => "doctor".into(),
        word => word.to_owned(),
    };
    kept.split_whitespace().map(|w| w.trim_matches(['\'', '_'])).filter(|w| !w.is_empty()).map(spelled).collect()
}

/// Words to be changed, left out or put in to make one text of the other.
fn n_wrong(reference: &[String], found: &[String]) -> usize {
    let mut row: Vec<usize> = (0..=found.len()).collect();
    for (i, word) in reference.iter().enumerate() {
        let mut before = std::mem::replace(&mut row[0], i + 1);
        for (j, other) in found.iter().enumerate() {
            let changed = before + usize::from(word != other);
            before = row[j + 1];
            row[j + 1] = changed.min(before + 1).min(row[j] + 1);
        }
    }
    row[found.len()]
}

/// Errors in so many words.
#[derive(Debug, Clone, Copy, Default)]
struct Errors {
    wrong: usize,
    words: usize,
}

impl Errors {
    fn of(reference: &str, records: &[Value]) -> Self {
        let reference = bare(reference);
        let text: Vec<&str> = finals(records).iter().map(|r| r["text"].as_str().unwrap()).collect();
        Self { wrong: n_wrong(&reference, &bare(&text.join(" "))), words: reference.len() }
    }

    fn and(self, other: Self) -> Self {
        Self { wrong: self.wrong + other.wrong, words: self.words + other.words }
    }

    fn rate(self) -> f64 {
        self.wrong as f64 / self.words as f64
    }
}

fn finals(records: &[Value]) -> Vec<&Value> {
    of_type(records, "transcript").into_iter().filter(|r| r["final"] == true).collect()
}

/// The words of all finals, in order.
fn words(records: &[Value]) -> Vec<&Value> {
    finals(records).into_iter().flat_map(|r| r["words"].as_array().unwrap()).collect()
}

/// Fails unless every record keeps what is promised about transcripts and captions: a stable word never changes, neither its
/// text nor its times; words follow each other; a final is the last of its segment or cue; every one comes to its final.
#[track_caller]
fn assert_promises(records: &[Value]) {
    assert_valid(records);
    let mut segments: BTreeMap<&str, &Value> = BTreeMap::new();
    for now in of_type(records, "transcript") {
        let of = |r: &'static str| now[r].as_str().unwrap();
        let words = now["words"].as_array().unwrap();
        let texts: Vec<&str> = words.iter().map(|w| w["text"].as_str().unwrap()).collect();
        assert_eq!(texts.join(" "), of("text"));
        let ms = |w: &Value, key: &str| w[key].as_u64().unwrap();
        assert!(words.iter().all(|w| ms(w, "start_ms") <= ms(w, "end_ms")), "{now}");
        assert!(words.windows(2).all(|w| ms(&w[0], "end_ms") <= ms(&w[1], "start_ms")), "{now}");
        assert!(words.iter().all(|w| (0.0..=1.0).contains(&w["confidence"].as_f64().unwrap())), "{now}");
        assert!(now["final"] == false || words.iter().all(|w| w["stable"] == true), "{now}");
        match segments.insert(of("segment"), now) {
            None => assert_eq!(now["revision"], 0, "{now}"),
            Some(before) => {
                assert_eq!(before["final"], false, "{now} after the final {before}");
                assert_eq!(now["revision"], before["revision"].as_u64().unwrap() + 1);
                let old = before["words"].as_array().unwrap();
                let n_stable = old.iter().filter(|w| w["stable"] == true).count();
                assert_eq!(words.get(..n_stable), Some(&old[..n_stable]), "stable words changed");
            }
        }
    }
    let mut cues: BTreeMap<&str, &Value> = BTreeMap::new();
    for now in of_type(records, "caption") {
        let before = cues.insert(now["cue"].as_str().unwrap(), now);
        assert!(before.is_none_or(|b| b["final"] == false), "{now} after the final {before:?}");
        let revision = before.map_or(0, |b| b["revision"].as_u64().unwrap() + 1);
        assert_eq!(now["revision"], revision, "{now}");
    }
    for (name, last) in segments.iter().chain(&cues) {
        assert_eq!(last["final"], true, "{name} was left open: {last}");
    }
}

fn replay(scene: &Scene, input: &str, args: &[&str]) -> Vec<Value> {
    scene.run(&[&["replay", input, "--out", "x.jsonl"][..], &MODEL, args].concat()).expect(0);
    let records = scene.records("x.jsonl");
    assert_promises(&records);
    records
}

/// What is said in the bundled clip: from, to (in milliseconds) and the words.
fn demo_speech() -> Vec<(u64, u64, String)> {
    let json: Value = serde_json::from_str(include_str!("../media/demo_speech.json")).unwrap();
    let ms = |v: &Value| (v.as_f64().unwrap() * 1000.0) as u64;
    let speech = json["speech"].as_array().unwrap();
    speech.iter().map(|s| (ms(&s["start"]), ms(&s["end"]), s["text"].as_str().unwrap().to_owned())).collect()
}

fn demo_text() -> String {
    demo_speech().into_iter().map(|(_, _, text)| text).collect::<Vec<_>>().join(" ")
}

/// What a replay wrote.
struct Written {
    records: Vec<u8>,
    vtt: Vec<u8>,
    srt: Vec<u8>,
}

/// Two replays of the bundled clip with revisions and with what is seen.
fn demo_with_partials() -> &'static [Written; 2] {
    static BOTH: OnceLock<[Written; 2]> = OnceLock::new();
    BOTH.get_or_init(|| {
        [(); 2].map(|()| {
            let scene = Scene::new();
            let more = ["--detect", "ssdlite-mbv2", "--sample", "every=4", "--partials"];
            let captions = ["--captions", "x.vtt", "--captions", "x.srt"];
            replay(&scene, CLIP, &[&more[..], &captions].concat());
            let read = |name: &str| fs::read(scene.path(name)).unwrap();
            Written { records: read("x.jsonl"), vtt: read("x.vtt"), srt: read("x.srt") }
        })
    })
}

fn demo_records() -> Vec<Value> {
    let text = std::str::from_utf8(&demo_with_partials()[0].records).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn as_many_words_are_right_as_the_weights_give() {
    let scene = Scene::new();
    let texts: BTreeMap<String, String> = serde_json::from_str(include_str!("media/transcripts.json")).unwrap();
    let (mut offline, mut streaming) = (Errors::default(), Errors::default());
    for (file, text) in &texts {
        let input = format!("{MEDIA}/{file}");
        offline = offline.and(Errors::of(text, &replay(&scene, &input, &[])));
        streaming = streaming.and(Errors::of(text, &replay(&scene, &input, &["--partials"])));
    }
    assert_eq!((texts.len(), offline.words), (5, 71));
    // What faster-whisper gives with these weights on these clips: 5 errors in 71 words.
    assert!(offline.rate() <= 0.071, "{offline:?}");

    let demo = Errors::of(&demo_text(), &replay(&scene, CLIP, &[]));
    assert_eq!(demo.words, 74);
    assert!(demo.rate() <= 0.071, "{demo:?}");
    // Words that are shown while people still speak cost at most one point. Counted over the clips and the bundled clip
    // together, 145 words, so that a point is more than a word: at most one more word may be wrong.
    let (offline, streaming) = (offline.and(demo), streaming.and(Errors::of(&demo_text(), &demo_records())));
    assert!(streaming.rate() <= offline.rate() + 0.01, "{streaming:?} while people speak, {offline:?} afterwards");
}

#[test]
fn words_stand_where_they_are_spoken() {
    let records = demo_records();
    let words = words(&records);
    let ms = |w: &Value, key: &str| w[key].as_u64().unwrap();
    let mut n_words = 0;
    for (start, end, text) in demo_speech() {
        let inside = |w: &&&Value| start <= ms(w, "start_ms") && ms(w, "end_ms") <= end;
        let spoken: Vec<String> = words.iter().filter(inside).flat_map(|w| bare(w["text"].as_str().unwrap())).collect();
        // Each sentence at its place, but for the words that are wrong anyway.
        let wrong = n_wrong(&bare(&text), &spoken);
        assert!(wrong <= 2, "{text}: {spoken:?}");
        n_words += words.iter().filter(inside).count();
    }
    assert_eq!(n_words, words.len(), "the others lie where nobody speaks");
}

#[test]
fn captions_are_read_by_an_independent_parser() {
    let scene = Scene::new();
    let Written { vtt, srt, .. } = &demo_with_partials()[0];
    let (vtt, srt) = (scene.file("x.vtt", vtt), scene.file("x.srt", srt));
    let records = demo_records();
    let expected: Vec<&str> = words(&records).iter().map(|w| w["text"].as_str().unwrap()).collect();
    let read = |how: &str, file: &std::path::Path| -> Vec<(f64, f64, Vec<String>)> {
        let script = format!(
            "import html, json, sys, webvtt\n\
             cues = webvtt.{how}(sys.argv[1])\n\
             print(json.dumps([(c.start_in_seconds, c.end_in_seconds, [html.unescape(l) for l in c.lines]) for c in cues]))"
        );
        let parsed = Command::new(python()).args(["-c", &script]).arg(file).output().unwrap();
        let errors = String::from_utf8_lossy(&parsed.stderr);
        serde_json::from_slice(&parsed.stdout).unwrap_or_else(|e| panic!("{e}: {errors}"))
    };
    for (how, file) in [("read", &vtt), ("from_srt", &srt)] {
        let cues = read(how, file);
        let shown: Vec<&str> = cues.iter().flat_map(|(_, _, lines)| lines).flat_map(|l| l.split(' ')).collect();
        assert_eq!(shown, expected, "{how}");
        assert!(cues.windows(2).all(|c| c[0].1 <= c[1].0), "cues overlap: {cues:?}");
        assert!(cues.iter().all(|(_, _, l)| l.len() <= 2 && l.iter().all(|l| l.chars().count() <= 42)), "{cues:?}");
    }
}

#[test]
fn two_replays_of_what_is_said_and_seen_are_the_same_bytes() {
    let [a, b] = demo_with_partials();
    let same = |what: &str, a: &[u8], b: &[u8]| {
        let lines = a.split(|c| *c == b'\n').zip(b.split(|c| *c == b'\n'));
        let differs = lines.into_iter().find(|(a, b)| a != b).map(|(a, b)| [a, b].map(String::from_utf8_lossy));
        assert!(a == b, "{what}: two replays differ: {differs:?}");
    };
    same("records", &a.records, &b.records);
    same("WebVTT", &a.vtt, &b.vtt);
    same("SRT", &a.srt, &b.srt);
    let records = demo_records();
    // There was something to put in order: what is seen and what is heard lie between each other.
    let kinds: Vec<&str> = records.iter().map(|r| r["type"].as_str().unwrap()).collect();
    for kind in ["detections", "transcript", "caption"] {
        assert!(kinds.iter().filter(|k| **k == kind).count() > 20, "{kind}: {kinds:?}");
    }
    let first = |kind| kinds.iter().position(|k| *k == kind).unwrap();
    let last = |kind| kinds.iter().rposition(|k| *k == kind).unwrap();
    assert!(first("transcript") < last("detections") && first("detections") < last("transcript"));
}
