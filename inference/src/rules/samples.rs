//! Events as a stream would tell them. For tests.

use std::{collections::BTreeMap, sync::Arc};

use base::{
    event::{
        Body, BoxInImage, Detection, Detections, Event, ModelId, Status, StreamState, TrackedObject, Transcript, Word,
    },
    media::{SessionId, StreamInfo, StreamName},
    time::{CaptureTime, ClockQuality, Pts, Timestamp},
};
use jiff::SignedDuration;

/// Class, track, box in parts of the picture.
pub(super) type Object<'a> = (&'a str, Option<u64>, [f32; 4]);

pub(super) fn stream() -> Arc<StreamInfo> {
    let tags = BTreeMap::from([("site".to_owned(), "north".to_owned())]);
    Arc::new(StreamInfo { name: StreamName::new("yard").expect("a name"), tags, epoch: None })
}

fn event(session: u8, ms: u64, body: Body) -> Event {
    // A Monday at noon; every session begins a minute after the one before.
    let start: Timestamp = "2026-06-01T12:00:00Z".parse().expect("a time");
    let at = start + SignedDuration::from_millis(ms as i64 + 60_000 * i64::from(session));
    let captured = Some(CaptureTime { at, quality: ClockQuality::Arrival });
    let session = SessionId::derived([[session].as_slice()]);
    Event::new(&stream(), &session, ms, Pts::from_millis(ms), captured, body)
}

pub(super) fn frame(ms: u64, objects: &[Object<'_>]) -> Event {
    frame_in(0, ms, objects)
}

/// 1000 by 1000 pixels.
pub(super) fn frame_in(session: u8, ms: u64, objects: &[Object<'_>]) -> Event {
    let objects = objects.iter().map(|(class, track, [x, y, width, height])| TrackedObject {
        detection: Detection {
            class: (*class).into(),
            score: 0.9,
            box_in_image: BoxInImage { x: x * 1000.0, y: y * 1000.0, width: width * 1000.0, height: height * 1000.0 },
        },
        track: *track,
    });
    let body = Body::Detections(Detections {
        width: 1000,
        height: 1000,
        index: ms,
        model: Arc::new(ModelId { name: "m".into(), version: "1".into() }),
        objects: objects.collect(),
        labels: Vec::new(),
        answer: None,
        classes: Arc::from([]),
    });
    event(session, ms, body)
}

/// Each word takes 300 ms, from `ms` on.
pub(super) fn said(segment: &str, ms: u64, text: &str) -> Event {
    let word = |(at, text): (usize, &str)| Word {
        text: text.into(),
        start: Pts::from_millis(ms + at as u64 * 300),
        end: Pts::from_millis(ms + at as u64 * 300 + 250),
        confidence: 0.9,
        stable: true,
    };
    let words: Vec<Word> = text.split_whitespace().enumerate().map(word).collect();
    let end = words.last().map_or(Pts::from_millis(ms), |word| word.end);
    let body = Body::Transcript(Transcript {
        segment: segment.into(),
        revision: 0,
        is_final: true,
        start: Pts::from_millis(ms),
        end,
        text: text.into(),
        words,
        language: Some("en".into()),
        translated: false,
        speaker: None,
        channel: None,
        model: Arc::new(ModelId { name: "m".into(), version: "1".into() }),
    });
    event(0, ms, body)
}

pub(super) fn status(ms: u64, state: StreamState) -> Event {
    event(0, ms, Body::Status(Status { state, detail: None, source: None }))
}
