//! The lanes of one endpoint: what waits, what is on its way, and in which order results are told.
//!
//! Streams' threads call [`RemoteLane`], the endpoint's threads the rest. The lock is held for bookkeeping only: never
//! while a picture is encoded, a request is out, or a callback runs. Each submitted frame is counted exactly once.
//!
//! A frame's way: `waiting` (a few a lane, raw) -> encoded -> `queued` (bounded over all lanes) -> on its way with a number
//! -> `finished`, told in the order of the numbers.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
    thread::{self, ThreadId},
    time::Duration,
};

use base::{
    ledger::{DropReason, Ledger},
    media::{Frame, StreamName},
    queue::{QueueReading, WhenFull},
    time::Clock,
};
use parking_lot::{Condvar, Mutex};

use super::{OnSeen, Seen, Wanted, encode::Body};
use crate::engine::LanePolicy;

/// A live lane's drain waits so long for a slow server; what is still on its way then is told later.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// Raw frames of a live lane that may wait to be encoded: enough for a hiccup, and little memory.
const MOST_WAITING: usize = 4;

/// An encoded frame. Its pixels are gone.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) frame: Frame,
    pub(super) body: Body,
}

/// A parcel on its way.
pub(super) struct Job {
    pub(super) lane: u64,
    pub(super) number: u64,
    pub(super) stream: StreamName,
    pub(super) wanted: Arc<Wanted>,
    pub(super) parcel: Parcel,
}

/// What became of a parcel.
pub(super) enum Outcome {
    Seen(Frame, Seen),
    Failed,
}

struct State {
    stream: StreamName,
    policy: LanePolicy,
    ledger: Ledger,
    wanted: Arc<Wanted>,
    waiting: VecDeque<Frame>,
    encoding: bool,
    queued: VecDeque<Parcel>,
    /// The number of the next parcel to go out, and of the next one to be told.
    next: u64,
    told: u64,
    finished: BTreeMap<u64, Outcome>,
    /// Away while a thread tells a result.
    on_seen: Option<OnSeen>,
    teller: Option<ThreadId>,
}

impl State {
    fn is_idle(&self) -> bool {
        let is_empty = self.waiting.is_empty() && !self.encoding && self.queued.is_empty();
        is_empty && self.next == self.told && self.on_seen.is_some()
    }

    /// Counts everything that has not been told yet as given up.
    fn give_up(&mut self, n_queued: &mut Queued) {
        // Those that failed have been counted.
        let n_failed = self.finished.values().filter(|outcome| matches!(outcome, Outcome::Failed)).count() as u64;
        let n = self.waiting.len() as u64
            + u64::from(std::mem::take(&mut self.encoding))
            + self.queued.len() as u64
            + (self.next - self.told - n_failed);
        self.waiting.clear();
        self.queued.drain(..).for_each(|parcel| n_queued.take(&parcel));
        self.finished.clear();
        self.told = self.next;
        (0..n).for_each(|_| self.ledger.dropped(DropReason::Shutdown));
    }
}

/// What waits encoded, over all lanes.
#[derive(Default)]
struct Queued {
    n: usize,
    n_bytes: usize,
    n_high_water: usize,
    n_dropped: u64,
}

impl Queued {
    fn put(&mut self, parcel: &Parcel) {
        self.n += 1;
        self.n_bytes += parcel.body.bytes.len();
        self.n_high_water = self.n_high_water.max(self.n);
    }

    fn take(&mut self, parcel: &Parcel) {
        self.n -= 1;
        self.n_bytes -= parcel.body.bytes.len();
    }
}

#[derive(Default)]
struct Table {
    lanes: BTreeMap<u64, State>,
    n_ever: u64,
    queued: Queued,
    /// The lanes served last: the next one begins after it.
    last_encoded: u64,
    last_posted: u64,
    /// A drain waited in vain, and nothing was answered since: the next one need not.
    slow: bool,
    stopped: bool,
}

/// All lanes of one endpoint.
pub(super) struct Lanes {
    name: String,
    capacity: usize,
    max_bytes: usize,
    /// Most parcels of one lane that are out or finished and untold.
    window: u64,
    clock: Arc<dyn Clock>,
    table: Mutex<Table>,
    /// A frame waits to be encoded, or the end has come.
    to_encode: Condvar,
    /// A parcel waits to be posted, or the end has come.
    to_post: Condvar,
    /// A frame went on, or the end has come.
    progress: Condvar,
    /// A pause between two tries is over before its time.
    interrupt: Condvar,
}

/// One stream's way to an endpoint. Dropping it gives up what has not been told (dropped as [`DropReason::Shutdown`]);
/// afterwards its callback is never called again.
pub struct RemoteLane {
    lanes: Arc<Lanes>,
    id: u64,
    policy: LanePolicy,
    ledger: Ledger,
}

/// Gives a callback back to its lane, also when it panics.
struct Telling<'l> {
    lanes: &'l Lanes,
    lane: u64,
    on_seen: Option<OnSeen>,
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        let mut table = self.lanes.table.lock();
        if let Some(state) = table.lanes.get_mut(&self.lane) {
            state.on_seen = self.on_seen.take();
            state.teller = None;
        }
        drop(table);
        self.lanes.progress.notify_all();
    }
}

/// The next lane after `last`, round robin, for which `ready` holds.
fn next_lane(lanes: &BTreeMap<u64, State>, last: u64, ready: impl Fn(&State) -> bool) -> Option<u64> {
    let after = lanes.range((Excluded(last), Unbounded));
    after.chain(lanes.range(..=last)).find(|(_, state)| ready(state)).map(|(id, _)| *id)
}

impl Lanes {
    pub(super) fn new(name: String, capacity: usize, max_bytes: usize, window: usize, clock: Arc<dyn Clock>) -> Self {
        Self {
            name,
            capacity,
            max_bytes,
            window: window.max(1) as u64,
            clock,
            table: Mutex::default(),
            to_encode: Condvar::new(),
            to_post: Condvar::new(),
            progress: Condvar::new(),
            interrupt: Condvar::new(),
        }
    }

    pub(super) fn open(
        self: &Arc<Self>,
        stream: StreamName,
        policy: LanePolicy,
        ledger: Ledger,
        wanted: Wanted,
        on_seen: OnSeen,
    ) -> RemoteLane {
        let mut table = self.table.lock();
        table.n_ever += 1;
        let id = table.n_ever;
        let state = State {
            stream,
            policy,
            ledger: ledger.clone(),
            wanted: Arc::new(wanted),
            waiting: VecDeque::new(),
            encoding: false,
            queued: VecDeque::new(),
            next: 0,
            told: 0,
            finished: BTreeMap::new(),
            on_seen: Some(on_seen),
            teller: None,
        };
        table.lanes.insert(id, state);
        RemoteLane { lanes: Arc::clone(self), id, policy, ledger }
    }

    /// Waits for a frame to encode; gives it with its lane. None once stopped.
    pub(super) fn take_to_encode(&self) -> Option<(u64, Frame)> {
        let mut table = self.table.lock();
        loop {
            if table.stopped {
                return None;
            }
            let has_room = table.queued.n < self.capacity && table.queued.n_bytes < self.max_bytes;
            let may = |s: &State| has_room || s.policy == LanePolicy::Latest;
            let ready = |s: &State| !s.waiting.is_empty() && !s.encoding && may(s);
            if let Some(id) = next_lane(&table.lanes, table.last_encoded, ready) {
                table.last_encoded = id;
                if let Some(state) = table.lanes.get_mut(&id)
                    && let Some(frame) = state.waiting.pop_front()
                {
                    state.encoding = true;
                    drop(table);
                    self.progress.notify_all();
                    return Some((id, frame));
                }
                continue;
            }
            self.to_encode.wait(&mut table);
        }
    }

    /// The frame is encoded, or cannot be.
    pub(super) fn encoded(&self, lane: u64, parcel: Option<Parcel>) {
        let mut table = self.table.lock();
        let Table { lanes, queued, stopped, .. } = &mut *table;
        let Some(state) = lanes.get_mut(&lane).filter(|state| state.encoding && !*stopped) else { return };
        state.encoding = false;
        match parcel {
            None => state.ledger.dropped(DropReason::Conversion),
            Some(parcel) => {
                queued.put(&parcel);
                state.queued.push_back(parcel);
                self.make_room(&mut table);
            }
        }
        drop(table);
        self.to_post.notify_one();
        // The lane may have its next frame already.
        self.to_encode.notify_one();
        self.progress.notify_all();
    }

    /// The oldest of the live lane that has the most makes room: a flood costs its own stream.
    fn make_room(&self, table: &mut Table) {
        let Table { lanes, queued, .. } = table;
        while queued.n > self.capacity || (queued.n_bytes > self.max_bytes && queued.n > 1) {
            let live = lanes.values_mut().filter(|state| state.policy == LanePolicy::Latest);
            let Some(longest) = live.max_by_key(|state| state.queued.len()) else { return };
            let Some(oldest) = longest.queued.pop_front() else { return };
            queued.take(&oldest);
            queued.n_dropped += 1;
            longest.ledger.dropped(DropReason::Superseded);
        }
    }

    /// Waits for a parcel to post. None once stopped.
    pub(super) fn take_to_post(&self) -> Option<Job> {
        let mut table = self.table.lock();
        loop {
            if table.stopped {
                return None;
            }
            let ready = |s: &State| !s.queued.is_empty() && s.next - s.told < self.window;
            if let Some(lane) = next_lane(&table.lanes, table.last_posted, ready) {
                table.last_posted = lane;
                let Table { lanes, queued, .. } = &mut *table;
                if let Some(state) = lanes.get_mut(&lane)
                    && let Some(parcel) = state.queued.pop_front()
                {
                    queued.take(&parcel);
                    let (number, stream, wanted) = (state.next, state.stream.clone(), Arc::clone(&state.wanted));
                    state.next += 1;
                    drop(table);
                    self.to_encode.notify_one();
                    return Some(Job { lane, number, stream, wanted, parcel });
                }
                continue;
            }
            self.to_post.wait(&mut table);
        }
    }

    /// Waits before the next try; false when that makes no sense any more, because nobody wants the frame.
    pub(super) fn pause(&self, job: &Job, pause: Duration) -> bool {
        let end = self.clock.monotonic() + pause;
        let mut table = self.table.lock();
        loop {
            if table.stopped || table.lanes.get(&job.lane).is_none_or(|state| state.told > job.number) {
                return false;
            }
            let left = end.saturating_sub(self.clock.monotonic());
            if left.is_zero() {
                return true;
            }
            self.interrupt.wait_for(&mut table, left);
        }
    }

    /// Notes what became of a parcel, and tells all that can be told now. Of a lane that is gone it was counted already.
    pub(super) fn finish(&self, lane: u64, number: u64, outcome: Outcome) {
        let mut table = self.table.lock();
        if matches!(outcome, Outcome::Seen(..)) {
            table.slow = false;
        }
        let Some(state) = table.lanes.get_mut(&lane).filter(|state| number >= state.told) else { return };
        if matches!(outcome, Outcome::Failed) {
            state.ledger.dropped(DropReason::InferenceFailed);
        }
        state.finished.insert(number, outcome);
        loop {
            let Some(state) = table.lanes.get_mut(&lane) else { return };
            // Whoever tells at this moment goes on to this one.
            if state.on_seen.is_none() {
                return;
            }
            let Some(outcome) = state.finished.remove(&state.told) else { break };
            state.told += 1;
            if let Outcome::Seen(frame, seen) = outcome {
                let ledger = state.ledger.clone();
                state.teller = Some(thread::current().id());
                let mut telling = Telling { lanes: self, lane, on_seen: state.on_seen.take() };
                drop(table);
                ledger.inferred();
                if let Some(on_seen) = &mut telling.on_seen {
                    on_seen(frame, seen);
                }
                drop(telling);
                table = self.table.lock();
            }
        }
        drop(table);
        self.progress.notify_all();
        // Its window has moved.
        self.to_post.notify_all();
    }

    /// Ends everything: what has not been told is dropped as [`DropReason::Shutdown`], those who wait are woken.
    pub(super) fn stop(&self) {
        let mut table = self.table.lock();
        table.stopped = true;
        let Table { lanes, queued, .. } = &mut *table;
        lanes.values_mut().for_each(|state| state.give_up(queued));
        let me = thread::current().id();
        let is_telling = |s: &State| s.teller.is_some_and(|teller| teller != me);
        self.wake_all();
        while table.lanes.values().any(is_telling) {
            self.progress.wait(&mut table);
        }
    }

    fn wake_all(&self) {
        for condvar in [&self.to_encode, &self.to_post, &self.progress, &self.interrupt] {
            condvar.notify_all();
        }
    }

    /// Whether a picture waits to be encoded, or is.
    #[cfg(test)]
    pub(super) fn is_encoding(&self) -> bool {
        self.table.lock().lanes.values().any(|state| state.encoding || !state.waiting.is_empty())
    }

    /// The figures of what waits encoded.
    pub(super) fn read(&self) -> QueueReading {
        let Queued { n, n_high_water, n_dropped, .. } = self.table.lock().queued;
        QueueReading {
            name: self.name.clone(),
            capacity: self.capacity,
            n_items: n,
            n_high_water,
            n_dropped,
            n_refused: 0,
            when_full: WhenFull::DropOldest,
        }
    }
}

impl RemoteLane {
    /// Hands a frame over. Results of one lane are told in this order. After the endpoint's shutdown the frame is dropped
    /// as [`DropReason::Shutdown`].
    pub fn submit(&self, frame: Frame) {
        let mut table = self.lanes.table.lock();
        loop {
            if table.stopped {
                self.ledger.dropped(DropReason::Shutdown);
                return;
            }
            let Some(state) = table.lanes.get_mut(&self.id) else { return };
            if state.waiting.is_empty() || self.policy == LanePolicy::Latest {
                let superseded = (state.waiting.len() >= MOST_WAITING).then(|| state.waiting.pop_front()).flatten();
                state.waiting.push_back(frame);
                drop(table);
                self.lanes.to_encode.notify_one();
                if superseded.is_some() {
                    self.ledger.dropped(DropReason::Superseded);
                }
                return;
            }
            self.lanes.progress.wait(&mut table);
        }
    }

    /// Waits until nothing of this lane waits or is on its way; a live lane for a few seconds only, because its server may
    /// be slow or away. Never call it from a callback.
    pub fn drain(&self) {
        let clock = &self.lanes.clock;
        let end = clock.monotonic() + DRAIN_PATIENCE;
        let mut table = self.lanes.table.lock();
        while !table.stopped && table.lanes.get(&self.id).is_some_and(|state| !state.is_idle()) {
            if self.policy == LanePolicy::Block {
                self.lanes.progress.wait(&mut table);
                continue;
            }
            let left = end.saturating_sub(clock.monotonic());
            if left.is_zero() || table.slow {
                table.slow = true;
                return;
            }
            self.lanes.progress.wait_for(&mut table, left);
        }
    }
}

impl Drop for RemoteLane {
    fn drop(&mut self) {
        let me = thread::current().id();
        let mut table = self.lanes.table.lock();
        let Table { lanes, queued, .. } = &mut *table;
        if let Some(state) = lanes.get_mut(&self.id) {
            state.give_up(queued);
        }
        // A callback that drops its own lane must not wait for itself.
        let is_told = |t: &Table| t.lanes.get(&self.id).and_then(|s| s.teller).is_some_and(|teller| teller != me);
        while is_told(&table) {
            self.lanes.progress.wait(&mut table);
        }
        table.lanes.remove(&self.id);
        drop(table);
        self.lanes.wake_all();
    }
}
