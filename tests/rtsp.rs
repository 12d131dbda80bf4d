//! A real RTSP server: with and without credentials, over TCP, UDP and TLS, killed, frozen and restarted in mid-stream.

use serde_json::Value;

use crate::harness::{CameraProcess, Scene, assert_valid, of_type};

const PASSWORD: &str = "s3cret-w0rd";

fn stream(url: &str, more: &str) -> String {
    format!(
        "[streams.cam]\nurl = \"{url}\"\n[streams.cam.source]\nstall_timeout_secs = 2\n{more}\n[profiles.default]\nsampling = {{ fps = 5 }}\n"
    )
}

/// A certificate that nobody has signed, as cameras have them.
fn make_certificate(scene: &Scene) {
    let args = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -keyout key.pem -out cert.pem";
    let made = std::process::Command::new("openssl")
        .args(args.split(' '))
        .current_dir(scene.path(""))
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let read = |name: &str| std::fs::read_to_string(scene.path(name)).unwrap();
    scene.file("camera.pem", read("cert.pem") + &read("key.pem"));
}

fn seen(records: &[Value]) -> usize {
    of_type(records, "detections").iter().filter(|r| !r["objects"].as_array().unwrap().is_empty()).count()
}

fn sessions(records: &[Value]) -> Vec<&str> {
    let mut sessions: Vec<&str> =
        of_type(records, "detections").iter().map(|r| r["session"].as_str().unwrap()).collect();
    sessions.dedup();
    sessions
}

#[test]
fn detections_arrive_over_every_transport_and_carry_the_cameras_clock() {
    let check = |camera_args: &[&str], user: Option<&str>, transport: &str| {
        let scene = Scene::new();
        if camera_args.contains(&"--tls") {
            make_certificate(&scene);
        }
        let camera = CameraProcess::start(&scene, camera_args, user);
        let url = camera.url(user);
        let mut more = format!("transport = \"{transport}\"");
        if camera_args.contains(&"--tls") {
            assert!(url.starts_with("rtsps://"), "{url}");
            more.push_str("\ntls_verify = \"accept_any\"");
        }
        let service = scene.service(&stream(&url, &more));
        // A sender report comes within seconds; from then on the camera's own clock counts.
        let records = scene.wait_for_records("detections on the camera's clock", |r| {
            seen(r) >= 10 && r.iter().any(|r| r["type"] == "detections" && r["clock"] == "ntp")
        });
        assert_valid(&records);
        let playing = of_type(&records, "status");
        assert_eq!(playing[0]["state"], "playing", "{camera_args:?} {transport}");
        let (code, output) = service.terminate();
        assert_eq!(code, Some(0), "{output}");
        assert_valid(&scene.records("events.jsonl"));
        assert!(!output.contains(PASSWORD), "{output}");
    };
    let user = format!("viewer:{PASSWORD}");
    check(&[], None, "tcp");
    check(&[], None, "udp");
    check(&[], Some(&user), "tcp");
    check(&["--basic"], Some(&user), "tcp");
    check(&["--tls", "camera.pem"], None, "tcp");
}

#[test]
fn a_killed_camera_gives_a_gap_and_a_new_session() {
    let scene = Scene::new();
    let camera = CameraProcess::start(&scene, &[], None);
    let service = scene.service(&stream(&camera.url(None), ""));
    scene.wait_for_records("the first detections", |r| seen(r) >= 5);
    let port = camera.kill();
    scene.wait_for_records("the interruption", |r| r.iter().any(|r| r["state"] == "interrupted"));
    let _camera = CameraProcess::start_on(&scene, port, &[], None);
    let records = scene.wait_for_records("a second session", |r| sessions(r).len() == 2 && seen(r) >= 10);
    let gaps = of_type(&records, "gap");
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert_eq!(gaps[0]["reason"], "source_lost");
    assert_eq!(gaps[0]["session"], sessions(&records)[0]);
    assert!(gaps[0]["to_pts_ms"].as_u64().unwrap() > gaps[0]["from_pts_ms"].as_u64().unwrap());
    let (code, output) = service.terminate();
    assert_eq!(code, Some(0), "{output}");
    assert_valid(&scene.records("events.jsonl"));
}

#[test]
fn a_frozen_camera_is_noticed_and_found_again() {
    let scene = Scene::new();
    let camera = CameraProcess::start(&scene, &[], None);
    let service = scene.service(&stream(&camera.url(None), "transport = \"tcp\""));
    scene.wait_for_records("the first detections", |r| seen(r) >= 5);
    camera.signal("STOP");
    scene.wait_for_records("the interruption", |r| r.iter().any(|r| r["state"] == "interrupted"));
    camera.signal("CONT");
    let records = scene.wait_for_records("a second session", |r| sessions(r).len() == 2 && seen(r) >= 10);
    let gaps = of_type(&records, "gap");
    assert_eq!(gaps[0]["reason"], "stalled", "{gaps:?}");
    let (code, output) = service.terminate();
    assert_eq!(code, Some(0), "{output}");
}

#[test]
fn a_wrong_password_is_told_without_being_shown() {
    for args in [&[][..], &["--basic"]] {
        let scene = Scene::new();
        let camera = CameraProcess::start(&scene, args, Some("viewer:right"));
        let service = scene.service(&stream(&camera.url(Some(&format!("viewer:{PASSWORD}"))), ""));
        let records = scene.wait_for_records("the refusal", |r| r.iter().any(|r| r["state"] == "interrupted"));
        let detail = of_type(&records, "status")[0]["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("password"), "{detail}");
        assert!(detail.contains("401") || detail.contains("nauthorized"), "{detail}");
        let (_, output) = service.terminate();
        assert!(output.contains("cam"), "{output}");
        assert!(!output.contains(PASSWORD), "{output}");
        let written = std::fs::read_to_string(scene.path("events.jsonl")).unwrap();
        assert!(!written.contains(PASSWORD), "{written}");
    }
}
