//! The keys, what becomes of wrong ones, and the outlet before a receiver that is not there. How it delivers is tested
//! against a real receiver in `tests/webhook.rs`.

use std::fs;

use base::{
    event::{AlertState, Event},
    time::SystemClock,
};
use serde_json::{Value, json};

use super::*;
use crate::{
    BuildContext, Configured, SinkConfig, Stamp,
    record::{KeyBy, encode},
    samples,
};

/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:1/hook";

fn config(more: Value) -> WebhookConfig {
    let mut json = json!({ "url": NOBODY });
    json.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
    serde_json::from_value(json).expect("configuration")
}

#[test]
fn validation() {
    let check = |more: Value, expected: Result<(), &str>| match (config(more.clone()).validate(), expected) {
        (Ok(()), Ok(())) => {}
        (Err(got), Err(expected)) => {
            let got = got.to_string();
            assert!(got.contains(expected) && !got.contains("hunter2"), "{more}: {got}");
        }
        (got, expected) => panic!("{more}: {got:?}, not {expected:?}"),
    };
    check(json!({}), Ok(()));
    check(json!({ "url": "https://ann:hunter2@hooks.example.org/x?token=hunter2" }), Ok(()));
    check(json!({ "url": "ftp://hooks.example.org" }), Err("`url`: webhooks go over `https` or `http`, not `ftp`"));
    check(json!({ "url": "hooks.example.org/x" }), Err("`url`: `hooks.example.org/x` is no URL"));
    check(json!({ "url": "https://ann:hunter2@[bad/x" }), Err("`url`: `https://***@[bad/x` is no URL"));
    check(json!({ "url": "https://" }), Err("`url`"));
    check(json!({ "types": [] }), Err("`types`: name at least one"));
    check(json!({ "states": ["opened", "closed"] }), Ok(()));
    check(json!({ "states": [] }), Err("`states`: is empty"));
    check(json!({ "template": "alertmanager", "states": ["opened"] }), Err("`states`: Alertmanager has to know"));
    check(json!({ "secret_env": "A", "secret_file": "b" }), Err("`secret_file`: use either"));
    check(json!({ "headers": { "x-site": "north" }, "header_env": { "Authorization": "A" } }), Ok(()));
    check(
        json!({ "headers": { "Authorization": "Bearer hunter2" } }),
        Err("`headers.Authorization`: looks like a secret"),
    );
    check(json!({ "headers": { "X-Api-Key": "hunter2" } }), Err("`header_files`"));
    check(json!({ "headers": { "no name": "x" } }), Err("`headers.no name`: is no name of a header"));
    check(json!({ "headers": { "Webhook-Id": "x" } }), Err("is set by the sink itself"));
    check(json!({ "header_files": { "ce-id": "x" } }), Err("`header_files.ce-id`: is set by the sink itself"));
    check(
        json!({ "header_files": { "A-b": "x" }, "header_env": { "a-B": "y" } }),
        Err("`header_env.a-B`: is given twice"),
    );
    check(json!({ "batch_events": 0 }), Err("`batch_events`: 1 to 1000"));
    check(json!({ "batch_events": 1001 }), Err("`batch_events`: 1 to 1000"));
    check(json!({ "timeout_ms": 0 }), Err("`timeout_ms`: 1 to 300000"));
    check(json!({ "format": "kit" }), Err("`types`"));
    check(json!({ "format": "kit", "types": ["detections"] }), Ok(()));
    check(json!({ "retry": { "max_ms": 0 } }), Err("`retry.max_ms`"));
    check(json!({ "retry": { "first_ms": 700, "max_ms": 600 } }), Err("`retry.first_ms`"));
    check(json!({ "spool": { "max_bytes": 1 } }), Err("`spool.max_bytes`"));
    let with = |more: Value| {
        let mut json = json!({ "template": "alertmanager" });
        json.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        json
    };
    check(with(json!({ "link": "https://host:8642/eyes", "batch_events": 50, "resolve_after_secs": 600 })), Ok(()));
    check(with(json!({ "types": ["alert"] })), Ok(()));
    check(with(json!({ "types": ["status"] })), Err("`types`: Alertmanager takes alerts alone"));
    check(with(json!({ "resolve_after_secs": 0 })), Err("`resolve_after_secs`: 1 to "));
    check(with(json!({ "template_file": "hook.json" })), Err("`template_file`: use either"));
    check(with(json!({ "format": "kit", "types": ["alert", "detections"] })), Err("`format`"));
    check(with(json!({ "link": "host" })), Err("`link`: is no URL; write something like"));
    check(with(json!({ "link": "rtsp://host" })), Err("`link`: is neither"));
    check(with(json!({ "link": "http://ann:hunter2@host" })), Err("`link`: stands in every message"));
    check(with(json!({ "link": "http://host/?a=b" })), Err("`link`: paths are put behind it"));
    check(json!({ "link": "http://host" }), Err("`link`: has no effect without"));
    check(json!({ "template": "slack" }), Ok(()));
    check(json!({ "template": "slack", "batch_events": 2 }), Err("`batch_events`: a template makes one body"));
    check(json!({ "template": "slack", "types": ["alert", "caption"] }), Err("`types`: `template = \"slack\"`"));
    check(json!({ "template_file": "hook.json", "types": ["caption"] }), Ok(()));
    check(json!({ "template_file": "hook.json", "batch_events": 2 }), Err("`batch_events`"));
}

#[test]
fn unknown_words_are_refused() {
    let check = |json: Value, expected: &str| {
        let error = serde_json::from_value::<SinkConfig>(json).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(json!({ "type": "webhook" }), "missing field `url`");
    check(json!({ "type": "webhook", "url": NOBODY, "secret": "x" }), "unknown field `secret`");
    check(json!({ "type": "webhook", "url": NOBODY, "retry": { "max": 1 } }), "unknown field `max`");
    check(json!({ "type": "webhook", "url": NOBODY, "types": ["frames"] }), "unknown variant `frames`");
    check(json!({ "type": "webhook", "url": NOBODY, "template": "pager" }), "expected `alertmanager` or `slack`");
}

/// Every kind of record that there is can be named.
#[test]
fn kinds() {
    let stream = samples::stream("front-door");
    let all = [
        samples::detections(&stream, 0, &[]),
        samples::transcript(&stream, 0, "and so", false),
        samples::caption(&stream, 0, 0..1, &["and so"], true),
        samples::alert(&stream, 0, AlertState::Opened),
        samples::playing(&stream),
        samples::gap(&stream, 0),
    ];
    let names: Vec<&str> = all.iter().map(|event| event.body.kind()).collect();
    assert_eq!(config(json!({ "types": names })).types, Kind::ALL);
    assert_eq!(Kind::ALL.map(Kind::as_str).as_slice(), names);
    assert_eq!(config(json!({ "types": names })).only(), None);
    assert_eq!(config(json!({})).only(), Some(vec!["alert".into(), "status".into(), "gap".into()]));
    assert_eq!(config(json!({ "template": "alertmanager" })).only(), Some(vec!["alert".into()]));
    assert_eq!(config(json!({})).states(), None);
    let two = config(json!({ "states": ["closed", "opened"] }));
    assert_eq!(two.states(), Some(vec![AlertState::Opened, AlertState::Closed]));
}

fn context() -> BuildContext {
    BuildContext::new(SystemClock::new(), Stamp::Published)
}

#[test]
fn what_cannot_be_read_is_told() {
    let folder = tempfile::tempdir().expect("folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("write");
        path
    };
    let (short, empty) = (file("short", "hunter2\n"), file("empty", " \n"));
    let (lines, cert) = (file("lines", "hunter2\nhunter2\n"), file("cert", "hunter2"));
    let check = |more: Value, expected: &str| {
        let mut config = config(more);
        config.dead_letters.get_or_insert(folder.path().join("dead.jsonl"));
        config.spool.path = Some(folder.path().join("spool"));
        let error = config.build("hook", context()).err().expect(expected).to_string();
        assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
    };
    check(json!({ "secret_file": "/no/such/file" }), "`secret_file`: cannot read /no/such/file");
    check(json!({ "secret_file": short }), "`secret_file`: a secret has 24 to 64 bytes, and this one has 7");
    check(json!({ "secret_file": empty }), "`secret_file`: holds no secret");
    check(
        json!({ "secret_env": "NO_SUCH_VARIABLE" }),
        "`secret_env`: the environment has no variable `NO_SUCH_VARIABLE`",
    );
    check(json!({ "header_files": { "x-key": "/no/such/file" } }), "`header_files.x-key`: cannot read /no/such/file");
    check(json!({ "header_files": { "x-key": lines } }), "`header_files.x-key`: a header's value is one line");
    check(json!({ "header_files": { "x-key": empty } }), "`header_files.x-key`: is empty");
    check(json!({ "header_env": { "x-key": "NO_SUCH_VARIABLE" } }), "`header_env.x-key`: the environment has no");
    check(json!({ "ca_file": "/no/such/file" }), "`ca_file`: cannot read /no/such/file");
    check(json!({ "ca_file": cert }), "holds no certificate in PEM form");
    check(json!({ "dead_letters": "/dev/null/x" }), "/dev/null");
    let typo = file("typo", "{\n\"text\": \"{{sumary}}\" }");
    check(json!({ "template_file": "/no/such/file" }), "`template_file`: cannot read /no/such/file");
    check(json!({ "template_file": typo }), "typo, line 2: `{{sumary}}`: no record of these `types` has it");
}

#[test]
fn secrets_are_not_shown() {
    let config = config(json!({
        "url": "https://ann:hunter2secret@h/services/hunter2secretXXXX?sig=hunter2secret",
        "headers": { "x-site": "hunter2secret" },
    }));
    let shown = format!("{config:?} {:?}", SinkConfig::Webhook(config.clone()));
    assert!(!shown.contains("hunter2secret") && shown.contains("https://***@h/services/***"), "{shown}");
}

#[test]
fn several_secrets_sign_together() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("secret");
    fs::write(&path, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n twenty-four-characters-x \n").expect("write");
    let (keys, texts) = config(json!({ "secret_file": path })).keys().expect("keys");
    assert_eq!((keys.len(), texts.len()), (2, 2));
    assert!(config(json!({})).keys().expect("none").0.is_empty());
}

/// An outlet, and records for it.
fn outlet(more: Value) -> (Webhook, Vec<Vec<u8>>) {
    let config = config(more);
    let secrets = Secrets {
        target: config.target().expect("target"),
        keys: Vec::new(),
        headers: HeaderMap::new(),
        certificates: Vec::new(),
    };
    let body = Body::from_config(&config).expect("body");
    let outlet = Webhook::start("hook", &config, secrets, body, SystemClock::new()).expect("outlet");
    let stream = samples::stream("front-door");
    let events = (0..2000).map(|number| samples::detections(&stream, number, &[("person", Some(7))]));
    let encode = |event: Event| encode(&event, &KeyBy::Stream, None, 0);
    (outlet, events.map(encode).collect())
}

/// Sends as many as the outlet takes, numbered from 7.
fn fill(outlet: &mut Webhook, records: &[Vec<u8>]) -> Vec<u64> {
    let mut sent = Vec::new();
    for (number, record) in (7..).zip(records) {
        match outlet.send(number, &Record::from_bytes(record).expect("record")) {
            Ok(()) => sent.push(number),
            Err(NotSent::Busy) => break,
            Err(refused) => panic!("{refused:?}"),
        }
    }
    sent
}

fn collect(outlet: &mut Webhook, n: usize) -> Vec<Report> {
    let mut reports = Vec::new();
    for _ in 0..3000 {
        outlet.reports(Duration::from_millis(10), &mut reports);
        if reports.len() >= n {
            break;
        }
    }
    reports
}

#[test]
fn what_is_called_back_comes_back_and_can_be_sent_again() {
    // The wait is so long that only calling back can end it.
    for more in [json!({}), json!({ "batch_events": 10 })] {
        let mut more = more;
        more["retry"] = json!({ "first_ms": 3_600_000, "max_ms": 3_600_000 });
        let (mut outlet, records) = outlet(more);
        for _ in 0..3 {
            let sent = fill(&mut outlet, &records);
            assert_eq!(sent.len(), LEAST_OUT, "bounded");
            while outlet.trouble().is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
            let trouble = outlet.trouble().expect("trouble");
            assert!(trouble.starts_with(&format!("POST {NOBODY}: ")) && trouble.contains("refused"), "{trouble}");
            assert!(trouble.contains("; next try in ") || trouble.ends_with("; trying again"), "{trouble}");
            outlet.recall();
            let back: Vec<u64> = collect(&mut outlet, sent.len())
                .into_iter()
                .map(|report| match report.fate {
                    Fate::Again(_) => report.number,
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(back, sent);
        }
    }
}

#[test]
fn memory_is_bounded_by_bytes_too() {
    let (mut outlet, _) = outlet(json!({ "batch_events": 1000 }));
    let payload = format!("{{\"x\":\"{}\"}}", "x".repeat(MOST_OUT_BYTES / 4));
    let record = Record { payload: &payload, ..empty_record() }.to_bytes();
    assert_eq!(fill(&mut outlet, &vec![record; 9]).len(), 3);
    // One that is larger than all that may be on its way goes alone.
    let (mut outlet, _) = self::outlet(json!({}));
    let payload = "x".repeat(2 * MOST_OUT_BYTES);
    let record = Record { payload: &payload, ..empty_record() }.to_bytes();
    assert_eq!(fill(&mut outlet, &vec![record; 2]).len(), 1);
}

fn empty_record() -> Record<'static> {
    Record { kind: "gap", id: "", stream: "", session: "", pts_ms: 0, time: None, key: "", accepted_ms: 0, payload: "" }
}

#[test]
fn batches_fit_into_a_body() {
    let check = |lengths: &[usize], expected: usize| {
        let parcel = |n: &usize| Parcel { payload: "x".repeat(*n), ..Parcel::default() };
        let parcels: Vec<Parcel> = lengths.iter().map(parcel).collect();
        assert_eq!(n_in_one_body(&parcels), expected, "{lengths:?}");
    };
    let half = MOST_BODY_BYTES / 2;
    check(&[1, 2, 3], 3);
    check(&[half, half - 2, 1], 2);
    check(&[half, half], 1);
    check(&[3 * half, 1], 1);
}

/// What every form makes of an alert, links put in; what is no record is refused.
#[test]
fn bodies() {
    let folder = tempfile::tempdir().expect("folder");
    let own = folder.path().join("hook.json");
    fs::write(&own, "{ \"see\": \"{{evidence.snapshot}}\", \"clip\": {{evidence.clip}} }\n").expect("write");
    let event = samples::alert(&samples::stream("front-door"), 4, AlertState::Opened);
    let payload = crate::wire::encode(&event, None);
    let record: Value = serde_json::from_str(&payload).expect("json");
    let path = record["evidence"]["snapshot"].as_str().expect("a path").to_owned();
    let body = |more: Value| Body::from_config(&config(more)).expect("body");
    let check = |more: Value, pointer: &str, expected: &str| {
        let got = body(more.clone()).single(&payload).expect("a record");
        let got: Value = serde_json::from_str(&got).expect("json");
        assert!(
            got.pointer(pointer).is_some_and(|at| at.as_str().is_some_and(|at| at.contains(expected))),
            "{more}: {got}"
        );
    };
    let linked = format!("http://host:8642{path}");
    let link = "http://host:8642/";
    check(json!({}), "/evidence/snapshot", &path);
    check(json!({ "template": "alertmanager", "link": link }), "/0/generatorURL", &linked);
    check(json!({ "template": "alertmanager", "link": link }), "/0/annotations/snapshot", &linked);
    check(json!({ "template": "slack", "link": link }), "/text", &format!("<{linked}|picture>"));
    check(json!({ "template_file": own, "types": ["alert"], "link": link }), "/see", &linked);
    check(json!({ "template_file": own, "types": ["alert"] }), "/see", &path);
    assert_eq!(body(json!({})).single(&payload).as_deref(), Ok(&*payload));
    let alertmanager = body(json!({ "template": "alertmanager", "batch_events": 9 }));
    let two = alertmanager.batch(&[&payload, &payload]).expect("records");
    assert_eq!(serde_json::from_str::<Vec<Value>>(&two).expect("an array").len(), 2);
    assert!(alertmanager.batch(&[&payload, "x"]).is_err_and(|cause| cause.starts_with("it is no record")));
}
