//! Saves what can be read of a damaged database, block by block, into a new one.
//!
//! On the spool's thread. Must never go on for ever, nor take more memory than a block or two, whatever the file holds.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use super::{
    SpoolError,
    block::{Block, MOST_ENTRIES},
    database, error,
};

/// Damaged places after which the rest is given up.
const MOST_PLACES: u32 = 10_000;
/// A hole of more entries than this, beyond those that the file had room for, is no hole but a wrong number.
const MOST_MISSING: u64 = MOST_ENTRIES;

/// What was saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Saved {
    /// Oldest entry.
    pub(super) first: u64,
    /// Number after the last entry.
    pub(super) next: u64,
    /// Entries whose block was readable.
    pub(super) n_kept: u64,
    /// Entries known to be lost: their numbers remain, told as damaged.
    pub(super) n_lost: u64,
}

/// Copies from `old` to `new`. `known`: the numbers that must be there, where somebody knows. None when there is
/// nothing to save.
///
/// # Errors
/// When the new file cannot be written, or the old one cannot be read for a reason that may pass.
pub(super) fn copy(
    old: &Connection,
    path: &Path,
    new: &Connection,
    known: Option<(u64, u64)>,
) -> Result<Option<Saved>, SpoolError> {
    let state = known.or_else(|| database::state(old).ok().flatten());
    let most_missing = database::n_bytes_of(path).max(database::n_bytes_of(&database::beside(path, "-wal"))) / 8;
    let mut copying = Copying {
        new,
        at: state.map(|(first, _)| first),
        most_missing: most_missing + MOST_MISSING,
        saved: Saved { first: 0, next: 0, n_kept: 0, n_lost: 0 },
    };
    let mut from = 0;
    let mut n_places = 0;
    loop {
        match next_row(old, from) {
            Ok(None) => break,
            Ok(Some((key, block))) => {
                from = key.saturating_add(1);
                let Some(block) = block.filter(|block| copying.is_next(block)) else { continue };
                let data = data_of(old, path, key)?;
                copying.block(block, data.as_deref()).map_err(error::database("save entries to", path))?;
                from = database::signed(block.end());
            }
            Err(cause) if error::is_damage(&cause) => {
                n_places += 1;
                match (n_places < MOST_PLACES).then(|| beyond(old, from)).flatten() {
                    Some(next) => from = next,
                    None => break,
                }
            }
            Err(cause) => return Err(error::database("read", path)(cause)),
        }
    }
    let (first, next) = match (state, copying.at) {
        (Some((first, next)), Some(at)) => {
            if next > at && (known.is_some() || next - at <= copying.most_missing) {
                copying.lost(next).map_err(error::database("save entries to", path))?;
            }
            (first, at.max(next))
        }
        (None, Some(at)) => (copying.saved.first, at),
        (_, None) => return Ok(None),
    };
    // What lies beyond a hole too wide to be one was not saved.
    let next = copying.at.unwrap_or(next).max(first);
    let saved = Saved { first, next, ..copying.saved };
    database::set_state(new, saved.first, saved.next).map_err(error::database("save entries to", path))?;
    Ok(Some(saved))
}

struct Copying<'a> {
    new: &'a Connection,
    /// The next number to come; none before the first block when nobody knows.
    at: Option<u64>,
    most_missing: u64,
    saved: Saved,
}

impl Copying<'_> {
    /// Whether a block can follow on what was copied.
    fn is_next(&self, block: &Block) -> bool {
        match self.at {
            None => true,
            // The first one may begin before the oldest entry not let go.
            Some(at) if self.saved.n_kept == 0 && self.saved.n_lost == 0 => {
                block.end() > at && block.first.saturating_sub(at) <= self.most_missing
            }
            Some(at) => block.first >= at && block.first - at <= self.most_missing,
        }
    }

    fn block(&mut self, block: Block, data: Option<&[u8]>) -> rusqlite::Result<()> {
        if self.at.is_none() {
            self.saved.first = block.first;
        }
        if self.at.is_some_and(|at| at < block.first) {
            self.lost(block.first)?;
        }
        match data {
            Some(data) => {
                database::insert(self.new, &block, data)?;
                self.saved.n_kept += block.n_entries;
            }
            None => {
                database::insert(self.new, &block, &[])?;
                self.saved.n_lost += block.n_entries;
            }
        }
        self.at = Some(block.end());
        Ok(())
    }

    /// Writes blocks without data in the place of those that are missing before `end`.
    fn lost(&mut self, end: u64) -> rusqlite::Result<()> {
        while let Some(at) = self.at
            && at < end
        {
            let block = Block::lost(at, (end - at).min(MOST_ENTRIES));
            database::insert(self.new, &block, &[])?;
            self.saved.n_lost += block.n_entries;
            self.at = Some(block.end());
        }
        Ok(())
    }
}

/// The first row from key `from` on.
fn next_row(db: &Connection, from: i64) -> rusqlite::Result<Option<(i64, Option<Block>)>> {
    let query = format!("SELECT {} FROM blocks WHERE first >= ?1 ORDER BY first LIMIT 1", database::COLUMNS);
    let row = db.query_row(&query, [from], database::block).optional()?;
    match row {
        // Out of order: the tree is broken here.
        Some((key, _)) if key < from => Err(rusqlite::Error::QueryReturnedNoRows),
        row => Ok(row),
    }
}

/// The data of a row; none when it is damaged.
fn data_of(db: &Connection, path: &Path, key: i64) -> Result<Option<Vec<u8>>, SpoolError> {
    match db.query_row("SELECT data FROM blocks WHERE first = ?1", [key], |row| row.get(0)) {
        Ok(data) => Ok(Some(data)),
        Err(cause) if error::is_damage(&cause) => Ok(None),
        Err(cause) => Err(error::database("read", path)(cause)),
    }
}

/// A key beyond a damaged place, from which on rows can be read again: the least one, if the place is in one piece.
fn beyond(db: &Connection, damaged: i64) -> Option<i64> {
    let is_broken = |key: i64| next_row(db, key).is_err_and(|cause| error::is_damage(&cause));
    let mut broken = damaged;
    let mut sound = (0..63).map(|k| damaged.saturating_add(1 << k)).find(|&key| {
        let is_sound = !is_broken(key);
        if !is_sound {
            broken = key;
        }
        is_sound
    })?;
    while sound - broken > 1 {
        let middle = broken + (sound - broken) / 2;
        if is_broken(middle) { broken = middle } else { sound = middle }
    }
    Some(sound)
}
