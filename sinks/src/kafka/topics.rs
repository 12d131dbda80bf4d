//! The topics' names and what the user wants of them. Plain data.

use std::{collections::BTreeMap, num::NonZeroU16};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{KafkaConfig, Property};
use crate::{SinkError, record::Record};

/// Kinds of topics.
pub(super) const N_TOPICS: usize = 5;
/// Their keys in the configuration, and the endings of their names; a topic is known by its place here.
const KINDS: [&str; N_TOPICS] = ["detections", "transcripts", "captions", "alerts", "status"];
/// The place of the topic of alerts.
const ALERTS: usize = 3;
/// Of a topic that we make, where the user says nothing.
const DEFAULT_PARTITIONS: u16 = 6;
/// Kafka's own limit of a topic's name.
const MAX_NAME: usize = 249;

/// The place of the topic for records of a kind.
pub(super) fn topic_of(kind: &str) -> Option<usize> {
    match kind {
        "detections" => Some(0),
        "transcript" => Some(1),
        "caption" => Some(2),
        "alert" => Some(ALERTS),
        "status" | "gap" => Some(4),
        _ => None,
    }
}

/// What the topics should be like. An existing topic is never altered: where it differs, a warning says so at start.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TopicsConfig {
    /// Whether missing topics are made, at start and when one is deleted later. Default: `if_missing`.
    pub create: CreateTopics,
    /// Partitions of a topic that is made. More of them let more consumers share the work; the records of a stream stay
    /// together in one. Default: 6.
    pub partitions: Option<NonZeroU16>,
    /// Copies of a topic that is made, each on another broker. Default: the broker's `default.replication.factor`.
    pub replication_factor: Option<NonZeroU16>,
    /// What a topic that is made forgets. Default: the broker's `log.cleanup.policy`, which is `delete` if nobody changed
    /// it.
    pub cleanup: Option<Cleanup>,
    /// Other settings of a topic that is made, such as `{ "retention.ms" = 604800000, "min.insync.replicas" = 2 }`.
    pub config: BTreeMap<String, Property>,
    /// The same for the topic of detections; what is set here comes before the above.
    pub detections: TopicConfig,
    /// The same for the topic of transcripts.
    pub transcripts: TopicConfig,
    /// The same for the topic of captions.
    pub captions: TopicConfig,
    /// The same for the topic of alerts, which may have a key of its own.
    pub alerts: AlertsTopicConfig,
    /// The same for the topic of status records and gaps.
    pub status: TopicConfig,
}

/// What one topic should be like.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TopicConfig {
    /// Its whole name. Default: `<topic_prefix>.detections` and so on.
    pub name: Option<String>,
    /// Its partitions.
    pub partitions: Option<NonZeroU16>,
    /// Its copies.
    pub replication_factor: Option<NonZeroU16>,
    /// What it forgets.
    pub cleanup: Option<Cleanup>,
    /// Its other settings.
    pub config: BTreeMap<String, Property>,
}

/// What the topic of alerts should be like.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AlertsTopicConfig {
    /// Key of its records. With `alert` and `cleanup = "compact,delete"` the topic keeps the newest record of each alert: a
    /// table of alerts. Default: `stream`.
    pub key: AlertKey,
    /// Its whole name. Default: `<topic_prefix>.alerts`.
    pub name: Option<String>,
    /// Its partitions.
    pub partitions: Option<NonZeroU16>,
    /// Its copies.
    pub replication_factor: Option<NonZeroU16>,
    /// What it forgets. `compact` and `compact,delete` want `key = "alert"`.
    pub cleanup: Option<Cleanup>,
    /// Its other settings.
    pub config: BTreeMap<String, Property>,
}

/// Key of the records of alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlertKey {
    /// As in the other topics, see `partition_key`: all alerts of a stream stay in order.
    #[default]
    Stream,
    /// The record's `alert`: the records of one alert stay in order.
    Alert,
}

impl AlertKey {
    /// The key of a record that has none of its own.
    pub(super) fn of<'a>(self, record: &Record<'a>) -> &'a str {
        match (self, record.kind) {
            // The id of its record is `<alert>-<revision>`.
            (Self::Alert, "alert") => record.id.rsplit_once('-').map_or(record.id, |(alert, _)| alert),
            // Without a key a record would go anywhere.
            _ if record.key.is_empty() => record.stream,
            _ => record.key,
        }
    }
}

/// Whether missing topics are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CreateTopics {
    /// They are made as configured.
    #[default]
    IfMissing,
    /// Somebody else makes them: records for a missing topic wait until it is there.
    Never,
}

/// What a topic forgets: Kafka's `cleanup.policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Cleanup {
    /// Old records, by `retention.ms` and `retention.bytes`.
    #[serde(rename = "delete")]
    Delete,
    /// All but the last record of each key. The key is the stream's name (or a tag's value): only the last record of each
    /// stream stays, which suits few uses.
    #[serde(rename = "compact")]
    Compact,
    /// Both.
    #[serde(rename = "compact,delete")]
    CompactDelete,
}

impl Cleanup {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Compact => "compact",
            Self::CompactDelete => "compact,delete",
        }
    }
}

/// One topic as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) name: String,
    /// When it is made.
    pub(super) n_partitions: i32,
    /// As the user wants it; none where the user says nothing.
    pub(super) partitions: Option<NonZeroU16>,
    pub(super) replication_factor: Option<NonZeroU16>,
    pub(super) settings: BTreeMap<String, String>,
}

/// The user's keys of one topic.
struct One<'a> {
    name: Option<&'a str>,
    partitions: Option<NonZeroU16>,
    replication_factor: Option<NonZeroU16>,
    cleanup: Option<Cleanup>,
    config: &'a BTreeMap<String, Property>,
}

/// Both structs have these keys.
macro_rules! one {
    ($topic:expr) => {
        One {
            name: $topic.name.as_deref(),
            partitions: $topic.partitions,
            replication_factor: $topic.replication_factor,
            cleanup: $topic.cleanup,
            config: &$topic.config,
        }
    };
}

impl TopicsConfig {
    fn one(&self, at: usize) -> One<'_> {
        match at {
            0 => one!(self.detections),
            1 => one!(self.transcripts),
            2 => one!(self.captions),
            ALERTS => one!(self.alerts),
            _ => one!(self.status),
        }
    }

    /// Checks what the types cannot.
    pub(super) fn validate(&self, prefix: &str) -> Result<(), SinkError> {
        if !is_topic_name(prefix) || prefix.len() > 200 {
            return Err(SinkError::config("topic_prefix", "use 1 to 200 letters, digits, `.`, `_` or `-`"));
        }
        let everything = (0..N_TOPICS).map(|at| (format!("topics.{}", KINDS[at]), self.one(at)));
        for (key, topic) in everything {
            if let Some(name) = topic.name
                && !is_topic_name(name)
            {
                let problem = "use 1 to 249 letters, digits, `.`, `_` or `-`";
                return Err(SinkError::config(format!("{key}.name"), problem));
            }
            check_settings(&key, topic.config)?;
        }
        let is_compacted = self.alerts.cleanup.or(self.cleanup).is_some_and(|policy| policy != Cleanup::Delete);
        if is_compacted && self.alerts.key == AlertKey::Stream {
            let problem = "write \"alert\", or `cleanup = \"delete\"` beside it: a compacted topic keeps the last record of \
                           each key, and with the stream as key that is one alert a stream, all others are lost";
            return Err(SinkError::config("topics.alerts.key", problem));
        }
        check_settings("topics", &self.config)
    }

    /// All topics, each at its place.
    pub(super) fn wanted(&self, prefix: &str) -> [Wanted; N_TOPICS] {
        std::array::from_fn(|at| {
            let one = self.one(at);
            let mut settings: BTreeMap<String, String> = BTreeMap::new();
            for (all, cleanup) in [(&self.config, self.cleanup), (one.config, one.cleanup)] {
                settings.extend(all.iter().map(|(key, value)| (key.clone(), value.to_string())));
                settings.extend(cleanup.map(|policy| ("cleanup.policy".to_owned(), policy.as_str().to_owned())));
            }
            let partitions = one.partitions.or(self.partitions);
            Wanted {
                name: one.name.map_or_else(|| format!("{prefix}.{}", KINDS[at]), str::to_owned),
                n_partitions: partitions.map_or(DEFAULT_PARTITIONS, NonZeroU16::get).into(),
                partitions,
                replication_factor: one.replication_factor.or(self.replication_factor),
                settings,
            }
        })
    }
}

fn check_settings(key: &str, settings: &BTreeMap<String, Property>) -> Result<(), SinkError> {
    match settings.contains_key("cleanup.policy") {
        true => {
            Err(SinkError::config(format!("{key}.config.\"cleanup.policy\""), format!("use `{key}.cleanup` instead")))
        }
        false => Ok(()),
    }
}

/// Kafka's own rule.
pub(crate) fn is_topic_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len())
        && !matches!(text, "." | "..")
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// What of an existing topic is not as the user wants it, in words; `settings` are those that we were allowed to see.
pub(super) fn differences(
    wanted: &Wanted,
    n_partitions: usize,
    n_replicas: usize,
    settings: &BTreeMap<String, String>,
) -> Vec<String> {
    let mut found = Vec::new();
    let mut check = |what: &str, is: String, should: String| {
        if is != should {
            found.push(format!("{what} is {is}, not {should}"));
        }
    };
    if let Some(partitions) = wanted.partitions {
        check("`partitions`", n_partitions.to_string(), partitions.to_string());
    }
    if let Some(factor) = wanted.replication_factor {
        check("`replication_factor`", n_replicas.to_string(), factor.to_string());
    }
    for (key, should) in &wanted.settings {
        if let Some(is) = settings.get(key) {
            // The broker may give a list in another order.
            let sorted = |text: &str| {
                let mut parts: Vec<&str> = text.split(',').map(str::trim).collect();
                parts.sort_unstable();
                parts.join(",")
            };
            check(&format!("`{key}`"), sorted(is), sorted(should));
        }
    }
    found
}

impl KafkaConfig {
    /// All topics, each at its place.
    pub(super) fn wanted_topics(&self) -> [Wanted; N_TOPICS] {
        self.topics.wanted(&self.topic_prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted() {
        let config: TopicsConfig = serde_json::from_str(
            r#"{"partitions":12,"replication_factor":3,"cleanup":"delete","config":{"retention.ms":1000,"min.insync.replicas":2},
                "status":{"name":"site.status","partitions":1,"cleanup":"compact,delete","config":{"retention.ms":"-1"}}}"#,
        )
        .expect("topics");
        config.validate("eyewitness").expect("valid");
        let [detections, .., status] = config.wanted("eyewitness");
        let settings = |of: &Wanted| of.settings.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ");
        assert_eq!((&*detections.name, detections.n_partitions), ("eyewitness.detections", 12));
        assert_eq!(settings(&detections), "cleanup.policy=delete min.insync.replicas=2 retention.ms=1000");
        assert_eq!((&*status.name, status.n_partitions), ("site.status", 1));
        assert_eq!(settings(&status), "cleanup.policy=compact,delete min.insync.replicas=2 retention.ms=-1");
        let [plain, ..] = TopicsConfig::default().wanted("p");
        assert_eq!((plain.n_partitions, plain.partitions, plain.settings.len()), (6, None, 0));
    }

    #[test]
    fn mistakes() {
        let check = |json: &str, expected: &str| {
            let got = serde_json::from_str::<TopicsConfig>(json)
                .map_err(|e| e.to_string())
                .and_then(|config| config.validate("p").map_err(|e| e.to_string()));
            let got = got.expect_err(json);
            assert!(got.contains(expected), "{json}: {got}");
        };
        check(r#"{"create":"always"}"#, "expected `if_missing` or `never`");
        check(r#"{"partitions":0}"#, "nonzero");
        check(r#"{"cleanup":"compacted"}"#, "expected one of `delete`, `compact`, `compact,delete`");
        check(r#"{"config":{"cleanup.policy":"compact"}}"#, "use `topics.cleanup` instead");
        check(r#"{"captions":{"config":{"cleanup.policy":"compact"}}}"#, "use `topics.captions.cleanup` instead");
        check(r#"{"captions":{"name":"a b"}}"#, "`topics.captions.name`");
        check(r#"{"alarms":{}}"#, "unknown field `alarms`");
        check(r#"{"alerts":{"key":"rule"}}"#, "expected `stream` or `alert`");
        check(r#"{"status":{"key":"alert"}}"#, "unknown field `key`");
        check(r#"{"alerts":{"name":"a b"}}"#, "`topics.alerts.name`");
        // Compacted by stream, whoever says so.
        check(r#"{"alerts":{"cleanup":"compact"}}"#, "`topics.alerts.key`: write \"alert\"");
        check(r#"{"alerts":{"cleanup":"compact,delete","key":"stream"}}"#, "`topics.alerts.key`: write \"alert\"");
        check(r#"{"cleanup":"compact"}"#, "`topics.alerts.key`: write \"alert\"");
    }

    #[test]
    fn alerts() {
        let check = |json: &str, expected: &str| {
            let config: TopicsConfig = serde_json::from_str(json).expect(json);
            config.validate("p").expect(json);
            let wanted = config.wanted("p");
            let topic = &wanted[topic_of("alert").expect("a topic")];
            let record = Record {
                kind: "alert",
                id: "01J-alert-a-rule-4-12",
                stream: "yard",
                session: "01J",
                pts_ms: 0,
                time: None,
                key: "north",
                accepted_ms: 0,
                payload: "{}",
            };
            let of_status = Record { kind: "status", key: "", ..record.clone() };
            let key = config.alerts.key;
            assert_eq!(key.of(&of_status), "yard", "{json}");
            let policy = topic.settings.get("cleanup.policy").map_or("-", String::as_str);
            assert_eq!(format!("{} {policy} {}", topic.name, key.of(&record)), expected, "{json}");
        };
        check("{}", "p.alerts - north");
        check(r#"{"alerts":{"key":"alert"}}"#, "p.alerts - 01J-alert-a-rule-4");
        check(
            r#"{"alerts":{"key":"alert","cleanup":"compact","name":"on-call"}}"#,
            "on-call compact 01J-alert-a-rule-4",
        );
        check(r#"{"cleanup":"compact,delete","alerts":{"key":"alert"}}"#, "p.alerts compact,delete 01J-alert-a-rule-4");
        check(r#"{"cleanup":"compact","alerts":{"cleanup":"delete"}}"#, "p.alerts delete north");
    }

    #[test]
    fn differences_are_named() {
        let config: TopicsConfig =
            serde_json::from_str(r#"{"partitions":6,"cleanup":"compact,delete","config":{"retention.ms":1000}}"#)
                .expect("topics");
        let [wanted, ..] = config.wanted("p");
        let settings = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let same = settings(&[("cleanup.policy", "delete,compact"), ("retention.ms", "1000"), ("segment.ms", "7")]);
        assert_eq!(differences(&wanted, 6, 1, &same), Vec::<String>::new());
        let other = settings(&[("cleanup.policy", "delete"), ("retention.ms", "1000")]);
        assert_eq!(
            differences(&wanted, 3, 1, &other),
            ["`partitions` is 3, not 6", "`cleanup.policy` is delete, not compact,delete"]
        );
        assert_eq!(
            differences(&wanted, 6, 1, &BTreeMap::new()),
            Vec::<String>::new(),
            "what is not shown is not compared"
        );
    }
}
