//! Files that are broken, or not ours; and a disk that is full.

use std::{env, fs, process::Command};

use rusqlite::Connection;

use super::{file::PAGE, *};
use crate::spool::database::beside;

fn found(dir: &Path, typed: &str) -> Result<usize, HistoryError> {
    let search = Search { words: Phrase::parse(typed), limit: 1000, ..Search::default() };
    Reader::open(dir)?.transcripts(&search).map(|page| page.found.len())
}

/// A history that is closed, all of it in the file.
fn closed() -> TempDir {
    let rows: Vec<Row> =
        (0..300).map(|n| row(&said("cam", n, &format!("number{n} {}", "word ".repeat(50))), n as i64)).collect();
    let (dir, store) = with(&rows);
    drop(store);
    dir
}

#[test]
fn a_damaged_file_is_put_aside_and_a_new_one_begun() {
    let check = |break_it: &dyn Fn(&Path)| {
        let dir = closed();
        let path = dir.path().join("history.db");
        break_it(&path);
        let broken = fs::read(&path).expect("read");
        let Opened { mut store, put_aside } = Store::open(dir.path(), LIMITS).expect("opened");
        let (aside, cause) = put_aside.expect("it was damaged");
        assert_eq!(aside, dir.path().join("history.db.damaged"));
        assert!(!cause.is_empty());
        assert_eq!(fs::read(&aside).expect("read"), broken, "kept as it was");
        store.write(&[row(&said("cam", 1, "again"), 0)]).expect("written");
        assert_eq!(found(dir.path(), "again").expect("found"), 1);
        assert_eq!(store.n_rows(Table::Transcripts), 1);
    };
    check(&|path| fs::write(path, "no database at all").expect("written"));
    check(&|path| {
        let mut bytes = fs::read(path).expect("read");
        bytes[..100].fill(0);
        fs::write(path, bytes).expect("written");
    });
    check(&|path| {
        // The tables themselves.
        let mut bytes = fs::read(path).expect("read");
        bytes[100..PAGE].fill(0xa5);
        fs::write(path, bytes).expect("written");
    });
    check(&|path| {
        let bytes = fs::read(path).expect("read");
        fs::write(path, &bytes[..PAGE]).expect("written");
    });
}

#[test]
fn damage_that_is_met_later_is_told_and_the_file_put_aside() {
    let dir = closed();
    let path = dir.path().join("history.db");
    let mut bytes = fs::read(&path).expect("read");
    let n_pages = bytes.len() / PAGE;
    // Everything that holds text, but not what is looked at when it is opened.
    let store = open(dir.path());
    for page in 1..n_pages {
        let page = &mut bytes[page * PAGE..(page + 1) * PAGE];
        if page.windows(6).any(|window| window == b"number") {
            page[..8].fill(0xff);
        }
    }
    drop(store);
    fs::write(&path, &bytes).expect("written");
    let store = open(dir.path());
    let error = found(dir.path(), "").expect_err("damaged");
    assert!(error.is_damage(), "{error}");
    assert!(error.to_string().contains("the file is damaged"), "{error}");
    let Opened { mut store, put_aside } = store.begin_anew(error.to_string()).expect("begun anew");
    assert!(put_aside.is_some());
    store.write(&[row(&said("cam", 1, "again"), 0)]).expect("written");
    assert_eq!(found(dir.path(), "").expect("found"), 1);
    // A second one takes the place of the first: there is one at most.
    let Opened { put_aside, .. } = store.begin_anew("once more".into()).expect("begun anew");
    let (aside, _) = put_aside.expect("put aside");
    let names: Vec<_> = fs::read_dir(dir.path()).expect("folder").map(|f| f.expect("file").file_name()).collect();
    assert_eq!(names.iter().filter(|name| name.to_string_lossy().contains("damaged")).count(), 1, "{names:?}");
    assert_eq!(
        Connection::open(aside).expect("open").query_row("SELECT text FROM transcripts", [], |r| r.get::<_, String>(0)),
        Ok("again".into())
    );
}

#[cfg(unix)]
#[test]
fn the_folder_is_nobody_elses_to_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("folder");
    let kept = dir.path().join("out/history");
    let _store = open(&kept);
    let mode = |path: &Path| fs::metadata(path).expect("folder").permissions().mode() & 0o777;
    assert_eq!(mode(&kept), 0o700);
}

#[test]
fn what_is_not_ours_is_not_touched() {
    let check = |make: &dyn Fn(&Connection), part: &str| {
        let dir = tempfile::tempdir().expect("folder");
        let path = dir.path().join("history.db");
        let db = Connection::open(&path).expect("made");
        make(&db);
        drop(db);
        let before = fs::read(&path).expect("read");
        let error = Store::open(dir.path(), LIMITS).err().expect("not ours").to_string();
        assert!(error.contains(part) && error.contains("`dir`"), "{error}");
        assert_eq!(fs::read(&path).expect("read"), before);
        assert!(!beside(&path, ".damaged").exists());
    };
    check(&|db| db.execute_batch("CREATE TABLE mine (x)").expect("table"), "another program");
    let newer = "PRAGMA application_id = 0x45795768; PRAGMA user_version = 7; CREATE TABLE mine (x)";
    check(&|db| db.execute_batch(newer).expect("table"), "another version of eyewitness (format 7)");
}

const DISK: &str = "EYEWITNESS_TEST_HISTORY_DISK";

/// On a tmpfs of a few MiB, in a mount namespace of a process of its own.
#[test]
fn a_full_disk_is_told_and_harms_nothing() {
    if let Some(disk) = env::var_os(DISK) {
        return on_a_small_disk(Path::new(&disk));
    }
    let disk = tempfile::tempdir().expect("a directory");
    let name = concat!(module_path!(), "::a_full_disk_is_told_and_harms_nothing");
    let name = name.split_once("::").map_or(name, |(_, name)| name);
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c"])
        .arg(r#"mount -t tmpfs -o size=3m tmpfs "$0" && exec "$@""#)
        .arg(disk.path())
        .arg(env::current_exe().expect("this program"))
        .args(["--exact", name, "--nocapture"])
        .env(DISK, disk.path())
        .output()
        .expect("unshare (util-linux) runs");
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn on_a_small_disk(disk: &Path) {
    let directory = disk.join("history");
    let mut store = open(&directory);
    let rows = |n: u64| -> Vec<Row> {
        (n..n + 20).map(|n| row(&said("cam", n, &"many words ".repeat(100)), n as i64 * 1000)).collect()
    };
    let (mut n, mut error) = (0, None);
    while error.is_none() {
        match store.write(&rows(n)) {
            Ok(()) => n += 20,
            Err(full) => error = Some(full),
        }
        assert!(n < 100_000, "it never gets full");
    }
    let error = error.expect("full");
    assert!(error.is_disk_full() && !error.is_damage(), "{error}");
    assert!(error.to_string().contains("the disk is full: free some space"), "{error}");
    assert_eq!(store.n_rows(Table::Transcripts), n, "nothing half done");
    assert_eq!(found(&directory, "many").expect("readable").min(1000), 1000.min(n as usize));
    // Once there is room it goes on.
    drop(store);
    let Opened { store, .. } = Store::open(&directory, LIMITS).expect("opened");
    assert_eq!(store.n_rows(Table::Transcripts), n);
}
