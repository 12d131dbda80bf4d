//! The Kafka sink's keys, and what may be set through to librdkafka. On the caller's thread; reads the password's file.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use base::{queue::WhenFull, redact::REDACTED};
use rdkafka::{ClientConfig, error::KafkaError};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Kafka;
use crate::{BuildContext, Configured, QueueConfig, QueueSettings, Sink, SinkError};

/// Publishes events to Apache Kafka.
///
/// One record an event: the key is the stream's name, the value its JSON, the headers are CloudEvents attributes.
/// The producer is idempotent and waits for all replicas: records of one stream stay in order.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Addresses of one or more brokers of the cluster. Example: `["kafka-1:9092", "kafka-2:9092"]`.
    pub brokers: Vec<String>,
    /// Beginning of the topics' names: `<prefix>.detections`, `<prefix>.transcripts`, `<prefix>.captions`,
    /// `<prefix>.status`. Default: `eyewitness`.
    #[serde(default = "default_topic_prefix")]
    pub topic_prefix: String,
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
    /// Any other librdkafka property, such as `"security.protocol" = "SASL_SSL"`, `"sasl.mechanisms" = "SCRAM-SHA-512"`,
    /// `"sasl.username" = "eyewitness"`, `"ssl.ca.location" = "/etc/ssl/kafka-ca.pem"`. Those that would break the order
    /// or the delivery of records are refused.
    #[serde(default)]
    pub properties: BTreeMap<String, Property>,
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
    const fn as_str(self) -> &'static str {
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
    /// Start anyway: records wait in memory until a broker answers.
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

/// Properties that have their own key here.
const OWN_KEYS: [(&str, &str); 10] = [
    ("bootstrap.servers", "brokers"),
    ("metadata.broker.list", "brokers"),
    ("compression.codec", "compression"),
    ("compression.type", "compression"),
    ("linger.ms", "linger_ms"),
    ("queue.buffering.max.ms", "linger_ms"),
    ("queue.buffering.max.messages", "queue.capacity"),
    ("sasl.password", "password_env` or `password_file"),
    ("log_level", "the log filter of eyewitness"),
    ("delivery.report.only.error", "the sink's own account"),
];

/// Properties on which the order or the delivery of records hangs.
const GUARDED: [&str; 14] = [
    "enable.idempotence",
    "enable.gapless.guarantee",
    "acks",
    "request.required.acks",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "retries",
    "message.send.max.retries",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "queuing.strategy",
    "transactional.id",
    "log.queue",
    "plugin.library.paths",
];

/// Whether a property's value must never be shown.
fn is_secret(key: &str) -> bool {
    ["password", "secret", ".key.pem", "oauthbearer.config", "jaas"].iter().any(|part| key.contains(part))
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(key, value): (&String, &Property)| {
            (key.clone(), if is_secret(key) { REDACTED.to_owned() } else { value.to_string() })
        };
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("topic_prefix", &self.topic_prefix)
            .field("compression", &self.compression)
            .field("linger_ms", &self.linger_ms)
            .field("on_start", &self.on_start)
            .field("password_env", &self.password_env)
            .field("password_file", &self.password_file)
            .field("properties", &self.properties.iter().map(shown).collect::<BTreeMap<_, _>>())
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
            compression: Compression::default(),
            linger_ms: default_linger_ms(),
            on_start: OnStart::default(),
            password_env: None,
            password_file: None,
            properties: BTreeMap::new(),
            queue: QueueConfig::default(),
        }
    }

    /// The client's configuration, without the password.
    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", self.brokers.join(","))
            .set("client.id", "eyewitness")
            // Order and delivery. An outage of any length only delays: records never expire in the client.
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", "0")
            .set("compression.type", self.compression.as_str())
            .set("linger.ms", self.linger_ms.to_string())
            // The client's own queue, on top of ours. It blocks when full, and these are the most it may hold.
            .set("queue.buffering.max.messages", "20000")
            .set("queue.buffering.max.kbytes", "65536")
            // The partition that Java clients choose for the same key, so that topics of both can be joined.
            .set("partitioner", "murmur2_random")
            .set("reconnect.backoff.max.ms", "5000");
        for (key, value) in &self.properties {
            client.set(key, value.to_string());
        }
        client
    }

    /// The password, from wherever it is.
    fn password(&self) -> Result<Option<String>, SinkError> {
        if let Some(name) = &self.password_env {
            return match std::env::var(name) {
                Ok(password) => Ok(Some(password)),
                Err(_) => Err(SinkError::config("password_env", format!("the environment has no variable `{name}`"))),
            };
        }
        if let Some(path) = &self.password_file {
            return match std::fs::read_to_string(path) {
                Ok(text) => Ok(Some(text.trim().to_owned())),
                Err(cause) => {
                    Err(SinkError::config("password_file", format!("cannot read {}: {cause}", path.display())))
                }
            };
        }
        Ok(None)
    }

    /// Values that no text may show.
    fn secrets(&self, password: Option<&str>) -> Vec<String> {
        let in_properties =
            self.properties.iter().filter(|(key, _)| is_secret(key)).map(|(_, value)| value.to_string());
        in_properties.chain(password.map(str::to_owned)).filter(|secret| secret.len() >= 3).collect()
    }
}

fn is_topic_name(text: &str) -> bool {
    // Kafka's own rule for topics, with room for our endings.
    (1..=200).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

impl Configured for KafkaConfig {
    const QUEUE: QueueSettings = QueueSettings { capacity: 1024, when_full: WhenFull::Block };

    fn queue(&self) -> &QueueConfig {
        &self.queue
    }

    fn validate(&self) -> Result<(), SinkError> {
        if self.brokers.is_empty() || self.brokers.iter().any(|broker| broker.trim().is_empty()) {
            return Err(SinkError::config("brokers", "name at least one broker, such as [\"localhost:9092\"]"));
        }
        if !is_topic_name(&self.topic_prefix) {
            return Err(SinkError::config("topic_prefix", "use 1 to 200 letters, digits, `.`, `_` or `-`"));
        }
        if self.linger_ms > 900_000 {
            return Err(SinkError::config("linger_ms", "at most 900000"));
        }
        if self.password_env.is_some() && self.password_file.is_some() {
            return Err(SinkError::config("password_file", "use either this or `password_env`, not both"));
        }
        for (key, value) in &self.properties {
            let refuse = |problem: String| Err(SinkError::config(format!("properties.\"{key}\""), problem));
            if let Some((_, own)) = OWN_KEYS.iter().find(|(property, _)| property == key) {
                return refuse(format!("use `{own}` instead"));
            }
            if GUARDED.contains(&key.as_str()) {
                return refuse("is fixed, because the order and delivery of records hang on it; take it out".into());
            }
            if key == "partitioner"
                && !value.to_string().contains("murmur2")
                && !value.to_string().contains("consistent")
            {
                return refuse(
                    "must place records by key, or the order within a stream is lost: use `murmur2_random`, \
                     `consistent_random`, `murmur2` or `consistent`"
                        .into(),
                );
            }
        }
        self.client().create_native_config().map(drop).map_err(|error| match error {
            // The library's text may repeat the value, and the value may be a secret.
            KafkaError::ClientConfig(_, text, key, _) if is_secret(&key) => SinkError::config(
                format!("properties.\"{key}\""),
                text.split('"').next().unwrap_or("is not accepted by librdkafka").trim(),
            ),
            KafkaError::ClientConfig(_, text, key, _) => SinkError::config(
                format!("properties.\"{key}\""),
                format!("{text}; see librdkafka's CONFIGURATION.md for its properties"),
            ),
            other => SinkError::config("properties", other.to_string()),
        })
    }

    fn build(&self, name: &str, context: BuildContext) -> Result<Box<dyn Sink>, SinkError> {
        self.validate()?;
        let password = self.password()?;
        let mut client = self.client();
        if let Some(password) = &password {
            client.set("sasl.password", password);
        }
        let secrets = self.secrets(password.as_deref());
        let kafka = Kafka::start(name, self, client, secrets, context)?;
        if self.on_start == OnStart::Fail {
            kafka.check_broker()?;
        }
        Ok(Box::new(kafka))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validation() {
        let check = |toml_like: &str, expected: Result<(), &str>| {
            let config: KafkaConfig = serde_json::from_str(toml_like).expect(toml_like);
            match (config.validate().map_err(|e| e.to_string()), expected) {
                (Ok(()), Ok(())) => {}
                (Err(got), Err(expected)) => assert!(got.contains(expected), "{toml_like}: {got}"),
                (got, expected) => panic!("{toml_like}: {got:?}, not {expected:?}"),
            }
        };
        check(r#"{"brokers":["a:1","b:2"]}"#, Ok(()));
        check(r#"{"brokers":[" "]}"#, Err("`brokers`: name at least one"));
        check(r#"{"brokers":["a:1"],"topic_prefix":"a/b"}"#, Err("`topic_prefix`"));
        check(r#"{"brokers":["a:1"],"password_env":"A","password_file":"b"}"#, Err("`password_file`"));
        let property = |property: &str, expected| {
            check(&format!(r#"{{"brokers":["a:1"],"properties":{{{property}}}}}"#), expected);
        };
        property(r#""security.protocol":"SASL_SSL","socket.keepalive.enable":true,"batch.size":65536"#, Ok(()));
        property(r#""acks":1"#, Err("the order and delivery of records hang on it"));
        property(r#""enable.idempotence":false"#, Err(r#"`properties."enable.idempotence"`"#));
        property(r#""bootstrap.servers":"x""#, Err("use `brokers` instead"));
        property(r#""sasl.password":"hunter2""#, Err("use `password_env` or `password_file` instead"));
        property(r#""partitioner":"random""#, Err("must place records by key"));
        property(r#""no.such.thing":"x""#, Err("no.such.thing"));
        property(r#""socket.timeout.ms":"soon""#, Err("socket.timeout.ms"));
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut config = KafkaConfig::new(["a:1"]);
        for key in ["ssl.key.password", "ssl.key.pem", "sasl.oauthbearer.client.secret"] {
            config.properties.insert(key.into(), Property::Text("hunter2secret".into()));
        }
        let shown = format!("{config:?} {:?}", crate::SinkConfig::Kafka(config.clone()));
        assert!(!shown.contains("hunter2secret") && shown.contains(REDACTED), "{shown}");
        assert_eq!(config.secrets(Some("swordfish")).len(), 4);
    }

    #[test]
    fn password_comes_from_a_file() {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), " swordfish\n").expect("write");
        let with = |path: &std::path::Path| {
            KafkaConfig { password_file: Some(path.into()), ..KafkaConfig::new(["a:1"]) }.password()
        };
        assert_eq!(with(file.path()).expect("password").as_deref(), Some("swordfish"));
        let error = with(std::path::Path::new("/no/such/file")).expect_err("no file").to_string();
        assert!(error.contains("`password_file`: cannot read /no/such/file"), "{error}");
    }
}
