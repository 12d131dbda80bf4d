//! Per-stream accounts of frames: decoded = inferred + dropped by reason. Nothing vanishes silently.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Why a decoded frame was not inferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The configured sampling left it out.
    Sampling,
    /// A newer frame of the same stream took its place before the model was free.
    Superseded,
    /// Its pixels could not be mapped or scaled.
    Conversion,
    /// The model failed on it.
    InferenceFailed,
    /// We were shutting down.
    Shutdown,
    /// The worker could not be sure that the stream was still its own.
    Fenced,
}

impl DropReason {
    /// All reasons, in reporting order.
    pub const ALL: [Self; 6] =
        [Self::Sampling, Self::Superseded, Self::Conversion, Self::InferenceFailed, Self::Shutdown, Self::Fenced];

    /// The word used in metrics and summaries.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sampling => "sampling",
            Self::Superseded => "superseded",
            Self::Conversion => "conversion",
            Self::InferenceFailed => "inference_failed",
            Self::Shutdown => "shutdown",
            Self::Fenced => "fenced",
        }
    }
}

#[derive(Debug, Default)]
struct Counters {
    decoded: AtomicU64,
    inferred: AtomicU64,
    dropped: [AtomicU64; DropReason::ALL.len()],
    audio_samples: AtomicU64,
}

/// The counters of one stream over all its sessions. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Arc<Counters>);

/// A ledger read at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LedgerReading {
    /// Pictures the decoder gave out.
    pub n_decoded: u64,
    /// Pictures the model looked at.
    pub n_inferred: u64,
    /// Pictures left out, in the order of [`DropReason::ALL`].
    pub n_dropped: [u64; DropReason::ALL.len()],
    /// Audio samples handed on (16 kHz).
    pub n_audio_samples: u64,
}

impl Ledger {
    /// The decoder gave out a picture.
    pub fn decoded(&self) {
        self.0.decoded.fetch_add(1, Relaxed);
    }

    /// The model looked at a picture.
    pub fn inferred(&self) {
        self.0.inferred.fetch_add(1, Relaxed);
    }

    /// A picture was left out.
    pub fn dropped(&self, reason: DropReason) {
        self.0.dropped[reason as usize].fetch_add(1, Relaxed);
    }

    /// Audio was handed on.
    pub fn audio(&self, n_samples: usize) {
        self.0.audio_samples.fetch_add(n_samples as u64, Relaxed);
    }

    /// The counters now.
    pub fn read(&self) -> LedgerReading {
        LedgerReading {
            n_decoded: self.0.decoded.load(Relaxed),
            n_inferred: self.0.inferred.load(Relaxed),
            n_dropped: std::array::from_fn(|i| self.0.dropped[i].load(Relaxed)),
            n_audio_samples: self.0.audio_samples.load(Relaxed),
        }
    }
}

impl LedgerReading {
    /// Pictures left out for one reason.
    pub const fn dropped(&self, reason: DropReason) -> u64 {
        self.n_dropped[reason as usize]
    }

    /// Pictures decoded that are neither inferred nor dropped: those still on their way. Zero once a stream has drained.
    pub fn n_in_flight(&self) -> i64 {
        self.n_decoded as i64 - self.n_inferred as i64 - self.n_dropped.iter().sum::<u64>() as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balances_and_is_shared_by_clones() {
        let ledger = Ledger::default();
        let same = ledger.clone();
        for reason in DropReason::ALL {
            ledger.decoded();
            same.dropped(reason);
        }
        ledger.decoded();
        assert_eq!(ledger.read().n_in_flight(), 1);
        same.inferred();
        let reading = ledger.read();
        assert_eq!((reading.n_decoded, reading.n_inferred, reading.n_in_flight()), (7, 1, 0));
        assert_eq!(reading.dropped(DropReason::Superseded), 1);
    }
}
