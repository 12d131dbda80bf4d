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
use crate::{InferenceError, engine::hex, manifest::Manifest};

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
    /// Fetched to this file.
    Fetched(PathBuf),
    /// This file was there already, and right.
    AlreadyThere(PathBuf),
    /// The weights are part of the program; nothing to fetch.
    Embedded,
}

enum Source {
    File(PathBuf),
    Url(SourceUrl),
}

impl ModelStore {
    /// Fetches a model's weights into the store. `from` is a file, a folder that holds the manifest's file, or an
    /// `http(s)://` or `file://` address; without it the manifest's own address is taken. A file that is already there and
    /// right is left alone. Blocks for as long as the download takes.
    ///
    /// # Errors
    /// Those of [`ModelStore::resolve`] for the name; [`InferenceError::NoSource`], [`InferenceError::Fetch`],
    /// [`InferenceError::WrongChecksum`] (nothing is left behind), [`InferenceError::Io`].
    pub fn pull(
        &self,
        name_or_manifest: &str,
        from: Option<&str>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Pulled, InferenceError> {
        let found = self.manifest(name_or_manifest)?;
        let manifest = found.manifest;
        let target = self.path_of(&manifest);
        if target.exists() && super::sum_of_file(&target)? == manifest.sha256 {
            return Ok(Pulled::AlreadyThere(target));
        }
        if from.is_none() && manifest.url.is_none() && found.embedded.is_some() {
            return Ok(Pulled::Embedded);
        }
        let Some(from) = from.or(manifest.url.as_deref()) else {
            return Err(InferenceError::NoSource {
                name: name_or_manifest.to_owned(),
                file: manifest.file,
                origin: manifest.origin,
            });
        };
        let source = source(&manifest, from)?;
        match &source {
            Source::File(path) => {
                let file = fs::File::open(path).map_err(|e| fetch_error(&manifest, path.display(), e))?;
                let total = file.metadata().ok().map(|m| m.len());
                store(&manifest, &target, &path.display().to_string(), file, total, progress)?;
            }
            Source::Url(url) => {
                let body = get(&manifest, url)?;
                let total = body.content_length();
                store(&manifest, &target, &url.to_string(), body, total, progress)?;
            }
        }
        Ok(Pulled::Fetched(target))
    }
}

fn fetch_error(manifest: &Manifest, from: impl ToString, cause: impl ToString) -> InferenceError {
    InferenceError::Fetch { name: manifest.name.clone(), from: from.to_string(), cause: cause.to_string() }
}

fn source(manifest: &Manifest, from: &str) -> Result<Source, InferenceError> {
    let path = match from.strip_prefix("file://") {
        Some(path) => PathBuf::from(path),
        None if from.contains("://") => {
            let url = SourceUrl::parse(from).map_err(|e| fetch_error(manifest, "--from", e))?;
            if !matches!(url.scheme(), "http" | "https") {
                return Err(fetch_error(manifest, &url, "only http, https and file addresses can be pulled from"));
            }
            return Ok(Source::Url(url));
        }
        None => PathBuf::from(from),
    };
    Ok(Source::File(if path.is_dir() { path.join(&manifest.file) } else { path }))
}

fn get(manifest: &Manifest, url: &SourceUrl) -> Result<reqwest::blocking::Response, InferenceError> {
    // The whole download may take long on a thin line; only silence is a failure.
    let error = |e: reqwest::Error| fetch_error(manifest, url, url.scrub(&with_causes(&e.without_url())));
    let client = reqwest::blocking::Client::builder()
        .connect_timeout(Duration::from_secs(20))
        .timeout(None)
        .user_agent(concat!("eyewitness/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(error)?;
    client.get(url.expose()).send().and_then(|r| r.error_for_status()).map_err(error)
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

/// Writes what `from` gives beside `target`, checks it, and renames it.
fn store(
    manifest: &Manifest,
    target: &Path,
    shown: &str,
    mut from: impl Read,
    total: Option<u64>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), InferenceError> {
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
            Err(e) => return Err(fetch_error(manifest, shown, with_causes(&e))),
        };
        hash.update(&buffer[..n]);
        temporary.write_all(&buffer[..n]).map_err(|e| io_error("cannot write", temporary.path(), e))?;
        done += n as u64;
        progress(Progress { done, total: total.or(manifest.bytes) });
    }
    let found = hex(&hash.finalize());
    if found != manifest.sha256 {
        let (name, expected) = (manifest.name.clone(), manifest.sha256.clone());
        return Err(InferenceError::WrongChecksum { name, path: shown.to_owned(), expected, found });
    }
    temporary.as_file().sync_all().map_err(|e| io_error("cannot write", temporary.path(), e))?;
    readable_by_all(temporary.as_file()).map_err(|e| io_error("cannot write", temporary.path(), e))?;
    temporary.persist(target).map_err(|e| io_error("cannot write", target, e.error))?;
    // The rename itself must survive a power cut too.
    fs::File::open(folder).and_then(|f| f.sync_all()).map_err(|e| io_error("cannot write", folder, e))
}

/// Temporary files are private; a store may be shared by the users of a machine.
fn readable_by_all(file: &fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}
