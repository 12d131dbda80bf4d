//! From events to a far end: encodes, keeps, sends, sends again, settles, counts. One way for every record.
//!
//! On the sink's thread. Must never settle a record that the far end does not have without counting it as failed or
//! dropped, nor send two records of a key in another order than they were accepted for the first time.

use std::{sync::Arc, sync::atomic::Ordering::Relaxed, time::Duration};

use base::event::{AlertState, Body, Event};

use super::{
    Backlog, DeadLetters, Fate, Memory, Meter, NotSent, Outlet, Report, SpoolConfig, Store, Tally, WhenSpoolFull,
    flight::Flight, herald::Herald,
};
use crate::{
    BuildContext, Sink, SinkError, SinkReport,
    record::{self, KeyBy, Record},
    spool::Spool,
    wire::RecordFormat,
};

mod keep;
mod traced;

/// Records are read back in pieces of up to about so many bytes; of fewer while the far end takes little at a time.
const MOST_READ_BYTES: usize = 256 * 1024;
const LEAST_READ_BYTES: usize = 4 * 1024;
/// One turn of waiting for reports.
const TURN: Duration = Duration::from_millis(20);
/// With nothing to do, events are waited for so long; with records on their way, so long.
const RESTING: Duration = Duration::from_millis(50);
const WATCHING: Duration = Duration::from_millis(5);
/// After a record came back, the next try waits so long; twice as long each time, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// At the end, a far end in trouble that took nothing for so long is not waited for.
const GIVE_UP_AFTER: Duration = Duration::from_secs(2);
/// How often the age of the oldest record is looked up.
const LOOK_AT_OLDEST_AFTER: Duration = Duration::from_secs(1);

/// What a courier needs besides its outlet.
pub struct CourierOptions<'a> {
    /// Name of the sink in the configuration.
    pub name: &'a str,
    /// Where events wait.
    pub spool: &'a SpoolConfig,
    /// What keeps records together.
    pub key_by: KeyBy,
    /// Kinds of records to deliver; none for all. Others count as accepted, and go nowhere.
    pub only: Option<Vec<String>>,
    /// Alerts that somebody has silenced go nowhere either.
    pub skip_silenced: bool,
    /// States of alerts to deliver; none for all.
    pub states: Option<Vec<AlertState>>,
    /// The shape of the records.
    pub format: RecordFormat,
    /// Where records go that the far end will never take.
    pub dead_letters: Option<DeadLetters>,
    /// Time and stamps.
    pub context: BuildContext,
}

/// A sink with a far end.
pub struct Courier<O> {
    name: String,
    outlet: O,
    backlog: Box<dyn Backlog>,
    store: Store,
    when_full: WhenSpoolFull,
    key_by: KeyBy,
    only: Option<Vec<String>>,
    skip_silenced: bool,
    states: Option<Vec<AlertState>>,
    format: RecordFormat,
    dead_letters: Option<DeadLetters>,
    context: BuildContext,
    tally: Option<Tally>,
    meter: Arc<Meter>,
    flight: Flight,
    /// A record came back: everything on its way is called back, and then sent again in order.
    recalling: bool,
    pause: Duration,
    /// The oldest that came back: until it has settled, the pauses grow.
    came_back: Option<u64>,
    /// On the monotonic clock: not before.
    send_after: Duration,
    /// The outlet took no more at the last try.
    busy: bool,
    /// Bytes to read back at a time.
    read_bytes: usize,
    /// The last turn moved something.
    moving: bool,
    /// The last event found no room.
    full: bool,
    /// Room for reports, kept from turn to turn.
    reports: Vec<Report>,
    /// Refused, but not yet with the dead letters, because the disk refused those.
    unburied: Vec<(u64, String)>,
    /// What the disk refused at the last try: a new event, another step of the backlog, a dead letter.
    append_trouble: Option<String>,
    read_trouble: Option<String>,
    trim_trouble: Option<String>,
    letters_trouble: Option<String>,
    account: Account,
    traced: traced::Traced,
    herald: Herald,
    /// On the monotonic clock.
    looked_at_oldest: Option<Duration>,
}

#[derive(Debug, Default)]
struct Account {
    n_delivered: u64,
    n_failed: u64,
    n_dropped: u64,
    last_failure: Option<String>,
}

impl<O: Outlet> Courier<O> {
    /// Opens the backlog; what an earlier process left in it is delivered first.
    ///
    /// # Errors
    /// When the spool cannot be opened, or another process has it.
    pub fn open(outlet: O, options: CourierOptions<'_>) -> Result<Self, SinkError> {
        let CourierOptions { name, spool, key_by, only, skip_silenced, states, format, dead_letters, context } =
            options;
        let backlog: Box<dyn Backlog> = match spool.store {
            Store::Memory => Box::new(Memory::new(spool.max_bytes())),
            Store::Disk => Box::new(Spool::open_for(name, spool, &context)?),
        };
        let reading = backlog.reading();
        let n_waiting = reading.next - reading.first;
        if n_waiting > 0 {
            tracing::info!(
                sink = name,
                n_waiting,
                "events of an earlier run wait in the spool; they are delivered first"
            );
        }
        let meter = Arc::new(Meter::default());
        let traced = traced::Traced::new(name, &context);
        let mut courier = Self {
            name: name.to_owned(),
            outlet,
            backlog,
            store: spool.store,
            when_full: spool.when_full,
            key_by,
            only,
            skip_silenced,
            states,
            format,
            dead_letters,
            tally: context.progress.as_ref().map(|progress| progress.tally(true)),
            context,
            meter,
            flight: Flight::from(reading.first),
            recalling: false,
            pause: FIRST_PAUSE,
            came_back: None,
            send_after: Duration::ZERO,
            busy: false,
            read_bytes: MOST_READ_BYTES,
            moving: false,
            full: false,
            reports: Vec::new(),
            unburied: Vec::new(),
            append_trouble: None,
            read_trouble: None,
            trim_trouble: None,
            letters_trouble: None,
            account: Account::default(),
            traced,
            herald: Herald::new(name),
            looked_at_oldest: None,
        };
        courier.write_meter();
        Ok(courier)
    }

    fn now(&self) -> Duration {
        self.context.clock.monotonic()
    }

    /// One turn: hears what became of records, sends more, lets go of what has settled.
    fn turn(&mut self, patience: Duration) {
        let mut reports = std::mem::take(&mut self.reports);
        self.outlet.reports(patience, &mut reports);
        self.moving = !reports.is_empty();
        if self.moving || self.flight.n_out() == 0 {
            self.busy = false;
        }
        for report in reports.drain(..) {
            self.settle(report);
        }
        self.reports = reports;
        self.bury();
        if self.recalling && self.flight.n_out() == 0 {
            self.recalling = false;
            self.flight.rewind();
            self.send_after = self.now() + self.pause;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        if !self.recalling && self.now() >= self.send_after {
            let before = self.flight.next();
            self.send();
            self.moving |= self.flight.next() != before;
        }
        // A record that waits to be buried must stay.
        let unburied = self.unburied.iter().map(|(number, _)| *number).min().unwrap_or(u64::MAX);
        let settled = self.flight.first().min(unburied);
        if let Some(tally) = &mut self.tally {
            tally.settled(settled);
        }
        let outcome = self.backlog.trim(settled);
        self.trim_trouble = outcome.err().map(|error| error.to_string());
        let (now, trouble, n_waiting) = (self.now(), self.trouble(), self.n_waiting());
        self.herald.trouble(now, trouble, n_waiting);
        self.write_meter();
    }

    fn settle(&mut self, report: Report) {
        let Report { number, fate } = report;
        let is_settled = !matches!(fate, Fate::Again(_));
        if !self.flight.arrived(number, is_settled) {
            return;
        }
        self.traced.fate(number, &fate);
        // Pushed out of a full spool while it was on its way, and counted as dropped.
        let is_pushed_out = number < self.backlog.reading().first;
        match fate {
            Fate::Delivered => {
                self.account.n_delivered += 1;
                if is_pushed_out {
                    self.account.n_dropped = self.account.n_dropped.saturating_sub(1);
                }
                if self.came_back.is_none_or(|oldest| self.flight.first() > oldest) {
                    self.came_back = None;
                    self.pause = FIRST_PAUSE;
                }
            }
            Fate::Refused(_) if is_pushed_out => {}
            Fate::Refused(reason) => self.unburied.push((number, reason)),
            Fate::Again(reason) => {
                self.came_back = Some(self.came_back.map_or(number, |oldest| oldest.min(number)));
                if !self.recalling {
                    tracing::debug!(sink = self.name, number, reason, "a record came back; it is sent again");
                    self.recalling = true;
                    self.outlet.recall();
                }
                if is_pushed_out {
                    self.flight.gone(number + 1);
                }
            }
        }
    }

    fn send(&mut self) {
        let end = self.backlog.reading().next;
        let mut n_missing = 0;
        self.read_trouble = None;
        // Whoever cannot put refused records aside sends no more: those that wait for it are held in memory.
        while !self.busy && self.letters_trouble.is_none() && self.flight.next() < end {
            let Self { backlog, outlet, flight, unburied, busy, .. } = self;
            let from = flight.next();
            let mut n_bytes_sent = 0;
            let outcome = backlog.read(from, self.read_bytes, &mut |entry| {
                let number = entry.number;
                if *busy || number < flight.next() {
                    return;
                }
                n_missing += flight.skip(number);
                if flight.is_settled(number) {
                    return flight.pass(number);
                }
                let refused = match entry.bytes.map(Record::from_bytes) {
                    None => "the disk gave it back damaged".to_owned(),
                    Some(Err(unreadable)) => unreadable.to_string(),
                    Some(Ok(record)) => match outlet.send(number, &record) {
                        Ok(()) => {
                            n_bytes_sent += entry.bytes.map_or(0, <[u8]>::len);
                            return flight.sent(number);
                        }
                        Err(NotSent::Busy) => return *busy = true,
                        Err(NotSent::Refused(reason)) => reason,
                    },
                };
                flight.pass(number);
                unburied.push((number, refused));
            });
            self.read_bytes = match self.busy {
                true => (2 * n_bytes_sent).clamp(LEAST_READ_BYTES, MOST_READ_BYTES),
                false => (2 * self.read_bytes).min(MOST_READ_BYTES),
            };
            if let Err(error) = outcome {
                self.read_trouble = Some(error.to_string());
                break;
            }
            if !self.busy && self.flight.next() == from {
                // Nothing is there, although it was.
                n_missing += self.flight.skip(end);
            }
        }
        if n_missing > 0 {
            self.account.n_failed += n_missing;
            self.account.last_failure = Some("the disk did not give them back".into());
            tracing::error!(sink = self.name, n_missing, "the spool has lost records: its disk is damaged");
        }
        self.bury();
    }

    /// Puts refused records aside, and counts them.
    fn bury(&mut self) {
        self.letters_trouble = None;
        let mut unburied = std::mem::take(&mut self.unburied).into_iter();
        for (number, reason) in unburied.by_ref() {
            match self.put_aside(number, &reason) {
                Ok(()) => {
                    self.account.n_failed += 1;
                    self.account.last_failure = Some(reason);
                }
                Err(error) => {
                    self.letters_trouble = Some(error.to_string());
                    self.unburied.push((number, reason));
                    break;
                }
            }
        }
        self.unburied.extend(unburied);
    }

    fn put_aside(&mut self, number: u64, reason: &str) -> Result<(), SinkError> {
        let now = self.now();
        let Self { backlog, dead_letters, context, herald, .. } = self;
        let mut outcome = Ok(());
        let mut is_there = false;
        backlog.read(number, 1, &mut |entry| {
            if entry.number != number {
                return;
            }
            is_there = true;
            let record = entry.bytes.and_then(|bytes| Record::from_bytes(bytes).ok());
            if let (Some(letters), Some(record)) = (dead_letters.as_mut(), &record) {
                outcome = letters.put(record, reason, context.clock.wall());
            }
            if outcome.is_ok() {
                let is_put_aside = dead_letters.is_some() && record.is_some();
                herald.loss(now, record.as_ref(), reason, is_put_aside);
            }
        })?;
        if !is_there {
            // A full spool let go of it while it was on its way.
            herald.loss(now, None, reason, false);
        }
        outcome
    }

    /// Accepted, and not settled.
    fn n_waiting(&self) -> u64 {
        let reading = self.backlog.reading();
        let first = self.flight.first().max(reading.first);
        // Refused, but not yet put aside: those wait as well.
        let n_unburied = self.unburied.iter().filter(|(number, _)| (reading.first..first).contains(number)).count();
        reading.next.saturating_sub(first) + n_unburied as u64
    }

    /// What stands in the way of delivery; none while all is well.
    fn trouble(&self) -> Option<String> {
        let of_disk = [&self.append_trouble, &self.letters_trouble, &self.read_trouble, &self.trim_trouble];
        self.outlet.trouble().or_else(|| of_disk.into_iter().flatten().next().cloned())
    }

    fn write_meter(&mut self) {
        let reading = self.backlog.reading();
        let meter = Arc::clone(&self.meter);
        meter.n_delivered.store(self.account.n_delivered, Relaxed);
        meter.n_failed.store(self.account.n_failed, Relaxed);
        meter.n_dropped.store(self.account.n_dropped, Relaxed);
        meter.n_waiting.store(self.n_waiting(), Relaxed);
        meter.n_waiting_bytes.store(reading.n_bytes, Relaxed);
        meter.max_waiting_bytes.store(reading.max_bytes, Relaxed);
        meter.full.store(self.full, Relaxed);
        let now = self.now();
        if self.looked_at_oldest.is_some_and(|at| now < at + LOOK_AT_OLDEST_AFTER) {
            return;
        }
        self.looked_at_oldest = Some(now);
        let mut oldest_ms = 0;
        let first = self.flight.first().max(reading.first);
        if first < reading.next {
            let _told_at_the_next_turn = self.backlog.read(first, 1, &mut |entry| {
                if let Some(record) = entry.bytes.and_then(|bytes| Record::from_bytes(bytes).ok())
                    && entry.number == first
                {
                    oldest_ms = record.accepted_ms;
                }
            });
        }
        meter.oldest_ms.store(oldest_ms, Relaxed);
        *meter.trouble.lock() = self.trouble();
    }

    fn is_wanted(&self, event: &Event) -> bool {
        if let Body::Alert(alert) = &event.body {
            let is_of_state = self.states.as_ref().is_none_or(|states| states.contains(&alert.state));
            if !is_of_state || alert.silenced.is_some() && self.skip_silenced {
                return false;
            }
        }
        self.only.as_ref().is_none_or(|kinds| kinds.iter().any(|kind| kind == event.body.kind()))
    }
}

impl<O: Outlet> Sink for Courier<O> {
    fn publish(&mut self, event: &Event) -> Result<(), SinkError> {
        self.publish_all(&[Arc::new(event.clone())]).1
    }

    fn publish_all(&mut self, events: &[Arc<Event>]) -> (usize, Result<(), SinkError>) {
        let accepted_ms = u64::try_from(self.context.clock.wall().as_millisecond()).unwrap_or(0);
        let published_at = self.context.published_at();
        if let Some(tally) = &self.tally {
            tally.seen(events);
        }
        let wanted: Vec<usize> = (0..events.len()).filter(|&at| self.is_wanted(&events[at])).collect();
        let encode = |&at: &usize| record::encode_as(self.format, &events[at], &self.key_by, published_at, accepted_ms);
        let entries: Vec<Vec<u8>> = wanted.iter().map(encode).collect();
        let (n_kept, outcome) = if entries.is_empty() { (0, Ok(())) } else { self.keep(&entries) };
        let first = self.backlog.reading().next - n_kept as u64;
        self.traced.accepted((first..).zip(wanted[..n_kept].iter().map(|&at| &*events[at])));
        // Those that nobody wants are taken with the wanted one before them.
        let n_taken = wanted.get(n_kept).copied().unwrap_or(events.len());
        if let Some(tally) = &mut self.tally {
            let first = self.backlog.reading().next - n_kept as u64;
            tally.accepted(&events[..n_taken], |n| first + wanted.partition_point(|&at| at <= n) as u64);
        }
        self.turn(Duration::ZERO);
        (n_taken, outcome)
    }

    fn idle(&mut self) -> Result<(), SinkError> {
        let is_waiting = self.busy || self.flight.n_out() > 0;
        self.busy = false;
        self.turn(if is_waiting { TURN } else { Duration::ZERO });
        if self.busy || self.flight.next() == self.backlog.reading().next {
            self.outlet.hurry();
        }
        Ok(())
    }

    fn patience(&self) -> Duration {
        let all_sent = self.flight.next() == self.backlog.reading().next;
        match self.send_after.checked_sub(self.now()) {
            _ if all_sent && self.flight.n_out() == 0 => RESTING,
            Some(pause) if self.flight.n_out() == 0 => pause.min(RESTING),
            // `idle` waits for reports by itself where that helps.
            _ if all_sent || !self.moving => WATCHING,
            _ => Duration::ZERO,
        }
    }

    fn meter(&self) -> Option<Arc<Meter>> {
        Some(Arc::clone(&self.meter))
    }

    fn finish(mut self: Box<Self>, grace: Duration) -> SinkReport {
        let end = self.now() + grace;
        let mut moved_at = self.now();
        loop {
            self.outlet.hurry();
            self.busy = false;
            self.turn(TURN);
            if self.flight.first() >= self.backlog.reading().next && self.unburied.is_empty() {
                break;
            }
            if self.moving {
                moved_at = self.now();
            }
            // What is on disk is safe there: nobody waits for a far end that is away.
            let hopeless =
                self.store == Store::Disk && self.trouble().is_some() && self.now() >= moved_at + GIVE_UP_AFTER;
            if hopeless || self.now() >= end {
                break;
            }
            if self.flight.n_out() == 0 {
                // Nothing will be reported: do not spin until the next try.
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let n_waiting = match self.store {
            // As the next start finds it: what arrived although an earlier one has not is there, too, and comes again.
            Store::Disk => self.n_waiting(),
            Store::Memory => self.n_waiting().saturating_sub(self.flight.n_settled_from(self.backlog.reading().first)),
        };
        let cause = self.trouble().or_else(|| self.account.last_failure.clone());
        let cause = cause.unwrap_or_else(|| "the far end did not acknowledge them in time".into());
        let n_left = if self.store == Store::Memory { n_waiting } else { 0 };
        let n_lost = n_left + self.account.n_failed + self.account.n_dropped;
        SinkReport {
            n_published: self.account.n_delivered,
            n_failed: n_left + self.account.n_failed,
            n_dropped: self.account.n_dropped,
            n_waiting: if self.store == Store::Disk { n_waiting } else { 0 },
            topics: self.outlet.topics(),
            error: (n_lost > 0).then(|| SinkError::Undelivered { n_lost, grace, cause }),
            ..SinkReport::default()
        }
    }
}
