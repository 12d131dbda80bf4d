//! A backlog in memory: bounded, and gone with the process.

use std::collections::VecDeque;

use super::{Backlog, BacklogError, BacklogReading, Entry, Notice};

/// Entries in memory.
pub(crate) struct Memory {
    entries: VecDeque<Vec<u8>>,
    first: u64,
    n_bytes: u64,
    max_bytes: u64,
}

impl Memory {
    pub(crate) fn new(max_bytes: u64) -> Self {
        Self { entries: VecDeque::new(), first: 0, n_bytes: 0, max_bytes }
    }

    fn pop(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.n_bytes -= entry.len() as u64;
            self.first += 1;
        }
    }

    fn push(&mut self, entries: &[Vec<u8>]) {
        self.n_bytes += n_bytes_of(entries);
        self.entries.extend(entries.iter().cloned());
    }

    fn full(&self) -> BacklogError {
        BacklogError::Full { n_bytes: self.n_bytes, max_bytes: self.max_bytes }
    }
}

fn n_bytes_of(entries: &[Vec<u8>]) -> u64 {
    entries.iter().map(|entry| entry.len() as u64).sum()
}

impl Backlog for Memory {
    fn append(&mut self, entries: &[Vec<u8>]) -> Result<(), BacklogError> {
        if self.n_bytes + n_bytes_of(entries) > self.max_bytes {
            return Err(self.full());
        }
        self.push(entries);
        Ok(())
    }

    fn make_room(&mut self, n_bytes: u64, notice: Notice<'_>) -> Result<(), BacklogError> {
        let mut wanted = n_bytes.max(self.max_bytes / 20);
        let (n_gone, notes) = loop {
            let mut n_free = self.max_bytes.saturating_sub(self.n_bytes);
            let mut n_gone = 0;
            for entry in &self.entries {
                if n_free >= wanted {
                    break;
                }
                n_free += entry.len() as u64;
                n_gone += 1;
            }
            let going = self.entries.iter().take(n_gone);
            let notes =
                notice(&mut (self.first..).zip(going).map(|(number, bytes)| Entry { number, bytes: Some(bytes) }));
            // The notices need room as well.
            let n_needed = n_bytes + n_bytes_of(&notes);
            if n_free >= n_needed {
                break (n_gone, notes);
            }
            if n_gone == self.entries.len() {
                return Err(self.full());
            }
            wanted = n_needed.max(wanted * 2);
        };
        for _ in 0..n_gone {
            self.pop();
        }
        self.push(&notes);
        Ok(())
    }

    fn read(&mut self, from: u64, max_bytes: usize, each: &mut dyn FnMut(Entry<'_>)) -> Result<(), BacklogError> {
        let skip = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let mut n_left = max_bytes;
        for (number, bytes) in (self.first..).zip(&self.entries).skip(skip) {
            each(Entry { number, bytes: Some(bytes) });
            n_left = n_left.saturating_sub(bytes.len());
            if n_left == 0 {
                break;
            }
        }
        Ok(())
    }

    fn trim(&mut self, below: u64) -> Result<(), BacklogError> {
        while self.first < below && !self.entries.is_empty() {
            self.pop();
        }
        Ok(())
    }

    fn reading(&self) -> BacklogReading {
        let next = self.first + self.entries.len() as u64;
        BacklogReading { first: self.first, next, n_bytes: self.n_bytes, max_bytes: self.max_bytes }
    }
}
