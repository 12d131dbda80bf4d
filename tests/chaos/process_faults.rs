//! The program itself is killed, or told to end; its clock is wrong.

use std::{fs, path::PathBuf, thread, time::Duration};

use super::{
    account::{Account, Restamped},
    run_case,
    stage::{ArenaGuard, Offer, Stage, wait_for_arrivals},
};

pub(super) const KILLED: &str = "process killed -9 at random points";
pub(super) const TERMINATED: &str = "SIGTERM while the broker is away";
pub(super) const CLOCK_JUMPS: &str = "wall clock jumps back and forth";

/// Of everything random here; `EYEWITNESS_CHAOS_SEED` is another one.
pub(super) fn seed() -> u64 {
    std::env::var("EYEWITNESS_CHAOS_SEED").map_or(4, |text| text.parse().expect("EYEWITNESS_CHAOS_SEED is a number"))
}

/// xorshift64 (Marsaglia, "Xorshift RNGs", 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

#[test]
fn process_killed() {
    run_case(KILLED, |scale| {
        let arena = ArenaGuard::enter();
        let mut stage = Stage::new("reborn", &[arena.relay.address()], "");
        arena.create_topic(&stage);
        let (n_times, rate) = scale.of((5, 2000), (50, 4000));
        let mut random = Random(seed() * 2 + 1);
        let mut n_fruitful = 0;
        for _ in 0..n_times {
            let before = stage.n_accepted();
            let mut run = stage.start(Offer::at(rate));
            // Sometimes before it has accepted anything.
            if random.below(8) > 0 {
                run.wait_for_more(1 + random.below(rate));
            }
            thread::sleep(Duration::from_millis(random.below(100)));
            n_fruitful += u32::from(run.kill() > before);
        }
        let ended = stage.start(Offer { n_events: Some(rate), ..Offer::at(rate) }).end();
        stage.deliver_rest(&ended);
        assert!(n_fruitful * 2 >= n_times, "most were killed while they accepted events");
        let account = Account::read(&arena.broker.address(), &stage.topic());
        let mut row = account.whole(stage.n_accepted(), Restamped::WhereOfferedTwice);
        row.note = format!("{n_times} x, {n_fruitful} of them with events accepted");
        row
    });
}

#[test]
fn terminated_while_the_broker_is_away() {
    run_case(TERMINATED, |scale| {
        let arena = ArenaGuard::enter();
        let mut stage = Stage::new("terminated", &[arena.relay.address()], "");
        let topic = stage.topic();
        arena.create_topic(&stage);
        let (rate, n_rounds) = scale.of((500, 1), (2000, 5));
        let offer = Offer { grace_secs: 1, ..Offer::at(rate) };
        for _ in 0..n_rounds {
            let mut run = stage.start(offer);
            wait_for_arrivals(&arena.broker.address(), &topic);
            run.wait_for_more(rate);
            arena.disconnect();
            run.wait_for_more(rate);
            let ended = run.terminate();
            let n_waiting = ended.n("n_waiting");
            assert!(n_waiting >= rate / 2, "{n_waiting} wait");
            ended.expect_waiting(n_waiting);
            // The next one finds it still away, and adds to what waits.
            let mut run = stage.start(offer);
            run.wait_for_more(rate);
            let ended = run.terminate();
            assert_eq!(ended.n("n_delivered"), 0);
            ended.expect_waiting(n_waiting + ended.n("n_accepted"));
            arena.connect();
        }
        let ended = stage.start(Offer { n_events: Some(1), ..Offer::at(0) }).end();
        stage.deliver_rest(&ended);
        let account = Account::read(&arena.broker.address(), &topic);
        account.whole(stage.n_accepted(), Restamped::Never)
    });
}

/// The clock of the program only: libfaketime reads what time it is from a file. The topic keeps the time that the
/// producer says, as most do, and the broker refuses what is more than an hour ahead of its own clock.
#[test]
fn clock_jumps() {
    run_case(CLOCK_JUMPS, |scale| {
        let arena = ArenaGuard::enter();
        let mut stage = Stage::new("clock", &[arena.relay.address()], "");
        arena.broker.create_topic(&stage.topic(), 3, &[]);
        let time = stage.file("time", "+0\n");
        stage = stage
            .with_env("LD_PRELOAD", faketime().display().to_string())
            .with_env("FAKETIME_TIMESTAMP_FILE", time.display().to_string())
            .with_env("FAKETIME_NO_CACHE", "1")
            .with_env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            // Its own workaround for old C libraries makes whoever waits on a condition wait until the false time has come.
            .with_env("FAKETIME_FORCE_MONOTONIC_FIX", "0");
        let (rate, n_rounds) = scale.of((500, 1), (1000, 5));
        let mut run = stage.start(Offer::at(rate));
        run.wait_for_more(rate);
        for _ in 0..n_rounds {
            for jump in ["-1h", "+1d", "+0"] {
                fs::write(&time, format!("{jump}\n")).unwrap();
                run.wait_for_more(rate * 2);
            }
        }
        let ended = run.terminate();
        stage.deliver_rest(&ended);
        let account = Account::read(&arena.broker.address(), &stage.topic());
        let mut row = account.whole(stage.n_accepted(), Restamped::Never);
        let (back, ahead) = account.published();
        let span: jiff::SignedDuration =
            ahead.parse::<jiff::Timestamp>().unwrap().duration_since(back.parse().unwrap());
        assert!(span.as_hours() >= 24, "the program saw both jumps: {back} to {ahead}");
        row.silence_ms = None;
        row.note = format!("{n_rounds} x an hour back, a day ahead, right again");
        row
    });
}

fn faketime() -> PathBuf {
    let libraries = fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut found = libraries.map(|dir| dir.join("faketime/libfaketimeMT.so.1")).filter(|path| path.exists());
    found.next().expect("libfaketime: `make setup-test` installs it")
}
