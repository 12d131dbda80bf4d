//! The queue's own calls: append, make room, read, trim.
//!
//! On the spool's thread. A call that fails has done nothing.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::{
    BITE, LARGEST_ENTRY, MOST_BITE_BYTES, Spool, SpoolError,
    block::{self, Block, Window},
    database, error,
};
use crate::delivery::{Backlog, BacklogError, BacklogReading, Entry};

impl Backlog for Spool {
    fn append(&mut self, entries: &[Vec<u8>]) -> Result<(), BacklogError> {
        let blocks = self.plan(entries)?;
        let n_bytes: u64 = blocks.iter().map(|block| block.n_bytes).sum();
        if self.index.n_bytes().saturating_add(n_bytes) > self.files.max_bytes {
            return Err(self.full());
        }
        if !entries.is_empty() {
            let is_tight = self.index.n_bytes() + self.n_pending_bytes + n_bytes > self.files.max_bytes;
            let deletes = (is_tight && self.first > self.saved_first) || self.is_deletion_due();
            let (first, next) = (self.first, self.next);
            let mut data = Vec::new();
            let mut written = self.write("append to", &mut |db| {
                if deletes {
                    database::delete_below(db, first, next)?;
                }
                insert(db, &blocks, entries, &mut data)
            });
            if first == next && written.as_ref().is_err_and(SpoolError::is_disk_full) {
                // Nothing waits, and yet the files hold all of the disk: new ones are as good, and small.
                self.begin_anew()?;
                written = self.write("append to", &mut |db| insert(db, &blocks, entries, &mut data));
            }
            written?;
            if deletes {
                self.deleted();
            }
            self.appended(&blocks);
        }
        // Kept is kept: trouble with chores is told by `trim`.
        if let Err(error) = self.sync_if_due() {
            tracing::debug!(%error, "cannot sync the spool");
        }
        Ok(())
    }

    fn make_room(
        &mut self,
        n_bytes: u64,
        notice: &mut dyn FnMut(&mut dyn Iterator<Item = Entry<'_>>) -> Vec<Vec<u8>>,
    ) -> Result<(), BacklogError> {
        let max_bytes = self.files.max_bytes;
        if n_bytes > max_bytes {
            return Err(self.full());
        }
        let wanted = (n_bytes + (max_bytes / BITE).min(MOST_BITE_BYTES)).min(max_bytes);
        let (mut cut, mut n_left) = (self.first, self.index.n_bytes());
        let mut windows: BTreeMap<u64, Window> = BTreeMap::new();
        let runs: Vec<Block> = self.index.iter().copied().collect();
        for run in runs {
            if max_bytes.saturating_sub(n_left) >= wanted {
                break;
            }
            let mut at = run.first.max(self.first);
            while at < run.end() {
                let mut window = Window::default();
                self.load(at, &mut window)?;
                let end = window.end();
                windows.insert(at, window);
                at = end;
            }
            (cut, n_left) = (run.end(), n_left - run.n_bytes);
        }
        let notes = notice(&mut windows.iter().flat_map(|(from, window)| window.iter_from(*from)));
        drop(windows);
        let blocks = self.plan(&notes)?;
        let n_note_bytes: u64 = blocks.iter().map(|block| block.n_bytes).sum();
        if n_left + n_note_bytes > max_bytes {
            return Err(self.full());
        }
        let next = self.next;
        let mut data = Vec::new();
        self.write("make room in", &mut |db| {
            database::delete_below(db, cut, next)?;
            insert(db, &blocks, &notes, &mut data)
        })?;
        self.first = cut;
        self.index.pop_below(cut);
        self.deleted();
        self.appended(&blocks);
        Ok(())
    }

    fn read(&mut self, from: u64, max_bytes: usize, each: &mut dyn FnMut(Entry<'_>)) -> Result<(), BacklogError> {
        let mut number = from.max(self.first);
        let mut n_left = max_bytes;
        // Taken out, as `load` needs all of `self`.
        let mut window = std::mem::take(&mut self.window);
        let mut outcome = Ok(());
        while number < self.next {
            if window.get(number).is_none() {
                outcome = self.load(number, &mut window);
                if outcome.is_err() {
                    window.restart(0);
                    break;
                }
            }
            while let Some(entry) = window.get(number) {
                each(entry);
                number += 1;
                n_left = n_left.saturating_sub(entry.bytes.map_or(1, <[u8]>::len).max(1));
                if n_left == 0 {
                    break;
                }
            }
            if n_left == 0 {
                break;
            }
        }
        self.window = window;
        Ok(outcome?)
    }

    fn trim(&mut self, below: u64) -> Result<(), BacklogError> {
        let below = below.min(self.next);
        if below > self.first {
            let n_bytes = self.index.n_bytes();
            self.first = below;
            self.index.pop_below(below);
            self.n_pending_bytes += n_bytes - self.index.n_bytes();
        }
        Ok(self.do_chores()?)
    }

    /// `n_bytes` counts a run of blocks until all of it was let go: 1/4096 of `max_bytes`, or one block.
    fn reading(&self) -> BacklogReading {
        BacklogReading {
            first: self.first,
            next: self.next,
            n_bytes: self.index.n_bytes(),
            max_bytes: self.files.max_bytes,
        }
    }
}

impl Spool {
    fn full(&self) -> BacklogError {
        BacklogError::Full { n_bytes: self.index.n_bytes(), max_bytes: self.files.max_bytes }
    }

    /// Fills `window` with the entries from `number` to the end of its run.
    fn load(&mut self, number: u64, window: &mut Window) -> Result<(), SpoolError> {
        self.database()?;
        let (Some(db), Some(run)) = (&self.db, self.index.find(number)) else {
            window.restart(number);
            window.push_lost(number + 1);
            return Ok(());
        };
        match load_run(db, number, run, window) {
            Err(cause) if !error::is_damage(&cause) => {
                return Err(error::database("read", &self.files.database)(cause));
            }
            Err(cause) => tracing::debug!(path = %self.files.database.display(), %cause, number, "cannot read a block"),
            Ok(()) => {}
        }
        window.push_lost(run.end());
        Ok(())
    }

    fn plan(&self, entries: &[Vec<u8>]) -> Result<Vec<Block>, BacklogError> {
        if entries.iter().any(|entry| entry.len() > LARGEST_ENTRY) {
            return Err(self.full());
        }
        Ok(block::divide(self.next, entries, self.files.block_bytes))
    }

    fn appended(&mut self, blocks: &[Block]) {
        for block in blocks {
            self.index.push(*block);
            self.next = block.end();
        }
    }
}

fn insert(db: &Connection, blocks: &[Block], entries: &[Vec<u8>], data: &mut Vec<u8>) -> rusqlite::Result<()> {
    let mut rest = entries;
    for block in blocks {
        let (mine, others) = rest.split_at(usize::try_from(block.n_entries).unwrap_or(rest.len()).min(rest.len()));
        block::encode(block.first, mine, data);
        database::insert(db, block, data)?;
        rest = others;
    }
    Ok(())
}

/// Reads the rows of a run from the one that holds `number` on, as far as they can be read.
fn load_run(db: &Connection, number: u64, run: Block, window: &mut Window) -> rusqlite::Result<()> {
    window.restart(number);
    let mut query = db.prepare_cached(&format!(
        "SELECT {}, data FROM blocks \
         WHERE first >= (SELECT max(first) FROM blocks WHERE first <= ?1) AND first < ?2 ORDER BY first",
        database::COLUMNS
    ))?;
    let mut rows = query.query([database::signed(number), database::signed(run.end())])?;
    let mut is_first = true;
    while let Some(row) = rows.next()? {
        let Some(block) = database::block(row)?.1 else { continue };
        if is_first && block.first <= number && block.end() > number {
            window.restart(block.first);
        }
        is_first = false;
        if block.first < window.end() || block.end() > run.end() {
            continue;
        }
        window.push_lost(block.first);
        window.push(block.n_entries, row.get_ref(4)?.as_blob().unwrap_or_default());
    }
    Ok(())
}
