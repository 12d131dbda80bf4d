//! What was kept, what could not be, and what was let go of.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Shared, index::Why};
use crate::metrics::Scrape;

/// What is kept of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Record,
    Snapshot,
    Clip,
}

impl What {
    const ALL: [Self; 3] = [Self::Record, Self::Snapshot, Self::Clip];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Snapshot => "snapshot",
            Self::Clip => "clip",
        }
    }
}

/// All counters.
#[derive(Debug, Default)]
pub(super) struct Counts {
    kept: [AtomicU64; 3],
    failed: [AtomicU64; 3],
    removed: [AtomicU64; 2],
}

impl Counts {
    pub(super) fn kept(&self, what: What) {
        self.kept[what as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn failed(&self, what: What) {
        self.failed[what as usize].fetch_add(1, Relaxed);
    }

    pub(super) fn removed(&self, why: Why) {
        self.removed[why as usize].fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
impl Counts {
    pub(super) fn failures(&self) -> [u64; 3] {
        What::ALL.map(|what| self.failed[what as usize].load(Relaxed))
    }
}

impl Shared {
    pub(super) fn scrape(&self, out: &mut Scrape) {
        let count = |n: &AtomicU64| n.load(Relaxed) as f64;
        for what in What::ALL {
            let labels = [("what", what.as_str())];
            let (kept, failed) = (&self.counts.kept[what as usize], &self.counts.failed[what as usize]);
            out.counter(
                "eyewitness_evidence_kept_total",
                "Records, snapshots and clips of alerts that were written.",
                &labels,
                count(kept),
            );
            out.counter(
                "eyewitness_evidence_failed_total",
                "Records, snapshots and clips of alerts that could not be made or written.",
                &labels,
                count(failed),
            );
        }
        for (why, word) in [(Why::Age, "age"), (Why::Bytes, "bytes")] {
            out.counter(
                "eyewitness_evidence_removed_total",
                "Alerts that were let go of, by what was used up.",
                &[("limit", word)],
                count(&self.counts.removed[why as usize]),
            );
        }
        let (n_alerts, n_open, n_bytes) = self.index.lock().size();
        let n_gathering = self.gathering.lock().len();
        out.gauge("eyewitness_evidence_alerts", "Alerts that are kept.", &[], n_alerts as f64);
        out.gauge("eyewitness_evidence_open_alerts", "Alerts among them that are not closed.", &[], n_open as f64);
        out.gauge("eyewitness_evidence_bytes", "Bytes of what is kept of alerts.", &[], n_bytes as f64);
        out.gauge("eyewitness_evidence_clips_pending", "Clips that are not yet made.", &[], n_gathering as f64);
    }
}
