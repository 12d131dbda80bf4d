//! Why a store of the control plane cannot be opened. Holds no secret.

use std::{io, path::PathBuf};

use rusqlite::ErrorCode;

/// What stands between a worker and its store, for good: whatever may pass is told as [`super::News::Trouble`] instead.
#[derive(Debug, thiserror::Error)]
pub enum PlaneError {
    /// Another process has it.
    #[error(
        "{} is in use by another process: end that one, or give this one a directory of its own", directory.display()
    )]
    InUse {
        /// The store's directory.
        directory: PathBuf,
    },
    /// There is a file of that name, and it is not ours to write. It was not touched.
    #[error("{} {problem}; it was not touched: move it away, or choose another directory", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        problem: String,
    },
    /// The operating system refused.
    #[error("cannot {doing} {}: {cause}{}", path.display(), io_hint(cause))]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// SQLite refused, or the file is damaged.
    #[error("cannot {doing} {}: {cause}{}", path.display(), database_hint(cause))]
    Database {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// In SQLite's words.
        cause: rusqlite::Error,
    },
    /// A key of the configuration, or the Kafka client made from it.
    #[error(transparent)]
    Config(#[from] crate::SinkError),
}

fn io_hint(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => "; let this user write there, or choose another directory",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free some space",
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "; choose another directory"
        }
        _ => "",
    }
}

/// What to do about an error of SQLite.
pub(super) fn database_hint(cause: &rusqlite::Error) -> &'static str {
    use crate::spool::error::{is_damage, is_full};
    match cause.sqlite_error_code() {
        _ if is_full(cause) => "; the disk is full: free some space",
        _ if is_damage(cause) => {
            "; the file is damaged: put a copy of it in its place, or move it away and attach the streams again"
        }
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            "; let this user read and write the files there, or choose another directory"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "; another program has the file open",
        _ => "",
    }
}
