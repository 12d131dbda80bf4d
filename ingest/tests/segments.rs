//! The encoded media in segments: whole, in the stream's own time, from every framing that sources have.

use std::{path::Path, time::Duration};

use base::media::{MediaSegment, Notice};
use ingest::{
    Mode, Sampling, SegmentOptions,
    camera::{Camera, CameraOptions},
};

use crate::harness::*;

const HALF_SECOND: Option<SegmentOptions> = Some(SegmentOptions { target: Duration::from_millis(500) });

/// What must hold of the segments of any one session.
#[track_caller]
fn check_sane(segments: &[MediaSegment]) {
    for (n, segment) in segments.iter().enumerate() {
        assert_eq!(segment.number, n as u64);
        let ticks = (segment.start.nanos() * 9 + 50_000) / 100_000 + MediaSegment::MPEGTS_AT_ZERO;
        assert_eq!(segment.mpegts, ticks, "{segment:?}");
        assert_eq!(segment.bytes.len() % 188, 0, "{segment:?}");
    }
    for pair in segments.windows(2).filter(|p| !p[1].discontinuity) {
        let (end, start) = (pair[0].start.nanos() + pair[0].duration.as_nanos() as u64, pair[1].start.nanos());
        assert!(end.abs_diff(start) <= 1, "{pair:?}");
    }
}

/// All segments in one file, decoded again: the times of the pictures in milliseconds on the stream's clock, and the number
/// of samples.
fn decoded(folder: &Path, segments: &[MediaSegment]) -> (Vec<u64>, usize) {
    let path = folder.join("segments.ts");
    std::fs::write(&path, segments.iter().flat_map(|s| s.bytes.to_vec()).collect::<Vec<_>>()).expect("write");
    let recorder = play(options(&file_url(&path)));
    let seen = recorder.seen.lock();
    let zero = seen.frames[0].pts.millis();
    let start = segments[0].start.millis();
    let times = seen.frames.iter().map(|f| f.pts.millis() - zero + start).collect();
    (times, seen.chunks.iter().map(|c| c.samples.len()).sum())
}

#[test]
fn every_picture_and_sound_of_a_recording_in_its_own_time() {
    let folder = tempfile::tempdir().expect("folder");
    let plain = "x264enc speed-preset=ultrafast key-int-max=10 bframes=0 ! h264parse";
    for (name, video, audio, mux, codecs) in [
        // Reordered pictures, lengths before the units, sound without headers.
        ("clip.mp4", H264, AAC, "mp4mux", "avc1.4d40"),
        ("clip.mkv", H264, AAC, "matroskamux", "avc1.4d40"),
        // Start codes, and sound with headers.
        ("clip.ts", H264, AAC, "mpegtsmux", "avc1.4d40"),
        ("plain.ts", plain, AAC, "mpegtsmux", "avc1.42c0"),
        ("mute.mp4", plain, "", "mp4mux", "avc1.42c0"),
        // Sound that cannot be carried is left out.
        ("opus.mkv", plain, "opusenc", "matroskamux", "avc1.42c0"),
    ] {
        for sampling in [Sampling::All, Sampling::Keyframes] {
            let path = clip(folder.path(), name, video, audio, mux);
            let mut options = options(&file_url(&path));
            options.segments = HALF_SECOND;
            options.sampling = sampling;
            let recorder = play(options);
            let seen = recorder.seen.lock();
            let segments = &seen.segments;
            // A keyframe every ten pictures, 400 ms.
            assert_eq!(segments.len(), 5, "{name}: {segments:?}");
            check_sane(segments);
            assert!(segments.iter().all(|s| !s.discontinuity && s.size == Some((160, 120))), "{name}: {segments:?}");
            let expected_sound = audio == AAC;
            let codecs_fit = segments[0].codecs.starts_with(codecs);
            assert!(codecs_fit && segments[0].codecs.ends_with(",mp4a.40.2") == expected_sound, "{segments:?}");
            let total: Duration = segments.iter().map(|s| s.duration).sum();
            assert!(total.as_millis().abs_diff(u128::from(SECS) * 1000) <= 40, "{name}: {total:?}");
            let (pictures, n_samples) = decoded(folder.path(), segments);
            assert_eq!(pictures.len() as u64, N_FRAMES, "{name}");
            if sampling == Sampling::All {
                let times: Vec<_> = seen.frames.iter().map(|f| f.pts.millis()).collect();
                let off = times.iter().zip(&pictures).map(|(a, b)| a.abs_diff(*b)).max();
                assert!(off <= Some(1), "{name}: {times:?} {pictures:?}");
            }
            if expected_sound {
                assert!(n_samples.abs_diff(N_SAMPLES) < 3 * 1024, "{name}: {n_samples}");
            } else {
                assert_eq!(n_samples, 0, "{name}");
            }
        }
    }
}

#[test]
fn each_segment_plays_by_itself() {
    let folder = tempfile::tempdir().expect("folder");
    let mut first = options(&file_url(&mp4(folder.path(), "clip.mp4")));
    first.segments = HALF_SECOND;
    let recorder = play(first);
    for segment in &recorder.seen.lock().segments {
        let (pictures, n_samples) = decoded(folder.path(), std::slice::from_ref(segment));
        assert_eq!(pictures.len(), 10, "{segment:?}");
        assert!(n_samples > 4000, "{segment:?}: {n_samples}");
    }
}

#[test]
fn pictures_that_nobody_decodes_are_handed_on_too() {
    let folder = tempfile::tempdir().expect("folder");
    let mut options = options(&file_url(&mp4(folder.path(), "clip.mp4")));
    options.segments = HALF_SECOND;
    options.video = None;
    let recorder = play(options);
    let source = recorder.source();
    assert_eq!(source.video.map(|v| (v.codec, v.size)), Some(("h264".into(), Some((160, 120)))));
    let seen = recorder.seen.lock();
    assert_eq!((seen.frames.len(), seen.segments.len()), (0, 5));
    check_sane(&seen.segments);
    let (pictures, _) = decoded(folder.path(), &seen.segments);
    assert_eq!(pictures.len() as u64, N_FRAMES);
}

#[test]
fn what_cannot_be_carried_gives_no_segments_and_disturbs_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    for (name, video, mux) in [
        ("clip.webm", "vp8enc deadline=1", "webmmux"),
        ("clip.avi", "jpegenc", "avimux"),
        ("h265.mp4", "x265enc speed-preset=ultrafast ! h265parse", "mp4mux"),
    ] {
        let mut options = options(&file_url(&clip(folder.path(), name, video, "", mux)));
        options.segments = HALF_SECOND;
        let recorder = play(options);
        assert_eq!(recorder.last_notice(), Notice::Ended, "{name}");
        let seen = recorder.seen.lock();
        assert_eq!((seen.frames.len() as u64, seen.segments.len()), (N_FRAMES, 0), "{name}");
    }
}

#[test]
fn a_change_of_size_and_of_the_clock_is_a_discontinuity() {
    let folder = tempfile::tempdir().expect("folder");
    let both = folder.path().join("both.ts");
    let mut bytes = Vec::new();
    for (name, size) in [("a.ts", (320, 180)), ("b.ts", (160, 120))] {
        let path = sized_clip(folder.path(), name, H264, AAC, "mpegtsmux", size);
        bytes.extend(std::fs::read(path).expect("clip"));
    }
    std::fs::write(&both, bytes).expect("both");
    let mut options = options(&file_url(&both));
    options.segments = HALF_SECOND;
    let recorder = play(options);
    let seen = recorder.seen.lock();
    check_sane(&seen.segments);
    let sizes: Vec<_> = seen.segments.iter().map(|s| (s.size.expect("size").0, s.discontinuity)).collect();
    assert_eq!(sizes.first(), Some(&(320, false)), "{sizes:?}");
    assert_eq!(sizes.last(), Some(&(160, false)), "{sizes:?}");
    assert_eq!(sizes.iter().filter(|s| **s == (160, true)).count(), 1, "{sizes:?}");
    assert_eq!(sizes.iter().filter(|s| s.1).count(), 1, "{sizes:?}");
    let total: Duration = seen.segments.iter().map(|s| s.duration).sum();
    assert!(total.as_millis().abs_diff(u128::from(SECS) * 2000) < 300, "{total:?} {sizes:?}");
}

#[test]
fn live_segments_lie_on_the_pictures_of_the_analysis() {
    let folder = tempfile::tempdir().expect("folder");
    let camera = Camera::start(CameraOptions::new(mp4(folder.path(), "camera.mp4"))).expect("camera");
    let mut options = live(&camera.url());
    assert_eq!(options.mode, Mode::Live);
    options.segments = HALF_SECOND;
    let (recorder, stream) = start(options);
    // The clip is two seconds long: more than a round.
    recorder.wait("segments", |s| s.segments.len() >= 8 && s.frames.len() > 90);
    stream.stop();
    stream.join();
    let seen = recorder.seen.lock();
    check_sane(&seen.segments);
    let times: Vec<u64> = seen.frames.iter().map(|f| f.pts.nanos()).collect();
    let last = times[times.len() - 1];
    for segment in seen.segments.iter().filter(|s| s.start.nanos() <= last) {
        assert!(times.contains(&segment.start.nanos()), "{segment:?} begins with no picture of {times:?}");
        assert!(segment.captured.is_some(), "{segment:?}");
        assert!(segment.codecs.ends_with(",mp4a.40.2"), "{segment:?}");
    }
}

#[test]
fn a_lost_camera_begins_a_new_count() {
    let folder = tempfile::tempdir().expect("folder");
    let mut camera_options = CameraOptions::new(mp4(folder.path(), "camera.mp4"));
    let camera = Camera::start(camera_options.clone()).expect("camera");
    let url = camera.url();
    let mut options = live(&url);
    options.segments = HALF_SECOND;
    let (recorder, stream) = start(options);
    recorder.wait("segments", |s| s.segments.len() >= 3);
    drop(camera);
    camera_options.address = url.trim_start_matches("rtsp://").split('/').next().expect("address").to_owned();
    let _camera = Camera::start(camera_options).expect("the same camera again");
    recorder.wait("segments of a second session", |s| {
        s.segments.iter().filter(|x| x.session != s.segments[0].session).count() >= 3
    });
    stream.stop();
    stream.join();
    let seen = recorder.seen.lock();
    for sessions in seen.segments.chunk_by(|a, b| a.session == b.session) {
        check_sane(sessions);
        assert!(sessions[0].start.millis() < 1500, "{sessions:?}");
    }
}
