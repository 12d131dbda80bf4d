//! Events: what the house tells the world, before any wire format. `sinks::wire` owns how they are written.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    media::{GapReason, SessionId, SourceDescription, StreamInfo},
    time::{CaptureTime, Pts, Timestamp},
};

/// One record on its way to the sinks. Shared, never changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `<session>-<kind>-<number>`: the same recording replayed with the same configuration gives the same ids, and a
    /// record published twice carries the same id twice, so that consumers can drop duplicates.
    pub id: String,
    /// The stream it is about.
    pub stream: Arc<StreamInfo>,
    /// The connection it comes from.
    pub session: SessionId,
    /// Stream time it speaks of.
    pub pts: Pts,
    /// When that was captured; none when the recording carries no date.
    pub captured: Option<CaptureTime>,
    /// The rest.
    pub body: Body,
}

/// What an event says.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// One analysed frame.
    Detections(Detections),
    /// The stream's life.
    Status(Status),
    /// A stretch that was not analysed.
    Gap(Gap),
    /// The words of a segment.
    Transcript(Transcript),
    /// Readable text made from words.
    Caption(Caption),
    /// A rule that fired.
    Alert(Box<Alert>),
}

impl Body {
    /// The `type` on the wire.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Detections(_) => "detections",
            Self::Status(_) => "status",
            Self::Gap(_) => "gap",
            Self::Transcript(_) => "transcript",
            Self::Caption(_) => "caption",
            Self::Alert(_) => "alert",
        }
    }
}

impl Event {
    /// Makes the event and its id; `number` counts events of this kind within the session.
    pub fn new(
        stream: &Arc<StreamInfo>,
        session: &SessionId,
        number: u64,
        pts: Pts,
        captured: Option<CaptureTime>,
        body: Body,
    ) -> Self {
        Self::named(stream, session, &number.to_string(), pts, captured, body)
    }

    /// The same for an event that is not counted: `name` is the last part of its id.
    pub fn named(
        stream: &Arc<StreamInfo>,
        session: &SessionId,
        name: &str,
        pts: Pts,
        captured: Option<CaptureTime>,
        body: Body,
    ) -> Self {
        Self {
            id: format!("{session}-{}-{name}", body.kind()),
            stream: Arc::clone(stream),
            session: session.clone(),
            pts,
            captured,
            body,
        }
    }
}

/// Axis-aligned box in pixels of the source picture, origin top left.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct BoxInImage {
    /// Left edge.
    pub x: f32,
    /// Top edge.
    pub y: f32,
    /// Width, never negative.
    pub width: f32,
    /// Height, never negative.
    pub height: f32,
}

impl BoxInImage {
    /// The part of it that lies within a picture of this size in pixels.
    pub fn within(&self, width: u32, height: u32) -> Self {
        let (right, bottom) = ((self.x + self.width).min(width as f32), (self.y + self.height).min(height as f32));
        let (x, y) = (self.x.max(0.0), self.y.max(0.0));
        Self { x, y, width: (right - x).max(0.0), height: (bottom - y).max(0.0) }
    }

    /// Intersection over union with another box, 0..=1; zero when either is empty.
    pub fn iou(&self, other: &Self) -> f32 {
        let w = (self.x + self.width).min(other.x + other.width) - self.x.max(other.x);
        let h = (self.y + self.height).min(other.y + other.height) - self.y.max(other.y);
        if w <= 0.0 || h <= 0.0 {
            return 0.0;
        }
        let inter = w * h;
        let union = self.width * self.height + other.width * other.height - inter;
        if union > 0.0 { inter / union } else { 0.0 }
    }
}

/// One box with class and score in one frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// Label, in the model's own words (`person`).
    pub class: Arc<str>,
    /// Confidence 0..=1.
    pub score: f32,
    /// Where.
    pub box_in_image: BoxInImage,
}

/// A detection with the track it belongs to.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackedObject {
    /// The detection.
    pub detection: Detection,
    /// Id of the track within the session, from 1; none while a track is not yet confirmed or tracking is off.
    pub track: Option<u64>,
}

/// One class that a model gave a whole picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// Label, in the model's own words (`parking lot`).
    pub class: Arc<str>,
    /// Confidence 0..=1.
    pub score: f32,
}

/// What a model server answered for one frame, as it came. Bounded by the endpoint's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The answer's media type, such as `application/json`.
    pub content_type: String,
    /// Its body.
    pub body: Bytes,
    /// Nothing was read out of it: consumers get the answer itself.
    pub is_result: bool,
}

/// Name and version of a model: the version is the beginning of its file's SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelId {
    /// Name in the manifest; of a model behind an endpoint as configured, or its address without credentials.
    pub name: String,
    /// First 8 hexadecimal digits of the weights' SHA-256; of a model behind an endpoint as configured.
    pub version: String,
}

/// What was seen in one frame. Published for every analysed frame, also when nothing was there.
#[derive(Debug, Clone, PartialEq)]
pub struct Detections {
    /// Source picture width in pixels.
    pub width: u32,
    /// Source picture height in pixels.
    pub height: u32,
    /// Number of the frame within the session, from 0, counting those that sampling left out.
    pub index: u64,
    /// Who saw it.
    pub model: Arc<ModelId>,
    /// What, best score first.
    pub objects: Vec<TrackedObject>,
    /// What the picture as a whole was given by a classifier, best first.
    pub labels: Vec<Label>,
    /// What a model server answered; none where the model runs here.
    pub answer: Option<Arc<Answer>>,
    /// All classes that the model knows, in its own order; empty when that is not known.
    pub classes: Arc<[Arc<str>]>,
}

/// State of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamState {
    /// A session began.
    Playing,
    /// The connection was lost; trying again.
    Interrupted,
    /// The source came to its end.
    Ended,
    /// Given up: the cause will not go away by itself.
    Failed,
    /// We were told to stop.
    Stopped,
}

impl StreamState {
    /// The word used on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Playing => "playing",
            Self::Interrupted => "interrupted",
            Self::Ended => "ended",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// A change in a stream's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The state it is in now.
    pub state: StreamState,
    /// In words, free of secrets.
    pub detail: Option<String>,
    /// What the source is; only with `Playing`.
    pub source: Option<SourceDescription>,
}

/// One word of a transcript.
#[derive(Debug, Clone, PartialEq)]
pub struct Word {
    /// As written, with its punctuation, without blanks around it.
    pub text: String,
    /// When it begins. Words never overlap: a word begins where the one before it ends, or later.
    pub start: Pts,
    /// When it ends; at least `start`.
    pub end: Pts,
    /// 0..=1.
    pub confidence: f32,
    /// It will never change in a later revision: neither its text nor its times.
    pub stable: bool,
}

/// The words of a segment, as known by now. Each revision stands for itself and replaces the one before it; after the
/// final one there is none.
#[derive(Debug, Clone, PartialEq)]
pub struct Transcript {
    /// `<session>-segment-<number>`.
    pub segment: String,
    /// Counts from 0 within the segment.
    pub revision: u32,
    /// Nothing of it changes any more.
    pub is_final: bool,
    /// Begin of the segment's speech.
    pub start: Pts,
    /// End of what this revision covers.
    pub end: Pts,
    /// The words with a blank between them. A final with no words takes back what was shown before.
    pub text: String,
    /// In the order of speaking; stable ones first.
    pub words: Vec<Word>,
    /// ISO 639-1, where known.
    pub language: Option<String>,
    /// The words are an English translation of what is spoken.
    pub translated: bool,
    /// Who speaks; nobody tells yet.
    pub speaker: Option<String>,
    /// Channel of the sound, from 0; none while all channels are heard as one.
    pub channel: Option<u32>,
    /// Who heard it.
    pub model: Arc<ModelId>,
}

/// One cue: a few lines to be shown from `start` to `end`. Comes in revisions until it is final; a later revision of the
/// same cue replaces the earlier one on the screen.
#[derive(Debug, Clone, PartialEq)]
pub struct Caption {
    /// `<session>-cue-<number>`; cues are numbered in the order of showing.
    pub cue: String,
    /// Counts from 0 within the cue.
    pub revision: u32,
    /// When it is to appear.
    pub start: Pts,
    /// When it is to go, as far as known: never before the next cue's start is known to be later.
    pub end: Pts,
    /// What to show. Empty: the cue is taken back.
    pub lines: Vec<String>,
    /// It will not change any more.
    pub is_final: bool,
    /// ISO 639-1, where known.
    pub language: Option<String>,
    /// The segment that its words come from.
    pub segment: String,
}

/// How far an alert's life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AlertState {
    /// It is there now.
    Opened,
    /// It goes on, and more is known.
    Updated,
    /// It is over. Nothing follows.
    Closed,
}

impl AlertState {
    /// The word used on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Updated => "updated",
            Self::Closed => "closed",
        }
    }
}

/// How much an alert matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Somebody should look.
    Warning,
    /// Somebody must act now.
    Critical,
}

impl Severity {
    /// All, from the least to the most.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// The word used on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// A moment of a stream by both clocks, as far as they are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlertTime {
    /// Stream time in the session of the record; none where it was in an earlier session.
    pub pts: Option<Pts>,
    /// Wall clock; none where the recording carries no date.
    pub at: Option<Timestamp>,
}

/// What a rule has found, at one moment of its life. Each record stands for itself and replaces the one before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// `<session>-alert-<rule>-<number>`, of the session in which it was opened: the same in all records of its life.
    pub alert: String,
    /// Grows with every record of its life, from 0: by one, but whoever goes on with an alert of another run jumps to the next
    /// thousand. The event's id is `<alert>-<revision>`.
    pub revision: u32,
    /// How far it has come.
    pub state: AlertState,
    /// The rule's name.
    pub rule: Arc<str>,
    /// How much it matters.
    pub severity: Severity,
    /// One line for people.
    pub summary: String,
    /// When what it speaks of began, which is before it was confirmed.
    pub since: AlertTime,
    /// When it ended; none while it goes on.
    pub until: Option<AlertTime>,
    /// Why it is over, in words; none before.
    pub closed_because: Option<String>,
    /// What it rests on.
    pub evidence: Evidence,
    /// Somebody wished to hear nothing of it; none where nobody did.
    pub silenced: Option<Silenced>,
}

/// Somebody wished to hear nothing of an alert for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silenced {
    /// Id of the silence.
    pub id: String,
    /// Who wished it.
    pub by: String,
    /// Until when.
    pub until: Timestamp,
    /// Why, in their words.
    pub reason: String,
}

/// What an alert rests on.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Evidence {
    /// Ids of the tracks that it is about, in the session of the record.
    pub tracks: Vec<u64>,
    /// Those objects as they were seen last.
    pub objects: Vec<TrackedObject>,
    /// The words that it is about, in the order of speaking.
    pub words: Vec<Word>,
    /// The zones and lines of its rule.
    pub shapes: Vec<Shape>,
    /// Where the annotated picture is or will be: a path of the HTTP service; none where no evidence is kept.
    pub snapshot: Option<String>,
    /// The same of the clip.
    pub clip: Option<String>,
}

/// A zone or a line of a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// What it is called, if anything.
    pub name: Option<Arc<str>>,
    /// Corners as parts of the picture's width and height, 0 to 1, origin top left.
    pub points: Arc<[[f32; 2]]>,
    /// The last corner is joined to the first: a zone. Otherwise a line.
    pub is_closed: bool,
}

/// A stretch of a stream that was not analysed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Last media before it, in the stream time of the session that broke.
    pub from: Pts,
    /// `from` plus the length of the outage.
    pub to: Pts,
    /// Why.
    pub reason: GapReason,
    /// Frames known to be lost; none when nobody can know.
    pub n_frames_dropped: Option<u64>,
    /// The cause in words, free of secrets.
    pub detail: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iou() {
        let check = |a: [f32; 4], b: [f32; 4], expected: f32| {
            let r#box = |v: [f32; 4]| BoxInImage { x: v[0], y: v[1], width: v[2], height: v[3] };
            assert!((r#box(a).iou(&r#box(b)) - expected).abs() < 1e-6, "{a:?} {b:?}");
        };
        check([0., 0., 10., 10.], [0., 0., 10., 10.], 1.0);
        check([0., 0., 10., 10.], [5., 0., 10., 10.], 1.0 / 3.0);
        check([0., 0., 10., 10.], [10., 0., 10., 10.], 0.0);
        check([0., 0., 0., 0.], [0., 0., 0., 0.], 0.0);
    }

    #[test]
    fn ids_are_deterministic() {
        let stream = Arc::new(StreamInfo {
            name: crate::media::StreamName::new("a").expect("name"),
            tags: Default::default(),
            epoch: None,
        });
        let session = SessionId::derived([b"x".as_slice()]);
        let body = || {
            Body::Gap(Gap {
                from: Pts::ZERO,
                to: Pts::ZERO,
                reason: GapReason::Stalled,
                n_frames_dropped: None,
                detail: None,
            })
        };
        let make = || Event::new(&stream, &session, 3, Pts::ZERO, None, body());
        assert_eq!(make(), make());
        assert_eq!(make().id, format!("{session}-gap-3"));
    }
}
