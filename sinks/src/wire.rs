//! The wire format: one JSON object a record, and its JSON Schemas (draft 2020-12).
//!
//! Pure functions on the caller's thread. The only place where events meet serde. Names are never changed or taken
//! away, only added; consumers ignore what they do not know.
//!
//! The keys of a record always stand in the same order and numbers are rounded (score 4 decimals, confidence of a
//! word 3, box 1), so that the same event is always the same bytes.

use std::{borrow::Cow, collections::BTreeMap};

use base::{
    event::{Body, Event, ModelId, TrackedObject},
    time::Timestamp,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde::{Deserialize, Serialize};

mod alert;
mod detections;
pub mod kit;
pub mod read;
mod speech;
mod status;
pub use alert::{AlertEvidence, AlertRecord, Severity, Shape, Silenced};
pub use speech::{CaptionRecord, TranscriptRecord, WordRecord};
pub use status::{Audio, GapRecord, Reason, Source, State, StatusRecord, Video};

/// Version of this wire format, in every record: `major.minor`. The minor grows when fields are added.
pub const SPEC_VERSION: &str = "1.5";

/// Most records of a frame with a few objects are shorter.
const USUAL_BYTES: usize = 768;

/// Any record. The `type` field tells which.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Record<'a> {
    /// What was seen in one frame.
    #[serde(borrow)]
    Detections(DetectionsRecord<'a>),
    /// A change in a stream's life.
    #[serde(borrow)]
    Status(StatusRecord<'a>),
    /// A stretch of a stream that was not analysed.
    #[serde(borrow)]
    Gap(GapRecord<'a>),
    /// The words of one stretch of speech.
    #[serde(borrow)]
    Transcript(TranscriptRecord<'a>),
    /// One cue of captions.
    #[serde(borrow)]
    Caption(CaptionRecord<'a>),
    /// A rule that fired, at one moment of its life.
    #[serde(borrow)]
    Alert(AlertRecord<'a>),
}

impl<'a> Record<'a> {
    /// The fields that every record has.
    pub fn envelope(&self) -> &Envelope<'a> {
        match self {
            Self::Detections(record) => &record.envelope,
            Self::Status(record) => &record.envelope,
            Self::Gap(record) => &record.envelope,
            Self::Transcript(record) => &record.envelope,
            Self::Caption(record) => &record.envelope,
            Self::Alert(record) => &record.envelope,
        }
    }
}

/// The fields that every record has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Envelope<'a> {
    /// Identifies the record: `<session>-<type>-<number>`. A record that is delivered twice has the same id both times,
    /// so that consumers can drop duplicates.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// Version of the wire format, `major.minor`.
    #[serde(borrow)]
    pub specversion: Cow<'a, str>,
    /// Name of the stream.
    #[serde(borrow)]
    pub stream: Cow<'a, str>,
    /// Free key-value pairs given when the stream was attached.
    pub tags: Cow<'a, BTreeMap<String, String>>,
    /// Identifies one uninterrupted connection to the source; a reconnect begins a new one.
    #[serde(borrow)]
    pub session: Cow<'a, str>,
    /// Stream time in milliseconds since the session began; never goes backwards within a session.
    pub pts_ms: u64,
    /// Wall-clock time of capture, RFC 3339 in UTC with milliseconds; null when the recording carries no date.
    #[schemars(extend("format" = "date-time"))]
    pub captured_at: Option<String>,
    /// Where `captured_at` comes from.
    pub clock: Clock,
    /// Wall-clock time of publishing, RFC 3339 in UTC with milliseconds; left out in a replay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub published_at: Option<String>,
    /// Number of the lease under which a worker had the stream; grows whenever the stream changes hands. A record whose
    /// epoch is smaller than that of an earlier record of its stream comes late, from a worker that has lost the stream:
    /// true of its time, but no news. Left out where a stream cannot change hands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub epoch: Option<u64>,
}

/// Where a capture time comes from, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// The camera's own wall clock (RTCP sender report).
    Ntp,
    /// A date written in the media.
    Container,
    /// Only the time at which the media reached us.
    Arrival,
    /// There is no capture time.
    None,
}

/// What was seen in one frame. There is one for every analysed frame, also when nothing was there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DetectionsRecord<'a> {
    /// The common fields.
    #[serde(flatten, borrow)]
    pub envelope: Envelope<'a>,
    /// The frame.
    pub frame: Frame,
    /// The model that saw it.
    #[serde(borrow)]
    pub model: Model<'a>,
    /// What was seen, best score first.
    #[serde(borrow)]
    pub objects: Vec<Object<'a>>,
    /// What a classifier behind an endpoint says of the whole picture, best score first; left out where there is nothing.
    #[serde(default, borrow, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Label<'a>>,
    /// The answer of an endpoint that is not read, as it came; left out otherwise.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Answer<'a>")]
    pub answer: Option<Answer<'a>>,
}

/// One class of a whole picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Label<'a> {
    /// Class, in the model's own words.
    #[serde(borrow)]
    pub class: Cow<'a, str>,
    /// Confidence, 0 to 1.
    #[schemars(range(min = 0, max = 1))]
    pub score: f64,
}

/// What a model server answered: `json` where it is JSON, otherwise `base64`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Answer<'a> {
    /// The answer's media type.
    #[serde(borrow)]
    pub content_type: Cow<'a, str>,
    /// The answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "serde_json::Value")]
    pub json: Option<serde_json::Value>,
    /// Its bytes in base64 (RFC 4648, section 4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub base64: Option<String>,
}

/// A source picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Frame {
    /// Width of the source picture in pixels.
    pub width: u32,
    /// Height of the source picture in pixels.
    pub height: u32,
    /// Number of the decoded frame within the session, from 0, counting those that sampling left out.
    pub index: u64,
}

/// A model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Model<'a> {
    /// Name in the model's manifest; of a model behind an endpoint as configured, or its address.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// First 8 hexadecimal digits of the SHA-256 of its weights; of a model behind an endpoint as configured, or `unknown`.
    #[serde(borrow)]
    pub version: Cow<'a, str>,
}

impl<'a> From<&'a ModelId> for Model<'a> {
    fn from(model: &'a ModelId) -> Self {
        Self { name: Cow::from(&model.name), version: Cow::from(&model.version) }
    }
}

/// One object in one frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Object<'a> {
    /// Class, in the model's own words.
    #[serde(borrow)]
    pub class: Cow<'a, str>,
    /// Confidence, 0 to 1.
    #[schemars(range(min = 0, max = 1))]
    pub score: f64,
    /// `[x, y, width, height]` in pixels of the source picture, origin top left.
    pub r#box: [f64; 4],
    /// Id of the track within the session, from 1; null while it is not confirmed or tracking is off.
    pub track: Option<u64>,
}

/// The shape of a sink's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordFormat {
    /// Those of this program, as docs/ref/schema says.
    #[default]
    Eyewitness,
    /// Those of AWS's Kinesis Video Streams Inference Template: detections only, other records are left out.
    Kit,
}

impl RecordFormat {
    /// The kinds of records that there are in it; none for all.
    pub fn kinds(self) -> Option<Vec<String>> {
        (self == Self::Kit).then(|| vec!["detections".to_owned()])
    }

    /// One event as one JSON object, without a newline; none for what it knows nothing of.
    pub fn encode(self, event: &Event, published_at: Option<Timestamp>) -> Option<String> {
        match self {
            Self::Eyewitness => Some(encode(event, published_at)),
            Self::Kit => kit::encode(event, published_at),
        }
    }
}

/// One event as one JSON object, without a newline. `published_at` is left out when none.
pub fn encode(event: &Event, published_at: Option<Timestamp>) -> String {
    json(&record(event, published_at))
}

/// One record as one JSON object, without a newline.
pub(crate) fn json(record: &Record<'_>) -> String {
    let mut json = Vec::with_capacity(USUAL_BYTES);
    match record {
        Record::Detections(record) => detections::write(record, &mut json),
        other => serde_json::to_writer(&mut json, other).expect("records hold nothing that JSON cannot say"),
    }
    String::from_utf8(json).expect("JSON is UTF-8")
}

/// Reads a record back. Fields that this version does not know are ignored.
///
/// # Errors
/// When the text is no record: no JSON, an unknown `type`, a field missing or of the wrong kind.
pub fn decode(json: &str) -> Result<Record<'_>, serde_json::Error> {
    serde_json::from_str(json)
}

/// The event in the terms of the wire.
pub fn record(event: &Event, published_at: Option<Timestamp>) -> Record<'_> {
    let envelope = Envelope {
        id: Cow::from(&event.id),
        specversion: Cow::from(SPEC_VERSION),
        stream: Cow::from(event.stream.name.as_str()),
        tags: Cow::Borrowed(&event.stream.tags),
        session: Cow::from(event.session.as_str()),
        pts_ms: event.pts.millis(),
        captured_at: event.captured.map(|c| rfc3339(c.at)),
        clock: event.captured.map_or(Clock::None, |c| c.quality.into()),
        published_at: published_at.map(rfc3339),
        epoch: event.stream.epoch,
    };
    match &event.body {
        Body::Detections(d) => Record::Detections(DetectionsRecord {
            envelope,
            frame: Frame { width: d.width, height: d.height, index: d.index },
            model: Model::from(&*d.model),
            objects: d.objects.iter().map(object).collect(),
            labels: d.labels.iter().map(label).collect(),
            answer: d.answer.as_deref().filter(|answer| answer.is_result).map(answer),
        }),
        Body::Status(s) => Record::Status(status::status(envelope, s)),
        Body::Gap(g) => Record::Gap(status::gap(envelope, g)),
        Body::Transcript(t) => Record::Transcript(speech::transcript(envelope, t)),
        Body::Caption(c) => Record::Caption(speech::caption(envelope, c)),
        Body::Alert(a) => Record::Alert(alert::alert(envelope, a)),
    }
}

fn object(object: &TrackedObject) -> Object<'_> {
    let b = object.detection.box_in_image;
    Object {
        class: Cow::from(&*object.detection.class),
        score: rounded(object.detection.score, 1e4).clamp(0.0, 1.0),
        r#box: [b.x, b.y, b.width, b.height].map(|side| rounded(side, 10.0)),
        track: object.track,
    }
}

fn label(label: &base::event::Label) -> Label<'_> {
    Label { class: Cow::from(&*label.class), score: rounded(label.score, 1e4).clamp(0.0, 1.0) }
}

fn answer(answer: &base::event::Answer) -> Answer<'_> {
    let json = serde_json::from_slice(&answer.body).ok();
    let base64 = json.is_none().then(|| STANDARD.encode(&answer.body));
    Answer { content_type: Cow::from(&answer.content_type), json, base64 }
}

/// Rounded to `1 / scale`. What is not a number, which JSON cannot say, becomes zero; so does minus zero.
fn rounded(value: f32, scale: f64) -> f64 {
    let value = (f64::from(value) * scale).round() / scale;
    if value.is_finite() { value + 0.0 } else { 0.0 }
}

/// UTC with exactly three decimals.
///
/// Written by hand, because every record holds two or three of them. Source of the calendar: Howard Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms", `civil_from_days`, for dates since 1970; a
/// [`Timestamp`] ends before the year 10000.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    const MS_A_DAY: u64 = 86_400_000;
    if at < Timestamp::UNIX_EPOCH {
        return format!("{at:.3}");
    }
    let ms = at.as_millisecond() as u64;
    // A year begins in March here, so that its leap day is its last; an era is 400 years.
    let days = (ms / MS_A_DAY) as u32 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * months_from_march + 2) / 5 + 1;
    let month = if months_from_march < 10 { months_from_march + 3 } else { months_from_march - 9 };
    let year = era * 400 + year_of_era + u32::from(month <= 2);
    let ms = (ms % MS_A_DAY) as u32;
    let digit = |number: u32| b'0' + (number % 10) as u8;
    let two = |number: u32| [digit(number / 10), digit(number)];
    let mut text = *b"0000-00-00T00:00:00.000Z";
    text[..2].copy_from_slice(&two(year / 100));
    text[2..4].copy_from_slice(&two(year));
    text[5..7].copy_from_slice(&two(month));
    text[8..10].copy_from_slice(&two(day));
    text[11..13].copy_from_slice(&two(ms / 3_600_000));
    text[14..16].copy_from_slice(&two(ms / 60_000 % 60));
    text[17..19].copy_from_slice(&two(ms / 1000 % 60));
    text[20] = digit(ms / 100);
    text[21..23].copy_from_slice(&two(ms));
    std::str::from_utf8(&text).expect("digits are ASCII").to_owned()
}

/// The one table between the house's words and the wire's.
macro_rules! same_words {
    ($($from:path => $to:ident { $($variant:ident),* };)*) => {
        $(impl From<$from> for $to {
            fn from(word: $from) -> Self {
                match word { $(<$from>::$variant => Self::$variant,)* }
            }
        })*
    };
}

same_words! {
    base::time::ClockQuality => Clock { Ntp, Container, Arrival };
    base::event::StreamState => State { Playing, Interrupted, Ended, Failed, Stopped };
    base::media::GapReason => Reason { SourceLost, Stalled, Unreachable, DecodeError, SpeechOverload, SpeechFailed, SinkBlocked, SpoolFull, WorkerLost, WorkerStopped };
}

/// The JSON Schemas of all records: file name and text, ready to be written under `docs/ref/schema`.
pub fn schemas() -> Vec<(&'static str, String)> {
    vec![
        ("detections.schema.json", schema::<DetectionsRecord<'_>>("detections")),
        ("status.schema.json", schema::<StatusRecord<'_>>("status")),
        ("gap.schema.json", schema::<GapRecord<'_>>("gap")),
        ("transcript.schema.json", schema::<TranscriptRecord<'_>>("transcript")),
        ("caption.schema.json", schema::<CaptionRecord<'_>>("caption")),
        ("alert.schema.json", schema::<AlertRecord<'_>>("alert")),
    ]
}

/// The schema of one kind of record. The `type` is put in by hand: in Rust it is the enum's tag, not a field.
fn schema<T: JsonSchema>(kind: &str) -> String {
    let schema = SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>();
    let mut json = schema.to_value();
    let mut properties = serde_json::Map::new();
    properties.insert("type".into(), serde_json::json!({ "description": "The kind of record.", "const": kind }));
    properties.extend(json["properties"].as_object().cloned().unwrap_or_default());
    json["properties"] = properties.into();
    if let Some(required) = json["required"].as_array_mut() {
        required.insert(0, "type".into());
    }
    // For people who open the file: what it is comes first.
    let title = format!("eyewitness {kind} record, version {SPEC_VERSION}");
    let mut ordered =
        serde_json::json!({ "$schema": json["$schema"], "title": title, "description": json["description"] });
    if let (Some(ordered), Some(all)) = (ordered.as_object_mut(), json.as_object()) {
        for (key, value) in all {
            ordered.entry(key.as_str()).or_insert_with(|| value.clone());
        }
    }
    let mut text = serde_json::to_string_pretty(&ordered).expect("a schema is JSON");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests;
