//! A player in a headless Chromium: one of the scripts in `tests/browser`.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::Value;

use crate::harness::{cache, wait_for};

/// A script that tells what its page sees, one JSON object a line.
pub(crate) struct Browser {
    child: Child,
    input: Option<ChildStdin>,
    events: Arc<Mutex<Vec<Value>>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Browser {
    /// Opens an address with `hls.cjs` or `live.cjs`.
    pub(crate) fn open(script: &str, url: &str) -> Self {
        let script = format!("{}/tests/browser/{script}", env!("CARGO_MANIFEST_DIR"));
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

    /// What it has told of this kind.
    pub(crate) fn of(&self, kind: &str) -> Vec<Value> {
        self.events.lock().unwrap().iter().filter(|e| e["event"] == kind).cloned().collect()
    }

    /// Waits for events; a fatal error of the player ends the test.
    pub(crate) fn wait<T>(&self, what: &str, probe: impl Fn(&Self) -> Option<T>) -> T {
        wait_for(what, || {
            let fatal: Vec<Value> = self.of("error").into_iter().filter(|e| e["fatal"] == true).collect();
            assert!(fatal.is_empty(), "{fatal:?}");
            probe(self)
        })
    }

    /// Where pictures and sound are by now: seconds, pictures, bytes.
    pub(crate) fn at(&self) -> (f64, u64, u64) {
        let last = self.of("at").pop().unwrap_or_default();
        (
            last["time"].as_f64().unwrap_or_default(),
            last["frames"].as_u64().unwrap_or_default(),
            last["sound"].as_u64().unwrap_or_default(),
        )
    }

    /// Its last word.
    pub(crate) fn close(mut self) -> Value {
        drop(self.input.take());
        self.reader.take().unwrap().join().unwrap();
        assert!(self.child.wait().unwrap().success());
        self.of("end").pop().expect("the browser's last word")
    }
}

impl Drop for Browser {
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
