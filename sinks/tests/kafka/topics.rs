//! Topics: made as configured, used as they are, made again.

use base::event::Body;
use serde_json::{Value, json};

use crate::{
    BROKER, PATIENCE, alerts, check_order, config, events, is_detections, is_status, open, schema_of, send, wait_for,
    wait_for_trouble,
};

#[test]
fn topics_are_made_as_configured() {
    let topics = json!({
        "partitions": 5, "config": { "retention.ms": 3_600_000 },
        "status": { "name": "site-north.status", "partitions": 1, "cleanup": "compact,delete" },
    });
    let config = config(&[BROKER.address()], json!({ "topic_prefix": "made", "topics": topics }));
    let sent = events(&["front-door", "yard"], 10);
    let report = send(&config, sent.clone(), PATIENCE, |_| ());
    assert_eq!((report.n_published, report.n_failed), (24, 0), "{report:?}");
    let (n_partitions, settings) = BROKER.describe_topic("made.detections");
    assert_eq!((n_partitions, &*settings["retention.ms"], &*settings["cleanup.policy"]), (5, "3600000", "delete"));
    let (n_partitions, settings) = BROKER.describe_topic("site-north.status");
    assert_eq!((n_partitions, &*settings["retention.ms"]), (1, "3600000"));
    assert_eq!(settings["cleanup.policy"], "compact,delete");
    check_order(&BROKER.consume("site-north.status", 4, PATIENCE), &sent, is_status);
    assert!(report.topics.contains_key("site-north.status"), "{report:?}");
    // Those of which nothing was sent are there too: consumers may come first.
    wait_for(|| match BROKER.has_topic("made.captions") {
        true => Ok(()),
        false => Err("no made.captions".into()),
    });
}

/// A compacted topic keeps the newest record of each key: it must be the alert's id, whatever keys the others have.
#[test]
fn alerts_may_be_kept_by_their_ids() {
    let topics = json!({ "partitions": 3, "alerts": { "key": "alert", "cleanup": "compact" } });
    let more = json!({ "topic_prefix": "by-alert", "partition_key": { "tag": "site" }, "topics": topics });
    let mut sent = alerts(&["front-door", "yard", "gate"]);
    sent.extend(events(&["yard"], 2));
    let report = send(&config(&[BROKER.address()], more), sent.clone(), PATIENCE, |_| ());
    assert_eq!((report.n_published, report.n_failed), (13, 0), "{report:?}");
    let (n_partitions, settings) = BROKER.describe_topic("by-alert.alerts");
    assert_eq!((n_partitions, &*settings["cleanup.policy"]), (3, "compact"));
    let records = BROKER.consume("by-alert.alerts", 9, PATIENCE);
    for key in sent.iter().filter_map(|event| match &event.body {
        Body::Alert(alert) => Some(&alert.alert),
        _ => None,
    }) {
        let states: Vec<Value> = records
            .iter()
            .filter(|record| record.key == *key)
            .map(|record| {
                let value: Value = serde_json::from_str(&record.payload).expect("json");
                assert!(schema_of("alert").is_valid(&value), "{value}");
                assert_eq!(
                    (&record.headers["ce_type"], value["id"].as_str()),
                    (&"eyewitness.alert".to_owned(), record.headers.get("ce_id").map(String::as_str))
                );
                value["state"].clone()
            })
            .collect();
        assert_eq!(states, ["opened", "updated", "closed"], "{key}");
    }
    let others = BROKER.consume("by-alert.detections", 2, PATIENCE);
    assert!(others.iter().all(|record| record.key == "north"), "{others:?}");
}

#[test]
fn a_topic_that_exists_is_used_as_it_is() {
    BROKER.create_topic("there.detections", 2, &[("retention.ms", "60000")]);
    let topics = json!({ "partitions": 7, "config": { "retention.ms": 1000 } });
    let config = config(&[BROKER.address()], json!({ "topic_prefix": "there", "topics": topics }));
    let report = send(&config, events(&["front-door"], 5), PATIENCE, |_| ());
    assert_eq!((report.n_published, report.n_failed), (7, 0), "{report:?}");
    let (n_partitions, settings) = BROKER.describe_topic("there.detections");
    assert_eq!((n_partitions, &*settings["retention.ms"]), (2, "60000"));
}

#[test]
fn a_missing_topic_is_waited_for() {
    let config = config(&[BROKER.address()], json!({ "topic_prefix": "never", "topics": { "create": "never" } }));
    let sent = events(&["front-door"], 5);
    let (handle, tx) = open(&config, PATIENCE);
    for event in sent.clone() {
        tx.send(event.into());
    }
    let trouble = wait_for_trouble(&handle, |trouble| trouble.is_some_and(|text| text.contains("does not exist")));
    assert!(trouble.is_some_and(|text| text.contains("topic never.status") && text.contains("if_missing")));
    assert!(!BROKER.has_topic("never.status") && !BROKER.has_topic("never.detections"), "nobody made it");
    BROKER.create_topic("never.status", 1, &[]);
    BROKER.create_topic("never.detections", 1, &[]);
    drop(tx);
    let report = handle.join();
    assert_eq!((report.n_published, report.n_failed), (7, 0), "{report:?}");
    check_order(&BROKER.consume("never.detections", 5, PATIENCE), &sent, is_detections);
}

#[test]
fn a_topic_that_is_deleted_is_made_again() {
    let topics = json!({ "partitions": 2 });
    let config = config(&[BROKER.address()], json!({ "topic_prefix": "deleted", "topics": topics }));
    let sent = events(&["front-door", "yard"], 200);
    let (handle, tx) = open(&config, PATIENCE);
    let (before, after) = sent.split_at(202);
    for event in before.iter().cloned() {
        tx.send(event.into());
    }
    let delivered = || handle.probe().read().delivery.expect("a far end").n_delivered;
    wait_for(|| if delivered() == 202 { Ok(()) } else { Err(format!("{} of 202 delivered", delivered())) });
    BROKER.delete_topic("deleted.detections");
    for event in after.iter().cloned() {
        tx.send(event.into());
    }
    drop(tx);
    let report = handle.join();
    assert_eq!((report.n_published, report.n_failed), (404, 0), "{report:?}");
    // What the old topic had is gone with it; the rest is complete and in order.
    check_order(&BROKER.consume("deleted.detections", 200, PATIENCE), after, is_detections);
    assert_eq!(BROKER.describe_topic("deleted.detections").0, 2);
}
