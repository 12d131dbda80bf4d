//! What can go wrong with the history's file. Holds no secret, and nothing of what is kept.

use std::{
    io,
    path::{Path, PathBuf},
};

use rusqlite::{ErrorCode, ffi};

use crate::spool::error::is_full;

/// What went wrong with the history's file.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// Another process has it.
    #[error("{} is in use by another process: give each its own `dir` under [history]", directory.display())]
    InUse {
        /// The directory.
        directory: PathBuf,
    },
    /// There is a file of that name, and it is not ours to write. It was not touched.
    #[error("{} {problem}; it was not touched: move it away, or choose another `dir` under [history]", path.display())]
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
    #[error("cannot {doing} {}: {cause}{}", path.display(), hint(cause))]
    Database {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// In SQLite's words.
        cause: rusqlite::Error,
    },
    /// Somebody stopped the reader.
    #[error("the search was stopped")]
    Stopped,
}

impl HistoryError {
    /// Whether the file itself is broken.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Database { cause, .. } if is_damage(cause))
    }

    /// Whether room on the disk would help.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Database { cause, .. } => is_full(cause),
            Self::Io { cause, .. } => {
                matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }
}

/// Broken pages, or tables that are not as we made them: the file has ours or none, so that no such error is a mistake in
/// our SQL alone.
fn is_damage(cause: &rusqlite::Error) -> bool {
    match cause {
        rusqlite::Error::SqliteFailure(e, _) => {
            matches!(e.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
                || matches!(e.extended_code, ffi::SQLITE_IOERR_SHORT_READ | ffi::SQLITE_IOERR_CORRUPTFS)
        }
        rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::FromSqlConversionFailure(..) => true,
        rusqlite::Error::SqlInputError { error, .. } => error.code == ErrorCode::DatabaseCorrupt,
        _ => false,
    }
}

/// An error of SQLite while reading or writing.
pub(super) fn database(doing: &'static str, path: &Path) -> impl FnOnce(rusqlite::Error) -> HistoryError {
    let path = path.to_owned();
    move |cause| match cause.sqlite_error_code() {
        Some(ErrorCode::OperationInterrupted) => HistoryError::Stopped,
        _ => HistoryError::Database { doing, path, cause },
    }
}

/// An error of the operating system.
pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HistoryError {
    let path = path.to_owned();
    move |cause| HistoryError::Io { doing, path, cause }
}

fn io_hint(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => "; let this user write there, or choose another `dir` under [history]",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free some space",
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "; choose another `dir` under [history]"
        }
        _ => "",
    }
}

fn hint(cause: &rusqlite::Error) -> &'static str {
    match cause.sqlite_error_code() {
        _ if is_full(cause) => "; the disk is full: free some space, or lower `max_bytes` under [history]",
        _ if is_damage(cause) => "; the file is damaged",
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            "; let this user read and write the files there, or choose another `dir` under [history]"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "; another program has the file open",
        _ => "",
    }
}
