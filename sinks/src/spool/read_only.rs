//! A look into a spool from outside, for operators: works while a service writes it, after it ended, and after it was
//! killed.
//!
//! On the caller's thread. Must never change what is in the spool, nor hold up the service: it reads in pieces, and holds
//! nothing open between them. Beside the WAL of a killed process, SQLite makes `spool.db-shm`, an index of the WAL which
//! the next start makes anew; it writes nothing else.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::{
    SpoolError,
    block::{MOST_ENTRIES, Window},
    database::{self, Found, beside},
    error,
    files::DATABASE,
};
use crate::delivery::Entry;

/// What is in a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Contents {
    /// Number of the oldest entry; equal to `next` when it is empty.
    pub first: u64,
    /// Number of the next entry.
    pub next: u64,
    /// Blocks that hold them.
    pub n_blocks: u64,
    /// Bytes of those blocks, as they count against `max_bytes`.
    pub n_bytes: u64,
    /// Size of `spool.db`, in bytes.
    pub database_bytes: u64,
    /// Size of its WAL, in bytes; 0 after a spool was closed.
    pub wal_bytes: u64,
}

/// A spool, open for reading.
#[derive(Debug)]
pub struct ReadOnlySpool {
    path: PathBuf,
    db: Connection,
    /// Opened without a WAL in sight.
    frozen: bool,
}

impl ReadOnlySpool {
    pub(super) fn open(directory: PathBuf) -> Result<Self, SpoolError> {
        let path = directory.join(DATABASE);
        if !path.exists() {
            return Err(SpoolError::Missing { directory });
        }
        match database::look(&path)? {
            Found::Nothing => return Err(SpoolError::Missing { directory }),
            Found::Broken => return Err(SpoolError::damaged("read", &path, "its first page")),
            Found::Spool => {}
        }
        let (db, frozen) = connect(&path)?;
        Ok(Self { path, db, frozen })
    }

    /// Does something with the database, once more if a service began to write it meanwhile.
    fn with<T>(&mut self, mut act: impl FnMut(&Connection) -> rusqlite::Result<T>) -> Result<T, SpoolError> {
        loop {
            let outcome = act(&self.db);
            if self.frozen && has_wal(&self.path) {
                (self.db, self.frozen) = connect(&self.path)?;
                continue;
            }
            return outcome.map_err(error::database("read", &self.path));
        }
    }

    /// Counts what is in it, without reading the entries themselves.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn contents(&mut self) -> Result<Contents, SpoolError> {
        let (state, blocks) = self.with(|db| {
            let sums = "SELECT count(*), coalesce(sum(n_bytes), 0), min(first), max(first + n_entries) FROM blocks";
            let blocks: (u64, u64, Option<u64>, Option<u64>) = db.query_row(sums, [], |row| {
                let number = |at: usize| row.get::<_, i64>(at).ok().and_then(|n| u64::try_from(n).ok());
                Ok((number(0).unwrap_or(0), number(1).unwrap_or(0), number(2), number(3)))
            })?;
            Ok((database::state(db)?, blocks))
        })?;
        let (first, next) = state.unwrap_or_default();
        let (n_blocks, n_bytes, first_block, end) = blocks;
        Ok(Contents {
            first: first.max(first_block.unwrap_or(first)),
            next: next.max(end.unwrap_or(next)),
            n_blocks,
            n_bytes,
            database_bytes: database::n_bytes_of(&self.path),
            wal_bytes: database::n_bytes_of(&beside(&self.path, "-wal")),
        })
    }

    /// Shows entries from number `from` on, in order, up to about `max_bytes` (at least one block when there is any), and
    /// gives the number to go on from; none at the end.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(
        &mut self,
        from: u64,
        max_bytes: usize,
        each: &mut dyn FnMut(Entry<'_>),
    ) -> Result<Option<u64>, SpoolError> {
        let (window, from) = self.with(|db| {
            let from = from.max(database::state(db)?.unwrap_or_default().0);
            Ok((load(db, from, max_bytes)?, from))
        })?;
        for entry in window.iter_from(from) {
            each(entry);
        }
        Ok((window.end() > from).then_some(window.end()))
    }

    /// Reads every entry, and counts those that are damaged.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn count_damaged(&mut self) -> Result<u64, SpoolError> {
        const PIECE: usize = 1024 * 1024;
        let (mut n_damaged, mut at) = (0, Some(0));
        while let Some(from) = at {
            at = self.read(from, PIECE, &mut |entry| n_damaged += u64::from(entry.bytes.is_none()))?;
        }
        Ok(n_damaged)
    }
}

fn has_wal(path: &Path) -> bool {
    beside(path, "-wal").exists()
}

fn connect(path: &Path) -> Result<(Connection, bool), SpoolError> {
    // Without a WAL nobody has it open. To read it in the usual way, SQLite would make a WAL.
    let frozen = !has_wal(path);
    Ok((database::connect_read_only(path, frozen)?, frozen))
}

/// Whole blocks, from the one that holds `from` on.
fn load(db: &Connection, from: u64, max_bytes: usize) -> rusqlite::Result<Window> {
    let mut query = db.prepare(&format!(
        "SELECT {}, data FROM blocks \
         WHERE first >= coalesce((SELECT max(first) FROM blocks WHERE first <= ?1), ?1) ORDER BY first",
        database::COLUMNS
    ))?;
    let mut rows = query.query([database::signed(from)])?;
    let mut window = Window::default();
    let mut n_bytes = 0;
    while n_bytes < max_bytes
        && let Some(row) = rows.next()?
    {
        let Some(block) = database::block(row)?.1 else { continue };
        if block.end() <= from {
            continue;
        }
        if window.end() == 0 {
            window.restart(block.first);
        }
        if block.first < window.end() || block.first - window.end() > MOST_ENTRIES {
            break;
        }
        let data = row.get_ref(4)?.as_blob().unwrap_or_default();
        window.push_lost(block.first);
        window.push(block.n_entries, data);
        n_bytes += data.len();
    }
    Ok(window)
}
