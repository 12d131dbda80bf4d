//! From GStreamer's running time to our PTS: from 0, never backwards, pictures and sound on one origin. Pure arithmetic,
//! called on the tracks' streaming threads.
//!
//! Must never stop a stream because its clock jumps: a jump moves the offset, the PTS goes on.

use std::time::Duration;

use parking_lot::Mutex;

/// Nanoseconds in a second, the unit of all times in here.
const SECOND: i64 = 1_000_000_000;
/// Steps back up to this are jitter (a reordered or doubled picture); the PTS waits. Longer ones are a jump.
const JITTER: i64 = SECOND / 2;
/// Live media may come so much earlier than the time since the last arrival says.
const LIVE_LEAD: i64 = 10 * SECOND;
/// A recording may hold so long a pause (motion-triggered cameras, time-lapse).
const RECORDED_PAUSE: i64 = 3600 * SECOND;
/// Length of a picture whose length nobody knows.
const DEFAULT_INTERVAL: i64 = SECOND / 25;

/// Which of a session's two tracks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Track {
    Video = 0,
    Audio = 1,
}

/// Where PTS 0 is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// At the first media that comes, of whichever track: live sources.
    FirstMedia,
    /// At running time 0, wherever the first media lies: recordings, so that the PTS does not depend on thread timing.
    RunningTimeZero,
}

/// A time that was mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mapped {
    /// Nanoseconds of stream time; negative for sound from before the origin.
    pub pts: i64,
    /// True when the source's clock jumped just before this media.
    pub jumped: bool,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    pts: i64,
    end: i64,
    arrived: Duration,
}

#[derive(Debug)]
struct State {
    /// PTS minus running time of the newest stretch; none before the first media.
    offset: Option<i64>,
    /// The same for each track: behind `offset` between the jump of one track and that of the other.
    track_offsets: [Option<i64>; 2],
    last: [Option<Last>; 2],
}

/// One session's mapping, shared by its tracks.
#[derive(Debug)]
pub(crate) struct Timeline {
    live: bool,
    state: Mutex<State>,
}

impl Timeline {
    /// `live`: whether a forward jump is judged by the time since the last arrival.
    pub(crate) fn new(origin: Origin, live: bool) -> Self {
        let offset = (origin == Origin::RunningTimeZero).then_some(0);
        Self { live, state: Mutex::new(State { offset, track_offsets: [None; 2], last: [None; 2] }) }
    }

    /// Running time counts from `origin` nanoseconds of stream time on. To be told before the first media; later calls do
    /// nothing.
    pub(crate) fn begin_at(&self, origin: i64) {
        let mut state = self.state.lock();
        if state.track_offsets == [None; 2] {
            state.offset = Some(origin);
        }
    }

    /// Media that begins so many nanoseconds after the end of the media before it, and comes so long after it, is no jump yet.
    pub(crate) fn lead(&self, since_last: Duration) -> i64 {
        if self.live { LIVE_LEAD.saturating_add(nanos(since_last)) } else { RECORDED_PAUSE }
    }

    /// Maps media that begins at `running_time` nanoseconds (negative before the segment) and lasts `length` nanoseconds
    /// (zero when unknown), and that came at `arrived` (monotonic).
    pub(crate) fn map(&self, track: Track, running_time: i64, length: i64, arrived: Duration) -> Mapped {
        let mut state = self.state.lock();
        let i = track as usize;
        let newest = *state.offset.get_or_insert(running_time.saturating_neg());
        let own = *state.track_offsets[i].get_or_insert(newest);
        let mut pts = running_time.saturating_add(own);
        let mut jumped = false;
        if let Some(last) = state.last[i] {
            let most = last.end.saturating_add(self.lead(arrived.saturating_sub(last.arrived)));
            let plausible = |pts: i64| pts >= last.pts - JITTER && pts <= most;
            if !plausible(pts) {
                jumped = true;
                let with_newest = running_time.saturating_add(newest);
                let offset = if newest != own && plausible(with_newest) {
                    newest
                } else {
                    last.end.saturating_sub(running_time)
                };
                state.offset = Some(offset);
                state.track_offsets[i] = Some(offset);
                pts = running_time.saturating_add(offset);
            }
            pts = pts.max(last.pts + 1);
        }
        if track == Track::Video {
            // Sound from before the origin is cut off; a picture has no part to cut.
            pts = pts.max(state.last[i].map_or(0, |l| l.pts + 1));
        }
        let known = if length > 0 { length } else { state.last[i].map_or(DEFAULT_INTERVAL, |l| interval(l, pts)) };
        state.last[i] = Some(Last { pts, end: pts.saturating_add(known), arrived });
        Mapped { pts, jumped }
    }

    /// A running time for media that has none: just after the last of its track.
    pub(crate) fn after(&self, track: Track) -> i64 {
        let state = self.state.lock();
        let offset = state.track_offsets[track as usize].unwrap_or(0);
        state.last[track as usize].map_or(0, |l| l.end.saturating_sub(offset))
    }

    /// PTS minus running time of a track now, nanoseconds; none before the first media.
    pub(crate) fn offset(&self, track: Track) -> Option<i64> {
        let state = self.state.lock();
        state.track_offsets[track as usize].or(state.offset)
    }

    /// PTS of the last media of either track, nanoseconds of stream time; zero before the first.
    pub(crate) fn end(&self) -> u64 {
        let state = self.state.lock();
        let start = state.last.iter().flatten().map(|l| l.pts).max().unwrap_or(0);
        start.max(0) as u64
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn interval(last: Last, pts: i64) -> i64 {
    (pts - last.pts).clamp(1, SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Milliseconds in, milliseconds and jump out; each step arrives 40 ms after the one before.
    fn check(origin: Origin, live: bool, steps: &[(Track, i64, i64, bool)]) {
        let timeline = Timeline::new(origin, live);
        for (n, (track, running, pts, jumped)) in steps.iter().enumerate() {
            let arrived = Duration::from_millis(40 * n as u64);
            let mapped = timeline.map(*track, running * 1_000_000, 40_000_000, arrived);
            assert_eq!((mapped.pts / 1_000_000, mapped.jumped), (*pts, *jumped), "step {n} of {steps:?}");
        }
    }

    const V: Track = Track::Video;
    const A: Track = Track::Audio;

    #[test]
    fn origins() {
        check(Origin::FirstMedia, true, &[(V, 5000, 0, false), (A, 5010, 10, false), (V, 5040, 40, false)]);
        check(Origin::FirstMedia, true, &[(V, 5000, 0, false), (A, 4990, -10, false)]);
        check(Origin::RunningTimeZero, false, &[(V, 80, 80, false), (A, 0, 0, false), (A, -20, 0, false)]);
    }

    #[test]
    fn a_backward_clock_goes_on_and_both_tracks_stay_together() {
        check(
            Origin::FirstMedia,
            true,
            &[
                (V, 90_000, 0, false),
                (A, 90_000, 0, false),
                (V, 90_040, 40, false),
                (V, 1000, 80, true),
                (A, 90_040, 40, false),
                (A, 1000, 80, true),
                (V, 1040, 120, false),
                (A, 1040, 120, false),
            ],
        );
    }

    #[test]
    fn a_forward_jump_is_taken_out_of_live_media_only() {
        check(Origin::FirstMedia, true, &[(V, 0, 0, false), (V, 60_000, 40, true), (V, 60_040, 80, false)]);
        check(Origin::RunningTimeZero, false, &[(V, 0, 0, false), (V, 60_000, 60_000, false)]);
        check(Origin::RunningTimeZero, false, &[(V, 0, 0, false), (V, 95_000_000, 40, true)]);
    }

    #[test]
    fn jitter_never_goes_backwards() {
        let timeline = Timeline::new(Origin::FirstMedia, true);
        let at = |ms: i64| timeline.map(V, ms * 1_000_000, 0, Duration::ZERO).pts;
        assert_eq!([at(0), at(40), at(30), at(40), at(80)], [0, 40_000_000, 40_000_001, 40_000_002, 80_000_000]);
        assert_eq!(timeline.end(), 80_000_000);
    }

    #[test]
    fn extremes_do_not_overflow() {
        let timeline = Timeline::new(Origin::FirstMedia, true);
        for (n, at) in [i64::MIN, i64::MAX, 0, i64::MIN, i64::MAX].into_iter().enumerate() {
            timeline.map(V, at, 0, Duration::from_secs(n as u64));
        }
        assert!(timeline.end() < 60 * SECOND as u64);
    }
}
