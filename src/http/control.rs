//! What attaching needs of the rest of the house: seams that are filled in where the service is put together.

use std::{sync::Arc, time::Duration};

use ingest::{ProbeReport, SourceConfig};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::rules::described;
use crate::{
    config::ProfileConfig,
    control::{
        attachment::Attachment,
        desk::{Board, Desk},
        resolver::Resolver,
        selectors::DEFAULT_PROFILE,
    },
};

/// Checks a stream's name and attachment before anybody is asked; every reason why it can never be run. Called on a thread
/// that may wait a little: secrets are files.
pub type Validate = Arc<dyn Fn(&str, &Attachment) -> Result<(), Vec<String>> + Send + Sync>;

/// The rules that a stream with this attachment has now, as they are listed. Called on the service's threads: must be quick.
pub type RulesOf = Arc<dyn Fn(&str, &Attachment) -> Vec<Value> + Send + Sync>;

/// The profiles as they are now. Called on the service's threads: must be quick.
pub type Profiles = Arc<dyn Fn() -> Vec<ProfileShown> + Send + Sync>;

/// What is attached, and the way to change it.
#[derive(Clone)]
pub struct Control {
    /// What is attached and how it is. Without a keeper it stays empty, and the service shows what its feed knows.
    pub board: Arc<Board>,
    /// Takes wishes; none where there is no store to write them into.
    pub desk: Option<Desk>,
    /// Checks wishes.
    pub validate: Validate,
    /// What can be run.
    pub profiles: Profiles,
    /// What somebody is to be told of.
    pub rules: RulesOf,
    /// Tries URLs; none where nobody can.
    pub prober: Option<Arc<dyn Prober>>,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            board: Arc::default(),
            desk: None,
            validate: Arc::new(|_, _| Ok(())),
            profiles: Arc::new(Vec::new),
            rules: Arc::new(|_, _| Vec::new()),
            prober: None,
        }
    }
}

impl Control {
    /// With the keeper's desk, which takes no wishes where there is no store (`attachable`); attachments mean what the
    /// resolver says.
    pub fn new(desk: Desk, attachable: bool, resolver: &Arc<Resolver>, prober: Option<Arc<dyn Prober>>) -> Self {
        let (checks, lists, rules) = (Arc::clone(resolver), Arc::clone(resolver), Arc::clone(resolver));
        Self {
            board: desk.shared_board(),
            desk: attachable.then_some(desk),
            validate: Arc::new(move |name, attachment| checks.validate(name, attachment)),
            profiles: Arc::new(move || {
                let mut profiles = lists.settings().profiles.clone();
                profiles.entry(DEFAULT_PROFILE.to_owned()).or_default();
                profiles.iter().map(|(name, profile)| ProfileShown::new(name, profile)).collect()
            }),
            rules: Arc::new(move |name, attachment| {
                let of_stream = rules.rules_of(name, attachment).into_iter();
                of_stream.map(|(origin, entry)| described(origin, &entry.config, &entry.rule)).collect()
            }),
            prober,
        }
    }
}

/// A profile, as it is listed.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfileShown {
    /// Its name.
    pub name: String,
    /// The detector, if it looks.
    pub detect: Option<String>,
    /// The transcriber, if it listens.
    pub transcribe: Option<String>,
    /// Its selectors as they are configured; `null` without any.
    pub select: serde_json::Value,
}

impl ProfileShown {
    /// What of a profile is listed.
    pub fn new(name: &str, profile: &ProfileConfig) -> Self {
        let select = Some(&profile.select).filter(|select| !select.is_empty());
        Self {
            name: name.to_owned(),
            detect: profile.detector().map(str::to_owned),
            transcribe: profile.transcriber().map(str::to_owned),
            // Selectors are plain data: that they cannot be written does not come.
            select: serde_json::to_value(select).unwrap_or_default(),
        }
    }
}

/// Connects to a source once, to see what it is.
pub trait Prober: Send + Sync {
    /// Blocks for `patience` at most; called on a thread that may wait.
    ///
    /// # Errors
    /// Why the source cannot be played.
    fn probe(&self, wanted: &ProbeRequest, patience: Duration) -> Result<ProbeReport, ProbeFailed>;
}

/// What is to be tried.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeRequest {
    /// Where the media comes from, as in an attachment.
    pub url: String,
    /// Name of the secret with the source's user and password.
    #[serde(default)]
    pub credentials: Option<String>,
    /// How to connect.
    #[serde(default)]
    pub source: SourceConfig,
}

/// Why a source cannot be played, in words that say what to do and hold no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ProbeFailed(pub String);
