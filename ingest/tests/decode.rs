//! Every codec and container: all pictures, all sound, one clock.

use base::media::{Fit, Notice, PictureRequest, PixelFormat};
use base::time::ClockQuality;

use crate::harness::*;

/// Codecs of one clip: encoder, name expected.
struct Codec(&'static str, &'static str);

fn check(video: Option<Codec>, audio: Option<Codec>, mux: &str, tolerance: usize) {
    let folder = tempfile::tempdir().expect("folder");
    let encoder = |c: &Option<Codec>| c.as_ref().map_or("", |c| c.0);
    let path = clip(folder.path(), "clip.bin", encoder(&video), encoder(&audio), mux);
    let recorder = play(options(&file_url(&path)));
    assert_eq!(recorder.last_notice(), Notice::Ended, "{mux}");
    let source = recorder.source();
    let name = |c: &Option<Codec>| c.as_ref().map(|c| c.1.to_owned());
    assert_eq!(source.video.as_ref().map(|v| v.codec.clone()), name(&video), "{mux}");
    assert_eq!(source.audio.as_ref().map(|a| a.codec.clone()), name(&audio), "{mux}");
    let seen = recorder.seen.lock();
    assert_eq!(seen.frames.len() as u64, if video.is_some() { N_FRAMES } else { 0 }, "{mux}");
    for (i, frame) in seen.frames.iter().enumerate() {
        assert_eq!(frame.index, i as u64);
        assert_eq!((frame.source_width, frame.source_height), (160, 120));
        assert_eq!((frame.image.width, frame.image.height), (64, 64));
    }
    for pair in seen.frames.windows(2) {
        let step = pair[1].pts.since(pair[0].pts).as_millis();
        assert!((38..=42).contains(&step), "{mux}: {step} ms between pictures");
    }
    drop(seen);
    if audio.is_some() {
        let n = recorder.n_samples();
        assert!(n.abs_diff(N_SAMPLES) <= tolerance, "{mux}: {n} samples");
        let seen = recorder.seen.lock();
        let holes: Vec<_> = seen.chunks.iter().filter(|c| c.discontinuity).map(|c| c.pts).collect();
        assert!(holes.is_empty(), "{mux}: {holes:?}");
        let loudest = seen.chunks.iter().flat_map(|c| c.samples.iter()).fold(0f32, |m, s| m.max(s.abs()));
        assert!((0.1..=1.0).contains(&loudest), "{mux}: {loudest}");
        if let (Some(frame), Some(chunk)) = (seen.frames.last(), seen.chunks.last()) {
            let (picture, sound) = (frame.pts.millis() as i64 + 40, chunk.span().end.millis() as i64);
            assert!((picture - sound).abs() < 150, "{mux}: pictures end at {picture} ms, sound at {sound} ms");
        }
    }
}

/// An encoder's delay and padding, at most three AAC frames of 48 kHz.
const PADDING: usize = 1100;

#[test]
fn h264_and_aac_in_mp4() {
    check(Some(Codec(H264, "h264")), Some(Codec(AAC, "aac")), "mp4mux", PADDING);
}

#[test]
fn h265_and_opus_in_matroska() {
    let h265 = Codec("x265enc speed-preset=ultrafast key-int-max=10 ! h265parse", "h265");
    check(Some(h265), Some(Codec("opusenc", "opus")), "matroskamux", PADDING);
}

#[test]
fn vp8_and_opus_in_webm() {
    check(Some(Codec("vp8enc deadline=1", "vp8")), Some(Codec("opusenc", "opus")), "webmmux", PADDING);
}

#[test]
fn vp9_alone() {
    check(Some(Codec("vp9enc deadline=1 cpu-used=8", "vp9")), None, "matroskamux", 0);
}

#[test]
fn av1_alone() {
    check(Some(Codec("av1enc usage-profile=realtime cpu-used=10 ! av1parse", "av1")), None, "matroskamux", 0);
}

#[test]
fn mjpeg_and_g711_in_quicktime() {
    let alaw = Codec("audio/x-raw,rate=8000 ! alawenc", "pcma");
    check(Some(Codec("jpegenc", "mjpeg")), Some(alaw), "qtmux", 100);
}

#[test]
fn h264_and_aac_in_mpeg_ts_and_flv() {
    check(Some(Codec(H264, "h264")), Some(Codec(AAC, "aac")), "mpegtsmux", PADDING);
    let no_b_frames = "x264enc speed-preset=ultrafast ! h264parse";
    check(Some(Codec(no_b_frames, "h264")), Some(Codec(AAC, "aac")), "flvmux", PADDING);
}

#[test]
fn sound_alone() {
    check(None, Some(Codec("audio/x-raw,rate=8000 ! mulawenc", "pcmu")), "wavenc", 100);
    check(None, Some(Codec("audio/x-raw,format=S16LE", "pcm")), "wavenc", 100);
    check(None, Some(Codec("opusenc", "opus")), "oggmux", PADDING);
}

#[test]
fn only_what_is_wanted_is_decoded() {
    let folder = tempfile::tempdir().expect("folder");
    let url = file_url(&mp4(folder.path(), "clip.mp4"));
    let mut silent = options(&url);
    silent.audio = false;
    let recorder = play(silent);
    assert_eq!(recorder.seen.lock().frames.len() as u64, N_FRAMES);
    assert_eq!(recorder.n_samples(), 0);
    assert_eq!(recorder.source().audio, None);
    let mut blind = options(&url);
    blind.video = None;
    let recorder = play(blind);
    assert_eq!(recorder.seen.lock().frames.len(), 0);
    assert!(recorder.n_samples().abs_diff(N_SAMPLES) <= PADDING);
}

#[test]
fn other_tracks_hold_nothing_up() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("many.mkv");
    launch(&format!(
        "matroskamux name=mux ! filesink location={} \
         videotestsrc num-buffers=50 ! video/x-raw,width=160,height=120,framerate=25/1 ! x264enc ! mux. \
         audiotestsrc num-buffers=200 samplesperbuffer=480 ! audio/x-raw,rate=48000 ! opusenc ! mux. \
         audiotestsrc num-buffers=200 samplesperbuffer=480 ! audio/x-raw,rate=48000 ! opusenc ! mux. \
         videotestsrc num-buffers=50 ! video/x-raw,width=80,height=60,framerate=25/1 ! vp8enc deadline=1 ! mux.",
        path.display()
    ));
    let recorder = play(options(&file_url(&path)));
    assert_eq!(recorder.last_notice(), Notice::Ended);
    assert_eq!(recorder.seen.lock().frames.len(), 50);
    assert!(recorder.n_samples().abs_diff(N_SAMPLES) <= PADDING);
}

#[test]
fn pictures_are_scaled_to_what_the_model_wants() {
    let folder = tempfile::tempdir().expect("folder");
    let path = sized_clip(folder.path(), "c.mkv", "vp8enc deadline=1", "", "matroskamux", (320, 180));
    let check = |fit, format, (width, height), expected| {
        let mut options = options(&file_url(&path));
        options.video = Some(PictureRequest { width, height, fit, format });
        let recorder = play(options);
        let seen = recorder.seen.lock();
        for frame in &seen.frames {
            assert_eq!((frame.image.width, frame.image.height), expected);
            assert_eq!((frame.source_width, frame.source_height), (320, 180));
            assert_eq!(frame.image.format, format);
        }
        seen.frames.len() as u64
    };
    assert_eq!(check(Fit::Letterbox, PixelFormat::Bgr8, (416, 416), (416, 234)), N_FRAMES);
    assert_eq!(check(Fit::Stretch, PixelFormat::Rgb8, (300, 300), (300, 300)), N_FRAMES);
    // Rows that are no multiple of four bytes: the stride is longer than the row.
    assert_eq!(check(Fit::Letterbox, PixelFormat::Rgb8, (71, 71), (71, 40)), N_FRAMES);
}

#[test]
fn colours_come_in_the_order_asked_for() {
    for (format, red_at) in [(PixelFormat::Rgb8, 0), (PixelFormat::Bgr8, 2)] {
        let mut options = options("test://?width=64&height=48&fps=5&pattern=red&secs=1");
        options.video = Some(PictureRequest { format, ..SQUARE });
        let recorder = play(options);
        let seen = recorder.seen.lock();
        assert_eq!(seen.frames.len(), 5);
        let pixel = &seen.frames[0].image.row(30)[90..93];
        assert!(pixel[red_at] > 200 && pixel[1] < 60 && pixel[2 - red_at] < 60, "{pixel:?}");
    }
}

#[test]
fn a_change_of_size_in_mid_stream_is_followed() {
    let folder = tempfile::tempdir().expect("folder");
    let (a, b, both) = (folder.path().join("a.ts"), folder.path().join("b.ts"), folder.path().join("both.ts"));
    for (path, size) in [(&a, "width=320,height=180"), (&b, "width=160,height=120")] {
        launch(&format!(
            "videotestsrc num-buffers=25 ! video/x-raw,{size},framerate=25/1 ! x264enc key-int-max=5 ! h264parse ! \
             mpegtsmux ! filesink location={}",
            path.display()
        ));
    }
    let mut bytes = std::fs::read(&a).expect("a");
    bytes.extend(std::fs::read(&b).expect("b"));
    std::fs::write(&both, bytes).expect("both");
    let mut options = options(&file_url(&both));
    options.video = Some(PictureRequest { fit: Fit::Letterbox, ..SQUARE });
    let recorder = play(options);
    let seen = recorder.seen.lock();
    let sizes: Vec<_> = seen.frames.iter().map(|f| (f.source_width, f.image.width, f.image.height)).collect();
    assert!(sizes.starts_with(&[(320, 64, 36)]) && sizes.ends_with(&[(160, 64, 48)]), "{sizes:?}");
    assert!(seen.frames.len() >= 45, "{}", seen.frames.len());
    // Both parts begin at the same time of the source's clock: it jumps back, the PTS goes on.
    let last = seen.frames.last().expect("frames").pts.millis();
    assert!((1600..2600).contains(&last), "{last}");
}

#[test]
fn a_date_in_the_recording_is_the_capture_time() {
    let folder = tempfile::tempdir().expect("folder");
    let recorder = play(options(&file_url(&mp4(folder.path(), "clip.mp4"))));
    let seen = recorder.seen.lock();
    let first = seen.frames[0].captured.expect("mp4mux writes the date");
    let last = seen.frames[N_FRAMES as usize - 1].captured.expect("date");
    assert_eq!((first.quality, last.quality), (ClockQuality::Container, ClockQuality::Container));
    let media = seen.frames[N_FRAMES as usize - 1].pts.since(seen.frames[0].pts);
    assert_eq!(last.at.duration_since(first.at).as_millis(), media.as_millis() as i128);
    drop(seen);
    let undated = clip(folder.path(), "clip.ts", H264, "", "mpegtsmux");
    let recorder = play(options(&file_url(&undated)));
    assert!(recorder.seen.lock().frames.iter().all(|f| f.captured.is_none()));
}

#[test]
fn the_same_recording_gives_the_same_frames() {
    let folder = tempfile::tempdir().expect("folder");
    let url = file_url(&mp4(folder.path(), "clip.mp4"));
    let all = |_: u32| {
        let recorder = play(options(&url));
        let seen = recorder.seen.lock();
        let frames: Vec<_> = seen
            .frames
            .iter()
            .map(|f| (f.session.clone(), f.index, f.pts, f.captured, f.image.data.to_vec()))
            .collect();
        let chunks: Vec<_> = seen.chunks.iter().map(|c| (c.pts, c.captured, c.samples.clone())).collect();
        (frames, chunks)
    };
    assert!(all(1) == all(2), "two runs differ");
}
