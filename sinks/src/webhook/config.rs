//! The webhook sink's keys, and the secrets they name. On the caller's thread; reads the files of secrets and certificates.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use base::{
    event::AlertState,
    queue::WhenFull,
    redact::{BadUrl, REDACTED, SourceUrl},
};
use reqwest::{
    Certificate, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Secrets, Webhook,
    body::{Body, TemplateName},
    sign::Key,
    target::Target,
    wanted::{Kind, State, WhenSilenced},
};
use crate::{
    BuildContext, Configured, QueueConfig, QueueSettings, Sink, SinkError,
    delivery::{Courier, CourierOptions, DeadLetters, SpoolConfig, text_of_file},
    record::KeyBy,
    wire::RecordFormat,
};

/// Posts events to an HTTP endpoint, in order, one request at a time.
///
/// Requests are signed as the Standard Webhooks specification says (<https://www.standardwebhooks.com>): `webhook-id`,
/// `webhook-timestamp`, `webhook-signature`. One record a request is sent with CloudEvents attributes as `ce-*` headers.
/// Any answer of 200 to 299 means that the receiver has it. After no answer, 408, 425, 429 and 500 to 599 it is tried
/// again; whatever else it answers is final, and the record goes to `dead_letters`. Redirects are not followed.
/// With `template` or `template_file` the body is another's, without `ce-*` headers, and signed all the same.
/// A receiver may get a record twice, with the same `webhook-id` or, in batches, with the same `id` in the record.
#[derive(Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where to post, `https` or `http`. A user and password in it are sent as basic authentication. Logs show neither
    /// those, nor its query, nor parts of its path that look like a token.
    pub url: String,
    /// Kinds of records to send. Default: `["alert", "status", "gap"]`, what somebody on call wants to hear; the others come
    /// many times a minute or a second.
    #[serde(default = "default_types")]
    pub types: Vec<Kind>,
    /// What becomes of alerts that somebody has silenced (`/v1/silences`): `skip` leaves them out, `send` sends them with
    /// `silenced` in the record. Whoever was sent an alert is always sent its end. Default: `skip`.
    #[serde(default)]
    pub silenced: WhenSilenced,
    /// Of alerts, the records of these states: `opened`, `updated`, `closed`. `["opened", "closed"]` for a chat, in which an
    /// alert that goes on would come again and again. Default: all of them.
    #[serde(default = "all_states")]
    pub states: Vec<State>,
    /// The shape of the records; `kit` is for consumers of AWS's Kinesis Video Streams Inference Template and has
    /// detections only. Default: `eyewitness`.
    #[serde(default)]
    pub format: RecordFormat,
    /// Writes the records in the words of another system. Default: the record itself.
    #[serde(default)]
    pub template: Option<TemplateName>,
    /// File with a body of your own: JSON with places such as `{{summary}}`, `{{tags.site}}` and `{{evidence.snapshot}}`,
    /// which are paths into the record, `docs/ref/schema`. Within a JSON string a value is written as text and null as
    /// nothing; elsewhere as the JSON that it is.
    #[serde(default)]
    pub template_file: Option<PathBuf>,
    /// Address of the HTTP service as readers of the messages reach it, such as `http://host:8642`: with a template, the
    /// paths of snapshots and clips are put behind it. Default: the paths alone.
    #[serde(default)]
    pub link: Option<String>,
    /// For `template = "alertmanager"`: an open alert that is not heard of for so many seconds is over there, as when the
    /// worker is gone for good. Default: 86400 (a day).
    #[serde(default = "default_resolve_after_secs")]
    pub resolve_after_secs: u64,
    /// File that holds the secret to sign with: `whsec_` and base64 of 24 to 64 bytes, or any text of 24 to 64 bytes.
    /// While a secret is being replaced, write both, one a line: each request is then signed with each.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// Environment variable that holds the same; several secrets are separated by spaces.
    #[serde(default)]
    pub secret_env: Option<String>,
    /// More headers, such as `{ "x-site" = "north" }`. Not for secrets.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Headers whose value is in a file, such as `{ authorization = "/run/secrets/hook" }`, where the file says
    /// `Bearer ...`. Spaces and newlines around it are ignored.
    #[serde(default)]
    pub header_files: BTreeMap<String, PathBuf>,
    /// Headers whose value is in an environment variable.
    #[serde(default)]
    pub header_env: BTreeMap<String, String>,
    /// Certificates (PEM) of authorities to trust besides those of the operating system.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Most records in one request, 1 to 1000. With 1, the body is the record; with more, it is always a JSON array of
    /// records, as many as wait, up to about 1 MiB. A batch that is refused is tried again record by record. Default: 1.
    #[serde(default = "default_batch_events")]
    pub batch_events: usize,
    /// Time for one request, from connecting to the end of the answer, in milliseconds, up to 300000. Default: 10000.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// When to try again.
    #[serde(default)]
    pub retry: RetryConfig,
    /// File for records that were refused or given up. Default: `eyewitness-out/dead-letters/<name of the sink>.jsonl`.
    #[serde(default)]
    pub dead_letters: Option<PathBuf>,
    /// Where events wait until the receiver has them.
    #[serde(default)]
    pub spool: SpoolConfig,
    /// The queue before this sink. Default when full: `block`.
    #[serde(default)]
    pub queue: QueueConfig,
}

/// When a request is tried again: after a random time of up to `first_ms`, then up to twice as long each time.
///
/// An answer's `Retry-After` is waited for where it is longer, up to one hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryConfig {
    /// Longest wait before the second try, in milliseconds. Default: 500.
    pub first_ms: u64,
    /// Longest wait between any two tries, in milliseconds, up to 3600000. Default: 60000.
    pub max_ms: u64,
    /// After so many seconds of trying the same request, its records go to `dead_letters` and the next ones are tried.
    /// 0: never; all wait until the receiver is back. Default: 3600.
    pub give_up_after_secs: u64,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self { first_ms: 500, max_ms: 60_000, give_up_after_secs: 3600 }
    }
}

impl RetryConfig {
    /// None: never.
    pub(super) fn give_up_after(&self) -> Option<Duration> {
        (self.give_up_after_secs > 0).then(|| Duration::from_secs(self.give_up_after_secs))
    }
}

fn all_states() -> Vec<State> {
    State::ALL.to_vec()
}

fn default_types() -> Vec<Kind> {
    vec![Kind::Alert, Kind::Status, Kind::Gap]
}

const fn default_resolve_after_secs() -> u64 {
    86_400
}

const fn default_batch_events() -> usize {
    1
}

const fn default_timeout_ms() -> u64 {
    10_000
}

const MOST_BATCH_EVENTS: usize = 1000;
const LONGEST_TIMEOUT_MS: u64 = 300_000;
const LONGEST_WAIT_MS: u64 = 3_600_000;

/// Headers that are ours, or the connection's.
const OWN_HEADERS: [&str; 7] =
    ["content-type", "content-length", "content-encoding", "host", "connection", "transfer-encoding", "user-agent"];

fn is_own_header(name: &str) -> bool {
    OWN_HEADERS.contains(&name) || name.starts_with("webhook-") || name.starts_with("ce-")
}

/// Whether a header of this name commonly carries a secret.
fn is_secret_header(name: &str) -> bool {
    ["auth", "token", "key", "secret", "password", "cookie", "signature"].iter().any(|part| name.contains(part))
}

impl fmt::Debug for WebhookConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.target().map_or_else(|_| REDACTED.to_owned(), |target| target.to_string());
        let headers: BTreeMap<_, _> = self.headers.keys().map(|name| (name, REDACTED)).collect();
        f.debug_struct("WebhookConfig")
            .field("url", &url)
            .field("types", &self.types)
            .field("silenced", &self.silenced)
            .field("states", &self.states)
            .field("format", &self.format)
            .field("template", &self.template)
            .field("template_file", &self.template_file)
            .field("link", &self.link.as_ref().map(|_| REDACTED))
            .field("resolve_after_secs", &self.resolve_after_secs)
            .field("secret_file", &self.secret_file)
            .field("secret_env", &self.secret_env)
            .field("headers", &headers)
            .field("header_files", &self.header_files)
            .field("header_env", &self.header_env)
            .field("ca_file", &self.ca_file)
            .field("batch_events", &self.batch_events)
            .field("timeout_ms", &self.timeout_ms)
            .field("retry", &self.retry)
            .field("dead_letters", &self.dead_letters)
            .field("spool", &self.spool)
            .field("queue", &self.queue)
            .finish()
    }
}

impl WebhookConfig {
    /// For this URL, everything else as it is by default.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            types: default_types(),
            silenced: WhenSilenced::default(),
            states: all_states(),
            format: RecordFormat::default(),
            template: None,
            template_file: None,
            link: None,
            resolve_after_secs: default_resolve_after_secs(),
            secret_file: None,
            secret_env: None,
            headers: BTreeMap::new(),
            header_files: BTreeMap::new(),
            header_env: BTreeMap::new(),
            ca_file: None,
            batch_events: default_batch_events(),
            timeout_ms: default_timeout_ms(),
            retry: RetryConfig::default(),
            dead_letters: None,
            spool: SpoolConfig::default(),
            queue: QueueConfig::default(),
        }
    }

    pub(super) fn target(&self) -> Result<Target, SinkError> {
        let source = SourceUrl::parse(&self.url).map_err(|BadUrl::Malformed { shown, cause }| {
            SinkError::config("url", format!("`{shown}` is no URL ({cause}); write something like https://host/path"))
        })?;
        let scheme = source.scheme();
        if !matches!(scheme, "http" | "https") {
            let problem = format!("webhooks go over `https` or `http`, not `{scheme}`");
            return Err(SinkError::config("url", problem));
        }
        let url = Url::parse(&self.url).map_err(|cause| SinkError::config("url", cause.to_string()))?;
        Ok(Target::new(url, source))
    }

    /// The kinds to send; none for all.
    pub(super) fn only(&self) -> Option<Vec<String>> {
        if self.template == Some(TemplateName::Alertmanager) {
            return Some(vec![Kind::Alert.as_str().to_owned()]);
        }
        let is_all = Kind::ALL.iter().all(|kind| self.types.contains(kind));
        (!is_all).then(|| self.types.iter().map(|kind| kind.as_str().to_owned()).collect())
    }

    /// The states of alerts to send; none for all.
    pub(super) fn states(&self) -> Option<Vec<AlertState>> {
        let known = [AlertState::Opened, AlertState::Updated, AlertState::Closed];
        let wanted = known.into_iter().filter(|state| self.states.iter().any(|wanted| wanted.is(*state)));
        Some(wanted.collect::<Vec<_>>()).filter(|wanted| wanted.len() < known.len())
    }

    /// The keys to sign with, and the texts they were made of.
    pub(super) fn keys(&self) -> Result<(Vec<Key>, Vec<String>), SinkError> {
        let (key, text) = if let Some(name) = &self.secret_env {
            ("secret_env", from_environment("secret_env", name)?)
        } else if let Some(path) = &self.secret_file {
            ("secret_file", text_of_file("secret_file", path)?)
        } else {
            return Ok((Vec::new(), Vec::new()));
        };
        let texts: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        if texts.is_empty() {
            return Err(SinkError::config(key, "holds no secret"));
        }
        let keys: Result<_, _> = texts.iter().map(|text| Key::parse(text)).collect();
        Ok((keys.map_err(|problem| SinkError::config(key, problem.to_string()))?, texts))
    }

    /// The additional headers, and those of their values that nobody may see.
    fn more_headers(&self) -> Result<(HeaderMap, Vec<String>), SinkError> {
        let (mut headers, mut secrets) = (HeaderMap::new(), Vec::new());
        let mut put = |table: &str, name: &str, value: &str, is_secret: bool| {
            let key = format!("{table}.{name}");
            let header = header_name(table, name)?;
            let mut header_value = HeaderValue::from_str(value)
                .map_err(|_| SinkError::config(&key, "a header's value is one line of text"))?;
            if value.is_empty() {
                return Err(SinkError::config(&key, "is empty"));
            }
            header_value.set_sensitive(is_secret);
            headers.insert(header, header_value);
            if is_secret {
                // Also without the scheme before it, as in `Bearer ...`.
                secrets.extend(value.split_once(' ').map(|(_, token)| token.to_owned()));
                secrets.push(value.to_owned());
            }
            Ok(())
        };
        for (name, value) in &self.headers {
            put("headers", name, value, false)?;
        }
        for (name, path) in &self.header_files {
            put("header_files", name, text_of_file(&format!("header_files.{name}"), path)?.trim(), true)?;
        }
        for (name, variable) in &self.header_env {
            put("header_env", name, from_environment(&format!("header_env.{name}"), variable)?.trim(), true)?;
        }
        Ok((headers, secrets))
    }

    fn certificates(&self) -> Result<Vec<Certificate>, SinkError> {
        let Some(path) = &self.ca_file else { return Ok(Vec::new()) };
        let pem = text_of_file("ca_file", path)?;
        match Certificate::from_pem_bundle(pem.as_bytes()) {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            _ => Err(SinkError::config("ca_file", format!("{} holds no certificate in PEM form", path.display()))),
        }
    }
}

fn from_environment(key: &str, name: &str) -> Result<String, SinkError> {
    std::env::var(name)
        .map_err(|_| SinkError::config(key, format!("the environment has no variable `{name}` with text in it")))
}

/// The header's name, where it is one that may be set.
fn header_name(table: &str, name: &str) -> Result<HeaderName, SinkError> {
    let refuse = |problem: &str| Err(SinkError::config(format!("{table}.{name}"), problem));
    let Ok(header) = HeaderName::try_from(name) else { return refuse("is no name of a header") };
    if is_own_header(header.as_str()) {
        return refuse("is set by the sink itself; take it out");
    }
    if table == "headers" && is_secret_header(header.as_str()) {
        return refuse("looks like a secret: put its value into a file (`header_files`) or a variable (`header_env`)");
    }
    Ok(header)
}

impl Configured for WebhookConfig {
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
        self.target()?;
        if self.types.is_empty() {
            return Err(SinkError::config("types", "name at least one kind of record, such as [\"alert\", \"gap\"]"));
        }
        if self.states.is_empty() {
            return Err(SinkError::config("states", "is empty: take \"alert\" out of `types` to send no alerts"));
        }
        let tells_all = self.states.contains(&State::Opened) && self.states.contains(&State::Closed);
        if self.template == Some(TemplateName::Alertmanager) && !tells_all {
            return Err(SinkError::config("states", "Alertmanager has to know of \"opened\" and of \"closed\""));
        }
        if self.format == RecordFormat::Kit && !self.types.contains(&Kind::Detections) {
            return Err(SinkError::config("types", "records of `kit` are detections: write [\"detections\"]"));
        }
        Body::check(self)?;
        if self.secret_env.is_some() && self.secret_file.is_some() {
            return Err(SinkError::config("secret_file", "use either this or `secret_env`, not both"));
        }
        let (files, variables) = (self.header_files.keys(), self.header_env.keys());
        let tables = [("headers", self.headers.keys().collect::<Vec<_>>())];
        let tables = tables.into_iter().chain([("header_files", files.collect()), ("header_env", variables.collect())]);
        let mut names = Vec::new();
        for (table, name) in tables.flat_map(|(table, names)| names.into_iter().map(move |name| (table, name))) {
            let header = header_name(table, name)?;
            if names.contains(&header) {
                return Err(SinkError::config(format!("{table}.{name}"), "is given twice"));
            }
            names.push(header);
        }
        if !(1..=MOST_BATCH_EVENTS).contains(&self.batch_events) {
            return Err(SinkError::config("batch_events", format!("1 to {MOST_BATCH_EVENTS}")));
        }
        if !(1..=LONGEST_TIMEOUT_MS).contains(&self.timeout_ms) {
            return Err(SinkError::config("timeout_ms", format!("1 to {LONGEST_TIMEOUT_MS}")));
        }
        if !(1..=LONGEST_WAIT_MS).contains(&self.retry.max_ms) {
            return Err(SinkError::config("retry.max_ms", format!("1 to {LONGEST_WAIT_MS}")));
        }
        if !(1..=self.retry.max_ms).contains(&self.retry.first_ms) {
            return Err(SinkError::config("retry.first_ms", "at least 1, and at most `retry.max_ms`"));
        }
        self.spool.validate()
    }

    fn build(&self, name: &str, context: BuildContext) -> Result<Box<dyn Sink>, SinkError> {
        self.validate()?;
        let (keys, mut secrets) = self.keys()?;
        let (headers, more_secrets) = self.more_headers()?;
        let body = Body::from_config(self)?;
        secrets.extend(more_secrets);
        let mut target = self.target()?;
        target.hide(secrets);
        let path = match &self.dead_letters {
            Some(path) => path.clone(),
            None => Path::new("eyewitness-out/dead-letters").join(format!("{name}.jsonl")),
        };
        let dead_letters = Some(DeadLetters::open(name, &path)?);
        let certificates = self.certificates()?;
        let clock = std::sync::Arc::clone(&context.clock);
        let webhook = Webhook::start(name, self, Secrets { target, keys, headers, certificates }, body, clock)?;
        let only = self.only();
        let (only, format, key_by) = (self.format.kinds().or(only), self.format, KeyBy::Stream);
        let skip_silenced = self.silenced == WhenSilenced::Skip;
        let (spool, states) = (&self.spool, self.states());
        let options =
            CourierOptions { name, spool, key_by, only, skip_silenced, states, format, dead_letters, context };
        Ok(Box::new(Courier::open(webhook, options)?))
    }
}
