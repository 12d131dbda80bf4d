//! What an operator does with a running service: silences, acknowledges, looks how it is; and what of that outlives a restart.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    process::Command,
    sync::Arc,
    thread,
};

use parking_lot::Mutex;
use serde_json::Value;

use super::running::run;
use crate::harness::{Scene, of_type, wait_for};

/// Takes whatever is posted, and keeps the bodies.
fn receiver() -> (String, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&bodies);
    let serve = move || {
        for connection in listener.incoming() {
            let mut connection = BufReader::new(connection.unwrap());
            loop {
                let (mut length, mut line) = (0, String::new());
                while connection.read_line(&mut line).is_ok_and(|n| n > 2) {
                    let (name, value) = line.split_once(':').unwrap_or_default();
                    if name.eq_ignore_ascii_case("content-length") {
                        length = value.trim().parse().unwrap();
                    }
                    line.clear();
                }
                let mut body = vec![0; length];
                if length == 0 || connection.read_exact(&mut body).is_err() {
                    break;
                }
                taken.lock().push(serde_json::from_slice(&body).unwrap());
                connection.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
            }
        }
    };
    thread::Builder::new().name("receiver".into()).spawn(serve).unwrap();
    (url, bodies)
}

/// Status and body of an answer.
fn ask(address: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut command = Command::new("curl");
    command.args(["--silent", "--max-time", "60", "--write-out", "\n%{http_code}", "--request", method]);
    if !body.is_empty() {
        command.args(["--header", "Content-Type: application/json", "--data", body]);
    }
    let output = command.arg(format!("http://{address}{path}")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
}

#[test]
fn a_silenced_alert_is_kept_and_published_but_nobody_is_called() {
    let scene = Scene::new();
    let (url, posted) = receiver();
    let config = format!(
        "[http]\nlisten = '127.0.0.1:0'\n[rules.loud]\nwhen = {{ type = 'health', of = ['failed', 'interrupted'] }}\n\
         [rules.quiet]\nwhen = {{ type = 'health', of = ['failed', 'interrupted'] }}\n\
         [sinks.file]\ntype = 'file'\npath = 'events.jsonl'\n\
         [sinks.hook]\ntype = 'webhook'\nurl = '{url}'\ntypes = ['alert']\n"
    );
    let (process, address) = run(&scene, &config);
    let (status, silence) = ask(&address, "POST", "/v1/silences", r#"{"rule":"quiet","minutes":60,"reason":"works"}"#);
    assert_eq!(status, 201, "{silence}");
    assert_eq!(ask(&address, "PUT", "/v1/streams/yard", r#"{"url":"/nowhere/clip.mp4"}"#).0, 201);
    let alerts = wait_for("two alerts", || {
        let (_, answer) = ask(&address, "GET", "/v1/alerts", "");
        answer["alerts"].as_array().filter(|alerts| alerts.len() == 2).cloned()
    });
    let of = |alerts: &[Value], rule: &str| alerts.iter().find(|alert| alert["rule"] == rule).unwrap().clone();
    assert_eq!(of(&alerts, "quiet")["silenced"]["id"], silence["id"]);
    assert_eq!(of(&alerts, "loud")["silenced"], Value::Null);

    // What is wrong, and what to do.
    let failed = wait_for("the failed stream", || {
        let (_, health) = ask(&address, "GET", "/v1/health", "");
        let checks = health["checks"].as_array().unwrap();
        let check = checks.iter().find(|c| c["subject"] == "yard" && c["level"] == "bad")?.clone();
        assert_eq!(health["level"], "bad");
        assert!(health["sinks"].as_array().unwrap().iter().any(|sink| sink["name"] == "hook"), "{health}");
        Some(check)
    });
    assert_eq!(failed["id"], "stream_failed");
    assert!(failed["says"].as_str().unwrap().contains("given up: "), "{failed}");
    assert!(failed["do"].as_str().unwrap().contains("eyewitness probe URL"), "{failed}");

    let id = of(&alerts, "loud")["alert"].as_str().unwrap().to_owned();
    let acknowledge = format!("/v1/alerts/{id}/acknowledge");
    assert_eq!(ask(&address, "POST", &acknowledge, r#"{"note":"no camera yet"}"#).0, 200);
    assert_eq!(ask(&address, "DELETE", "/v1/streams/yard", "").0, 204);
    // Records come in order: whatever was sent of the other alert came before.
    wait_for("the end of the loud alert", || {
        posted.lock().iter().any(|body| body["rule"] == "loud" && body["state"] == "closed").then_some(())
    });
    let (code, output) = process.terminate();
    assert_eq!(code, Some(0), "{output}");
    let told: Vec<String> = posted.lock().iter().map(|body| format!("{} {}", body["rule"], body["state"])).collect();
    assert_eq!(told, ["\"loud\" \"opened\"", "\"loud\" \"closed\""]);
    let records = scene.records("events.jsonl");
    let alerts = of_type(&records, "alert");
    assert_eq!(alerts.len(), 4, "{alerts:?}");
    for alert in alerts {
        let expected = if alert["rule"] == "quiet" { &silence["id"] } else { &Value::Null };
        assert_eq!(&alert["silenced"]["id"], expected, "{alert}");
    }
    assert!(
        output.contains("INFO audit user=\"local\"") && output.contains("/v1/silences"),
        "changes are logged: {output}"
    );

    // A restart forgets nothing of it.
    let (process, address) = run(&scene, &config);
    let (_, silences) = ask(&address, "GET", "/v1/silences", "");
    assert_eq!(silences["silences"], Value::from(vec![silence.clone()]));
    let (_, alert) = ask(&address, "GET", &format!("/v1/alerts/{id}"), "");
    assert_eq!(
        (&alert["acknowledged"]["by"], &alert["acknowledged"]["note"]),
        (&"local".into(), &"no camera yet".into())
    );
    let lift = format!("/v1/silences/{}", silence["id"].as_str().unwrap());
    assert_eq!(ask(&address, "DELETE", &lift, "").0, 204);
    let (_, audit) = ask(&address, "GET", "/v1/audit", "");
    assert_eq!((&audit["records"][0]["kind"], &audit["records"][0]["subject"]), (&"silence".into(), &silence["id"]));
    assert_eq!(process.terminate().0, Some(0));
}
