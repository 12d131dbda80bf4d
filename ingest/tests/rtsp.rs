//! Real RTSP: a camera on loopback, over TCP and UDP, open and guarded, encrypted, lost and found again.

use std::{path::Path, process::Command, sync::Arc, time::Duration};

use base::{
    media::{GapReason, Notice},
    time::ClockQuality,
};
use ingest::{
    RtspTransport, Sampling, TlsVerify,
    camera::{Camera, CameraAuth, CameraOptions},
};

use crate::harness::*;

fn camera(folder: &Path, change: impl FnOnce(&mut CameraOptions)) -> Camera {
    let mut options = CameraOptions::new(mp4(folder, "camera.mp4"));
    change(&mut options);
    Camera::start(options).expect("camera")
}

/// The detail of the first interruption.
fn interruption(recorder: &Recorder) -> (GapReason, String) {
    let of = |n: &Notice| match n {
        Notice::Interrupted { reason, detail, .. } => Some((*reason, detail.clone())),
        _ => None,
    };
    recorder.wait("an interruption", |s| s.notices.iter().any(|n| of(n).is_some()));
    recorder.seen.lock().notices.iter().find_map(of).expect("interruption")
}

#[test]
fn pictures_and_sound_over_tcp_and_udp() {
    let folder = tempfile::tempdir().expect("folder");
    let camera = camera(folder.path(), |_| {});
    for transport in [RtspTransport::Tcp, RtspTransport::Udp] {
        let mut options = live(&camera.url());
        options.source.transport = transport;
        let (recorder, stream) = start(options);
        // The clip is two seconds long: more than one round.
        recorder.wait("more than a round", |s| s.frames.len() > 75 && s.chunks.len() > 45);
        stream.stop();
        stream.join();
        recorder.check_sane();
        let source = recorder.source();
        assert_eq!(source.video.as_ref().map(|v| (&*v.codec, v.size)), Some(("h264", Some((160, 120)))));
        assert_eq!(source.audio.map(|a| a.codec).as_deref(), Some("aac"));
        let seen = recorder.seen.lock();
        let first = seen.frames[0].pts.nanos().min(seen.chunks[0].pts.nanos());
        assert!(first < 500_000_000, "{first}");
        let (picture, sound) = (seen.frames.last().expect("frame").pts, seen.chunks.last().expect("chunk").pts);
        let apart = picture.millis().abs_diff(sound.millis());
        assert!(apart < 1500, "{transport:?}: pictures at {picture}, sound at {sound}");
    }
}

#[test]
fn the_cameras_own_clock_dates_pictures_and_sound() {
    let folder = tempfile::tempdir().expect("folder");
    let camera = camera(folder.path(), |_| {});
    let (recorder, stream) = start(live(&camera.url()));
    let ntp = |c: &Option<base::time::CaptureTime>| c.is_some_and(|c| c.quality == ClockQuality::Ntp);
    recorder.wait("a sender report", |s| {
        s.frames.iter().filter(|f| ntp(&f.captured)).count() > 10 && s.chunks.iter().any(|c| ntp(&c.captured))
    });
    let now = base::time::SystemClock::new().wall();
    stream.stop();
    stream.join();
    let seen = recorder.seen.lock();
    assert!(seen.frames.iter().all(|f| f.captured.is_some()), "live media always has a time");
    let dated: Vec<_> = seen.frames.iter().filter(|f| ntp(&f.captured)).collect();
    for frame in &dated {
        // The camera runs on this machine's clock: the same to within the seconds that the test takes.
        let off = now.duration_since(frame.captured.expect("dated").at).as_secs_f64();
        assert!((-1.0..60.0).contains(&off), "{off} s");
    }
    // By the camera's clock, picture after picture is 40 ms apart; the clip's end is a little longer than its last one.
    let (first, last) = (dated[0], dated[dated.len() - 1]);
    let wall = last.captured.expect("dated").at.duration_since(first.captured.expect("dated").at).as_millis();
    let expected = i128::from(last.index - first.index) * 40;
    assert!((wall - expected).abs() < 150, "{wall} ms for {expected} ms");
}

#[test]
fn passwords() {
    let folder = tempfile::tempdir().expect("folder");
    for auth in [CameraAuth::Basic, CameraAuth::Digest] {
        let camera = camera(folder.path(), |o| {
            o.users = vec![("admin".into(), "p@ss/word".into())];
            o.auth = auth;
        });
        let with = |credentials: &str| camera.url().replace("rtsp://", &format!("rtsp://{credentials}"));
        let (recorder, stream) = start(live(&with("admin:p%40ss%2Fword@")));
        recorder.wait("pictures", |s| s.frames.len() > 5);
        drop(stream);
        for wrong in ["admin:wr0ngw0rd@", ""] {
            let (recorder, stream) = start(live(&with(wrong)));
            let (reason, detail) = interruption(&recorder);
            assert_eq!(reason, GapReason::Unreachable);
            assert!(detail.contains("refused user or password (401)"), "{auth:?}: {detail}");
            assert!(!detail.contains("wr0ngw0rd"), "{detail}");
            // Asked again and again, as a camera may be set right.
            recorder.wait("a second try", |s| s.notices.contains(&Notice::Connecting { attempt: 2 }));
            drop(stream);
            let seen = recorder.seen.lock();
            let gaps = seen.notices.iter().filter(|n| matches!(n, Notice::Gap { session: None, .. })).count();
            assert_eq!((gaps, seen.frames.len()), (1, 0));
            assert!(!format!("{:?}", seen.notices).contains("wr0ngw0rd"));
        }
    }
}

#[test]
fn a_wrong_path_and_a_closed_port() {
    let folder = tempfile::tempdir().expect("folder");
    let camera = camera(folder.path(), |_| {});
    let (recorder, _stream) = start(live(&camera.url().replace("/camera", "/other")));
    let (reason, detail) = interruption(&recorder);
    assert!(reason == GapReason::Unreachable && detail.contains("no such stream (404)"), "{detail}");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("port").local_addr().expect("address");
    let (recorder, _stream) = start(live(&format!("rtsp://{closed}/x")));
    let (reason, detail) = interruption(&recorder);
    assert!(reason == GapReason::Unreachable && detail.contains("connection refused: nothing listens at"), "{detail}");
}

#[test]
fn a_server_that_never_answers() {
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").expect("port");
    let mut options = live(&format!("rtsp://{}/x", deaf.local_addr().expect("address")));
    options.source.connect_timeout_secs = 0.5;
    let (recorder, stream) = start(options);
    let (reason, _) = interruption(&recorder);
    assert_eq!(reason, GapReason::Unreachable);
    drop(stream);
}

#[test]
fn encrypted() {
    let folder = tempfile::tempdir().expect("folder");
    let (key, certificate) = (folder.path().join("key.pem"), folder.path().join("certificate.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{made:?}");
    let both = folder.path().join("both.pem");
    let read = |path| std::fs::read_to_string(path).expect("pem");
    std::fs::write(&both, read(&key) + &read(&certificate)).expect("write");
    let camera = camera(folder.path(), |o| {
        o.tls = Some(both);
        o.users = vec![("admin".into(), "secret".into())];
    });
    let url = camera.url().replace("rtsps://", "rtsps://admin:secret@");
    assert_ne!(url, camera.url());
    let (recorder, _stream) = start(live(&url));
    let (reason, detail) = interruption(&recorder);
    assert!(reason == GapReason::Unreachable && detail.contains("tls_verify = \"accept_any\""), "{detail}");
    let mut options = live(&url);
    options.source.tls_verify = TlsVerify::AcceptAny;
    let (recorder, _stream) = start(options);
    recorder.wait("pictures", |s| s.frames.len() > 5 && !s.chunks.is_empty());
}

#[test]
fn a_lost_camera_leaves_one_gap_and_a_new_session() {
    let folder = tempfile::tempdir().expect("folder");
    let first = camera(folder.path(), |_| {});
    let url = first.url();
    let (recorder, stream) = start(live(&url));
    recorder.wait("pictures", |s| s.frames.len() > 10);
    drop(first);
    recorder.wait("failed tries", |s| s.notices.contains(&Notice::Connecting { attempt: 3 }));
    let n = recorder.seen.lock().frames.len();
    let address = url.trim_start_matches("rtsp://").trim_end_matches("/camera").to_owned();
    let _second = camera(folder.path(), |o| o.address = address);
    recorder.wait("pictures again", |s| s.frames.len() > n + 10);
    stream.stop();
    stream.join();
    recorder.check_sane();
    let seen = recorder.seen.lock();
    let sessions: Vec<_> = seen
        .notices
        .iter()
        .filter_map(|n| match n {
            Notice::Playing { session, .. } => Some(session.clone()),
            _ => None,
        })
        .collect();
    let [before, after] = &sessions[..] else { panic!("{:?}", seen.notices) };
    assert_ne!(before, after);
    assert_eq!(seen.frames.iter().find(|f| f.session == *after).expect("frames").index, 0);
    let gaps: Vec<_> = seen.notices.iter().filter(|n| matches!(n, Notice::Gap { .. })).collect();
    let [Notice::Gap { session: Some(broken), from, to, reason: GapReason::SourceLost, .. }] = gaps[..] else {
        panic!("{gaps:?}")
    };
    assert_eq!(broken, before);
    assert!(*from >= seen.frames.iter().rfind(|f| f.session == *before).expect("frames").pts && to > from);
    let place = |wanted: fn(&Notice) -> bool| seen.notices.iter().rposition(wanted).expect("notice");
    assert!(place(|n| matches!(n, Notice::Gap { .. })) + 1 == place(|n| matches!(n, Notice::Playing { .. })));
}

#[test]
fn only_wanted_tracks_are_transmitted() {
    let folder = tempfile::tempdir().expect("folder");
    let camera = camera(folder.path(), |_| {});
    let mut deaf = live(&camera.url());
    deaf.audio = false;
    deaf.sampling = Sampling::Keyframes;
    let (recorder, stream) = start(deaf);
    recorder.wait("keyframes", |s| s.frames.len() > 4);
    drop(stream);
    recorder.check_sane();
    assert_eq!((recorder.source().audio, recorder.seen.lock().chunks.len()), (None, 0));
    let mut blind = live(&camera.url());
    blind.video = None;
    let (recorder, stream) = start(blind);
    recorder.wait("sound", |s| s.chunks.len() > 4);
    drop(stream);
    assert_eq!((recorder.source().video, recorder.seen.lock().frames.len()), (None, 0));
}

#[test]
fn streams_of_one_camera_do_not_disturb_each_other() {
    let folder = tempfile::tempdir().expect("folder");
    let camera = camera(folder.path(), |_| {});
    let streams: Vec<_> = (0..3).map(|_| start(live(&camera.url()))).collect();
    let (broken, broken_stream) = start(live("rtsp://127.0.0.1:1/x"));
    for (recorder, _) in &streams {
        recorder.wait("pictures", |s| s.frames.len() > 20);
    }
    assert!(broken.seen.lock().frames.is_empty());
    drop(broken_stream);
    for (recorder, stream) in streams {
        drop(stream);
        recorder.check_sane();
        assert_eq!(recorder.seen.lock().notices.iter().filter(|n| matches!(n, Notice::Playing { .. })).count(), 1);
    }
}

#[test]
fn other_codecs_over_rtsp() {
    let folder = tempfile::tempdir().expect("folder");
    for (video, audio, mux, codecs) in [
        ("jpegenc", "audio/x-raw,rate=8000 ! alawenc", "qtmux", ("mjpeg", "pcma")),
        ("x265enc speed-preset=ultrafast key-int-max=10 ! h265parse", "opusenc", "matroskamux", ("h265", "opus")),
        ("vp8enc deadline=1 keyframe-max-dist=10", "audio/x-raw,rate=8000 ! mulawenc", "matroskamux", ("vp8", "pcmu")),
    ] {
        let camera = Camera::start(CameraOptions::new(clip(folder.path(), "c", video, audio, mux))).expect("camera");
        let (recorder, stream) = start(live(&camera.url()));
        recorder.wait(codecs.0, |s| s.frames.len() > 10 && s.chunks.len() > 5);
        drop(stream);
        let source = recorder.source();
        assert_eq!(source.video.map(|v| v.codec).as_deref(), Some(codecs.0));
        assert_eq!(source.audio.map(|a| a.codec).as_deref(), Some(codecs.1));
    }
}

#[test]
fn a_stop_is_quick_and_final() {
    let folder = tempfile::tempdir().expect("folder");
    let camera = camera(folder.path(), |_| {});
    let (recorder, stream) = start(live(&camera.url()));
    recorder.wait("pictures", |s| !s.frames.is_empty());
    assert!(!stream.is_finished());
    stream.stop();
    stream.join();
    let n = recorder.seen.lock().frames.len();
    let handles = Arc::strong_count(&recorder);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(recorder.seen.lock().frames.len(), n);
    assert_eq!(handles, 1, "something of the stream is still alive");
}
