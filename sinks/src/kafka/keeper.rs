//! Keeps the topics there: makes missing ones, and compares those that exist with what the user wants.
//!
//! On a thread of its own, `kafka-topics`, which lives only while there is something to find out; a broker that is away
//! holds up nobody else. Must never alter or delete a topic.

use std::{
    collections::BTreeMap,
    ffi::CString,
    future::Future,
    num::NonZeroU16,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, ClientContext,
    admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication},
    bindings,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode as Code},
};

use super::{
    client::Settings,
    reports::{self, Shared},
    topics::{CreateTopics, N_TOPICS, Wanted, differences},
};

/// For one answer of a broker.
const PATIENCE: Duration = Duration::from_secs(3);
/// Pause before the next look, when no broker answered or a topic is new; twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const TURN: Duration = Duration::from_millis(50);

/// Looks after the topics of one sink.
pub(super) struct Keeper(Arc<Inner>);

struct Inner {
    settings: Settings,
    shared: Arc<Shared>,
    wanted: [Wanted; N_TOPICS],
    create: CreateTopics,
    /// The most that a record may take, by the topic's own word.
    limits: [AtomicU64; N_TOPICS],
    state: Mutex<State>,
    stop: Arc<AtomicBool>,
}

#[derive(Default)]
struct State {
    running: bool,
    /// Topics to look at.
    due: [bool; N_TOPICS],
    /// Why a topic is not there.
    problems: [Option<String>; N_TOPICS],
    /// Differences are told once.
    told: [bool; N_TOPICS],
}

/// What became of a look at one topic.
enum Look {
    Done,
    /// It is missing, and will not be made; why.
    Missing(String),
    /// Look again soon.
    Again,
}

impl Keeper {
    pub(super) fn new(
        settings: Settings,
        shared: Arc<Shared>,
        wanted: [Wanted; N_TOPICS],
        create: CreateTopics,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let limits = std::array::from_fn(|_| AtomicU64::new(u64::MAX));
        Self(Arc::new(Inner { settings, shared, wanted, create, limits, state: Mutex::default(), stop }))
    }

    pub(super) fn topic(&self, at: usize) -> &str {
        &self.0.wanted[at].name
    }

    /// The most that a record in this topic may take, in bytes, as far as the topic was heard.
    pub(super) fn limit(&self, at: usize) -> u64 {
        self.0.limits[at].load(Relaxed)
    }

    /// The least of these limits.
    pub(super) fn least_limit(&self) -> u64 {
        self.0.limits.iter().map(|limit| limit.load(Relaxed)).min().unwrap_or(u64::MAX)
    }

    /// Why this topic is not there, as far as is known.
    pub(super) fn problem(&self, at: usize) -> Option<String> {
        self.0.state.lock().problems[at].clone()
    }

    /// Looks at these topics, now or as soon as a broker answers.
    pub(super) fn look(&self, topics: impl IntoIterator<Item = usize>) {
        let mut state = self.0.state.lock();
        for at in topics {
            state.due[at] = true;
        }
        if state.running || !state.due.contains(&true) {
            return;
        }
        let inner = Arc::clone(&self.0);
        match std::thread::Builder::new().name("kafka-topics".into()).spawn(move || inner.run()) {
            Ok(_) => state.running = true,
            Err(error) => tracing::warn!(sink = self.0.shared.name, %error, "no thread to look after the topics"),
        }
    }

    /// Whether its thread has something to do.
    pub(super) fn is_busy(&self) -> bool {
        self.0.state.lock().running
    }
}

impl Inner {
    fn run(&self) {
        let mut pause = FIRST_PAUSE;
        while !self.stop.load(Relaxed) {
            let due = self.state.lock().due;
            // A client for each look: it keeps what the library says until somebody reads it, which nobody does.
            if let Ok(admin) = self.client() {
                for at in (0..N_TOPICS).filter(|at| due[*at]) {
                    if self.stop.load(Relaxed) {
                        break;
                    }
                    self.state.lock().due[at] = false;
                    let problem = match self.look(&admin, at) {
                        Look::Done => None,
                        Look::Missing(problem) => Some(problem),
                        Look::Again => {
                            self.state.lock().due[at] = true;
                            continue;
                        }
                    };
                    self.state.lock().problems[at] = problem;
                }
            }
            let mut state = self.state.lock();
            if !state.due.contains(&true) {
                state.running = false;
                return;
            }
            drop(state);
            let end = self.shared.clock.monotonic() + pause;
            while self.shared.clock.monotonic() < end && !self.stop.load(Relaxed) {
                std::thread::sleep(TURN);
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        self.state.lock().running = false;
    }

    fn client(&self) -> Result<AdminClient<Quiet>, String> {
        let config = self.settings.admin().map_err(|error| error.to_string())?;
        let admin: AdminClient<Quiet> =
            create(&config, Quiet(Arc::clone(&self.shared))).map_err(|error| error.to_string())?;
        if let Some(tokens) = &self.shared.tokens {
            give_token(&admin, &tokens.current()?)?;
        }
        Ok(admin)
    }

    fn look(&self, admin: &AdminClient<Quiet>, at: usize) -> Look {
        let name = self.wanted[at].name.as_str();
        let sink = &self.shared.name;
        let answer = match admin.inner().fetch_metadata(Some(name), PATIENCE) {
            Ok(answer) => answer,
            Err(KafkaError::MetadataFetch(Code::UnknownTopic | Code::UnknownTopicOrPartition)) => {
                return self.make(admin, at);
            }
            Err(_) => return Look::Again,
        };
        let Some(topic) = answer.topics().iter().find(|topic| topic.name() == name) else { return Look::Again };
        match topic.error().map(Code::from) {
            None if topic.partitions().is_empty() => return Look::Again,
            None => {}
            Some(Code::UnknownTopic | Code::UnknownTopicOrPartition) => return self.make(admin, at),
            Some(Code::TopicAuthorizationFailed) => {
                let problem = format!(
                    "this user has no right to topic {name}: allow it `Write` and `Describe`, and `Create` if the topic is \
                     missing"
                );
                tracing::warn!(sink, topic = name, "{problem}");
                return Look::Missing(problem);
            }
            Some(Code::InvalidTopic) => {
                return Look::Missing(format!("kafka does not take `{name}` as a topic's name"));
            }
            Some(_) => return Look::Again,
        }
        let n_replicas = topic.partitions().first().map_or(0, |partition| partition.replicas().len());
        self.compare(admin, at, topic.partitions().len(), n_replicas);
        Look::Done
    }

    fn make(&self, admin: &AdminClient<Quiet>, at: usize) -> Look {
        let wanted = &self.wanted[at];
        let (name, sink) = (wanted.name.as_str(), &self.shared.name);
        if self.create == CreateTopics::Never {
            return Look::Missing(format!(
                "topic {name} does not exist: make it, or set `topics.create = \"if_missing\"`"
            ));
        }
        let n_replicas = wanted.replication_factor.map_or(-1, |n: NonZeroU16| i32::from(n.get()));
        let mut topic = NewTopic::new(name, wanted.n_partitions, TopicReplication::Fixed(n_replicas));
        for (key, value) in &wanted.settings {
            topic = topic.set(key, value);
        }
        let answer = block_on(admin.create_topics([&topic], &options()));
        let code = match answer.map(|mut results| results.pop()) {
            Ok(Some(Ok(_))) => {
                let n_partitions = wanted.n_partitions;
                tracing::info!(sink, topic = name, n_partitions, settings = ?wanted.settings, "made a topic");
                // It shows itself a moment later.
                return Look::Again;
            }
            Ok(Some(Err((_, Code::TopicAlreadyExists)))) => return Look::Again,
            Ok(Some(Err((_, code)))) => code,
            Ok(None) | Err(_) => return Look::Again,
        };
        let problem = match code {
            Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => format!(
                "topic {name} does not exist, and this user may not make it: make it with {} partitions, or allow the user \
                 `Create`",
                wanted.n_partitions
            ),
            Code::InvalidConfig
            | Code::InvalidPartitions
            | Code::InvalidReplicationFactor
            | Code::PolicyViolation
            | Code::InvalidTopic => {
                format!("topic {name} does not exist, and kafka does not make it as `topics` says ({code})")
            }
            // Brokers that are only just starting.
            _ => return Look::Again,
        };
        tracing::warn!(sink, topic = name, "{problem}");
        Look::Missing(problem)
    }

    /// Learns the topic's limit, and says once what is not as configured.
    fn compare(&self, admin: &AdminClient<Quiet>, at: usize, n_partitions: usize, n_replicas: usize) {
        let wanted = &self.wanted[at];
        let (name, sink) = (wanted.name.as_str(), &self.shared.name);
        let resource = ResourceSpecifier::Topic(name);
        let settings: BTreeMap<String, String> = match block_on(admin.describe_configs([&resource], &options())) {
            Ok(mut results) => match results.pop() {
                Some(Ok(resource)) => {
                    resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect()
                }
                Some(Err(code)) => {
                    if wanted.settings.is_empty() {
                        tracing::debug!(sink, topic = name, %code, "the topic's settings cannot be seen");
                    } else {
                        tracing::warn!(
                            sink, topic = name, %code,
                            "the topic's settings cannot be compared with `topics`: allow this user `DescribeConfigs`"
                        );
                    }
                    BTreeMap::new()
                }
                None => BTreeMap::new(),
            },
            Err(error) => {
                tracing::debug!(sink, topic = name, %error, "the topic's settings cannot be seen");
                BTreeMap::new()
            }
        };
        if let Some(limit) = settings.get("max.message.bytes").and_then(|text| text.parse().ok()) {
            self.limits[at].store(limit, Relaxed);
        }
        let found = differences(wanted, n_partitions, n_replicas, &settings);
        if !found.is_empty() && !std::mem::replace(&mut self.state.lock().told[at], true) {
            let differences = found.join("; ");
            tracing::warn!(sink, topic = name, differences, "the topic is not as configured; it is used as it is");
        }
    }
}

pub(crate) fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}

/// Says nothing: troubles with brokers are told by the client that sends.
struct Quiet(Arc<Shared>);

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        reports::log(&self.0.secrets, &self.0.name, RDKafkaLogLevel::Debug, facility, message);
    }

    fn error(&self, _: KafkaError, _: &str) {}
}

fn create(config: &ClientConfig, context: Quiet) -> Result<AdminClient<Quiet>, KafkaError> {
    config.create_with_context(context)
}

/// The wrapper's admin client never asks for a token, so it is given one.
#[expect(unsafe_code, reason = "the wrapper has no function for it")]
pub(crate) fn give_token<C: ClientContext>(admin: &AdminClient<C>, token: &super::oauth::Token) -> Result<(), String> {
    let text = CString::new(token.text.as_str()).map_err(|error| error.to_string())?;
    let principal = CString::new(token.principal.as_str()).map_err(|error| error.to_string())?;
    let mut problem = [0; 256];
    // SAFETY: the client lives; texts end with a zero byte and are copied; no extensions; the buffer is as long as said.
    let code = unsafe {
        bindings::rd_kafka_oauthbearer_set_token(
            admin.inner().native_ptr(),
            text.as_ptr(),
            token.expires_ms,
            principal.as_ptr(),
            std::ptr::null_mut(),
            0,
            problem.as_mut_ptr(),
            problem.len(),
        )
    };
    match Code::from(code) {
        Code::NoError => Ok(()),
        code => Err(code.to_string()),
    }
}

/// Waits for an answer on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
