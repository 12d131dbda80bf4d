//! Live WebVTT: final cues on one timeline that never goes backwards, over all sessions of a stream.

use base::{
    event::{Body, Event},
    media::SessionId,
    time::ClockQuality,
};
use sinks::vtt;

/// Writes the cues of one endless answer.
///
/// Times are stream time of the first session heard. A later session, whose stream time begins anew, is moved: by the time
/// that passed between the two where both are dated by the same clock, and always behind the last cue, as WebVTT wants cues
/// in the order of their start.
#[derive(Debug, Default)]
pub(super) struct Cues {
    session: Option<SessionId>,
    /// Added to the session's stream time, in milliseconds.
    shift_ms: u64,
    /// Wall-clock time of time 0 of the answer in milliseconds since 1970, and the clock that says so.
    zero_at: Option<(i64, ClockQuality)>,
    /// Start of the last cue written.
    start_ms: u64,
    /// Latest end of a cue written.
    end_ms: u64,
}

impl Cues {
    /// The cue of an event; empty when it is no final caption, or one without text.
    pub(super) fn write(&mut self, event: &Event) -> String {
        let Body::Caption(caption) = &event.body else { return String::new() };
        if !caption.is_final || caption.lines.iter().all(|line| line.trim().is_empty()) {
            return String::new();
        }
        let mut text = String::new();
        if self.session.as_ref() != Some(&event.session) {
            let begins_at = event.captured.map(|c| (c.at.as_millisecond() - event.pts.millis() as i64, c.quality));
            if self.session.is_some() {
                text += &vtt::note("a new session");
                let passed_ms = match (self.zero_at, begins_at) {
                    (Some((zero, clock)), Some((begins, same))) if clock == same => begins.saturating_sub(zero),
                    _ => 0,
                };
                self.shift_ms = self.end_ms.max(u64::try_from(passed_ms).unwrap_or(0));
            } else {
                self.zero_at = begins_at;
            }
            self.session = Some(event.session.clone());
        }
        self.start_ms = self.start_ms.max(self.shift_ms + caption.start.millis());
        let end_ms = (self.shift_ms + caption.end.millis()).max(self.start_ms + 1);
        self.end_ms = self.end_ms.max(end_ms);
        text + &vtt::cue(&caption.cue, self.start_ms, end_ms, &caption.lines)
    }
}

#[cfg(test)]
mod tests {
    use base::time::{CaptureTime, Pts, Timestamp};

    use super::*;
    use crate::feed::samples::{caption, session};

    #[test]
    fn cues() {
        let mut cues = Cues::default();
        let mut check = |in_session: &str, number: u64, times: (u64, u64), lines: &[&str], is_final, expected: &str| {
            let mut event = caption("cam", in_session, number, is_final, lines);
            if let Body::Caption(caption) = &mut event.body {
                (caption.start, caption.end) = (Pts::from_millis(times.0), Pts::from_millis(times.1));
            }
            let expected = expected.replace("CUE", &format!("{}-cue", session(in_session)));
            assert_eq!(cues.write(&event), expected);
        };
        check("a", 0, (1000, 2500), &["not final"], false, "");
        let first = "CUE-0\n00:00:01.000 --> 00:00:02.500\none\n&lt;two&gt; &amp; --&gt; three\n\n";
        check("a", 0, (1000, 2500), &["one", "<two> & --> three"], true, first);
        check("a", 1, (3000, 4000), &[], true, "");
        check("a", 2, (62_000, 63_000), &["a", " "], true, "CUE-2\n00:01:02.000 --> 00:01:03.000\na\n\n");
        // A new session begins at zero again: it is put behind.
        let behind = "NOTE a new session\n\nCUE-0\n00:01:03.500 --> 00:01:04.500\nlater\n\n";
        check("b", 0, (500, 1500), &["later"], true, behind);
        // Never backwards, never empty.
        check("b", 1, (100, 100), &["odd"], true, "CUE-1\n00:01:03.500 --> 00:01:03.501\nodd\n\n");
    }

    #[test]
    fn a_dated_session_keeps_its_distance() {
        let check = |sessions: &[(&str, i64, ClockQuality)], expected: &str| {
            let mut cues = Cues::default();
            let mut last = String::new();
            for (in_session, at_secs, quality) in sessions {
                let mut event = caption("cam", in_session, 1, true, &["x"]);
                let at = Timestamp::from_second(*at_secs).expect("time");
                event.captured = Some(CaptureTime { at, quality: *quality });
                last = cues.write(&event);
            }
            assert!(last.contains(expected), "{sessions:?}: {last}");
        };
        use ClockQuality::{Arrival, Ntp};
        // Each event is captured one second into its session.
        check(&[("a", 1000, Ntp)], "00:00:01.000 -->");
        check(&[("a", 1000, Ntp), ("b", 1060, Ntp)], "00:01:01.000 -->");
        check(&[("a", 1000, Ntp), ("b", 1060, Ntp), ("c", 1120, Ntp)], "00:02:01.000 -->");
        // Not by the same clock, or a clock that went back: right behind.
        check(&[("a", 1000, Ntp), ("b", 1060, Arrival)], "00:00:03.000 -->");
        check(&[("a", 1000, Ntp), ("b", 10, Ntp)], "00:00:03.000 -->");
    }
}
