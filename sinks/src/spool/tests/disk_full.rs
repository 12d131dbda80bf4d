//! A full disk: a tmpfs of a few MiB, in a mount namespace of this test's own.
//!
//! The test runs itself again within it, as the namespace must be that of a whole process.

use std::{env, process::Command};

use super::*;

const DISK: &str = "EYEWITNESS_TEST_SMALL_DISK";

#[test]
fn a_full_disk_harms_nothing() {
    if let Some(disk) = env::var_os(DISK) {
        return on_a_small_disk(Path::new(&disk));
    }
    let disk = tempfile::tempdir().expect("a directory");
    // Whoever is not root is it in a namespace of its own.
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c"])
        .arg(r#"mount -t tmpfs -o size=3m tmpfs "$0" && exec "$@""#)
        .arg(disk.path())
        .arg(env::current_exe().expect("this program"))
        .args(only(concat!(module_path!(), "::a_full_disk_harms_nothing")))
        .env(DISK, disk.path())
        .output()
        .expect("unshare (util-linux) runs");
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn on_a_small_disk(disk: &Path) {
    let clock = ManualClock::new();
    let open = || {
        let directory = disk.join("spool");
        let clock = Arc::clone(&clock) as Arc<dyn Clock>;
        Spool::open(SpoolOptions { directory, max_bytes: 64 << 20, durability: Durability::Os, clock })
    };
    let fill_up = |spool: &mut Spool| {
        let mut n = spool.reading().next;
        loop {
            match spool.append(&entries(n, 10, 1000)) {
                Ok(()) => n += 10,
                Err(BacklogError::Io(error)) => {
                    assert!(error.is_disk_full(), "{error}");
                    assert!(error.to_string().contains("the disk is full; free some space"), "{error}");
                    assert_eq!(spool.reading().next, n, "nothing half done");
                    return n;
                }
                Err(error) => panic!("{error}"),
            }
        }
    };
    let ballast = disk.join("ballast");
    let fill_the_rest = || {
        let mut file = fs::File::create(&ballast).expect("made");
        while std::io::Write::write(&mut file, &[0; 4096]).is_ok_and(|n| n > 0) {}
    };

    let mut spool = open().expect("room").spool;
    let n = fill_up(&mut spool);
    assert!(n > 500, "{n}");
    let all = entries(0, n, 1000);
    fill_the_rest();
    // Delivery goes on.
    assert_eq!(read_all(&mut spool, 0), kept(0, &all));
    clock.advance(DELETE_AFTER);
    spool.trim(n / 2).expect("room for it or not");
    assert_eq!(read_all(&mut spool, 0), kept(n / 2, &all[n as usize / 2..]));
    // Nothing left: it takes back the room it had, though the rest of the disk stays full.
    clock.advance(DELETE_AFTER);
    spool.trim(n).expect("trims");
    assert_eq!(fill_up_to(&mut spool, 100), n + 100);
    assert_eq!(read_all(&mut spool, 0), kept(n, &entries(n, 100, 1000)));

    // Full once more, because of others; then they make room.
    fs::remove_file(&ballast).expect("removed");
    fs::write(&ballast, vec![0; 1 << 20]).expect("room");
    let end = fill_up(&mut spool);
    assert!(matches!(spool.append(&entries(end, 10, 1000)), Err(BacklogError::Io(error)) if error.is_disk_full()));
    fs::remove_file(&ballast).expect("removed");
    let more = fill_up(&mut spool);
    assert!(more > end + 300, "the same spool goes on: {end}, {more}");
    let end = more;

    // The process ends and starts while the disk is full.
    fill_the_rest();
    drop(spool);
    match open() {
        Ok(Opened { mut spool, damage }) => {
            assert_eq!(damage, None);
            assert_eq!(read_all(&mut spool, 0), kept(n, &entries(n, end - n, 1000)));
        }
        Err(error) => assert!(error.is_disk_full(), "{error}"),
    }
    fs::remove_file(&ballast).expect("removed");
    let Opened { mut spool, damage } = open().expect("room");
    assert_eq!(damage, None);
    assert_eq!(read_all(&mut spool, 0), kept(n, &entries(n, end - n, 1000)));
    clock.advance(DELETE_AFTER);
    spool.trim(end).expect("trims");
    assert!(fill_up(&mut spool) > end);
}

fn fill_up_to(spool: &mut Spool, n: u64) -> u64 {
    let first = spool.reading().next;
    for k in (first..first + n).step_by(10) {
        spool.append(&entries(k, 10, 1000)).expect("there is room again");
    }
    spool.reading().next
}
