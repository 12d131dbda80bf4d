//! Clips: the picture and sound of each stretch of speech, so that who finds its words sees and hears the moment.
//!
//! One MP4 a final transcript, made of the segments that players get ([`HlsStore`]) without encoding, in the folder `clips`
//! beside the history's file. One queue (`clips`, 64, the oldest dropped) and one thread, `clips`. Must never hold up the
//! pipeline, nor the history: what cannot be made or written is counted and told, and the words are found all the same.

mod kept;

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use base::{
    event::{Event, Transcript},
    queue::{self, Received, Receiver, Sender, WhenFull},
    shutdown::Shutdown,
    time::{Clock, Pts},
};
use bytes::Bytes;
use parking_lot::Mutex;

use self::kept::{Clip, Kept, name_of};
use super::Ended;
use crate::{
    evidence::is_id,
    hls::{Fit, HlsStore, Stretch, Tap},
    metrics::Scrape,
    roster::QueueProbe,
};

/// The folder's name.
const FOLDER: &str = "clips";
/// A clip begins so long before its first word, at the keyframe before that, and ends so long after its last.
const BEFORE: Duration = Duration::from_secs(2);
const AFTER: Duration = Duration::from_secs(2);
/// Of a longer one the beginning is kept.
const LONGEST: Duration = Duration::from_secs(60);
/// Transcripts that the thread may be behind.
const QUEUE: usize = 64;
/// Clips that wait for their last segment at the same time; further ones are not made.
const MOST_AT_ONCE: usize = 64;
/// Most bytes of one clip: they are in memory while it waits.
const MOST_BYTES: usize = 16 << 20;
/// The same of all clips together: whoever comes for more ends early.
const MOST_BYTES_AT_ONCE: usize = 128 << 20;
/// How often new segments are fetched.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A segment is at most twenty seconds long, and its sound may come a second later.
const SEGMENT_COMES_WITHIN: Duration = Duration::from_secs(30);
/// How often it is looked for what is too old.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// What is in hand at the end gets so long.
const GRACE: Duration = Duration::from_secs(3);
/// The clips of what was said.
pub(super) struct Clips {
    shared: Arc<Shared>,
    media: Arc<HlsStore>,
    queue: Mutex<Option<Sender<Wanted>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The thread has come to its end.
    done: Shutdown,
    probe: QueueProbe,
}

struct Shared {
    dir: PathBuf,
    keep: Duration,
    max_bytes: u64,
    clock: Arc<dyn Clock>,
    kept: Mutex<Kept>,
    n_failed: AtomicU64,
    n_cut: AtomicU64,
    n_removed: AtomicU64,
    is_troubled: AtomicBool,
    is_closing: AtomicBool,
}

/// A clip that is to be made.
struct Wanted {
    id: String,
    start: Pts,
    end: Pts,
    tap: Tap,
}

/// A clip on its way.
struct Gathering {
    wanted: Wanted,
    stretch: Stretch,
    segments: Vec<Bytes>,
    /// On the monotonic clock.
    deadline: Duration,
    is_over: bool,
    /// There was no room for all of it.
    is_cut: bool,
}

impl Clips {
    /// Reads what is kept in the history's folder, which is there and ours alone, and starts the thread `clips`.
    ///
    /// # Errors
    /// When the folder cannot be made or read, or no thread be started.
    pub(super) fn open(
        history: &Path,
        (keep, max_bytes): (Duration, u64),
        media: Arc<HlsStore>,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let dir = history.join(FOLDER);
        // For the service's own user alone, as the history is.
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let kept = Mutex::new(Kept::scan(&dir)?);
        let shared = Arc::new(Shared {
            dir,
            keep,
            max_bytes,
            clock,
            kept,
            n_failed: AtomicU64::new(0),
            n_cut: AtomicU64::new(0),
            n_removed: AtomicU64::new(0),
            is_troubled: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
        });
        let (sender, receiver) = queue::queue("clips", QUEUE, WhenFull::DropOldest);
        let (done, probe) = (Shutdown::default(), Arc::new(receiver.probe()));
        let (ended, worker) = (Ended(done.clone()), Worker { shared: Arc::clone(&shared), gatherings: Vec::new() });
        let thread = std::thread::Builder::new().name("clips".into()).spawn(move || {
            let _ended = ended;
            worker.run(&receiver);
        })?;
        let (queue, thread) = (Mutex::new(Some(sender)), Mutex::new(Some(thread)));
        Ok(Self { shared, media, queue, thread, done, probe })
    }

    /// Somebody has spoken. Never waits. Streams without segments have no clips.
    pub(super) fn take(&self, event: &Event, heard: &Transcript) {
        if heard.text.is_empty() || !is_id(&event.id) {
            return;
        }
        let Some(queue) = self.queue.lock().clone() else { return };
        let from = Pts::from_nanos(heard.start.nanos().saturating_sub(nanos(BEFORE)));
        // Nothing is held that no clip has room for.
        let until = Pts::from_nanos(heard.end.nanos().saturating_add(nanos(AFTER)));
        if let Ok(tap) = self.media.tap(&event.stream.name, &event.session, from..until, MOST_BYTES) {
            queue.send(Wanted { id: event.id.clone(), start: heard.start, end: heard.end, tap });
        }
    }

    /// Stream time at which the clip of a transcript begins, in milliseconds; none where there is no clip.
    pub(super) fn begin_of(&self, id: &str) -> Option<u64> {
        self.shared.kept.lock().by_id.get(id).map(|clip| clip.from_ms)
    }

    /// Where the clip of a transcript lies.
    pub(super) fn file_of(&self, id: &str) -> Option<PathBuf> {
        self.begin_of(id).map(|from_ms| self.shared.path(id, from_ms))
    }

    /// What is in hand is finished, for a while.
    pub(super) fn close(&self) {
        self.shared.is_closing.store(true, Relaxed);
        self.queue.lock().take();
        let Some(thread) = self.thread.lock().take() else { return };
        if !self.done.wait_timeout(2 * GRACE) {
            tracing::error!("the thread clips does not come to its end: its disk may be gone");
        } else if thread.join().is_err() {
            tracing::error!("the thread clips had panicked; this is a bug");
        }
    }

    pub(super) fn scrape(&self, out: &mut Scrape) {
        let shared = &self.shared;
        let (n_clips, n_bytes) = {
            let kept = shared.kept.lock();
            (kept.by_id.len(), kept.n_bytes)
        };
        let clips = "Clips of what was said that are kept.";
        out.gauge("eyewitness_history_clips", clips, &[], n_clips as f64);
        out.gauge("eyewitness_history_clips_bytes", "Bytes of the clips of what was said.", &[], n_bytes as f64);
        out.counter(
            "eyewitness_history_clips_failed_total",
            "Clips of what was said that could not be made or written; the log says why.",
            &[],
            shared.n_failed.load(Relaxed) as f64,
        );
        out.counter(
            "eyewitness_history_clips_cut_total",
            "Clips of what was said that end early, as they were too big, alone or with those that were gathered beside them.",
            &[],
            shared.n_cut.load(Relaxed) as f64,
        );
        out.counter(
            "eyewitness_history_clips_removed_total",
            "Clips of what was said that were let go of, as they were too old or there was no room.",
            &[],
            shared.n_removed.load(Relaxed) as f64,
        );
        out.queue(&(self.probe)());
    }
}

struct Worker {
    shared: Arc<Shared>,
    gatherings: Vec<Gathering>,
}

impl Worker {
    /// Works until every sender is gone, and then for a while at what is in hand.
    fn run(mut self, items: &Receiver<Wanted>) {
        let (clock, mut sweep_at) = (Arc::clone(&self.shared.clock), Duration::ZERO);
        let mut until = None;
        loop {
            match items.recv_timeout(LOOK_EVERY) {
                Received::Item(wanted) => self.begin(wanted),
                Received::TimedOut => {}
                Received::Closed => break,
            }
            if self.shared.is_closing.load(Relaxed) {
                let until = *until.get_or_insert_with(|| clock.monotonic() + GRACE);
                if clock.monotonic() >= until {
                    self.shared.n_failed.fetch_add(items.read().n_items as u64, Relaxed);
                    break;
                }
            }
            self.step(clock.monotonic());
            if clock.monotonic() >= sweep_at {
                sweep_at = clock.monotonic() + SWEEP_EVERY;
                self.shared.sweep();
            }
        }
        let until = until.unwrap_or_else(|| clock.monotonic() + GRACE);
        absorb(&mut self.gatherings, MOST_BYTES_AT_ONCE);
        for gathering in self.gatherings.drain(..) {
            match clock.monotonic() < until {
                true => self.shared.make(gathering),
                false => self.shared.failed(&gathering.wanted.id, "the service stops"),
            }
        }
    }

    fn begin(&mut self, wanted: Wanted) {
        if self.gatherings.len() >= MOST_AT_ONCE {
            self.shared.failed(&wanted.id, &format!("{MOST_AT_ONCE} others are being gathered"));
            return;
        }
        let deadline = self.shared.clock.monotonic() + AFTER + SEGMENT_COMES_WITHIN;
        self.gatherings.push(Gathering::new(wanted, deadline));
    }

    /// Takes in what has come, and makes the clips that have all of it.
    fn step(&mut self, now: Duration) {
        absorb(&mut self.gatherings, MOST_BYTES_AT_ONCE);
        for gathering in self.gatherings.extract_if(.., |gathering| gathering.is_over || now >= gathering.deadline) {
            self.shared.make(gathering);
        }
    }
}

/// Takes in what has come of all clips, which are `most_bytes` together at most.
fn absorb(gatherings: &mut [Gathering], most_bytes: usize) {
    let mut n_bytes: usize = gatherings.iter().map(Gathering::n_bytes).sum();
    for gathering in gatherings {
        n_bytes -= gathering.n_bytes();
        gathering.absorb(MOST_BYTES.min(most_bytes.saturating_sub(n_bytes)));
        n_bytes += gathering.n_bytes();
    }
}

impl Gathering {
    const fn new(wanted: Wanted, deadline: Duration) -> Self {
        let stretch = Stretch::new(wanted.start);
        Self { wanted, stretch, segments: Vec::new(), deadline, is_over: false, is_cut: false }
    }

    fn n_bytes(&self) -> usize {
        self.segments.iter().map(Bytes::len).sum()
    }

    fn absorb(&mut self, most_bytes: usize) {
        let (segments, end) = self.wanted.tap.take();
        for segment in &segments {
            if self.is_over {
                break;
            }
            let fit = self.stretch.fit(segment, self.stop());
            match fit {
                Fit::Next => {}
                Fit::First => self.segments.clear(),
                Fit::Beyond => {
                    self.is_over = true;
                    break;
                }
            }
            if self.n_bytes() + segment.bytes.len() > most_bytes {
                (self.is_over, self.is_cut) = (true, true);
                break;
            }
            self.stretch.add(segment, fit);
            self.segments.push(segment.bytes.clone());
        }
        self.is_over |= end.is_some() || !self.segments.is_empty() && self.stretch.end() >= self.stop();
    }

    /// Nothing that begins here or later belongs to it.
    fn stop(&self) -> Pts {
        let after = |pts: Pts, by| Pts::from_nanos(pts.nanos().saturating_add(nanos(by)));
        let longest = after(self.stretch.first().unwrap_or(self.wanted.start), LONGEST);
        after(self.wanted.end, AFTER).min(longest)
    }
}

impl Shared {
    fn path(&self, id: &str, from_ms: u64) -> PathBuf {
        self.dir.join(name_of(id, from_ms))
    }

    fn make(&self, gathering: Gathering) {
        let Gathering { wanted: Wanted { id, end, .. }, stretch, segments, is_cut, .. } = gathering;
        if is_cut && segments.is_empty() {
            self.failed(&id, "there is no room for its first segment beside those of others");
            return;
        }
        let Some(first) = stretch.first().filter(|first| *first <= end) else {
            self.failed(&id, "its segments were gone: speech is too far behind");
            return;
        };
        let from_ms = first.millis();
        let path = self.path(&id, from_ms);
        let making = path.with_extension("mp4.part");
        let made = ingest::clips::write_mp4(&segments, &making)
            .map_err(|e| e.to_string())
            .and_then(|_| fs::rename(&making, &path).map_err(|e| e.to_string()))
            .and_then(|()| fs::metadata(&path).map_err(|e| e.to_string()));
        match made {
            Ok(file) => {
                let written_ms = self.clock.wall().as_millisecond();
                self.n_cut.fetch_add(u64::from(is_cut), Relaxed);
                self.keep(id, Clip { from_ms, n_bytes: file.len(), written_ms });
                if self.is_troubled.swap(false, Relaxed) {
                    tracing::info!("clips of what was said are kept again");
                }
                self.sweep();
            }
            Err(cause) => {
                let _ = fs::remove_file(&making);
                self.failed(&id, &cause);
            }
        }
    }

    /// There is one more, in the place of an earlier one where there is one.
    fn keep(&self, id: String, clip: Clip) {
        let before = self.kept.lock().add(id.clone(), clip);
        if let Some(before) = before.filter(|before| before.from_ms != clip.from_ms) {
            self.take_away(&id, before);
        }
    }

    fn failed(&self, id: &str, cause: &str) {
        self.n_failed.fetch_add(1, Relaxed);
        if !self.is_troubled.swap(true, Relaxed) {
            tracing::error!(
                transcript = id,
                "the clip of what was said is not kept: {cause}; its words are, and what fails from now on is counted"
            );
        }
    }

    /// Takes away what is too old, and what there is no room for: the oldest first.
    fn sweep(&self) {
        let now = (self.clock.wall().as_millisecond(), self.clock.monotonic());
        let mut gone = self.kept.lock().superfluous(now, self.keep, self.max_bytes).into_iter();
        while let Some((id, clip)) = gone.next() {
            if self.take_away(&id, clip) {
                self.n_removed.fetch_add(1, Relaxed);
                continue;
            }
            // The others will fail as well, until somebody has looked; they are still there.
            let mut kept = self.kept.lock();
            for (id, clip) in std::iter::once((id, clip)).chain(gone.by_ref()) {
                kept.add(id, clip);
            }
        }
    }

    /// Whether it is gone.
    fn take_away(&self, id: &str, clip: Clip) -> bool {
        match fs::remove_file(self.path(id, clip.from_ms)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::error!(transcript = id, "the clip of what was said cannot be taken away: {error}");
                false
            }
            _ => true,
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
