//! The routes over a real socket, with a real store.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    sync::Arc,
};

use base::{event::AlertState, time::SystemClock};
use serde_json::Value;

use super::super::{AppState, HouseView, HttpConfig, HttpServer, control::Control, serve};
use crate::{
    evidence::{
        AlertDesk, EvidenceStore,
        samples::{alert, config, frame, id, store, wait_for},
    },
    feed::{Feed, FeedOptions},
    metrics::Scrape,
};

struct House;

impl HouseView for House {
    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    fn speech_lag(&self, _stream: &str) -> Option<std::time::Duration> {
        None
    }

    fn scrape(&self, _out: &mut Scrape) {}
}

fn serving(alerts: Option<EvidenceStore>) -> HttpServer {
    let mut config = HttpConfig::default();
    config.listen.set_port(0);
    let clock = SystemClock::new();
    let app = AppState {
        feed: Feed::new(FeedOptions { n_records: 10, clock: Arc::clone(&clock) }),
        views: Default::default(),
        house: Arc::new(House),
        speech: None,
        alerts,
        history: None,
        folders: Vec::new(),
        desk: AlertDesk::in_memory(Arc::clone(&clock)),
        control: Control::default(),
        clock,
        playlist: None,
        extra: axum::Router::new(),
        extra_routes: &[],
    };
    serve(&config, app).expect("server")
}

/// An answer: status, head in small letters, body.
struct Answer(u16, String, Vec<u8>);

fn ask(server: &HttpServer, request: &str, headers: &[&str]) -> Answer {
    let mut stream = TcpStream::connect(server.local_addr()).expect("connection");
    let more: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    write!(stream, "{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{more}\r\n").expect("sent");
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("answer");
    let end = all.windows(4).position(|w| w == b"\r\n\r\n").expect("head");
    let head = String::from_utf8_lossy(&all[..end]).to_lowercase();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("status");
    Answer(status, head, all[end + 4..].to_vec())
}

/// Status and JSON of an answer to a request with a body.
fn change(server: &HttpServer, request: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(server.local_addr()).expect("connection");
    let head =
        format!("{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n");
    write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).expect("sent");
    let mut all = String::new();
    stream.read_to_string(&mut all).expect("answer");
    let (head, body) = all.split_once("\r\n\r\n").expect("head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("status");
    (status, serde_json::from_str(body).unwrap_or_default())
}

/// Status and error, or the ids of the alerts.
fn get(server: &HttpServer, path: &str) -> (u16, String) {
    let Answer(status, _, body) = ask(server, &format!("GET {path}"), &[]);
    let json: Value = serde_json::from_slice(&body).unwrap_or_default();
    let ids = json["alerts"].as_array().map(|all| {
        all.iter()
            .filter_map(|r| r["alert"].as_str()?.rsplit('-').next().map(str::to_owned))
            .collect::<Vec<_>>()
            .join(",")
    });
    (status, ids.unwrap_or_else(|| json["error"].as_str().unwrap_or_default().to_owned()))
}

#[test]
fn lists_records_and_refusals() {
    let folder = tempfile::tempdir().expect("folder");
    let kept = store(&folder);
    for (name, number, state) in
        [("cam", 1, AlertState::Opened), ("cam", 2, AlertState::Closed), ("hall", 3, AlertState::Opened)]
    {
        kept.take(&alert(name, (number, 0), state, 0, (None, None)), None);
    }
    wait_for("the last record", || kept.record(&id("hall", 3)));
    let server = serving(Some(kept.clone()));
    let check = |path: &str, status: u16, part: &str| {
        let got = get(&server, path);
        assert!(got.0 == status && got.1.contains(part), "{path}: {got:?}");
    };
    for (query, ids) in [
        ("", "3,2,1"),
        ("?limit=2", "3,2"),
        ("?stream=cam", "2,1"),
        ("?stream=cam&stream=hall", "3,2,1"),
        ("?state=open", "3,1"),
        ("?state=closed&rule=yard&severity=warning", "2"),
        ("?severity=critical", ""),
    ] {
        assert_eq!(get(&server, &format!("/v1/alerts{query}")), (200, ids.to_owned()), "{query}");
    }
    check("/v1/alerts?state=gone", 400, "known: open");
    check("/v1/alerts?limit=1001", 400, "more than 1000");
    check("/v1/alerts?streams=a", 400, "did you mean `stream`");
    check("/v1/alerts/nobody", 404, "no alert `nobody`");
    check("/v1/alerts/..%2f..%2fetc", 404, "no alert");
    check("/v1/alerts/%2e%2e/clip.mp4", 404, "");
    check(&format!("/v1/alerts/{}/clip.mp4", id("cam", 1)), 404, "media are not kept");
    check(&format!("/v1/alerts/{}/snapshot.jpg", id("cam", 1)), 404, "no pictures");
    let Answer(status, _, body) = ask(&server, &format!("GET /v1/alerts/{}", id("cam", 2)), &[]);
    let record: Value = serde_json::from_slice(&body).expect("json");
    assert_eq!((status, &record["state"], &record["type"]), (200, &"closed".into(), &"alert".into()));
    let document: Value = serde_json::from_slice(&ask(&server, "GET /openapi.json", &[]).2).expect("json");
    assert!(document["paths"]["/v1/alerts/{id}/clip.mp4"]["get"]["responses"]["206"].is_object());
    assert!(document["components"]["schemas"]["alert"]["properties"]["evidence"].is_object());
    let metrics = String::from_utf8(ask(&server, "GET /metrics", &[]).2).expect("text");
    assert!(metrics.contains("eyewitness_evidence_open_alerts 2\n"), "{metrics}");
    kept.close();
    let without = serving(None);
    for path in ["/v1/alerts", "/v1/alerts/events", "/v1/alerts/x", "/v1/alerts/x/clip.mp4"] {
        assert_eq!(get(&without, path).0, 501, "{path}");
    }
}

#[test]
fn files_whole_in_part_and_unchanged() {
    let folder = tempfile::tempdir().expect("folder");
    let kept = store(&folder);
    let id = id("cam", 1);
    kept.take(&alert("cam", (1, 0), AlertState::Opened, 0, kept.paths(&id, true, true)), Some(&frame("cam", 0)));
    let snapshot = wait_for("the snapshot", || kept.file(&id, crate::evidence::AlertFile::Snapshot).ok());
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    fs::write(config(&folder).path.join(&id).join("clip.mp4"), &bytes).expect("clip");
    let server = serving(Some(kept.clone()));
    let clip = format!("/v1/alerts/{id}/clip.mp4");
    let whole = ask(&server, &format!("GET {clip}"), &[]);
    assert_eq!((whole.0, whole.2.len()), (200, bytes.len()));
    assert!(
        whole.2 == bytes && whole.1.contains("accept-ranges: bytes") && whole.1.contains("content-type: video/mp4")
    );
    let etag = whole.1.lines().find_map(|line| line.strip_prefix("etag: ")).expect("etag");
    let head = ask(&server, &format!("HEAD {clip}"), &[]);
    assert!(head.0 == 200 && head.2.is_empty() && head.1.contains("content-length: 1000000"), "{}", head.1);
    let check = |headers: &[&str], status: u16, range: &str, expected: &[u8]| {
        let got = ask(&server, &format!("GET {clip}"), headers);
        assert!(got.0 == status && got.1.contains(range) && got.2 == expected, "{headers:?}: {}", got.1);
    };
    check(&["range: bytes=0-0"], 206, "content-range: bytes 0-0/1000000", &bytes[..1]);
    check(&["range: bytes=999990-"], 206, "content-range: bytes 999990-999999/1000000", &bytes[999_990..]);
    check(&["range: bytes=100-599999"], 206, "content-length: 599900", &bytes[100..600_000]);
    check(&["range: bytes=0-0", &format!("if-range: {etag}")], 206, "", &bytes[..1]);
    check(&["range: bytes=0-0", "if-range: \"other\""], 200, "", &bytes);
    check(&[&format!("if-none-match: {etag}")], 304, "etag", &[]);
    let outside = ask(&server, &format!("GET {clip}"), &["range: bytes=1000000-"]);
    assert!(outside.0 == 416 && outside.1.contains("content-range: bytes */1000000"), "{}", outside.1);
    let picture = ask(&server, &format!("GET /v1/alerts/{id}/snapshot.jpg"), &[]);
    assert!(picture.0 == 200 && picture.1.contains("image/jpeg") && picture.2 == fs::read(snapshot).expect("file"));
    kept.close();
}

#[test]
fn alerts_as_they_come_and_after_coming_back() {
    let folder = tempfile::tempdir().expect("folder");
    let kept = store(&folder);
    let server = serving(Some(kept.clone()));
    let follow = |server: &HttpServer, query: &str, header: &str| {
        let mut stream = TcpStream::connect(server.local_addr()).expect("connection");
        stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).expect("limit");
        write!(stream, "GET /v1/alerts/events{query} HTTP/1.1\r\nhost: localhost\r\n{header}\r\n").expect("sent");
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.starts_with("retry: ")));
        lines.filter_map(|line| line.strip_prefix("id: ").or(line.strip_prefix("event: lost")).map(str::to_owned))
    };
    let mut all = follow(&server, "", "");
    let mut of_hall = follow(&server, "?stream=hall", "");
    for (name, number) in [("cam", 1), ("hall", 2), ("cam", 3)] {
        kept.take(&alert(name, (number, 0), AlertState::Opened, 0, (None, None)), None);
    }
    let ids = [("cam", 1), ("hall", 2), ("cam", 3)].map(|(name, number)| format!("{}-0", id(name, number)));
    assert_eq!(all.by_ref().take(3).collect::<Vec<_>>(), ids);
    assert_eq!(of_hall.next().as_deref(), Some(&*ids[1]));
    kept.close();
    // Another process, and a client that was away meanwhile.
    let kept = store(&folder);
    let server = serving(Some(kept.clone()));
    let mut back = follow(&server, "", &format!("last-event-id: {}\r\n", ids[0]));
    assert_eq!(back.by_ref().take(2).collect::<Vec<_>>(), ids[1..]);
    kept.take(&alert("cam", (3, 1), AlertState::Closed, 0, (None, None)), None);
    assert_eq!(back.next(), Some(format!("{}-1", id("cam", 3))));
    let mut unknown = follow(&server, "?last_event_id=nobody", "");
    assert_eq!(unknown.by_ref().take(2).collect::<Vec<_>>(), ["", &ids[0]]);
    kept.close();
}

#[test]
fn people_acknowledge_and_silence() {
    let folder = tempfile::tempdir().expect("folder");
    let kept = store(&folder);
    kept.take(&alert("cam", (1, 0), AlertState::Opened, 0, (None, None)), None);
    let id = id("cam", 1);
    wait_for("the record", || kept.record(&id));
    let server = serving(Some(kept.clone()));
    let path = format!("/v1/alerts/{id}");
    let shown = || change(&server, &format!("GET {path}"), "").1;
    assert_eq!((&shown()["acknowledged"], &shown()["silenced"]), (&Value::Null, &Value::Null));

    let acknowledge =
        |verb: &str, of: &str, body: &str| change(&server, &format!("{verb} /v1/alerts/{of}/acknowledge"), body);
    let (status, told) = acknowledge("POST", &id, r#"{"note":" my cat "}"#);
    assert_eq!((status, &told), (200, &shown()));
    let said = &told["acknowledged"];
    assert_eq!((&said["by"], &said["note"]), (&"local".into(), &"my cat".into()));
    assert!(said["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{said}");
    let listed = change(&server, "GET /v1/alerts", "").1;
    assert_eq!(listed["alerts"][0], told);
    assert_eq!(acknowledge("POST", &id, "{}").1["acknowledged"]["note"], Value::Null);
    let refuses = |(status, told): (u16, Value), expected: u16, part: &str| {
        assert!(status == expected && told["error"].as_str().is_some_and(|e| e.contains(part)), "{status} {told}");
    };
    refuses(acknowledge("POST", "nobody", "{}"), 404, "no alert `nobody`");
    refuses(acknowledge("POST", &id, &format!(r#"{{"note":"{}"}}"#, "x".repeat(501))), 400, "500 characters");
    refuses(acknowledge("POST", &id, r#"{"notes":""}"#), 400, "did you mean `note`");
    refuses(acknowledge("DELETE", "nobody", ""), 404, "no alert `nobody`");
    let (status, told) = acknowledge("DELETE", &id, "");
    assert_eq!((status, &told["acknowledged"]), (200, &Value::Null));

    let silence = |body: &str| change(&server, "POST /v1/silences", body);
    for (body, part) in [
        (r#"{"minutes":5}"#, "missing field `reason`"),
        (r#"{"minutes":5,"reason":"  "}"#, "`reason` is empty"),
        (r#"{"minutes":0,"reason":"x"}"#, "1 to 43200"),
        (r#"{"minutes":43201,"reason":"x"}"#, "1 to 43200"),
        (r#"{"minutes":5,"reason":"x","stream":"../x"}"#, "`stream`"),
        (r#"{"minutes":5,"reason":"x","rule":""}"#, "`rule`"),
        (r#"{"minutes":5,"reason":"x","until":"noon"}"#, "unknown field `until`"),
    ] {
        refuses(silence(body), 400, part);
    }
    refuses(silence(r#"{"minutes":5,"reason":"x","stream":"nobody"}"#), 404, "unknown stream `nobody`");
    let (status, made) = silence(r#"{"minutes":5,"reason":"works","rule":"yard"}"#);
    assert_eq!(
        (status, &made["by"], &made["stream"], &made["rule"]),
        (201, &"local".into(), &Value::Null, &"yard".into())
    );
    assert_eq!(shown()["silenced"]["id"], made["id"]);
    assert_eq!(change(&server, "GET /v1/silences", "").1["silences"], Value::from(vec![made.clone()]));
    // Who follows alerts sees it as well.
    let mut stream = TcpStream::connect(server.local_addr()).expect("connection");
    write!(stream, "GET /v1/alerts/events?last_event_id=none HTTP/1.1\r\nhost: localhost\r\n\r\n").expect("sent");
    let told = BufReader::new(stream).lines().map_while(Result::ok);
    let record = told.filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("data: ")?).ok());
    let record = record.into_iter().find(|record| record["type"] == "alert").expect("record");
    assert_eq!(record["silenced"]["reason"], "works");
    let lift = format!("DELETE /v1/silences/{}", made["id"].as_str().expect("id"));
    assert_eq!(change(&server, &lift, "").0, 204);
    refuses(change(&server, &lift, ""), 404, "no silence");
    assert_eq!(shown()["silenced"], Value::Null);
    kept.close();
}
