//! How far each stream has arrived at the far ends: what a successor goes on from. Only streams under a lease are followed.
//!
//! The board is written by the sinks' threads and read by anybody; nobody waits on it longer than for a few look-ups. Must
//! never say more than has arrived: where it does not know, it says less.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak},
};

use base::{
    event::{Body, Event},
    media::{SessionId, StreamInfo, StreamName},
    time::Pts,
};
use parking_lot::Mutex;

/// Marks that wait for their records to arrive, before they are thinned out.
const MOST_WAITING: usize = 16 * 1024;
/// Sessions remembered behind the one that has arrived, so that late events of an old one are not taken for new ones.
const SESSIONS_BEHIND: u64 = 8;
/// Sessions remembered of one stream at most.
const MOST_SESSIONS: usize = 1024;
/// Rows before those of streams that are gone are looked for.
const FIRST_SWEEP: usize = 256;

/// How far each stream has arrived. Clones share it.
///
/// Sinks without a far end count only for streams that no sink with one has seen: then what was written has arrived.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Mutex<Board>>);

#[derive(Debug, Default)]
struct Board {
    /// Whether each sink has a far end.
    sinks: Vec<bool>,
    streams: HashMap<StreamName, Row>,
    sweep_at: usize,
}

/// One stream under one lease.
#[derive(Debug)]
struct Row {
    epoch: u64,
    /// Gone once nobody speaks of the stream any more.
    stream: Weak<StreamInfo>,
    /// In the order in which they were first seen; the first has this number.
    sessions: VecDeque<SessionId>,
    first_session: u64,
    marks: Vec<(usize, Option<Mark>)>,
}

/// A place in a stream's life: number of the session, stream time.
type Mark = (u64, Pts);

impl Progress {
    /// Up to where every event of the stream has arrived, at all sinks with a far end that have seen it: delivered, or
    /// given up and counted. None before the first has. It is about what was published: sound that is still listened to
    /// may lie before it.
    pub fn of(&self, stream: &StreamName) -> Option<(SessionId, Pts)> {
        let board = self.0.lock();
        let row = board.streams.get(stream)?;
        let has_far_end = row.marks.iter().any(|(sink, _)| board.sinks[*sink]);
        let counted = row.marks.iter().filter(|(sink, _)| !has_far_end || board.sinks[*sink]);
        // None is less than any mark.
        let (number, pts) = counted.map(|(_, mark)| *mark).min()??;
        let at = usize::try_from(number.checked_sub(row.first_session)?).ok()?;
        Some((row.sessions.get(at)?.clone(), pts))
    }

    /// Nothing is known of the stream any more.
    pub fn forget(&self, stream: &StreamName) {
        self.0.lock().streams.remove(stream);
    }

    /// For one sink, to be kept with it.
    pub(crate) fn tally(&self, has_far_end: bool) -> Tally {
        let mut board = self.0.lock();
        board.sinks.push(has_far_end);
        Tally {
            progress: self.clone(),
            sink: board.sinks.len() - 1,
            waiting: VecDeque::new(),
            most_waiting: MOST_WAITING,
        }
    }
}

impl Board {
    /// Lets go of the streams that nobody speaks of any more, now and then.
    fn sweep(&mut self) {
        if self.streams.len() >= self.sweep_at.max(FIRST_SWEEP) {
            self.streams.retain(|_, row| row.stream.strong_count() > 0);
            self.sweep_at = 2 * self.streams.len();
        }
    }

    fn seen(&mut self, sink: usize, stream: &Arc<StreamInfo>, epoch: u64) {
        if !self.streams.contains_key(&stream.name) {
            self.sweep();
        }
        let new = || Row {
            epoch,
            stream: Arc::downgrade(stream),
            sessions: VecDeque::new(),
            first_session: 0,
            marks: Vec::new(),
        };
        let row = self.streams.entry(stream.name.clone()).or_insert_with(new);
        if row.epoch < epoch {
            *row = new();
        }
        if !std::ptr::eq(row.stream.as_ptr(), Arc::as_ptr(stream)) {
            row.stream = Arc::downgrade(stream);
        }
        if row.epoch == epoch && row.marks.iter().all(|(known, _)| *known != sink) {
            row.marks.push((sink, None));
        }
    }
}

impl Row {
    fn arrived(&mut self, sink: usize, session: &SessionId, pts: Pts) {
        let Some(at) = self.marks.iter().position(|(known, _)| *known == sink) else { return };
        let number = match self.sessions.iter().rposition(|known| known == session) {
            Some(at) => self.first_session + at as u64,
            None => {
                self.sessions.push_back(session.clone());
                self.first_session + self.sessions.len() as u64 - 1
            }
        };
        let mark = &mut self.marks[at].1;
        *mark = (*mark).max(Some((number, pts)));
        let least = self.marks.iter().map(|(_, mark)| mark.map_or(0, |(number, _)| number)).min().unwrap_or(0);
        let needed = least.saturating_sub(SESSIONS_BEHIND);
        while self.first_session < needed || self.sessions.len() > MOST_SESSIONS {
            self.sessions.pop_front();
            self.first_session += 1;
        }
    }
}

/// One sink's part: what it accepted, until that has arrived. On the sink's thread.
#[derive(Debug)]
pub(crate) struct Tally {
    progress: Progress,
    sink: usize,
    /// Oldest first; `below` never falls.
    waiting: VecDeque<Waiting>,
    most_waiting: usize,
}

#[derive(Debug)]
struct Waiting {
    /// It has arrived when every record below this number has settled.
    below: u64,
    stream: Arc<StreamInfo>,
    epoch: u64,
    session: SessionId,
    pts: Pts,
}

/// The lease of an event that tells how far its stream was analysed.
fn epoch_of(event: &Event) -> Option<u64> {
    // A gap and a status may speak of another time than the present one, and of another run's session.
    let tells = !matches!(event.body, Body::Status(_) | Body::Gap(_));
    event.stream.epoch.filter(|_| tells)
}

impl Tally {
    /// These events are before the sink: from now on it counts for their streams.
    pub(crate) fn seen(&self, events: &[Arc<Event>]) {
        let mut board = None;
        let mut last: Option<&Arc<StreamInfo>> = None;
        for event in events {
            if let Some(epoch) = epoch_of(event)
                && last.is_none_or(|last| !Arc::ptr_eq(last, &event.stream))
            {
                last = Some(&event.stream);
                board.get_or_insert_with(|| self.progress.0.lock()).seen(self.sink, &event.stream, epoch);
            }
        }
    }

    /// The sink has accepted these; `below(n)` is the number of the record after event `n`, or after the last one before it
    /// where the sink does not want event `n`.
    pub(crate) fn accepted(&mut self, events: &[Arc<Event>], below: impl Fn(usize) -> u64) {
        let begin = self.waiting.len();
        for (n, event) in events.iter().enumerate() {
            let Some(epoch) = epoch_of(event) else { continue };
            let mark = Waiting {
                below: below(n),
                stream: Arc::clone(&event.stream),
                epoch,
                session: event.session.clone(),
                pts: event.pts,
            };
            let of_these = self.waiting.len() > begin;
            match self.waiting.back_mut().filter(|_| of_these) {
                Some(last) if Arc::ptr_eq(&last.stream, &mark.stream) && last.session == mark.session => {
                    *last = Waiting { pts: last.pts.max(mark.pts), ..mark };
                }
                _ => self.waiting.push_back(mark),
            }
        }
        if self.waiting.len() > self.most_waiting {
            self.thin_out();
        }
    }

    /// Every record below `number` has settled.
    pub(crate) fn settled(&mut self, number: u64) {
        if self.waiting.front().is_none_or(|first| first.below > number) {
            return;
        }
        let mut board = self.progress.0.lock();
        while let Some(first) = self.waiting.pop_front_if(|first| first.below <= number) {
            if let Some(row) = board.streams.get_mut(&first.stream.name).filter(|row| row.epoch == first.epoch) {
                row.arrived(self.sink, &first.session, first.pts);
            }
        }
    }

    /// Lets go of marks that are close to a later one of their stream, never of its last: the far end is away for long, and
    /// until it is back the steps in which a stream is known to have arrived may be longer.
    fn thin_out(&mut self) {
        let (Some(first), Some(last)) = (self.waiting.front(), self.waiting.back()) else { return };
        let enough = MOST_WAITING / 2;
        let mut step = ((last.below - first.below) / enough as u64).max(1);
        loop {
            // Of each stream: the mark kept last, going back.
            let mut later: HashMap<StreamName, u64> = HashMap::new();
            let mut kept = VecDeque::with_capacity(enough);
            for mark in self.waiting.drain(..).rev() {
                if later.get(&mark.stream.name).is_none_or(|later| mark.below + step <= *later) {
                    later.insert(mark.stream.name.clone(), mark.below);
                    kept.push_front(mark);
                }
            }
            self.waiting = kept;
            if self.waiting.len() <= enough.max(later.len()) {
                break;
            }
            step = step.saturating_mul(2);
        }
        self.most_waiting = MOST_WAITING.max(2 * self.waiting.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    fn leased(epoch: u64) -> Arc<StreamInfo> {
        let stream = samples::stream("front-door");
        Arc::new(StreamInfo { epoch: Some(epoch), ..StreamInfo::clone(&stream) })
    }

    fn frame(stream: &Arc<StreamInfo>, session: &str, ms: u64) -> Arc<Event> {
        let event = samples::detections(stream, 0, &[]);
        let session = SessionId::derived([session.as_bytes()]);
        Arc::new(Event { session, pts: Pts::from_millis(ms), ..event })
    }

    fn accept(tally: &mut Tally, events: &[Arc<Event>], first: u64) {
        tally.seen(events);
        tally.accepted(events, |n| first + n as u64 + 1);
    }

    fn check(progress: &Progress, expected: Option<(&str, u64)>) {
        let got = progress.of(&samples::stream("front-door").name);
        let expected = expected.map(|(s, ms)| (SessionId::derived([s.as_bytes()]), Pts::from_millis(ms)));
        assert_eq!(got, expected);
    }

    #[test]
    fn the_least_of_the_far_ends_counts() {
        let progress = Progress::default();
        let (mut near, mut a, mut b) = (progress.tally(false), progress.tally(true), progress.tally(true));
        let stream = leased(1);
        let events = [frame(&stream, "s", 100), frame(&stream, "s", 200)];
        accept(&mut near, &events, 0);
        check(&progress, None);
        near.settled(2);
        check(&progress, Some(("s", 200)));
        accept(&mut a, &events[..1], 5);
        check(&progress, None);
        accept(&mut a, &events[1..], 6);
        a.settled(6);
        check(&progress, Some(("s", 100)));
        a.settled(7);
        check(&progress, Some(("s", 200)));
        // The second one sees it late, and has nothing yet.
        accept(&mut b, &events, 0);
        check(&progress, None);
        b.settled(2);
        check(&progress, Some(("s", 200)));
        progress.forget(&stream.name);
        check(&progress, None);
    }

    #[test]
    fn a_later_session_is_more_whatever_its_time() {
        let progress = Progress::default();
        let (mut a, mut b) = (progress.tally(true), progress.tally(true));
        let stream = leased(1);
        for (tally, to) in [(&mut a, 3), (&mut b, 1)] {
            let events = [frame(&stream, "one", 9000), frame(&stream, "two", 40), frame(&stream, "one", 9500)];
            for (n, event) in events.iter().enumerate() {
                accept(tally, std::slice::from_ref(event), n as u64);
            }
            tally.settled(to);
        }
        check(&progress, Some(("one", 9000)));
        b.settled(3);
        check(&progress, Some(("two", 40)));
    }

    #[test]
    fn a_new_lease_begins_anew_and_late_records_of_the_old_one_do_not_count() {
        let progress = Progress::default();
        let mut a = progress.tally(true);
        let (old, new) = (leased(3), leased(7));
        accept(&mut a, &[frame(&old, "old", 500)], 0);
        accept(&mut a, &[frame(&new, "new", 40)], 1);
        a.settled(1);
        check(&progress, None);
        a.settled(2);
        check(&progress, Some(("new", 40)));
        accept(&mut a, &[frame(&old, "old", 900)], 2);
        a.settled(3);
        check(&progress, Some(("new", 40)));
    }

    #[test]
    fn only_leased_streams_and_only_what_was_analysed() {
        let progress = Progress::default();
        let mut a = progress.tally(true);
        let free = samples::stream("front-door");
        accept(&mut a, &[frame(&free, "s", 100), Arc::new(samples::gap(&leased(1), 1))], 0);
        assert!(a.waiting.is_empty() && progress.0.lock().streams.is_empty());
    }

    #[test]
    fn memory_is_flat() {
        let progress = Progress::default();
        let mut a = progress.tally(true);
        let stream = leased(1);
        // The far end is away for long.
        let n = 6 * MOST_WAITING as u64;
        for number in 0..n {
            accept(&mut a, &[frame(&stream, "s", number)], number);
        }
        assert!(a.waiting.len() <= MOST_WAITING && a.waiting.len() > MOST_WAITING / 8, "{}", a.waiting.len());
        a.settled(n / 2);
        let (_, pts) = progress.of(&stream.name).expect("half of it");
        assert!(pts.millis() < n / 2 && pts.millis() > n / 2 - n / 50, "{pts}");
        a.settled(n);
        check(&progress, Some(("s", n - 1)));
        // A camera that comes and goes.
        for number in 0..5000 {
            accept(&mut a, &[frame(&stream, &format!("{number}"), 0)], n + number);
            a.settled(n + number + 1);
        }
        check(&progress, Some(("4999", 0)));
        assert!(progress.0.lock().streams[&stream.name].sessions.len() < 16);
        // Streams that come and go.
        for number in 0..5000 {
            let name = StreamName::new(&format!("stream-{number}")).expect("name");
            let gone = Arc::new(StreamInfo { name, ..StreamInfo::clone(&stream) });
            accept(&mut a, &[frame(&gone, "s", 0)], 2 * n + number);
            a.settled(2 * n + number + 1);
        }
        assert!(progress.0.lock().streams.len() <= 2 * FIRST_SWEEP, "{}", progress.0.lock().streams.len());
    }
}
