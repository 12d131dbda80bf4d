//! Webhook sink: one POST for each event, or for each batch of them, in order, tried again until the receiver has it.
//!
//! The sink's own thread hands records to a thread that posts them (`hook-<name>`), one request at a time, and takes
//! back what became of them. Must never: hold the sink's thread while the receiver is slow, send a record before one
//! that came earlier has been taken or refused, or show a secret.

use std::{sync::Arc, time::Duration};

use base::{
    queue::{Received, Receiver, Sender, Sent, WhenFull, queue},
    time::Clock,
};
use parking_lot::{Condvar, Mutex};
use reqwest::{Certificate, blocking::Client, header::HeaderMap};

use crate::{
    SinkError,
    delivery::{Fate, NotSent, Outlet, Report},
    record::Record,
};

mod alertmanager;
mod body;
mod config;
mod pace;
mod post;
mod sign;
mod slack;
mod target;
mod template;
mod wanted;

use body::Body;
pub use body::TemplateName;
pub use config::{RetryConfig, WebhookConfig};
use pace::Pace;
use post::{Answer, Poster, Request};
use sign::Key;
use target::Target;
pub use wanted::{Kind, WhenSilenced};

/// Fewest records that may be on their way; two batches where that is more.
const LEAST_OUT: usize = 64;
/// Bytes that may be on their way; one record may be larger.
const MOST_OUT_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of one batch; one record may be larger.
const MOST_BODY_BYTES: usize = 1024 * 1024;

/// What was read from files and the environment.
struct Secrets {
    target: Target,
    keys: Vec<Key>,
    headers: HeaderMap,
    certificates: Vec<Certificate>,
}

/// A record on its way.
#[derive(Debug, Clone, Default)]
struct Parcel {
    number: u64,
    /// [`State::epoch`] when it was sent.
    epoch: u64,
    kind: String,
    id: String,
    stream: String,
    session: String,
    time: Option<String>,
    payload: String,
}

/// The way to a webhook's receiver.
pub(crate) struct Webhook {
    parcels: Sender<Parcel>,
    shared: Arc<Shared>,
    most_out: usize,
    clock: Arc<dyn Clock>,
}

/// Between the sink's thread and the one that posts.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There are reports.
    news: Condvar,
    /// All is called back, or over.
    interrupt: Condvar,
}

#[derive(Default)]
struct State {
    reports: Vec<Report>,
    /// How often all was called back.
    epoch: u64,
    n_out: usize,
    n_out_bytes: usize,
    trouble: Option<Trouble>,
    closed: bool,
}

struct Trouble {
    cause: String,
    /// On the monotonic clock.
    next_try: Duration,
}

impl Webhook {
    /// Starts the thread, which connects when there is something to send.
    fn start(
        name: &str,
        config: &WebhookConfig,
        secrets: Secrets,
        body: Body,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SinkError> {
        let most_out = LEAST_OUT.max(2 * config.batch_events);
        let (parcels, receiver) = queue(format!("hook:{name}"), most_out, WhenFull::DropNewest);
        let (ready, started) = queue(format!("hook-start:{name}"), 1, WhenFull::Block);
        let shared = Arc::new(Shared::default());
        let pace = Pace::new(
            Duration::from_millis(config.retry.first_ms),
            Duration::from_millis(config.retry.max_ms),
            // Different in each process of many that lose the same receiver.
            clock.wall().as_nanosecond() as u64 ^ u64::from(std::process::id()).rotate_left(32),
        );
        let carrier = Carrier {
            batch_events: config.batch_events,
            give_up_after: config.retry.give_up_after(),
            body,
            pace,
            shared: Arc::clone(&shared),
            clock: Arc::clone(&clock),
        };
        let timeout = Duration::from_millis(config.timeout_ms);
        let problem = |problem| SinkError::Thread { sink: name.to_owned(), problem };
        let run = move || {
            // Made here, because making and dropping it blocks.
            let Secrets { target, keys, headers, certificates } = secrets;
            let client = Client::builder().tls_certs_merge(certificates);
            match Poster::new(client, target, keys, headers, timeout) {
                Ok(poster) => {
                    ready.send(None);
                    drop(ready);
                    carrier.run(&poster, &receiver);
                }
                Err(error) => {
                    ready.send(Some(error));
                }
            }
        };
        std::thread::Builder::new()
            .name(format!("hook-{name}"))
            .spawn(run)
            .map_err(|error| problem(format!("could not be started: {error}")))?;
        match started.recv() {
            Some(None) => Ok(Self { parcels, shared, most_out, clock }),
            Some(Some(error)) => Err(problem(format!("could not set up the http client: {error}"))),
            None => Err(problem("panicked, which is a bug".into())),
        }
    }
}

impl Outlet for Webhook {
    fn send(&mut self, number: u64, record: &Record<'_>) -> Result<(), NotSent> {
        let n_bytes = record.payload.len();
        let mut state = self.shared.state.lock();
        if state.n_out >= self.most_out || (state.n_out > 0 && state.n_out_bytes + n_bytes > MOST_OUT_BYTES) {
            return Err(NotSent::Busy);
        }
        state.n_out += 1;
        state.n_out_bytes += n_bytes;
        let epoch = state.epoch;
        drop(state);
        let parcel = Parcel {
            number,
            epoch,
            kind: record.kind.to_owned(),
            id: record.id.to_owned(),
            stream: record.stream.to_owned(),
            session: record.session.to_owned(),
            time: record.time.map(str::to_owned),
            payload: record.payload.to_owned(),
        };
        match self.parcels.send(parcel) {
            Sent::Queued => Ok(()),
            // Its thread has panicked, which is a bug.
            Sent::Refused(_) | Sent::Displaced(_) => {
                let mut state = self.shared.state.lock();
                state.n_out -= 1;
                state.n_out_bytes -= n_bytes;
                Err(NotSent::Busy)
            }
        }
    }

    fn reports(&mut self, patience: Duration, reports: &mut Vec<Report>) {
        let mut state = self.shared.state.lock();
        if state.reports.is_empty() && !patience.is_zero() {
            self.shared.news.wait_for(&mut state, patience);
        }
        reports.append(&mut state.reports);
    }

    fn recall(&mut self) {
        self.shared.state.lock().epoch += 1;
        self.shared.interrupt.notify_all();
    }

    fn hurry(&mut self) {}

    fn trouble(&self) -> Option<String> {
        let state = self.shared.state.lock();
        let trouble = state.trouble.as_ref()?;
        let left = trouble.next_try.saturating_sub(self.clock.monotonic());
        let next = match left.as_millis().div_ceil(1000) {
            0 => "trying again".to_owned(),
            secs => format!("next try in {secs} s"),
        };
        Some(format!("{}; {next}", trouble.cause))
    }
}

impl Drop for Webhook {
    /// The thread ends by itself, at the latest when its request does; nobody waits for it.
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.interrupt.notify_all();
    }
}

/// Posts records, on its own thread.
struct Carrier {
    batch_events: usize,
    give_up_after: Option<Duration>,
    body: Body,
    pace: Pace,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
}

impl Carrier {
    fn run(mut self, poster: &Poster, parcels: &Receiver<Parcel>) {
        let mut waiting = Vec::new();
        while let Some(parcel) = parcels.recv() {
            waiting.push(parcel);
            if self.batch_events > 1 {
                let _: Received<()> = parcels.recv_many(self.batch_events - 1, Duration::ZERO, &mut waiting);
            }
            let mut rest = &waiting[..];
            while !rest.is_empty() {
                let (batch, later) = rest.split_at(n_in_one_body(rest));
                self.deliver(poster, batch);
                rest = later;
            }
            waiting.clear();
            if self.shared.state.lock().closed {
                return;
            }
        }
    }

    /// Posts these as one request until they are taken, refused, given up, or called back.
    fn deliver(&mut self, poster: &Poster, parcels: &[Parcel]) {
        let request = match parcels {
            [parcel] if self.batch_events == 1 => Request::single(parcel, &self.body),
            _ => Request::batch(parcels, &self.body),
        };
        let request = match request {
            Ok(request) => request,
            Err(_) if parcels.len() > 1 => return self.deliver_each(poster, parcels),
            Err(cause) => return self.report(parcels, &Fate::Refused(cause)),
        };
        let since = self.clock.monotonic();
        for n_tries in 1.. {
            if self.shared.state.lock().is_over_for(parcels) {
                return self.report(parcels, &Fate::Again("called back".into()));
            }
            let (cause, asked) = match poster.post(&request, self.clock.wall()) {
                Answer::Taken => {
                    self.shared.state.lock().trouble = None;
                    return self.report(parcels, &Fate::Delivered);
                }
                Answer::Never { .. } if parcels.len() > 1 => return self.deliver_each(poster, parcels),
                Answer::Never { cause } => {
                    self.shared.state.lock().trouble = None;
                    return self.report(parcels, &Fate::Refused(cause));
                }
                Answer::Later { cause, asked } => (cause, asked),
            };
            let tried = self.clock.monotonic() - since;
            let left = self.give_up_after.map(|most| most.saturating_sub(tried));
            if left == Some(Duration::ZERO) {
                let reason = format!("{cause}; given up after {n_tries} tries in {} s", tried.as_secs());
                self.shared.state.lock().trouble = Some(Trouble { cause, next_try: Duration::ZERO });
                return self.report(parcels, &Fate::Refused(reason));
            }
            let pause = self.pace.pause(n_tries, asked, left);
            self.wait(parcels, cause, pause);
        }
    }

    /// One of them may be to blame: the others must not go with it.
    fn deliver_each(&mut self, poster: &Poster, parcels: &[Parcel]) {
        parcels.iter().for_each(|parcel| self.deliver(poster, std::slice::from_ref(parcel)));
    }

    /// Waits for the next try, unless all is called back or over before.
    fn wait(&self, parcels: &[Parcel], cause: String, pause: Duration) {
        let next_try = self.clock.monotonic() + pause;
        let mut state = self.shared.state.lock();
        state.trouble = Some(Trouble { cause, next_try });
        while !state.is_over_for(parcels) {
            let left = next_try.saturating_sub(self.clock.monotonic());
            if left.is_zero() {
                return;
            }
            self.shared.interrupt.wait_for(&mut state, left);
        }
    }

    fn report(&self, parcels: &[Parcel], fate: &Fate) {
        let mut state = self.shared.state.lock();
        for parcel in parcels {
            state.n_out -= 1;
            state.n_out_bytes -= parcel.payload.len();
            state.reports.push(Report { number: parcel.number, fate: fate.clone() });
        }
        drop(state);
        self.shared.news.notify_all();
    }
}

impl State {
    /// Whether these must not be tried any more.
    fn is_over_for(&self, parcels: &[Parcel]) -> bool {
        self.closed || parcels.iter().any(|parcel| parcel.epoch != self.epoch)
    }
}

/// How many of these, at least one, go into one request.
fn n_in_one_body(parcels: &[Parcel]) -> usize {
    let mut n_bytes = 0;
    let n = parcels.iter().take_while(|parcel| {
        n_bytes += parcel.payload.len() + 1;
        n_bytes <= MOST_BODY_BYTES
    });
    n.count().clamp(1, parcels.len().max(1))
}

#[cfg(test)]
mod tests;
