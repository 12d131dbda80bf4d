//! Records back into events, for those who look at what was recorded as if it happened now. Pure.

use std::sync::Arc;

use base::{
    event::{
        Body, BoxInImage, Detection, Detections, Event, Gap, ModelId, Status, StreamState, TrackedObject, Transcript,
        Word,
    },
    media::{GapReason, SessionId, StreamInfo, StreamName},
    time::{CaptureTime, ClockQuality, Pts, Timestamp},
};

use super::{Clock, DetectionsRecord, Envelope, Model, Reason, Record, State, TranscriptRecord};

/// The event that a record tells of, as far as rules look at it; none for captions and alerts, and for records of a stream or
/// session whose name cannot be one.
pub fn event(record: &Record<'_>) -> Option<Event> {
    let envelope = record.envelope();
    let body = match record {
        Record::Detections(record) => Body::Detections(detections(record)),
        Record::Transcript(record) => Body::Transcript(transcript(record)),
        Record::Status(record) => {
            let detail = record.detail.as_deref().map(str::to_owned);
            Body::Status(Status { state: state(record.state), detail, source: None })
        }
        Record::Gap(record) => Body::Gap(Gap {
            from: Pts::from_millis(record.from_pts_ms),
            to: Pts::from_millis(record.to_pts_ms),
            reason: reason(record.reason),
            n_frames_dropped: record.n_frames_dropped,
            detail: record.detail.as_deref().map(str::to_owned),
        }),
        Record::Caption(_) | Record::Alert(_) => return None,
    };
    Some(Event {
        id: envelope.id.to_string(),
        stream: stream(envelope)?,
        session: SessionId::from_text(&envelope.session)?,
        pts: Pts::from_millis(envelope.pts_ms),
        captured: captured(envelope),
        body,
    })
}

fn stream(envelope: &Envelope<'_>) -> Option<Arc<StreamInfo>> {
    let name = StreamName::new(&envelope.stream).ok()?;
    Some(Arc::new(StreamInfo { name, tags: envelope.tags.clone().into_owned(), epoch: envelope.epoch }))
}

fn captured(envelope: &Envelope<'_>) -> Option<CaptureTime> {
    let at: Timestamp = envelope.captured_at.as_deref()?.parse().ok()?;
    let quality = match envelope.clock {
        Clock::Ntp => ClockQuality::Ntp,
        Clock::Container => ClockQuality::Container,
        Clock::Arrival => ClockQuality::Arrival,
        Clock::None => return None,
    };
    Some(CaptureTime { at, quality })
}

fn model(model: &Model<'_>) -> Arc<ModelId> {
    Arc::new(ModelId { name: model.name.to_string(), version: model.version.to_string() })
}

fn detections(record: &DetectionsRecord<'_>) -> Detections {
    let objects = record.objects.iter().map(|object| {
        let [x, y, width, height] = object.r#box.map(|side| side as f32);
        let box_in_image = BoxInImage { x, y, width, height };
        let detection = Detection { class: (&*object.class).into(), score: object.score as f32, box_in_image };
        TrackedObject { detection, track: object.track }
    });
    Detections {
        width: record.frame.width,
        height: record.frame.height,
        index: record.frame.index,
        model: model(&record.model),
        objects: objects.collect(),
        labels: Vec::new(),
        answer: None,
        classes: Arc::from([]),
    }
}

fn transcript(record: &TranscriptRecord<'_>) -> Transcript {
    let words = record.words.iter().map(|word| Word {
        text: word.text.to_string(),
        start: Pts::from_millis(word.start_ms),
        end: Pts::from_millis(word.end_ms),
        confidence: word.confidence as f32,
        stable: word.stable,
    });
    Transcript {
        segment: record.segment.to_string(),
        revision: record.revision,
        is_final: record.r#final,
        start: Pts::from_millis(record.start_ms),
        end: Pts::from_millis(record.end_ms),
        text: record.text.to_string(),
        words: words.collect(),
        language: record.language.as_deref().map(str::to_owned),
        translated: record.translated,
        speaker: record.speaker.as_deref().map(str::to_owned),
        channel: record.channel,
        model: model(&record.model),
    }
}

const fn state(state: State) -> StreamState {
    match state {
        State::Playing => StreamState::Playing,
        State::Interrupted => StreamState::Interrupted,
        State::Ended => StreamState::Ended,
        State::Failed => StreamState::Failed,
        State::Stopped => StreamState::Stopped,
    }
}

const fn reason(reason: Reason) -> GapReason {
    match reason {
        Reason::SourceLost => GapReason::SourceLost,
        Reason::Stalled => GapReason::Stalled,
        Reason::Unreachable => GapReason::Unreachable,
        Reason::DecodeError => GapReason::DecodeError,
        Reason::SpeechOverload => GapReason::SpeechOverload,
        Reason::SpeechFailed => GapReason::SpeechFailed,
        Reason::SinkBlocked => GapReason::SinkBlocked,
        Reason::SpoolFull => GapReason::SpoolFull,
        Reason::WorkerLost => GapReason::WorkerLost,
        Reason::WorkerStopped => GapReason::WorkerStopped,
    }
}
