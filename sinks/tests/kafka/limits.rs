//! Records that are too large, queues that are full, and a client that gives up.

use std::collections::BTreeSet;

use base::event::Event;
use rdkafka::{
    mocking::MockCluster,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use serde_json::{Value, json};
use sinks::SinkReport;

use crate::{BROKER, PATIENCE, check_order, config, context, events, is_detections, samples, send};

/// `n` frames of a stream; in every tenth of them, from the fifth on, 2000 objects are seen: 150 kB.
fn crowds(n: u64) -> (Vec<Event>, Vec<String>) {
    let stream = samples::stream("front-door");
    let crowd = vec![("person", Some(7)); 2000];
    let frame = |number| samples::detections(&stream, number, if number % 10 == 5 { &crowd } else { &crowd[..1] });
    let events: Vec<Event> = (0..n).map(frame).collect();
    let large = (0..n).filter(|number| number % 10 == 5).map(|number| events[number as usize].id.to_string());
    let large = large.collect();
    (events, large)
}

/// Sends 100 frames, 10 of them too large; the others arrive in order, and the dead letters say why those did not.
fn check_refused(prefix: &str, more: Value, expected: &[&str]) {
    let folder = tempfile::tempdir().expect("folder");
    let letters = folder.path().join("dead.jsonl");
    let mut json = json!({ "topic_prefix": prefix, "dead_letters": letters });
    json.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
    let (sent, large) = crowds(100);
    let report = send(&config(&[BROKER.address()], json), sent.clone(), PATIENCE, |_| ());
    assert_eq!((report.n_published, report.n_failed), (90, 10), "{report:?}");
    let small: Vec<Event> = sent.into_iter().filter(|event| !large.contains(&event.id.to_string())).collect();
    check_order(&BROKER.consume(&format!("{prefix}.detections"), 90, PATIENCE), &small, is_detections);
    let lines = std::fs::read_to_string(&letters).expect("dead letters");
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("json")).collect();
    let ids: BTreeSet<&str> = lines.iter().map(|line| line["record"]["id"].as_str().expect("id")).collect();
    assert_eq!(ids, large.iter().map(String::as_str).collect());
    for line in &lines {
        let reason = line["reason"].as_str().expect("reason");
        assert!(expected.iter().all(|expected| reason.contains(expected)), "{reason}: not {expected:?}");
    }
}

#[test]
fn records_that_are_too_large_are_refused_and_put_aside() {
    check_refused(
        "own-limit",
        json!({ "max_record_bytes": 100_000 }),
        &["more than the limit of 100000", "raise `max_record_bytes`", "max.message.bytes", "own-limit.detections"],
    );
    let topics = json!({ "config": { "max.message.bytes": 60_000 } });
    check_refused(
        "topic-limit",
        json!({ "topics": topics, "compression": "none" }),
        &["topic-limit.detections", "max.message.bytes"],
    );
}

/// Hundreds of records wait for room for ten, and arrive in order.
#[test]
fn a_full_client_is_waited_for() {
    let config = config(&[BROKER.address()], json!({ "topic_prefix": "narrow", "in_flight_records": 10 }));
    let sent = events(&["front-door", "yard"], 300);
    let report = send(&config, sent.clone(), PATIENCE, |_| ());
    assert_eq!((report.n_published, report.n_failed), (604, 0), "{report:?}");
    check_order(&BROKER.consume("narrow.detections", 600, PATIENCE), &sent, is_detections);
}

/// Sends twenty records to librdkafka's mock cluster, which answers requests after the first record with these errors.
fn with_errors(errors: &[RDKafkaRespErr]) -> (SinkReport, usize) {
    let cluster = MockCluster::new(1).expect("mock cluster");
    cluster.create_topic("eyewitness.detections", 1, 1).expect("topic");
    // So that the few records make several batches.
    let properties = json!({ "batch.num.messages": 4 });
    let config =
        config(&[cluster.bootstrap_servers()], json!({ "topics": { "create": "never" }, "properties": properties }));
    let mut sink = config.build("kafka", context()).expect("sink");
    let stream = samples::stream("front-door");
    sink.publish(&samples::detections(&stream, 0, &[])).expect("taken");
    let meter = sink.meter().expect("a far end");
    while meter.read().n_delivered == 0 {
        sink.idle().expect("idle");
    }
    cluster.request_errors(RDKafkaApiKey::Produce, errors);
    for number in 1..21 {
        sink.publish(&samples::detections(&stream, number, &[])).expect("taken");
    }
    let report = sink.finish(PATIENCE);
    (report, 21)
}

/// Injected into librdkafka's mock cluster, because no healthy broker does it: an error after which the idempotent
/// producer refuses everything. Everything that it held is sent by a new one.
#[test]
fn a_client_that_gives_up_is_replaced_and_nothing_is_lost() {
    for errors in [
        vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER],
        vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH],
        vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 2],
        vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP; 3],
        vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED],
        vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION; 3],
    ] {
        let (report, n_sent) = with_errors(&errors);
        assert_eq!((report.n_published, report.n_failed), (n_sent as u64, 0), "{errors:?}: {report:?}");
        assert!(report.error.is_none(), "{errors:?}: {report:?}");
    }
}

/// Injected likewise, because our own limits come first: a batch that is too large for its topic is sent again one by one,
/// and only the record that is too large on its own is refused.
#[test]
fn of_a_batch_that_is_too_large_only_the_large_record_is_refused() {
    let too_large = RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
    let (report, n_sent) = with_errors(&[too_large]);
    assert_eq!((report.n_published, report.n_failed), (n_sent as u64, 0), "{report:?}");
    let (report, n_sent) = with_errors(&[too_large, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR, too_large]);
    assert_eq!((report.n_published, report.n_failed), (n_sent as u64 - 1, 1), "{report:?}");
}
