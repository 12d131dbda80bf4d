//! How often somebody may ask: token buckets, one a user or address, of bounded memory. Pure: time is given.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use parking_lot::Mutex;

/// Users and addresses that are remembered. Whoever has not been heard of for the longest time is forgotten first.
const MOST_KEYS: usize = 4096;

/// Lets each key do something `per_sec` times a second, and `burst` times at once.
pub(super) struct Limiter<K> {
    per_sec: f64,
    burst: f64,
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Clone, Copy)]
struct Bucket {
    /// What is left, as it was at `at`.
    level: f64,
    /// On the monotonic clock.
    at: Duration,
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    pub(super) fn new(per_sec: f64, burst: f64) -> Self {
        Self { per_sec, burst, buckets: Mutex::default() }
    }

    /// Once more, or how long to wait first.
    pub(super) fn take(&self, key: &K, now: Duration) -> Result<(), Duration> {
        self.attempt(key, now, || None::<()>).map(drop)
    }

    /// Does what may fail: only a failure counts. When too many have failed, it is not done at all.
    pub(super) fn attempt<T>(
        &self,
        key: &K,
        now: Duration,
        work: impl FnOnce() -> Option<T>,
    ) -> Result<Option<T>, Duration> {
        let mut buckets = self.buckets.lock();
        let known = buckets.get(key).copied().unwrap_or(Bucket { level: self.burst, at: now });
        let level = self.level(&known, now);
        if level < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - level) / self.per_sec));
        }
        let done = work();
        if done.is_none() {
            if buckets.len() >= MOST_KEYS && !buckets.contains_key(key) {
                self.forget(&mut buckets, now);
            }
            buckets.insert(key.clone(), Bucket { level: level - 1.0, at: now });
        }
        Ok(done)
    }

    fn level(&self, bucket: &Bucket, now: Duration) -> f64 {
        (bucket.level + now.saturating_sub(bucket.at).as_secs_f64() * self.per_sec).min(self.burst)
    }

    /// Makes room: all that are as good as new go, or else the oldest.
    fn forget(&self, buckets: &mut HashMap<K, Bucket>, now: Duration) {
        buckets.retain(|_, bucket| self.level(bucket, now) < self.burst);
        if buckets.len() >= MOST_KEYS
            && let Some(oldest) = buckets.iter().min_by_key(|(_, bucket)| bucket.at).map(|(key, _)| key.clone())
        {
            buckets.remove(&oldest);
        }
    }
}

/// What counts as one address: of IPv6, the network of 64 bits that one subscriber has (RFC 6177).
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: f64) -> Duration {
        Duration::from_secs_f64(secs)
    }

    #[test]
    fn a_burst_and_then_a_pace() {
        let limiter = Limiter::new(2.0, 3.0);
        let check = |key: &str, at: f64, expected: Result<(), f64>| {
            let got = limiter.take(&key.to_owned(), secs(at)).map_err(|wait| wait.as_secs_f64());
            assert_eq!(got, expected, "{key} at {at}");
        };
        for _ in 0..3 {
            check("a", 10.0, Ok(()));
        }
        check("a", 10.0, Err(0.5));
        check("b", 10.0, Ok(()));
        check("a", 10.25, Err(0.25));
        check("a", 10.5, Ok(()));
        check("a", 10.5, Err(0.5));
        // Never more than a burst, however long the pause; a clock that stands still gives nothing.
        for _ in 0..3 {
            check("a", 1000.0, Ok(()));
        }
        check("a", 999.0, Err(0.5));
    }

    #[test]
    fn only_failures_count_and_the_right_one_waits_too() {
        let limiter = Limiter::new(0.1, 2.0);
        let attempt = |is_right: bool, at| limiter.attempt(&1, secs(at), || is_right.then_some(()));
        for _ in 0..100 {
            assert_eq!(attempt(true, 0.0), Ok(Some(())));
        }
        assert_eq!(attempt(false, 0.0), Ok(None));
        assert_eq!(attempt(false, 0.0), Ok(None));
        assert_eq!(attempt(true, 0.0), Err(secs(10.0)));
        assert_eq!(attempt(true, 10.0), Ok(Some(())));
    }

    #[test]
    fn memory_is_bounded_and_the_newest_stay() {
        let limiter = Limiter::new(0.001, 1.0);
        for key in 0..3 * MOST_KEYS {
            assert!(limiter.take(&key, secs(key as f64 / 1e3)).is_ok());
        }
        let buckets = limiter.buckets.lock();
        assert_eq!(buckets.len(), MOST_KEYS);
        assert!(buckets.contains_key(&(3 * MOST_KEYS - 1)) && !buckets.contains_key(&0));
    }

    #[test]
    fn one_subscriber_is_one_address() {
        let check = |address: &str, expected: &str| {
            assert_eq!(network(address.parse().expect("address")).to_string(), expected);
        };
        check("192.0.2.7", "192.0.2.7");
        check("::ffff:192.0.2.7", "192.0.2.7");
        check("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::");
    }
}
