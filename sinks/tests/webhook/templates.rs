//! Alerts in the words of other systems: signed as always, in order, and nothing but what was asked for.

use std::fs;

use base::event::{AlertState, Event};
use serde_json::{Value, json};

use crate::{Got, Receiver, SECRET, changes, config, dead_letters, ids, samples, secret_file, send};

/// One alert's life, with two changes of its stream before it.
fn life() -> Vec<Event> {
    let stream = samples::stream("front-door");
    let states = [AlertState::Opened, AlertState::Updated, AlertState::Closed];
    let alerts = states.into_iter().map(|state| samples::alert(&stream, 4, state));
    changes(2).into_iter().chain(alerts).collect()
}

/// Sends a life; gives what arrived, and what was sent.
fn deliver(more: impl FnOnce(&std::path::Path) -> Value) -> (Vec<Got>, Vec<Event>) {
    let folder = tempfile::tempdir().expect("folder");
    let receiver = Receiver::start(folder.path(), json!({ "secrets": [SECRET] }));
    let mut more = more(folder.path());
    more["secret_file"] = json!(secret_file(folder.path(), SECRET));
    more["link"] = json!("http://host:8642");
    let sent = life();
    let report = send(&config(folder.path(), &receiver.url(), more), sent.clone());
    assert_eq!((report.n_failed, report.n_waiting, dead_letters(folder.path()).len()), (0, 0, 0), "{report:?}");
    let got = receiver.got();
    for got in &got {
        assert!(got.signed && got.was_taken(), "{got:?}");
        assert!(got.headers["content-type"] == "application/json" && !got.headers.contains_key("ce-type"), "{got:?}");
    }
    (got, sent)
}

fn bodies(got: &[Got]) -> Vec<Value> {
    got.iter().map(|got| serde_json::from_str(&got.body).expect("json")).collect()
}

#[test]
fn for_alertmanager() {
    let (got, sent) = deliver(|_| json!({ "template": "alertmanager" }));
    let webhook_ids: Vec<&str> = got.iter().map(|got| got.headers["webhook-id"].as_str()).collect();
    assert_eq!(webhook_ids, ids(&sent[2..]), "alerts alone");
    let bodies = bodies(&got);
    let alerts: Vec<&Value> = bodies.iter().flat_map(|body| body.as_array().expect("an array")).collect();
    assert_eq!(alerts.len(), 3);
    for alert in &alerts {
        let labels = &alert["labels"];
        assert_eq!(*labels, alerts[0]["labels"], "one alert");
        assert_eq!((&labels["alertname"], &labels["tag_site"]), (&json!("person-in-yard"), &json!("north")));
        assert_eq!(alert["startsAt"], "2026-09-21T14:13:29.123Z");
        assert!(alert["generatorURL"].as_str().is_some_and(|url| url.starts_with("http://host:8642/v1/alerts/")));
    }
    let ends: Vec<&str> = alerts.iter().map(|alert| alert["endsAt"].as_str().expect("an end")).collect();
    assert!(ends[0] > ends[2] && ends[1] >= ends[0] && ends[2] == "2026-09-21T14:13:33.623Z", "{ends:?}");

    // Those that wait go together: the API takes an array.
    let (got, _) = deliver(|_| json!({ "template": "alertmanager", "batch_events": 100 }));
    let n_alerts: usize = self::bodies(&got).iter().map(|body| body.as_array().expect("an array").len()).sum();
    assert_eq!(n_alerts, 3);
}

#[test]
fn for_a_chat() {
    let (got, _) = deliver(|_| json!({ "template": "slack", "types": ["alert", "status", "gap"] }));
    let bodies = bodies(&got);
    let texts: Vec<&str> = bodies.iter().map(|body| body["text"].as_str().expect("text")).collect();
    assert_eq!(texts[..2], ["*front-door*: interrupted: no route to host"; 2]);
    let alert = "*front-door*: person in \"yard\" for 3 s (person-in-yard, ";
    let states = ["opened)", "updated)", "closed: nobody is there any more)"];
    for (text, state) in texts[2..].iter().zip(states) {
        assert!(text.contains(&format!("{alert}{state} <http://host:8642/v1/alerts/")), "{text}");
    }
    assert_eq!(texts.len(), 5);
}

#[test]
fn of_the_users_own() {
    let template = r#"{ "routing": "{{tags.site}}", "say": "{{stream}} {{state}}: {{summary}}", "since": {{since}},
        "tracks": {{evidence.tracks}}, "see": "{{evidence.snapshot}}" }"#;
    let (got, sent) = deliver(|folder| {
        let path = folder.join("hook.json");
        fs::write(&path, template).expect("write");
        json!({ "template_file": path, "types": ["alert"] })
    });
    let alert = format!("{}-alert-person-in-yard-4", sent[0].session);
    let expected = ["opened", "updated", "closed"].map(|state| {
        json!({
            "routing": "north", "say": format!("front-door {state}: person in \"yard\" for 3 s"),
            "since": "2026-09-21T14:13:29.123Z", "tracks": [7],
            "see": format!("http://host:8642/v1/alerts/{alert}/snapshot.jpg"),
        })
    });
    assert_eq!(bodies(&got), expected);
}
