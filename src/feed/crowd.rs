//! Reading many streams at once, those that come later as well. A crowd is a set of positions on tapes, and nothing else: like
//! every reader it holds nobody up, and loses what it is too slow for. Runs on the reader's own task.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use tokio::sync::watch;

use super::{Feed, Kind, Kinds, Next, Reader, Record, Start, Tape};

/// What a crowd is to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Names of streams, attached or not; none for all.
    pub streams: Option<BTreeSet<String>>,
    /// Kinds of records.
    pub kinds: Kinds,
    /// A stream that comes into view begins with so many of its last records. One that was attached meanwhile begins with
    /// its first.
    pub recent: usize,
}

/// What a crowd tells.
#[derive(Debug)]
pub enum Heard {
    /// The streams in view, by name: first of all, and whenever one came or went.
    Streams(Vec<String>),
    /// The next record of one of them.
    Record(Arc<Record>),
    /// Records of one of them that were pushed out before the reader came to them.
    Lost {
        /// Its name.
        stream: String,
        /// They were detections; else anything but those.
        detections: bool,
        /// How many.
        n_records: Option<u64>,
    },
}

/// A reader of many streams.
pub struct Crowd {
    feed: Feed,
    wanted: Wanted,
    news: watch::Receiver<()>,
    /// The feed's count of comings and goings that the members are of; none before the first look.
    looked_at: Option<u64>,
    is_changed: bool,
    /// Whose turn it is comes first.
    members: VecDeque<Member>,
}

/// One stream in view. Attached anew under the same name it is another.
struct Member {
    name: String,
    tape: Arc<Tape>,
    kept: Reader,
    detections: Option<Reader>,
}

impl Feed {
    /// A reader of many streams.
    pub fn crowd(&self, wanted: Wanted) -> Crowd {
        let news = self.0.news.subscribe();
        Crowd { feed: self.clone(), wanted, news, looked_at: None, is_changed: true, members: VecDeque::new() }
    }
}

impl Crowd {
    /// What is wanted now.
    pub const fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// From now on this is wanted. Streams that stay in view go on where they are.
    pub fn choose(&mut self, wanted: Wanted) {
        self.wanted = wanted;
        self.looked_at = None;
        let (kinds, streams) = (self.wanted.kinds, &self.wanted.streams);
        let n_before = self.members.len();
        self.members.retain(|member| streams.as_ref().is_none_or(|streams| streams.contains(&member.name)));
        self.is_changed |= self.members.len() != n_before;
        self.members.iter_mut().for_each(|member| member.kept.choose(kinds));
        if !kinds.has(Kind::Detections) {
            self.members.iter_mut().for_each(|member| member.detections = None);
        }
    }

    /// What is there to be read now; none when the reader has to wait.
    pub fn try_next(&mut self) -> Option<Heard> {
        self.look();
        if std::mem::take(&mut self.is_changed) {
            let names: BTreeSet<&String> = self.members.iter().map(|member| &member.name).collect();
            return Some(Heard::Streams(names.into_iter().cloned().collect()));
        }
        for _ in 0..self.members.len() {
            let mut member = self.members.pop_front()?;
            match member.next() {
                Turn::Over => {
                    self.is_changed = true;
                    return self.try_next();
                }
                Turn::Nothing => self.members.push_back(member),
                Turn::Heard(heard) => {
                    self.members.push_back(member);
                    return Some(heard);
                }
            }
        }
        None
    }

    /// Waits for the next. Loses nothing when dropped while waiting.
    pub async fn next(&mut self) -> Heard {
        loop {
            self.news.mark_unchanged();
            if let Some(heard) = self.try_next() {
                return heard;
            }
            // The sender lives as long as the feed, which this reader holds.
            if self.news.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Takes in the streams that have come.
    fn look(&mut self) {
        let now = self.feed.0.n_changes.load(Relaxed);
        if self.looked_at == Some(now) {
            return;
        }
        let start = match self.looked_at.replace(now) {
            None => Start::Recent(self.wanted.recent),
            Some(_) => Start::Recent(usize::MAX),
        };
        let kinds = self.wanted.kinds;
        for view in self.feed.streams() {
            let name = view.info.name.as_str();
            if self.wanted.streams.as_ref().is_some_and(|streams| !streams.contains(name)) {
                continue;
            }
            let detections = || kinds.has(Kind::Detections).then(|| view.detections.read(kinds, &Start::Now));
            match self.members.iter_mut().find(|member| Arc::ptr_eq(&member.tape, &view.tape)) {
                Some(member) => {
                    if member.detections.is_none() {
                        member.detections = detections();
                    }
                }
                None => {
                    let kept = view.tape.read(kinds, &start);
                    let detections = detections();
                    self.members.push_back(Member { name: name.to_owned(), tape: view.tape, kept, detections });
                    self.is_changed = true;
                }
            }
        }
    }
}

enum Turn {
    Heard(Heard),
    Nothing,
    /// The stream is gone, and all is read.
    Over,
}

impl Member {
    fn next(&mut self) -> Turn {
        let lost = |stream: &str, detections, n_records| {
            Turn::Heard(Heard::Lost { stream: stream.to_owned(), detections, n_records })
        };
        match self.kept.try_next() {
            Some(Next::Record(record)) => return Turn::Heard(Heard::Record(record)),
            Some(Next::Lost(n_records)) => return lost(&self.name, false, n_records),
            Some(Next::Closed) => return Turn::Over,
            None => {}
        }
        match self.detections.as_mut().and_then(Reader::try_next) {
            Some(Next::Record(record)) => Turn::Heard(Heard::Record(record)),
            Some(Next::Lost(n_records)) => lost(&self.name, true, n_records),
            Some(Next::Closed) | None => Turn::Nothing,
        }
    }
}
