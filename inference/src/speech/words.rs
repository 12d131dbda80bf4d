//! From tokens to words: pieces of text are joined to words, and silence is taken off a word's ends. Pure.

use std::{ops::Range, time::Duration};

use super::transcriber::HeardWord;

/// One token: a piece of UTF-8 text, maybe a part of a character.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) bytes: Vec<u8>,
    /// 0..=1.
    pub(super) probability: f32,
    /// From the end of the token before.
    pub(super) span: Range<Duration>,
}

/// Samples of one step of loudness: 10 ms.
const STEP: usize = 160;
/// Silence is what is not louder than this many times the background: what a tenth of the steps stay under...
const ABOVE_BACKGROUND: f32 = 2.5;
/// ...but at least and at most this part of the loudest step (-40 and -24 dB), for sound that has no background or no pause.
const SILENCE: [f32; 2] = [0.01, 0.06];
/// Nobody takes longer for one word; what the alignment gives beyond is the pause before it.
const LONGEST: Duration = Duration::from_millis(1500);
/// A word lasts at least this long where there is room.
const SHORTEST: Duration = Duration::from_millis(60);

/// The words of a call about these samples (16 kHz), in order; none overlaps another or ends behind the sound.
pub(super) fn join(pieces: &[Piece], samples: &[f32]) -> Vec<HeardWord> {
    let loudness = Loudness::of(samples);
    let mut words: Vec<HeardWord> = Vec::new();
    for unit in characters(pieces) {
        let new = words.is_empty() || begins_word(&unit.text);
        let sounds = unit.text.contains(char::is_alphanumeric);
        match words.last_mut() {
            Some(word) if !new => {
                word.text.push_str(&unit.text);
                word.tokens.end = unit.tokens.end;
                // Punctuation takes no time: what the alignment gives to it is the pause behind the word.
                if sounds {
                    word.span.end = unit.span.end;
                }
            }
            _ => words.push(HeardWord { text: unit.text, span: unit.span, confidence: 0.0, tokens: unit.tokens }),
        }
    }
    let mut end = Duration::ZERO;
    for word in &mut words {
        word.text = word.text.trim().to_owned();
        let of_word = &pieces[word.tokens.clone()];
        word.confidence = of_word.iter().map(|p| p.probability).sum::<f32>() / of_word.len().max(1) as f32;
        let span = loudness.trim(word.span.clone());
        word.span = span.start.max(end)..span.end.max(end);
        end = word.span.end;
    }
    words.retain(|w| !w.text.is_empty());
    words
}

/// A blank or a letter of a writing that knows no blanks between words begins one.
fn begins_word(text: &str) -> bool {
    text.starts_with(char::is_whitespace) || text.starts_with(without_blanks)
}

/// Writings without blanks: Han, Kana, Thai, Lao, Burmese, Khmer, Tibetan.
fn without_blanks(c: char) -> bool {
    matches!(c, '\u{0e00}'..='\u{0eff}' | '\u{0f00}'..='\u{0fff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
        | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{20000}'..='\u{2ffff}')
        && c.is_alphanumeric()
}

/// One or more whole characters, and the tokens they come from.
struct Unit {
    text: String,
    tokens: Range<usize>,
    span: Range<Duration>,
}

/// Joins the tokens that share a character.
fn characters(pieces: &[Piece]) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut bytes: Vec<u8> = Vec::new();
    let mut first = 0;
    for (i, piece) in pieces.iter().enumerate() {
        bytes.extend_from_slice(&piece.bytes);
        let whole = match std::str::from_utf8(&bytes) {
            Ok(_) => true,
            // A character goes on in the next token; what can be none any more is written as a replacement.
            Err(e) => e.error_len().is_some() || i + 1 == pieces.len(),
        };
        if whole {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            units.push(Unit { text, tokens: first..i + 1, span: pieces[first].span.start..piece.span.end });
            bytes.clear();
            first = i + 1;
        }
    }
    units
}

/// How loud the sound is, in steps of 10 ms.
struct Loudness {
    steps: Vec<f32>,
    silence: f32,
    end: Duration,
}

impl Loudness {
    fn of(samples: &[f32]) -> Self {
        let rms = |step: &[f32]| (step.iter().map(|s| s * s).sum::<f32>() / step.len() as f32).sqrt();
        let steps: Vec<f32> = samples.chunks(STEP).map(rms).collect();
        let mut sorted = steps.clone();
        sorted.sort_by(f32::total_cmp);
        let background = sorted.get(sorted.len() / 10).copied().unwrap_or(0.0);
        let [least, most] = SILENCE.map(|part| part * sorted.last().copied().unwrap_or(0.0));
        let silence = (background * ABOVE_BACKGROUND).max(least).min(most);
        Self { steps, silence, end: Duration::from_micros(samples.len() as u64 * 1000 / 16) }
    }

    /// The span without silence at its ends, neither too long nor, where there is room, too short.
    fn trim(&self, span: Range<Duration>) -> Range<Duration> {
        let place = |t: Duration| ((t.as_millis() / 10) as usize).min(self.steps.len());
        let (from, to) = (place(span.start), place(span.end));
        let loud = |i: &usize| self.steps[*i] > self.silence;
        let time = |i: usize| Duration::from_millis(i as u64 * 10);
        let start = (from..to).find(loud).map_or(span.start, time);
        let end = (from..to).rfind(loud).map_or(span.end, |i| time(i + 1));
        let end = end.max(span.start + SHORTEST).min(span.end).min(self.end);
        let start = start.min(end.saturating_sub(SHORTEST)).max(span.start);
        start.max(end.saturating_sub(LONGEST))..end.max(start.min(self.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Tokens that end at these milliseconds.
    fn pieces(tokens: &[(&[u8], u64)]) -> Vec<Piece> {
        let mut before = Duration::ZERO;
        let mut pieces = Vec::new();
        for (i, (bytes, end)) in tokens.iter().enumerate() {
            let probability = 1.0 / (i + 1) as f32;
            pieces.push(Piece { bytes: bytes.to_vec(), probability, span: before..ms(*end) });
            before = ms(*end);
        }
        pieces
    }

    /// A second for each number: how loud it is.
    fn sound(seconds: &[f32]) -> Vec<f32> {
        seconds.iter().flat_map(|s| (0..16_000).map(move |i| if i % 2 == 0 { *s } else { -*s })).collect()
    }

    fn spans(words: &[HeardWord]) -> Vec<(&str, u128, u128)> {
        words.iter().map(|w| (w.text.as_str(), w.span.start.as_millis(), w.span.end.as_millis())).collect()
    }

    #[test]
    fn tokens_become_words() {
        let check = |tokens: &[(&[u8], u64)], expected: &[&str], last: Range<usize>| {
            let words = join(&pieces(tokens), &sound(&[0.5, 0.5]));
            assert_eq!(words.iter().map(|w| w.text.as_str()).collect::<Vec<_>>(), expected);
            assert_eq!(words.last().map(|w| w.tokens.clone()), Some(last));
        };
        check(&[(b" Un", 100), (b"der", 200), (b",", 250), (b" you", 400), (b".", 400)], &["Under,", "you."], 3..5);
        check(&[(b"Un", 100), (b"til", 200), (b" now", 300)], &["Until", "now"], 2..3);
        // A character of three bytes over two tokens, in a writing without blanks; its punctuation stays with it.
        check(
            &[(b"\xe4\xbd", 100), (b"\xa0", 200), ("好".as_bytes(), 300), ("。".as_bytes(), 300)],
            &["你", "好。"],
            2..4,
        );
        check(&[(b" na", 100), (b"\xc3", 200), (b"\xafve", 300)], &["naïve"], 0..3);
        // Broken at the end, or no UTF-8 at all.
        check(&[(b" a", 100), (b"\xe4\xbd", 200)], &["a\u{fffd}"], 0..2);
        check(&[(b" a", 100), (b"\xff", 200), (b" b", 300)], &["a\u{fffd}", "b"], 2..3);
        check(&[(b" a", 100), (b" ", 200), (b" b", 300)], &["a", "b"], 2..3);
        assert_eq!(join(&[], &sound(&[0.5])), []);
        let words = join(&pieces(&[(b" a", 100), (b"b", 200), (b" c", 300)]), &sound(&[0.5]));
        assert_eq!(words.iter().map(|w| w.confidence).collect::<Vec<_>>(), [0.75, 1.0 / 3.0]);
    }

    #[test]
    fn silence_is_no_part_of_a_word() {
        // Sound in the seconds 0, 2 and 3, faint noise between and after.
        let sound = sound(&[0.5, 0.01, 0.5, 0.5, 0.01]);
        let check = |tokens: &[(&[u8], u64)], expected: &[(&str, u128, u128)]| {
            assert_eq!(spans(&join(&pieces(tokens), &sound)), expected);
        };
        // The pause belongs to the word before, to the word behind, to a comma.
        check(&[(b" a", 1800), (b" b", 3000)], &[("a", 0, 1000), ("b", 2000, 3000)]);
        check(&[(b" a", 1000), (b" b", 3000)], &[("a", 0, 1000), ("b", 2000, 3000)]);
        check(&[(b" a", 1000), (b",", 1900), (b" b", 3000)], &[("a,", 0, 1000), ("b", 2000, 3000)]);
        // A word of no length keeps its place and takes none from the next; one behind the sound ends with it.
        check(&[(b" a", 1000), (b" b", 1000), (b" c", 2500)], &[("a", 0, 1000), ("b", 1000, 1000), ("c", 2000, 2500)]);
        check(&[(b" a", 1000), (b" b", 9000)], &[("a", 0, 1000), ("b", 2500, 4000)]);
    }
}
