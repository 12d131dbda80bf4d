//! Kafka sink: one idempotent producer; key = stream or tag, one topic a kind of record, CloudEvents attributes as headers.
//!
//! The sink's own thread sends and polls; librdkafka's threads do the network and call nothing of ours. Must never:
//! reorder the records of a key, report one twice or not at all, or fail because a broker is away.
//!
//! How order survives errors: the producer is idempotent and gapless, so that after a record that the broker does not
//! take, nothing behind it goes out; what is on its way comes back, and a new producer sends it again. Each producer that
//! gave records back is replaced, because its sequence numbers have a hole.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use base::trace::Tracer;
use parking_lot::Mutex;
use rdkafka::{
    error::RDKafkaErrorCode as Code,
    producer::{BaseProducer, BaseRecord, Producer},
};

use crate::{
    BuildContext, SinkError, TopicCount,
    delivery::{NotSent, Outlet, Report},
    record::Record,
};
use client::Settings;
use connection::Stamp;
use keeper::Keeper;
use life::Closing;
use reports::{Account, Mode, Reports, Secrets, Shared};
use topics::N_TOPICS;

mod check;
mod client;
mod config;
pub(crate) mod connection;
mod headers;
pub(crate) mod keeper;
mod life;
pub(crate) mod oauth;
pub(crate) mod reports;
pub(crate) mod topics;
pub(crate) mod verify;

pub use config::{Compression, KafkaConfig, OnStart, PartitionKey, Property};
pub use topics::{AlertKey, AlertsTopicConfig, Cleanup, CreateTopics, TopicConfig, TopicsConfig};

/// How long `on_start = "fail"` waits for a broker.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// One turn of that wait.
const START_STEP: Duration = Duration::from_millis(500);
/// One turn of waiting for acknowledgements.
const POLL: Duration = Duration::from_millis(1);
/// A trouble with brokers is one of ours when nothing was acknowledged for this long: others of them may do.
const NOT_WELL_AFTER: Duration = Duration::from_millis(1500);
/// Without any error, silence is told after this long.
const SILENT_AFTER: Duration = Duration::from_secs(10);
/// A client that is done with gets so long to end, before it is left to itself.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// The way to Kafka.
pub(crate) struct Kafka {
    brokers: String,
    settings: Settings,
    shared: Arc<Shared>,
    keeper: Keeper,
    alert_key: AlertKey,
    max_record_bytes: u64,
    /// None while none can be made.
    producer: Option<BaseProducer<Reports>>,
    made_with: Option<Stamp>,
    /// Why none can be made.
    unmade: Option<String>,
    make_at: Duration,
    mode: Mode,
    /// One by one up to this number; then in batches again.
    one_by_one_to: u64,
    /// The largest batch that the present client makes, in the eyes of the topics.
    batch_limit: u64,
    /// Records given to the present client.
    n_sent: u64,
    /// The highest number given to any.
    highest: u64,
    closing: Option<Closing>,
    /// When something was acknowledged, or the first of those on their way was sent.
    heard_at: Duration,
    n_delivered: u64,
    looked_at_credentials: Duration,
    /// A record was given back unsent: none may overtake it before that was heard.
    turned_back: bool,
    /// Told to all threads that work for this sink.
    stop: Arc<AtomicBool>,
    tracer: Option<Arc<dyn Tracer>>,
}

impl Kafka {
    /// Makes the client, which connects in the background.
    fn start(name: &str, config: &KafkaConfig, context: &BuildContext) -> Result<Self, SinkError> {
        let clock = Arc::clone(&context.clock);
        let secrets: Arc<Secrets> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let settings = Settings::new(config, Arc::clone(&secrets));
        let tokens = settings.access().tokens(&clock);
        if let Some(tokens) = &tokens {
            let failed = |e| SinkError::KafkaClient { cause: format!("no thread for the token command: {e}") };
            tokens.keep_fresh(Arc::clone(&stop)).map_err(failed)?;
        }
        let shared =
            Arc::new(Shared { name: name.to_owned(), secrets, tokens, clock, account: Mutex::new(Account::default()) });
        let create = config.topics.create;
        let wanted = config.wanted_topics();
        let keeper = Keeper::new(settings.clone(), Arc::clone(&shared), wanted, create, Arc::clone(&stop));
        let mut kafka = Self {
            brokers: config.brokers.join(","),
            settings,
            shared,
            keeper,
            alert_key: config.topics.alerts.key,
            max_record_bytes: config.max_record_bytes,
            producer: None,
            made_with: None,
            unmade: None,
            make_at: Duration::ZERO,
            mode: Mode::Batches,
            one_by_one_to: 0,
            batch_limit: u64::MAX,
            n_sent: 0,
            highest: 0,
            closing: None,
            heard_at: Duration::ZERO,
            n_delivered: 0,
            looked_at_credentials: Duration::ZERO,
            turned_back: false,
            stop,
            tracer: context.tracer.clone(),
        };
        kafka.make()?;
        if config.on_start == OnStart::Fail {
            kafka.check_broker()?;
        }
        kafka.keeper.look(0..N_TOPICS);
        Ok(kafka)
    }

    fn now(&self) -> Duration {
        self.shared.clock.monotonic()
    }

    /// Waits for an answer of any broker. Wrong credentials end the wait at once: time does not cure them.
    fn check_broker(&mut self) -> Result<(), SinkError> {
        let Some(producer) = &self.producer else { return Ok(()) };
        let end = self.now() + START_PATIENCE;
        loop {
            // A token is asked for in here.
            producer.poll(POLL);
            let Err(error) = producer.client().fetch_metadata(None, START_STEP) else { return Ok(()) };
            producer.poll(POLL);
            let trouble = self.shared.account.lock().trouble.clone();
            let hopeless = trouble.as_ref().is_some_and(|(code, _)| is_about_credentials(*code));
            if hopeless || self.now() >= end {
                let mut cause = trouble.map_or_else(|| error.to_string(), |(_, reason)| reason);
                if verify::is_vague(&cause)
                    && let Some(clear) = verify::ask(self.settings.access(), &cause)
                {
                    cause = clear;
                }
                return Err(SinkError::KafkaUnreachable { brokers: self.brokers.clone(), cause });
            }
        }
    }

    /// Records that the present client has and has not reported.
    fn n_out(&self) -> u64 {
        self.n_sent.saturating_sub(self.shared.account.lock().n_reported)
    }

    /// Hears what the client has to say, without waiting.
    fn hear(&mut self, reports: &mut Vec<Report>) {
        // With no time to wait, the client hands out one batch of acknowledgements at a time.
        loop {
            if let Some(producer) = &self.producer {
                producer.poll(Duration::ZERO);
            }
            let mut account = self.shared.account.lock();
            if account.reports.is_empty() {
                break;
            }
            reports.append(&mut account.reports);
        }
        self.turned_back = false;
        let n_delivered = self.shared.account.lock().n_delivered;
        if n_delivered != self.n_delivered {
            self.n_delivered = n_delivered;
            self.heard_at = self.now();
        }
    }

    /// Largest record that may go to a topic, and what says so.
    fn limit(&self, topic: usize) -> (u64, bool) {
        let of_topic = self.keeper.limit(topic);
        (of_topic.min(self.max_record_bytes), of_topic < self.max_record_bytes)
    }

    fn too_large(&self, n_bytes: u64, topic: usize) -> String {
        let name = self.keeper.topic(topic);
        match self.limit(topic) {
            (limit, true) => format!(
                "its {n_bytes} bytes are more than topic {name} takes ({limit}): raise the topic's `max.message.bytes`"
            ),
            (limit, false) => format!(
                "its {n_bytes} bytes are more than the limit of {limit}: raise `max_record_bytes`, and the \
                 `max.message.bytes` of topic {name} if that is less"
            ),
        }
    }

    /// Never sends a record.
    fn refuse(&self, number: u64, reason: String) -> Result<(), NotSent> {
        self.shared.account.lock().stuck.take_if(|stuck| stuck.number == number);
        Err(NotSent::Refused(reason))
    }

    /// Takes a record only to give it back: it is offered again a little later.
    fn turn_back(&mut self, number: u64, topic: usize, cause: String) -> Result<(), NotSent> {
        self.turned_back = true;
        self.shared.account.lock().comes_back(number, topic, cause);
        Ok(())
    }
}

const fn is_about_credentials(code: Option<Code>) -> bool {
    matches!(code, Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL))
}

impl Outlet for Kafka {
    fn send(&mut self, number: u64, record: &Record<'_>) -> Result<(), NotSent> {
        if self.turned_back {
            return Err(NotSent::Busy);
        }
        let Some(topic) = topics::topic_of(record.kind) else {
            return Err(NotSent::Refused(format!("no topic is for records of kind `{}`", record.kind)));
        };
        let Some(ticket) = reports::ticket(number, topic) else {
            return Err(NotSent::Refused("its number is too large".into()));
        };
        if self.closing.is_some() || self.producer.is_none() {
            self.act();
            if self.closing.is_some() && self.n_out() > 0 {
                return Err(NotSent::Busy);
            }
        }
        if self.mode == Mode::OneByOne && number > self.one_by_one_to {
            self.mode = Mode::Batches;
            self.close(false);
            self.act();
            if self.closing.is_some() && self.n_out() > 0 {
                return Err(NotSent::Busy);
            }
        }
        let Some(producer) = &self.producer else {
            let cause = self.unmade.clone().unwrap_or_else(|| "there is no kafka client at the moment".into());
            return self.turn_back(number, topic, cause);
        };
        let record = &Record { key: self.alert_key.of(record), ..record.clone() };
        let (headers, n_bytes) = headers::of(record, self.tracer.as_deref());
        if n_bytes as u64 > self.limit(topic).0 {
            return self.refuse(number, self.too_large(n_bytes as u64, topic));
        }
        let message = BaseRecord::with_opaque_to(self.keeper.topic(topic), ticket)
            .key(record.key)
            .payload(record.payload)
            .headers(headers);
        let Err((error, _message)) = producer.send(message) else {
            if self.n_sent == 0 {
                // The oldest that came back may be gone by now: then it stands in nobody's way.
                let mut account = self.shared.account.lock();
                account.stuck.take_if(|stuck| stuck.number < number);
            }
            if self.n_out() == 0 {
                self.heard_at = self.now();
            }
            self.n_sent += 1;
            self.highest = self.highest.max(number);
            return Ok(());
        };
        let code = error.rdkafka_error_code();
        let cause = self.shared.scrub(&match code {
            Some(code) => format!("topic {}: {code}", self.keeper.topic(topic)),
            None => error.to_string(),
        });
        match code {
            Some(Code::QueueFull) if self.n_out() > 0 => Err(NotSent::Busy),
            Some(Code::Fatal) => {
                self.shared.account.lock().fatal = true;
                let cause = self.fatal_cause();
                self.turn_back(number, topic, cause)
            }
            Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition) => {
                self.shared.account.lock().missing[topic] = true;
                self.turn_back(number, topic, cause)
            }
            Some(Code::MessageSizeTooLarge) => self.refuse(number, self.too_large(n_bytes as u64, topic)),
            _ => self.turn_back(number, topic, cause),
        }
    }

    fn reports(&mut self, patience: Duration, reports: &mut Vec<Report>) {
        let end = self.now() + patience;
        loop {
            self.hear(reports);
            self.act();
            let now = self.now();
            if !reports.is_empty() || now >= end {
                return;
            }
            // Not within the client: it waits until a time of day, and a clock that is set back makes that a long wait.
            std::thread::sleep(POLL.min(end - now));
        }
    }

    fn recall(&mut self) {
        self.close(true);
    }

    fn hurry(&mut self) {}

    fn trouble(&self) -> Option<String> {
        let account = self.shared.account.lock();
        if let Some(stuck) = &account.stuck {
            return Some(self.keeper.problem(stuck.topic).unwrap_or_else(|| stuck.cause.clone()));
        }
        if self.unmade.is_some() {
            return self.unmade.clone();
        }
        let is_out = self.n_sent > account.n_reported;
        let silence = self.now().saturating_sub(self.heard_at);
        match &account.trouble {
            _ if !is_out => None,
            Some((_, reason)) if silence >= NOT_WELL_AFTER => match &account.certificate {
                Some(clear) if verify::is_vague(reason) => Some(clear.clone()),
                _ => Some(reason.clone()),
            },
            None if silence >= SILENT_AFTER => {
                let brokers = &self.brokers;
                Some(format!("kafka at {brokers} acknowledges nothing, though nobody refuses a connection"))
            }
            _ => None,
        }
    }

    fn topics(&self) -> BTreeMap<String, TopicCount> {
        let counts = self.shared.account.lock().counts;
        let used = counts.into_iter().enumerate().filter(|(_, count)| *count != TopicCount::default());
        used.map(|(at, count)| (self.keeper.topic(at).to_owned(), count)).collect()
    }
}

impl Drop for Kafka {
    /// Gives the threads that work for this sink a moment to end. Whoever waits for a dead network is left to itself.
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        let Some(producer) = self.producer.take() else { return };
        producer.context().current.store(false, Relaxed);
        let thread = std::thread::Builder::new().name("kafka-end".into()).spawn(move || drop(producer));
        let Ok(thread) = thread else { return };
        let end = self.now() + END_PATIENCE;
        while (!thread.is_finished() || self.keeper.is_busy()) && self.now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
