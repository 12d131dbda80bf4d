//! Clocks and times. The only place that reads the machine's clocks; everything else is handed a [`Clock`].

use std::{fmt, sync::Arc, time::Duration};

pub use jiff::Timestamp;
use parking_lot::Mutex;

/// Presentation time: nanoseconds since the stream's session began. Never goes backwards within one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Pts(u64);

impl Pts {
    /// The start of a session.
    pub const ZERO: Self = Self(0);

    /// From nanoseconds of stream time.
    pub const fn from_nanos(ns: u64) -> Self {
        Self(ns)
    }

    /// From milliseconds of stream time.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms * 1_000_000)
    }

    /// Nanoseconds of stream time.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Whole milliseconds of stream time, rounded down: the unit of the wire.
    pub const fn millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Time since an `earlier` PTS of the same session; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Pts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}s", self.0 as f64 / 1e9)
    }
}

/// Where a capture time comes from, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClockQuality {
    /// The camera's own wall clock, through an RTCP sender report (RFC 3550, section 6.4.1).
    Ntp,
    /// A date written in the media (MP4 `creation_time`, HLS `EXT-X-PROGRAM-DATE-TIME`).
    Container,
    /// Only the time at which the media reached us.
    Arrival,
}

impl ClockQuality {
    /// The word used on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ntp => "ntp",
            Self::Container => "container",
            Self::Arrival => "arrival",
        }
    }
}

/// Wall-clock time (UTC) at which the source says the media was captured. May go backwards: cameras do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaptureTime {
    /// The time itself.
    pub at: Timestamp,
    /// How far it can be trusted.
    pub quality: ClockQuality,
}

/// The two clocks of the machine. Injected, so that tests own time.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Time since an arbitrary origin; never goes backwards.
    fn monotonic(&self) -> Duration;
    /// UTC wall-clock time; may jump.
    fn wall(&self) -> Timestamp;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock(std::time::Instant);

impl SystemClock {
    /// A clock whose monotonic origin is now.
    #[expect(
        clippy::disallowed_methods,
        clippy::new_ret_no_self,
        reason = "this is the clock, and clocks are injected"
    )]
    pub fn new() -> Arc<dyn Clock> {
        Arc::new(Self(std::time::Instant::now()))
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that moves only when told to, for tests.
#[derive(Debug)]
pub struct ManualClock(Mutex<Duration>);

impl ManualClock {
    /// Starts at the Unix epoch.
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Duration::ZERO)))
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        *self.0.lock() += by;
    }
}

impl Clock for ManualClock {
    fn monotonic(&self) -> Duration {
        *self.0.lock()
    }

    fn wall(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH + *self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pts_converts_and_never_underflows() {
        assert_eq!(Pts::from_millis(1500).nanos(), 1_500_000_000);
        assert_eq!(Pts::from_nanos(1_999_999).millis(), 1);
        assert_eq!(Pts::from_millis(1).since(Pts::from_millis(5)), Duration::ZERO);
        assert_eq!(Pts::from_millis(2010).to_string(), "2.010s");
    }

    #[test]
    fn manual_clock_moves_only_when_told() {
        let clock = ManualClock::new();
        assert_eq!(clock.monotonic(), Duration::ZERO);
        clock.advance(Duration::from_secs(2));
        assert_eq!(clock.monotonic(), Duration::from_secs(2));
        assert_eq!(clock.wall().as_second(), 2);
    }
}
