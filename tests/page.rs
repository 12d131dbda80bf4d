//! The page in a real headless Chromium, against the real binary and a real RTSP camera: the journeys of `console/e2e`, one after
//! the other on one service. Each prints what it saw as JSON lines, or says why it failed.

use std::process::Command;

use serde_json::{Value, json};

use crate::{
    chaos::Scale,
    harness::{CameraProcess, Process, Scene, cache, wait_for, whole_machine},
};

const TOKEN: &str = "0123456789-of-an-operator";
const VIEWER: &str = "0123456789-of-a-viewer";
/// In this order: `rule` leaves an alert behind, which `access` then looks at.
const JOURNEYS: [&str; 9] = ["wall", "boxes", "captions", "moment", "add", "rule", "access", "lost", "viewer"];

fn service(scene: &Scene) -> (Process, String) {
    let config = format!(
        "[http]\nlisten = '127.0.0.1:0'\ntoken = '{TOKEN}'\nusers.reader = {{ role = 'viewer', token = '{VIEWER}' }}\n\
         [profiles.default]\nsampling = {{ fps = 5 }}\ntranscribe = 'whisper-tiny.en'\n"
    );
    let process = scene.service(&config);
    let address = process.http_address();
    (process, address)
}

/// Status and body of a request with the operator's token.
fn ask(address: &str, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-m", "60", "-X", method, "-w", "\n%{http_code}", &format!("http://{address}{path}")]);
    curl.args(["-H", &format!("authorization: Bearer {TOKEN}")]);
    if let Some(body) = body {
        curl.args(["-H", "content-type: application/json", "-d", &body.to_string()]);
    }
    let output = String::from_utf8(curl.output().unwrap().stdout).unwrap();
    let (body, status) = output.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
}

#[test]
fn every_journey_through_the_page() {
    let _machine = whole_machine();
    let scene = Scene::new();
    let camera = CameraProcess::start(&scene, &[], None);
    let (process, address) = service(&scene);
    let (status, body) = ask(&address, "PUT", "/v1/streams/square", Some(&json!({ "url": camera.url(None) })));
    assert!(matches!(status, 200 | 201), "{status} {body}");
    wait_for("the stream to play", || {
        let (_, body) = ask(&address, "GET", "/v1/streams/square", None);
        (body["state"] == "playing").then_some(())
    });
    let long = ["memory"];
    let long = &long[..Scale::of_this_run().of(0, 1)];
    for journey in JOURNEYS.iter().chain(long) {
        let mut node = Command::new("node");
        node.arg(format!("{}/console/e2e/{journey}.mjs", env!("CARGO_MANIFEST_DIR")))
            .env("NODE_PATH", cache().join("browser/node_modules"))
            .env("BASE_URL", format!("http://{address}"))
            .env("TOKEN", TOKEN)
            .env("VIEWER_TOKEN", VIEWER)
            .env("STREAM", "square");
        if let Some(folder) = std::env::var_os("EYEWITNESS_TEST_SCREENSHOTS") {
            node.env("OUT", folder);
        }
        let done = node.output().expect("node: `make setup-test`");
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(done.status.success(), "{journey}:\n{}{}", said(&done.stdout), said(&done.stderr));
    }
    // Who changed what is written down, and no secret anywhere.
    let (_, audit) = ask(&address, "GET", "/v1/audit?limit=1000", None);
    let audit = audit.to_string();
    for part in [r#""route":"/v1/silences""#, r#""route":"/v1/session""#, r#""user":"reader""#, r#""subject":"square""#]
    {
        assert!(audit.contains(part), "{part} is missing in {audit}");
    }
    let (code, output) = process.terminate();
    assert_eq!(code, Some(0), "{output}");
    for secret in [TOKEN, VIEWER, "hunter2"] {
        assert!(!output.contains(secret) && !audit.contains(secret), "{secret} was told");
    }
}
