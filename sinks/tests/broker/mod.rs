//! A real Apache Kafka for tests: one KRaft node on free loopback ports, read back with kcat.
//!
//! On the test's thread. Included by `#[path]` from every test harness that needs it. Must never leave a broker behind.

#![allow(dead_code, reason = "each harness that includes this uses its own part of it")]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use base::time::{Clock, SystemClock};

const POM: &str = include_str!("../../../scripts/kafka/pom.xml");
const START_PATIENCE: Duration = Duration::from_secs(90);
const CLUSTER_ID: &str = "ZXlld2l0bmVzcy10ZXN0cw";
/// The one user of the SASL listener, and its password.
pub(crate) const SASL_USER: &str = "eyewitness";
pub(crate) const SASL_PASSWORD: &str = "sw0rdfish-of-the-tests";

/// A running (or stopped) broker. Killed when dropped; its data goes too.
pub(crate) struct Broker {
    home: tempfile::TempDir,
    ports: Ports,
    process: Option<Child>,
    clock: Arc<dyn Clock>,
}

#[derive(Clone, Copy)]
struct Ports {
    plain: u16,
    sasl: u16,
    controller: u16,
}

/// One record as the independent client saw it.
#[derive(Debug, Clone)]
pub(crate) struct Consumed {
    pub(crate) partition: i64,
    pub(crate) offset: i64,
    pub(crate) key: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) payload: String,
}

impl Broker {
    /// Starts a broker and waits until it answers.
    pub(crate) fn start() -> Self {
        let mut last = String::new();
        // Free ports may be taken by somebody else before the broker listens: then try others.
        for _ in 0..3 {
            let mut broker = Self {
                home: tempfile::tempdir().expect("temporary directory"),
                ports: free_ports(),
                process: None,
                clock: SystemClock::new(),
            };
            broker.certify();
            broker.format();
            match broker.launch() {
                Ok(()) => return broker,
                Err(problem) => last = problem,
            }
        }
        panic!("apache kafka did not start: {last}");
    }

    /// `host:port` without encryption or password.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.plain)
    }

    /// `host:port` of the listener with TLS that wants [`SASL_USER`] and [`SASL_PASSWORD`] (SASL_SSL, PLAIN).
    pub(crate) fn sasl_address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.sasl)
    }

    /// The certificate (PEM) of that listener, signed by itself.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.home.path().join("certificate.pem")
    }

    /// Kills the broker as a power cut would; its data stays.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("kill kafka");
            process.wait().expect("reap kafka");
        }
    }

    /// Starts a killed broker again: same address, same data.
    pub(crate) fn restart(&mut self) {
        assert!(self.process.is_none(), "kill it first");
        self.launch().unwrap_or_else(|problem| panic!("apache kafka did not come back: {problem}"));
    }

    /// Everything in a topic once at least `n` records are there, ordered by partition and offset.
    pub(crate) fn consume(&self, topic: &str, n: usize, timeout: Duration) -> Vec<Consumed> {
        let end = self.clock.monotonic() + timeout;
        loop {
            let records = self.read(topic);
            if records.len() >= n {
                return records;
            }
            assert!(
                self.clock.monotonic() < end,
                "only {} of {n} records in {topic} after {timeout:?}; the broker says:\n{}",
                records.len(),
                self.log_tail()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn read(&self, topic: &str) -> Vec<Consumed> {
        // A client that asks for a topic before it is there may wait for ever: the next try will find it.
        let output = Command::new("timeout")
            .args(["10", "kcat", "-C", "-b", &self.address(), "-t", topic, "-o", "beginning", "-e", "-q", "-J"])
            .output()
            .expect("kcat runs: `make setup-test` installs it");
        let text = String::from_utf8(output.stdout).expect("utf-8");
        let mut records: Vec<Consumed> = text.lines().map(parse).collect();
        records.sort_by_key(|record| (record.partition, record.offset));
        records
    }

    /// Makes the certificate of the TLS listener; the keystore is its key and itself in one file.
    fn certify(&self) {
        let key = self.home.path().join("key.pem");
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=eyewitness-tests"])
            .args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(self.certificate())
            .output()
            .expect("openssl runs: `make setup-test` installs it");
        assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
        let read = |path: &Path| fs::read_to_string(path).expect("made by openssl");
        let keystore = read(&key) + &read(&self.certificate());
        fs::write(self.home.path().join("keystore.pem"), keystore).expect("write keystore");
    }

    fn format(&self) {
        let home = self.home.path();
        let Ports { plain, sasl, controller } = self.ports;
        let properties = format!(
            "process.roles=broker,controller\nnode.id=1\n\
             listeners=PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{sasl},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{sasl}\n\
             controller.listener.names=CONTROLLER\n\
             controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT\n\
             sasl.enabled.mechanisms=PLAIN\n\
             listener.name.sasl_ssl.plain.sasl.jaas.config=\
             org.apache.kafka.common.security.plain.PlainLoginModule required user_{SASL_USER}=\"{SASL_PASSWORD}\";\n\
             listener.name.sasl_ssl.ssl.keystore.type=PEM\n\
             listener.name.sasl_ssl.ssl.keystore.location={keystore}\n\
             log.dirs={data}\nnum.partitions=3\nauto.create.topics.enable=true\n\
             offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n",
            keystore = home.join("keystore.pem").display(),
            data = home.join("data").display()
        );
        fs::write(home.join("server.properties"), properties).expect("write server.properties");
        let log4j = "status = error\nappender.out.type = Console\nappender.out.name = out\n\
                     appender.out.layout.type = PatternLayout\nappender.out.layout.pattern = %d{HH:mm:ss.SSS} %p %c{1} %m%n\n\
                     rootLogger.level = warn\nrootLogger.appenderRef.out.ref = out\n";
        fs::write(home.join("log4j2.properties"), log4j).expect("write log4j2.properties");
        let formatted = self
            .java("kafka.tools.StorageTool")
            .args(["format", "--standalone", "-t", CLUSTER_ID, "-c"])
            .arg(home.join("server.properties"))
            .output()
            .expect("java runs: `make setup-test` installs it");
        assert!(formatted.status.success(), "kafka storage: {}", String::from_utf8_lossy(&formatted.stderr));
    }

    /// Starts the process and waits for an answer with metadata.
    fn launch(&mut self) -> Result<(), String> {
        let log = File::options().create(true).append(true).open(self.log_path()).expect("log file");
        let child = self
            .java("kafka.Kafka")
            .arg(self.home.path().join("server.properties"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log file"))
            .stderr(log)
            .spawn()
            .expect("java runs: `make setup-test` installs it");
        self.process = Some(child);
        let end = self.clock.monotonic() + START_PATIENCE;
        loop {
            let process = self.process.as_mut().expect("just started");
            if let Some(status) = process.try_wait().expect("ask kafka") {
                self.process = None;
                return Err(format!("it ended with {status}:\n{}", self.log_tail()));
            }
            let asked = Command::new("kcat")
                .args(["-L", "-m", "2", "-b", &self.address()])
                .output()
                .expect("kcat runs: `make setup-test` installs it");
            if asked.status.success() {
                return Ok(());
            }
            if self.clock.monotonic() >= end {
                return Err(format!("no answer within {START_PATIENCE:?}:\n{}", self.log_tail()));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn java(&self, class: &str) -> Command {
        let mut java = Command::new("java");
        // Compiling little and one collector thread: a broker that lives for seconds on a small machine.
        java.args(["-Xms64m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg(format!("-Dlog4j2.configurationFile={}", self.home.path().join("log4j2.properties").display()))
            .arg("-cp")
            .arg(jars().join("*"))
            .arg(class);
        java
    }

    fn log_path(&self) -> PathBuf {
        self.home.path().join("kafka.log")
    }

    fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Broker {
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

fn free_ports() -> Ports {
    // All held at once, so that they differ.
    let held: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    let port = |i: usize| held[i].local_addr().expect("address").port();
    Ports { plain: port(0), sasl: port(1), controller: port(2) }
}

/// One line of `kcat -J`. Headers are a flat list of names and values.
fn parse(line: &str) -> Consumed {
    let json: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("kcat: {line}: {e}"));
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let headers = json["headers"].as_array().map_or(&[][..], Vec::as_slice);
    Consumed {
        partition: json["partition"].as_i64().expect("partition"),
        offset: json["offset"].as_i64().expect("offset"),
        key: text(&json["key"]),
        headers: headers.chunks_exact(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect(),
        payload: text(&json["payload"]),
    }
}
