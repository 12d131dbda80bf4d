//! One Kafka process: made, started, ended in three ways, started again on the same data.
//!
//! On the test's thread. Must never leave a process or its data behind, not even when the test itself is killed.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use base::time::SystemClock;

use super::admin;

const POM: &str = include_str!("../../../scripts/kafka/pom.xml");
const START_PATIENCE: Duration = Duration::from_secs(90);
const STOP_PATIENCE: Duration = Duration::from_secs(60);
const CLUSTER_ID: &str = "ZXlld2l0bmVzcy10ZXN0cw";

/// A Kafka process and its folder. Killed when dropped; its data goes too.
pub(crate) struct Node {
    home: tempfile::TempDir,
    /// Listener that tells when it is ready.
    address: String,
    heap_mib: u32,
    process: Option<Running>,
}

/// The broker, and a process that ends it when this one is gone without having done so.
struct Running {
    java: Child,
    guard: Child,
}

impl Node {
    /// A folder for a node that is not yet formatted. `port` is that of a listener without encryption.
    pub(crate) fn new(port: u16, heap_mib: u32) -> Self {
        let home = tempfile::tempdir().expect("temporary directory");
        Self { home, address: format!("127.0.0.1:{port}"), heap_mib, process: None }
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Writes its configuration and starts to make its data folder; wait for the returned process.
    pub(crate) fn format(&self, properties: &str, more: &[String]) -> Child {
        let home = self.home();
        let properties = format!("{properties}log.dirs={}\n", home.join("data").display());
        fs::write(home.join("server.properties"), properties).expect("write server.properties");
        let log4j = "status = error\nappender.out.type = Console\nappender.out.name = out\n\
                     appender.out.layout.type = PatternLayout\nappender.out.layout.pattern = %d{HH:mm:ss.SSS} %p %c{1} %m%n\n\
                     rootLogger.level = warn\nrootLogger.appenderRef.out.ref = out\n";
        fs::write(home.join("log4j2.properties"), log4j).expect("write log4j2.properties");
        self.java("kafka.tools.StorageTool")
            .args(["format", "-t", CLUSTER_ID, "-c"])
            .arg(home.join("server.properties"))
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("java runs: `make setup-test` installs it")
    }

    /// Waits for what [`Node::format`] started.
    pub(crate) fn formatted(format: Child) {
        let done = format.wait_with_output().expect("java ends");
        assert!(done.status.success(), "kafka storage: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Starts the process and does not wait for it.
    pub(crate) fn launch(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let log = File::options().create(true).append(true).open(self.log_path()).expect("log file");
        let java = self
            .java("kafka.Kafka")
            .arg(self.home().join("server.properties"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log file"))
            .stderr(log)
            .spawn()
            .expect("java runs: `make setup-test` installs it");
        // Its input ends with this process, however that ends.
        let guard = Command::new("sh")
            .args(["-c", "read _; kill -9 \"$0\"; rm -rf \"$1\""])
            .arg(java.id().to_string())
            .arg(self.home())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh runs");
        self.process = Some(Running { java, guard });
    }

    /// Waits until it answers and knows of `n_brokers`.
    pub(crate) fn wait(&mut self, n_brokers: usize) -> Result<(), String> {
        let clock = SystemClock::new();
        loop {
            let process = self.process.as_mut().expect("launched");
            if let Some(status) = process.java.try_wait().expect("ask kafka") {
                self.reap();
                return Err(format!("it ended with {status}:\n{}", self.log_tail()));
            }
            if admin::brokers(&self.address).is_ok_and(|n| n >= n_brokers) {
                return Ok(());
            }
            if clock.monotonic() >= START_PATIENCE {
                return Err(format!("no answer within {START_PATIENCE:?}:\n{}", self.log_tail()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Kills it as a power cut would; its data stays. Nothing when it does not run.
    pub(crate) fn kill(&mut self) {
        if let Some(process) = &mut self.process {
            process.java.kill().expect("kill kafka");
            self.reap();
        }
    }

    /// Asks it to end, as an operator would, and waits until it has.
    pub(crate) fn stop(&mut self) {
        let process = self.process.as_mut().expect("it runs");
        let asked = Command::new("kill").arg(process.java.id().to_string()).status().expect("kill runs");
        assert!(asked.success(), "kill -TERM");
        let clock = SystemClock::new();
        while process.java.try_wait().expect("ask kafka").is_none() {
            // A node without a controller to ask may wait long; what matters to a client is that it is gone.
            if clock.monotonic() > STOP_PATIENCE {
                process.java.kill().expect("kill kafka");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.reap();
    }

    fn reap(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.java.wait().expect("reap kafka");
            // Killed before its input ends, so that it kills nobody else with that number.
            process.guard.kill().expect("kill the guard");
            process.guard.wait().expect("reap the guard");
        }
    }

    fn java(&self, class: &str) -> Command {
        let mut java = Command::new("java");
        // Compiling little and one collector thread: a broker that lives for seconds on a small machine.
        java.arg(format!("-Xmx{}m", self.heap_mib))
            .args(["-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg(format!("-Dlog4j2.configurationFile={}", self.home().join("log4j2.properties").display()))
            .arg("-cp")
            .arg(jars().join("*"))
            .arg(class);
        java
    }

    fn log_path(&self) -> PathBuf {
        self.home().join("kafka.log")
    }

    pub(crate) fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where `scripts/kafka/fetch.sh` puts the jars.
fn jars() -> PathBuf {
    let version = POM.split("<kafka.version>").nth(1).and_then(|rest| rest.split('<').next()).expect("version in pom");
    let cache = match (std::env::var_os("EYEWITNESS_CACHE"), std::env::var_os("XDG_CACHE_HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(cache)) => Path::new(&cache).join("eyewitness"),
        (None, None) => Path::new(&std::env::var_os("HOME").expect("HOME")).join(".cache/eyewitness"),
    };
    let jars = cache.join("kafka").join(version);
    assert!(jars.is_dir(), "Apache Kafka is not in {}: run `make setup-test`", jars.display());
    jars
}

/// Free loopback ports, below those that the system gives to outgoing connections: while a broker is away, a client
/// that tries again and again would sooner or later be given the broker's own port, and talk to itself.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    const RANGE: std::ops::Range<u16> = 12_000..32_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let n_ports = RANGE.end - RANGE.start;
    let start = u16::try_from(std::process::id() % u32::from(n_ports)).expect("smaller than the range");
    // All held at once, so that they differ.
    let held = std::array::from_fn::<TcpListener, N, _>(|_| {
        (0..n_ports)
            .find_map(|_| {
                let step = NEXT.fetch_add(1, Ordering::Relaxed) % n_ports;
                // Processes that were started one after the other begin far from each other.
                let offset = (u32::from(start) * 7919 + u32::from(step)) % u32::from(n_ports);
                let port = RANGE.start + u16::try_from(offset).expect("smaller than the range");
                TcpListener::bind(("127.0.0.1", port)).ok()
            })
            .expect("a free port")
    });
    held.map(|listener| listener.local_addr().expect("address").port())
}
