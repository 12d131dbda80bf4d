//! The thread `history`: takes what happened, samples streams, writes once a second, tidies up. Whatever goes wrong with the
//! file costs the history and nothing else.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use base::queue::{Received, Receiver};
use sinks::history::{HistoryError, Opened, Row, Store};

use super::{Inner, Item, Standing, clips::Clips};
use crate::http::HouseView;

/// Between two transactions.
const EVERY: Duration = Duration::from_secs(1);
/// Length of a sample: by the wall clock, so that all streams' samples end together.
const SAMPLE_MS: i64 = 10_000;
/// Rows of one transaction; what comes faster waits in the queue.
const MOST_PENDING: usize = 2000;
/// Between two looks at what is to be let go of, where there was nothing more to do.
const TIDY_EVERY: Duration = Duration::from_secs(60);
/// A file that could not be opened is tried again after so long.
const RETRY_AFTER: Duration = Duration::from_secs(60);
/// While trouble lasts, it is told again after so long.
const REMIND_AFTER: Duration = Duration::from_secs(300);

pub(super) struct Recorder {
    shared: Arc<Inner>,
    house: Arc<dyn HouseView>,
    store: Option<Store>,
    pending: Vec<Row>,
    /// Of the file that is written, counted from 1.
    file: u64,
    /// Number of the samples that are being counted: the wall clock by [`SAMPLE_MS`].
    sample: i64,
    write_at: Duration,
    tidy_at: Duration,
    /// What is too old is not let go of, and that has been said.
    waits: bool,
    retry_at: Duration,
    /// On the monotonic clock: when the trouble that lasts was told last.
    told_at: Option<Duration>,
}

impl Recorder {
    pub(super) fn new(shared: Arc<Inner>, house: Arc<dyn HouseView>, store: Option<Store>) -> Self {
        let now = shared.clock.monotonic();
        let sample = shared.clock.wall().as_millisecond().div_euclid(SAMPLE_MS);
        let told_at = store.is_none().then_some(now);
        Self {
            shared,
            house,
            store,
            pending: Vec::new(),
            file: 1,
            sample,
            write_at: now + EVERY,
            tidy_at: now,
            waits: false,
            retry_at: now + RETRY_AFTER,
            told_at,
        }
    }

    /// Works until every sender is gone.
    pub(super) fn run(mut self, items: &Receiver<Item>) {
        let mut taken = Vec::new();
        loop {
            let now = self.shared.clock.monotonic();
            if now >= self.write_at {
                self.write_at = now + EVERY;
                self.tick();
            }
            let wait = self.write_at.saturating_sub(now);
            let room = MOST_PENDING.saturating_sub(self.pending.len());
            if room == 0 {
                std::thread::sleep(wait);
                continue;
            }
            match items.recv_many(room, wait, &mut taken) {
                Received::Closed => break,
                Received::Item(()) => taken.drain(..).for_each(|item| self.take(item)),
                Received::TimedOut => {}
            }
        }
        self.samples();
        self.write();
    }

    pub(super) fn take(&mut self, item: Item) {
        match item {
            Item::Event(event) => self.pending.extend(Row::of(&event, self.shared.clock.wall())),
            Item::Audit(entry) => self.pending.push(Row::Audit(entry)),
        }
    }

    /// What is done once a second.
    pub(super) fn tick(&mut self) {
        self.look();
        let sample = self.shared.clock.wall().as_millisecond().div_euclid(SAMPLE_MS);
        if sample != self.sample {
            self.sample = sample;
            self.samples();
        }
        self.reopen();
        self.write();
        self.tidy();
        if let Some(store) = &self.store {
            self.shared.counts.note(store);
        }
    }

    /// How far behind speech is, of all streams.
    fn look(&self) {
        for (name, watched) in &*self.shared.streams.read() {
            if let Some(lag) = self.house.speech_lag(name) {
                watched.lock().lag(lag);
            }
        }
    }

    /// One sample of each stream; those that are gone are forgotten.
    fn samples(&mut self) {
        let (now, now_ms) = (self.shared.clock.monotonic(), self.shared.clock.wall().as_millisecond());
        let streams: BTreeMap<_, _> = self.shared.streams.read().clone();
        let mut gone = Vec::new();
        for (name, watched) in streams {
            let figures = self.house.figures(&name);
            let mut watched = watched.lock();
            let sample = watched.sample(&name, figures.as_ref(), now, now_ms);
            self.pending.extend(sample.map(Row::Sample));
            if watched.is_gone {
                gone.push(name);
            }
        }
        // Unless they came back meanwhile.
        self.shared.streams.write().retain(|name, watched| !gone.contains(name) || !watched.lock().is_gone);
    }

    /// Tries again to open what could not be opened; puts aside what a reader has found to be damaged.
    fn reopen(&mut self) {
        let now = self.shared.clock.monotonic();
        if self.store.is_none() && now >= self.retry_at {
            self.retry_at = now + RETRY_AFTER;
            self.file += 1;
            self.store = self.shared.open(self.file);
            if self.store.is_some() {
                self.well();
            }
        }
        if self.shared.damaged.swap(0, Relaxed) == self.file {
            self.put_aside("a search has found it to be damaged".into());
        }
    }

    fn write(&mut self) {
        let rows = std::mem::take(&mut self.pending);
        if rows.is_empty() {
            return;
        }
        let mut written = self.try_write(&rows);
        if let Err(Some(error)) = &written
            && error.is_damage()
        {
            self.put_aside(error.to_string());
            written = self.try_write(&rows);
        }
        match written {
            Ok(()) => self.well(),
            Err(error) => {
                self.shared.counts.n_lost.fetch_add(rows.len() as u64, Relaxed);
                if let Some(error) = error {
                    self.trouble(&error);
                }
            }
        }
    }

    /// None where there is no file, which was told.
    fn try_write(&mut self, rows: &[Row]) -> Result<(), Option<HistoryError>> {
        self.store.as_mut().ok_or(None)?.write(rows).map_err(Some)
    }

    fn tidy(&mut self) {
        let now = self.shared.clock.monotonic();
        let Some(store) = self.store.as_mut().filter(|_| now >= self.tidy_at) else { return };
        match store.tidy(self.shared.clock.wall(), now) {
            Ok(removed) => {
                if removed.waits && !self.waits {
                    tracing::warn!(
                        "the history has a long hole: the service was off, or its clock is wrong; should it stay, what is too old \
                         is let go of in an hour"
                    );
                }
                self.waits = removed.waits;
                self.tidy_at = if removed.more { now } else { now + TIDY_EVERY };
                self.shared.counts.n_removed_for_age.fetch_add(removed.for_age, Relaxed);
                self.shared.counts.n_removed_for_bytes.fetch_add(removed.for_bytes, Relaxed);
            }
            Err(error) => {
                self.tidy_at = now + TIDY_EVERY;
                match error.is_damage() {
                    true => self.put_aside(error.to_string()),
                    false => self.trouble(&error),
                }
            }
        }
    }

    /// The file is damaged: it gets another name, and a new one is begun.
    fn put_aside(&mut self, cause: String) {
        let Some(store) = self.store.take() else { return };
        self.file += 1;
        self.retry_at = self.shared.clock.monotonic() + RETRY_AFTER;
        self.store = self.shared.opened(store.begin_anew(cause), self.file);
    }

    /// Says so when trouble begins, and again now and then while it lasts.
    fn trouble(&mut self, error: &HistoryError) {
        self.shared.counts.is_troubled.store(true, Relaxed);
        let now = self.shared.clock.monotonic();
        if self.told_at.is_none_or(|told| now >= told + REMIND_AFTER) {
            self.told_at = Some(now);
            let n_lost = self.shared.counts.n_lost.load(Relaxed);
            tracing::error!(n_lost, "nothing is kept in the history: {error}; the service goes on without it");
        }
    }

    fn well(&mut self) {
        self.shared.counts.is_troubled.store(false, Relaxed);
        if self.told_at.take().is_some() {
            let n_lost = self.shared.counts.n_lost.load(Relaxed);
            tracing::info!(n_lost, "the history is kept again");
        }
    }
}

impl Inner {
    /// Opens the file; says why not.
    pub(super) fn open(&self, file: u64) -> Option<Store> {
        self.opened(Store::open(&self.config.dir, self.config.limits()), file)
    }

    fn opened(&self, opened: Result<Opened, HistoryError>, file: u64) -> Option<Store> {
        match opened {
            Ok(Opened { store, put_aside }) => {
                if let Some((aside, cause)) = put_aside {
                    let aside = aside.display();
                    tracing::error!(
                        "the history was damaged ({cause}); it is put aside as {aside}, and a new one begun"
                    );
                }
                self.counts.note(&store);
                self.counts.is_troubled.store(false, Relaxed);
                *self.standing.lock() = Standing::Kept { file };
                self.open_clips();
                Some(store)
            }
            Err(error) => {
                self.counts.is_troubled.store(true, Relaxed);
                tracing::error!("nothing is kept in the history: {error}; the service goes on without it");
                *self.standing.lock() = Standing::Off(format!("nothing is kept in the history: {error}"));
                None
            }
        }
    }

    /// Beside the file, whose folder is ours now.
    fn open_clips(&self) {
        let Some(media) = self.media.as_ref().filter(|_| self.config.clips_bytes > 0 && self.clips.get().is_none())
        else {
            return;
        };
        let (dir, limits) = (&self.config.dir, (self.config.limits().keep, self.config.clips_bytes));
        match Clips::open(dir, limits, Arc::clone(media), Arc::clone(&self.clock)) {
            // Nobody else has set it: who opens the file does it alone.
            Ok(clips) => drop(self.clips.set(clips)),
            Err(e) => tracing::error!("no clips are kept of what is said: the folder clips in {}: {e}", dir.display()),
        }
    }
}
