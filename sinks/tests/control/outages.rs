//! Brokers that are away, before and during the life of workers.

use std::time::Duration;

use base::time::SystemClock;
use serde_json::{Value, json};

use crate::{
    broker::{Broker, relay::Relay},
    member::Member,
    wait_for,
};

#[test]
fn a_broker_that_is_away_for_long_costs_the_leases_and_nothing_else() {
    let mut broker = Broker::start();
    let clock = SystemClock::new();
    let config = json!({ "brokers": [broker.address()], "leases": 6 });
    let mut a = Member::start(&config, "a", &clock);
    let mut b = Member::start(&config, "b", &clock);
    let share = |a: &Member, b: &Member| {
        wait_for(|| match (a.held(), b.held()) {
            (a, b) if a.len() == 3 && b.len() == 3 && a.is_disjoint(&b) => Ok(()),
            held => Err(format!("they hold {held:?}")),
        });
    };
    share(&a, &b);
    assert_eq!(a.post_and_wait(json!({ "post": "attachment", "lease": 1, "name": "yard", "text": "1" })), Value::Null);
    assert_eq!(b.post_and_wait(json!({ "post": "claim", "lease": 1, "worker": "b" })), Value::Null);
    for member in [&a, &b] {
        member.wait("the attachment", |news| news["name"] == "yard");
        member.wait("the claim", |news| news["news"] == "claimed");
    }
    let from = [a.heard().len(), b.heard().len()];
    broker.stop();
    let stopped_at = clock.monotonic();
    for (member, from) in [&a, &b].into_iter().zip(from) {
        let at = member.wait_from(from, "trouble", |news| news["news"] == "trouble");
        let trouble = member.heard()[at]["text"].clone();
        assert!(trouble.as_str().is_some_and(|text| text.contains(&broker.address())), "{trouble}");
        member.wait_from(from, "loss", |news| news["news"] == "revoked" && news["lost"] == true);
        member.wait_held(0);
    }
    let error = a.post_and_wait(json!({ "post": "attachment", "lease": 2, "name": "gate", "text": "1" }));
    assert!(error.as_str().is_some_and(|text| text.contains("did not acknowledge it within 10 s")), "{error}");
    std::thread::sleep(Duration::from_secs(15).saturating_sub(clock.monotonic().saturating_sub(stopped_at)));
    broker.restart();
    share(&a, &b);
    for (member, from) in [&a, &b].into_iter().zip(from) {
        wait_for(|| match member.heard().iter().rfind(|news| news["news"] == "trouble") {
            Some(last) if last["text"].is_null() => Ok(()),
            last => Err(format!("the last trouble is {last:?}")),
        });
        let again = member.heard().into_iter().skip(from).find(|news| news["news"] == "claimed");
        assert_eq!(again, None, "what was read is not told again");
    }
    let epoch = |member: &Member, worker: &str| {
        let at = member.wait("claim", |news| news["news"] == "claimed" && news["worker"] == worker);
        member.heard()[at]["epoch"].as_u64()
    };
    assert_eq!(a.post_and_wait(json!({ "post": "claim", "lease": 1, "worker": "a" })), Value::Null);
    assert!(epoch(&b, "a") > epoch(&b, "b"), "epochs grow");
}

#[test]
fn a_broker_may_come_later() {
    let relay = Relay::start(0);
    let clock = SystemClock::new();
    let config = json!({ "brokers": [relay.address()], "leases": 3 });
    let mut early = Member::start(&config, "early", &clock);
    let at = early.wait("trouble", |news| news["news"] == "trouble");
    let trouble = early.heard()[at]["text"].clone();
    assert!(trouble.as_str().is_some_and(|text| text.contains("cannot be reached")), "{trouble}");
    let attachment = json!({ "post": "attachment", "lease": 1, "name": "yard", "text": "1" });
    let error = early.post_and_wait(attachment.clone());
    assert!(error.as_str().is_some_and(|text| text.contains("did not acknowledge it within 10 s")), "{error}");
    assert!(early.heard().iter().all(|news| news["news"] != "caught_up"), "there is nothing to know yet");

    let broker = Broker::start_behind(relay.port());
    relay.forward_to(broker.relayed_port());
    early.caught_up();
    early.wait_held(3);
    assert_eq!(early.post_and_wait(attachment), Value::Null);
    early.wait("end of trouble", |news| news["news"] == "trouble" && news["text"].is_null());

    // A network that swallows everything: no connection breaks, and yet the leases are gone.
    let from = early.heard().len();
    relay.cut();
    early.wait_from(from, "loss", |news| news["news"] == "revoked" && news["lost"] == true);
    relay.heal();
    early.wait_held(3);
    early.end();
}
