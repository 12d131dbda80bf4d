//! What is kept of alerts: the newest record, an annotated picture and a clip, each alert in a folder of its own.
//!
//! One queue (`evidence`, 1024 alerts, the oldest dropped) and one thread, `evidence`, for all streams. The picture is the
//! analysed frame at first, and the camera's own once its segment is there; the clip is made of the segments that players
//! get ([`HlsStore`]), without encoding. Must never hold up an alert: whatever fails here is counted and told, and the alert
//! goes out all the same.

mod config;
mod counts;
mod desk;
mod draw;
mod folder;
mod gathering;
mod index;
mod news;
#[cfg(test)]
pub(crate) mod samples;
mod still;
#[cfg(test)]
mod tests;
mod worker;

use std::{collections::HashSet, path::PathBuf, sync::Arc, thread::JoinHandle, time::Duration};

use anyhow::Context as _;
use base::{
    event::{AlertState, Body, BoxInImage, Event, Shape},
    media::Frame,
    queue::{self, Sender, WhenFull},
    shutdown::Shutdown,
    time::{Clock, Pts, Timestamp},
};
use inference::rules::Carried;
use parking_lot::Mutex;
use serde_json::Value;

pub use self::{
    config::EvidenceConfig,
    desk::{Acknowledged, AlertDesk, DeskError, FILE as DESK_FILE, Silence, SilenceWish},
    index::AlertFilter,
    news::{NewsItem, NewsReader, NextNews},
};
use self::{
    counts::{Counts, What},
    draw::Annotation,
    folder::{CLIP, Folder, NO_CLIP, SNAPSHOT},
    index::{Facts, Index},
    news::News,
    still::Places,
    worker::{Taken, Worker},
};
pub(crate) use self::{draw::Picture, folder::is_id};
use crate::{
    hls::HlsStore,
    metrics::{MetricsSource, Scrape},
    roster::QueueProbe,
};

/// Records that the thread may be behind.
const QUEUE: usize = 1024;
/// Records that readers find when they come back.
const NEWS: usize = 1000;
/// What is in hand at the end gets so long.
const GRACE: Duration = Duration::from_secs(10);
/// Beyond its grace: one clip may just have been begun.
const AFTER_GRACE: Duration = Duration::from_secs(5);
/// Closed alerts of a stream that its next run is told of.
const MOST_COOLING: usize = 100;
const READING: &str = "the folder of alerts, `evidence.path`";

/// Where evidence is kept, of all streams. Clones share it.
#[derive(Clone)]
pub struct EvidenceStore(Option<Arc<Inner>>);

struct Inner {
    shared: Arc<Shared>,
    media: Option<Arc<HlsStore>>,
    places: Places,
    queue: Mutex<Option<Sender<Taken>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The thread has come to its end.
    done: Shutdown,
    probe: QueueProbe,
}

/// What the thread and those who ask have in common.
struct Shared {
    config: EvidenceConfig,
    folder: Folder,
    clock: Arc<dyn Clock>,
    index: Mutex<Index>,
    news: Arc<News>,
    /// Ids of alerts whose clips are not yet made.
    gathering: Mutex<HashSet<String>>,
    /// Ids of alerts of which nothing is written down yet.
    coming: Mutex<HashSet<String>>,
    counts: Counts,
}

/// An opened alert is on its way to the thread, and [`EvidenceStore::is_coming`] until this is dropped.
struct Coming(Arc<Shared>, String);

impl Coming {
    fn new(shared: &Arc<Shared>, id: &str) -> Self {
        shared.coming.lock().insert(id.to_owned());
        Self(Arc::clone(shared), id.to_owned())
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.coming.lock().remove(&self.1);
    }
}

/// A file of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertFile {
    /// The annotated picture (JPEG).
    Snapshot,
    /// The clip (MP4).
    Clip,
}

/// Why there is no such file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoFile {
    /// There is no such alert.
    Unknown,
    /// It comes later.
    NotYet,
    /// There is none and will be none; why, in words.
    None(String),
}

impl EvidenceStore {
    /// Reads what is kept, lets go of what is too old, and starts the thread `evidence`. `media` are the segments that clips
    /// are made of; without them there are no clips. Nothing is read or written when evidence is not enabled.
    ///
    /// # Errors
    /// When the folder cannot be made, read or written, or no thread be started.
    pub fn open(config: EvidenceConfig, media: Option<Arc<HlsStore>>, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        if !config.enabled {
            return Ok(Self(None));
        }
        let named = || format!("{READING} = \"{}\"", config.path.display());
        let folder = Folder::open(&config.path).with_context(named)?;
        let mut found = folder.scan().with_context(named)?;
        found.sort_by_key(|alert| (alert.meta.at_ms(), alert.meta.revision));
        let (mut index, news) = (Index::default(), News::new(NEWS));
        for alert in &found {
            index.note(&alert.meta, alert.meta.at_ms());
            index.resize(&alert.meta.alert, alert.n_bytes);
        }
        for alert in &found[found.len().saturating_sub(NEWS)..] {
            if let Some(json) = folder.record(&alert.meta.alert) {
                let json = json.trim_end().to_owned();
                news.put(NewsItem { id: alert.meta.id.clone(), json, facts: Facts::from(&alert.meta) });
            }
        }
        let left_over: Vec<String> =
            found.iter().filter(|alert| alert.is_gathering).map(|alert| alert.meta.alert.clone()).collect();
        let shared = Arc::new(Shared {
            config,
            folder,
            clock,
            index: Mutex::new(index),
            news,
            gathering: Mutex::new(left_over.iter().cloned().collect()),
            coming: Mutex::default(),
            counts: Counts::default(),
        });
        shared.sweep();
        let (sender, receiver) = queue::queue("evidence", QUEUE, WhenFull::DropOldest);
        let probe = receiver.probe();
        let (done, worker) = (Shutdown::default(), Worker::new(Arc::clone(&shared), &left_over));
        let ended = Ended(done.clone());
        let thread = std::thread::Builder::new()
            .name("evidence".into())
            .spawn(move || {
                let _ended = ended;
                worker.run(&receiver, GRACE);
            })
            .context("cannot start thread evidence")?;
        Ok(Self(Some(Arc::new(Inner {
            shared,
            media,
            places: Places::default(),
            queue: Mutex::new(Some(sender)),
            thread: Mutex::new(Some(thread)),
            done,
            probe: Arc::new(probe),
        }))))
    }

    /// Whether anything is kept.
    pub const fn is_enabled(&self) -> bool {
        self.0.is_some()
    }

    /// What is to stand in an alert's evidence: the paths of its snapshot and its clip, which will be there a little later.
    /// `has_picture`: a frame goes with its opening, or its stream has pictures; `has_media`: its stream is cut into segments.
    /// Never waits.
    pub fn paths(&self, alert_id: &str, has_picture: bool, has_media: bool) -> (Option<String>, Option<String>) {
        let Some(inner) = self.0.as_ref().filter(|_| folder::is_id(alert_id)) else { return (None, None) };
        let path = |name: &str| format!("/v1/alerts/{alert_id}/{name}");
        (has_picture.then(|| path(SNAPSHOT)), (has_media && inner.media.is_some()).then(|| path(CLIP)))
    }

    /// Keeps a record of an alert; other events are nobody's. `frame`, looked at only when the alert is opened, is what the
    /// boxes of its objects were seen in. A clip is made where [`Self::paths`]' path stands in the record. Never waits: at
    /// most, it copies the frame's pixels.
    pub fn take(&self, event: &Arc<Event>, frame: Option<&Frame>) {
        let (Some(inner), Body::Alert(alert)) = (&self.0, &event.body) else { return };
        if !folder::is_id(&alert.alert) {
            inner.shared.counts.failed(What::Record);
            tracing::error!(
                alert = alert.alert,
                "it is not kept: its id can be no name of a folder; letters, digits, `-`, `_` and `.` can, 200 at most"
            );
            return;
        }
        let Some(queue) = inner.queue.lock().clone() else { return };
        let (mut still, mut tap, mut coming) = (None, None, None);
        if alert.state == AlertState::Opened {
            coming = Some(Coming::new(&inner.shared, &alert.alert));
            still = frame.and_then(|frame| {
                let copy = inner.places.copy(frame);
                if copy.is_none() {
                    inner.shared.counts.failed(What::Snapshot);
                }
                copy
            });
            if let Some(media) = inner.media.as_ref().filter(|_| alert.evidence.clip.is_some()) {
                let config = &inner.shared.config;
                let from = worker::beginning(alert.since.pts, event.pts, config.pre_roll(), config.max_clip());
                let span = from..Pts::from_nanos(u64::MAX);
                tap = Some(media.tap(&event.stream.name, &event.session, span, usize::MAX));
            }
        }
        queue.send(Taken { event: Arc::clone(event), still, tap, coming });
    }

    /// What an earlier run of a stream has left: the newest records of its alerts that are not closed, oldest first, and of
    /// those of the rules that are `cooling` that were closed last.
    pub fn left_behind(&self, stream: &str, cooling: Vec<String>) -> Vec<Value> {
        let streams = vec![stream.to_owned()];
        let open = AlertFilter { streams: streams.clone(), states: vec!["open".to_owned()], ..AlertFilter::default() };
        let mut records = self.newest(&open, usize::MAX);
        if !cooling.is_empty() {
            let closed = vec!["closed".to_owned()];
            let closed = AlertFilter { streams, rules: cooling, states: closed, ..AlertFilter::default() };
            records.extend(self.newest(&closed, MOST_COOLING));
        }
        let mut records: Vec<Value> = records.iter().filter_map(|json| serde_json::from_str(json).ok()).collect();
        records.reverse();
        records
    }

    /// The newest records, as on the wire, of the alerts that fit: newest first. Reads files.
    pub fn newest(&self, filter: &AlertFilter, most: usize) -> Vec<String> {
        let Some(inner) = &self.0 else { return Vec::new() };
        let ids: Vec<Arc<str>> = inner.shared.index.lock().newest(filter).take(most).cloned().collect();
        ids.iter().filter_map(|id| inner.shared.folder.record(id)).map(|json| json.trim_end().to_owned()).collect()
    }

    /// The newest record of an alert, as on the wire. Reads a file.
    pub fn record(&self, id: &str) -> Option<String> {
        let shared = self.known(id)?;
        shared.folder.record(id).map(|json| json.trim_end().to_owned())
    }

    /// Whether an alert is kept.
    pub fn has(&self, id: &str) -> bool {
        self.known(id).is_some()
    }

    /// Whether an alert was opened a moment ago, and is about to be kept: who was told of it may be quicker than the disk.
    pub fn is_coming(&self, id: &str) -> bool {
        self.0.as_ref().is_some_and(|inner| inner.shared.coming.lock().contains(id))
    }

    /// Where a file of an alert lies. Looks at the disk.
    ///
    /// # Errors
    /// Why there is none.
    pub fn file(&self, id: &str, file: AlertFile) -> Result<PathBuf, NoFile> {
        let unknown = if self.is_coming(id) { NoFile::NotYet } else { NoFile::Unknown };
        let shared = self.known(id).ok_or(unknown)?;
        let (name, key) = match file {
            AlertFile::Snapshot => (SNAPSHOT, "snapshot"),
            AlertFile::Clip => (CLIP, "clip"),
        };
        let path = shared.folder.file(id, name);
        if path.is_file() {
            return Ok(path);
        }
        if shared.gathering.lock().contains(id) {
            return Err(NoFile::NotYet);
        }
        if file == AlertFile::Clip
            && let Ok(cause) = std::fs::read_to_string(shared.folder.file(id, NO_CLIP))
        {
            return Err(NoFile::None(cause));
        }
        let record = shared.folder.record(id).and_then(|json| serde_json::from_str::<Value>(&json).ok());
        let was_promised = record.is_some_and(|record| !record["evidence"][key].is_null());
        Err(NoFile::None(match (file, was_promised) {
            (_, true) => "it could not be made or written; the log says why".into(),
            (AlertFile::Snapshot, false) => "its rule looks at no pictures".into(),
            (AlertFile::Clip, false) => {
                "the stream's media are not kept for players, which `[http]` and `[hls]` do".into()
            }
        }))
    }

    /// Reads records as they come; see [`NewsReader`]. None when nothing is kept.
    pub fn news(&self, filter: AlertFilter, after: Option<&str>) -> Option<NewsReader> {
        self.0.as_ref().map(|inner| inner.shared.news.read(filter, after))
    }

    /// What is in hand is finished, for a while; what then is left to be made is made at the next start. Nothing is taken
    /// any more, by no clone.
    pub fn close(self) {
        let Some(inner) = self.0 else { return };
        inner.queue.lock().take();
        let Some(thread) = inner.thread.lock().take() else { return };
        if !inner.done.wait_timeout(GRACE + AFTER_GRACE) {
            tracing::error!("the thread evidence does not come to its end: its disk may be gone");
        } else if thread.join().is_err() {
            tracing::error!("the thread evidence had panicked; this is a bug");
        }
    }

    fn known(&self, id: &str) -> Option<&Shared> {
        let shared = &self.0.as_ref()?.shared;
        (folder::is_id(id) && shared.index.lock().has(id)).then_some(shared)
    }
}

/// A frame with what somebody is to look at drawn over it, as a JPEG: boxes are in pixels of the source, shapes in parts of its
/// sides. In its own size, unless that is very small.
///
/// # Errors
/// In words, when it cannot be encoded.
pub fn annotated(frame: &Frame, boxes: Vec<BoxInImage>, shapes: Vec<Shape>) -> Result<Vec<u8>, String> {
    let source = (frame.source_width, frame.source_height);
    let mut picture = Picture::copy_of(&frame.image).in_proportion(source);
    picture.annotate(&Annotation { boxes, shapes }, source);
    picture.jpeg()
}

/// What somebody is to know of an alert who goes on with it: from its newest record.
pub fn carried(record: &Value) -> Option<Carried> {
    let text = |key: &str| record[key].as_str().map(str::to_owned);
    let ms = |key: &str| record[key].as_str()?.parse().ok().map(|at: Timestamp| at.as_millisecond());
    Some(Carried {
        alert: text("alert")?,
        rule: text("rule")?,
        revision: u32::try_from(record["revision"].as_u64()?).ok()?,
        since_ms: ms("since"),
        until_ms: ms("until"),
        class: record["evidence"]["objects"][0]["class"].as_str().map(str::to_owned),
        summary: text("summary")?,
        severity: text("severity"),
    })
}

impl MetricsSource for EvidenceStore {
    fn scrape(&self, out: &mut Scrape) {
        if let Some(inner) = &self.0 {
            inner.shared.scrape(out);
            out.queue(&(inner.probe)());
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
