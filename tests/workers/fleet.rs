//! Several workers on one real Kafka, each with a folder of its own, and the streams attached to them.

use std::{
    fs::{self, File},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use base::time::SystemClock;
use serde_json::{Value, json};

use crate::{
    broker::Broker,
    harness::{Scene, whole_machine},
};

/// Longest wait for anything: only ever reached by a failing test.
const PATIENCE: Duration = Duration::from_secs(180);
/// Frames analysed a second, of each stream.
pub(super) const FPS: u32 = 1;
/// What every stream of the fleet shows.
const PICTURE: &str = "test://?width=320&height=240&fps=5&pattern=ball";

/// The broker that the faults share, one after the other: a fleet at a time is as much as two cores carry.
pub(super) struct Arena {
    broker: MutexGuard<'static, Option<Broker>>,
    _machine: MutexGuard<'static, ()>,
}

impl Arena {
    pub(super) fn enter() -> Self {
        // Never dropped; the broker's guard ends it with this process.
        static BROKER: Mutex<Option<Broker>> = Mutex::new(None);
        let _machine = whole_machine();
        let mut guard = BROKER.lock().unwrap_or_else(PoisonError::into_inner);
        let broker = guard.get_or_insert_with(Broker::start);
        if !broker.is_running() {
            broker.restart();
        }
        Self { broker: guard, _machine }
    }

    pub(super) fn broker(&mut self) -> &mut Broker {
        self.broker.as_mut().expect("entered")
    }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    SystemClock::new().wall().as_millisecond()
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
        thread::sleep(Duration::from_millis(50));
    }
}

/// Workers of one group, and what they have in common.
pub(super) struct Fleet {
    scene: Scene,
    address: String,
    /// Of topics, and name of the group.
    pub(super) prefix: &'static str,
    n_starts: u32,
    pub(super) workers: Vec<Worker>,
}

/// One worker's process. Killed when dropped.
pub(super) struct Worker {
    pub(super) name: String,
    child: Child,
    /// Of its HTTP service.
    url: String,
    log: std::path::PathBuf,
}

impl Fleet {
    /// Starts these workers.
    pub(super) fn start_all(broker: &Broker, prefix: &'static str, names: &[&str]) -> Self {
        let (scene, address) = (Scene::new(), broker.address());
        let mut fleet = Self { scene, address, prefix, n_starts: 0, workers: Vec::new() };
        names.iter().for_each(|name| fleet.start(name));
        fleet
    }

    /// Starts a worker of this name, in the folder that a worker of this name had before, if any.
    pub(super) fn start(&mut self, name: &str) {
        let Self { scene, address, prefix, .. } = self;
        let dir = scene.path(name);
        fs::create_dir_all(&dir).unwrap();
        let config = format!(
            "[service]\ngrace_secs = 5\n[http]\nlisten = \"127.0.0.1:0\"\n[hls]\nenabled = false\n\
             [profiles.default]\nsampling = {{ fps = {FPS} }}\ntrack = false\n\
             [cluster]\nbrokers = [\"{address}\"]\ntopic_prefix = \"{prefix}\"\ngroup = \"{prefix}\"\nworker = \"{name}\"\n\
             leases = 24\n\
             [sinks.kafka]\ntype = \"kafka\"\nbrokers = [\"{address}\"]\ntopic_prefix = \"{prefix}\"\n"
        );
        fs::write(dir.join("eyewitness.toml"), config).unwrap();
        self.n_starts += 1;
        let log = dir.join(format!("run-{}.log", self.n_starts));
        let mut command = self.scene.command(&["run", "--log", "info"]);
        // A file, not a pipe: whatever happens to the process, what it said is there.
        command.current_dir(&dir).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        let mut child = command.spawn().unwrap();
        let url = wait_for("the address of a worker's service", || {
            let text = fs::read_to_string(&log).unwrap();
            if let Some(status) = child.try_wait().unwrap() {
                panic!("{name} ended at once, {status}:\n{text}");
            }
            let line = text.lines().find(|line| line.contains("the HTTP service listens"))?;
            Some(format!("http://{}", line.split("address=").nth(1)?.trim()))
        });
        self.workers.push(Worker { name: name.to_owned(), child, url, log });
    }

    /// Attaches streams `cam-<from>` to `cam-<to - 1>` through the workers in turn.
    pub(super) fn attach(&self, from: usize, to: usize) {
        for at in from..to {
            let worker = &self.workers[at % self.workers.len()];
            worker.put(&format!("cam-{at:02}"), &json!({ "url": PICTURE, "tags": { "Location": "Yard" } }));
        }
    }

    /// Waits until every stream plays, each on one of these workers, as each of them sees it; gives who has which.
    pub(super) fn wait_until_settled(&self, n_streams: usize) -> Vec<(String, String)> {
        let names: Vec<&str> = self.workers.iter().map(|w| w.name.as_str()).collect();
        let mut last = String::new();
        let mut settled = || {
            let mut seen = Vec::new();
            for worker in &self.workers {
                let streams = worker.streams()?;
                let playing: Vec<(String, String)> = streams
                    .iter()
                    .filter(|s| s["state"] == "playing")
                    .filter_map(|s| Some((s["name"].as_str()?.to_owned(), s["worker"].as_str()?.to_owned())))
                    .filter(|(_, worker)| names.contains(&worker.as_str()))
                    .collect();
                last = format!("{}: {} of {n_streams} play", worker.name, playing.len());
                (playing.len() == n_streams).then_some(())?;
                seen.push(playing);
            }
            seen.windows(2).all(|pair| pair[0] == pair[1]).then(|| seen.swap_remove(0))
        };
        let clock = SystemClock::new();
        loop {
            if let Some(who) = settled() {
                return who;
            }
            if clock.monotonic() > PATIENCE {
                let logs: Vec<String> = self.workers.iter().map(Worker::log_tail).collect();
                panic!("{n_streams} streams never played everywhere; {last}\n{}", logs.join("\n"));
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Takes a worker out of the fleet, to be killed or ended.
    pub(super) fn take(&mut self, name: &str) -> Worker {
        let at = self.workers.iter().position(|w| w.name == name).unwrap_or_else(|| panic!("no worker {name}"));
        self.workers.remove(at)
    }

    /// Ends all workers in peace, so that everything that waits is delivered.
    pub(super) fn end(&mut self) {
        for worker in &self.workers {
            worker.signal("TERM");
        }
        for worker in self.workers.drain(..) {
            worker.ended();
        }
    }
}

impl Worker {
    /// What its service answers; none when it cannot be asked.
    pub(super) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Option<(u16, Value)> {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-m", "20", "-X", method, "-w", "\n%{http_code}", &format!("{}{path}", self.url)]);
        if let Some(body) = body {
            curl.args(["-H", "content-type: application/json", "-d", &body.to_string()]);
        }
        let output = curl.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n')?;
        let status = status.parse().ok().filter(|status| *status > 0)?;
        Some((status, serde_json::from_str(body).unwrap_or(Value::Null)))
    }

    pub(super) fn put(&self, name: &str, attachment: &Value) {
        let (status, body) = self.ask("PUT", &format!("/v1/streams/{name}"), Some(attachment)).unwrap();
        assert!(matches!(status, 200 | 201), "{name}: {status} {body}\n{}", self.log_tail());
    }

    /// All streams, as this worker shows them; none when it cannot be asked.
    pub(super) fn streams(&self) -> Option<Vec<Value>> {
        let (status, body) = self.ask("GET", "/v1/streams", None)?;
        (status == 200).then(|| body["streams"].as_array().cloned().unwrap_or_default())
    }

    pub(super) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status().unwrap();
        assert!(sent.success(), "kill -{name}");
    }

    /// `kill -9`; gives when.
    pub(super) fn kill(mut self) -> i64 {
        let at = now_ms();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        at
    }

    /// Waits for its end, which must be a good one.
    pub(super) fn ended(mut self) {
        let status = wait_for("the end of a worker", || self.child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{}", self.log_tail());
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        format!("--- {}\n{}", self.name, lines[lines.len().saturating_sub(60)..].join("\n"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
