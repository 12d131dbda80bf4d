//! Where the faults happen: one broker for those that can share it, and the program that offers numbered events.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use base::time::SystemClock;
use serde_json::Value;

use crate::{
    broker::{self, Broker, relay::Relay},
    harness::Scene,
};

/// Streams over which events are spread.
pub(super) const N_STREAMS: u64 = 4;
/// Longest wait for anything: only ever reached by a failing test.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The broker's clock stamps the records, so that silence can be measured.
const STAMPED_BY_BROKER: (&str, &str) = ("message.timestamp.type", "LogAppendTime");

/// A broker, and a network before it that can be cut.
pub(super) struct Arena {
    pub(super) broker: Broker,
    pub(super) relay: Relay,
}

/// The arena that faults share, one after the other: whole, whatever the one before left behind.
pub(super) struct ArenaGuard(MutexGuard<'static, Option<Arena>>);

impl ArenaGuard {
    pub(super) fn enter() -> Self {
        // Never dropped; the broker's guard ends it with this process.
        static ARENA: Mutex<Option<Arena>> = Mutex::new(None);
        let mut guard = ARENA.lock().unwrap_or_else(PoisonError::into_inner);
        let arena = guard.get_or_insert_with(|| {
            let relay = Relay::start(0);
            let broker = Broker::start_behind(relay.port());
            Arena { broker, relay }
        });
        if !arena.broker.is_running() {
            arena.broker.restart();
        }
        arena.relay.heal();
        arena.connect();
        Self(guard)
    }
}

impl std::ops::Deref for ArenaGuard {
    type Target = Arena;

    fn deref(&self) -> &Arena {
        self.0.as_ref().expect("entered")
    }
}

impl std::ops::DerefMut for ArenaGuard {
    fn deref_mut(&mut self) -> &mut Arena {
        self.0.as_mut().expect("entered")
    }
}

impl Arena {
    /// For who comes through the relay, nobody is there: connections are closed, and new ones at once.
    pub(super) fn disconnect(&self) {
        self.relay.forward_to(0);
        self.relay.reset();
    }

    pub(super) fn connect(&self) {
        self.relay.forward_to(self.broker.relayed_port());
    }

    /// The topic of a fault's detections.
    pub(super) fn create_topic(&self, stage: &Stage) {
        self.broker.create_topic(&stage.topic(), 3, &[STAMPED_BY_BROKER]);
    }
}

/// Waits until `what` gives a value.
#[track_caller]
pub(super) fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let clock = SystemClock::new();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(clock.monotonic() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        thread::sleep(LOOK_EVERY);
    }
}

/// Waits until something has arrived in a topic: a fault before the first delivery is another, smaller fault.
#[track_caller]
pub(super) fn wait_for_arrivals(brokers: &str, topic: &str) {
    wait_for("the first events to arrive", || {
        let mut n_arrived = 0;
        // A client that asks while a topic is being made may wait for ever: the next one will not.
        broker::read(brokers, topic, Duration::from_secs(5), |_| n_arrived += 1);
        (n_arrived > 0).then_some(())
    });
}

/// One fault's folder, configuration and spool, used by one process of the program after the other.
pub(super) struct Stage {
    scene: Scene,
    prefix: &'static str,
    n_runs: u32,
    /// Number of the next event to offer: below it, all are accepted.
    n_accepted: u64,
    /// Put before the program's name on the command line.
    wrapper: Vec<String>,
    env: Vec<(String, String)>,
}

/// What to offer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    /// Until a signal comes where there is none.
    pub(super) n_events: Option<u64>,
    /// A second; 0: as fast as it goes.
    pub(super) rate: u64,
    pub(super) grace_secs: u64,
    pub(super) payload_bytes: Option<u64>,
}

impl Offer {
    /// So many a second until a signal comes, and then a minute to deliver the rest.
    pub(super) const fn at(rate: u64) -> Self {
        Self { n_events: None, rate, grace_secs: 60, payload_bytes: None }
    }
}

impl Stage {
    /// `prefix` is that of the topics; `sink` the keys of the sink besides, in TOML.
    pub(super) fn new(prefix: &'static str, brokers: &[String], sink: &str) -> Self {
        let this = Self { scene: Scene::new(), prefix, n_runs: 0, n_accepted: 0, wrapper: Vec::new(), env: Vec::new() };
        this.configure(brokers, sink);
        this
    }

    /// Writes the configuration anew, for the next start.
    pub(super) fn configure(&self, brokers: &[String], sink: &str) {
        let prefix = self.prefix;
        let config =
            format!("[sinks.kafka]\ntype = \"kafka\"\nbrokers = {brokers:?}\ntopic_prefix = \"{prefix}\"\n{sink}\n");
        self.scene.file("eyewitness.toml", config);
    }

    pub(super) fn wrapped(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        self
    }

    pub(super) fn with_env(mut self, key: &str, value: impl Into<String>) -> Self {
        self.env.push((key.to_owned(), value.into()));
        self
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.scene.path(name)
    }

    pub(super) fn file(&self, name: &str, content: &str) -> PathBuf {
        self.scene.file(name, content)
    }

    pub(super) fn topic(&self) -> String {
        format!("{}.detections", self.prefix)
    }

    pub(super) fn status_topic(&self) -> String {
        format!("{}.status", self.prefix)
    }

    /// How many events were accepted by all processes that have ended.
    pub(super) fn n_accepted(&self) -> u64 {
        self.n_accepted
    }

    /// A program that ends while the broker does not answer yet leaves the rest to the next one: starts as many as it
    /// takes, each with one more event.
    #[track_caller]
    pub(super) fn deliver_rest(&mut self, ended: &Ended) {
        let mut n_waiting = ended.n("n_waiting");
        ended.expect_waiting(n_waiting);
        for _ in 0..20 {
            if n_waiting == 0 {
                return;
            }
            let next = self.start(Offer { n_events: Some(1), ..Offer::at(0) }).end();
            n_waiting = next.n("n_waiting");
            next.expect_waiting(n_waiting);
        }
        panic!("{n_waiting} still wait; the program says:\n{}", ended.log);
    }

    /// Starts the program, which goes on with the numbers where the last one ended.
    pub(super) fn start(&mut self, offer: Offer) -> Run<'_> {
        self.n_runs += 1;
        let (name, first) = (format!("run-{}", self.n_runs), self.n_accepted);
        let mut args: Vec<String> =
            ["bench", "deliver", "--config", "eyewitness.toml", "--sink", "kafka"].map(str::to_owned).into();
        let mut option = |key: &str, value: String| args.extend([format!("--{key}"), value]);
        option("session", self.prefix.to_owned());
        option("streams", N_STREAMS.to_string());
        option("first", first.to_string());
        option("rate", offer.rate.to_string());
        option("grace", offer.grace_secs.to_string());
        option("accepted", format!("{name}.accepted"));
        option("log", "info".to_owned());
        // Figures for whoever has to find out why a case failed.
        option("rss-every", "1".to_owned());
        if let Some(n) = offer.n_events {
            option("events", n.to_string());
        }
        if let Some(n) = offer.payload_bytes {
            option("payload-bytes", n.to_string());
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut command = self.scene.command(&args);
        if let Some((program, words)) = self.wrapper.split_first() {
            let mut wrapped = Command::new(program);
            wrapped.args(words).arg(command.get_program()).args(command.get_args());
            wrapped.current_dir(command.get_current_dir().unwrap()).stdin(Stdio::null());
            wrapped.env("NO_COLOR", "1").env_remove("RUST_LOG");
            command = wrapped;
        }
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        // Files, not pipes: whatever happens to the process, what it said is there, and nobody has to read along.
        let (out, log) = (self.path(&format!("{name}.out")), self.path(&format!("{name}.log")));
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&log).unwrap());
        let accepted = self.path(&format!("{name}.accepted"));
        let child = command.spawn().unwrap();
        Run { stage: self, child, out, log, accepted }
    }
}

/// A running program. Killed when dropped.
pub(super) struct Run<'a> {
    stage: &'a mut Stage,
    child: Child,
    out: PathBuf,
    log: PathBuf,
    accepted: PathBuf,
}

/// What a program that ended in peace left.
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    /// Its closing account; null when it printed none.
    pub(super) report: Value,
    pub(super) log: String,
}

impl Run<'_> {
    /// All events below this number are accepted.
    pub(super) fn accepted(&self) -> u64 {
        let text = fs::read_to_string(&self.accepted).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().next_back().map_or(self.stage.n_accepted, |line| line.parse().unwrap())
    }

    /// Waits until so many more are accepted; gives the new number.
    #[track_caller]
    pub(super) fn wait_for_more(&mut self, n: u64) -> u64 {
        self.wait_until_accepted(self.accepted() + n)
    }

    /// Waits until all below `number` are accepted, or some more.
    #[track_caller]
    pub(super) fn wait_until_accepted(&mut self, number: u64) -> u64 {
        let what = format!("all events below {number} to be accepted");
        self.wait(&what, |run| Some(run.accepted()).filter(|&accepted| accepted >= number))
    }

    /// Waits until the log says this.
    #[track_caller]
    pub(super) fn wait_for_log(&mut self, text: &str) {
        self.wait(&format!("`{text}` in the log"), |run| run.log().contains(text).then_some(()));
    }

    /// Waits until nothing more has been accepted for `quiet`; gives the number.
    #[track_caller]
    pub(super) fn wait_for_standstill(&mut self, quiet: Duration) -> u64 {
        let clock = SystemClock::new();
        let (mut last, mut since) = (self.accepted(), clock.monotonic());
        self.wait("a standstill", |run| {
            let now = run.accepted();
            if now != last {
                (last, since) = (now, clock.monotonic());
            }
            (now > 0 && clock.monotonic() >= since + quiet).then_some(now)
        })
    }

    #[track_caller]
    fn wait<T>(&mut self, what: &str, mut probe: impl FnMut(&Self) -> Option<T>) -> T {
        let clock = SystemClock::new();
        loop {
            if let Some(value) = probe(self) {
                return value;
            }
            let ended = self.child.try_wait().unwrap();
            let in_time = ended.is_none() && clock.monotonic() < PATIENCE;
            let out = fs::read_to_string(&self.out).unwrap_or_default();
            let last = out.lines().next_back().unwrap_or_default();
            assert!(in_time, "in vain for {what} (ended: {ended:?}); {last}; the program says:\n{}", self.log());
            thread::sleep(LOOK_EVERY);
        }
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// `kill -9`; gives what it had said by then to be accepted.
    pub(super) fn kill(mut self) -> u64 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.stage.n_accepted = self.accepted();
        self.stage.n_accepted
    }

    /// SIGTERM, then as [`Self::end`].
    #[track_caller]
    pub(super) fn terminate(self) -> Ended {
        let sent = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success(), "kill -TERM");
        self.end()
    }

    /// Waits for the end.
    #[track_caller]
    pub(super) fn end(mut self) -> Ended {
        let status = wait_for("the end of the program", || self.child.try_wait().unwrap());
        self.stage.n_accepted = self.accepted();
        let out = fs::read_to_string(&self.out).unwrap_or_default();
        let report = out.lines().next_back().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        Ended { code: status.code(), report, log: self.log() }
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    pub(super) fn n(&self, key: &str) -> u64 {
        self.report[key]
            .as_u64()
            .unwrap_or_else(|| panic!("no {key} in {}; the program says:\n{}", self.report, self.log))
    }

    /// It ended well, and what was not delivered waits.
    #[track_caller]
    pub(super) fn expect_waiting(&self, n_waiting: u64) {
        assert_eq!(self.code, Some(0), "{}; the program says:\n{}", self.report, self.log);
        let left = ["n_failed", "n_dropped", "n_waiting"].map(|key| self.n(key));
        assert_eq!(left, [0, 0, n_waiting], "failed, dropped, waiting; the program says:\n{}", self.log);
    }
}
