//! The endpoint against a small HTTP server in this process, which does what each test says.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

use base::{
    ledger::DropReason,
    media::SessionId,
    time::{Pts, SystemClock},
};
use parking_lot::Condvar;

use super::*;

/// Status line and headers, and the body.
type Reply = (&'static str, String);

const BOX: &str = r#"{"prediction":[[0,0.9,0.25,0.5,0.75,1.0],[1,0.2,0,0,1,1]]}"#;

/// Gives each request, counted from 0, to `reply`, on a thread of its own. Ends with the process.
fn server(reply: impl Fn(u64) -> Reply + Send + Sync + 'static) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("port");
    let (address, reply) = (listener.local_addr().expect("address"), Arc::new(reply));
    let n_requests = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&n_requests);
    spawn("server", move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (reply, counter) = (Arc::clone(&reply), Arc::clone(&counter));
            spawn("connection", move || serve(stream, &*reply, &counter)).expect("thread");
        }
    })
    .expect("thread");
    (address, n_requests)
}

fn serve(mut stream: TcpStream, reply: &dyn Fn(u64) -> Reply, counter: &AtomicU64) {
    let mut reader = BufReader::new(stream.try_clone().expect("clone"));
    loop {
        let mut length = 0;
        let mut line = String::new();
        loop {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("length");
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("body");
        assert!(body.starts_with(&[0xff, 0xd8]), "no JPEG");
        let (head, text) = reply(counter.fetch_add(1, SeqCst));
        let answer = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{text}", text.len());
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn ok(body: &str) -> Reply {
    ("200 OK\r\nContent-Type: application/json", body.to_owned())
}

fn config(address: SocketAddr) -> EndpointConfig {
    let classes = ["person", "car"].map(str::to_owned).to_vec();
    EndpointConfig { classes, ..EndpointConfig::new(format!("http://{address}/invocations"), Protocol::Sagemaker) }
}

fn frame(index: u64) -> Frame {
    let data = vec![77; 16 * 8 * 3].into();
    Frame {
        session: SessionId::derived([]),
        index,
        pts: Pts::from_millis(index * 100),
        captured: None,
        decoded_at: Duration::ZERO,
        source_width: 160,
        source_height: 80,
        image: Image { width: 16, height: 8, stride: 48, format: PixelFormat::Rgb8, data },
    }
}

type Record = Arc<(Mutex<Vec<(u64, Seen)>>, Condvar)>;

fn lane(engine: &RemoteEngine, policy: LanePolicy, filter: &DetectionFilter) -> (RemoteLane, Ledger, Record) {
    let (ledger, record) = (Ledger::default(), Record::default());
    let into = Arc::clone(&record);
    let on_seen: OnSeen = Box::new(move |frame, seen| {
        into.0.lock().push((frame.index, seen));
        into.1.notify_all();
    });
    let name = StreamName::new("cam").expect("name");
    (engine.lane(name, policy, ledger.clone(), filter, on_seen).expect("lane"), ledger, record)
}

fn start(config: &EndpointConfig) -> RemoteEngine {
    RemoteEngine::start(config, SystemClock::new()).expect("endpoint")
}

fn submit(lane: &RemoteLane, ledger: &Ledger, frames: std::ops::Range<u64>) {
    for index in frames {
        ledger.decoded();
        lane.submit(frame(index));
    }
}

#[test]
fn boxes_come_in_source_pixels_and_as_the_stream_wants_them() {
    let (address, _) = server(|_| ok(BOX));
    let check = |filter: DetectionFilter, expected: &[(&str, [f32; 4])]| {
        let engine = start(&config(address));
        let (lane, ledger, record) = lane(&engine, LanePolicy::Block, &filter);
        submit(&lane, &ledger, 0..1);
        lane.drain();
        let record = record.0.lock();
        let got: Vec<(&str, [f32; 4])> = record[0]
            .1
            .detections
            .iter()
            .map(|d| (&*d.class, [d.box_in_image.x, d.box_in_image.y, d.box_in_image.width, d.box_in_image.height]))
            .collect();
        assert_eq!(got, expected, "{filter:?}");
        assert_eq!(record[0].1.answer.as_ref().expect("answer").body, BOX);
    };
    let (person, car) = (("person", [40.0, 40.0, 80.0, 40.0]), ("car", [0.0, 0.0, 160.0, 80.0]));
    check(DetectionFilter::default(), &[person]);
    check(DetectionFilter { score: Some(0.1), ..Default::default() }, &[person, car]);
    check(DetectionFilter { low_score: Some(0.1), ..Default::default() }, &[person, car]);
    check(DetectionFilter { classes: vec!["car".into()], score: Some(0.1), ..Default::default() }, &[car]);
    check(DetectionFilter { score: Some(0.95), ..Default::default() }, &[]);
    let wrong = DetectionFilter { classes: vec!["persn".into()], ..Default::default() };
    let error = config(address).thresholds(&wrong).expect_err("unknown").to_string();
    assert!(error.contains("knows no class `persn`, did you mean `person`?"), "{error}");
}

#[test]
fn results_come_in_order_however_long_each_takes() {
    // Every fourth answer comes late.
    let (address, _) = server(|n| {
        if n % 4 == 0 {
            thread::sleep(Duration::from_millis(40));
        }
        ok(BOX)
    });
    let engine = start(&EndpointConfig { concurrency: 8, ..config(address) });
    let (lane, ledger, record) = lane(&engine, LanePolicy::Block, &DetectionFilter::default());
    submit(&lane, &ledger, 0..60);
    lane.drain();
    let order: Vec<u64> = record.0.lock().iter().map(|(index, _)| *index).collect();
    assert_eq!(order, (0..60).collect::<Vec<_>>());
    assert_eq!((ledger.read().n_inferred, ledger.read().n_in_flight()), (60, 0));
}

#[test]
fn what_may_pass_is_tried_again() {
    let check = |head: &'static str, retries: u32, n_requests: u64, expected: Result<(), DropReason>| {
        let (address, counter) = server(move |n| if n < 2 { (head, "try again".into()) } else { ok(BOX) });
        let engine = start(&EndpointConfig { retries, ..config(address) });
        let (lane, ledger, _) = lane(&engine, LanePolicy::Block, &DetectionFilter::default());
        submit(&lane, &ledger, 0..1);
        lane.drain();
        assert_eq!(counter.load(SeqCst), n_requests, "{head}");
        let reading = ledger.read();
        assert_eq!(reading.n_in_flight(), 0);
        match expected {
            Ok(()) => assert_eq!(reading.n_inferred, 1, "{head}"),
            Err(reason) => assert_eq!(reading.dropped(reason), 1, "{head}"),
        }
    };
    check("500 Internal Server Error", 2, 3, Ok(()));
    check("503 Service Unavailable\r\nRetry-After: 1", 2, 3, Ok(()));
    check("429 Too Many Requests", 1, 2, Err(DropReason::InferenceFailed));
    check("400 Bad Request", 5, 1, Err(DropReason::InferenceFailed));
    check("302 Found\r\nLocation: /", 5, 1, Err(DropReason::InferenceFailed));
    check("200 OK", 5, 1, Err(DropReason::InferenceFailed));
}

#[test]
fn nobody_there() {
    let free = TcpListener::bind("127.0.0.1:0").expect("port").local_addr().expect("address");
    let engine = start(&EndpointConfig { retries: 1, ..config(free) });
    let (lane, ledger, record) = lane(&engine, LanePolicy::Block, &DetectionFilter::default());
    submit(&lane, &ledger, 0..5);
    lane.drain();
    assert_eq!(ledger.read().dropped(DropReason::InferenceFailed), 5);
    assert!(record.0.lock().is_empty());
}

#[test]
fn too_long_an_answer_is_refused() {
    let (address, counter) = server(|_| ok(&"x".repeat(2000)));
    let config = EndpointConfig { protocol: Protocol::Raw, ..config(address) };
    for (max_answer_bytes, n_inferred) in [(1999, 0), (2000, 1)] {
        let engine = start(&EndpointConfig { max_answer_bytes, ..config.clone() });
        let (lane, ledger, record) = lane(&engine, LanePolicy::Block, &DetectionFilter::default());
        submit(&lane, &ledger, 0..1);
        lane.drain();
        assert_eq!(ledger.read().n_inferred, n_inferred);
        assert_eq!(ledger.read().dropped(DropReason::InferenceFailed), 1 - n_inferred);
        assert!(record.0.lock().iter().all(|(_, seen)| seen.answer.as_ref().is_some_and(|a| a.is_result)));
    }
    assert_eq!(counter.load(SeqCst), 2);
}

/// A gate that holds all answers back until it is opened.
#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn pass(&self) {
        let mut open = self.0.lock();
        while !*open {
            self.1.wait(&mut open);
        }
    }

    fn open(&self) {
        *self.0.lock() = true;
        self.1.notify_all();
    }
}

#[test]
fn a_slow_server_costs_the_oldest_frames_of_the_flood_only() {
    let gate = Arc::new(Gate::default());
    let at_gate = Arc::clone(&gate);
    let (address, counter) = server(move |_| {
        at_gate.pass();
        ok(BOX)
    });
    let engine = start(&EndpointConfig { queue: 4, concurrency: 1, ..config(address) });
    let (flood, flood_ledger, flood_record) = lane(&engine, LanePolicy::Latest, &DetectionFilter::default());
    let (calm, calm_ledger, calm_record) = lane(&engine, LanePolicy::Latest, &DetectionFilter::default());
    // One at a time, so that each is encoded before the next comes; the first is out and held at the gate.
    let submit_encoded = |lane: &RemoteLane, ledger: &Ledger, index| {
        submit(lane, ledger, index..index + 1);
        while engine.lanes.is_encoding() {
            thread::yield_now();
        }
    };
    submit_encoded(&flood, &flood_ledger, 0);
    while counter.load(SeqCst) == 0 && engine.probe()().n_items > 0 {
        thread::yield_now();
    }
    for index in 1..10 {
        submit_encoded(&flood, &flood_ledger, index);
    }
    submit_encoded(&calm, &calm_ledger, 0);
    let reading = engine.probe()();
    assert_eq!((reading.n_items, reading.capacity, reading.n_dropped), (4, 4, 6));
    gate.open();
    flood.drain();
    calm.drain();
    let order = |record: &Record| record.0.lock().iter().map(|(index, _)| *index).collect::<Vec<_>>();
    assert_eq!(order(&flood_record), [0, 7, 8, 9]);
    assert_eq!(order(&calm_record), [0]);
    assert_eq!(flood_ledger.read().dropped(DropReason::Superseded), 6);
    assert_eq!((flood_ledger.read().n_in_flight(), calm_ledger.read().n_in_flight()), (0, 0));
}

#[test]
fn what_is_given_up_is_counted_once_and_nobody_waits_for_the_server() {
    let gate = Arc::new(Gate::default());
    let at_gate = Arc::clone(&gate);
    let (address, counter) = server(move |_| {
        at_gate.pass();
        ok(BOX)
    });
    let engine = start(&EndpointConfig { concurrency: 2, ..config(address) });
    let (given_up, given_up_ledger, record) = lane(&engine, LanePolicy::Block, &DetectionFilter::default());
    let (stopped, stopped_ledger, _) = lane(&engine, LanePolicy::Block, &DetectionFilter::default());
    submit(&given_up, &given_up_ledger, 0..5);
    while counter.load(SeqCst) < 2 {
        thread::yield_now();
    }
    drop(given_up);
    submit(&stopped, &stopped_ledger, 0..3);
    engine.shutdown();
    submit(&stopped, &stopped_ledger, 3..4);
    stopped.drain();
    gate.open();
    assert_eq!(given_up_ledger.read().dropped(DropReason::Shutdown), 5);
    assert_eq!(stopped_ledger.read().dropped(DropReason::Shutdown), 4);
    assert!(record.0.lock().is_empty());
    assert_eq!((given_up_ledger.read().n_in_flight(), stopped_ledger.read().n_in_flight()), (0, 0));
}
