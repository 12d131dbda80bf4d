//! Three brokers that replicate each other's records: what is left when one of them is killed.
//!
//! On the test's thread; each node in a process of its own, broker and controller in one.

use std::{fmt::Write as _, io, time::Duration};

use base::time::SystemClock;

use super::{
    admin::{self, Partition},
    node::{Node, free_ports},
};

const N_NODES: usize = 3;
const HEAP_MIB: u32 = 256;

/// Three nodes. Topics have three replicas, and a record counts as written once two have it.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
}

impl Cluster {
    /// Starts the three at once and waits until each knows of all.
    pub(crate) fn start() -> Self {
        let mut last = String::new();
        for _ in 0..3 {
            match Self::try_start() {
                Ok(cluster) => return cluster,
                Err(problem) => last = problem,
            }
        }
        panic!("apache kafka did not start as a cluster: {last}");
    }

    fn try_start() -> Result<Self, String> {
        let ports: [u16; 2 * N_NODES] = free_ports();
        let (plain, controllers) = ports.split_at(N_NODES);
        let voters: Vec<String> = (1..).zip(controllers).map(|(id, port)| format!("{id}@127.0.0.1:{port}")).collect();
        let mut nodes: Vec<Node> = plain.iter().map(|&port| Node::new(port, HEAP_MIB)).collect();
        let formats: Vec<_> = nodes
            .iter()
            .enumerate()
            .map(|(i, node)| {
                let mut properties = String::new();
                let _ = write!(
                    properties,
                    "process.roles=broker,controller\nnode.id={id}\n\
                     listeners=PLAIN://{address},CONTROLLER://127.0.0.1:{controller}\n\
                     advertised.listeners=PLAIN://{address}\n\
                     controller.listener.names=CONTROLLER\ncontroller.quorum.voters={voters}\n\
                     listener.security.protocol.map=PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
                     inter.broker.listener.name=PLAIN\n\
                     num.partitions=3\nauto.create.topics.enable=true\n\
                     default.replication.factor=3\nmin.insync.replicas=2\n\
                     offsets.topic.replication.factor=3\ntransaction.state.log.replication.factor=3\n\
                     transaction.state.log.min.isr=2\n\
                     broker.session.timeout.ms=6000\nreplica.lag.time.max.ms=6000\nunclean.leader.election.enable=false\n",
                    id = i + 1,
                    address = node.address(),
                    controller = controllers[i],
                    voters = voters.join(",")
                );
                node.format(&properties, &[])
            })
            .collect();
        formats.into_iter().for_each(Node::formatted);
        nodes.iter_mut().for_each(Node::launch);
        let mut cluster = Self { nodes };
        for node in &mut cluster.nodes {
            node.wait(N_NODES)?;
        }
        Ok(cluster)
    }

    /// `host:port` of each, the killed ones too.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.address().to_owned()).collect()
    }

    /// Kills node `i` (0, 1 or 2) as a power cut would; its data stays.
    pub(crate) fn kill(&mut self, i: usize) {
        self.nodes[i].kill();
    }

    /// Starts a killed node again and waits until it is a member.
    pub(crate) fn restart(&mut self, i: usize) {
        self.nodes[i].launch();
        self.nodes[i].wait(N_NODES).unwrap_or_else(|problem| panic!("node {i} did not come back: {problem}"));
    }

    /// The index of the node that leads a partition now.
    pub(crate) fn leader(&self, topic: &str, partition: i32) -> usize {
        let all = self.ask(|address| admin::partitions(address, topic)).unwrap_or_else(|| panic!("no topic {topic}"));
        let leader = all.iter().find(|p| p.index == partition).map(|p| p.leader).expect("the partition");
        usize::try_from(leader - 1).expect("somebody leads it")
    }

    /// Waits until every partition of a topic has all three replicas in sync.
    pub(crate) fn wait_in_sync(&self, topic: &str, patience: Duration) {
        let clock = SystemClock::new();
        loop {
            let all = self.ask(|address| admin::partitions(address, topic)).unwrap_or_default();
            let whole = |p: &Partition| p.leader > 0 && p.in_sync.len() == N_NODES;
            if !all.is_empty() && all.iter().all(whole) {
                return;
            }
            assert!(clock.monotonic() < patience, "not in sync after {patience:?}: {all:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Makes a topic with three replicas.
    pub(crate) fn create_topic(&self, topic: &str, n_partitions: i32, configs: &[(&str, &str)]) {
        self.ask(|address| admin::create(address, topic, n_partitions, 3, configs));
    }

    /// Asks a node that runs.
    fn ask<T>(&self, question: impl Fn(&str) -> io::Result<T>) -> T {
        let node = self.nodes.iter().find(|node| node.is_running()).expect("a node runs");
        question(node.address()).unwrap_or_else(|e| panic!("{e}; the node says:\n{}", node.log_tail()))
    }
}
