//! What attachments mean as profiles and secrets are now. Shared by all who ask, on any thread; nobody waits long.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::RwLock;

use super::{
    attachment::Attachment,
    check::{Profiles, Resolved, check},
    rules,
    secrets::Secrets,
    selectors::profile_for,
};
use crate::config::{BookedRule, CheckedStream, RuleBook};

/// What can change while the service runs.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The profiles.
    pub profiles: Profiles,
    /// The rules.
    pub rules: RuleBook,
    /// The secrets.
    pub secrets: Secrets,
    /// The streams of the configuration file, with their profiles and credentials put in.
    pub streams: BTreeMap<String, CheckedStream>,
}

/// Where a rule of a stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleOrigin {
    /// In `[rules]` of the configuration.
    Configuration,
    /// In the stream's own attachment.
    Attachment,
}

impl RuleOrigin {
    /// Every one of them.
    pub const ALL: [Self; 2] = [Self::Configuration, Self::Attachment];

    /// The word of the HTTP service.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Attachment => "attachment",
        }
    }
}

/// Resolves attachments.
#[derive(Default)]
pub struct Resolver {
    current: RwLock<Arc<Settings>>,
    generation: AtomicU64,
}

impl Resolver {
    /// With the settings of the start.
    pub fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self { current: RwLock::new(Arc::new(settings)), generation: AtomicU64::new(0) })
    }

    /// The settings as they are now.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.current.read())
    }

    /// Takes these from now on.
    pub fn replace(&self, settings: Settings) {
        *self.current.write() = Arc::new(settings);
        self.tell_of_change();
    }

    /// Attachments may mean something else than before: a secret has changed.
    pub fn tell_of_change(&self) {
        self.generation.fetch_add(1, Relaxed);
    }

    /// Grows whenever attachments, and streams of the configuration file, may mean something else than before. Whoever runs
    /// streams then resolves them anew, and restarts those that have come out different.
    pub fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// What an attachment means now. A rule that cannot be meant is left out, and told: nobody is to be blind for it.
    ///
    /// # Errors
    /// As [`check`]. A stream that already runs had better go on as it does: its secret may be on its way.
    pub fn resolve(&self, name: &str, attachment: &Attachment) -> Result<Resolved, Vec<String>> {
        let settings = self.settings();
        let mut resolved = check(name, attachment, &settings.profiles, &settings.secrets)?;
        for wrong in rules::read(&attachment.rules).1 {
            tracing::error!(stream = name, "a rule of its own is left out: {wrong}");
        }
        resolved.stream.rules = self.rules_of(name, attachment).into_iter().map(|(_, entry)| entry.rule).collect();
        Ok(resolved)
    }

    /// Every reason why an attachment cannot be wished now: as [`Self::resolve`], and all that is wrong with its rules.
    ///
    /// # Errors
    /// In words that name the key in backquotes.
    pub fn validate(&self, name: &str, attachment: &Attachment) -> Result<(), Vec<String>> {
        let settings = self.settings();
        let resolved = check(name, attachment, &settings.profiles, &settings.secrets);
        let (read, mut wrong) = rules::read(&attachment.rules);
        match resolved {
            Ok(resolved) => wrong.extend(rules::unfit(&read, &resolved.profile, &resolved.stream.profile)),
            Err(mut others) => {
                others.append(&mut wrong);
                wrong = others;
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    /// The rules that a stream has now, in the order of their names, and where they stand. One of its own takes the place of
    /// the configuration's.
    pub fn rules_of(&self, name: &str, attachment: &Attachment) -> Vec<(RuleOrigin, BookedRule)> {
        let settings = self.settings();
        let (own, _) = rules::read(&attachment.rules);
        let is_own = |entry: &&BookedRule| own.iter().any(|own| own.rule.name() == entry.rule.name());
        let general = settings.rules.entries().iter().filter(|entry| entry.is_for(name, &attachment.tags));
        let general = general.filter(|entry| !is_own(entry)).cloned().map(|entry| (RuleOrigin::Configuration, entry));
        let mut all: Vec<(RuleOrigin, BookedRule)> = general.collect();
        all.extend(own.into_iter().map(|entry| (RuleOrigin::Attachment, entry)));
        all.sort_by(|(_, a), (_, b)| a.rule.name().cmp(b.rule.name()));
        all
    }

    /// Name of the profile that a stream runs or would run; of one that names a profile that there is not, that name.
    pub fn profile(&self, name: &str, attachment: &Attachment) -> String {
        let (settings, explicit) = (self.settings(), attachment.profile.as_deref());
        let chosen = profile_for(name, &attachment.tags, explicit, &settings.profiles);
        chosen.unwrap_or(explicit.unwrap_or_default()).to_owned()
    }
}
