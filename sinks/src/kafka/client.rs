//! From the user's keys to librdkafka's properties, with passwords read at that moment. On the thread that makes a client.

use std::{collections::BTreeMap, sync::Arc};

use rdkafka::ClientConfig;

use super::{
    KafkaConfig,
    connection::{Access, Stamp},
    reports::{Mode, Secrets},
};
use crate::SinkError;

/// A batch of records, in bytes, where nothing says less.
pub(super) const BATCH_BYTES: u64 = 1_000_000;
/// The client counts neither headers nor framing when it checks a record; ours does.
const HEADROOM_BYTES: u64 = 64 * 1024;

/// Makes the sink's clients' configuration, each time anew: files and their passwords may have changed meanwhile.
#[derive(Clone)]
pub(super) struct Settings {
    config: Arc<KafkaConfig>,
    access: Access,
}

impl Settings {
    pub(super) fn new(config: &KafkaConfig, secrets: Arc<Secrets>) -> Self {
        Self { config: Arc::new(config.clone()), access: Access::new(config.connection(), secrets) }
    }

    /// For a client that sends.
    ///
    /// # Errors
    /// When a password or a variable is not there.
    pub(super) fn producer(&self, mode: Mode, least_limit: u64) -> Result<ClientConfig, SinkError> {
        let mut client = self.access.client()?;
        self.config.set_producer(&mut client);
        // A batch larger than the topic's limit would be refused whole.
        let batch_bytes = BATCH_BYTES.min(least_limit.saturating_sub(512)).max(1024);
        if !self.config.properties.contains_key("batch.size") || batch_bytes < BATCH_BYTES {
            client.set("batch.size", batch_bytes.to_string());
        }
        if mode == Mode::OneByOne {
            client.remove("max.in.flight");
            client.set("batch.num.messages", "1").set("max.in.flight.requests.per.connection", "1");
        }
        Ok(client)
    }

    /// For a client that looks after topics.
    ///
    /// # Errors
    /// As for a producer.
    pub(super) fn admin(&self) -> Result<ClientConfig, SinkError> {
        self.access.client()
    }

    /// What the credentials are now.
    pub(super) fn stamp(&self) -> Stamp {
        self.access.stamp()
    }

    pub(super) fn access(&self) -> &Access {
        &self.access
    }
}

impl KafkaConfig {
    /// Properties of the client that sends.
    pub(super) fn set_producer(&self, client: &mut ClientConfig) {
        let defaults = BTreeMap::from([
            // The partition that Java clients choose for the same key, so that topics of both can be joined.
            ("partitioner", "murmur2_random"),
            // A topic that is not there is told after this long; until then it may be on its way.
            ("topic.metadata.propagation.max.ms", "5000"),
        ]);
        for (key, value) in defaults {
            if !self.properties.contains_key(key) {
                client.set(key, value);
            }
        }
        client
            // Order and delivery. An outage of any length only delays: records never expire in the client. After an error
            // that a record does not survive, nothing that came behind it may go out.
            .set("enable.idempotence", "true")
            .set("enable.gapless.guarantee", "true")
            .set("acks", "all")
            .set("message.timeout.ms", "0")
            .set("compression.type", self.compression.as_str())
            .set("linger.ms", self.linger_ms.to_string())
            .set("queue.buffering.max.messages", self.in_flight_records.to_string())
            .set("queue.buffering.max.kbytes", self.in_flight_bytes.get().div_ceil(1024).to_string())
            .set("message.max.bytes", (self.max_record_bytes + HEADROOM_BYTES).to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_a_secret_from_then_on() {
        // A variable that every process has.
        let path = std::env::var("PATH").expect("PATH");
        let mut config = KafkaConfig::new(["a:1"]);
        config.properties.insert("sasl.username".into(), super::super::Property::Text("${PATH}".into()));
        let settings = Settings::new(&config, Arc::default());
        let client = settings.producer(Mode::Batches, u64::MAX).expect("client");
        assert_eq!(client.get("sasl.username"), Some(path.as_str()));
        assert_eq!(settings.access.secrets().scrub(&format!("user {path}")), "user ***");
    }

    #[test]
    fn batches_fit_the_topics() {
        let config = KafkaConfig::new(["a:1"]);
        let settings = Settings::new(&config, Arc::default());
        let check = |mode, limit, expected: &str| {
            assert_eq!(settings.producer(mode, limit).expect("client").get("batch.size"), Some(expected), "{limit}");
        };
        check(Mode::Batches, u64::MAX, "1000000");
        check(Mode::Batches, 1_048_588, "1000000");
        check(Mode::Batches, 65_536, "65024");
        let careful = settings.producer(Mode::OneByOne, u64::MAX).expect("client");
        assert_eq!(careful.get("batch.num.messages"), Some("1"));
        assert_eq!(careful.get("max.in.flight.requests.per.connection"), Some("1"));
        careful.create_native_config().expect("librdkafka takes it");
    }
}
