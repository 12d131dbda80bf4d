//! What a stream shows of itself: its state and figures, read several times a second for all streams. Counters only, never
//! waits.

use base::{event::StreamState, media::StreamName};
use sinks::delivery::Progress;

use super::residents::{Phase, Resident};
use crate::{
    control::stage::StreamReading,
    stream::{Reached, Standing},
};

impl Resident {
    pub(super) fn read(&mut self, name: &StreamName, progress: &Progress) -> StreamReading {
        let earlier = self.earlier.as_ref().map(Reached::from);
        let (standing, analysis) = match &self.phase {
            Phase::Loading | Phase::GivenUp => {
                let detail = Some("its models are being loaded".to_owned());
                (Standing { state: None, detail, reached: earlier, resumable: true }, None)
            }
            Phase::Failed(cause) => {
                let (state, detail) = (Some(StreamState::Failed), Some(cause.clone()));
                (Standing { state, detail, reached: earlier, resumable: true }, None)
            }
            Phase::Running(attached) => (attached.analysis.standing(), Some(&attached.analysis)),
            Phase::Leaving(analysis) => (analysis.standing(), Some(analysis)),
        };
        let Standing { state, detail, reached, resumable } = standing;
        // Of this run once something of it has arrived; until then where it was to begin. A new session of it goes on in the
        // same time, and takes nothing back before something of it has arrived.
        let arrived = progress.of(name).filter(|(session, _)| reached.as_ref().is_some_and(|r| r.session == *session));
        let arrived = arrived.map(|(_, pts)| pts);
        self.position = resumable.then_some(arrived.or(self.position)).flatten();
        let alerts = match (&analysis, &self.earlier) {
            (Some(analysis), _) => analysis.open_alerts(),
            (None, earlier) => earlier.as_ref().map(|earlier| earlier.alerts.clone()).unwrap_or_default(),
        };
        let figures = analysis.map(|analysis| analysis.figures()).unwrap_or_default();
        StreamReading {
            name: name.clone(),
            epoch: self.epoch,
            state,
            detail,
            leaving: matches!(self.phase, Phase::GivenUp | Phase::Leaving(_)),
            pts: reached.as_ref().map(|reached| reached.pts).unwrap_or_default(),
            analysed_at: reached.as_ref().map(|reached| reached.at),
            session: reached.map(|reached| reached.session),
            position: self.position,
            alerts,
            figures,
        }
    }
}
