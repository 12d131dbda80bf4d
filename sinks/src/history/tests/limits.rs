//! What is let go of, by age and by size.

use super::*;

/// Tidies up until there is no more to do.
fn tidy(store: &mut Store, now: Timestamp) -> Removed {
    let mut all = Removed::default();
    for _ in 0..1000 {
        let step = store.tidy(now).expect("tidied");
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
    assert_eq!(tidy(&mut store, at(30 * day)).for_age, 32);
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
        store.tidy(at(4_000_000)).expect("tidied");
    }
    store.db().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("checkpoint");
    assert!(store.n_bytes() <= limits.max_bytes, "{}", store.n_bytes());
    assert_eq!(tidy(&mut store, at(4_000_000)), Removed::default());
}
