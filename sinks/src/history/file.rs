//! The file: an SQLite database in WAL mode, and what makes it ours. On the caller's thread. Must never write to a file that
//! is not ours, nor throw one away.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

use super::{
    HistoryError,
    error::{database, io as failed},
};
use crate::{
    file::try_lock,
    spool::database::{beside, harden},
};

/// Name of the database in its directory.
const DATABASE: &str = "history.db";
/// What is put after the name of a damaged file. There is one at most: the newest.
const DAMAGED: &str = ".damaged";
/// "EyWh": whose file it is (<https://www.sqlite.org/fileformat.html#application_id>).
const APPLICATION_ID: u32 = 0x4579_5768;
/// Version of the tables.
const VERSION: u32 = 1;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// A writer holds up a reader for moments only, and the other way round.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bytes of a page: some transcripts fit into one.
pub(super) const PAGE: usize = 8192;

/// `transcripts.id` is the moment at which it was said, in milliseconds since 1970, times [`PER_MS`], and a number that tells
/// those of the same moment apart: in order of time, so that the index of words finds a span of time, too. It has the streams' names as well, and beginnings of words:
/// otherwise a search for a common one would look at everything.
const SCHEMA: &str = "
CREATE TABLE transcripts (id INTEGER PRIMARY KEY, event TEXT NOT NULL UNIQUE, stream TEXT NOT NULL, session TEXT NOT NULL,
  start_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL, captured_ms INTEGER, told_ms INTEGER NOT NULL, text TEXT NOT NULL,
  record TEXT NOT NULL) STRICT;
CREATE INDEX transcripts_stream ON transcripts (stream);
CREATE INDEX transcripts_told ON transcripts (told_ms);
CREATE VIRTUAL TABLE words USING fts5 (text, stream, content = 'transcripts', content_rowid = 'id',
  tokenize = 'unicode61 remove_diacritics 2', prefix = '1 2 3');
INSERT INTO words (words, rank) VALUES ('secure-delete', 1);
CREATE TABLE status (id INTEGER PRIMARY KEY, event TEXT NOT NULL UNIQUE, stream TEXT NOT NULL, told_ms INTEGER NOT NULL,
  state TEXT NOT NULL, detail TEXT) STRICT;
CREATE INDEX status_stream ON status (stream, told_ms);
CREATE INDEX status_told ON status (told_ms);
CREATE TABLE gaps (id INTEGER PRIMARY KEY, event TEXT NOT NULL UNIQUE, stream TEXT NOT NULL, from_ms INTEGER NOT NULL,
  told_ms INTEGER NOT NULL, reason TEXT NOT NULL, detail TEXT) STRICT;
CREATE INDEX gaps_stream ON gaps (stream, told_ms);
CREATE INDEX gaps_told ON gaps (told_ms);
CREATE TABLE samples (stream TEXT NOT NULL, told_ms INTEGER NOT NULL, fps REAL, n_frames INTEGER NOT NULL,
  speech_lag_ms INTEGER, drops TEXT NOT NULL, objects TEXT NOT NULL, PRIMARY KEY (stream, told_ms)) STRICT, WITHOUT ROWID;
CREATE INDEX samples_told ON samples (told_ms);
CREATE TABLE audit (id INTEGER PRIMARY KEY, told_ms INTEGER NOT NULL, user TEXT NOT NULL, role TEXT NOT NULL,
  address TEXT NOT NULL, method TEXT NOT NULL, route TEXT NOT NULL, subject TEXT, status INTEGER NOT NULL) STRICT;
CREATE INDEX audit_told ON audit (told_ms);
";

/// Transcripts of one millisecond.
pub(super) const PER_MS: i64 = 1024;

/// The database of a directory.
pub(super) fn path_in(directory: &Path) -> PathBuf {
    directory.join(DATABASE)
}

/// Makes the directory, which is nobody else's to read, and takes it for this process alone.
pub(super) fn lock(directory: &Path) -> Result<File, HistoryError> {
    make(directory).map_err(failed("create directory", directory))?;
    let path = directory.join("lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed("open", &path))?;
    match try_lock(&lock) {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(HistoryError::InUse { directory: directory.to_owned() }),
        Err(TryLockError::Error(cause)) => Err(failed("lock", &path)(cause)),
    }
}

fn make(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// What is at the path.
pub(super) enum Found {
    /// Nothing, or an empty file.
    Nothing,
    /// Ours, sound so far.
    Ours,
    /// No database; why.
    Broken(&'static str),
}

/// Looks at the file without touching it.
pub(super) fn look(path: &Path) -> Result<Found, HistoryError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(cause) => return Err(failed("open", path)(cause)),
    };
    let mut header = [0; 100];
    match file.read_exact(&mut header) {
        Ok(()) => {}
        Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => {
            let n_bytes = file.metadata().map_err(failed("read", path))?.len();
            return Ok(if n_bytes == 0 { Found::Nothing } else { Found::Broken("it is too short for a database") });
        }
        Err(cause) => return Err(failed("read", path)(cause)),
    }
    if &header[..16] != MAGIC {
        return Ok(Found::Broken("it does not begin as a database does"));
    }
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let not_ours = |problem: String| HistoryError::NotOurs { path: path.to_owned(), problem };
    match (number(68), number(60)) {
        (APPLICATION_ID, VERSION) => Ok(Found::Ours),
        (APPLICATION_ID, version) => {
            Err(not_ours(format!("was written by another version of eyewitness (format {version})")))
        }
        _ => Err(not_ours("is a database of another program".into())),
    }
}

/// Gives a damaged file another name, in the place of an earlier one.
pub(super) fn put_aside(path: &Path) -> Result<PathBuf, HistoryError> {
    let aside = beside(path, DAMAGED);
    for suffix in ["-wal", "-shm", ""] {
        let (from, to) = (beside(path, suffix), beside(&aside, suffix));
        remove(&to)?;
        match fs::rename(&from, &to) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(failed("rename", &from)(cause)),
            _ => {}
        }
    }
    Ok(aside)
}

/// Makes an empty database beside `path`, brings it to the disk, and gives it its name: so that what has the name is whole.
pub(super) fn create(directory: &Path, path: &Path) -> Result<(), HistoryError> {
    // A WAL without its database would be poison for the new one.
    for suffix in ["", "-wal", "-shm", "-journal", ".new", ".new-wal", ".new-shm", ".new-journal"] {
        remove(&beside(path, suffix))?;
    }
    let new = beside(path, ".new");
    let fail = || database("create", &new);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let db = Connection::open_with_flags(&new, flags).map_err(fail())?;
    db.execute_batch(&format!(
        "PRAGMA page_size = {PAGE}; PRAGMA auto_vacuum = INCREMENTAL; BEGIN; PRAGMA application_id = {APPLICATION_ID}; \
         PRAGMA user_version = {VERSION}; {SCHEMA} COMMIT;"
    ))
    .map_err(fail())?;
    db.close().map_err(|(_, cause)| fail()(cause))?;
    File::open(&new).and_then(|file| file.sync_all()).map_err(failed("sync", &new))?;
    fs::rename(&new, path).map_err(failed("rename", &new))?;
    if cfg!(unix) {
        File::open(directory).and_then(|dir| dir.sync_all()).map_err(failed("sync", directory))?;
    }
    Ok(())
}

/// Opens it to write.
pub(super) fn connect(path: &Path) -> Result<Connection, HistoryError> {
    let fail = || database("open", path);
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(fail())?;
    harden(&db).map_err(fail())?;
    db.busy_timeout(PATIENCE).map_err(fail())?;
    let mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(fail())?;
    if mode != "wal" {
        let problem = "lies on a file system that cannot share memory (such as NFS)".to_owned();
        return Err(HistoryError::NotOurs { path: path.to_owned(), problem });
    }
    // NORMAL: no crash of the machine breaks the file; the last moments before a power cut may be missing.
    db.execute_batch(
        "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 500; PRAGMA journal_size_limit = 4194304",
    )
    .map_err(fail())?;
    Ok(db)
}

/// Opens it to read.
pub(super) fn connect_read_only(path: &Path) -> Result<Connection, HistoryError> {
    let fail = || database("open", path);
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(fail())?;
    harden(&db).map_err(fail())?;
    db.busy_timeout(PATIENCE).map_err(fail())?;
    Ok(db)
}

/// Size of a file; 0 where there is none.
pub(super) fn n_bytes_of(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

fn remove(path: &Path) -> Result<(), HistoryError> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(failed("delete", path)(cause)),
        _ => Ok(()),
    }
}
