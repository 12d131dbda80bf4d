//! The last records of one stream, numbered, for any number of readers.
//!
//! Written by one thread, read by many tasks; the lock is held for a copy of one pointer. A reader holds a position and
//! nothing else: it never holds records back, and a slow one costs nobody but itself.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use base::event::Event;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Kind, Kinds};

/// One record, ready to be sent: encoded once, shared by all readers.
#[derive(Debug)]
pub struct Record {
    /// What it is.
    pub kind: Kind,
    /// The event itself.
    pub event: Arc<Event>,
    /// Its wire record: one JSON object without a newline.
    pub json: String,
    /// Records of each kind that came before it on this tape.
    before: [u64; Kind::LIVE.len()],
}

impl Record {
    /// Its id: where a reader that comes back goes on.
    pub fn id(&self) -> &str {
        &self.event.id
    }
}

#[derive(Debug, Default)]
struct Reel {
    /// The newest is the last; never more than the tape's capacity.
    records: VecDeque<Arc<Record>>,
    /// Records ever put on, by kind.
    counts: [u64; Kind::LIVE.len()],
    closed: bool,
}

impl Reel {
    /// Number of the next record, from 0.
    fn end(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Number of the oldest record that is still there.
    fn begin(&self) -> u64 {
        self.end() - self.records.len() as u64
    }

    /// Records of each kind before the one at `index`.
    fn before(&self, index: usize) -> [u64; Kind::LIVE.len()] {
        self.records.get(index).map_or(self.counts, |record| record.before)
    }
}

/// The tape. Bounded: a new record pushes the oldest one out.
#[derive(Debug)]
pub struct Tape {
    capacity: usize,
    reel: Mutex<Reel>,
    /// Told after each change; the value says nothing.
    news: watch::Sender<()>,
    n_readers: AtomicUsize,
    n_lost: AtomicU64,
}

/// Where a reader begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With the next record that comes.
    Now,
    /// After the record of this id. If that is not there any more: a [`Next::Lost`], then all that is there.
    After(String),
    /// With the last records of the wanted kinds, at most so many.
    Recent(usize),
}

/// What a reader gets.
#[derive(Debug)]
pub enum Next {
    /// The next record.
    Record(Arc<Record>),
    /// Records of the wanted kinds that were pushed out before this reader came to them; none when nobody can know how
    /// many. The reader goes on with the oldest that is there.
    Lost(Option<u64>),
    /// All is read, and nothing will come any more.
    Closed,
}

impl Tape {
    /// An empty tape of at most `capacity` (at least 1) records.
    pub fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            capacity: capacity.max(1),
            reel: Mutex::default(),
            news: watch::Sender::new(()),
            n_readers: AtomicUsize::new(0),
            n_lost: AtomicU64::new(0),
        })
    }

    /// Puts a record on. Never waits for a reader.
    pub fn put(&self, kind: Kind, event: Arc<Event>, json: String) {
        let mut reel = self.reel.lock();
        if reel.closed {
            return;
        }
        let before = reel.counts;
        if reel.records.len() >= self.capacity {
            reel.records.pop_front();
        }
        reel.records.push_back(Arc::new(Record { kind, event, json, before }));
        reel.counts[kind as usize] += 1;
        drop(reel);
        self.news.send_replace(());
    }

    /// Nothing comes any more: readers get what is there, then [`Next::Closed`].
    pub fn close(&self) {
        self.reel.lock().closed = true;
        self.news.send_replace(());
    }

    /// What is there of these kinds, oldest first.
    pub fn records(&self, kinds: Kinds) -> Vec<Arc<Record>> {
        self.reel.lock().records.iter().filter(|r| kinds.has(r.kind)).map(Arc::clone).collect()
    }

    /// Records ever put on, in the order of [`Kind::LIVE`].
    pub fn counts(&self) -> [u64; Kind::LIVE.len()] {
        self.reel.lock().counts
    }

    /// Readers now.
    pub fn n_readers(&self) -> usize {
        self.n_readers.load(Relaxed)
    }

    /// Records that readers were told they had lost, over all readers.
    pub fn n_lost(&self) -> u64 {
        self.n_lost.load(Relaxed)
    }

    /// A reader of these kinds.
    pub fn read(self: &Arc<Self>, kinds: Kinds, start: &Start) -> Reader {
        let news = self.news.subscribe();
        let reel = self.reel.lock();
        let all = reel.records.len();
        let (index, unknown) = match start {
            Start::Now => (all, false),
            Start::After(id) => match reel.records.iter().rposition(|r| r.id() == id) {
                Some(index) => (index + 1, false),
                None => (0, true),
            },
            Start::Recent(0) => (all, false),
            Start::Recent(n) => {
                let wanted = reel.records.iter().enumerate().rev().filter(|(_, r)| kinds.has(r.kind));
                (wanted.take(*n).last().map_or(all, |(index, _)| index), false)
            }
        };
        let (at, seen) = (reel.begin() + index as u64, reel.before(index));
        drop(reel);
        self.n_readers.fetch_add(1, Relaxed);
        Reader { tape: Arc::clone(self), kinds, news, at, seen, unknown }
    }
}

/// A position on a tape.
#[derive(Debug)]
pub struct Reader {
    tape: Arc<Tape>,
    kinds: Kinds,
    news: watch::Receiver<()>,
    /// Number of the record to look at next.
    at: u64,
    /// Records of each kind before that one.
    seen: [u64; Kind::LIVE.len()],
    /// It came with an id that is not on the tape, and was not told so yet.
    unknown: bool,
}

impl Reader {
    /// From here on these kinds.
    pub(super) fn choose(&mut self, kinds: Kinds) {
        self.kinds = kinds;
    }

    /// What is there to be read now; none when the reader has to wait.
    pub fn try_next(&mut self) -> Option<Next> {
        if std::mem::take(&mut self.unknown) {
            return Some(Next::Lost(None));
        }
        let reel = self.tape.reel.lock();
        let begin = reel.begin();
        if self.at < begin {
            let before = reel.before(0);
            let lost = Kind::LIVE.iter().filter(|kind| self.kinds.has(**kind));
            let n_lost: u64 = lost.map(|kind| before[*kind as usize] - self.seen[*kind as usize]).sum();
            (self.at, self.seen) = (begin, before);
            if n_lost > 0 {
                self.tape.n_lost.fetch_add(n_lost, Relaxed);
                return Some(Next::Lost(Some(n_lost)));
            }
        }
        while let Some(record) = reel.records.get((self.at - begin) as usize) {
            self.at += 1;
            self.seen[record.kind as usize] += 1;
            if self.kinds.has(record.kind) {
                return Some(Next::Record(Arc::clone(record)));
            }
        }
        reel.closed.then_some(Next::Closed)
    }

    /// Waits for the next. Loses nothing when dropped while waiting.
    pub async fn next(&mut self) -> Next {
        loop {
            if let Some(next) = self.try_next() {
                return next;
            }
            // The sender lives as long as the tape, which this reader holds.
            if self.news.changed().await.is_err() {
                return Next::Closed;
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.tape.n_readers.fetch_sub(1, Relaxed);
    }
}
