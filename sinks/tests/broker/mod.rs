//! A real Apache Kafka for tests: one KRaft node on free loopback ports, read back with kcat; beside it a network that
//! can be cut ([`relay`]) and three brokers at once ([`cluster`]).
//!
//! On the test's thread. Included by `#[path]` from every test harness that needs it. Must never leave a broker behind.

#![allow(dead_code, reason = "each harness that includes this uses its own part of it")]

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use base::time::SystemClock;

use certificates::Certificates;
use node::{Node, free_ports};

pub(crate) mod admin;
mod certificates;
pub(crate) mod cluster;
mod node;
pub(crate) mod relay;

const HEAP_MIB: u32 = 384;
/// The one user of the SASL listeners, and its password.
pub(crate) const SASL_USER: &str = "eyewitness";
pub(crate) const SASL_PASSWORD: &str = "sw0rdfish-of-the-tests";

/// A running (or stopped) broker. Killed when dropped; its data goes too.
pub(crate) struct Broker {
    node: Node,
    ports: Ports,
    certificates: Certificates,
}

#[derive(Clone, Copy)]
struct Ports {
    plain: u16,
    relayed: u16,
    sasl: u16,
    oauth: u16,
    mtls: u16,
    expired: u16,
    controller: u16,
}

/// One record as the independent client saw it.
#[derive(Debug, Clone)]
pub(crate) struct Consumed {
    pub(crate) partition: i64,
    pub(crate) offset: i64,
    /// Milliseconds since 1970; whether the producer's or the broker's is the topic's `message.timestamp.type`.
    pub(crate) timestamp_ms: i64,
    pub(crate) key: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) payload: String,
}

impl Broker {
    /// Starts a broker and waits until it answers.
    pub(crate) fn start() -> Self {
        Self::start_advertising(None)
    }

    /// The same, with one more listener, at [`Broker::relayed_port`], which tells clients to come to `port` instead:
    /// whoever connects through a relay on that port stays behind it. The other listeners are reached directly.
    pub(crate) fn start_behind(port: u16) -> Self {
        Self::start_advertising(Some(port))
    }

    fn start_advertising(relay: Option<u16>) -> Self {
        let mut last = String::new();
        // Free ports may be taken by somebody else before the broker listens: then try others.
        for _ in 0..3 {
            let [plain, relayed, sasl, oauth, mtls, expired, controller] = free_ports();
            let ports = Ports { plain, relayed, sasl, oauth, mtls, expired, controller };
            let node = Node::new(plain, HEAP_MIB);
            let certificates = Certificates::make(node.home());
            let mut broker = Self { node, ports, certificates };
            broker.format(relay);
            broker.node.launch();
            match broker.node.wait(1) {
                Ok(()) => return broker,
                Err(problem) => last = problem,
            }
        }
        panic!("apache kafka did not start: {last}");
    }

    /// `host:port` without encryption or password.
    pub(crate) fn address(&self) -> String {
        local(self.ports.plain)
    }

    /// Port of that listener.
    pub(crate) fn port(&self) -> u16 {
        self.ports.plain
    }

    /// Where the relay of [`Broker::start_behind`] forwards to.
    pub(crate) fn relayed_port(&self) -> u16 {
        self.ports.relayed
    }

    /// `host:port` of the listener with TLS that wants [`SASL_USER`] and [`SASL_PASSWORD`]: SASL_SSL with PLAIN,
    /// SCRAM-SHA-256 or SCRAM-SHA-512.
    pub(crate) fn sasl_address(&self) -> String {
        local(self.ports.sasl)
    }

    /// `host:port` of the listener that wants a token: SASL_PLAINTEXT with OAUTHBEARER, unsecured tokens.
    pub(crate) fn oauth_address(&self) -> String {
        local(self.ports.oauth)
    }

    /// `host:port` of the listener that wants a client certificate: SSL.
    pub(crate) fn mtls_address(&self) -> String {
        local(self.ports.mtls)
    }

    /// `host:port` of the listener whose certificate has expired: SSL, without a password.
    pub(crate) fn expired_address(&self) -> String {
        local(self.ports.expired)
    }

    /// The certificate (PEM) of the authority that signed all others.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.certificates.authority()
    }

    /// The certificate (PEM) that the mTLS listener wants.
    pub(crate) fn client_certificate(&self) -> PathBuf {
        self.certificates.client()
    }

    /// Its key (PEM, without a password).
    pub(crate) fn client_key(&self) -> PathBuf {
        self.certificates.client_key()
    }

    /// From the next start on the listener of [`Broker::expired_address`] has a good certificate.
    pub(crate) fn renew_certificate(&self) {
        self.certificates.renew_expired();
    }

    /// Kills the broker as a power cut would; its data stays. Nothing when it does not run.
    pub(crate) fn kill(&mut self) {
        self.node.kill();
    }

    /// Asks the broker to end, as an operator would, and waits until it has.
    pub(crate) fn stop(&mut self) {
        self.node.stop();
    }

    /// Starts a killed or stopped broker again: same address, same data.
    pub(crate) fn restart(&mut self) {
        self.node.launch();
        self.node.wait(1).unwrap_or_else(|problem| panic!("apache kafka did not come back: {problem}"));
    }

    pub(crate) fn is_running(&self) -> bool {
        self.node.is_running()
    }

    /// Makes a topic; `configs` are its settings, such as `("cleanup.policy", "compact")`.
    pub(crate) fn create_topic(&self, topic: &str, n_partitions: i32, configs: &[(&str, &str)]) {
        let made = admin::create(self.node.address(), topic, n_partitions, 1, configs);
        made.unwrap_or_else(|e| panic!("{e}; the broker says:\n{}", self.node.log_tail()));
    }

    /// Gives a topic more partitions: so many in all.
    pub(crate) fn add_partitions(&self, topic: &str, n_partitions: i32) {
        admin::add_partitions(&self.address(), topic, n_partitions).expect("topic grown");
    }

    /// Deletes a topic.
    pub(crate) fn delete_topic(&self, topic: &str) {
        let deleted = admin::delete(self.node.address(), topic);
        deleted.unwrap_or_else(|e| panic!("{e}; the broker says:\n{}", self.node.log_tail()));
    }

    /// Number of partitions, and every setting with its value, the defaults too. Fails when there is no such topic.
    pub(crate) fn describe_topic(&self, topic: &str) -> (usize, BTreeMap<String, String>) {
        let partitions = admin::partitions(self.node.address(), topic).expect("an answer");
        let configs = admin::configs(self.node.address(), topic).expect("an answer");
        (partitions.unwrap_or_else(|| panic!("no topic {topic}")).len(), configs)
    }

    /// Whether there is such a topic.
    pub(crate) fn has_topic(&self, topic: &str) -> bool {
        admin::partitions(self.node.address(), topic).expect("an answer").is_some()
    }

    /// Everything in a topic once at least `n` records are there, ordered by partition and offset.
    pub(crate) fn consume(&self, topic: &str, n: usize, timeout: Duration) -> Vec<Consumed> {
        let clock = SystemClock::new();
        loop {
            let mut records = Vec::new();
            read(&self.address(), topic, Duration::from_secs(10), |record| records.push(record));
            if records.len() >= n {
                records.sort_by_key(|record| (record.partition, record.offset));
                return records;
            }
            assert!(
                clock.monotonic() < timeout,
                "only {} of {n} records in {topic} after {timeout:?}; the broker says:\n{}",
                records.len(),
                self.node.log_tail()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn format(&self, relay: Option<u16>) {
        let Ports { plain, relayed, sasl, oauth, mtls, expired, controller } = self.ports;
        let mut listeners = vec![
            ("PLAIN", "PLAINTEXT", plain, plain),
            ("SASL", "SASL_SSL", sasl, sasl),
            ("OAUTH", "SASL_PLAINTEXT", oauth, oauth),
            ("MTLS", "SSL", mtls, mtls),
            ("EXPIRED", "SSL", expired, expired),
        ];
        listeners.extend(relay.map(|advertised| ("RELAYED", "PLAINTEXT", relayed, advertised)));
        let (mut listen, mut advertise, mut protocols) = (vec![], vec![], vec![]);
        for (name, protocol, port, advertised) in listeners {
            listen.push(format!("{name}://127.0.0.1:{port}"));
            advertise.push(format!("{name}://127.0.0.1:{advertised}"));
            protocols.push(format!("{name}:{protocol}"));
        }
        let (listen, advertise, protocols) = (listen.join(","), advertise.join(","), protocols.join(","));
        // A session that ends soon: a broker that was killed may come back only when its old one is over.
        let modules = "org.apache.kafka.common.security";
        let properties = format!(
            "process.roles=broker,controller\nnode.id=1\n\
             listeners={listen},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners={advertise}\n\
             controller.listener.names=CONTROLLER\ninter.broker.listener.name=PLAIN\n\
             controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
             listener.security.protocol.map={protocols},CONTROLLER:PLAINTEXT\n\
             listener.name.sasl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n\
             listener.name.sasl.plain.sasl.jaas.config=\
             {modules}.plain.PlainLoginModule required user_{SASL_USER}=\"{SASL_PASSWORD}\";\n\
             listener.name.sasl.scram-sha-256.sasl.jaas.config={modules}.scram.ScramLoginModule required;\n\
             listener.name.sasl.scram-sha-512.sasl.jaas.config={modules}.scram.ScramLoginModule required;\n\
             listener.name.sasl.ssl.keystore.type=PEM\nlistener.name.sasl.ssl.keystore.location={server}\n\
             listener.name.oauth.sasl.enabled.mechanisms=OAUTHBEARER\n\
             listener.name.oauth.oauthbearer.sasl.jaas.config=\
             {modules}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";\n\
             listener.name.mtls.ssl.client.auth=required\n\
             listener.name.mtls.ssl.keystore.type=PEM\nlistener.name.mtls.ssl.keystore.location={server}\n\
             listener.name.mtls.ssl.truststore.type=PEM\nlistener.name.mtls.ssl.truststore.location={authority}\n\
             listener.name.expired.ssl.keystore.type=PEM\nlistener.name.expired.ssl.keystore.location={stale}\n\
             broker.session.timeout.ms=3000\nbroker.heartbeat.interval.ms=500\n\
             num.partitions=3\nauto.create.topics.enable=true\n\
             offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n",
            server = self.certificates.keystore("server").display(),
            stale = self.certificates.keystore("expired").display(),
            authority = self.certificates.authority().display(),
        );
        let mut more = vec!["--standalone".to_owned()];
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            more.push("--add-scram".to_owned());
            more.push(format!("{mechanism}=[name={SASL_USER},password={SASL_PASSWORD}]"));
        }
        Node::formatted(self.node.format(&properties, &more));
    }
}

/// Reads a topic from its beginning to its present end with kcat, every partition, and shows each record; true when the
/// end was reached within `patience`. `brokers` are separated by commas.
pub(crate) fn read(brokers: &str, topic: &str, patience: Duration, mut each: impl FnMut(Consumed)) -> bool {
    // A client that asks for a topic before it is there may wait for ever: the next try will find it.
    let mut kcat = Command::new("timeout")
        .arg(patience.as_secs().to_string())
        .args(["kcat", "-C", "-b", brokers, "-t", topic, "-o", "beginning", "-e", "-q", "-J"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("kcat runs: `make setup-test` installs it");
    let output = BufReader::new(kcat.stdout.take().expect("piped"));
    for line in output.lines() {
        each(parse(&line.expect("utf-8")));
    }
    kcat.wait().expect("kcat ends").success()
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// One line of `kcat -J`. Headers are a flat list of names and values.
fn parse(line: &str) -> Consumed {
    let json: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("kcat: {line}: {e}"));
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let headers = json["headers"].as_array().map_or(&[][..], Vec::as_slice);
    Consumed {
        partition: json["partition"].as_i64().expect("partition"),
        offset: json["offset"].as_i64().expect("offset"),
        timestamp_ms: json["ts"].as_i64().unwrap_or_default(),
        key: text(&json["key"]),
        headers: headers.chunks_exact(2).map(|pair| (text(&pair[0]), text(&pair[1]))).collect(),
        payload: text(&json["payload"]),
    }
}
