//! The list of source kinds: a new source is one new file under `sources/` and one line in here.

/// One kind of source, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceKindInfo {
    /// Its name.
    pub name: &'static str,
    /// URL schemes it takes.
    pub schemes: &'static [&'static str],
    /// A URL to copy.
    pub example: &'static str,
}

/// All kinds, in the order they are looked through.
pub fn source_kinds() -> Vec<SourceKindInfo> {
    Vec::new()
}
