//! What is laid out: words, and pieces of words that are wider than a line. Pure.
//!
//! Widths are columns as terminals and caption decoders count them (Unicode Standard Annex #11): a Latin letter is one, a
//! Chinese or Japanese one two, a combining mark none. Words are only ever cut between grapheme clusters.

use base::event::Word;
use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// A word, or a piece of one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Unit {
    /// Never empty, without control characters.
    pub(super) text: String,
    /// In columns; never more than a line.
    pub(super) width: usize,
    /// Belongs to the unit before it, without a blank.
    pub(super) glued: bool,
    /// Stream time in nanoseconds.
    pub(super) start: u64,
    /// Stream time in nanoseconds, at least `start`.
    pub(super) end: u64,
    /// It will not change.
    pub(super) fixed: bool,
}

/// The units of a transcript's words. `line_width` in columns; `all_fixed` when nothing of them changes any more.
pub(super) fn units<'a>(words: impl IntoIterator<Item = &'a Word>, line_width: usize, all_fixed: bool) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut free_from = 0;
    for word in words {
        let text = cleaned(&word.text);
        if text.width() == 0 {
            // Nothing that could be seen.
            continue;
        }
        let start = word.start.nanos().max(free_from);
        let end = word.end.nanos().max(start);
        free_from = end;
        let pieces = pieces(&text, line_width);
        let n_pieces = pieces.len() as u64;
        for (n, text) in (0..).zip(pieces) {
            let at = |n: u64| start + ((u128::from(end - start) * u128::from(n)) / u128::from(n_pieces)) as u64;
            units.push(Unit {
                width: text.width(),
                text,
                glued: n > 0,
                start: at(n),
                end: at(n + 1),
                fixed: all_fixed || word.stable,
            });
        }
    }
    units
}

fn cleaned(text: &str) -> String {
    text.replace(char::is_control, " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The text in pieces of at most `most` columns; almost always one.
fn pieces(text: &str, most: usize) -> Vec<String> {
    if text.width() <= most {
        return vec![text.to_owned()];
    }
    let mut pieces = Vec::new();
    let mut piece = String::new();
    let mut add = |part: &str| {
        if !piece.is_empty() && format!("{piece}{part}").width() > most {
            pieces.push(std::mem::take(&mut piece).trim().to_owned());
        }
        piece.push_str(part);
    };
    for cluster in text.graphemes(true) {
        if cluster.width() <= most {
            add(cluster);
        } else {
            // Some scripts chain consonants without end.
            cluster.chars().for_each(|c| add(c.encode_utf8(&mut [0; 4])));
        }
    }
    pieces.push(piece.trim().to_owned());
    pieces.retain(|piece| piece.width() > 0);
    pieces
}

/// Width of a line after `unit` joined it.
pub(super) const fn joined(width: usize, unit: &Unit) -> usize {
    if width == 0 { unit.width } else { width + if unit.glued { 0 } else { 1 } + unit.width }
}
