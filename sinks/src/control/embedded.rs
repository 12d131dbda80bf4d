//! The store of a single worker: an SQLite file in a directory, or nothing but memory. One lease, granted at once.
//!
//! A directory holds `control.db` (with `-wal` and `-shm` while it is open) and `lock`, so that no two processes have one
//! store. Every post is one transaction: after the end of the process at any moment (`kill -9`) it was done whole or not
//! at all, and what was answered is there. After a power cut the same holds for attachments and claims; checkpoints of
//! the last moments may be missing. On the caller's thread. Must never write to a file that is not ours, or give an epoch
//! twice.

use std::{
    collections::VecDeque,
    fs::{self, File, TryLockError},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base::time::Clock;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use super::{News, Plane, PlaneError, Post, error::database_hint};
use crate::{
    file::try_lock,
    spool::database::{beside, harden},
};

#[cfg(test)]
mod tests;

/// Name of the database in its directory.
const DATABASE: &str = "control.db";
/// "EyWc": whose file it is (<https://www.sqlite.org/fileformat.html#application_id>).
const APPLICATION_ID: u32 = 0x4579_5763;
/// Version of the tables.
const VERSION: u32 = 1;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// `claim` has one row at most.
const SCHEMA: &str = "CREATE TABLE attachments (name TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT, WITHOUT ROWID; \
                      CREATE TABLE checkpoints (name TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT, WITHOUT ROWID; \
                      CREATE TABLE claim (id INTEGER PRIMARY KEY CHECK (id = 0), epoch INTEGER NOT NULL, \
                      worker TEXT NOT NULL) STRICT;";
/// The only lease.
const LEASE: u32 = 0;

/// The store of a single worker.
pub struct Embedded {
    /// None: nothing is kept.
    store: Option<Store>,
    /// Number of the last claim.
    epoch: u64,
    clock: Arc<dyn Clock>,
    /// Not yet told. Holds what there was at the start, and then no more than was posted since the last call.
    news: VecDeque<News>,
    /// The last post failed.
    in_trouble: bool,
    left: bool,
}

/// The file, ours alone.
struct Store {
    db: Connection,
    path: PathBuf,
    _lock: File,
}

impl Embedded {
    /// Opens the store in this directory, or makes it.
    ///
    /// # Errors
    /// When another process has it, what is there is not ours or newer than this program, or the system refuses.
    pub fn open(directory: &Path, clock: Arc<dyn Clock>) -> Result<Self, PlaneError> {
        fs::create_dir_all(directory).map_err(io("create directory", directory))?;
        let path = directory.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path).map_err(io("open", &path))?;
        match try_lock(&lock) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(PlaneError::InUse { directory: directory.to_owned() }),
            Err(TryLockError::Error(cause)) => return Err(io("lock", &path)(cause)),
        }
        let path = directory.join(DATABASE);
        if !is_ours(&path)? {
            create(directory, &path)?;
        }
        let db = connect(&path)?;
        let mut embedded = Self { store: Some(Store { db, path, _lock: lock }), ..Self::in_memory(clock) };
        embedded.news.clear();
        embedded.read()?;
        embedded.begin();
        Ok(embedded)
    }

    /// Keeps nothing: for runs that begin anew each time, and for tests.
    pub fn in_memory(clock: Arc<dyn Clock>) -> Self {
        // Greater than those of the process before, whom consumers may remember.
        let epoch = u64::try_from(clock.wall().as_second()).unwrap_or(0);
        let mut embedded = Self { store: None, epoch, clock, news: VecDeque::new(), in_trouble: false, left: false };
        embedded.begin();
        embedded
    }

    fn begin(&mut self) {
        self.news.extend([News::CaughtUp, News::Granted { leases: vec![LEASE] }]);
    }

    /// Tells what the file holds.
    fn read(&mut self) -> Result<(), PlaneError> {
        let Some(store) = &self.store else { return Ok(()) };
        let read = || -> rusqlite::Result<_> {
            let rows = |table: &str| -> rusqlite::Result<Vec<(String, String)>> {
                let mut query = store.db.prepare(&format!("SELECT name, text FROM {table} ORDER BY name"))?;
                query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
            };
            let claim = store.db.query_row("SELECT worker, epoch FROM claim", [], |row| {
                Ok((row.get(0)?, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0)))
            });
            Ok((rows("attachments")?, rows("checkpoints")?, claim.optional()?))
        };
        let (attachments, checkpoints, claim) = read().map_err(database("read", &store.path))?;
        let attachment = |(name, text)| News::Attachment { lease: LEASE, name, text: Some(text) };
        self.news.extend(attachments.into_iter().map(attachment));
        self.news.extend(checkpoints.into_iter().map(|(name, text)| News::Checkpoint { name, text: Some(text) }));
        if let Some((worker, epoch)) = claim {
            self.epoch = epoch;
            self.news.push_back(News::Claimed { lease: LEASE, worker, epoch });
        }
        Ok(())
    }

    /// Writes down; gives what is to be told of it.
    fn write(&mut self, post: Post) -> Result<News, String> {
        match post {
            Post::Attachment { lease, .. } | Post::Claim { lease, .. } if lease != LEASE => {
                Err(format!("there is no lease {lease}: a single worker has one, number {LEASE}"))
            }
            Post::Attachment { lease, name, text } => {
                self.keep(true, |db| set(db, "attachments", &name, text.as_deref()))?;
                Ok(News::Attachment { lease, name, text })
            }
            Post::Checkpoint { name, text } => {
                self.keep(false, |db| set(db, "checkpoints", &name, text.as_deref()))?;
                Ok(News::Checkpoint { name, text })
            }
            // Nobody else is there to read it, and after a restart it is of no use.
            Post::Worker { id, text } => Ok(News::Worker { id, text, at_ms: self.clock.wall().as_millisecond() }),
            Post::Claim { lease, worker } => {
                let epoch = self.epoch + 1;
                let number = i64::try_from(epoch).map_err(|_| "there are no more epochs".to_owned())?;
                let replace = "INSERT OR REPLACE INTO claim VALUES (0, ?1, ?2)";
                self.keep(true, |db| db.execute(replace, params![number, worker]))?;
                self.epoch = epoch;
                Ok(News::Claimed { lease, worker, epoch })
            }
        }
    }

    /// One transaction. `for_good`: it is on the disk before it is answered, so that no power cut takes it back.
    fn keep(&mut self, for_good: bool, write: impl Fn(&Connection) -> rusqlite::Result<usize>) -> Result<(), String> {
        let Some(store) = &self.store else { return Ok(()) };
        let synchronous = if for_good { "FULL" } else { "NORMAL" };
        let written =
            store.db.pragma_update(None, "synchronous", synchronous).and_then(|()| write(&store.db).map(drop));
        match written {
            Ok(()) => {
                if std::mem::take(&mut self.in_trouble) {
                    self.news.push_back(News::Trouble(None));
                }
                Ok(())
            }
            Err(cause) => {
                let problem = format!("cannot write {}: {cause}{}", store.path.display(), database_hint(&cause));
                self.in_trouble = true;
                self.news.push_back(News::Trouble(Some(problem.clone())));
                Err(problem)
            }
        }
    }
}

impl Plane for Embedded {
    fn n_leases(&self) -> u32 {
        1
    }

    fn news(&mut self, patience: Duration, news: &mut Vec<News>) {
        if self.news.is_empty() {
            // Nothing comes but what this thread itself posts.
            std::thread::sleep(patience);
        }
        news.extend(self.news.drain(..));
    }

    fn post(&mut self, ticket: u64, post: Post) {
        let outcome = self.write(post).map(|told| self.news.push_back(told));
        self.news.push_back(News::Posted { ticket, outcome });
    }

    fn leave(&mut self) {
        if !std::mem::replace(&mut self.left, true) {
            self.news.push_back(News::Revoked { leases: vec![LEASE], lost: false });
        }
    }
}

/// Whether our file is there. Touches nothing.
fn is_ours(path: &Path) -> Result<bool, PlaneError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(cause) => return Err(io("open", path)(cause)),
    };
    let not_ours = |problem: String| PlaneError::NotOurs { path: path.to_owned(), problem };
    let mut header = [0; 100];
    match file.read_exact(&mut header) {
        Ok(()) => {}
        Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => {
            let n_bytes = file.metadata().map_err(io("read", path))?.len();
            return if n_bytes == 0 { Ok(false) } else { Err(not_ours("is no store of attachments".into())) };
        }
        Err(cause) => return Err(io("read", path)(cause)),
    }
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if &header[..16] != MAGIC {
        return Err(not_ours("is no store of attachments".into()));
    }
    if number(68) != APPLICATION_ID {
        return Err(not_ours("is a database of another program".into()));
    }
    match number(60) {
        VERSION => Ok(true),
        version => Err(not_ours(format!("was written by a newer version of eyewitness (format {version})"))),
    }
}

/// Makes an empty database beside `path`, brings it to the disk, and gives it its name: so that what has the name is whole.
fn create(directory: &Path, path: &Path) -> Result<(), PlaneError> {
    // A WAL without its database would be poison for the new one.
    for suffix in ["", "-wal", "-shm", "-journal", ".new", ".new-wal", ".new-shm", ".new-journal"] {
        let leftover = beside(path, suffix);
        match fs::remove_file(&leftover) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(io("delete", &leftover)(cause)),
            _ => {}
        }
    }
    let new = beside(path, ".new");
    let fail = || database("create", &new);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let db = Connection::open_with_flags(&new, flags).map_err(fail())?;
    db.execute_batch(&format!(
        "BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; {SCHEMA} COMMIT;"
    ))
    .map_err(fail())?;
    db.close().map_err(|(_, cause)| fail()(cause))?;
    File::open(&new).and_then(|file| file.sync_all()).map_err(io("sync", &new))?;
    fs::rename(&new, path).map_err(io("rename", &new))?;
    if cfg!(unix) {
        File::open(directory).and_then(|dir| dir.sync_all()).map_err(io("sync", directory))?;
    }
    Ok(())
}

fn connect(path: &Path) -> Result<Connection, PlaneError> {
    let fail = || database("open", path);
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(fail())?;
    harden(&db).map_err(fail())?;
    let mode: String = db.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(fail())?;
    if mode != "wal" {
        let problem = "lies on a file system that cannot share memory (such as NFS)".to_owned();
        return Err(PlaneError::NotOurs { path: path.to_owned(), problem });
    }
    Ok(db)
}

fn set(db: &Connection, table: &str, name: &str, text: Option<&str>) -> rusqlite::Result<usize> {
    match text {
        Some(text) => {
            db.prepare_cached(&format!("INSERT OR REPLACE INTO {table} VALUES (?1, ?2)"))?.execute([name, text])
        }
        None => db.prepare_cached(&format!("DELETE FROM {table} WHERE name = ?1"))?.execute([name]),
    }
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PlaneError {
    let path = path.to_owned();
    move |cause| PlaneError::Io { doing, path, cause }
}

fn database(doing: &'static str, path: &Path) -> impl FnOnce(rusqlite::Error) -> PlaneError {
    let path = path.to_owned();
    move |cause| PlaneError::Database { doing, path, cause }
}
