//! Decode times for pictures of which only the presentation times are known, one after the other. Pure.

use std::{cmp::Reverse, collections::BinaryHeap};

/// Gives each picture a decode time as soon as it comes, and the time to that of the next one, which is thereby settled: the
/// decode times of a stream have neither gap nor overlap, however irregularly its pictures come.
///
/// Without reordering, a picture is decoded when the one before it was shown. With it, so many pictures earlier as are
/// ever reordered.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// Presentation times that are not yet given away as decode times.
    shown: BinaryHeap<Reverse<u64>>,
    /// Decode time of the picture that comes next.
    next: Option<u64>,
}

impl Order {
    /// Decode time and duration, in the unit of `pts`, of a picture that is shown at `pts`. `reorder`: the most pictures that
    /// come before one that is shown before them. `interval`: about how far they are apart.
    pub(super) fn stamp(&mut self, pts: u64, reorder: usize, interval: u64) -> (u64, u32) {
        let depth = reorder + 1;
        let decode = self.next.unwrap_or_else(|| pts.saturating_sub(interval.saturating_mul(depth as u64)));
        self.shown.push(Reverse(pts));
        let earliest = self.shown.peek().map_or(pts, |Reverse(pts)| *pts);
        let next = if self.shown.len() >= depth {
            self.shown.pop();
            earliest
        } else {
            earliest.min(decode.saturating_add(interval))
        };
        let next = next.clamp(decode.saturating_add(1), decode.saturating_add(u64::from(u32::MAX)));
        self.next = Some(next);
        (decode, (next - decode) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `(decode time, duration)` of pictures with these presentation times.
    fn check(reorder: usize, shown: &[u64], expected: &[(u64, u32)]) {
        let mut order = Order::default();
        let got: Vec<_> = shown.iter().map(|pts| order.stamp(*pts, reorder, 100)).collect();
        assert_eq!(got, expected, "{shown:?}");
        for (pair, next) in got.windows(2).zip(&got[1..]) {
            assert_eq!(pair[0].0 + u64::from(pair[0].1), next.0, "{shown:?}");
        }
    }

    #[test]
    fn pictures_in_order() {
        // However far they are apart.
        check(0, &[1000, 1100, 1200, 3000, 3050], &[(900, 100), (1000, 100), (1100, 100), (1200, 1800), (3000, 50)]);
        // Nothing is before the stream's beginning; nothing goes backwards.
        check(0, &[0, 100, 100, 90, 200], &[(0, 1), (1, 99), (100, 1), (101, 1), (102, 98)]);
    }

    #[test]
    fn reordered_pictures_are_decoded_before_they_are_shown() {
        // I P B B P B B
        let shown = [1000, 1300, 1100, 1200, 1600, 1400, 1500, 1900];
        let expected = [800, 900, 1000, 1100, 1200, 1300, 1400, 1500].map(|decode| (decode, 100));
        check(1, &shown, &expected);
        assert!(expected.iter().zip(shown).all(|((decode, _), shown)| *decode <= shown));
        // A pyramid: I P B b b
        let shown = [1000, 1400, 1200, 1100, 1300, 1800, 1600, 1500, 1700];
        let expected: Vec<_> = (0..9).map(|n| (700 + 100 * n, 100)).collect();
        check(2, &shown, &expected);
        assert!(expected.iter().zip(shown).all(|((decode, _), shown)| *decode <= shown));
    }

    #[test]
    fn what_is_learned_late_breaks_nothing() {
        let mut order = Order::default();
        let mut last = None;
        for (n, pts) in [1000, 1300, 1100, 1200, 1600, 1400, 1500, 1900, 1700, 1800].into_iter().enumerate() {
            let (decode, duration) = order.stamp(pts, usize::from(n > 1), 100);
            assert!(last.is_none_or(|last| last == decode), "{n}");
            assert!(n < 4 || decode <= pts, "{n}: {decode} {pts}");
            last = Some(decode + u64::from(duration));
        }
    }
}
