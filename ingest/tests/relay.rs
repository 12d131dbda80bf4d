//! The encoded media as they come: what is watched, decoded again by somebody else, is the stream in its own time.

use std::{path::Path, sync::Arc};

use base::media::{MediaConsumer as _, Notice};
use ingest::{
    Piece, Readiness, Relay, Viewer,
    camera::{Camera, CameraOptions},
};

use crate::harness::*;

/// What a viewer got: of the last session alone.
#[derive(Default)]
struct Watched {
    inits: Vec<Piece>,
    bytes: Vec<u8>,
    n_fragments: usize,
    clocks: Vec<(u64, i64)>,
    over: Option<String>,
}

impl Watched {
    fn take(&mut self, viewer: &mut Viewer) {
        let taken = viewer.take();
        self.over = taken.over;
        for piece in taken.pieces {
            match &piece {
                Piece::Init { bytes, .. } => {
                    (self.bytes, self.n_fragments) = (bytes.to_vec(), 0);
                    self.inits.push(piece);
                }
                Piece::Fragment(bytes) => {
                    self.bytes.extend_from_slice(bytes);
                    self.n_fragments += 1;
                }
                Piece::Clock { pts, captured } => self.clocks.push((pts.millis(), captured.at.as_millisecond())),
            }
        }
    }

    /// Presentation time of the first picture in milliseconds, as it stands in the boxes.
    fn begin(&self) -> u64 {
        let word = |at: usize| u64::from(u32::from_be_bytes(self.bytes[at..at + 4].try_into().expect("word")));
        let at = |kind: &[u8]| self.bytes.windows(4).position(|w| w == kind).expect("box") + 8;
        // Decode time, of 64 bits, and the first sample's offset, which is positive here.
        let (tfdt, trun) = (at(b"tfdt"), at(b"trun"));
        (word(tfdt) << 32 | word(tfdt + 4)).wrapping_add(word(trun + 8 + 12)) / 90
    }

    /// Decoded by GStreamer's own demuxer: times of the pictures, and from when to when each chunk of sound lasts, in milliseconds
    /// on the stream's clock.
    fn decoded(&self, folder: &Path) -> (Vec<u64>, Vec<(u64, u64)>) {
        let path = folder.join("watched.mp4");
        std::fs::write(&path, &self.bytes).expect("write");
        let recorder = play(options(&file_url(&path)));
        let seen = recorder.seen.lock();
        let zero = seen.frames[0].pts.nanos();
        let time = |nanos: u64| (nanos + 500_000).saturating_sub(zero) / 1_000_000 + self.begin();
        let chunks = seen.chunks.iter().map(|chunk| chunk.span());
        (
            seen.frames.iter().map(|f| time(f.pts.nanos())).collect(),
            chunks.map(|span| (time(span.start.nanos()), time(span.end.nanos()))).collect(),
        )
    }
}

fn watch(relay: &Arc<Relay>, sound: bool) -> Viewer {
    relay.watch(sound, Arc::new(|| ()))
}

/// Waits until `done`.
fn until(recorder: &Recorder, what: &str, done: impl Fn() -> bool) {
    recorder.wait(what, |_| done());
}

#[test]
fn what_is_watched_is_the_stream_in_its_own_time() {
    let folder = tempfile::tempdir().expect("folder");
    let plain = "x264enc speed-preset=ultrafast key-int-max=10 bframes=0 ! h264parse";
    for (name, video, audio) in [("reordered.mp4", H264, AAC), ("plain.mp4", plain, ""), ("opus.mkv", plain, "opusenc")]
    {
        let mux = if name.ends_with("mkv") { "matroskamux" } else { "mp4mux faststart=true" };
        let file = clip(folder.path(), name, video, audio, mux);
        let camera = Camera::start(CameraOptions::new(file)).expect("camera");
        let mut options = live(&camera.url());
        let relay = Relay::new();
        options.relay = Some(Arc::clone(&relay));
        let (recorder, stream) = start(options);
        let mut viewer = watch(&relay, true);
        let mut watched = Watched::default();
        // More than a round of the clip. One who looks away for long is brought to the newest keyframe; this one looks on.
        for n_pictures in (20..=90).step_by(5) {
            recorder.wait("pictures", |s| s.frames.len() > n_pictures);
            watched.take(&mut viewer);
        }
        assert_eq!(relay.readiness(), Readiness::Ready);
        stream.stop();
        stream.join();
        watched.take(&mut viewer);
        assert!(watched.over.as_deref().is_some_and(|why| why.contains("detached")), "{:?}", watched.over);
        let [Piece::Init { session, mime, size, has_audio, .. }] = &watched.inits[..] else {
            panic!("{:?}", watched.inits)
        };
        let with_sound = audio == AAC;
        assert_eq!((*size, *has_audio, mime.contains(",mp4a.40.2\"")), ((160, 120), with_sound, with_sound), "{mime}");
        assert!(watched.n_fragments >= 2 && watched.clocks.len() >= 2);
        let seen = recorder.seen.lock();
        assert_eq!(seen.frames[0].session, *session);
        let (pictures, sounds) = watched.decoded(folder.path());
        let analysed: Vec<u64> = seen.frames.iter().map(|f| f.pts.millis()).collect();
        let n_alone = |these: &[u64], those: &[u64]| {
            these.iter().filter(|time| those.iter().all(|other| other.abs_diff(**time) > 1)).count() as u64
        };
        // What was decoded when the stream was stopped is the shorter one; live, a picture may be given up.
        let last = analysed[analysed.len() - 1];
        let both: Vec<u64> = pictures.iter().copied().filter(|time| *time <= last).collect();
        let n_dropped: u64 = recorder.ledger().read().n_dropped.iter().sum();
        assert!(n_alone(&both, &analysed) <= n_dropped, "{name}, {n_dropped} dropped: {both:?} {analysed:?}");
        let expected: Vec<u64> = analysed.iter().copied().filter(|time| *time + 1 >= both[0]).collect();
        assert!(n_alone(&expected, &both) <= 2, "{name}: {both:?} {analysed:?}");
        assert_eq!(sounds.is_empty(), !with_sound, "{name}");
        if let (Some(first), Some(last)) = (sounds.first(), sounds.last()) {
            // The camera sends some tenths of a second of each in turn, and was left somewhere in between.
            let (first, last) = (first.0.abs_diff(pictures[0]), last.1.abs_diff(pictures[pictures.len() - 1]));
            assert!(first < 500 && last < 1000, "{name}: {first} ms, {last} ms");
            assert!(sounds.windows(2).all(|pair| pair[0].1.abs_diff(pair[1].0) < 60), "{name}: {sounds:?}");
        }
        for (pts, captured) in &watched.clocks {
            let frame = seen.frames.iter().min_by_key(|f| f.pts.millis().abs_diff(*pts)).expect("frame");
            let told = frame.captured.expect("captured").at.as_millisecond();
            assert!(told.abs_diff(*captured) < 500, "{name}: {told} {captured}");
        }
    }
}

#[test]
fn a_lost_camera_begins_anew() {
    let folder = tempfile::tempdir().expect("folder");
    let mut camera_options = CameraOptions::new(mp4(folder.path(), "camera.mp4"));
    let camera = Camera::start(camera_options.clone()).expect("camera");
    let url = camera.url();
    let mut options = live(&url);
    let relay = Relay::new();
    options.relay = Some(Arc::clone(&relay));
    let (recorder, stream) = start(options);
    let mut viewer = watch(&relay, true);
    let mut watched = Watched::default();
    recorder.wait("pictures", |s| s.frames.len() > 30);
    watched.take(&mut viewer);
    drop(camera);
    camera_options.address = url.trim_start_matches("rtsp://").split('/').next().expect("address").to_owned();
    let _camera = Camera::start(camera_options).expect("the same camera again");
    // One who looks away for long is brought to the newest keyframe; this one looks on.
    for n_pictures in (0..=30).step_by(5) {
        recorder.wait("pictures of a second session", |s| {
            s.frames.iter().filter(|f| f.session != s.frames[0].session).count() > n_pictures
        });
        watched.take(&mut viewer);
    }
    stream.stop();
    stream.join();
    let sessions = watched.inits.iter().map(|init| match init {
        Piece::Init { session, .. } => session.clone(),
        other => panic!("{other:?}"),
    });
    let sessions: Vec<_> = sessions.collect();
    let seen = recorder.seen.lock();
    assert_eq!(sessions, [seen.frames[0].session.clone(), seen.frames[seen.frames.len() - 1].session.clone()]);
    assert!(watched.begin() < 1500);
    let (pictures, _) = watched.decoded(folder.path());
    assert!(pictures.len() > 20, "{} of {} fragments: {pictures:?}", pictures.len(), watched.n_fragments);
}

#[test]
fn what_cannot_be_watched_says_why() {
    let folder = tempfile::tempdir().expect("folder");
    for (name, video, audio, mux, part) in [
        ("clip.webm", "vp8enc deadline=1", "", "webmmux", "not H.264"),
        ("sound.mp4", "", AAC, "mp4mux", "no pictures"),
    ] {
        let mut options = options(&file_url(&clip(folder.path(), name, video, audio, mux)));
        let relay = Relay::new();
        options.relay = Some(Arc::clone(&relay));
        let (recorder, stream) = start(options);
        until(&recorder, "a reason", || !matches!(relay.readiness(), Readiness::NotYet));
        if let Readiness::Unfit(why) = relay.readiness() {
            assert!(why.contains(part), "{why}");
        }
        recorder.wait("the end", |s| s.notices.last() == Some(&Notice::Ended));
        stream.join();
        assert_eq!(relay.readiness(), Readiness::Over("the source came to its end".into()));
    }
}
