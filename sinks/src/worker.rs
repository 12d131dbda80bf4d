//! Runs one sink: takes events from its queue, offers again what was refused, keeps the account.
//!
//! On the sink's own OS thread, `sink-<name>`. Must never lose an event without counting it, nor outlive its grace
//! period once told to drain.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use base::{
    event::Event,
    queue::{Received, Receiver},
    time::Clock,
};
use parking_lot::Mutex;

use crate::{
    Sink, SinkError,
    delivery::{DeliveryReading, Meter},
};

/// Events offered to a sink at once.
const BATCH: usize = 512;
/// Wait before an event that was refused for now is offered again.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Not even without any grace period is the next try made at once.
const LEAST_PAUSE: Duration = Duration::from_millis(10);
/// A thread that has not ended so long after its grace period never will.
const LEFT_BEHIND_AFTER: Duration = Duration::from_secs(2);
/// While an outage lasts, it is told again after this long.
const REMIND_AFTER: Duration = Duration::from_secs(60);

/// What became of the events of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TopicCount {
    /// Acknowledged by the broker.
    pub n_delivered: u64,
    /// Refused by the broker.
    pub n_failed: u64,
}

/// A sink's closing account. Every event that reached the sink is in one of the four numbers.
#[derive(Debug, Default)]
pub struct SinkReport {
    /// Name in the configuration.
    pub name: String,
    /// Events that were written: to the file, to the terminal, or acknowledged by the broker.
    pub n_published: u64,
    /// Events that were lost. More than zero is an error, told in `error` or already logged.
    pub n_failed: u64,
    /// Events that a full spool let go of, as it was told to. More than zero is an error too.
    pub n_dropped: u64,
    /// Events that wait in a spool for the next start. No loss.
    pub n_waiting: u64,
    /// Kafka only: the same by topic.
    pub topics: BTreeMap<String, TopicCount>,
    /// What went wrong at the end.
    pub error: Option<SinkError>,
}

/// A running sink's figures at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SinkReading {
    /// Name in the configuration.
    pub name: String,
    /// Events that it accepted.
    pub n_accepted: u64,
    /// What became of them; none where there is no far end.
    pub delivery: Option<DeliveryReading>,
}

/// Reads a sink's figures, also after it has ended.
#[derive(Clone)]
pub struct SinkProbe {
    name: String,
    n_accepted: Arc<AtomicU64>,
    meter: Option<Arc<Meter>>,
}

impl SinkProbe {
    /// The figures now.
    pub fn read(&self) -> SinkReading {
        SinkReading {
            name: self.name.clone(),
            n_accepted: self.n_accepted.load(Relaxed),
            delivery: self.meter.as_ref().map(|meter| meter.read()),
        }
    }
}

/// A running sink.
pub struct SinkHandle {
    name: String,
    probe: SinkProbe,
    control: Arc<Control>,
    thread: JoinHandle<SinkReport>,
}

struct Control {
    clock: Arc<dyn Clock>,
    grace: Duration,
    /// On the monotonic clock: when the grace period is over.
    deadline: Mutex<Option<Duration>>,
}

impl Control {
    fn drain(&self) {
        let end = self.clock.monotonic() + self.grace;
        self.deadline.lock().get_or_insert(end);
    }

    /// What is left of the grace period; all of it while nobody asked to drain.
    fn grace_left(&self) -> Duration {
        self.deadline.lock().map_or(self.grace, |end| end.saturating_sub(self.clock.monotonic()))
    }

    fn is_over(&self) -> bool {
        self.deadline.lock().is_some_and(|end| self.clock.monotonic() >= end)
    }
}

/// Starts the sink's thread. It ends once every sender of the queue is gone and all is written, or `grace` after
/// [`SinkHandle::drain`] or [`SinkHandle::join`], whichever comes first.
///
/// # Errors
/// [`SinkError::Thread`] when the operating system gives no thread.
pub fn spawn(
    name: &str,
    sink: Box<dyn Sink>,
    queue: Receiver<Arc<Event>>,
    grace: Duration,
    clock: Arc<dyn Clock>,
) -> Result<SinkHandle, SinkError> {
    let control = Arc::new(Control { clock, grace, deadline: Mutex::new(None) });
    let probe = SinkProbe { name: name.to_owned(), n_accepted: Arc::default(), meter: sink.meter() };
    let worker = Worker {
        name: name.to_owned(),
        n_accepted: Arc::clone(&probe.n_accepted),
        control: Arc::clone(&control),
        sink,
        n_refused: 0,
        n_unwanted: 0,
        trouble_since: None,
        reminded_at: Duration::ZERO,
    };
    let thread = std::thread::Builder::new()
        .name(format!("sink-{name}"))
        .spawn(move || worker.run(queue))
        .map_err(|e| SinkError::Thread { sink: name.to_owned(), problem: format!("could not be started: {e}") })?;
    Ok(SinkHandle { name: name.to_owned(), probe, control, thread })
}

impl SinkHandle {
    /// The grace period begins: an outage no longer holds the sink, nor those who wait before its full queue, beyond it.
    /// Call it when a shutdown begins, before waiting for the queue's senders.
    pub fn drain(&self) {
        self.control.drain();
    }

    /// Reads the sink's figures while it runs.
    pub fn probe(&self) -> SinkProbe {
        self.probe.clone()
    }

    /// Whether the thread has come to its end.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Begins the grace period if nobody did, waits for the end, and gives the account.
    ///
    /// An output that takes nothing (a pipe that nobody reads) cannot be interrupted: its thread is left behind.
    pub fn join(self) -> SinkReport {
        self.control.drain();
        let clock = &self.control.clock;
        let end = clock.monotonic() + self.control.grace_left() + LEFT_BEHIND_AFTER;
        while !self.thread.is_finished() {
            if clock.monotonic() >= end {
                let problem = "did not end within its grace period: its output takes nothing".into();
                let error = Some(SinkError::Thread { sink: self.name.clone(), problem });
                return SinkReport { name: self.name, error, ..SinkReport::default() };
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.thread.join().unwrap_or_else(|_| SinkReport {
            error: Some(SinkError::Thread { sink: self.name.clone(), problem: "panicked, which is a bug".into() }),
            name: self.name,
            ..SinkReport::default()
        })
    }
}

struct Worker {
    name: String,
    control: Arc<Control>,
    sink: Box<dyn Sink>,
    n_accepted: Arc<AtomicU64>,
    /// Events the sink refused for good.
    n_refused: u64,
    /// Events that came after the reader of the output had gone.
    n_unwanted: u64,
    /// On the monotonic clock.
    trouble_since: Option<Duration>,
    reminded_at: Duration,
}

/// Why not all of some events were offered.
enum Cut {
    /// The reader of the output has gone.
    Unwanted,
    OutOfTime,
}

impl Worker {
    fn run(mut self, queue: Receiver<Arc<Event>>) -> SinkReport {
        let mut wanted = true;
        let mut n_late = 0;
        let mut events = Vec::with_capacity(BATCH);
        while !self.control.is_over() {
            events.clear();
            match queue.recv_many(BATCH, self.sink.patience(), &mut events) {
                Received::Closed => break,
                Received::Item(()) if !wanted => self.n_unwanted += events.len() as u64,
                Received::Item(()) => match self.offer(&events) {
                    (_, None) => {}
                    (n_done, Some(Cut::Unwanted)) => {
                        wanted = false;
                        self.n_unwanted += (events.len() - n_done) as u64;
                    }
                    (n_done, Some(Cut::OutOfTime)) => {
                        n_late += (events.len() - n_done) as u64;
                        break;
                    }
                },
                Received::TimedOut if wanted => wanted = self.idle(),
                Received::TimedOut => {}
            }
        }
        // What is still queued when time is over is lost, and counted. What is sent from now on is refused, and
        // whoever waits to send is let go.
        let n_left = queue.close().len() as u64;
        if wanted {
            n_late += n_left;
        } else {
            self.n_unwanted += n_left;
        }
        self.finish(n_late)
    }

    /// Offers events until the sink has taken each or refused it for good, or something cuts it short; gives the number of
    /// those that were dealt with.
    fn offer(&mut self, events: &[Arc<Event>]) -> (usize, Option<Cut>) {
        let mut n_done = 0;
        while n_done < events.len() {
            let (n_taken, outcome) = self.sink.publish_all(&events[n_done..]);
            n_done += n_taken;
            self.n_accepted.fetch_add(n_taken as u64, Relaxed);
            match outcome {
                Ok(()) => self.well(),
                Err(SinkError::Closed) => return (n_done, Some(Cut::Unwanted)),
                Err(error) if error.is_temporary() => {
                    self.trouble(&error);
                    if self.control.is_over() {
                        return (n_done, Some(Cut::OutOfTime));
                    }
                    self.work_for(RETRY_AFTER.min(self.control.grace_left()).max(LEAST_PAUSE));
                }
                Err(error) => {
                    let event = &events[n_done];
                    tracing::error!(sink = self.name, stream = %event.stream.name, id = event.id, %error, "event lost");
                    self.n_refused += 1;
                    n_done += 1;
                }
            }
        }
        (n_done, None)
    }

    /// Waits, while the sink goes on with what it has.
    fn work_for(&mut self, time: Duration) {
        let clock = Arc::clone(&self.control.clock);
        let end = clock.monotonic() + time;
        while let Some(left) = end.checked_sub(clock.monotonic()).filter(|left| !left.is_zero()) {
            // What stands in its way is told when the event is offered again.
            let pause = match self.sink.idle() {
                Ok(()) => self.sink.patience().min(left),
                Err(_) => left,
            };
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
        }
    }

    /// False once the reader of the output has gone.
    fn idle(&mut self) -> bool {
        match self.sink.idle() {
            Ok(()) => self.well(),
            Err(SinkError::Closed) => return false,
            Err(error) => self.trouble(&error),
        }
        true
    }

    /// Says so when an outage begins, and again now and then while it lasts.
    fn trouble(&mut self, error: &SinkError) {
        let now = self.control.clock.monotonic();
        let since = *self.trouble_since.get_or_insert(now);
        if since == now || now >= self.reminded_at + REMIND_AFTER {
            self.reminded_at = now;
            let waited_secs = (now - since).as_secs();
            tracing::warn!(sink = self.name, %error, waited_secs, "sink waits and tries again; nothing is lost so far");
        }
    }

    fn well(&mut self) {
        if let Some(since) = self.trouble_since.take() {
            let waited_secs = self.control.clock.monotonic().saturating_sub(since).as_secs();
            tracing::info!(sink = self.name, waited_secs, "sink writes again");
        }
    }

    fn finish(self, n_late: u64) -> SinkReport {
        let mut report = self.sink.finish(self.control.grace_left());
        report.name = self.name;
        report.n_failed += self.n_refused + n_late;
        report.error = match (report.error, n_late) {
            (None, 0) => None,
            // Told with the whole grace period, not with what was left of it for the last step.
            (Some(SinkError::Undelivered { n_lost, cause, .. }), _) => {
                Some(SinkError::Undelivered { n_lost: n_lost + n_late, grace: self.control.grace, cause })
            }
            (Some(other), 0) => Some(other),
            (other, _) => {
                let cause = other.map_or_else(|| "they were still queued".into(), |error| error.to_string());
                Some(SinkError::Undelivered { n_lost: n_late, grace: self.control.grace, cause })
            }
        };
        if self.n_unwanted > 0 {
            tracing::debug!(sink = report.name, n_events = self.n_unwanted, "not shown: the output was closed");
        }
        report
    }
}
