//! What the threads of the plane share: names, the way into the cluster, what stands in the way, when to begin anew.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use base::time::Clock;
use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, ClientContext,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode as Code},
};

use super::{Topic, inbox::Inbox};
use crate::{
    SinkError,
    control::ClusterConfig,
    kafka::{connection::Access, oauth::Tokens, reports},
};

/// One turn of waiting for somebody else.
pub(super) const TURN: Duration = Duration::from_millis(20);

pub(super) struct Shared {
    pub(super) config: ClusterConfig,
    pub(super) worker: String,
    pub(super) access: Access,
    pub(super) tokens: Option<Arc<Tokens>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) inbox: Inbox,
    /// Partitions of each topic; 0 while it is not known to be there and good.
    pub(super) n_partitions: [AtomicUsize; Topic::ALL.len()],
    /// Topics that were read to their end at least once.
    pub(super) n_read: AtomicUsize,
    /// Somebody misses a topic.
    pub(super) look_again: AtomicBool,
    /// A client with an older number is made anew: there are other credentials.
    pub(super) generation: AtomicU64,
    pub(super) leaving: AtomicBool,
    pub(super) stop: Arc<AtomicBool>,
    troubles: Mutex<Troubles>,
}

/// What stands in the way, by who found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finder {
    /// No broker answers, or none lets us in.
    Network,
    /// A topic is missing or not as it must be.
    Topics,
    /// Something cannot be read.
    View,
    /// The group does not take us.
    Group,
    /// Something cannot be written.
    Post,
}

#[derive(Default)]
struct Troubles {
    found: [Option<String>; 5],
    /// The last error that a client told, and their number.
    last: Option<(Option<Code>, String)>,
    n_errors: u64,
}

impl Shared {
    pub(super) fn new(config: &ClusterConfig, worker: &str, access: Access, clock: Arc<dyn Clock>) -> Self {
        Self {
            config: config.clone(),
            worker: worker.to_owned(),
            tokens: access.tokens(&clock),
            access,
            clock,
            inbox: Inbox::default(),
            n_partitions: std::array::from_fn(|_| AtomicUsize::new(0)),
            n_read: AtomicUsize::new(0),
            look_again: AtomicBool::new(true),
            generation: AtomicU64::new(0),
            leaving: AtomicBool::new(false),
            stop: Arc::default(),
            troubles: Mutex::default(),
        }
    }

    pub(super) fn topic(&self, topic: Topic) -> String {
        format!("{}.{}", self.config.topic_prefix, topic.as_str())
    }

    pub(super) fn n_partitions(&self, topic: Topic) -> usize {
        self.n_partitions[topic as usize].load(Relaxed)
    }

    /// What every client of ours begins with.
    pub(super) fn client(&self) -> Result<ClientConfig, SinkError> {
        let mut client = self.access.client()?;
        client.set("client.id", format!("eyewitness-{}", self.worker));
        if !self.config.properties.contains_key("reconnect.backoff.max.ms") {
            client.set("reconnect.backoff.max.ms", "1000");
        }
        Ok(client)
    }

    pub(super) fn context(self: &Arc<Self>) -> Context {
        Context { shared: Arc::clone(self), generation: self.generation.load(Relaxed) }
    }

    pub(super) fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Sleeps, but not longer than the plane lives.
    pub(super) fn pause(&self, pause: Duration) {
        let end = self.clock.monotonic() + pause;
        while !self.stopped() && self.clock.monotonic() < end {
            std::thread::sleep(TURN);
        }
    }

    /// Tells the keeper what stands in the way; none: no longer.
    pub(super) fn trouble(&self, finder: Finder, trouble: Option<String>) {
        let mut troubles = self.troubles.lock();
        let found = &mut troubles.found[finder as usize];
        if *found == trouble {
            return;
        }
        *found = trouble;
        let first = troubles.found.iter().flatten().next().map(|text| self.scrub(text));
        // Within the lock, or two threads could tell theirs in the wrong order.
        self.inbox.trouble(first);
    }

    pub(super) fn scrub(&self, text: &str) -> String {
        self.access.secrets().scrub(text)
    }

    pub(super) fn n_errors(&self) -> u64 {
        self.troubles.lock().n_errors
    }

    pub(super) fn last_error(&self) -> Option<(Option<Code>, String)> {
        self.troubles.lock().last.clone()
    }
}

/// What a client tells.
pub(super) struct Context {
    pub(super) shared: Arc<Shared>,
    pub(super) generation: u64,
}

impl Context {
    /// Whether no other client was meant to be in its place.
    pub(super) fn is_current(&self) -> bool {
        self.generation == self.shared.generation.load(Relaxed)
    }
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // What a client complains of is told once, by whoever looks whether it is so.
        let level = match level {
            RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => RDKafkaLogLevel::Debug,
            level => level,
        };
        reports::log(self.shared.access.secrets(), "control", level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if !self.is_current() {
            return;
        }
        let code = error.rdkafka_error_code();
        let reason = self.shared.scrub(reason);
        let mut troubles = self.shared.troubles.lock();
        troubles.n_errors += 1;
        // "All brokers down" follows each real cause and says less.
        if code != Some(Code::AllBrokersDown) || troubles.last.is_none() {
            troubles.last = Some((code, reason));
        }
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let tokens =
            self.shared.tokens.as_ref().ok_or("neither `oauth_token_file` nor `oauth_token_command` is set")?;
        let token = tokens.current().map_err(|problem| self.shared.scrub(&problem).replace('\0', " "))?;
        Ok(OAuthToken { token: token.text, principal_name: token.principal, lifetime_ms: token.expires_ms })
    }
}
