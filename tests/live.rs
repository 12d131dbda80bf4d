//! What is shown live: the real binary, a real RTSP camera, and ffmpeg, a WebSocket client and a real browser that watch.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::browser::Browser;
use crate::{
    harness::{CameraProcess, Process, Scene, of_type, python, wait_for},
    http::served::Follower,
};

/// Starts the service; gives its address once it is ready.
fn run(scene: &Scene, config: &str) -> (Process, String) {
    let process = scene.service(config);
    let address = process.http_address();
    wait_for("readiness", || (curl(&address, "/readyz", &[]).0 == 200).then_some(()));
    (process, address)
}

/// Status, head in small letters, and body.
fn curl(address: &str, path: &str, args: &[&str]) -> (u16, String, Vec<u8>) {
    let url = format!("http://{address}{path}");
    let args = [&["--silent", "--include", "--max-time", "60"], args, &[&url]].concat();
    let output = Command::new("curl").args(args).output().unwrap().stdout;
    let end = output.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(output.len());
    let head = String::from_utf8_lossy(&output[..end]).to_lowercase();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    (status, head, output.get(end + 4..).unwrap_or_default().to_vec())
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// `tests/clients/watch.py`, which writes what it watches into this folder.
fn watch(address: &str, path: &str, folder: &Path) -> Follower {
    std::fs::create_dir_all(folder).unwrap();
    let mut command = Command::new(python());
    command
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/watch.py"))
        .args([&format!("ws://{address}{path}"), folder.to_str().unwrap()])
        .stdin(Stdio::null());
    Follower::of(Process::start(command))
}

/// All that it was told of one type.
fn told(follower: &Follower, kind: &str) -> Vec<Value> {
    of_type(&follower.told(), kind).into_iter().cloned().collect()
}

/// What ffprobe finds in a file: of each kind the presentation times of its packets in milliseconds.
fn packets(file: &Path) -> (Vec<u64>, Vec<u64>) {
    let entries = "packet=codec_type,pts_time";
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", entries, "-of", "json"])
        .arg(file)
        .output()
        .unwrap();
    let probed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let times = |kind: &str| {
        let of_kind = probed["packets"].as_array().unwrap().iter().filter(|packet| packet["codec_type"] == kind);
        let time =
            |packet: &Value| (packet["pts_time"].as_str().unwrap().parse::<f64>().unwrap() * 1000.0).round() as u64;
        of_kind.map(time).collect::<Vec<_>>()
    };
    (times("video"), times("audio"))
}

/// What ffmpeg complains of when it decodes a file.
fn complaints(file: &Path) -> String {
    // In the file's own time base: pictures may be closer together than their usual rate has it.
    let as_they_are = ["-fps_mode", "passthrough", "-enc_time_base", "-1", "-f", "null", "-"];
    let output = Command::new("ffmpeg").args(["-v", "warning", "-i"]).arg(file).args(as_they_are).output().unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Presentation times of the pictures that records tell of.
fn analysed(scene: &Scene, session: &Value) -> Vec<u64> {
    let records = scene.records("events.jsonl");
    let of_session = of_type(&records, "detections").into_iter().filter(|record| record["session"] == *session);
    of_session.map(|record| record["pts_ms"].as_u64().unwrap()).collect()
}

#[test]
fn a_stream_is_watched_in_its_own_time_by_strangers_and_in_a_browser() {
    let scene = Scene::new();
    let camera = CameraProcess::start(&scene, &[], None);
    let config = format!(
        "[streams.cam]\nurl = '{}'\n[streams.painted]\nurl = 'test://'\n[http]\nlisten = '127.0.0.1:0'\n\
         [hls]\nenabled = false\n[profiles.default]\nsampling = {{ fps = 5 }}\n[profiles.heard]\ntranscribe = \
         'whisper-tiny.en'\ndetect = 'none'\nselect = {{ names = ['heard'] }}\n",
        camera.url(None)
    );
    let (service, address) = run(&scene, &config);
    scene.wait_for_records("detections", |records| of_type(records, "detections").len() > 5);

    // Pictures that are painted, and not encoded, cannot be handed on; sound alone has none.
    for (name, part) in [("painted", "not h.264"), ("heard", "no pictures")] {
        if name == "heard" {
            let body = json!({ "url": camera.url(None) }).to_string();
            let args = ["-X", "PUT", "-H", "Content-Type: application/json", "-d", &body];
            assert_eq!(curl(&address, "/v1/streams/heard", &args).0, 201);
        }
        let (status, _, body) = wait_for("a refusal", || {
            let answer = curl(&address, &format!("/v1/streams/{name}/live.mp4"), &[]);
            (answer.0 == 409 && !String::from_utf8_lossy(&answer.2).contains("handed on")).then_some(answer)
        });
        let body = String::from_utf8_lossy(&body).to_lowercase();
        assert!(status == 409 && body.contains(part), "{name}: {body}");
        let (status, _, body) = curl(&address, "/v1/streams/heard/preview.jpg", &[]);
        assert_eq!(status, 404, "{}", String::from_utf8_lossy(&body));
    }

    // Two strangers and a browser at the same time.
    let path = "/v1/streams/cam/live.mp4";
    assert_eq!(curl(&address, path, &[]).0, 426, "it can be watched");
    let with_sound = watch(&address, path, &scene.path("first"));
    let mute = watch(&address, &format!("{path}?sound=off"), &scene.path("mute"));
    let browser = Browser::open("live.cjs", &format!("ws://{address}{path}"));
    wait_for("some seconds", || (told(&with_sound, "clock").len() >= 6).then_some(()));
    wait_for("some seconds", || (told(&mute, "clock").len() >= 6).then_some(()));
    let (time, pictures, _) = browser.wait("pictures", |b| Some(b.at()).filter(|(_, pictures, _)| *pictures > 30));
    browser.wait("the time to go on", |b| (b.at().0 > time + 1.0 && b.at().1 > pictures).then_some(()));

    let init = told(&with_sound, "init").remove(0);
    assert_eq!((&init["width"], &init["height"], &init["has_audio"]), (&768.into(), &576.into(), &false.into()));
    assert!(init["mime"].as_str().unwrap().starts_with("video/mp4; codecs=\"avc1."), "{init}");
    let times = analysed(&scene, &init["session"]);
    for folder in ["first", "mute"] {
        let file = scene.path(folder).join("0.mp4");
        let (video, _) = packets(&file);
        assert!(video.len() > 40, "{folder}: {video:?}");
        // Every analysed picture of the time that was watched is there, at the time that its record tells.
        let (begin, end) = (video.iter().min().unwrap(), video.iter().max().unwrap());
        let inside: Vec<&u64> = times.iter().filter(|time| (*begin..=*end).contains(*time)).collect();
        assert!(inside.len() > 10, "{folder}: {times:?} {begin} {end}");
        for time in inside {
            let near = video.iter().map(|v| v.abs_diff(*time)).min();
            // A camera that stutters on a busy machine has its times put right while they come.
            assert!(near <= Some(20), "{folder}: {time} is not in {video:?}");
        }
        assert_eq!(complaints(&file), "", "{folder}");
    }

    // The camera comes back: the stream's time begins anew, and with it everything.
    let port = camera.kill();
    let _camera = CameraProcess::start_on(&scene, port, &[], None);
    let inits = wait_for("another session", || Some(told(&with_sound, "init")).filter(|inits| inits.len() >= 2));
    assert_ne!(inits[0]["session"], inits[1]["session"]);
    let n_clocks = told(&with_sound, "clock").len();
    wait_for("its clock", || (told(&with_sound, "clock").len() > n_clocks + 1).then_some(()));
    let (video, _) = packets(&scene.path("first").join("1.mp4"));
    assert!(video.len() > 5 && video[0] < 30_000, "{video:?}");
    browser.wait("the browser to go on", |b| (b.of("init").len() >= 2).then_some(()));
    let (_, before, _) = browser.at();
    browser.wait("pictures of it", |b| (b.at().1 != before && b.at().0 > 0.5).then_some(()));

    // Whoever watches when the stream goes is told.
    let (code, output) = service.terminate();
    assert_eq!(code, Some(0), "{output}");
    assert!(told(&with_sound, "end").pop().is_some_and(|end| end["detail"].is_string()));
    // The stream goes first, or the service does.
    let closed = mute.wait_for("closed")["closed"].as_u64();
    assert!(matches!(closed, Some(1000 | 1001)), "{closed:?}");
    let end = browser.close();
    assert!(end["deviation"].as_f64().unwrap() > 10.0, "the last picture is one plain colour: {end}");
    assert_eq!((&end["width"], &end["height"]), (&768.into(), &576.into()));
}

#[test]
fn sound_comes_along_and_the_newest_picture_is_shown() {
    let scene = Scene::new();
    let camera = CameraProcess::start(&scene, &[], None);
    let config = format!(
        "[streams.cam]\nurl = '{}'\n[http]\nlisten = '127.0.0.1:0'\n[profiles.default]\nsampling = {{ fps = 5 }}\n",
        camera.url(None)
    );
    let (_service, address) = run(&scene, &config);
    scene.wait_for_records("detections", |records| of_type(records, "detections").len() > 5);
    let viewer = watch(&address, "/v1/streams/cam/live.mp4", &scene.path("watched"));
    wait_for("some seconds", || (told(&viewer, "clock").len() >= 5).then_some(()));
    let init = told(&viewer, "init").remove(0);
    assert_eq!(init["has_audio"], true, "{init}");
    let file = scene.path("watched").join("0.mp4");
    let (video, audio) = packets(&file);
    assert!(video.len() > 30 && audio.len() > 100, "{} {}", video.len(), audio.len());
    assert!(video[0].abs_diff(audio[0]) < 500, "{} {}", video[0], audio[0]);
    let secs = (audio[audio.len() - 1] - audio[0]) as f64 / 1000.0;
    let n_frames = audio.len() as f64 / secs;
    assert!((40.0..55.0).contains(&n_frames), "{n_frames} frames of sound a second");
    assert_eq!(complaints(&file), "");
    for clock in told(&viewer, "clock") {
        let pts = clock["pts_ms"].as_u64().unwrap();
        assert!(
            clock["captured_at"].is_string() && clock["sent_at"].is_string() && clock["quality"].is_string(),
            "{clock}"
        );
        assert!(pts >= video[0], "{clock}");
    }

    let path = "/v1/streams/cam/preview.jpg";
    let (status, head, jpeg) =
        wait_for("a picture", || Some(curl(&address, path, &[])).filter(|answer| answer.0 == 200));
    assert_eq!((status, header(&head, "content-type")), (200, Some("image/jpeg")), "{head}");
    let frame = jpeg.windows(2).position(|w| w == [0xff, 0xc0]).expect("a JPEG");
    let side = |at: usize| u16::from_be_bytes([jpeg[frame + at], jpeg[frame + at + 1]]);
    // Of 768 x 576, through a square model.
    assert_eq!((side(7), side(5)), (640, 480));
    let pts: u64 = header(&head, "eyewitness-pts-ms").unwrap().parse().unwrap();
    let session = header(&head, "eyewitness-session").unwrap().to_uppercase();
    assert!(header(&head, "eyewitness-captured-at").is_some(), "{head}");
    let records = scene.wait_for_records("its record", |records| {
        of_type(records, "detections").iter().any(|r| r["pts_ms"] == pts && r["session"] == *session)
    });
    assert!(!records.is_empty());
    // Another picture has another tag; the same one is not sent twice.
    let etag = header(&head, "etag").unwrap().to_owned();
    wait_for("another picture", || {
        let answer = curl(&address, path, &["-H", &format!("If-None-Match: {}", etag.to_uppercase())]);
        (answer.0 == 200 && header(&answer.1, "etag") != Some(&etag)).then_some(())
    });
    wait_for("the same picture", || {
        let known = curl(&address, path, &[]);
        let tag = header(&known.1, "etag")?.to_uppercase();
        let again = curl(&address, path, &["-H", &format!("If-None-Match: {tag}")]);
        (again.0 == 304 && again.2.is_empty()).then_some(())
    });
}
