//! What a spool remembers of its blocks while it runs: runs of neighbours, so few that memory stays flat whatever the
//! size of the blocks, and enough to name the numbers of a run that the disk no longer gives back.

use std::collections::VecDeque;

use rusqlite::Connection;

use super::{SpoolError, block::Block, database, error};

/// Runs are joined up to this part of the spool, which makes some thousands of runs at most.
const PARTS: u64 = 4096;

/// Runs of blocks, oldest first, without holes.
#[derive(Debug)]
pub(super) struct Index {
    runs: VecDeque<Block>,
    n_bytes: u64,
    join_up_to: u64,
}

impl Index {
    /// An empty one, for a spool of so many bytes whose blocks have up to `block_bytes`.
    pub(super) fn new(max_bytes: u64, block_bytes: u64) -> Self {
        Self { runs: VecDeque::new(), n_bytes: 0, join_up_to: (max_bytes / PARTS).min(block_bytes) }
    }

    /// Reads it from the database. Gives also the oldest entry not let go, and the next number.
    ///
    /// # Errors
    /// [`SpoolError::Damaged`] when anything does not fit together.
    pub(super) fn load(mut self, db: &Connection, path: &std::path::Path) -> Result<(Self, u64, u64), SpoolError> {
        let fail = || error::database("read", path);
        let damaged = |what: &str| SpoolError::damaged("read", path, what);
        let (first, next) =
            database::state(db).map_err(fail())?.ok_or_else(|| damaged("the place of the oldest entry is lost"))?;
        let mut query =
            db.prepare(&format!("SELECT {} FROM blocks ORDER BY first", database::COLUMNS)).map_err(fail())?;
        let mut rows = query.query([]).map_err(fail())?;
        while let Some(row) = rows.next().map_err(fail())? {
            let block = database::block(row).map_err(fail())?.1.ok_or_else(|| damaged("a block has wrong figures"))?;
            let is_next = self.end().map_or(block.first <= first, |end| end == block.first);
            if !is_next {
                return Err(damaged("blocks are missing"));
            }
            self.push(block);
        }
        match self.end() {
            None if first < next => return Err(damaged("blocks are missing")),
            Some(end) if first > end || next > end => return Err(damaged("blocks are missing")),
            _ => {}
        }
        let next = self.end().unwrap_or(next);
        self.pop_below(first);
        Ok((self, first, next))
    }

    /// Number after the last entry; none when there is no block.
    pub(super) fn end(&self) -> Option<u64> {
        self.runs.back().map(Block::end)
    }

    /// Bytes of all blocks.
    pub(super) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// Adds the next block.
    pub(super) fn push(&mut self, block: Block) {
        self.n_bytes += block.n_bytes;
        match self.runs.back_mut() {
            Some(run) if run.n_bytes + block.n_bytes <= self.join_up_to => {
                run.n_entries += block.n_entries;
                run.n_bytes += block.n_bytes;
            }
            _ => self.runs.push_back(block),
        }
    }

    /// Forgets the runs that have nothing from `number` on.
    pub(super) fn pop_below(&mut self, number: u64) {
        while let Some(run) = self.runs.front()
            && run.end() <= number
        {
            self.n_bytes -= run.n_bytes;
            self.runs.pop_front();
        }
    }

    /// The run that holds this number.
    pub(super) fn find(&self, number: u64) -> Option<Block> {
        let at = self.runs.partition_point(|run| run.end() <= number);
        self.runs.get(at).filter(|run| run.first <= number).copied()
    }

    /// All runs.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Block> {
        self.runs.iter()
    }
}
