//! What all tests share: a consumer that remembers, clips made on the spot, and a stream run to its end.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base::{
    ledger::Ledger,
    media::{
        AudioChunk, Fit, Frame, MediaConsumer, MediaSegment, Notice, PictureRequest, PixelFormat, SessionId,
        SourceDescription, StreamInfo, StreamName,
    },
    redact::SourceUrl,
    time::SystemClock,
};
use gstreamer::{self as gst, prelude::*};
use ingest::{Mode, Sampling, SourceConfig, Stream, StreamOptions};
use parking_lot::{Condvar, Mutex};

/// No step of a test takes this long, unless it hangs.
pub(crate) const LONG: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) frames: Vec<Frame>,
    pub(crate) chunks: Vec<AudioChunk>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) segments: Vec<MediaSegment>,
}

/// Remembers everything, and enters the frames as inferred.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) seen: Mutex<Seen>,
    changed: Condvar,
    ledger: Ledger,
}

impl MediaConsumer for Recorder {
    fn frame(&self, frame: Frame) {
        self.ledger.inferred();
        let mut seen = self.seen.lock();
        assert!(seen.notices.iter().any(|n| matches!(n, Notice::Playing { .. })), "a frame before Playing");
        seen.frames.push(frame);
        self.changed.notify_all();
    }

    fn audio(&self, chunk: AudioChunk) {
        let mut seen = self.seen.lock();
        assert!(seen.notices.iter().any(|n| matches!(n, Notice::Playing { .. })), "sound before Playing");
        seen.chunks.push(chunk);
        self.changed.notify_all();
    }

    fn segment(&self, segment: MediaSegment) {
        let mut seen = self.seen.lock();
        assert!(seen.notices.iter().any(|n| matches!(n, Notice::Playing { .. })), "a segment before Playing");
        seen.segments.push(segment);
        self.changed.notify_all();
    }

    fn notice(&self, notice: Notice) {
        self.seen.lock().notices.push(notice);
        self.changed.notify_all();
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}

impl Recorder {
    /// Waits until `done`; panics with what was seen when it never comes. Patience is what was waited in small steps, so that
    /// a machine that stood still for a minute, as virtual ones do, costs nothing.
    pub(crate) fn wait(&self, what: &str, done: impl Fn(&Seen) -> bool) {
        const STEP: Duration = Duration::from_millis(100);
        let mut seen = self.seen.lock();
        for _ in 0..LONG.as_millis() / STEP.as_millis() {
            if !self.changed.wait_while_for(&mut seen, |s| !done(s), STEP).timed_out() {
                break;
            }
        }
        assert!(
            done(&seen),
            "waited in vain for {what}: {} frames, {} chunks, {:?}",
            seen.frames.len(),
            seen.chunks.len(),
            seen.notices
        );
    }

    pub(crate) fn source(&self) -> SourceDescription {
        let playing = |n: &Notice| match n {
            Notice::Playing { source, .. } => Some(source.clone()),
            _ => None,
        };
        self.seen.lock().notices.iter().find_map(playing).expect("it played")
    }

    pub(crate) fn last_notice(&self) -> Notice {
        self.seen.lock().notices.last().cloned().expect("a notice")
    }

    pub(crate) fn n_samples(&self) -> usize {
        self.seen.lock().chunks.iter().map(|c| c.samples.len()).sum()
    }

    /// Everything that must hold of any stream that is over.
    pub(crate) fn check_sane(&self) {
        let reading = self.ledger.read();
        assert_eq!(reading.n_in_flight(), 0, "{reading:?}");
        let seen = self.seen.lock();
        assert_eq!(reading.n_inferred, seen.frames.len() as u64);
        assert_eq!(reading.n_audio_samples, seen.chunks.iter().map(|c| c.samples.len() as u64).sum::<u64>());
        for pair in seen.frames.windows(2).filter(|p| p[0].session == p[1].session) {
            assert!(pair[0].pts < pair[1].pts, "{} then {}", pair[0].pts, pair[1].pts);
            assert!(pair[0].index < pair[1].index);
        }
        for pair in seen.chunks.windows(2).filter(|p| p[0].session == p[1].session) {
            assert!(pair[0].span().end.nanos() <= pair[1].pts.nanos() + 1000, "{:?} {:?}", pair[0].span(), pair[1].pts);
        }
        for frame in &seen.frames {
            let image = &frame.image;
            assert!(image.stride >= 3 * image.width as usize);
            assert_eq!(image.row(image.height - 1).len(), 3 * image.width as usize);
        }
    }
}

pub(crate) const SQUARE: PictureRequest =
    PictureRequest { width: 64, height: 64, fit: Fit::Stretch, format: PixelFormat::Rgb8 };

/// Everything of a recording, as fast as it goes.
pub(crate) fn options(url: &str) -> StreamOptions {
    StreamOptions {
        info: Arc::new(StreamInfo {
            name: StreamName::new("test").expect("name"),
            tags: Default::default(),
            epoch: None,
        }),
        url: SourceUrl::parse(url).expect("url"),
        source: SourceConfig::default(),
        sampling: Sampling::All,
        video: Some(SQUARE),
        audio: true,
        segments: None,
        relay: None,
        mode: Mode::Batch,
        start_at: None,
        session: Some(SessionId::derived([b"test".as_slice()])),
        clock: SystemClock::new(),
    }
}

/// The same, followed live and with little patience.
pub(crate) fn live(url: &str) -> StreamOptions {
    let mut options = options(url);
    options.mode = Mode::Live;
    options.session = None;
    options.source.reconnect.initial_secs = 0.2;
    options.source.reconnect.max_secs = 0.5;
    options
}

pub(crate) fn file_url(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// Plays to the end.
pub(crate) fn play(options: StreamOptions) -> Arc<Recorder> {
    let recorder = Arc::new(Recorder::default());
    let stream = Stream::spawn(options, recorder.clone()).expect("spawn");
    recorder.wait("the end", |s| matches!(s.notices.last(), Some(Notice::Ended | Notice::Failed { .. })));
    stream.join();
    recorder.check_sane();
    recorder
}

/// Starts a live stream.
pub(crate) fn start(options: StreamOptions) -> (Arc<Recorder>, Stream) {
    let recorder = Arc::new(Recorder::default());
    let stream = Stream::spawn(options, recorder.clone()).expect("spawn");
    (recorder, stream)
}

/// Runs a GStreamer pipeline to its end.
pub(crate) fn launch(description: &str) {
    ingest::init().expect("gstreamer");
    let pipeline = gst::parse::launch(description).expect(description);
    pipeline.set_state(gst::State::Playing).expect(description);
    let bus = pipeline.bus().expect("bus");
    let message =
        bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &[gst::MessageType::Eos, gst::MessageType::Error]);
    pipeline.set_state(gst::State::Null).expect("null");
    let message = message.expect(description);
    assert_eq!(message.type_(), gst::MessageType::Eos, "{description}: {message:?}");
}

/// Seconds, pictures and sound of the clips below.
pub(crate) const SECS: u64 = 2;
pub(crate) const FPS: u64 = 25;
pub(crate) const N_FRAMES: u64 = SECS * FPS;
pub(crate) const N_SAMPLES: usize = SECS as usize * 16_000;

/// Two seconds of moving ball at 25 pictures a second, `width` x `height`, and of a tone; `video` and `audio` encode them
/// (empty for none), `mux` joins them.
pub(crate) fn clip(folder: &Path, name: &str, video: &str, audio: &str, mux: &str) -> PathBuf {
    sized_clip(folder, name, video, audio, mux, (160, 120))
}

pub(crate) fn sized_clip(folder: &Path, name: &str, video: &str, audio: &str, mux: &str, size: (u32, u32)) -> PathBuf {
    let path = folder.join(name);
    let mut description = format!("{mux} name=mux ! filesink location={} ", path.display());
    if !video.is_empty() {
        description += &format!(
            "videotestsrc num-buffers={N_FRAMES} pattern=ball ! video/x-raw,format=I420,width={},height={},framerate={FPS}/1 ! {video} ! mux. ",
            size.0, size.1
        );
    }
    if !audio.is_empty() {
        description += &format!(
            "audiotestsrc num-buffers={} samplesperbuffer=480 ! audio/x-raw,rate=48000,channels=1 ! audioconvert ! audioresample ! {audio} ! mux.",
            SECS * 100
        );
    }
    launch(&description);
    path
}

/// H.264 with B-frames and a keyframe every ten pictures, and AAC, in an MP4.
pub(crate) fn mp4(folder: &Path, name: &str) -> PathBuf {
    clip(folder, name, H264, AAC, "mp4mux faststart=true")
}

pub(crate) const H264: &str = "x264enc speed-preset=ultrafast key-int-max=10 bframes=2 b-adapt=false ! h264parse";
pub(crate) const AAC: &str = "avenc_aac ! aacparse";
