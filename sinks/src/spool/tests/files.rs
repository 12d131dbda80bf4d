//! The files: locked, somebody else's, damaged, set aside, looked at from outside.

use std::io::{Seek, SeekFrom, Write};

use super::*;

const PAGE: usize = 8192;

fn database_of(bench: &Bench) -> PathBuf {
    bench.path().join("spool.db")
}

fn names(bench: &Bench) -> Vec<String> {
    let files = fs::read_dir(bench.path()).expect("a directory");
    let mut names: Vec<_> = files.map(|f| f.expect("a file").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A closed spool of so many entries, in blocks of ten.
fn filled(n: u64, len: usize) -> Bench {
    let bench = Bench::new(64 << 20, Durability::Os);
    let mut spool = bench.open();
    for first in (0..n).step_by(10) {
        spool.append(&entries(first, 10, len)).expect("room");
    }
    spool.close().expect("closes");
    bench
}

/// Writes over a part of the database.
fn overwrite(bench: &Bench, at: usize, bytes: &[u8]) {
    let mut file = fs::File::options().write(true).open(database_of(bench)).expect("opens");
    file.seek(SeekFrom::Start(at as u64)).expect("seeks");
    file.write_all(bytes).expect("writes");
}

#[test]
fn one_at_a_time() {
    let bench = Bench::new(1 << 20, Durability::Os);
    let spool = bench.open();
    let error = bench.try_open().map(|_| ()).expect_err("it is in use");
    assert!(matches!(error, SpoolError::InUse { .. }));
    assert!(error.to_string().contains("is in use by another process or another sink"), "{error}");
    drop(spool);
    bench.open();
}

#[test]
fn files_of_others_are_left_alone() {
    let check = |make: &dyn Fn(&Path), expected: &str| {
        let bench = Bench::new(1 << 20, Durability::Os);
        let path = database_of(&bench);
        make(&path);
        let before = fs::read(&path).expect("it is there");
        for error in [bench.try_open().map(|_| ()), Spool::open_read_only(bench.path()).map(|_| ())]
            .map(|r| r.expect_err(expected))
        {
            assert!(matches!(error, SpoolError::NotOurs { .. }) && error.to_string().contains(expected), "{error}");
        }
        assert_eq!(fs::read(&path).expect("still there"), before);
        assert!(names(&bench).iter().all(|name| name == "spool.db" || name == "lock"), "{:?}", names(&bench));
    };
    check(&|path| fs::write(path, "a shopping list").expect("written"), "is no spool");
    check(&|path| fs::write(path, [7; 20_000]).expect("written"), "is no spool");
    check(
        &|path| Connection::open(path).and_then(|db| db.execute_batch("CREATE TABLE t (x)")).expect("made"),
        "is a database of another program",
    );
    check(
        &|path| {
            database::create(path, |db| {
                db.execute_batch("PRAGMA user_version = 0x02020202").expect("set");
                Ok(())
            })
            .expect("made");
        },
        "was written by a newer version of eyewitness (format 2)",
    );

    let file = Bench::new(1 << 20, Durability::Os);
    fs::write(file.path().join("x"), "").expect("written");
    let options = SpoolOptions {
        directory: file.path().join("x"),
        max_bytes: 1 << 20,
        durability: Durability::Os,
        clock: ManualClock::new(),
    };
    let error = Spool::open(options).map(|_| ()).expect_err("a file is no directory");
    assert!(error.to_string().starts_with("cannot create directory"), "{error}");
}

#[test]
fn a_flipped_bit_in_an_entry_costs_that_entry() {
    let bench = filled(100, 3000);
    let sound = fs::read(database_of(&bench)).expect("reads");
    for number in [0, 9, 10, 55, 99] {
        let needle = &entry(number, 3000)[2000..2040];
        let mut bytes = sound.clone();
        // SQLite leaves copies behind when it moves a row.
        let places = sound.windows(needle.len()).enumerate().filter(|(_, window)| window == &needle);
        places.for_each(|(at, _)| bytes[at + 7] ^= 0x10);
        assert_ne!(bytes, sound, "entries lie there as they were given");
        fs::write(database_of(&bench), bytes).expect("written");
        let mut expected = kept(0, &entries(0, 100, 3000));
        expected[usize::try_from(number).expect("small")].1 = None;
        assert_eq!(read_all(&mut bench.open(), 0), expected, "no damage of the file, and one entry");
    }
}

#[test]
fn a_damaged_first_page_costs_nothing() {
    let bench = filled(200, 3000);
    let sound = fs::read(database_of(&bench)).expect("reads");
    let mut with_wrong_count = sound[..PAGE].to_vec();
    with_wrong_count[31] ^= 8;
    let mut with_wrong_schema = sound[..PAGE].to_vec();
    with_wrong_schema[PAGE - 20..].fill(b'x');
    let mut with_flips = sound[..PAGE].to_vec();
    with_flips[3] ^= 1;
    with_flips[61] ^= 4;
    with_flips[70] ^= 64;
    let mut read_only = sound[..PAGE].to_vec();
    read_only[18] ^= 4;
    for page in [
        vec![0; PAGE],
        with_wrong_count,
        with_wrong_schema,
        with_flips,
        read_only,
        [&sound[..100], &[9; PAGE - 100]].concat(),
    ] {
        fs::write(database_of(&bench), [&page, &sound[PAGE..]].concat()).expect("written");
        let Opened { mut spool, damage } = bench.try_open().expect("opens");
        assert_eq!(read_all(&mut spool, 0), kept(0, &entries(0, 200, 3000)));
        // A wrong count alone is found only when it matters.
        if let Some(damage) = damage {
            assert_eq!((damage.n_kept, damage.n_lost), (200, 0));
            assert_eq!(damage.set_aside, bench.path().join("spool.db.damaged-1970-01-01T00-00-00Z"));
            assert!(damage.to_string().contains("200 entries were saved"), "{damage}");
        }
    }
}

#[test]
fn damage_in_the_middle_is_told_by_number() {
    let bench = filled(2000, 3000);
    let sound = fs::read(database_of(&bench)).expect("reads");
    let n_pages = sound.len() / PAGE;
    let mut n_rescued = 0;
    for page in (1..n_pages).step_by(37).chain([1, 2, 3]) {
        fs::write(database_of(&bench), &sound).expect("written");
        bench.clock.advance(Duration::from_secs(1));
        overwrite(&bench, page * PAGE, &[0xa5; PAGE]);
        let Opened { mut spool, damage } = bench.try_open().expect("opens");
        n_rescued += u32::from(damage.is_some());
        let told = read_all(&mut spool, 0);
        let root_is_lost = page == 1;
        let n_damaged = told.iter().filter(|(_, bytes)| bytes.is_none()).count();
        assert!(told.iter().zip(0..).all(|((n, b), k)| *n == k && b.as_ref().is_none_or(|b| *b == entry(k, 3000))));
        if !root_is_lost {
            assert!(
                told.len() >= 1500 && (page == 2 || n_damaged > 0 || told.len() < 2000),
                "page {page}: {n_damaged}"
            );
            assert!(n_damaged < 500, "page {page}: {n_damaged}");
        }
        // It goes on, and what is delivered can be deleted.
        let next = spool.reading().next;
        spool.append(&entries(1, 3, 100)).expect("room");
        bench.clock.advance(DELETE_AFTER);
        spool.trim(next + 1).expect("trims");
        assert_eq!(read_all(&mut spool, 0), kept(next + 1, &entries(2, 2, 100)));
    }
    assert!(n_rescued > 1, "some damage is of the tree");
    let is_set_aside = |name: &&String| name.contains("damaged") && !name.ends_with("-wal");
    assert_eq!(names(&bench).iter().filter(is_set_aside).count(), 1, "the last one only");
}

#[test]
fn damage_that_comes_while_it_is_in_use() {
    let bench = Bench::new(64 << 20, Durability::Os);
    let mut spool = bench.open();
    for first in (0..8000).step_by(10) {
        spool.append(&entries(first, 10, 3000)).expect("room");
    }
    let n_pages = usize::try_from(database::n_bytes_of(&database_of(&bench))).expect("small") / PAGE;
    for page in 100..n_pages - 500 {
        overwrite(&bench, page * PAGE, &[0xa5; PAGE]);
    }
    let told = read_all(&mut spool, 0);
    assert!(told.iter().zip(0..).all(|((n, b), k)| *n == k && b.as_ref().is_none_or(|b| *b == entry(k, 3000))));
    assert!(told.len() == 8000 && told[10].1.is_some() && told[4000].1.is_none() && told[7990].1.is_some());
    bench.clock.advance(DELETE_AFTER);
    spool.trim(7980).expect("trims, from a new file if need be");
    spool.append(&entries(8000, 10, 3000)).expect("room");
    assert_eq!(read_all(&mut spool, 0), kept(7980, &entries(7980, 30, 3000)));
    assert_eq!(read_all(&mut bench.crashed().open(), 0), kept(7980, &entries(7980, 30, 3000)));
}

#[test]
fn a_hopeless_file_is_set_aside() {
    let bench = filled(100, 3000);
    let mut bytes = fs::read(database_of(&bench)).expect("reads");
    bytes[100..].fill(0x5a);
    fs::write(database_of(&bench), &bytes).expect("written");
    let Opened { mut spool, damage } = bench.try_open().expect("opens");
    let damage = damage.expect("told");
    assert_eq!((damage.n_kept, damage.n_lost), (0, 0));
    assert_eq!(fs::read(damage.set_aside).expect("still there")[PAGE..], bytes[PAGE..]);
    spool.append(&entries(0, 1, 10)).expect("room");
    assert_eq!(read_all(&mut spool, 0), kept(0, &entries(0, 1, 10)));
}

#[test]
fn a_repair_that_was_interrupted_is_finished() {
    let (old, new) = (filled(20, 100), filled(50, 100));
    let repaired = fs::read(database_of(&new)).expect("reads");
    for is_renamed in [false, true] {
        fs::write(old.path().join("spool.db.repaired"), &repaired).expect("written");
        fs::write(old.path().join("spool.db-wal"), "of the old one").expect("written");
        fs::write(old.path().join("spool.db.new"), "of a try before").expect("written");
        if is_renamed {
            fs::rename(database_of(&old), old.path().join("spool.db.damaged-x")).expect("renamed");
        }
        let Opened { mut spool, damage } = old.try_open().expect("opens");
        assert!(damage.is_some());
        assert_eq!(read_all(&mut spool, 0), kept(0, &entries(0, 50, 100)));
        assert!(
            !names(&old).iter().any(|name| name.ends_with(".repaired") || name.ends_with(".new")),
            "{:?}",
            names(&old)
        );
    }
    // A new one that was not finished counts for nothing.
    let bench = Bench::new(1 << 20, Durability::Os);
    fs::write(bench.path().join("spool.db.new"), "half of it").expect("written");
    fs::write(bench.path().join("spool.db-wal"), "of one that is gone").expect("written");
    assert_eq!(first_and_next(&bench.open()), (0, 0));
}

#[test]
fn a_look_from_outside_changes_nothing() {
    let bench = Bench::new(4 << 20, Durability::Os);
    assert!(matches!(Spool::open_read_only(bench.path()), Err(SpoolError::Missing { .. })));
    let mut spool = bench.open();
    for first in (0..300).step_by(10) {
        spool.append(&entries(first, 10, 1000)).expect("room");
    }
    bench.clock.advance(DELETE_AFTER);
    spool.trim(25).expect("trims");
    let check = |look: &mut ReadOnlySpool, n: u64| {
        let contents = look.contents().expect("reads");
        assert_eq!((contents.first, contents.next, contents.n_blocks), (25, n, n / 10 - 2));
        assert!(contents.n_bytes > (n - 25) * 1000 && contents.database_bytes > 8192);
        let (mut told, mut at) = (Told::new(), Some(0));
        while let Some(from) = at {
            at = look
                .read(from, 50_000, &mut |entry| told.push((entry.number, entry.bytes.map(<[u8]>::to_vec))))
                .expect("reads");
        }
        assert_eq!(told, kept(25, &entries(25, n - 25, 1000)));
        assert_eq!(look.count_damaged().expect("reads"), 0);
    };
    let mut look = Spool::open_read_only(bench.path()).expect("opens");
    check(&mut look, 300);
    spool.append(&entries(300, 10, 1000)).expect("room");
    check(&mut look, 310);
    drop(look);

    let killed = bench.crashed();
    let files = |bench: &Bench| ["spool.db", "spool.db-wal"].map(|name| fs::read(bench.path().join(name)).ok());
    let before = files(&killed);
    check(&mut Spool::open_read_only(killed.path()).expect("opens"), 310);
    assert_eq!(files(&killed), before);

    spool.close().expect("closes");
    let before = (names(&bench), files(&bench));
    let mut look = Spool::open_read_only(bench.path()).expect("opens");
    check(&mut look, 310);
    assert_eq!((names(&bench), files(&bench)), before, "nothing is made beside it either");
    // A service begins to use it meanwhile.
    let mut spool = bench.open();
    spool.append(&entries(310, 10, 1000)).expect("room");
    check(&mut look, 320);

    overwrite(&killed, 0, &[0; 100]);
    let error = Spool::open_read_only(killed.path()).map(|_| ()).expect_err("damaged");
    assert!(error.to_string().contains("is damaged"), "{error}");
}
