//! Many workers on a real Apache Kafka: one is killed, frozen, drained or added, all are restarted in turn, Kafka stops.
//! Each test is one fault in its short form; `EYEWITNESS_CHAOS=long` (`make test-chaos`) makes it long. Every test prints
//! its row: which streams changed hands, and how long nobody looked at them.
//!
//! Judged is what an independent client reads from the topics, behind the fence that consumers are told to have: of a
//! stream's records, those of a smaller epoch than one seen before are late, not news.

use std::io::Write as _;

use crate::chaos::Scale;

mod account;
mod fleet;
mod rules;

use account::Account;
use fleet::{Arena, FPS, Fleet, now_ms, wait_for};

const N_STREAMS: usize = 30;

/// One line of the table.
struct Row {
    fault: &'static str,
    /// For each stream that changed hands, how long it was not looked at, milliseconds.
    holes_ms: Vec<i64>,
    n_gaps: usize,
    n_late: usize,
    note: String,
}

impl Row {
    fn show(mut self) {
        self.holes_ms.sort_unstable();
        let at = |part: usize| self.holes_ms.get(self.holes_ms.len() * part / 100).or(self.holes_ms.last());
        let secs = |ms: Option<&i64>| ms.map_or_else(|| "-".into(), |ms| format!("{:.1} s", *ms as f64 / 1000.0));
        let text = format!(
            "\n{:<40} {:>3} moves, not looked at for p50 {:>6}, max {:>6}; {:>3} gaps, {:>3} late records; {}\n",
            self.fault,
            self.holes_ms.len(),
            secs(at(50)),
            secs(self.holes_ms.last()),
            self.n_gaps,
            self.n_late,
            self.note
        );
        // Past the test harness, which shows what is printed only of tests that fail.
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

fn names() -> Vec<String> {
    (0..N_STREAMS).map(|at| format!("cam-{at:02}")).collect()
}

/// Of a fleet's settled streams, those of a worker.
fn those_of(who: &[(String, String)], worker: &str) -> Vec<String> {
    who.iter().filter(|(_, has)| has == worker).map(|(name, _)| name.clone()).collect()
}

/// Waits until some records of every stream have come since then.
fn wait_for_records_after(fleet: &Fleet, broker: &str, at_ms: i64) {
    wait_for("records of every stream", || {
        let account = Account::so_far(broker, fleet.prefix);
        names().iter().all(|name| account.fenced(name).first_captured_after(at_ms).is_some()).then_some(())
    });
}

/// Waits until every worker has its share and records of every stream have come since, and nothing has moved meanwhile.
fn wait_until_nothing_moves(fleet: &Fleet, broker: &str) -> Vec<(String, String)> {
    wait_for("an even share that stays", || {
        let who = fleet.wait_until_settled(N_STREAMS);
        let is_even = fleet.workers.iter().all(|worker| those_of(&who, &worker.name).len() >= N_STREAMS / 3 - 2);
        if !is_even {
            return None;
        }
        wait_for_records_after(fleet, broker, now_ms());
        (fleet.wait_until_settled(N_STREAMS) == who).then_some(who)
    })
}

/// After a move in good order nobody told a gap. Gives how long it was from the last frame of one worker to the first of the
/// next: nothing, where the next one looked before the other one let go.
#[track_caller]
fn assert_handed_over(account: &Account) -> Vec<i64> {
    let mut holes = Vec::new();
    for (stream, seen) in &account.detections {
        assert!(account.gaps_of(stream).is_empty(), "{stream}: {:?}", account.gaps_of(stream));
        let mut epochs: Vec<u64> = seen.iter().map(|seen| seen.epoch).collect();
        epochs.sort_unstable();
        epochs.dedup();
        for pair in epochs.windows(2) {
            let of = |epoch: u64| seen.iter().filter(move |seen| seen.epoch == epoch).map(|seen| seen.captured_ms);
            let (last, first) = (of(pair[0]).max().unwrap(), of(pair[1]).min().unwrap());
            holes.push((first - last).max(0));
        }
    }
    holes
}

fn count_late(account: &Account) -> usize {
    names().iter().map(|name| account.fenced(name).late.len()).sum()
}

#[test]
fn worker_killed() {
    let scale = Scale::of_this_run();
    let mut arena = Arena::enter();
    let broker = arena.broker();
    let mut fleet = Fleet::start_all(broker, "killed-workers", &["w1", "w2", "w3"]);
    fleet.attach(0, N_STREAMS);
    let n_kills = scale.of(1, 20);
    let mut outages: Vec<(i64, Vec<String>)> = Vec::new();
    for at in 0..n_kills {
        let who = wait_until_nothing_moves(&fleet, &broker.address());
        let victim = format!("w{}", 1 + at % 3);
        let lost = those_of(&who, &victim);
        assert!(!lost.is_empty(), "{victim} had streams: {who:?}");
        outages.push((fleet.take(&victim).kill(), lost));
        fleet.wait_until_settled(N_STREAMS);
        if at + 1 < n_kills {
            fleet.start(&victim);
        }
    }
    wait_for_records_after(&fleet, &broker.address(), now_ms());
    fleet.end();
    let account = Account::read(&broker.address(), fleet.prefix);
    account.assert_one_runner();
    let mut holes_ms = Vec::new();
    let mut broken: Vec<&str> = Vec::new();
    for (killed_at, lost) in &outages {
        for stream in lost {
            let fenced = account.fenced(stream);
            let before = fenced.news.iter().filter(|seen| seen.captured_ms <= *killed_at).max_by_key(|s| s.captured_ms);
            let next = fenced.first_captured_after(*killed_at).expect("it was taken over");
            assert!(before.is_none_or(|before| before.epoch < next.epoch), "{stream}: a new lease");
            holes_ms.push(next.captured_ms - killed_at);
            let told: Vec<_> = account
                .gaps_of(stream)
                .iter()
                .filter(|gap| before.is_some_and(|before| gap["session"] == before.session.as_str()))
                .collect();
            let all = account.gaps_of(stream);
            assert_eq!(told.len(), 1, "{stream}: one gap for one outage at {killed_at}: {before:?} {next:?} {all:#?}");
            assert_eq!(told[0]["reason"], "worker_lost");
            broken.extend(told[0]["session"].as_str());
        }
    }
    let is_other = |gap: &&serde_json::Value| !broken.iter().any(|session| gap["session"] == *session);
    let others: Vec<_> = account.gaps.values().flatten().filter(is_other).collect();
    assert!(others.is_empty(), "nobody else had one: {others:#?}, kills at {outages:?}");
    let n_gaps = holes_ms.len();
    let note = format!("{n_kills} x kill -9 of one of three");
    Row { fault: "worker killed -9", holes_ms, n_gaps, n_late: count_late(&account), note }.show();
}

#[test]
fn worker_frozen() {
    let scale = Scale::of_this_run();
    let mut arena = Arena::enter();
    let broker = arena.broker();
    let mut fleet = Fleet::start_all(broker, "frozen-workers", &["w1", "w2", "w3"]);
    fleet.attach(0, N_STREAMS);
    let mut frozen = Vec::new();
    for at in 0..scale.of(1, 5) {
        let victim = format!("w{}", 1 + at % 3);
        let who = fleet.wait_until_settled(N_STREAMS);
        wait_for_records_after(&fleet, &broker.address(), now_ms());
        let lost = those_of(&who, &victim);
        assert!(!lost.is_empty(), "{victim} had streams: {who:?}");
        let asleep = fleet.take(&victim);
        asleep.signal("STOP");
        let from = now_ms();
        fleet.wait_until_settled(N_STREAMS);
        wait_for_records_after(&fleet, &broker.address(), now_ms());
        let until = now_ms();
        asleep.signal("CONT");
        fleet.workers.push(asleep);
        // It finds that it has lost its leases, joins again, and is given some.
        wait_for("the worker that woke up to have streams again", || {
            let who = fleet.wait_until_settled(N_STREAMS);
            (!those_of(&who, &victim).is_empty()).then_some(())
        });
        wait_for_records_after(&fleet, &broker.address(), now_ms());
        frozen.push((from, until, lost));
    }
    fleet.end();
    let account = Account::read(&broker.address(), fleet.prefix);
    account.assert_one_runner();
    let mut holes_ms = Vec::new();
    for (from, until, lost) in &frozen {
        for stream in lost {
            let fenced = account.fenced(stream);
            let next = fenced.first_captured_after(*from).expect("it was taken over");
            holes_ms.push(next.captured_ms - from);
            // What it had in hand when it fell asleep may come late; what it saw after it woke up never comes.
            let epoch = next.epoch;
            let zombie: Vec<_> = account.detections[stream]
                .iter()
                .filter(|seen| seen.epoch < epoch && seen.captured_ms >= *until)
                .collect();
            assert!(zombie.is_empty(), "{stream}: {zombie:?}");
        }
    }
    let n_gaps = account.gaps.values().map(Vec::len).sum();
    let note = "SIGSTOP until all was taken over, then SIGCONT".to_owned();
    Row { fault: "worker frozen, woken later", holes_ms, n_gaps, n_late: count_late(&account), note }.show();
}

#[test]
fn kafka_stopped() {
    let scale = Scale::of_this_run();
    let mut arena = Arena::enter();
    let broker = arena.broker();
    let mut fleet = Fleet::start_all(broker, "stopped-kafka", &["w1", "w2", "w3"]);
    fleet.attach(0, N_STREAMS);
    fleet.wait_until_settled(N_STREAMS);
    wait_for_records_after(&fleet, &broker.address(), now_ms());
    let from = now_ms();
    broker.stop();
    // Longer than a session of the group lasts.
    let away_ms = scale.of(9_000, 120_000);
    wait_for("the time that Kafka is away", || (now_ms() - from > away_ms).then_some(()));
    broker.restart();
    let until = now_ms();
    fleet.wait_until_settled(N_STREAMS);
    wait_for_records_after(&fleet, &broker.address(), until);
    fleet.end();
    let account = Account::read(&broker.address(), fleet.prefix);
    account.assert_one_runner();
    let mut holes_ms = Vec::new();
    for stream in names() {
        // While so many streams begin, a busy machine may hold a process up; that is told, and another matter.
        let gaps = account.gaps_of(&stream).iter().filter(|gap| account::millis(&gap["published_at"]) >= from);
        assert_eq!(gaps.count(), 0, "{stream}: {:?}", account.gaps_of(&stream));
        // Everything that was seen meanwhile arrived, whoever it came from.
        let mut all: Vec<i64> = account.detections[&stream].iter().map(|seen| seen.captured_ms).collect();
        all.sort_unstable();
        let hole = all.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        let n_meanwhile = all.iter().filter(|at| (from..until).contains(*at)).count();
        assert!(n_meanwhile as i64 >= away_ms / 2000 * i64::from(FPS), "{stream}: {n_meanwhile} while Kafka was away");
        holes_ms.push(hole);
    }
    let note = format!("Kafka away for {} s", (until - from) / 1000);
    Row { fault: "Kafka stopped, started again", holes_ms, n_gaps: 0, n_late: count_late(&account), note }.show();
}

#[test]
fn worker_added_and_drained() {
    let mut arena = Arena::enter();
    let broker = arena.broker();
    let mut fleet = Fleet::start_all(broker, "moving-workers", &["w1", "w2"]);
    fleet.attach(0, N_STREAMS);
    let before = fleet.wait_until_settled(N_STREAMS);
    wait_for_records_after(&fleet, &broker.address(), now_ms());
    fleet.start("w3");
    wait_for("the new worker to have its share", || {
        let who = fleet.wait_until_settled(N_STREAMS);
        (those_of(&who, "w3").len() >= N_STREAMS / 6).then_some(())
    });
    wait_for_records_after(&fleet, &broker.address(), now_ms());
    let after = fleet.wait_until_settled(N_STREAMS);
    let n_moved = before.iter().zip(&after).filter(|(before, after)| before.1 != after.1).count();
    assert!(n_moved <= N_STREAMS / 2, "{n_moved} moved: only the new worker's share has to");
    // And now one goes.
    let leaving = fleet.take("w1");
    leaving.signal("TERM");
    leaving.ended();
    fleet.wait_until_settled(N_STREAMS);
    wait_for_records_after(&fleet, &broker.address(), now_ms());
    fleet.end();
    let account = Account::read(&broker.address(), fleet.prefix);
    account.assert_one_runner();
    let holes_ms = assert_handed_over(&account);
    let note = format!("{n_moved} to the new one, then one of three left");
    Row { fault: "worker added, worker drained", holes_ms, n_gaps: 0, n_late: count_late(&account), note }.show();
}

#[test]
fn workers_restarted_in_turn() {
    let mut arena = Arena::enter();
    let broker = arena.broker();
    let mut fleet = Fleet::start_all(broker, "rolling-workers", &["w1", "w2", "w3"]);
    fleet.attach(0, N_STREAMS);
    for name in ["w1", "w2", "w3"] {
        fleet.wait_until_settled(N_STREAMS);
        wait_for_records_after(&fleet, &broker.address(), now_ms());
        let leaving = fleet.take(name);
        leaving.signal("TERM");
        leaving.ended();
        fleet.wait_until_settled(N_STREAMS);
        fleet.start(name);
    }
    fleet.wait_until_settled(N_STREAMS);
    wait_for_records_after(&fleet, &broker.address(), now_ms());
    fleet.end();
    let account = Account::read(&broker.address(), fleet.prefix);
    account.assert_one_runner();
    let holes_ms = assert_handed_over(&account);
    let note = "each of three restarted".to_owned();
    Row { fault: "rolling restart", holes_ms, n_gaps: 0, n_late: count_late(&account), note }.show();
}

/// A recording that a worker plays is taken up by another where the last published event was.
#[test]
fn a_recording_is_resumed() {
    let mut arena = Arena::enter();
    let broker = arena.broker();
    let mut fleet = Fleet::start_all(broker, "resumed-recording", &["w1", "w2"]);
    let clip = serde_json::json!({ "url": crate::harness::CLIP });
    fleet.workers[0].put("clip", &clip);
    let who = fleet.wait_until_settled(1);
    let n_seen = |broker: &str| Account::so_far(broker, "resumed-recording").detections.get("clip").map_or(0, Vec::len);
    wait_for("some seconds of the recording", || (n_seen(&broker.address()) >= 5).then_some(()));
    let victim = who[0].1.clone();
    fleet.take(&victim).kill();
    wait_for("the recording to end", || {
        let streams = fleet.workers[0].streams()?;
        (streams.first()?["state"] == "ended").then_some(())
    });
    fleet.end();
    let account = Account::read(&broker.address(), fleet.prefix);
    let seen = &account.detections["clip"];
    // 400 frames at 10 a second, looked at once a second; stream time is the recording's own.
    let mut times: Vec<i64> = seen.iter().map(|seen| seen.pts_ms).collect();
    times.sort_unstable();
    let step = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    // A busy machine may have to leave one out, and counts it.
    assert!(times[0] < 1000 && step <= 2000 && times[times.len() - 1] >= 38_000, "nothing is left out: {times:?}");
    assert!(account.gaps_of("clip").is_empty(), "nothing is missing: {:?}", account.gaps_of("clip"));
    let sessions: std::collections::BTreeSet<&str> = seen.iter().map(|seen| seen.session.as_str()).collect();
    assert_eq!(sessions.len(), 2, "one on each worker");
    let n_twice = times.len().saturating_sub(40);
    assert!(n_twice <= 10, "{n_twice} seconds seen twice: {times:?}");
    let note = format!("{n_twice} of 40 seconds seen twice");
    Row { fault: "recording resumed elsewhere", holes_ms: vec![], n_gaps: 0, n_late: 0, note }.show();
}
