//! Traces from the decoded frame to Kafka's acknowledgement, taken by a collector that reads OTLP with OpenTelemetry's own
//! package, and held against what stands in the records' headers.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    broker::Broker,
    harness::{PATIENCE, Process, Scene, python, tool, wait_for},
};

fn spans(collector: &Process) -> Vec<Value> {
    collector.output().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn is_of_a_frame(span: &Value) -> bool {
    span["name"] == "deliver" && span["id"].as_str().is_some_and(|id| id.contains("-detections-"))
}

#[test]
fn a_frame_is_followed_to_its_acknowledgement() {
    let scene = Scene::new();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/collector.py").to_owned();
    let collector = tool(python().to_str().unwrap(), &[script], &scene.path("."));
    let endpoint = collector.line("collector http").replace("collector ", "");
    let broker = Broker::start();
    scene.file(
        "eyewitness.toml",
        format!(
            "[traces]\nendpoint = \"{endpoint}\"\nratio = 1.0\nauthorization_env = \"COLLECTOR_TOKEN\"\n\
             [streams.cam]\nurl = \"test://?width=320&height=240&fps=5\"\n\
             [sinks.kafka]\ntype = \"kafka\"\nbrokers = [\"{}\"]\n",
            broker.address()
        ),
    );
    let mut command = scene.command(&["run", "--log", "debug"]);
    command.env("COLLECTOR_TOKEN", "Bearer hunter2hunter2");
    let service = Process::start(command);
    wait_for("some deliveries to be told", || {
        (spans(&collector).iter().filter(|span| is_of_a_frame(span)).count() >= 5).then_some(())
    });
    let (code, output) = service.terminate();
    assert_eq!(code, Some(0), "{output}");
    assert!(!output.contains("hunter2"), "{output}");
    let spans = spans(&collector);
    let by_id: BTreeMap<&str, &Value> = spans.iter().map(|span| (span["span"].as_str().unwrap(), span)).collect();
    assert_eq!(by_id.len(), spans.len(), "no span twice");
    let records = broker.consume("eyewitness.detections", 5, PATIENCE);
    for record in &records {
        let traceparent = &record.headers["traceparent"];
        let parts: Vec<&str> = traceparent.split('-').collect();
        assert_eq!(parts[3], "01", "sampled: {traceparent}");
        let deliver = by_id[parts[2]];
        assert_eq!((deliver["name"].as_str(), deliver["trace"].as_str()), (Some("deliver"), Some(parts[1])));
        assert_eq!(deliver["id"].as_str(), Some(&*record.headers["ce_id"]));
        assert_eq!((deliver["sink"].as_str(), deliver["stream"].as_str()), (Some("kafka"), Some("cam")));
        assert_eq!(
            (&deliver["service"], &deliver["authorization"]),
            (&"eyewitness".into(), &"Bearer hunter2hunter2".into())
        );
        // What came before: the whole way of the frame, the model's part in it.
        let whole = by_id[deliver["parent"].as_str().unwrap()];
        assert_eq!((whole["name"].as_str(), whole["trace"].as_str()), (Some("record"), Some(parts[1])));
        let infer = spans.iter().find(|s| s["name"] == "infer" && s["parent"] == whole["span"]).unwrap();
        assert_eq!(infer["model"], "ssdlite-mbv2");
        let at = |span: &Value, key: &str| span[key].as_u64().unwrap();
        assert!(at(whole, "start") <= at(infer, "start") && at(infer, "end") <= at(whole, "end"), "{infer} in {whole}");
        assert!(at(deliver, "start") >= at(infer, "end") && at(deliver, "end") >= at(deliver, "start"), "{deliver}");
    }
}

/// A collector that is away costs spans, and nothing else.
#[test]
fn without_a_collector_everything_goes_on() {
    let scene = Scene::new();
    let service = scene.service(
        "[traces]\nendpoint = \"http://127.0.0.1:9/v1/traces\"\nratio = 1.0\n\
         [streams.cam]\nurl = \"test://?width=320&height=240&fps=5&secs=3\"\n",
    );
    let (code, output) = service.end();
    assert_eq!(code, Some(0), "{output}");
    assert!(!scene.records("events.jsonl").is_empty());
}
