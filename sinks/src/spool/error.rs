//! What can go wrong with a spool. Holds texts and paths, never bytes of entries.

use std::{
    io,
    path::{Path, PathBuf},
};

use rusqlite::{ErrorCode, ffi};

/// What went wrong with a spool's files.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Another process, or another sink of this one, has it.
    #[error("{} is in use by another process or another sink: give each its own `spool.path`", directory.display())]
    InUse {
        /// The spool's directory.
        directory: PathBuf,
    },
    /// There is a file of that name, and it is not ours to write. It was not touched.
    #[error("{} {problem}; it was not touched: move it away, or choose another `spool.path`", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        problem: String,
    },
    /// There is no spool to read.
    #[error("{} holds no spool (no spool.db)", directory.display())]
    Missing {
        /// Where we looked.
        directory: PathBuf,
    },
    /// The disk is full. Nothing was half done; the same call works again once there is room.
    #[error("cannot {doing} {}: the disk is full; free some space, or lower `spool.max_bytes`", path.display())]
    DiskFull {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {doing} {}: {cause}{}", path.display(), hint(cause))]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// SQLite refused for a reason that is neither a full disk nor a damaged file.
    #[error("cannot {doing} {}: {cause}{}", path.display(), database_hint(cause))]
    Database {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// In SQLite's words.
        cause: rusqlite::Error,
    },
    /// The file is damaged. Opening the spool for writing saves what can be read.
    #[error("cannot {doing} {}: the file is damaged ({cause})", path.display())]
    Damaged {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
}

impl SpoolError {
    /// Whether room on the disk would help.
    pub const fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }

    /// Whether the file itself is broken.
    pub(super) const fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }

    pub(super) fn damaged(doing: &'static str, path: &Path, cause: impl Into<String>) -> Self {
        Self::Damaged { doing, path: path.to_owned(), cause: cause.into() }
    }
}

/// Sorts an error of the operating system.
pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SpoolError {
    let path = path.to_owned();
    move |cause| match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => SpoolError::DiskFull { doing, path },
        _ => SpoolError::Io { doing, path, cause },
    }
}

/// Sorts an error of SQLite.
pub(super) fn database(doing: &'static str, path: &Path) -> impl FnOnce(rusqlite::Error) -> SpoolError {
    let path = path.to_owned();
    move |cause| {
        if is_full(&cause) {
            SpoolError::DiskFull { doing, path }
        } else if is_damage(&cause) {
            SpoolError::Damaged { doing, path, cause: cause.to_string() }
        } else {
            SpoolError::Database { doing, path, cause }
        }
    }
}

/// Whether room on the disk would help.
pub(crate) fn is_full(cause: &rusqlite::Error) -> bool {
    // No room for the index of the WAL in shared memory.
    const SHMSIZE: i32 = ffi::SQLITE_IOERR_SHMSIZE;
    cause.sqlite_error().is_some_and(|e| e.code == ErrorCode::DiskFull || e.extended_code == SHMSIZE)
}

/// Whether an error says that the file's content is broken: its pages, its tables, or a value of the wrong kind.
pub(crate) fn is_damage(cause: &rusqlite::Error) -> bool {
    use rusqlite::Error;
    match cause {
        Error::SqliteFailure(e, _) => {
            use ErrorCode::{ConstraintViolation, DatabaseCorrupt, NotADatabase, TooBig};
            use ffi::{SQLITE_ERROR, SQLITE_IOERR_CORRUPTFS, SQLITE_IOERR_SHORT_READ};
            // Too big: a length that was hit. Error: a table or column of ours is not there. Short read: the file ends
            // within a page.
            matches!(e.code, DatabaseCorrupt | NotADatabase | ConstraintViolation | TooBig)
                || matches!(e.extended_code, SQLITE_ERROR | SQLITE_IOERR_SHORT_READ | SQLITE_IOERR_CORRUPTFS)
        }
        Error::SqlInputError { .. }
        | Error::InvalidColumnType(..)
        | Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::QueryReturnedNoRows
        | Error::Utf8Error(..) => true,
        _ => false,
    }
}

fn hint(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::PermissionDenied => "; let this user write there, or choose another `spool.path`",
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "; choose another `spool.path`"
        }
        _ => "",
    }
}

fn database_hint(cause: &rusqlite::Error) -> &'static str {
    match cause.sqlite_error_code() {
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            "; let this user read and write the files there, or choose another `spool.path`"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "; another program has the file open",
        _ => "",
    }
}
