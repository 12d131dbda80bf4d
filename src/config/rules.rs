//! Rules as they are written, and which streams they are for. Plain data; what they mean is in `inference::rules`.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use base::event::Severity;
use inference::rules::{
    Rule,
    config::{Condition, Confirm, Per, RuleError, Settings},
    schedule::Schedule,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    places::Places,
    problem::{Problem, Problems},
};
use crate::control::selectors::Selectors;

/// What of that which is seen and heard somebody is to be told of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// Streams that the rule is for, as in a profile: `{ names = ["gate-*"], tags = [{ key = "Location", values = ["Front"] }]
    /// }`. Default: all streams.
    #[serde(default, skip_serializing_if = "Selectors::is_empty")]
    pub select: Selectors,
    /// When it fires, such as `{ type = "in_zone", zone = [[0.1, 0.5], [0.9, 0.5], [0.9, 1.0], [0.1, 1.0]], for_secs = 3 }`.
    pub when: Condition,
    /// How much it matters. Default: `warning`.
    #[serde(default)]
    pub severity: SeverityConfig,
    /// One line for people, with `{class}`, `{count}`, `{phrase}`, `{term}`, `{direction}`, `{secs}` and `{stream}`. Default:
    /// made from the condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// In how many of the last analysed frames it must be seen before it is believed. What is heard is believed at once: only
    /// words that will not change are listened to. Default: `{ frames = 2, of = 3 }`.
    #[serde(default)]
    pub confirm: Confirm,
    /// Seconds after which what is not seen or heard again is over, up to 86400. Default: 5.
    #[serde(default = "default_close_after_secs")]
    pub close_after_secs: f32,
    /// Seconds after its end in which the same thing opens no alert again, up to 86400. Default: 0.
    #[serde(default)]
    pub cooldown_secs: f32,
    /// Seconds between two records of an alert that goes on and has no news; 0: none but its end. Default: 60.
    #[serde(default = "default_update_every_secs")]
    pub update_every_secs: f32,
    /// What has an alert of its own: every object (`track`) or the stream (`stream`). Default: `track` for conditions about
    /// single objects, otherwise `stream`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per: Option<Per>,
    /// When it holds at all. Default: always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// An expression in CEL that must be true when an alert is about to open, such as `tags.site == "north"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_if: Option<String>,
}

impl RuleConfig {
    /// What it says, but for the streams that it is for.
    pub fn settings(&self) -> Settings {
        Settings {
            when: self.when.clone(),
            severity: match self.severity {
                SeverityConfig::Info => Severity::Info,
                SeverityConfig::Warning => Severity::Warning,
                SeverityConfig::Critical => Severity::Critical,
            },
            summary: self.summary.clone(),
            confirm: self.confirm,
            close_after_secs: self.close_after_secs,
            cooldown_secs: self.cooldown_secs,
            update_every_secs: self.update_every_secs,
            per: self.per,
            schedule: self.schedule.clone(),
            only_if: self.only_if.clone(),
        }
    }
}

/// How much an alert matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SeverityConfig {
    /// Worth knowing.
    Info,
    /// Somebody should look.
    #[default]
    Warning,
    /// Somebody must act now.
    Critical,
}

const fn default_close_after_secs() -> f32 {
    5.0
}

const fn default_update_every_secs() -> f32 {
    60.0
}

/// A rule as it is written, and as it is used.
#[derive(Debug, Clone)]
pub struct BookedRule {
    /// As it is written.
    pub config: RuleConfig,
    /// Checked.
    pub rule: Arc<Rule>,
}

impl BookedRule {
    /// Whether it is for this stream.
    pub fn is_for(&self, stream: &str, tags: &BTreeMap<String, String>) -> bool {
        self.config.select.is_empty() || self.config.select.fit(stream, tags)
    }
}

/// All rules, checked, in the order of their names.
#[derive(Debug, Clone, Default)]
pub struct RuleBook(Vec<BookedRule>);

impl RuleBook {
    /// Those that are for a stream.
    pub fn of(&self, stream: &str, tags: &BTreeMap<String, String>) -> Vec<Arc<Rule>> {
        self.0.iter().filter(|entry| entry.is_for(stream, tags)).map(|entry| Arc::clone(&entry.rule)).collect()
    }

    /// All of them, as they are written.
    pub fn entries(&self) -> &[BookedRule] {
        &self.0
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.0.iter().map(|entry| &entry.rule)
    }
}

/// Checks all rules.
pub(super) fn check(places: &Places<'_>, rules: BTreeMap<String, RuleConfig>, problems: &mut Vec<Problem>) -> RuleBook {
    let mut book = RuleBook::default();
    for (name, rule) in rules {
        let table = ["rules", name.as_str()];
        if !is_name(&name) {
            problems.push(Problem::at(places.of(table), format!("rule `{name}`: {NAMES}")));
        }
        if let Err(e) = rule.select.check() {
            problems.push(Problem::at(places.named(&table, &e), format!("rule `{name}`: {e}")));
        }
        match Rule::new(&name, rule.settings()) {
            Ok(checked) => book.0.push(BookedRule { config: rule, rule: Arc::new(checked) }),
            Err(wrong) => problems.extend(wrong.into_iter().map(|RuleError { key, what }| {
                // A place in a list is a place of the list.
                let known: Vec<&str> = key.split('.').take_while(|part| part.parse::<usize>().is_err()).collect();
                let place = places.of_dotted(&table, &known.join("."));
                Problem::at(place, format!("rule `{name}`: `{key}`: {what}"))
            })),
        }
    }
    book
}

/// What can be a rule's name, in words.
pub(crate) const NAMES: &str = "a name has 1 to 64 letters, digits, `-` or `_`";

/// Whether this can be a rule's name.
pub(crate) fn is_name(name: &str) -> bool {
    let is_good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (1..=64).contains(&name.len()) && name.chars().all(is_good)
}

/// The rules of a file, checked as the configuration is; the rest of the file is not looked at.
///
/// # Errors
/// Everything that is wrong with them, each with its place in the file; when there is none.
pub fn load_rules(path: &Path) -> Result<RuleBook, Problems> {
    let text = std::fs::read_to_string(path).map_err(|e| Problems::unreadable(path, &e))?;
    parse_rules(&path.display().to_string(), &text)
}

/// The same of a text; `origin` is what messages call it.
///
/// # Errors
/// As [`load_rules`].
pub fn parse_rules(origin: &str, text: &str) -> Result<RuleBook, Problems> {
    /// What of the file is read.
    #[derive(Deserialize)]
    struct OnlyRules {
        #[serde(default)]
        rules: BTreeMap<String, RuleConfig>,
    }
    let wrong = |problems| Problems::new(origin, text, problems);
    let OnlyRules { rules } = toml::from_str(text).map_err(|e| wrong(vec![Problem::from_toml(text, &e)]))?;
    if rules.is_empty() {
        return Err(wrong(vec![Problem::at(0..0, "there is no [rules.NAME] in this file".to_owned())]));
    }
    let mut problems = Vec::new();
    let book = check(&Places::read(text), rules, &mut problems);
    if problems.is_empty() { Ok(book) } else { Err(wrong(problems)) }
}
