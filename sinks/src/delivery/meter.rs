//! The figures of a delivery while it runs: written by the sink's thread, read by anybody.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

/// Written at every step of a delivery.
#[derive(Debug, Default)]
pub struct Meter {
    pub(crate) n_delivered: AtomicU64,
    pub(crate) n_failed: AtomicU64,
    pub(crate) n_dropped: AtomicU64,
    pub(crate) n_waiting: AtomicU64,
    pub(crate) n_waiting_bytes: AtomicU64,
    pub(crate) max_waiting_bytes: AtomicU64,
    /// Wall clock, milliseconds since 1970; 0 when nothing waits.
    pub(crate) oldest_ms: AtomicU64,
    pub(crate) full: AtomicBool,
    pub(crate) trouble: Mutex<Option<String>>,
}

/// A delivery's figures at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeliveryReading {
    /// Records that the far end has.
    pub n_delivered: u64,
    /// Records that it will never take, or that the disk gave back damaged.
    pub n_failed: u64,
    /// Records that a full spool let go of.
    pub n_dropped: u64,
    /// Records accepted and not yet settled.
    pub n_waiting: u64,
    /// Their bytes.
    pub n_waiting_bytes: u64,
    /// Most bytes that may wait.
    pub max_waiting_bytes: u64,
    /// Wall clock, milliseconds since 1970: when the oldest of them was accepted; none when nothing waits.
    pub oldest_ms: Option<u64>,
    /// The backlog is full: events wait, or push out the oldest.
    pub full: bool,
    /// What stands in the way now, without secrets.
    pub trouble: Option<String>,
}

impl Meter {
    /// The figures now.
    pub fn read(&self) -> DeliveryReading {
        let oldest_ms = self.oldest_ms.load(Relaxed);
        DeliveryReading {
            n_delivered: self.n_delivered.load(Relaxed),
            n_failed: self.n_failed.load(Relaxed),
            n_dropped: self.n_dropped.load(Relaxed),
            n_waiting: self.n_waiting.load(Relaxed),
            n_waiting_bytes: self.n_waiting_bytes.load(Relaxed),
            max_waiting_bytes: self.max_waiting_bytes.load(Relaxed),
            oldest_ms: (oldest_ms > 0).then_some(oldest_ms),
            full: self.full.load(Relaxed),
            trouble: self.trouble.lock().clone(),
        }
    }
}
