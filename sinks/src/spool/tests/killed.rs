//! A process that is killed in the middle of its work (`kill -9`), again and again in the same directory.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use super::*;

const DIRECTORY: &str = "EYEWITNESS_TEST_KILLED_IN";
const ROUNDS: u64 = 6;

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    if let Some(directory) = env::var_os(DIRECTORY) {
        work_until_killed(Path::new(&directory));
    }
    let bench = Bench::new(8 << 20, Durability::Os);
    let (mut n_acknowledged, mut n_trimmed) = (0, 0);
    for round in 0..ROUNDS {
        let mut child = Command::new(env::current_exe().expect("this program"))
            .args(only(concat!(module_path!(), "::what_was_acknowledged_is_there_after_a_kill")))
            .env(DIRECTORY, bench.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let said = BufReader::new(child.stdout.take().expect("piped")).lines();
        // Killed while it works on, whatever it does just then.
        let wanted = 40 + 70 * round;
        for line in said.map(|line| line.expect("text")).filter(|line| line.starts_with("at ")).take(wanted as usize) {
            let mut numbers = line.split(' ').skip(1).map(|n| n.parse::<u64>().expect("a number"));
            (n_trimmed, n_acknowledged) = (numbers.next().expect("first"), numbers.next().expect("next"));
        }
        child.kill().expect("killed");
        child.wait().expect("gone");
        let mut spool = bench.open();
        let (first, next) = first_and_next(&spool);
        assert!(
            next >= n_acknowledged && first <= n_trimmed + 2000,
            "{first} to {next}, not {n_trimmed} to {n_acknowledged}"
        );
        assert!(read_all(&mut spool, 0).iter().all(|(n, bytes)| bytes.as_ref() == Some(&entry(*n, length(*n)))));
        assert_eq!(read_all(&mut spool, 0).len() as u64, next - first);
    }
    assert!(n_acknowledged > 1000 && n_trimmed > 0, "{n_acknowledged}, {n_trimmed}");
}

fn length(number: u64) -> usize {
    usize::try_from(number * 37 % 2000).expect("small")
}

/// Appends and lets go, and says so each time.
fn work_until_killed(directory: &Path) -> ! {
    let mut spool = Spool::open(SpoolOptions {
        directory: directory.to_owned(),
        max_bytes: 8 << 20,
        durability: Durability::Os,
        clock: base::time::SystemClock::new(),
    })
    .expect("opens")
    .spool;
    loop {
        let BacklogReading { first, next, .. } = spool.reading();
        let batch: Vec<_> = (next..next + 1 + next % 30).map(|n| entry(n, length(n))).collect();
        spool.append(&batch).expect("room");
        if next > first + 1500 {
            spool.trim(first + 700).expect("trims");
        }
        let BacklogReading { first, next, .. } = spool.reading();
        writeln!(std::io::stdout().lock(), "at {first} {next}").expect("the parent reads");
    }
}
