//! Cuts a stream of speech probabilities into segments: pure, one step for every 32 ms window, no clock.
//!
//! A segment opens when speech has lasted for a while and closes after a hangover of silence. Between the two thresholds
//! (hysteresis) what was stays.

use super::{
    config::{SpeechConfig, samples},
    vad::WINDOW,
};
use std::time::Duration;

/// Below the threshold by this much, speech is over.
const HYSTERESIS: f32 = 0.15;

/// What a window changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nobody speaks, or it is too early to tell.
    Quiet,
    /// Somebody has begun to speak, so many windows ago (this one counts).
    Opened {
        /// Windows since the speech began, at least 1.
        n_windows: usize,
    },
    /// The segment goes on; whether this window was speech.
    Goes {
        /// This window was speech.
        voiced: bool,
    },
    /// The hangover is over: this window is the last of the segment.
    Closed,
}

/// The state between two windows.
#[derive(Debug)]
pub(crate) struct Segmenter {
    threshold: f32,
    min_speech: usize,
    hangover: usize,
    open: bool,
    /// Windows of a possible beginning: since its first speech, and how many of them were speech.
    since: usize,
    n_voiced: usize,
    n_silent: usize,
}

fn windows(ms: u64) -> usize {
    samples(Duration::from_millis(ms)).div_ceil(WINDOW).max(1)
}

impl Segmenter {
    pub(crate) fn new(config: &SpeechConfig) -> Self {
        Self {
            threshold: config.vad_threshold,
            min_speech: windows(config.min_speech_ms),
            hangover: windows(config.hangover_ms),
            open: false,
            since: 0,
            n_voiced: 0,
            n_silent: 0,
        }
    }

    /// Takes the probability of the next window.
    pub(crate) fn window(&mut self, probability: f32) -> Change {
        let over = probability >= self.threshold;
        let under = probability < (self.threshold - HYSTERESIS).max(0.01);
        if self.open {
            let voiced = over || (!under && self.n_silent == 0);
            self.n_silent = if voiced { 0 } else { self.n_silent + 1 };
            if self.n_silent < self.hangover {
                return Change::Goes { voiced };
            }
            self.reset();
            return Change::Closed;
        }
        if over {
            self.n_voiced += 1;
            self.n_silent = 0;
        } else if self.n_voiced > 0 {
            self.n_silent += 1;
        }
        if self.n_voiced > 0 {
            self.since += 1;
        }
        // A beginning that falls silent for as long as it could have spoken was a click.
        if self.n_silent > self.min_speech.max(4) {
            self.reset();
        }
        if self.n_voiced < self.min_speech {
            return Change::Quiet;
        }
        self.open = true;
        self.n_silent = 0;
        Change::Opened { n_windows: std::mem::take(&mut self.since) }
    }

    /// Windows since what may become the beginning of a segment; 0 when there is no sign of speech.
    pub(crate) fn since(&self) -> usize {
        self.since
    }

    /// Forgets everything: the sound before and after has nothing to do with each other.
    pub(crate) fn reset(&mut self) {
        (self.open, self.since, self.n_voiced, self.n_silent) = (false, 0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `#` is speech, `.` is silence, `~` in between. Expected: what each window changed, in letters.
    #[test]
    fn segments() {
        let config = SpeechConfig { min_speech_ms: 96, hangover_ms: 128, ..SpeechConfig::default() };
        let check = |sound: &str, expected: &str| {
            let mut segmenter = Segmenter::new(&config);
            let got: String = sound
                .chars()
                .map(|c| {
                    match segmenter.window(match c {
                        '#' => 0.9,
                        '~' => 0.4,
                        _ => 0.05,
                    }) {
                        Change::Quiet => '.',
                        Change::Opened { n_windows } => char::from_digit(n_windows as u32, 10).unwrap_or('?'),
                        Change::Goes { voiced: true } => '#',
                        Change::Goes { voiced: false } => '-',
                        Change::Closed => '|',
                    }
                })
                .collect();
            assert_eq!(got, expected, "{sound}");
        };
        check("..###....", "....3---|");
        check("..###....".trim_end_matches('.'), "....3");
        // A click opens nothing, and is forgotten.
        check("#......##.....", "..............");
        // A stutter counts from its first speech.
        check("#.##....", "...4---|");
        // The hangover begins anew with every speech; in between the thresholds what was stays.
        check("###..#...~....", "..3--#---|....");
        check("###~~~....", "..3###---|");
    }
}
