//! The fence: while a worker cannot be sure that its streams are its own, it publishes nothing.
//!
//! A process that was frozen (SIGSTOP, a paused virtual machine) wakes up in the middle of whatever it did, and does not
//! know that its leases have gone to others. The keeper ticks several times a second; whoever publishes compares the
//! monotonic clock, which goes on while a process is frozen, with the last tick. Read on any thread, never waits.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
    time::Duration,
};

use base::time::Clock;

/// Shared by the keeper and those who publish.
pub struct Fence {
    clock: Arc<dyn Clock>,
    /// Without a tick for so long, nothing is published.
    patience: Duration,
    /// On the monotonic clock, nanoseconds.
    ticked_at: AtomicU64,
    held: AtomicBool,
    n_fenced: AtomicU64,
}

impl Fence {
    /// Open from now on, as long as it ticks.
    pub fn new(clock: Arc<dyn Clock>, patience: Duration) -> Arc<Self> {
        let ticked_at = AtomicU64::new(nanos(clock.monotonic()));
        Arc::new(Self { clock, patience, ticked_at, held: AtomicBool::new(false), n_fenced: AtomicU64::new(0) })
    }

    /// The keeper is awake. Gives the time since the last tick: more than the patience says that the process was frozen, and
    /// that the fence must be held until the leases are sure again.
    pub fn tick(&self) -> Duration {
        let now = self.clock.monotonic();
        let before = self.ticked_at.swap(nanos(now), AcqRel);
        now.saturating_sub(Duration::from_nanos(before))
    }

    /// Publishes nothing until told otherwise.
    pub fn hold(&self, held: bool) {
        self.held.store(held, Relaxed);
    }

    /// Whether events may go out.
    pub fn is_open(&self) -> bool {
        let since = nanos(self.clock.monotonic()).saturating_sub(self.ticked_at.load(Acquire));
        !self.held.load(Relaxed) && since <= nanos(self.patience)
    }

    /// An event was left out.
    pub fn count(&self) {
        self.n_fenced.fetch_add(1, Relaxed);
    }

    /// Events left out.
    pub fn n_fenced(&self) -> u64 {
        self.n_fenced.load(Relaxed)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use base::time::ManualClock;

    use super::*;

    #[test]
    fn opens_and_closes() {
        let clock = ManualClock::new();
        let fence = Fence::new(clock.clone(), Duration::from_secs(3));
        assert!(fence.is_open());
        clock.advance(Duration::from_secs(4));
        assert!(!fence.is_open(), "frozen");
        assert_eq!(fence.tick(), Duration::from_secs(4));
        assert!(fence.is_open());
        fence.hold(true);
        assert!(!fence.is_open());
        fence.hold(false);
        assert!(fence.is_open());
    }
}
