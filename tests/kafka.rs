//! The whole way, camera to an independent Kafka client, through a real Apache Kafka.

use std::fs;

use serde_json::Value;

use crate::{
    broker::Broker,
    harness::{CLIP, CameraProcess, PATIENCE, Scene, assert_valid, of_type, without_publication},
};

#[test]
fn a_live_camera_is_read_back_by_an_independent_client() {
    let broker = Broker::start();
    let scene = Scene::new();
    let camera = CameraProcess::start(&scene, &[], None);
    let service = scene.service(&format!(
        "[streams.cam]\nurl = \"{}\"\ntags = {{ Location = \"Front\" }}\n[profiles.default]\nsampling = {{ fps = 5 }}\n\
         transcribe = \"whisper-tiny.en\"\n\
         [sinks.kafka]\ntype = \"kafka\"\nbrokers = [\"{}\"]\ncompression = \"zstd\"\n",
        camera.url(None),
        broker.address()
    ));
    let consumed = broker.consume("eyewitness.detections", 20, PATIENCE);
    let records: Vec<Value> = consumed.iter().map(|c| serde_json::from_str(&c.payload).unwrap()).collect();
    assert_valid(&records);
    for (message, record) in consumed.iter().zip(&records) {
        assert_eq!(message.key, "cam");
        assert_eq!(message.headers["ce_id"], record["id"].as_str().unwrap());
        assert_eq!(record["tags"]["Location"], "Front");
    }
    let indices: Vec<u64> = records.iter().map(|r| r["frame"]["index"].as_u64().unwrap()).collect();
    assert!(indices.is_sorted(), "{indices:?}");
    assert!(records.iter().any(|r| r["objects"].as_array().unwrap().iter().any(|o| o["class"] == "person")));
    scene.wait_for_records("a sentence to its end", |r| of_type(r, "transcript").iter().any(|t| t["final"] == true));
    let (code, output) = service.terminate();
    assert_eq!(code, Some(0), "{output}");
    // Two sinks, one truth: everything in the file is in Kafka too, what is said as well as what is seen.
    let filed = scene.records("events.jsonl");
    for (kind, topic) in [("detections", "detections"), ("transcript", "transcripts"), ("caption", "captions")] {
        let expected: Vec<Value> = of_type(&filed, kind).into_iter().map(without_publication).collect();
        let consumed = broker.consume(&format!("eyewitness.{topic}"), expected.len(), PATIENCE);
        assert!(consumed.iter().all(|c| c.key == "cam"), "{topic}");
        let all: Vec<Value> = consumed.iter().map(|c| serde_json::from_str(&c.payload).unwrap()).collect();
        assert_eq!(all.iter().map(without_publication).collect::<Vec<_>>(), expected, "{topic}");
    }
    let status = broker.consume("eyewitness.status", 2, PATIENCE);
    let states: Vec<Value> =
        status.iter().map(|c| serde_json::from_str::<Value>(&c.payload).unwrap()["state"].clone()).collect();
    assert_eq!(states, ["playing", "stopped"]);
}

/// A few records of a recording, and a sink whose broker is away.
fn without_a_broker(scene: &Scene, brokers: &str, spool: &str) -> (Option<i32>, String) {
    let service = scene.service(&format!(
        "[service]\ngrace_secs = 1\n[streams.clip]\nurl = \"{CLIP}\"\n[profiles.default]\nsampling = {{ every_nth = 40 }}\n\
         [sinks.kafka]\ntype = \"kafka\"\nbrokers = [\"{brokers}\"]\nspool = {{ {spool} }}\n"
    ));
    scene.wait_for_records("a record", |r| !of_type(r, "detections").is_empty());
    service.terminate()
}

#[test]
fn what_waits_for_a_broker_outlives_the_process() {
    let scene = Scene::new();
    let (code, output) = without_a_broker(&scene, "127.0.0.1:9", "path = \"spool\"");
    assert_eq!(code, Some(0), "{output}");
    let first = scene.records("events.jsonl");
    assert!(output.contains(&format!("waiting: {}, for the next start", first.len())), "{output}");
    let broker = Broker::start();
    fs::remove_file(scene.path("events.jsonl")).unwrap();
    let (code, output) = without_a_broker(&scene, &broker.address(), "path = \"spool\"");
    assert_eq!(code, Some(0), "{output}");
    let all = [first, scene.records("events.jsonl")].concat();
    let expected: Vec<Value> = of_type(&all, "detections").into_iter().map(without_publication).collect();
    let consumed = broker.consume("eyewitness.detections", expected.len(), PATIENCE);
    let arrived: Vec<Value> =
        consumed.iter().map(|c| without_publication(&serde_json::from_str(&c.payload).unwrap())).collect();
    assert_eq!(arrived, expected, "everything, in order");
}

#[test]
fn what_waits_in_memory_is_told_in_the_exit_code() {
    let scene = Scene::new();
    let (code, output) = without_a_broker(&scene, "127.0.0.1:9", "store = \"memory\"");
    assert_eq!(code, Some(3), "{output}");
    assert!(output.contains("127.0.0.1:9") && output.contains("could not be delivered"), "{output}");
}
