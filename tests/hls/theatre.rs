//! A stream with its captions behind a real HTTP server, and what looks at it from outside.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::Command,
    sync::{Arc, Mutex},
};

use base::{
    event::{Body, Caption, Event, Status, StreamState},
    ledger::Ledger,
    media::{
        AudioChunk, Fit, Frame, MediaConsumer, MediaSegment, Notice, PictureRequest, PixelFormat, SessionId,
        StreamInfo, StreamName,
    },
    redact::SourceUrl,
    time::{Pts, SystemClock},
};
use eyewitness::hls::{self, Captions, HlsConfig, HlsStore};
use ingest::{
    Mode, Sampling, SourceConfig, Stream, StreamOptions,
    camera::{Camera, CameraOptions},
};
use serde_json::Value;

use crate::harness::{CLIP, wait_for};

/// So much later than its words a caption is final.
pub(super) const LAG_MS: u64 = 1500;

/// A cue of the clip's speech: start and end in milliseconds of the clip, lines.
pub(super) type Cue = (u64, u64, Vec<String>);

/// The words of the clip as cues of up to 20 letters, which are short enough to be final in time; each as long as its share of the recording it is from.
pub(super) fn cues() -> Vec<Cue> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/media/demo_speech.json");
    let speech: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut cues = Vec::new();
    for recording in speech["speech"].as_array().unwrap() {
        let mut lines = vec![String::new()];
        for word in recording["text"].as_str().unwrap().split(' ') {
            let line = lines.last_mut().unwrap();
            if line.len() + word.len() >= 20 {
                lines.push(word.into());
            } else {
                *line = format!("{line} {word}").trim().to_owned();
            }
        }
        let ms = |key: &str| recording[key].as_f64().unwrap() * 1000.0;
        let n_letters: usize = lines.iter().map(String::len).sum();
        let mut n_before = 0;
        for line in lines {
            let at = |n: usize| (ms("start") + (ms("end") - ms("start")) * n as f64 / n_letters as f64) as u64;
            cues.push((at(n_before), at(n_before + line.len()), vec![line.clone()]));
            n_before += line.len();
        }
    }
    cues
}

/// What stands in for the analysis: notes the pictures' times and tells the captions when they would be known.
pub(super) struct Listener {
    pub(super) info: Arc<StreamInfo>,
    pub(super) store: Arc<HlsStore>,
    /// None: nobody listens.
    pub(super) cues: Option<Vec<Cue>>,
    pub(super) seen: Mutex<Seen>,
    pub(super) ledger: Ledger,
}

#[derive(Default)]
pub(super) struct Seen {
    pub(super) pictures: Vec<(SessionId, Pts)>,
    pub(super) segments: Vec<MediaSegment>,
    pub(super) n_told: usize,
    pub(super) ended: bool,
}

impl Listener {
    pub(super) fn event(&self, session: &SessionId, pts: Pts, body: Body) {
        self.store.event(&Event::new(&self.info, session, 0, pts, None, body));
    }

    pub(super) fn caption(&self, session: &SessionId, n: usize, (start, end, lines): &Cue, is_final: bool) {
        let body = Body::Caption(Caption {
            cue: format!("{session}-cue-{n}"),
            revision: u32::from(is_final),
            start: Pts::from_millis(*start),
            end: Pts::from_millis(*end),
            lines: lines.clone(),
            is_final,
            language: Some("en".into()),
            segment: format!("{session}-segment-0"),
        });
        self.event(session, Pts::from_millis(*start), body);
    }
}

impl MediaConsumer for Listener {
    fn frame(&self, frame: Frame) {
        self.ledger.inferred();
        let mut seen = self.seen.lock().unwrap();
        if seen.pictures.last().is_some_and(|(session, _)| *session != frame.session) {
            seen.n_told = 0;
        }
        seen.pictures.push((frame.session.clone(), frame.pts));
        let Some(cues) = &self.cues else { return };
        let heard = frame.pts.millis().saturating_sub(LAG_MS);
        while let Some(cue) = cues.get(seen.n_told)
            && cue.1 <= heard
        {
            self.caption(&frame.session, seen.n_told, cue, true);
            seen.n_told += 1;
        }
        // Nothing that begins before this is still to come.
        let settled = cues.get(seen.n_told).map_or(heard, |next| heard.min(next.0));
        self.store.settled(&self.info.name, &frame.session, Pts::from_millis(settled));
    }

    fn audio(&self, _: AudioChunk) {}

    fn segment(&self, segment: MediaSegment) {
        self.seen.lock().unwrap().segments.push(segment.clone());
        self.store.segment(&self.info.name, segment);
    }

    fn notice(&self, notice: Notice) {
        let status = |state, source| Body::Status(Status { state, detail: None, source });
        let session = SessionId::derived([b"status".as_slice()]);
        match notice {
            Notice::Playing { session, source, .. } => {
                self.event(&session, Pts::ZERO, status(StreamState::Playing, Some(source)));
            }
            Notice::Ended => {
                self.event(&session, Pts::ZERO, status(StreamState::Ended, None));
                self.seen.lock().unwrap().ended = true;
            }
            _ => {}
        }
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}

/// A store behind a real HTTP server, and a stream that feeds it.
pub(super) struct Theatre {
    pub(super) store: Arc<HlsStore>,
    pub(super) listener: Arc<Listener>,
    pub(super) _stream: Stream,
    pub(super) address: SocketAddr,
    pub(super) _runtime: tokio::runtime::Runtime,
}

pub(super) const NAME: &str = "cam";

pub(super) fn serve(store: &Arc<HlsStore>) -> (SocketAddr, tokio::runtime::Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let router = hls::router(Arc::clone(store));
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        axum::serve(listener, router).await.unwrap();
    });
    (address, runtime)
}

impl Theatre {
    pub(super) fn open(url: &str, mode: Mode, captions: Captions, config: HlsConfig) -> Self {
        let clock = SystemClock::new();
        let segments = config.segments();
        let store = HlsStore::new(config, Arc::clone(&clock));
        let info = Arc::new(StreamInfo { name: StreamName::new(NAME).unwrap(), tags: Default::default(), epoch: None });
        let cues = (captions != Captions::None).then(cues);
        store.attach(&info.name, captions);
        let (address, runtime) = serve(&store);
        let listener = Arc::new(Listener {
            info: Arc::clone(&info),
            store: Arc::clone(&store),
            cues,
            seen: Mutex::default(),
            ledger: Ledger::default(),
        });
        let mut source = SourceConfig::default();
        (source.reconnect.initial_secs, source.reconnect.max_secs) = (0.2, 0.5);
        let options = StreamOptions {
            info,
            url: SourceUrl::parse(url).unwrap(),
            source,
            sampling: Sampling::All,
            video: Some(PictureRequest { width: 32, height: 24, fit: Fit::Stretch, format: PixelFormat::Rgb8 }),
            audio: true,
            segments,
            relay: None,
            mode,
            start_at: None,
            session: None,
            clock,
        };
        let stream = Stream::spawn(options, Arc::clone(&listener) as _).unwrap();
        Self { store, listener, _stream: stream, address, _runtime: runtime }
    }

    pub(super) fn url(&self, file: &str) -> String {
        format!("http://{}{}", self.address, path(file))
    }

    pub(super) fn get(&self, file: &str) -> Answer {
        get(self.address, &path(file))
    }

    pub(super) fn n_segments(&self) -> usize {
        self.listener.seen.lock().unwrap().segments.len()
    }

    /// Waits for a segment to be listed, and gives the playlist.
    pub(super) fn listed(&self, n: usize) -> String {
        wait_for("listed segments", || {
            let playlist = self.get("video.m3u8");
            (playlist.status == 200 && files(&playlist.text()).len() >= n).then(|| playlist.text())
        })
    }
}

pub(super) fn path(file: &str) -> String {
    format!("/v1/streams/{NAME}/hls/{file}")
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find(|l| l.to_ascii_lowercase().starts_with(&format!("{name}: ")));
        line.map_or("", |l| &l[name.len() + 2..])
    }
}

pub(super) fn get(address: SocketAddr, path: &str) -> Answer {
    let mut socket = TcpStream::connect(address).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut all = Vec::new();
    socket.read_to_end(&mut all).unwrap();
    let end = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(all[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: all[end + 4..].to_vec() }
}

/// The addresses in a playlist.
pub(super) fn files(playlist: &str) -> Vec<String> {
    playlist.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).map(str::to_owned).collect()
}

pub(super) fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {errors}");
    assert!(errors.trim().is_empty(), "{program} {args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The packets that ffprobe finds, as (kind, presentation time in ticks of 90 kHz, keyframe).
pub(super) fn packets(input: &str) -> Vec<(String, i64, bool)> {
    let entries = "stream=index,codec_type:packet=codec_type,pts,flags";
    let json = run("ffprobe", &["-v", "error", "-show_entries", entries, "-of", "json", input]);
    let json: Value = serde_json::from_str(&json).unwrap();
    let packet = |p: &Value| {
        let kind = p["codec_type"].as_str().unwrap().to_owned();
        (kind, p["pts"].as_i64().unwrap(), p["flags"].as_str().unwrap().starts_with('K'))
    };
    json["packets"].as_array().unwrap().iter().map(packet).collect()
}

pub(super) fn ticks(pts: Pts) -> i64 {
    ((pts.nanos() * 9 + 50_000) / 100_000 + MediaSegment::MPEGTS_AT_ZERO) as i64
}

/// Where a segment begins and ends, in whole milliseconds of stream time.
pub(super) fn span_ms(segment: &MediaSegment) -> (u64, u64) {
    let end = segment.start.nanos() + segment.duration.as_nanos() as u64;
    (segment.start.millis(), end / 1_000_000)
}

pub(super) fn camera() -> Camera {
    Camera::start(CameraOptions::new(CLIP)).unwrap()
}

pub(super) const EXPECTED: Captions = Captions::Expected { language: None };
