//! What was said and how streams fared, asked for over HTTP: of the service in this process with a history that is made up,
//! and of the real one that listens to a clip.

use std::{collections::BTreeMap, process::Command, sync::Arc};

use base::{
    event::{Body, Event, ModelId, Transcript, Word},
    media::{SessionId, StreamInfo, StreamName},
    time::{CaptureTime, Clock, ClockQuality, Pts, SystemClock, Timestamp},
};
use eyewitness::history::{History, HistoryConfig};
use serde_json::Value;
use sinks::history::{Audit, Limits, Row, Sample, Store};
use tempfile::TempDir;

use super::served::{Answer, Served};
use crate::harness::{CLIP, CameraProcess, Process, Scene, assert_valid, of_type, python, wait_for};

const SPEECH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/inference/tests/data/jfk.wav");
/// 2026-09-21T14:13:20Z.
const NOW_MS: i64 = 1_790_000_000_000;
const LIMITS: Limits = Limits { keep: std::time::Duration::from_secs(1 << 30), max_bytes: 1 << 30 };

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(NOW_MS + ms).unwrap()
}

/// Said at second `number` of a stream's only session, which began at [`NOW_MS`].
fn said(stream: &str, number: u64, text: &str) -> Row {
    let info = Arc::new(StreamInfo { name: StreamName::new(stream).unwrap(), tags: BTreeMap::new(), epoch: None });
    let session = SessionId::derived([stream.as_bytes()]);
    let ms = |n: usize| Pts::from_millis(number * 1000 + n as u64 * 200);
    let words: Vec<Word> = text
        .split(' ')
        .enumerate()
        .map(|(n, word)| Word { text: word.into(), start: ms(n), end: ms(n + 1), confidence: 0.9, stable: true })
        .collect();
    let body = Body::Transcript(Transcript {
        segment: format!("{session}-segment-{number}"),
        revision: 0,
        is_final: true,
        start: ms(0),
        end: ms(words.len()),
        text: text.into(),
        words,
        language: Some("en".into()),
        translated: false,
        speaker: None,
        channel: None,
        model: Arc::new(ModelId { name: "whisper-tiny.en".into(), version: "0".repeat(8) }),
    });
    let captured = Some(CaptureTime { at: at(number as i64 * 1000), quality: ClockQuality::Ntp });
    let event = Event::new(&info, &session, number, ms(0), captured, body);
    Row::of(&event, at(number as i64 * 1000)).unwrap()
}

/// The service with a history that holds these rows. Nothing more is written.
fn served(rows: &[Row]) -> (Served, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), LIMITS).unwrap().store;
    for rows in rows.chunks(1000) {
        store.write(rows).unwrap();
    }
    drop(store);
    let clock: Arc<dyn Clock> = SystemClock::new();
    let history = History::open(HistoryConfig { dir: dir.path().to_owned(), ..HistoryConfig::default() }, None, &clock);
    (Served::remembering(history), dir)
}

fn texts(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let json = answer.json();
    let all = json["transcripts"].as_array().unwrap();
    all.iter().map(|heard| heard["text"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_was_said_is_searched() {
    let (served, _dir) = served(&[
        said("cam", 0, "and so my fellow Americans"),
        said("hall", 10, "ask not what your country can do"),
        said("cam", 20, "ask what you can do for your country"),
        said("yard", 3600, "Café au lait"),
    ]);
    let check = |query: &str, expected: &[&str]| {
        let answer = served.ask(&format!("/v1/history/transcripts?{query}"), &[]);
        let got = texts(&answer);
        let begins: Vec<&str> = got.iter().map(|text| text.split(' ').next().unwrap()).collect();
        assert_eq!(begins, expected, "{query}");
    };
    check("", &["Café", "ask", "ask", "and"]);
    check("q=country", &["ask", "ask"]);
    check("q=count", &["ask", "ask"]);
    check("q=%22for+your+country%22", &["ask"]);
    check("q=cafe", &["Café"]);
    check("q=nobody+said+this", &[]);
    check("q=%22%21%3F", &[]);
    check("q=NOT%20%22%29%20OR%20*", &[]);
    check("q=ask&stream=cam", &["ask"]);
    check("stream=cam&stream=hall", &["ask", "ask", "and"]);
    check("from=2026-09-21T14:13:30Z&to=2026-09-21T14:13:40Z", &["ask"]);
    check("from=2026-09-21T16:13:30%2B02:00&to=2026-09-21T16:13:40+02:00", &["ask"]);
    check("limit=1", &["Café"]);

    let first = served.ask("/v1/history/transcripts?limit=3", &[]).json();
    let after = first["after"].as_str().unwrap();
    let next = served.ask(&format!("/v1/history/transcripts?limit=3&after={after}"), &[]);
    assert_eq!(texts(&next), ["and so my fellow Americans"]);
    assert_eq!(next.json()["after"], Value::Null);

    let found = served.ask("/v1/history/transcripts?q=fellow", &[]).json()["transcripts"][0].clone();
    assert_eq!(found["stream"], "cam");
    assert_eq!((&found["start_ms"], &found["end_ms"]), (&0.into(), &1000.into()));
    assert_eq!(found["captured_at"], "2026-09-21T14:13:20.000Z");
    assert_eq!(found["words"][3]["start_ms"], 600);
    let hit = serde_json::json!([
        { "text": "and so my ", "hit": false }, { "text": "fellow", "hit": true }, { "text": " Americans", "hit": false }
    ]);
    assert_eq!(found["snippet"], hit);

    let refuses = |query: &str, parts: &[&str]| {
        served.ask(&format!("/v1/history/transcripts?{query}"), &[]).refuses(400, parts);
    };
    refuses("query=x", &["unknown parameter `query`"]);
    refuses("from=yesterday", &["`from=yesterday` is no time", "2026-"]);
    refuses("from=2026-09-21T14:00:00Z&to=2026-09-21T14:00:00Z", &["`from` is not before `to`"]);
    refuses("limit=0", &["at least 1"]);
    refuses("limit=1001", &["more than 1000", "`after`"]);
    refuses("after=x", &["`after`"]);
    refuses("format=xml", &["json, vtt, srt, jsonl, csv"]);
    refuses("format=vtt", &["one stream"]);
    refuses("format=srt&stream=a&stream=b", &["one stream"]);
    refuses(&format!("q={}", "x".repeat(501)), &["500 characters"]);
    served.ask_with("POST", "/v1/history/transcripts", &[]).refuses(405, &["GET"]);
    let metrics = served.ask("/metrics", &[]).body;
    assert!(metrics.contains("\neyewitness_history_rows{table=\"transcripts\"} 4\n"), "{metrics}");
}

#[test]
fn a_service_without_history_says_so() {
    let served = Served::start("{}");
    for path in ["/v1/history/transcripts", "/v1/history/series?stream=cam"] {
        served.ask(path, &[]).refuses(501, &["`history.enabled`"]);
    }
    // And one whose file is another's.
    let dir = tempfile::tempdir().unwrap();
    let _other = Store::open(dir.path(), LIMITS).unwrap();
    let config = HistoryConfig { dir: dir.path().to_owned(), ..HistoryConfig::default() };
    let served = Served::remembering(History::open(config, None, &SystemClock::new()));
    served.ask("/v1/history/transcripts", &[]).refuses(503, &["in use by another process"]);
    assert!(served.ask("/metrics", &[]).body.contains("\neyewitness_history_troubled 1\n"));
}

/// What a script of Python's makes of a file.
fn python_reads(script: &str, file: &std::path::Path) -> Value {
    let parsed = Command::new(python()).args(["-c", script]).arg(file).output().unwrap();
    let errors = String::from_utf8_lossy(&parsed.stderr);
    serde_json::from_slice(&parsed.stdout).unwrap_or_else(|e| panic!("{e}: {errors}"))
}

const READ_CSV: &str = "import csv, json, sys\n\
    print(json.dumps(list(csv.DictReader(open(sys.argv[1], newline='', encoding='utf-8'), strict=True))))";

/// How many subtitles ffprobe finds, and when the last one begins.
fn ffprobe(file: &std::path::Path) -> (usize, f64) {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", "packet=pts_time", "-of", "csv=p=0"])
        .arg(file)
        .output()
        .unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let times: Vec<f64> =
        text.split_terminator([',', '\n']).filter(|time| !time.is_empty()).map(|time| time.parse().unwrap()).collect();
    (times.len(), times.last().copied().unwrap_or(-1.0))
}

#[test]
fn files_are_read_by_others() {
    let odd = [
        "plain words",
        "one, two; \"three\"",
        "=HYPERLINK(\"http://x\",\"y\")",
        "+1 @SUM -2",
        "<b>bold</b> --> & {\\an8}up",
        "\u{e4}\u{f6}\u{fc} \u{4f60}\u{597d} \u{1f600}",
        "WEBVTT NOTE x",
    ];
    let mut rows: Vec<Row> = odd.iter().enumerate().map(|(n, text)| said("cam", n as u64 * 10, text)).collect();
    // More than are read at once.
    rows.extend((100..1300).map(|n| said("cam", n, &format!("number {n}"))));
    rows.push(said("hall", 5, "elsewhere"));
    let (served, dir) = served(&rows);
    let fetch = |query: &str, name: &str, media: &str| {
        let answer = served.ask(&format!("/v1/history/transcripts?{query}"), &[]);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("content-disposition"), Some(&*format!("attachment; filename=\"{name}\"")));
        assert!(answer.header("content-type").unwrap().starts_with(media), "{answer:?}");
        let path = dir.path().join(name);
        std::fs::write(&path, &answer.body).unwrap();
        (path, answer.body)
    };
    let n_all = odd.len() + 1200;

    let (path, _) = fetch("format=csv&stream=cam", "cam-transcripts.csv", "text/csv");
    let table = python_reads(READ_CSV, &path);
    let table = table.as_array().unwrap();
    assert_eq!(table.len(), n_all);
    for (row, text) in table.iter().zip(odd) {
        // What a spreadsheet would run begins with a `'`.
        let cell = row["text"].as_str().unwrap();
        let expected = if text.starts_with(['=', '+']) { format!("'{text}") } else { text.to_owned() };
        assert_eq!(cell, expected);
    }
    assert_eq!(table[1]["captured_at"], "2026-09-21T14:13:30.000Z");
    assert_eq!((&table[1]["start_ms"], &table[1]["language"]), (&"10000".into(), &"en".into()));

    let (_, body) = fetch("format=jsonl", "transcripts.jsonl", "application/jsonl");
    let records: Vec<Value> = body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_valid(&records);
    assert_eq!(records.len(), n_all + 1);
    assert!(records.windows(2).all(|w| w[0]["captured_at"].as_str() < w[1]["captured_at"].as_str()), "in order");

    let read_cues = "import json, sys, webvtt, html\n\
        cues = webvtt.read(sys.argv[1]) if sys.argv[1].endswith('vtt') else webvtt.from_srt(sys.argv[1])\n\
        print(json.dumps([(c.start_in_seconds, html.unescape(' '.join(c.lines))) for c in cues]))";
    for (format, media) in [("vtt", "text/vtt"), ("srt", "application/x-subrip")] {
        let name = format!("cam-transcripts.{format}");
        let (path, _) = fetch(&format!("format={format}&stream=cam"), &name, media);
        assert_eq!(ffprobe(&path), (n_all, 1299.0), "{format}");
        let cues = python_reads(read_cues, &path);
        let cues = cues.as_array().unwrap();
        assert_eq!(cues.len(), n_all);
        assert_eq!((&cues[1][0], &cues[1][1]), (&10.into(), &odd[1].into()), "{format}");
        if format == "vtt" {
            assert_eq!(cues[4][1], odd[4]);
        }
    }
    // As much as is asked for.
    let (path, _) = fetch("format=srt&stream=cam&limit=700&q=number", "cam-transcripts.srt", "application/x-subrip");
    assert_eq!(ffprobe(&path), (700, 799.0));
    let (_, body) = fetch("format=csv&q=nobody", "transcripts.csv", "text/csv");
    assert_eq!(body.lines().count(), 1);
}

#[test]
fn a_stream_over_time_is_asked_for() {
    let sample = |n: i64| {
        Row::Sample(Sample {
            stream: "cam".into(),
            at_ms: NOW_MS + n * 10_000,
            fps: Some(n as f64),
            n_frames: 10,
            objects: [("person".to_owned(), (2, 5))].into(),
            ..Sample::default()
        })
    };
    let (served, _dir) = served(&[sample(0), sample(1), sample(2)]);
    let (from, to) = ("2026-09-21T14:13:20Z", "2026-09-21T14:14:00Z");
    let path = format!("/v1/history/series?stream=cam&from={from}&to={to}");
    let series = served.ask(&path, &[]).json();
    assert_eq!(series["step_secs"], 10);
    assert_eq!(series["times"][1], "2026-09-21T14:13:30.000Z");
    assert_eq!(series["fps"], serde_json::json!([0.0, 1.0, 2.0, null]));
    assert_eq!(series["objects"]["person"]["mean"], serde_json::json!([0.5, 0.5, 0.5, null]));
    assert_eq!(served.ask(&format!("{path}&step_secs=20"), &[]).json()["fps"], serde_json::json!([0.5, 2.0]));
    // The last hour, of which nothing is known.
    let now = served.ask("/v1/history/series?stream=cam", &[]).json();
    assert_eq!(now["fps"].as_array().unwrap().len(), 360);
    let refuses =
        |query: &str, parts: &[&str]| served.ask(&format!("/v1/history/series?{query}"), &[]).refuses(400, parts);
    refuses("", &["`stream` is missing"]);
    refuses("stream=cam&step_secs=1", &["less than 10"]);
    refuses("stream=cam&from=2020-01-01T00:00:00Z&step_secs=10", &["at most 2000", "step_secs="]);
    refuses(&format!("stream=cam&from={to}&to={from}"), &["`from` is not before `to`"]);
}

#[test]
fn who_did_what_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let entry = Audit {
        at: at(0),
        user: "ann".into(),
        role: "operator".into(),
        address: "192.0.2.1".into(),
        method: "PUT".into(),
        route: "/v1/streams/{name}".into(),
        subject: Some("cam".into()),
        status: 201,
    };
    Store::open(dir.path(), LIMITS).unwrap().store.write(&[Row::Audit(entry.clone())]).unwrap();
    let config = HistoryConfig { dir: dir.path().to_owned(), ..HistoryConfig::default() };
    let history = History::open(config, None, &SystemClock::new());
    assert_eq!(history.audits(10).unwrap(), [entry]);
}

/// Starts the service; gives its address once it is ready.
fn run(scene: &Scene) -> (Process, String) {
    let process = Process::start(scene.command(&["run", "--log", "info"]));
    let address = process.http_address();
    (process, address)
}

fn get(address: &str, path: &str) -> Value {
    let output =
        Command::new("curl").args(["--silent", "--max-time", "60"]).arg(format!("http://{address}{path}")).output();
    serde_json::from_slice(&output.unwrap().stdout).unwrap_or_default()
}

#[test]
fn what_is_said_is_found_at_its_time_also_after_a_restart() {
    let scene = Scene::new();
    let config = format!(
        "[streams.speech]\nurl = '{SPEECH}'\n[streams.square]\nurl = '{CLIP}'\nprofile = 'eyes'\n\
         [profiles.default]\ndetect = 'none'\ntranscribe = 'whisper-tiny.en'\n\
         [profiles.eyes]\ndetect = 'ssdlite-mbv2'\nsampling = {{ fps = 2 }}\n\
         [http]\nlisten = '127.0.0.1:0'\n[sinks.file]\ntype = 'file'\npath = 'events.jsonl'\n"
    );
    scene.file("eyewitness.toml", config);
    let (process, address) = run(&scene);
    // All of it is heard; the sink knows what was said.
    let records = scene.wait_for_records("the end of the speech", |records| {
        records.iter().any(|r| r["stream"] == "speech" && r["state"] == "ended")
    });
    let is_final = |r: &&Value| r["type"] == "transcript" && r["final"] == true && r["text"] != "";
    let finals: Vec<&Value> = records.iter().filter(is_final).collect();
    let all = wait_for("what was said", || {
        let all = get(&address, "/v1/history/transcripts?stream=speech&limit=1000");
        all["transcripts"].as_array().filter(|found| !found.is_empty() && found.len() == finals.len()).cloned()
    });
    for (heard, record) in all.iter().rev().zip(&finals) {
        for key in ["id", "text", "session", "start_ms", "end_ms", "words"] {
            assert_eq!(heard[key], record[key], "{key}");
        }
        // The record is dated where its segment begins, which is before the first word.
        let ms = |value: &Value| value["captured_at"].as_str().unwrap().parse::<Timestamp>().unwrap().as_millisecond();
        let later = record["start_ms"].as_i64().unwrap() - record["pts_ms"].as_i64().unwrap();
        assert_eq!(ms(heard) - ms(record), later);
    }
    // A word is found, at the time at which it is spoken: within the first three seconds.
    let search = |address: &str| get(address, "/v1/history/transcripts?q=%22fellow+americans%22");
    let found = search(&address);
    let found = &found["transcripts"][0];
    let words = found["words"].as_array().unwrap();
    let fellow = words.iter().find(|word| word["text"].as_str().unwrap().to_lowercase() == "fellow").unwrap();
    let start_ms = fellow["start_ms"].as_u64().unwrap();
    assert!((500..3000).contains(&start_ms), "{fellow}");
    let hits = found["snippet"].as_array().unwrap().iter().filter(|piece| piece["hit"] == true).count();
    assert!(hits > 0, "{found}");
    // How the other stream fares is sampled.
    let series = wait_for("samples", || {
        let series = get(&address, "/v1/history/series?stream=square");
        series["objects"]["person"].is_object().then_some(series)
    });
    let any = |list: &Value| list.as_array().unwrap().iter().any(|n| n.as_f64().is_some_and(|n| n > 0.0));
    assert!(any(&series["fps"]) && any(&series["drops"]["sampling"]), "{series}");
    assert!(any(&series["objects"]["person"]["most"]) && any(&series["objects"]["person"]["mean"]), "{series}");
    assert_eq!(series["states"][0]["state"], "playing", "{series}");
    let (code, output) = process.terminate();
    assert_eq!(code, Some(0), "{output}");

    let config = "[http]\nlisten = '127.0.0.1:0'\n[sinks.file]\ntype = 'file'\npath = 'more.jsonl'\n";
    scene.file("eyewitness.toml", config);
    let (_process, address) = run(&scene);
    assert_eq!(search(&address)["transcripts"][0]["id"], found["id"]);
    let series = get(&address, "/v1/history/series?stream=square");
    let is_over = |change: &Value| change["state"] == "stopped" || change["state"] == "ended";
    assert!(series["states"].as_array().unwrap().iter().any(is_over), "{series}");
}

#[test]
fn a_moment_is_seen_and_heard_again() {
    let scene = Scene::new();
    let camera = CameraProcess::start(&scene, &[], None);
    let config = format!(
        "[streams.square]\nurl = '{}'\n[profiles.default]\ndetect = 'none'\ntranscribe = 'whisper-tiny.en'\n\
         [http]\nlisten = '127.0.0.1:0'\n[history]\ndir = 'kept'\nclips_bytes = 4000000\n",
        camera.url(None)
    );
    scene.file("eyewitness.toml", config);
    let (process, address) = run(&scene);
    let all = |address: &str| {
        let found = get(address, "/v1/history/transcripts?limit=1000");
        found["transcripts"].as_array().cloned().unwrap_or_default()
    };
    // A stretch with some words, from the middle of the session: it does not begin before the media do.
    let is_good = |heard: &Value| {
        let n_words = heard["words"].as_array().map_or(0, Vec::len);
        heard["clip"].is_object() && n_words >= 4 && heard["start_ms"].as_u64() > Some(4000)
    };
    let heard = wait_for("a clip", || all(&address).into_iter().find(is_good));
    let begin = heard["clip"]["from_ms"].as_u64().unwrap();
    let (start, end) = (heard["start_ms"].as_u64().unwrap(), heard["end_ms"].as_u64().unwrap());
    // At the keyframe before two seconds before the first word.
    assert!(begin + 1900 <= start && start <= begin + 12_000, "{heard}");
    let fetch = |name: &str, args: &[&str]| {
        let path = scene.path(name);
        let url = format!("http://{address}{}", heard["clip"]["path"].as_str().unwrap());
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-m", "60", "-w", "%{http_code} %{content_type}", "-o"]).arg(&path).args(args).arg(url);
        (String::from_utf8(curl.output().unwrap().stdout).unwrap(), std::fs::read(&path).unwrap())
    };
    let (told, clip) = fetch("clip.mp4", &[]);
    assert_eq!(told, "200 video/mp4");
    let (told, part) = fetch("part.mp4", &["-r", "100-299"]);
    assert_eq!((told.as_str(), part.as_slice()), ("206 video/mp4", &clip[100..300]));
    // It holds all of it: pictures to the end, and the same words.
    let probe = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", "format=duration:stream=codec_type", "-of", "json"])
        .arg(scene.path("clip.mp4"))
        .output();
    let probed: Value = serde_json::from_slice(&probe.unwrap().stdout).unwrap();
    let kinds: Vec<&str> =
        probed["streams"].as_array().unwrap().iter().map(|s| s["codec_type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["video", "audio"]);
    let secs: f64 = probed["format"]["duration"].as_str().unwrap().parse().unwrap();
    assert!(secs * 1000.0 >= (end - begin) as f64, "{secs} s of {heard}");
    scene
        .run(&["replay", "clip.mp4", "--detect", "none", "--transcribe", "whisper-tiny.en", "--out", "again.jsonl"])
        .expect(0);
    let again: String = of_type(&scene.records("again.jsonl"), "transcript")
        .iter()
        .filter(|record| record["final"] == true)
        .map(|record| record["text"].as_str().unwrap().to_lowercase() + " ")
        .collect();
    let words = heard["words"].as_array().unwrap();
    let n_again = words.iter().filter(|word| again.contains(&word["text"].as_str().unwrap().to_lowercase())).count();
    assert!(n_again * 10 >= words.len() * 8, "{heard}, and again: {again}");
    // What is not there is said; the oldest go; the rest is found after a restart, and nothing half done lies about.
    let nothing = get(&address, "/v1/history/transcripts/nobody-0/clip.mp4");
    assert!(nothing["error"].as_str().is_some_and(|why| why.contains("history.clips_bytes")), "{nothing}");
    wait_for("the first to be let go of", || {
        (all(&address).iter().filter(|h| h["clip"].is_null()).count() > 2 && all(&address).iter().any(is_good))
            .then_some(())
    });
    let (code, output) = process.terminate();
    assert_eq!(code, Some(0), "{output}");
    let kept: Vec<_> = std::fs::read_dir(scene.path("kept/clips")).unwrap().map(|entry| entry.unwrap()).collect();
    assert!(kept.iter().all(|entry| entry.path().extension().is_some_and(|e| e == "mp4")), "{kept:?}");
    assert!(kept.iter().map(|entry| entry.metadata().unwrap().len()).sum::<u64>() <= 4_000_000);
    scene.file(
        "eyewitness.toml",
        "[http]\nlisten = '127.0.0.1:0'\n[history]\ndir = 'kept'\n[sinks.file]\ntype = 'file'\npath = 'x'\n",
    );
    let (_process, address) = run(&scene);
    assert_eq!(all(&address).iter().filter(|heard| heard["clip"].is_object()).count(), kept.len());
}
