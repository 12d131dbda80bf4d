//! Going on with a recording where an earlier run left it: every picture once, none twice, at its own time.

use std::path::Path;

use base::{
    media::{Notice, Resume},
    time::Pts,
};
use ingest::{Mode, Sampling, StartAt, StreamOptions};

use crate::{
    harness::*,
    network::{Server, hls},
};

/// Six seconds at 25 pictures a second, each different from the others.
fn long_clip(folder: &Path, name: &str, video: &str, mux: &str) -> String {
    let path = folder.join(name);
    launch(&format!(
        "{mux} name=mux ! filesink location={} \
         videotestsrc num-buffers=150 pattern=ball ! video/x-raw,format=I420,width=160,height=120,framerate=25/1 ! {video} ! mux. \
         audiotestsrc num-buffers=600 samplesperbuffer=480 ! audio/x-raw,rate=48000,channels=1 ! audioconvert ! {AAC} ! mux.",
        path.display()
    ));
    file_url(&path)
}

fn after(options: StreamOptions, position: Pts) -> StreamOptions {
    StreamOptions { mode: Mode::Live, session: None, start_at: Some(StartAt { position }), ..options }
}

fn resume_of(recorder: &Recorder) -> Resume {
    let playing = |n: &Notice| match n {
        Notice::Playing { resume, .. } => Some(*resume),
        _ => None,
    };
    recorder.seen.lock().notices.iter().find_map(playing).expect("it played")
}

type Picture = (Pts, Vec<u8>);

fn pictures(recorder: &Recorder) -> Vec<Picture> {
    recorder.seen.lock().frames.iter().map(|f| (f.pts, f.image.data.to_vec())).collect()
}

/// Plays the rest behind each of these pictures; together with what is before it, it must be the whole.
fn check(options: &StreamOptions, at: &[usize]) {
    let whole = play(options.clone());
    let all = pictures(&whole);
    for &at in at {
        // As it travels: in whole milliseconds.
        let position = Pts::from_millis(all[at].0.millis());
        let rest = play(after(options.clone(), position));
        assert_eq!(rest.last_notice(), Notice::Ended);
        let times = |pictures: &[Picture]| pictures.iter().map(|(pts, _)| *pts).collect::<Vec<_>>();
        let got = pictures(&rest);
        assert_eq!(times(&got), times(&all[at + 1..]), "{} after {position}", options.url);
        assert!(got == all[at + 1..], "{} after {position}: other pictures at the same times", options.url);
        assert_eq!(resume_of(&rest), Resume { resumable: true, resumed: true });
        let (first, last) =
            (rest.seen.lock().chunks[0].pts, whole.seen.lock().chunks.last().expect("sound").span().end);
        assert!(first.since(position).as_millis() < 70 && first >= position, "sound from {first} on");
        let expected = last.since(position).as_nanos() as usize * 16 / 1_000_000;
        assert!(rest.n_samples().abs_diff(expected) < 1100, "{} samples, not {expected}", rest.n_samples());
    }
}

#[test]
fn mp4_with_b_frames() {
    let folder = tempfile::tempdir().expect("folder");
    check(&options(&long_clip(folder.path(), "clip.mp4", H264, "mp4mux")), &[3, 100, 119, 140]);
}

#[test]
fn matroska() {
    let folder = tempfile::tempdir().expect("folder");
    check(&options(&long_clip(folder.path(), "clip.mkv", H264, "matroskamux")), &[100, 131]);
}

#[test]
fn mpeg_ts() {
    let folder = tempfile::tempdir().expect("folder");
    check(&options(&long_clip(folder.path(), "clip.ts", H264, "mpegtsmux")), &[100, 131]);
}

#[test]
fn the_demo_clip() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../media/demo.mp4");
    let all = pictures(&play(options(&file_url(&path)))).len();
    check(&options(&file_url(&path)), &[all - 40]);
}

#[test]
fn sampled_as_without_the_break() {
    let folder = tempfile::tempdir().expect("folder");
    let mut options = options(&long_clip(folder.path(), "clip.mp4", H264, "mp4mux"));
    for (sampling, at) in [(Sampling::Fps(7.0), 30), (Sampling::EveryNth(3), 35), (Sampling::Keyframes, 11)] {
        options.sampling = sampling;
        check(&options, &[at]);
    }
}

#[test]
fn progressive_http_and_hls() {
    let folder = tempfile::tempdir().expect("folder");
    long_clip(folder.path(), "clip.mp4", H264, "mp4mux faststart=true");
    hls(folder.path());
    let server = Server::start(folder.path(), None);
    check(&options(&server.url("clip.mp4")), &[100]);
    check(&options(&server.url("index.m3u8")), &[60]);
}

#[test]
fn past_the_end_there_is_nothing_more() {
    let folder = tempfile::tempdir().expect("folder");
    let url = long_clip(folder.path(), "clip.mp4", H264, "mp4mux");
    for position in [5_960, 6_000, 600_000] {
        let recorder = play(after(options(&url), Pts::from_millis(position)));
        assert_eq!(recorder.last_notice(), Notice::Ended);
        assert_eq!(recorder.seen.lock().frames.len(), 0, "after {position} ms");
    }
}

#[test]
fn what_cannot_be_resumed_begins_anew_and_says_so() {
    let recorder = play(after(options("test://?secs=1&fps=5"), Pts::from_millis(500)));
    assert_eq!(recorder.seen.lock().frames.len(), 5);
    assert_eq!(resume_of(&recorder), Resume::default());
    // Without its end mark it is a live stream.
    let folder = tempfile::tempdir().expect("folder");
    let playlist = hls(folder.path());
    let text = std::fs::read_to_string(&playlist).expect("playlist").replace("#EXT-X-ENDLIST", "");
    std::fs::write(&playlist, text).expect("write");
    let server = Server::start(folder.path(), None);
    let options = live(&server.url("index.m3u8"));
    let (recorder, stream) = start(after(options, Pts::from_millis(2_000)));
    recorder.wait("pictures", |s| s.frames.len() > 20);
    assert_eq!(resume_of(&recorder), Resume::default());
    stream.stop();
    stream.join();
    recorder.check_sane();
}
