//! A page in a browser that watches: Media Source Extensions in a headless Chromium, driven by `tests/browser/live.cjs`.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::Value;

use crate::harness::{cache, wait_for};

/// The page.
pub(super) struct Watcher {
    child: Child,
    input: Option<ChildStdin>,
    events: Arc<Mutex<Vec<Value>>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Watcher {
    pub(super) fn open(url: &str) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/live.cjs");
        let mut command = Command::new("node");
        command.arg(script).arg(url).env("NODE_PATH", cache().join("browser/node_modules"));
        if let Some(path) = std::env::var_os("EYEWITNESS_TEST_SCREENSHOT") {
            command.arg(path);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("node");
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        let events = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&events);
        let read = move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                sink.lock().unwrap().push(serde_json::from_str(&line).unwrap_or(Value::String(line)));
            }
        };
        let reader = std::thread::Builder::new().name("browser".into()).spawn(read).unwrap();
        Self { child, input, events, reader: Some(reader) }
    }

    pub(super) fn of(&self, kind: &str) -> Vec<Value> {
        self.events.lock().unwrap().iter().filter(|e| e["event"] == kind).cloned().collect()
    }

    /// Waits for events; an error of the page ends the test.
    pub(super) fn wait<T>(&self, what: &str, probe: impl Fn(&Self) -> Option<T>) -> T {
        wait_for(what, || {
            let errors = self.of("error");
            assert!(errors.is_empty(), "{errors:?}");
            probe(self)
        })
    }

    /// Where it is by now: seconds of stream time, and pictures decoded since its session began.
    pub(super) fn at(&self) -> (f64, u64) {
        let last = self.of("at").pop().unwrap_or_default();
        (last["time"].as_f64().unwrap_or_default(), last["frames"].as_u64().unwrap_or_default())
    }

    /// Its last word: the size of the picture, and how late pictures were.
    pub(super) fn close(mut self) -> Value {
        drop(self.input.take());
        self.reader.take().unwrap().join().unwrap();
        assert!(self.child.wait().unwrap().success());
        self.of("end").pop().expect("the browser's last word")
    }
}

impl Drop for Watcher {
    #[expect(clippy::print_stderr, reason = "a test that fails tells what it saw")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let events = self.events.lock().unwrap();
            eprintln!("the browser's last words:");
            events.iter().rev().take(60).rev().for_each(|e| eprintln!("{e}"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
