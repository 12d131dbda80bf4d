//! Rules of a stream's own, over HTTP against the real binary: they come, fire and go while the stream goes on, outlive a
//! kill, and mistakes in them are refused with their key.

use std::{collections::BTreeSet, process::Command};

use serde_json::{Value, json};

use crate::harness::{Process, Scene, assert_valid, of_type, wait_for};

const CONFIG: &str = r#"
[http]
listen = "127.0.0.1:0"
[attachments]
store = "store"
folder = "attachments"
[evidence]
path = "alerts"
[profiles.default]
sampling = { fps = 5 }
[rules.crowd]
when = { type = "count", over = 100, zone = [[0, 0], [1, 0], [1, 1]] }
[rules.elsewhere]
select = { names = ["gate-*"] }
when = { type = "appeared" }
"#;

/// The service, and the way to ask it.
struct Asked {
    scene: Scene,
    process: Process,
    url: String,
}

impl Asked {
    fn start() -> Self {
        let scene = Scene::new();
        std::fs::create_dir(scene.path("attachments")).unwrap();
        let process = scene.service(CONFIG);
        let url = Self::address(&process);
        Self { scene, process, url }
    }

    fn killed_and_started_again(mut self) -> Self {
        self.process.signal("KILL");
        self.process = self.scene.service(CONFIG);
        self.url = Self::address(&self.process);
        self
    }

    fn address(process: &Process) -> String {
        format!("http://{}", process.http_address())
    }

    /// Status and body.
    fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--max-time", "60", "--write-out", "\n%{http_code}", "--request", method]);
        if !body.is_null() {
            curl.args(["--header", "Content-Type: application/json", "--data", &body.to_string()]);
        }
        let output = String::from_utf8(curl.arg(format!("{}{path}", self.url)).output().unwrap().stdout).unwrap();
        let (body, status) = output.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
    }

    fn patch(&self, rules: &Value) -> (u16, Value) {
        self.ask("PATCH", "/v1/streams/test", &json!({ "rules": rules }))
    }

    fn rules(&self) -> Vec<Value> {
        let (status, answer) = self.ask("GET", "/v1/streams/test/rules", &Value::Null);
        assert_eq!(status, 200, "{answer}");
        answer["rules"].as_array().unwrap().clone()
    }

    fn wait_for_alert(&self, rule: &str, state: &str) -> Value {
        let is_it = |r: &&Value| r["rule"] == rule && r["state"] == state;
        let what = format!("{rule} {state}");
        let records = self.scene.wait_for_records(&what, |r| of_type(r, "alert").iter().any(is_it));
        of_type(&records, "alert").into_iter().find(is_it).unwrap().clone()
    }
}

/// Fires at once: there is never anybody in the test picture.
fn empty(severity: &str) -> Value {
    json!({
        "severity": severity,
        "close_after_secs": 86400,
        "when": { "type": "count", "under": 1, "zone": [[0.1, 0.5], [0.9, 0.5], [0.9, 1.0]] },
    })
}

#[test]
fn a_stream_s_own_rules_come_fire_and_go_while_it_goes_on() {
    let service = Asked::start();
    let line = json!({ "when": { "type": "crosses", "line": [[0.5, 1.0], [0.5, 0.0]] } });
    let attached = json!({ "url": "test://", "rules": { "line": line } });
    assert_eq!(service.ask("PUT", "/v1/streams/test", &attached).0, 201);
    service.scene.wait_for_records("detections", |r| of_type(r, "detections").len() >= 3);

    let rules = service.rules();
    let shown: Vec<(&Value, &Value)> = rules.iter().map(|rule| (&rule["name"], &rule["origin"])).collect();
    assert_eq!(shown, [(&json!("crowd"), &json!("configuration")), (&json!("line"), &json!("attachment"))]);
    assert_eq!(rules[0]["shapes"], json!([{ "kind": "zone", "points": [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]] }]));
    assert_eq!(rules[1]["shapes"], json!([{ "kind": "line", "points": [[0.5, 1.0], [0.5, 0.0]] }]));
    assert_eq!(rules[1]["rule"]["when"]["type"], "crosses");
    assert!(rules[1]["rule"]["select"].is_null(), "{rules:?}");

    let (status, stream) = service.patch(&json!({ "empty": empty("critical") }));
    assert_eq!((status, &stream["revision"]), (200, &json!(2)), "{stream}");
    let opened = service.wait_for_alert("empty", "opened");
    assert_eq!(opened["severity"], "critical");
    assert_eq!(opened["evidence"]["shapes"][0]["points"][0], json!([0.1, 0.5]));
    let id = opened["alert"].as_str().unwrap();
    wait_for("it is kept", || (service.ask("GET", &format!("/v1/alerts/{id}"), &Value::Null).0 == 200).then_some(()));
    // In the place of the configuration's rule by this name.
    assert_eq!(service.patch(&json!({ "crowd": empty("info") })).0, 200);
    service.wait_for_alert("crowd", "opened");
    assert_eq!(service.rules()[0]["origin"], "attachment");

    assert_eq!(service.patch(&json!({ "empty": null, "crowd": null })).0, 200);
    let closed = service.wait_for_alert("empty", "closed");
    assert_eq!((&closed["alert"], &closed["closed_because"]), (&opened["alert"], &json!("its rule was taken away")));
    assert_eq!(service.wait_for_alert("crowd", "closed")["closed_because"], "its rule was changed");
    assert_eq!(service.rules().len(), 2);

    // Nobody has interrupted it for that.
    let records = service.scene.records("events.jsonl");
    assert_valid(&records);
    let sessions: BTreeSet<&str> = records.iter().map(|r| r["session"].as_str().unwrap()).collect();
    let states: Vec<&Value> = of_type(&records, "status").iter().map(|r| &r["state"]).collect();
    assert_eq!((sessions.len(), states), (1, vec![&json!("playing")]));

    // They are kept with the stream, and so is what they left open.
    let mut talkative = empty("warning");
    talkative["update_every_secs"] = json!(1);
    assert_eq!(service.patch(&json!({ "again": talkative })).0, 200);
    let opened = service.wait_for_alert("again", "opened");
    // What is open is written down once a second.
    let updates = |records: &[Value]| -> Vec<Value> {
        let all = of_type(records, "alert").into_iter();
        all.filter(|r| r["rule"] == "again" && r["state"] == "updated").cloned().collect()
    };
    service.scene.wait_for_records("updates", |r| updates(r).len() >= 4);
    let service = service.killed_and_started_again();
    let names: Vec<Value> = wait_for("the stream", || {
        let (status, answer) = service.ask("GET", "/v1/streams/test/rules", &Value::Null);
        (status == 200).then(|| answer["rules"].as_array().unwrap().iter().map(|rule| rule["name"].clone()).collect())
    });
    assert_eq!(names, ["again", "crowd", "line"]);
    let is_of_the_next_run = |r: &Value| r["session"] != opened["session"];
    service.scene.wait_for_records("it goes on", |r| updates(r).iter().any(is_of_the_next_run));
    assert_eq!(service.ask("DELETE", "/v1/streams/test", &Value::Null).0, 204);
    let closed = service.wait_for_alert("again", "closed");
    assert_eq!(closed["closed_because"], "the stream was detached");
    let n_opened = |rule: &str| {
        let records = service.scene.records("events.jsonl");
        of_type(&records, "alert").iter().filter(|r| r["rule"] == rule && r["state"] == "opened").count()
    };
    assert_eq!((n_opened("again"), &closed["alert"]), (1, &opened["alert"]));
}

#[test]
fn mistakes_in_rules_are_refused_with_their_key() {
    let service = Asked::start();
    assert_eq!(service.ask("PUT", "/v1/streams/test", &json!({ "url": "test://" })).0, 201);
    let check = |rule: Value, expected: u16, parts: &[&str]| {
        for (method, body) in [
            ("PATCH", json!({ "rules": { "bad": rule } })),
            ("PUT", json!({ "url": "test://", "rules": { "bad": rule } })),
        ] {
            let (status, answer) = service.ask(method, "/v1/streams/test", &body);
            let error = answer["error"].as_str().unwrap_or_default();
            assert_eq!(status, expected, "{method} {body}: {answer}");
            for part in parts {
                assert!(error.contains(part), "`{part}` is missing in: {error}");
            }
        }
    };
    let zone = json!({ "when": { "type": "in_zone", "zone": [[0.0, 0.0], [640.0, 0.0], [640.0, 480.0]] } });
    check(zone, 422, &["`rules.bad.when.zone`", "640", "0 to 1"]);
    let class = json!({ "when": { "type": "appeared", "objects": { "classes": ["persn"] } } });
    check(class, 422, &["`rules.bad.when.objects.classes`", "`persn`", "did you mean `person`?"]);
    let said = json!({ "when": { "type": "said", "phrases": ["help"] } });
    check(said, 422, &["`rules.bad.when.type`", "set `transcribe`"]);
    let selects = json!({ "select": { "names": ["x"] }, "when": { "type": "appeared" } });
    check(selects, 422, &["`rules.bad.select`"]);
    check(json!({ "wen": { "type": "appeared" } }), 400, &["`wen`", "did you mean `when`?"]);
    check(json!({ "when": { "type": "appears" } }), 400, &["`appears`", "did you mean `appeared`?"]);
    check(json!({ "when": { "type": "appeared", "zon": [] } }), 400, &["`zon`", "did you mean `zone`?"]);
    check(json!({ "severity": "high", "when": { "type": "appeared" } }), 400, &["`high`", "critical"]);
    let names: Vec<Value> = service.rules().iter().map(|rule| rule["name"].clone()).collect();
    assert_eq!(names, ["crowd"], "what was refused changed nothing");
    assert_eq!(service.ask("GET", "/v1/streams/tset/rules", &Value::Null).0, 404);
    assert_eq!(service.ask("GET", "/v1/streams/test/rules?x=1", &Value::Null).0, 400);

    // The same of a file in the folder; one that is good is taken.
    let file = |rules: &str| {
        let text = format!("[streams.filed]\nurl = \"test://\"\n[streams.filed.rules.line]\n{rules}\n");
        service.scene.file("attachments/filed.toml", text);
    };
    file("when = { type = \"crosses\", line = [[0.5, 0.5], [0.5, 0.5]] }");
    let told = wait_for("the mistake", || Some(service.process.output()).filter(|out| out.contains("begins where")));
    assert!(told.contains("filed.toml:4") && told.contains("`rules.line.when.line`"), "{told}");
    file("when = { type = \"crosses\", line = [[0.5, 0.0], [0.5, 1.0]] }");
    let path = "/v1/streams/filed/rules";
    let filed = wait_for("its rules", || Some(service.ask("GET", path, &Value::Null)).filter(|(s, _)| *s == 200)).1;
    assert_eq!(filed["rules"][1]["shapes"][0]["kind"], "line", "{filed}");
    let (status, answer) = service.ask("PATCH", "/v1/streams/filed", &json!({ "rules": { "line": null } }));
    assert_eq!(status, 409, "{answer}");
}
