//! From what is wished to what is run: the seam to profiles, selectors and secrets. Called on the keeper's thread only.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use inference::rules::Rule;

use crate::{
    config::CheckedStream,
    control::{attachment::Attachment, resolver::Resolver},
};

/// Finds out what an attachment means here and now.
pub trait Resolve: Send {
    /// The name of the profile that the stream runs or would run.
    fn profile(&self, name: &str, attachment: &Attachment) -> String;

    /// The stream, ready to be started.
    ///
    /// # Errors
    /// Why it cannot be run here (no such profile, no such secret, a URL that no source takes), in words.
    fn resolve(&self, name: &str, attachment: &Attachment) -> Result<CheckedStream, String>;

    /// A stream of the configuration file as it is to be run now; none where that cannot have changed.
    fn fixed(&self, _name: &str) -> Option<CheckedStream> {
        None
    }

    /// Grows whenever something may mean something else than before.
    fn generation(&self) -> u64 {
        0
    }
}

impl Resolve for Arc<Resolver> {
    fn profile(&self, name: &str, attachment: &Attachment) -> String {
        Resolver::profile(self, name, attachment)
    }

    fn resolve(&self, name: &str, attachment: &Attachment) -> Result<CheckedStream, String> {
        Resolver::resolve(self, name, attachment).map(|resolved| resolved.stream).map_err(|why| why.join("; "))
    }

    fn fixed(&self, name: &str) -> Option<CheckedStream> {
        self.settings().streams.get(name).cloned()
    }

    fn generation(&self) -> u64 {
        Resolver::generation(self)
    }
}

/// Tells whether two streams are the same to run: equal for equal URLs (with user and password), profiles, tags and ways to
/// connect. Rules are not looked at: they are exchanged while it runs. Means nothing outside this process, and gives nothing
/// away.
pub fn fingerprint(stream: &CheckedStream) -> u64 {
    let mut hash = DefaultHasher::new();
    stream.url.expose().hash(&mut hash);
    stream.tags.hash(&mut hash);
    format!("{:?} {:?}", stream.profile, stream.source).hash(&mut hash);
    hash.finish()
}

/// The same of its rules.
pub fn fingerprint_of_rules(rules: &[Arc<Rule>]) -> u64 {
    let mut hash = DefaultHasher::new();
    for rule in rules {
        format!("{} {:?}", rule.name(), rule.settings()).hash(&mut hash);
    }
    hash.finish()
}
