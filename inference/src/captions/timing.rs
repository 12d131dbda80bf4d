//! When cues appear and go. Pure; all times in nanoseconds of stream time.

use super::config::Limits;

/// What is said in one cue.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Speech {
    /// Number of the cue.
    pub(super) cue: u64,
    /// Its first word begins.
    pub(super) start: u64,
    /// Its last word ends.
    pub(super) end: u64,
    /// Of all lines, in columns.
    pub(super) width: usize,
    /// Its first word will not change.
    pub(super) first_fixed: bool,
    /// None of its words will.
    pub(super) all_fixed: bool,
    pub(super) n_units: usize,
    pub(super) lines: Vec<String>,
}

/// When a cue is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) end: u64,
}

/// How far a session is.
#[derive(Debug, Default)]
pub(super) struct Timing {
    /// Everything before has been heard.
    pub(super) heard: u64,
    /// The last final cue goes.
    pub(super) last_end: u64,
    /// No cue will begin before.
    floor: u64,
    /// No caption before will change, or come.
    pub(super) settled: u64,
}

impl Timing {
    pub(super) fn heard(&mut self, now: u64) {
        self.heard = self.heard.max(now);
    }

    /// The spans of all cues that are not final.
    pub(super) fn spans(&self, limits: &Limits, speeches: &[Speech]) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::with_capacity(speeches.len());
        let mut free_from = self.last_end.max(self.floor);
        for speech in speeches {
            let start = speech.start.max(free_from);
            // Held up by what cannot be changed any more, it still gets the time that its words took.
            let spoken = start + (speech.end - speech.start);
            if let Some(before) = spans.last_mut() {
                // `free_from` is where the words before end.
                before.end = before.end.min(start.saturating_sub(limits.gap)).max(free_from);
            }
            let readable = start + limits.min.max(limits.ns_per_column * speech.width as u64);
            let most = spoken.max(start + limits.max);
            spans.push(Span { start, end: readable.max(spoken + limits.linger).min(most) });
            free_from = spoken;
        }
        spans
    }

    /// `open` is the first cue that is not final, with its span and whether no more words can join it; `speaking` is where
    /// the speech began of which words may still come.
    pub(super) fn settle(&mut self, open: Option<(&Speech, Span, bool)>, speaking: Option<u64>) {
        let floor = match (open, speaking) {
            (Some((speech, span, _)), _) if speech.first_fixed => span.start,
            (Some((_, span, _)), Some(began)) => self.last_end.max(self.heard.min(began).min(span.start)),
            (None, Some(began)) => self.last_end.max(self.heard.min(began)),
            (_, None) => self.last_end.max(self.heard),
        };
        self.floor = self.floor.max(floor);
        // A cue that is complete is shown at least until its words end.
        let spoken = match open {
            Some((speech, span, true)) if speech.all_fixed => span.start + (speech.end - speech.start),
            _ => 0,
        };
        self.settled = self.settled.max(self.floor).max(spoken);
    }
}
