//! The keys of a cluster: how its workers reach Kafka, and what they keep there. On the caller's thread.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    num::NonZeroU16,
    path::PathBuf,
    time::Duration,
};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    SinkError,
    kafka::{
        CreateTopics, Property,
        connection::{self, Connection},
        topics::is_topic_name,
    },
};

/// Properties that have their own key here.
const OWN_KEYS: [(&str, &str); 9] = [
    ("bootstrap.servers", "brokers"),
    ("metadata.broker.list", "brokers"),
    ("group.id", "group"),
    ("session.timeout.ms", "session_timeout_ms"),
    ("allow.auto.create.topics", "create_topics"),
    ("sasl.password", "password_env` or `password_file"),
    ("log_level", "the log filter of eyewitness"),
    ("enable.sasl.oauthbearer.unsecure.jwt", "oauth_token_file` or `oauth_token_command"),
    ("client.id", "worker"),
];

/// Properties on which it hangs who has a lease, or whether what was written is kept and read back.
const GUARDED: [&str; 31] = [
    "group.instance.id",
    "group.protocol",
    "group.protocol.type",
    "group.remote.assignor",
    "partition.assignment.strategy",
    "heartbeat.interval.ms",
    "max.poll.interval.ms",
    "enable.auto.commit",
    "auto.commit.enable",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "enable.partition.eof",
    "isolation.level",
    "check.crcs",
    "message.max.bytes",
    "enable.idempotence",
    "enable.gapless.guarantee",
    "acks",
    "request.required.acks",
    "retries",
    "message.send.max.retries",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "queuing.strategy",
    "partitioner",
    "transactional.id",
    "log.queue",
    "enabled_events",
    "plugin.library.paths",
];

/// Many workers share the streams: Apache Kafka keeps the attachments and says which worker runs which stream.
///
/// Workers with the same brokers, prefix and group are one cluster. Nothing else is needed: each worker joins the
/// consumer group, and whoever is lost is noticed by the brokers.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// Addresses of one or more brokers. Example: `["kafka-1:9092", "kafka-2:9092"]`.
    pub brokers: Vec<String>,
    /// Beginning of the topics' names: `<prefix>.attachments`, `<prefix>.leases`, `<prefix>.checkpoints`. Default:
    /// `eyewitness`.
    #[serde(default = "default_name")]
    pub topic_prefix: String,
    /// The consumer group of all workers. Default: `eyewitness`.
    #[serde(default = "default_name")]
    pub group: String,
    /// In how many shares the streams are handed to workers: the partitions of the topic of attachments when it is made.
    /// At most so many workers have something to do; a few times the number of workers makes the shares even. A topic that
    /// is there already keeps its number. Default: 48.
    #[serde(default = "default_leases")]
    pub leases: NonZeroU16,
    /// Copies of each topic that is made, each on another broker. Default: the broker's `default.replication.factor`.
    #[serde(default)]
    pub replication_factor: Option<NonZeroU16>,
    /// Whether missing topics are made. Default: `if_missing`.
    #[serde(default)]
    pub create_topics: CreateTopics,
    /// Name of this worker, as it is listed and written in logs. Must be unique in the cluster, also among workers that
    /// were there before. Default: the machine's name (the pod's, on Kubernetes) and a random part.
    #[serde(default)]
    pub worker: Option<String>,
    /// Weight of streams that this worker can take, next to other workers: one with 2 is given twice the share of one
    /// with 1. Default: 1.
    #[serde(default = "default_capacity")]
    pub capacity: f32,
    /// A worker that the brokers have not heard of for so many milliseconds has lost its streams. Brokers allow what lies
    /// between their `group.min.session.timeout.ms` (6000, if nobody changed it) and `group.max.session.timeout.ms`.
    /// Default: 6000.
    #[serde(default = "default_session_timeout_ms")]
    pub session_timeout_ms: u32,
    /// Environment variable that holds the SASL password.
    #[serde(default)]
    pub password_env: Option<String>,
    /// File that holds the SASL password; spaces and newlines around it are ignored.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// File that holds a token for SASL OAUTHBEARER; it is read anew each time a client wants one. A JWT's `exp` says how
    /// long it lives and `sub` whom it stands for; any other token counts for 5 minutes.
    #[serde(default)]
    pub oauth_token_file: Option<PathBuf>,
    /// Command that prints such a token, or JSON with `access_token` and `expires_in` (seconds). It runs without a shell
    /// before a token is needed, and is killed after 10 seconds. Example: `["/usr/bin/get-token", "--json"]`.
    #[serde(default)]
    pub oauth_token_command: Option<Vec<String>>,
    /// Any other librdkafka property, such as `"security.protocol" = "SASL_SSL"`, `"sasl.mechanisms" = "SCRAM-SHA-512"`,
    /// `"sasl.username" = "eyewitness"`, `"ssl.ca.location" = "/etc/ssl/kafka-ca.pem"`; for mutual TLS
    /// `"ssl.certificate.location"`, `"ssl.key.location"` and `"ssl.key.password" = "${KEY_PASSWORD}"`. `${NAME}` is the
    /// environment variable of that name, which is never shown. Those that decide who has which stream are refused.
    #[serde(default)]
    pub properties: BTreeMap<String, Property>,
}

fn default_name() -> String {
    "eyewitness".into()
}

const fn default_leases() -> NonZeroU16 {
    NonZeroU16::new(48).expect("more than zero")
}

const fn default_capacity() -> f32 {
    1.0
}

const fn default_session_timeout_ms() -> u32 {
    6000
}

impl fmt::Debug for ClusterConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterConfig")
            .field("brokers", &self.brokers)
            .field("topic_prefix", &self.topic_prefix)
            .field("group", &self.group)
            .field("leases", &self.leases)
            .field("replication_factor", &self.replication_factor)
            .field("create_topics", &self.create_topics)
            .field("worker", &self.worker)
            .field("capacity", &self.capacity)
            .field("session_timeout_ms", &self.session_timeout_ms)
            .field("password_env", &self.password_env)
            .field("password_file", &self.password_file)
            .field("oauth_token_file", &self.oauth_token_file)
            // Its arguments may be secrets.
            .field("oauth_token_command", &self.oauth_token_command.as_ref().map(|command| command.first()))
            // A property shows no value.
            .field("properties", &self.properties)
            .finish()
    }
}

impl ClusterConfig {
    /// With these brokers, everything else as it is by default.
    pub fn new(brokers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            brokers: brokers.into_iter().map(Into::into).collect(),
            topic_prefix: default_name(),
            group: default_name(),
            leases: default_leases(),
            replication_factor: None,
            create_topics: CreateTopics::default(),
            worker: None,
            capacity: default_capacity(),
            session_timeout_ms: default_session_timeout_ms(),
            password_env: None,
            password_file: None,
            oauth_token_file: None,
            oauth_token_command: None,
            properties: BTreeMap::new(),
        }
    }

    /// Checks what the types cannot, touching neither disk nor network.
    ///
    /// # Errors
    /// [`SinkError::Config`], naming the key.
    pub fn check(&self) -> Result<(), SinkError> {
        if !is_topic_name(&self.topic_prefix) || self.topic_prefix.len() > 200 {
            return Err(SinkError::config("topic_prefix", "use 1 to 200 letters, digits, `.`, `_` or `-`"));
        }
        if self.group.trim().is_empty() || self.group.chars().any(char::is_control) {
            return Err(SinkError::config("group", "name a consumer group, such as `eyewitness`"));
        }
        if self.leases.get() > 1000 {
            return Err(SinkError::config("leases", "use 1 to 1000"));
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if self.worker.as_ref().is_some_and(|name| !(1..=100).contains(&name.len()) || !name.chars().all(fits)) {
            return Err(SinkError::config("worker", "use 1 to 100 letters, digits, `.`, `_` or `-`"));
        }
        if !(self.capacity > 0.0 && self.capacity <= 1e6) {
            return Err(SinkError::config("capacity", "use a number above 0, such as 1 or 2.5"));
        }
        if !(1000..=300_000).contains(&self.session_timeout_ms) {
            return Err(SinkError::config("session_timeout_ms", "use 1000 to 300000"));
        }
        self.connection().check(|key, _| {
            if let Some((_, own)) = OWN_KEYS.iter().find(|(property, _)| *property == key) {
                return Err(format!("use `{own}` instead"));
            }
            match GUARDED.contains(&key) {
                true => Err("is fixed, because it hangs on it which worker has which stream; take it out".into()),
                false => Ok(()),
            }
        })?;
        self.connection().checked().create_native_config().map(drop).map_err(connection::refused)
    }

    /// This process's name: the configured one, or another one at each call.
    pub fn worker_id(&self) -> String {
        if let Some(name) = &self.worker {
            return name.clone();
        }
        let host = std::env::var("HOSTNAME").or_else(|_| std::fs::read_to_string("/etc/hostname")).unwrap_or_default();
        let host: String =
            host.trim().chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')).collect();
        let host = if host.is_empty() { "worker" } else { host.get(..80).unwrap_or(&host) };
        // Seeded by the operating system.
        let mut random = RandomState::new().build_hasher();
        random.write_u32(std::process::id());
        format!("{host}-{:08x}", random.finish() & 0xffff_ffff)
    }

    /// After so long without a word the brokers give a worker's leases to others.
    pub fn session_timeout(&self) -> Duration {
        Duration::from_millis(self.session_timeout_ms.into())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validation() {
        let check = |keys: &str, expected: Result<(), &str>| {
            let json = format!("{{\"brokers\":[\"a:1\"]{keys}}}");
            let got = serde_json::from_str::<ClusterConfig>(&json)
                .map_err(|error| error.to_string())
                .and_then(|config| config.check().map_err(|error| error.to_string()));
            match (got, expected) {
                (Ok(()), Ok(())) => {}
                (Err(got), Err(expected)) => assert!(got.contains(expected), "{json}: {got}"),
                (got, expected) => panic!("{json}: {got:?}, not {expected:?}"),
            }
        };
        check("", Ok(()));
        check(
            r#","topic_prefix":"site.north","group":"north","leases":12,"replication_factor":3,"worker":"pod-1""#,
            Ok(()),
        );
        check(r#","create_topics":"never","capacity":2.5,"session_timeout_ms":10000"#, Ok(()));
        check(r#","topic_prefix":"a/b""#, Err("`topic_prefix`"));
        check(r#","group":" ""#, Err("`group`: name a consumer group"));
        check(r#","leases":0"#, Err("nonzero"));
        check(r#","leases":1001"#, Err("`leases`: use 1 to 1000"));
        check(r#","worker":"a b""#, Err("`worker`"));
        check(r#","worker":"""#, Err("`worker`"));
        check(r#","capacity":0"#, Err("`capacity`: use a number above 0"));
        check(r#","capacity":-1"#, Err("`capacity`"));
        check(r#","session_timeout_ms":10"#, Err("`session_timeout_ms`"));
        check(r#","workers":3"#, Err("unknown field `workers`"));
        check(r#","password_env":"A","password_file":"b""#, Err("not both"));
        check(r#","oauth_token_file":"t""#, Err("`oauth_token_file`: is used with SASL only"));
        let property = |property: &str, expected| check(&format!(",\"properties\":{{{property}}}"), expected);
        property(r#""security.protocol":"SASL_SSL","socket.keepalive.enable":true"#, Ok(()));
        property(r#""group.id":"x""#, Err("use `group` instead"));
        property(r#""sasl.password":"hunter2""#, Err("use `password_env` or `password_file` instead"));
        property(r#""partition.assignment.strategy":"range""#, Err("it hangs on it which worker has which stream"));
        property(r#""group.instance.id":"x""#, Err("take it out"));
        property(r#""acks":1"#, Err("take it out"));
        property(r#""no.such.thing":"x""#, Err("no.such.thing"));
        property(r#""sasl.username":"${NAME""#, Err("has a `${` without its `}`"));
        let nobody = serde_json::from_str::<ClusterConfig>(r#"{"brokers":[]}"#).expect("config").check();
        assert!(nobody.expect_err("no brokers").to_string().contains("`brokers`: name at least one"));
    }

    #[test]
    fn secrets_are_not_shown() {
        let mut config = ClusterConfig::new(["a:1"]);
        config.properties.insert("ssl.key.password".into(), Property::Text("hunter2secret".into()));
        config.oauth_token_command = Some(vec!["get".into(), "hunter2secret".into()]);
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2secret") && shown.contains("ssl.key.password"), "{shown}");
    }

    #[test]
    fn every_process_has_a_name_of_its_own() {
        let mut config = ClusterConfig::new(["a:1"]);
        let (one, other) = (config.worker_id(), config.worker_id());
        assert_ne!(one, other);
        config.worker = Some(one.clone());
        config.check().expect("a name that we make is one that we take");
        assert_eq!((config.worker_id(), config.worker_id()), (one.clone(), one));
    }
}
