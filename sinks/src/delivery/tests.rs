//! The courier between a backlog and a far end that misbehaves. The far end is a fake, because no real one refuses, forgets
//! and comes back on demand; the real ones are in this crate's integration tests.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use base::{
    event::{AlertState, Body, Event, Silenced},
    media::{SessionId, StreamInfo},
    time::{ManualClock, Pts, Timestamp},
};
use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;
use crate::{BuildContext, Sink, SinkReport, Stamp, record::KeyBy, samples, wire, wire::RecordFormat};

/// What a far end does with the next record.
#[derive(Debug, Clone, Copy)]
enum Mood {
    Deliver,
    Refuse,
    GiveBack,
    RefuseAtOnce,
    Busy,
    /// Says nothing until called back.
    Keep,
}

#[derive(Default)]
struct World {
    moods: VecDeque<Mood>,
    /// Ids in the order of their arrival.
    arrived: Vec<String>,
    refused: BTreeSet<String>,
    /// Frames that each arrived notice of the far end's own sink says were dropped.
    notices: Vec<u64>,
    on_the_way: Vec<(u64, String, Mood)>,
    recalled: bool,
    /// The connection of ordered delivery is broken: nothing arrives until the courier calls back.
    broken: bool,
}

#[derive(Clone, Default)]
struct FarEnd(Arc<Mutex<World>>);

impl Outlet for FarEnd {
    fn send(&mut self, number: u64, record: &Record<'_>) -> Result<(), NotSent> {
        let mut world = self.0.lock();
        let mood = world.moods.pop_front().unwrap_or(Mood::Deliver);
        match mood {
            Mood::Busy => return Err(NotSent::Busy),
            Mood::RefuseAtOnce => {
                world.refused.insert(record.id.to_owned());
                return Err(NotSent::Refused("too large".into()));
            }
            _ => {}
        }
        if let Ok(wire::Record::Gap(gap)) = wire::decode(record.payload)
            && gap.reason == wire::Reason::SpoolFull
        {
            world.notices.extend(gap.n_frames_dropped);
        }
        world.on_the_way.push((number, record.id.to_owned(), mood));
        Ok(())
    }

    fn reports(&mut self, _patience: Duration, reports: &mut Vec<Report>) {
        let world = &mut *self.0.lock();
        let mut kept = Vec::new();
        for (number, id, mood) in std::mem::take(&mut world.on_the_way) {
            let fate = match mood {
                _ if world.broken || (world.recalled && (!kept.is_empty() || matches!(mood, Mood::Keep))) => {
                    world.broken = true;
                    Fate::Again("called back".into())
                }
                // Nothing overtakes what is kept.
                _ if !kept.is_empty() || matches!(mood, Mood::Keep) => {
                    kept.push((number, id, mood));
                    continue;
                }
                Mood::GiveBack => {
                    // What was sent after it must not overtake it.
                    world.broken = true;
                    Fate::Again("lost on the way".into())
                }
                Mood::Refuse => {
                    world.refused.insert(id);
                    Fate::Refused("not wanted".into())
                }
                _ => {
                    world.arrived.push(id);
                    Fate::Delivered
                }
            };
            reports.push(Report { number, fate });
        }
        if world.recalled {
            world.recalled = false;
            world.broken = false;
        }
        world.on_the_way = kept;
    }

    fn recall(&mut self) {
        self.0.lock().recalled = true;
    }

    fn hurry(&mut self) {
        // Nothing is kept for ever.
        for (_, _, mood) in &mut self.0.lock().on_the_way {
            *mood = Mood::Deliver;
        }
    }

    fn trouble(&self) -> Option<String> {
        None
    }
}

struct Bench {
    far_end: FarEnd,
    clock: Arc<ManualClock>,
    courier: Box<Courier<FarEnd>>,
}

fn bench(spool: &SpoolConfig, only: Option<Vec<String>>) -> Bench {
    bench_with(spool, only, None)
}

/// Leaves out what somebody has silenced.
fn discreet_bench() -> Bench {
    bench_for(&memory(1 << 20, WhenSpoolFull::Block), None, None, None, true)
}

fn bench_with(spool: &SpoolConfig, only: Option<Vec<String>>, progress: Option<Progress>) -> Bench {
    bench_for(spool, only, None, progress, false)
}

fn bench_for(
    spool: &SpoolConfig,
    only: Option<Vec<String>>,
    states: Option<Vec<AlertState>>,
    progress: Option<Progress>,
    skip_silenced: bool,
) -> Bench {
    let (far_end, clock) = (FarEnd::default(), ManualClock::new());
    let context = BuildContext { progress, ..BuildContext::new(clock.clone(), Stamp::Omitted) };
    let options = CourierOptions {
        skip_silenced,
        name: "far",
        spool,
        key_by: KeyBy::Stream,
        only,
        states,
        format: RecordFormat::default(),
        dead_letters: None,
        context,
    };
    let courier = Box::new(Courier::open(far_end.clone(), options).expect("courier"));
    Bench { far_end, clock, courier }
}

fn memory(max_bytes: u64, when_full: WhenSpoolFull) -> SpoolConfig {
    SpoolConfig { store: Store::Memory, max_bytes: Some(max_bytes), when_full, ..SpoolConfig::default() }
}

impl Bench {
    /// Turns until nothing moves any more, letting time pass.
    fn settle(&mut self) {
        for _ in 0..200 {
            self.clock.advance(Duration::from_secs(6));
            self.courier.idle().expect("idle");
        }
    }

    fn finish(self) -> (SinkReport, Arc<Mutex<World>>) {
        (self.courier.finish(Duration::ZERO), self.far_end.0)
    }
}

fn frame(stream: &Arc<StreamInfo>, number: u64) -> Arc<Event> {
    Arc::new(samples::detections(stream, number, &[("person", Some(7))]))
}

/// A stream under a lease.
fn leased(name: &str) -> Arc<StreamInfo> {
    Arc::new(StreamInfo { epoch: Some(7), ..StreamInfo::clone(&samples::stream(name)) })
}

fn mood() -> impl Strategy<Value = Mood> {
    prop_oneof![
        8 => Just(Mood::Deliver),
        1 => Just(Mood::Refuse),
        1 => Just(Mood::GiveBack),
        1 => Just(Mood::RefuseAtOnce),
        1 => Just(Mood::Busy),
        1 => Just(Mood::Keep),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a far end does: every event arrives or is counted as failed, and for the first time in order.
    #[test]
    fn nothing_vanishes_and_order_holds(
        moods in prop::collection::vec(mood(), 0..200),
        batches in prop::collection::vec((1usize..30, 0usize..4), 1..12),
    ) {
        let mut bench = bench(&memory(1 << 26, WhenSpoolFull::Block), None);
        bench.far_end.0.lock().moods = moods.into();
        let stream = samples::stream("front-door");
        let mut sent = Vec::new();
        for (n_events, n_idles) in batches {
            let events: Vec<Arc<Event>> =
                (sent.len()..sent.len() + n_events).map(|number| frame(&stream, number as u64)).collect();
            let (n_taken, outcome) = bench.courier.publish_all(&events);
            prop_assert!(n_taken == n_events && outcome.is_ok());
            sent.extend(events.iter().map(|event| event.id.clone()));
            for _ in 0..n_idles {
                bench.clock.advance(Duration::from_millis(70));
                bench.courier.idle().expect("idle");
            }
        }
        bench.settle();
        let (report, world) = bench.finish();
        let world = world.lock();
        let mut seen = BTreeSet::new();
        let firsts: Vec<&String> = world.arrived.iter().filter(|id| seen.insert(id.as_str())).collect();
        let expected: Vec<&String> = sent.iter().filter(|id| !world.refused.contains(*id)).collect();
        prop_assert_eq!(firsts, expected);
        prop_assert_eq!(report.n_published, world.arrived.len() as u64);
        prop_assert_eq!(report.n_failed, world.refused.len() as u64);
        prop_assert_eq!(report.error.is_some(), !world.refused.is_empty());
    }

    /// What is said to have arrived has: all of it, or it was given up. In the end that is everything.
    #[test]
    fn progress_never_says_too_much(
        moods in prop::collection::vec(mood(), 0..150),
        batches in prop::collection::vec((1usize..30, 0usize..3), 1..12),
    ) {
        let progress = Progress::default();
        let only = Some(vec!["detections".into()]);
        let mut bench = bench_with(&memory(1 << 26, WhenSpoolFull::Block), only, Some(progress.clone()));
        bench.far_end.0.lock().moods = moods.into();
        let streams = [leased("front-door"), leased("yard")];
        let mut sent: [Vec<Arc<Event>>; 2] = Default::default();
        let check = |sent: &[Vec<Arc<Event>>; 2], world: &World| {
            for (stream, sent) in streams.iter().zip(sent) {
                let Some(arrived) = progress.of(&stream.name) else { continue };
                let at = sent.iter().position(|e| (&e.session, e.pts) == (&arrived.0, arrived.1)).expect("one of ours");
                for event in &sent[..=at] {
                    let is_wanted = event.body.kind() == "detections";
                    let is_there = world.arrived.contains(&event.id) || world.refused.contains(&event.id);
                    assert!(is_there || !is_wanted, "{} has not arrived", event.id);
                }
            }
        };
        for (n_events, n_idles) in batches {
            let events: Vec<Arc<Event>> = (0..n_events)
                .map(|n| {
                    let sent = &mut sent[(n / 3) % 2];
                    let (stream, number) = (&streams[(n / 3) % 2], sent.len() as u64);
                    let words = samples::transcript(stream, number as u32, "unwanted", false);
                    let event = if number % 5 == 4 { Arc::new(words) } else { frame(stream, number) };
                    // The same session for both kinds, and one time for each.
                    let session = SessionId::derived([b"s".as_slice()]);
                    let id = format!("{}-{}", stream.name, event.id);
                    let event = Event { session, id, pts: Pts::from_millis(100 * number + 1), ..Event::clone(&event) };
                    sent.push(Arc::new(event));
                    Arc::clone(&sent[sent.len() - 1])
                })
                .collect();
            let (n_taken, outcome) = bench.courier.publish_all(&events);
            prop_assert!(n_taken == n_events && outcome.is_ok());
            check(&sent, &bench.far_end.0.lock());
            for _ in 0..n_idles {
                bench.clock.advance(Duration::from_millis(70));
                bench.courier.idle().expect("idle");
                check(&sent, &bench.far_end.0.lock());
            }
        }
        bench.settle();
        for (stream, sent) in streams.iter().zip(&sent) {
            let arrived = progress.of(&stream.name).map(|(_, pts)| pts);
            prop_assert_eq!(arrived, sent.last().map(|event| event.pts));
        }
    }

    /// A full backlog that lets the oldest go: what arrived and what was dropped are all, and a notice tells of it.
    #[test]
    fn what_a_full_spool_drops_is_counted_and_told(n_frames in 1u64..4000, on_the_way in 0usize..50) {
        let mut bench = bench(&memory(1 << 20, WhenSpoolFull::DropOldest), None);
        // Some are on their way, then nothing goes.
        let moods = std::iter::repeat_n(Mood::Keep, on_the_way).chain(std::iter::repeat_n(Mood::Busy, 100_000));
        bench.far_end.0.lock().moods = moods.collect();
        let stream = samples::stream("front-door");
        for number in 0..n_frames {
            let (n_taken, outcome) = bench.courier.publish_all(&[frame(&stream, number)]);
            prop_assert!(n_taken == 1 && outcome.is_ok());
        }
        bench.far_end.0.lock().moods.clear();
        bench.settle();
        let (report, world) = bench.finish();
        let world = world.lock();
        let n_frames_arrived = world.arrived.iter().filter(|id| id.contains("-detections-")).count() as u64;
        let n_told: u64 = world.notices.iter().sum();
        // What was on its way when it was pushed out is told as dropped, although it arrived.
        prop_assert!((report.n_dropped..=report.n_dropped + on_the_way as u64).contains(&n_told));
        let n_gaps = world.arrived.iter().filter(|id| id.contains("-gap-far-")).count();
        prop_assert_eq!(n_frames_arrived + report.n_dropped, n_frames);
        prop_assert_eq!(n_gaps > 0, n_told > 0);
        prop_assert_eq!(report.error.is_some(), report.n_dropped > 0);
    }
}

#[test]
fn what_is_silenced_is_left_out_where_nobody_wants_it() {
    let stream = samples::stream("front-door");
    let silenced = Silenced { id: "1".into(), by: "anna".into(), until: Timestamp::UNIX_EPOCH, reason: "works".into() };
    let alert = |number: u64, is_silenced: bool| {
        let mut event = samples::alert(&stream, number, AlertState::Opened);
        if let Body::Alert(alert) = &mut event.body {
            alert.silenced = is_silenced.then(|| silenced.clone());
        }
        Arc::new(event)
    };
    let events = [alert(0, false), alert(1, true), frame(&stream, 2), alert(3, true), alert(4, false)];
    let check = |mut bench: Bench, expected: &[usize]| {
        let (n_taken, outcome) = bench.courier.publish_all(&events);
        assert!(n_taken == events.len() && outcome.is_ok());
        bench.settle();
        let expected: Vec<&String> = expected.iter().map(|&at| &events[at].id).collect();
        assert_eq!(bench.finish().1.lock().arrived.iter().collect::<Vec<_>>(), expected);
    };
    check(discreet_bench(), &[0, 2, 4]);
    check(bench(&memory(1 << 20, WhenSpoolFull::Block), None), &[0, 1, 2, 3, 4]);
}

#[test]
fn a_full_backlog_that_waits_takes_what_fits() {
    let mut bench = bench(&memory(1 << 20, WhenSpoolFull::Block), None);
    bench.far_end.0.lock().moods = std::iter::repeat_n(Mood::Busy, 100_000).collect();
    let stream = samples::stream("front-door");
    let events: Vec<Arc<Event>> = (0..4000).map(|number| frame(&stream, number)).collect();
    let mut n_taken = 0;
    let error = loop {
        let (n, outcome) = bench.courier.publish_all(&events[n_taken..(n_taken + 512).min(4000)]);
        n_taken += n;
        if let Err(error) = outcome {
            break error;
        }
    };
    assert!(error.is_temporary() && error.to_string().contains("the spool is full"), "{error}");
    assert!((1000..4000).contains(&n_taken), "{n_taken}");
    let reading = bench.courier.meter().expect("a far end").read();
    assert!(reading.full && reading.n_waiting == n_taken as u64, "{reading:?}");
    assert!(reading.n_waiting_bytes > (1 << 20) - 1024 && reading.n_waiting_bytes <= 1 << 20, "{reading:?}");
    bench.far_end.0.lock().moods.clear();
    bench.settle();
    while n_taken < 4000 {
        let (n, outcome) = bench.courier.publish_all(&events[n_taken..(n_taken + 512).min(4000)]);
        n_taken += n;
        assert!(outcome.is_ok(), "there is room again");
        bench.settle();
    }
    let (report, _) = bench.finish();
    assert_eq!((report.n_published, report.n_failed, report.n_dropped), (4000, 0, 0));
}

#[test]
fn a_gap_tells_what_a_full_spool_dropped() {
    let stream = samples::stream("front-door");
    let mut losses = losses::Losses::new("kafka");
    for number in 3..8 {
        let bytes = crate::record::encode(&frame(&stream, number), &KeyBy::Stream, None, 0);
        losses.add(&Entry { number, bytes: Some(&bytes) });
    }
    losses.add(&Entry { number: 8, bytes: None });
    assert_eq!(losses.n_records(), 6);
    let context = BuildContext::new(ManualClock::new(), Stamp::Published);
    let notices = losses.notices(&context);
    let record = Record::from_bytes(&notices[0]).expect("a record");
    assert_eq!((notices.len(), record.kind, record.stream), (1, "gap", "front-door"));
    let wire::Record::Gap(gap) = wire::decode(record.payload).expect("a gap") else { panic!("{}", record.payload) };
    assert_eq!((gap.reason, gap.n_frames_dropped), (wire::Reason::SpoolFull, Some(5)));
    assert!(gap.from_pts_ms < gap.to_pts_ms && record.pts_ms == gap.from_pts_ms, "{gap:?}");
    assert_eq!((&*gap.envelope.id, gap.envelope.tags["site"].as_str()), (record.id, "north"));
    assert!(gap.envelope.published_at.is_some(), "stamped");
}

#[test]
fn only_wanted_kinds_are_kept() {
    let mut bench = bench(&memory(1 << 20, WhenSpoolFull::Block), Some(vec!["status".into(), "gap".into()]));
    let stream = samples::stream("front-door");
    let events = [frame(&stream, 0), Arc::new(samples::gap(&stream, 1)), frame(&stream, 1)];
    let (n_taken, outcome) = bench.courier.publish_all(&events);
    assert!(n_taken == 3 && outcome.is_ok());
    bench.settle();
    let (report, world) = bench.finish();
    assert_eq!((report.n_published, world.lock().arrived.clone()), (1, vec![events[1].id.clone()]));
}

#[test]
fn only_wanted_states_of_alerts_are_kept() {
    let states = Some(vec![AlertState::Opened, AlertState::Closed]);
    let mut bench = bench_for(&memory(1 << 20, WhenSpoolFull::Block), None, states, None, false);
    let stream = samples::stream("front-door");
    let alert = |number, state| Arc::new(samples::alert(&stream, number, state));
    let events = [
        alert(0, AlertState::Opened),
        alert(1, AlertState::Updated),
        Arc::new(samples::gap(&stream, 2)),
        alert(3, AlertState::Closed),
    ];
    assert!(bench.courier.publish_all(&events).1.is_ok());
    bench.settle();
    let (_, world) = bench.finish();
    let expected: Vec<String> = [0, 2, 3].map(|at: usize| events[at].id.clone()).into();
    assert_eq!(world.lock().arrived.clone(), expected);
}

#[test]
fn what_an_earlier_run_left_is_waited_for_and_not_told() {
    let folder = tempfile::tempdir().expect("folder");
    let spool = SpoolConfig { store: Store::Disk, path: Some(folder.path().join("spool")), ..SpoolConfig::default() };
    let stream = leased("front-door");
    let mut earlier = bench(&spool, None);
    earlier.far_end.0.lock().moods = std::iter::repeat_n(Mood::Busy, 1000).collect();
    assert!(earlier.courier.publish_all(&[frame(&stream, 50)]).1.is_ok());
    drop(earlier);
    let progress = Progress::default();
    let mut later = bench_with(&spool, None, Some(progress.clone()));
    later.far_end.0.lock().moods = std::iter::repeat_n(Mood::Busy, 3).collect();
    assert!(later.courier.publish_all(&[frame(&stream, 3)]).1.is_ok());
    assert_eq!(progress.of(&stream.name), None, "the earlier one is before it");
    later.settle();
    assert_eq!(later.far_end.0.lock().arrived.len(), 2);
    assert_eq!(progress.of(&stream.name).map(|(_, pts)| pts), Some(frame(&stream, 3).pts));
}
