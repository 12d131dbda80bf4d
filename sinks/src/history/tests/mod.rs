//! The history over a real file: what is found, what is let go of, and what becomes of a file that is broken.

use std::{path::Path, sync::Arc};

use base::{
    event::{Body, Event, ModelId, StreamState, Transcript, Word},
    media::{SessionId, StreamInfo, StreamName},
    time::{CaptureTime, ClockQuality, Pts, Timestamp},
};
use tempfile::TempDir;

use super::*;
use crate::samples;

mod damage;
mod exports;
mod limits;
mod searches;

/// Half past nine.
const NOW_MS: i64 = 1_790_000_000_000;
const DAY: Duration = Duration::from_secs(24 * 3600);
const LIMITS: Limits = Limits { keep: Duration::from_secs(7 * 24 * 3600), max_bytes: 1 << 30 };

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(NOW_MS + ms).expect("a date")
}

/// The final words of segment `number` of a stream, said at second `number` of its only session, which began at [`NOW_MS`].
fn said(stream: &str, number: u64, text: &str) -> Event {
    said_in("one", stream, number, text)
}

fn said_in(session: &str, stream: &str, number: u64, text: &str) -> Event {
    let info =
        Arc::new(StreamInfo { name: StreamName::new(stream).expect("name"), tags: Default::default(), epoch: None });
    let session = SessionId::derived([stream.as_bytes(), session.as_bytes()]);
    let ms = |n: usize| Pts::from_millis(number * 1000 + n as u64 * 200);
    let words: Vec<Word> = text
        .split(' ')
        .enumerate()
        .map(|(n, word)| Word { text: word.into(), start: ms(n), end: ms(n + 1), confidence: 0.9, stable: true })
        .collect();
    let end = ms(words.len());
    let body = Body::Transcript(Transcript {
        segment: format!("{session}-segment-{number}"),
        revision: 0,
        is_final: true,
        start: ms(0),
        end,
        text: text.into(),
        words,
        language: Some("en".into()),
        translated: false,
        speaker: None,
        channel: None,
        model: Arc::new(ModelId { name: "whisper-tiny.en".into(), version: "0".repeat(8) }),
    });
    // Told at its end, and dated there.
    let captured = Some(CaptureTime { at: at(end.millis() as i64), quality: ClockQuality::Arrival });
    Event::new(&info, &session, number, end, captured, body)
}

fn row(event: &Event, told_ms: i64) -> Row {
    Row::of(event, at(told_ms)).expect("it is kept")
}

fn open(directory: &Path) -> Store {
    let Opened { store, put_aside } = Store::open(directory, LIMITS).expect("opened");
    assert_eq!(put_aside, None);
    store
}

/// A history with these rows.
fn with(rows: &[Row]) -> (TempDir, Store) {
    let dir = tempfile::tempdir().expect("folder");
    let mut store = open(dir.path());
    store.write(rows).expect("written");
    (dir, store)
}

fn texts(page: &Page) -> Vec<&str> {
    page.found.iter().map(|heard| heard.text.as_str()).collect()
}

#[test]
fn what_is_kept_of_events() {
    let stream = samples::stream("cam");
    let seen = samples::detections(&stream, 1, &[("person", None)]);
    let caption = samples::caption(&stream, 0, 0..1000, &["x"], true);
    let partial = samples::transcript(&stream, 0, "and so", false);
    let taken_back = samples::transcript(&stream, 1, "", true);
    for event in [&seen, &caption, &partial, &taken_back] {
        assert_eq!(Row::of(event, at(0)), None, "{event:?}");
    }
    let Row::Transcript(row) = row(&said("cam", 3, "and so\u{1}"), 5000) else { panic!("no transcript") };
    assert_eq!(
        (row.start_ms, row.end_ms, row.captured_ms, row.told_ms),
        (3000, 3400, Some(NOW_MS + 3000), NOW_MS + 5000)
    );
    assert_eq!((row.text.as_str(), row.at_ms()), ("and so ", NOW_MS + 3000));
    let Some(Row::Gap(gap)) = Row::of(&samples::gap(&stream, 0), at(9000)) else { panic!("no gap") };
    assert_eq!((gap.from_ms - NOW_MS, gap.to_ms - NOW_MS, gap.reason), (1500, 9000, "source_lost"));
}

#[test]
fn a_restart_keeps_everything_and_nothing_twice() {
    let stream = samples::stream("cam");
    let audit = |n: i64, subject: Option<&str>| {
        Row::Audit(Audit {
            at: at(n),
            user: "ann".into(),
            role: "operator".into(),
            address: "192.0.2.1".into(),
            method: "PUT".into(),
            route: "/v1/streams/{name}".into(),
            subject: subject.map(str::to_owned),
            status: 201,
        })
    };
    let sample = Row::Sample(Sample { stream: "cam".into(), at_ms: NOW_MS, fps: Some(5.0), ..Sample::default() });
    let rows = [
        row(&said("cam", 1, "one"), 1000),
        row(&said("cam", 2, "two"), 2000),
        row(&samples::status(&stream, 0, StreamState::Interrupted, "x"), 3000),
        row(&samples::gap(&stream, 0), 4000),
        sample,
        audit(5000, Some("cam")),
        audit(6000, None),
    ];
    let (dir, mut store) = with(&rows);
    let counts = |store: &Store| Table::ALL.map(|table| store.n_rows(table));
    assert_eq!(counts(&store), [2, 1, 1, 1, 2]);
    // A source that is resumed tells some records once more.
    store.write(&rows[..5]).expect("written");
    assert_eq!(counts(&store), [2, 1, 1, 1, 2]);
    assert!(store.n_bytes() > 0);
    assert!(matches!(Store::open(dir.path(), LIMITS), Err(HistoryError::InUse { .. })));
    drop(store);
    let store = open(dir.path());
    assert_eq!(counts(&store), [2, 1, 1, 1, 2]);
    let reader = Reader::open(dir.path()).expect("reader");
    let page = reader.transcripts(&Search { limit: 10, ..Search::default() }).expect("found");
    assert_eq!(texts(&page), ["two", "one"]);
    let audits = reader.audits(10).expect("audits");
    let kept = |row: &Row| matches!(row, Row::Audit(kept) if audits.contains(kept));
    assert!(rows[5..].iter().all(kept), "{audits:?}");
    assert_eq!((audits[0].subject.as_deref(), reader.audits(1).expect("audits").len()), (None, 1));
}

#[test]
fn a_stream_over_time() {
    let stream = samples::stream("cam");
    let sample =
        |at_s: i64, fps: Option<f64>, lag: Option<u64>, drops: &[(&str, u64)], objects: &[(&str, (u64, u64))]| {
            Row::Sample(Sample {
                stream: "cam".into(),
                at_ms: NOW_MS + at_s * 1000,
                fps,
                n_frames: fps.map_or(0, |fps| (fps * 10.0) as u64),
                speech_lag_ms: lag,
                drops: drops.iter().map(|(reason, n)| ((*reason).to_owned(), *n)).collect(),
                objects: objects.iter().map(|(class, n)| ((*class).to_owned(), *n)).collect(),
            })
        };
    let other = Row::Sample(Sample { stream: "hall".into(), at_ms: NOW_MS, fps: Some(99.0), ..Sample::default() });
    let rows = [
        sample(-10, Some(1.0), None, &[], &[("cat", (9, 9))]),
        sample(0, Some(4.0), Some(100), &[("superseded", 3)], &[("person", (2, 40))]),
        sample(10, Some(6.0), Some(300), &[("superseded", 1)], &[("person", (3, 60))]),
        sample(40, Some(0.0), None, &[("fenced", 2)], &[("dog", (1, 5))]),
        other,
        row(&samples::gap(&stream, 0), 35_000),
        row(&samples::status(&stream, 0, StreamState::Playing, "a"), -500_000),
        row(&samples::status(&stream, 1, StreamState::Interrupted, "b"), -400_000),
        row(&samples::status(&stream, 2, StreamState::Playing, "c"), 36_000),
        row(&samples::status(&stream, 3, StreamState::Stopped, "d"), 99_000),
    ];
    let (dir, _store) = with(&rows);
    let reader = Reader::open(dir.path()).expect("reader");
    let stretch = |from: i64, to: i64| Stretch {
        stream: "cam".into(),
        from_ms: NOW_MS + from * 1000,
        to_ms: NOW_MS + to * 1000,
        step_ms: 20_000,
    };
    let series = reader.series(&stretch(0, 50)).expect("series");
    assert_eq!(series.times, [0, 20, 40].map(|s| crate::wire::rfc3339(at(s * 1000))));
    assert_eq!(series.fps, [Some(5.0), None, Some(0.0)]);
    assert_eq!(series.speech_lag_ms, [Some(300), None, None]);
    let drops: Vec<_> = series.drops.iter().map(|(reason, n)| (reason.as_str(), n.as_slice())).collect();
    assert_eq!(drops, [("fenced", &[Some(0), None, Some(2)][..]), ("superseded", &[Some(4), None, Some(0)][..])]);
    let classes: Vec<&str> = series.objects.keys().map(String::as_str).collect();
    assert_eq!(classes, ["dog", "person"]);
    assert_eq!(series.objects["person"].most, [Some(3), None, Some(0)]);
    assert_eq!(series.objects["person"].mean, [Some(1.0), None, Some(0.0)]);
    let gaps: Vec<_> = series.gaps.iter().map(|gap| (gap.from.as_str(), gap.reason.as_str())).collect();
    assert_eq!(gaps, [(crate::wire::rfc3339(at(27_500)).as_str(), "source_lost")]);
    // The state that it was in at the begin is told, and none of those before.
    let states: Vec<_> = series.states.iter().map(|s| (s.state.as_str(), s.detail.as_deref())).collect();
    assert_eq!(states, [("interrupted", Some("b")), ("playing", Some("c"))]);
    let empty = reader.series(&Stretch { stream: "nobody".into(), ..stretch(0, 40) }).expect("series");
    assert_eq!((empty.fps, empty.drops.len(), empty.states.len()), (vec![None, None], 0, 0));
}
