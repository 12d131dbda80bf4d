//! Which records a webhook wants: their kinds, the states of alerts, and what becomes of silenced ones. Words of its keys.

use base::event::AlertState;
use schemars::JsonSchema;
use serde::Deserialize;

/// A kind of record: its `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// What was seen in each frame: many a second.
    Detections,
    /// What was said, with all its revisions: several a second while somebody speaks.
    Transcript,
    /// Cues of captions, with their revisions.
    Caption,
    /// A rule fired: `opened`, `updated`, `closed`.
    Alert,
    /// A stream began, was interrupted, ended or failed.
    Status,
    /// A stretch of a stream that was not analysed.
    Gap,
}

/// What becomes of silenced alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenSilenced {
    /// They are left out.
    #[default]
    Skip,
    /// They are sent.
    Send,
}

impl Kind {
    pub(super) const ALL: [Self; 6] =
        [Self::Detections, Self::Transcript, Self::Caption, Self::Alert, Self::Status, Self::Gap];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Detections => "detections",
            Self::Transcript => "transcript",
            Self::Caption => "caption",
            Self::Alert => "alert",
            Self::Status => "status",
            Self::Gap => "gap",
        }
    }
}

/// The state of an alert, as in its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It was found.
    Opened,
    /// It goes on.
    Updated,
    /// It is over.
    Closed,
}

impl State {
    pub(super) const ALL: [Self; 3] = [Self::Opened, Self::Updated, Self::Closed];

    pub(super) const fn is(self, state: AlertState) -> bool {
        matches!(
            (self, state),
            (Self::Opened, AlertState::Opened)
                | (Self::Updated, AlertState::Updated)
                | (Self::Closed, AlertState::Closed)
        )
    }
}
