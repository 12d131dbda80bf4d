//! What of the user's keys cannot work, and what to write instead. Touches neither disk nor network.

use base::expand::expand;
use rdkafka::{ClientConfig, error::KafkaError};

use super::{KafkaConfig, PartitionKey, Property};
use crate::SinkError;

/// Properties that have their own key here.
const OWN_KEYS: [(&str, &str); 14] = [
    ("bootstrap.servers", "brokers"),
    ("metadata.broker.list", "brokers"),
    ("compression.codec", "compression"),
    ("compression.type", "compression"),
    ("linger.ms", "linger_ms"),
    ("queue.buffering.max.ms", "linger_ms"),
    ("queue.buffering.max.messages", "in_flight_records"),
    ("queue.buffering.max.kbytes", "in_flight_bytes"),
    ("message.max.bytes", "max_record_bytes"),
    ("allow.auto.create.topics", "topics.create"),
    ("sasl.password", "password_env` or `password_file"),
    ("log_level", "the log filter of eyewitness"),
    ("delivery.report.only.error", "the sink's own account"),
    ("enable.sasl.oauthbearer.unsecure.jwt", "oauth_token_file` or `oauth_token_command"),
];

/// Properties on which the order or the delivery of records hangs.
const GUARDED: [&str; 12] = [
    "enable.idempotence",
    "enable.gapless.guarantee",
    "acks",
    "request.required.acks",
    "retries",
    "message.send.max.retries",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "queuing.strategy",
    "transactional.id",
    "log.queue",
    "plugin.library.paths",
];

/// Requests on their way to one broker: properties that may be made smaller, but not larger.
const IN_FLIGHT: [&str; 2] = ["max.in.flight", "max.in.flight.requests.per.connection"];

/// Whether a property's value must never be shown.
pub(super) fn is_secret(key: &str) -> bool {
    ["password", "passphrase", "secret", ".key.pem", "oauthbearer.config", "jaas"].iter().any(|part| key.contains(part))
}

impl KafkaConfig {
    /// Checks what the types cannot.
    pub(super) fn check(&self) -> Result<(), SinkError> {
        if self.brokers.is_empty() || self.brokers.iter().any(|broker| broker.trim().is_empty()) {
            return Err(SinkError::config("brokers", "name at least one broker, such as [\"localhost:9092\"]"));
        }
        self.topics.validate(&self.topic_prefix)?;
        if matches!(&self.partition_key, PartitionKey::Tag(tag) if tag.is_empty()) {
            return Err(SinkError::config("partition_key", "name a tag, such as { tag = \"site\" }"));
        }
        if !(1024..=100_000_000).contains(&self.max_record_bytes) {
            return Err(SinkError::config("max_record_bytes", "use 1024 to 100000000"));
        }
        if self.in_flight_records.get() > 10_000_000 {
            return Err(SinkError::config("in_flight_records", "at most 10000000"));
        }
        if !(self.max_record_bytes..=2_000_000_000_000).contains(&self.in_flight_bytes.get()) {
            return Err(SinkError::config("in_flight_bytes", "use at least `max_record_bytes`, at most 2000000000000"));
        }
        if self.linger_ms > 900_000 {
            return Err(SinkError::config("linger_ms", "at most 900000"));
        }
        if self.password_env.is_some() && self.password_file.is_some() {
            return Err(SinkError::config("password_file", "use either this or `password_env`, not both"));
        }
        self.check_tokens()?;
        for (key, value) in &self.properties {
            let refuse = |problem| SinkError::config(format!("properties.\"{key}\""), problem);
            self.check_property(key, value).map_err(refuse)?;
        }
        self.spool.validate()?;
        self.checked().create_native_config().map(drop).map_err(|error| match error {
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

    /// The client's configuration as far as it can be checked without passwords and variables.
    fn checked(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        self.set_common(&mut client);
        for (key, value) in &self.properties {
            let mut known = true;
            let expanded = expand(&value.to_string(), |name| {
                let value = std::env::var(name).ok();
                known &= value.is_some();
                value
            });
            if let Ok(value) = expanded
                && known
            {
                client.set(key, value);
            }
        }
        self.set_producer(&mut client);
        client
    }

    fn check_property(&self, key: &str, value: &Property) -> Result<(), String> {
        if let Some((_, own)) = OWN_KEYS.iter().find(|(property, _)| *property == key) {
            return Err(format!("use `{own}` instead"));
        }
        if GUARDED.contains(&key) {
            return Err("is fixed, because the order and delivery of records hang on it; take it out".into());
        }
        let value = value.to_string();
        if IN_FLIGHT.contains(&key) && !matches!(value.parse(), Ok(1..=5)) {
            return Err("must be 1 to 5, or records could change their order".into());
        }
        if key == "partitioner" && !value.contains("murmur2") && !value.contains("consistent") {
            return Err("must place records by key, or the order within a stream is lost: use `murmur2_random`, \
                        `consistent_random`, `murmur2` or `consistent`"
                .into());
        }
        let wants_token = self.oauth_token_file.is_some() || self.oauth_token_command.is_some();
        if matches!(key, "sasl.mechanisms" | "sasl.mechanism") {
            if wants_token && value != "OAUTHBEARER" {
                return Err("must be `OAUTHBEARER` with a token; take one of them out".into());
            }
            let method = self.properties.get("sasl.oauthbearer.method").map(ToString::to_string);
            if value == "OAUTHBEARER" && !wants_token && method.as_deref() != Some("oidc") {
                return Err("`OAUTHBEARER` needs `oauth_token_file` or `oauth_token_command`".into());
            }
        }
        // The name of a variable that is not closed is found without its value.
        expand(&value, |_| Some(String::new())).map(drop).map_err(|e| e.to_string())
    }

    fn check_tokens(&self) -> Result<(), SinkError> {
        if self.oauth_token_file.is_some() && self.oauth_token_command.is_some() {
            return Err(SinkError::config("oauth_token_command", "use either this or `oauth_token_file`, not both"));
        }
        if self.oauth_token_command.as_ref().is_some_and(|command| command.first().is_none_or(String::is_empty)) {
            return Err(SinkError::config("oauth_token_command", "name a program, such as [\"/usr/bin/get-token\"]"));
        }
        let protocol = self.properties.get("security.protocol").map(|text| text.to_string().to_ascii_uppercase());
        let (wants_token, key) = match (&self.oauth_token_file, &self.oauth_token_command) {
            (Some(_), _) => (true, "oauth_token_file"),
            (_, command) => (command.is_some(), "oauth_token_command"),
        };
        if wants_token && !protocol.is_some_and(|protocol| protocol.contains("SASL") || protocol.contains("${")) {
            let problem = "is used with SASL only: set properties.\"security.protocol\" to `SASL_SSL`";
            return Err(SinkError::config(key, problem));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validation() {
        let check = |toml_like: &str, expected: Result<(), &str>| {
            let config: KafkaConfig = serde_json::from_str(toml_like).expect(toml_like);
            match (config.check().map_err(|e| e.to_string()), expected) {
                (Ok(()), Ok(())) => {}
                (Err(got), Err(expected)) => assert!(got.contains(expected), "{toml_like}: {got}"),
                (got, expected) => panic!("{toml_like}: {got:?}, not {expected:?}"),
            }
        };
        check(r#"{"brokers":["a:1","b:2"]}"#, Ok(()));
        check(r#"{"brokers":[" "]}"#, Err("`brokers`: name at least one"));
        check(r#"{"brokers":["a:1"],"topic_prefix":"a/b"}"#, Err("`topic_prefix`"));
        check(r#"{"brokers":["a:1"],"topics":{"captions":{"name":"a/b"}}}"#, Err("`topics.captions.name`"));
        check(r#"{"brokers":["a:1"],"partition_key":"stream"}"#, Ok(()));
        check(r#"{"brokers":["a:1"],"partition_key":{"tag":"site"}}"#, Ok(()));
        check(r#"{"brokers":["a:1"],"partition_key":{"tag":""}}"#, Err("`partition_key`: name a tag"));
        check(r#"{"brokers":["a:1"],"max_record_bytes":10}"#, Err("`max_record_bytes`"));
        check(r#"{"brokers":["a:1"],"in_flight_bytes":2048}"#, Err("`in_flight_bytes`"));
        check(r#"{"brokers":["a:1"],"max_record_bytes":100000000,"in_flight_bytes":100000000}"#, Ok(()));
        let token = r#""oauth_token_file":"t""#;
        check(&format!(r#"{{"brokers":["a:1"],{token}}}"#), Err("`oauth_token_file`: is used with SASL only"));
        let sasl = |more: &str| {
            format!(r#"{{"brokers":["a:1"],"properties":{{"security.protocol":"sasl_ssl"{more}}},{token}}}"#)
        };
        check(&sasl(""), Ok(()));
        check(&sasl(r#","sasl.mechanisms":"PLAIN""#), Err("must be `OAUTHBEARER` with a token"));
        check(r#"{"brokers":["a:1"],"oauth_token_file":"t","oauth_token_command":["x"]}"#, Err("not both"));
        check(r#"{"brokers":["a:1"],"oauth_token_command":[]}"#, Err("name a program"));
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
        property(r#""max.in.flight":2"#, Ok(()));
        property(r#""max.in.flight":6"#, Err("must be 1 to 5"));
        property(r#""message.max.bytes":6"#, Err("use `max_record_bytes` instead"));
        property(r#""enable.gapless.guarantee":false"#, Err("the order and delivery of records hang on it"));
        property(r#""sasl.username":"${NO_SUCH_VARIABLE_OF_EYEWITNESS}""#, Ok(()));
        property(r#""sasl.username":"${NAME""#, Err("has a `${` without its `}`"));
        property(r#""security.protocol":"SASL_SSL","sasl.mechanisms":"OAUTHBEARER""#, Err("needs `oauth_token_file`"));
        property(r#""no.such.thing":"x""#, Err("no.such.thing"));
        property(r#""socket.timeout.ms":"soon""#, Err("socket.timeout.ms"));
    }
}
