//! The design's invariants, one test a row: 1 accounts, 3 determinism (in `replay`), 5 isolation, 6 secrets, 7 no open port,
//! 8 configuration refused whole.

use std::{collections::BTreeMap, fs, time::Duration};

use base::{ledger::DropReason, media::MediaConsumer as _, time::SystemClock};
use eyewitness::{
    config,
    topology::{House, ModelSettings, Running},
};

use sinks::file::FileConfig;

use crate::harness::{CLIP, Process, Scene, assert_valid, of_type, wait_for};

#[test]
fn row_1_decoded_is_inferred_plus_dropped_by_reason() {
    let scene = Scene::new();
    let events = scene.path("events.jsonl");
    // Far more frames than the model can look at, and two streams that share it.
    let text = "[profiles.default]\nsampling = 'all'\n\
        [streams.flood]\nurl = 'test://?width=320&height=240&fps=200'\n\
        [streams.steady]\nurl = 'test://?width=320&height=240&fps=10'\nprofile = 'sampled'\n\
        [profiles.sampled]\nsampling = { every_nth = 2 }\n";
    let checked = config::parse("test.toml", text, &|_| None).map_err(|p| p.to_string()).unwrap();
    ingest::init().unwrap();
    inference::runtime::init().unwrap();
    let running = Running::Live;
    let sinks = config::default_sinks(FileConfig::new(&events))
        .into_iter()
        .filter(|(name, _)| name == "file")
        .collect::<BTreeMap<_, _>>();
    let models = ModelSettings { engine: checked.inference, speech: checked.speech };
    let mut house = House::new(models, SystemClock::new());
    house.connect(&sinks, &running, None, Duration::from_secs(10)).unwrap();
    for stream in checked.streams {
        house.attach(stream, &running).unwrap();
    }
    wait_for("50 records of each stream", || {
        house.analyses().iter().all(|a| a.findings.counts().n_records >= 50).then_some(())
    });
    let (analyses, outcomes) = house.close();
    let mut n_records = 0;
    for analysis in &analyses {
        let reading = analysis.ledger().read();
        assert_eq!(reading.n_in_flight(), 0, "{reading:?}");
        assert_eq!(reading.n_inferred, analysis.findings.counts().n_records, "{reading:?}");
        n_records += reading.n_inferred;
        match analysis.info().name.as_str() {
            "flood" => assert!(reading.dropped(DropReason::Superseded) > 0, "{reading:?}"),
            _ => assert!(reading.dropped(DropReason::Sampling) + 2 >= reading.n_inferred, "{reading:?}"),
        }
    }
    let report = &outcomes[0].report;
    assert_eq!((report.n_failed, outcomes[0].n_dropped), (0, 0));
    let records = scene.records("events.jsonl");
    assert_valid(&records);
    assert_eq!(of_type(&records, "detections").len() as u64, n_records);
}

#[test]
fn row_5_one_streams_trouble_is_its_own() {
    let scene = Scene::new();
    scene.file("text.mp4", "no film at all\n".repeat(100));
    let clip = fs::read(CLIP).unwrap();
    // Broken in the middle: bytes of the pictures replaced by noise.
    let mut broken = clip.clone();
    let (from, to) = (clip.len() / 3, clip.len() / 2);
    broken[from..to].iter_mut().enumerate().for_each(|(i, b)| *b = (i * 31 % 251) as u8);
    scene.file("broken.mp4", broken);
    let service = scene.service(&format!(
        "[streams.text]\nurl = \"text.mp4\"\n[streams.broken]\nurl = \"broken.mp4\"\n\
         [streams.dead]\nurl = \"rtsp://127.0.0.1:9/live\"\n[streams.good]\nurl = \"{CLIP}\"\n\
         [profiles.default]\nsampling = {{ every_nth = 10 }}\n"
    ));
    let records = scene.wait_for_records("the good stream's end", |r| {
        r.iter().any(|r| r["stream"] == "good" && r["state"] == "ended")
            && r.iter().any(|r| r["stream"] == "text" && r["state"] == "failed")
            && r.iter().any(|r| r["stream"] == "dead" && r["state"] == "interrupted")
    });
    let good = records.iter().filter(|r| r["stream"] == "good" && r["type"] == "detections").count();
    let lost = 40 - good;
    // A file played live yields to the clock: frames may be superseded, and then the ledger says so; none may vanish.
    let (code, output) = service.terminate();
    assert!(good > 0, "{output}");
    if lost > 0 {
        assert!(output.contains("superseded"), "{lost} frames vanished:\n{output}");
    }
    assert_eq!(code, Some(1), "two streams failed: {output}");
}

#[test]
fn row_6_no_secret_is_printed_even_by_the_debug_log() {
    let scene = Scene::new();
    let secrets = ["hunter2pass", "tok3nvalue", "passphrase99"];
    scene.file(
        "eyewitness.toml",
        "[streams.a]\nurl = 'rtsp://u:hunter2pass@127.0.0.1:9/x'\n\
         [streams.b]\nurl = 'http://127.0.0.1:9/live.m3u8?token=tok3nvalue'\n\
         [streams.c]\nurl = 'srt://127.0.0.1:9?mode=caller&passphrase=passphrase99'\n\
         [sinks.file]\ntype = 'file'\npath = 'events.jsonl'\n",
    );
    let mut command = scene.command(&["run", "--log", "trace,gstreamer=trace,ort=trace"]);
    command.env("GST_DEBUG", "4");
    let service = Process::start(command);
    scene.wait_for_records("three refusals", |r| {
        ["a", "b", "c"].iter().all(|name| r.iter().any(|r| r["stream"] == *name && r["state"] == "interrupted"))
    });
    let (_, output) = service.terminate();
    let written = fs::read_to_string(scene.path("events.jsonl")).unwrap();
    for secret in secrets {
        for (place, text) in [("output", &output), ("events", &written)] {
            let line = text.lines().find(|l| l.contains(secret));
            assert!(line.is_none(), "{secret} in {place}: {}", line.unwrap_or_default());
        }
    }
}

#[test]
fn row_7_no_port_is_open_by_default() {
    let scene = Scene::new();
    let service = scene.service("[streams.a]\nurl = 'test://'\n");
    scene.wait_for_records("a detection record", |r| !of_type(r, "detections").is_empty());
    let own: Vec<String> = fs::read_dir(format!("/proc/{}/fd", service.pid()))
        .unwrap()
        .filter_map(|e| fs::read_link(e.unwrap().path()).ok())
        .filter_map(|l| l.to_str()?.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned))
        .collect();
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let sockets = fs::read_to_string(format!("/proc/{}/net/{table}", service.pid())).unwrap_or_default();
        for line in sockets.lines().skip(1) {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let listens = table.starts_with("udp") || columns[3] == "0A";
            assert!(!(listens && own.contains(&columns[9].to_owned())), "open {table} socket: {line}");
        }
    }
    assert_eq!(service.terminate().0, Some(0));
}

#[test]
fn row_8_a_bad_configuration_starts_nothing() {
    let scene = Scene::new();
    scene.file(
        "eyewitness.toml",
        "[streams.a]\nurl = 'test://'\nprofile = 'peopel'\n[profiles.people]\nsampling = 'all'\n\
         [sinks.file]\ntype = 'file'\npath = 'out/events.jsonl'\n",
    );
    scene.run(&["run"]).expect(2).complains(&["eyewitness.toml:3", "peopel", "did you mean `people`"]);
    assert!(!scene.path("out").exists());
    // What only the model can know is refused before the first stream starts, too.
    scene.file(
        "eyewitness.toml",
        "[streams.a]\nurl = 'test://'\n[profiles.default]\nclasses = ['persn']\n\
         [sinks.file]\ntype = 'file'\npath = 'events.jsonl'\n",
    );
    scene.run(&["run"]).expect(2).complains(&["eyewitness.toml:3", "persn", "person"]);
    assert!(scene.records("events.jsonl").is_empty());
}

#[test]
fn sigterm_at_any_moment_ends_in_order() {
    for wait_ms in [0, 300, 1000, 2500] {
        let scene = Scene::new();
        let service = scene.service("[streams.a]\nurl = 'test://?fps=20'\n");
        // Before the signal handler stands, SIGTERM simply ends a process that has done nothing yet.
        std::thread::sleep(Duration::from_millis(wait_ms));
        let (code, output) = service.terminate();
        let records = scene.records("events.jsonl");
        assert_valid(&records);
        let text = fs::read_to_string(scene.path("events.jsonl")).unwrap_or_default();
        assert!(text.is_empty() || text.ends_with('\n'), "a torn last line");
        match code {
            // Told to end before the stream was started, it has nothing to tell.
            Some(0) => assert!(records.last().is_none_or(|last| last["state"] == "stopped"), "{output}"),
            other => assert!(other.is_none() && records.is_empty(), "{other:?}: {output}"),
        }
    }
}
