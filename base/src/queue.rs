//! The one queue of the house: bounded, named, with a policy for when it is full and a counter for what that costs.
//!
//! Many senders, one receiver, any threads. Closes when the last sender or the receiver is dropped.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::{Condvar, Mutex};

/// What a full queue does with one more item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// The sender waits: backpressure.
    Block,
    /// The new item is left out and counted.
    DropNewest,
    /// The oldest item makes room and is counted: live media.
    DropOldest,
}

impl WhenFull {
    /// The word used in configuration and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::DropNewest => "drop_newest",
            Self::DropOldest => "drop_oldest",
        }
    }
}

/// What became of an item that was sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Sent<T> {
    /// It is in the queue.
    Queued,
    /// It is in the queue, and this older item was dropped for it.
    Displaced(T),
    /// The queue was full (`DropNewest`) or nobody receives any more: the item comes back.
    Refused(T),
}

struct State<T> {
    items: VecDeque<T>,
    n_senders: usize,
    receiving: bool,
    n_dropped: u64,
    n_refused: u64,
    n_high_water: usize,
}

struct Shared<T> {
    name: String,
    capacity: usize,
    when_full: WhenFull,
    state: Mutex<State<T>>,
    not_empty: Condvar,
    not_full: Condvar,
}

/// The sending end.
pub struct Sender<T>(Arc<Shared<T>>);

/// The receiving end.
pub struct Receiver<T>(Arc<Shared<T>>);

/// What a receive brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<T> {
    /// An item.
    Item(T),
    /// Nothing within the time.
    TimedOut,
    /// Empty, and no sender is left.
    Closed,
}

/// A queue's figures at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueReading {
    /// The declared name.
    pub name: String,
    /// Items it holds at most.
    pub capacity: usize,
    /// Items in it now.
    pub n_items: usize,
    /// Most items it ever held.
    pub n_high_water: usize,
    /// Items lost to the policy.
    pub n_dropped: u64,
    /// Items that came when nobody received any more.
    pub n_refused: u64,
    /// The policy.
    pub when_full: WhenFull,
}

/// Makes a queue of at most `capacity` (at least 1) items.
pub fn queue<T>(name: impl Into<String>, capacity: usize, when_full: WhenFull) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        name: name.into(),
        capacity: capacity.max(1),
        when_full,
        state: Mutex::new(State {
            items: VecDeque::new(),
            n_senders: 1,
            receiving: true,
            n_dropped: 0,
            n_refused: 0,
            n_high_water: 0,
        }),
        not_empty: Condvar::new(),
        not_full: Condvar::new(),
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

impl<T> Sender<T> {
    /// Sends an item; waits only under [`WhenFull::Block`].
    pub fn send(&self, item: T) -> Sent<T> {
        let shared = &*self.0;
        let mut state = shared.state.lock();
        while shared.when_full == WhenFull::Block && state.receiving && state.items.len() >= shared.capacity {
            shared.not_full.wait(&mut state);
        }
        if !state.receiving {
            state.n_refused += 1;
            return Sent::Refused(item);
        }
        let mut displaced = None;
        if state.items.len() >= shared.capacity {
            state.n_dropped += 1;
            if shared.when_full == WhenFull::DropNewest {
                return Sent::Refused(item);
            }
            displaced = state.items.pop_front();
        }
        state.items.push_back(item);
        state.n_high_water = state.n_high_water.max(state.items.len());
        drop(state);
        shared.not_empty.notify_one();
        displaced.map_or(Sent::Queued, Sent::Displaced)
    }

    /// The queue's figures.
    pub fn read(&self) -> QueueReading {
        self.0.read()
    }
}

impl<T> Shared<T> {
    fn read(&self) -> QueueReading {
        let state = self.state.lock();
        QueueReading {
            name: self.name.clone(),
            capacity: self.capacity,
            n_items: state.items.len(),
            n_high_water: state.n_high_water,
            n_dropped: state.n_dropped,
            n_refused: state.n_refused,
            when_full: self.when_full,
        }
    }
}

impl<T> Receiver<T> {
    /// Waits for an item; `None` once the queue is empty and every sender is gone.
    pub fn recv(&self) -> Option<T> {
        let mut state = self.0.state.lock();
        loop {
            if let Some(item) = state.items.pop_front() {
                drop(state);
                self.0.not_full.notify_one();
                return Some(item);
            }
            if state.n_senders == 0 {
                return None;
            }
            self.0.not_empty.wait(&mut state);
        }
    }

    /// Waits for an item, at most `timeout`.
    pub fn recv_timeout(&self, timeout: Duration) -> Received<T> {
        let mut state = self.0.state.lock();
        if state.items.is_empty() && state.n_senders > 0 {
            self.0.not_empty.wait_for(&mut state, timeout);
        }
        match state.items.pop_front() {
            Some(item) => {
                drop(state);
                self.0.not_full.notify_one();
                Received::Item(item)
            }
            None if state.n_senders == 0 => Received::Closed,
            None => Received::TimedOut,
        }
    }

    /// Adds up to `max` waiting items to `items`, in order; waits up to `timeout` for the first. Gives what it would have
    /// given for one: `Item(())` when anything came.
    pub fn recv_many(&self, max: usize, timeout: Duration, items: &mut Vec<T>) -> Received<()> {
        let mut state = self.0.state.lock();
        if state.items.is_empty() && state.n_senders > 0 && !timeout.is_zero() {
            self.0.not_empty.wait_for(&mut state, timeout);
        }
        let n = state.items.len().min(max);
        if n == 0 {
            return if state.n_senders == 0 { Received::Closed } else { Received::TimedOut };
        }
        items.extend(state.items.drain(..n));
        drop(state);
        self.0.not_full.notify_all();
        Received::Item(())
    }

    /// Receives no more: gives what was still queued. Everything sent from now on is refused, so that each item is
    /// either received, given here, or comes back to its sender.
    pub fn close(self) -> Vec<T> {
        let mut state = self.0.state.lock();
        state.receiving = false;
        let left = std::mem::take(&mut state.items);
        drop(state);
        self.0.not_full.notify_all();
        left.into()
    }

    /// The queue's figures.
    pub fn read(&self) -> QueueReading {
        self.0.read()
    }
}

impl<T: Send + 'static> Receiver<T> {
    /// Reads the figures later, also after both ends are gone.
    pub fn probe(&self) -> impl Fn() -> QueueReading + Send + use<T> {
        let shared = Arc::clone(&self.0);
        move || shared.read()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.state.lock().n_senders += 1;
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.n_senders -= 1;
        if state.n_senders == 0 {
            drop(state);
            self.0.not_empty.notify_all();
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.receiving = false;
        state.items.clear();
        drop(state);
        self.0.not_full.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        let check = |when_full, expected: Sent<u32>, then: Vec<u32>| {
            let (tx, rx) = queue("test", 2, when_full);
            assert_eq!(tx.send(1), Sent::Queued);
            assert_eq!(tx.send(2), Sent::Queued);
            assert_eq!(tx.send(3), expected);
            assert_eq!(tx.read().n_dropped, 1);
            drop(tx);
            let left: Vec<u32> = std::iter::from_fn(|| rx.recv()).collect();
            assert_eq!(left, then);
        };
        check(WhenFull::DropNewest, Sent::Refused(3), vec![1, 2]);
        check(WhenFull::DropOldest, Sent::Displaced(1), vec![2, 3]);
    }

    #[test]
    fn block_waits_for_room() {
        let (tx, rx) = queue("test", 1, WhenFull::Block);
        let sender = std::thread::Builder::new()
            .spawn(move || (0..100).map(|i| tx.send(i)).all(|s| s == Sent::Queued))
            .expect("thread");
        let got: Vec<i32> = std::iter::from_fn(|| rx.recv()).collect();
        assert_eq!(got, (0..100).collect::<Vec<_>>());
        assert!(sender.join().expect("sender"));
        assert_eq!(rx.read().n_high_water, 1);
    }

    #[test]
    fn a_gone_receiver_refuses_and_frees_a_blocked_sender() {
        let (tx, rx) = queue("test", 1, WhenFull::Block);
        assert_eq!(tx.send(1), Sent::Queued);
        let sender = std::thread::Builder::new().spawn(move || tx.send(2)).expect("thread");
        drop(rx);
        assert_eq!(sender.join().expect("sender"), Sent::Refused(2));
    }

    #[test]
    fn close_gives_what_is_left_and_refuses_the_rest() {
        let (tx, rx) = queue("test", 2, WhenFull::Block);
        assert_eq!((tx.send(1), tx.send(2)), (Sent::Queued, Sent::Queued));
        let waiting = tx.clone();
        let sender = std::thread::Builder::new().spawn(move || waiting.send(3)).expect("thread");
        assert_eq!(rx.close(), [1, 2]);
        assert_eq!(sender.join().expect("sender"), Sent::Refused(3));
        assert_eq!(tx.send(4), Sent::Refused(4));
    }

    #[test]
    fn timeout_and_close_are_told_apart() {
        let (tx, rx) = queue::<u8>("test", 1, WhenFull::Block);
        assert_eq!(rx.recv_timeout(Duration::from_millis(1)), Received::TimedOut);
        let second = tx.clone();
        drop(tx);
        assert_eq!(second.send(7), Sent::Queued);
        drop(second);
        assert_eq!(rx.recv_timeout(Duration::ZERO), Received::Item(7));
        assert_eq!(rx.recv_timeout(Duration::ZERO), Received::Closed);
    }

    #[test]
    fn many_at_once() {
        let (tx, rx) = queue("q", 4, WhenFull::Block);
        let mut items = Vec::new();
        assert_eq!(rx.recv_many(3, Duration::from_millis(1), &mut items), Received::TimedOut);
        (0..4).for_each(|i| assert_eq!(tx.send(i), Sent::Queued));
        assert_eq!(rx.recv_many(3, Duration::ZERO, &mut items), Received::Item(()));
        drop(tx);
        assert_eq!(rx.recv_many(3, Duration::ZERO, &mut items), Received::Item(()));
        assert_eq!(items, [0, 1, 2, 3]);
        assert_eq!(rx.recv_many(3, Duration::ZERO, &mut items), Received::Closed);
    }
}
