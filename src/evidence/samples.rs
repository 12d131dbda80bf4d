//! Alerts for the tests of the evidence and of the HTTP service.

use std::{sync::Arc, time::Duration};

use base::{
    event::{
        Alert, AlertState, AlertTime, Body, BoxInImage, Detection, Event, Evidence, Severity, Shape, TrackedObject,
    },
    media::{Frame, Image, PixelFormat, SessionId, StreamInfo, StreamName},
    time::{Pts, SystemClock},
};

use super::{EvidenceConfig, EvidenceStore};

/// No step of a test takes this long, unless it hangs.
const LONG: Duration = Duration::from_secs(60);

pub(crate) fn session(name: &str) -> SessionId {
    SessionId::derived([name.as_bytes()])
}

/// An alert's id.
pub(crate) fn id(session_name: &str, number: u32) -> String {
    format!("{}-alert-yard-{number}", session(session_name))
}

/// A record of alert `number`, of the stream and session `name`; `paths` as the store gave them.
pub(crate) fn alert(
    name: &str,
    (number, revision): (u32, u32),
    state: AlertState,
    at_ms: u64,
    paths: (Option<String>, Option<String>),
) -> Arc<Event> {
    let stream =
        Arc::new(StreamInfo { name: StreamName::new(name).expect("name"), tags: Default::default(), epoch: None });
    let person = Detection {
        class: "person".into(),
        score: 0.9,
        box_in_image: BoxInImage { x: 192.0, y: 144.0, width: 384.0, height: 288.0 },
    };
    let zone = Shape { name: None, points: [[0.1, 0.1], [0.9, 0.1], [0.9, 0.2]].as_slice().into(), is_closed: true };
    let time = AlertTime { pts: Some(Pts::from_millis(at_ms)), at: None };
    let body = Body::Alert(Box::new(Alert {
        alert: id(name, number),
        revision,
        state,
        rule: "yard".into(),
        severity: Severity::Warning,
        summary: "person in the yard".into(),
        since: time,
        until: (state == AlertState::Closed).then_some(time),
        closed_because: (state == AlertState::Closed).then(|| "nobody is there any more".into()),
        evidence: Evidence {
            tracks: vec![7],
            objects: vec![TrackedObject { detection: person, track: Some(7) }],
            words: Vec::new(),
            shapes: vec![zone],
            snapshot: paths.0,
            clip: paths.1,
        },
        silenced: None,
    }));
    let (session, pts) = (session(name), Pts::from_millis(at_ms));
    let mut event = Event::named(&stream, &session, "", pts, None, body);
    event.id = format!("{}-{revision}", id(name, number));
    Arc::new(event)
}

/// A grey frame of a source of 768 x 576.
pub(crate) fn frame(name: &str, at_ms: u64) -> Frame {
    let image =
        Image { width: 192, height: 144, stride: 576, format: PixelFormat::Rgb8, data: vec![90; 576 * 144].into() };
    Frame {
        session: session(name),
        index: 0,
        pts: Pts::from_millis(at_ms),
        captured: None,
        decoded_at: Duration::ZERO,
        source_width: 768,
        source_height: 576,
        image,
    }
}

/// Where everything is kept in this folder.
pub(crate) fn config(folder: &tempfile::TempDir) -> EvidenceConfig {
    EvidenceConfig { path: folder.path().join("alerts"), ..EvidenceConfig::default() }
}

/// Keeps records without media.
pub(crate) fn store(folder: &tempfile::TempDir) -> EvidenceStore {
    EvidenceStore::open(config(folder), None, SystemClock::new()).expect("store")
}

/// Waits until there is something.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let clock = SystemClock::new();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(clock.monotonic() < LONG, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
