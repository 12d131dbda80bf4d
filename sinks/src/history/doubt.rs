//! Whether the wall clock can be believed when it says that something is too old: one that is a year ahead, until NTP has set
//! it, would have everything go. Pure. Times are milliseconds since 1970, by the wall clock, but where it says monotonic.
//!
//! While a service runs, what it keeps goes on without a long hole up to now. Where there is one, the service was off or had
//! nothing to tell, or the clock is wrong; what was told after the hole proves nothing, as a wrong clock dates that as well.
//! A process that sees the hole for an hour believes it.

use std::time::Duration;

/// What is too old waits for so long behind a hole, by the monotonic clock.
const BELIEVED_AFTER: Duration = Duration::from_secs(3600);
/// No shorter one is a hole.
const SHORTEST: Duration = Duration::from_secs(24 * 3600);

/// What one process knows of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Doubt {
    /// Since when there was a hole each time, monotonic.
    since: Option<Duration>,
}

impl Doubt {
    /// Whether what is too old may go. Of what is kept, `oldest` is the time of the oldest, and `newest_until` gives that of the
    /// newest that is no later than the time that it is asked for. What is dated after `now_ms` says nothing.
    ///
    /// # Errors
    /// What `newest_until` gives.
    pub fn lets_go<E>(
        &mut self,
        (now_ms, monotonic): (i64, Duration),
        keep: Duration,
        oldest: Option<i64>,
        newest_until: impl FnMut(i64) -> Result<Option<i64>, E>,
    ) -> Result<bool, E> {
        let too_old = now_ms.saturating_sub(millis(keep));
        let Some(oldest) = oldest.filter(|oldest| *oldest < too_old) else {
            self.since = None;
            return Ok(true);
        };
        if !has_hole(oldest, now_ms, millis((keep / 2).max(SHORTEST)), newest_until)? {
            self.since = None;
            return Ok(true);
        }
        let since = *self.since.get_or_insert(monotonic);
        Ok(monotonic.saturating_sub(since) >= BELIEVED_AFTER)
    }
}

/// Whether two times that follow each other, or the last of them and now, are more than `most_ms` apart.
fn has_hole<E>(
    oldest: i64,
    now_ms: i64,
    most_ms: i64,
    mut newest_until: impl FnMut(i64) -> Result<Option<i64>, E>,
) -> Result<bool, E> {
    let mut at = oldest;
    while now_ms.saturating_sub(at) > most_ms {
        // The farthest that can be reached without a hole: some steps, however much is kept.
        match newest_until(at.saturating_add(most_ms))? {
            Some(next) if next > at => at = next,
            _ => return Ok(true),
        }
    }
    Ok(false)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const DAY: i64 = 24 * 3_600_000;

    #[test]
    fn what_is_behind_a_hole_waits() {
        // When things were told, in days; what is looked at: day, monotonic minutes; whether what is too old goes. Seven days
        // are kept: three and a half are a hole.
        let check = |told: &[f64], looks: &[(f64, u64, bool)]| {
            let ms = |days: f64| (days * DAY as f64) as i64;
            let told: Vec<i64> = told.iter().map(|days| ms(*days)).collect();
            let mut doubt = Doubt::default();
            for (now, minutes, expected) in looks {
                let until = |until: i64| Ok::<_, Infallible>(told.iter().copied().filter(|at| *at <= until).max());
                let times = (ms(*now), Duration::from_secs(minutes * 60));
                let Ok(got) = doubt.lets_go(times, Duration::from_secs(7 * 24 * 3600), told.first().copied(), until);
                assert_eq!(got, *expected, "{told:?} at {now}, {minutes} of {looks:?}");
            }
        };
        check(&[], &[(400.0, 0, true)]);
        // It runs, or was off for three days: now, or once.
        check(&[0.0, 2.0, 4.0, 6.0, 8.0], &[(8.0, 0, true)]);
        check(&[0.0, 2.0, 5.0], &[(8.0, 0, true)]);
        // Nothing is too old.
        check(&[0.0], &[(6.9, 0, true)]);
        // The clock is a year ahead, is set right, and a month later it was off for that long.
        let year = [(365.0, 0, false), (365.0, 59, false), (8.1, 59, true), (365.0, 61, false)];
        check(&[0.0, 3.0, 6.0, 8.0], &year);
        check(&[0.0, 3.0, 6.0, 8.0], &[(38.0, 5, false), (38.0, 64, false), (38.1, 65, true), (38.1, 66, true)]);
        // What was told by the wrong clock does not help it, now or the next time; nor is it in the way later.
        check(&[0.0, 3.0, 6.0, 8.0, 365.0, 365.1], &[(365.1, 0, false), (366.0, 0, false), (8.2, 0, true)]);
        // A clock that was in 1970 for a while.
        check(&[-20_000.0, 0.0, 3.0, 6.0, 8.0], &[(8.0, 0, false), (8.1, 60, true)]);
        check(&[i64::MIN as f64, i64::MAX as f64], &[(8.0, 0, false)]);
    }
}
