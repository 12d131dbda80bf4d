//! The Kafka sink against a real Apache Kafka, read back with kcat.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use base::{
    event::Event,
    queue::{Sent, WhenFull, queue},
    time::SystemClock,
};
use broker::{Broker, Consumed};
use rdkafka::{
    mocking::MockCluster,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use serde_json::{Value, json};
use sinks::{BuildContext, SinkConfig, SinkError, SinkReport, Stamp, kafka::KafkaConfig, spawn, wire};

mod broker;
#[path = "../src/samples.rs"]
mod samples;

const PATIENCE: Duration = Duration::from_secs(60);

fn config(brokers: &[String], more: Value) -> SinkConfig {
    let mut json = json!({ "type": "kafka", "brokers": brokers });
    json.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
    serde_json::from_value(json).expect("configuration")
}

fn context() -> BuildContext {
    BuildContext { clock: SystemClock::new(), stamp: Stamp::Published }
}

/// Sends all events through a sink, calling `before` before each, and closes it.
fn send(config: &SinkConfig, events: Vec<Event>, grace: Duration, mut before: impl FnMut(usize)) -> SinkReport {
    let context = context();
    let clock = Arc::clone(&context.clock);
    let sink = config.build("kafka", context).expect("sink");
    let (tx, rx) = queue("kafka", 64, WhenFull::Block);
    let handle = spawn("kafka", sink, rx, grace, clock).expect("thread");
    for (number, event) in events.into_iter().enumerate() {
        before(number);
        assert_eq!(tx.send(Arc::new(event)), Sent::Queued);
    }
    drop(tx);
    handle.join()
}

/// `n_frames` frames of each stream, interleaved, with the status and gap that go with them.
fn events(names: &[&str], n_frames: u64) -> Vec<Event> {
    let streams: Vec<_> = names.iter().map(|name| samples::stream(name)).collect();
    let mut events: Vec<Event> = streams.iter().map(samples::playing).collect();
    for number in 0..n_frames {
        events.extend(streams.iter().map(|s| samples::detections(s, number, &[("person", Some(7)), ("dog", None)])));
    }
    events.extend(streams.iter().map(|stream| samples::gap(stream, n_frames)));
    events
}

/// Somebody speaks: three revisions of what was said, and two cues.
fn speech(name: &str) -> Vec<Event> {
    let stream = samples::stream(name);
    vec![
        samples::transcript(&stream, 0, "and so", false),
        samples::caption(&stream, 0, 3400..4800, &["and so"], false),
        samples::transcript(&stream, 1, "and so my fellow", false),
        samples::caption(&stream, 1, 3400..4800, &["and so my fellow", "Americans"], true),
        samples::transcript(&stream, 2, "and so my fellow Americans", true),
    ]
}

fn schema_of(kind: &str) -> jsonschema::Validator {
    let (_, text) = wire::schemas().into_iter().find(|(file, _)| file.starts_with(kind)).expect("schema");
    jsonschema::validator_for(&serde_json::from_str(&text).expect("json")).expect("schema")
}

/// Ids of each key's records, in the order of the log.
fn ids_by_key(records: &[Consumed]) -> BTreeMap<&str, Vec<&str>> {
    let mut ids: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for record in records {
        ids.entry(&record.key).or_default().push(&record.headers["ce_id"]);
    }
    ids
}

/// Checks that a topic holds exactly `sent` of this topic, in order within each stream.
fn check_order(records: &[Consumed], sent: &[Event], of_topic: fn(&Event) -> bool) {
    let mut expected: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for event in sent.iter().filter(|event| of_topic(event)) {
        expected.entry(event.stream.name.as_str()).or_default().push(&event.id);
    }
    assert_eq!(ids_by_key(records), expected);
}

fn is_detections(event: &Event) -> bool {
    event.body.kind() == "detections"
}

fn is_status(event: &Event) -> bool {
    matches!(event.body.kind(), "status" | "gap")
}

#[test]
fn records_arrive_whole_and_in_order() {
    let broker = Broker::start();
    for compression in ["none", "snappy", "lz4", "zstd"] {
        let config = config(&[broker.address()], json!({ "compression": compression, "topic_prefix": compression }));
        let mut sent = events(&["front-door", "yard", "gate"], 200);
        sent.extend(speech("yard"));
        let report = send(&config, sent.clone(), PATIENCE, |_| ());
        assert_eq!((report.n_published, report.n_failed), (611, 0), "{report:?}");
        let topics: Vec<(&str, u64)> = report.topics.iter().map(|(t, c)| (t.as_str(), c.n_delivered)).collect();
        let topic = |kind: &str| format!("{compression}.{kind}");
        let (captions, transcripts) = (topic("captions"), topic("transcripts"));
        let (detections, status) = (topic("detections"), topic("status"));
        assert_eq!(topics, [(&*captions, 2), (&*detections, 600), (&*status, 6), (&*transcripts, 3)]);

        let detections = broker.consume(&detections, 600, PATIENCE);
        check_order(&detections, &sent, is_detections);
        let status = broker.consume(&status, 6, PATIENCE);
        check_order(&status, &sent, is_status);
        let transcripts = broker.consume(&transcripts, 3, PATIENCE);
        check_order(&transcripts, &sent, |event| event.body.kind() == "transcript");
        let captions = broker.consume(&captions, 2, PATIENCE);
        check_order(&captions, &sent, |event| event.body.kind() == "caption");
        for record in detections.iter().chain(&status).chain(&transcripts).chain(&captions) {
            check_record(record);
        }
        let homes: BTreeSet<(&str, i64)> = detections.iter().map(|r| (r.key.as_str(), r.partition)).collect();
        assert_eq!(homes.len(), 3, "each stream stays in one partition: {homes:?}");
    }
    an_authenticated_listener(&broker);
}

/// Key, CloudEvents headers and JSON of one record agree, and the JSON fits its schema.
fn check_record(record: &Consumed) {
    let value: Value = serde_json::from_str(&record.payload).expect("json");
    let kind = value["type"].as_str().expect("type");
    let errors: Vec<String> = schema_of(kind).iter_errors(&value).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{}: {errors:?}", record.payload);
    assert_eq!(value["stream"], record.key.as_str());
    assert!(value["published_at"].is_string(), "stamped: {}", record.payload);
    let expected: BTreeMap<String, String> = [
        ("content-type", "application/json".into()),
        ("ce_specversion", "1.0".into()),
        ("ce_id", value["id"].as_str().expect("id").to_owned()),
        ("ce_type", format!("eyewitness.{kind}")),
        ("ce_source", format!("/eyewitness/streams/{}", record.key)),
        ("ce_subject", value["session"].as_str().expect("session").to_owned()),
        ("ce_time", value["captured_at"].as_str().expect("captured_at").to_owned()),
    ]
    .map(|(name, value): (&str, String)| (name.to_owned(), value))
    .into();
    assert_eq!(record.headers, expected);
}

/// TLS and SASL with the password from a file; with a wrong one, an error that does not show it.
fn an_authenticated_listener(broker: &Broker) {
    let file = tempfile::NamedTempFile::new().expect("file");
    let config = config(
        &[broker.sasl_address()],
        json!({
            "topic_prefix": "sasl", "password_file": file.path(), "on_start": "fail",
            "properties": {
                "security.protocol": "SASL_SSL", "ssl.ca.location": broker.certificate(),
                "sasl.mechanisms": "PLAIN", "sasl.username": broker::SASL_USER,
            },
        }),
    );
    std::fs::write(file.path(), format!("{}\n", broker::SASL_PASSWORD)).expect("write");
    let report = send(&config, events(&["front-door"], 5), PATIENCE, |_| ());
    assert_eq!((report.n_published, report.n_failed), (7, 0), "{report:?}");
    assert_eq!(broker.consume("sasl.detections", 5, PATIENCE).len(), 5);

    std::fs::write(file.path(), "wr0ng-password").expect("write");
    let error = config.build("kafka", context()).err().expect("wrong password").to_string();
    assert!(error.contains("uthentication failed") && !error.contains("wr0ng-password"), "{error}");

    let SinkConfig::Kafka(mut untrusting) = config else { unreachable!("made above") };
    untrusting.properties.remove("ssl.ca.location");
    let error = SinkConfig::Kafka(untrusting).build("kafka", context()).err().expect("unknown certificate").to_string();
    assert!(error.contains("certificate verify failed"), "{error}");
}

/// Injected into librdkafka's mock cluster, because no healthy broker does it: an error after which the idempotent
/// producer refuses everything. The sink goes on with a new one, and counts what the old one had to give up.
#[test]
fn a_fatal_error_of_the_client_is_counted_and_survived() {
    let cluster = MockCluster::new(1).expect("mock cluster");
    cluster.create_topic("eyewitness.detections", 1, 1).expect("topic");
    let stream = samples::stream("front-door");
    let mut sink = config(&[cluster.bootstrap_servers()], json!({})).build("kafka", context()).expect("sink");
    let frame = |number| samples::detections(&stream, number, &[]);
    sink.publish(&frame(0)).expect("taken");
    for _ in 0..50 {
        sink.idle().expect("idle");
    }
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER]);
    let (mut number, mut n_busy) = (1, 0);
    while n_busy == 0 {
        match sink.publish(&frame(number)) {
            Ok(()) => number += 1,
            Err(error) => {
                assert!(error.is_temporary(), "{error}");
                n_busy += 1;
            }
        }
        sink.idle().expect("idle");
    }
    // The one that was refused, and more.
    for number in number..number + 10 {
        sink.publish(&frame(number)).expect("taken by the new client");
    }
    let report = sink.finish(PATIENCE);
    assert!(report.n_published >= 11, "{report:?}");
    assert!(report.n_failed >= 1, "{report:?}");
    assert_eq!(report.n_published + report.n_failed, number + 10, "{report:?}");
    let error = report.error.expect("lost records are an error").to_string();
    assert!(error.starts_with(&format!("{} events could not be delivered", report.n_failed)), "{error}");
}

#[test]
fn a_broker_that_is_killed_and_comes_back_delays_and_loses_nothing() {
    let mut broker = Broker::start();
    let config = config(&[broker.address()], json!({}));
    let sent = events(&["front-door", "yard"], 600);
    let mut killed_at = None;
    let report = send(&config, sent.clone(), PATIENCE, |number| match number {
        // Records are on their way when the broker dies, and keep coming while it is away.
        400 => {
            broker.kill();
            killed_at = Some(number);
        }
        800 => broker.restart(),
        _ => std::thread::sleep(Duration::from_millis(1)),
    });
    assert_eq!(killed_at, Some(400));
    assert_eq!((report.n_published, report.n_failed), (1204, 0), "{report:?}");
    check_order(&broker.consume("eyewitness.detections", 1200, PATIENCE), &sent, is_detections);
    check_order(&broker.consume("eyewitness.status", 4, PATIENCE), &sent, is_status);
}

#[test]
fn an_unreachable_broker_is_told_with_the_number_of_lost_events() {
    let nobody = vec!["127.0.0.1:1".to_owned()];
    let report = send(&config(&nobody, json!({})), events(&["front-door"], 98), Duration::from_secs(2), |_| ());
    assert_eq!((report.n_published, report.n_failed), (0, 100));
    let error = report.error.expect("error");
    assert!(matches!(error, SinkError::Undelivered { n_lost: 100, .. }), "{error:?}");
    let error = error.to_string();
    assert!(error.contains("100 events could not be delivered within 2 s"), "{error}");
    assert!(error.contains("127.0.0.1:1") && error.contains("refused"), "{error}");
}

#[test]
fn on_start_fail_refuses_to_start() {
    let config = config(&["127.0.0.1:1".to_owned()], json!({ "on_start": "fail" }));
    let error = config.build("kafka", context()).err().expect("nobody there").to_string();
    assert!(error.contains("no kafka broker answers at 127.0.0.1:1"), "{error}");
    assert!(error.contains("refused") && error.contains("on_start"), "{error}");
}

#[test]
fn memory_is_bounded_while_the_broker_is_away() {
    let mut config = KafkaConfig::new(["127.0.0.1:1"]);
    config.topic_prefix = "full".into();
    let stream = samples::stream("front-door");
    let mut sink = SinkConfig::Kafka(config).build("kafka", context()).expect("sink");
    let event = samples::detections(&stream, 0, &[("person", Some(7))]);
    let mut n_taken = 0;
    let error = loop {
        match sink.publish(&event) {
            Ok(()) => n_taken += 1,
            Err(error) => break error,
        }
        assert!(n_taken <= 20_000, "the client's queue has no end");
    };
    assert!(error.is_temporary(), "{error}");
    assert!(error.to_string().contains(&format!("{n_taken} records are not yet acknowledged")), "{error}");
    let report = sink.finish(Duration::ZERO);
    assert_eq!((report.n_published, report.n_failed), (0, n_taken));
}
