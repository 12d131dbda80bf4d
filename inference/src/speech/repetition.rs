//! Loops: a model that has lost the sound says the same again and again. Plain arithmetic on tokens and text.

use std::io::Write as _;

use flate2::{Compression, write::ZlibEncoder};

use super::transcriber::Token;

/// Longest passage whose repetition is looked for, in tokens. Longer ones soon reach the cap on tokens, and a recording that is
/// played again really says them again.
const LONGEST: usize = 12;

/// If the end of `tokens` is a loop, how many tokens to keep: the passage once. Never fewer than `n_fixed`.
///
/// People say one word up to five times in a row and a short phrase up to three times; more is taken for a loop.
pub(crate) fn looped(tokens: &[Token], n_fixed: usize) -> Option<usize> {
    (1..=LONGEST).find_map(|period| {
        let allowed = match period {
            1 => 5,
            2 | 3 => 3,
            _ => 2,
        };
        let n_same = tokens.iter().rev().zip(tokens.iter().rev().skip(period)).take_while(|(a, b)| a == b).count();
        let looped = n_same >= allowed * period;
        // What repeats is the last `n_same + period` tokens.
        looped.then(|| (tokens.len() - n_same).max(n_fixed)).filter(|keep| *keep < tokens.len())
    })
}

/// Length of the text over its compressed length (zlib), as Radford et al. (2022) measure repetition in section 4.5; 0 for no
/// text.
pub(crate) fn compression_ratio(text: &str) -> f32 {
    if text.is_empty() {
        return 0.0;
    }
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    // Writing into memory cannot fail.
    let compressed = encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish()).unwrap_or_default();
    text.len() as f32 / compressed.len().max(1) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_are_found_and_cut_to_one_round() {
        let check = |tokens: &[Token], n_fixed: usize, expected: Option<usize>| {
            assert_eq!(looped(tokens, n_fixed), expected, "{tokens:?}, {n_fixed} fixed");
        };
        check(&[], 0, None);
        check(&[1, 2, 3, 4], 0, None);
        check(&[7, 7, 7, 7, 7], 0, None);
        check(&[1, 7, 7, 7, 7, 7, 7], 0, Some(2));
        check(&[1, 7, 7, 7, 7, 7, 7], 4, Some(4));
        check(&[7, 7, 7, 7, 7, 7], 6, None);
        check(&[1, 2, 1, 2, 1, 2], 0, None);
        check(&[9, 1, 2, 1, 2, 1, 2, 1, 2], 0, Some(3));
        check(&[1, 2, 3, 4, 1, 2, 3, 4], 0, None);
        check(&[9, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4], 0, Some(5));
        check(&[1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 5], 0, None);
    }

    /// The lengths are those of Python's zlib, which the reference uses. Compressors differ by some bytes.
    #[test]
    fn compression_is_about_the_references() {
        let check = |text: &str, reference: f32| {
            let compressed = text.len() as f32 / compression_ratio(text);
            assert!((compressed - reference).abs() <= 12.0, "{text}: {compressed} bytes, expected about {reference}");
        };
        check("He might even have been made amiable himself.", 51.0);
        check(&"And so my fellow Americans, ".repeat(10), 39.0);
        check(&"And so my fellow Americans, ".repeat(100), 59.0);
        assert_eq!(compression_ratio(""), 0.0);
    }
}
