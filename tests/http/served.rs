//! The service in this process, fed with real events, and strangers that read it.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use base::{
    event::{Body, Caption, Event, ModelId, Transcript, Word},
    media::{SessionId, StreamInfo, StreamName},
    time::{Pts, SystemClock},
};
use eyewitness::{
    control::desk::Board,
    evidence::AlertDesk,
    feed::{Feed, FeedOptions},
    history::History,
    http::{AppState, HouseView, HttpConfig, HttpServer, SpeechPort, control::Control, serve},
    metrics::Scrape,
};
use serde_json::Value;

use crate::harness::{PATIENCE, Process, cache, python, wait_for};

pub(crate) const TOKEN: &str = "a-token-of-the-tests";

/// Answers for the rest of the house.
#[derive(Default)]
pub(crate) struct Rest {
    pub(crate) ready: AtomicBool,
}

impl HouseView for Rest {
    fn ready(&self) -> Result<(), String> {
        if self.ready.load(Relaxed) { Ok(()) } else { Err("model `x` is being loaded".into()) }
    }

    fn speech_lag(&self, _stream: &str) -> Option<Duration> {
        Some(Duration::from_millis(320))
    }

    fn scrape(&self, out: &mut Scrape) {
        out.speech_lag("cam", Duration::from_millis(320));
    }
}

/// What the service serves in tests.
pub(crate) fn app(feed: &Feed, rest: &Arc<Rest>, speech: Option<Arc<dyn SpeechPort>>) -> AppState {
    AppState {
        feed: feed.clone(),
        views: Default::default(),
        house: Arc::clone(rest) as _,
        speech,
        alerts: None,
        history: None,
        desk: AlertDesk::in_memory(SystemClock::new()),
        folders: Vec::new(),
        control: Control::default(),
        clock: SystemClock::new(),
        playlist: Some("/v1/streams/{name}/hls/master.m3u8"),
        extra: axum::Router::new()
            .route("/extra", axum::routing::get(async || "extra\n"))
            .route("/v1/streams/{name}/hls/{file}", axum::routing::get(async || "a playlist\n")),
        extra_routes: &[],
    }
}

/// A running service with the streams `cam` and `hall`.
pub(crate) struct Served {
    pub(crate) feed: Feed,
    pub(crate) board: Arc<Board>,
    pub(crate) rest: Arc<Rest>,
    pub(crate) addr: SocketAddr,
    server: HttpServer,
}

impl Served {
    pub(crate) fn start(json: &str) -> Self {
        Self::with(json, None)
    }

    /// `json`: the configuration, without `listen`.
    pub(crate) fn with(json: &str, speech: Option<Arc<dyn SpeechPort>>) -> Self {
        Self::built(json, speech, Control::default())
    }

    /// Something can be attached to it.
    pub(crate) fn controlled(json: &str, control: Control) -> Self {
        Self::built(json, None, control)
    }

    /// With a history to be asked.
    pub(crate) fn remembering(history: History) -> Self {
        Self::assembled("{}", |app| AppState { history: Some(history), ..app })
    }

    fn built(json: &str, speech: Option<Arc<dyn SpeechPort>>, control: Control) -> Self {
        Self::assembled(json, |app| AppState { control, speech, ..app })
    }

    fn assembled(json: &str, complete: impl FnOnce(AppState) -> AppState) -> Self {
        let mut config: HttpConfig = serde_json::from_str(json).unwrap();
        config.listen.set_port(0);
        let feed = Feed::new(FeedOptions { n_records: config.feed_records, clock: SystemClock::new() });
        feed.attach(stream("cam"));
        feed.attach(stream("hall"));
        let rest = Arc::new(Rest::default());
        let app = complete(app(&feed, &rest, None));
        let board = Arc::clone(&app.control.board);
        let server = serve(&config, app).unwrap();
        Self { feed, board, rest, addr: server.local_addr(), server }
    }

    pub(crate) fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://{}{path}", self.addr)
    }

    pub(crate) fn publish(&self, event: Event) -> String {
        let id = event.id.clone();
        self.feed.publish(&Arc::new(event));
        id
    }

    /// Publishes final captions with these numbers; gives their ids.
    pub(crate) fn captions(&self, numbers: std::ops::Range<u64>) -> Vec<String> {
        numbers.map(|n| self.publish(caption("cam", n, 0, true, &format!("line {n}")))).collect()
    }

    pub(crate) fn n_readers(&self) -> usize {
        self.feed.streams().iter().map(|s| s.tape.n_readers()).sum()
    }

    pub(crate) fn wait_for_readers(&self, n: usize) {
        wait_for("readers", || (self.n_readers() == n).then_some(()));
    }

    pub(crate) fn stop(self) {
        self.server.stop(PATIENCE);
    }

    pub(crate) fn stop_within(self, grace: Duration) {
        self.server.stop(grace);
    }

    /// One request over a connection of its own, written by hand.
    pub(crate) fn ask(&self, target: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask_with("GET", target, headers)
    }

    pub(crate) fn ask_with(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
        self.ask_body(method, target, headers, "")
    }

    pub(crate) fn ask_body(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let (answer, body) = self.ask_bytes(method, target, headers, body);
        Answer { body: answer.decoded(body), ..answer }
    }

    /// The head of the answer, and what follows it as it came.
    pub(crate) fn ask_bytes(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> (Answer, Vec<u8>) {
        let mut connection = self.send_body(method, target, headers, body);
        let answer = Answer::read_head(&mut connection);
        let mut body = Vec::new();
        connection.read_to_end(&mut body).unwrap();
        (answer, body)
    }

    /// Sends a request and leaves the answer to the caller. `Host` is what a browser here would say, unless given.
    pub(crate) fn send(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> BufReader<TcpStream> {
        self.send_body(method, target, headers, "")
    }

    pub(crate) fn send_body(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> BufReader<TcpStream> {
        let mut connection = TcpStream::connect(self.addr).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut head = format!("{method} {target} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head += &format!("Host: localhost:{}\r\n", self.addr.port());
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        connection.write_all((head + "\r\n" + body).as_bytes()).unwrap();
        BufReader::new(connection)
    }

    /// A WebSocket's or an event stream's reader in a process of its own.
    pub(crate) fn follow(&self, way: &str, path: &str, args: &[&str]) -> Follower {
        let scheme = if way == "ws" { "ws" } else { "http" };
        Follower::start(&[&[way, &self.url(scheme, path)], args].concat())
    }
}

/// An answer, read by hand.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn read_head(connection: &mut BufReader<TcpStream>) -> Self {
        let mut lines = connection.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty());
        let first = lines.next().unwrap();
        let status = first.split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(": ").map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned())).unwrap())
            .collect();
        Self { status, headers, body: String::new() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    fn decoded(&self, body: Vec<u8>) -> String {
        if self.header("transfer-encoding") != Some("chunked") {
            return String::from_utf8(body).unwrap();
        }
        let (mut rest, mut whole) = (&body[..], Vec::new());
        while let Some(end) = rest.windows(2).position(|w| w == b"\r\n") {
            let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
            whole.extend_from_slice(&rest[end + 2..end + 2 + size]);
            rest = &rest[end + 2 + size + 2..];
        }
        String::from_utf8(whole).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e} in {self:?}"))
    }

    /// Checks the status, and that the error says all of this.
    #[track_caller]
    pub(crate) fn refuses(&self, status: u16, parts: &[&str]) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        let json = self.json();
        let error = json["error"].as_str().unwrap();
        for part in parts {
            assert!(error.contains(part), "`{part}` is missing in: {error}");
        }
    }
}

/// `tests/clients/follow.py`, running.
pub(crate) struct Follower(Process);

impl Follower {
    /// Another client that writes one JSON line for everything it gets.
    pub(crate) fn of(process: Process) -> Self {
        Self(process)
    }

    pub(crate) fn start(args: &[&str]) -> Self {
        let mut command = Command::new(python());
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/follow.py")).args(args).stdin(Stdio::null());
        Self(Process::start(command))
    }

    /// `tests/clients/page.cjs`: our page, in a browser.
    pub(crate) fn browser(url: &str) -> Self {
        let mut command = Command::new("node");
        command
            .args([concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/page.cjs"), url, TOKEN])
            .env("NODE_PATH", cache().join("browser/node_modules"))
            .stdin(Stdio::null());
        Self(Process::start(command))
    }

    /// Everything it got so far.
    pub(crate) fn told(&self) -> Vec<Value> {
        let output = self.0.output();
        let whole = output.rfind('\n').map_or("", |end| &output[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{output}"))).collect()
    }

    /// Waits until it has got something of this kind: `open`, `status`, `closed`.
    pub(crate) fn wait_for(&self, key: &str) -> Value {
        wait_for(key, || self.told().into_iter().find(|t| t.get(key).is_some()))
    }

    /// Waits until it is connected.
    pub(crate) fn opened(self) -> Self {
        self.wait_for("open");
        self
    }

    /// The records it got so far.
    pub(crate) fn records(&self) -> Vec<Value> {
        let text = |t: &Value| t["data"].as_str().or(t["message"].as_str()).map(str::to_owned);
        self.told().iter().filter_map(text).map(|t| serde_json::from_str(&t).unwrap()).collect()
    }

    /// Waits for this many records and gives them.
    pub(crate) fn wait_for_records(&self, n: usize) -> Vec<Value> {
        wait_for(&format!("{n} records"), || Some(self.records()).filter(|r| r.len() >= n))
    }

    pub(crate) fn pause(&self) {
        self.0.signal("STOP");
    }

    pub(crate) fn resume(&self) {
        self.0.signal("CONT");
    }
}

/// The ids of records.
pub(crate) fn ids(records: &[Value]) -> Vec<&str> {
    records.iter().map(|r| r["id"].as_str().unwrap_or("lost")).collect()
}

pub(crate) fn session() -> SessionId {
    SessionId::derived([b"http".as_slice()])
}

pub(crate) fn stream(name: &str) -> Arc<StreamInfo> {
    let tags = [("site".to_owned(), "north".to_owned())].into();
    Arc::new(StreamInfo { name: StreamName::new(name).unwrap(), tags, epoch: None })
}

/// An event of `stream` in our session.
pub(crate) fn event(name: &str, number: u64, body: Body) -> Event {
    Event::new(&stream(name), &session(), number, Pts::from_millis(number * 10), None, body)
}

/// Revision `revision` of the cue of this number; without text it is taken back.
pub(crate) fn caption(name: &str, number: u64, revision: u32, is_final: bool, text: &str) -> Event {
    let body = Body::Caption(Caption {
        cue: format!("{}-cue-{number}", session()),
        revision,
        start: Pts::from_millis(number * 1000),
        end: Pts::from_millis(number * 1000 + 900),
        lines: if text.is_empty() { Vec::new() } else { vec![text.to_owned()] },
        is_final,
        language: Some("en".into()),
        segment: format!("{}-segment-{number}", session()),
    });
    event(name, number * 10 + u64::from(revision), body)
}

pub(crate) fn transcript(name: &str, number: u64, text: &str) -> Event {
    let word = |(i, text): (usize, &str)| Word {
        text: text.to_owned(),
        start: Pts::from_millis(number * 1000 + i as u64 * 100),
        end: Pts::from_millis(number * 1000 + i as u64 * 100 + 100),
        confidence: 0.9,
        stable: true,
    };
    let body = Body::Transcript(Transcript {
        segment: format!("{}-segment-{number}", session()),
        revision: 0,
        is_final: true,
        start: Pts::from_millis(number * 1000),
        end: Pts::from_millis(number * 1000 + 900),
        text: text.to_owned(),
        words: text.split(' ').enumerate().map(word).collect(),
        language: Some("en".into()),
        translated: false,
        speaker: None,
        channel: None,
        model: Arc::new(ModelId { name: "whisper-tiny.en".into(), version: "0".repeat(8) }),
    });
    event(name, number, body)
}
