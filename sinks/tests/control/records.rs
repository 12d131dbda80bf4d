//! What is written, and read back by all.

use base::time::SystemClock;
use serde_json::{Value, json};

use crate::{BROKER, PATIENCE, cluster, member::Member};

/// Attachments and checkpoints in the order in which a worker was told of them.
fn told(member: &Member, kind: &str) -> Vec<Value> {
    member.heard().into_iter().filter(|news| news["news"] == kind).collect()
}

#[test]
fn what_is_written_is_read_by_all() {
    let clock = SystemClock::new();
    let config = cluster("written");
    let mut a = Member::start(&config, "a", &clock);
    let b = Member::start(&config, "b", &clock);
    a.caught_up();
    b.caught_up();
    let attachment = |lease: u32, name: &str, text: Option<&str>| json!({ "post": "attachment", "lease": lease, "name": name, "text": text });
    for post in [
        attachment(7, "yard", Some("1")),
        attachment(3, "gate", Some("1")),
        attachment(7, "yard", Some("2")),
        attachment(3, "gate", None),
        json!({ "post": "checkpoint", "name": "yard", "text": "far" }),
        json!({ "post": "worker", "id": "a", "text": "busy" }),
    ] {
        assert_eq!(a.post_and_wait(post), Value::Null);
    }
    let before = SystemClock::new().wall().as_millisecond();
    for member in [&a, &b] {
        let at = member.wait("worker", |news| news["news"] == "worker");
        let news = member.heard()[at].clone();
        assert_eq!((&news["id"], &news["text"]), (&"a".into(), &"busy".into()));
        let age_ms = before - news["at_ms"].as_i64().expect("a time");
        assert!((-60_000..60_000).contains(&age_ms), "{age_ms} ms ago");
        member.wait("checkpoint", |news| news["news"] == "checkpoint" && news["text"] == "far");
        member.wait("detached", |news| news["name"] == "gate" && news["text"].is_null());
        member.wait("changed", |news| news["name"] == "yard" && news["text"] == "2");
    }
    let yard: Vec<_> = told(&b, "attachment").into_iter().filter(|news| news["name"] == "yard").collect();
    assert_eq!(
        yard.iter().map(|news| (&news["text"], &news["lease"])).collect::<Vec<_>>(),
        [(&"1".into(), &7.into()), (&"2".into(), &7.into())]
    );
    // An independent client finds each in the partition of its lease.
    let records = BROKER.consume("written.attachments", 4, PATIENCE);
    assert!(records.iter().all(|record| (record.partition == 7) == (record.key == "yard")), "{records:?}");

    // Whoever comes later is told all of it before it counts as caught up, and has a lease only then.
    let mut c = Member::start(&config, "c", &clock);
    let at = c.caught_up();
    let heard = c.heard();
    let find = |wanted: &dyn Fn(&Value) -> bool| heard.iter().position(wanted).expect("told");
    assert!(find(&|news| news["name"] == "yard" && news["text"] == "2") < at);
    assert!(find(&|news| news["news"] == "checkpoint") < at);
    assert!(find(&|news| news["news"] == "worker") < at);
    assert!(c.wait("leases", |news| news["news"] == "granted") > at);

    // What cannot be written is said at once, in words.
    let error = c.post_and_wait(attachment(12, "yard", Some("1")));
    assert!(error.as_str().is_some_and(|text| text.contains("there is no lease 12")), "{error}");
    let error = c.post_and_wait(attachment(1, "yard", Some(&"x".repeat(2_000_000))));
    assert!(error.as_str().is_some_and(|text| text.contains("yard is too large")), "{error}");
    assert_eq!(c.post_and_wait(attachment(1, "last", Some("1"))), Value::Null);
    for mut member in [a, b, c] {
        member.wait("the last one", |news| news["name"] == "last");
        member.end();
    }
}

/// Reports come all the time where there are many streams: a topic that is never quiet has an end all the same.
#[test]
fn who_comes_while_others_write_all_the_time_catches_up() {
    let clock = SystemClock::new();
    let config = cluster("never-quiet");
    let mut writer = Member::start(&config, "writer", &clock);
    writer.caught_up();
    let comer = Member::start(&config, "comer", &clock);
    let mut n_written = 0;
    // 100 a second, more often than a reader's fetch waits for news.
    while !comer.heard().iter().any(|news| news["news"] == "caught_up") {
        writer.post(
            json!({ "post": "checkpoint", "name": format!("s{}", n_written % 30), "text": n_written.to_string() }),
        );
        n_written += 1;
        assert!(n_written < 9000, "90 s of reports, and still not caught up");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    comer.wait_held(6);
}

#[test]
fn claims_have_one_order() {
    let clock = SystemClock::new();
    let config = cluster("claims");
    let mut members = ["a", "b"].map(|name| (name, Member::start(&config, name, &clock)));
    for (_, member) in &members {
        member.caught_up();
    }
    for lease in (0..12).cycle().take(60) {
        for (name, member) in &mut members {
            member.post(json!({ "post": "claim", "lease": lease, "worker": name }));
        }
    }
    let all = members.each_ref().map(|(_, member)| {
        member.wait("all claims", |_| told(member, "claimed").len() == 120);
        told(member, "claimed")
    });
    assert_eq!(all[0], all[1]);
    let epochs: Vec<_> = all[0].iter().map(|claim| claim["epoch"].as_u64().expect("a number")).collect();
    assert!(epochs[0] > 0 && epochs.is_sorted_by(|a, b| a < b), "{epochs:?}");
    for name in ["a", "b"] {
        let leases: Vec<_> =
            all[0].iter().filter(|claim| claim["worker"] == name).map(|c| c["lease"].as_u64()).collect();
        assert_eq!(leases, (0..12).cycle().take(60).map(Some).collect::<Vec<_>>(), "in the order of its posts");
    }
}
