//! What a request says: the records as they are, or put into the words of another system. Pure, but for reading the user's
//! template at the start; on the thread that posts. Must never put a secret into a body: `link` may hold none.

use base::redact::SourceUrl;
use jiff::SignedDuration;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{Kind, WebhookConfig, alertmanager, slack, template::Template};
use crate::{SinkError, delivery::text_of_file, wire::RecordFormat};

/// Longest time after which an alert that is not heard of is over.
const LONGEST_RESOLVE_SECS: u64 = 366 * 86_400;

/// The words of another system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TemplateName {
    /// Prometheus Alertmanager's API v2, `/api/v2/alerts`: an array of alerts. Other records are not sent.
    Alertmanager,
    /// Incoming webhooks of Slack and of those that take the same, such as Mattermost: a line of text for an `alert`, a
    /// `status` or a `gap`.
    Slack,
}

/// Makes bodies of records.
pub(super) struct Body {
    words: Words,
    /// Without a slash at its end.
    link: Option<String>,
}

enum Words {
    Records,
    Alertmanager { resolve_after: SignedDuration },
    Slack,
    Own(Template),
}

impl Body {
    /// Checks the keys about templates, touching neither disk nor network.
    pub(super) fn check(config: &WebhookConfig) -> Result<(), SinkError> {
        let refuse = |key: &str, problem: &str| Err(SinkError::config(key, problem));
        let is_alertmanager = config.template == Some(TemplateName::Alertmanager);
        if config.template.is_some() && config.template_file.is_some() {
            return refuse("template_file", "use either this or `template`, not both");
        }
        if config.template.is_none() && config.template_file.is_none() {
            return match config.link {
                Some(_) => refuse("link", "has no effect without `template` or `template_file`"),
                None => Ok(()),
            };
        }
        if config.format != RecordFormat::Eyewitness {
            return refuse("format", "templates are filled from records of `eyewitness`: leave it out");
        }
        if config.batch_events > 1 && !is_alertmanager {
            return refuse("batch_events", "a template makes one body of one record: write 1, or leave it out");
        }
        if is_alertmanager && !config.types.contains(&Kind::Alert) {
            return refuse("types", "Alertmanager takes alerts alone: write [\"alert\"]");
        }
        let is_told = |kind: &Kind| matches!(kind, Kind::Alert | Kind::Status | Kind::Gap);
        if config.template == Some(TemplateName::Slack) && !config.types.iter().all(is_told) {
            return refuse("types", "`template = \"slack\"` has words for \"alert\", \"status\" and \"gap\" alone");
        }
        if !(1..=LONGEST_RESOLVE_SECS).contains(&config.resolve_after_secs) {
            return Err(SinkError::config("resolve_after_secs", format!("1 to {LONGEST_RESOLVE_SECS}")));
        }
        config.link.as_deref().map_or(Ok(()), check_link)
    }

    /// Reads the user's template, where there is one.
    pub(super) fn from_config(config: &WebhookConfig) -> Result<Self, SinkError> {
        let words = match (&config.template, &config.template_file) {
            (Some(TemplateName::Alertmanager), _) => Words::Alertmanager {
                resolve_after: SignedDuration::from_secs(config.resolve_after_secs.min(LONGEST_RESOLVE_SECS) as i64),
            },
            (Some(TemplateName::Slack), _) => Words::Slack,
            (None, Some(path)) => {
                let text = text_of_file("template_file", path)?;
                let kinds: Vec<&str> = config.types.iter().map(|kind| kind.as_str()).collect();
                let refused = |problem| SinkError::config("template_file", format!("{}, {problem}", path.display()));
                Words::Own(Template::parse(text.trim(), &kinds).map_err(refused)?)
            }
            (None, None) => Words::Records,
        };
        Ok(Self { words, link: config.link.as_deref().map(|link| link.trim_end_matches('/').to_owned()) })
    }

    /// Whether the body is the record itself.
    pub(super) const fn is_record(&self) -> bool {
        matches!(self.words, Words::Records)
    }

    /// Of one record. Fails for a text that is no record.
    pub(super) fn single(&self, payload: &str) -> Result<String, String> {
        Ok(match &self.words {
            Words::Records => payload.to_owned(),
            Words::Alertmanager { .. } => self.batch(&[payload])?,
            Words::Slack => slack::message(&self.record(payload)?).to_string(),
            Words::Own(template) => template.fill(&self.record(payload)?),
        })
    }

    /// Of any number of records: an array.
    pub(super) fn batch(&self, payloads: &[&str]) -> Result<String, String> {
        let Words::Alertmanager { resolve_after } = self.words else {
            return Ok(format!("[{}]", payloads.join(",")));
        };
        let link = self.link.as_deref();
        let alert = |payload: &&str| Ok(alertmanager::alert(&self.record(payload)?, link, resolve_after));
        let alerts: Result<Vec<Value>, String> = payloads.iter().map(alert).collect();
        Ok(Value::from(alerts?).to_string())
    }

    /// The record, with links in the place of the HTTP service's paths.
    fn record(&self, payload: &str) -> Result<Value, String> {
        let mut record: Value = serde_json::from_str(payload).map_err(|error| format!("it is no record: {error}"))?;
        for name in ["snapshot", "clip"] {
            let Some(place) = record.pointer_mut(&format!("/evidence/{name}")) else { continue };
            if let (Some(link), Some(path)) = (&self.link, place.as_str().filter(|path| path.starts_with('/'))) {
                *place = format!("{link}{path}").into();
            }
        }
        Ok(record)
    }
}

/// It is shown to whoever reads the messages.
fn check_link(link: &str) -> Result<(), SinkError> {
    let refuse =
        |problem: &str| Err(SinkError::config("link", format!("{problem}; write something like http://host:8642")));
    let Ok(source) = SourceUrl::parse(link) else { return refuse("is no URL") };
    if !matches!(source.scheme(), "http" | "https") {
        return refuse("is neither `http` nor `https`");
    }
    match reqwest::Url::parse(link) {
        Ok(url) if url.query().is_some() || url.fragment().is_some() => {
            refuse("paths are put behind it: no `?`, no `#`")
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            refuse("stands in every message: no user, no password")
        }
        Ok(_) => Ok(()),
        Err(_) => refuse("is no URL"),
    }
}
