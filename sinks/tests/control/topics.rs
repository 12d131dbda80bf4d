//! Topics made, used as they are, and refused; and brokers that do not let us in.

use std::time::Duration;

use base::time::SystemClock;
use serde_json::{Value, json};
use sinks::control::{ClusterConfig, KafkaPlane, News, Plane as _, Post};

use crate::{
    BROKER,
    broker::{SASL_PASSWORD, SASL_USER},
    cluster, wait_for,
};

fn open(config: &Value, more: Value) -> KafkaPlane {
    let mut config = config.clone();
    config.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
    let config: ClusterConfig = serde_json::from_value(config).expect("configuration");
    KafkaPlane::open(&config, &config.worker_id(), SystemClock::new()).expect("opens")
}

/// Waits for news of a kind.
fn wait<T>(plane: &mut KafkaPlane, what: &str, wanted: impl Fn(&News) -> Option<T>) -> T {
    let mut all = Vec::new();
    wait_for(|| {
        let from = all.len();
        plane.news(Duration::from_millis(20), &mut all);
        all[from..].iter().find_map(&wanted).ok_or_else(|| format!("no {what}: {all:?}"))
    })
}

fn caught_up(plane: &mut KafkaPlane) {
    wait(plane, "end", |news| (*news == News::CaughtUp).then_some(()));
}

fn trouble(plane: &mut KafkaPlane) -> String {
    wait(plane, "trouble", |news| match news {
        News::Trouble(Some(text)) => Some(text.clone()),
        _ => None,
    })
}

#[test]
fn topics_are_made_as_they_must_be() {
    let mut plane = open(&cluster("made"), json!({ "leases": 5, "replication_factor": 1 }));
    caught_up(&mut plane);
    assert_eq!(plane.n_leases(), 5);
    let check = |topic: &str, n_partitions: usize, stamp: &str| {
        let (n, settings) = BROKER.describe_topic(topic);
        assert_eq!((&*settings["segment.ms"], &*settings["min.cleanable.dirty.ratio"]), ("600000", "0.2"), "{topic}");
        assert_eq!((n, &*settings["cleanup.policy"]), (n_partitions, "compact"), "{topic}");
        assert_eq!(settings["message.timestamp.type"], stamp, "{topic}");
    };
    check("made.attachments", 5, "CreateTime");
    check("made.leases", 1, "LogAppendTime");
    check("made.checkpoints", 1, "CreateTime");
}

#[test]
fn topics_that_are_there_are_used_as_they_are() {
    let compact = [("cleanup.policy", "compact")];
    BROKER.create_topic("used.attachments", 3, &compact);
    BROKER.create_topic("used.leases", 1, &compact);
    BROKER.create_topic("used.checkpoints", 4, &compact);
    let mut plane = open(&cluster("used"), json!({ "leases": 48, "create_topics": "never" }));
    caught_up(&mut plane);
    assert_eq!(plane.n_leases(), 3);
    let leases = wait(&mut plane, "leases", |news| match news {
        News::Granted { leases } => Some(leases.clone()),
        _ => None,
    });
    assert_eq!(leases.len(), 3);
}

#[test]
fn topics_that_would_not_do_are_refused() {
    BROKER.create_topic("forgets.attachments", 3, &[("cleanup.policy", "delete")]);
    let mut plane = open(&cluster("forgets"), json!({}));
    let text = trouble(&mut plane);
    assert!(text.contains("forgets.attachments") && text.contains("cleanup.policy is delete"), "{text}");
    assert!(text.contains("kafka-configs.sh --alter"), "{text}");
    // Once somebody has seen to it, it goes on by itself.
    BROKER.delete_topic("forgets.attachments");
    caught_up(&mut plane);
    assert_eq!(plane.n_leases(), 12);

    BROKER.create_topic("wide.leases", 2, &[("cleanup.policy", "compact")]);
    let text = trouble(&mut open(&cluster("wide"), json!({})));
    assert!(text.contains("wide.leases has 2 partitions and must have one"), "{text}");

    let text = trouble(&mut open(&cluster("missing"), json!({ "create_topics": "never" })));
    assert!(text.contains("missing.attachments does not exist") && text.contains("if_missing"), "{text}");
    assert!(!BROKER.has_topic("missing.attachments"));

    let text = trouble(&mut open(&cluster("copies"), json!({ "replication_factor": 3 })));
    assert!(text.contains("copies.attachments does not exist") && text.contains("`replication_factor`"), "{text}");
}

#[test]
fn a_wrong_password_is_told_and_may_be_changed_while_we_run() {
    let file = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(file.path(), "wr0ng-password").expect("write");
    let properties = json!({
        "security.protocol": "SASL_SSL", "sasl.mechanisms": "SCRAM-SHA-512", "sasl.username": SASL_USER,
        "ssl.ca.location": BROKER.certificate(),
    });
    let more = json!({ "brokers": [BROKER.sasl_address()], "password_file": file.path(), "properties": properties });
    let mut plane = open(&cluster("secret"), more);
    let text = trouble(&mut plane);
    assert!(text.contains("Authentication failed"), "{text}");
    assert!(!text.contains("wr0ng-password"), "{text}");
    std::fs::write(file.path(), SASL_PASSWORD).expect("write");
    caught_up(&mut plane);
    wait(&mut plane, "leases", |news| matches!(news, News::Granted { leases } if leases.len() == 12).then_some(()));
}

#[test]
fn a_password_that_is_not_there_is_refused_at_once() {
    let config: ClusterConfig = serde_json::from_value(json!({
        "brokers": ["127.0.0.1:1"], "password_env": "NO_SUCH_VARIABLE_OF_EYEWITNESS",
    }))
    .expect("configuration");
    let error = KafkaPlane::open(&config, "a", SystemClock::new()).err().expect("no password").to_string();
    assert!(error.contains("`password_env`: the environment has no variable"), "{error}");
}

#[test]
fn a_topic_that_is_deleted_is_made_again_and_what_was_in_it_is_gone() {
    let mut plane = open(&cluster("deleted"), json!({}));
    caught_up(&mut plane);
    let put = |plane: &mut KafkaPlane, name: &str, ticket| {
        plane.post(ticket, Post::Attachment { lease: 1, name: name.into(), text: Some("1".into()) });
    };
    let told = |plane: &mut KafkaPlane, wanted: &str, there: bool| {
        wait(plane, wanted, |news| match news {
            News::Attachment { name, text, .. } if name == wanted && text.is_some() == there => Some(()),
            _ => None,
        });
    };
    put(&mut plane, "yard", 1);
    told(&mut plane, "yard", true);
    BROKER.delete_topic("deleted.attachments");
    told(&mut plane, "yard", false);
    assert_eq!(BROKER.describe_topic("deleted.attachments").0, 12);
    put(&mut plane, "gate", 2);
    told(&mut plane, "gate", true);
}

#[test]
fn what_was_read_is_no_news_when_partitions_are_added() {
    let mut plane = open(&cluster("grown"), json!({ "leases": 2 }));
    caught_up(&mut plane);
    let attachment = |lease, name: &str, text: Option<&str>| Post::Attachment {
        lease,
        name: name.into(),
        text: text.map(str::to_owned),
    };
    for (ticket, text) in [Some("1"), Some("2"), None, Some("3")].into_iter().enumerate() {
        plane.post(ticket as u64, attachment(1, "yard", text));
    }
    let mut news = Vec::new();
    let is_about = |news: &News, wanted: &str, wanted_text: &str| matches!(news, News::Attachment { name, text: Some(text), .. } if name == wanted && text == wanted_text);
    wait_for(|| {
        plane.news(Duration::from_millis(20), &mut news);
        news.iter().any(|news| is_about(news, "yard", "3")).then_some(()).ok_or_else(|| format!("{news:?}"))
    });
    news.clear();
    BROKER.add_partitions("grown.attachments", 4);
    wait_for(|| {
        plane.news(Duration::from_millis(20), &mut news);
        if plane.n_leases() == 4 { Ok(()) } else { Err("nobody noticed".into()) }
    });
    plane.post(8, attachment(3, "gate", Some("1")));
    plane.post(9, attachment(1, "yard", Some("4")));
    wait_for(|| {
        plane.news(Duration::from_millis(20), &mut news);
        let is_told = |name, text| news.iter().any(|news| is_about(news, name, text));
        if is_told("gate", "1") && is_told("yard", "4") { Ok(()) } else { Err(format!("{news:?}")) }
    });
    news.retain(|news| matches!(news, News::Attachment { .. }));
    assert_eq!(news.len(), 2, "{news:?}");
}
