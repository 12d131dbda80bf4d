//! The webhook sink against a receiver of another make: what arrives, what is tried again, what is put aside, and what
//! nobody gets to see.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
    time::Duration,
};

use base::{
    event::{Event, StreamState},
    queue::{Sender, Sent, WhenFull, queue},
    time::SystemClock,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use receiver::{Got, OTHER_SECRET, Receiver, SECRET};
use serde_json::{Value, json};
use sinks::{BuildContext, SinkConfig, SinkHandle, SinkReport, Stamp, delivery::DeadLetter, spawn, wire};

#[path = "broker/certificates.rs"]
#[allow(dead_code, reason = "made for Kafka; webhooks need a part of it")]
mod certificates;
#[path = "webhook/listener.rs"]
mod listener;
#[path = "webhook/receiver.rs"]
mod receiver;
#[path = "../src/samples.rs"]
mod samples;
#[path = "webhook/templates.rs"]
mod templates;

const PATIENCE: Duration = Duration::from_secs(60);
const ALL: [&str; 6] = ["detections", "transcript", "caption", "alert", "status", "gap"];

/// A sink with its own folder: spool and dead letters are in there.
fn config(folder: &Path, url: &str, more: Value) -> SinkConfig {
    let mut json = json!({
        "type": "webhook", "url": url, "types": ALL,
        "retry": { "first_ms": 20, "max_ms": 200 },
        "spool": { "path": folder.join("spool") }, "dead_letters": folder.join("dead.jsonl"),
    });
    json.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
    serde_json::from_value(json).expect("configuration")
}

/// A sink at work.
struct Running {
    events: Sender<Arc<Event>>,
    handle: SinkHandle,
}

impl Running {
    fn start(config: &SinkConfig, grace: Duration) -> Self {
        let context = BuildContext::new(SystemClock::new(), Stamp::Published);
        let clock = Arc::clone(&context.clock);
        let sink = config.build("hook", context).expect("sink");
        let (events, rx) = queue("hook", 64, WhenFull::Block);
        let handle = spawn("hook", sink, rx, grace, clock).expect("thread");
        Self { events, handle }
    }

    fn send(&self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            assert_eq!(self.events.send(Arc::new(event)), Sent::Queued);
        }
    }

    /// Waits for trouble, and tells it.
    fn trouble(&self) -> String {
        let probe = self.handle.probe();
        for _ in 0..3000 {
            if let Some(trouble) = probe.read().delivery.expect("a far end").trouble {
                return trouble;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("no trouble after 30 s");
    }

    /// Waits until all `n` that were sent are delivered or refused: an end that comes sooner leaves them in the spool.
    fn settle(&self, n: usize) {
        let probe = self.handle.probe();
        for _ in 0..6000 {
            let reading = probe.read();
            if reading.n_accepted == n as u64 && reading.delivery.expect("a far end").n_waiting == 0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("still not settled after a minute: {:?}", probe.read());
    }

    fn finish(self) -> SinkReport {
        drop(self.events);
        self.handle.join()
    }
}

fn send(config: &SinkConfig, events: Vec<Event>) -> SinkReport {
    let running = Running::start(config, PATIENCE);
    let n = events.len();
    running.send(events);
    running.settle(n);
    running.finish()
}

/// Some of every kind, of two streams.
fn events(n_frames: u64) -> Vec<Event> {
    let streams = ["front-door", "yard"].map(samples::stream);
    let mut events: Vec<Event> = streams.iter().map(samples::playing).collect();
    for number in 0..n_frames {
        events.extend(streams.iter().map(|stream| samples::detections(stream, number, &[("person", Some(7))])));
    }
    let yard = &streams[1];
    events.push(samples::transcript(yard, 0, "and so", false));
    events.push(samples::caption(yard, 0, 3400..4800, &["and so"], true));
    events.extend(streams.iter().map(|stream| samples::gap(stream, n_frames)));
    events
}

/// The stream's state changed `n` times.
fn changes(n: u64) -> Vec<Event> {
    let stream = samples::stream("front-door");
    (0..n).map(|number| samples::status(&stream, number, StreamState::Interrupted, "no route to host")).collect()
}

fn ids(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.id.as_str()).collect()
}

/// Ids of the records that the receiver took, in order.
fn taken(got: &[Got]) -> Vec<&str> {
    got.iter().filter(|got| got.was_taken()).flat_map(|got| got.ids.iter().map(String::as_str)).collect()
}

/// The dead letters: id and reason.
fn dead_letters(folder: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(folder.join("dead.jsonl")).expect("dead letters");
    let read = |line| {
        let letter: DeadLetter<'_> = serde_json::from_str(line).expect("a letter");
        let record = wire::decode(letter.record.get()).expect("a record");
        assert_eq!((&*letter.sink, &*letter.key), ("hook", &*record.envelope().stream));
        (record.envelope().id.to_string(), letter.reason)
    };
    text.lines().map(read).collect()
}

fn secret_file(folder: &Path, text: &str) -> std::path::PathBuf {
    let path = folder.join("secret");
    fs::write(&path, text).expect("write");
    path
}

#[test]
fn records_arrive_signed_and_in_order() {
    let folder = tempfile::tempdir().expect("folder");
    let receiver = Receiver::start(folder.path(), json!({ "secrets": [SECRET] }));
    let secret_file = secret_file(folder.path(), SECRET);
    let more = json!({ "secret_file": secret_file, "headers": { "X-Site": "north" } });
    let sent = events(20);
    let report = send(&config(folder.path(), &receiver.url(), more), sent.clone());
    assert_eq!((report.n_published, report.n_failed, report.n_waiting), (46, 0, 0), "{report:?}");

    let got = receiver.got();
    assert_eq!(taken(&got), ids(&sent));
    for got in &got {
        assert!(got.signed, "{got:?}");
        let record: Value = serde_json::from_str(&got.body).expect("one record");
        let text = |key: &str| record[key].as_str().unwrap_or_else(|| panic!("no {key} in {record}")).to_owned();
        let expected: BTreeMap<&str, String> = [
            ("content-type", "application/json".into()),
            ("ce-specversion", "1.0".into()),
            ("ce-id", text("id")),
            ("ce-type", format!("eyewitness.{}", text("type"))),
            ("ce-source", format!("/eyewitness/streams/{}", text("stream"))),
            ("ce-subject", text("session")),
            ("ce-time", text("captured_at")),
            ("webhook-id", text("id")),
            ("x-site", "north".into()),
        ]
        .into();
        let found = |name: &str| got.headers.get(name).cloned().unwrap_or_default();
        assert_eq!(expected.keys().map(|name| (*name, found(name))).collect::<BTreeMap<_, _>>(), expected);
        assert!(found("user-agent").starts_with("eyewitness/"), "{got:?}");
        assert!(wire::decode(&got.body).is_ok() && got.path == "/hook");
    }
    let connections: BTreeSet<u16> = got.iter().map(|got| got.connection).collect();
    assert_eq!(connections.len(), 1, "one connection for all");
}

#[test]
fn other_kinds_are_neither_sent_nor_kept() {
    let folder = tempfile::tempdir().expect("folder");
    let receiver = Receiver::start(folder.path(), json!({}));
    let check = |types: Value, expected: &[&str]| {
        let before = receiver.got().len();
        let running = Running::start(&config(folder.path(), &receiver.url(), types), PATIENCE);
        let probe = running.handle.probe();
        running.send(events(20));
        let report = running.finish();
        assert_eq!((report.n_published, report.n_waiting), (expected.len() as u64, 0), "{report:?}");
        assert_eq!(probe.read().n_accepted, 46);
        let got: Vec<String> = receiver.got()[before..].iter().map(|got| got.headers["ce-type"].clone()).collect();
        assert_eq!(got, expected);
    };
    check(json!({ "types": ["caption", "gap"] }), &["eyewitness.caption", "eyewitness.gap", "eyewitness.gap"]);
    check(json!({ "types": ["transcript"] }), &["eyewitness.transcript"]);
}

#[test]
fn batches_are_arrays_of_records() {
    let folder = tempfile::tempdir().expect("folder");
    // While the first one hangs, the others gather.
    let script = json!([{ "hang_secs": 0.5 }]);
    let receiver = Receiver::start(folder.path(), json!({ "secrets": [SECRET], "script": script }));
    let more = json!({ "secret_file": secret_file(folder.path(), SECRET), "batch_events": 100 });
    let sent = events(200);
    let report = send(&config(folder.path(), &receiver.url(), more), sent.clone());
    assert_eq!((report.n_published, report.n_failed), (406, 0), "{report:?}");
    let got = receiver.got();
    assert_eq!(taken(&got), ids(&sent));
    for got in &got {
        assert!(got.signed && (1..=100).contains(&got.ids.len()), "{got:?}");
        assert!(serde_json::from_str::<Vec<Value>>(&got.body).is_ok(), "{got:?}");
        assert_eq!(got.headers["webhook-id"], format!("{}+{}", got.ids[0], got.ids.len()));
        assert!(!got.headers.contains_key("ce-id"), "{got:?}");
    }
    assert!(got.iter().any(|got| got.ids.len() > 10), "records that wait go together");
}

/// A request that may succeed later is sent again: the same id and bytes, signed anew; nothing overtakes it.
#[test]
fn answers_that_may_pass_are_tried_again() {
    let check = |script: Value, more: Value| {
        let folder = tempfile::tempdir().expect("folder");
        let n_steps = script.as_array().expect("steps").len();
        let receiver = Receiver::start(folder.path(), json!({ "secrets": [SECRET], "script": script }));
        let mut more = more;
        more["secret_file"] = json!(secret_file(folder.path(), SECRET));
        let sent = changes(3);
        let report = send(&config(folder.path(), &receiver.url(), more), sent.clone());
        assert_eq!((report.n_published, report.n_failed), (3, 0), "{script}: {report:?}");
        let got = receiver.got();
        assert_eq!(taken(&got), ids(&sent), "{script}");
        assert_eq!(got.iter().filter(|got| !got.was_taken()).count(), n_steps, "{script}");
        for again in &got[..=n_steps] {
            assert!(again.signed, "{script}");
            assert_eq!((&again.body, &again.headers["webhook-id"]), (&got[0].body, &got[0].headers["webhook-id"]));
        }
        assert!(dead_letters(folder.path()).is_empty(), "{script}");
        got
    };
    let status = |status: u16| json!({ "status": status, "body": "not now" });
    check(json!([500, 502, 503, 504, 503].map(status)), json!({}));
    check(json!([408, 425, 429].map(status)), json!({}));
    check(json!([{ "hang_secs": 2.0 }]), json!({ "timeout_ms": 300 }));
    check(json!([{ "reset": true }, { "reset": true }]), json!({}));
    check(json!([{ "cut": true }]), json!({}));
    check(json!([503, 503].map(status)), json!({ "batch_events": 50 }));
    // As long as the receiver asks for, though the sink would come back sooner.
    let asked = |value: &str| json!([{ "status": 429, "headers": { "Retry-After": value } }]);
    let got = check(asked("2"), json!({}));
    assert!(got[1].at - got[0].at >= 2.0, "{:?}", [&got[0], &got[1]]);
    let (first, second) = (got[0].headers["webhook-timestamp"].clone(), got[1].headers["webhook-timestamp"].clone());
    assert!(second > first && got[0].headers["webhook-signature"] != got[1].headers["webhook-signature"]);
    check(asked("Sat, 21 Nov 2020 16:00:00 GMT"), json!({}));
}

/// A request that never will succeed costs its record, which is put aside, and no other.
#[test]
fn final_answers_go_to_the_dead_letters() {
    let check = |step: Value, expected: &str| {
        let folder = tempfile::tempdir().expect("folder");
        let receiver = Receiver::start(folder.path(), json!({ "script": [step.clone()] }));
        let url = format!("{}?token=hunter2secret", receiver.url());
        let sent = changes(3);
        let report = send(&config(folder.path(), &url, json!({})), sent.clone());
        assert_eq!((report.n_published, report.n_failed, report.n_waiting), (2, 1, 0), "{step}: {report:?}");
        assert_eq!(taken(&receiver.got()), ids(&sent[1..]), "{step}");
        let reason = format!("POST {}: {expected}", receiver.url());
        assert_eq!(dead_letters(folder.path()), [(sent[0].id.clone(), reason.clone())], "{step}");
        let error = report.error.expect("a loss is an error").to_string();
        assert!(error.contains(&reason), "{error}");
    };
    check(
        json!({ "status": 400, "body": "{\"error\":\n \"no such field\"}" }),
        "400 Bad Request: {\"error\": \"no such field\"}",
    );
    check(json!({ "status": 404 }), "404 Not Found");
    check(json!({ "status": 410, "body": "x".repeat(500) }), &format!("410 Gone: {}...", "x".repeat(200)));
    check(json!({ "status": 413 }), "413 Payload Too Large");
    check(
        json!({ "status": 307, "headers": { "Location": "/elsewhere" } }),
        "307 Temporary Redirect; redirects are not followed: write the final address into `url`",
    );
}

/// The records of a refused batch are tried one by one: those that are welcome arrive, in order.
#[test]
fn a_bad_record_does_not_take_its_batch_with_it() {
    let check = |bad: &[usize], most: usize| {
        let folder = tempfile::tempdir().expect("folder");
        let sent = changes(60);
        let poison: BTreeMap<&str, u16> = bad.iter().map(|&at| (sent[at].id.as_str(), 422)).collect();
        let config_of = json!({ "poison": poison, "most": most, "script": [{ "hang_secs": 0.5 }] });
        let receiver = Receiver::start(folder.path(), config_of);
        let more = json!({ "batch_events": 50, "types": ["status"] });
        let report = send(&config(folder.path(), &receiver.url(), more), sent.clone());
        assert_eq!((report.n_published, report.n_failed), (60 - bad.len() as u64, bad.len() as u64), "{report:?}");
        let welcome: Vec<&str> = ids(&sent).into_iter().filter(|id| !poison.contains_key(id)).collect();
        let got = receiver.got();
        assert_eq!(taken(&got), welcome);
        assert!(got.iter().any(|got| got.ids.len() > 1 && !got.was_taken()), "a batch was refused");
        let letters = dead_letters(folder.path());
        assert_eq!(letters.len(), bad.len());
        for (&at, (id, reason)) in bad.iter().zip(&letters) {
            assert_eq!(*id, sent[at].id);
            assert!(reason.ends_with(&format!("422 Unprocessable Entity: record {id} is not welcome")), "{reason}");
        }
    };
    check(&[20, 30], 1000);
    check(&[], 5);
    check(&[59], 5);
}

#[test]
fn after_long_enough_a_record_is_given_up_and_the_next_is_tried() {
    let folder = tempfile::tempdir().expect("folder");
    let sent = changes(3);
    let receiver = Receiver::start(folder.path(), json!({ "poison": { (sent[0].id.as_str()): 503 } }));
    // However long the receiver asks for, it is not waited longer than records are tried.
    let more = json!({ "retry": { "first_ms": 10, "max_ms": 100, "give_up_after_secs": 1 } });
    let report = send(&config(folder.path(), &receiver.url(), more), sent.clone());
    assert_eq!((report.n_published, report.n_failed), (2, 1), "{report:?}");
    let got = receiver.got();
    assert_eq!(taken(&got), ids(&sent[1..]));
    let tries: Vec<&Got> = got.iter().filter(|got| !got.was_taken()).collect();
    assert!(tries.len() > 2 && tries[tries.len() - 1].at - tries[0].at >= 0.9, "{} tries", tries.len());
    let [(id, reason)] = &dead_letters(folder.path())[..] else { panic!("one letter") };
    assert_eq!(*id, sent[0].id);
    assert!(reason.contains(&format!("; given up after {} tries in 1 s", tries.len())), "{reason}");
}

#[test]
fn a_receiver_that_is_killed_and_comes_back_delays_and_loses_nothing() {
    for batch_events in [1, 20] {
        let folder = tempfile::tempdir().expect("folder");
        let mut receiver = Receiver::start(folder.path(), json!({ "secrets": [SECRET] }));
        let more = json!({ "secret_file": secret_file(folder.path(), SECRET), "batch_events": batch_events });
        let running = Running::start(&config(folder.path(), &receiver.url(), more), PATIENCE);
        let sent = events(100);
        running.send(sent[..100].to_vec());
        receiver.wait_for(3);
        receiver.kill();
        running.send(sent[100..150].to_vec());
        let trouble = running.trouble();
        assert!(trouble.starts_with(&format!("POST {}: ", receiver.url())), "{trouble}");
        running.send(sent[150..].to_vec());
        receiver.restart();
        running.settle(sent.len());
        let report = running.finish();
        assert_eq!((report.n_published, report.n_failed, report.n_waiting), (206, 0, 0), "{report:?}");
        // The one whose answer got lost comes twice, the same to the byte; the others once; all in order.
        let got = receiver.got();
        let mut arrived = taken(&got);
        arrived.dedup();
        let all_once: BTreeSet<&str> = arrived.iter().copied().collect();
        assert_eq!(all_once.len(), 206);
        if batch_events == 1 {
            assert_eq!(arrived, ids(&sent));
        }
        let mut first = BTreeMap::new();
        for got in &got {
            let body = first.entry(&got.headers["webhook-id"]).or_insert(&got.body);
            assert_eq!(*body, &got.body);
        }
        assert!(got.iter().all(|got| got.signed));
    }
}

/// What one process could not deliver, the next one does: each record once, in order, with the bytes of its first try.
#[test]
fn what_waits_outlives_the_sink() {
    let folder = tempfile::tempdir().expect("folder");
    let step = json!({ "status": 503 });
    let mut receiver = Receiver::start(folder.path(), json!({ "script": vec![step; 1000] }));
    let config = config(folder.path(), &receiver.url(), json!({}));
    let sent = changes(100);
    let running = Running::start(&config, Duration::from_secs(1));
    running.send(sent[..60].to_vec());
    receiver.wait_for(2);
    let report = running.finish();
    assert_eq!((report.n_published, report.n_failed, report.n_waiting), (0, 0, 60), "{report:?}");
    receiver.kill();
    receiver.restart();
    let running = Running::start(&config, PATIENCE);
    running.send(sent[60..].to_vec());
    let report = running.finish();
    assert_eq!((report.n_published, report.n_failed, report.n_waiting), (100, 0, 0), "{report:?}");
    let got = receiver.got();
    assert_eq!(taken(&got), ids(&sent));
    let at_last = got.iter().find(|got| got.was_taken()).expect("taken");
    assert!(!got[0].was_taken() && got[0].body == at_last.body);
}

/// The request still hangs when the sink is told to end: it ends all the same, and says what waits.
#[test]
fn a_slow_receiver_holds_nobody() {
    let folder = tempfile::tempdir().expect("folder");
    let receiver = Receiver::start(folder.path(), json!({ "script": [{ "hang_secs": 120.0 }] }));
    let more = json!({ "timeout_ms": 120_000, "spool": { "store": "memory" } });
    let running = Running::start(&config(folder.path(), &receiver.url(), more), Duration::from_secs(1));
    // More than all queues hold.
    running.send(changes(2000));
    receiver.wait_for(1);
    let report = running.finish();
    assert_eq!((report.n_published, report.n_failed), (0, 2000));
    let error = report.error.expect("lost records are an error").to_string();
    assert!(error.contains("2000 events could not be delivered within 1 s"), "{error}");
}

#[test]
fn a_wrong_secret_is_noticed_by_the_receiver() {
    let check = |secret: &str, is_right: bool| {
        let folder = tempfile::tempdir().expect("folder");
        let receiver = Receiver::start(folder.path(), json!({ "secrets": [SECRET] }));
        let more = json!({ "secret_file": secret_file(folder.path(), secret) });
        let report = send(&config(folder.path(), &receiver.url(), more), changes(2));
        let letters = dead_letters(folder.path());
        if is_right {
            assert_eq!((report.n_published, letters.len()), (2, 0), "{report:?}");
            return;
        }
        assert_eq!((report.n_published, report.n_failed, letters.len()), (0, 2, 2), "{report:?}");
        for (_, reason) in letters {
            assert!(reason.ends_with("401 Unauthorized: No matching signature found"), "{reason}");
        }
    };
    check(OTHER_SECRET, false);
    // While one is replaced by another, receivers with either are content.
    check(&format!("{OTHER_SECRET}\n{SECRET}\n"), true);
    check(&format!("{SECRET}\n{OTHER_SECRET}\n"), true);
    // The same 24 bytes as text need not be base64.
    let text = "a-plain-text-of-25-letters";
    let folder = tempfile::tempdir().expect("folder");
    let secrets = json!([format!("whsec_{}", STANDARD.encode(text))]);
    let receiver = Receiver::start(folder.path(), json!({ "secrets": secrets }));
    let more = json!({ "secret_file": secret_file(folder.path(), text) });
    let report = send(&config(folder.path(), &receiver.url(), more), changes(2));
    assert_eq!(report.n_published, 2, "{report:?}");
}

#[test]
fn only_receivers_with_a_certificate_that_is_trusted() {
    let home = tempfile::tempdir().expect("folder");
    let certificates = certificates::Certificates::make(home.path());
    let check = |server: &str, more: Value, expected: Option<&str>| {
        let folder = tempfile::tempdir().expect("folder");
        let receiver = Receiver::start(folder.path(), json!({ "keystore": certificates.keystore(server) }));
        let running = Running::start(&config(folder.path(), &receiver.url(), more), Duration::from_secs(5));
        running.send(changes(2));
        match expected {
            None => {
                let report = running.finish();
                assert_eq!((report.n_published, report.n_failed), (2, 0), "{report:?}");
            }
            Some(expected) => {
                let trouble = running.trouble();
                assert!(
                    trouble.contains(&format!("POST {}: ", receiver.url())) && trouble.contains(expected),
                    "{trouble}"
                );
                assert!(receiver.got().is_empty(), "nothing was said to a stranger");
                running.handle.drain();
            }
        }
    };
    check("server", json!({ "ca_file": certificates.authority() }), None);
    check("server", json!({}), Some("certificate verify failed"));
    check("server", json!({}), Some("name that in `ca_file`"));
    check("expired", json!({ "ca_file": certificates.authority() }), Some("certificate has expired"));
}

/// The receiver answers with all that it got, secrets too: none of it comes out anywhere.
#[test]
fn nothing_secret_comes_out() {
    let folder = tempfile::tempdir().expect("folder");
    let heard = listener::listen();
    let echo = [400, 503, 401].map(|status| json!({ "echo": status, "headers": ["authorization", "x-token"] }));
    let receiver = Receiver::start(folder.path(), json!({ "secrets": [SECRET], "script": echo }));
    let token = folder.path().join("token");
    fs::write(&token, "Bearer t0ken-of-the-tests\n").expect("write");
    let (path, query) = ("hook/S3cretPathOfTheTests", "sig=qu3ry-of-the-tests");
    let url = receiver.url().replace("hook", path).replace("127.0.0.1", "ann:p4ss-of-the-tests@127.0.0.1");
    let more = json!({ "secret_file": secret_file(folder.path(), SECRET), "header_files": { "X-Token": token } });
    let config = config(folder.path(), &format!("{url}?{query}"), more);
    let report = send(&config, changes(3));
    assert_eq!((report.n_published, report.n_failed), (1, 2), "{report:?}");

    let got = receiver.got();
    assert_eq!(got[0].path, format!("/{path}?{query}"), "the receiver gets them");
    assert_eq!(got[0].headers["x-token"], "Bearer t0ken-of-the-tests");
    let basic = STANDARD.encode("ann:p4ss-of-the-tests");
    assert_eq!(got[0].headers["authorization"], format!("Basic {basic}"));

    let letters = fs::read_to_string(folder.path().join("dead.jsonl")).expect("dead letters");
    let heard = heard.text();
    assert!(
        letters.contains("Basic *** x-token: *** at http://***@127.0.0.1") && heard.contains("record refused for good"),
        "{letters}\n{heard}"
    );
    let shown = format!("{config:?} {report:?} {letters} {heard}");
    for secret in
        [SECRET, &SECRET[6..], "t0ken-of-the-tests", "S3cretPath", "qu3ry-of-the-tests", "p4ss-of-the-tests", &basic]
    {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}
