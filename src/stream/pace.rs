//! How fast a counter has grown lately, for whoever looks at it now and then. Pure.

use std::{collections::VecDeque, time::Duration};

/// So far back a rate looks.
const RECENT: Duration = Duration::from_secs(5);

/// How fast a counter has grown lately.
#[derive(Debug, Default)]
pub(super) struct Pace(VecDeque<(Duration, u64)>);

impl Pace {
    /// A second, since the oldest look at it that is not too long ago.
    pub(super) fn rate(&mut self, now: Duration, count: u64) -> f64 {
        while self.0.len() > 1 && self.0.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= RECENT) {
            self.0.pop_front();
        }
        let (since, before) = *self.0.front().unwrap_or(&(now, count));
        // Whoever looks more often than makes sense is not remembered each time.
        if self.0.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= RECENT / 50) {
            self.0.push_back((now, count));
        }
        let elapsed = now.saturating_sub(since).as_secs_f64();
        if elapsed > 0.0 { count.saturating_sub(before) as f64 / elapsed } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_forgets_what_was_long_ago() {
        let mut pace = Pace::default();
        let mut check = |ms, count, expected: f64| {
            let got = pace.rate(Duration::from_millis(ms), count);
            assert!((got - expected).abs() < 1e-9, "{ms}: {got}");
        };
        check(1_000, 50, 0.0);
        check(1_000, 50, 0.0);
        check(1_500, 60, 20.0);
        check(2_000, 70, 20.0);
        // Nothing came since.
        check(6_000, 70, 4.0);
        check(12_000, 70, 0.0);
        check(60_000, 70, 0.0);
        // A rate over as long as nobody looked.
        check(160_000, 170, 1.0);
    }
}
