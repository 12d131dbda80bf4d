//! The live feed: what was heard lately on each stream, for any number of readers at any pace.
//!
//! Filled like a sink: one queue (oldest dropped) and one thread, `feed`. Each stream has a [`Tape`] of bounded length.
//! Must never wait for a reader, and never grow with their number or their slowness. Detections are not kept: while somebody
//! reads them, the newest few of each stream are held, and otherwise they are not even encoded.

mod crowd;
mod entrance;
#[cfg(test)]
pub(crate) mod samples;
mod tape;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
};

use base::{
    event::{Body, Event, Status},
    media::{SessionId, StreamInfo},
    queue::Receiver,
    time::Clock,
};
use parking_lot::RwLock;
use tokio::sync::watch;

pub use self::{
    crowd::{Crowd, Heard, Wanted},
    entrance::{Entrance, Item},
    tape::{Next, Reader, Record, Start, Tape},
};
use crate::metrics::{MetricsSource, Scrape};

/// Detections held a stream while somebody reads them: a few seconds.
const N_DETECTIONS: usize = 64;

/// The kinds of records that the feed has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Cues.
    Caption,
    /// Revisions and finals of segments.
    Transcript,
    /// The stream's life.
    Status,
    /// Stretches that were not analysed.
    Gap,
    /// Rules that fired.
    Alert,
    /// What was seen; live only, not kept.
    Detections,
}

impl Kind {
    /// Those that are kept, in the order of their counters.
    pub const ALL: [Self; 5] = [Self::Caption, Self::Transcript, Self::Status, Self::Gap, Self::Alert];

    /// All of them.
    pub const LIVE: [Self; 6] =
        [Self::Caption, Self::Transcript, Self::Status, Self::Gap, Self::Alert, Self::Detections];

    /// The `type` on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Caption => "caption",
            Self::Transcript => "transcript",
            Self::Status => "status",
            Self::Gap => "gap",
            Self::Alert => "alert",
            Self::Detections => "detections",
        }
    }

    /// The word of the `types` parameter.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::Caption => "captions",
            Self::Transcript => "transcripts",
            Self::Status => "status",
            Self::Gap => "gaps",
            Self::Alert => "alerts",
            Self::Detections => "detections",
        }
    }

    /// The kind of an event that is kept; none for detections.
    pub const fn of(event: &Event) -> Option<Self> {
        match event.body {
            Body::Caption(_) => Some(Self::Caption),
            Body::Transcript(_) => Some(Self::Transcript),
            Body::Status(_) => Some(Self::Status),
            Body::Gap(_) => Some(Self::Gap),
            Body::Alert(_) => Some(Self::Alert),
            Body::Detections(_) => None,
        }
    }
}

/// A set of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    /// These.
    pub fn of(kinds: &[Kind]) -> Self {
        Self(kinds.iter().fold(0, |set, kind| set | 1 << *kind as u8))
    }

    /// Whether it holds this one.
    pub const fn has(self, kind: Kind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }
}

/// How a feed is made.
#[derive(Debug, Clone)]
pub struct FeedOptions {
    /// Records kept a stream; at least 1.
    pub n_records: usize,
    /// Time, for the records' `published_at`.
    pub clock: Arc<dyn Clock>,
}

/// The feed of all streams. Clones share it.
#[derive(Clone)]
pub struct Feed(Arc<Shared>);

struct Shared {
    options: FeedOptions,
    streams: RwLock<BTreeMap<String, Entry>>,
    /// Told after each record, and when streams come and go; the value says nothing.
    news: watch::Sender<()>,
    /// Streams that came or went.
    n_changes: AtomicU64,
    /// Events of streams that are not attached.
    n_unclaimed: AtomicU64,
}

struct Entry {
    info: Arc<StreamInfo>,
    tape: Arc<Tape>,
    detections: Arc<Tape>,
    latest: Option<(SessionId, Status)>,
}

/// A stream as the feed knows it.
#[derive(Debug, Clone)]
pub struct StreamView {
    /// Name and tags.
    pub info: Arc<StreamInfo>,
    /// Its last status and the session that belongs to it; none before the first connection.
    pub latest: Option<(SessionId, Status)>,
    /// Its records.
    pub tape: Arc<Tape>,
    /// Its newest detections, while somebody reads them.
    pub detections: Arc<Tape>,
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Feed({} streams)", self.0.streams.read().len())
    }
}

impl Feed {
    /// A feed without streams.
    pub fn new(options: FeedOptions) -> Self {
        Self(Arc::new(Shared {
            options,
            streams: RwLock::default(),
            news: watch::Sender::new(()),
            n_changes: AtomicU64::new(0),
            n_unclaimed: AtomicU64::new(0),
        }))
    }

    /// Takes in a stream; before its first event. A stream of the same name goes on with its records.
    pub fn attach(&self, info: Arc<StreamInfo>) {
        let mut streams = self.0.streams.write();
        if let Some(entry) = streams.get_mut(info.name.as_str()) {
            entry.info = info;
            return;
        }
        let tape = Tape::new(self.0.options.n_records);
        let detections = Tape::new(N_DETECTIONS);
        streams.insert(info.name.to_string(), Entry { info, tape, detections, latest: None });
        drop(streams);
        self.changed();
    }

    /// A stream came or went.
    fn changed(&self) {
        self.0.n_changes.fetch_add(1, Relaxed);
        self.0.news.send_replace(());
    }

    /// Forgets a stream. Its readers get what is there, then the end.
    pub fn detach(&self, name: &str) {
        let entry = self.0.streams.write().remove(name);
        if let Some(entry) = entry {
            entry.tape.close();
            self.changed();
        }
    }

    /// Forgets this attachment of a stream, but not a later one of the same name.
    fn detach_this(&self, info: &Arc<StreamInfo>) {
        let mut streams = self.0.streams.write();
        let name = info.name.as_str();
        let entry = match streams.get(name) {
            Some(entry) if Arc::ptr_eq(&entry.info, info) => streams.remove(name),
            _ => None,
        };
        drop(streams);
        if let Some(entry) = entry {
            entry.tape.close();
            self.changed();
        }
    }

    /// Takes one event. Events of streams that are not attached are counted and left out.
    pub fn publish(&self, event: &Arc<Event>) {
        let Some(kind) = Kind::of(event) else { return self.show(event) };
        let tape = if let Body::Status(status) = &event.body {
            let mut streams = self.0.streams.write();
            streams.get_mut(event.stream.name.as_str()).map(|entry| {
                entry.latest = Some((event.session.clone(), status.clone()));
                Arc::clone(&entry.tape)
            })
        } else {
            self.0.streams.read().get(event.stream.name.as_str()).map(|entry| Arc::clone(&entry.tape))
        };
        match tape {
            Some(tape) => {
                tape.put(kind, Arc::clone(event), self.encode(event));
                self.0.news.send_replace(());
            }
            None => {
                self.0.n_unclaimed.fetch_add(1, Relaxed);
            }
        }
    }

    /// Detections: to those who read them now.
    fn show(&self, event: &Arc<Event>) {
        let streams = self.0.streams.read();
        let tape = streams.get(event.stream.name.as_str()).map(|entry| &entry.detections);
        let Some(tape) = tape.filter(|tape| tape.n_readers() > 0).map(Arc::clone) else { return };
        drop(streams);
        tape.put(Kind::Detections, Arc::clone(event), self.encode(event));
        self.0.news.send_replace(());
    }

    fn encode(&self, event: &Event) -> String {
        sinks::wire::encode(event, Some(self.0.options.clock.wall()))
    }

    /// Receives events on a thread of its own, `feed`, until every sender is gone; then all readers get the end.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(&self, items: Receiver<Item>) -> std::io::Result<JoinHandle<()>> {
        let feed = self.clone();
        std::thread::Builder::new().name("feed".into()).spawn(move || {
            while let Some(item) = items.recv() {
                match item {
                    Item::Event(event) => feed.publish(&event),
                    Item::Detached(info) => feed.detach_this(&info),
                }
            }
            feed.close();
        })
    }

    /// Nothing comes any more: every reader gets what is there, then the end.
    pub fn close(&self) {
        for entry in self.0.streams.read().values() {
            entry.tape.close();
        }
        self.changed();
    }

    /// The streams, by name.
    pub fn streams(&self) -> Vec<StreamView> {
        self.0.streams.read().values().map(Entry::view).collect()
    }

    /// One stream.
    pub fn stream(&self, name: &str) -> Option<StreamView> {
        self.0.streams.read().get(name).map(Entry::view)
    }
}

impl Entry {
    fn view(&self) -> StreamView {
        StreamView {
            info: Arc::clone(&self.info),
            latest: self.latest.clone(),
            tape: Arc::clone(&self.tape),
            detections: Arc::clone(&self.detections),
        }
    }
}

impl MetricsSource for Feed {
    fn scrape(&self, out: &mut Scrape) {
        for stream in self.streams() {
            let name = stream.info.name.as_str();
            for (kind, n) in Kind::ALL.iter().zip(stream.tape.counts()) {
                out.counter(
                    "eyewitness_feed_records_total",
                    "Records put into the live feed.",
                    &[("stream", name), ("type", kind.as_str())],
                    n as f64,
                );
            }
            let labels = [("stream", name)];
            out.gauge(
                "eyewitness_feed_readers",
                "Readers of the live feed now.",
                &labels,
                stream.tape.n_readers() as f64,
            );
            out.counter(
                "eyewitness_feed_lost_total",
                "Records that readers were too slow to get.",
                &labels,
                (stream.tape.n_lost() + stream.detections.n_lost()) as f64,
            );
        }
        out.counter(
            "eyewitness_feed_unclaimed_total",
            "Events of streams that are not attached.",
            &[],
            self.0.n_unclaimed.load(Relaxed) as f64,
        );
    }
}
