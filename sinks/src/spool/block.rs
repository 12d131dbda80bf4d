//! How entries lie in a block: one after the other, each with its length and a CRC-32 of its number, length and bytes,
//! all little-endian. So an entry that was altered, moved or swapped is found, and only that one is lost; where a
//! length itself was hit, the rest of the block is.
//!
//! Called on the spool's thread. Must never trust a length, nor give bytes whose CRC does not fit.

use std::ops::Range;

use crate::delivery::Entry;

/// Bytes before each entry: its length and its CRC.
pub(super) const FRAMING: usize = 8;
/// What a block costs beside its entries, rounded up: its row's other columns and its share of an index page.
pub(super) const OVERHEAD: u64 = 64;
/// Entries of a block at most. More are never written, and a row that says so is not one of ours.
pub(super) const MOST_ENTRIES: u64 = 65_536;

/// One row of the table, without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    /// Number of its first entry.
    pub(super) first: u64,
    /// Entries in it.
    pub(super) n_entries: u64,
    /// What it takes of the spool's `max_bytes`.
    pub(super) n_bytes: u64,
}

impl Block {
    /// Number after its last entry.
    pub(super) const fn end(&self) -> u64 {
        self.first + self.n_entries
    }

    /// CRC of the row's columns, so that a row under a wrong number is found.
    pub(super) fn crc(&self) -> u32 {
        crc_of(&[self.first, self.n_entries, self.n_bytes])
    }

    /// Whether these can be the figures of a block.
    pub(super) const fn is_plausible(&self) -> bool {
        self.first < 1 << 62
            && self.n_entries > 0
            && self.n_entries <= MOST_ENTRIES
            && self.n_bytes >= OVERHEAD
            && self.n_bytes < 1 << 32
    }

    /// Stands for entries of which nothing is left.
    pub(super) const fn lost(first: u64, n_entries: u64) -> Self {
        Self { first, n_entries, n_bytes: OVERHEAD + n_entries * FRAMING as u64 }
    }
}

/// CRC-32 of numbers.
pub(super) fn crc_of(numbers: &[u64]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    for number in numbers {
        crc.update(&number.to_le_bytes());
    }
    crc.finalize()
}

fn crc_of_entry(number: u64, bytes: &[u8]) -> u32 {
    let mut head = [0; 16];
    head[..8].copy_from_slice(&number.to_le_bytes());
    head[8..].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&head);
    crc.update(bytes);
    crc.finalize()
}

/// Divides entries into blocks of up to `most` bytes, at least one entry each.
pub(super) fn divide(first: u64, entries: &[Vec<u8>], most: u64) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for (number, entry) in (first..).zip(entries) {
        let n_bytes = (entry.len() + FRAMING) as u64;
        match blocks.last_mut() {
            Some(block) if block.n_bytes + n_bytes <= most && block.n_entries < MOST_ENTRIES => {
                block.n_entries += 1;
                block.n_bytes += n_bytes;
            }
            _ => blocks.push(Block { first: number, n_entries: 1, n_bytes: OVERHEAD + n_bytes }),
        }
    }
    blocks
}

/// Writes entries, the first of which has number `first`, into an emptied `data`.
pub(super) fn encode(first: u64, entries: &[Vec<u8>], data: &mut Vec<u8>) {
    data.clear();
    for (number, entry) in (first..).zip(entries) {
        // `divide` gave no larger ones a plausible block.
        let len = u32::try_from(entry.len()).unwrap_or(u32::MAX);
        data.extend_from_slice(&len.to_le_bytes());
        data.extend_from_slice(&crc_of_entry(number, entry).to_le_bytes());
        data.extend_from_slice(entry);
    }
}

/// Entries in memory, read from the disk and checked. Their numbers are consecutive.
#[derive(Debug, Default)]
pub(super) struct Window {
    first: u64,
    data: Vec<u8>,
    /// Where each entry lies in `data`; none for a damaged one.
    spans: Vec<Option<Range<usize>>>,
}

impl Window {
    /// An empty one that begins at `first`.
    pub(super) fn restart(&mut self, first: u64) {
        const WORTH_KEEPING: usize = 1024 * 1024;
        self.first = first;
        self.data.clear();
        self.data.shrink_to(WORTH_KEEPING);
        self.spans.clear();
    }

    /// Number after the last entry.
    pub(super) fn end(&self) -> u64 {
        self.first + self.spans.len() as u64
    }

    /// Adds the entries of the next block.
    pub(super) fn push(&mut self, n_entries: u64, data: &[u8]) {
        let base = self.data.len();
        self.data.extend_from_slice(data);
        let mut rest = Some(data);
        for number in (self.end()..).take(usize::try_from(n_entries).unwrap_or(usize::MAX)) {
            let taken = rest.and_then(take_entry);
            self.spans.push(taken.as_ref().and_then(|taken| {
                let start = base + data.len() - taken.rest.len() - taken.bytes.len();
                (taken.crc == crc_of_entry(number, taken.bytes)).then(|| start..start + taken.bytes.len())
            }));
            rest = taken.map(|taken| taken.rest);
        }
    }

    /// Tells all numbers up to `end` as damaged.
    pub(super) fn push_lost(&mut self, end: u64) {
        let n_lost = usize::try_from(end.saturating_sub(self.end())).unwrap_or(usize::MAX);
        self.spans.extend(std::iter::repeat_n(None, n_lost));
    }

    /// The entry of that number, if it is in here.
    pub(super) fn get(&self, number: u64) -> Option<Entry<'_>> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let span = self.spans.get(at)?;
        Some(Entry { number, bytes: span.clone().and_then(|span| self.data.get(span)) })
    }

    /// All its entries from `from` on.
    pub(super) fn iter_from(&self, from: u64) -> impl Iterator<Item = Entry<'_>> {
        (from.max(self.first)..self.end()).filter_map(|number| self.get(number))
    }
}

struct Taken<'a> {
    crc: u32,
    bytes: &'a [u8],
    rest: &'a [u8],
}

/// The first entry of these bytes; none when its length cannot be.
fn take_entry(data: &[u8]) -> Option<Taken<'_>> {
    let (len, data) = data.split_first_chunk::<4>()?;
    let (crc, data) = data.split_first_chunk::<4>()?;
    let (bytes, rest) = data.split_at_checked(usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
    Some(Taken { crc: u32::from_le_bytes(*crc), bytes, rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(n: usize) -> Vec<Vec<u8>> {
        (0..n).map(|k| vec![u8::try_from(k % 251).expect("small"); k % 40]).collect()
    }

    fn window(first: u64, n_entries: u64, data: &[u8]) -> Window {
        let mut window = Window::default();
        window.restart(first);
        window.push(n_entries, data);
        window
    }

    #[test]
    fn blocks_are_divided_and_keep_every_entry() {
        let entries = entries(500);
        for most in [0, 100, 1000, 1 << 20] {
            let blocks = divide(7, &entries, most);
            assert!(most > 100 || blocks.iter().all(|b| b.n_entries < 10), "{most}");
            let (mut at, mut n_bytes) = (7, 0);
            for block in &blocks {
                assert!(block.is_plausible() && block.first == at && (block.n_entries == 1 || block.n_bytes <= most));
                let mine = &entries[(at - 7) as usize..(block.end() - 7) as usize];
                let mut data = vec![1];
                encode(at, mine, &mut data);
                assert_eq!(data.len() as u64 + OVERHEAD, block.n_bytes);
                let window = window(at, block.n_entries, &data);
                let back: Vec<_> = window.iter_from(0).map(|e| (e.number, e.bytes.map(<[u8]>::to_vec))).collect();
                assert_eq!(back, (at..).zip(mine.iter().cloned().map(Some)).collect::<Vec<_>>());
                (at, n_bytes) = (block.end(), n_bytes + block.n_bytes);
            }
            assert_eq!((at, blocks.is_empty()), (507, false));
            assert_eq!(
                n_bytes,
                blocks.len() as u64 * OVERHEAD + entries.iter().map(|e| e.len() as u64 + 8).sum::<u64>()
            );
        }
    }

    #[test]
    fn every_flipped_bit_is_found_and_costs_only_what_it_must() {
        let entries = entries(20);
        let mut data = Vec::new();
        encode(3, &entries, &mut data);
        let mut starts: Vec<usize> = Vec::new();
        let mut at = 0;
        for entry in &entries {
            starts.push(at);
            at += FRAMING + entry.len();
        }
        for bit in 0..data.len() * 8 {
            let mut flipped = data.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let hit = starts.iter().rposition(|&start| start <= bit / 8).expect("in an entry");
            let is_length = bit / 8 < starts[hit] + 4;
            let window = window(3, 20, &flipped);
            assert_eq!(window.end(), 23);
            for (k, (entry, expected)) in window.iter_from(3).zip(&entries).enumerate() {
                let may_be_lost = k == hit || (is_length && k > hit);
                assert!(may_be_lost || entry.bytes == Some(expected), "bit {bit}, entry {k}");
                assert!(k != hit || entry.bytes.is_none(), "bit {bit}");
                assert!(entry.bytes.is_none_or(|bytes| bytes == expected), "bit {bit}, entry {k}");
            }
        }
    }

    #[test]
    fn entries_under_other_numbers_and_short_data_are_damaged() {
        let entries = entries(5);
        let mut data = Vec::new();
        encode(3, &entries, &mut data);
        assert!(window(4, 5, &data).iter_from(0).all(|entry| entry.bytes.is_none()));
        for cut in 0..data.len() {
            let n_whole = window(3, 5, &data[..cut]).iter_from(0).filter(|entry| entry.bytes.is_some()).count();
            assert!(n_whole < 5);
        }
        let more = window(3, 9, &data);
        assert_eq!(more.iter_from(0).filter(|entry| entry.bytes.is_none()).count(), 4);
        assert_eq!((more.get(2), more.get(12), more.end()), (None, None, 12));
    }
}
