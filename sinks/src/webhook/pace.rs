//! How long to wait before the next try: pure arithmetic.

use std::time::Duration;

use base::time::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

/// No receiver may ask for more: a wrong date must not stop delivery for ever.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);

/// Exponential backoff with full jitter: the wait is anything from zero to a bound that doubles with each try. Many
/// senders that lost the same receiver thus do not come back all at once.
pub(super) struct Pace {
    first: Duration,
    max: Duration,
    /// Never zero.
    state: u64,
}

impl Pace {
    pub(super) fn new(first: Duration, max: Duration, seed: u64) -> Self {
        Self { first, max, state: seed | 1 }
    }

    /// The wait after `n_tries` (from 1) that failed, when the receiver asked for `asked` and it makes no sense to wait
    /// longer than `left`.
    pub(super) fn pause(&mut self, n_tries: u32, asked: Option<Duration>, left: Option<Duration>) -> Duration {
        let doubled = 1_u32.checked_shl(n_tries.saturating_sub(1)).unwrap_or(u32::MAX);
        let bound = self.first.saturating_mul(doubled).min(self.max);
        let asked = asked.unwrap_or_default().min(LONGEST_ASKED);
        bound.mul_f64(self.random()).max(asked).min(left.unwrap_or(Duration::MAX))
    }

    /// From 0 to 1. The xorshift generator of Marsaglia, "Xorshift RNGs" (2003), triple 13, 7, 17.
    fn random(&mut self) -> f64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        f64::from(u32::try_from(self.state >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
    }
}

/// `Retry-After` as a time from now: seconds, or a date (RFC 9110, section 10.2.3). None for anything else.
pub(super) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(secs) = value.parse() {
        return Some(Duration::from_secs(secs));
    }
    let date = DateTimeParser::new().parse_timestamp(value).ok()?;
    // A date that has passed means now.
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_are_spread_over_it() {
        let mut pace = Pace::new(ms(500), ms(60_000), 7);
        for (n_tries, bound_ms) in [(1, 500), (2, 1000), (7, 32_000), (8, 60_000), (40, 60_000), (u32::MAX, 60_000)] {
            let pauses: Vec<Duration> = (0..1000).map(|_| pace.pause(n_tries, None, None)).collect();
            let (least, most) = (pauses.iter().min().expect("some"), pauses.iter().max().expect("some"));
            assert!(*most <= ms(bound_ms) && *most > ms(bound_ms * 9 / 10), "try {n_tries}: {most:?}");
            assert!(*least < ms(bound_ms / 10), "try {n_tries}: {least:?}");
        }
    }

    #[test]
    fn the_receiver_may_ask_for_longer() {
        let mut pace = Pace::new(ms(500), ms(1000), 7);
        let secs = Duration::from_secs;
        assert_eq!(pace.pause(1, Some(secs(7)), None), secs(7));
        assert_eq!(pace.pause(1, Some(secs(7)), Some(secs(2))), secs(2), "no longer than it is tried");
        assert_eq!(pace.pause(1, Some(secs(86_400)), None), LONGEST_ASKED);
        let unasked = pace.pause(1, Some(secs(0)), None);
        assert!(unasked <= ms(500));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "2026-11-21T16:00:00Z".parse().expect("date");
        let check = |value: &str, expected: Option<u64>| {
            assert_eq!(retry_after(value, now), expected.map(Duration::from_secs), "{value}");
        };
        check("120", Some(120));
        check(" 0 ", Some(0));
        check("Sat, 21 Nov 2026 16:02:00 GMT", Some(120));
        check("Sat, 21 Nov 2026 15:00:00 GMT", Some(0));
        check("-5", None);
        check("1.5", None);
        check("soon", None);
        check("", None);
    }
}
