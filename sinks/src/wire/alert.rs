//! Records of alerts. Plain data; see the module above.

use std::borrow::Cow;

use base::event::{Alert, AlertState};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Envelope, Object, WordRecord, object, rfc3339, rounded, speech::word};

/// What a rule has found, at one moment of its life: `opened` once, then `updated` any number of times, then `closed` once.
/// Each record stands for itself and replaces the one before it; all of one life have the same `alert`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlertRecord<'a> {
    /// The common fields. The `id` is `<alert>-<revision>`.
    #[serde(flatten, borrow)]
    pub envelope: Envelope<'a>,
    /// Identifies the alert over its whole life, restarts of the worker included: `<session>-alert-<rule>-<number>`, of the
    /// session in which it was opened.
    #[serde(borrow)]
    pub alert: Cow<'a, str>,
    /// Grows with every record of its life, from 0: by one, but where another worker or process goes on with the alert it jumps
    /// to the next thousand. Of two records of one alert, the one with the greater revision is newer.
    pub revision: u32,
    /// How far its life has come.
    pub state: State,
    /// Name of the rule.
    #[serde(borrow)]
    pub rule: Cow<'a, str>,
    /// How much it matters.
    pub severity: Severity,
    /// One line for people.
    #[serde(borrow)]
    pub summary: Cow<'a, str>,
    /// Wall-clock time of capture at which what it speaks of began, which is before it was confirmed: RFC 3339 in UTC with
    /// milliseconds, by the clock that `clock` names; null when the recording carries no date.
    #[schemars(extend("format" = "date-time"))]
    pub since: Option<String>,
    /// The same as stream time: milliseconds since the session of this record began; null where it was in an earlier session.
    pub since_ms: Option<u64>,
    /// Wall-clock time of capture at which it ended, as `since`; null while it goes on, and when the recording carries no date.
    #[schemars(extend("format" = "date-time"))]
    pub until: Option<String>,
    /// The same as stream time, as `since_ms`; null while it goes on.
    pub until_ms: Option<u64>,
    /// Why it is over, in words; null before.
    #[serde(borrow)]
    pub closed_because: Option<Cow<'a, str>>,
    /// What it rests on.
    #[serde(borrow)]
    pub evidence: AlertEvidence<'a>,
    /// Somebody wished to hear nothing of it for a while: webhooks leave it out. Left out where nobody did. A `closed` record is
    /// silenced only if all of its alert's records were.
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Silenced<'a>")]
    pub silenced: Option<Silenced<'a>>,
}

/// Somebody wished to hear nothing of an alert for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Silenced<'a> {
    /// Id of the silence.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// Name of the user who wished it.
    #[serde(borrow)]
    pub by: Cow<'a, str>,
    /// Until when it was wished: RFC 3339 in UTC with milliseconds.
    #[schemars(extend("format" = "date-time"))]
    pub until: String,
    /// Why, in their words.
    #[serde(borrow)]
    pub reason: Cow<'a, str>,
}

/// How far an alert's life has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "AlertState")]
pub enum State {
    /// It is there now.
    Opened,
    /// It goes on, and more is known.
    Updated,
    /// It is over. Nothing follows.
    Closed,
}

/// How much an alert matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Somebody should look.
    Warning,
    /// Somebody must act now.
    Critical,
}

/// What an alert rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlertEvidence<'a> {
    /// Ids of the tracks that it is about, in the session of this record.
    pub tracks: Vec<u64>,
    /// Those objects, as they were seen last; boxes in pixels of the source picture.
    #[serde(default, borrow)]
    pub objects: Vec<Object<'a>>,
    /// The words that it is about, in the order of speaking; their times are of the session in which they were spoken.
    #[serde(borrow)]
    pub words: Vec<WordRecord<'a>>,
    /// The zones and lines of its rule.
    #[serde(default, borrow)]
    pub shapes: Vec<Shape<'a>>,
    /// Path of the annotated picture (JPEG) on the HTTP service of the worker; null where none is kept. It may be there a few
    /// seconds after this record.
    #[serde(borrow)]
    pub snapshot: Option<Cow<'a, str>>,
    /// Path of the clip (MP4), likewise: it is there once it has come to its end.
    #[serde(borrow)]
    pub clip: Option<Cow<'a, str>>,
}

/// A zone or a line of a rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Shape<'a> {
    /// What it is called; null where it has no name.
    #[serde(borrow)]
    pub name: Option<Cow<'a, str>>,
    /// Corners as parts of the picture's width and height, 0 to 1, origin top left.
    pub points: Vec<[f64; 2]>,
    /// The last corner is joined to the first: a zone. Otherwise a line.
    pub closed: bool,
}

pub(super) fn alert<'a>(envelope: Envelope<'a>, a: &'a Alert) -> AlertRecord<'a> {
    let evidence = &a.evidence;
    AlertRecord {
        envelope,
        alert: Cow::from(&a.alert),
        revision: a.revision,
        state: match a.state {
            AlertState::Opened => State::Opened,
            AlertState::Updated => State::Updated,
            AlertState::Closed => State::Closed,
        },
        rule: Cow::from(&*a.rule),
        severity: match a.severity {
            base::event::Severity::Info => Severity::Info,
            base::event::Severity::Warning => Severity::Warning,
            base::event::Severity::Critical => Severity::Critical,
        },
        summary: Cow::from(&a.summary),
        since: a.since.at.map(rfc3339),
        since_ms: a.since.pts.map(|pts| pts.millis()),
        until: a.until.and_then(|until| until.at).map(rfc3339),
        until_ms: a.until.and_then(|until| until.pts).map(|pts| pts.millis()),
        closed_because: a.closed_because.as_deref().map(Cow::from),
        evidence: AlertEvidence {
            tracks: evidence.tracks.clone(),
            objects: evidence.objects.iter().map(object).collect(),
            words: evidence.words.iter().map(word).collect(),
            shapes: evidence.shapes.iter().map(shape).collect(),
            snapshot: evidence.snapshot.as_deref().map(Cow::from),
            clip: evidence.clip.as_deref().map(Cow::from),
        },
        silenced: a.silenced.as_ref().map(silenced),
    }
}

fn silenced(silenced: &base::event::Silenced) -> Silenced<'_> {
    Silenced {
        id: Cow::from(&silenced.id),
        by: Cow::from(&silenced.by),
        until: rfc3339(silenced.until),
        reason: Cow::from(&silenced.reason),
    }
}

fn shape(shape: &base::event::Shape) -> Shape<'_> {
    Shape {
        name: shape.name.as_deref().map(Cow::from),
        points: shape.points.iter().map(|point| point.map(|part| rounded(part, 1e4))).collect(),
        closed: shape.is_closed,
    }
}
