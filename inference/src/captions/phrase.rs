//! Where a text may be broken: after punctuation, at a pause, before a word that opens a phrase; never after an article.
//!
//! Follows the segmentation rules of the BBC's subtitle guidelines and of Netflix's timed text style guide: break after
//! punctuation, before conjunctions, before prepositions; keep an article with its noun, an auxiliary with its verb, a
//! first name with its last name. The word lists are English; elsewhere punctuation and pauses decide. Pure.

use super::units::Unit;

/// Words that open a clause.
const CONJUNCTIONS: [&str; 26] = [
    "after", "although", "and", "as", "because", "before", "but", "how", "if", "nor", "once", "or", "since", "so",
    "than", "that", "though", "unless", "until", "what", "when", "where", "which", "while", "who", "why",
];

/// Words that open a phrase within a clause.
const PREPOSITIONS: [&str; 27] = [
    "about", "above", "across", "against", "along", "among", "around", "at", "behind", "between", "by", "during",
    "for", "from", "in", "inside", "into", "like", "of", "on", "over", "through", "to", "toward", "under", "with",
    "without",
];

/// Words that belong to the one after them.
const LEADING: [&str; 48] = [
    "a", "an", "the", "my", "your", "his", "her", "its", "our", "their", "this", "these", "those", "every", "each",
    "no", "some", "any", "very", "not", "is", "are", "was", "were", "am", "be", "been", "has", "have", "had", "do",
    "does", "did", "will", "would", "shall", "should", "can", "could", "may", "might", "must", "i", "we", "they", "he",
    "she", "mr",
];

/// How bad it is to break before `next`: 0 after a sentence, about 20 anywhere, 38 between an article and its noun.
pub(super) fn badness(prev: &Unit, next: &Unit, english: bool) -> f32 {
    if next.glued {
        // In the middle of a word that is too wide for any line: only there because it must.
        return 0.0;
    }
    if ends_sentence(&prev.text) {
        return 0.0;
    }
    if prev.text.ends_with([',', ';', ':', '–', '—', '…', '、', '，', '；', '：', '،', '؛']) {
        return 2.0;
    }
    let pause_ms = next.start.saturating_sub(prev.end) / 1_000_000;
    let by_pause = if pause_ms >= 300 { 5.0 } else { f32::INFINITY };
    let (prev_word, next_word) = (bare(&prev.text), bare(&next.text));
    let by_words = if !english {
        20.0
    } else if LEADING.contains(&&*prev_word) {
        38.0
    } else if PREPOSITIONS.contains(&&*prev_word) || CONJUNCTIONS.contains(&&*prev_word) {
        34.0
    } else if CONJUNCTIONS.contains(&&*next_word) {
        6.0
    } else if PREPOSITIONS.contains(&&*next_word) {
        9.0
    } else if is_name(&prev.text) && is_name(&next.text) {
        30.0
    } else {
        20.0
    };
    by_pause.min(by_words)
}

/// Whether a line that ends with this asks for the next word.
pub(super) fn leads_on(text: &str, english: bool) -> bool {
    let word = bare(text);
    english
        && !text.ends_with(|c: char| c.is_ascii_punctuation())
        && (LEADING.contains(&&*word) || PREPOSITIONS.contains(&&*word) || CONJUNCTIONS.contains(&&*word))
}

/// Whether the text ends a sentence; closing quotes and brackets do not matter.
pub(super) fn ends_sentence(text: &str) -> bool {
    let text = text.trim_end_matches(['"', '\'', '”', '’', '»', ')', ']', '」', '』']);
    text.ends_with(['.', '!', '?', '。', '！', '？', '؟', '।']) && !text.ends_with("Mr.") && !text.ends_with("Dr.")
}

/// Small letters only, without punctuation around them.
pub(super) fn bare(text: &str) -> String {
    text.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase()
}

fn is_name(text: &str) -> bool {
    text.starts_with(char::is_uppercase) && bare(text).chars().count() > 1
}
