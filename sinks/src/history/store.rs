//! The writer: takes rows, lets go of the oldest. Owned by one thread, and called by that thread only.

use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use base::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    Audit, Doubt, GapRow, HistoryError, Limits, Row, Sample, StatusRow, TranscriptRow,
    error::database,
    file::{self, Found, PER_MS},
    row::signed,
};
use crate::spool::database::beside;

/// Rows of each table that are let go of at once, so that nobody waits for long.
const STEP: i64 = 2000;
/// Pages given back at once.
const PAGES: u32 = 1000;
/// Where the file is too big, this part of its time goes at once.
const SLICE: i64 = 50;
/// What was told so much later than now was told by a clock that was wrong, or is now.
const FUTURE_MS: i64 = 24 * 3_600_000;

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// What was said.
    Transcripts,
    /// Streams' lives.
    Status,
    /// What was not analysed.
    Gaps,
    /// How streams fared.
    Samples,
    /// Who changed what.
    Audit,
}

impl Table {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 5] = [Self::Transcripts, Self::Status, Self::Gaps, Self::Samples, Self::Audit];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Transcripts => "transcripts",
            Self::Status => "status",
            Self::Gaps => "gaps",
            Self::Samples => "samples",
            Self::Audit => "audit",
        }
    }
}

/// How a store was opened.
pub struct Opened {
    /// It.
    pub store: Store,
    /// The file that was there was damaged: under which name it lies now, and what was wrong with it.
    pub put_aside: Option<(PathBuf, String)>,
}

/// What was let go of in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Rows that were too old.
    pub for_age: u64,
    /// Rows that were the oldest of too many bytes.
    pub for_bytes: u64,
    /// There is more to do.
    pub more: bool,
    /// What is too old is not yet let go of, as the clock may be wrong: see [`Doubt`].
    pub waits: bool,
}

/// The file, ours alone.
pub struct Store {
    db: Connection,
    directory: PathBuf,
    path: PathBuf,
    limits: Limits,
    n_rows: [u64; Table::ALL.len()],
    doubt: Doubt,
    lock: File,
}

impl Store {
    /// Opens the file in this directory, or makes it. One that is damaged is put aside, and a new one begun.
    ///
    /// # Errors
    /// When another process has it, what is there is not ours, or the system refuses.
    pub fn open(directory: &Path, limits: Limits) -> Result<Opened, HistoryError> {
        let lock = file::lock(directory)?;
        let path = file::path_in(directory);
        let (cause, lock) = match file::look(&path)? {
            Found::Ours => match Self::begin(directory, &path, limits, lock) {
                Ok(store) => return Ok(Opened { store, put_aside: None }),
                Err((cause, lock)) if cause.is_damage() => (cause.to_string(), lock),
                Err((cause, _)) => return Err(cause),
            },
            Found::Broken(cause) => (cause.to_owned(), lock),
            Found::Nothing => {
                file::create(directory, &path)?;
                let store = Self::begin(directory, &path, limits, lock).map_err(|(cause, _)| cause)?;
                return Ok(Opened { store, put_aside: None });
            }
        };
        Self::anew(directory, limits, lock, cause)
    }

    /// The file has turned out to be damaged: it is put aside, and a new one begun.
    ///
    /// # Errors
    /// When it cannot be renamed, or no new one be made.
    pub fn begin_anew(self, cause: String) -> Result<Opened, HistoryError> {
        let Self { db, directory, limits, lock, .. } = self;
        // What closing says of a damaged file is no news.
        drop(db);
        Self::anew(&directory, limits, lock, cause)
    }

    fn anew(directory: &Path, limits: Limits, lock: File, cause: String) -> Result<Opened, HistoryError> {
        let path = file::path_in(directory);
        let aside = file::put_aside(&path)?;
        file::create(directory, &path)?;
        let store = Self::begin(directory, &path, limits, lock).map_err(|(cause, _)| cause)?;
        Ok(Opened { store, put_aside: Some((aside, cause)) })
    }

    fn begin(directory: &Path, path: &Path, limits: Limits, lock: File) -> Result<Self, (HistoryError, File)> {
        let begin = || {
            let db = file::connect(path)?;
            let count = |table: Table| -> rusqlite::Result<i64> {
                db.query_row(&format!("SELECT count(*) FROM {}", table.as_str()), [], |row| row.get(0))
            };
            let mut n_rows = [0; Table::ALL.len()];
            for (n, table) in n_rows.iter_mut().zip(Table::ALL) {
                *n = u64::try_from(count(table).map_err(database("read", path))?).unwrap_or(0);
            }
            Ok((db, n_rows))
        };
        match begin() {
            Ok((db, n_rows)) => {
                let (directory, path, doubt) = (directory.to_owned(), path.to_owned(), Doubt::default());
                Ok(Self { db, directory, path, limits, n_rows, doubt, lock })
            }
            Err(cause) => Err((cause, lock)),
        }
    }

    /// Writes rows in one transaction. A record that is there already is not written again.
    ///
    /// # Errors
    /// When it cannot be written; then nothing of it was.
    pub fn write(&mut self, rows: &[Row]) -> Result<(), HistoryError> {
        let fail = || database("write", &self.path);
        let transaction = self.db.unchecked_transaction().map_err(fail())?;
        let mut n_new = [0; Table::ALL.len()];
        for row in rows {
            let (table, is_new) = insert(&transaction, row).map_err(fail())?;
            n_new[table as usize] += u64::from(is_new);
        }
        transaction.commit().map_err(fail())?;
        self.n_rows.iter_mut().zip(n_new).for_each(|(n, more)| *n += more);
        Ok(())
    }

    /// Lets go of what is too old, or too much: one step, so that it does not take long. `now` is the wall clock, which may be
    /// wrong; what is too old by it waits where [`Doubt`] says so.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn tidy(&mut self, now: Timestamp, monotonic: Duration) -> Result<Removed, HistoryError> {
        let (now_ms, keep) = (now.as_millisecond(), self.limits.keep);
        let keep_ms = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        let mut removed = Removed::default();
        let oldest = self.span(i64::MIN, i64::MAX)?.map(|(oldest, _)| oldest);
        let mut doubt = self.doubt;
        removed.waits = !doubt.lets_go((now_ms, monotonic), keep, oldest, |until| self.newest_until(until))?;
        self.doubt = doubt;
        if !removed.waits {
            let (n, is_whole) = self.forget(i64::MIN, now_ms.saturating_sub(keep_ms))?;
            (removed.for_age, removed.more) = (n, !is_whole);
        }
        if !removed.more && self.n_used_bytes()? > self.limits.max_bytes {
            // Dates that a wrong clock gave do not make a slice longer, and those of the future are a history of their own:
            // otherwise it would stay, and the present go in its place.
            let future = now_ms.saturating_add(FUTURE_MS);
            for (from, until) in [(i64::MIN, future), (future, i64::MAX)] {
                if let Some((oldest, _)) = self.span(from, until)?
                    && let Some((_, newest)) = self.span(from, until.min(oldest.saturating_add(keep_ms)))?
                {
                    let slice = (newest.saturating_sub(oldest) / SLICE).max(1);
                    removed.for_bytes += self.forget(from, oldest.saturating_add(slice))?.0;
                }
            }
            removed.more = removed.for_bytes > 0;
        }
        self.give_back().map_err(database("tidy up", &self.path))?;
        Ok(removed)
    }

    /// When the oldest and the newest row of those were told that were told at `from` or later, and before `until`.
    fn span(&self, from: i64, until: i64) -> Result<Option<(i64, i64)>, HistoryError> {
        let of = |of: &str| {
            let condition = "WHERE told_ms >= ?1 AND told_ms < ?2";
            let all = Table::ALL.map(|table| format!("SELECT {of}(told_ms) AS at FROM {} {condition}", table.as_str()));
            format!("(SELECT {of}(at) FROM ({}))", all.join(" UNION ALL "))
        };
        let span = format!("SELECT {}, {}", of("min"), of("max"));
        let found = self.db.prepare_cached(&span).and_then(|mut span| {
            span.query_row([from, until], |row| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?)))
        });
        found.map(|(oldest, newest)| oldest.zip(newest)).map_err(database("tidy up", &self.path))
    }

    /// When the newest row of those was told that were told at `until` or earlier.
    fn newest_until(&self, until: i64) -> Result<Option<i64>, HistoryError> {
        Ok(self.span(i64::MIN, until.saturating_add(1))?.map(|(_, newest)| newest))
    }

    /// Gives the disk some of the pages that are free.
    fn give_back(&self) -> rusqlite::Result<()> {
        // One row a page: it has to be run to its end.
        let mut vacuum = self.db.prepare(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
        let mut rows = vacuum.query([])?;
        while rows.next()?.is_some() {}
        Ok(())
    }

    /// Deletes what was told at `from` or later, and before `until`, a step of it; gives how many rows, and whether that was all.
    fn forget(&mut self, from: i64, until: i64) -> Result<(u64, bool), HistoryError> {
        let fail = || database("tidy up", &self.path);
        let transaction = self.db.unchecked_transaction().map_err(fail())?;
        let mut n_gone = [0; Table::ALL.len()];
        for (n, table) in n_gone.iter_mut().zip(Table::ALL) {
            *n = delete(&transaction, table, (from, until)).map_err(fail())?;
        }
        transaction.commit().map_err(fail())?;
        self.n_rows.iter_mut().zip(n_gone).for_each(|(n, gone)| *n = n.saturating_sub(gone));
        Ok((n_gone.iter().sum(), n_gone.iter().all(|n| signed(*n) < STEP)))
    }

    /// Rows of a table.
    pub const fn n_rows(&self, table: Table) -> u64 {
        self.n_rows[table as usize]
    }

    /// Bytes on the disk.
    pub fn n_bytes(&self) -> u64 {
        file::n_bytes_of(&self.path) + file::n_bytes_of(&beside(&self.path, "-wal"))
    }

    /// Bytes in use: without those that the file has free, and what has not yet been moved into it.
    fn n_used_bytes(&self) -> Result<u64, HistoryError> {
        let number = |pragma: &str| -> Result<u64, HistoryError> {
            let n: i64 = self.db.query_row(pragma, [], |row| row.get(0)).map_err(database("read", &self.path))?;
            Ok(u64::try_from(n).unwrap_or(0))
        };
        let n_pages = number("PRAGMA page_count")?.saturating_sub(number("PRAGMA freelist_count")?);
        Ok(n_pages * number("PRAGMA page_size")?)
    }

    #[cfg(test)]
    pub(super) const fn db(&self) -> &Connection {
        &self.db
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn delete(db: &Connection, table: Table, (from, until): (i64, i64)) -> rusqlite::Result<u64> {
    let name = table.as_str();
    let (key, columns, order) = match table {
        Table::Samples => ("(stream, told_ms)", "stream, told_ms", "told_ms, stream"),
        _ => ("id", "id", "told_ms, id"),
    };
    // The same rows each time.
    let some = format!("FROM {name} WHERE told_ms >= ?1 AND told_ms < ?2 ORDER BY {order} LIMIT ?3");
    if table == Table::Transcripts {
        // The index keeps no text: it has to be told what goes.
        let forget = format!("INSERT INTO words (words, rowid, text, stream) SELECT 'delete', id, text, stream {some}");
        db.prepare_cached(&forget)?.execute(params![from, until, STEP])?;
    }
    let n = db
        .prepare_cached(&format!("DELETE FROM {name} WHERE {key} IN (SELECT {columns} {some})"))?
        .execute(params![from, until, STEP])?;
    Ok(n as u64)
}

/// Gives the row's table, and whether it was new.
fn insert(db: &Connection, row: &Row) -> rusqlite::Result<(Table, bool)> {
    Ok(match row {
        Row::Transcript(row) => (Table::Transcripts, transcript(db, row)?),
        Row::Status(StatusRow { id, stream, at_ms, state, detail }) => {
            let insert = "INSERT OR IGNORE INTO status VALUES (NULL, ?1, ?2, ?3, ?4, ?5)";
            let n = db.prepare_cached(insert)?.execute(params![id, stream, at_ms, state, detail])?;
            (Table::Status, n > 0)
        }
        Row::Gap(GapRow { id, stream, from_ms, to_ms, reason, detail }) => {
            let insert = "INSERT OR IGNORE INTO gaps VALUES (NULL, ?1, ?2, ?3, ?4, ?5, ?6)";
            let n = db.prepare_cached(insert)?.execute(params![id, stream, from_ms, to_ms, reason, detail])?;
            (Table::Gaps, n > 0)
        }
        Row::Sample(row) => (Table::Samples, sample(db, row)?),
        Row::Audit(row) => {
            let Audit { at, user, role, address, method, route, subject, status } = row;
            let insert = "INSERT INTO audit VALUES (NULL, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
            let at_ms = at.as_millisecond();
            db.prepare_cached(insert)?.execute(params![at_ms, user, role, address, method, route, subject, status])?;
            (Table::Audit, true)
        }
    })
}

fn transcript(db: &Connection, row: &TranscriptRow) -> rusqlite::Result<bool> {
    let first = row.at_ms().saturating_mul(PER_MS);
    let last = db
        .prepare_cached("SELECT max(id) FROM transcripts WHERE id >= ?1 AND id < ?2")?
        .query_row([first, first.saturating_add(PER_MS)], |found| found.get::<_, Option<i64>>(0))
        .optional()?
        .flatten();
    let id = last.map_or(first, |last| last + 1);
    let insert = "INSERT OR IGNORE INTO transcripts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    let TranscriptRow { id: event, stream, session, start_ms, end_ms, captured_ms, told_ms, text, record } = row;
    let values = params![id, event, stream, session, start_ms, end_ms, captured_ms, told_ms, text, record];
    if db.prepare_cached(insert)?.execute(values)? == 0 {
        return Ok(false);
    }
    db.prepare_cached("INSERT INTO words (rowid, text, stream) VALUES (?1, ?2, ?3)")?
        .execute(params![id, text, stream])?;
    Ok(true)
}

fn sample(db: &Connection, row: &Sample) -> rusqlite::Result<bool> {
    let Sample { stream, at_ms, fps, n_frames, speech_lag_ms, drops, objects } = row;
    // Maps of texts and numbers: JSON can say all of them.
    let (drops, objects) = (serde_json::json!(drops).to_string(), serde_json::json!(objects).to_string());
    let insert = "INSERT OR IGNORE INTO samples VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let values = params![stream, at_ms, fps, signed(*n_frames), speech_lag_ms.map(signed), drops, objects];
    Ok(db.prepare_cached(insert)?.execute(values)? > 0)
}
