//! Brokers that are away: at the start, in between, silent, for good.

use std::time::Duration;

use serde_json::json;
use sinks::SinkError;

use crate::{
    PATIENCE,
    broker::{Broker, relay::Relay},
    check_order, config, context, events, is_detections, is_status, open, send, wait_for, wait_for_trouble,
};

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

/// Away when the sink starts; then silent, which no error tells.
#[test]
fn a_broker_may_come_later_and_fall_silent() {
    let relay = Relay::start(0);
    let config = config(&[relay.address()], json!({ "topics": { "partitions": 2 } }));
    let sent = events(&["front-door", "yard"], 200);
    let (early, late) = sent.split_at(202);
    let (handle, tx) = open(&config, PATIENCE);
    let delivery = || handle.probe().read().delivery.expect("a far end");
    for event in early.iter().cloned() {
        tx.send(event.into());
    }
    wait_for_trouble(&handle, |trouble| trouble.is_some());
    assert_eq!((delivery().n_delivered, delivery().n_waiting), (0, 202));

    let broker = Broker::start_behind(relay.port());
    relay.forward_to(broker.relayed_port());
    wait_for(|| match delivery() {
        all if all.n_delivered == 202 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(broker.describe_topic("eyewitness.detections").0, 2, "made as configured once a broker answered");
    wait_for_trouble(&handle, |trouble| trouble.is_none());

    relay.cut();
    for event in late.iter().cloned() {
        tx.send(event.into());
    }
    let trouble = wait_for_trouble(&handle, |trouble| trouble.is_some());
    assert!(trouble.is_some_and(|text| text.contains("acknowledges nothing")));
    relay.heal();
    drop(tx);
    let report = handle.join();
    assert_eq!((report.n_published, report.n_failed), (404, 0), "{report:?}");
    check_order(&broker.consume("eyewitness.detections", 400, PATIENCE), &sent, is_detections);
}

#[test]
fn an_unreachable_broker_is_told_with_the_number_of_lost_events() {
    let nobody = vec!["127.0.0.1:1".to_owned()];
    let report = send(&config(&nobody, json!({})), events(&["front-door"], 98), Duration::from_secs(3), |_| ());
    assert_eq!((report.n_published, report.n_failed), (0, 100));
    let error = report.error.expect("error");
    assert!(matches!(error, SinkError::Undelivered { n_lost: 100, .. }), "{error:?}");
    let error = error.to_string();
    assert!(error.contains("100 events could not be delivered within 3 s"), "{error}");
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
fn what_waits_is_bounded_while_the_broker_is_away() {
    let config = config(
        &["127.0.0.1:1".to_owned()],
        json!({ "in_flight_records": 100, "spool": { "store": "memory", "max_bytes": 1_048_576 } }),
    );
    let mut sink = config.build("kafka", context()).expect("sink");
    let mut events = events(&["front-door"], 10_000).into_iter();
    let (mut n_taken, error) = (
        0,
        loop {
            match sink.publish(&events.next().expect("ten thousand are more than a mebibyte")) {
                Ok(()) => {}
                Err(error) => break error,
            }
        },
    );
    assert!(error.is_temporary() && matches!(error, SinkError::SpoolFull { .. }), "{error}");
    n_taken += sink.meter().expect("a far end").read().n_waiting;
    let report = sink.finish(Duration::ZERO);
    assert_eq!((report.n_published, report.n_failed), (0, n_taken));
}
