//! Plays recordings at their own speed in live mode: holds a streaming thread until its media is due by the injected
//! clock. Must never hold longer than the stop signal allows.

use std::{sync::Arc, time::Duration};

use base::{shutdown::Shutdown, time::Clock};
use parking_lot::Mutex;

/// Media later than this means that the source had stalled: time goes on from here instead of rushing after it.
const LATE: Duration = Duration::from_secs(1);

/// Shared by the tracks of one session.
#[derive(Debug)]
pub(crate) struct Pacer {
    clock: Arc<dyn Clock>,
    /// Clock time of PTS 0.
    zero: Mutex<Option<Duration>>,
}

impl Pacer {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, zero: Mutex::new(None) }
    }

    /// Waits until `pts` nanoseconds are due, or the stop.
    pub(crate) fn wait(&self, pts: u64, stop: &Shutdown) {
        let pts = Duration::from_nanos(pts);
        let due = {
            let mut zero = self.zero.lock();
            let now = self.clock.monotonic();
            let start = *zero.get_or_insert(now.saturating_sub(pts));
            if now > start + pts + LATE {
                *zero = Some(now.saturating_sub(pts));
            }
            start + pts
        };
        loop {
            let now = self.clock.monotonic();
            if now >= due || stop.wait_timeout(due - now) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use base::time::ManualClock;

    use super::*;

    #[test]
    fn waits_for_the_clock_and_forgives_stalls() {
        let clock = ManualClock::new();
        clock.advance(Duration::from_secs(100));
        let pacer = Pacer::new(clock.clone());
        let stop = Shutdown::default();
        pacer.wait(0, &stop);
        clock.advance(Duration::from_secs(5));
        pacer.wait(40_000_000, &stop);
        assert_eq!(*pacer.zero.lock(), Some(Duration::from_millis(104_960)));
        stop.trigger();
        pacer.wait(60_000_000_000, &stop);
    }
}
