//! A worker's plane in a process of its own, which can be killed and frozen: this program once more, told by its
//! environment to be one. It prints its news, a line each, and takes posts, a line each, until its input ends.
//!
//! The parent reads on a thread of its own. Must never leave a process behind.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base::{
    queue::{Received, WhenFull, queue},
    time::{Clock, SystemClock},
};
use serde_json::{Value, json};
use sinks::control::{ClusterConfig, KafkaPlane, News, Plane as _, Post};

use crate::wait_for;

const CONFIG: &str = "EYEWITNESS_TEST_MEMBER_CONFIG";
const WORKER: &str = "EYEWITNESS_TEST_MEMBER_WORKER";

/// Its news with the time at which each came.
type Heard = Arc<Mutex<Vec<(Duration, Value)>>>;

pub(crate) struct Member {
    name: String,
    process: Child,
    input: Option<ChildStdin>,
    heard: Heard,
    next_ticket: u64,
}

impl Member {
    /// Starts a worker; `config` is that of a cluster.
    pub(crate) fn start(config: &Value, name: &str, clock: &Arc<dyn Clock>) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this program"))
            .args(["member::a_member", "--exact", "--nocapture", "--test-threads=1"])
            .env(CONFIG, config.to_string())
            .env(WORKER, name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let heard = Heard::default();
        let (into, clock) = (Arc::clone(&heard), Arc::clone(clock));
        let lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let read = move || {
            for line in lines.map_while(Result::ok) {
                if let Some(news) = line.strip_prefix("news ") {
                    let news = serde_json::from_str(news).expect("json");
                    into.lock().unwrap_or_else(PoisonError::into_inner).push((clock.monotonic(), news));
                }
            }
        };
        std::thread::Builder::new().name("member".into()).spawn(read).expect("thread");
        let input = process.stdin.take();
        Self { name: name.to_owned(), process, input, heard, next_ticket: 1 }
    }

    /// All its news so far.
    pub(crate) fn heard(&self) -> Vec<Value> {
        self.heard_at().into_iter().map(|(_, news)| news).collect()
    }

    pub(crate) fn heard_at(&self) -> Vec<(Duration, Value)> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until there is news such as `wanted`, from the `from`th on; gives its place.
    pub(crate) fn wait_from(&self, from: usize, what: &str, wanted: impl Fn(&Value) -> bool) -> usize {
        wait_for(|| {
            let heard = self.heard();
            match heard.iter().skip(from).position(&wanted) {
                Some(at) => Ok(from + at),
                None => Err(format!("{} has no {what}: {:?}", self.name, &heard[heard.len().saturating_sub(12)..])),
            }
        })
    }

    pub(crate) fn wait(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> usize {
        self.wait_from(0, what, wanted)
    }

    /// Waits until it knows everything.
    pub(crate) fn caught_up(&self) -> usize {
        self.wait("caught up", |news| news["news"] == "caught_up")
    }

    /// The leases that are its own, as it was told.
    pub(crate) fn held(&self) -> BTreeSet<u64> {
        let mut held = BTreeSet::new();
        for news in self.heard() {
            match news["news"].as_str() {
                Some("granted") => held.extend(leases(&news)),
                Some("revoked") => held.retain(|lease| !leases(&news).contains(lease)),
                _ => {}
            }
        }
        held
    }

    /// Waits until it has so many leases.
    pub(crate) fn wait_held(&self, n_leases: usize) -> BTreeSet<u64> {
        wait_for(|| match self.held() {
            held if held.len() == n_leases => Ok(held),
            held => Err(format!("{} holds {held:?}, not {n_leases}", self.name)),
        })
    }

    /// Posts, and gives the ticket.
    pub(crate) fn post(&mut self, mut post: Value) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        post["ticket"] = ticket.into();
        self.say(&post);
        ticket
    }

    /// Posts, and waits for the answer: nothing where it was written, or why not.
    pub(crate) fn post_and_wait(&mut self, post: Value) -> Value {
        let ticket = self.post(post);
        let at = self.wait("answer", |news| news["news"] == "posted" && news["ticket"] == ticket);
        self.heard()[at]["error"].clone()
    }

    pub(crate) fn leave(&mut self) {
        self.say(&json!({ "post": "leave" }));
    }

    fn say(&mut self, line: &Value) {
        let input = self.input.as_mut().expect("it listens");
        writeln!(input, "{line}").and_then(|()| input.flush()).expect("it reads");
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("gone");
    }

    /// Ends it as a service ends, and waits until it has.
    pub(crate) fn end(&mut self) {
        self.input = None;
        assert!(self.process.wait().expect("gone").success());
    }

    /// `STOP` or `CONT`.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").args([&format!("-{signal}"), &pid]).status().expect("kill runs");
        assert!(sent.success(), "kill -{signal}");
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _it_may_be_gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

pub(crate) fn leases(news: &Value) -> BTreeSet<u64> {
    news["leases"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
}

/// Not a test of its own: what the child does.
#[test]
fn a_member() {
    let (Ok(config), Ok(worker)) = (std::env::var(CONFIG), std::env::var(WORKER)) else { return };
    let config: ClusterConfig = serde_json::from_str(&config).expect("configuration");
    let mut plane = KafkaPlane::open(&config, &worker, SystemClock::new()).expect("opens");
    let (said, lines) = queue("input", 4096, WhenFull::Block);
    let read = move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            said.send(line);
        }
    };
    std::thread::Builder::new().name("input".into()).spawn(read).expect("thread");
    // The harness has begun a line.
    writeln!(std::io::stdout().lock()).expect("the parent reads");
    let mut news = Vec::new();
    loop {
        plane.news(Duration::from_millis(5), &mut news);
        for news in news.drain(..) {
            writeln!(std::io::stdout().lock(), "news {}", to_json(&news)).expect("the parent reads");
        }
        match lines.recv_timeout(Duration::from_millis(5)) {
            Received::Item(line) => obey(&mut plane, &serde_json::from_str(&line).expect("json")),
            Received::TimedOut => {}
            Received::Closed => return,
        }
    }
}

fn obey(plane: &mut KafkaPlane, said: &Value) {
    let text = |key: &str| said[key].as_str().map(str::to_owned);
    let name = |key: &str| text(key).expect("text");
    let lease = || u32::try_from(said["lease"].as_u64().expect("a lease")).expect("small");
    let post = match said["post"].as_str().expect("post") {
        "leave" => return plane.leave(),
        "attachment" => Post::Attachment { lease: lease(), name: name("name"), text: text("text") },
        "checkpoint" => Post::Checkpoint { name: name("name"), text: text("text") },
        "worker" => Post::Worker { id: name("id"), text: text("text") },
        "claim" => Post::Claim { lease: lease(), worker: name("worker") },
        other => panic!("{other}"),
    };
    plane.post(said["ticket"].as_u64().expect("a ticket"), post);
}

fn to_json(news: &News) -> Value {
    match news {
        News::CaughtUp => json!({ "news": "caught_up" }),
        News::Attachment { lease, name, text } => {
            json!({ "news": "attachment", "lease": lease, "name": name, "text": text })
        }
        News::Checkpoint { name, text } => json!({ "news": "checkpoint", "name": name, "text": text }),
        News::Worker { id, text, at_ms } => json!({ "news": "worker", "id": id, "text": text, "at_ms": at_ms }),
        News::Claimed { lease, worker, epoch } => {
            json!({ "news": "claimed", "lease": lease, "worker": worker, "epoch": epoch })
        }
        News::Granted { leases } => json!({ "news": "granted", "leases": leases }),
        News::Revoked { leases, lost } => json!({ "news": "revoked", "leases": leases, "lost": lost }),
        News::Posted { ticket, outcome } => {
            json!({ "news": "posted", "ticket": ticket, "error": outcome.as_ref().err() })
        }
        News::Trouble(trouble) => json!({ "news": "trouble", "text": trouble }),
    }
}
