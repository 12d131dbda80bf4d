//! `eyewitness spool`, and what a service does when its spool is full: the real program, real files, a receiver that answers
//! or does not.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use base::time::SystemClock;
use serde_json::Value;
use sinks::{
    delivery::{Backlog as _, Durability},
    record::Record,
    spool::{Spool, SpoolOptions},
};

use crate::harness::{Scene, assert_valid, free_port, of_type, wait_for};

/// Nobody answers there.
const NOBODY: &str = "http://127.0.0.1:9/hook";

/// Takes posts on loopback, and refuses those of one stream for good.
struct Receiver {
    url: String,
    bodies: Arc<Mutex<Vec<Value>>>,
}

impl Receiver {
    fn start(refuses: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&bodies);
        thread::Builder::new()
            .spawn(move || {
                for client in listener.incoming().map_while(Result::ok) {
                    let seen = Arc::clone(&seen);
                    let serve = move || while answer(&client, refuses, &seen) {};
                    thread::Builder::new().spawn(serve).unwrap();
                }
            })
            .unwrap();
        Self { url, bodies }
    }

    fn ids(&self) -> Vec<String> {
        self.bodies.lock().unwrap().iter().map(|body| body["id"].as_str().unwrap().to_owned()).collect()
    }
}

/// One request; false once the client has gone.
fn answer(client: &TcpStream, refuses: &str, seen: &Mutex<Vec<Value>>) -> bool {
    let mut reader = BufReader::new(client);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return false;
        }
        let line = line.trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let status = if body["stream"] == refuses { "410 Gone" } else { "204 No Content" };
    if body["stream"] != refuses {
        seen.lock().unwrap().push(body);
    }
    let mut client = client;
    write!(client, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").is_ok()
}

fn hook(url: &str) -> String {
    format!(
        "[streams.cam]\nurl = \"rtsp://viewer:${{NOT_SET_HERE}}@192.0.2.10/\"\n[sinks.hook]\ntype = \"webhook\"\n\
         url = \"{url}\"\nspool = {{ path = \"spool\", max_bytes = 2097152 }}\n"
    )
}

fn open(scene: &Scene) -> Spool {
    let options = SpoolOptions {
        directory: scene.path("spool"),
        max_bytes: 2 * 1024 * 1024,
        durability: Durability::Os,
        clock: SystemClock::new(),
    };
    Spool::open(options).unwrap().spool
}

fn payload(stream: &str, number: u64) -> String {
    format!(
        "{{\"type\":\"status\",\"id\":\"{stream}-status-{number}\",\"specversion\":\"1.2\",\"stream\":\"{stream}\",\
         \"tags\":{{\"place\":\"the \\\"north\\\" gate\"}},\"session\":\"{stream}\",\"pts_ms\":{number},\"captured_at\":null,\
         \"clock\":\"none\",\"state\":\"playing\",\"detail\":null,\"source\":null}}"
    )
}

fn entry(stream: &str, number: u64) -> Vec<u8> {
    let record = Record {
        kind: "status",
        id: &format!("{stream}-status-{number}"),
        stream,
        session: stream,
        pts_ms: number,
        time: None,
        key: stream,
        accepted_ms: 1_800_000_000_000 + number,
        payload: &payload(stream, number),
    };
    record.to_bytes()
}

/// Three records of stream `a` and two of stream `b` wait.
fn fill(scene: &Scene) -> Spool {
    let mut spool = open(scene);
    let entries = [("a", 0), ("b", 0), ("a", 1), ("a", 2), ("b", 1)].map(|(stream, number)| entry(stream, number));
    spool.append(&entries).unwrap();
    spool
}

const ALL: [&str; 5] = ["a-status-0", "b-status-0", "a-status-1", "a-status-2", "b-status-1"];

fn ids(text: &str) -> Vec<String> {
    let id = |line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
    text.lines().map(id).collect()
}

#[test]
fn inspect_shows_what_waits_and_changes_nothing() {
    let scene = Scene::new();
    scene.file("eyewitness.toml", hook(NOBODY));
    let check = |args: &[&str], parts: &[&str]| {
        let shown = scene.run(&[&["spool", "inspect"], args].concat()).expect(0).stdout;
        for part in parts {
            assert!(shown.contains(part), "{args:?}: `{part}` is missing in:\n{shown}");
        }
        shown
    };
    let running = fill(&scene);
    check(&["spool"], &["5 record(s) wait", "a running service has it", "2027-01-15T08:00:00.000Z", "status"]);
    check(&[], &["hook: ", "of 2.0 MiB", "5 record(s) wait"]);
    drop(running);
    check(&["--sink", "hook"], &["no service has it", "5 record(s) wait"]);
    let json: Value = serde_json::from_str(&check(&["--json"], &[])).unwrap();
    assert_eq!((&json["n_records"], &json["n_damaged"], &json["in_use"]), (&5.into(), &0.into(), &false.into()));
    assert_eq!(json["by_stream"][0]["n_records"], 3);
    assert_eq!(json["max_bytes"], 2 * 1024 * 1024);
    let records = check(&["spool", "--records", "--json"], &[]);
    assert_eq!(ids(&records), ALL);
    assert_eq!(records.lines().nth(2).unwrap(), payload("a", 1));
    assert_eq!(ids(&check(&["--records", "--json", "--limit", "2"], &[])), ALL[..2]);
    assert_eq!(check(&["--records"], &ALL).lines().count(), 5);
    let empty = scene.path("empty");
    fs::create_dir(&empty).unwrap();
    scene.run(&["spool", "inspect", "empty"]).expect(1).complains(&["holds no spool"]);
    scene.run(&["spool", "inspect", "nowhere"]).expect(1).complains(&["nowhere"]);
    assert!(!scene.path("nowhere").exists());
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0, "nothing is made");
}

#[test]
fn sinks_without_a_spool_are_told_apart() {
    let scene = Scene::new();
    let check = |config: &str, args: &[&str], code: i32, parts: &[&str]| {
        scene.file("eyewitness.toml", config);
        for command in ["inspect", "replay"] {
            scene.run(&[&["spool", command], args].concat()).expect(code).complains(parts);
        }
    };
    let memory = "[sinks.hook]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:9/\"\nspool = { store = \"memory\" }\n";
    check(memory, &["--sink", "hook"], 1, &["`hook` keeps what waits in memory"]);
    check(memory, &[], 1, &["no sink has a spool on disk"]);
    check("[sinks.f]\ntype = \"file\"\npath = \"x\"\n", &["--sink", "f"], 1, &["`f` is of a type without a spool"]);
    check(&hook(NOBODY), &["--sink", "hok"], 1, &["no sink is called `hok`", "`hook`"]);
    check(&hook(NOBODY), &["--sink", "hook"], 1, &["holds no spool"]);
    check(&hook(NOBODY).replace("max_bytes = 2097152", "max_bytes = 5"), &[], 2, &["eyewitness.toml:6:", "max_bytes"]);
    fs::remove_file(scene.path("eyewitness.toml")).unwrap();
    scene.run(&["spool", "inspect"]).expect(1).complains(&["there is no eyewitness.toml", "--config"]);
}

#[test]
fn replay_delivers_what_an_earlier_run_left() {
    let scene = Scene::new();
    scene.file("eyewitness.toml", hook(NOBODY));
    let running = fill(&scene);
    scene.run(&["spool", "replay"]).expect(1).complains(&["service must be stopped", "in use"]);
    drop(running);
    let left = scene.run(&["spool", "replay", "--grace", "1"]).expect(1);
    left.complains(&["5 record(s) still wait", "127.0.0.1:9"]);
    let receiver = Receiver::start("nobody");
    scene.file("eyewitness.toml", hook(&receiver.url));
    let done = scene.run(&["spool", "replay", "--sink", "hook"]).expect(0);
    assert!(done.stdout.contains("5 delivered, 0 refused, 0 still waiting"), "{}", done.stdout);
    assert_eq!(receiver.ids(), ALL);
    let empty = scene.run(&["spool", "inspect"]).expect(0).stdout;
    assert!(empty.contains("nothing waits"), "{empty}");
    scene.run(&["spool", "replay"]).expect(0);
    assert_eq!(receiver.ids().len(), 5, "nothing comes twice");
}

#[test]
fn what_waits_can_be_taken_out_into_a_file() {
    let scene = Scene::new();
    scene.file("eyewitness.toml", hook(NOBODY));
    let running = fill(&scene);
    scene.run(&["spool", "replay", "--out", "copy.jsonl"]).expect(0).complains(&["5 record(s) written"]);
    scene.run(&["spool", "replay", "--out", "x.jsonl", "--forget"]).expect(1).complains(&["service must be stopped"]);
    assert!(!scene.path("x.jsonl").exists());
    drop(running);
    scene
        .run(&["spool", "replay", "--out", "copy.jsonl", "--forget"])
        .expect(1)
        .complains(&["copy.jsonl", "not replaced"]);
    let on_stdout = scene.run(&["spool", "replay", "--out", "-"]).expect(0).stdout;
    scene.run(&["spool", "replay", "--out", "all.jsonl", "--forget"]).expect(0).complains(&["the spool is empty"]);
    for text in [&on_stdout, &fs::read_to_string(scene.path("copy.jsonl")).unwrap()] {
        assert_eq!(*text, fs::read_to_string(scene.path("all.jsonl")).unwrap());
    }
    assert_eq!(ids(&on_stdout), ALL);
    assert!(scene.run(&["spool", "inspect"]).expect(0).stdout.contains("nothing waits"));
    // Numbers go on: what comes next is not taken for what was there.
    assert_eq!(open(&scene).reading().first, 5);
}

#[test]
fn dead_letters_are_offered_again() {
    let scene = Scene::new();
    let receiver = Receiver::start("b");
    scene
        .file("eyewitness.toml", hook(&receiver.url).replace("spool = {", "dead_letters = \"other.jsonl\"\nspool = {"));
    let letter = |stream: &str, number: u64| {
        let record = payload(stream, number);
        format!(
            "{{\"at\":\"2026-01-01T00:00:00Z\",\"sink\":\"hook\",\"reason\":\"410 \\\"Gone\\\"\",\"key\":\"{stream}\",\"record\":{record}}}"
        )
    };
    let lines = [letter("a", 0), "half a li".into(), letter("b", 0), letter("a", 1)];
    scene.file("dead.jsonl", lines.join("\n") + "\n");
    let args = ["spool", "replay", "--dead-letters", "dead.jsonl"];
    let done = scene.run(&args).expect(3);
    assert!(done.stdout.contains("3 dead letter(s) are offered again"), "{}", done.stdout);
    done.complains(&["1 line(s) are no dead letters"]);
    assert_eq!(receiver.ids(), ["a-status-0", "a-status-1"]);
    let bodies = receiver.bodies.lock().unwrap().clone();
    assert_eq!(bodies[0], serde_json::from_str::<Value>(&payload("a", 0)).unwrap());
    let left = fs::read_to_string(scene.path("dead.jsonl")).unwrap();
    let left: Vec<&str> = left.lines().collect();
    assert_eq!((left.len(), left[0]), (2, "half a li"), "{left:?}");
    let again: Value = serde_json::from_str(left[1]).unwrap();
    assert_eq!((&again["record"]["id"], &again["key"]), (&"b-status-0".into(), &"b".into()));
    assert_ne!(again["at"], "2026-01-01T00:00:00Z", "refused once more");
    assert!(!scene.path("other.jsonl").exists());
    scene.run(&["spool", "replay", "--dead-letters", "none.jsonl"]).expect(1).complains(&["none.jsonl"]);
}

/// A sink whose spool is full holds up the analysis: the records of the other sink say which stretch is missing.
#[test]
fn a_full_spool_is_told_as_a_gap() {
    let scene = Scene::new();
    let port = free_port();
    // Large tags fill a small spool in a few seconds.
    let filler: Vec<String> = (0..48).map(|at| format!("t{at} = \"{}\"", "x".repeat(250))).collect();
    let filler = filler.join(", ");
    let service = scene.service(&format!(
        "[service]\ngrace_secs = 2\n[http]\nlisten = \"127.0.0.1:{port}\"\n\
         [streams.pattern]\nurl = \"test://?width=320&height=240&fps=20\"\ntags = {{ {filler} }}\n\
         [profiles.default]\nsampling = \"all\"\n\
         [sinks.kafka]\ntype = \"kafka\"\nbrokers = [\"127.0.0.1:9\"]\nqueue = {{ capacity = 1 }}\n\
         spool = {{ path = \"spool\", max_bytes = 1048576 }}\n"
    ));
    let metric = |name: &str| {
        let mut client = TcpStream::connect(("127.0.0.1", port)).ok()?;
        write!(client, "GET /metrics HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        client.read_to_string(&mut text).ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<f64>().ok())
    };
    wait_for("a full spool", || metric("eyewitness_sink_full{sink=\"kafka\"}").filter(|full| *full == 1.0));
    wait_for("trouble", || metric("eyewitness_sink_troubled{sink=\"kafka\"}").filter(|troubled| *troubled == 1.0));
    let n_waiting = metric("eyewitness_sink_waiting_records{sink=\"kafka\"}").unwrap();
    assert!(n_waiting >= 5.0, "{n_waiting}");
    let superseded = "eyewitness_frames_dropped_total{stream=\"pattern\",reason=\"superseded\"}";
    let before = metric(superseded).unwrap();
    wait_for("frames that nobody looks at", || metric(superseded).filter(|now| *now >= before + 60.0));
    let (code, output) = service.terminate();
    // What was accepted waits on disk; what was not, when the time was over, is lost.
    assert_eq!(code, Some(3), "{output}");
    assert!(output.contains("for the next start"), "{output}");
    let records = scene.records("events.jsonl");
    assert_valid(&records);
    let gap = *of_type(&records, "gap").last().unwrap_or_else(|| panic!("no gap: {output}"));
    let (reason, detail) = (&gap["reason"], gap["detail"].as_str().unwrap());
    assert!(reason == "sink_blocked" && detail.contains("kafka"), "{reason} {detail}");
    let [from, to, n_frames] = ["from_pts_ms", "to_pts_ms", "n_frames_dropped"].map(|key| gap[key].as_u64().unwrap());
    // How many more were left out by a slow machine before the spool was full, nobody knows.
    assert!(to >= from + 1000 && n_frames > 0, "{from} to {to}, {n_frames} frames");
    let shown: Value =
        serde_json::from_str(&scene.run(&["spool", "inspect", "spool", "--json"]).expect(0).stdout).unwrap();
    assert!(shown["n_records"].as_f64().unwrap() >= n_waiting, "{shown}");
}
