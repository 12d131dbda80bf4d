//! The engine's clock: milliseconds that go on over sessions, so that what lasts may last over a reconnect.

use base::{
    event::AlertTime,
    media::SessionId,
    time::{CaptureTime, Pts},
};
use jiff::SignedDuration;

use super::At;

/// Longest outage that is counted as it was.
const LONGEST_GAP: At = 86_400_000;

/// Where a stream is.
pub(super) struct Timeline {
    session: SessionId,
    /// The engine's time at the session's stream time 0.
    offset: At,
    pub(super) newest: At,
    /// The wall clock at one moment of the session.
    anchor: Option<(At, CaptureTime)>,
    is_begun: bool,
}

impl Timeline {
    pub(super) fn new() -> Self {
        Self { session: SessionId::derived([]), offset: 0, newest: 0, anchor: None, is_begun: false }
    }

    pub(super) const fn is_begun(&self) -> bool {
        self.is_begun
    }

    pub(super) fn session(&self) -> &SessionId {
        &self.session
    }

    /// An event of this session; true where the session is another one than before.
    pub(super) fn enter(&mut self, session: &SessionId, pts: Pts, captured: Option<CaptureTime>) -> bool {
        let is_new = !self.is_begun || self.session != *session;
        if is_new {
            let away = match (self.anchor, captured) {
                (Some((at, before)), Some(now)) => {
                    let before = before.at + SignedDuration::from_millis(self.newest - at);
                    At::try_from(now.at.duration_since(before).as_millis()).unwrap_or(0).clamp(0, LONGEST_GAP)
                }
                _ => 0,
            };
            // A new session begins after whatever was before it.
            self.offset = self.newest + away + At::from(self.is_begun) - millis(pts);
            (self.session, self.anchor, self.is_begun) = (session.clone(), None, true);
        }
        let at = self.at(pts);
        if let Some(captured) = captured {
            self.anchor = Some((at, captured));
        }
        self.newest = self.newest.max(at);
        is_new
    }

    /// The engine's time at a stream time of the session.
    pub(super) fn at(&self, pts: Pts) -> At {
        self.offset + millis(pts)
    }

    pub(super) fn time(&self, at: At) -> AlertTime {
        let pts = u64::try_from(at - self.offset).ok().map(Pts::from_millis);
        AlertTime { pts, at: self.captured(at).map(|captured| captured.at) }
    }

    /// Stream time and capture time of a record.
    pub(super) fn stamp(&self, at: At) -> (Pts, Option<CaptureTime>) {
        let pts = Pts::from_millis(u64::try_from(at - self.offset).unwrap_or(0));
        (pts, self.captured(at))
    }

    pub(super) fn captured(&self, at: At) -> Option<CaptureTime> {
        let (anchor, captured) = self.anchor?;
        Some(CaptureTime { at: captured.at + SignedDuration::from_millis(at - anchor), ..captured })
    }
}

fn millis(pts: Pts) -> At {
    At::try_from(pts.millis()).unwrap_or(At::MAX / 4)
}
