//! Events for tests. Pure functions; only for tests, of this crate and of its integration tests.

#![allow(dead_code, reason = "each test harness uses its own part of it")]

use std::sync::Arc;

use base::{
    event::{
        Alert, AlertState, AlertTime, Answer, Body, BoxInImage, Caption, Detection, Detections, Event, Evidence, Gap,
        ModelId, Severity, Shape, Status, StreamState, TrackedObject, Transcript, Word,
    },
    media::{GapReason, MediaDescription, SessionId, SourceDescription, StreamInfo, StreamName},
    time::{CaptureTime, ClockQuality, Pts, Timestamp},
};

/// A stream with a tag.
pub(crate) fn stream(name: &str) -> Arc<StreamInfo> {
    let tags = [("site".to_owned(), "north".to_owned())].into();
    Arc::new(StreamInfo { name: StreamName::new(name).expect("stream name"), tags, epoch: None })
}

/// Frame `number` of a stream at 10 frames a second; `seen` is classes with their tracks.
pub(crate) fn detections(stream: &Arc<StreamInfo>, number: u64, seen: &[(&str, Option<u64>)]) -> Event {
    let objects = seen
        .iter()
        .map(|&(class, track)| TrackedObject {
            detection: Detection {
                class: class.into(),
                score: 0.912_345_6,
                box_in_image: BoxInImage { x: 258.04, y: 219.0, width: 32.86, height: 88.749 },
            },
            track,
        })
        .collect();
    let body = Body::Detections(Detections {
        width: 768,
        height: 576,
        index: number,
        model: Arc::new(ModelId { name: "ssdlite-mbv2".into(), version: "b42166a4".into() }),
        objects,
        labels: Vec::new(),
        answer: None,
        classes: [Arc::from("person"), Arc::from("bicycle"), Arc::from("dog")].into(),
    });
    event(stream, number, body)
}

/// Frame `number` of a stream, for which a model server answered this.
pub(crate) fn answered(stream: &Arc<StreamInfo>, number: u64, content_type: &str, body: &'static [u8]) -> Event {
    let mut event = detections(stream, number, &[]);
    if let Body::Detections(detections) = &mut event.body {
        let answer = Answer { content_type: content_type.into(), body: body.into(), is_result: true };
        detections.answer = Some(Arc::new(answer));
    }
    event
}

/// The stream began to play.
pub(crate) fn playing(stream: &Arc<StreamInfo>) -> Event {
    let source = SourceDescription {
        video: Some(MediaDescription { codec: "h264".into(), size: Some((768, 576)) }),
        audio: Some(MediaDescription { codec: "aac".into(), size: None }),
    };
    event(stream, 0, Body::Status(Status { state: StreamState::Playing, detail: None, source: Some(source) }))
}

/// The stream is in `state`.
pub(crate) fn status(stream: &Arc<StreamInfo>, number: u64, state: StreamState, detail: &str) -> Event {
    event(stream, number, Body::Status(Status { state, detail: Some(detail.into()), source: None }))
}

/// An outage of 7.5 seconds.
pub(crate) fn gap(stream: &Arc<StreamInfo>, number: u64) -> Event {
    let body = Body::Gap(Gap {
        from: Pts::from_millis(12_000),
        to: Pts::from_millis(19_500),
        reason: GapReason::SourceLost,
        n_frames_dropped: None,
        detail: Some("the server closed the connection".into()),
    });
    event(stream, number, body)
}

/// Revision `revision` of a segment that says `text`, one word every 300 ms from 3.4 s on; the last word is not stable
/// unless it is final.
pub(crate) fn transcript(stream: &Arc<StreamInfo>, revision: u32, text: &str, is_final: bool) -> Event {
    let texts: Vec<&str> = text.split_whitespace().collect();
    let at = |n: usize| Pts::from_millis(3400 + 300 * n as u64);
    let word = |(n, text): (usize, &&str)| Word {
        text: (*text).to_owned(),
        start: at(n),
        end: Pts::from_millis(at(n).millis() + 250),
        confidence: 0.912_345_6,
        stable: is_final || n + 1 < texts.len(),
    };
    let words: Vec<Word> = texts.iter().enumerate().map(word).collect();
    let session = SessionId::derived([stream.name.as_str().as_bytes()]);
    let body = Body::Transcript(Transcript {
        segment: format!("{session}-segment-0"),
        revision,
        is_final,
        start: at(0),
        end: words.last().map_or(at(0), |word| word.end),
        text: texts.join(" "),
        words,
        language: Some("en".into()),
        translated: false,
        speaker: None,
        channel: None,
        model: Arc::new(ModelId { name: "whisper-tiny.en".into(), version: "0a1b2c3d".into() }),
    });
    event(stream, 40 + u64::from(revision), body)
}

/// Cue `cue` with these lines, from `start_ms` to `end_ms`.
pub(crate) fn caption(
    stream: &Arc<StreamInfo>,
    cue: u64,
    span_ms: std::ops::Range<u64>,
    lines: &[&str],
    is_final: bool,
) -> Event {
    let session = SessionId::derived([stream.name.as_str().as_bytes()]);
    let body = Body::Caption(Caption {
        cue: format!("{session}-cue-{cue}"),
        revision: 2,
        start: Pts::from_millis(span_ms.start),
        end: Pts::from_millis(span_ms.end),
        lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        is_final,
        language: Some("en".into()),
        segment: format!("{session}-segment-0"),
    });
    event(stream, cue, body)
}

/// One moment of alert `number` of the rule `person-in-yard`: opened, updated and closed a second apart, from 12 s on.
pub(crate) fn alert(stream: &Arc<StreamInfo>, number: u64, state: AlertState) -> Event {
    let session = SessionId::derived([stream.name.as_str().as_bytes()]);
    let alert = format!("{session}-alert-person-in-yard-{number}");
    let revision = match state {
        AlertState::Opened => 0,
        AlertState::Updated => 1,
        AlertState::Closed => 2,
    };
    let now = 120 + 10 * u64::from(revision);
    let at = |number: u64| AlertTime {
        pts: Some(Pts::from_millis(number * 100)),
        at: Timestamp::from_millisecond(1_790_000_000_123 + number as i64 * 100).ok(),
    };
    let Body::Detections(seen) = detections(stream, now, &[("person", Some(7))]).body else {
        unreachable!("detections")
    };
    let is_closed = state == AlertState::Closed;
    let body = Body::Alert(Box::new(Alert {
        alert: alert.clone(),
        revision,
        state,
        rule: "person-in-yard".into(),
        severity: Severity::Warning,
        summary: "person in \"yard\" for 3 s".into(),
        since: at(90),
        until: is_closed.then(|| at(135)),
        closed_because: is_closed.then(|| "nobody is there any more".into()),
        evidence: Evidence {
            tracks: vec![7],
            objects: seen.objects,
            words: Vec::new(),
            shapes: vec![Shape {
                name: Some("yard".into()),
                points: [[0.1, 0.2], [0.9, 0.2], [0.5, 0.987_654_3]].into(),
                is_closed: true,
            }],
            snapshot: Some(format!("/v1/alerts/{alert}/snapshot.jpg")),
            clip: None,
        },
        silenced: None,
    }));
    Event { id: format!("{alert}-{revision}"), ..event(stream, now, body) }
}

/// Any event at a tenth of a second times `number`, captured at a known date.
pub(crate) fn event(stream: &Arc<StreamInfo>, number: u64, body: Body) -> Event {
    let session = SessionId::derived([stream.name.as_str().as_bytes()]);
    let pts = Pts::from_millis(number * 100);
    let at = Timestamp::from_millisecond(1_790_000_000_123 + number as i64 * 100).expect("date");
    let captured = Some(CaptureTime { at, quality: ClockQuality::Ntp });
    Event::new(stream, &session, number, pts, captured, body)
}
