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
    secrets::Secrets,
    selectors::profile_for,
};
use crate::config::{CheckedStream, RuleBook};

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

    /// What an attachment means now.
    ///
    /// # Errors
    /// As [`check`]. A stream that already runs had better go on as it does: its secret may be on its way.
    pub fn resolve(&self, name: &str, attachment: &Attachment) -> Result<Resolved, Vec<String>> {
        let settings = self.settings();
        let mut resolved = check(name, attachment, &settings.profiles, &settings.secrets)?;
        resolved.stream.rules = settings.rules.of(name, &attachment.tags);
        Ok(resolved)
    }

    /// Name of the profile that a stream runs or would run; of one that names a profile that there is not, that name.
    pub fn profile(&self, name: &str, attachment: &Attachment) -> String {
        let (settings, explicit) = (self.settings(), attachment.profile.as_deref());
        let chosen = profile_for(name, &attachment.tags, explicit, &settings.profiles);
        chosen.unwrap_or(explicit.unwrap_or_default()).to_owned()
    }
}
