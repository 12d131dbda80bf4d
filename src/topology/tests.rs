//! What a stop means for the sinks, without streams.

use base::{
    event::{Body, Event, Status, StreamState},
    media::{StreamInfo, StreamName},
    time::{ManualClock, Pts, SystemClock},
};
use sinks::{Sink, SinkError};

use super::*;

/// Takes everything, or nothing for ever.
struct Scripted {
    takes: bool,
    n_taken: u64,
}

impl Sink for Scripted {
    fn publish(&mut self, _event: &Event) -> Result<(), SinkError> {
        if !self.takes {
            return Err(SinkError::SpoolFull { n_bytes: 1, max_bytes: 1, cause: "nobody answers".into() });
        }
        self.n_taken += 1;
        Ok(())
    }

    fn idle(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn finish(self: Box<Self>, _grace: Duration) -> SinkReport {
        SinkReport { n_published: self.n_taken, ..SinkReport::default() }
    }
}

fn event(number: u64) -> Event {
    let info = Arc::new(StreamInfo { name: StreamName::new("a").expect("name"), tags: BTreeMap::new(), epoch: None });
    let status = Status { state: StreamState::Stopped, detail: None, source: None };
    Event::new(&info, &SessionId::derived([]), number, Pts::ZERO, None, Body::Status(status))
}

/// Publishes three events while stopping, the clock moved by `work`; gives the sink's account.
fn check(takes: bool, grace: Duration, clock: &Arc<dyn Clock>, work: impl FnOnce()) -> (u64, u64) {
    let (tx, rx) = queue::queue("sink:x", if takes { 16 } else { 1 }, WhenFull::Block);
    let probe: QueueProbe = Arc::new(rx.probe());
    let sink = Box::new(Scripted { takes, n_taken: 0 });
    let handle = sinks::spawn("x", sink, rx, grace, Arc::clone(clock)).expect("thread");
    let sinks = vec![(handle, probe)];
    let fanout = Fanout::from_iter([tx]);
    while_sinks_take(
        &sinks,
        || true,
        || {
            work();
            (0..3).for_each(|number| fanout.publish(event(number)));
        },
    );
    drop(fanout);
    let (handle, queue) = sinks.into_iter().next().expect("one");
    let report = handle.join();
    (report.n_published, report.n_failed + queue().n_refused)
}

#[test]
fn a_slow_stop_does_not_use_up_the_grace_of_the_sinks() {
    let time = ManualClock::new();
    let clock: Arc<dyn Clock> = Arc::clone(&time) as _;
    let took = check(true, Duration::from_secs(5), &clock, || time.advance(Duration::from_secs(60)));
    assert_eq!(took, (3, 0));
}

#[test]
fn a_sink_that_takes_nothing_does_not_hold_up_a_stop_for_ever() {
    let took = check(false, Duration::from_millis(50), &SystemClock::new(), || {});
    assert_eq!(took, (0, 3));
}

#[test]
fn a_sink_that_takes_nothing_keeps_its_grace_while_streams_are_handed_over() {
    let (tx, rx) = queue::queue("sink:x", 1, WhenFull::Block);
    let probe: QueueProbe = Arc::new(rx.probe());
    let sink = Box::new(Scripted { takes: false, n_taken: 0 });
    let time = ManualClock::new();
    let clock: Arc<dyn Clock> = Arc::clone(&time) as _;
    let handle = sinks::spawn("x", sink, rx, Duration::from_secs(5), Arc::clone(&clock)).expect("thread");
    let sinks = vec![(handle, probe)];
    let are_stopped = std::sync::atomic::AtomicBool::new(false);
    let n_looks = std::sync::atomic::AtomicUsize::new(0);
    let look = || {
        n_looks.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        are_stopped.load(std::sync::atomic::Ordering::SeqCst)
    };
    let wait_for_looks = |n: usize| {
        while n_looks.load(std::sync::atomic::Ordering::SeqCst) < n {
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let fanout = Fanout::from_iter([tx]);
    while_sinks_take(&sinks, look, || {
        // One in hand, one in the queue.
        (0..2).for_each(|number| fanout.publish(event(number)));
        wait_for_looks(3);
        time.advance(Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(50));
        assert!(!sinks[0].0.is_finished(), "it had no grace period to use up");
        are_stopped.store(true, std::sync::atomic::Ordering::SeqCst);
        let n = n_looks.load(std::sync::atomic::Ordering::SeqCst);
        wait_for_looks(n + 2);
        time.advance(Duration::from_secs(60));
        // Held up until the sink's time is over, and not longer.
        fanout.publish(event(2));
    });
}
