//! Notices when a sink that takes nothing holds up the analysis of a live stream, and tells the stretch as a `gap`.
//!
//! Streams share models, and models' threads publish: one that waits holds up every stream. So the waits are noted in one
//! place for the house, and each stream tells what it missed by them once publishing flows again. Called on whichever
//! thread publishes; holds no lock while it sends, and what it sends itself is never told again.

use std::{sync::Arc, time::Duration};

use base::{
    event::{Body, Event, Gap},
    ledger::{DropReason, Ledger},
    media::{GapReason, SessionId, StreamInfo},
    time::{Clock, Pts},
};
use parking_lot::Mutex;

use super::account::{Findings, Life};
use crate::topology::Fanout;

/// A publication that waits so long for a sink's queue has been held up.
pub const LONG: Duration = Duration::from_secs(1);
/// A hold-up that goes on, with an event getting through now and then, is told each time it has become so long.
const TELL_AFTER: Duration = Duration::from_secs(60);

/// A stretch of time in which somebody waited for a sink. Times are of the monotonic clock.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Holdup {
    since: Duration,
    until: Duration,
    sink: String,
}

/// The newest hold-up of the house. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Holdups(Arc<Mutex<Option<Holdup>>>);

impl Holdups {
    /// Somebody waited for `sink`, longer than [`LONG`].
    pub fn note(&self, sink: &str, since: Duration, until: Duration) {
        let mut newest = self.0.lock();
        match &mut *newest {
            // Others waited too, or it goes on after letting one event through.
            Some(holdup) if since <= holdup.until + LONG => {
                holdup.since = holdup.since.min(since);
                holdup.until = holdup.until.max(until);
                sink.clone_into(&mut holdup.sink);
            }
            _ => *newest = Some(Holdup { since, until, sink: sink.to_owned() }),
        }
    }

    fn newest(&self) -> Option<Holdup> {
        self.0.lock().clone()
    }
}

/// One live stream that has pictures looked at. What is left out of its sound is told by the speech pool.
pub struct Watch {
    pub(super) info: Arc<StreamInfo>,
    pub(super) ledger: Ledger,
    pub(super) life: Arc<Mutex<Life>>,
    pub(super) findings: Arc<Findings>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) state: Mutex<State>,
}

/// What a stream has published, and what it has yet to tell.
#[derive(Default)]
pub(super) struct State {
    /// Session and furthest PTS of what was published.
    newest: Option<(SessionId, Pts)>,
    /// Frames superseded until then.
    n_superseded: u64,
    /// Hold-ups until then are accounted for.
    accounted: Duration,
    held: Option<Held>,
}

/// A hold-up not yet told.
struct Held {
    session: SessionId,
    from: Pts,
    time: Duration,
    sink: String,
    /// Frames superseded before it.
    n_superseded: u64,
}

impl State {
    /// A stream that begins now.
    pub(super) fn new(now: Duration) -> Self {
        Self { accounted: now, ..Self::default() }
    }
}

impl Watch {
    /// Publishes an event, then tells of a hold-up that is over.
    pub fn publish(&self, fanout: &Fanout, event: Event) {
        let (session, pts) = (event.session.clone(), event.pts);
        let (began, n_before) = (self.clock.monotonic(), self.n_superseded());
        let was_held_up = fanout.publish_timed(event, &*self.clock);
        let told = {
            let mut state = self.state.lock();
            let newest = state.newest.take().filter(|(of, _)| *of == session).map(|(_, newest)| newest);
            let holdup = fanout.holdups().newest().filter(|holdup| holdup.until > state.accounted);
            if let Some(holdup) = holdup {
                let (from, n_superseded) = if holdup.since >= began {
                    (newest.map_or(pts, |newest| newest.max(pts)), n_before)
                } else {
                    // Another stream waited: this one has missed what came after its newest event.
                    (newest.unwrap_or(pts), state.n_superseded)
                };
                let time = holdup.until.saturating_sub(holdup.since.max(state.accounted));
                let fresh =
                    Held { session: session.clone(), from, time: Duration::ZERO, sink: String::new(), n_superseded };
                let held = state.held.get_or_insert(fresh);
                held.time += time;
                held.sink = holdup.sink;
            }
            state.newest = Some((session, newest.map_or(pts, |newest| newest.max(pts))));
            state.n_superseded = self.n_superseded();
            state.accounted = state.accounted.max(self.clock.monotonic());
            let is_due = |held: &mut Held| !was_held_up || held.time >= TELL_AFTER;
            state.held.take_if(is_due)
        };
        self.tell(fanout, told);
    }

    /// Tells what was not yet told: the session is over.
    pub fn settle(&self, fanout: &Fanout) {
        let told = self.state.lock().held.take();
        self.tell(fanout, told);
    }

    fn tell(&self, fanout: &Fanout, held: Option<Held>) {
        let Some(Held { session, from, time, sink, n_superseded }) = held else { return };
        let n_frames = self.n_superseded().saturating_sub(n_superseded);
        if n_frames == 0 {
            // Late, but complete.
            return;
        }
        let number = self.life.lock().next_gap();
        self.findings.counts.lock().n_gaps += 1;
        let stream = self.info.name.as_str();
        let (reason, held_up_ms) = (GapReason::SinkBlocked, time.as_millis() as u64);
        tracing::error!(
            stream,
            sink,
            reason = reason.as_str(),
            held_up_ms,
            n_frames,
            "gap: a sink held up the analysis"
        );
        let detail = Some(format!("sink {sink} took nothing for {:.1} s", time.as_secs_f64()));
        let to = Pts::from_nanos(from.nanos() + time.as_nanos() as u64);
        let body = Body::Gap(Gap { from, to, reason, n_frames_dropped: Some(n_frames), detail });
        // Whether this waits again is found out by the next event.
        fanout.publish_timed(Event::new(&self.info, &session, number, from, None, body), &*self.clock);
    }

    fn n_superseded(&self) -> u64 {
        self.ledger.read().dropped(DropReason::Superseded)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    use base::{
        media::StreamName,
        queue::{Receiver, Sender, WhenFull, queue},
        time::{ManualClock, Timestamp},
    };

    use super::*;

    /// Knows how often it was looked at, so that a test can tell that somebody has begun to wait.
    #[derive(Debug)]
    struct Watched(Arc<ManualClock>, AtomicU64);

    impl Clock for Watched {
        fn monotonic(&self) -> Duration {
            let now = self.0.monotonic();
            self.1.fetch_add(1, SeqCst);
            now
        }

        fn wall(&self) -> Timestamp {
            self.0.wall()
        }
    }

    struct Scene {
        time: Arc<ManualClock>,
        clock: Arc<Watched>,
        fanout: Fanout,
        tx: Sender<Arc<Event>>,
        rx: Receiver<Arc<Event>>,
    }

    impl Scene {
        fn new() -> Self {
            let time = ManualClock::new();
            let clock = Arc::new(Watched(Arc::clone(&time), AtomicU64::new(0)));
            let (tx, rx) = queue("sink:slow", 2, WhenFull::Block);
            Self { time, clock, fanout: Fanout::from_iter([tx.clone()]), tx, rx }
        }

        fn stream(&self, name: &str) -> Arc<Watch> {
            let name = StreamName::new(name).expect("name");
            let session = SessionId::derived([name.as_str().as_bytes()]);
            Arc::new(Watch {
                info: Arc::new(StreamInfo { name, tags: Default::default(), epoch: None }),
                ledger: Ledger::default(),
                life: Arc::new(Mutex::new(Life::new(session, None))),
                findings: Arc::default(),
                clock: Arc::clone(&self.clock) as _,
                state: Mutex::new(State::new(Duration::ZERO)),
            })
        }

        fn publish(&self, watch: &Watch, ms: u64) {
            watch.publish(&self.fanout, event(watch, ms));
        }

        /// Publishes into a full queue, which takes it after `secs`; meanwhile `n_superseded` frames come in vain.
        fn publish_held_up(&self, watch: &Arc<Watch>, ms: u64, secs: u64, n_superseded: u64) {
            assert_eq!(self.tx.read().n_items, 2, "full");
            let n_looks = self.clock.1.load(SeqCst);
            let (publisher, fanout, event) = (Arc::clone(watch), self.fanout.clone(), event(watch, ms));
            let waiting = std::thread::Builder::new().spawn(move || publisher.publish(&fanout, event)).expect("thread");
            while self.clock.1.load(SeqCst) < n_looks + 2 {
                std::thread::yield_now();
            }
            (0..n_superseded).for_each(|_| watch.ledger.dropped(DropReason::Superseded));
            self.time.advance(Duration::from_secs(secs));
            self.rx.recv().expect("the oldest");
            waiting.join().expect("published");
        }

        /// Empties the queue; gives its gaps as stream, from and to in seconds, and frames.
        fn gaps(&self) -> Vec<(String, u64, u64, Option<u64>)> {
            let mut events = Vec::new();
            self.rx.recv_many(9, Duration::ZERO, &mut events);
            let gap = |event: &Arc<Event>| match &event.body {
                Body::Gap(gap) => {
                    assert_eq!(gap.reason, GapReason::SinkBlocked);
                    assert!(gap.detail.as_ref().is_some_and(|d| d.starts_with("sink slow took nothing")), "{gap:?}");
                    let (from, to) = (gap.from.millis() / 1000, gap.to.millis() / 1000);
                    Some((event.stream.name.to_string(), from, to, gap.n_frames_dropped))
                }
                _ => None,
            };
            events.iter().filter_map(gap).collect()
        }
    }

    /// Any event that is no gap.
    fn event(watch: &Watch, ms: u64) -> Event {
        let status = base::event::Status { state: base::event::StreamState::Playing, detail: None, source: None };
        let session = watch.life.lock().session.clone();
        Event::new(&watch.info, &session, ms, Pts::from_millis(ms), None, Body::Status(status))
    }

    #[test]
    fn a_hold_up_is_told_once_to_each_stream_that_missed_something() {
        let scene = Scene::new();
        let [waits, starved, lucky] = ["waits", "starved", "lucky"].map(|name| scene.stream(name));
        scene.publish(&starved, 500);
        scene.publish(&lucky, 600);
        (0..3).for_each(|_| starved.ledger.dropped(DropReason::Superseded));
        scene.publish_held_up(&waits, 1_000, 12, 7);
        // It goes on.
        scene.publish_held_up(&waits, 13_000, 4, 2);
        assert_eq!(scene.gaps(), [], "not before it is over");
        scene.publish(&waits, 17_000);
        assert_eq!(scene.gaps(), [("waits".into(), 1, 17, Some(9))]);
        scene.publish(&starved, 16_500);
        assert_eq!(scene.gaps(), [("starved".into(), 0, 16, Some(3))]);
        scene.publish(&lucky, 16_600);
        assert_eq!(scene.gaps(), []);
        for watch in [&waits, &starved, &lucky] {
            scene.publish(watch, 18_000);
            assert_eq!(scene.gaps(), [], "told once");
        }
        assert_eq!(waits.findings.counts().n_gaps, 1);
    }

    #[test]
    fn what_is_short_or_costs_nothing_is_not_told() {
        let scene = Scene::new();
        let watch = scene.stream("a");
        let fill = || (0..2).for_each(|ms| scene.publish(&watch, ms));
        fill();
        scene.time.advance(Duration::from_millis(200));
        scene.publish_held_up(&watch, 1_000, 0, 5);
        scene.gaps();
        scene.publish(&watch, 2_000);
        assert_eq!(scene.gaps(), []);
        fill();
        scene.publish_held_up(&watch, 3_000, 30, 0);
        scene.gaps();
        scene.publish(&watch, 33_000);
        assert_eq!(scene.gaps(), []);
    }

    #[test]
    fn the_end_of_a_session_tells_what_is_untold() {
        let scene = Scene::new();
        let watch = scene.stream("a");
        (0..2).for_each(|ms| scene.publish(&watch, ms));
        scene.publish_held_up(&watch, 1_000, 5, 40);
        scene.gaps();
        watch.settle(&scene.fanout);
        assert_eq!(scene.gaps(), [("a".into(), 1, 6, Some(40))]);
        watch.settle(&scene.fanout);
        assert_eq!(scene.gaps(), []);
    }

    #[test]
    fn a_hold_up_without_end_is_told_every_minute() {
        let scene = Scene::new();
        let watch = scene.stream("a");
        (0..2).for_each(|ms| scene.publish(&watch, ms));
        scene.publish_held_up(&watch, 1_000, 40, 1);
        // The gap waits for room as well: whoever publishes next finds that out.
        let waiting = {
            let n_looks = scene.clock.1.load(SeqCst);
            let (publisher, fanout, event) = (Arc::clone(&watch), scene.fanout.clone(), event(&watch, 41_000));
            let thread = std::thread::Builder::new().spawn(move || publisher.publish(&fanout, event)).expect("thread");
            while scene.clock.1.load(SeqCst) < n_looks + 2 {
                std::thread::yield_now();
            }
            thread
        };
        watch.ledger.dropped(DropReason::Superseded);
        scene.time.advance(Duration::from_secs(25));
        (0..2).for_each(|_| drop(scene.rx.recv().expect("one of the oldest")));
        waiting.join().expect("published");
        assert_eq!(scene.gaps(), [("a".into(), 1, 66, Some(2))]);
    }
}
