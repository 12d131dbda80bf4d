//! The service as such: health, metrics, the document, limits, beginning and end.

use std::{collections::BTreeSet, net::TcpListener, sync::atomic::Ordering::Relaxed, time::Duration};

use eyewitness::http::HttpConfig;
use serde_json::Value;

use super::served::{Answer, Served, app};
use crate::harness::wait_for;

#[test]
fn health_and_readiness() {
    let served = Served::start("{}");
    assert_eq!(served.ask("/healthz", &[]).status, 200);
    served.ask("/readyz", &[]).refuses(503, &["model `x` is being loaded"]);
    served.rest.ready.store(true, Relaxed);
    assert_eq!(served.ask("/readyz", &[]).status, 200);
}

#[test]
fn streams_are_described() {
    let served = Served::start("{}");
    let json = served.ask("/v1/streams", &[]).json();
    let names: Vec<&str> = json["streams"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["cam", "hall"]);
    let stream = served.ask("/v1/streams/cam", &[]).json();
    assert_eq!(stream, json["streams"][0]);
    assert_eq!(stream["state"], "connecting");
    assert_eq!(stream["speech_lag_ms"], 320);
    assert_eq!(stream["tags"]["site"], "north");
    assert_eq!(served.ask(stream["captions"].as_str().unwrap(), &[]).status, 200);
    assert_eq!(stream["playlist"], "/v1/streams/cam/hls/master.m3u8");
}

/// A reader of the text format 0.0.4 that forgives nothing.
fn samples(text: &str) -> Vec<(String, f64)> {
    let mut families = BTreeSet::new();
    let mut family = String::new();
    let mut samples = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split(' ').next().unwrap().to_owned();
            assert!(families.insert(family.clone()), "{family} comes twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, family);
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            assert_eq!(sample.split('{').next(), Some(family.as_str()), "{line}");
            samples.push((sample.to_owned(), value.parse().unwrap()));
        }
    }
    samples
}

#[test]
fn metrics() {
    let served = Served::start("{}");
    served.captions(0..3);
    let follower = served.follow("sse", "/v1/streams/cam/captions", &[]).opened();
    served.ask("/nothing", &[]);
    let answer = served.ask("/metrics", &[]);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let samples = samples(&answer.body);
    let value = |name: &str| samples.iter().find(|(n, _)| n == name).map(|(_, v)| *v);
    let expected = [
        ("eyewitness_feed_records_total{stream=\"cam\",type=\"caption\"}", 3.0),
        ("eyewitness_feed_readers{stream=\"cam\"}", 1.0),
        ("eyewitness_feed_lost_total{stream=\"cam\"}", 0.0),
        ("eyewitness_http_clients", 1.0),
        ("eyewitness_http_requests_total{route=\"other\",status=\"404\"}", 1.0),
        ("eyewitness_http_requests_total{route=\"/v1/streams/{name}/captions\",status=\"200\"}", 1.0),
        ("eyewitness_speech_lag_seconds{stream=\"cam\"}", 0.32),
    ];
    for (name, expected) in expected {
        assert_eq!(value(name), Some(expected), "{name} in {}", answer.body);
    }
    drop(follower);
}

#[test]
fn the_document_knows_every_route_and_every_route_is_there() {
    let served = Served::start("{}");
    let document = served.ask("/openapi.json", &[]).json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut n_operations = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (verb, operation) in operations.as_object().unwrap() {
            let target = path.replace("{name}", "cam");
            let answer = served.ask_with(&verb.to_ascii_uppercase(), &target, &[]);
            let answers = operation["responses"].as_object().unwrap();
            assert!(answers.contains_key(&answer.status.to_string()), "{verb} {path} answered {}", answer.status);
            // What it is, is what the document says it is.
            let said = &answers[&answer.status.to_string()]["content"];
            let is = answer.header("content-type").unwrap_or_default();
            let is = is.split(';').next().unwrap_or_default();
            let is_empty = is.is_empty() && said.is_null();
            assert!(is_empty || said.get(is).is_some(), "{verb} {path} is `{is}`, said to be {said}");
            n_operations += 1;
        }
    }
    assert_eq!(n_operations, 38);
    let body = &document["paths"]["/v1/streams/{name}"]["put"]["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(body["$ref"], "#/components/schemas/Attachment");
    let fields = &document["components"]["schemas"]["Attachment"]["properties"];
    assert!(fields["credentials"]["description"].as_str().unwrap().contains("secret"), "{fields}");
    // Every reference leads somewhere.
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get("$ref").and_then(Value::as_str));
                object.values().for_each(|v| references(v, found));
            }
            Value::Array(values) => values.iter().for_each(|v| references(v, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 10);
    for reference in found {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
}

#[test]
fn too_many_readers_are_told_to_come_back() {
    let served = Served::start(r#"{"max_clients":2}"#);
    let path = "/v1/streams/cam/captions";
    let readers = [served.follow("sse", path, &[]).opened(), served.follow("ws", path, &[]).opened()];
    served.wait_for_readers(2);
    let refused = served.ask(&format!("{path}?format=vtt"), &[]);
    refused.refuses(503, &["all 2 places", "http.max_clients"]);
    assert_eq!(refused.header("retry-after"), Some("5"));
    assert_eq!(served.follow("ws", path, &[]).wait_for("status")["status"], 503);
    // Short requests have room still.
    assert_eq!(served.ask(path, &[]).status, 200);
    drop(readers);
    wait_for("a free place", || {
        served.captions(0..1);
        (served.n_readers() == 0).then_some(())
    });
    served.follow("ws", path, &[]).opened();
}

#[test]
fn the_end_is_polite() {
    let served = Served::start("{}");
    let path = "/v1/streams/cam/captions";
    let events = served.follow("sse", path, &[]).opened();
    let socket = served.follow("ws", path, &[]).opened();
    served.wait_for_readers(2);
    served.captions(0..2);
    let addr = served.addr;
    served.stop();
    // What was there is still given, then both are told.
    assert_eq!(events.wait_for_records(2).len(), 2);
    assert_eq!(events.wait_for("closed")["closed"], Value::Null);
    assert_eq!(socket.wait_for_records(2).len(), 2);
    let closed = socket.wait_for("closed");
    assert_eq!(closed["closed"], 1001);
    assert!(closed["reason"].as_str().unwrap().contains("stopping"), "{closed}");
    // The port is free again.
    drop(TcpListener::bind(addr).unwrap());
}

#[test]
fn a_detached_stream_ends_its_readers_alone() {
    let served = Served::start("{}");
    let cam = served.follow("ws", "/v1/streams/cam/captions", &[]).opened();
    let hall = served.follow("ws", "/v1/streams/hall/captions", &[]).opened();
    served.wait_for_readers(2);
    served.feed.detach("cam");
    assert!(cam.wait_for("closed")["reason"].as_str().unwrap().contains("detached"));
    served.ask("/v1/streams/cam/captions", &[]).refuses(404, &["known: hall"]);
    served.publish(super::served::caption("hall", 0, 0, true, "still here"));
    hall.wait_for_records(1);
}

#[test]
fn who_does_not_hang_up_is_cut_off() {
    let served = Served::start("{}");
    let mut connection = served.send("GET", "/v1/streams/cam/captions?format=sse", &[]);
    assert_eq!(Answer::read_head(&mut connection).status, 200);
    // More than the sockets hold, so that the answer cannot end.
    for number in 0..400 {
        served.publish(super::served::caption("cam", number, 0, true, &"x".repeat(64_000)));
    }
    served.stop_within(Duration::from_millis(200));
    let mut rest = Vec::new();
    let _reset_or_end = std::io::Read::read_to_end(&mut connection, &mut rest);
    assert!(rest.len() < 400 * 64_000);
}

#[test]
fn a_busy_port_is_told() {
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = busy.local_addr().unwrap();
    let config: HttpConfig = serde_json::from_str(&format!(r#"{{"listen":"{addr}"}}"#)).unwrap();
    let served = Served::start("{}");
    let error = eyewitness::http::serve(&config, app(&served.feed, &served.rest, None)).unwrap_err().to_string();
    for part in [&*addr.to_string(), "another program uses port", "`listen`"] {
        assert!(error.contains(part), "`{part}` is missing in: {error}");
    }
}
