//! Events for the tests of the feed and of the HTTP service.

use std::sync::Arc;

use base::{
    event::{Body, Caption, Event, ModelId, Status, StreamState, Transcript, Word},
    media::{SessionId, StreamInfo, StreamName},
    time::Pts,
};

pub(crate) fn session(name: &str) -> SessionId {
    SessionId::derived([name.as_bytes()])
}

pub(crate) fn stream(name: &str) -> Arc<StreamInfo> {
    Arc::new(StreamInfo { name: StreamName::new(name).expect("name"), tags: Default::default(), epoch: None })
}

fn event(name: &str, session_name: &str, number: u64, body: Body) -> Event {
    Event::new(&stream(name), &session(session_name), number, Pts::from_millis(number * 1000), None, body)
}

/// Cue `number`, shown from second `number` for one second.
pub(crate) fn caption(name: &str, session_name: &str, number: u64, is_final: bool, lines: &[&str]) -> Event {
    let session = session(session_name);
    let body = Body::Caption(Caption {
        cue: format!("{session}-cue-{number}"),
        revision: 0,
        start: Pts::from_millis(number * 1000),
        end: Pts::from_millis(number * 1000 + 1000),
        lines: lines.iter().map(|l| (*l).to_owned()).collect(),
        is_final,
        language: None,
        segment: format!("{session}-segment-{number}"),
    });
    event(name, session_name, number, body)
}

pub(crate) fn transcript(name: &str, session_name: &str, number: u64) -> Event {
    let word = Word {
        text: "word".into(),
        start: Pts::from_millis(number * 1000),
        end: Pts::from_millis(number * 1000 + 500),
        confidence: 0.9,
        stable: true,
    };
    let body = Body::Transcript(Transcript {
        segment: format!("{}-segment-{number}", session(session_name)),
        revision: 0,
        is_final: true,
        start: word.start,
        end: word.end,
        text: word.text.clone(),
        words: vec![word],
        language: Some("en".into()),
        translated: false,
        speaker: None,
        channel: None,
        model: Arc::new(ModelId { name: "whisper-tiny.en".into(), version: "0".repeat(8) }),
    });
    event(name, session_name, number, body)
}

pub(crate) fn status(name: &str, session_name: &str, number: u64, state: StreamState) -> Event {
    event(name, session_name, number, Body::Status(Status { state, detail: None, source: None }))
}
