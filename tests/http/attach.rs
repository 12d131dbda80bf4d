//! Attaching over REST, with a keeper of the tests behind the desk: what is answered, refused and listed.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use eyewitness::{control::attachment::Origin, http::control::Prober};
use serde_json::{Value, json};

use super::{
    desk::{PICTURE, Pretender, control, listed},
    served::{Answer, Served},
};
use crate::harness::wait_for;

const JSON: (&str, &str) = ("Content-Type", "application/json");

fn served() -> Served {
    Served::controlled("{}", control(None))
}

fn put(served: &Served, name: &str, body: &Value) -> Answer {
    served.ask_body("PUT", &format!("/v1/streams/{name}"), &[JSON], &body.to_string())
}

#[test]
fn a_stream_is_attached_changed_and_detached() {
    let served = served();
    let body = json!({ "url": "rtsp://192.0.2.10/1", "tags": { "Location": "Front" }, "weight": 2.0 });
    let created = put(&served, "yard", &body);
    assert_eq!((created.status, created.header("etag")), (201, Some("\"1\"")), "{created:?}");
    assert_eq!(created.header("location"), Some("/v1/streams/yard"));
    let stream = created.json();
    for (key, expected) in [
        ("name", json!("yard")),
        ("url", json!("rtsp://192.0.2.10/1")),
        ("state", json!("waiting")),
        ("profile", json!("people")),
        ("origin", json!("api")),
        ("revision", json!(1)),
        ("weight", json!(2.0)),
        ("worker", Value::Null),
        ("captions", json!("/v1/streams/yard/captions")),
    ] {
        assert_eq!(stream[key], expected, "{key} in {stream}");
    }
    let read = served.ask("/v1/streams/yard", &[]);
    assert_eq!((read.json(), read.header("etag")), (stream, Some("\"1\"")));

    let same = put(&served, "yard", &body);
    assert_eq!((same.status, same.header("etag")), (200, Some("\"1\"")));
    let changed = put(&served, "yard", &json!({ "url": "rtsp://192.0.2.11/1" }));
    assert_eq!((changed.status, changed.header("etag")), (200, Some("\"2\"")));
    assert_eq!(changed.json()["tags"], json!({}), "a PUT says all there is");

    let patch = |body: Value| served.ask_body("PATCH", "/v1/streams/yard", &[JSON], &body.to_string());
    let tagged = patch(json!({ "tags": { "Location": "Front", "Old": "x" } }));
    assert_eq!((tagged.status, tagged.header("etag")), (200, Some("\"3\"")), "{tagged:?}");
    assert_eq!(tagged.json()["profile"], "people");
    let tagged = patch(json!({ "tags": { "Old": null } })).json();
    assert_eq!((&tagged["tags"], &tagged["url"]), (&json!({ "Location": "Front" }), &json!("rtsp://192.0.2.11/1")));

    let detached = served.ask_with("DELETE", "/v1/streams/yard", &[]);
    assert_eq!((detached.status, &*detached.body), (204, ""));
    served.ask("/v1/streams/yard", &[]).refuses(404, &["yard"]);
    served.ask_with("DELETE", "/v1/streams/yard", &[]).refuses(404, &["not attached"]);
}

#[test]
fn what_cannot_be_is_refused_and_says_why() {
    let served = served();
    served.board.show("gate", listed("rtsp://192.0.2.1/", Origin::Config, "w-1"));
    served.board.show("door", listed("rtsp://192.0.2.2/", Origin::Api, "w-1"));
    let good = r#"{"url":"rtsp://h/"}"#;
    let check = |method: &str, path: &str, headers: &[(&str, &str)], body: &str, status: u16, parts: &[&str]| {
        let answer = served.ask_body(method, path, headers, body);
        answer.refuses(status, parts);
        assert!(!answer.body.contains("hunter2"), "{answer:?}");
        answer
    };
    let a = "/v1/streams/a";
    check("PUT", a, &[], good, 415, &["Content-Type: application/json"]);
    check("PUT", a, &[("Content-Type", "text/plain")], good, 415, &["application/json"]);
    check("PUT", a, &[JSON], "", 400, &["empty"]);
    check("PUT", a, &[JSON], r#"{"url":1}"#, 400, &["`url`", "line 1"]);
    check("PUT", a, &[JSON], r#"{"url":"x","tag":{}}"#, 400, &["unknown field `tag`", "did you mean `tags`?"]);
    check("PUT", a, &[JSON], r#"{"url":"rtsp://u:hunter2@h/","weight":"hunter2"}"#, 400, &["`weight`"]);
    check("PUT", a, &[JSON], &format!(r#"{{"url":"{}"}}"#, "x".repeat(65_536)), 413, &["64 KiB"]);
    check("PUT", "/v1/streams/a%20b", &[JSON], good, 400, &["no stream name"]);
    for (method, path) in
        [("PUT", ""), ("PATCH", ""), ("DELETE", ""), ("GET", ""), ("GET", "/captions"), ("GET", "/hls/a.ts")]
    {
        check(method, &format!("/v1/streams/%ff{path}"), &[JSON], good, 400, &["the path is not UTF-8"]);
    }
    check("PUT", &format!("{a}?force=1"), &[JSON], good, 400, &["unknown parameter `force`"]);
    let refused =
        check("PUT", a, &[JSON], r#"{"url":"rtsp://u:hunter2@h/","profile":"peple"}"#, 422, &["secret", "people"]);
    assert_eq!(refused.json()["reasons"].as_array().unwrap().len(), 2, "{refused:?}");
    served.ask(a, &[]).refuses(404, &[]);

    check("PUT", "/v1/streams/gate", &[JSON], good, 409, &["configuration file"]);
    check("DELETE", "/v1/streams/gate", &[], "", 409, &["configuration file"]);
    check("PATCH", a, &[JSON], r#"{"tags":{}}"#, 404, &["not attached"]);
    check("PATCH", "/v1/streams/door", &[JSON], r#"{"url":"rtsp://h/"}"#, 400, &["unknown field `url`"]);
    check("PATCH", "/v1/streams/door", &[JSON], r#"{"tags":{"a":1}}"#, 400, &["`tags.a`"]);
    let stale = ("If-Match", "\"3\"");
    check("PUT", "/v1/streams/door", &[JSON, stale], good, 412, &["revision 4"]);
    check("PATCH", "/v1/streams/door", &[JSON, stale], r#"{"tags":{}}"#, 412, &["revision 4"]);
    check("DELETE", "/v1/streams/door", &[stale], "", 412, &["revision 4"]);
    check("PUT", "/v1/streams/door", &[JSON, ("If-None-Match", "*")], good, 412, &["there already"]);
    let busy = check("PUT", "/v1/streams/later", &[JSON], good, 503, &["broker down"]);
    assert_eq!(busy.header("retry-after"), Some("5"));
    check("PUT", "/v1/streams/lost", &[JSON], good, 503, &["try again"]);
    // What was refused changed nothing.
    assert_eq!(served.ask("/v1/streams/door", &[]).header("etag"), Some("\"4\""));
    let now = ("If-Match", "\"4\"");
    assert_eq!(served.ask_body("DELETE", "/v1/streams/door", &[now], "").status, 204);
}

#[test]
fn pages_of_other_sites_cannot_write() {
    let served = served();
    let evil = ("Origin", "https://evil.example");
    for (method, path) in
        [("PUT", "/v1/streams/a"), ("PATCH", "/v1/streams/a"), ("DELETE", "/v1/streams/a"), ("POST", "/v1/probe")]
    {
        let body = r#"{"url":"rtsp://h/"}"#;
        served.ask_body(method, path, &[evil, JSON], body).refuses(403, &["http.allowed_origins"]);
        served.ask_body(method, path, &[("Host", "evil.example"), JSON], body).refuses(421, &["localhost"]);
    }
    assert_eq!(served.ask_with("OPTIONS", "/v1/streams/a", &[evil]).status, 403);
    assert!(served.board.streams().is_empty());
}

#[test]
fn without_a_store_nothing_can_be_attached() {
    let served = Served::start("{}");
    for (method, body) in [("PUT", r#"{"url":"rtsp://h/"}"#), ("PATCH", r#"{"tags":{}}"#), ("DELETE", "")] {
        served.ask_body(method, "/v1/streams/cam", &[JSON], body).refuses(409, &["[attachments]", "[streams]"]);
    }
    served.ask_body("POST", "/v1/probe", &[JSON], "{}").refuses(501, &["cannot try"]);
    assert_eq!(served.ask("/v1/streams/cam", &[]).status, 200);
    assert_eq!(served.ask("/v1/workers", &[]).json()["attachable"], false);
}

#[test]
fn a_wrong_method_is_told_the_right_ones() {
    let served = served();
    let check = |method: &str, path: &str, allowed: &str| {
        let answer = served.ask_with(method, path, &[]);
        answer.refuses(405, &[method, allowed]);
        assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
    };
    check("POST", "/v1/streams", "GET, HEAD");
    check("POST", "/v1/streams/cam", "GET, HEAD, PUT, PATCH, DELETE");
    check("GET", "/v1/probe", "POST");
    check("PUT", "/metrics", "GET, HEAD");
}

#[test]
fn streams_of_all_workers_are_listed_and_chosen() {
    let served = served();
    served.board.show("cam", listed("rtsp://u:hunter2@192.0.2.1/?token=hunter2", Origin::Config, "w-1"));
    served.board.show("far", listed("rtsp://192.0.2.2/", Origin::Api, "w-2"));
    let check = |query: &str, expected: &[&str]| {
        let json = served.ask(&format!("/v1/streams{query}"), &[]).json();
        let names: Vec<&str> =
            json["streams"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
        assert_eq!(names, expected, "{query}");
    };
    check("", &["cam", "far", "hall"]);
    check("?name=*a*&state=playing", &["cam", "far"]);
    check("?worker=w-2", &["far"]);
    check("?profile=people", &["cam", "far"]);
    check("?tag=Location:Back", &["cam", "far"]);
    check("?tag=site:north", &["hall"]);
    check("?tag=Location&name=f*", &["far"]);
    check("?tag=%7B%22key%22%3A%22Location%22%2C%22values%22%3A%5B%22Front%22%5D%7D", &[]);
    served.ask("/v1/streams?tag=:Front", &[]).refuses(400, &["tag=Location:Front"]);
    served.ask("/v1/streams?state=plaing", &[]).refuses(400, &["did you mean `playing`?"]);
    served.ask("/v1/streams?stat=x", &[]).refuses(400, &["did you mean `state`?"]);

    let here = served.ask("/v1/streams/cam", &[]);
    assert!(!here.body.contains("hunter2"), "{}", here.body);
    let far = served.ask("/v1/streams/far", &[]).json();
    for (key, expected) in [
        ("state", json!("playing")),
        ("worker", json!("w-2")),
        ("address", json!("http://worker-2.lan:8642")),
        ("epoch", json!(17)),
        ("speech_lag_ms", json!(120)),
        ("credentials", json!("gate")),
        ("n_readers", json!(0)),
    ] {
        assert_eq!(far[key], expected, "{key} in {far}");
    }
    assert_eq!(far["figures"]["n_dropped"], json!({ "sampling": 48, "superseded": 2 }));
    assert!(far["report_age_ms"].as_u64().unwrap() > 1_000_000, "{far}");
    let both = [&here.json(), &served.ask("/v1/streams/hall", &[]).json()].map(|s| s.as_object().unwrap().len());
    assert_eq!(both, [far.as_object().unwrap().len(); 2], "the same members, whoever has it");
}

#[test]
fn what_is_with_another_worker_is_asked_for_there() {
    let served = served();
    served.board.show("far", listed("rtsp://192.0.2.2/", Origin::Api, "w-2"));
    served.board.show("unknown", listed("rtsp://192.0.2.2/", Origin::Api, "w-9"));
    served.board.show("cam", listed("rtsp://192.0.2.1/", Origin::Api, "w-1"));
    let mut waiting = listed("rtsp://192.0.2.3/", Origin::Api, "");
    waiting.report = None;
    served.board.show("new", waiting);
    for path in ["captions", "hls/master.m3u8"] {
        let far = served.ask(&format!("/v1/streams/far/{path}"), &[]);
        far.refuses(421, &["w-2", "http://worker-2.lan:8642"]);
        let json = far.json();
        assert_eq!((&json["worker"], &json["address"]), (&json!("w-2"), &json!("http://worker-2.lan:8642")));
        served.ask(&format!("/v1/streams/unknown/{path}"), &[]).refuses(421, &["`w-9`: ask there"]);
        served.ask(&format!("/v1/streams/new/{path}"), &[]).refuses(409, &["no worker has stream `new` yet"]);
        assert_eq!(served.ask(&format!("/v1/streams/cam/{path}"), &[]).status, 200);
    }
}

#[test]
fn profiles_and_workers_are_listed() {
    let served = served();
    served.board.show("far", listed("rtsp://192.0.2.2/", Origin::Api, "w-2"));
    served.board.set_trouble(Some("the store cannot be reached: broker down".into()));
    let profiles = served.ask("/v1/profiles", &[]).json();
    assert_eq!(profiles["profiles"][0]["detect"], "ssdlite-mbv2");
    assert_eq!(profiles["profiles"][0]["transcribe"], Value::Null);
    assert_eq!(profiles["profiles"][0]["n_streams"], 0);
    assert_eq!(profiles["profiles"][1]["n_streams"], 1);
    assert_eq!(profiles["profiles"][1]["select"]["tags"][0]["key"], "Location");
    assert_eq!(profiles["profiles"][0]["select"], Value::Null);
    let workers = served.ask("/v1/workers", &[]).json();
    assert_eq!(workers["trouble"], "the store cannot be reached: broker down");
    assert_eq!(workers["attachable"], true);
    let [this, other] = [&workers["workers"][0], &workers["workers"][1]];
    assert_eq!((&this["id"], &this["is_this"], &this["load"]), (&json!("w-1"), &json!(true), &json!(0.0)));
    assert_eq!((&other["id"], &other["is_this"], &other["load"]), (&json!("w-2"), &json!(false), &json!(1.0)));
}

#[test]
fn urls_are_tried_a_few_at_a_time() {
    let prober = Arc::new(Pretender::default());
    let served = Served::controlled("{}", control(Some(Arc::clone(&prober) as Arc<dyn Prober>)));
    let try_it = |url: &str, headers: &[(&str, &str)]| {
        let body = json!({ "url": url, "source": { "transport": "tcp" } }).to_string();
        served.ask_body("POST", "/v1/probe", &[&[JSON], headers].concat(), &body)
    };
    let found = try_it("rtsp://h/", &[]);
    assert_eq!(found.status, 200, "{found:?}");
    let found = found.json();
    assert_eq!((&found["video"]["codec"], &found["video"]["measured_fps"]), (&json!("h264"), &json!(9.98)));
    assert_eq!((&found["audio"]["sample_rate"], &found["first_picture_ms"]), (&json!(48_000), &json!(312)));
    let picture = found["snapshot"].as_str().unwrap().strip_prefix("data:image/jpeg;base64,").unwrap();
    assert_eq!(BASE64_STANDARD.decode(picture).unwrap(), PICTURE);
    let as_picture = ("Accept", "image/jpeg");
    let (head, bytes) = served.ask_bytes("POST", "/v1/probe", &[JSON, as_picture], r#"{"url":"rtsp://h/"}"#);
    assert_eq!((head.header("content-type"), &bytes[..]), (Some("image/jpeg"), PICTURE));

    let dead = try_it("rtsp://u:hunter2@dead/", &[]);
    dead.refuses(422, &["connection refused"]);
    assert!(!dead.body.contains("hunter2"), "{dead:?}");
    try_it("rtsp://deaf/", &[as_picture]).refuses(422, &["no picture"]);
    assert_eq!(try_it("rtsp://deaf/", &[]).json()["snapshot"], Value::Null);
    let simple = [("Content-Type", "text/plain")];
    served.ask_body("POST", "/v1/probe", &simple, r#"{"url":"rtsp://h/"}"#).refuses(415, &["application/json"]);
    served.ask_body("POST", "/v1/probe", &[JSON], r#"{"uri":"rtsp://h/"}"#).refuses(400, &["did you mean `url`?"]);

    prober.hold(true);
    let body = r#"{"url":"rtsp://h/"}"#;
    let mut waiting: Vec<_> = (0..4).map(|_| served.send_body("POST", "/v1/probe", &[JSON], body)).collect();
    wait_for("four probes", || (prober.n_at_work.load(Relaxed) == 4).then_some(()));
    try_it("rtsp://h/", &[]).refuses(503, &["4 URLs"]);
    // Whoever asks for something else is not kept waiting.
    assert_eq!(served.ask("/healthz", &[]).status, 200);
    prober.hold(false);
    for connection in &mut waiting {
        assert_eq!(Answer::read_head(connection).status, 200);
    }
    wait_for("a free place", || (try_it("rtsp://h/", &[]).status == 200).then_some(()));
}
