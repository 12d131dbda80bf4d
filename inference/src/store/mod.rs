//! The model store: which models there are, where their weights lie, and how they get there.
//!
//! A folder of `<name>/<file>` (a model may have several files), by default `<data folder>/eyewitness/models`. Small models are also part of the program
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
    manifest::{Manifest, ModelFile, Role, Task},
    runtime,
};

/// A model that can be loaded: all its files are there.
#[derive(Debug, Clone)]
pub struct Model {
    /// What it is.
    pub manifest: Manifest,
    /// Where its weights are, in the order of the manifest's files.
    pub weights: Vec<Weights>,
}

/// Where one file's weights are.
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
    /// The bytes of the file of that role, checked against the manifest.
    ///
    /// # Errors
    /// [`InferenceError::Io`]; [`InferenceError::WrongChecksum`]; [`InferenceError::WrongTask`] for a model that has no such
    /// file.
    pub fn read(&self, role: Role) -> Result<Cow<'static, [u8]>, InferenceError> {
        let named = self.manifest.files.iter().zip(&self.weights).find(|(file, _)| file.role == role);
        let Some((file, weights)) = named else {
            return Err(InferenceError::WrongTask {
                name: self.manifest.name.clone(),
                expected: role.as_str(),
                found: self.manifest.task.as_str(),
            });
        };
        let bytes = match weights {
            Weights::Embedded(bytes) => Cow::Borrowed(*bytes),
            Weights::File(path) => Cow::Owned(fs::read(path).map_err(|e| io_error("cannot read", path, e))?),
        };
        self.compare(file, weights, hex(&Sha256::digest(&bytes)))?;
        Ok(bytes)
    }

    fn compare(&self, file: &ModelFile, weights: &Weights, found: String) -> Result<(), InferenceError> {
        if found == file.sha256 {
            return Ok(());
        }
        let path = match weights {
            Weights::Embedded(_) if self.weights.len() > 1 => format!("{weights} ({})", file.file),
            _ => weights.to_string(),
        };
        let (name, expected) = (self.manifest.name.clone(), file.sha256.clone());
        Err(InferenceError::WrongChecksum { name, path, expected, found })
    }

    /// Where the weights are, for people: each place once.
    pub fn place(&self) -> String {
        let mut places: Vec<String> = Vec::new();
        for weights in &self.weights {
            let place = weights.to_string();
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places.join(", ")
    }
}

/// Whether a model can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Part of the program; the store has no copy of any file.
    Embedded,
    /// In the store, of the right size. The checksum is looked at by `verify` and at every load.
    InStore,
    /// Nowhere, or not all files are there; to be pulled.
    Missing,
    /// In the store, but a file is not what the manifest says.
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
    /// The file (for several, their folder), or where the weights come from when they are missing.
    pub place: String,
    /// The command that makes the weights, for those that no address has.
    pub recipe: Option<String>,
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

    fn folder_of(&self, manifest: &Manifest) -> PathBuf {
        self.root.join(&manifest.name)
    }

    fn path_of(&self, manifest: &Manifest, file: &ModelFile) -> PathBuf {
        self.folder_of(manifest).join(&file.file)
    }

    /// The built-in models and their state.
    pub fn list(&self) -> Vec<Row> {
        builtin::entries().iter().map(|entry| self.row(entry)).collect()
    }

    fn row(&self, entry: &builtin::Entry) -> Row {
        let manifest = &entry.manifest;
        let states: Vec<State> = manifest.files.iter().map(|file| self.state(entry, file)).collect();
        let any = |state| states.contains(&state);
        let state = [State::Corrupt, State::Missing, State::InStore].into_iter().find(|s| any(*s));
        let state = state.unwrap_or(State::Embedded);
        let place = match (state, &manifest.files[..]) {
            (State::InStore | State::Corrupt, [only]) => self.path_of(manifest, only).display().to_string(),
            (State::InStore | State::Corrupt, _) => self.folder_of(manifest).display().to_string(),
            (State::Embedded, _) => "in the program".into(),
            (State::Missing, _) => manifest.url.clone().unwrap_or_else(|| manifest.origin.clone()),
        };
        let (bytes, recipe) = (manifest.bytes(), manifest.recipe.clone());
        let Manifest { name, task, licence, .. } = manifest.clone();
        Row { name, task, licence, bytes, state, place, recipe }
    }

    fn state(&self, entry: &builtin::Entry, file: &ModelFile) -> State {
        let size = fs::metadata(self.path_of(&entry.manifest, file)).ok().map(|m| m.len());
        match (size, file.bytes) {
            (Some(found), Some(expected)) if found != expected => State::Corrupt,
            (Some(_), _) => State::InStore,
            (None, _) if entry.embedded(&file.file).is_some() => State::Embedded,
            (None, _) => State::Missing,
        }
    }

    /// Finds a model by the name of a built-in one or by the path of a manifest (`.toml`, or anything with a `/`).
    /// A manifest's weights are looked for beside it, then in the store; a built-in model's in the store, then in the
    /// program.
    ///
    /// # Errors
    /// [`InferenceError::UnknownModel`], [`InferenceError::BadManifest`], [`InferenceError::WeightsMissing`].
    pub fn resolve(&self, name_or_manifest: &str) -> Result<Model, InferenceError> {
        let found = self.manifest(name_or_manifest)?;
        let manifest = &found.manifest;
        let mut weights = Vec::new();
        let mut missing = Vec::new();
        for file in &manifest.files {
            let beside = found.folder.as_ref().map(|f| f.join(&file.file));
            let paths = beside.into_iter().chain([self.path_of(manifest, file)]);
            let (there, absent): (Vec<PathBuf>, Vec<PathBuf>) = paths.partition(|p| p.exists());
            let embedded = found.entry.and_then(|e| e.embedded(&file.file));
            match (there.into_iter().next(), embedded) {
                (Some(path), _) => weights.push(Weights::File(path)),
                (None, Some(bytes)) => weights.push(Weights::Embedded(bytes)),
                (None, None) => missing.extend(absent.iter().map(|p| p.display().to_string())),
            }
        }
        if missing.is_empty() {
            return Ok(Model { manifest: found.manifest, weights });
        }
        let pull = format!("`eyewitness models pull {name_or_manifest}");
        let remedy = match (&manifest.url, &manifest.recipe) {
            (Some(_), _) => format!("{pull}`"),
            (None, Some(recipe)) => format!("`{recipe}` in a checkout of the source, or {pull} --from FILE|DIR|URL`"),
            (None, None) => format!("{pull} --from FILE|DIR|URL`"),
        };
        Err(InferenceError::WeightsMissing { name: name_or_manifest.to_owned(), looked: missing.join(", "), remedy })
    }

    /// Reads all of a model's weights and compares their checksums.
    ///
    /// # Errors
    /// Those of [`ModelStore::resolve`], [`InferenceError::Io`], and [`InferenceError::WrongChecksum`] of the first wrong file.
    pub fn verify(&self, name_or_manifest: &str) -> Result<Model, InferenceError> {
        let model = self.resolve(name_or_manifest)?;
        for (file, weights) in model.manifest.files.iter().zip(&model.weights) {
            let found = match weights {
                Weights::Embedded(bytes) => hex(&Sha256::digest(bytes)),
                Weights::File(path) => sum_of_file(path)?,
            };
            model.compare(file, weights, found)?;
        }
        Ok(model)
    }

    fn manifest(&self, name_or_manifest: &str) -> Result<Found, InferenceError> {
        if name_or_manifest.ends_with(".toml") || name_or_manifest.contains('/') {
            let path = Path::new(name_or_manifest);
            let manifest = Manifest::read(path)?;
            let folder = Some(path.parent().unwrap_or(Path::new("")).to_owned());
            return Ok(Found { manifest, folder, entry: None });
        }
        let entries = builtin::entries();
        let names = || entries.iter().map(|e| e.manifest.name.as_str());
        match entries.iter().find(|e| e.manifest.name == name_or_manifest) {
            Some(entry) => Ok(Found { manifest: entry.manifest.clone(), folder: None, entry: Some(entry) }),
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
    /// The folder of a manifest that was named by its path.
    folder: Option<PathBuf>,
    /// A built-in model.
    entry: Option<&'static builtin::Entry>,
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
