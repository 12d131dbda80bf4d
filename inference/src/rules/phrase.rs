//! Finds phrases in what was said. Pure: works on stable words only, each of which is looked at once.

use std::collections::{BTreeMap, VecDeque};

use base::{event::Word, media::SessionId, time::Pts};
use strsim::osa_distance;
use unicode_segmentation::UnicodeSegmentation as _;

use super::config::{Matching, Negated};

/// Words that are kept to look back at.
const KEPT: usize = 64;
/// Words before a phrase among which a negation belongs to it.
const NEGATES_OVER: usize = 3;
/// More than this between two words: they are not one phrase.
const LONGEST_PAUSE_MS: u64 = 5000;
/// Something else was said where more letters are off than one in so many.
const LETTERS_A_SLIP: usize = 6;
const NEGATIONS: [&str; 18] = [
    "no", "not", "never", "none", "without", "nobody", "dont", "doesnt", "didnt", "isnt", "arent", "wasnt", "werent",
    "wont", "cant", "cannot", "couldnt", "aint",
];

/// The words of a text without capitals and punctuation: `Don't!` is `dont`.
pub(super) fn tokens(text: &str) -> Vec<String> {
    let plain: String = text.chars().filter(|c| !matches!(c, '\'' | '\u{2019}')).collect();
    plain.unicode_words().map(str::to_lowercase).collect()
}

/// What a rule waits to hear.
#[derive(Debug, Clone)]
pub(super) struct Phrase {
    /// As it is written in the rule.
    pub(super) text: String,
    /// What it is, of a term.
    pub(super) term: Option<String>,
    tokens: Vec<String>,
}

/// All that a rule waits to hear, and how closely.
#[derive(Debug, Clone)]
pub(super) struct Phrases {
    phrases: Vec<Phrase>,
    matching: Matching,
    negated: Negated,
    min_confidence: f32,
}

/// Words that were said and will not change.
#[derive(Default)]
pub(super) struct Memory {
    session: Option<SessionId>,
    /// Stable words of each segment that were taken in.
    segments: BTreeMap<String, usize>,
    said: VecDeque<(Vec<String>, Word)>,
}

/// A phrase that was heard.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Heard {
    pub(super) phrase: String,
    pub(super) term: Option<String>,
    pub(super) words: Vec<Word>,
}

/// Something that a phrase was nearly, and why it was not.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NearlyHeard {
    pub(super) words: Vec<Word>,
    pub(super) why: String,
}

impl Memory {
    /// The stable words of a revision that are new, in the order of speaking. A revision that comes late has none.
    pub(super) fn new_words<'a>(&mut self, session: &SessionId, segment: &str, words: &'a [Word]) -> &'a [Word] {
        if self.session.as_ref() != Some(session) {
            *self = Self { session: Some(session.clone()), ..Self::default() };
        }
        let n_stable = words.iter().take_while(|word| word.stable).count();
        let taken = self.segments.entry(segment.to_owned()).or_default();
        let new = words.get(*taken..n_stable).unwrap_or(&[]);
        *taken = n_stable.max(*taken);
        while self.segments.len() > KEPT {
            self.segments.pop_first();
        }
        new
    }

    /// Takes in one word.
    pub(super) fn push(&mut self, word: &Word) {
        self.said.push_back((tokens(&word.text), word.clone()));
        if self.said.len() > KEPT {
            self.said.pop_front();
        }
    }
}

impl Phrases {
    pub(super) fn new(
        phrases: &[String],
        terms: &BTreeMap<String, Vec<String>>,
        (matching, negated, min_confidence): (Matching, Negated, f32),
    ) -> Self {
        let plain = phrases.iter().map(|text| (None, text));
        let typed = terms.iter().flat_map(|(term, texts)| texts.iter().map(move |text| (Some(term), text)));
        let phrase = |(term, text): (Option<&String>, &String)| Phrase {
            text: text.clone(),
            term: term.cloned(),
            tokens: tokens(text),
        };
        Self { phrases: plain.chain(typed).map(phrase).collect(), matching, negated, min_confidence }
    }

    /// What ends with the newest word of the memory.
    pub(super) fn hear(&self, memory: &Memory, near: &mut Vec<NearlyHeard>) -> Vec<Heard> {
        let mut heard = Vec::new();
        for phrase in &self.phrases {
            let Some(n_words) = self.match_length(phrase, memory, near) else { continue };
            let from = memory.said.len() - n_words;
            let words: Vec<Word> = memory.said.iter().skip(from).map(|(_, word)| word.clone()).collect();
            if let Some(weak) = words.iter().find(|word| word.confidence < self.min_confidence) {
                let why = format!(
                    "`{}` was heard with a confidence of {:.2}; {:.2} is needed",
                    weak.text, weak.confidence, self.min_confidence
                );
                near.push(NearlyHeard { words, why });
                continue;
            }
            let before = memory.said.range(from.saturating_sub(NEGATES_OVER)..from);
            let is_negated = before.clone().flat_map(|(tokens, _)| tokens).any(|t| NEGATIONS.contains(&t.as_str()));
            match (self.negated, is_negated) {
                (Negated::Left, true) => {
                    near.push(NearlyHeard { words, why: format!("`{}` was negated", phrase.text) })
                }
                (Negated::Wanted, false) => {
                    near.push(NearlyHeard { words, why: format!("`{}` was not negated", phrase.text) });
                }
                _ => heard.push(Heard { phrase: phrase.text.clone(), term: phrase.term.clone(), words }),
            }
        }
        heard
    }

    /// Of how many of the newest words a phrase consists.
    fn match_length(&self, phrase: &Phrase, memory: &Memory, near: &mut Vec<NearlyHeard>) -> Option<usize> {
        let wanted: usize = phrase.tokens.iter().map(String::len).sum();
        let mut tokens: VecDeque<&str> = VecDeque::new();
        let mut later: Option<Pts> = None;
        let may_all_differ = |tokens: &mut dyn Iterator<Item = &str>| tokens.map(may_differ).sum::<usize>();
        let mut best: Option<(usize, usize, usize)> = None;
        for (n_words, (of_word, word)) in (1..).zip(memory.said.iter().rev()) {
            if later.is_some_and(|later| later.since(word.end).as_millis() as u64 > LONGEST_PAUSE_MS) {
                break;
            }
            later = Some(word.start);
            of_word.iter().rev().for_each(|token| tokens.push_front(token));
            if tokens.iter().copied().eq(phrase.tokens.iter().map(String::as_str)) {
                return Some(n_words);
            }
            let length: usize = tokens.iter().map(|token| token.len()).sum();
            if tokens.len() > phrase.tokens.len() + 1 || length > wanted + 8 {
                break;
            }
            if tokens.len() + 1 >= phrase.tokens.len() {
                let joined: String = tokens.iter().copied().collect();
                let distance = osa_distance(&joined, &phrase.tokens.concat());
                if best.is_none_or(|(least, ..)| distance < least) {
                    best = Some((distance, n_words, may_all_differ(&mut tokens.iter().copied())));
                }
            }
        }
        let (distance, n_words, may_differ_as_said) = best?;
        // It was heard just now, and a word later it is nearly heard.
        let before: Vec<&str> = memory
            .said
            .iter()
            .rev()
            .skip(1)
            .take(phrase.tokens.len())
            .flat_map(|(of_word, _)| of_word.iter().rev())
            .map(String::as_str)
            .collect();
        if before.iter().rev().copied().eq(phrase.tokens.iter().map(String::as_str)) {
            return None;
        }
        // A short word is not a long one misheard.
        let allowed = may_all_differ(&mut phrase.tokens.iter().map(String::as_str)).min(may_differ_as_said);
        if self.matching == Matching::Fuzzy && distance <= allowed {
            return Some(n_words);
        }
        if distance <= (allowed + 1).min((wanted / LETTERS_A_SLIP).max(1)) && wanted > 3 {
            let words: Vec<Word> = memory.said.iter().rev().take(n_words).rev().map(|(_, word)| word.clone()).collect();
            let said: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
            let letters = if distance == 1 { "one letter".to_owned() } else { format!("{distance} letters") };
            near.push(NearlyHeard { why: format!("`{}` is {letters} off `{}`", said.join(" "), phrase.text), words });
        }
        None
    }
}

/// Letters in which a word may differ and still be taken for it.
fn may_differ(token: &str) -> usize {
    match token.chars().count() {
        0..=4 => 0,
        5..=7 => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says a text, a word every 400 ms; gives what was heard and what nearly was.
    fn say(phrases: &Phrases, text: &str) -> (Vec<String>, Vec<String>) {
        let mut memory = Memory::default();
        let (mut heard, mut near) = (Vec::new(), Vec::new());
        for (at, word) in text.split_whitespace().enumerate() {
            let (start, end) = (Pts::from_millis(at as u64 * 400), Pts::from_millis(at as u64 * 400 + 300));
            let word = Word { text: word.into(), start, end, confidence: 0.9, stable: true };
            memory.push(&word);
            heard.extend(phrases.hear(&memory, &mut near).into_iter().map(|heard| heard.phrase));
        }
        (heard, near.into_iter().map(|near| near.why).collect())
    }

    fn phrases(texts: &[&str], matching: Matching, negated: Negated) -> Phrases {
        let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
        Phrases::new(&texts, &BTreeMap::new(), (matching, negated, 0.5))
    }

    #[test]
    fn exact_and_fuzzy() {
        let check = |text: &str, phrase: &str, exact: usize, fuzzy: usize| {
            for (matching, expected) in [(Matching::Exact, exact), (Matching::Fuzzy, fuzzy)] {
                let (heard, near) = say(&phrases(&[phrase], matching, Negated::Ignored), text);
                assert_eq!(heard.len(), expected, "{phrase} in {text}, {matching:?}: {heard:?}, {near:?}");
            }
        };
        check("please Help!", "help", 1, 1);
        check("she held his hand and helped, in good health, the whelp at the helm", "help", 0, 0);
        check("my fellow Americans", "fellow americans", 1, 1);
        check("my yellow Americans", "fellow americans", 0, 1);
        check("a fellow American's dream", "fellow americans", 1, 1);
        check("any one there", "anyone", 0, 1);
        check("how much there might be", "mulch", 0, 0);
        check("call the police. Call the police!", "call the police", 2, 2);
        check("call a police officer", "call the police", 0, 0);
        check("they called the polish team", "call the police", 0, 0);
        check("don't move", "don\u{2019}t move", 1, 1);
        check("fire, fire, fire", "fire", 3, 3);
        check("fired a fireman's hire", "fire", 0, 0);
    }

    #[test]
    fn negations() {
        let check = |text: &str, negated: Negated, expected: usize| {
            let (heard, near) = say(&phrases(&["fire"], Matching::Exact, negated), text);
            assert_eq!(heard.len(), expected, "{text}, {negated:?}: {near:?}");
            assert!(expected > 0 || near.iter().any(|why| why.contains("negated")), "{near:?}");
        };
        check("there is no fire", Negated::Ignored, 1);
        check("there is no fire", Negated::Left, 0);
        check("there isn't any fire", Negated::Left, 0);
        check("there is a fire", Negated::Left, 1);
        check("nobody came when it began to be on fire", Negated::Left, 1);
        check("there is no fire", Negated::Wanted, 1);
        check("there is a fire", Negated::Wanted, 0);
    }

    #[test]
    fn near_misses_are_told() {
        let (heard, near) =
            say(&phrases(&["fellow Americans"], Matching::Exact, Negated::Ignored), "my fellow Americans ask");
        assert_eq!((heard.len(), near), (1, Vec::new()));
        let (heard, near) = say(&phrases(&["fellow"], Matching::Exact, Negated::Ignored), "a yellow car");
        assert_eq!((heard.len(), near), (0, vec!["`yellow` is one letter off `fellow`".to_owned()]));
        // In a long phrase, a few letters are few words.
        let check = |phrase: &str, text: &str, matching: Matching, expected: usize| {
            let (heard, near) = say(&phrases(&[phrase], matching, Negated::Ignored), text);
            assert_eq!((heard.len(), near.len()), (0, expected), "{phrase} in {text}: {near:?}");
        };
        check("fire in the kitchen", "fire in the kitten", Matching::Exact, 1);
        check("fire in the kitchen", "there is a fire in this chicken", Matching::Exact, 0);
        check("call the manager", "called a manager", Matching::Exact, 0);
        check("call the manager", "call the manger", Matching::Exact, 1);
    }

    #[test]
    fn a_word_is_taken_once() {
        let word =
            |text: &str, stable| Word { text: text.into(), start: Pts::ZERO, end: Pts::ZERO, confidence: 1.0, stable };
        let mut memory = Memory::default();
        let session = SessionId::derived([]);
        let revision = [word("a", true), word("b", false)];
        let mut n_new = |words: &[Word]| memory.new_words(&session, "s", words).len();
        assert_eq!(n_new(&revision), 1);
        assert_eq!(n_new(&revision), 0);
        assert_eq!(n_new(&[word("a", true), word("c", true), word("d", true)]), 2);
        assert_eq!(n_new(&revision), 0, "a revision that comes late");
    }

    #[test]
    fn a_long_pause_ends_a_phrase() {
        let phrases = phrases(&["thank you"], Matching::Exact, Negated::Ignored);
        let mut memory = Memory::default();
        for (text, at) in [("thank", 0), ("you", 9000)] {
            let (start, end) = (Pts::from_millis(at), Pts::from_millis(at + 300));
            memory.push(&Word { text: text.into(), start, end, confidence: 1.0, stable: true });
        }
        assert!(phrases.hear(&memory, &mut Vec::new()).is_empty());
    }
}
