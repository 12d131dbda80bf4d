//! The whole way, camera to an independent Kafka client, through a real Apache Kafka.

use std::time::Duration;

use serde_json::Value;

use crate::{
    broker::Broker,
    harness::{CLIP, CameraProcess, PATIENCE, Scene, assert_valid, of_type},
};

#[test]
fn a_live_camera_is_read_back_by_an_independent_client() {
    let broker = Broker::start();
    let scene = Scene::new();
    let camera = CameraProcess::start(&scene, &[], None);
    let service = scene.service(&format!(
        "[streams.cam]\nurl = \"{}\"\ntags = {{ Location = \"Front\" }}\n[profiles.default]\nsampling = {{ fps = 5 }}\n\
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
    let (code, output) = service.terminate();
    assert_eq!(code, Some(0), "{output}");
    // Two sinks, one truth: everything in the file is in Kafka too.
    let filed = scene.records("events.jsonl");
    let n = of_type(&filed, "detections").len();
    let ids = |records: &[Value]| -> Vec<String> {
        of_type(records, "detections").iter().map(|r| r["id"].as_str().unwrap().to_owned()).collect()
    };
    let all: Vec<Value> = broker
        .consume("eyewitness.detections", n, PATIENCE)
        .iter()
        .map(|c| serde_json::from_str(&c.payload).unwrap())
        .collect();
    assert_eq!(ids(&all), ids(&filed));
    let status = broker.consume("eyewitness.status", 2, PATIENCE);
    let states: Vec<Value> =
        status.iter().map(|c| serde_json::from_str::<Value>(&c.payload).unwrap()["state"].clone()).collect();
    assert_eq!(states, ["playing", "stopped"]);
}

#[test]
fn a_broker_that_is_away_is_told_in_the_exit_code() {
    let scene = Scene::new();
    let service = scene.service(&format!(
        "[service]\ngrace_secs = 1\n[streams.clip]\nurl = \"{CLIP}\"\n[profiles.default]\nsampling = {{ every_nth = 40 }}\n\
         [sinks.kafka]\ntype = \"kafka\"\nbrokers = [\"127.0.0.1:9\"]\n"
    ));
    scene.wait_for_records("a record", |r| !of_type(r, "detections").is_empty());
    std::thread::sleep(Duration::from_millis(500));
    let (code, output) = service.terminate();
    assert_eq!(code, Some(3), "{output}");
    assert!(output.contains("127.0.0.1:9") && output.contains("could not be delivered"), "{output}");
}
