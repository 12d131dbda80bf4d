//! The history: what was said, how streams fared and who changed what, kept to be searched. `sinks::history` owns the file.
//!
//! Filled like a sink: one queue (oldest dropped) and one thread, `history`, that writes once a second. What is seen is
//! counted at once, on the thread that sees it, and never queued. Must never hold up the pipeline: a disk that is full or
//! gone costs the history, which is said and counted, and nothing else.

mod clips;
mod config;
mod lookup;
mod metrics;
mod recorder;
#[cfg(test)]
mod tests;
mod watched;

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64},
    },
    thread::JoinHandle,
    time::Duration,
};

use base::{
    event::{Body, Event},
    media::StreamInfo,
    queue::{Receiver, Sender},
    shutdown::Shutdown,
    time::Clock,
};
use parking_lot::{Mutex, RwLock};
use sinks::history::{Audit, Store, Table};

use self::{clips::Clips, recorder::Recorder, watched::Watched};
pub use self::{
    config::HistoryConfig,
    lookup::{Stop, Unread},
};
use crate::{hls::HlsStore, http::HouseView};

/// What is in hand at the end gets so long; a disk that is gone takes for ever.
const GRACE: Duration = Duration::from_secs(5);

/// What the history's queue carries.
pub enum Item {
    /// It happened.
    Event(Arc<Event>),
    /// Somebody did it.
    Audit(Audit),
}

/// The history of all streams. Clones share it.
#[derive(Clone)]
pub struct History(Arc<Inner>);

struct Inner {
    config: HistoryConfig,
    clock: Arc<dyn Clock>,
    streams: RwLock<BTreeMap<String, Arc<Mutex<Watched>>>>,
    queue: Mutex<Option<Sender<Item>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The thread has come to its end.
    done: Shutdown,
    /// Until the thread takes it.
    store: Mutex<Option<Store>>,
    standing: Mutex<Standing>,
    /// A reader has found this file to be damaged: the number of [`Standing::Kept`].
    damaged: AtomicU64,
    counts: Counts,
    media: Option<Arc<HlsStore>>,
    /// Once the folder is ours.
    clips: OnceLock<Clips>,
}

/// Whether anything is kept now.
enum Standing {
    /// In the file of this number, counted from 1 within the process.
    Kept {
        /// Its number.
        file: u64,
    },
    /// Not; why, in words.
    Off(String),
}

/// For metrics.
#[derive(Default)]
struct Counts {
    n_rows: [AtomicU64; Table::ALL.len()],
    n_bytes: AtomicU64,
    n_lost: AtomicU64,
    n_removed_for_age: AtomicU64,
    n_removed_for_bytes: AtomicU64,
    is_troubled: AtomicBool,
}

impl History {
    /// Opens what is kept. Where that cannot be done, it says so, goes on without, and tries again now and then. `media` are
    /// the segments that clips are made of; without them there are none.
    pub fn open(config: HistoryConfig, media: Option<Arc<HlsStore>>, clock: &Arc<dyn Clock>) -> Self {
        let history = Self(Arc::new(Inner {
            config,
            clock: Arc::clone(clock),
            streams: RwLock::default(),
            queue: Mutex::default(),
            thread: Mutex::default(),
            done: Shutdown::default(),
            store: Mutex::default(),
            standing: Mutex::new(Standing::Off("the history is being opened".into())),
            damaged: AtomicU64::new(0),
            counts: Counts::default(),
            media,
            clips: OnceLock::new(),
        }));
        let store = history.0.open(1);
        *history.0.store.lock() = store;
        history
    }

    /// Starts the thread `history`, which receives from `items`. `house` tells how streams fare. Once.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(&self, queue: Sender<Item>, items: Receiver<Item>, house: Arc<dyn HouseView>) -> io::Result<()> {
        let recorder = Recorder::new(Arc::clone(&self.0), house, self.0.store.lock().take());
        let ended = Ended(self.0.done.clone());
        let thread = std::thread::Builder::new().name("history".into()).spawn(move || {
            let _ended = ended;
            recorder.run(&items);
        })?;
        *self.0.queue.lock() = Some(queue);
        *self.0.thread.lock() = Some(thread);
        Ok(())
    }

    /// A stream is attached; before its first event.
    pub fn attach(&self, info: &StreamInfo) {
        let (now, now_ms) = (self.0.clock.monotonic(), self.0.clock.wall().as_millisecond());
        let mut streams = self.0.streams.write();
        match streams.get(info.name.as_str()) {
            Some(watched) => watched.lock().attached_again(),
            None => {
                let watched = Arc::new(Mutex::new(Watched::new(now, now_ms)));
                streams.insert(info.name.to_string(), watched);
            }
        }
    }

    /// A stream is detached; after its last event.
    pub fn detach(&self, info: &StreamInfo) {
        if let Some(watched) = self.0.streams.read().get(info.name.as_str()) {
            watched.lock().is_gone = true;
        }
    }

    /// It happened. Never waits.
    pub fn event(&self, event: &Arc<Event>) {
        match &event.body {
            Body::Detections(seen) => {
                if let Some(watched) = self.0.streams.read().get(event.stream.name.as_str()) {
                    watched.lock().frame(seen);
                }
            }
            Body::Transcript(heard) if !heard.is_final => {}
            Body::Transcript(heard) => {
                if let Some(clips) = self.0.clips.get() {
                    clips.take(event, heard);
                }
                self.send(Item::Event(Arc::clone(event)));
            }
            Body::Status(_) | Body::Gap(_) => self.send(Item::Event(Arc::clone(event))),
            Body::Caption(_) | Body::Alert(_) => {}
        }
    }

    /// Somebody changed something, or was refused, or logged in. Never waits; kept within a second or two.
    pub fn audit(&self, entry: Audit) {
        self.send(Item::Audit(entry));
    }

    /// Stream time at which the clip of a transcript begins, in milliseconds; none where there is no clip (yet).
    pub fn clip_begins(&self, id: &str) -> Option<u64> {
        self.0.clips.get()?.begin_of(id)
    }

    /// Where the clip (MP4) of a transcript lies.
    pub fn clip(&self, id: &str) -> Option<PathBuf> {
        self.0.clips.get()?.file_of(id)
    }

    fn send(&self, item: Item) {
        let queue = self.0.queue.lock().clone();
        if let Some(queue) = queue {
            queue.send(item);
        }
    }

    /// What is in hand is written. Nothing is taken any more, by no clone.
    pub fn close(&self) {
        self.0.queue.lock().take();
        if let Some(clips) = self.0.clips.get() {
            clips.close();
        }
        let Some(thread) = self.0.thread.lock().take() else { return };
        if !self.0.done.wait_timeout(GRACE) {
            tracing::error!("the thread history does not come to its end: its disk may be gone");
        } else if thread.join().is_err() {
            tracing::error!("the thread history had panicked; this is a bug");
        }
    }
}

/// Says so when it is dropped, also by a panic.
struct Ended(Shutdown);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.trigger();
    }
}
