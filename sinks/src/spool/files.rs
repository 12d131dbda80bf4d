//! The files of a spool's directory, and what is done to them as a whole: made, locked, saved when damaged, begun anew.
//!
//! On the spool's thread. Every step may be the last one before a crash: the next start finishes it or finds it undone.

use std::{
    fmt,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use base::time::Clock;
use rusqlite::{Connection, OpenFlags};

use super::{
    SpoolError,
    database::{self, Found, beside},
    error,
    index::Index,
    salvage::{self, Saved},
};
use crate::{delivery::Durability, file::try_lock};

/// Name of the database in its directory.
pub(super) const DATABASE: &str = "spool.db";

/// What a spool had to give up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What was wrong.
    pub problem: String,
    /// Entries whose block could be read.
    pub n_kept: u64,
    /// Entries known to be lost. They keep their numbers, and are read as damaged. There may have been more at the end.
    pub n_lost: u64,
    /// Where the damaged file is now. It is kept until the next one.
    pub set_aside: PathBuf,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { problem, n_kept, n_lost, set_aside } = self;
        let set_aside = set_aside.display();
        write!(f, "{problem}: {n_kept} entries were saved, {n_lost} are known to be lost; the file is now {set_aside}")
    }
}

/// An open database.
pub(super) struct Open {
    pub(super) db: Connection,
    pub(super) index: Index,
    /// Oldest entry not let go.
    pub(super) first: u64,
    pub(super) next: u64,
    pub(super) damage: Option<Damage>,
}

/// The directory, locked.
pub(super) struct Files {
    pub(super) directory: PathBuf,
    pub(super) database: PathBuf,
    pub(super) durability: Durability,
    pub(super) max_bytes: u64,
    pub(super) block_bytes: u64,
    pub(super) clock: Arc<dyn Clock>,
    _lock: File,
}

impl Files {
    /// Makes the directory if need be, and locks it.
    pub(super) fn new(
        directory: &Path,
        durability: Durability,
        max_bytes: u64,
        block_bytes: u64,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SpoolError> {
        fs::create_dir_all(directory).map_err(error::io("create directory", directory))?;
        let path = directory.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(error::io("open", &path))?;
        match try_lock(&lock) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SpoolError::InUse { directory: directory.to_owned() }),
            Err(TryLockError::Error(cause)) => return Err(error::io("lock", &path)(cause)),
        }
        let database = directory.join(DATABASE);
        Ok(Self { directory: directory.to_owned(), database, durability, max_bytes, block_bytes, clock, _lock: lock })
    }

    fn new_one(&self) -> PathBuf {
        beside(&self.database, ".new")
    }

    /// A whole database that is to take the damaged one's place.
    fn repaired(&self) -> PathBuf {
        beside(&self.database, ".repaired")
    }

    pub(super) fn wal(&self) -> PathBuf {
        beside(&self.database, "-wal")
    }

    /// Opens what is there, or makes it. `known`: the numbers that must be there, where somebody knows.
    pub(super) fn open(&self, known: Option<(u64, u64)>) -> Result<Open, SpoolError> {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            database::remove(&beside(&self.new_one(), suffix))?;
        }
        if self.repaired().exists() {
            let problem = "a damaged file was repaired, and the process ended before it could say so".to_owned();
            let set_aside = self.replace()?;
            let open = self.connect()?;
            let damage = Some(Damage { problem, n_kept: open.next - open.first, n_lost: 0, set_aside });
            return Ok(Open { damage, ..open });
        }
        match database::look(&self.database)? {
            Found::Nothing => {
                let next = known.map_or(0, |(_, next)| next);
                self.begin(next)
            }
            Found::Broken => self.rescue("its first page is damaged", known),
            Found::Spool => match self.connect() {
                Ok(open) if known.is_none_or(|(first, next)| open.first <= first && open.next == next) => Ok(open),
                Ok(open) => {
                    let _untouched = database::leave_wal(&open.db);
                    drop(open);
                    self.rescue("entries are missing", known)
                }
                Err(SpoolError::Damaged { cause, .. }) => self.rescue(&cause, known),
                Err(error) => Err(error),
            },
        }
    }

    fn connect(&self) -> Result<Open, SpoolError> {
        let db = database::connect(&self.database, self.durability)?;
        match Index::new(self.max_bytes, self.block_bytes).load(&db, &self.database) {
            Ok((index, first, next)) => Ok(Open { db, index, first, next, damage: None }),
            Err(error) => {
                let _untouched = database::leave_wal(&db);
                Err(error)
            }
        }
    }

    /// Deletes the database, in which nothing is left, and makes another.
    pub(super) fn begin(&self, next: u64) -> Result<Open, SpoolError> {
        // A WAL without its database is nothing; beside another database it would be poison.
        for suffix in ["", "-wal", "-shm", "-journal"] {
            database::remove(&beside(&self.database, suffix))?;
        }
        database::create(&self.new_one(), |db| {
            database::set_state(db, next, next).map_err(error::database("write", &self.new_one()))
        })?;
        self.rename(&self.new_one(), &self.database)?;
        database::sync_directory(&self.directory)?;
        self.connect()
    }

    /// Saves what can be read of a damaged database, which nobody has open.
    pub(super) fn rescue(&self, problem: &str, known: Option<(u64, u64)>) -> Result<Open, SpoolError> {
        database::replace_first_page(&self.database, &self.new_one())?;
        let saved = database::create(&self.new_one(), |new| {
            let saved = self.salvage(new, known)?;
            if saved.is_none() {
                // Whoever has it open goes on with its numbers.
                let next = known.map_or(0, |(_, next)| next);
                database::set_state(new, next, next).map_err(error::database("write", &self.new_one()))?;
            }
            Ok(saved)
        })?;
        self.rename(&self.new_one(), &self.repaired())?;
        let set_aside = self.replace()?;
        let (n_kept, n_lost) = saved.map_or((0, 0), |saved| (saved.n_kept, saved.n_lost));
        let open = self.connect()?;
        let damage = Some(Damage { problem: problem.to_owned(), n_kept, n_lost, set_aside });
        Ok(Open { damage, ..open })
    }

    fn salvage(&self, new: &Connection, known: Option<(u64, u64)>) -> Result<Option<Saved>, SpoolError> {
        let old = Connection::open_with_flags(&self.database, OpenFlags::SQLITE_OPEN_READ_WRITE);
        let old = old.map_err(error::database("open", &self.database))?;
        let saved = database::prepare_for_salvage(&old)
            .map_err(error::database("open", &self.database))
            .and_then(|()| salvage::copy(&old, &self.database, new, known));
        match saved {
            Err(error) if error.is_damage() => Ok(None),
            saved => saved,
        }
    }

    /// Puts the repaired database in the damaged one's place.
    fn replace(&self) -> Result<PathBuf, SpoolError> {
        let damaged = format!("{DATABASE}.damaged-");
        for entry in fs::read_dir(&self.directory).map_err(error::io("list", &self.directory))? {
            let path = entry.map_err(error::io("list", &self.directory))?.path();
            let is_older = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&damaged));
            // After a crash in the middle of this, the database may have its new name already.
            if is_older && self.database.exists() {
                database::remove(&path)?;
            }
        }
        let time = format!("{:.0}", self.clock.wall()).replace(':', "-");
        let set_aside = self.directory.join(format!("{damaged}{time}"));
        if self.database.exists() {
            self.rename(&self.database, &set_aside)?;
        }
        if database::n_bytes_of(&self.wal()) == 0 {
            database::remove(&self.wal())?;
        } else {
            self.rename(&self.wal(), &beside(&set_aside, "-wal"))?;
        }
        database::remove(&beside(&self.database, "-shm"))?;
        self.rename(&self.repaired(), &self.database)?;
        database::sync_directory(&self.directory)?;
        Ok(set_aside)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), SpoolError> {
        match fs::rename(from, to) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Err(error::io("rename", from)(cause)),
            outcome => outcome.map_err(error::io("rename", to)),
        }
    }
}
