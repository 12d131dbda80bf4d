//! HTTP, HLS, MPEG-TS over UDP, SRT: served on loopback.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
};

use base::media::{GapReason, Notice};
use gstreamer::{self as gst, prelude::*};
use ingest::Mode;

use crate::harness::*;

/// Serves a folder's files over HTTP, with ranges, until it is dropped.
pub(crate) struct Server {
    address: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(folder: &Path, password: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("port");
        let address = listener.local_addr().expect("address").to_string();
        let stop = Arc::new(AtomicBool::new(false));
        let (folder, stopped) = (folder.to_owned(), Arc::clone(&stop));
        let password = password.map(str::to_owned);
        let thread = std::thread::Builder::new()
            .spawn(move || {
                for client in listener.incoming().flatten() {
                    if stopped.load(Relaxed) {
                        return;
                    }
                    let (folder, password) = (folder.clone(), password.clone());
                    let serve = move || {
                        // The client may hang up at any time.
                        let _ = answer(client, &folder, password.as_deref());
                    };
                    std::thread::Builder::new().spawn(serve).expect("thread");
                }
            })
            .expect("thread");
        Self { address, stop, thread: Some(thread) }
    }

    pub(crate) fn url(&self, file: &str) -> String {
        format!("http://{}/{file}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        let _ = TcpStream::connect(&self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(mut client: TcpStream, folder: &Path, password: Option<&str>) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let (mut from, mut allowed) = (0, password.is_none());
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let lower = line.trim().to_ascii_lowercase();
            if lower.is_empty() {
                break;
            }
            if let Some(range) = lower.strip_prefix("range: bytes=") {
                from = range.trim_end_matches('-').split('-').next().and_then(|n| n.parse().ok()).unwrap_or(0);
            }
            allowed |= password.is_some_and(|p| line.trim() == format!("Authorization: Basic {p}"));
        }
        let path = request.split(' ').nth(1).unwrap_or("/").trim_start_matches('/').to_owned();
        let body = std::fs::read(folder.join(path)).ok().filter(|b| from <= b.len());
        let head = match (&body, allowed) {
            (_, false) => {
                "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n".into()
            }
            (None, _) => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into(),
            (Some(body), _) => format!(
                "HTTP/1.1 {}\r\nAccept-Ranges: bytes\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{}\r\n\r\n",
                if from > 0 { "206 Partial Content" } else { "200 OK" },
                body.len() - from,
                body.len().max(1) - 1,
                body.len()
            ),
        };
        client.write_all(head.as_bytes())?;
        if let (Some(body), true) = (&body, allowed) {
            client.write_all(&body[from..])?;
        }
    }
}

fn check_whole(recorder: &Recorder) {
    assert_eq!(recorder.last_notice(), Notice::Ended);
    assert_eq!(recorder.seen.lock().frames.len() as u64, N_FRAMES);
    assert!(recorder.n_samples().abs_diff(N_SAMPLES) < 1100, "{}", recorder.n_samples());
}

#[test]
fn progressive_http() {
    let folder = tempfile::tempdir().expect("folder");
    mp4(folder.path(), "index-first.mp4");
    clip(folder.path(), "index-last.mp4", H264, AAC, "mp4mux");
    clip(folder.path(), "clip.mkv", H264, AAC, "matroskamux");
    let server = Server::start(folder.path(), None);
    for file in ["index-first.mp4", "index-last.mp4", "clip.mkv"] {
        check_whole(&play(options(&server.url(file))));
    }
}

#[test]
fn http_refusals() {
    let folder = tempfile::tempdir().expect("folder");
    mp4(folder.path(), "clip.mp4");
    let detail_of = |url: &str| {
        let recorder = play(options(url));
        match recorder.last_notice() {
            Notice::Failed { detail } => detail,
            other => panic!("{other:?}"),
        }
    };
    let server = Server::start(folder.path(), None);
    let detail = detail_of(&server.url("other.mp4"));
    assert!(detail.contains("no such stream (404)"), "{detail}");
    // `admin:hunter2` in Base64.
    let guarded = Server::start(folder.path(), Some("YWRtaW46aHVudGVyMg=="));
    let with = |credentials: &str| guarded.url("clip.mp4").replace("http://", &format!("http://{credentials}"));
    check_whole(&play(options(&with("admin:hunter2@"))));
    let detail = detail_of(&with("admin:wr0ngw0rd@"));
    assert!(detail.contains("(401)") && !detail.contains("wr0ngw0rd"), "{detail}");
    let address = server.address.clone();
    drop(server);
    let detail = detail_of(&format!("http://{address}/clip.mp4"));
    assert!(detail.contains("connection refused: nothing listens at"), "{detail}");
}

pub(crate) fn hls(folder: &Path) -> PathBuf {
    let path = folder.join("index.m3u8");
    launch(&format!(
        "videotestsrc num-buffers=100 ! video/x-raw,width=160,height=120,framerate=25/1 ! \
         x264enc key-int-max=25 speed-preset=ultrafast ! h264parse ! mux. \
         audiotestsrc num-buffers=400 samplesperbuffer=480 ! audio/x-raw,rate=48000 ! audioconvert ! avenc_aac ! mux. \
         mpegtsmux name=mux ! hlssink target-duration=1 max-files=100 playlist-length=0 location={0}/part%d.ts playlist-location={1}",
        folder.display(),
        path.display()
    ));
    path
}

#[test]
fn hls_that_is_complete() {
    let folder = tempfile::tempdir().expect("folder");
    hls(folder.path());
    let server = Server::start(folder.path(), None);
    let recorder = play(options(&server.url("index.m3u8")));
    assert_eq!(recorder.last_notice(), Notice::Ended);
    let seen = recorder.seen.lock();
    assert_eq!(seen.frames.len(), 100);
    assert!(seen.chunks.iter().map(|c| c.samples.len()).sum::<usize>().abs_diff(64_000) < 1500);
    let last = seen.frames.last().expect("frame").pts.millis();
    assert!((3800..4400).contains(&last), "{last}");
}

#[test]
fn hls_that_goes_on_and_breaks_off() {
    let folder = tempfile::tempdir().expect("folder");
    let playlist = hls(folder.path());
    // Without its end mark it is a live stream.
    let text = std::fs::read_to_string(&playlist).expect("playlist").replace("#EXT-X-ENDLIST", "");
    std::fs::write(&playlist, text).expect("write");
    let server = Server::start(folder.path(), None);
    let mut options = live(&server.url("index.m3u8"));
    options.source.stall_timeout_secs = 3.0;
    let (recorder, stream) = start(options);
    recorder.wait("pictures", |s| s.frames.len() > 20);
    drop(server);
    recorder.wait("the outage", |s| s.notices.iter().any(|n| matches!(n, Notice::Interrupted { .. })));
    stream.stop();
    stream.join();
    recorder.check_sane();
    let seen = recorder.seen.lock();
    assert!(matches!(seen.notices.last(), Some(Notice::Gap { session: Some(_), .. })), "{:?}", seen.notices);
}

#[test]
fn mpeg_ts_over_udp() {
    let folder = tempfile::tempdir().expect("folder");
    let encode = "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 ! h264parse config-interval=-1";
    let path = clip(folder.path(), "clip.ts", encode, AAC, "mpegtsmux");
    let port = UdpSocket::bind("127.0.0.1:0").expect("port").local_addr().expect("address").port();
    let mut options = live(&format!("udp://127.0.0.1:{port}"));
    options.source.stall_timeout_secs = 1.0;
    let (recorder, stream) = start(options);
    let send = format!(
        "filesrc location={} ! tsparse set-timestamps=true ! udpsink host=127.0.0.1 port={port}",
        path.display()
    );
    let sender = gst::parse::launch(&send).expect("sender");
    sender.set_state(gst::State::Playing).expect("play");
    recorder.wait("pictures and sound", |s| s.frames.len() > 25 && s.chunks.len() > 10);
    // The file is over: nothing comes any more.
    recorder.wait("the stall", |s| {
        s.notices.iter().any(|n| matches!(n, Notice::Interrupted { reason: GapReason::Stalled, .. }))
    });
    sender.set_state(gst::State::Null).expect("null");
    stream.stop();
    stream.join();
    recorder.check_sane();
}

#[test]
fn mpeg_ts_over_srt() {
    let folder = tempfile::tempdir().expect("folder");
    let path = clip(folder.path(), "clip.ts", H264, AAC, "mpegtsmux");
    let port = UdpSocket::bind("127.0.0.1:0").expect("port").local_addr().expect("address").port();
    let send = format!(
        "filesrc location={} ! tsparse set-timestamps=true ! \
         srtsink wait-for-connection=true uri=\"srt://127.0.0.1:{port}?mode=listener&passphrase=longenoughsecret\"",
        path.display()
    );
    ingest::init().expect("gstreamer");
    let sender = gst::parse::launch(&send).expect("sender");
    sender.set_state(gst::State::Playing).expect("play");
    let (recorder, stream) = start(live(&format!("srt://127.0.0.1:{port}?mode=caller&passphrase=longenoughsecret")));
    recorder.wait("pictures and sound", |s| s.frames.len() > 25 && s.chunks.len() > 10);
    sender.set_state(gst::State::Null).expect("null");
    recorder.wait("the outage", |s| s.notices.iter().any(|n| matches!(n, Notice::Interrupted { .. })));
    stream.stop();
    stream.join();
    recorder.check_sane();
    assert!(!format!("{:?}", recorder.seen.lock().notices).contains("longenoughsecret"));
}

#[test]
fn a_recording_followed_live_keeps_its_own_speed_and_ends() {
    let folder = tempfile::tempdir().expect("folder");
    let mut options = options(&file_url(&mp4(folder.path(), "clip.mp4")));
    options.mode = Mode::Live;
    let clock = options.clock.clone();
    let began = clock.monotonic();
    check_whole(&play(options));
    let took = clock.monotonic() - began;
    // Two seconds of media cannot be over before: this is what holding back means.
    assert!(took.as_millis() >= 1800, "{took:?}");
}
