//! What is let go of, by age and by size.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// Tidies up until there is no more to do.
fn tidy(store: &mut Store, now: Timestamp) -> Removed {
    tidy_at(store, now, Duration::ZERO)
}

fn tidy_at(store: &mut Store, now: Timestamp, monotonic: Duration) -> Removed {
    let mut all = Removed::default();
    for _ in 0..1000 {
        let step = store.tidy(now, monotonic).expect("tidied");
        all.waits = step.waits;
        all.for_age += step.for_age;
        all.for_bytes += step.for_bytes;
        if !step.more {
            return all;
        }
    }
    panic!("it does not come to an end: {all:?}");
}

#[test]
fn what_is_too_old_goes() {
    let stream = samples::stream("cam");
    let day = DAY.as_millis() as i64;
    let mut rows = Vec::new();
    for n in 0..10 {
        rows.push(row(&said("cam", n as u64, &format!("day {n}")), n * day));
        rows.push(row(&samples::status(&stream, n as u64, StreamState::Playing, "x"), n * day));
        rows.push(row(&samples::gap(&stream, n as u64), n * day));
        rows.push(Row::Sample(Sample { stream: "cam".into(), at_ms: NOW_MS + n * day, ..Sample::default() }));
    }
    let (dir, mut store) = with(&rows);
    let count = |store: &Store| Table::ALL.map(|table| store.n_rows(table));
    // Seven days: the third day is just old enough to be kept, the one before is not.
    assert_eq!(tidy(&mut store, at(9 * day)).for_age, 8);
    assert_eq!(count(&store), [8, 8, 8, 8, 0]);
    assert_eq!(tidy(&mut store, at(9 * day)), Removed::default());
    let reader = Reader::open(dir.path()).expect("reader");
    let left = |typed: &str| {
        let search = Search { words: Phrase::parse(typed), limit: 100, order: Order::OldestFirst, ..Search::default() };
        reader.transcripts(&search).expect("found").found.len()
    };
    assert_eq!((left(""), left("day"), left("\"day 1\""), left("\"day 2\"")), (8, 8, 0, 1));
    // What was let go of is not in the index either, and the index is whole.
    store
        .db()
        .execute_batch("INSERT INTO words (words, rank) VALUES ('integrity-check', 1)")
        .expect("the index is whole");
    // It was off for three weeks, or the clock is wrong: an hour shows.
    let waits = Removed { waits: true, ..Removed::default() };
    assert_eq!(tidy(&mut store, at(30 * day)), waits);
    assert_eq!(tidy_at(&mut store, at(30 * day), HOUR).for_age, 32);
    assert_eq!(count(&store), [0; 5]);
    assert_eq!(left(""), 0);
}

#[test]
fn what_is_too_much_goes_oldest_first() {
    let dir = tempfile::tempdir().expect("folder");
    let limits = Limits { max_bytes: 2 << 20, ..LIMITS };
    let mut store = Store::open(dir.path(), limits).expect("opened").store;
    let text = |n: u64| format!("number{n} {}", "some words that take room ".repeat(4));
    for n in (0..4000).step_by(100) {
        let rows: Vec<Row> = (n..n + 100).map(|n| row(&said("cam", n, &text(n)), n as i64 * 1000)).collect();
        store.write(&rows).expect("written");
    }
    let before = store.n_bytes();
    assert!(before > 4 << 20, "{before}");
    let removed = tidy(&mut store, at(4_000_000));
    assert!(removed.for_age == 0 && removed.for_bytes > 0, "{removed:?}");
    let n_left = store.n_rows(Table::Transcripts);
    assert_eq!(n_left + removed.for_bytes, 4000);
    // Not much more than had to go.
    assert!(n_left > 200, "{n_left}");
    let search = Search { limit: 10_000, order: Order::OldestFirst, ..Search::default() };
    let reader = Reader::open(dir.path()).expect("reader");
    let found = reader.transcripts(&search).expect("found").found;
    assert_eq!(found.len() as u64, n_left);
    assert!(found[0].text.starts_with(&format!("number{} ", 4000 - n_left)), "the newest are left");
    drop(reader);
    // The room is given back to the disk.
    for _ in 0..20 {
        store.tidy(at(4_000_000), Duration::ZERO).expect("tidied");
    }
    store.db().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("checkpoint");
    assert!(store.n_bytes() <= limits.max_bytes, "{}", store.n_bytes());
    assert_eq!(tidy(&mut store, at(4_000_000)), Removed::default());
}

/// Samples of these times, in milliseconds.
fn samples(times: impl Iterator<Item = i64>) -> Vec<Row> {
    times
        .map(|at_ms| Row::Sample(Sample { stream: "cam".into(), at_ms: NOW_MS + at_ms, ..Sample::default() }))
        .collect()
}

#[test]
fn a_clock_that_is_wrong_costs_nothing_for_an_hour() {
    let (day, hour) = (DAY.as_millis() as i64, HOUR.as_millis() as i64);
    let (now, year) = (8 * day, 365 * day);
    let (dir, mut store) = with(&samples((0..8 * 24).map(|n| n * hour)));
    // As long as it runs, or was off for a weekend.
    assert_eq!(tidy(&mut store, at(now)).for_age, 24);
    assert_eq!(tidy(&mut store, at(now + 3 * day)).for_age, 72);
    // A year ahead, for half an hour, and once more after a restart.
    let waits = Removed { waits: true, ..Removed::default() };
    for minute in 0..30 {
        store.write(&samples(std::iter::once(year + minute * 60_000))).expect("written");
        let monotonic = Duration::from_secs(60 * minute as u64);
        assert_eq!(tidy_at(&mut store, at(year + minute * 60_000), monotonic), waits, "{minute}");
    }
    drop(store);
    let mut store = open(dir.path());
    assert_eq!(tidy_at(&mut store, at(year + day), Duration::ZERO), waits);
    // It is set right: what was told in the future is in nobody's way, and the hour begins anew.
    assert_eq!(tidy_at(&mut store, at(now + 3 * day + hour), HOUR / 2), Removed { for_age: 1, ..Removed::default() });
    assert_eq!(tidy_at(&mut store, at(year + day), HOUR), waits);
    assert_eq!(store.n_rows(Table::Samples), 95 + 30);
    // It says so for an hour.
    assert_eq!(tidy_at(&mut store, at(year + day), 2 * HOUR).for_age, 95);
}

#[test]
fn what_was_told_in_the_future_does_not_push_out_the_present() {
    let dir = tempfile::tempdir().expect("folder");
    let mut store = Store::open(dir.path(), Limits { max_bytes: 2 << 20, ..LIMITS }).expect("opened").store;
    let text = "some words that take room ".repeat(4);
    let year = 365 * DAY.as_millis() as i64;
    let write = |store: &mut Store, from: u64, ahead: i64| {
        for n in (from..from + 1500).step_by(100) {
            let rows: Vec<Row> = (n..n + 100).map(|n| row(&said("cam", n, &text), n as i64 * 1000 + ahead)).collect();
            store.write(&rows).expect("written");
        }
    };
    write(&mut store, 0, 0);
    write(&mut store, 2000, year);
    let n_of = |store: &Store, condition: &str| -> i64 {
        let count = format!("SELECT count(*) FROM transcripts WHERE told_ms {condition} {}", NOW_MS + year / 2);
        store.db().query_row(&count, [], |row| row.get(0)).expect("counted")
    };
    let removed = tidy(&mut store, at(1_500_000));
    assert!(removed.for_age == 0 && removed.for_bytes > 0 && !removed.waits, "{removed:?}");
    let (n_now, n_future) = (n_of(&store, "<"), n_of(&store, ">"));
    assert!(n_now > 150 && n_now.abs_diff(n_future) < 50, "{n_now}, {n_future}");
    // As it goes on, the future goes.
    for round in 2..6 {
        write(&mut store, 2000 * round, 0);
        tidy(&mut store, at(2_000_000 * round as i64));
    }
    assert!(n_of(&store, ">") < n_future / 10, "{} of {n_future}", n_of(&store, ">"));
    // And with a clock that is wrong now, no more than has to.
    write(&mut store, 20_000, 0);
    assert!(tidy(&mut store, at(year + 20_000_000)).waits);
    assert!(n_of(&store, "<") > 300, "{}", n_of(&store, "<"));
}
