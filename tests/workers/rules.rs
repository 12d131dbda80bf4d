//! Rules of a stream's own lie with its attachment in Kafka: every worker knows them, whoever asks changes them, the one that
//! runs the stream exchanges them without disturbing it, and the next one goes on with them.

use serde_json::{Value, json};

use super::fleet::{Arena, Fleet, Worker, wait_for};

/// Fires at once, and says every other second that it goes on.
fn no_train() -> Value {
    let when = json!({ "type": "count", "under": 1, "objects": { "classes": ["train"] } });
    json!({ "when": when, "update_every_secs": 2, "close_after_secs": 3600 })
}

fn rules(worker: &Worker) -> Vec<Value> {
    let answer = worker.ask("GET", "/v1/streams/yard/rules", None);
    let rules = answer.and_then(|(_, body)| body["rules"].as_array().cloned()).unwrap_or_default();
    rules.iter().map(|rule| rule["name"].clone()).collect()
}

/// The newest record of an alert of this rule that fits, as this worker keeps it.
fn alert(worker: &Worker, rule: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let ask = || worker.ask("GET", &format!("/v1/alerts?rule={rule}"), None)?.1["alerts"].as_array().cloned();
    wait_for(&format!("an alert of {rule}"), || ask()?.into_iter().find(&is_it))
}

fn session(worker: &Worker) -> Value {
    worker.streams().and_then(|streams| Some(streams.first()?["session"].clone())).unwrap_or_default()
}

#[test]
fn every_worker_has_a_stream_s_own_rules() {
    let mut arena = Arena::enter();
    let broker = arena.broker();
    let mut fleet = Fleet::start_all(broker, "rules-of-workers", &["w1", "w2"]);
    let url = "test://?width=320&height=240&fps=5";
    // Else the stream may move once more, which is not what is looked at here.
    wait_for("the leases are shared out", || {
        let workers = fleet.workers[0].ask("GET", "/v1/workers", None)?.1["workers"].as_array().cloned()?;
        let n_leases = workers.iter().map(|worker| worker["leases"].as_array().map_or(0, Vec::len));
        (workers.len() == 2 && n_leases.into_iter().all(|n| n == 12)).then_some(())
    });
    let attachment = json!({ "url": url, "rules": { "first": no_train() } });
    // The topics may just be being made.
    wait_for("the stream is attached", || {
        let (status, _) = fleet.workers[0].ask("PUT", "/v1/streams/yard", Some(&attachment))?;
        matches!(status, 200 | 201).then_some(())
    });
    let who = fleet.wait_until_settled(1);
    let of_runner = fleet.workers.iter().position(|worker| worker.name == who[0].1).unwrap();
    let (runner, other) = (&fleet.workers[of_runner], &fleet.workers[1 - of_runner]);
    let opened = alert(runner, "first", |_| true);
    wait_for("both know it", || [runner, other].iter().all(|worker| rules(worker) == ["first"]).then_some(()));

    let before = session(runner);
    let patch = |rules: Value| {
        let (status, body) = other.ask("PATCH", "/v1/streams/yard", Some(&json!({ "rules": rules }))).unwrap();
        assert_eq!(status, 200, "{body}");
    };
    patch(json!({ "second": no_train() }));
    alert(runner, "second", |alert| alert["state"] != "closed");
    patch(json!({ "second": null }));
    let closed = alert(runner, "second", |alert| alert["state"] == "closed");
    assert_eq!(closed["closed_because"], "its rule was taken away");
    assert_eq!((session(runner), rules(runner)), (before, vec![json!("first")]));

    // What is open is written down once a second, and this one has been for longer.
    alert(runner, "first", |alert| alert["revision"].as_u64() >= Some(2));
    let lost = who[0].1.clone();
    fleet.take(&lost).kill();
    let survivor = &fleet.workers[0];
    let again = alert(survivor, "first", |alert| alert["state"] != "closed");
    assert_eq!((&again["alert"], &again["since"]), (&opened["alert"], &opened["since"]));
    assert_eq!(rules(survivor), ["first"]);
    fleet.end();
}
