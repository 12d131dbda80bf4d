//! Which segments make one clip: those that follow each other, with a given time among them. Pure.

use base::{media::MediaSegment, time::Pts};

use super::store::end_of;

/// Times are rounded on their way.
const TOGETHER: u64 = 1_000_000;

/// Segments of one piece.
#[derive(Debug)]
pub struct Stretch {
    /// The time that is to be in it.
    around: Pts,
    first: Option<Pts>,
    end: Pts,
}

/// How a segment goes with those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It follows.
    Next,
    /// It does not, and those before it are not what is wanted: it is the first of another piece.
    First,
    /// It does not, and those before it are what is wanted; or it lies behind the end.
    Beyond,
}

impl Stretch {
    /// None yet.
    pub const fn new(around: Pts) -> Self {
        Self { around, first: None, end: Pts::ZERO }
    }

    /// Where it begins; none while it has no segment.
    pub const fn first(&self) -> Option<Pts> {
        self.first
    }

    /// Where it ends so far.
    pub const fn end(&self) -> Pts {
        self.end
    }

    /// How a segment goes with it; nothing that begins at `stop` or later belongs to it.
    pub fn fit(&self, segment: &MediaSegment, stop: Pts) -> Fit {
        match self.first {
            None => Fit::First,
            Some(_) if segment.discontinuity || segment.start.nanos().abs_diff(self.end.nanos()) > TOGETHER => {
                if self.around < self.end { Fit::Beyond } else { Fit::First }
            }
            Some(_) if segment.start >= stop => Fit::Beyond,
            Some(_) => Fit::Next,
        }
    }

    /// Takes it in, as it was found to fit.
    pub fn add(&mut self, segment: &MediaSegment, fit: Fit) {
        match fit {
            Fit::Beyond => return,
            Fit::First => self.first = Some(segment.start),
            Fit::Next => {}
        }
        self.end = end_of(segment);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::window::samples::segment, *};

    #[test]
    fn one_piece_around_a_time() {
        // Numbers of segments of two seconds, those with a discontinuity before them as negative; what is around; the end.
        let check = |numbers: &[i64], around: u64, stop: u64, expected: &[i64]| {
            let mut stretch = Stretch::new(Pts::from_millis(around));
            let mut taken = Vec::new();
            for number in numbers {
                let mut segment = segment("a", number.unsigned_abs());
                segment.discontinuity = *number < 0;
                let fit = stretch.fit(&segment, Pts::from_millis(stop));
                match fit {
                    Fit::Beyond => break,
                    Fit::First => taken.clear(),
                    Fit::Next => {}
                }
                taken.push(*number);
                stretch.add(&segment, fit);
            }
            assert_eq!(taken, expected, "{numbers:?} around {around} up to {stop}");
            assert_eq!(stretch.first().map(Pts::millis), taken.first().map(|n| 2000 * n.unsigned_abs()));
        };
        check(&[], 0, 10_000, &[]);
        check(&[0, 1, 2, 3], 2500, 6000, &[0, 1, 2]);
        check(&[0, 1, -2, 3], 2500, 10_000, &[0, 1]);
        check(&[0, 1, -2, 3], 4500, 10_000, &[-2, 3]);
        check(&[0, 1, 5, 6], 11_000, 20_000, &[5, 6]);
        check(&[0, 1, 5, 6], 1000, 20_000, &[0, 1]);
    }
}
