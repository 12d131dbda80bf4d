//! Where the threads of the plane put their news, and the keeper fetches them.
//!
//! What is read of the topics waits for room: Kafka keeps it until then. What became of leases never waits, or a slow
//! keeper would cost this worker its place in the group: of very many changes only the last state is kept. Answers to
//! posts are no more than there were posts. Must never lose the last state of a lease, or an answer.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

use super::super::News;

/// News of the topics that may wait.
const MOST_READ: usize = 4096;
/// Changes of leases that may wait before only the last state is kept.
const MOST_CHANGES: usize = 64;

#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    arrived: Condvar,
    room: Condvar,
}

#[derive(Default)]
struct State {
    read: VecDeque<News>,
    answers: Vec<News>,
    changes: Vec<News>,
    /// Leases that are ours now.
    held: BTreeSet<u32>,
    /// Leases that are ours as far as the keeper was told.
    told: BTreeSet<u32>,
    trouble: Option<String>,
    trouble_is_news: bool,
    closed: bool,
}

impl Inbox {
    /// Something that was read. Waits for room; false once nobody fetches any more.
    pub(super) fn read(&self, news: News) -> bool {
        let mut state = self.state.lock();
        while state.read.len() >= MOST_READ && !state.closed {
            self.room.wait(&mut state);
        }
        state.read.push_back(news);
        let open = !state.closed;
        drop(state);
        self.arrived.notify_one();
        open
    }

    pub(super) fn answer(&self, ticket: u64, outcome: Result<(), String>) {
        self.state.lock().answers.push(News::Posted { ticket, outcome });
        self.arrived.notify_one();
    }

    pub(super) fn grant(&self, leases: Vec<u32>) {
        let mut state = self.state.lock();
        state.held.extend(&leases);
        state.change(News::Granted { leases });
        drop(state);
        self.arrived.notify_one();
    }

    /// Those of them that are not ours are not told.
    pub(super) fn revoke(&self, leases: impl IntoIterator<Item = u32>, lost: bool) {
        let mut state = self.state.lock();
        let leases = leases.into_iter().filter(|lease| state.held.remove(lease)).collect();
        state.change(News::Revoked { leases, lost });
        drop(state);
        self.arrived.notify_one();
    }

    /// What stands in the way now.
    pub(super) fn trouble(&self, trouble: Option<String>) {
        let mut state = self.state.lock();
        if state.trouble != trouble {
            state.trouble = trouble;
            state.trouble_is_news = true;
            drop(state);
            self.arrived.notify_one();
        }
    }

    /// Fetches everything; waits up to `patience` for the first.
    pub(super) fn fetch(&self, patience: Duration, news: &mut Vec<News>) {
        let mut state = self.state.lock();
        if state.is_empty() && !state.closed {
            self.arrived.wait_for(&mut state, patience);
        }
        if std::mem::take(&mut state.trouble_is_news) {
            news.push(News::Trouble(state.trouble.clone()));
        }
        news.extend(state.read.drain(..));
        news.append(&mut state.answers);
        news.append(&mut state.changes);
        state.told = state.held.clone();
        drop(state);
        self.room.notify_all();
    }

    /// Nobody fetches any more.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.room.notify_all();
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.read.is_empty() && self.answers.is_empty() && self.changes.is_empty() && !self.trouble_is_news
    }

    fn change(&mut self, news: News) {
        if matches!(&news, News::Granted { leases } | News::Revoked { leases, .. } if leases.is_empty()) {
            return;
        }
        if self.changes.len() < MOST_CHANGES {
            return self.changes.push(news);
        }
        self.changes.clear();
        // In between, others may have had any of them.
        let [told, held] = [&self.told, &self.held].map(|leases| leases.iter().copied().collect::<Vec<_>>());
        if !told.is_empty() {
            self.changes.push(News::Revoked { leases: told, lost: true });
        }
        if !held.is_empty() {
            self.changes.push(News::Granted { leases: held });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetched(inbox: &Inbox) -> Vec<News> {
        let mut news = Vec::new();
        inbox.fetch(Duration::ZERO, &mut news);
        news
    }

    #[test]
    fn leases_never_wait_and_are_never_forgotten() {
        let inbox = Inbox::default();
        inbox.grant(vec![1, 2]);
        inbox.revoke([2, 7], false);
        let granted = |leases: &[u32]| News::Granted { leases: leases.to_vec() };
        let revoked = |leases: &[u32], lost| News::Revoked { leases: leases.to_vec(), lost };
        assert_eq!(fetched(&inbox), [granted(&[1, 2]), revoked(&[2], false)]);
        // More changes than anybody keeps: what was told is taken back, and what is so now is told.
        for lease in 10..200 {
            inbox.grant(vec![lease]);
            inbox.revoke([lease - 1], true);
        }
        let news = fetched(&inbox);
        assert!(news.len() <= MOST_CHANGES, "{}", news.len());
        assert_eq!(news[0], revoked(&[1], true));
        let mut held = BTreeSet::from([1]);
        for news in news {
            match news {
                News::Granted { leases } => held.extend(leases),
                News::Revoked { leases, .. } => held.retain(|lease| !leases.contains(lease)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(held, BTreeSet::from([1, 199]));
    }

    #[test]
    fn trouble_is_told_once() {
        let inbox = Inbox::default();
        inbox.trouble(None);
        assert_eq!(fetched(&inbox), []);
        inbox.trouble(Some("away".into()));
        inbox.trouble(Some("away".into()));
        assert_eq!(fetched(&inbox), [News::Trouble(Some("away".into()))]);
        inbox.trouble(None);
        assert_eq!(fetched(&inbox), [News::Trouble(None)]);
    }

    #[test]
    fn whoever_reads_waits_for_room() {
        let inbox = std::sync::Arc::new(Inbox::default());
        let reader = std::sync::Arc::clone(&inbox);
        let thread = std::thread::Builder::new().name("reader".into()).spawn(move || {
            let mut n_read = 0;
            while reader.read(News::CaughtUp) {
                n_read += 1;
            }
            n_read
        });
        let thread = thread.expect("thread");
        let mut n_fetched = 0;
        while n_fetched < 3 * MOST_READ {
            let n = fetched(&inbox).len();
            assert!(n <= MOST_READ, "{n}");
            n_fetched += n;
        }
        inbox.close();
        let n_read: usize = thread.join().expect("ends");
        assert!((n_fetched..=n_fetched + MOST_READ).contains(&n_read), "{n_read} read, {n_fetched} fetched");
    }
}
