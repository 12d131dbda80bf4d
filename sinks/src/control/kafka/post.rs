//! Writes posts, and answers for each.
//!
//! [`Writer::post`] on the keeper's thread, which never waits there; acknowledgements are heard on a thread of its own,
//! `plane-post`. Every post is answered once, within about [`PATIENCE`]. Must never answer "written" before all replicas
//! have it.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rdkafka::{
    ClientContext, Message as _,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::DeliveryResult,
    producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext},
};

use super::{
    Topic,
    shared::{Context, Finder, Shared, TURN},
};
use crate::{SinkError, control::Post};

/// What could not be written for so long is given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Posts that wait until the topics are there.
const MOST_WAITING: usize = 1024;
const POLL: Duration = Duration::from_millis(50);
/// With this many partitions a topic takes any lease that there can be.
const ONLY_PARTITION: i32 = 0;

pub(super) struct Writer {
    shared: Arc<Shared>,
    producer: Mutex<Arc<BaseProducer<Reports>>>,
    /// Until the topics are there, with the time at which each is given up.
    waiting: Mutex<VecDeque<(Duration, u64, Post)>>,
    /// Given to a producer and not yet answered.
    n_out: Arc<AtomicUsize>,
}

impl Writer {
    /// Makes the client, which connects in the background.
    pub(super) fn open(shared: Arc<Shared>) -> Result<Self, SinkError> {
        let n_out = Arc::default();
        let producer = Mutex::new(Arc::new(make(&shared, &n_out)?));
        Ok(Self { shared, producer, waiting: Mutex::default(), n_out })
    }

    /// Other credentials, or a client that gave up: the next one goes on.
    pub(super) fn renew(&self) {
        match make(&self.shared, &self.n_out) {
            Ok(producer) => *self.producer.lock() = Arc::new(producer),
            Err(error) => self.shared.trouble(Finder::Post, Some(error.to_string())),
        }
    }

    pub(super) fn producer(&self) -> Arc<BaseProducer<Reports>> {
        Arc::clone(&self.producer.lock())
    }

    /// Writes, or says why not.
    pub(super) fn post(&self, ticket: u64, post: Post) {
        let mut waiting = self.waiting.lock();
        if self.is_ready() && waiting.is_empty() {
            drop(waiting);
            return self.send(ticket, &post);
        }
        if waiting.len() < MOST_WAITING {
            waiting.push_back((self.shared.clock.monotonic() + PATIENCE, ticket, post));
        } else {
            drop(waiting);
            self.shared.inbox.answer(ticket, Err(format!("kafka cannot be reached, and {MOST_WAITING} others wait")));
        }
    }

    fn is_ready(&self) -> bool {
        Topic::ALL.iter().all(|topic| self.shared.n_partitions(*topic) > 0)
    }

    fn send(&self, ticket: u64, post: &Post) {
        let (topic, partition, key, text) = match post {
            Post::Attachment { lease, name, text } => (Topic::Attachments, Some(*lease), name.clone(), text.as_deref()),
            Post::Checkpoint { name, text } => (Topic::Checkpoints, None, name.clone(), text.as_deref()),
            Post::Worker { id, text } => (Topic::Leases, None, Topic::worker_key(id), text.as_deref()),
            Post::Claim { lease, worker } => (Topic::Leases, None, Topic::lease_key(*lease), Some(worker.as_str())),
        };
        let name = self.shared.topic(topic);
        let mut record = BaseRecord::with_opaque_to(&name, Box::new(ticket)).key(&key);
        if let Some(text) = text {
            record = record.payload(text);
        }
        record.partition = match (topic, partition) {
            (Topic::Attachments, lease) => Some(lease.and_then(|lease| i32::try_from(lease).ok()).unwrap_or(i32::MAX)),
            (Topic::Leases, _) => Some(ONLY_PARTITION),
            (Topic::Checkpoints, _) => None,
        };
        self.n_out.fetch_add(1, Relaxed);
        if let Err((error, _)) = self.producer().send(record) {
            self.n_out.fetch_sub(1, Relaxed);
            let problem = match error.rdkafka_error_code() {
                Some(Code::UnknownPartition) => format!(
                    "there is no lease {}: topic {name} has {} partitions",
                    partition.unwrap_or_default(),
                    self.shared.n_partitions(topic)
                ),
                Some(Code::MessageSizeTooLarge) => format!("{key} is too large: {}", too_large(&name)),
                Some(Code::QueueFull) => "too many posts wait for kafka".to_owned(),
                Some(code) => format!("topic {name}: {code}"),
                None => error.to_string(),
            };
            self.shared.inbox.answer(ticket, Err(self.shared.scrub(&problem)));
        }
    }

    /// On `plane-post`: hears acknowledgements, and sends what waited.
    pub(super) fn run(&self) {
        while !self.shared.stopped() {
            let producer = self.producer();
            producer.poll(POLL);
            if producer.client().fatal_error().is_some() {
                tracing::warn!("the kafka client that writes attachments and leases gave up; a new one goes on");
                self.renew();
            }
            let ready = self.is_ready();
            let now = self.shared.clock.monotonic();
            // In their order, and before any later one.
            let mut waiting = self.waiting.lock();
            while let Some((end, ticket, post)) = waiting.pop_front() {
                if ready {
                    self.send(ticket, &post);
                } else if end <= now {
                    self.shared.inbox.answer(ticket, Err(not_in_time(&self.shared)));
                } else {
                    waiting.push_front((end, ticket, post));
                    break;
                }
            }
        }
    }

    /// Gives what is on its way a moment to arrive.
    pub(super) fn finish(&self, patience: Duration) {
        let end = self.shared.clock.monotonic() + patience;
        while self.n_out.load(Relaxed) > 0 && self.shared.clock.monotonic() < end {
            std::thread::sleep(TURN);
        }
    }
}

fn make(shared: &Arc<Shared>, n_out: &Arc<AtomicUsize>) -> Result<BaseProducer<Reports>, SinkError> {
    let mut client = shared.client()?;
    client
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("message.timeout.ms", PATIENCE.as_millis().to_string())
        // The partition that Java clients choose for the same key.
        .set("partitioner", "murmur2_random")
        .set("compression.type", "lz4")
        .set("linger.ms", "2")
        .set("message.max.bytes", "1000000");
    let context = Reports { context: shared.context(), n_out: Arc::clone(n_out) };
    let failed = |error: KafkaError| SinkError::KafkaClient { cause: shared.scrub(&error.to_string()) };
    client.create_with_context(context).map_err(failed)
}

fn not_in_time(shared: &Shared) -> String {
    let cause = shared.last_error().map_or_else(String::new, |(_, reason)| format!(" ({reason})"));
    let brokers = shared.config.brokers.join(",");
    shared.scrub(&format!("kafka at {brokers} did not acknowledge it within {} s{cause}", PATIENCE.as_secs()))
}

fn too_large(topic: &str) -> String {
    format!("topic {topic} takes up to 1000000 bytes, or its own `max.message.bytes` if that is less")
}

/// What the client that writes tells.
pub(super) struct Reports {
    context: Context,
    n_out: Arc<AtomicUsize>,
}

impl ProducerContext for Reports {
    /// The ticket.
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<u64>) {
        let shared = &self.context.shared;
        self.n_out.fetch_sub(1, Relaxed);
        let outcome = match result {
            Ok(_) => {
                shared.trouble(Finder::Post, None);
                Ok(())
            }
            Err((error, record)) => {
                let topic = record.topic();
                let code = error.rdkafka_error_code();
                let problem = match code {
                    Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize) => too_large(topic),
                    Some(Code::MessageTimedOut | Code::PurgeQueue | Code::PurgeInflight) => not_in_time(shared),
                    Some(Code::TopicAuthorizationFailed) => {
                        format!("this user may not write to topic {topic}: allow it `Write` there")
                    }
                    Some(code) => format!("topic {topic}: {code}"),
                    None => format!("topic {topic}: {error}"),
                };
                let problem = shared.scrub(&problem);
                // A broker that is away is told by whoever looks for it.
                if matches!(
                    code,
                    Some(
                        Code::TopicAuthorizationFailed
                            | Code::ClusterAuthorizationFailed
                            | Code::NotEnoughReplicas
                            | Code::NotEnoughReplicasAfterAppend
                    )
                ) {
                    shared.trouble(Finder::Post, Some(problem.clone()));
                }
                Err(problem)
            }
        };
        shared.inbox.answer(*ticket, outcome);
    }
}

impl ClientContext for Reports {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.context.error(error, reason);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.context.generate_oauth_token(config)
    }
}
