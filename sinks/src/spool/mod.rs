//! Entries that wait on disk: a bounded queue in an SQLite database, safe against the end of the process at any moment.
//!
//! A directory holds `spool.db` (with `-wal` and `-shm` while it is open) and `lock`, so that no two processes write one
//! spool. Entries lie in blocks, one row each; an append is one transaction. Owned by one thread, and used by it only.
//! Must never give other bytes for a number than were appended under it, panic or hang on a damaged file, or do half of
//! what it was told.
//!
//! # What holds, and what does not
//! - After the end of the process at any moment (`kill -9`), everything is there that was appended, and nothing else.
//!   What was let go within the last 200 ms or so may be there again.
//! - After a power cut: with [`Durability::Disk`] the same. With the others the last appends may be missing (with
//!   [`Durability::Interval`] those of about a second); what is there is a state in which the spool once was.
//! - A WAL that ends early, or has a damaged place, gives a state in which the spool once was: whatever was committed
//!   behind that place is gone. SQLite cannot tell damage there from a write that the power cut (both end the chain of
//!   checksums, <https://www.sqlite.org/fileformat.html#the_write_ahead_log>), so this loss goes untold. Only if the WAL
//!   was just being moved into the database, what is left may be of two times: then blocks are missing, and told.
//! - A damaged place in an entry costs that entry, told as damaged; in the length of an entry also those behind it in
//!   the same block. In SQLite's own pages it costs the blocks that cannot be reached any more; they are told as damaged
//!   where blocks on both sides are left. At the end of the spool nobody knows how many there were: [`Damage`] says that
//!   the file was damaged. In no case are bytes given that were not appended.
//! - A CRC finds accidents, not intent: whoever may write the file can write entries.

use std::{path::PathBuf, sync::Arc, time::Duration};

use base::time::Clock;
use rusqlite::Connection;

use crate::{
    BuildContext,
    delivery::{Backlog, Durability, SpoolConfig},
};

mod block;
pub(crate) mod database;
pub(crate) mod error;
mod files;
mod index;
mod queue;
mod read_only;
mod salvage;

use block::Window;
pub use error::SpoolError;
pub use files::Damage;
use files::{Files, Open};
use index::Index;
pub use read_only::{Contents, ReadOnlySpool};

/// Blocks have up to so many bytes, fewer in a small spool, and one entry at least.
const BLOCK_BYTES: u64 = 256 * 1024;
/// Larger entries are refused as if the spool were full: SQLite keeps no row over 10^9 bytes.
const LARGEST_ENTRY: usize = 512 * 1024 * 1024;
/// The WAL is moved into the database when it has grown so far, or less in a small spool.
const WAL_BYTES: u64 = 32 * 1024 * 1024;
/// What was let go is deleted when it is so many blocks, or a good part of the spool...
const DELETE_BLOCKS: u64 = 64;
/// ...or so long after the last time.
const DELETE_AFTER: Duration = Duration::from_millis(200);
/// With [`Durability::Interval`], what was appended is brought to the disk after so long.
const SYNC_AFTER: Duration = Duration::from_secs(1);
/// An emptied file larger than this is made small again...
const WORTH_SHRINKING: u64 = 32 * 1024 * 1024;
/// ...so often at most.
const SHRINK_AFTER: Duration = Duration::from_secs(10);
/// Least that making room lets go: this part of the spool, and no more than so many bytes, as they are held in memory.
const BITE: u64 = 20;
const MOST_BITE_BYTES: u64 = 16 * 1024 * 1024;

/// Where and how to keep a spool.
#[derive(Debug, Clone)]
pub struct SpoolOptions {
    /// The spool's own directory; made when missing.
    pub directory: PathBuf,
    /// Most bytes that entries may take, their framing included: 8 bytes an entry, 64 a block.
    pub max_bytes: u64,
    /// How far an entry gets before it counts as kept.
    pub durability: Durability,
    /// Time, for the monotonic distance between chores and for the name of a file set aside.
    pub clock: Arc<dyn Clock>,
}

/// A spool, and what had to be given up to open it.
pub struct Opened {
    /// The spool.
    pub spool: Spool,
    /// Data that was lost, to be told as an error.
    pub damage: Option<Damage>,
}

/// A queue on disk.
pub struct Spool {
    files: Files,
    /// None after it could not be opened again; the next call tries.
    db: Option<Connection>,
    index: Index,
    first: u64,
    next: u64,
    /// Bytes of runs that were let go, and are not yet deleted.
    n_pending_bytes: u64,
    /// `first` as the file says.
    saved_first: u64,
    /// These on the monotonic clock.
    deleted_at: Duration,
    synced_at: Duration,
    shrunk_at: Option<Duration>,
    unsynced: bool,
    window: Window,
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spool").field("database", &self.files.database).field("reading", &self.reading()).finish()
    }
}

impl Spool {
    /// Opens the spool in a directory, or makes one. What an earlier process left is in it.
    ///
    /// # Errors
    /// When another process has it, the file belongs to another program or a newer version (it is then untouched), or
    /// the disk refuses. A damaged file is no error: see [`Opened::damage`].
    pub fn open(options: SpoolOptions) -> Result<Opened, SpoolError> {
        let SpoolOptions { directory, max_bytes, durability, clock } = options;
        let block_bytes = (max_bytes / 64).clamp(4096, BLOCK_BYTES);
        let files = Files::new(&directory, durability, max_bytes, block_bytes, Arc::clone(&clock))?;
        let Open { db, index, first, next, damage } = files.open(None)?;
        let now = clock.monotonic();
        let spool = Self {
            files,
            db: Some(db),
            index,
            first,
            next,
            n_pending_bytes: 0,
            saved_first: first,
            deleted_at: now,
            synced_at: now,
            shrunk_at: None,
            unsynced: false,
            window: Window::default(),
        };
        Ok(Opened { spool, damage })
    }

    /// Opens the spool of the sink called `name`, and tells as an error in the log what had to be given up.
    ///
    /// # Errors
    /// As [`Spool::open`].
    pub fn open_for(name: &str, config: &SpoolConfig, context: &BuildContext) -> Result<Self, SpoolError> {
        let Opened { spool, damage } = Self::open(SpoolOptions {
            directory: config.directory(name),
            max_bytes: config.max_bytes(),
            durability: config.durability,
            clock: Arc::clone(&context.clock),
        })?;
        if let Some(damage) = damage {
            tracing::error!(sink = name, path = %spool.files.database.display(), %damage, "the spool was damaged");
        }
        Ok(spool)
    }

    /// Opens a spool to look at it, while a service uses it or not; changes nothing in it.
    ///
    /// # Errors
    /// When there is none, it is not ours, or it cannot be read.
    pub fn open_read_only(directory: impl Into<PathBuf>) -> Result<ReadOnlySpool, SpoolError> {
        ReadOnlySpool::open(directory.into())
    }

    /// Deletes what was let go, and closes. Dropping it does the same, and keeps quiet about trouble.
    ///
    /// # Errors
    /// When the disk refuses; then entries that were let go may be there again.
    pub fn close(mut self) -> Result<(), SpoolError> {
        self.shut()
    }

    fn shut(&mut self) -> Result<(), SpoolError> {
        if self.db.is_some() && self.first > self.saved_first {
            self.delete()?;
        }
        let Some(db) = self.db.take() else { return Ok(()) };
        let doing = "close";
        db.close().map_err(|(_, cause)| error::database(doing, &self.files.database)(cause))
    }

    fn now(&self) -> Duration {
        self.files.clock.monotonic()
    }

    /// Opens the database again when that failed earlier.
    fn database(&mut self) -> Result<&Connection, SpoolError> {
        let db = match self.db.take() {
            Some(db) => db,
            None => {
                let open = self.files.open(Some((self.first, self.next)))?;
                self.take_up(open)
            }
        };
        Ok(self.db.insert(db))
    }

    fn take_up(&mut self, open: Open) -> Connection {
        let Open { db, index, first, next, damage } = open;
        // A commit that was told as failed may be there after all.
        self.next = self.next.max(next);
        self.index = index;
        self.index.pop_below(self.first);
        self.saved_first = first;
        self.n_pending_bytes = 0;
        if let Some(damage) = damage {
            tracing::error!(path = %self.files.database.display(), %damage, "the spool's file was damaged");
        }
        db
    }

    /// Saves what can be saved of a file that proved to be damaged while in use.
    fn rescue(&mut self, problem: &str) -> Result<(), SpoolError> {
        if let Some(db) = self.db.take() {
            let _untouched = database::leave_wal(&db);
        }
        let open = self.files.rescue(problem, Some((self.first, self.next)))?;
        self.db = Some(self.take_up(open));
        Ok(())
    }

    /// Changes the database in one transaction: all of it happens, or nothing. `change` may be called again.
    fn write(
        &mut self,
        doing: &'static str,
        change: &mut dyn FnMut(&Connection) -> rusqlite::Result<()>,
    ) -> Result<(), SpoolError> {
        let path = self.files.database.clone();
        let mut attempt = |db: &Connection| {
            let roll_back = || if db.is_autocommit() { Ok(()) } else { db.execute_batch("ROLLBACK") };
            // One that could not be rolled back before must not be taken for damage.
            let run = |statement: &str| db.prepare_cached(statement)?.execute([]).map(drop);
            let begun = roll_back().and_then(|()| run("BEGIN IMMEDIATE"));
            let outcome = begun.and_then(|()| change(db)).and_then(|()| run("COMMIT"));
            if outcome.is_err() {
                let _the_first_error_is_told = roll_back();
            }
            outcome.map_err(error::database(doing, &path))
        };
        let mut outcome = attempt(self.database()?);
        match &outcome {
            Err(SpoolError::Damaged { cause, .. }) => {
                let problem = cause.clone();
                self.rescue(&problem)?;
                outcome = attempt(self.database()?);
            }
            // The WAL takes room that it may not need.
            Err(SpoolError::DiskFull { .. }) => {
                let db = self.database()?;
                if database::checkpoint(db).is_ok() {
                    outcome = attempt(db);
                }
            }
            _ => {}
        }
        outcome?;
        self.unsynced = true;
        self.checkpoint_if_due();
        Ok(())
    }

    fn checkpoint_if_due(&mut self) {
        let limit = (self.files.max_bytes / 4).clamp(256 * 1024, WAL_BYTES);
        if database::n_bytes_of(&self.files.wal()) >= limit
            && let Some(db) = &self.db
            && let Err(cause) = database::checkpoint(db)
        {
            // Nothing is lost by it: the WAL grows on, and whatever stands in the way is told when it cannot.
            tracing::debug!(path = %self.files.database.display(), %cause, "cannot move the WAL into the database");
        }
    }

    /// Deletes the blocks that were let go, and notes the place.
    fn delete(&mut self) -> Result<(), SpoolError> {
        let (first, next) = (self.first, self.next);
        self.deleted_at = self.now();
        self.write("delete delivered entries from", &mut |db| database::delete_below(db, first, next))?;
        self.deleted();
        Ok(())
    }

    fn deleted(&mut self) {
        self.saved_first = self.first;
        self.n_pending_bytes = 0;
        self.deleted_at = self.now();
    }

    fn is_deletion_due(&self) -> bool {
        let many = (DELETE_BLOCKS * self.files.block_bytes).min(self.files.max_bytes / 8);
        self.first > self.saved_first
            && (self.n_pending_bytes >= many || self.now().saturating_sub(self.deleted_at) >= DELETE_AFTER)
    }

    /// What falls due now and then.
    fn do_chores(&mut self) -> Result<(), SpoolError> {
        if self.is_deletion_due() {
            match self.delete() {
                Err(error) if error.is_disk_full() && self.first == self.next => {
                    tracing::warn!(%error, "the disk is full and the spool is empty: it begins a new file");
                    self.begin_anew()?;
                }
                // They stay there, which harms nobody.
                Err(error) if error.is_disk_full() => tracing::debug!(%error, "delivered entries stay for now"),
                outcome => outcome?,
            }
            self.shrink_if_worth_it();
        }
        self.sync_if_due()
    }

    /// Takes a new file for the one in which nothing is left.
    fn begin_anew(&mut self) -> Result<(), SpoolError> {
        if let Some(db) = self.db.take() {
            let _nothing_is_left_to_save = database::leave_wal(&db);
        }
        let open = self.files.begin(self.next)?;
        self.db = Some(self.take_up(open));
        Ok(())
    }

    fn shrink_if_worth_it(&mut self) {
        let now = self.now();
        let is_empty = self.first == self.next && self.saved_first == self.first;
        let is_due = self.shrunk_at.is_none_or(|at| now >= at + SHRINK_AFTER);
        if is_empty
            && is_due
            && database::n_bytes_of(&self.files.database) > WORTH_SHRINKING
            && let Some(db) = &self.db
        {
            self.shrunk_at = Some(now);
            if let Err(cause) = db.execute_batch("VACUUM").and_then(|()| database::checkpoint(db)) {
                tracing::debug!(path = %self.files.database.display(), %cause, "cannot make the file smaller");
            }
        }
    }

    fn sync_if_due(&mut self) -> Result<(), SpoolError> {
        let now = self.now();
        if self.files.durability != Durability::Interval
            || !self.unsynced
            || now.saturating_sub(self.synced_at) < SYNC_AFTER
        {
            return Ok(());
        }
        // The database itself is synced whenever the WAL is moved into it.
        let wal = self.files.wal();
        std::fs::File::open(&wal).and_then(|file| file.sync_data()).map_err(error::io("sync", &wal))?;
        self.synced_at = now;
        self.unsynced = false;
        Ok(())
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let _entries_let_go_are_there_again = self.shut();
    }
}

#[cfg(test)]
mod tests;
