//! Which line of which cue every word stands on, from revision to revision. Pure.

use super::{
    align::align,
    config::Limits,
    layout::{Break, End, OpenCue, lay_out},
    timing::Speech,
    units::{Unit, joined},
};

/// A unit and its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placed {
    pub(super) unit: Unit,
    /// Number of the cue.
    pub(super) cue: u64,
    /// Line of the cue, from 0.
    pub(super) line: usize,
}

/// Where the next unit would go.
struct Cursor {
    cue: u64,
    /// Of the cue's lines, in columns; the last one is being written.
    widths: Vec<usize>,
    /// Of the cue's first unit.
    start: u64,
}

/// Places the units of a segment's new revision. Those that were shown before, or revise one that was, stay where that
/// was for as long as the limits allow; the rest is laid out anew. `first_cue` is the first number that this segment's
/// words may have, `old` what is shown of it now.
pub(super) fn place(
    limits: &Limits,
    english: bool,
    first_cue: u64,
    old: &[Placed],
    units: Vec<Unit>,
    end: End,
) -> Vec<Placed> {
    let texts = |units: &mut dyn Iterator<Item = &Unit>| -> Vec<String> { units.map(|u| u.text.clone()).collect() };
    let old_texts = texts(&mut old.iter().map(|placed| &placed.unit));
    let new_texts = texts(&mut units.iter());
    let of_old: Vec<&str> = old_texts.iter().map(String::as_str).collect();
    let of_new: Vec<&str> = new_texts.iter().map(String::as_str).collect();
    let shown = align(&of_old, &of_new);
    let place_of = |unit: usize| shown[unit].map(|o| (old[o].cue, old[o].line));
    let n_kept = shown.iter().rposition(Option::is_some).map_or(0, |last| last + 1);

    let mut placed: Vec<Placed> = Vec::with_capacity(units.len());
    let mut cursor: Option<Cursor> = None;
    let mut rest = units.into_iter();
    for at in 0..n_kept {
        let Some(unit) = rest.as_slice().first() else { break };
        // Where it was, or between its neighbours.
        let wanted = place_of(at).or_else(|| between(limits, cursor.as_ref(), rest.as_slice(), at, n_kept, &place_of));
        let Some((cue, line)) = wanted else { break };
        let Some(next) = step(limits, cursor.as_ref(), unit, cue, line) else { break };
        cursor = Some(next);
        placed.extend(rest.next().map(|unit| Placed { unit, cue, line }));
    }

    let rest = rest.as_slice();
    let open = cursor.as_ref().zip(placed.last()).map(|(cursor, last)| OpenCue {
        widths: cursor.widths.clone(),
        start: cursor.start,
        last: last.unit.clone(),
    });
    let breaks = lay_out(limits, english, open, rest, end);
    let mut place = placed.last().map(|last| (last.cue, last.line));
    for (unit, before) in rest.iter().zip(breaks) {
        let (cue, line) = match (place, before) {
            (None, _) => (first_cue, 0),
            (Some((cue, line)), Break::None) => (cue, line),
            (Some((cue, line)), Break::Line) => (cue, line + 1),
            (Some((cue, _)), Break::Cue) => (cue + 1, 0),
        };
        place = Some((cue, line));
        placed.push(Placed { unit: unit.clone(), cue, line });
    }
    placed
}

/// The cursor after `unit` was put on that line; none where the limits forbid it.
fn step(limits: &Limits, cursor: Option<&Cursor>, unit: &Unit, cue: u64, line: usize) -> Option<Cursor> {
    match cursor {
        Some(cursor) if cursor.cue == cue => {
            let mut widths = cursor.widths.clone();
            if line + 1 < widths.len() {
                return None;
            }
            widths.resize(line + 1, 0);
            widths[line] = joined(widths[line], unit);
            let fits = widths[line] <= limits.width && unit.end - cursor.start <= limits.max;
            fits.then_some(Cursor { cue, widths, start: cursor.start })
        }
        Some(cursor) if cursor.cue > cue => None,
        _ => {
            let mut widths = vec![0; line + 1];
            widths[line] = unit.width;
            Some(Cursor { cue, widths, start: unit.start })
        }
    }
}

/// A place for the first of `rest`, which is new, among words that keep theirs: after the one before it, or before the
/// one after it, wherever the line still holds all that stands there.
fn between(
    limits: &Limits,
    cursor: Option<&Cursor>,
    rest: &[Unit],
    at: usize,
    n_kept: usize,
    place_of: &impl Fn(usize) -> Option<(u64, usize)>,
) -> Option<(u64, usize)> {
    let next = (at + 1..n_kept).find_map(place_of)?;
    let here = cursor.map(|cursor| (cursor.cue, cursor.widths.len() - 1, cursor.widths[cursor.widths.len() - 1]));
    let holds = |place: (u64, usize), width: usize| {
        let stays = (at + 1..n_kept).zip(&rest[1..]);
        let stays = stays.filter(|(unit, _)| place_of(*unit) == Some(place));
        stays.fold(joined(width, &rest[0]), |width, (_, unit)| joined(width, unit)) <= limits.width
    };
    match here {
        Some((cue, line, width)) if holds((cue, line), width) => Some((cue, line)),
        Some((cue, line, _)) if (cue, line) == next => None,
        _ if holds(next, 0) => Some(next),
        _ => None,
    }
}

/// What is said in each cue.
pub(super) fn speeches(flow: &[Placed]) -> Vec<Speech> {
    let cues = flow.chunk_by(|a, b| a.cue == b.cue);
    cues.filter_map(|cue| {
        let (first, last) = (cue.first()?, cue.last()?);
        Some(Speech {
            cue: first.cue,
            start: first.unit.start,
            end: last.unit.end,
            width: cue.iter().map(|placed| placed.unit.width + 1).sum::<usize>() - 1,
            first_fixed: first.unit.fixed,
            all_fixed: cue.iter().all(|placed| placed.unit.fixed),
            n_units: cue.len(),
            lines: cue.chunk_by(|a, b| a.line == b.line).map(line).collect(),
        })
    })
    .collect()
}

fn line(line: &[Placed]) -> String {
    line.iter().fold(String::new(), |mut text, placed| {
        if !text.is_empty() && !placed.unit.glued {
            text.push(' ');
        }
        text.push_str(&placed.unit.text);
        text
    })
}
