//! Many streams on one connection: what comes, what goes, what is chosen, and who is too slow.

use std::sync::Arc;

use base::event::{Body, BoxInImage, Detection, Detections, Event, ModelId, Status, StreamState, TrackedObject};
use serde_json::Value;

use super::served::{Follower, Served, caption, event, stream};
use crate::harness::{assert_valid, of_type, wait_for};

/// A record of one analysed frame, with so many objects.
fn detections(name: &str, number: u64, n_objects: usize) -> Event {
    let object = |n: usize| TrackedObject {
        detection: Detection {
            class: "person".into(),
            score: 0.9,
            box_in_image: BoxInImage { x: n as f32, y: 2.0, width: 3.0, height: 4.0 },
        },
        track: Some(n as u64),
    };
    let body = Body::Detections(Detections {
        width: 768,
        height: 576,
        index: number,
        model: Arc::new(ModelId { name: "m".into(), version: "0".repeat(8) }),
        objects: (0..n_objects).map(object).collect(),
        labels: Vec::new(),
        answer: None,
        classes: Arc::default(),
    });
    event(name, number, body)
}

fn n_readers_of_detections(served: &Served) -> usize {
    served.feed.streams().iter().map(|s| s.detections.n_readers()).sum()
}

/// What it was told of one type.
fn told(follower: &Follower, kind: &str) -> Vec<Value> {
    of_type(&follower.records(), kind).into_iter().cloned().collect()
}

/// The last list of streams in view.
fn wait_for_streams(follower: &Follower, names: &[&str]) {
    wait_for(&format!("{names:?} in view"), || {
        (told(follower, "streams").last()?["streams"] == serde_json::json!(names)).then_some(())
    });
}

#[test]
fn all_streams_come_with_what_was_seen() {
    let served = Served::start("{}");
    served.captions(0..3);
    let all = served.follow("ws", "/v1/live?recent=2", &[]).opened();
    let seeing = served.follow("ws", "/v1/live?types=detections,status&stream=hall&stream=attic", &[]).opened();
    wait_for_streams(&all, &["cam", "hall"]);
    wait_for_streams(&seeing, &["hall"]);
    assert_eq!(n_readers_of_detections(&served), 1, "nobody else reads them");
    served.publish(caption("hall", 4, 0, true, "from the hall"));
    for number in 0..5 {
        served.publish(detections("hall", number, 2));
        served.publish(detections("cam", number, 2));
    }
    let records = wait_for("records", || Some(told(&seeing, "detections")).filter(|r| r.len() >= 5));
    assert_valid(&records);
    assert!(records.iter().all(|r| r["stream"] == "hall" && r["objects"].as_array().unwrap().len() == 2));
    assert_eq!(records[4]["frame"]["index"], 4);
    let captions = wait_for("captions", || Some(told(&all, "caption")).filter(|r| r.len() >= 3));
    let lines: Vec<&str> = captions.iter().map(|r| r["lines"][0].as_str().unwrap()).collect();
    assert_eq!(lines, ["line 1", "line 2", "from the hall"]);
    // A stream comes, and is there from its first record on; another goes.
    served.feed.attach(stream("attic"));
    let status = Status { state: StreamState::Interrupted, detail: None, source: None };
    served.publish(event("attic", 0, Body::Status(status)));
    wait_for_streams(&seeing, &["attic", "hall"]);
    wait_for_streams(&all, &["attic", "cam", "hall"]);
    for follower in [&all, &seeing] {
        let status = wait_for("its status", || told(follower, "status").pop());
        assert_eq!((&status["stream"], &status["state"]), (&"attic".into(), &"interrupted".into()));
    }
    let last = caption("hall", 9, 0, true, "goodbye");
    served.publish(last);
    served.feed.detach("hall");
    wait_for_streams(&seeing, &["attic"]);
    wait_for_streams(&all, &["attic", "cam"]);
    assert_eq!(told(&all, "caption").pop().unwrap()["lines"][0], "goodbye");
    // Under the same name it is there anew.
    served.feed.attach(stream("hall"));
    wait_for_streams(&seeing, &["attic", "hall"]);
    assert!(told(&seeing, "caption").is_empty() && told(&all, "detections").is_empty());
    served.stop();
    for follower in [all, seeing] {
        assert_eq!(follower.wait_for("closed")["closed"], 1001);
    }
}

#[test]
fn what_is_wanted_can_be_changed() {
    let served = Served::start("{}");
    served.captions(0..2);
    let choose = r#"{"streams":["cam"],"types":["captions","detections"]}"#;
    let follower = served.follow("ws", "/v1/live?recent=1&stream=hall", &["--text", choose]).opened();
    wait_for_streams(&follower, &["cam"]);
    wait_for("a reader of detections", || (n_readers_of_detections(&served) == 1).then_some(()));
    served.publish(detections("cam", 1, 1));
    served.publish(detections("hall", 1, 1));
    served.publish(caption("hall", 4, 0, true, "not wanted"));
    served.publish(caption("cam", 4, 0, true, "wanted"));
    let captions = wait_for("captions", || Some(told(&follower, "caption")).filter(|r| r.len() >= 2));
    let lines: Vec<&str> = captions.iter().map(|r| r["lines"][0].as_str().unwrap()).collect();
    assert_eq!(lines, ["line 1", "wanted"]);
    wait_for("detections", || (told(&follower, "detections").len() == 1).then_some(()));
    let nothing = served.follow("ws", "/v1/live", &["--text", r#"{"streams":[]}"#]).opened();
    wait_for_streams(&nothing, &[]);
    for (text, part) in [("hello", "not understood"), (r#"{"types":["boxes"]}"#, "known: captions")] {
        let wrong = served.follow("ws", "/v1/live", &["--text", text]);
        let closed = wrong.wait_for("closed");
        assert_eq!(closed["closed"], 1003, "{text}");
        assert!(closed["reason"].as_str().unwrap().contains(part), "{closed}");
    }
    drop((follower, nothing));
    wait_for("no readers", || {
        served.captions(0..1);
        served.publish(detections("cam", 1, 1));
        (served.n_readers() + n_readers_of_detections(&served) == 0).then_some(())
    });
    served.publish(detections("cam", 2, 1));
    let n_encoded = served.feed.stream("cam").unwrap().detections.counts();
    served.publish(detections("cam", 3, 1));
    assert_eq!(served.feed.stream("cam").unwrap().detections.counts(), n_encoded, "nobody reads, nothing is encoded");
}

#[test]
fn who_is_too_slow_loses_detections_and_is_told() {
    let served = Served::start("{}");
    let slow = served.follow("ws", "/v1/live?types=detections,captions", &["--brief"]).opened();
    let fast = served.follow("ws", "/v1/live?types=detections", &["--brief"]).opened();
    wait_for("readers", || (n_readers_of_detections(&served) == 4).then_some(()));
    wait_for_streams(&slow, &["cam", "hall"]);
    slow.pause();
    // Far more than sockets hold.
    for number in 0..400 {
        served.publish(detections("cam", number, 700));
        if number % 32 == 31 {
            wait_for("the fast one", || (told(&fast, "detections").len() as u64 > number).then_some(()));
        }
    }
    served.publish(caption("cam", 1, 0, true, "still here"));
    slow.resume();
    wait_for("the last one", || {
        let seen = told(&slow, "detections");
        (seen.last()?["frame"]["index"] == 399).then_some(())
    });
    let lost = told(&slow, "lost");
    assert!(!lost.is_empty());
    let n_lost: u64 = lost.iter().map(|r| r["n_records"].as_u64().unwrap()).sum();
    assert_eq!(n_lost + told(&slow, "detections").len() as u64, 400);
    assert!(lost.iter().all(|r| r["stream"] == "cam" && r["detail"].as_str().unwrap().contains("detections")));
    assert_eq!(wait_for("a caption", || told(&slow, "caption").pop())["stream"], "cam");
}

#[test]
fn refusals() {
    let served = Served::start(r#"{"max_clients":1}"#);
    served.ask("/v1/live", &[]).refuses(426, &["ws://"]);
    let refused = |path: &str, status: u16, part: &str| {
        let refusal = served.follow("ws", path, &[]).wait_for("status");
        assert_eq!(refusal["status"], status, "{path}: {refusal}");
        assert!(refusal["body"].as_str().unwrap().contains(part), "{path}: {refusal}");
    };
    refused("/v1/live?types=boxes", 400, "known: captions, transcripts, status, gaps, alerts, detections");
    refused("/v1/live?stream=a%20b", 400, "a b");
    refused("/v1/live?streams=a", 400, "did you mean `stream`");
    refused("/v1/live?recent=x", 400, "no whole number");
    // The older address knows nothing of detections.
    refused("/v1/streams/cam/captions?types=detections", 400, "known: captions");
    let _first = served.follow("ws", "/v1/live", &[]).opened();
    refused("/v1/live", 503, "all 1 places");
    served.ask("/v1/streams/nobody/live.mp4", &[]).refuses(404, &["known: cam, hall"]);
    served.ask("/v1/streams/cam/live.mp4", &[]).refuses(409, &["cam"]);
    served.ask("/v1/streams/cam/live.mp4?sound=no", &[]).refuses(400, &["known: on, off"]);
    served.ask("/v1/streams/cam/preview.jpg", &[]).refuses(404, &["detect"]);
    served.ask("/v1/streams/cam/preview.jpg?x=1", &[]).refuses(400, &["unknown parameter"]);
}
