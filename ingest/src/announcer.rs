//! Tells a stream's notices, one at a time, whichever thread they come from, and keeps the account of its outage so that
//! each one gives exactly one gap, told before the session that ends it.

use std::{sync::Arc, time::Duration};

use base::{
    media::{GapReason, MediaConsumer, Notice, Resume, SessionId, SourceDescription},
    time::Pts,
};
use parking_lot::Mutex;

/// An outage that is not over.
#[derive(Debug, Clone)]
pub(crate) struct Outage {
    /// The session that broke.
    pub session: Option<SessionId>,
    /// Its last media.
    pub from: Pts,
    /// Monotonic time of its last media.
    pub since: Duration,
    pub reason: GapReason,
    pub detail: String,
}

/// Of one stream, over all its sessions.
pub(crate) struct Announcer {
    consumer: Arc<dyn MediaConsumer>,
    /// Held while a notice is told.
    outage: Mutex<Option<Outage>>,
}

impl Announcer {
    pub(crate) fn new(consumer: Arc<dyn MediaConsumer>) -> Self {
        Self { consumer, outage: Mutex::new(None) }
    }

    /// Tells something that neither begins nor ends an outage.
    pub(crate) fn tell(&self, notice: Notice) {
        let _one_at_a_time = self.outage.lock();
        self.consumer.notice(notice);
    }

    /// A try failed or a session broke. Failed tries after the first one belong to the same outage.
    pub(crate) fn interrupted(&self, outage: Outage, retry_in: Duration) {
        let mut current = self.outage.lock();
        let (reason, detail) = (outage.reason, outage.detail.clone());
        current.get_or_insert(outage);
        self.consumer.notice(Notice::Interrupted { reason, detail, retry_in });
    }

    /// Media flows.
    pub(crate) fn playing(&self, session: SessionId, source: SourceDescription, resume: Resume, now: Duration) {
        let mut current = self.outage.lock();
        self.close(&mut current, now);
        self.consumer.notice(Notice::Playing { session, source, resume });
    }

    /// The stream is over: a gap for the outage that nothing ended, and for one that just `began`, then `last`, if any.
    pub(crate) fn over(&self, began: Option<Outage>, last: Option<Notice>, now: Duration) {
        let mut current = self.outage.lock();
        if current.is_none() {
            *current = began;
        }
        self.close(&mut current, now);
        if let Some(last) = last {
            self.consumer.notice(last);
        }
    }

    fn close(&self, current: &mut Option<Outage>, now: Duration) {
        let Some(outage) = current.take() else { return };
        let length = u64::try_from(now.saturating_sub(outage.since).as_nanos()).unwrap_or(u64::MAX);
        self.consumer.notice(Notice::Gap {
            session: outage.session,
            from: outage.from,
            to: Pts::from_nanos(outage.from.nanos().saturating_add(length)),
            reason: outage.reason,
            detail: outage.detail,
        });
    }
}
