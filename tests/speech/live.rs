//! A camera and a microphone that are heard while people speak: words over server-sent events, over a WebSocket and in the
//! file, at one and the same time.

use serde_json::Value;

use super::{assert_promises, bare, finals, n_wrong};
use crate::{
    harness::{CameraProcess, Process, Scene, of_type, python, without_publication},
    http::served::{Follower, ids},
};

/// The 11 s of the first speaker of the bundled clip, and a sentence of the second.
const SPOKEN: [(&str, &str); 2] = [
    (
        concat!(env!("CARGO_MANIFEST_DIR"), "/inference/tests/data/jfk.wav"),
        "and so my fellow americans ask not what your country can do for you ask what you can do for your country",
    ),
    (
        concat!(env!("CARGO_MANIFEST_DIR"), "/inference/tests/data/austen_0930.wav"),
        "he might even have been made amiable himself",
    ),
];

/// What the feed shows of these records, in order.
fn of_feed(records: &[Value]) -> Vec<Value> {
    records.iter().filter(|r| r["type"] == "transcript" || r["type"] == "caption").cloned().collect()
}

#[test]
fn a_camera_s_words_are_read_by_many_and_none_is_lost_at_the_end() {
    let scene = Scene::new();
    let camera = CameraProcess::start(&scene, &[], None);
    let service = scene.service(&format!(
        "[streams.cam]\nurl = \"{}\"\n[profiles.default]\ndetect = \"none\"\ntranscribe = \"whisper-tiny.en\"\n\
         [http]\nlisten = \"127.0.0.1:0\"\n",
        camera.url(None)
    ));
    let url = format!("http://{}/v1/streams/cam/captions?types=transcripts,captions", service.http_address());
    let follow = |more: &[&str]| Follower::start(&[&["sse", url.as_str()][..], more].concat()).opened();
    let (one, two, fickle) = (follow(&[]), follow(&[]), follow(&[]));
    fickle.wait_for_records(1);
    drop(fickle);
    // One that goes in the midst of a sentence and comes back.
    let before = follow(&[]);
    before.wait_for_records(3);
    let told = before.told();
    let last_id = told.iter().rev().find_map(|t| t["id"].as_str().filter(|id| !id.is_empty())).unwrap().to_owned();
    drop(before);
    let after = follow(&["--header", &format!("Last-Event-ID: {last_id}")]);
    // In mid-speech: words are shown that no final has yet.
    let in_mid_speech = |records: &[Value]| {
        let newest = of_type(records, "transcript").into_iter().next_back();
        newest.is_some_and(|t| t["final"] == false && t["words"].as_array().unwrap().len() >= 5)
    };
    let records = scene.wait_for_records("words in mid-speech", in_mid_speech);
    let shown = of_type(&records, "transcript").into_iter().next_back().cloned().unwrap();
    let (code, output) = service.terminate();
    assert_eq!(code, Some(0), "{output}");

    let records = scene.records("events.jsonl");
    assert_promises(&records);
    assert!(of_type(&records, "gap").is_empty(), "{records:?}");
    // What was shown is final now, but for a word at the edge or two; what follows may be another segment's.
    let from_then = finals(&records).into_iter().skip_while(|t| t["segment"] != shown["segment"]);
    let text: Vec<String> = from_then.flat_map(|t| bare(t["text"].as_str().unwrap())).collect();
    let until_then = bare(shown["text"].as_str().unwrap());
    assert!(n_wrong(&until_then, &text[..until_then.len().min(text.len())]) <= 2, "{shown} became {text:?}");
    // Everything in captions, too, as the last revision of each cue has it.
    let captions: Vec<String> = of_type(&records, "caption")
        .into_iter()
        .filter(|c| c["final"] == true)
        .flat_map(|c| c["lines"].as_array().unwrap().iter().flat_map(|l| bare(l.as_str().unwrap())))
        .collect();
    let spoken: Vec<String> = finals(&records).iter().flat_map(|t| bare(t["text"].as_str().unwrap())).collect();
    assert_eq!(captions, spoken);
    assert!(spoken.join(" ").starts_with("and so") && spoken.contains(&"fellow".into()), "{spoken:?}");

    // The readers got the same, to the last word.
    let feed = of_feed(&records);
    for (follower, who) in [(&one, "one"), (&two, "two"), (&after, "who came back")] {
        follower.wait_for("closed");
        let got = follower.records();
        let from = feed.iter().position(|r| r["id"] == got[0]["id"]).unwrap();
        assert_eq!(ids(&got), ids(&feed[from..]), "{who}");
        let same = |r: &[Value]| r.iter().map(without_publication).collect::<Vec<_>>();
        assert_eq!(same(&got), same(&feed[from..]), "{who}");
    }
    let seen_before = feed.iter().position(|r| r["id"] == last_id.as_str()).unwrap();
    assert_eq!(after.records()[0]["id"], feed[seen_before + 1]["id"], "exactly what follows");
}

/// `tests/clients/speak.py`, running.
struct Speaker(Process);

impl Speaker {
    fn start(address: &str, sound: &str, hold: &str) -> Self {
        let mut command = std::process::Command::new(python());
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/speak.py")).args([
            &format!("ws://{address}/v1/transcribe"),
            sound,
            "--hold",
            hold,
            "--speed",
            "2",
        ]);
        Self(Process::start(command))
    }

    /// All that it was told, with how much of the sound it had sent by then.
    fn end(self) -> Vec<Value> {
        let (code, output) = self.0.end();
        assert_eq!(code, Some(0), "{output}");
        output.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{output}"))).collect()
    }
}

#[test]
fn two_microphones_are_heard_each_by_itself() {
    let scene = Scene::new();
    let service = scene.service(
        "[streams.cam]\nurl = \"test://?fps=1\"\n[profiles.default]\ntranscribe = \"whisper-tiny.en\"\n\
         [http]\nlisten = \"127.0.0.1:0\"\n",
    );
    let address = service.http_address();
    let speakers = SPOKEN.map(|(sound, text)| (Speaker::start(&address, sound, "2.5"), text));
    let mut sessions = Vec::new();
    for (speaker, text) in speakers {
        let told = speaker.end();
        let (closed, told) = told.split_last().unwrap();
        assert_eq!((&closed["closed"], &closed["reason"]), (&1000.into(), &"end".into()), "{closed}");
        let (end, told) = told.split_last().unwrap();
        assert_eq!(end["message"]["type"], "end", "{end}");
        let records: Vec<Value> = told.iter().map(|t| t["message"].clone()).collect();
        assert_promises(&records);
        let spoken = bare(&finals(&records).iter().map(|t| t["text"].as_str().unwrap()).collect::<Vec<_>>().join(" "));
        // Live, the words depend a little on when the model was asked; how many are right is measured on recordings.
        assert!(n_wrong(&bare(text), &spoken) * 6 <= bare(text).len(), "{spoken:?}");
        // Nothing more was sent until these came.
        assert!(told[0]["sent_secs"].as_f64().unwrap() < 2.6, "{}", told[0]);
        assert_eq!(told[0]["message"]["final"], false, "{}", told[0]);
        sessions.push(records[0]["session"].clone());
        assert!(records.iter().all(|r| r["session"] == records[0]["session"]));
    }
    assert_ne!(sessions[0], sessions[1]);

    // What the model does not know, and what is no sound.
    let refused = Follower::start(&["ws", &format!("ws://{address}/v1/transcribe?language=de")]).wait_for("status");
    assert_eq!(refused["status"], 400, "{refused}");
    let why = refused["body"].as_str().unwrap();
    assert!(why.contains("whisper-tiny.en") && why.contains("`de`") && why.contains("en"), "{why}");
    let garbage = Follower::start(&["ws", &format!("ws://{address}/v1/transcribe"), "--text", "garbage"]);
    let closed = garbage.wait_for("closed");
    assert_eq!(closed["closed"], 1003, "{closed}");
    assert!(closed["reason"].as_str().unwrap().contains(r#"{"type":"end"}"#), "{closed}");
    let noise =
        scene.file("noise", (0..40_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>());
    let args = ["--sound", noise.to_str().unwrap(), "--chunk", "999", "--text", r#"{"type":"end"}"#];
    let follower = Follower::start(&[&["ws", &format!("ws://{address}/v1/transcribe")][..], &args].concat());
    assert_eq!(follower.wait_for("closed")["closed"], 1000);
    assert_eq!(follower.records().len(), 1, "noise has no words: {:?}", follower.records());

    let (code, output) = service.terminate();
    assert_eq!(code, Some(0), "{output}");
}
