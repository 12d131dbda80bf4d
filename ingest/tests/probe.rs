//! Trying a source before it is attached: what it is, or why it does not play.

use std::{net::TcpListener, path::Path, time::Duration};

use base::{redact::SourceUrl, time::SystemClock};
use ingest::{
    ProbeReport, SourceConfig,
    camera::{Camera, CameraOptions},
    probe,
};

use crate::{
    harness::*,
    network::{Server, hls},
};

fn try_it(url: &str) -> Result<ProbeReport, String> {
    try_for(url, Duration::from_secs(20))
}

fn try_for(url: &str, limit: Duration) -> Result<ProbeReport, String> {
    let url = SourceUrl::parse(url).expect("url");
    probe(&url, &SourceConfig::default(), limit, &SystemClock::new()).map_err(|error| error.to_string())
}

fn demo() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../media/demo.mp4")
}

fn check_snapshot(report: &ProbeReport, size: (u32, u32)) {
    let snapshot = report.snapshot.as_ref().expect("a snapshot");
    assert_eq!((snapshot.width, snapshot.height), size);
    let jpeg = &snapshot.jpeg;
    assert!(jpeg.starts_with(&[0xFF, 0xD8]) && jpeg.ends_with(&[0xFF, 0xD9]), "{} bytes", jpeg.len());
}

#[test]
fn a_camera_and_its_password() {
    let mut options = CameraOptions::new(demo());
    let open = Camera::start(options.clone()).expect("camera");
    let report = try_it(&open.url()).expect("plays");
    let video = report.video.as_ref().expect("pictures");
    assert_eq!((&*report.protocol, &*video.codec), ("rtsp", "h264"));
    assert!(video.profile.is_some() && video.bits_per_second.is_some_and(|bits| bits > 10_000), "{video:?}");
    let (width, height) = (video.width.expect("width"), video.height.expect("height"));
    assert!(video.measured_fps.is_some_and(|fps| (5.0..61.0).contains(&fps)), "{video:?}");
    check_snapshot(&report, (width, height));
    assert!(report.first_picture_ms.is_some() && report.clock.is_some() && !report.resumable, "{report:?}");
    assert!(report.audio.is_some_and(|audio| audio.codec == "aac" && audio.sample_rate.is_some()));
    options.users = vec![("admin".into(), "hunter2".into())];
    let guarded = Camera::start(options).expect("camera");
    let with = |who: &str| try_it(&guarded.url().replace("rtsp://", &format!("rtsp://{who}")));
    assert!(with("admin:hunter2@").is_ok());
    for who in ["", "admin:wr0ngw0rd@"] {
        let refused = with(who).expect_err("no entry");
        assert!(refused.contains("refused user or password (401)") && !refused.contains("wr0ngw0rd"), "{refused}");
    }
    let lost = try_it(&format!("{}/elsewhere", open.url())).expect_err("no such path");
    assert!(lost.contains("no such stream (404)"), "{lost}");
}

#[test]
fn what_does_not_play_says_why() {
    let folder = tempfile::tempdir().expect("folder");
    let text = folder.path().join("notes.mp4");
    std::fs::write(&text, "these are no pictures\n".repeat(100)).expect("write");
    let check = |url: &str, limit: Duration, expected: &str| {
        let clock = SystemClock::new();
        let error = try_for(url, limit).expect_err(url);
        assert!(error.contains(expected) && !error.contains("s3cret"), "{url}: {error}");
        // What is beyond the limit is a hang.
        assert!(clock.monotonic() < limit + Duration::from_secs(20), "{url} took {:?}", clock.monotonic());
    };
    let long = Duration::from_secs(20);
    let dead = TcpListener::bind("127.0.0.1:0").expect("port").local_addr().expect("address");
    check(&format!("rtsp://me:s3cret@{dead}/1"), long, "connection refused: nothing listens at");
    check(&format!("http://{dead}/live.m3u8"), long, "connection refused: nothing listens at");
    check(&file_url(&text), long, "this is a text file, not media");
    check(&file_url(&folder.path().join("missing.mp4")), long, "there is no such file");
    check("test://?fps=none", long, "write a whole number");
    check("rtsp:///1", long, "no host");
    // One that takes the connection and says nothing.
    let quiet = TcpListener::bind("127.0.0.1:0").expect("port");
    let address = quiet.local_addr().expect("address");
    let error = try_for(&format!("rtsp://me:s3cret@{address}/1"), Duration::from_secs(2)).expect_err("quiet");
    let says_so = ["does not answer", "within the first 2.0 s"].iter().any(|text| error.contains(text));
    assert!(says_so && !error.contains("s3cret"), "{error}");
}

#[test]
fn files_playlists_and_test_pictures() {
    let folder = tempfile::tempdir().expect("folder");
    let report = try_it("test://?width=1600&height=900&fps=10&audio=tone").expect("plays");
    let video = report.video.as_ref().expect("pictures");
    assert_eq!((&*video.codec, video.width, video.stated_fps), ("raw", Some(1600), Some(10.0)));
    assert!(video.measured_fps.is_some_and(|fps| (9.0..11.0).contains(&fps)), "{video:?}");
    check_snapshot(&report, (1280, 720));
    let sound = clip(folder.path(), "sound.ogg", "", "opusenc", "oggmux");
    let report = try_it(&file_url(&sound)).expect("plays");
    assert_eq!((report.container.as_deref(), &report.video, &report.snapshot), (Some("ogg"), &None, &None));
    let audio = report.audio.as_ref().expect("sound");
    assert_eq!((&*audio.codec, audio.channels, audio.sample_rate), ("opus", Some(1), Some(48_000)));
    let report = try_it(&file_url(&mp4(folder.path(), "clip.mp4"))).expect("plays");
    assert_eq!((&*report.protocol, report.container.as_deref(), report.resumable), ("file", Some("mp4"), true));
    assert_eq!(report.clock.as_deref(), Some("container"));
    assert!(report.video.as_ref().is_some_and(|video| video.stated_fps == Some(25.0)), "{report:?}");
    check_snapshot(&report, (160, 120));
    hls(folder.path());
    let server = Server::start(folder.path(), None);
    let report = try_it(&server.url("index.m3u8")).expect("plays");
    assert_eq!((&*report.protocol, report.container.as_deref()), ("http", Some("hls")));
}

/// In a process of its own, because descriptors and threads belong to the whole process.
#[test]
fn nothing_is_left_behind() {
    const ALONE: &str = "EYEWITNESS_PROBE_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let program = std::env::current_exe().expect("program");
        let run = std::process::Command::new(program)
            .args(["--exact", "probe::nothing_is_left_behind", "--nocapture"])
            .env(ALONE, "1")
            .output()
            .expect("run");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        return;
    }
    let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).map_or(0, Iterator::count);
    let camera = Camera::start(CameraOptions::new(demo())).expect("camera");
    let dead = TcpListener::bind("127.0.0.1:0").expect("port").local_addr().expect("address");
    let once = || {
        try_it(&camera.url()).expect("plays");
        try_it(&format!("rtsp://{dead}/1")).expect_err("dead");
    };
    (0..2).for_each(|_| once());
    let before = (count("fd"), count("task"));
    (0..3).for_each(|_| once());
    // The camera lets go of its clients in its own time.
    let patience = SystemClock::new();
    let is_flat = || count("fd") <= before.0 && count("task") <= before.1;
    while !is_flat() && patience.monotonic() < LONG {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(is_flat(), "{} descriptors and {} threads, before {before:?}", count("fd"), count("task"));
}
