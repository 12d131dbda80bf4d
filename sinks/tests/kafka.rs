//! The Kafka sink against a real Apache Kafka, read back with kcat.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
    time::Duration,
};

use base::{
    event::{AlertState, Event},
    queue::{Sender, Sent, WhenFull, queue},
    time::SystemClock,
};
use broker::{Broker, Consumed};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sinks::{BuildContext, SinkConfig, SinkHandle, SinkReport, Stamp, spawn, wire};

mod broker;
#[path = "kafka/limits.rs"]
mod limits;
#[path = "kafka/outages.rs"]
mod outages;
#[path = "../src/samples.rs"]
mod samples;
#[path = "kafka/security.rs"]
mod security;
#[path = "kafka/topics.rs"]
mod topics;

const PATIENCE: Duration = Duration::from_secs(60);

/// For all tests that leave it as it is. It ends with this process.
static BROKER: LazyLock<Broker> = LazyLock::new(Broker::start);

/// A configuration that keeps what waits in memory, so that tests write nowhere.
fn config(brokers: &[String], more: Value) -> SinkConfig {
    let mut json = json!({ "type": "kafka", "brokers": brokers, "spool": { "store": "memory" } });
    json.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
    serde_json::from_value(json).expect("configuration")
}

fn context() -> BuildContext {
    BuildContext::new(SystemClock::new(), Stamp::Published)
}

/// Sends all events through a sink, calling `before` before each, and closes it.
fn send(config: &SinkConfig, events: Vec<Event>, grace: Duration, mut before: impl FnMut(usize)) -> SinkReport {
    let (handle, tx) = open(config, grace);
    for (number, event) in events.into_iter().enumerate() {
        before(number);
        assert_eq!(tx.send(Arc::new(event)), Sent::Queued);
    }
    drop(tx);
    handle.join()
}

/// A sink on its thread, and the queue before it.
fn open(config: &SinkConfig, grace: Duration) -> (SinkHandle, Sender<Arc<Event>>) {
    let context = context();
    let clock = Arc::clone(&context.clock);
    let sink = config.build("kafka", context).expect("sink");
    let (tx, rx) = queue("kafka", 64, WhenFull::Block);
    (spawn("kafka", sink, rx, grace, clock).expect("thread"), tx)
}

/// Waits until the sink's trouble is as it should be; gives it.
fn wait_for_trouble(handle: &SinkHandle, expected: impl Fn(Option<&str>) -> bool) -> Option<String> {
    wait_for(|| {
        let trouble = handle.probe().read().delivery.expect("a far end").trouble;
        match expected(trouble.as_deref()) {
            true => Ok(trouble),
            false => Err(format!("the trouble is {trouble:?}")),
        }
    })
}

/// Waits until `what` is there.
fn wait_for<T>(what: impl Fn() -> Result<T, String>) -> T {
    let clock = SystemClock::new();
    loop {
        match what() {
            Ok(it) => return it,
            Err(instead) => assert!(clock.monotonic() < PATIENCE, "after {PATIENCE:?} {instead}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
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

/// The life of one alert of each stream, interleaved.
fn alerts(names: &[&str]) -> Vec<Event> {
    let streams: Vec<_> = names.iter().map(|name| samples::stream(name)).collect();
    let states = [AlertState::Opened, AlertState::Updated, AlertState::Closed];
    let moments = states.into_iter().flat_map(|state| streams.iter().map(move |stream| (stream, state)));
    moments.map(|(stream, state)| samples::alert(stream, 0, state)).collect()
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
    let broker = &*BROKER;
    for compression in ["none", "snappy", "lz4", "zstd"] {
        let config = config(&[broker.address()], json!({ "compression": compression, "topic_prefix": compression }));
        let mut sent = events(&["front-door", "yard", "gate"], 200);
        sent.extend(speech("yard"));
        sent.extend(alerts(&["yard", "gate"]));
        let report = send(&config, sent.clone(), PATIENCE, |_| ());
        assert_eq!((report.n_published, report.n_failed), (617, 0), "{report:?}");
        let topics: Vec<(&str, u64)> = report.topics.iter().map(|(t, c)| (t.as_str(), c.n_delivered)).collect();
        let topic = |kind: &str| format!("{compression}.{kind}");
        let (captions, transcripts) = (topic("captions"), topic("transcripts"));
        let (detections, alerts, status) = (topic("detections"), topic("alerts"), topic("status"));
        assert_eq!(topics, [(&*alerts, 6), (&*captions, 2), (&*detections, 600), (&*status, 6), (&*transcripts, 3)]);

        let detections = broker.consume(&detections, 600, PATIENCE);
        check_order(&detections, &sent, is_detections);
        let status = broker.consume(&status, 6, PATIENCE);
        check_order(&status, &sent, is_status);
        let transcripts = broker.consume(&transcripts, 3, PATIENCE);
        check_order(&transcripts, &sent, |event| event.body.kind() == "transcript");
        let captions = broker.consume(&captions, 2, PATIENCE);
        check_order(&captions, &sent, |event| event.body.kind() == "caption");
        let alerts = broker.consume(&alerts, 6, PATIENCE);
        check_order(&alerts, &sent, |event| event.body.kind() == "alert");
        for record in detections.iter().chain(&status).chain(&transcripts).chain(&captions).chain(&alerts) {
            check_record(record);
        }
        let homes: BTreeSet<(&str, i64)> = detections.iter().map(|r| (r.key.as_str(), r.partition)).collect();
        assert_eq!(homes.len(), 3, "each stream stays in one partition: {homes:?}");
    }
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
        ("traceparent", trace_parent(&value)),
    ]
    .map(|(name, value): (&str, String)| (name.to_owned(), value))
    .into();
    assert_eq!(record.headers, expected);
}

/// One trace for all records of a moment, one span for each record.
fn trace_parent(value: &Value) -> String {
    let hash = |text: String, n_bytes: usize| -> String {
        Sha256::digest(text)[..n_bytes].iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let text = |key: &str| value[key].as_str().expect("text").to_owned();
    let trace = hash(format!("{}/{}", text("session"), value["pts_ms"]), 16);
    format!("00-{trace}-{}-00", hash(text("id"), 8))
}

#[test]
fn a_tag_may_be_the_key() {
    let mut events = events(&["front-door", "yard", "gate"], 50);
    for event in &mut events {
        let mut stream = (*event.stream).clone();
        match stream.name.as_str() {
            "gate" => stream.tags.clear(),
            _ => {
                stream.tags.insert("site".into(), "south".into());
            }
        }
        event.stream = Arc::new(stream);
    }
    let sent: Vec<String> = events.iter().filter(|e| is_detections(e)).map(|e| e.id.to_string()).collect();
    let config = config(&[BROKER.address()], json!({ "topic_prefix": "by-tag", "partition_key": { "tag": "site" } }));
    let report = send(&config, events, PATIENCE, |_| ());
    assert_eq!((report.n_published, report.n_failed), (156, 0), "{report:?}");
    let records = BROKER.consume("by-tag.detections", 150, PATIENCE);
    let ids = ids_by_key(&records);
    assert_eq!(ids.keys().copied().collect::<Vec<_>>(), ["gate", "south"], "without the tag the stream's name counts");
    assert_eq!((ids["gate"].len(), ids["south"].len()), (50, 100));
    // Across streams, too, the order is that of the events.
    for ids in ids.values() {
        let places: Vec<_> = ids.iter().map(|id| sent.iter().position(|sent| sent == id)).collect();
        assert!(places.is_sorted() && !places.contains(&None), "{places:?}");
    }
}
