//! Starts the real binary, a real camera process, and reads what they write. Waits for conditions, never for a time to pass.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use base::time::SystemClock;
use serde_json::Value;
use tempfile::TempDir;

/// The bundled clip: 400 frames of 768x576 at 10 a second, with speech.
pub(crate) const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/media/demo.mp4");

/// Longest wait for anything: only ever reached by a failing test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until `what` gives a value. A machine that stood still for a minute, as virtual ones do, costs little patience.
pub(crate) fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    const LONGEST_TURN: Duration = Duration::from_secs(10);
    let (clock, mut waited) = (SystemClock::new(), Duration::ZERO);
    while waited < PATIENCE {
        let begun = clock.monotonic();
        if let Some(value) = probe() {
            return value;
        }
        thread::sleep(Duration::from_millis(50));
        waited += clock.monotonic().saturating_sub(begun).min(LONGEST_TURN);
    }
    panic!("waited {PATIENCE:?} in vain for {what}")
}

/// For tests that want all of the machine: one at a time, or they starve each other's models and deadlines.
pub(crate) fn whole_machine() -> std::sync::MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    MACHINE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A folder of its own for one test, and the processes it starts in there.
pub(crate) struct Scene {
    dir: TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file and gives its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// A command of the binary under test, in this folder.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_eyewitness"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .env("NO_COLOR", "1")
            .env_remove("RUST_LOG");
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Done {
        Done::from(self.command(args).output().unwrap())
    }

    /// Starts the service on a configuration and the file sink `events.jsonl`.
    pub(crate) fn service(&self, config: &str) -> Process {
        let config = format!("{config}\n[sinks.file]\ntype = \"file\"\npath = \"events.jsonl\"\n");
        self.file("eyewitness.toml", config);
        Process::start(self.command(&["run", "--log", "debug"]))
    }

    /// The whole records written so far; a line still being written is left out.
    pub(crate) fn records(&self, name: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}"))).collect()
    }

    /// Waits until the service's records satisfy `enough`.
    pub(crate) fn wait_for_records(&self, what: &str, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        wait_for(what, || Some(self.records("events.jsonl")).filter(|r| enough(r)))
    }
}

/// A command that has ended.
pub(crate) struct Done {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Done {
    /// Checks the exit code, showing the output when it is another.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Checks that standard error says all of this.
    #[track_caller]
    pub(crate) fn complains(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "`{part}` is missing in:\n{}", self.stderr);
        }
        self
    }
}

/// A process that runs beside the test; killed when dropped. Of a test that fails, the last it printed is shown.
pub(crate) struct Process {
    child: Child,
    output: Arc<Mutex<String>>,
    readers: Vec<thread::JoinHandle<()>>,
}

impl Process {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let output = Arc::new(Mutex::new(String::new()));
        let streams: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        let readers = streams
            .into_iter()
            .map(|stream| {
                let output = Arc::clone(&output);
                thread::Builder::new()
                    .spawn(move || {
                        for line in BufReader::new(stream).lines().map_while(Result::ok) {
                            let mut output = output.lock().unwrap();
                            output.push_str(&line);
                            output.push('\n');
                        }
                    })
                    .unwrap()
            })
            .collect();
        Self { child, output, readers }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything printed so far, standard output and standard error.
    pub(crate) fn output(&self) -> String {
        self.output.lock().unwrap().clone()
    }

    /// Waits for a line that begins like this.
    pub(crate) fn line(&self, begins: &str) -> String {
        wait_for(begins, || self.output().lines().find(|l| l.starts_with(begins)).map(str::to_owned))
    }

    /// Waits until the HTTP service listens; gives its address, `127.0.0.1:PORT`.
    pub(crate) fn http_address(&self) -> String {
        wait_for("the address of the HTTP service", || {
            let output = self.output();
            let line = output.lines().find(|line| line.contains("the HTTP service listens"))?.to_owned();
            Some(line.split("address=").nth(1)?.split_whitespace().next()?.to_owned())
        })
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status().unwrap();
        assert!(sent.success(), "kill -{name}");
    }

    /// Waits for the end; gives the exit code and all output.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let status = wait_for("the end of a process", || self.child.try_wait().unwrap());
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        (status.code(), self.output())
    }

    /// SIGTERM, then as [`Self::end`].
    pub(crate) fn terminate(self) -> (Option<i32>, String) {
        self.signal("TERM");
        self.end()
    }
}

impl Drop for Process {
    #[expect(clippy::print_stderr, reason = "what a failing test shows")]
    fn drop(&mut self) {
        let _ = self.child.kill();
        let ended = self.child.wait();
        if thread::panicking() {
            let output = self.output();
            let lines: Vec<&str> = output.lines().collect();
            let last = &lines[lines.len().saturating_sub(40)..];
            eprintln!("-- process {} ({ended:?}) printed at last:\n{}\n--", self.pid(), last.join("\n"));
        }
    }
}

/// An RTSP camera in a process of its own, which plays the bundled clip for ever.
pub(crate) struct CameraProcess {
    process: Process,
    pub(crate) port: u16,
    url: String,
}

impl CameraProcess {
    pub(crate) fn start(scene: &Scene, args: &[&str], user: Option<&str>) -> Self {
        Self::start_on(scene, 0, args, user)
    }

    /// On a given port, so that a camera can come back where it was.
    pub(crate) fn start_on(scene: &Scene, port: u16, args: &[&str], user: Option<&str>) -> Self {
        let listen = format!("127.0.0.1:{port}");
        let mut command = scene.command(&["camera", CLIP, "--listen", &listen]);
        command.args(args);
        if let Some(user) = user {
            command.env("EYEWITNESS_CAMERA_USER", user);
        }
        let process = Process::start(command);
        let line = process.line("rtsp");
        let url = url::Url::parse(&line).unwrap();
        Self { process, port: url.port().unwrap(), url: line }
    }

    /// Its URL, with `user:password` when given.
    pub(crate) fn url(&self, user: Option<&str>) -> String {
        match user {
            Some(user) => self.url.replacen("://", &format!("://{user}@"), 1),
            None => self.url.clone(),
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// `kill -9`, as a power cut would.
    pub(crate) fn kill(self) -> u16 {
        self.port
    }
}

/// Records of one type.
pub(crate) fn of_type<'a>(records: &'a [Value], kind: &str) -> Vec<&'a Value> {
    records.iter().filter(|r| r["type"] == kind).collect()
}

/// A record without the time at which a sink took it, which is the only thing that sinks do not agree on.
pub(crate) fn without_publication(record: &Value) -> Value {
    let mut record = record.clone();
    record.as_object_mut().unwrap().remove("published_at");
    record
}

/// Fails unless every record fits the schema of its type, and ids do not repeat.
#[track_caller]
pub(crate) fn assert_valid(records: &[Value]) {
    let validators: BTreeMap<String, jsonschema::Validator> = sinks::wire::schemas()
        .into_iter()
        .map(|(name, text)| {
            let kind = name.split('.').next().unwrap().to_owned();
            (kind, jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap())
        })
        .collect();
    let mut ids = std::collections::HashSet::new();
    for record in records {
        let kind = record["type"].as_str().unwrap();
        let validator = validators.get(kind).unwrap_or_else(|| panic!("no schema for {kind}"));
        let errors: Vec<String> =
            validator.iter_errors(record).map(|e| format!("{e} at {}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{errors:?} in {record}");
        assert!(ids.insert(record["id"].as_str().unwrap()), "id twice: {record}");
    }
}

/// A free TCP port. Another process may take it before it is used; only for servers that cannot choose one themselves.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Runs a tool of the set-up (gst-launch-1.0, python3) beside the test.
pub(crate) fn tool(program: &str, args: &[String], dir: &Path) -> Process {
    let mut command = Command::new(program);
    command.args(args).current_dir(dir).stdin(Stdio::null());
    Process::start(command)
}

/// Where `make setup-test` puts what tests need.
pub(crate) fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/eyewitness");
    let shared = || std::env::var_os("XDG_CACHE_HOME").map(|dir| PathBuf::from(dir).join("eyewitness"));
    std::env::var_os("EYEWITNESS_CACHE").map(PathBuf::from).or_else(shared).unwrap_or_else(home)
}

/// Python with the packages of `make setup-test`.
pub(crate) fn python() -> PathBuf {
    let python = cache().join("test-venv/bin/python");
    assert!(python.exists(), "{} is missing: run `make setup-test`", python.display());
    python
}
