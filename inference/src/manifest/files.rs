//! The files that hold a model's weights, as its manifest names them.

use schemars::JsonSchema;
use serde::Deserialize;

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// What is in it.
    pub role: Role,
    /// Its name, without folders, e.g. `encoder.onnx`. Beside the manifest or in the store.
    pub file: String,
    /// Its SHA-256, 64 hexadecimal digits.
    pub sha256: String,
    /// Its size in bytes; shown before a download.
    pub bytes: Option<u64>,
}

/// What is in a model's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The whole model: the only file.
    Weights,
    /// Turns sound into features.
    Encoder,
    /// Turns features into words.
    Decoder,
    /// The words' pieces.
    Vocabulary,
}

impl Role {
    /// The word used in manifests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Encoder => "encoder",
            Self::Decoder => "decoder",
            Self::Vocabulary => "vocabulary",
        }
    }
}

impl ModelFile {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.file.is_empty() || self.file.contains(['/', '\\']) || self.file.starts_with('.') {
            return Err(format!("file = {:?}: expected a file name without folders", self.file));
        }
        if self.sha256.len() != 64 || !self.sha256.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')) {
            return Err(format!("sha256 of {}: expected 64 lower-case hexadecimal digits", self.file));
        }
        Ok(())
    }
}

/// Whether these are just the files that are needed.
pub(super) fn check_roles(files: &[ModelFile], needed: &[Role], whose: &str) -> Result<(), String> {
    for file in files {
        file.check()?;
    }
    let mut names: Vec<&str> = files.iter().map(|f| f.file.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|w| w[0] == w[1]) {
        return Err(format!("files: {:?} stands there twice", twice[0]));
    }
    let mut found: Vec<Role> = files.iter().map(|f| f.role).collect();
    found.sort_unstable();
    let mut sorted = needed.to_vec();
    sorted.sort_unstable();
    if found == sorted {
        return Ok(());
    }
    let words = |roles: &[Role]| roles.iter().map(|r| r.as_str()).collect::<Vec<_>>().join(", ");
    Err(match (needed, files) {
        ([Role::Weights], []) => "expected file and sha256".into(),
        ([Role::Weights], _) => format!("{whose} has one file, of role weights; found {}", words(&found)),
        (_, []) => format!("{whose} needs [[files]] of the roles {}", words(needed)),
        _ => format!("{whose} needs [[files]] of the roles {}; found {}", words(needed), words(&found)),
    })
}
