//! Spools in temporary directories, on the real file system and SQLite.

use std::{fs, path::Path, sync::Arc, time::Duration};

use base::time::ManualClock;
use tempfile::TempDir;

use crate as sinks;

use super::*;
use crate::delivery::{BacklogError, BacklogReading};

#[path = "../../../../fuzz/cases.rs"]
mod cases;
mod disk_full;
mod files;
mod killed;
mod properties;

/// A spool in a directory of its own, on a clock that stands still.
struct Bench {
    directory: TempDir,
    clock: Arc<ManualClock>,
    max_bytes: u64,
    durability: Durability,
}

impl Bench {
    fn new(max_bytes: u64, durability: Durability) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self { directory, clock: ManualClock::new(), max_bytes, durability }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn try_open(&self) -> Result<Opened, SpoolError> {
        Spool::open(SpoolOptions {
            directory: self.path().to_owned(),
            max_bytes: self.max_bytes,
            durability: self.durability,
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
        })
    }

    fn open(&self) -> Spool {
        let Opened { spool, damage } = self.try_open().expect("opens");
        assert_eq!(damage, None);
        spool
    }

    /// What `kill -9` leaves: the files as they are just now.
    fn crashed(&self) -> Self {
        let copy = Self::new(self.max_bytes, self.durability);
        for file in fs::read_dir(self.path()).expect("a directory") {
            let file = file.expect("a file");
            fs::copy(file.path(), copy.path().join(file.file_name())).expect("copied");
        }
        copy
    }
}

/// Bytes that differ from entry to entry.
fn entry(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x.to_le_bytes()[3]
        })
        .collect()
}

fn entries(first: u64, n: u64, len: usize) -> Vec<Vec<u8>> {
    (first..first + n).map(|k| entry(k, len)).collect()
}

type Told = Vec<(u64, Option<Vec<u8>>)>;

/// Everything from `from` on.
fn read_all(spool: &mut Spool, from: u64) -> Told {
    let mut told = Told::new();
    let mut at = from.max(spool.reading().first);
    while at < spool.reading().next {
        spool
            .read(at, 10_000, &mut |entry| {
                assert_eq!(entry.number, at, "numbers are consecutive");
                told.push((entry.number, entry.bytes.map(<[u8]>::to_vec)));
                at += 1;
            })
            .expect("reads");
    }
    told
}

fn kept(first: u64, entries: &[Vec<u8>]) -> Told {
    (first..).zip(entries.iter().cloned().map(Some)).collect()
}

/// What makes this program run one test only. `path` is that of the test with its crate.
fn only(path: &str) -> [&str; 3] {
    let (_, test) = path.split_once("::").expect("a crate's name comes first");
    ["--exact", test, "--nocapture"]
}

fn first_and_next(spool: &Spool) -> (u64, u64) {
    let reading = spool.reading();
    (reading.first, reading.next)
}

#[test]
fn entries_come_back_in_order_and_survive() {
    for durability in [Durability::Os, Durability::Interval, Durability::Disk] {
        let bench = Bench::new(1 << 20, durability);
        let mut spool = bench.open();
        assert_eq!(spool.reading(), BacklogReading { first: 0, next: 0, n_bytes: 0, max_bytes: 1 << 20 });
        let all = entries(0, 300, 450);
        spool.append(&all[..200]).expect("room");
        spool.append(&[]).expect("nothing");
        spool.append(&all[200..]).expect("room");
        assert_eq!(read_all(&mut spool, 0), kept(0, &all));
        assert_eq!(read_all(&mut spool, 250), kept(250, &all[250..]));
        assert_eq!(read_all(&mut bench.crashed().open(), 0), kept(0, &all));
        let mut n_seen = 0;
        spool.read(3, 1, &mut |entry| n_seen += u64::from(entry.number == 3)).expect("reads");
        assert_eq!(n_seen, 1, "one at least, and not more than asked for");
        spool.read(300, 1 << 20, &mut |_| unreachable!("there is no more")).expect("reads");

        spool.trim(120).expect("trims");
        assert_eq!(first_and_next(&spool), (120, 300));
        assert_eq!(read_all(&mut spool, 0), kept(120, &all[120..]));
        spool.trim(7).expect("nothing to do");
        spool.close().expect("closes");
        assert!(!bench.path().join("spool.db-wal").exists());
        let mut spool = bench.open();
        assert_eq!(read_all(&mut spool, 0), kept(120, &all[120..]), "to the entry");
        spool.trim(1_000_000).expect("trims");
        assert_eq!(spool.reading(), BacklogReading { first: 300, next: 300, n_bytes: 0, max_bytes: 1 << 20 });
        drop(spool);
        let mut spool = bench.open();
        assert_eq!(first_and_next(&spool), (300, 300), "numbers go on");
        spool.append(&all[..1]).expect("room");
        assert_eq!(read_all(&mut spool, 0), kept(300, &all[..1]));
    }
}

#[test]
fn what_was_let_go_is_deleted_soon_and_cheaply() {
    let bench = Bench::new(64 << 20, Durability::Os);
    let mut spool = bench.open();
    let of_a_crash = |bench: &Bench| first_and_next(&bench.crashed().open());
    spool.append(&entries(0, 100, 100)).expect("room");
    spool.append(&entries(100, 100, 100)).expect("room");
    spool.trim(50).expect("trims");
    assert_eq!(of_a_crash(&bench), (0, 200), "not at once");
    bench.clock.advance(DELETE_AFTER);
    spool.trim(50).expect("trims");
    assert_eq!(of_a_crash(&bench), (50, 200), "in the middle of a block");
    spool.trim(150).expect("trims");
    bench.clock.advance(DELETE_AFTER);
    spool.append(&entries(200, 1, 100)).expect("room");
    assert_eq!(of_a_crash(&bench), (150, 201), "with an append");
    let many = entries(201, 100_000, 200);
    spool.append(&many).expect("room");
    spool.trim(100_000).expect("trims");
    assert_eq!(of_a_crash(&bench), (100_000, 100_201), "when it is much");
}

#[test]
fn it_is_bounded_and_its_files_are() {
    for (max_bytes, n, len) in [(1 << 20, 1000, 450), (1 << 20, 1, 3000), (64 << 10, 7, 100), (4 << 20, 3, 200_000)] {
        let bench = Bench::new(max_bytes, Durability::Os);
        let mut spool = bench.open();
        let batch = entries(0, n, len);
        let (mut first, mut n_full) = (0, 0);
        for _ in 0..40 * max_bytes / (n * len as u64) {
            match spool.append(&batch) {
                Ok(()) => {}
                Err(BacklogError::Full { n_bytes, max_bytes: max }) => {
                    assert_eq!((n_bytes, max), (spool.reading().n_bytes, max_bytes));
                    assert!(max_bytes - n_bytes < n * (len as u64 + 8) + 64 * 20, "{n_bytes} is not full");
                    n_full += 1;
                    first += (spool.reading().next - first).div_ceil(2);
                    spool.trim(first).expect("trims");
                    spool.append(&batch).expect("half of it is free");
                }
                Err(error) => panic!("{error}"),
            }
            assert!(spool.reading().n_bytes <= max_bytes);
            let n_on_disk: u64 =
                ["spool.db", "spool.db-wal"].map(|f| database::n_bytes_of(&bench.path().join(f))).iter().sum();
            assert!(n_on_disk < max_bytes * 2 + (1 << 20), "{n_on_disk} bytes for {max_bytes}");
        }
        assert!(n_full > 10, "{n_full}");
        let too_large = entry(0, usize::try_from(max_bytes).expect("small"));
        assert!(matches!(spool.append(&[too_large]), Err(BacklogError::Full { .. })));
    }
}

#[test]
fn an_emptied_file_is_made_small_again() {
    let bench = Bench::new(256 << 20, Durability::Os);
    let mut spool = bench.open();
    let size = || database::n_bytes_of(&bench.path().join("spool.db"));
    for k in 0..40 {
        spool.append(&entries(k * 10, 10, 300_000)).expect("room");
    }
    assert!(size() > WORTH_SHRINKING);
    bench.clock.advance(DELETE_AFTER);
    spool.trim(400).expect("trims");
    assert!(size() < 1 << 20, "{}", size());
    spool.append(&entries(400, 1, 300_000)).expect("room");
    assert_eq!(read_all(&mut spool, 0), kept(400, &entries(400, 1, 300_000)));
    drop(spool);
    assert_eq!(read_all(&mut bench.open(), 0), kept(400, &entries(400, 1, 300_000)));
}

#[test]
fn room_is_made_in_one_step() {
    let bench = Bench::new(1 << 20, Durability::Os);
    let mut spool = bench.open();
    let mut n = 0;
    while spool.append(&entries(n, 10, 1000)).is_ok() {
        n += 10;
    }
    spool.trim(5).expect("trims");
    let notes = vec![entry(1, 300), entry(2, 300)];
    let mut gone = Told::new();
    spool
        .make_room(100_000, &mut |entries| {
            gone = entries.map(|entry| (entry.number, entry.bytes.map(<[u8]>::to_vec))).collect();
            notes.clone()
        })
        .expect("there is something to let go");
    let first = spool.reading().first;
    assert_eq!(gone, kept(5, &entries(5, first - 5, 1000)), "all that goes is shown, and nothing let go before");
    let mut expected = kept(first, &entries(first, n - first, 1000));
    expected.extend(kept(n, &notes));
    assert_eq!(read_all(&mut spool, 0), expected);
    assert_eq!(read_all(&mut bench.crashed().open(), 0), expected, "at once");
    let bite = first * 1000;
    assert!((100_000..200_000).contains(&bite), "{bite}");
    spool.append(&[entry(3, 100_000)]).expect("that was the room");

    let before = spool.reading();
    let more_than_fits = spool.make_room(2 << 20, &mut |_| unreachable!("nothing helps"));
    assert!(matches!(more_than_fits, Err(BacklogError::Full { .. })));
    let much_to_say = spool.make_room(1000, &mut |_| vec![entry(4, 1 << 20)]);
    assert!(matches!(much_to_say, Err(BacklogError::Full { .. })));
    assert_eq!(spool.reading(), before);
    spool
        .make_room(1 << 20, &mut |gone| {
            assert!(gone.count() > 0);
            Vec::new()
        })
        .expect("all goes");
    assert_eq!(spool.reading(), BacklogReading { first: before.next, n_bytes: 0, ..before });
}

#[test]
fn the_disk_is_synced_about_once_a_second() {
    // What a sync does cannot be seen from here: that it is called, and does not fail, can.
    let bench = Bench::new(1 << 20, Durability::Interval);
    let mut spool = bench.open();
    spool.append(&entries(0, 1, 10)).expect("room");
    assert!(spool.unsynced);
    bench.clock.advance(SYNC_AFTER);
    spool.trim(0).expect("chores");
    assert!(!spool.unsynced);
    spool.append(&entries(1, 1, 10)).expect("room");
    assert!(spool.unsynced, "not before its time");
    bench.clock.advance(SYNC_AFTER - Duration::from_millis(1));
    spool.append(&entries(2, 1, 10)).expect("room");
    assert!(spool.unsynced);
    bench.clock.advance(Duration::from_millis(1));
    spool.append(&entries(3, 1, 10)).expect("room");
    assert!(!spool.unsynced);
}
