//! A spool against a simple model: driven by any sequence of calls, ended at any moment, and with its files damaged.
//!
//! A crash is a copy of the files as they are between two calls, which is what `kill -9` leaves of what was acknowledged.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<usize>),
    Read { from: u8, max_bytes: usize },
    Trim(u8),
    MakeRoom { n_bytes: u64, notes: Vec<usize> },
    Wait(u64),
    Reopen,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let len = || prop_oneof![Just(0usize), 1usize..600, 600usize..9000, Just(40_000)];
    prop_oneof![
        6 => vec(len(), 0..40).prop_map(Step::Append),
        3 => (any::<u8>(), prop_oneof![Just(1usize), Just(0), 1usize..100_000])
            .prop_map(|(from, max_bytes)| Step::Read { from, max_bytes }),
        4 => any::<u8>().prop_map(Step::Trim),
        1 => (0u64..300_000, vec(1usize..300, 0..3)).prop_map(|(n_bytes, notes)| Step::MakeRoom { n_bytes, notes }),
        2 => prop_oneof![Just(50u64), Just(250), Just(1100)].prop_map(Step::Wait),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

fn durability() -> impl Strategy<Value = Durability> {
    prop_oneof![Just(Durability::Os), Just(Durability::Interval), Just(Durability::Disk)]
}

/// All that was ever appended, and what of it is still there.
#[derive(Default)]
struct Model {
    all: BTreeMap<u64, Vec<u8>>,
    first: u64,
    next: u64,
    /// A crash brings back nothing below this.
    floor: u64,
    n_made: u64,
    /// `(first, next)` after every step.
    history: Vec<(u64, u64)>,
}

impl Model {
    fn make(&mut self, lens: &[usize]) -> Vec<Vec<u8>> {
        lens.iter()
            .map(|&len| {
                self.n_made += 1;
                entry(self.n_made, len)
            })
            .collect()
    }

    fn push(&mut self, entries: Vec<Vec<u8>>) {
        for entry in entries {
            self.all.insert(self.next, entry);
            self.next += 1;
        }
    }

    /// A number in, before or behind what is there.
    fn pick(&self, at: u8) -> u64 {
        (self.first + (self.next - self.first + 2) * u64::from(at) / 240).saturating_sub(1)
    }

    fn told(&self, from: u64) -> Told {
        self.all.range(from.max(self.first)..).map(|(number, bytes)| (*number, Some(bytes.clone()))).collect()
    }
}

/// Does what it says to both, and compares.
fn drive(mut bench: Bench, steps: &[Step]) -> (Bench, Spool, Model) {
    let mut spool = bench.open();
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Append(lens) => {
                let entries = model.make(lens);
                match spool.append(&entries) {
                    Ok(()) => model.push(entries),
                    Err(BacklogError::Full { n_bytes, max_bytes }) => {
                        let n_new: usize = lens.iter().map(|len| len + 8 + 64).sum();
                        assert!(n_bytes + n_new as u64 > max_bytes, "{n_new} bytes would have fit");
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Read { from, max_bytes } => {
                let from = model.pick(*from);
                let mut told = Told::new();
                spool
                    .read(from, *max_bytes, &mut |entry| told.push((entry.number, entry.bytes.map(<[u8]>::to_vec))))
                    .expect("reads");
                let expected = model.told(from);
                assert!(!told.is_empty() || expected.is_empty());
                assert_eq!(told[..], expected[..told.len()]);
                let n_bytes = |told: &[(u64, Option<Vec<u8>>)]| -> usize {
                    told.iter().filter_map(|(_, bytes)| bytes.as_ref()).map(Vec::len).sum()
                };
                assert!(told.len() < 2 || n_bytes(&told[..told.len() - 1]) < *max_bytes);
            }
            Step::Trim(at) => {
                let below = model.pick(*at);
                spool.trim(below).expect("trims");
                model.first = model.first.max(below.min(model.next));
            }
            Step::MakeRoom { n_bytes, notes } => {
                let notes = model.make(notes);
                let mut gone = Told::new();
                let outcome = spool.make_room(*n_bytes, &mut |entries| {
                    gone = entries.map(|entry| (entry.number, entry.bytes.map(<[u8]>::to_vec))).collect();
                    notes.clone()
                });
                if outcome.is_ok() {
                    assert_eq!(gone[..], model.told(0)[..gone.len()]);
                    model.first += gone.len() as u64;
                    model.floor = model.first;
                    model.push(notes);
                } else {
                    assert!(*n_bytes > bench.max_bytes);
                }
            }
            Step::Wait(ms) => bench.clock.advance(Duration::from_millis(*ms)),
            Step::Reopen => {
                spool.close().expect("closes");
                spool = bench.open();
                model.floor = model.first;
            }
            Step::Crash => {
                let crashed = bench.crashed();
                spool = crashed.open();
                bench = crashed;
                let first = spool.reading().first;
                assert!((model.floor..=model.first).contains(&first), "{first} came back");
                model.first = first;
            }
        }
        let reading = spool.reading();
        assert_eq!((reading.first, reading.next), (model.first, model.next), "{step:?}");
        assert_eq!(reading.max_bytes, bench.max_bytes);
        assert!(reading.n_bytes <= reading.max_bytes);
        let n_waiting: usize = model.all.range(model.first..).map(|(_, bytes)| bytes.len() + 8).sum();
        assert!(n_waiting as u64 <= reading.n_bytes);
        assert_eq!(model.first == model.next, reading.n_bytes == 0);
        model.history.push((model.first, model.next));
    }
    assert_eq!(read_all(&mut spool, 0), model.told(0));
    (bench, spool, model)
}

#[derive(Debug, Clone)]
enum Harm {
    /// The WAL ends at this part of it.
    CutWal(f64),
    /// One bit of the WAL.
    FlipInWal(f64, u8),
    /// Bits of the database.
    Flip(Vec<(f64, u8)>),
    /// A page's worth of zeros in the database.
    Zeros(f64),
    /// The database ends at this part of it.
    Cut(f64),
}

fn harm() -> impl Strategy<Value = Harm> {
    let place = || prop_oneof![0.0..1.0f64, 0.0..0.02f64];
    prop_oneof![
        2 => place().prop_map(Harm::CutWal),
        2 => (place(), 0u8..8).prop_map(|(at, bit)| Harm::FlipInWal(at, bit)),
        4 => vec((place(), 0u8..8), 1..4).prop_map(Harm::Flip),
        1 => place().prop_map(Harm::Zeros),
        1 => place().prop_map(Harm::Cut),
    ]
}

impl Harm {
    /// Does it; gives whether anything changed.
    fn apply(&self, bench: &Bench) -> bool {
        let name = if matches!(self, Self::CutWal(_) | Self::FlipInWal(..)) { "spool.db-wal" } else { "spool.db" };
        let path = bench.path().join(name);
        let Ok(mut bytes) = fs::read(&path) else { return false };
        let before = bytes.clone();
        let len = bytes.len();
        let place = |at: f64| (at * len as f64) as usize;
        match self {
            _ if len == 0 => {}
            Self::CutWal(at) | Self::Cut(at) => bytes.truncate(place(*at)),
            Self::FlipInWal(at, bit) => bytes[place(*at)] ^= 1 << bit,
            Self::Flip(flips) => flips.iter().for_each(|(at, bit)| bytes[place(*at)] ^= 1 << bit),
            Self::Zeros(at) => {
                let start = place(*at) / 8192 * 8192;
                bytes[start..(start + 8192).min(len)].fill(0);
            }
        }
        fs::write(&path, &bytes).expect("written");
        bytes != before
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_spool_is_a_queue(durability in durability(), max_bytes in 50_000u64..600_000, steps in vec(step(), 1..60)) {
        let (bench, spool, model) = drive(Bench::new(max_bytes, durability), &steps);
        drop(spool);
        let mut spool = bench.open();
        prop_assert_eq!(read_all(&mut spool, 0), model.told(0));
    }

    #[test]
    fn damage_alters_nothing_and_invents_nothing(
        durability in durability(),
        max_bytes in 100_000u64..3_000_000,
        steps in vec(step(), 1..30),
        closed in proptest::bool::weighted(0.3),
        harm in harm(),
    ) {
        let (bench, spool, mut model) = drive(Bench::new(max_bytes, durability), &steps);
        let bench = if closed {
            spool.close().expect("closes");
            bench
        } else {
            bench.crashed()
        };
        let is_harmed = harm.apply(&bench);
        let opened = match bench.try_open() {
            Ok(opened) => opened,
            // Somebody else's file it may look like, but then it must be left alone.
            Err(error @ SpoolError::NotOurs { .. }) => {
                prop_assert!(matches!(harm, Harm::Flip(_) | Harm::Cut(_)), "{}", error);
                return Ok(());
            }
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        let Opened { mut spool, damage } = opened;
        let told = read_all(&mut spool, 0);
        for (number, bytes) in &told {
            prop_assert!(bytes.is_none() || bytes.as_ref() == model.all.get(number), "{} is altered", number);
        }
        let (first, next) = first_and_next(&spool);
        let n_damaged = told.iter().filter(|(_, bytes)| bytes.is_none()).count();
        let is_of_wal = matches!(harm, Harm::CutWal(_) | Harm::FlipInWal(..));
        if is_of_wal || !is_harmed {
            prop_assert_eq!((&damage, n_damaged), (&None, 0));
            let is_a_state = model.history.iter().any(|&(f, n)| n == next && first <= f) || (first, next) == (0, 0);
            prop_assert!(is_a_state, "{:?} is not in {:?}", (first, next), model.history);
        }
        if !is_harmed {
            prop_assert_eq!(next, model.next);
        }
        // It goes on, whatever happened.
        let more = model.make(&[10, 500, 2000]);
        let first_new = spool.reading().next;
        let mut appended = spool.append(&more);
        if matches!(appended, Err(BacklogError::Full { .. })) {
            spool.trim(first_new).expect("trims");
            appended = spool.append(&more);
        }
        appended.expect("room");
        let first_new = spool.reading().next - 3;
        prop_assert_eq!(read_all(&mut spool, first_new), kept(first_new, &more));
        spool.close().expect("closes");
        let mut spool = bench.try_open().expect("opens").spool;
        prop_assert_eq!(read_all(&mut spool, first_new), kept(first_new, &more));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_no_reason_to_panic(kind in any::<u8>(), bytes in prop_oneof![vec(any::<u8>(), 0..60), vec(any::<u8>(), 0..20_000)]) {
        cases::record(&bytes);
        cases::spool(&[&[kind], &bytes[..]].concat());
    }
}

#[test]
fn bytes_that_once_were_a_reason_to_fail() {
    // A length of a row so wrong that SQLite calls it too big, not corrupt.
    const TOO_BIG: [u8; 51] = [
        2, 4, 0, 67, 59, 124, 4, 72, 32, 21, 169, 4, 180, 109, 228, 59, 4, 0, 66, 43, 8, 5, 156, 238, 117, 64, 4, 19,
        238, 116, 127, 4, 107, 107, 166, 128, 4, 222, 224, 14, 4, 2, 18, 128, 56, 32, 5, 194, 249, 240, 94,
    ];
    cases::spool(&TOO_BIG);
}
