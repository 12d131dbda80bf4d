//! Streams come and go while the house runs: nobody is disturbed, nothing is left behind, and whoever takes a stream over
//! tells what was missed.

use std::{collections::BTreeMap, net::TcpListener, time::Duration};

use base::{
    media::{SessionId, StreamName},
    time::{ManualClock, Pts, SystemClock, Timestamp},
};
use eyewitness::{
    config,
    control::{
        fence::Fence,
        stage::{Earlier, Stage as _, Start, StreamReading},
    },
    http::HouseView as _,
    metrics::Scrape,
    topology::{House, HouseStage, ModelSettings, Running},
};
use serde_json::Value;
use sinks::{SinkConfig, file::FileConfig};

use crate::harness::{Scene, assert_valid, of_type, wait_for};

/// A real house with two file sinks, `events` and `other`.
struct Stand {
    scene: Scene,
    house: House,
    stage: HouseStage,
}

impl Stand {
    fn new() -> Self {
        let scene = Scene::new();
        ingest::init().unwrap();
        inference::runtime::init().unwrap();
        let mut house = House::new(ModelSettings::default(), SystemClock::new());
        let file = |name: &str| SinkConfig::File(FileConfig::new(scene.path(&format!("{name}.jsonl"))));
        let sinks = BTreeMap::from(["events", "other"].map(|name| (name.to_owned(), file(name))));
        house.connect(&sinks, &Running::Live, None, Duration::from_secs(10)).unwrap();
        let stage = house.stage();
        Self { scene, house, stage }
    }

    /// Starts the one stream of this configuration.
    fn start(&mut self, text: &str, epoch: Option<u64>, earlier: Option<Earlier>) -> Result<(), String> {
        let text = format!(
            "{text}\n[sinks.events]\ntype = 'file'\npath = 'a.jsonl'\n[sinks.other]\ntype = 'file'\npath = 'b.jsonl'\n"
        );
        let checked = config::parse("test.toml", &text, &|_| None).map_err(|p| p.to_string()).unwrap();
        let stream = checked.streams.into_iter().next().unwrap();
        self.stage.start(Start { stream, epoch, earlier })
    }

    fn reading(&mut self, name: &str) -> Option<StreamReading> {
        self.stage.readings().into_iter().find(|reading| reading.name.as_str() == name)
    }

    /// Waits until the model has looked at so many of its pictures.
    fn wait_until_analysed(&mut self, name: &str, n: u64) -> StreamReading {
        wait_for("pictures", || self.reading(name).filter(|reading| reading.figures.n_inferred >= n))
    }

    fn stop(&mut self, name: &str) {
        self.stage.stop(&StreamName::new(name).unwrap());
        wait_for("the stream to go", || self.reading(name).is_none().then_some(()));
    }

    fn metrics(&self) -> String {
        let mut scrape = Scrape::default();
        self.house.roster().scrape(&mut scrape);
        scrape.render()
    }

    /// Closes the house; gives the records of both sinks.
    fn close(self) -> [Vec<Value>; 2] {
        let (_, outcomes) = self.house.close();
        assert!(outcomes.iter().all(|o| o.report.n_failed + o.n_dropped + o.n_refused == 0), "{outcomes:?}");
        let records = ["events", "other"].map(|name| self.scene.records(&format!("{name}.jsonl")));
        records.iter().for_each(|records| assert_valid(records));
        records
    }
}

fn of_stream<'a>(records: &'a [Value], name: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["stream"] == name).collect()
}

fn states(records: &[&Value]) -> Vec<String> {
    let states = records.iter().filter(|record| record["type"] == "status");
    states.map(|record| record["state"].as_str().unwrap().to_owned()).collect()
}

const STEADY: &str =
    "[streams.steady]\nurl = 'test://?width=64&height=48&fps=5'\n[profiles.default]\nsampling = 'all'\n";

#[test]
fn streams_that_come_and_go_disturb_nobody_and_leave_nothing() {
    let mut stand = Stand::new();
    stand.start(STEADY, None, None).unwrap();
    stand.wait_until_analysed("steady", 1);
    let before = stand.metrics();
    for n in 0..6 {
        let name = format!("guest-{n}");
        let text = format!("[streams.{name}]\nurl = 'test://?width=64&height=48&fps=30&audio=tone'\n");
        stand.start(&text, Some(n), None).unwrap();
        assert!(stand.start(&text, Some(n), None).unwrap_err().contains("is there already"));
        stand.wait_until_analysed(&name, 2);
        stand.stop(&name);
    }
    let after = stand.metrics();
    let names =
        |text: &str| text.lines().filter_map(|l| l.rsplit_once(' ')).map(|(k, _)| k.to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after), "guests are left in the metrics");
    let steady = stand.house.analyses().pop().unwrap();
    let [records, _] = stand.close();
    let of_steady = of_stream(&records, "steady");
    assert_eq!(states(&of_steady), ["playing", "stopped"]);
    assert!(of_type(&records, "gap").is_empty(), "{:?}", of_type(&records, "gap"));
    // A picture that is missing was superseded, as the account says: nothing else is lost.
    let indices: Vec<u64> = of_steady.iter().filter_map(|record| record["frame"]["index"].as_u64()).collect();
    assert!(indices.is_sorted_by(|a, b| a < b), "{indices:?}");
    let reading = base::media::MediaConsumer::ledger(&*steady).read();
    assert_eq!(reading.n_in_flight(), 0, "{reading:?}");
    assert_eq!(indices.len() as u64, reading.n_inferred);
    assert_eq!(states(&of_stream(&records, "guest-5")), ["playing", "stopped"]);
}

#[test]
fn a_stream_is_started_again_under_a_new_epoch() {
    let mut stand = Stand::new();
    stand.start(STEADY, Some(7), None).unwrap();
    let first = stand.wait_until_analysed("steady", 1);
    assert!((first.epoch, first.leaving) == (Some(7), false) && first.analysed_at.is_some(), "{first:?}");
    stand.stop("steady");
    stand.start(STEADY, Some(12), None).unwrap();
    let second = stand.wait_until_analysed("steady", 1);
    assert_ne!(first.session, second.session);
    let [records, _] = stand.close();
    assert_eq!(states(&of_stream(&records, "steady")), ["playing", "stopped", "playing", "stopped"]);
    for record in &records {
        let is_first = record["session"] == first.session.as_ref().unwrap().as_str();
        assert_eq!(record["epoch"], if is_first { 7 } else { 12 }, "{record}");
    }
    assert!(of_type(&records, "gap").is_empty());
}

#[test]
fn what_nobody_analysed_between_two_runs_is_told_once() {
    /// Seconds since the earlier run, and whether it had let go in good order.
    fn check(secs: i64, released: bool, expected: Option<&str>) {
        let mut stand = Stand::new();
        let session = SessionId::derived([b"earlier".as_slice()]);
        let now = SystemClock::new().wall();
        let analysed_at = Timestamp::from_millisecond(now.as_millisecond() - secs * 1000).unwrap();
        let pts = Pts::from_millis(90_000);
        let (session_id, told_at) = (session.clone(), analysed_at);
        let earlier =
            Earlier { session: session_id, pts, analysed_at, told_at, released, position: None, alerts: Vec::new() };
        stand.start(STEADY, Some(5), Some(earlier)).unwrap();
        // A successor that comes before this run has played knows of the earlier one all the same.
        let reading = stand.reading("steady").unwrap();
        let is_earlier = reading.session.as_ref() == Some(&session);
        assert!(!is_earlier || (reading.pts, reading.analysed_at) == (pts, Some(analysed_at)), "{reading:?}");
        assert!(reading.session.is_some());
        stand.wait_until_analysed("steady", 3);
        let [records, _] = stand.close();
        let gaps = of_type(&records, "gap");
        let Some(reason) = expected else { return assert!(gaps.is_empty(), "{gaps:?}") };
        assert_eq!(gaps.len(), 1, "{gaps:?}");
        assert_eq!(gaps[0], &records[0], "before the stream plays");
        assert_eq!(gaps[0]["id"], format!("{session}-gap-e5"));
        assert_eq!((&gaps[0]["session"], &gaps[0]["reason"]), (&session.as_str().into(), &reason.into()));
        assert_eq!((&gaps[0]["from_pts_ms"], &gaps[0]["epoch"]), (&90_000.into(), &5.into()));
        assert!(gaps[0]["to_pts_ms"].as_i64().unwrap() >= 90_000 + secs * 1000, "{}", gaps[0]);
    }
    check(30, false, Some("worker_lost"));
    check(30, true, Some("worker_stopped"));
    // The clock of the worker before was ahead: no time has passed.
    check(-60, false, None);
}

#[test]
fn a_stream_that_cannot_connect_is_let_go_of_at_once() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let mut stand = Stand::new();
    // Far longer than any test waits: only the stop ends it.
    let text = format!(
        "[streams.dead]\nurl = 'rtsp://127.0.0.1:{port}/live'\nsource = {{ connect_timeout_secs = 3600.0, transport = 'tcp' }}\n"
    );
    stand.start(&text, Some(1), None).unwrap();
    let _connection = silent.accept().unwrap();
    assert_eq!(stand.reading("dead").unwrap().state, None, "connecting");
    stand.stop("dead");
    stand.close();
}

#[test]
fn events_go_to_the_sinks_of_the_profile() {
    let mut stand = Stand::new();
    let text = "[streams.choosy]\nurl = 'test://?width=64&height=48&fps=5'\n[profiles.default]\nsinks = ['other']\n";
    stand.start(text, None, None).unwrap();
    stand.start(STEADY, None, None).unwrap();
    stand.wait_until_analysed("choosy", 1);
    stand.wait_until_analysed("steady", 1);
    let [events, other] = stand.close();
    assert!(of_stream(&events, "choosy").is_empty());
    assert_eq!(states(&of_stream(&other, "choosy")), ["playing", "stopped"]);
    assert_eq!(of_stream(&events, "steady").len(), of_stream(&other, "steady").len());
}

#[test]
fn a_stream_whose_model_is_missing_says_so() {
    let mut stand = Stand::new();
    let checked = config::parse("test.toml", STEADY, &|_| None).map_err(|p| p.to_string()).unwrap();
    let mut stream = checked.streams.into_iter().next().unwrap();
    stream.profile.detect = "no-such-model".into();
    stand.stage.start(Start { stream, epoch: Some(1), earlier: None }).unwrap();
    let failed = wait_for("the failure", || stand.reading("steady").filter(|reading| reading.state.is_some()));
    assert_eq!(failed.state.unwrap().as_str(), "failed");
    assert!(failed.detail.unwrap().contains("no-such-model"));
    stand.stop("steady");
    stand.start(STEADY, Some(2), None).unwrap();
    stand.wait_until_analysed("steady", 1);
    stand.close();
}

#[test]
fn nothing_of_a_leased_stream_goes_out_while_the_fence_is_closed() {
    let mut stand = Stand::new();
    let time = ManualClock::new();
    let fence = Fence::new(time.clone(), Duration::from_secs(3));
    stand.house.put_up_fence(fence.clone());
    stand.start(STEADY, Some(1), None).unwrap();
    stand.start(&STEADY.replace("steady", "free"), None, None).unwrap();
    stand.wait_until_analysed("steady", 1);
    // The process was frozen, say.
    time.advance(Duration::from_secs(4));
    let fenced = wait_for("a fenced picture", || {
        stand.reading("steady").filter(|reading| reading.figures.n_dropped.contains_key("fenced"))
    });
    let n_free = stand.reading("free").unwrap().figures.n_inferred;
    stand.wait_until_analysed("free", n_free + 2);
    assert!(stand.metrics().contains("eyewitness_fence_closed 1\n"));
    stand.stop("steady");
    assert!(fence.n_fenced() > 0, "`stopped` was left out");
    assert!(stand.metrics().contains(&format!("eyewitness_fenced_events_total {}\n", fence.n_fenced())));
    fence.tick();
    stand.start(STEADY, Some(2), None).unwrap();
    stand.wait_until_analysed("steady", 1);
    let [records, _] = stand.close();
    assert_eq!(states(&of_stream(&records, "steady")), ["playing", "playing", "stopped"], "{fenced:?}");
    assert_eq!(states(&of_stream(&records, "free")), ["playing", "stopped"]);
}

#[test]
fn two_hundred_cycles_leave_nothing_behind() {
    let done = Scene::new().run(&["bench", "cycles", "--cycles", "200", "--every", "10"]).expect(0);
    let last: Value = serde_json::from_str(done.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(last["n_descriptors"][0], last["n_descriptors"][1], "{}", done.stdout);
    let both = |what: &str| [0, 1].map(|i| last[what][i].as_i64().unwrap());
    // GStreamer keeps some threads for the next one; one a cycle would be two hundred.
    let [first, last] = both("n_threads");
    assert!(last <= first + 10, "{first} threads became {last}:\n{}", done.stdout);
    let [first, last] = both("rss_bytes");
    assert!(last - first < 64 << 20, "{} MiB more:\n{}", (last - first) >> 20, done.stdout);
    let [first, last] = both("metrics_bytes");
    assert!((last - first).abs() < 100, "the metrics grow:\n{}", done.stdout);
}
