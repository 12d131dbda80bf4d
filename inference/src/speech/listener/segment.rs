//! A stretch of speech while it is open: what was heard of it, and what was told. Pure.

use base::event::Word;

use super::super::{
    config::time,
    firming::{FirmWord, Firming},
    vad::WINDOW,
};

/// Positions are samples since the last break of the sound.
pub(super) struct Segment {
    pub(super) number: u64,
    /// First sample that belongs to it.
    pub(super) start: usize,
    /// First sample that the model is shown.
    pub(super) view: usize,
    /// Stable words in view, the ones of the segment before among them.
    pub(super) known: Vec<FirmWord>,
    pub(super) firming: Firming,
    pub(super) n_revisions: u32,
    /// Sound known to the last hypothesis; 0 before the first.
    pub(super) heard: usize,
    /// End of the last speech, and the same when the last hypothesis was made.
    pub(super) voiced: usize,
    pub(super) voiced_then: usize,
    /// The last hypothesis stands: it was not refused.
    pub(super) trusted: bool,
    /// Next time a refused hypothesis may be tried on a longer context.
    pub(super) retry_from: usize,
    /// Probability of speech of each window from `start` on.
    pub(super) probabilities: Vec<f32>,
    pub(super) language: Option<String>,
    pub(super) told: Vec<Word>,
}

impl Segment {
    pub(super) fn new(number: u64, start: usize, voiced: usize) -> Self {
        Self {
            number,
            start,
            view: start,
            known: Vec::new(),
            firming: Firming::after(time(start)),
            n_revisions: 0,
            heard: 0,
            voiced,
            voiced_then: 0,
            trusted: false,
            retry_from: 0,
            probabilities: Vec::new(),
            language: None,
            told: Vec::new(),
        }
    }

    /// The newest `n` stable words came into view.
    pub(super) fn learn(&mut self, n: usize) {
        let stable = &self.firming.stable;
        self.known.extend_from_slice(&stable[stable.len() - n..]);
    }

    /// Highest probability of speech between two samples; 1 where none is known.
    pub(super) fn most_voiced(&self, from: usize, to: usize) -> f32 {
        let index = |position: usize| position.saturating_sub(self.start) / WINDOW;
        let (from, to) = (index(from), index(to).max(index(from)) + 1);
        let known = self.probabilities.get(from.min(self.probabilities.len())..to.min(self.probabilities.len()));
        match known {
            None | Some([]) => 1.0,
            Some(known) => known.iter().copied().fold(0.0, f32::max),
        }
    }
}
