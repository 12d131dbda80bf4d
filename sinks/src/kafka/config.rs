//! The Kafka sink's keys, and what may be set through to librdkafka. On the caller's thread.

use std::{
    collections::BTreeMap,
    fmt,
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
};

use base::{queue::WhenFull, redact::REDACTED};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Kafka,
    connection::{Connection, is_secret},
    topics::TopicsConfig,
};
use crate::{
    BuildContext, Configured, QueueConfig, QueueSettings, Sink, SinkError,
    delivery::{Courier, CourierOptions, DeadLetters, SpoolConfig},
    record::KeyBy,
    wire::RecordFormat,
};

/// Publishes events to Apache Kafka.
///
/// One record an event: the key is the stream's name, the value its JSON, the headers are CloudEvents attributes and a
/// W3C trace context. The producer is idempotent and waits for all replicas: records of one key stay in order, and none
/// is lost, whatever becomes of brokers and connections.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Addresses of one or more brokers of the cluster. Example: `["kafka-1:9092", "kafka-2:9092"]`.
    pub brokers: Vec<String>,
    /// Beginning of the topics' names: `<prefix>.detections`, `<prefix>.transcripts`, `<prefix>.captions`,
    /// `<prefix>.alerts`, `<prefix>.status`. Default: `eyewitness`.
    #[serde(default = "default_topic_prefix")]
    pub topic_prefix: String,
    /// The shape of the records; `kit` is for consumers of AWS's Kinesis Video Streams Inference Template and has
    /// detections only. Default: `eyewitness`.
    #[serde(default)]
    pub format: RecordFormat,
    /// What the topics should be like.
    #[serde(default)]
    pub topics: Box<TopicsConfig>,
    /// What keeps records together: those with the same key go to the same partition and stay in order. `"stream"`, or
    /// `{ tag = "site" }`: records of all streams with the same value of that tag, in the order in which they came;
    /// streams without the tag keep their name as key. Adding partitions to a topic later moves keys. Default: `"stream"`.
    #[serde(default)]
    pub partition_key: PartitionKey,
    /// Most bytes of one record, headers included. Larger ones are refused before they are sent; so are those larger than
    /// the topic's own `max.message.bytes`, where the user may see it. Default: 1000000.
    #[serde(default = "default_max_record_bytes")]
    pub max_record_bytes: u64,
    /// Most records on their way and not yet acknowledged; more wait in the spool. Default: 20000.
    #[serde(default = "default_in_flight_records")]
    pub in_flight_records: NonZeroU32,
    /// Most bytes on their way. Default: 67108864 (64 MiB).
    #[serde(default = "default_in_flight_bytes")]
    pub in_flight_bytes: NonZeroU64,
    /// Compression of batches of records. Default: `lz4`.
    #[serde(default)]
    pub compression: Compression,
    /// Records wait up to this many milliseconds for others to share a batch with. Default: 20.
    #[serde(default = "default_linger_ms")]
    pub linger_ms: u32,
    /// What to do when no broker answers at start. Default: `wait`.
    #[serde(default)]
    pub on_start: OnStart,
    /// Environment variable that holds the SASL password.
    #[serde(default)]
    pub password_env: Option<String>,
    /// File that holds the SASL password; spaces and newlines around it are ignored.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// File that holds a token for SASL OAUTHBEARER; it is read anew each time the client wants one. A JWT's `exp` says
    /// how long it lives and `sub` whom it stands for; any other token counts for 5 minutes.
    #[serde(default)]
    pub oauth_token_file: Option<PathBuf>,
    /// Command that prints such a token, or JSON with `access_token` and `expires_in` (seconds). It runs without a shell
    /// before a token is needed, and is killed after 10 seconds. Example: `["/usr/bin/get-token", "--json"]`.
    #[serde(default)]
    pub oauth_token_command: Option<Vec<String>>,
    /// Any other librdkafka property, such as `"security.protocol" = "SASL_SSL"`, `"sasl.mechanisms" = "SCRAM-SHA-512"`,
    /// `"sasl.username" = "eyewitness"`, `"ssl.ca.location" = "/etc/ssl/kafka-ca.pem"`; for mutual TLS
    /// `"ssl.certificate.location"`, `"ssl.key.location"` and `"ssl.key.password" = "${KEY_PASSWORD}"`. `${NAME}` is the
    /// environment variable of that name, which is never shown. Those that would break the order or the delivery of
    /// records are refused.
    #[serde(default)]
    pub properties: BTreeMap<String, Property>,
    /// Where events wait until Kafka has them.
    #[serde(default)]
    pub spool: SpoolConfig,
    /// File for records that Kafka will never take; they are counted as failed either way. Without it they are lost.
    #[serde(default)]
    pub dead_letters: Option<PathBuf>,
    /// The queue before this sink. Default when full: `block`.
    #[serde(default)]
    pub queue: QueueConfig,
}

/// Value of a librdkafka property.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Property {
    /// `true` or `false`.
    Switch(bool),
    /// A whole number.
    Number(i64),
    /// Text.
    Text(String),
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch(value) => value.fmt(f),
            Self::Number(value) => value.fmt(f),
            Self::Text(value) => value.fmt(f),
        }
    }
}

/// Without the value, which may be a secret.
impl fmt::Debug for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// What keeps records together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PartitionKey {
    /// The stream's name.
    #[default]
    Stream,
    /// The value of this tag of the stream.
    Tag(String),
}

/// Compression of batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// None.
    None,
    /// Snappy.
    Snappy,
    /// LZ4: costs next to nothing.
    #[default]
    Lz4,
    /// Zstandard: smaller, costs more.
    Zstd,
}

impl Compression {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// What to do when no broker answers at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnStart {
    /// Start anyway: records wait in the spool until a broker answers.
    #[default]
    Wait,
    /// Refuse to start after 10 seconds without an answer.
    Fail,
}

fn default_topic_prefix() -> String {
    "eyewitness".into()
}

const fn default_linger_ms() -> u32 {
    20
}

const fn default_max_record_bytes() -> u64 {
    1_000_000
}

const fn default_in_flight_records() -> NonZeroU32 {
    NonZeroU32::new(20_000).expect("more than zero")
}

const fn default_in_flight_bytes() -> NonZeroU64 {
    NonZeroU64::new(64 * 1024 * 1024).expect("more than zero")
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(key, value): (&String, &Property)| {
            (key.clone(), if is_secret(key) { REDACTED.to_owned() } else { value.to_string() })
        };
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("topic_prefix", &self.topic_prefix)
            .field("format", &self.format)
            .field("topics", &self.topics)
            .field("partition_key", &self.partition_key)
            .field("max_record_bytes", &self.max_record_bytes)
            .field("in_flight_records", &self.in_flight_records)
            .field("in_flight_bytes", &self.in_flight_bytes)
            .field("compression", &self.compression)
            .field("linger_ms", &self.linger_ms)
            .field("on_start", &self.on_start)
            .field("password_env", &self.password_env)
            .field("password_file", &self.password_file)
            .field("oauth_token_file", &self.oauth_token_file)
            // Its arguments may be secrets.
            .field("oauth_token_command", &self.oauth_token_command.as_ref().map(|command| command.first()))
            .field("properties", &self.properties.iter().map(shown).collect::<BTreeMap<_, _>>())
            .field("spool", &self.spool)
            .field("dead_letters", &self.dead_letters)
            .field("queue", &self.queue)
            .finish()
    }
}

impl KafkaConfig {
    /// For these brokers, everything else as it is by default.
    pub fn new(brokers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            brokers: brokers.into_iter().map(Into::into).collect(),
            topic_prefix: default_topic_prefix(),
            format: RecordFormat::default(),
            topics: Box::default(),
            partition_key: PartitionKey::default(),
            max_record_bytes: default_max_record_bytes(),
            in_flight_records: default_in_flight_records(),
            in_flight_bytes: default_in_flight_bytes(),
            compression: Compression::default(),
            linger_ms: default_linger_ms(),
            on_start: OnStart::default(),
            password_env: None,
            password_file: None,
            oauth_token_file: None,
            oauth_token_command: None,
            properties: BTreeMap::new(),
            spool: SpoolConfig::default(),
            dead_letters: None,
            queue: QueueConfig::default(),
        }
    }

    /// The way into the cluster.
    pub(super) fn connection(&self) -> Connection {
        Connection {
            brokers: self.brokers.clone(),
            password_env: self.password_env.clone(),
            password_file: self.password_file.clone(),
            oauth_token_file: self.oauth_token_file.clone(),
            oauth_token_command: self.oauth_token_command.clone(),
            properties: self.properties.clone(),
        }
    }
}

impl Configured for KafkaConfig {
    const QUEUE: QueueSettings = QueueSettings { capacity: 1024, when_full: WhenFull::Block };

    fn queue(&self) -> &QueueConfig {
        &self.queue
    }

    fn spool(&self) -> Option<&SpoolConfig> {
        Some(&self.spool)
    }

    fn put_dead_letters_into(&mut self, path: PathBuf) {
        self.dead_letters = Some(path);
    }

    fn validate(&self) -> Result<(), SinkError> {
        self.check()
    }

    fn build(&self, name: &str, context: BuildContext) -> Result<Box<dyn Sink>, SinkError> {
        self.validate()?;
        let dead_letters = self.dead_letters.as_deref().map(|path| DeadLetters::open(name, path)).transpose()?;
        let kafka = Kafka::start(name, self, &context)?;
        let key_by = match &self.partition_key {
            PartitionKey::Stream => KeyBy::Stream,
            PartitionKey::Tag(tag) => KeyBy::Tag(tag.clone()),
        };
        let (only, format) = (self.format.kinds(), self.format);
        let (spool, skip_silenced, states) = (&self.spool, false, None);
        let options =
            CourierOptions { name, spool, key_by, only, skip_silenced, states, format, dead_letters, context };
        Ok(Box::new(Courier::open(kafka, options)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let mut config = KafkaConfig::new(["a:1"]);
        for key in ["ssl.key.password", "ssl.key.pem", "sasl.oauthbearer.client.secret"] {
            config.properties.insert(key.into(), Property::Text("hunter2secret".into()));
        }
        let shown = format!("{config:?} {:?}", crate::SinkConfig::Kafka(config.clone()));
        assert!(!shown.contains("hunter2secret") && shown.contains(REDACTED), "{shown}");
        config.oauth_token_command = Some(vec!["get".into(), "hunter2secret".into()]);
        assert!(!format!("{config:?}").contains("hunter2secret"));
    }

    #[test]
    fn password_comes_from_a_file() {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), " swordfish\n").expect("write");
        let with = |path: &std::path::Path| {
            KafkaConfig { password_file: Some(path.into()), ..KafkaConfig::new(["a:1"]) }.connection().password()
        };
        assert_eq!(with(file.path()).expect("password").as_deref(), Some("swordfish"));
        let error = with(std::path::Path::new("/no/such/file")).expect_err("no file").to_string();
        assert!(error.contains("`password_file`: cannot read /no/such/file"), "{error}");
    }
}
