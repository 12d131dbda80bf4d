//! How words firm up: LocalAgreement-2 (Machacek, Dabre, Bojar 2023, "Turning Whisper into Real-Time Transcription System",
//! section 3), with the refinements that live captions need. Pure, no clock, no I/O.
//!
//! A word becomes stable when two hypotheses in a row agree on it and on everything before it, and when it does not stand
//! at the very edge of the sound. What is stable never changes again; the model is forced to begin with it.

use std::time::Duration;

use super::transcriber::{HeardWord, Token};

/// A word at its place in the stretch of sound that is being transcribed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FirmWord {
    /// Samples at 16 kHz from the beginning of the stream's sound, as time.
    pub(crate) start: Duration,
    pub(crate) end: Duration,
    pub(crate) text: String,
    pub(crate) confidence: f32,
    pub(crate) tokens: Vec<Token>,
}

impl FirmWord {
    /// The word of a hypothesis about sound that begins at `origin`.
    pub(crate) fn heard(word: &HeardWord, tokens: &[Token], origin: Duration) -> Self {
        Self {
            start: origin + word.span.start,
            end: origin + word.span.end,
            text: word.text.clone(),
            confidence: word.confidence,
            tokens: tokens.get(word.tokens.clone()).unwrap_or_default().to_vec(),
        }
    }
}

/// Letters and digits only, in lower case: what two hypotheses must have in common to agree on a word.
pub(crate) fn bare(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Words so far: stable ones, then those of the newest hypothesis.
#[derive(Debug, Default)]
pub(crate) struct Firming {
    /// No word begins before this.
    begin: Duration,
    pub(crate) stable: Vec<FirmWord>,
    /// What the newest hypothesis says after them.
    pub(crate) open: Vec<FirmWord>,
}

/// How far from the edge of the sound words may become stable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edge {
    /// End of the sound that the hypothesis knew.
    pub(crate) heard_until: Duration,
    /// Words that end later than this before the edge stay open: what comes next may change them.
    pub(crate) margin: Duration,
    /// Words that are less sure than this need three times the margin.
    pub(crate) doubt: f32,
}

impl Firming {
    /// No words yet; what was said before `begin` belongs to somebody else.
    pub(crate) fn after(begin: Duration) -> Self {
        Self { begin, ..Self::default() }
    }

    /// Takes the words that a hypothesis has after the stable ones, and gives how many of them became stable.
    pub(crate) fn revise(&mut self, mut tail: Vec<FirmWord>, edge: Edge) -> usize {
        self.put_in_order(&mut tail);
        let agreed = tail.iter().zip(&self.open).take_while(|(new, old)| agree(new, old)).count();
        // The last word of either hypothesis may be half a word.
        let known = agreed.min(tail.len().saturating_sub(1));
        let settled = |w: &&FirmWord| {
            let margin = if w.confidence < edge.doubt { edge.margin * 3 } else { edge.margin };
            w.end + margin <= edge.heard_until
        };
        let silent_after =
            tail.len() == agreed && tail.last().is_some_and(|w| w.end + edge.margin * 2 <= edge.heard_until);
        let most = if silent_after { agreed } else { known };
        let n = tail[..most].iter().take_while(settled).count();
        self.open = tail.split_off(n);
        self.stable.extend(tail);
        n
    }

    /// Everything open becomes stable: nothing more will be heard.
    pub(crate) fn settle(&mut self, mut tail: Vec<FirmWord>) {
        self.put_in_order(&mut tail);
        self.open.clear();
        self.stable.extend(tail);
    }

    /// Words follow each other: none begins before the one before it ends, none ends before it begins.
    fn put_in_order(&self, tail: &mut [FirmWord]) {
        let mut from = self.stable.last().map_or(self.begin, |w| w.end);
        for word in tail {
            word.start = word.start.max(from);
            word.end = word.end.max(word.start);
            from = word.end;
        }
    }
}

fn agree(new: &FirmWord, old: &FirmWord) -> bool {
    bare(&new.text) == bare(&old.text)
}

/// The words of a hypothesis that come after `known` words, for a model that could not be forced to begin with them:
/// the words in common are left out where they stand, and so is what was spoken before the last known word's end.
pub(crate) fn after_known(known: &[FirmWord], mut words: Vec<FirmWord>) -> Vec<FirmWord> {
    let Some(last) = known.last() else { return words };
    let same = words.iter().zip(known).take_while(|(w, k)| agree(w, k)).count();
    if same == known.len() {
        return words.split_off(same);
    }
    // By time, then without what is said twice across the seam (whisper_streaming does the same with up to 5 words).
    words.retain(|w| (w.start + w.end) / 2 > last.end);
    let most = words.len().min(known.len()).min(5);
    for n in (1..=most).rev() {
        if known[known.len() - n..].iter().zip(&words).all(|(k, w)| agree(w, k)) {
            return words.split_off(n);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `text@end_ms`, each word 200 ms long.
    fn words(text: &str) -> Vec<FirmWord> {
        text.split_whitespace()
            .map(|w| {
                let (text, end) = w.split_once('@').expect("text@ms");
                let end = Duration::from_millis(end.parse().expect("ms"));
                let (start, text) = (end.saturating_sub(Duration::from_millis(200)), text.to_owned());
                FirmWord { start, end, text, confidence: 0.9, tokens: vec![1] }
            })
            .collect()
    }

    fn text(words: &[FirmWord]) -> String {
        words.iter().map(|w| w.text.as_str()).collect::<Vec<_>>().join(" ")
    }

    fn edge(ms: u64) -> Edge {
        Edge { heard_until: Duration::from_millis(ms), margin: Duration::from_millis(100), doubt: 0.5 }
    }

    #[test]
    fn words_firm_up_when_two_hypotheses_agree() {
        let mut firming = Firming::default();
        let mut check = |heard: &str, until: u64, stable: &str, open: &str| {
            let tail = after_known(&firming.stable, words(heard));
            firming.revise(tail, edge(until));
            assert_eq!((text(&firming.stable).as_str(), text(&firming.open).as_str()), (stable, open), "{heard}");
        };
        check("and@400 so@800 my@1000", 1200, "", "and so my");
        // Agreed, but the last word of a hypothesis may be half of one.
        check("And@400 so,@800 my@1000 fell@1400", 1450, "And so, my", "fell");
        check("And@400 so,@800 my@1000 fellow@1500 Ameri@1900", 1950, "And so, my", "fellow Ameri");
        // `fellow` is now agreed; `Americans` not yet.
        check("And@400 so,@800 my@1000 fellow@1500 Americans@2100", 2400, "And so, my fellow", "Americans");
        // Silence follows: the last word firms up too.
        check("And@400 so,@800 my@1000 fellow@1500 Americans.@2100", 2900, "And so, my fellow Americans.", "");
        assert!(firming.stable.is_sorted_by(|a, b| a.end <= b.start));
    }

    #[test]
    fn what_is_known_is_found_again() {
        let check = |known: &str, heard: &str, expected: &str| {
            assert_eq!(text(&after_known(&words(known), words(heard))), expected, "{heard}");
        };
        check("", "a@200 b@400", "a b");
        check("a@200 b@400", "A@200 b,@400 c@600", "c");
        // Heard anew with other words: by time.
        check("a@200 b@400", "x@200 y@400 c@700", "c");
        // Said twice across the seam.
        check("one@200 two@400 three@600", "won@200 two@700 three@900 four@1100", "four");
    }

    proptest! {
        /// Whatever a model says, in whatever order of times: what was stable once stays as it was, and words are in order.
        #[test]
        fn stable_words_never_change(
            rounds in prop::collection::vec(prop::collection::vec((0..4_usize, 0..5000_u64, 0..100_u32), 0..8), 1..20)
        ) {
            let mut firming = Firming::default();
            let names = ["yes", "no", "Yes,", "maybe"];
            for (i, round) in rounds.into_iter().enumerate() {
                let before = firming.stable.clone();
                let heard = round.into_iter().map(|(name, end, confidence)| FirmWord {
                    start: Duration::from_millis(end / 2),
                    end: Duration::from_millis(end),
                    text: names[name].into(),
                    confidence: confidence as f32 / 100.0,
                    tokens: vec![],
                }).collect();
                let tail = after_known(&firming.stable, heard);
                if i % 7 == 6 { firming.settle(tail) } else { firming.revise(tail, edge(i as u64 * 400)); }
                prop_assert_eq!(&firming.stable[..before.len()], &before[..]);
                let all: Vec<_> = firming.stable.iter().chain(&firming.open).collect();
                prop_assert!(all.windows(2).all(|w| w[0].end <= w[1].start));
                prop_assert!(all.iter().all(|w| w.start <= w.end));
            }
        }
    }
}
