//! What the fuzz targets do with their input. The tests of `sinks` run the same on input that proptest makes, so that it
//! cannot rot.
//!
//! Must panic only where the program is wrong: whatever the bytes are, they are no reason to.

use std::{
    fs,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use base::time::ManualClock;

use super::sinks::{
    delivery::{Backlog, BacklogError, Durability},
    record::Record,
    spool::{Opened, Spool, SpoolError, SpoolOptions},
};

const MAX_BYTES: u64 = 256 * 1024;
const N_ENTRIES: u64 = 300;
/// Fewer altered bytes than this cannot be meant to fit the CRC of an entry.
const FEW: usize = 5;

/// Bytes as a record: read, or refused.
pub(crate) fn record(input: &[u8]) {
    if let Ok(record) = Record::from_bytes(input) {
        let bytes = record.to_bytes();
        assert_eq!(Record::from_bytes(&bytes).as_ref(), Ok(&record), "what was read can be written and read again");
    }
}

/// Bytes as the files of a spool: the first says how. As `spool.db`; as what follows a sound first page; as changes to
/// a sound spool, five bytes each.
pub(crate) fn spool(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).expect("written");
    let [database, wal] = sound_spool();
    let mut n_altered = usize::MAX;
    match kind % 4 {
        0 => write("spool.db", rest),
        1 => write("spool.db", &[&database[..8192], rest].concat()),
        _ => {
            let mut files = [database.clone(), wal.clone()];
            n_altered = alter(&mut files, rest);
            write("spool.db", &files[0]);
            write("spool.db-wal", &files[1]);
        }
    }
    let entry_is_sound = |number: u64, bytes: &[u8]| n_altered >= FEW || bytes == entry(number);
    let Some((mut spool, clock)) = open(directory.path()) else { return };
    let mut at = spool.reading().first;
    for _ in 0..64 {
        spool
            .read(at, 16 * 1024, &mut |entry| {
                assert_eq!(entry.number, at, "numbers are consecutive");
                assert!(entry.bytes.is_none_or(|bytes| entry_is_sound(entry.number, bytes)), "altered bytes");
                at += 1;
            })
            .expect("reads");
    }
    assert!(at <= spool.reading().next);

    let new = [b"new".to_vec(), vec![7; 9000]];
    clock.advance(Duration::from_secs(2));
    spool.trim(at).expect("trims");
    let mut outcome = spool.append(&new);
    if matches!(outcome, Err(BacklogError::Full { .. })) {
        spool.make_room(20_000, &mut |gone| gone.take(3).map(|_| vec![1; 8]).collect()).expect("makes room");
        outcome = spool.append(&new);
    }
    if matches!(outcome, Err(BacklogError::Full { .. })) {
        let next = spool.reading().next;
        spool.trim(next).expect("trims");
        outcome = spool.append(&new);
    }
    outcome.expect("an empty spool has room");
    let first_new = spool.reading().next - 2;
    drop(spool);

    let (mut spool, _) = open(directory.path()).expect("it is ours now");
    let mut told = Vec::new();
    spool.read(first_new, 1 << 20, &mut |entry| told.push(entry.bytes.map(<[u8]>::to_vec))).expect("reads");
    assert_eq!(told, new.map(Some));
}

fn open(directory: &Path) -> Option<(Spool, Arc<ManualClock>)> {
    let clock = ManualClock::new();
    let opened = Spool::open(SpoolOptions {
        directory: directory.to_owned(),
        max_bytes: MAX_BYTES,
        durability: Durability::Os,
        clock: clock.clone(),
    });
    match opened {
        Ok(Opened { spool, .. }) => Some((spool, clock)),
        Err(SpoolError::NotOurs { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

fn entry(number: u64) -> Vec<u8> {
    (0..40 + number * 7 % 900).map(|k| (number * 31 + k * k).to_le_bytes()[0]).collect()
}

/// The files of a spool that was killed: some of it in the database, some in the WAL, some let go.
fn sound_spool() -> &'static [Vec<u8>; 2] {
    static FILES: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    FILES.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a directory");
        for part in [0..N_ENTRIES / 2, N_ENTRIES / 2..N_ENTRIES] {
            let (mut spool, clock) = open(directory.path()).expect("a new one");
            let (first, end) = (part.start, part.end);
            for first in part.step_by(10) {
                spool.append(&(first..first + 10).map(entry).collect::<Vec<_>>()).expect("room");
            }
            clock.advance(Duration::from_secs(1));
            spool.trim(first + 25).expect("trims");
            if end == N_ENTRIES {
                return ["spool.db", "spool.db-wal"].map(|name| fs::read(directory.path().join(name)).expect("reads"));
            }
        }
        unreachable!("the last part ends at the last entry")
    })
}

/// Makes changes: which file and what, where (three bytes), and a byte. Gives how many bytes it altered.
fn alter(files: &mut [Vec<u8>; 2], changes: &[u8]) -> usize {
    let mut n_altered = 0;
    for change in changes.chunks_exact(5) {
        let file = &mut files[usize::from(change[0] & 1)];
        if file.is_empty() {
            continue;
        }
        let at = u32::from_be_bytes([0, change[1], change[2], change[3]]) as usize % file.len();
        match change[0] >> 1 & 7 {
            0 => file.truncate(at),
            1 => {
                let end = file.len().min(at + usize::from(change[4]));
                file[at..end].fill(0);
                n_altered += FEW;
            }
            _ => {
                file[at] ^= change[4];
                n_altered += 1;
            }
        }
    }
    n_altered
}
