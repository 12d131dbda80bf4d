//! What a stream has come to: its life, its counts, and how far it was analysed. Written on whichever thread it happens,
//! read on any; locks are held for moments only.

use std::{sync::Arc, time::Duration};

use base::{
    event::{Body, Event, Gap, StreamState},
    media::{GapReason, SessionId, SourceDescription, StreamInfo},
    time::{Pts, Timestamp},
};
use parking_lot::Mutex;

use crate::{control::stage::Earlier, latency::Latency};

/// What a stream has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It still runs, or was stopped by us.
    Open,
    /// Its recording came to the end.
    Ended,
    /// It was given up, for this reason.
    Failed(String),
}

/// A stream at one moment, for those who watch over it.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// The last state that was told; none while it has not connected yet.
    pub state: Option<StreamState>,
    /// In words.
    pub detail: Option<String>,
    /// How far it has come; of the run before this one while this one has not played yet.
    pub reached: Option<Reached>,
    /// Its stream time is the source's own: another run can go on after it. Not known to be otherwise before it plays.
    pub resumable: bool,
}

/// How far a stream was analysed.
#[derive(Debug, Clone, PartialEq)]
pub struct Reached {
    /// The session.
    pub session: SessionId,
    /// Its stream time up to there.
    pub pts: Pts,
    /// When that was done, by the wall clock.
    pub at: Timestamp,
}

impl From<&Earlier> for Reached {
    fn from(earlier: &Earlier) -> Self {
        Self { session: earlier.session.clone(), pts: earlier.pts, at: earlier.analysed_at }
    }
}

pub(super) struct Life {
    pub(super) session: SessionId,
    pub(super) n_status: u64,
    pub(super) n_gaps: u64,
    pub(super) pts: Pts,
    pub(super) outcome: Outcome,
    pub(super) source: Option<SourceDescription>,
    pub(super) state: Option<(StreamState, Option<String>)>,
    /// What an earlier run left, until this one plays.
    pub(super) earlier: Option<Earlier>,
    /// What is a gap unless the earlier run turns out to have been there when this one began to play.
    pub(super) unsure: Option<Unsure>,
    /// None before it has played.
    pub(super) resumable: Option<bool>,
}

impl Life {
    pub(super) fn new(session: SessionId, earlier: Option<Earlier>) -> Self {
        Self {
            session,
            n_status: 0,
            n_gaps: 0,
            pts: Pts::ZERO,
            outcome: Outcome::Open,
            source: None,
            state: None,
            earlier,
            unsure: None,
            resumable: None,
        }
    }

    /// The number of the session's next gap, of whatever kind.
    pub(super) fn next_gap(&mut self) -> u64 {
        self.n_gaps += 1;
        self.n_gaps - 1
    }
}

/// A gap that may be none.
pub(super) struct Unsure {
    pub(super) gap: Event,
    /// When the earlier run was last heard of.
    pub(super) told_at: Timestamp,
    /// When it is told if nothing more is heard, on the monotonic clock.
    pub(super) due: Duration,
}

/// A stream that changes hands within this time has no gap.
const WITHOUT_GAP: Duration = Duration::from_secs(2);
/// Who was heard of within this time may still be there: what it has looked at meanwhile is on its way. Workers tell it every
/// second, and more often while they hand over.
const HEARD_LATELY: Duration = Duration::from_secs(3);
/// So long such a one is listened for.
pub(super) const LAST_WORD: Duration = Duration::from_secs(4);

/// Whether the earlier run may be there still, and a gap be none.
pub(super) fn may_be_there(earlier: &Earlier, now: Timestamp) -> bool {
    !earlier.released
        && Duration::try_from(now.duration_since(earlier.told_at)).is_ok_and(|silent| silent <= HEARD_LATELY)
}

/// The stretch between an earlier run and this one, if there is one worth telling: a gap of the old session, whose id is the
/// same whoever tells it, and however often.
pub(super) fn gap_since(earlier: &Earlier, info: &Arc<StreamInfo>, now: Timestamp) -> Option<Event> {
    let away = Duration::try_from(now.duration_since(earlier.analysed_at)).ok().filter(|away| *away > WITHOUT_GAP)?;
    let secs = away.as_secs_f64();
    let (reason, detail) = match earlier.released {
        false => {
            (GapReason::WorkerLost, format!("the worker that had the stream was lost; taken over after {secs:.1} s"))
        }
        true => (GapReason::WorkerStopped, format!("the stream was let go of, and nobody had it for {secs:.1} s")),
    };
    let (from, to) = (earlier.pts, Pts::from_nanos(earlier.pts.nanos().saturating_add(away.as_nanos() as u64)));
    let body = Body::Gap(Gap { from, to, reason, n_frames_dropped: None, detail: Some(detail) });
    let name = format!("e{}", info.epoch.unwrap_or_default());
    Some(Event::named(info, &earlier.session, &name, from, None, body))
}

/// Counts over all results of a stream.
#[derive(Debug, Default)]
pub struct Findings {
    /// From the decoder's output to the event's publication.
    pub latency: Latency,
    pub(super) counts: Mutex<Counts>,
}

/// What was found so far.
#[derive(Debug, Clone)]
pub struct Counts {
    /// Detection records published, one a frame.
    pub n_records: u64,
    /// Objects in them.
    pub n_objects: u64,
    /// Different tracks among them.
    pub n_tracks: u64,
    /// Words in final transcripts.
    pub n_words: u64,
    /// Outages, and stretches of speech that were not transcribed.
    pub n_gaps: u64,
    /// The latter, by reason.
    pub speech_gaps: [(GapReason, u64); 2],
    /// Stream time of the newest record.
    pub pts: Pts,
    /// How far the pictures were looked at; where nobody looks, the sound listened to. None before the first media.
    pub reached: Option<Reached>,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            n_records: 0,
            n_objects: 0,
            n_tracks: 0,
            n_words: 0,
            n_gaps: 0,
            speech_gaps: [(GapReason::SpeechOverload, 0), (GapReason::SpeechFailed, 0)],
            pts: Pts::ZERO,
            reached: None,
        }
    }
}

impl Counts {
    /// Media of the session was analysed up to `pts`.
    pub(super) fn reach(&mut self, session: &SessionId, pts: Pts, at: Timestamp) {
        if let Some(reached) = &mut self.reached
            && reached.session == *session
            && reached.pts < pts
        {
            (reached.pts, reached.at) = (pts, at);
        }
    }
}

impl Findings {
    /// The counts now.
    pub fn counts(&self) -> Counts {
        self.counts.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use base::media::StreamName;

    use super::*;

    #[test]
    fn what_lies_between_two_runs_is_a_gap_of_the_old_session() {
        let at = |ms| Timestamp::from_millisecond(ms).expect("time");
        let check = |released, now_ms, expected: Option<(u64, GapReason, &str)>| {
            let session = SessionId::derived([b"old".as_slice()]);
            let earlier = Earlier {
                session: session.clone(),
                pts: Pts::from_millis(60_000),
                analysed_at: at(5_000),
                told_at: at(5_000),
                released,
                position: None,
                alerts: Vec::new(),
            };
            let name = StreamName::new("a").expect("name");
            let info = Arc::new(StreamInfo { name, tags: Default::default(), epoch: Some(17) });
            let event = gap_since(&earlier, &info, at(now_ms));
            let got = event.as_ref().map(|event| {
                assert_eq!((event.id.as_str(), &event.session), (format!("{session}-gap-e17").as_str(), &session));
                let Body::Gap(gap) = &event.body else { panic!("{event:?}") };
                assert_eq!((gap.from, event.pts), (earlier.pts, earlier.pts));
                (gap.to.millis(), gap.reason, gap.detail.as_deref().unwrap_or_default())
            });
            match (got, expected) {
                (Some((to, reason, said)), Some((expected_to, expected_reason, part))) => {
                    assert_eq!((to, reason), (expected_to, expected_reason));
                    assert!(said.contains(part), "{said}");
                }
                (got, expected) => assert_eq!(got, expected),
            }
        };
        check(false, 13_200, Some((68_200, GapReason::WorkerLost, "8.2 s")));
        check(true, 13_200, Some((68_200, GapReason::WorkerStopped, "8.2 s")));
        check(false, 7_000, None);
        check(false, 7_001, Some((62_001, GapReason::WorkerLost, "2.0 s")));
        // The clock of the other machine is ahead.
        check(false, 1_000, None);
    }
}
