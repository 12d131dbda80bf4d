//! Looks after the topics and the way to them: makes what is missing, refuses what would forget attachments, and says what
//! stands in the way.
//!
//! On a thread of its own, `plane-look`; a broker that is away holds up nobody else. Must never alter or delete a topic.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use rdkafka::{
    ClientConfig, ClientContext,
    admin::{AdminClient, NewTopic, ResourceSpecifier, TopicReplication},
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode as Code},
    producer::Producer as _,
};

use super::{
    Topic,
    post::Writer,
    shared::{Finder, Shared},
};
use crate::kafka::{
    CreateTopics,
    connection::Stamp,
    keeper::{block_on, give_token, options},
    reports, verify,
};

/// For one answer of a broker.
const PATIENCE: Duration = Duration::from_secs(3);
/// Pause before the next look.
const PAUSE: Duration = Duration::from_millis(250);
/// While the topics are refused, somebody has to do something.
const LONG_PAUSE: Duration = Duration::from_secs(2);
/// So often we look whether somebody gave the topic of attachments more partitions.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(30);

pub(super) struct Look {
    shared: Arc<Shared>,
    writer: Arc<Writer>,
    /// Errors of clients that were looked into.
    n_errors: u64,
    made_with: Stamp,
    looked_at: Duration,
}

/// What became of a look at the topics.
enum Outcome {
    Good,
    /// No answer, or one that will be another in a moment.
    Again,
    /// In words.
    Refused(String),
}

impl Look {
    pub(super) fn new(shared: Arc<Shared>, writer: Arc<Writer>) -> Self {
        let made_with = shared.access.stamp();
        Self { shared, writer, n_errors: 0, made_with, looked_at: Duration::ZERO }
    }

    pub(super) fn run(mut self) {
        while !self.shared.stopped() {
            let now = self.shared.clock.monotonic();
            let is_due = self.shared.look_again.swap(false, Relaxed) || now >= self.looked_at + LOOK_AGAIN_AFTER;
            let mut pause = PAUSE;
            if is_due {
                match self.look_at_topics() {
                    Outcome::Good => {
                        self.looked_at = self.shared.clock.monotonic();
                        self.shared.trouble(Finder::Topics, None);
                    }
                    Outcome::Again => self.shared.look_again.store(true, Relaxed),
                    Outcome::Refused(problem) => {
                        self.shared.trouble(Finder::Topics, Some(problem));
                        self.shared.look_again.store(true, Relaxed);
                        pause = LONG_PAUSE;
                    }
                }
            }
            self.look_at_brokers();
            self.shared.pause(pause);
        }
    }

    /// Where a client complained: whether brokers answer at all.
    fn look_at_brokers(&mut self) {
        let n_errors = self.shared.n_errors();
        if n_errors == self.n_errors {
            return;
        }
        let topic = self.shared.topic(Topic::Attachments);
        match self.writer.producer().client().fetch_metadata(Some(&topic), PATIENCE) {
            Ok(_) => {
                self.n_errors = n_errors;
                self.shared.trouble(Finder::Network, None);
            }
            Err(error) => {
                let (code, mut cause) = self.shared.last_error().unwrap_or_else(|| (None, error.to_string()));
                let is_refused =
                    matches!(code, Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL));
                if is_refused && self.made_with != self.shared.access.stamp() {
                    tracing::info!("there are new credentials; new kafka clients use them");
                    self.made_with = self.shared.access.stamp();
                    self.shared.generation.fetch_add(1, Relaxed);
                    self.writer.renew();
                }
                if verify::is_vague(&cause)
                    && let Some(clear) = verify::ask(&self.shared.access, &cause)
                {
                    cause = clear;
                }
                let brokers = self.shared.config.brokers.join(",");
                self.shared.trouble(Finder::Network, Some(format!("kafka at {brokers} cannot be reached: {cause}")));
            }
        }
    }

    fn look_at_topics(&self) -> Outcome {
        // A client for each look: it keeps what the library says until somebody reads it, which nobody does.
        let admin = match self.client() {
            Ok(admin) => admin,
            Err(problem) => return Outcome::Refused(problem),
        };
        for topic in Topic::ALL {
            match self.look_at(&admin, topic) {
                Outcome::Good => {}
                other => return other,
            }
        }
        Outcome::Good
    }

    fn client(&self) -> Result<AdminClient<Quiet>, String> {
        let config: ClientConfig = self.shared.client().map_err(|error| error.to_string())?;
        let admin: AdminClient<Quiet> = config
            .create_with_context(Quiet(Arc::clone(&self.shared)))
            .map_err(|error: KafkaError| self.shared.scrub(&error.to_string()))?;
        if let Some(tokens) = &self.shared.tokens {
            give_token(&admin, &tokens.current()?)?;
        }
        Ok(admin)
    }

    fn look_at(&self, admin: &AdminClient<Quiet>, topic: Topic) -> Outcome {
        let name = self.shared.topic(topic);
        let answer = match admin.inner().fetch_metadata(Some(&name), PATIENCE) {
            Ok(answer) => answer,
            Err(KafkaError::MetadataFetch(Code::UnknownTopic | Code::UnknownTopicOrPartition)) => {
                return self.make(admin, topic, &name);
            }
            Err(_) => return Outcome::Again,
        };
        let Some(found) = answer.topics().iter().find(|found| found.name() == name) else { return Outcome::Again };
        match found.error().map(Code::from) {
            None if found.partitions().is_empty() => return Outcome::Again,
            None => {}
            Some(Code::UnknownTopic | Code::UnknownTopicOrPartition) => return self.make(admin, topic, &name),
            Some(Code::TopicAuthorizationFailed) => {
                return Outcome::Refused(format!(
                    "this user has no right to topic {name}: allow it `Read`, `Write` and `Describe`, and `Create` if the \
                     topic is missing"
                ));
            }
            Some(_) => return Outcome::Again,
        }
        let n_partitions = found.partitions().len();
        if topic == Topic::Leases && n_partitions != 1 {
            return Outcome::Refused(format!(
                "topic {name} has {n_partitions} partitions and must have one, or claims would have no order: stop all \
                 workers and delete it"
            ));
        }
        if let Err(outcome) = self.check_settings(admin, &name) {
            return outcome;
        }
        let before = self.shared.n_partitions[topic as usize].swap(n_partitions, Relaxed);
        let wanted = usize::from(self.shared.config.leases.get());
        if before != n_partitions && topic == Topic::Attachments && n_partitions != wanted {
            tracing::info!(
                topic = name,
                n_partitions,
                wanted,
                "the topic is there with another number of leases; it counts"
            );
        }
        Outcome::Good
    }

    /// A topic that forgets by time forgets attachments.
    fn check_settings(&self, admin: &AdminClient<Quiet>, name: &str) -> Result<(), Outcome> {
        let results = block_on(admin.describe_configs([&ResourceSpecifier::Topic(name)], &options()));
        let settings: BTreeMap<String, String> = match results.map(|mut results| results.pop()) {
            Ok(Some(Ok(resource))) => {
                resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect()
            }
            Ok(Some(Err(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed))) => BTreeMap::new(),
            Ok(_) | Err(_) => return Err(Outcome::Again),
        };
        match settings.get("cleanup.policy").map(|policy| policy.trim()) {
            None | Some("compact") => Ok(()),
            Some(policy) => Err(Outcome::Refused(format!(
                "topic {name} forgets what is old (its cleanup.policy is {policy}): set it to compact, as in \
                 `kafka-configs.sh --alter --topic {name} --add-config cleanup.policy=compact`, or choose another \
                 `topic_prefix`"
            ))),
        }
    }

    fn make(&self, admin: &AdminClient<Quiet>, topic: Topic, name: &str) -> Outcome {
        let config = &self.shared.config;
        let n_partitions = topic.n_partitions(config.leases.get());
        if config.create_topics == CreateTopics::Never {
            return Outcome::Refused(format!(
                "topic {name} does not exist: make it with {n_partitions} partitions and cleanup.policy=compact, or set \
                 create_topics = \"if_missing\""
            ));
        }
        let n_replicas = config.replication_factor.map_or(-1, |n| i32::from(n.get()));
        let mut new = NewTopic::new(name, n_partitions, TopicReplication::Fixed(n_replicas));
        for (key, value) in topic.settings() {
            new = new.set(key, value);
        }
        match block_on(admin.create_topics([&new], &options())).map(|mut results| results.pop()) {
            Ok(Some(Ok(_))) => {
                tracing::info!(topic = name, n_partitions, "made a topic");
                // It shows itself a moment later.
                Outcome::Again
            }
            Ok(Some(Err((_, Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed)))) => {
                Outcome::Refused(format!(
                    "topic {name} does not exist, and this user may not make it: make it with {n_partitions} partitions \
                     and cleanup.policy=compact, or allow the user `Create`"
                ))
            }
            Ok(Some(Err((
                _,
                code @ (Code::InvalidConfig
                | Code::InvalidPartitions
                | Code::InvalidReplicationFactor
                | Code::PolicyViolation
                | Code::InvalidTopic),
            )))) => Outcome::Refused(format!(
                "topic {name} does not exist, and kafka does not make it with {n_partitions} partitions ({code}): see \
                 `leases` and `replication_factor`"
            )),
            Ok(_) | Err(_) => Outcome::Again,
        }
    }
}

/// Says nothing: troubles with brokers are told by the clients that stay.
struct Quiet(Arc<Shared>);

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        reports::log(self.0.access.secrets(), "control", RDKafkaLogLevel::Debug, facility, message);
    }

    fn error(&self, _: KafkaError, _: &str) {}
}
