//! The configuration file: TOML, read and checked whole before anything starts. Reads the file and the environment, nothing else.
//!
//! The field docs below are the user's documentation: docs/ref/configuration.md is generated from them.

mod attachments;
mod check;
pub mod fit;
pub(crate) mod json;
pub(crate) mod places;
pub mod problem;
mod profile;
mod rules;
mod shared;
pub mod values;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use base::{media::StreamName, redact::SourceUrl};
use inference::{engine::EngineConfig, rules::Rule, speech::config::SpeechPoolConfig};
use ingest::SourceConfig;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_spanned::Spanned;
use sinks::{SinkConfig, console::ConsoleConfig, control::ClusterConfig, file::FileConfig};

pub use self::attachments::AttachmentsConfig;
pub use self::check::parse;
pub use self::profile::{DEFAULT_DETECTOR, DEFAULT_TRANSCRIBER, NO_MODEL, ProfileConfig};
pub use self::rules::{BookedRule, RuleBook, RuleConfig, load_rules, parse_rules};
pub(crate) use self::rules::{NAMES as RULE_NAMES, is_name as is_rule_name};
use self::{
    check::check_sinks,
    places::Places,
    problem::{Problem, Problems},
};
use crate::{
    control::secrets::{SecretConfig, Secrets},
    evidence::EvidenceConfig,
    history::HistoryConfig,
    hls::HlsConfig,
    http::HttpConfig,
    traces::TracesConfig,
};

/// A configuration file.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Streams to run as long as the service runs, by name. Streams that come and go are attached: see `[attachments]`. Not
    /// together with `[cluster]`: every worker would run them.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, StreamConfig>")]
    pub streams: BTreeMap<Spanned<String>, StreamConfig>,
    /// What to run on a stream, by profile name. A stream that names no profile gets the first one whose `select` fits it;
    /// else `default`, which exists even if it is not written here.
    #[serde(default)]
    pub profiles: BTreeMap<String, ProfileConfig>,
    /// What of that which is seen and heard somebody is to be told of, by rule name: see the guide to alerts.
    #[serde(default)]
    pub rules: BTreeMap<String, RuleConfig>,
    /// Where events go, by sink name. Without any: readable lines on the console, and the file `eyewitness-out/events.jsonl`.
    #[serde(default)]
    pub sinks: BTreeMap<String, SinkConfig>,
    /// How detectors run.
    #[serde(default)]
    pub inference: EngineConfig,
    /// How transcribers run.
    #[serde(default)]
    pub speech: SpeechPoolConfig,
    /// The HTTP service: live captions, players, metrics. Without this table there is none, and no open port.
    pub http: Option<HttpConfig>,
    /// What is kept of alerts: records, pictures and clips.
    #[serde(default)]
    pub evidence: EvidenceConfig,
    /// What was said and how streams fared, kept to be searched; only with the HTTP service.
    #[serde(default)]
    pub history: HistoryConfig,
    /// The streams' own pictures and sound for players, with the captions; served by the HTTP service.
    #[serde(default)]
    pub hls: HlsConfig,
    /// Traces for an OpenTelemetry collector, from the decoded frame to Kafka's acknowledgement.
    pub traces: Option<TracesConfig>,
    /// Streams that are attached and detached while the service runs.
    pub attachments: Option<AttachmentsConfig>,
    /// Many workers share the streams. Without this table this process is alone.
    pub cluster: Option<ClusterConfig>,
    /// Users and passwords of sources, by name: a stream names one in `credentials`.
    #[serde(default)]
    pub secrets: BTreeMap<String, SecretConfig>,
    /// The service as a whole.
    #[serde(default)]
    pub service: ServiceConfig,
}

/// One stream.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamConfig {
    /// Where the media comes from, such as `rtsp://user:${CAMERA_PASSWORD}@192.0.2.10/stream1`, `/srv/clip.mp4` or
    /// `https://example.org/live.m3u8`. `${NAME}` is replaced by that environment variable, percent-encoded.
    #[schemars(with = "String")]
    pub url: Spanned<String>,
    /// Name of the secret with the source's user and password, where they do not stand in the URL.
    #[schemars(with = "Option<String>")]
    pub credentials: Option<Spanned<String>>,
    /// Which profile to run. Default: the one whose selectors fit, else `default`.
    #[schemars(with = "Option<String>")]
    pub profile: Option<Spanned<String>>,
    /// Free key-value pairs, written into every event of the stream.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// How to connect.
    #[serde(default)]
    pub source: SourceConfig,
}

/// The service as a whole.
#[derive(Deserialize, JsonSchema, Clone)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceConfig {
    /// Seconds that each sink has, once the streams have stopped, to deliver what is on its way. What a spool on disk still
    /// holds then waits for the next start.
    pub grace_secs: u64,
    /// Log filter: `error`, `warn`, `info`, `debug`, or directives such as `info,ingest=debug`.
    pub log: String,
    /// Log as JSON lines instead of readable text.
    pub log_json: bool,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self { grace_secs: 10, log: "info".into(), log_json: false }
    }
}

impl ServiceConfig {
    /// The grace period.
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_secs)
    }
}

/// A stream, checked and ready to be spawned.
#[derive(Debug, Clone)]
pub struct CheckedStream {
    /// Its name.
    pub name: StreamName,
    /// Its URL, environment variables put in.
    pub url: SourceUrl,
    /// Its profile.
    pub profile: ProfileConfig,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// How to connect.
    pub source: SourceConfig,
    /// The rules that are for it.
    pub rules: Vec<Arc<Rule>>,
}

/// A configuration that can be started.
pub struct Checked {
    /// The streams, in name order.
    pub streams: Vec<CheckedStream>,
    /// The profiles, as written: `default` may be missing.
    pub profiles: BTreeMap<String, ProfileConfig>,
    /// The rules.
    pub rules: RuleBook,
    /// The secrets of sources.
    pub secrets: Secrets,
    /// Attaching and detaching, if the file says anything about it.
    pub attachments: Option<AttachmentsConfig>,
    /// The cluster that this process is a worker of, if it is.
    pub cluster: Option<ClusterConfig>,
    /// The sinks.
    pub sinks: BTreeMap<String, SinkConfig>,
    /// How detectors run.
    pub inference: EngineConfig,
    /// How transcribers run.
    pub speech: SpeechPoolConfig,
    /// The HTTP service, if there is to be one.
    pub http: Option<HttpConfig>,
    /// What is kept of alerts.
    pub evidence: EvidenceConfig,
    /// What was said and how streams fared.
    pub history: HistoryConfig,
    /// Players.
    pub hls: HlsConfig,
    /// Traces, if anybody wants them.
    pub traces: Option<TracesConfig>,
    /// The service.
    pub service: ServiceConfig,
}

/// Reads and checks a file.
///
/// # Errors
/// Everything that is wrong with it, each with its place in the file.
pub fn load(path: &Path) -> Result<Checked, Problems> {
    let text = std::fs::read_to_string(path).map_err(|e| Problems::unreadable(path, &e))?;
    parse(&path.display().to_string(), &text, &|name| std::env::var(name).ok())
}

/// The sinks of a file, checked as [`load`] does; the rest of it is not looked at.
///
/// # Errors
/// As [`load`].
pub fn load_sinks(path: &Path) -> Result<BTreeMap<String, SinkConfig>, Problems> {
    /// What of the file is read.
    #[derive(Deserialize)]
    struct OnlySinks {
        #[serde(default)]
        sinks: BTreeMap<String, SinkConfig>,
    }
    let text = std::fs::read_to_string(path).map_err(|e| Problems::unreadable(path, &e))?;
    let origin = path.display().to_string();
    let wrong = |problems| Problems::new(&origin, &text, problems);
    let OnlySinks { sinks } = toml::from_str(&text).map_err(|e| wrong(vec![Problem::from_toml(&text, &e)]))?;
    let problems = check_sinks(&text, &Places::read(&text), &sinks);
    if problems.is_empty() { Ok(sinks) } else { Err(wrong(problems)) }
}

/// The embedded default: no broker needed.
pub fn default_sinks(file: FileConfig) -> BTreeMap<String, SinkConfig> {
    BTreeMap::from([
        ("console".to_owned(), SinkConfig::Console(ConsoleConfig::default())),
        ("file".to_owned(), SinkConfig::File(file)),
    ])
}

/// A URL, or a path on this machine.
///
/// # Errors
/// In words.
pub fn source_url(text: &str) -> Result<SourceUrl, String> {
    ingest::source_url(text).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests;
