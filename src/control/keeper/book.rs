//! What is attached, as far as it was read: every text by lease and name, and which of several holds. Plain data.

use std::collections::{BTreeMap, BTreeSet};

use crate::control::attachment::Stored;

/// All attachments.
#[derive(Default)]
pub(super) struct Book {
    entries: BTreeMap<String, Entry>,
    by_lease: Vec<BTreeSet<String>>,
}

/// What is written about one name.
#[derive(Default)]
pub(super) struct Entry {
    /// By lease. More than one while a stream moves, or where two workers wrote at the same time.
    texts: BTreeMap<u32, Stored>,
    /// The profile that its text leads to.
    pub(super) profile: String,
}

impl Entry {
    /// Where the stream lies: the greatest rank that has not moved away; of equal ones the greatest lease, so that
    /// everybody comes to the same.
    pub(super) fn place(&self) -> Option<(u32, &Stored)> {
        let staying = self.texts.iter().filter(|(_, stored)| stored.moved_to.is_none());
        staying.max_by_key(|(lease, stored)| (stored.rank(), **lease)).map(|(lease, stored)| (*lease, stored))
    }

    /// Every lease in which something is written.
    pub(super) fn leases(&self) -> impl Iterator<Item = u32> {
        self.texts.keys().copied()
    }

    /// The greatest revision, also of texts that have moved.
    pub(super) fn revision(&self) -> u64 {
        self.texts.values().map(|stored| stored.revision).max().unwrap_or(0)
    }

    /// The latest birth, also of texts that have moved.
    pub(super) fn born(&self) -> u64 {
        self.texts.values().map(|stored| stored.born).max().unwrap_or(0)
    }
}

impl Book {
    pub(super) fn new(n_leases: u32) -> Self {
        Self { entries: BTreeMap::new(), by_lease: vec![BTreeSet::new(); n_leases as usize] }
    }

    /// There are so many leases; what lies in others is kept.
    pub(super) fn set_leases(&mut self, n_leases: u32) {
        let n_leases = self.by_lease.len().max(n_leases as usize);
        self.by_lease.resize_with(n_leases, BTreeSet::new);
    }

    /// Writes what was read; gives what stood there.
    pub(super) fn write(&mut self, lease: u32, name: &str, stored: Option<Stored>) -> Option<Stored> {
        let in_lease = self.by_lease.get_mut(lease as usize)?;
        match stored {
            Some(stored) => {
                in_lease.insert(name.to_owned());
                self.entries.entry(name.to_owned()).or_default().texts.insert(lease, stored)
            }
            None => {
                in_lease.remove(name);
                let entry = self.entries.get_mut(name)?;
                let before = entry.texts.remove(&lease);
                if entry.texts.is_empty() {
                    self.entries.remove(name);
                }
                before
            }
        }
    }

    pub(super) fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    pub(super) fn entry_mut(&mut self, name: &str) -> Option<&mut Entry> {
        self.entries.get_mut(name)
    }

    /// Where a stream lies; none: it is not attached, or is on its way.
    pub(super) fn place(&self, name: &str) -> Option<(u32, &Stored)> {
        self.entry(name)?.place()
    }

    pub(super) fn text(&self, name: &str, lease: u32) -> Option<&Stored> {
        self.entry(name)?.texts.get(&lease)
    }

    /// All names about which something is written.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.entries.keys()
    }

    /// Names about which something is written in a lease, whether it holds or not.
    pub(super) fn names_in(&self, lease: u32) -> impl Iterator<Item = &String> {
        self.by_lease.get(lease as usize).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::attachment::Origin;

    #[test]
    fn one_text_of_several_holds() {
        let stored = |revision: u64, moved_to: Option<u32>| {
            let attachment = serde_json::from_str(r#"{"url":"test://"}"#).expect("good");
            Stored { attachment, origin: Origin::Api, born: 7, revision, url_since: 1, after: 0, moved_to }
        };
        let check = |texts: &[(u32, u64, Option<u32>)], expected: Option<(u32, u64)>| {
            for turn in 0..texts.len() {
                let mut book = Book::new(8);
                let mut order = texts.to_vec();
                order.rotate_left(turn);
                for (lease, revision, moved_to) in order {
                    book.write(lease, "a", Some(stored(revision, moved_to)));
                }
                assert_eq!(book.place("a").map(|(lease, stored)| (lease, stored.revision)), expected, "{texts:?}");
            }
        };
        check(&[(3, 1, None)], Some((3, 1)));
        check(&[(3, 1, None), (1, 2, None)], Some((1, 2)));
        check(&[(3, 2, None), (1, 2, None)], Some((3, 2)));
        check(&[(3, 2, Some(1)), (1, 2, None)], Some((1, 2)));
        check(&[(3, 9, Some(1)), (1, 2, None)], Some((1, 2)));
        check(&[(3, 2, Some(1))], None);
    }

    #[test]
    fn what_is_taken_away_leaves_nothing() {
        let mut book = Book::new(2);
        let text = r#"{"url":"test://","origin":"api","revision":4,"weight":2.5,"tags":{"a":"b"}}"#;
        let stored: Stored = serde_json::from_str(text).expect("good");
        assert_eq!((stored.attachment.weight, stored.revision), (2.5, 4));
        book.write(1, "a", Some(stored.clone()));
        book.write(7, "b", Some(stored.clone()));
        assert_eq!(book.names().count(), 1, "there is no lease 7");
        assert_eq!(book.write(1, "a", None), Some(stored));
        assert_eq!((book.names().count(), book.names_in(1).count()), (0, 0));
    }
}
