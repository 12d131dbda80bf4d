//! The lanes of one engine: one waiting frame a stream, taken round robin, so that no stream waits for another's flood.
//!
//! Streams' threads call [`Lane`]; the engine's thread takes batches. The lock is held for bookkeeping only: never while
//! a model runs, never while a callback runs.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
    thread::{self, ThreadId},
};

use base::{
    event::Detection,
    ledger::{DropReason, Ledger},
    media::{Frame, StreamName},
};
use parking_lot::{Condvar, Mutex};

use crate::layout::Floors;

/// What a lane does with a frame while another of its stream still waits. Its queue holds one frame (and one more is
/// being inferred); drops are counted in the stream's ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LanePolicy {
    /// The newer frame takes the waiting one's place, which is dropped as [`DropReason::Superseded`]: live media.
    Latest,
    /// `submit` waits until the waiting frame was taken: recordings, where nothing may be lost.
    Block,
}

/// Takes a frame and what was seen in it. Called on the engine's thread, in the order of the frames; while it runs, no
/// stream's inference goes on, so it must be quick and must not wait for its own lane.
pub type OnResult = Box<dyn FnMut(Frame, Vec<Detection>) + Send>;

/// What the engine's thread needs of a lane for one frame. The callback comes back with [`Lanes::done`].
pub(super) struct Job {
    pub(super) lane: u64,
    pub(super) stream: StreamName,
    pub(super) frame: Frame,
    pub(super) floors: Arc<Floors>,
    pub(super) ledger: Ledger,
    pub(super) on_result: OnResult,
}

struct State {
    stream: StreamName,
    waiting: Option<Frame>,
    floors: Arc<Floors>,
    ledger: Ledger,
    /// Away while the engine's thread works on a frame of this lane.
    on_result: Option<OnResult>,
}

#[derive(Default)]
struct Table {
    lanes: BTreeMap<u64, State>,
    n_ever: u64,
    /// The lane served last: the next batch begins after it.
    last_served: u64,
    stopped: bool,
    worker: Option<ThreadId>,
}

/// All lanes of one engine.
#[derive(Default)]
pub(super) struct Lanes {
    table: Mutex<Table>,
    /// A frame waits, or the end has come.
    work: Condvar,
    /// A frame was taken or is done, or the end has come.
    progress: Condvar,
}

/// One stream's way into an engine. Dropping it gives up its waiting frame (dropped as [`DropReason::Shutdown`]) and
/// waits for the one being inferred, so that afterwards its callback is never called again.
pub struct Lane {
    lanes: Arc<Lanes>,
    id: u64,
    policy: LanePolicy,
    ledger: Ledger,
}

impl Lanes {
    pub(super) fn open(
        self: &Arc<Self>,
        stream: StreamName,
        policy: LanePolicy,
        ledger: Ledger,
        floors: Floors,
        on_result: OnResult,
    ) -> Lane {
        let mut table = self.table.lock();
        table.n_ever += 1;
        let id = table.n_ever;
        let state = State {
            stream,
            waiting: None,
            floors: Arc::new(floors),
            ledger: ledger.clone(),
            on_result: Some(on_result),
        };
        table.lanes.insert(id, state);
        Lane { lanes: Arc::clone(self), id, policy, ledger }
    }

    /// Waits for frames and takes at most `most`, one a lane, round robin. None once stopped.
    pub(super) fn take(&self, most: usize) -> Option<Vec<Job>> {
        let mut table = self.table.lock();
        table.worker = Some(thread::current().id());
        loop {
            if table.stopped {
                return None;
            }
            let jobs = table.take(most);
            if !jobs.is_empty() {
                drop(table);
                self.progress.notify_all();
                return Some(jobs);
            }
            self.work.wait(&mut table);
        }
    }

    /// Gives a lane its callback back. The lane may be gone by now.
    pub(super) fn done(&self, lane: u64, on_result: OnResult) {
        let mut table = self.table.lock();
        if let Some(state) = table.lanes.get_mut(&lane) {
            state.on_result = Some(on_result);
        }
        drop(table);
        self.progress.notify_all();
    }

    /// Ends everything: waiting frames are dropped as [`DropReason::Shutdown`], those who wait are woken.
    pub(super) fn stop(&self) {
        let mut table = self.table.lock();
        table.stopped = true;
        for state in table.lanes.values_mut() {
            if state.waiting.take().is_some() {
                state.ledger.dropped(DropReason::Shutdown);
            }
        }
        drop(table);
        self.work.notify_all();
        self.progress.notify_all();
    }

    /// For the end of the engine's thread, however it came: nobody may wait for a callback that went down with it.
    pub(super) fn worker_gone(&self) {
        self.stop();
        self.table.lock().worker = None;
        self.progress.notify_all();
    }
}

impl Table {
    fn take(&mut self, most: usize) -> Vec<Job> {
        let ready = |(id, state): (&u64, &State)| (state.waiting.is_some() && state.on_result.is_some()).then_some(*id);
        let after = self.lanes.range((Excluded(self.last_served), Unbounded)).filter_map(ready);
        let before = self.lanes.range(..=self.last_served).filter_map(ready);
        let ids: Vec<u64> = after.chain(before).take(most).collect();
        let mut jobs = Vec::with_capacity(ids.len());
        for id in ids {
            self.last_served = id;
            let Some(state) = self.lanes.get_mut(&id) else { continue };
            if let (Some(frame), Some(on_result)) = (state.waiting.take(), state.on_result.take()) {
                let (stream, floors, ledger) = (state.stream.clone(), Arc::clone(&state.floors), state.ledger.clone());
                jobs.push(Job { lane: id, stream, frame, floors, ledger, on_result });
            }
        }
        jobs
    }

    /// Whether a frame of the lane waits or is being inferred.
    fn is_busy(&self, id: u64) -> bool {
        let busy = |s: &State| s.waiting.is_some() || (s.on_result.is_none() && self.worker.is_some());
        self.lanes.get(&id).is_some_and(busy)
    }
}

impl Lane {
    /// Hands a frame over. Frames of one lane are inferred in this order. After the engine's shutdown the frame is
    /// dropped as [`DropReason::Shutdown`].
    pub fn submit(&self, frame: Frame) {
        let mut table = self.lanes.table.lock();
        loop {
            if table.stopped {
                self.ledger.dropped(DropReason::Shutdown);
                return;
            }
            let Some(state) = table.lanes.get_mut(&self.id) else { return };
            if state.waiting.is_none() || self.policy == LanePolicy::Latest {
                let superseded = state.waiting.replace(frame);
                drop(table);
                self.lanes.work.notify_one();
                if superseded.is_some() {
                    self.ledger.dropped(DropReason::Superseded);
                }
                return;
            }
            self.lanes.progress.wait(&mut table);
        }
    }

    /// Waits until nothing of this lane waits or is being inferred. Never call it from a callback.
    pub fn drain(&self) {
        let mut table = self.lanes.table.lock();
        while table.is_busy(self.id) {
            self.lanes.progress.wait(&mut table);
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let mut table = self.lanes.table.lock();
        if let Some(state) = table.lanes.get_mut(&self.id)
            && state.waiting.take().is_some()
        {
            self.ledger.dropped(DropReason::Shutdown);
        }
        // A callback that drops its own lane must not wait for itself.
        while table.worker != Some(thread::current().id()) && table.is_busy(self.id) {
            self.lanes.progress.wait(&mut table);
        }
        table.lanes.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base::{
        media::{Image, PixelFormat, SessionId},
        time::Pts,
    };

    use super::*;

    fn frame(index: u64) -> Frame {
        Frame {
            session: SessionId::derived([]),
            index,
            pts: Pts::ZERO,
            captured: None,
            decoded_at: Duration::ZERO,
            source_width: 1,
            source_height: 1,
            image: Image { width: 1, height: 1, stride: 3, format: PixelFormat::Rgb8, data: vec![0; 3].into() },
        }
    }

    fn open(lanes: &Arc<Lanes>, name: &str, policy: LanePolicy) -> (Lane, Ledger) {
        let ledger = Ledger::default();
        let stream = StreamName::new(name).expect("name");
        let lane = lanes.open(stream, policy, ledger.clone(), Floors::new(vec![0.5]), Box::new(|_, _| {}));
        (lane, ledger)
    }

    /// Takes a batch and finishes it at once; gives streams and frame numbers.
    fn serve(lanes: &Lanes, most: usize) -> Vec<(String, u64)> {
        let jobs = lanes.take(most).expect("not stopped");
        let served = jobs.iter().map(|j| (j.stream.to_string(), j.frame.index)).collect();
        jobs.into_iter().for_each(|j| lanes.done(j.lane, j.on_result));
        served
    }

    #[test]
    fn a_flood_does_not_starve_the_others() {
        let lanes = Arc::new(Lanes::default());
        let (flood, flood_ledger) = open(&lanes, "flood", LanePolicy::Latest);
        let (a, _) = open(&lanes, "a", LanePolicy::Latest);
        let (b, _) = open(&lanes, "b", LanePolicy::Latest);
        let mut served = Vec::new();
        a.submit(frame(0));
        b.submit(frame(0));
        for i in 0..6 {
            (0..10).for_each(|j| flood.submit(frame(10 * i + j)));
            served.extend(serve(&lanes, 1));
            if i == 2 {
                a.submit(frame(1));
            }
        }
        let expected = [("flood", 9), ("a", 0), ("b", 0), ("flood", 39), ("a", 1), ("flood", 59)];
        assert_eq!(served, expected.map(|(s, i)| (s.to_owned(), i)));
        // 60 in, 3 served, the rest replaced by newer ones.
        assert_eq!(flood_ledger.read().dropped(DropReason::Superseded), 57);
    }

    #[test]
    fn a_batch_has_one_frame_of_each_stream() {
        let lanes = Arc::new(Lanes::default());
        let open: Vec<_> = ["a", "b", "c"].iter().map(|n| open(&lanes, n, LanePolicy::Latest).0).collect();
        for round in 0..2 {
            open.iter().for_each(|lane| lane.submit(frame(round)));
        }
        let names = |served: Vec<(String, u64)>| served.into_iter().map(|(s, _)| s).collect::<String>();
        assert_eq!(names(serve(&lanes, 2)), "ab");
        open[0].submit(frame(2));
        assert_eq!(names(serve(&lanes, 8)), "ca");
    }

    #[test]
    fn blocking_loses_nothing_and_keeps_the_order() {
        let lanes = Arc::new(Lanes::default());
        let (lane, ledger) = open(&lanes, "a", LanePolicy::Block);
        let submitter = thread::Builder::new()
            .spawn(move || {
                (0..100).for_each(|i| lane.submit(frame(i)));
                lane.drain();
            })
            .expect("thread");
        let served: Vec<u64> = (0..100).map(|_| serve(&lanes, 1)[0].1).collect();
        assert_eq!(served, (0..100).collect::<Vec<_>>());
        submitter.join().expect("drained");
        assert_eq!(ledger.read(), Ledger::default().read());
    }

    #[test]
    fn drops_at_the_end_are_counted_and_waiters_woken() {
        let lanes = Arc::new(Lanes::default());
        let (given_up, given_up_ledger) = open(&lanes, "given-up", LanePolicy::Latest);
        given_up.submit(frame(0));
        drop(given_up);
        assert_eq!(given_up_ledger.read().dropped(DropReason::Shutdown), 1);

        let (lane, ledger) = open(&lanes, "a", LanePolicy::Block);
        lane.submit(frame(0));
        let blocked = thread::Builder::new().spawn(move || lane.submit(frame(1))).expect("thread");
        lanes.stop();
        blocked.join().expect("woken");
        assert_eq!(ledger.read().dropped(DropReason::Shutdown), 2);
        assert!(lanes.take(1).is_none());
    }

    #[test]
    fn a_callback_that_went_down_with_the_thread_keeps_nobody_waiting() {
        let lanes = Arc::new(Lanes::default());
        let (lane, _) = open(&lanes, "a", LanePolicy::Latest);
        lane.submit(frame(0));
        let taken = Arc::clone(&lanes);
        thread::Builder::new().spawn(move || drop(taken.take(1))).expect("thread").join().expect("ends");
        lanes.worker_gone();
        lane.drain();
        drop(lane);
    }
}
