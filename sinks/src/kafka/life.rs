//! The life of the client that sends: made, called back, replaced when it gave up or must be made otherwise.
//!
//! On the sink's thread; a client ends on a thread of its own, `kafka-end`. Must never replace a client that holds records
//! whose fate is not reported.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use rdkafka::{
    error::KafkaError,
    producer::{Producer as _, PurgeConfig},
};

use super::{
    Kafka, client, is_about_credentials,
    reports::{Mode, Reports},
    topics::N_TOPICS,
    verify,
};
use crate::SinkError;

/// Records that were called back and are at the broker already get so long for their acknowledgement: it saves sending
/// them twice.
const LAST_CHANCE: Duration = Duration::from_secs(2);
const PURGE_AFTER: Duration = Duration::from_millis(50);
/// A client that could not be made is tried again after this long.
const MAKE_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// While brokers do not take our credentials, we look this often whether there are others.
const LOOK_AT_CREDENTIALS_AFTER: Duration = Duration::from_secs(5);

/// The present client takes no more, and is replaced once all it holds is reported.
#[derive(Debug, Clone, Copy)]
pub(super) struct Closing {
    since: Duration,
    /// What waits in the client comes back; otherwise it may still go out.
    call_back: bool,
    purge_at: Duration,
}

impl Kafka {
    /// Makes a client in the place of the present one, which holds nothing any more.
    pub(super) fn make(&mut self) -> Result<(), SinkError> {
        self.retire();
        let batch_limit = self.keeper.least_limit();
        self.made_with = Some(self.settings.stamp());
        let client = self.settings.producer(self.mode, batch_limit)?;
        let reports = Reports { shared: Arc::clone(&self.shared), mode: self.mode, current: AtomicBool::new(true) };
        let producer = client
            .create_with_context(reports)
            .map_err(|error: KafkaError| SinkError::KafkaClient { cause: self.shared.scrub(&error.to_string()) })?;
        self.batch_limit = batch_limit;
        self.producer = Some(producer);
        self.n_sent = 0;
        self.closing = None;
        self.unmade = None;
        let mut account = self.shared.account.lock();
        account.n_reported = 0;
        account.fatal = false;
        account.batch_refused = false;
        Ok(())
    }

    /// Ends the present client on a thread of its own, because it may wait there for a name server or a handshake.
    pub(super) fn retire(&mut self) {
        let Some(producer) = self.producer.take() else { return };
        producer.context().current.store(false, Relaxed);
        let end = move || drop(producer);
        if let Err(error) = std::thread::Builder::new().name("kafka-end".into()).spawn(end) {
            tracing::warn!(sink = self.shared.name, %error, "no thread to end a kafka client");
        }
    }

    /// The present client shall come to its end.
    pub(super) fn close(&mut self, call_back: bool) {
        let now = self.now();
        let before = self.closing.filter(|closing| closing.call_back || !call_back);
        self.closing = Some(before.unwrap_or(Closing { since: now, call_back, purge_at: Duration::ZERO }));
        self.call_back();
    }

    /// Makes a client that is closing give back what waits in it, and after a while also what it has sent. What it tries
    /// again goes back into its queue, so once is not enough.
    fn call_back(&mut self) {
        let now = self.now();
        let Some(closing) = self.closing.as_mut().filter(|closing| closing.call_back && now >= closing.purge_at) else {
            return;
        };
        closing.purge_at = now + PURGE_AFTER;
        let what = PurgeConfig::default().queue();
        let what = if now >= closing.since + LAST_CHANCE { what.inflight() } else { what };
        if let Some(producer) = &self.producer {
            // Not to wait for threads that may themselves wait for a name server.
            producer.purge(what.non_blocking());
        }
    }

    /// Acts on what was heard: replaces a client that gave up, makes topics that are gone.
    pub(super) fn act(&mut self) {
        let (fatal, batch_refused, missing, refused) = {
            let mut account = self.shared.account.lock();
            let refused = match &account.trouble {
                Some((code, trouble)) if is_about_credentials(*code) => Some(trouble.clone()),
                _ => None,
            };
            (account.fatal, account.batch_refused, std::mem::take(&mut account.missing), refused)
        };
        self.keeper.look((0..N_TOPICS).filter(|at| missing[*at]));
        if batch_refused && self.mode == Mode::Batches {
            self.mode = Mode::OneByOne;
            self.one_by_one_to = self.highest;
        }
        if fatal && !self.closing.is_some_and(|closing| closing.call_back) {
            tracing::warn!(
                sink = self.shared.name,
                cause = self.fatal_cause(),
                "the kafka client gave up; a new one goes on"
            );
            self.close(true);
        }
        if let Some(trouble) = refused
            && self.closing.is_none()
        {
            self.look_at_credentials(trouble);
        }
        if self.closing.is_none() && self.keeper.least_limit() < self.batch_limit.min(client::BATCH_BYTES) {
            self.close(false);
        }
        if self.producer.is_some() && self.closing.is_none() {
            return;
        }
        let now = self.now();
        if self.n_out() > 0 {
            self.call_back();
        } else if now >= self.make_at {
            self.make_at = now + MAKE_AGAIN_AFTER;
            match self.make() {
                Ok(()) => self.make_at = Duration::ZERO,
                Err(error) => self.unmade = Some(self.shared.scrub(&error.to_string())),
            }
        }
    }

    pub(super) fn fatal_cause(&self) -> String {
        let fatal = self.producer.as_ref().and_then(|producer| producer.client().fatal_error());
        self.shared.scrub(&fatal.map_or_else(|| "fatal error".into(), |(_, text)| text))
    }

    /// Passwords and certificates are renewed while we run: a client that is not let in is replaced when they have been.
    fn look_at_credentials(&mut self, trouble: String) {
        let now = self.now();
        if now < self.looked_at_credentials + LOOK_AT_CREDENTIALS_AFTER {
            return;
        }
        self.looked_at_credentials = now;
        if verify::is_vague(&trouble) {
            verify::ask_later(self.settings.access(), &self.shared, trouble);
        }
        if self.made_with.as_ref() != Some(&self.settings.stamp()) {
            tracing::info!(sink = self.shared.name, "there are new credentials; a new kafka client uses them");
            self.close(true);
        }
    }
}
