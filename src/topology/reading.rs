//! What a stream shows of itself: its state and figures, read several times a second for all streams. Counters only, never
//! waits.

use std::{collections::VecDeque, time::Duration};

use base::{
    event::StreamState,
    ledger::DropReason,
    media::{MediaConsumer as _, StreamName},
};
use sinks::delivery::Progress;

use super::residents::{Phase, Resident};
use crate::{
    control::{report::Figures, stage::StreamReading},
    stream::{Analysis, Reached, Standing},
};

/// So far back a rate looks.
const RECENT: Duration = Duration::from_secs(5);

/// How fast a counter has grown lately.
#[derive(Debug, Default)]
pub(super) struct Pace(VecDeque<(Duration, u64)>);

impl Pace {
    /// A second, since the oldest look at it that is not too long ago.
    fn rate(&mut self, now: Duration, count: u64) -> f64 {
        while self.0.len() > 1 && self.0.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= RECENT) {
            self.0.pop_front();
        }
        let (since, before) = *self.0.front().unwrap_or(&(now, count));
        // Whoever looks more often than makes sense is not remembered each time.
        if self.0.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= RECENT / 50) {
            self.0.push_back((now, count));
        }
        let elapsed = now.saturating_sub(since).as_secs_f64();
        if elapsed > 0.0 { count.saturating_sub(before) as f64 / elapsed } else { 0.0 }
    }
}

impl Resident {
    pub(super) fn read(&mut self, name: &StreamName, now: Duration, progress: &Progress) -> StreamReading {
        let earlier = self.earlier.as_ref().map(|earlier| Reached {
            session: earlier.session.clone(),
            pts: earlier.pts,
            at: earlier.analysed_at,
        });
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
        // Of this run once something of it has arrived; until then where it was to begin.
        let arrived = progress.of(name).filter(|(session, _)| reached.as_ref().is_some_and(|r| r.session == *session));
        let begun_at = self.earlier.as_ref().and_then(|earlier| earlier.position);
        let position = resumable.then(|| arrived.map(|(_, pts)| pts).or(begun_at)).flatten();
        let figures = analysis.map(|analysis| figures(analysis, &mut self.pace, now)).unwrap_or_default();
        StreamReading {
            name: name.clone(),
            epoch: self.epoch,
            state,
            detail,
            leaving: matches!(self.phase, Phase::GivenUp | Phase::Leaving(_)),
            pts: reached.as_ref().map(|reached| reached.pts).unwrap_or_default(),
            analysed_at: reached.as_ref().map(|reached| reached.at),
            session: reached.map(|reached| reached.session),
            position,
            figures,
        }
    }
}

fn figures(analysis: &Analysis, pace: &mut Pace, now: Duration) -> Figures {
    let ledger = analysis.ledger().read();
    let dropped = |reason: DropReason| {
        let n = ledger.dropped(reason);
        (n > 0).then(|| (reason.as_str().to_owned(), n))
    };
    Figures {
        fps: pace.rate(now, ledger.n_inferred),
        latency_ms: analysis.findings.latency.quantile_ms(0.5),
        speech_lag_ms: analysis.hearing().map(|ear| u64::try_from(ear.lag.as_millis()).unwrap_or(u64::MAX)),
        n_decoded: ledger.n_decoded,
        n_inferred: ledger.n_inferred,
        n_dropped: DropReason::ALL.into_iter().filter_map(dropped).collect(),
        n_gaps: analysis.findings.counts().n_gaps,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_forgets_what_was_long_ago() {
        let mut pace = Pace::default();
        let mut check = |ms, count, expected: f64| {
            let got = pace.rate(Duration::from_millis(ms), count);
            assert!((got - expected).abs() < 1e-9, "{ms}: {got}");
        };
        check(1_000, 50, 0.0);
        check(1_000, 50, 0.0);
        check(1_500, 60, 20.0);
        check(2_000, 70, 20.0);
        // Nothing came since.
        check(6_000, 70, 4.0);
        check(12_000, 70, 0.0);
        check(60_000, 70, 0.0);
        // A rate over as long as nobody looked.
        check(160_000, 170, 1.0);
    }
}
