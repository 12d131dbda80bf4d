//! Facts, and what is found in them.

use sinks::{SinkReading, delivery::DeliveryReading};

use super::{
    super::{
        disks::Room,
        facts::{Model, Past, models},
    },
    *,
};
use crate::control::{desk::WorkerListed, report::Announcement};

/// What is found a minute after `before`, but for what is well: check, level, subject, and the beginning of its words.
fn found(before: &Facts, facts: &Facts) -> Vec<(&'static str, Level, String, String)> {
    let mut past = Past::default();
    past.note(before, Duration::from_secs(100));
    let all = all(facts, &past.before(Duration::from_secs(160)));
    for found in &all {
        assert_eq!(found.advice.is_some(), found.level > Level::Ok, "{found:?}");
    }
    let not_well = all.into_iter().filter(|found| found.level > Level::Ok);
    not_well.map(|f| (f.id, f.level, f.subject.unwrap_or_default(), f.says)).collect()
}

#[track_caller]
fn check(before: &Facts, facts: &Facts, expected: &[(&str, Level, &str, &str)]) {
    let got = found(before, facts);
    let fits = got.len() == expected.len()
        && got.iter().zip(expected).all(|(got, expected)| {
            (got.0, got.1, &*got.2) == (expected.0, expected.1, expected.2) && got.3.contains(expected.3)
        });
    assert!(fits, "{got:?}\nnot {expected:?}");
}

fn stream(name: &str, state: &str) -> StreamFact {
    StreamFact { name: name.into(), state: state.into(), detail: None, report_age_ms: None }
}

/// A metric: name, labels, value.
type Measured<'a> = (&'static str, &'a [(&'a str, &'a str)], f64);

/// With these streams, and these samples of counters and gauges.
fn facts(streams: Vec<StreamFact>, samples: &[Measured<'_>]) -> Facts {
    let mut facts = Facts { streams, has_evidence: true, now_ms: 1_000_000, ..Facts::default() };
    for (name, labels, value) in samples {
        match name.ends_with("_total") {
            true => facts.scrape.counter(name, "", labels, *value),
            false => facts.scrape.gauge(name, "", labels, *value),
        }
    }
    facts
}

#[test]
fn nothing_wrong_says_so_of_every_check() {
    let all = all(&facts(vec![stream("a", "playing")], &[]), &Before::default());
    assert_eq!(all.len(), CHECKS.len());
    assert!(all.iter().all(|found| found.level == Level::Ok && found.advice.is_none()), "{all:?}");
    let mut ids: Vec<_> = CHECKS.iter().map(|check| check.id).collect();
    ids.dedup();
    assert_eq!(ids.len(), CHECKS.len());
    // Nothing kept of alerts is worth a word, and nothing to worry about.
    let off = super::all(&Facts::default(), &Before::default());
    assert!(off.iter().any(|f| f.id == "evidence_off" && f.says.contains("nothing is kept") && f.level == Level::Ok));
}

#[test]
fn streams() {
    let with = |state: &str| facts(vec![stream("a", state), stream("b", "playing")], &[]);
    check(&with("failed"), &with("failed"), &[("stream_failed", Level::Bad, "a", "given up")]);
    check(&with("playing"), &with("interrupted"), &[("stream_interrupted", Level::Warn, "a", "lost its source")]);
    // Only what has lasted.
    check(&with("playing"), &with("connecting"), &[]);
    check(&with("starting"), &with("connecting"), &[("stream_not_begun", Level::Warn, "a", "not begun")]);
    check(&with("playing"), &with("waiting"), &[]);
    check(&with("waiting"), &with("waiting"), &[("stream_waiting", Level::Bad, "a", "no worker")]);
    let mut told = with("failed");
    told.streams[0].detail = Some("404 Not Found".into());
    check(&told, &told, &[("stream_failed", Level::Bad, "a", "given up: 404 Not Found")]);
    let mut old = with("playing");
    old.streams[1].report_age_ms = Some(31_000);
    check(&old, &old, &[("stream_unheard_of", Level::Warn, "b", "31 s")]);
    old.streams[1].report_age_ms = Some(30_000);
    check(&old, &old, &[]);
}

#[test]
fn pictures_and_sound() {
    const DECODED: &str = "eyewitness_frames_decoded_total";
    const INFERRED: &str = "eyewitness_frames_inferred_total";
    const DROPPED: &str = "eyewitness_frames_dropped_total";
    const HEARD: &str = "eyewitness_audio_seconds_total";
    let a: &[(&str, &str)] = &[("stream", "a")];
    let dropped = |reason| [("stream", "a"), ("reason", reason)];
    let playing = |samples: &[Measured<'_>]| facts(vec![stream("a", "playing")], samples);
    let before = playing(&[(DECODED, a, 900.0), (INFERRED, a, 500.0), (HEARD, a, 60.0)]);
    check(&before, &playing(&[(DECODED, a, 960.0), (INFERRED, a, 530.0), (HEARD, a, 60.0)]), &[]);
    check(&before, &playing(&[(DECODED, a, 900.0), (HEARD, a, 61.0)]), &[]);
    let stalled = playing(&[(DECODED, a, 900.0), (INFERRED, a, 500.0), (HEARD, a, 60.0)]);
    check(&before, &stalled, &[("stream_stalled", Level::Bad, "a", "for 60 s")]);
    // One that has just begun is not stalled.
    check(&facts(vec![stream("a", "connecting")], &[(DECODED, a, 900.0)]), &stalled, &[]);
    let many = |reason: &'static str, n: f64| {
        let labels = dropped(reason);
        playing(&[(DECODED, a, 1900.0), (INFERRED, a, 600.0), (HEARD, a, 70.0), (DROPPED, &labels, n)])
    };
    check(&before, &many("sampling", 800.0), &[]);
    check(&before, &many("superseded", 99.0), &[]);
    check(&before, &many("superseded", 101.0), &[("frames_superseded", Level::Warn, "a", "101 of 201 pictures")]);
    check(&before, &many("inference_failed", 1.0), &[("frames_broken", Level::Warn, "a", "1 pictures")]);
    check(&before, &many("conversion", 2.0), &[("frames_broken", Level::Warn, "a", "conversion")]);
    // Long ago is over.
    check(&many("inference_failed", 7.0), &many("inference_failed", 7.0), &[("stream_stalled", Level::Bad, "a", "")]);

    let lag = |secs| facts(Vec::new(), &[("eyewitness_speech_lag_seconds", a, secs)]);
    check(&lag(0.0), &lag(5.0), &[]);
    check(&lag(0.0), &lag(6.0), &[("speech_lag", Level::Warn, "a", "6 s behind")]);
    check(&lag(0.0), &lag(31.0), &[("speech_lag", Level::Bad, "a", "31 s behind")]);
    let gaps = |n| facts(Vec::new(), &[("eyewitness_speech_gaps_total", &dropped("speech_overload"), n)]);
    check(&gaps(3.0), &gaps(3.0), &[]);
    check(&gaps(3.0), &gaps(5.0), &[("speech_gaps", Level::Warn, "a", "2 stretches")]);
}

#[test]
fn queues_and_sinks() {
    let queue = |n, capacity, dropped| {
        let labels: &[(&str, &str)] = &[("queue", "sink:k")];
        facts(
            Vec::new(),
            &[
                ("eyewitness_queue_items", labels, n),
                ("eyewitness_queue_capacity", labels, capacity),
                ("eyewitness_queue_dropped_total", labels, dropped),
            ],
        )
    };
    check(&queue(0.0, 10.0, 0.0), &queue(7.0, 10.0, 0.0), &[]);
    check(&queue(0.0, 10.0, 0.0), &queue(8.0, 10.0, 0.0), &[("queue_full", Level::Warn, "sink:k", "8 of 10")]);
    check(&queue(0.0, 1.0, 0.0), &queue(1.0, 1.0, 0.0), &[]);
    check(&queue(0.0, 10.0, 4.0), &queue(0.0, 10.0, 9.0), &[("queue_dropped", Level::Warn, "sink:k", "5 were")]);

    let sink = |delivery: DeliveryReading| Facts {
        sinks: vec![SinkReading { name: "k".into(), n_accepted: 1, delivery: Some(delivery) }],
        ..facts(Vec::new(), &[])
    };
    let calm = DeliveryReading { max_waiting_bytes: 100, ..DeliveryReading::default() };
    let none = sink(calm.clone());
    check(&none, &none, &[]);
    let trouble =
        DeliveryReading { trouble: Some("broker host:9092 is away".into()), oldest_ms: Some(1), ..calm.clone() };
    check(&none, &sink(trouble), &[("sink_trouble", Level::Bad, "k", "host:9092 is away")]);
    let late = DeliveryReading { oldest_ms: Some(1_000_000 - 301_000), ..calm.clone() };
    check(&none, &sink(late), &[("sink_late", Level::Warn, "k", "301 s")]);
    let filling = DeliveryReading { n_waiting_bytes: 80, n_waiting: 3, ..calm.clone() };
    check(&none, &sink(filling), &[("spool_full", Level::Warn, "k", "80 % of the spool is used by 3")]);
    let full = DeliveryReading { n_waiting_bytes: 99, full: true, ..calm };
    check(&none, &sink(full), &[("spool_full", Level::Bad, "k", "99 %")]);
    let counted = |name: &'static str, n| facts(Vec::new(), &[(name, &[("sink", "k")], n)]);
    for (name, id, level) in [
        ("eyewitness_sink_failed_total", "sink_refused", Level::Warn),
        ("eyewitness_sink_dropped_total", "sink_dropped", Level::Bad),
    ] {
        check(&counted(name, 2.0), &counted(name, 2.0), &[]);
        check(&counted(name, 2.0), &counted(name, 3.0), &[(id, level, "k", "1 ")]);
    }
}

#[test]
fn the_service_and_its_workers() {
    let calm = || facts(Vec::new(), &[]);
    let waiting = Facts { not_ready: Some("models are being loaded".into()), ..calm() };
    check(&calm(), &waiting, &[("ready", Level::Bad, "", "being loaded")]);
    let store = Facts { trouble: Some("the broker is away".into()), ..calm() };
    check(&calm(), &store, &[("store", Level::Bad, "", "broker")]);
    let fence = |closed| facts(Vec::new(), &[("eyewitness_fence_closed", &[], closed)]);
    check(&fence(0.0), &fence(0.0), &[]);
    check(&fence(0.0), &fence(1.0), &[("fence", Level::Bad, "", "left out")]);
    let clients =
        |n| facts(Vec::new(), &[("eyewitness_http_clients", &[], n), ("eyewitness_http_max_clients", &[], 10.0)]);
    check(&clients(7.0), &clients(7.0), &[]);
    check(&clients(7.0), &clients(8.0), &[("clients", Level::Warn, "", "8 of 10")]);
    let evidence = |n| facts(Vec::new(), &[("eyewitness_evidence_failed_total", &[("what", "clip")], n)]);
    check(&evidence(1.0), &evidence(2.0), &[("evidence_failed", Level::Bad, "clip", "1 could not")]);
    let missing = Model { name: "yolo".into(), profiles: vec!["a".into()], missing: Some("no such file".into()) };
    let there = Model { missing: None, ..missing.clone() };
    check(&calm(), &Facts { models: vec![there], ..calm() }, &[]);
    check(
        &calm(),
        &Facts { models: vec![missing], ..calm() },
        &[("model_missing", Level::Bad, "yolo", "no such file")],
    );

    let worker = |is_this, age_ms: i64, version: &str| WorkerListed {
        announcement: Announcement { version: version.into(), ..Announcement::default() },
        at_ms: 1_000_000 - age_ms,
        is_this,
    };
    let workers = |other| Facts {
        workers: vec![("w-1".into(), worker(true, 90_000, "1.0.0")), ("w-2".into(), other)],
        ..facts(Vec::new(), &[])
    };
    check(&calm(), &workers(worker(false, 2_000, "1.0.0")), &[]);
    check(&calm(), &workers(worker(false, 31_000, "1.0.0")), &[("worker_silent", Level::Warn, "w-2", "31 s")]);
    check(&calm(), &workers(worker(false, 0, "0.9.0")), &[("worker_versions", Level::Warn, "w-2", "version 0.9.0")]);
}

#[test]
fn what_is_worst_comes_first_and_names_are_read_back() {
    let mut mixed = facts(vec![stream("a", "interrupted"), stream("b", "failed")], &[]);
    mixed.trouble = Some("away".into());
    let levels: Vec<Level> = all(&mixed, &Before::default()).iter().map(|found| found.level).collect();
    assert!(levels.is_sorted_by(|a, b| a >= b) && levels[..3] == [Level::Bad, Level::Bad, Level::Warn], "{levels:?}");
    assert_eq!(label(r#"stream="a\"b\\c\n",reason="r""#, "stream"), "a\"b\\c\n");
    assert_eq!(label(r#"stream="a",reason="r""#, "reason"), "r");
    assert_eq!(label("", "reason"), "");
}

#[test]
fn the_last_minute_is_the_last_minute() {
    let counted = |n| facts(Vec::new(), &[("eyewitness_sink_failed_total", &[("sink", "k")], n)]);
    let mut past = Past::default();
    let growth = |past: &Past, at: u64, n| {
        let before = past.before(Duration::from_secs(at));
        before.grown(&counted(n), "eyewitness_sink_failed_total")[0].1
    };
    // Before the first moment everything was at zero.
    assert_eq!(growth(&past, 1, 5.0), 5.0);
    for at in 0..30 {
        past.note(&counted(f64::from(at)), Duration::from_secs(u64::from(at as u32) * 10));
    }
    assert_eq!(growth(&past, 290, 29.0), 6.0);
    assert_eq!(past.before(Duration::from_secs(290)).age, Duration::from_secs(60));
}

#[test]
fn models_of_profiles() {
    let profile = |name: &str, detect: &str| crate::http::control::ProfileShown {
        name: name.into(),
        detect: Some(detect.into()),
        transcribe: None,
        select: serde_json::Value::Null,
    };
    let found = models(&[profile("a", "no-such-model"), profile("b", "no-such-model"), profile("c", "none")]);
    assert_eq!(found.len(), 1);
    assert_eq!((&*found[0].name, &found[0].profiles), ("no-such-model", &vec!["a".to_owned(), "b".to_owned()]));
    assert!(found[0].missing.as_ref().is_some_and(|cause| cause.contains("no-such-model")));
}

#[test]
fn the_history_and_the_disks() {
    let history = |troubled: f64, lost: f64, clips: f64| {
        facts(
            Vec::new(),
            &[
                ("eyewitness_history_troubled", &[], troubled),
                ("eyewitness_history_dropped_total", &[], lost),
                ("eyewitness_history_clips_failed_total", &[], clips),
            ],
        )
    };
    check(&history(0.0, 3.0, 5.0), &history(0.0, 3.0, 5.0), &[]);
    check(
        &history(0.0, 3.0, 5.0),
        &history(0.0, 3.0, 7.0),
        &[("history_failed", Level::Warn, "", "2 clips of what was said")],
    );
    let bad =
        &[("history_failed", Level::Bad, "", "nothing can be kept"), ("history_failed", Level::Warn, "", "4 entries")];
    check(&history(0.0, 3.0, 5.0), &history(1.0, 7.0, 5.0), bad);

    let room = |of: &str, n_free: u64| Room { of: of.into(), path: format!("/{of}").into(), n_free, n_bytes: 1 << 40 };
    let disks = |rooms: Vec<Room>| Facts { rooms, ..facts(Vec::new(), &[]) };
    let fine = disks(vec![room("history", 1_000_000_000)]);
    check(&fine, &fine, &[]);
    let full =
        disks(vec![room("history", 99_999_999), room("alerts", 99_999_999), room("spool of kafka", 999_999_999)]);
    let expected = [
        ("disk_full", Level::Bad, "history (/history), alerts (/alerts)", "99 MB of 1099511 MB are free"),
        ("disk_full", Level::Warn, "spool of kafka (/spool of kafka)", "999 MB"),
    ];
    check(&fine, &full, &expected);
}
