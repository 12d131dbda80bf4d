//! What a rule says: the user's keys, and what cannot be meant in them. Plain data.

use std::collections::BTreeMap;

use base::event::Severity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schedule::Schedule;

/// Corners of a zone or ends of a line, `[[x, y], ...]`: parts of the picture's width and height, 0 to 1, origin top left.
pub type Points = Vec<[f32; 2]>;

/// What a rule looks and listens for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Condition {
    /// An object is inside a zone, for so long.
    InZone {
        /// Corners of the zone, three or more.
        zone: Points,
        /// Which objects.
        #[serde(default)]
        objects: Objects,
        /// Seconds without leaving. Default: 0.
        #[serde(default)]
        for_secs: f32,
        /// An object that is inside stays so until it is this far outside, in parts of the picture's width. Default: 0.01.
        #[serde(default = "default_margin")]
        margin: f32,
    },
    /// An object crosses a line.
    Crosses {
        /// The two ends of the line. `to_right` and `to_left` are as seen by somebody who goes from the first to the second.
        line: Points,
        /// Which way. Default: `any`.
        #[serde(default)]
        direction: Direction,
        /// Which objects.
        #[serde(default)]
        objects: Objects,
        /// An object is on a side once it is this far from the line, in parts of the picture's width. Default: 0.01.
        #[serde(default = "default_margin")]
        margin: f32,
    },
    /// There are more objects than `over`, or less than `under`, for so long.
    Count {
        /// Where; everywhere without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        zone: Option<Points>,
        /// Which objects.
        #[serde(default)]
        objects: Objects,
        /// More than this many.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        over: Option<u32>,
        /// Less than this many.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        under: Option<u32>,
        /// Seconds. Default: 0.
        #[serde(default)]
        for_secs: f32,
    },
    /// An object is there that was not there before.
    Appeared {
        /// Where; everywhere without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        zone: Option<Points>,
        /// Which objects.
        #[serde(default)]
        objects: Objects,
    },
    /// Objects were there, and there have been none of them for so long.
    Disappeared {
        /// Where; everywhere without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        zone: Option<Points>,
        /// Which objects.
        #[serde(default)]
        objects: Objects,
        /// Seconds. Default: 5.
        #[serde(default = "default_absent_secs")]
        for_secs: f32,
    },
    /// An object does not move, for so long.
    Stopped {
        /// Where; everywhere without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        zone: Option<Points>,
        /// Which objects.
        #[serde(default)]
        objects: Objects,
        /// Seconds. Default: 10.
        #[serde(default = "default_stopped_secs")]
        for_secs: f32,
        /// It does not move while it stays within this distance, in parts of its own height. Default: 0.25.
        #[serde(default = "default_stopped_within")]
        within: f32,
    },
    /// Something is said. Needs `transcribe` in the stream's profile.
    Said {
        /// Phrases, such as `["help", "call the police"]`. Capitals and punctuation do not matter.
        #[serde(default)]
        phrases: Vec<String>,
        /// Terms by what they are, such as `{ weapon = ["gun", "knife"] }`.
        #[serde(default)]
        terms: BTreeMap<String, Vec<String>>,
        /// How closely. Default: `exact`.
        #[serde(default)]
        matching: Matching,
        /// What a `no`, `not` or `never` within three words before it means. Default: `ignored`.
        #[serde(default)]
        negated: Negated,
        /// Least confidence of each of its words, 0 to 1. Default: 0.
        #[serde(default)]
        min_confidence: f32,
    },
    /// Somebody speaks, or nobody does, for so long. Needs `transcribe` in the stream's profile.
    Speech {
        /// True: somebody speaks; false: nobody does.
        present: bool,
        /// Seconds. Default: 0.
        #[serde(default)]
        for_secs: f32,
    },
    /// Something is wrong with the stream itself.
    Health {
        /// What. Default: all but `lagging`.
        #[serde(default = "Trouble::all")]
        of: Vec<Trouble>,
        /// With `lagging`: less analysed frames a second than this over ten seconds. Default: 1.
        #[serde(default = "default_least_fps")]
        least_fps: f32,
    },
    /// An expression in CEL (<https://cel.dev>) is true of a frame, or of what was said. See the guide for its variables.
    Expression {
        /// Such as `objects.exists(o, o.class == "person" && o.height > 0.5)`.
        expression: String,
    },
    /// Several conditions, of sight and sound alike, within a time of each other.
    All {
        /// Two or more; none of them `all`.
        of: Vec<Condition>,
        /// Seconds between the first and the last of them. Default: 5.
        #[serde(default = "default_within_secs")]
        within_secs: f32,
    },
}

impl Condition {
    /// The single conditions that it consists of.
    pub fn parts(&self) -> &[Self] {
        match self {
            Self::All { of, .. } => of,
            one => std::slice::from_ref(one),
        }
    }

    /// The keys of its [`Self::parts`], under the rule's table.
    pub fn keys(&self) -> Vec<String> {
        match self {
            Self::All { of, .. } => (0..of.len()).map(|number| format!("when.of.{number}")).collect(),
            _ => vec!["when".to_owned()],
        }
    }

    /// Which objects a single condition is about; none where it is about no objects.
    pub const fn objects(&self) -> Option<&Objects> {
        match self {
            Self::InZone { objects, .. }
            | Self::Crosses { objects, .. }
            | Self::Count { objects, .. }
            | Self::Appeared { objects, .. }
            | Self::Disappeared { objects, .. }
            | Self::Stopped { objects, .. } => Some(objects),
            Self::Said { .. }
            | Self::Speech { .. }
            | Self::Health { .. }
            | Self::Expression { .. }
            | Self::All { .. } => None,
        }
    }

    /// A single condition that needs somebody who listens.
    pub const fn listens(&self) -> bool {
        matches!(self, Self::Said { .. } | Self::Speech { .. })
    }
}

/// Which objects a condition is about.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Objects {
    /// Classes, in the model's own words; empty for all. Default: empty.
    pub classes: Vec<String>,
    /// Least score, 0 to 1. Default: 0, what the profile reports.
    pub min_score: f32,
    /// Which point of the box counts. Default: `feet`.
    pub anchor: Anchor,
}

/// The point of a box that stands for the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Anchor {
    /// Middle of the lower edge: where somebody stands.
    #[default]
    Feet,
    /// Middle of the box.
    Center,
}

/// Which way a line is crossed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Either.
    #[default]
    Any,
    /// To the left of the line.
    ToLeft,
    /// To the right of the line.
    ToRight,
}

/// How closely words must be what a rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Matching {
    /// Word for word.
    #[default]
    Exact,
    /// A letter may differ between words of 5 to 7 letters, two between longer ones; words may be written together or apart.
    Fuzzy,
}

/// What a negation before a phrase means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Negated {
    /// Nothing: the phrase was said.
    #[default]
    Ignored,
    /// `no fire` does not fire.
    Left,
    /// Only `no fire` fires.
    Wanted,
}

/// What can be wrong with a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// A stretch was not analysed.
    Gap,
    /// The connection is lost; it is tried again.
    Interrupted,
    /// It was given up.
    Failed,
    /// Too few frames are analysed.
    Lagging,
}

impl Trouble {
    fn all() -> Vec<Self> {
        vec![Self::Gap, Self::Interrupted, Self::Failed]
    }
}

/// Of how many of the last frames something must be true before it is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Confirm {
    /// So many frames, 1 or more.
    pub frames: u32,
    /// Of so many, up to 100.
    pub of: u32,
}

impl Default for Confirm {
    fn default() -> Self {
        Self { frames: 2, of: 3 }
    }
}

/// What has an alert of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// Every object.
    Track,
    /// The stream: one alert, whatever is in it.
    Stream,
}

/// A rule as it is written, but for the streams that it is for.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// When it fires.
    pub when: Condition,
    /// How much it matters.
    pub severity: Severity,
    /// One line for people, with `{class}`, `{count}`, `{phrase}`, `{term}`, `{secs}`, `{direction}`, `{stream}`.
    pub summary: Option<String>,
    /// See there. Concerns what is seen.
    pub confirm: Confirm,
    /// Seconds after which what is not seen or heard any more is over.
    pub close_after_secs: f32,
    /// Seconds after its end in which the same thing does not open an alert again.
    pub cooldown_secs: f32,
    /// Seconds between two updates of an alert that goes on.
    pub update_every_secs: f32,
    /// See there. None: what suits the condition.
    pub per: Option<Per>,
    /// When it holds at all.
    pub schedule: Option<Schedule>,
    /// An expression in CEL that must be true when it is about to open.
    pub only_if: Option<String>,
}

/// What is wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {what}")]
pub struct RuleError {
    /// The key under the rule's table, dotted: `when.zone`.
    pub key: String,
    /// What is wrong, and what would be right.
    pub what: String,
}

impl RuleError {
    pub(super) fn new(key: &str, what: impl Into<String>) -> Self {
        Self { key: key.to_owned(), what: what.into() }
    }
}

const fn default_margin() -> f32 {
    0.01
}
const fn default_absent_secs() -> f32 {
    5.0
}
const fn default_stopped_secs() -> f32 {
    10.0
}
const fn default_stopped_within() -> f32 {
    0.25
}
const fn default_least_fps() -> f32 {
    1.0
}
const fn default_within_secs() -> f32 {
    5.0
}

/// A day: nothing waits longer.
const LONGEST_SECS: f32 = 86_400.0;

impl Settings {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// Everything that is wrong, by key.
    pub fn check(&self) -> Result<(), Vec<RuleError>> {
        let mut wrong = Vec::new();
        let Confirm { frames, of } = self.confirm;
        if frames == 0 || of > 100 || frames > of {
            wrong.push(RuleError::new("confirm", "write `{ frames = N, of = M }` with 1 <= N <= M <= 100"));
        }
        for (key, secs) in [
            ("close_after_secs", self.close_after_secs),
            ("cooldown_secs", self.cooldown_secs),
            ("update_every_secs", self.update_every_secs),
        ] {
            check_secs(key, secs, &mut wrong);
        }
        if self.summary.as_ref().is_some_and(|summary| summary.trim().is_empty()) {
            wrong.push(RuleError::new("summary", "is empty: leave it out for one made from the condition"));
        }
        check_condition("when", &self.when, true, &mut wrong);
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

fn check_secs(key: &str, secs: f32, wrong: &mut Vec<RuleError>) {
    if !(0.0..=LONGEST_SECS).contains(&secs) {
        wrong.push(RuleError::new(key, format!("is {secs} and must be 0 to {LONGEST_SECS} seconds")));
    }
}

fn check_part(key: &str, part: f32, most: f32, wrong: &mut Vec<RuleError>) {
    if !(0.0..=most).contains(&part) {
        wrong.push(RuleError::new(key, format!("is {part} and must be 0 to {most}")));
    }
}

fn check_points(key: &str, points: &[[f32; 2]], least: usize, most: usize, wrong: &mut Vec<RuleError>) {
    if points.len() < least || points.len() > most {
        let n = if least == most { least.to_string() } else { format!("{least} to {most}") };
        wrong.push(RuleError::new(key, format!("has {} points and needs {n}", points.len())));
    }
    if let Some([x, y]) = points.iter().find(|point| point.iter().any(|part| !(0.0..=1.0).contains(part))) {
        let what = format!("[{x}, {y}] lies outside of the picture: corners are parts of its width and height, 0 to 1");
        wrong.push(RuleError::new(key, what));
    }
    let area = super::geometry::area(points);
    if least > 2 && points.len() >= least && area < 1e-5 {
        wrong.push(RuleError::new(key, "has no area: are its corners all on one line?"));
    }
    if least == 2 && points.len() == 2 && points[0] == points[1] {
        wrong.push(RuleError::new(key, "begins where it ends"));
    }
}

fn check_condition(at: &str, when: &Condition, is_outermost: bool, wrong: &mut Vec<RuleError>) {
    let key = |key: &str| format!("{at}.{key}");
    let objects_of = |objects: &Objects, wrong: &mut Vec<RuleError>| {
        check_part(&key("objects.min_score"), objects.min_score, 1.0, wrong);
        if objects.classes.iter().any(|class| class.trim().is_empty()) {
            wrong.push(RuleError::new(&key("objects.classes"), "a class is empty"));
        }
    };
    let zone_of = |zone: &Option<Points>, wrong: &mut Vec<RuleError>| {
        if let Some(zone) = zone {
            check_points(&key("zone"), zone, 3, 100, wrong);
        }
    };
    match when {
        Condition::InZone { zone, objects, for_secs, margin } => {
            check_points(&key("zone"), zone, 3, 100, wrong);
            objects_of(objects, wrong);
            check_secs(&key("for_secs"), *for_secs, wrong);
            check_part(&key("margin"), *margin, 0.5, wrong);
        }
        Condition::Crosses { line, objects, margin, .. } => {
            check_points(&key("line"), line, 2, 2, wrong);
            objects_of(objects, wrong);
            check_part(&key("margin"), *margin, 0.5, wrong);
        }
        Condition::Count { zone, objects, over, under, for_secs } => {
            zone_of(zone, wrong);
            objects_of(objects, wrong);
            check_secs(&key("for_secs"), *for_secs, wrong);
            if over.is_some() == under.is_some() {
                wrong.push(RuleError::new(at, "a count needs either `over` or `under`"));
            }
            if *under == Some(0) {
                wrong.push(RuleError::new(&key("under"), "there is never less than nothing: write 1 or more"));
            }
        }
        Condition::Appeared { zone, objects } => {
            zone_of(zone, wrong);
            objects_of(objects, wrong);
        }
        Condition::Disappeared { zone, objects, for_secs } => {
            zone_of(zone, wrong);
            objects_of(objects, wrong);
            check_secs(&key("for_secs"), *for_secs, wrong);
        }
        Condition::Stopped { zone, objects, for_secs, within } => {
            zone_of(zone, wrong);
            objects_of(objects, wrong);
            check_secs(&key("for_secs"), *for_secs, wrong);
            check_part(&key("within"), *within, 10.0, wrong);
        }
        Condition::Said { phrases, terms, min_confidence, .. } => {
            let said = |text: &String| !super::phrase::tokens(text).is_empty();
            if phrases.is_empty() && terms.values().all(Vec::is_empty) {
                wrong.push(RuleError::new(at, "names neither `phrases` nor `terms`: nothing could be said"));
            }
            if let Some(bad) = phrases.iter().find(|text| !said(text)) {
                wrong.push(RuleError::new(&key("phrases"), format!("`{bad}` has no word")));
            }
            if let Some(bad) = terms.values().flatten().find(|text| !said(text)) {
                wrong.push(RuleError::new(&key("terms"), format!("`{bad}` has no word")));
            }
            check_part(&key("min_confidence"), *min_confidence, 1.0, wrong);
        }
        Condition::Speech { for_secs, .. } => check_secs(&key("for_secs"), *for_secs, wrong),
        Condition::Health { of, least_fps } => {
            if of.is_empty() {
                wrong.push(RuleError::new(&key("of"), "is empty: name what can be wrong, or leave it out for all"));
            }
            check_part(&key("least_fps"), *least_fps, 240.0, wrong);
        }
        Condition::Expression { .. } => {}
        Condition::All { of, within_secs } => {
            if !is_outermost {
                wrong.push(RuleError::new(at, "an `all` within an `all`: write its conditions into the outer one"));
            }
            if of.len() < 2 || of.len() > 8 {
                wrong.push(RuleError::new(&key("of"), format!("has {} conditions and needs 2 to 8", of.len())));
            }
            check_secs(&key("within_secs"), *within_secs, wrong);
            for (number, condition) in of.iter().enumerate() {
                check_condition(&format!("{at}.of.{number}"), condition, false, wrong);
            }
        }
    }
}
