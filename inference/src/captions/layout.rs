//! Where lines and cues break: the cheapest way over all words that are known, by dynamic programming. Pure.
//!
//! While people speak the end of the text is open: a line that fills up without having been broken at a good place has
//! a price that grows, so that a break is taken at a comma in time rather than in the middle of a phrase later.

use super::{
    config::Limits,
    phrase::{badness, ends_sentence, leads_on},
    units::{Unit, joined},
};

/// What stands before a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Break {
    /// Nothing: it goes on on the same line.
    None,
    /// A new line of the same cue.
    Line,
    /// A new cue.
    Cue,
}

/// The cue that the first unit may join.
#[derive(Debug, Clone)]
pub(super) struct OpenCue {
    /// Of its lines, in columns; the last one is being written.
    pub(super) widths: Vec<usize>,
    /// Of its first unit, stream time in nanoseconds.
    pub(super) start: u64,
    /// Its last unit.
    pub(super) last: Unit,
}

/// Whether more words will follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Open,
    Closed,
}

/// Of a cue, whatever is in it: few full cues are better than many short ones.
const CUE: f32 = 20.0;
/// Breaking a cue at a bad place is this much worse than breaking a line there.
const CUE_BADNESS: f32 = 1.6;
/// What a break costs that comes because a line is full, at an unlucky word.
const FORCED: f32 = 18.0;
/// A good place to break comes about once in so many columns.
const COLUMNS_PER_CHANCE: f32 = 10.0;

/// What stands before each unit.
pub(super) fn lay_out(limits: &Limits, english: bool, open: Option<OpenCue>, units: &[Unit], end: End) -> Vec<Break> {
    let before = open.iter().map(|open| &open.last).map(Some).chain([None]);
    let before = before.take(1).chain(units.iter().map(Some));
    let prices = before.zip(units).map(|(prev, unit)| prev.map_or(0.0, |prev| badness(prev, unit, english)));
    let mut search = Search {
        limits,
        english,
        open: open.as_ref(),
        units,
        end,
        badness: prices.collect(),
        best: vec![Plan::default(); units.len() + 1],
    };
    for first in (0..units.len()).rev() {
        let mut plan = Plan::worst();
        search.explore(Shape::new(&units[first]), first + 1, 0.0, &mut Vec::new(), &mut plan);
        search.best[first] = plan;
    }
    let mut breaks = vec![Break::None; units.len()];
    let mut at = 0;
    if let Some(open) = search.open {
        let mut plan = Plan::worst();
        search.explore(Shape::of(open), 0, 0.0, &mut Vec::new(), &mut plan);
        plan.line_breaks.iter().for_each(|&unit| breaks[unit] = Break::Line);
        at = plan.end;
    }
    while at < units.len() {
        let plan = &search.best[at];
        breaks[at] = Break::Cue;
        plan.line_breaks.iter().for_each(|&unit| breaks[unit] = Break::Line);
        at = plan.end;
    }
    breaks
}

/// The best way found from some unit on.
#[derive(Debug, Clone, Default)]
struct Plan {
    cost: f32,
    /// Units of this cue that begin a line, its first unit left out.
    line_breaks: Vec<usize>,
    /// The first unit of the next cue.
    end: usize,
}

impl Plan {
    const fn worst() -> Self {
        Self { cost: f32::INFINITY, line_breaks: Vec::new(), end: 0 }
    }

    fn offer(&mut self, cost: f32, line_breaks: &[usize], end: usize) {
        // The later end wins a draw; the order of offering never matters for anything else.
        if cost < self.cost {
            *self = Self { cost, line_breaks: line_breaks.to_vec(), end };
        }
    }
}

/// A cue being filled.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// In columns.
    widths: [usize; MAX_LINES],
    n_lines: usize,
    /// Stream time in nanoseconds.
    start: u64,
}

const MAX_LINES: usize = 3;

impl Shape {
    fn new(first: &Unit) -> Self {
        Self { widths: [first.width, 0, 0], n_lines: 1, start: first.start }
    }

    fn of(open: &OpenCue) -> Self {
        let mut shape =
            Self { widths: [0; MAX_LINES], n_lines: open.widths.len().clamp(1, MAX_LINES), start: open.start };
        shape.widths.iter_mut().zip(&open.widths).for_each(|(to, width)| *to = *width);
        shape
    }

    fn lines(&self) -> &[usize] {
        &self.widths[..self.n_lines]
    }

    fn line(&self) -> usize {
        self.widths[self.n_lines - 1]
    }

    fn total(&self) -> usize {
        self.lines().iter().sum::<usize>() + self.n_lines - 1
    }
}

struct Search<'a> {
    limits: &'a Limits,
    english: bool,
    open: Option<&'a OpenCue>,
    units: &'a [Unit],
    end: End,
    /// Of breaking before each unit.
    badness: Vec<f32>,
    /// By first unit of a cue.
    best: Vec<Plan>,
}

impl Search<'_> {
    /// All ways to go on with a cue that holds everything before unit `next`.
    fn explore(&self, mut shape: Shape, mut next: usize, mut cost: f32, line_breaks: &mut Vec<usize>, plan: &mut Plan) {
        loop {
            let Some(unit) = self.units.get(next) else {
                plan.offer(cost + self.last_cue(&shape), line_breaks, next);
                return;
            };
            plan.offer(cost + self.cue_break(&shape, next) + self.best[next].cost, line_breaks, next);
            let pause = self.pause(next);
            if unit.end - shape.start > self.limits.max || pause >= self.limits.pause {
                return;
            }
            let silence = if pause >= 500_000_000 { 15.0 * pause as f32 / 1e9 } else { 0.0 };
            if shape.n_lines < self.limits.lines.min(MAX_LINES) {
                let mut below = shape;
                below.widths[below.n_lines] = unit.width;
                below.n_lines += 1;
                line_breaks.push(next);
                self.explore(below, next + 1, cost + self.line_break(&shape, next) + silence, line_breaks, plan);
                line_breaks.pop();
            }
            let width = joined(shape.line(), unit);
            if width > self.limits.width {
                return;
            }
            let mixed = self.before(next).is_some_and(|prev| ends_sentence(&prev.text));
            cost += silence + if mixed { 4.0 } else { 0.0 };
            shape.widths[shape.n_lines - 1] = width;
            next += 1;
        }
    }

    fn before(&self, unit: usize) -> Option<&Unit> {
        match unit.checked_sub(1) {
            Some(before) => self.units.get(before),
            None => self.open.map(|open| &open.last),
        }
    }

    /// Silence before a unit, in nanoseconds.
    fn pause(&self, unit: usize) -> u64 {
        self.before(unit).map_or(0, |prev| self.units[unit].start.saturating_sub(prev.end))
    }

    /// Ends a line that another one of the same cue follows.
    fn line_break(&self, shape: &Shape, next: usize) -> f32 {
        let room = self.limits.width.saturating_sub(shape.line()) as f32 * 42.0 / self.limits.width as f32;
        self.badness[next] + 0.012 * room * room
    }

    /// Ends a cue that another one follows.
    fn cue_break(&self, shape: &Shape, next: usize) -> f32 {
        let pause = (self.pause(next) as f32 / 1e9).min(1.5);
        let silence = if pause >= 0.3 { 20.0 * pause } else { 0.0 };
        let shown = self.units[next].start.saturating_sub(shape.start);
        let brief = if shown < self.limits.min { 40.0 * (1.0 - shown as f32 / self.limits.min as f32) } else { 0.0 };
        CUE + CUE_BADNESS * self.badness[next] - silence + brief + self.ugliness(shape)
    }

    /// The cue that holds the last word known.
    fn last_cue(&self, shape: &Shape) -> f32 {
        if self.end == End::Closed {
            return CUE + self.ugliness(shape);
        }
        let scale = 42.0 / self.limits.width as f32;
        let room = self.limits.width.saturating_sub(shape.line()) as f32 * scale;
        let asks_for_more = self.before(self.units.len()).is_some_and(|last| leads_on(&last.text, self.english));
        let mut forced = FORCED * (-room / COLUMNS_PER_CHANCE).exp() * if asks_for_more { 4.0 } else { 1.0 };
        if shape.n_lines == self.limits.lines {
            forced *= CUE_BADNESS;
        }
        CUE * shape.total() as f32 / (self.limits.width * self.limits.lines) as f32 + forced
    }

    /// Lines of uneven length, a second line that was not needed, a word alone on its line.
    fn ugliness(&self, shape: &Shape) -> f32 {
        if shape.n_lines == 1 {
            return 0.0;
        }
        let scale = 42.0 / self.limits.width as f32;
        let mut ugly = if shape.total() <= self.limits.width { 15.0 } else { 0.0 };
        for pair in shape.lines().windows(2) {
            let (upper, lower) = (pair[0] as f32 * scale, pair[1] as f32 * scale);
            // A longer line below another is the better shape.
            ugly += if upper > lower { 0.3 * (upper - lower) } else { 0.1 * (lower - upper) };
        }
        if (shape.line() as f32) * scale < 9.0 {
            ugly += 12.0;
        }
        ugly
    }
}
