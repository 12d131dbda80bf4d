//! A histogram of durations in constant memory: buckets 5 % apart from 0.1 ms to about 17 minutes.

use std::time::Duration;

use parking_lot::Mutex;

const FIRST_MS: f64 = 0.1;
const RATIO: f64 = 1.05;
const N_BUCKETS: usize = 331;

/// Durations seen so far; any thread may add.
#[derive(Debug)]
pub struct Latency(Mutex<[u32; N_BUCKETS]>);

impl Default for Latency {
    fn default() -> Self {
        Self(Mutex::new([0; N_BUCKETS]))
    }
}

impl Latency {
    /// Counts one duration.
    pub fn add(&self, duration: Duration) {
        let ms = duration.as_secs_f64() * 1e3;
        let bucket = if ms <= FIRST_MS { 0.0 } else { (ms / FIRST_MS).ln() / RATIO.ln() };
        let mut counts = self.0.lock();
        let count = &mut counts[(bucket.ceil() as usize).min(N_BUCKETS - 1)];
        *count = count.saturating_add(1);
    }

    /// Milliseconds under which the share `q` (0..=1) of all durations lie, at most 5 % too high; none when none was seen.
    pub fn quantile_ms(&self, q: f64) -> Option<f64> {
        let counts = self.0.lock();
        let n: u64 = counts.iter().map(|c| u64::from(*c)).sum();
        if n == 0 {
            return None;
        }
        let rank = ((q * n as f64).ceil() as u64).clamp(1, n);
        let mut seen = 0;
        let bucket = counts.iter().position(|c| {
            seen += u64::from(*c);
            seen >= rank
        })?;
        Some(FIRST_MS * RATIO.powi(bucket as i32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_five_percent() {
        let latency = Latency::default();
        assert_eq!(latency.quantile_ms(0.5), None);
        for ms in 1..=1000 {
            latency.add(Duration::from_millis(ms));
        }
        for (q, expected) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let got = latency.quantile_ms(q).expect("durations");
            assert!(got >= expected * 0.999 && got <= expected * 1.051, "{q}: {got}");
        }
    }

    #[test]
    fn extremes_stay_inside() {
        let latency = Latency::default();
        latency.add(Duration::ZERO);
        latency.add(Duration::from_secs(1_000_000));
        assert_eq!(latency.quantile_ms(0.0), Some(FIRST_MS));
        assert!(latency.quantile_ms(1.0).expect("durations") > 900_000.0);
    }
}
