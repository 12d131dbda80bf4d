//! The caption feed: every way to read it, resuming, slowness, disconnects.

use std::{
    io::{BufRead as _, Read as _},
    process::Command,
};

use base::event::{Body, Status, StreamState};
use serde_json::Value;

use super::served::{Answer, Served, caption, event, ids, session, transcript};
use crate::harness::{Scene, python, wait_for};

#[test]
fn clients_by_every_way_get_the_same_records_in_order() {
    let served = Served::start("{}");
    let path = "/v1/streams/cam/captions";
    let followers = [
        served.follow("sse", path, &[]),
        served.follow("sse", &format!("{path}?types=captions,transcripts"), &[]),
        served.follow("ws", path, &[]),
        served.follow("ws", path, &[]),
    ]
    .map(super::served::Follower::opened);
    served.wait_for_readers(4);
    served.captions(0..3);
    served.publish(transcript("cam", 3, "and so"));
    served.publish(caption("hall", 4, 0, true, "another stream"));
    served.captions(5..6);
    for (follower, expected) in followers.iter().zip([4, 5, 4, 4]) {
        let records = follower.wait_for_records(expected);
        crate::harness::assert_valid(&records);
        let kinds: Vec<&str> = records.iter().map(|r| r["type"].as_str().unwrap()).collect();
        assert_eq!(kinds.contains(&"transcript"), expected == 5);
        let captions: Vec<&Value> = records.iter().filter(|r| r["type"] == "caption").collect();
        let lines: Vec<&str> = captions.iter().map(|r| r["lines"][0].as_str().unwrap()).collect();
        assert_eq!(lines, ["line 0", "line 1", "line 2", "line 5"]);
        assert!(records.iter().all(|r| r["stream"] == "cam" && r["tags"]["site"] == "north"));
    }
    // On SSE the event's name is the record's type, and its id the record's.
    for told in followers[1].told().iter().filter(|t| t.get("event").is_some()) {
        let record: Value = serde_json::from_str(told["data"].as_str().unwrap()).unwrap();
        assert_eq!((&told["event"], &told["id"]), (&record["type"], &record["id"]));
    }
    drop(followers);
    // Dead readers are noticed when there is something to send.
    wait_for("no readers", || {
        served.captions(6..7);
        (served.n_readers() == 0).then_some(())
    });
    served.stop();
}

#[test]
fn a_live_reader_is_told_why_there_are_no_captions() {
    let served = Served::start("{}");
    let default = served.follow("sse", "/v1/streams/cam/captions", &[]).opened();
    let captions_alone = served.follow("sse", "/v1/streams/cam/captions?types=captions", &[]).opened();
    served.wait_for_readers(2);
    let status = Status { state: StreamState::Interrupted, detail: Some("no route to host".into()), source: None };
    served.publish(event("cam", 0, Body::Status(status)));
    served.captions(1..2);
    let records = default.wait_for_records(2);
    assert_eq!((&records[0]["type"], &records[0]["state"]), (&"status".into(), &"interrupted".into()));
    assert_eq!(captions_alone.wait_for_records(1)[0]["type"], "caption");
    let stream = served.ask("/v1/streams/cam", &[]).json();
    assert_eq!((&stream["state"], &stream["detail"]), (&"interrupted".into(), &"no route to host".into()));
}

#[test]
fn a_reader_that_comes_back_goes_on_where_it_was() {
    let served = Served::start("{}");
    let path = "/v1/streams/cam/captions";
    let first = served.follow("sse", path, &[]).opened();
    served.wait_for_readers(1);
    let published = served.captions(0..5);
    first.wait_for_records(5);
    let told = first.told();
    let last_id = told.last().unwrap()["id"].as_str().unwrap().to_owned();
    assert_eq!(last_id, published[4]);
    drop(first);
    let missed = served.captions(5..9);

    let header = format!("Last-Event-ID: {last_id}");
    let by_header = served.follow("sse", path, &["--header", &header]);
    // As a browser does: the URL it began with is repeated, the header is newer.
    let repeated = format!("{path}?last_event_id={}", published[0]);
    let by_both = served.follow("sse", &repeated, &["--header", &header]);
    let by_query = served.follow("ws", &format!("{path}?last_event_id={last_id}"), &[]);
    for follower in [by_header, by_both, by_query] {
        assert_eq!(ids(&follower.wait_for_records(4)), missed);
    }
    // And of the last so many.
    let recent = served.follow("sse", &format!("{path}?recent=2"), &[]);
    assert_eq!(ids(&recent.wait_for_records(2)), &missed[2..]);
}

#[test]
fn who_comes_back_too_late_is_told_and_gets_all_that_is_there() {
    let served = Served::start(r#"{"feed_records":4}"#);
    let published = served.captions(0..10);
    for way in ["sse", "ws"] {
        for id in [published[0].as_str(), "never-there"] {
            let path = format!("/v1/streams/cam/captions?last_event_id={id}");
            let follower = served.follow(way, &path, &[]);
            let records = follower.wait_for_records(5);
            assert_eq!(records[0]["type"], "lost", "{way} {id}");
            assert_eq!(records[0]["n_records"], Value::Null);
            assert_eq!(ids(&records[1..]), &published[6..]);
            if way == "sse" {
                let told = follower.told();
                let lost = told.iter().find(|t| t["event"] == "lost").unwrap();
                assert_eq!(lost["id"], "", "a loss is no place to come back to");
            }
        }
    }
}

#[test]
fn a_slow_reader_loses_only_its_own_records_and_is_told_how_many() {
    let served = Served::start(r#"{"feed_records":32}"#);
    let path = "/v1/streams/cam/captions";
    for way in ["sse", "ws"] {
        let slow = served.follow(way, path, &["--brief"]).opened();
        let fast = served.follow(way, path, &["--brief"]).opened();
        served.wait_for_readers(2);
        served.captions(0..1);
        slow.wait_for_records(1);
        slow.pause();
        // Far more than sockets hold.
        let line = "x".repeat(32_000);
        let mut published = Vec::new();
        for number in 1..=600 {
            published.push(served.publish(caption("cam", number, 0, true, &line)));
            if number % 16 == 0 {
                fast.wait_for_records(published.len() + 1);
            }
        }
        let all = fast.wait_for_records(601);
        assert_eq!(ids(&all[1..]), published, "{way}: the fast reader lost something");

        slow.resume();
        let end = served.publish(caption("cam", 1000, 0, true, "the end"));
        let got = wait_for("the end", || Some(slow.records()).filter(|r| ids(r).contains(&end.as_str())));
        let n_lost: u64 = got.iter().filter(|r| r["type"] == "lost").map(|r| r["n_records"].as_u64().unwrap()).sum();
        let n_got = got.iter().filter(|r| r["type"] == "caption").count() as u64;
        assert!(n_lost > 0, "{way}: 19 MB went through the sockets of a reader that does not read");
        assert_eq!(n_got + n_lost, 602, "{way}: every record is got or told to be lost");
        drop((slow, fast));
        wait_for("no readers", || {
            served.captions(2000..2001);
            (served.n_readers() == 0).then_some(())
        });
    }
    let metrics = served.ask("/metrics", &[]).body;
    assert!(!metrics.contains("eyewitness_feed_lost_total{stream=\"cam\"} 0\n"), "{metrics}");
    assert!(metrics.contains("eyewitness_feed_lost_total{stream=\"hall\"} 0\n"), "{metrics}");
}

#[test]
fn json_has_the_newest_revision_of_each_cue() {
    let served = Served::start("{}");
    served.publish(caption("cam", 0, 0, false, "and"));
    served.publish(caption("cam", 1, 0, false, "taken back"));
    served.publish(caption("cam", 0, 1, true, "and so"));
    served.publish(caption("cam", 1, 1, true, ""));
    let last = served.publish(caption("cam", 2, 0, false, "my fellow"));
    let check = |target: &str, expected: &[&str]| {
        let answer = served.ask(target, &[("Accept", "text/html, application/json;q=0.9")]);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{target}");
        let json = answer.json();
        let lines: Vec<&str> =
            json["records"].as_array().unwrap().iter().map(|r| r["lines"][0].as_str().unwrap()).collect();
        assert_eq!((lines.as_slice(), json["last_event_id"].as_str()), (expected, Some(last.as_str())), "{target}");
    };
    check("/v1/streams/cam/captions", &["and so", "my fellow"]);
    check("/v1/streams/cam/captions?recent=1", &["my fellow"]);
    check("/v1/streams/cam/captions?format=json&recent=0", &[]);
    let empty = served.ask("/v1/streams/hall/captions", &[]).json();
    assert_eq!(empty, serde_json::json!({ "stream": "hall", "records": [], "last_event_id": null }));
}

#[test]
fn live_webvtt_is_webvtt() {
    let served = Served::start("{}");
    let mut connection = served.send("GET", "/v1/streams/cam/captions", &[("Accept", "text/vtt")]);
    let head = Answer::read_head(&mut connection);
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/vtt; charset=utf-8")));
    // The header comes at once, before any cue.
    let mut lines = connection.by_ref().lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "WEBVTT"));
    served.publish(caption("cam", 0, 0, false, "not yet"));
    served.publish(caption("cam", 0, 1, true, "<one> & --> two"));
    served.captions(1..4);
    served.feed.close();
    let rest: Vec<String> = lines.collect();

    let scene = Scene::new();
    // What is left of the chunks' lengths stands on lines of its own.
    let chunked = |line: &&String| !(line.len() <= 3 && u32::from_str_radix(line, 16).is_ok());
    let text: Vec<&str> = rest.iter().filter(chunked).map(String::as_str).collect();
    let file = scene.file("live.vtt", format!("WEBVTT\n\n{}\n", text.join("\n")));
    let script = "import sys, webvtt; print([(c.start, c.end, c.text) for c in webvtt.read(sys.argv[1])])";
    let parsed = Command::new(python()).args(["-c", script]).arg(&file).output().unwrap();
    let parsed = String::from_utf8_lossy(&parsed.stdout).into_owned() + &String::from_utf8_lossy(&parsed.stderr);
    let expected = "[('00:00:00.000', '00:00:00.900', '&lt;one&gt; &amp; --&gt; two'), \
                    ('00:00:01.000', '00:00:01.900', 'line 1'), \
                    ('00:00:02.000', '00:00:02.900', 'line 2'), \
                    ('00:00:03.000', '00:00:03.900', 'line 3')]";
    assert_eq!(parsed.trim(), expected, "{rest:?}");
    assert!(rest.iter().any(|line| line == &format!("{}-cue-3", session())));
}

#[test]
fn signs_of_life() {
    let served = Served::start(r#"{"keep_alive_secs":1}"#);
    let socket = served.follow("ws", "/v1/streams/cam/captions", &[]).opened();
    let target = "/v1/streams/cam/captions?format=sse";
    let mut connection = served.send("GET", target, &[]);
    assert_eq!(Answer::read_head(&mut connection).status, 200);
    let mut lines = connection.lines().map(Result::unwrap);
    // More often than the pings that a WebSocket may leave unanswered.
    for _ in 0..4 {
        assert!(lines.any(|line| line == ": alive"));
    }
    served.captions(0..1);
    assert_eq!(socket.wait_for_records(1)[0]["type"], "caption");
}

#[test]
fn mistakes_are_told_with_a_way_out() {
    let served = Served::start("{}");
    let check = |target: &str, status: u16, parts: &[&str]| served.ask(target, &[]).refuses(status, parts);
    check("/v1/streams/cma/captions", 404, &["`cma`", "did you mean `cam`?", "known: cam, hall"]);
    check("/v1/streams/cma", 404, &["did you mean `cam`?"]);
    check("/v1/streams/%3Cx%3E", 404, &["known: cam, hall"]);
    check("/v1/streams/cam/captions?type=captions", 400, &["`type`", "did you mean `types`?"]);
    check("/v1/streams/cam/captions?types=words", 400, &["known: captions, transcripts, status, gaps"]);
    check("/v1/streams/cam/captions?format=srt", 400, &["known: json, sse, vtt"]);
    check("/v1/streams/cam/captions?recent=-1", 400, &["`recent=-1`"]);
    check("/v1/streams/cam/captions?format=vtt&types=transcripts", 400, &["format=sse"]);
    check("/v1/streams/cam/captions?last_event_id=x", 400, &["format=sse"]);
    check("/v1/stream", 404, &["/openapi.json"]);
    served.ask_with("POST", "/v1/streams", &[]).refuses(405, &["allowed: GET, HEAD"]);
    let upgrade = [("Connection", "upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "12")];
    served.ask("/v1/streams/cam/captions", &upgrade).refuses(426, &["no WebSocket"]);
    assert_eq!(served.n_readers(), 0);
}
