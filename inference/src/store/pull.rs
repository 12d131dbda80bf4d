//! Getting weights into the store: from a file, a folder or an address, through a temporary file that takes the model's
//! name only once its checksum is right and it is safe on disk.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use base::redact::SourceUrl;
use sha2::{Digest, Sha256};

use super::{ModelStore, io_error};
use crate::{
    InferenceError,
    engine::hex,
    manifest::{Manifest, ModelFile},
};

/// How far a pull is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes so far.
    pub done: u64,
    /// Bytes in all, where known.
    pub total: Option<u64>,
}

/// What a pull did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pulled {
    /// Fetched to this file; several files, to this folder.
    Fetched(PathBuf),
    /// This file was there already, and right; several files, in this folder.
    AlreadyThere(PathBuf),
    /// The weights are part of the program; nothing to fetch.
    Embedded,
}

enum Source {
    File(PathBuf),
    Url(SourceUrl),
}

impl ModelStore {
    /// Fetches a model's weights into the store. `from` is a file, a folder that holds the manifest's files, or an
    /// `http(s)://` or `file://` address (for a model of several files, that of the folder); without it the manifest's own
    /// address is taken. A file that is already there and right is left alone. Blocks for as long as the download takes.
    ///
    /// # Errors
    /// Those of [`ModelStore::resolve`] for the name; [`InferenceError::NoSource`], [`InferenceError::SeveralFiles`], [`InferenceError::Fetch`],
    /// [`InferenceError::WrongChecksum`] (nothing is left behind), [`InferenceError::Io`].
    pub fn pull(
        &self,
        name_or_manifest: &str,
        from: Option<&str>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Pulled, InferenceError> {
        let found = self.manifest(name_or_manifest)?;
        let manifest = found.manifest;
        let mut to_fetch = Vec::new();
        for file in &manifest.files {
            let target = self.path_of(&manifest, file);
            if !target.exists() || super::sum_of_file(&target)? != file.sha256 {
                to_fetch.push((file, target));
            }
        }
        let place = match &manifest.files[..] {
            [only] => self.path_of(&manifest, only),
            _ => self.folder_of(&manifest),
        };
        if to_fetch.is_empty() {
            return Ok(Pulled::AlreadyThere(place));
        }
        let embedded = |file: &ModelFile| found.entry.is_some_and(|e| e.embedded(&file.file).is_some());
        if from.is_none() && manifest.url.is_none() && manifest.files.iter().all(embedded) {
            return Ok(Pulled::Embedded);
        }
        let Some(from) = from.or(manifest.url.as_deref()) else {
            let recipe = manifest.recipe.map(|r| format!("make it with `{r}` in a checkout of the source, or "));
            return Err(InferenceError::NoSource {
                name: name_or_manifest.to_owned(),
                file: names(&manifest.files),
                recipe: recipe.unwrap_or_default(),
                origin: manifest.origin,
            });
        };
        let all = Total { bytes: to_fetch.iter().map(|(file, _)| file.bytes).sum(), n_files: to_fetch.len() };
        let mut before = 0;
        for (file, target) in to_fetch {
            let fetch = Fetch { manifest: &manifest, file, target: &target };
            let mut last = 0;
            fetch.run(from, &mut |done, total| {
                last = done;
                let total = if all.n_files == 1 { total.or(all.bytes) } else { all.bytes };
                progress(Progress { done: before + done, total });
            })?;
            before += last;
        }
        Ok(Pulled::Fetched(place))
    }
}

/// What all files to be fetched come to.
struct Total {
    bytes: Option<u64>,
    n_files: usize,
}

fn names(files: &[ModelFile]) -> String {
    files.iter().map(|f| f.file.as_str()).collect::<Vec<_>>().join(", ")
}

/// One file on its way into the store.
struct Fetch<'a> {
    manifest: &'a Manifest,
    file: &'a ModelFile,
    target: &'a Path,
}

impl Fetch<'_> {
    /// Fetches it; `progress` gets the bytes so far and, where known, in all.
    fn run(&self, from: &str, progress: &mut dyn FnMut(u64, Option<u64>)) -> Result<(), InferenceError> {
        match self.source(from)? {
            Source::File(path) => {
                let file = fs::File::open(&path).map_err(|e| self.error(path.display(), e))?;
                let total = file.metadata().ok().map(|m| m.len());
                self.store(&path.display().to_string(), file, total, progress)
            }
            Source::Url(url) => {
                let body = self.get(&url)?;
                let total = body.content_length();
                self.store(&url.to_string(), body, total, progress)
            }
        }
    }

    fn error(&self, from: impl ToString, cause: impl ToString) -> InferenceError {
        InferenceError::Fetch { name: self.manifest.name.clone(), from: from.to_string(), cause: cause.to_string() }
    }

    fn source(&self, from: &str) -> Result<Source, InferenceError> {
        let several = self.manifest.files.len() > 1;
        let path = match from.strip_prefix("file://") {
            Some(path) => PathBuf::from(path),
            None if from.contains("://") => {
                let parse = |text: &str| SourceUrl::parse(text).map_err(|e| self.error("--from", e));
                let url = parse(from)?;
                if !matches!(url.scheme(), "http" | "https") {
                    return Err(self.error(&url, "only http, https and file addresses can be pulled from"));
                }
                // The address of a folder. What follows the path (`?token=...`) stays behind it.
                let end = from.find(['?', '#']).unwrap_or(from.len());
                let (folder, rest) = from.split_at(end);
                let in_folder = format!("{}/{}{rest}", folder.trim_end_matches('/'), self.file.file);
                return Ok(Source::Url(if several { parse(&in_folder)? } else { url }));
            }
            None => PathBuf::from(from),
        };
        if path.is_dir() {
            return Ok(Source::File(path.join(&self.file.file)));
        }
        if several && path.exists() {
            return Err(InferenceError::SeveralFiles {
                name: self.manifest.name.clone(),
                files: names(&self.manifest.files),
                from: path.display().to_string(),
            });
        }
        Ok(Source::File(path))
    }

    fn get(&self, url: &SourceUrl) -> Result<reqwest::blocking::Response, InferenceError> {
        // The whole download may take long on a thin line; only silence is a failure.
        let error = |e: reqwest::Error| self.error(url, url.scrub(&with_causes(&e.without_url())));
        let client = reqwest::blocking::Client::builder()
            .connect_timeout(Duration::from_secs(20))
            .timeout(None)
            .user_agent(concat!("eyewitness/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(error)?;
        client.get(url.expose()).send().and_then(|r| r.error_for_status()).map_err(error)
    }

    /// Writes what `from` gives beside the target, checks it, and renames it.
    fn store(
        &self,
        shown: &str,
        mut from: impl Read,
        total: Option<u64>,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<(), InferenceError> {
        let target = self.target;
        let folder = target.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(|e| io_error("cannot make folder", folder, e))?;
        // Removed when dropped, so every way out before the rename leaves nothing behind.
        let builder = tempfile::Builder::new().prefix(".pull-").tempfile_in(folder);
        let mut temporary = builder.map_err(|e| io_error("cannot write into", folder, e))?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        let mut done = 0;
        loop {
            let n = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(self.error(shown, with_causes(&e))),
            };
            hash.update(&buffer[..n]);
            temporary.write_all(&buffer[..n]).map_err(|e| io_error("cannot write", temporary.path(), e))?;
            done += n as u64;
            progress(done, total);
        }
        let found = hex(&hash.finalize());
        if found != self.file.sha256 {
            let (name, expected) = (self.manifest.name.clone(), self.file.sha256.clone());
            return Err(InferenceError::WrongChecksum { name, path: shown.to_owned(), expected, found });
        }
        temporary.as_file().sync_all().map_err(|e| io_error("cannot write", temporary.path(), e))?;
        readable_by_all(temporary.as_file()).map_err(|e| io_error("cannot write", temporary.path(), e))?;
        temporary.persist(target).map_err(|e| io_error("cannot write", target, e.error))?;
        // The rename itself must survive a power cut too.
        fs::File::open(folder).and_then(|f| f.sync_all()).map_err(|e| io_error("cannot write", folder, e))
    }
}

/// An error with what lies beneath it: reqwest's own text says little.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(c) = cause {
        text = format!("{text}: {c}");
        cause = c.source();
    }
    text
}

/// Temporary files are private; a store may be shared by the users of a machine.
fn readable_by_all(file: &fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}
