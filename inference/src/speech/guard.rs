//! The guard against invented words: layers of evidence, never a list of phrases. Pure.
//!
//! Before it stands voice activity detection. Here: the model's own doubts (no-speech and log-probability, Radford et al.
//! 2022, section 4.5), repetition, and words that lie where nobody spoke.

use std::time::Duration;

use super::{firming::FirmWord, transcriber::Hypothesis};

/// Limits, from the model's manifest.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Guard {
    /// More probably no speech than this...
    pub(crate) no_speech: f32,
    /// ...and a mean log-probability below this: nobody spoke. Below this alone: doubtful.
    pub(crate) logprob: f32,
    /// Text that compresses better than this repeats itself.
    pub(crate) compression: f32,
}

impl Default for Guard {
    fn default() -> Self {
        Self { no_speech: 0.6, logprob: -1.0, compression: 2.4 }
    }
}

/// What to think of a hypothesis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Words that were spoken.
    Words,
    /// Nobody spoke.
    Nothing,
    /// To be asked again.
    Doubtful,
}

/// Words lie at most so far from where they were spoken.
const SLACK: Duration = Duration::from_millis(350);
/// A word needs one window of at least this probability of speech nearby.
const VOICED: f32 = 0.25;

/// Words that are less sure than this on the average were guessed.
const GUESSED: f32 = 0.25;

/// The mean; 1 of nothing.
pub(crate) fn mean(values: impl ExactSizeIterator<Item = f32>) -> f32 {
    let n = values.len();
    if n == 0 { 1.0 } else { values.sum::<f32>() / n as f32 }
}

impl Guard {
    /// The context of a second try: all that the model takes.
    pub(crate) const LONG_CONTEXT: Duration = Duration::from_secs(30);

    pub(crate) fn judge(&self, heard: &Hypothesis) -> Verdict {
        if heard.words.is_empty() {
            return Verdict::Nothing;
        }
        if heard.no_speech > self.no_speech && heard.avg_logprob < self.logprob {
            return Verdict::Nothing;
        }
        let unsure = mean(heard.words.iter().map(|w| w.confidence)) < GUESSED;
        if heard.cut || heard.compression_ratio > self.compression || heard.avg_logprob < self.logprob || unsure {
            return Verdict::Doubtful;
        }
        Verdict::Words
    }

    /// Leaves out the words around which nobody spoke, by the highest probability of speech in a span, and those at the
    /// end that take no time: the model ran ahead of the sound.
    pub(crate) fn over_speech(
        &self,
        mut words: Vec<FirmWord>,
        most_voiced: impl Fn(Duration, Duration) -> f32,
    ) -> Vec<FirmWord> {
        let n_ahead = words.iter().rev().take_while(|w| w.end <= w.start).count();
        if n_ahead > 1 {
            words.truncate(words.len() - n_ahead);
        }
        words.retain(|w| most_voiced(w.start.saturating_sub(SLACK), w.end + SLACK) >= VOICED);
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speech::transcriber::HeardWord;

    #[test]
    fn verdicts() {
        let word = HeardWord {
            text: "hello".into(),
            span: Duration::ZERO..Duration::from_millis(300),
            confidence: 0.9,
            tokens: 0..1,
        };
        let check = |change: fn(&mut Hypothesis), expected| {
            let mut heard = Hypothesis { words: vec![word.clone()], avg_logprob: -0.3, ..Hypothesis::default() };
            change(&mut heard);
            assert_eq!(Guard::default().judge(&heard), expected, "{heard:?}");
        };
        check(|_| {}, Verdict::Words);
        check(|h| h.words.clear(), Verdict::Nothing);
        // Unsure whether there is speech, but sure of the words: they count.
        check(|h| h.no_speech = 0.9, Verdict::Words);
        check(|h| (h.no_speech, h.avg_logprob) = (0.9, -1.2), Verdict::Nothing);
        check(|h| h.avg_logprob = -1.2, Verdict::Doubtful);
        check(|h| h.compression_ratio = 3.0, Verdict::Doubtful);
        check(|h| h.cut = true, Verdict::Doubtful);
        check(|h| h.words[0].confidence = 0.16, Verdict::Doubtful);
    }

    #[test]
    fn words_lie_where_somebody_spoke() {
        let word = |ms| FirmWord {
            start: Duration::from_millis(ms),
            end: Duration::from_millis(ms + 200),
            text: ms.to_string(),
            confidence: 0.9,
            tokens: vec![],
        };
        let spoke_until = Duration::from_secs(2);
        let voiced = |from: Duration, _| if from < spoke_until { 0.9 } else { 0.1 };
        let left = Guard::default().over_speech(vec![word(500), word(2200), word(2800)], voiced);
        assert_eq!(left.iter().map(|w| w.text.as_str()).collect::<Vec<_>>(), ["500", "2200"]);
    }
}
