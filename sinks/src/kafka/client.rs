//! From the user's keys to librdkafka's properties, with passwords read at that moment. On the thread that makes a client.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use base::expand::expand;
use rdkafka::ClientConfig;

use super::{
    KafkaConfig,
    check::is_secret,
    reports::{Mode, Secrets},
};
use crate::{SinkError, delivery::text_of_file};

/// A batch of records, in bytes, where nothing says less.
pub(super) const BATCH_BYTES: u64 = 1_000_000;
/// The client counts neither headers nor framing when it checks a record; ours does.
const HEADROOM_BYTES: u64 = 64 * 1024;

/// Makes the client's configuration, each time anew: files and their passwords may have changed meanwhile.
#[derive(Clone)]
pub(super) struct Settings {
    config: Arc<KafkaConfig>,
    secrets: Arc<Secrets>,
}

/// What the credentials were when a client was made.
#[derive(PartialEq, Eq)]
pub(super) struct Stamp(Vec<(String, Option<SystemTime>)>);

impl Settings {
    pub(super) fn new(config: &KafkaConfig, secrets: Arc<Secrets>) -> Self {
        Self { config: Arc::new(config.clone()), secrets }
    }

    /// For a client that sends.
    ///
    /// # Errors
    /// When a password or a variable is not there.
    pub(super) fn producer(&self, mode: Mode, least_limit: u64) -> Result<ClientConfig, SinkError> {
        let mut client = self.common()?;
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
        self.common()
    }

    fn common(&self) -> Result<ClientConfig, SinkError> {
        let mut client = ClientConfig::new();
        self.config.set_common(&mut client);
        for (key, value) in &self.config.properties {
            client.set(key, self.expand(key, &value.to_string())?);
        }
        if let Some(password) = self.config.password()? {
            self.secrets.add(&password);
            client.set("sasl.password", password);
        }
        Ok(client)
    }

    /// A property's value with variables in place; what came from a variable is a secret.
    fn expand(&self, key: &str, text: &str) -> Result<String, SinkError> {
        let expanded = expand(text, |name| {
            let value = std::env::var(name).ok()?;
            self.secrets.add(&value);
            Some(value)
        });
        let expanded = expanded.map_err(|e| SinkError::config(format!("properties.\"{key}\""), e.to_string()))?;
        if is_secret(key) {
            self.secrets.add(&expanded);
        }
        Ok(expanded)
    }

    /// What the credentials are now: the password, and the dates of the files that properties name.
    pub(super) fn stamp(&self) -> Stamp {
        let files = self.config.properties.iter().filter(|(key, _)| key.ends_with(".location"));
        let files = files.filter_map(|(key, value)| self.expand(key, &value.to_string()).ok());
        let changed = |path: &str| std::fs::metadata(path).and_then(|data| data.modified()).ok();
        let mut stamp: Vec<_> = files.map(|path| (path.clone(), changed(&path))).collect();
        stamp.push((self.config.password().ok().flatten().unwrap_or_default(), None));
        Stamp(stamp)
    }
}

impl KafkaConfig {
    /// Properties of every client.
    pub(super) fn set_common(&self, client: &mut ClientConfig) {
        client
            .set("bootstrap.servers", self.brokers.join(","))
            .set("client.id", "eyewitness")
            .set("reconnect.backoff.max.ms", "5000")
            // A topic that a broker makes by itself has the wrong settings.
            .set("allow.auto.create.topics", "false");
        if self.oauth_token_file.is_some() || self.oauth_token_command.is_some() {
            client.set("sasl.mechanisms", "OAUTHBEARER");
        }
    }

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

    /// The password, from wherever it is.
    pub(super) fn password(&self) -> Result<Option<String>, SinkError> {
        if let Some(name) = &self.password_env {
            return match std::env::var(name) {
                Ok(password) => Ok(Some(password)),
                Err(_) => Err(SinkError::config("password_env", format!("the environment has no variable `{name}`"))),
            };
        }
        if let Some(path) = &self.password_file {
            return Ok(Some(text_of_file("password_file", path)?.trim().to_owned()));
        }
        Ok(None)
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
        assert_eq!(settings.secrets.scrub(&format!("user {path}")), "user ***");
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
