//! The consumers in examples/, as a stranger would run them: real records through a real Apache Kafka, with duplicates
//! put in. Each consumer is killed while it works and started again; its result must be as if nothing had happened.

use std::{
    collections::{BTreeMap, HashSet},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    broker::{Broker, SASL_PASSWORD, SASL_USER},
    harness::{CLIP, Process, Scene, assert_valid, python, wait_for},
};

const TOPICS: [&str; 5] = ["detections", "transcripts", "captions", "alerts", "status"];
const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/demo/rules.toml");
const STREAMS: [&str; 3] = ["cam-a", "cam-b", "cam-c"];
/// A sender that was killed sends again what it has not ticked off: here the last so many, every now and then.
const AGAIN: usize = 25;
const AGAIN_EVERY: usize = 60;
const N_KILLED: usize = 3;

#[test]
fn each_record_counts_once_whenever_a_consumer_is_killed() {
    let broker = Broker::start();
    let scene = Scene::new();
    let records = records(&scene);
    let results = LANGUAGES.map(|language| {
        let stage = Stage { broker: &broker, scene: &scene, language };
        stage.work_through_kills(&records);
        stage.read_again(&records);
        stage.end_on_a_signal(&records);
        stage.refuse();
        stage.results("state.sqlite").into_iter().map(|[_, stream, id, line]| (id, [stream, line])).collect()
    });
    let [python, rust]: [BTreeMap<String, [String; 2]>; 2] = results;
    assert_eq!(python, rust, "both say the same of the same records");
}

#[test]
fn followers_of_alerts_know_the_newest_record_of_each() {
    let broker = Broker::start();
    let scene = Scene::new();
    // `alert epoch revision state`: in the order of coming, and what is to be told of them.
    let traffic = [
        "a 1 0 opened",
        "b 1 0 opened",
        "a 1 0 opened",
        "a 1 2 updated",
        "a 1 1 updated",
        "b 1 1 closed",
        "b 1 1 closed",
        // Another worker has the stream now: it counts on from what it was told, and what comes late is no news.
        "a 2 1 updated",
        "a 1 3 closed",
        "b 2 1 updated",
        "b 2 2 closed",
    ];
    let expected = ["a 1 0", "b 1 0", "a 1 2", "b 1 1", "a 2 1", "b 2 1", "b 2 2"];
    let template = records(&scene).into_iter().find(|sent| sent.topic == "alerts").unwrap();
    let sent = traffic.map(|text| {
        let parts: Vec<&str> = text.split(' ').collect();
        let [alert, epoch, revision, state] = parts[..] else { panic!("{text}") };
        let mut record: Value = serde_json::from_str(&template.payload).unwrap();
        record["id"] = format!("{alert}-{revision}").into();
        (record["alert"], record["state"]) = (alert.into(), state.into());
        record["epoch"] = epoch.parse::<u64>().unwrap().into();
        record["revision"] = revision.parse::<u64>().unwrap().into();
        if state == "closed" {
            record["until_ms"] = record["pts_ms"].clone();
            record["closed_because"] = "it is over".into();
        }
        Sent { payload: record.to_string(), ..template.clone() }
    });
    let told = LANGUAGES.map(|language| {
        for topic in TOPICS {
            broker.create_topic(&format!("{}.{topic}", language.name), 3, &[]);
        }
        let mut feed = Feed::start(&broker, language.name);
        sent.iter().for_each(|sent| feed.send(sent));
        feed.end();
        let follow = |group: &str, more: &[&str]| {
            let mut command = (language.follower)();
            let (group, state) = (format!("{}-{group}", language.name), format!("{}-alerts.sqlite", language.name));
            command.current_dir(scene.path(".")).args(["--brokers", &broker.address(), "--prefix", language.name]);
            command.args(["--group", &group, "--state", &state, "--until-idle", "2"]).args(more);
            let output = command.output().unwrap();
            let problems = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{}: {problems}", language.name);
            String::from_utf8(output.stdout).unwrap()
        };
        let told = follow("first", &[]);
        // The same group has nothing more to read; another one reads all of it again, and knows it.
        assert_eq!((follow("first", &[]), follow("again", &[])), (String::new(), String::new()), "{}", language.name);
        std::fs::remove_file(scene.path(&format!("{}-alerts.sqlite", language.name))).unwrap();
        let records = follow("fresh", &["--json"]);
        let got: Vec<String> = records
            .lines()
            .map(|line| {
                let record: Value = serde_json::from_str(line).unwrap();
                format!("{} {} {}", record["alert"].as_str().unwrap(), record["epoch"], record["revision"])
            })
            .collect();
        assert_eq!(got, expected, "{}", language.name);
        told
    });
    assert_eq!(told[0], told[1], "both say the same of the same alerts");
    assert_eq!(told[0].lines().count(), expected.len(), "{}", told[0]);
}

#[test]
fn the_python_consumer_forgets_ids_by_number_and_by_age() {
    let scene = Scene::new();
    let script = "
import sys
sys.path.insert(0, sys.argv[1])
from consume import Item, Results
for secs, most in ((1000, 100), (1000, 3), (50, 100), (50, 1)):
    results = Results(':memory:', secs, most)
    results.add([Item('t', 's', i, i, i) for i in 'abc'])
    results.db.execute(\"UPDATE handled SET at = at - 100 WHERE id IN ('a', 'b')\")
    results.add([Item('t', 's', 'd', 'd', 'd')])
    print(''.join(row[0] for row in results.db.execute('SELECT id FROM handled ORDER BY number')))
";
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python");
    let output =
        Command::new(python()).args(["-B", "-c", script]).arg(folder).current_dir(scene.path(".")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().collect::<Vec<_>>(), ["abcd", "bcd", "cd", "d"]);
}

/// One record as it is sent.
#[derive(Clone)]
struct Sent {
    topic: &'static str,
    stream: String,
    id: String,
    payload: String,
}

#[derive(Clone, Copy)]
struct Language {
    name: &'static str,
    command: fn() -> Command,
    /// Of alerts.
    follower: fn() -> Command,
}

const LANGUAGES: [Language; 2] = [
    Language { name: "python", command: || script("consume.py"), follower: || script("alerts.py") },
    Language {
        name: "rust",
        command: || Command::new(built("eyewitness-example-consumer")),
        follower: || Command::new(built("eyewitness-example-alerts")),
    },
];

fn script(name: &str) -> Command {
    let mut command = Command::new(python());
    command.arg("-B").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python").join(name));
    command
}

/// Built with everything else, because its package has an integration test of its own.
fn built(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_eyewitness")).with_file_name(name);
    assert!(path.exists(), "{} is missing: run `cargo build -p eyewitness-example-consumer`", path.display());
    path
}

/// What eyewitness makes of the bundled clip, seen and heard by three streams at once.
fn records(scene: &Scene) -> Vec<Sent> {
    let arguments = ["replay", CLIP, "--detect", "ssdlite-mbv2", "--sample", "every=8", "--partials"];
    let more = ["--transcribe", "whisper-tiny.en", "--rules", RULES, "--out", "records.jsonl"];
    scene.run(&[&arguments[..], &more].concat()).expect(0);
    let mut made = scene.records("records.jsonl");
    // The clip has no outage.
    let mut gap = made[0].clone();
    for (key, value) in json!({
        "type": "gap", "id": format!("{}-gap-0", gap["session"].as_str().unwrap()), "from_pts_ms": 1000,
        "to_pts_ms": 3500, "reason": "source_lost", "n_frames_dropped": null, "detail": null
    })
    .as_object()
    .unwrap()
    {
        gap[key] = value.clone();
    }
    for key in ["state", "source"] {
        gap.as_object_mut().unwrap().remove(key);
    }
    made.insert(1, gap);
    assert_valid(&made);
    let sent = |record: &Value, stream: &str| {
        let session = record["session"].as_str().unwrap();
        // Segments and cues begin with the session, too.
        let payload = record.to_string().replace(session, &format!("SESSION-OF-{stream}"));
        let mut record: Value = serde_json::from_str(&payload).unwrap();
        record["stream"] = stream.into();
        let topic = match record["type"].as_str().unwrap() {
            "detections" => "detections",
            "transcript" => "transcripts",
            "caption" => "captions",
            "alert" => "alerts",
            _ => "status",
        };
        let id = record["id"].as_str().unwrap().to_owned();
        Sent { topic, stream: stream.to_owned(), id, payload: record.to_string() }
    };
    made.iter().flat_map(|record| STREAMS.map(|stream| sent(record, stream))).collect()
}

/// With everything that comes twice, and with what no consumer of today can know.
fn traffic(records: &[Sent]) -> Vec<Sent> {
    let mut traffic = Vec::new();
    for (number, record) in records.iter().enumerate() {
        traffic.push(record.clone());
        if (number + 1) % AGAIN_EVERY == 0 {
            traffic.extend_from_slice(&records[number + 1 - AGAIN..=number]);
        }
        if number == AGAIN_EVERY {
            let alert =
                r#"{"type":"of_tomorrow","id":"X-of_tomorrow-0","specversion":"1.999","stream":"cam-a","pts_ms":0}"#;
            for payload in [alert, "not JSON at all"] {
                traffic.push(Sent { topic: "status", payload: payload.into(), ..record.clone() });
            }
        }
    }
    traffic
}

/// Producers, one a topic, that stay connected.
struct Feed(BTreeMap<&'static str, Child>);

impl Feed {
    fn start(broker: &Broker, prefix: &str) -> Self {
        let start = |topic: &'static str| {
            let child = Command::new("kcat")
                .args(["-P", "-b", &broker.address(), "-t", &format!("{prefix}.{topic}"), "-K", "\t"])
                .stdin(Stdio::piped())
                .spawn()
                .expect("kcat runs: `make setup-test` installs it");
            (topic, child)
        };
        Self(TOPICS.map(start).into_iter().collect())
    }

    fn send(&mut self, sent: &Sent) {
        let kcat = self.0.get_mut(sent.topic).unwrap().stdin.as_mut().unwrap();
        kcat.write_all(format!("{}\t{}\n", sent.stream, sent.payload).as_bytes()).unwrap();
    }

    /// Waits until everything has arrived.
    fn end(self) {
        for (topic, mut kcat) in self.0 {
            drop(kcat.stdin.take());
            assert!(kcat.wait().unwrap().success(), "{topic}");
        }
    }
}

struct Stage<'a> {
    broker: &'a Broker,
    scene: &'a Scene,
    language: Language,
}

impl Stage<'_> {
    /// A consumer. Its files carry the language's name.
    fn command(&self, group: &str, properties: &str, args: &[&str]) -> Command {
        let name = self.language.name;
        let properties = self.scene.file(&format!("{name}-{group}.properties"), properties);
        let mut command = (self.language.command)();
        command
            .current_dir(self.scene.path("."))
            .stdin(Stdio::null())
            .args(["--group", &format!("{name}-{group}"), "--prefix", name, "--properties"])
            .arg(properties)
            .args(args);
        command
    }

    fn state(&self, file: &str) -> String {
        format!("{}-{file}", self.language.name)
    }

    /// `[topic, stream, id, line]` of everything that counted, in the order of counting.
    fn results(&self, file: &str) -> Vec<[String; 4]> {
        let script = "import json, sqlite3, sys\n\
                      rows = sqlite3.connect(sys.argv[1]).execute('SELECT topic, stream, id, line FROM results ORDER BY number')\n\
                      print(json.dumps(rows.fetchall()))";
        let path = self.scene.path(&self.state(file));
        let output = Command::new(python()).args(["-c", script]).arg(path).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
    }

    /// Fails unless each record counted once, and in order within its stream and topic.
    fn assert_all_counted(&self, file: &str, records: &[Sent]) {
        let results = self.results(file);
        let counted: HashSet<&str> = results.iter().map(|[_, _, id, _]| id.as_str()).collect();
        assert_eq!(results.len(), counted.len(), "{}: something counted twice", self.language.name);
        let by_place = |all: Vec<(String, String, String)>| {
            let mut by_place: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
            for (topic, stream, id) in all {
                by_place.entry((topic, stream)).or_default().push(id);
            }
            by_place
        };
        let topic = |topic: &str| format!("{}.{topic}", self.language.name);
        let expected = records.iter().map(|r| (topic(r.topic), r.stream.clone(), r.id.clone())).collect();
        let got = results.into_iter().map(|[topic, stream, id, _]| (topic, stream, id)).collect();
        assert_eq!(by_place(got), by_place(expected), "{}", self.language.name);
    }

    fn work_through_kills(&self, records: &[Sent]) {
        let (name, state) = (self.language.name, self.state("state.sqlite"));
        let address = self.broker.address();
        let args = ["--brokers", &address, "--state", &state];
        // With a name of its own a consumer that was killed has its partitions back at once.
        let properties = "group.instance.id = the-only-one";
        let traffic = traffic(records);
        for topic in TOPICS {
            self.broker.create_topic(&format!("{name}.{topic}"), 3, &[]);
        }
        let mut feed = Feed::start(self.broker, name);
        let mut seen = HashSet::new();
        for part in traffic.chunks(traffic.len().div_ceil(N_KILLED)) {
            let n_new = part.iter().filter(|sent| seen.insert(sent.id.as_str())).count();
            let consumer = Process::start(self.command("work", properties, &args));
            thread::scope(|scope| {
                scope.spawn(|| {
                    for sent in part {
                        feed.send(sent);
                        thread::sleep(Duration::from_millis(2));
                    }
                });
                wait_for("half of what is new", || {
                    (consumer.output().lines().filter(|l| l.starts_with("cam-")).count() >= n_new / 2).then_some(())
                });
                // kill -9, while records still come.
                drop(consumer);
            });
        }
        feed.end();
        let last = self.command("work", properties, &[&args[..], &["--until-idle", "2"]].concat());
        let (code, output) = Process::start(last).end();
        assert_eq!(code, Some(0), "{name}: {output}");
        self.assert_all_counted("state.sqlite", records);
    }

    /// Everything comes once more, which is the worst that can happen between its work and its commit.
    fn read_again(&self, records: &[Sent]) {
        let (name, state) = (self.language.name, self.state("state.sqlite"));
        let tls = format!(
            "# TLS and a password\nsecurity.protocol = SASL_SSL\nssl.ca.location = {}\nsasl.mechanisms = PLAIN\n\
             sasl.username = {SASL_USER}\nsasl.password = {SASL_PASSWORD}\n",
            self.broker.certificate().display()
        );
        let address = self.broker.sasl_address();
        let before = self.results("state.sqlite");
        let known = ["--brokers", &address, "--state", &state, "--until-idle", "2"];
        let (code, output) = Process::start(self.command("again", &tls, &known)).end();
        assert_eq!(code, Some(0), "{name}: {output}");
        assert!(!output.lines().any(|line| line.starts_with("cam-")), "{name}: {output}");
        assert_eq!(self.results("state.sqlite"), before, "{name}");

        let fresh = self.state("fresh.sqlite");
        let unknown = ["--brokers", &address, "--state", &fresh, "--until-idle", "2", "--json"];
        let output = self.command("fresh", &tls, &unknown).output().unwrap();
        let problems = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{name}: {problems}");
        assert!(problems.contains("no record of eyewitness, skipped"), "{name}: {problems}");
        let text = String::from_utf8(output.stdout).unwrap();
        let mut printed: Vec<&str> = text.lines().collect();
        let mut expected: Vec<&str> = records.iter().map(|sent| sent.payload.as_str()).collect();
        printed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(printed, expected, "{name}");
        self.assert_all_counted("fresh.sqlite", records);

        let wrong = self.command("wrong", &tls.replace(SASL_PASSWORD, "wrong"), &known).output().unwrap();
        let problems = String::from_utf8_lossy(&wrong.stderr);
        assert_eq!(wrong.status.code(), Some(1), "{name}: {problems}");
        assert!(problems.contains("lets us in") && problems.contains("Authentication failed"), "{name}: {problems}");
    }

    fn end_on_a_signal(&self, records: &[Sent]) {
        let (state, address) = (self.state("signal.sqlite"), self.broker.address());
        let consumer = Process::start(self.command("signal", "", &["--brokers", &address, "--state", &state]));
        wait_for("a line of each record", || {
            (consumer.output().lines().filter(|l| l.starts_with("cam-")).count() >= records.len()).then_some(())
        });
        let (code, output) = consumer.terminate();
        assert_eq!(code, Some(0), "{}: {output}", self.language.name);
    }

    /// A record of a format to come: it stops there, says why, and has not passed it over.
    fn refuse(&self) {
        let name = self.language.name;
        let tomorrow = Sent {
            topic: "status",
            stream: "cam-a".into(),
            id: "X-status-0".into(),
            payload: r#"{"type":"status","id":"X-status-0","specversion":"2.0","stream":"cam-a"}"#.into(),
        };
        let mut feed = Feed::start(self.broker, name);
        feed.send(&tomorrow);
        feed.end();
        let (state, address) = (self.state("state.sqlite"), self.broker.address());
        for _ in 0..2 {
            let args = ["--brokers", &address, "--state", &state, "--until-idle", "5"];
            let done = self.command("work", "group.instance.id = the-only-one", &args).output().unwrap();
            let problems = String::from_utf8_lossy(&done.stderr);
            assert_eq!(done.status.code(), Some(1), "{name}: {problems}");
            assert!(problems.contains("format 2.0, and this program knows 1.x"), "{name}: {problems}");
        }
    }
}
