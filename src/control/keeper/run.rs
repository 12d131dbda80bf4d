//! One stream on this worker: what was started, how far it is, and what was told of it. Part of the state machine.

use std::time::Duration;

use base::{event::StreamState, media::StreamName};

use super::{
    Action, FixedStream,
    resolve::{fingerprint, fingerprint_of_rules},
    shown_attachment,
};
use crate::{
    config::CheckedStream,
    control::{attachment::Attachment, report::Report, stage::StreamReading},
};

/// A stream that this worker has started, or would have.
pub(super) struct Run {
    pub(super) name: StreamName,
    /// The lease under which it runs; none: it is of the configuration file.
    pub(super) lease: Option<u32>,
    pub(super) epoch: Option<u64>,
    /// Of what was started.
    pub(super) print: u64,
    /// Of the rules that it has now.
    pub(super) rules: u64,
    /// When its attachment was attached.
    pub(super) born: u64,
    /// Of the attachment that was started, or that would have been the same to run.
    pub(super) revision: u64,
    pub(super) phase: Phase,
    pub(super) reading: Option<StreamReading>,
    /// Somebody has a greater epoch for it: what this run publishes is late.
    pub(super) is_overtaken: bool,
    /// Since when a successor is waited for.
    pub(super) handing_since: Option<Duration>,
    /// Profiles or secrets have changed since it was resolved.
    pub(super) is_stale: bool,
    /// What was resolved last, whatever came of it. Two workers may have made different changes under one revision.
    pub(super) resolved: Option<(u64, Attachment)>,
    /// When it had come so far as to play.
    pub(super) played_at: Option<Duration>,
    /// What an earlier run left.
    pub(super) earlier: Option<Report>,
    /// What was told last.
    pub(super) told: Option<Told>,
    /// A post is on its way.
    pub(super) is_posting: bool,
}

/// A report that was posted.
pub(super) struct Told {
    pub(super) at: Duration,
    pub(super) report: Report,
    /// False once the plane has refused it.
    pub(super) is_written: bool,
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Phase {
    /// Started; whether the stage has shown it yet.
    Running { is_seen: bool },
    /// Told to stop, not gone yet.
    Stopping,
    /// Not on the stage any more, or never was: it ended, or failed.
    Over { state: StreamState, detail: Option<String> },
}

/// A stream of the configuration file.
pub(super) struct Fixed {
    pub(super) profile: String,
    pub(super) attachment: Attachment,
    /// Until it is started.
    pub(super) stream: Option<CheckedStream>,
}

impl Fixed {
    pub(super) fn new(fixed: FixedStream) -> Self {
        let attachment = shown_attachment(&fixed.profile, &fixed.stream);
        Self { profile: fixed.profile, attachment, stream: Some(fixed.stream) }
    }

    pub(super) fn is_started(&self) -> bool {
        self.stream.is_none()
    }
}

impl Run {
    pub(super) fn new(name: StreamName, lease: Option<u32>, epoch: Option<u64>) -> Self {
        Self {
            name,
            lease,
            epoch,
            print: 0,
            rules: 0,
            born: 0,
            revision: 0,
            phase: Phase::Running { is_seen: false },
            reading: None,
            is_overtaken: false,
            handing_since: None,
            is_stale: false,
            resolved: None,
            played_at: None,
            earlier: None,
            told: None,
            is_posting: false,
        }
    }

    pub(super) fn was_started(&mut self, stream: &CheckedStream) {
        (self.print, self.rules) = (fingerprint(stream), fingerprint_of_rules(&stream.rules));
    }

    /// What is to be done where it goes on as it is, but for its rules.
    pub(super) fn exchange(&mut self, stream: CheckedStream) -> Option<Action> {
        let print = fingerprint_of_rules(&stream.rules);
        let is_running = matches!(self.phase, Phase::Running { .. });
        let has_changed = std::mem::replace(&mut self.rules, print) != print;
        (has_changed && is_running).then(|| Action::Rules { name: self.name.clone(), rules: stream.rules })
    }

    pub(super) fn is_on_stage(&self) -> bool {
        !matches!(self.phase, Phase::Over { .. })
    }

    /// It has ended or failed, whether the stage still shows it or not.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over { .. }) || self.has_come_to(StreamState::Ended) || self.has_failed()
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(self.phase, Phase::Over { state: StreamState::Failed, .. }) || self.has_come_to(StreamState::Failed)
    }

    pub(super) fn has_come_to(&self, state: StreamState) -> bool {
        self.reading.as_ref().is_some_and(|reading| reading.state == Some(state))
    }

    /// It has come so far as to play.
    pub(super) const fn has_played(&self) -> bool {
        self.played_at.is_some()
    }

    /// In the word of reports.
    pub(super) fn state(&self) -> &'static str {
        match (&self.phase, &self.reading) {
            (Phase::Over { state, .. }, _) => state.as_str(),
            (_, None) => "starting",
            (_, Some(reading)) => reading.state.map_or("connecting", StreamState::as_str),
        }
    }

    pub(super) fn read(&mut self, reading: StreamReading, now: Duration) {
        if matches!(reading.state, Some(StreamState::Playing | StreamState::Ended)) {
            self.played_at.get_or_insert(now);
        }
        self.reading = Some(reading);
    }
}
