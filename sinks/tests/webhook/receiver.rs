//! The receiver of `receiver.py` as a child process: starts it, kills it, reads what it wrote down.
//!
//! On the test's thread. Must never leave a process behind.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Value, json};

/// A secret in the standard's form, and the bytes of another as plain text.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub(crate) const OTHER_SECRET: &str = "whsec_b3RoZXItc2VjcmV0LW9mLXRoZS10ZXN0cw==";

/// One request, as it arrived.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Got {
    /// Seconds, of a clock that never goes backwards.
    pub(crate) at: f64,
    /// The port that it came from.
    pub(crate) connection: u16,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
    /// Of the records in it.
    pub(crate) ids: Vec<String>,
    /// Whether a signature was asked for, and right.
    pub(crate) signed: bool,
    /// How it was answered.
    pub(crate) step: Value,
}

impl Got {
    pub(crate) fn was_taken(&self) -> bool {
        self.step["status"] == 204
    }
}

/// Running or killed. Killed when dropped.
pub(crate) struct Receiver {
    child: Option<Child>,
    port: u16,
    log: PathBuf,
    /// What it is started with.
    config: Value,
}

impl Receiver {
    /// Starts one that keeps its log in `folder`; `config` is as `receiver.py` says.
    pub(crate) fn start(folder: &Path, config: Value) -> Self {
        let log = folder.join("received.jsonl");
        let mut receiver = Self { child: None, port: 0, log, config };
        receiver.launch();
        receiver
    }

    /// On the same port, with what is left of no script.
    pub(crate) fn restart(&mut self) {
        self.config["script"] = json!([]);
        self.launch();
    }

    fn launch(&mut self) {
        let mut config = self.config.clone();
        config["log"] = json!(self.log);
        config["port"] = json!(self.port);
        let python = cache().join("test-venv/bin/python");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/webhook/receiver.py");
        let mut child = Command::new(&python)
            .args([script, &config.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; run `make setup-test`", python.display()));
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("its port");
        self.port = line.trim().parse().unwrap_or_else(|_| panic!("the receiver did not start; run `make setup-test`"));
        self.child = Some(child);
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill");
            child.wait().expect("wait");
        }
    }

    /// With its path.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.config.get("keystore").is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}/hook", self.port)
    }

    /// All requests so far.
    pub(crate) fn got(&self) -> Vec<Got> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a line of the log")).collect()
    }

    /// Waits for `n` requests.
    pub(crate) fn wait_for(&self, n: usize) -> Vec<Got> {
        for _ in 0..3000 {
            let got = self.got();
            if got.len() >= n {
                return got;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{} requests after 30 s, not {n}", self.got().len());
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.kill();
    }
}

fn cache() -> PathBuf {
    let var = |name| std::env::var_os(name).map(PathBuf::from);
    var("EYEWITNESS_CACHE").unwrap_or_else(|| {
        var("XDG_CACHE_HOME").unwrap_or_else(|| var("HOME").expect("HOME").join(".cache")).join("eyewitness")
    })
}
