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
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use base::{
    media::SessionId,
    time::{Clock, Pts},
};
use parking_lot::Mutex;

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

    /// Events left out.
    pub fn n_fenced(&self) -> u64 {
        self.n_fenced.load(Relaxed)
    }
}

/// The fence, as one stream comes to it: remembers what it held back until that is told.
pub struct Gate {
    fence: Arc<Fence>,
    /// Something was held back, and is not told yet.
    is_holding: AtomicBool,
    held: Mutex<Option<Held>>,
}

/// What a stream had that was held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The session in which that began.
    pub session: SessionId,
    /// The earliest of it, in that session.
    pub from: Pts,
    /// The latest of it.
    pub to: Pts,
}

impl Gate {
    /// Of a stream under a lease.
    pub fn new(fence: Arc<Fence>) -> Arc<Self> {
        Arc::new(Self { fence, is_holding: AtomicBool::new(false), held: Mutex::default() })
    }

    /// Whether events may go out: not before it is told what was held back.
    pub fn is_open(&self) -> bool {
        !self.is_holding.load(Acquire) && self.fence.is_open()
    }

    /// An event was left out.
    pub fn hold_back_event(&self, session: &SessionId, pts: Pts) {
        self.fence.n_fenced.fetch_add(1, Relaxed);
        self.hold_back(session, pts);
    }

    /// Media were left out.
    pub fn hold_back(&self, session: &SessionId, pts: Pts) {
        let mut held = self.held.lock();
        let held = held.get_or_insert_with(|| Held { session: session.clone(), from: pts, to: pts });
        // Of a later session nothing can be said in the times of this one.
        if held.session == *session {
            (held.from, held.to) = (held.from.min(pts), held.to.max(pts));
        }
        self.is_holding.store(true, Release);
    }

    /// Something was held back and may be told: the fence is open again.
    pub fn wants_telling(&self) -> bool {
        self.is_holding.load(Acquire) && self.fence.is_open()
    }

    /// Opens, where the fence is open; gives what is to be told.
    pub fn reopen(&self) -> Option<Held> {
        let mut held = self.held.lock();
        if !self.fence.is_open() {
            return None;
        }
        self.is_holding.store(false, Release);
        held.take()
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

    #[test]
    fn what_is_held_back_is_told_before_anything_else() {
        let clock = ManualClock::new();
        let fence = Fence::new(clock.clone(), Duration::from_secs(3));
        let gate = Gate::new(Arc::clone(&fence));
        let [session, later] = [b"a", b"b"].map(|name| SessionId::derived([name.as_slice()]));
        assert!(gate.is_open() && !gate.wants_telling());
        assert_eq!(gate.reopen(), None);
        fence.hold(true);
        for (session, ms) in [(&session, 700), (&session, 500), (&session, 900), (&later, 0)] {
            gate.hold_back(session, Pts::from_millis(ms));
        }
        gate.hold_back_event(&session, Pts::from_millis(800));
        assert_eq!((fence.n_fenced(), gate.is_open(), gate.wants_telling(), gate.reopen()), (1, false, false, None));
        fence.hold(false);
        assert!(!gate.is_open() && gate.wants_telling());
        let held = Held { session, from: Pts::from_millis(500), to: Pts::from_millis(900) };
        assert_eq!(gate.reopen(), Some(held));
        assert!(gate.is_open() && !gate.wants_telling());
    }
}
