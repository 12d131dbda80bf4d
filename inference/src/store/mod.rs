//! The model store: which models there are, where their weights lie, and how they get there.
//!
//! A folder of `<name>/<file>`, by default `<data folder>/eyewitness/models`. Small models are also part of the program
//! itself, so that it works alone; the store's copy goes before them. Blocks on disk and network: never call it on a
//! Tokio thread. It must never leave a half-written or unchecked file under a model's name.

mod builtin;
mod pull;

use std::{
    borrow::Cow,
    env, fmt, fs,
    io::Read,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

pub use self::pull::{Progress, Pulled};
use crate::{
    InferenceError,
    engine::hex,
    error::suggestion,
    manifest::{Manifest, Task},
    runtime,
};

/// A model that can be loaded.
#[derive(Debug, Clone)]
pub struct Model {
    /// What it is.
    pub manifest: Manifest,
    /// Where its weights are.
    pub weights: Weights,
}

/// Where weights are.
#[derive(Clone)]
pub enum Weights {
    /// In the program.
    Embedded(&'static [u8]),
    /// In a file.
    File(PathBuf),
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(_) => f.write_str("the program itself"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Debug for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Weights({self})")
    }
}

impl Model {
    /// The weights' bytes, not yet checked against the manifest.
    ///
    /// # Errors
    /// [`InferenceError::Io`].
    pub fn read(&self) -> Result<Cow<'static, [u8]>, InferenceError> {
        match &self.weights {
            Weights::Embedded(bytes) => Ok(Cow::Borrowed(bytes)),
            Weights::File(path) => fs::read(path).map(Cow::Owned).map_err(|e| io_error("cannot read", path, e)),
        }
    }
}

/// Whether a model can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Part of the program; the store has no copy.
    Embedded,
    /// In the store, of the right size. The checksum is looked at by `verify` and at every load.
    InStore,
    /// Nowhere; to be pulled.
    Missing,
    /// In the store, but not what the manifest says.
    Corrupt,
}

impl State {
    /// The word for tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::InStore => "in store",
            Self::Missing => "missing",
            Self::Corrupt => "corrupt",
        }
    }
}

/// One line of `eyewitness models list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Name of the model.
    pub name: String,
    /// What it does.
    pub task: Task,
    /// SPDX identifier.
    pub licence: String,
    /// Size of the weights, where the manifest tells it.
    pub bytes: Option<u64>,
    /// Whether it can be used.
    pub state: State,
    /// The file, or where the weights come from when they are missing.
    pub place: String,
}

/// The store and the built-in models.
#[derive(Debug, Clone)]
pub struct ModelStore {
    root: PathBuf,
}

fn io_error(action: &'static str, path: &Path, source: std::io::Error) -> InferenceError {
    InferenceError::Io { action, path: path.to_owned(), source }
}

impl ModelStore {
    /// The store at `$EYEWITNESS_MODELS`, else `$XDG_DATA_HOME/eyewitness/models` (`~/.local/share/eyewitness/models`).
    /// The folder need not exist.
    pub fn open_default() -> Self {
        let named = env::var_os("EYEWITNESS_MODELS").filter(|v| !v.is_empty()).map(PathBuf::from);
        let by_default = || runtime::data_dir().map(|d| d.join("models"));
        Self { root: named.or_else(by_default).unwrap_or_else(|| PathBuf::from("eyewitness-models")) }
    }

    /// A store at a folder, which need not exist.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path_of(&self, manifest: &Manifest) -> PathBuf {
        self.root.join(&manifest.name).join(&manifest.file)
    }

    /// The built-in models and their state.
    pub fn list(&self) -> Vec<Row> {
        let row = |entry: &builtin::Entry| {
            let manifest = &entry.manifest;
            let path = self.path_of(manifest);
            let size = fs::metadata(&path).ok().map(|m| m.len());
            let state = match (size, manifest.bytes) {
                (Some(found), Some(expected)) if found != expected => State::Corrupt,
                (Some(_), _) => State::InStore,
                (None, _) if entry.embedded.is_some() => State::Embedded,
                (None, _) => State::Missing,
            };
            let place = match state {
                State::InStore | State::Corrupt => path.display().to_string(),
                State::Embedded => "in the program".into(),
                State::Missing => manifest.url.clone().unwrap_or_else(|| manifest.origin.clone()),
            };
            let Manifest { name, task, licence, bytes, .. } = manifest.clone();
            Row { name, task, licence, bytes, state, place }
        };
        builtin::entries().iter().map(row).collect()
    }

    /// Finds a model by the name of a built-in one or by the path of a manifest (`.toml`, or anything with a `/`).
    /// A manifest's weights are looked for beside it, then in the store; a built-in model's in the store, then in the
    /// program.
    ///
    /// # Errors
    /// [`InferenceError::UnknownModel`], [`InferenceError::BadManifest`], [`InferenceError::WeightsMissing`].
    pub fn resolve(&self, name_or_manifest: &str) -> Result<Model, InferenceError> {
        let found = self.manifest(name_or_manifest)?;
        let in_store = self.path_of(&found.manifest);
        let mut files = found.beside.iter().chain([&in_store]);
        let weights = match (files.find(|p| p.exists()), found.embedded) {
            (Some(path), _) => Weights::File(path.clone()),
            (None, Some(bytes)) => Weights::Embedded(bytes),
            (None, None) => {
                let looked: Vec<String> =
                    found.beside.iter().chain([&in_store]).map(|p| p.display().to_string()).collect();
                return Err(InferenceError::WeightsMissing {
                    name: name_or_manifest.to_owned(),
                    looked: looked.join(", "),
                    hint: if found.manifest.url.is_some() { "" } else { " --from FILE|DIR|URL" },
                });
            }
        };
        Ok(Model { manifest: found.manifest, weights })
    }

    /// Reads all of a model's weights and compares their checksum.
    ///
    /// # Errors
    /// Those of [`ModelStore::resolve`], [`InferenceError::Io`], and [`InferenceError::WrongChecksum`].
    pub fn verify(&self, name_or_manifest: &str) -> Result<Model, InferenceError> {
        let model = self.resolve(name_or_manifest)?;
        let found = match &model.weights {
            Weights::Embedded(bytes) => hex(&Sha256::digest(bytes)),
            Weights::File(path) => sum_of_file(path)?,
        };
        if found == model.manifest.sha256 {
            return Ok(model);
        }
        Err(InferenceError::WrongChecksum {
            name: model.manifest.name,
            path: model.weights.to_string(),
            expected: model.manifest.sha256,
            found,
        })
    }

    fn manifest(&self, name_or_manifest: &str) -> Result<Found, InferenceError> {
        if name_or_manifest.ends_with(".toml") || name_or_manifest.contains('/') {
            let path = Path::new(name_or_manifest);
            let manifest = Manifest::read(path)?;
            let beside = Some(path.with_file_name(&manifest.file));
            return Ok(Found { manifest, beside, embedded: None });
        }
        let entries = builtin::entries();
        let names = || entries.iter().map(|e| e.manifest.name.as_str());
        match entries.iter().find(|e| e.manifest.name == name_or_manifest) {
            Some(entry) => Ok(Found { manifest: entry.manifest.clone(), beside: None, embedded: entry.embedded }),
            None => Err(InferenceError::UnknownModel {
                name: name_or_manifest.to_owned(),
                suggestion: suggestion(name_or_manifest, names()),
                known: names().collect::<Vec<_>>().join(", "),
            }),
        }
    }
}

/// A manifest and where its weights may be besides the store.
struct Found {
    manifest: Manifest,
    beside: Option<PathBuf>,
    embedded: Option<&'static [u8]>,
}

fn sum_of_file(path: &Path) -> Result<String, InferenceError> {
    let mut file = fs::File::open(path).map_err(|e| io_error("cannot read", path, e))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(n) => hash.update(&buffer[..n]),
            Err(e) => return Err(io_error("cannot read", path, e)),
        }
    }
}

#[cfg(test)]
mod tests;
