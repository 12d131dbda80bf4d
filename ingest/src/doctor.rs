//! Looks whether this machine has what streams need. Opens nothing.

/// One line of the doctor's report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked for.
    pub name: String,
    /// Whether it is there.
    pub ok: bool,
    /// What was found, or which package to install.
    pub detail: String,
}

/// Which GStreamer elements and decoders are there, and what to install for those that are not.
pub fn doctor() -> Vec<Check> {
    Vec::new()
}
