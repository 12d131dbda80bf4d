//! `eyewitness run` with its HTTP service: the assembled house behind the addresses.

use std::process::Command;

use super::served::{Follower, TOKEN};
use crate::harness::{Process, Scene, wait_for};

const SPEECH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/inference/tests/data/jfk.wav");

/// Starts the service, with everything that can be logged; gives its address once it is ready.
pub(super) fn run(scene: &Scene, config: &str) -> (Process, String) {
    scene.file("eyewitness.toml", config);
    let process = Process::start(scene.command(&["run", "--log", "trace"]));
    let address = process.http_address();
    wait_for("readiness", || curl(&address, "/readyz").ends_with("200").then_some(()));
    (process, address)
}

/// The answer's body and status, by curl, with the token.
fn curl(address: &str, path: &str) -> String {
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let output = Command::new("curl")
        .args(["--silent", "--max-time", "60", "--write-out", "%{http_code}", "--header", &bearer])
        .arg(format!("http://{address}{path}"))
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_client_s_speech_is_written_down_and_the_token_is_nowhere() {
    let scene = Scene::new();
    let config = format!(
        "[streams.cam]\nurl = 'test://'\n[profiles.default]\ntranscribe = 'whisper-tiny.en'\nsampling = {{ fps = 1 }}\n\
         [http]\nlisten = '127.0.0.1:0'\ntoken = '{TOKEN}'\n[sinks.file]\ntype = 'file'\npath = 'events.jsonl'\n"
    );
    let (process, address) = run(&scene, &config);
    // 16 kHz, mono, 16 bits: what follows the head of the `data` chunk.
    let wav = std::fs::read(SPEECH).unwrap();
    let data = wav.windows(4).position(|w| w == b"data").unwrap() + 8;
    let sound = scene.file("sound", &wav[data..]);
    let url = format!("ws://{address}/v1/transcribe?access_token={TOKEN}");
    let end = r#"{"type":"end"}"#;
    let client = Follower::start(&["ws", &url, "--sound", sound.to_str().unwrap(), "--text", end]);
    let closed = client.wait_for("closed");
    assert_eq!(closed["closed"], 1000, "{closed}");
    let records = client.records();
    let finals = records.iter().filter(|r| r["final"] == true);
    let text: Vec<&str> = finals.map(|r| r["text"].as_str().unwrap()).collect();
    let text = text.join(" ").to_lowercase();
    assert!(text.contains("fellow americans") && text.contains("your country"), "{text}");

    let stream = curl(&address, "/v1/streams/cam");
    assert!(stream.contains(r#""state":"playing""#), "{stream}");
    let metrics = curl(&address, "/metrics");
    for name in ["eyewitness_frames_decoded_total{stream=\"cam\"}", "eyewitness_queue_items{queue=\"sink:file\"}"] {
        assert!(metrics.contains(name), "{name} is missing in {metrics}");
    }
    assert!(curl(&address, &format!("/v1/nothing?access_token={TOKEN}")).ends_with("404"));
    let wrong = format!("http://{address}/v1/streams/cam/captions?access_token={}", &TOKEN[1..]);
    assert_eq!(Follower::start(&["sse", &wrong]).wait_for("status")["status"], 401);
    let reader = Follower::start(&["sse", &format!("http://{address}/v1/streams/cam/captions?access_token={TOKEN}")]);
    let reader = reader.opened();

    let (code, output) = process.terminate();
    assert_eq!(code, Some(0), "{output}");
    // The reader was told the stream's end before it was sent away.
    reader.wait_for("closed");
    let told = reader.records();
    assert_eq!(told.last().map(|r| &r["state"]), Some(&"stopped".into()), "{told:?}");
    assert!(output.contains("request"), "requests are logged: {output}");
    assert!(!output.contains(TOKEN), "the token is in the log");
}

#[test]
fn an_open_address_without_a_token_is_refused_whole() {
    let scene = Scene::new();
    let file = scene.file("open.toml", "[streams.a]\nurl = 'test://'\n[http]\nlisten = '0.0.0.0:8642'\n");
    let parts = ["0.0.0.0:8642", "no token is set", "token_file"];
    scene.run(&["run", "--config", file.to_str().unwrap()]).expect(2).complains(&parts);
}
