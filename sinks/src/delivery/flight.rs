//! Which records are on their way, and which have settled: pure bookkeeping of numbers.

use std::collections::VecDeque;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// On its way.
    Out,
    /// It came back, and must be sent again.
    Back,
    /// Delivered, or given up: nothing more comes of it.
    Settled,
}

/// The window between the first record that has not settled and the next one to send.
#[derive(Debug, Default)]
pub(super) struct Flight {
    /// Number of the first slot: everything below has settled.
    first: u64,
    slots: VecDeque<Slot>,
    n_out: u64,
    /// Below the end of the slots while records are sent again.
    next: u64,
}

impl Flight {
    pub(super) fn from(first: u64) -> Self {
        Self { first, next: first, ..Self::default() }
    }

    /// Everything below has settled.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The next one to look at for sending.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn n_out(&self) -> u64 {
        self.n_out
    }

    fn slot(&mut self, number: u64) -> Option<&mut Slot> {
        self.slots.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// Whether `number` (which is `next`) has settled in an earlier round.
    pub(super) fn is_settled(&mut self, number: u64) -> bool {
        number < self.first || self.slot(number) == Some(&mut Slot::Settled)
    }

    /// `number`, which is `next`, is on its way.
    pub(super) fn sent(&mut self, number: u64) {
        self.put(number, Slot::Out);
        self.n_out += 1;
    }

    /// Goes past `number`, which is `next`, because it has settled.
    pub(super) fn pass(&mut self, number: u64) {
        self.put(number, Slot::Settled);
        self.advance();
    }

    /// Goes past everything below `number` that has not settled, because it is not there; gives how many those are.
    pub(super) fn skip(&mut self, number: u64) -> u64 {
        let mut n_missing = 0;
        while self.next < number {
            n_missing += u64::from(!self.is_settled(self.next));
            self.pass(self.next);
        }
        n_missing
    }

    fn put(&mut self, number: u64, state: Slot) {
        debug_assert_eq!(number, self.next, "in order");
        match self.slot(number) {
            Some(slot) => *slot = state,
            None => self.slots.push_back(state),
        }
        self.next = number + 1;
    }

    /// How many from `number` on have settled, although an earlier one has not.
    pub(super) fn n_settled_from(&self, number: u64) -> u64 {
        let skip = usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.slots.iter().skip(skip).filter(|slot| **slot == Slot::Settled).count() as u64
    }

    /// Whether `number` was on its way; it no longer is.
    pub(super) fn arrived(&mut self, number: u64, settled: bool) -> bool {
        let Some(slot) = self.slot(number) else { return false };
        if *slot != Slot::Out {
            return false;
        }
        *slot = if settled { Slot::Settled } else { Slot::Back };
        self.n_out -= 1;
        self.advance();
        true
    }

    fn advance(&mut self) {
        while self.slots.front() == Some(&Slot::Settled) {
            self.slots.pop_front();
            self.first += 1;
        }
        self.next = self.next.max(self.first);
    }

    /// Sends again from the first that has not settled. Nothing may be on its way.
    pub(super) fn rewind(&mut self) {
        debug_assert_eq!(self.n_out, 0, "nothing is on its way");
        self.next = self.first;
    }

    /// The backlog has let go of everything below `number`: what of it is not on its way never will be.
    pub(super) fn gone(&mut self, number: u64) {
        let end = self.first + self.slots.len() as u64;
        for at in self.first..number.min(end) {
            if let Some(slot) = self.slot(at)
                && *slot == Slot::Back
            {
                *slot = Slot::Settled;
            }
        }
        while self.first + (self.slots.len() as u64) < number {
            self.slots.push_back(Slot::Settled);
        }
        self.next = self.next.max(number);
        self.advance();
    }
}
