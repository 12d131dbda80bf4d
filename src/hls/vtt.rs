//! The captions of one segment as WebVTT (W3C WebVTT, 2019; RFC 8216, section 3.5). Pure text.

use base::{
    event::Caption,
    media::{MediaSegment, SessionId},
    time::Pts,
};

use super::store::end_of;

/// Cues kept a stream; the oldest go first.
const MOST_CUES: usize = 1000;
const HOUR_MS: u64 = 3_600_000;
const TICKS_AN_HOUR: u64 = 3600 * 90_000;

/// One cue in its latest revision.
#[derive(Debug)]
struct Cue {
    session: SessionId,
    id: String,
    start_ms: u64,
    end_ms: u64,
    lines: Vec<String>,
}

/// The cues of one stream that segments may still need.
#[derive(Debug, Default)]
pub(super) struct Cues(Vec<Cue>);

impl Cues {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes a revision of a cue: the newest counts, no lines take it back.
    pub(super) fn put(&mut self, session: &SessionId, caption: &Caption) {
        let lines: Vec<String> = caption.lines.iter().map(|l| escaped(l)).filter(|l| !l.is_empty()).collect();
        let id = &caption.cue;
        let (start_ms, end_ms) = (caption.start.millis(), caption.end.millis());
        let known = self.0.iter_mut().find(|c| c.session == *session && c.id == *id);
        match known {
            Some(cue) => (cue.start_ms, cue.end_ms, cue.lines) = (start_ms, end_ms, lines),
            None => {
                if self.0.len() == MOST_CUES {
                    self.0.remove(0);
                }
                let (session, id) = (session.clone(), id.clone());
                self.0.push(Cue { session, id, start_ms, end_ms, lines });
            }
        }
    }

    /// Forgets the cues that ended before `start` of `session`, and those of sessions that are not `alive`.
    pub(super) fn forget(&mut self, session: &SessionId, start: Pts, alive: impl Fn(&SessionId) -> bool) {
        self.0.retain(|c| if c.session == *session { c.end_ms >= start.millis() } else { alive(&c.session) });
    }

    /// The text of one segment: of all cues that overlap it the part that lies in it, as known by now.
    ///
    /// A cue over several segments is written as one cue in each, which follow each other without a gap. So no player shows
    /// it twice (VLC 3 shows a cue that stands whole in two segments on top of itself), nor two revisions of it at once.
    pub(super) fn write(&self, segment: &MediaSegment) -> String {
        let (from, to) = (segment.start.millis(), end_of(segment).millis());
        // Times far from their origin would leave the 33 bits that the media's have: the origin follows by whole hours.
        let hours = (from / HOUR_MS).saturating_sub(1);
        let mpegts = (MediaSegment::MPEGTS_AT_ZERO + hours * TICKS_AN_HOUR) % (1 << 33);
        let mut text = format!("WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:{mpegts},LOCAL:00:00:00.000\n");
        let mut due: Vec<&Cue> = self.0.iter().filter(|c| c.session == segment.session).collect();
        due.sort_by_key(|c| c.start_ms);
        for cue in due {
            let (start_ms, end_ms) = (cue.start_ms.max(from), cue.end_ms.min(to));
            if cue.lines.is_empty() || start_ms >= end_ms {
                continue;
            }
            let part = if cue.start_ms < from { format!("-{}", segment.number) } else { String::new() };
            let at = |ms: u64| clock(ms.saturating_sub(hours * HOUR_MS));
            text += &format!("\n{}{part}\n{} --> {}\n", cue.id, at(start_ms), at(end_ms));
            for line in &cue.lines {
                text += line;
                text.push('\n');
            }
        }
        text
    }
}

/// One line of cue text, without what WebVTT would take for something else.
fn escaped(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    for c in line.trim().chars() {
        match c {
            '&' => text.push_str("&amp;"),
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '\n' | '\r' | '\0' => text.push(' '),
            c => text.push(c),
        }
    }
    text
}

/// `hh:mm:ss.ttt`.
fn clock(ms: u64) -> String {
    format!("{:02}:{:02}:{:02}.{:03}", ms / HOUR_MS, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::window::samples::{caption, segment},
        *,
    };

    const HEAD: &str = "WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:900000,LOCAL:00:00:00.000\n";

    fn put(cues: &mut Cues, session: &str, id: &str, times: (u64, u64), lines: &[&str]) {
        cues.put(&SessionId::derived([session.as_bytes()]), &caption(id, times, lines));
    }

    #[test]
    fn a_cue_over_several_segments_is_one_cue_in_each() {
        let mut cues = Cues::default();
        put(&mut cues, "a", "c-1", (2500, 6200), &["<two> & three", "-->"]);
        put(&mut cues, "a", "c-0", (500, 2000), &["one"]);
        put(&mut cues, "b", "c-0", (500, 2000), &["another session"]);
        let check = |number: u64, expected: &str| {
            let text = cues.write(&segment("a", number));
            assert_eq!(text, format!("{HEAD}{expected}"), "{number}");
        };
        check(0, "\nc-0\n00:00:00.500 --> 00:00:02.000\none\n");
        check(1, "\nc-1\n00:00:02.500 --> 00:00:04.000\n&lt;two&gt; &amp; three\n--&gt;\n");
        check(2, "\nc-1-2\n00:00:04.000 --> 00:00:06.000\n&lt;two&gt; &amp; three\n--&gt;\n");
        check(3, "\nc-1-3\n00:00:06.000 --> 00:00:06.200\n&lt;two&gt; &amp; three\n--&gt;\n");
        check(4, "");
    }

    #[test]
    fn each_segment_has_the_newest_revision() {
        let mut cues = Cues::default();
        let mut check = |number: u64, end_ms: u64, lines: &[&str], expected: &str| {
            put(&mut cues, "a", "c", (1000, end_ms), lines);
            assert_eq!(cues.write(&segment("a", number)), format!("{HEAD}{expected}"), "{number}");
        };
        check(0, 2500, &["and so"], "\nc\n00:00:01.000 --> 00:00:02.000\nand so\n");
        check(1, 3000, &["and so my"], "\nc-1\n00:00:02.000 --> 00:00:03.000\nand so my\n");
        check(2, 7000, &["and so my fellow"], "\nc-2\n00:00:04.000 --> 00:00:06.000\nand so my fellow\n");
        // Taken back.
        check(3, 7000, &[], "");
    }

    #[test]
    fn times_beyond_a_day_stay_within_the_clocks_of_players() {
        let mut late = segment("a", 0);
        (late.start, late.duration) = (Pts::from_millis(30 * HOUR_MS), Duration::from_secs(2));
        let mut cues = Cues::default();
        put(&mut cues, "a", "c", (30 * HOUR_MS - 500, 30 * HOUR_MS + 1500), &["late"]);
        let text = cues.write(&late);
        assert!(text.contains("\nc-0\n01:00:00.000 --> 01:00:01.500"), "{text}");
        let mpegts = (900_000 + 29 * TICKS_AN_HOUR) % (1 << 33);
        assert!(text.contains(&format!("MPEGTS:{mpegts},LOCAL:00:00:00.000")), "{text}");
    }

    #[test]
    fn memory_is_bounded() {
        let mut cues = Cues::default();
        for n in 0..2 * MOST_CUES as u64 {
            put(&mut cues, "a", &n.to_string(), (n, n + 1), &["x"]);
        }
        assert_eq!(cues.len(), MOST_CUES);
        let a = SessionId::derived([b"a".as_slice()]);
        cues.forget(&a, Pts::from_millis(1990), |_| false);
        assert_eq!(cues.len(), 11);
        cues.forget(&SessionId::derived([b"b".as_slice()]), Pts::ZERO, |_| false);
        assert_eq!(cues.len(), 0);
    }
}
