//! Attaching for real: the service, a real camera, the commands. Streams come, are changed and go while another one runs;
//! what is attached outlives a kill; files of the watched folder do the same; URLs are tried before they are kept.

use std::process::Command;

use serde_json::Value;

use crate::harness::{CameraProcess, Done, Process, Scene, assert_valid, of_type, wait_for};

const PASSWORD: &str = "s3cret-w0rd";

const CONFIG: &str = r#"
[http]
listen = "127.0.0.1:0"
[attachments]
store = "store"
folder = "attachments"
[secrets.gate]
user = "viewer"
password_file = "password"
[secrets.wrong]
user = "viewer"
password_file = "wrong"
[profiles.default]
sampling = { fps = 5 }
[profiles.people]
sampling = { fps = 4 }
classes = ["person"]
select = { tags = [{ key = "Location", values = ["Front"] }] }
"#;

/// A service that something can be attached to, and its address.
struct Attachable {
    scene: Scene,
    process: Process,
    url: String,
}

impl Attachable {
    fn start() -> Self {
        let scene = Scene::new();
        std::fs::create_dir(scene.path("attachments")).unwrap();
        scene.file("password", PASSWORD);
        scene.file("wrong", "an0ther-w0rd");
        let process = scene.service(CONFIG);
        let url = address(&process);
        Self { scene, process, url }
    }

    /// `kill -9`, and the same again.
    fn killed_and_started_again(mut self) -> Self {
        self.process.signal("KILL");
        self.process = self.scene.service(CONFIG);
        self.url = address(&self.process);
        self
    }

    fn run(&self, args: &[&str]) -> Done {
        let mut command = self.scene.command(args);
        Done::from(command.env("EYEWITNESS_SERVICE", &self.url).env_remove("EYEWITNESS_TOKEN").output().unwrap())
    }

    /// One stream, as it is listed; none where it is not.
    fn stream(&self, name: &str) -> Option<Value> {
        let listed = self.run(&["streams", "--name", name, "--json"]).expect(0).stdout;
        serde_json::from_str::<Vec<Value>>(&listed).unwrap().pop()
    }

    fn wait_until(&self, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, || self.stream(name).filter(&is_so))
    }

    fn wait_for_detections(&self, name: &str, n: usize) -> Vec<Value> {
        self.scene.wait_for_records(&format!("{n} detections of {name}"), |r| detections(r, name).len() >= n)
    }
}

fn address(process: &Process) -> String {
    format!("http://{}", process.http_address())
}

fn detections<'a>(records: &'a [Value], name: &str) -> Vec<&'a Value> {
    of_type(records, "detections").into_iter().filter(|r| r["stream"] == name).collect()
}

fn sessions(records: &[Value], name: &str) -> Vec<String> {
    let mut sessions: Vec<String> =
        detections(records, name).iter().map(|r| r["session"].as_str().unwrap().to_owned()).collect();
    sessions.dedup();
    sessions
}

#[test]
fn streams_come_change_and_go_and_another_is_not_disturbed() {
    let service = Attachable::start();
    let camera = CameraProcess::start(&service.scene, &[], None);
    let guarded = CameraProcess::start(&service.scene, &[], Some(&format!("viewer:{PASSWORD}")));
    service.run(&["attach", &camera.url(None), "--name", "other", "--tag", "Location=Back"]).expect(0);
    let url = guarded.url(None);
    let attach = ["attach", &url, "--name", "yard", "--credentials", "gate", "--tag", "Location=Back"];
    assert!(service.run(&attach).expect(0).stdout.contains("yard: attached (revision 1, profile default)"));
    service.wait_for_detections("other", 5);
    let before = service.wait_for_detections("yard", 5);
    assert!(detections(&before, "yard").iter().all(|r| r["tags"]["Location"] == "Back"));
    let yard = service.wait_until("yard", "yard plays", |s| s["state"] == "playing" && s["figures"].is_object());
    assert_eq!((&yard["origin"], &yard["profile"]), (&"api".into(), &"default".into()), "{yard}");

    // A tag binds another profile, live.
    let patched = Command::new("curl")
        .args(["-sS", "-X", "PATCH", "-H", "Content-Type: application/json", "-d", r#"{"tags":{"Location":"Front"}}"#])
        .arg(format!("{}/v1/streams/yard", service.url))
        .output()
        .unwrap();
    let patched: Value = serde_json::from_slice(&patched.stdout).unwrap();
    assert_eq!((&patched["profile"], &patched["revision"]), (&"people".into(), &2.into()), "{patched}");
    let front = |r: &[Value]| detections(r, "yard").iter().filter(|r| r["tags"]["Location"] == "Front").count();
    service.scene.wait_for_records("records of the front", |r| front(r) >= 5);
    let drawn = service.run(&["top", "--once"]).expect(0).stdout;
    for part in ["2 streams", "yard", "people", "other", "default"] {
        assert!(drawn.contains(part), "`{part}` is missing in:\n{drawn}");
    }

    assert!(service.run(&["detach", "yard"]).expect(0).stdout.contains("yard: detached"));
    assert!(service.stream("yard").is_none());
    let n = detections(&service.scene.records("events.jsonl"), "other").len();
    let records = service.wait_for_detections("other", n + 10);
    assert_eq!(sessions(&records, "other").len(), 1, "one connection all along");
    assert!(of_type(&records, "gap").iter().all(|gap| gap["stream"] != "other"));
    assert_valid(&records);
    assert!(!std::fs::read_to_string(service.scene.path("events.jsonl")).unwrap().contains(PASSWORD));
    let (code, output) = service.process.terminate();
    assert_eq!(code, Some(0), "{output}");
    assert!(!output.contains(PASSWORD), "{output}");
}

#[test]
fn what_is_attached_outlives_a_kill() {
    let service = Attachable::start();
    let camera = CameraProcess::start(&service.scene, &[], None);
    for (name, tag) in [("a", "Location=Front"), ("b", "Location=Back")] {
        service.run(&["attach", &camera.url(None), "--name", name, "--tag", tag, "--weight", "2"]).expect(0);
    }
    service.wait_for_detections("a", 3);
    service.run(&["detach", "b"]).expect(0);
    let before = service.wait_until("a", "a plays", |s| s["state"] == "playing");
    let service = service.killed_and_started_again();
    let after = service.wait_until("a", "a plays again", |s| s["state"] == "playing");
    for key in ["url", "tags", "weight", "profile", "origin", "revision"] {
        assert_eq!(after[key], before[key], "{key}");
    }
    assert!(after["epoch"].as_u64() > before["epoch"].as_u64(), "{before} {after}");
    assert!(service.stream("b").is_none());
    assert_eq!(service.process.terminate().0, Some(0));
}

#[test]
fn files_of_a_folder_attach_and_only_they_may_change_it() {
    let service = Attachable::start();
    let camera = CameraProcess::start(&service.scene, &[], None);
    let file = |tag: &str| {
        let text = format!("[streams.yard]\nurl = '{}'\ntags = {{ Location = '{tag}' }}\n", camera.url(None));
        service.scene.file("attachments/cameras.toml", text);
    };
    file("Back");
    let yard = service.wait_until("yard", "yard plays", |s| s["state"] == "playing");
    assert_eq!((&yard["origin"], &yard["profile"]), (&"folder".into(), &"default".into()));
    service.run(&["detach", "yard"]).expect(2).complains(&["yard", "folder"]);
    service.run(&["attach", "test://", "--name", "yard"]).expect(2).complains(&["yard", "folder"]);
    file("Front");
    service.wait_until("yard", "the other profile", |s| s["profile"] == "people" && s["state"] == "playing");
    // A mistake changes nothing.
    service.scene.file("attachments/cameras.toml", "[streams.yard]\nurll = 'x'\n");
    wait_for("a word about the mistake", || service.process.output().contains("urll").then_some(()));
    assert!(service.stream("yard").is_some());
    std::fs::remove_file(service.scene.path("attachments/cameras.toml")).unwrap();
    wait_for("yard is gone", || service.stream("yard").is_none().then_some(()));
    assert_eq!(service.process.terminate().0, Some(0));
}

#[test]
fn urls_are_tried_before_they_are_kept() {
    let service = Attachable::start();
    let camera = CameraProcess::start(&service.scene, &[], Some(&format!("viewer:{PASSWORD}")));
    let url = camera.url(None);
    let done = service.run(&["probe", &url, "--credentials", "gate", "--snapshot", "yard.jpg"]).expect(0);
    for part in ["h264", "768x576", "fps", "aac", "yard.jpg"] {
        assert!(done.stdout.contains(part), "`{part}` is missing in:\n{}", done.stdout);
    }
    let picture = std::fs::read(service.scene.path("yard.jpg")).unwrap();
    assert!(picture.starts_with(b"\xff\xd8\xff") && picture.ends_with(b"\xff\xd9") && picture.len() > 5_000);

    let check = |args: &[&str], parts: &[&str]| {
        let done = service.run(&[&["probe"], args].concat()).expect(1).complains(parts);
        assert!(!done.stderr.contains(PASSWORD) && !done.stderr.contains("an0ther"), "{}", done.stderr);
    };
    check(&[&url, "--credentials", "wrong"], &["password"]);
    check(&[&url, "--credentials", "gait"], &["gait", "did you mean `gate`"]);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    check(&[&format!("rtsp://127.0.0.1:{port}/1")], &["refused"]);
    service.scene.file("text.mp4", "this is no film, this is a text that somebody called .mp4\n".repeat(50));
    check(&["text.mp4"], &["text.mp4"]);
    check(&["gopher2://h/x"], &["gopher2"]);
    // The same without a service.
    let done = service.run(&["probe", crate::harness::CLIP, "--local", "--json"]).expect(0);
    let found: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((&found["video"]["width"], &found["video"]["height"]), (&768.into(), &576.into()), "{found}");
    service.run(&["probe", "text.mp4", "--local"]).expect(1).complains(&["text.mp4"]);
    // Nothing of it was kept.
    assert_eq!(service.run(&["streams"]).expect(0).stdout, "no stream is attached\n");
    let (code, output) = service.process.terminate();
    assert_eq!(code, Some(0), "{output}");
    assert!(!output.contains(PASSWORD), "{output}");
}
