//! The desired state of a stream, as it is asked for, stored, listed and published. Holds no secret.

use std::collections::BTreeMap;

use ingest::SourceConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::RuleConfig;

/// A stream that is to be run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// Where the media comes from, such as `rtsp://192.0.2.10/stream1` or `https://example.org/live.m3u8`, without user and
    /// password: those belong into a secret.
    pub url: String,
    /// Name of the secret with the source's user and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<String>,
    /// Which profile to run. Default: the one whose selectors fit, else `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Free key-value pairs, written into every event of the stream; selectors look at them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// How much work the stream is, next to others. Workers are given equal shares of the sum, by their capacity.
    /// Default: 1.
    #[serde(default = "one")]
    pub weight: f32,
    /// How to connect.
    #[serde(default)]
    pub source: SourceConfig,
    /// Rules of its own, by name, with the keys of `[rules.NAME]` but `select`: besides those of the configuration that are for
    /// it. One of the same name takes that one's place. They change while the stream goes on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rules: BTreeMap<String, RuleConfig>,
}

/// What is to be changed of an attachment; the rest stays.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Patch {
    /// Tags by name: a text sets one, `null` takes it away.
    pub tags: BTreeMap<String, Option<String>>,
    /// Rules of the stream's own by name: a rule sets one, whole; `null` takes it away.
    pub rules: BTreeMap<String, Option<RuleConfig>>,
}

impl Patch {
    /// Changes an attachment.
    pub fn apply(self, attachment: &mut Attachment) {
        set(&mut attachment.tags, self.tags);
        set(&mut attachment.rules, self.rules);
    }
}

fn set<T>(of: &mut BTreeMap<String, T>, changes: BTreeMap<String, Option<T>>) {
    for (name, value) in changes {
        match value {
            Some(value) => of.insert(name, value),
            None => of.remove(&name),
        };
    }
}

const fn one() -> f32 {
    1.0
}

/// Who asked for an attachment, and alone may change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A request: REST or the command line.
    Api,
    /// A file of the watched folder.
    Folder,
    /// The configuration file. Such a stream is never stored.
    Config,
}

/// An attachment as it lies in the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// What is wished.
    #[serde(flatten)]
    pub attachment: Attachment,
    /// By whom.
    pub origin: Origin,
    /// When it was attached, milliseconds since 1970: a stream that is detached and attached again is another one, whatever its
    /// name. Changes and moves keep it.
    #[serde(default)]
    pub born: u64,
    /// Grows by one with every change. Of two texts for one name, the one born later holds, then the one with more changes.
    pub revision: u64,
    /// Revision at which the URL was last changed: how far a run of an earlier one has come says nothing about this one.
    #[serde(default)]
    pub url_since: u64,
    /// The greatest epoch, of other leases than its own, when the stream was attached: an earlier stream of this name may have
    /// been run under it, and this one must be run under a greater one.
    #[serde(default)]
    pub after: u64,
    /// The stream has moved to this lease; what is written here only says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<u32>,
}

impl Stored {
    /// Of two texts for one name, the one with the greater rank holds.
    pub fn rank(&self) -> (u64, u64) {
        (self.born, self.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YARD: &str =
        "when = { type = 'in_zone', zone = [[0.1, 0.5], [0.9, 0.5], [0.9, 1]], objects = { classes = ['person'] } }";

    #[test]
    fn rules_are_the_same_in_toml_in_json_and_in_the_store() {
        let text = format!("url = 'test://'\n[rules.yard]\n{YARD}\ncooldown_secs = 0.1\nonly_if = 'hour > 5'\n");
        let attachment: Attachment = toml::from_str(&text).expect("toml");
        let json = serde_json::to_string(&attachment).expect("json");
        assert_eq!(serde_json::from_str::<Attachment>(&json).expect("json"), attachment, "{json}");
        assert!(!json.contains("select") && json.contains("0.1") && !json.contains("0.10000000"), "{json}");
        let stored =
            Stored { attachment, origin: Origin::Api, born: 1, revision: 2, url_since: 0, after: 0, moved_to: None };
        let text = serde_json::to_string(&stored).expect("json");
        assert_eq!(serde_json::from_str::<Stored>(&text).expect("json"), stored, "{text}");
        // What was stored before there were rules.
        let before: Stored = serde_json::from_str(r#"{"url":"test://","origin":"api","revision":1}"#).expect("json");
        assert!(before.attachment.rules.is_empty());
        assert!(!serde_json::to_string(&before).expect("json").contains("rules"));
    }

    #[test]
    fn a_patch_changes_what_it_names() {
        let mut attachment: Attachment =
            toml::from_str(&format!("url = 'test://'\ntags = {{ a = '1', b = '2' }}\n[rules.old]\n{YARD}\n"))
                .expect("toml");
        let patch = r#"{"tags":{"a":null,"c":"3"},"rules":{"old":null,"new":{"when":{"type":"appeared"}}}}"#;
        serde_json::from_str::<Patch>(patch).expect("json").apply(&mut attachment);
        assert_eq!(attachment.tags, BTreeMap::from([("b".into(), "2".into()), ("c".into(), "3".into())]));
        assert_eq!(attachment.rules.keys().collect::<Vec<_>>(), ["new"]);
        let before = attachment.clone();
        Patch::default().apply(&mut attachment);
        assert_eq!(attachment, before);
    }
}
