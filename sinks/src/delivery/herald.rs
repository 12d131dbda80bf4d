//! What a delivery tells its operator: an outage when it begins, now and then while it lasts, and when it is over; losses
//! one by one, but not thousands of them. On the sink's thread; times are on the monotonic clock.

use std::time::Duration;

use crate::record::Record;

/// While an outage lasts, it is told again after this long.
const REMIND_AFTER: Duration = Duration::from_secs(60);
/// Losses are told one by one at most so often; those between are counted.
const TELL_LOSS_AFTER: Duration = Duration::from_secs(1);

/// Remembers what was told, and when.
#[derive(Debug)]
pub(super) struct Herald {
    sink: String,
    trouble_since: Option<Duration>,
    reminded_at: Duration,
    loss_at: Option<Duration>,
    n_untold: u64,
}

impl Herald {
    pub(super) fn new(sink: &str) -> Self {
        Self { sink: sink.to_owned(), trouble_since: None, reminded_at: Duration::ZERO, loss_at: None, n_untold: 0 }
    }

    /// What stands in the way of delivery now, if anything.
    pub(super) fn trouble(&mut self, now: Duration, cause: Option<String>, n_waiting: u64) {
        match (cause, self.trouble_since) {
            (Some(cause), None) => {
                (self.trouble_since, self.reminded_at) = (Some(now), now);
                tracing::warn!(sink = self.sink, cause, n_waiting, "trouble with delivery; events wait");
            }
            (Some(cause), Some(since)) if now >= self.reminded_at + REMIND_AFTER => {
                self.reminded_at = now;
                let secs = (now - since).as_secs();
                tracing::warn!(sink = self.sink, cause, n_waiting, secs, "still trouble with delivery; events wait");
            }
            (None, Some(since)) => {
                self.trouble_since = None;
                let secs = (now - since).as_secs();
                tracing::info!(sink = self.sink, n_waiting, secs, "delivery goes on");
            }
            _ => {}
        }
    }

    /// A record was refused for good.
    pub(super) fn loss(&mut self, now: Duration, record: Option<&Record<'_>>, reason: &str, is_put_aside: bool) {
        if self.loss_at.is_some_and(|at| now < at + TELL_LOSS_AFTER) {
            self.n_untold += 1;
            return;
        }
        self.loss_at = Some(now);
        let n_others = std::mem::take(&mut self.n_untold);
        let (stream, id) = record.map_or(("?", "?"), |record| (record.stream, record.id));
        let fate = if is_put_aside { "put aside with the dead letters" } else { "lost" };
        tracing::error!(sink = self.sink, stream, id, reason, n_others, "record refused for good: {fate}");
    }
}
