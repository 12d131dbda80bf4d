//! The thread `evidence`: writes records, pictures and clips, and takes old ones away. Records go first; of pictures and clips
//! one is made at a time, between records. Whatever fails is counted, and nobody waits for it.

use std::{
    collections::{HashSet, VecDeque},
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    sync::Arc,
    time::Duration,
};

use base::{
    event::{AlertState, Body, Event},
    queue::{Received, Receiver},
    time::{Pts, Timestamp},
};
use bytes::Bytes;

use super::{
    Coming, Shared, What,
    draw::{Annotation, Picture},
    folder::{CLIP, GATHERED, MAKING, Meta, NO_CLIP, SNAPSHOT},
    gathering::{Closeup, Gathering, Plan},
    index::{Facts, Why},
    news::NewsItem,
    still::Still,
};
use crate::hls::{NoTap, Tap};

/// Clips that are gathered at the same time; further alerts have none.
pub(super) const MOST_CLIPS: usize = 64;
/// How often new segments are fetched.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How often it looks for what is too old.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Records that come faster than one a millisecond are stamped ahead of the clock, by so much at most.
const MOST_AHEAD_MS: i64 = 5000;
/// Streams that were said to have no clips; then they are said anew.
const MOST_TOLD: usize = 1000;

/// What the queue carries.
pub(super) struct Taken {
    pub(super) event: Arc<Event>,
    /// Only of an alert that was opened.
    pub(super) still: Option<Still>,
    /// Only of an alert that was opened, and is to have a clip.
    pub(super) tap: Option<Result<Tap, NoTap>>,
    /// Until the record is written down. Only of an alert that was opened.
    pub(super) coming: Option<Coming>,
}

pub(super) struct Worker {
    shared: Arc<Shared>,
    gatherings: Vec<Gathering>,
    closeups: VecDeque<(String, Closeup)>,
    /// Names of streams of which it was said that they have no clips.
    told: HashSet<String>,
    /// Of the last record.
    stamped_ms: i64,
    look_at: Duration,
    sweep_at: Duration,
    /// Writing goes wrong, and that has been said.
    is_troubled: bool,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, left_over: &[String]) -> Self {
        let gatherings = left_over.iter().map(|id| Gathering::left_over(id)).collect();
        Self {
            shared,
            gatherings,
            closeups: VecDeque::new(),
            told: HashSet::new(),
            stamped_ms: 0,
            look_at: Duration::ZERO,
            sweep_at: Duration::ZERO,
            is_troubled: false,
        }
    }

    /// Works until every sender is gone, and then for at most `grace` at what is in hand.
    pub(super) fn run(mut self, items: &Receiver<Taken>, grace: Duration) {
        let mut n_dropped = 0;
        loop {
            let has_work = !self.closeups.is_empty() || self.has_due();
            match items.recv_timeout(if has_work { Duration::ZERO } else { LOOK_AGAIN }) {
                Received::Item(taken) => {
                    self.take(taken);
                    // Segments do not wait for ever.
                    if self.shared.clock.monotonic() < self.look_at {
                        continue;
                    }
                }
                Received::TimedOut => {}
                Received::Closed => break,
            }
            let dropped = items.read().n_dropped;
            if dropped > n_dropped {
                tracing::error!(
                    n_records = dropped - n_dropped,
                    "alerts came faster than they could be kept: what is kept of them is incomplete"
                );
                n_dropped = dropped;
            }
            self.absorb();
            self.make_one();
            self.sweep();
        }
        self.absorb();
        let until = self.shared.clock.monotonic() + grace;
        self.gatherings.iter_mut().for_each(Gathering::finish);
        while self.make_one() {
            if self.shared.clock.monotonic() >= until {
                tracing::warn!(n_clips = self.gatherings.len(), "clips are left to the next start");
                break;
            }
        }
        self.shared.news.close();
    }

    fn has_due(&self) -> bool {
        let now = self.shared.clock.monotonic();
        self.gatherings.iter().any(|gathering| gathering.is_due(now))
    }

    /// Now, in whole milliseconds, and no two of them the same: records are put in order by it, also after a restart.
    fn stamp(&mut self) -> Timestamp {
        let now = self.shared.clock.wall();
        let wall_ms = now.as_millisecond();
        let next_ms = self.stamped_ms.saturating_add(1);
        // A clock that was set back is followed.
        let at_ms = if next_ms > wall_ms && next_ms - wall_ms < MOST_AHEAD_MS { next_ms } else { wall_ms };
        self.stamped_ms = at_ms;
        Timestamp::from_millisecond(at_ms).unwrap_or(now)
    }

    fn take(&mut self, taken: Taken) {
        let Taken { event, still, tap, coming } = taken;
        let Body::Alert(alert) = &event.body else { return };
        let shared = Arc::clone(&self.shared);
        let at = self.stamp();
        let json = sinks::wire::encode(&event, Some(at));
        let Some(meta) = Meta::parse(&json) else { return };
        if !shared.index.lock().note(&meta, at.as_millisecond()) {
            return;
        }
        let id = alert.alert.as_str();
        let for_good = alert.state != AlertState::Updated;
        let kept = shared.folder.keep_record(id, &json, for_good).map_err(|e| e.to_string());
        drop(coming);
        shared.news.put(NewsItem { id: event.id.clone(), json, facts: Facts::from(&meta) });
        if !self.fared(What::Record, id, kept) {
            return;
        }
        match alert.state {
            AlertState::Opened => self.opened(&event, alert, still, tap),
            AlertState::Updated => {}
            AlertState::Closed => self.closed(&event, id),
        }
        self.resize(id);
    }

    fn opened(
        &mut self,
        event: &Event,
        alert: &base::event::Alert,
        still: Option<Still>,
        tap: Option<Result<Tap, NoTap>>,
    ) {
        let id = alert.alert.as_str();
        let annotation = Annotation {
            boxes: alert.evidence.objects.iter().map(|object| object.detection.box_in_image).collect(),
            shapes: alert.evidence.shapes.clone(),
        };
        let opened = still.as_ref().filter(|still| still.session == event.session).map_or(event.pts, |still| still.pts);
        let source = still.as_ref().map(|still| still.source);
        if let Some(still) = still {
            let source = still.source;
            self.snapshot(id, still.into_picture().in_proportion(source), &annotation, source);
        }
        let config = &self.shared.config;
        match tap {
            None => {}
            Some(Err(NoTap(cause))) => {
                let stream = event.stream.name.as_str();
                if self.told.len() >= MOST_TOLD {
                    self.told.clear();
                }
                if self.told.insert(stream.to_owned()) {
                    tracing::warn!(stream, "its alerts have no clips: {cause}");
                }
                self.no_clip(id, &cause);
            }
            Some(Ok(_)) if self.gatherings.len() >= MOST_CLIPS => {
                tracing::error!(alert = id, "it has no clip: {MOST_CLIPS} others are being gathered");
                self.shared.counts.failed(What::Clip);
                self.no_clip(id, &format!("{MOST_CLIPS} others were being gathered at the same time"));
            }
            Some(Ok(tap)) => {
                let plan = Plan { opened, post_roll: config.post_roll(), most: config.max_clip() };
                let wanted = alert.evidence.snapshot.is_some().then_some((annotation, source));
                self.shared.gathering.lock().insert(id.to_owned());
                let now = self.shared.clock.monotonic();
                self.gatherings.push(Gathering::new(id, plan, tap, wanted, now));
            }
        }
    }

    fn closed(&mut self, event: &Event, id: &str) {
        let now = self.shared.clock.monotonic();
        if let Some(gathering) = self.gatherings.iter_mut().find(|gathering| gathering.id == id) {
            // Ids begin with the session in which the alert was opened.
            let is_same = id.starts_with(event.session.as_str());
            gathering.close(is_same.then_some(event.pts), now);
        }
    }

    /// Fetches what has come of all clips.
    fn absorb(&mut self) {
        self.look_at = self.shared.clock.monotonic() + LOOK_AGAIN;
        let mut failed = Vec::new();
        for (place, gathering) in self.gatherings.iter_mut().enumerate() {
            match gathering.absorb(&self.shared.folder) {
                Ok(()) => {
                    if let Some(closeup) = gathering.take_closeup() {
                        self.closeups.push_back((gathering.id.clone(), closeup));
                    }
                }
                Err(error) => failed.push((place, error.to_string())),
            }
        }
        for (place, cause) in failed.into_iter().rev() {
            let Gathering { id, .. } = self.gatherings.remove(place);
            self.fared(What::Clip, &id, Err(cause.clone()));
            self.gone(&id, &format!("it could not be written: {cause}"));
        }
    }

    /// Makes the picture or the clip whose turn it is; gives whether there was one.
    fn make_one(&mut self) -> bool {
        if let Some((id, closeup)) = self.closeups.pop_front() {
            self.closeup(&id, &closeup);
            self.resize(&id);
            return true;
        }
        let now = self.shared.clock.monotonic();
        let Some(place) = self.gatherings.iter().position(|gathering| gathering.is_due(now)) else { return false };
        let Gathering { id, .. } = self.gatherings.remove(place);
        self.clip(&id);
        true
    }

    fn snapshot(&mut self, id: &str, mut picture: Picture, annotation: &Annotation, source: (u32, u32)) {
        picture.annotate(annotation, source);
        let folder = &self.shared.folder;
        let kept = picture.jpeg().and_then(|jpeg| folder.keep(id, SNAPSHOT, &jpeg).map_err(|e| e.to_string()));
        self.fared(What::Snapshot, id, kept);
    }

    /// The snapshot again, from the picture in full size.
    fn closeup(&mut self, id: &str, closeup: &Closeup) {
        let segment = || -> std::io::Result<Bytes> {
            let mut file = File::open(self.shared.folder.file(id, GATHERED))?;
            file.seek(SeekFrom::Start(closeup.place.0))?;
            let mut bytes = Vec::new();
            file.take(closeup.place.1).read_to_end(&mut bytes)?;
            Ok(bytes.into())
        };
        // It was begun anew, or could not be written, which was told.
        let Ok(segment) = segment() else { return };
        match ingest::clips::picture_at(&[segment], closeup.after) {
            Ok(image) => {
                let size = (image.width, image.height);
                let picture = Picture::copy_of(&image).in_proportion(size);
                self.snapshot(id, picture, &closeup.annotation, closeup.source.unwrap_or(size));
            }
            Err(error) => {
                self.shared.counts.failed(What::Snapshot);
                tracing::warn!(alert = id, "its picture in full size could not be had: {error}");
            }
        }
    }

    fn clip(&mut self, id: &str) {
        let folder = self.shared.folder.clone();
        let Ok(media) = std::fs::read(folder.file(id, GATHERED)) else {
            // The path was promised, and nothing came.
            self.shared.counts.failed(What::Clip);
            self.gone(id, "no media of its time came");
            return;
        };
        let making = folder.file(id, MAKING);
        let made = ingest::clips::write_mp4(&[media.into()], &making)
            .map_err(|e| e.to_string())
            .and_then(|_| std::fs::rename(&making, folder.file(id, CLIP)).map_err(|e| e.to_string()));
        match made {
            Ok(()) => {
                self.fared(What::Clip, id, Ok(()));
                folder.discard(id, GATHERED);
                self.shared.gathering.lock().remove(id);
                self.resize(id);
            }
            Err(cause) => {
                self.fared(What::Clip, id, Err(cause.clone()));
                self.gone(id, &cause);
            }
        }
    }

    /// There will be no clip of an alert for which one was gathered.
    fn gone(&mut self, id: &str, cause: &str) {
        self.shared.folder.discard(id, GATHERED);
        self.no_clip(id, cause);
        self.shared.gathering.lock().remove(id);
        self.resize(id);
    }

    fn no_clip(&self, id: &str, cause: &str) {
        if let Err(error) = self.shared.folder.keep(id, NO_CLIP, cause.as_bytes()) {
            tracing::debug!(alert = id, "why it has no clip is not written down: {error}");
        }
    }

    fn resize(&self, id: &str) {
        let n_bytes = self.shared.folder.size(id);
        self.shared.index.lock().resize(id, n_bytes);
    }

    /// Counts, and says so when it begins to go wrong and when it is over; gives whether it went well.
    fn fared(&mut self, what: What, id: &str, outcome: Result<(), String>) -> bool {
        match outcome {
            Ok(()) => {
                self.shared.counts.kept(what);
                if std::mem::take(&mut self.is_troubled) {
                    tracing::info!("what is kept of alerts can be written again");
                }
                true
            }
            Err(cause) => {
                self.shared.counts.failed(what);
                if !std::mem::replace(&mut self.is_troubled, true) {
                    tracing::error!(
                        alert = id,
                        "its {} could not be kept: {cause}; alerts go out all the same, and what fails from now on is counted",
                        what.as_str()
                    );
                }
                false
            }
        }
    }

    /// Takes away what is too old, and what there is no room for.
    fn sweep(&mut self) {
        let now = self.shared.clock.monotonic();
        if now < self.sweep_at {
            return;
        }
        self.sweep_at = now + SWEEP_EVERY;
        self.shared.sweep();
    }
}

impl Shared {
    /// Takes away what is too old, and what there is no room for.
    pub(super) fn sweep(&self) {
        let times = (self.clock.wall().as_millisecond(), self.clock.monotonic());
        let since_ms = self.index.lock().too_old(times, self.config.keep());
        let gathering = self.gathering.lock().clone();
        let gone = self.index.lock().superfluous(since_ms, self.config.keep_bytes, |id| gathering.contains(id));
        for (id, why) in gone {
            match self.folder.remove(&id) {
                Ok(_) => {
                    self.index.lock().remove(&id);
                    self.counts.removed(why);
                    let why = if why == Why::Age { "it is too old" } else { "there is no room" };
                    tracing::debug!(alert = &*id, "let go of: {why}");
                }
                Err(error) => {
                    tracing::error!(alert = &*id, "it cannot be taken away: {error}");
                    // The others will fail as well, until somebody has looked.
                    break;
                }
            }
        }
    }
}

/// Where a clip begins: before the alert was opened, and before what it speaks of began where that was not long ago.
pub(super) fn beginning(since: Option<Pts>, opened: Pts, pre_roll: Duration, most: Duration) -> Pts {
    let earliest = earlier(opened, most / 2);
    earlier(since.unwrap_or(opened).clamp(earliest, opened), pre_roll)
}

fn earlier(pts: Pts, by: Duration) -> Pts {
    Pts::from_nanos(pts.nanos().saturating_sub(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
}
