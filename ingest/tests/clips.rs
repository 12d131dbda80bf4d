//! Clips made of the segments of real media, looked at by ffprobe.

use std::{path::Path, process::Command, time::Duration};

use base::media::{MediaSegment, PixelFormat};
use bytes::Bytes;
use ingest::{Sampling, SegmentOptions, clips};

use crate::harness::*;

/// The bundled clip: 768 x 576, 10 pictures a second, with sound.
const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../media/demo.mp4");

fn segments_of(path: &Path, target: Duration) -> Vec<MediaSegment> {
    let mut options = options(&file_url(path));
    options.segments = Some(SegmentOptions { target });
    options.sampling = Sampling::Keyframes;
    std::mem::take(&mut play(options).seen.lock().segments)
}

fn bytes_of(segments: &[MediaSegment]) -> Vec<Bytes> {
    segments.iter().map(|s| s.bytes.clone()).collect()
}

fn ffprobe(path: &Path) -> serde_json::Value {
    let entries = "format=duration,start_time:stream=codec_type,width,height:packet=stream_index,pts_time,flags";
    let output =
        Command::new("ffprobe").args(["-v", "error", "-show_entries", entries, "-of", "json"]).arg(path).output();
    let output = output.expect("ffprobe");
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("json")
}

fn seconds(value: &serde_json::Value) -> f64 {
    value.as_str().expect("seconds").parse().expect("number")
}

/// Makes a clip of `segments`, and holds it against them.
#[track_caller]
fn check(folder: &Path, segments: &[MediaSegment], n_pictures: usize, has_sound: bool) {
    let path = folder.join("clip.mp4");
    let written = clips::write_mp4(&bytes_of(segments), &path).expect("clip");
    let expected: Duration = segments.iter().map(|s| s.duration).sum();
    assert_eq!((written.n_pictures, written.has_sound), (n_pictures, has_sound));
    assert!(written.duration.abs_diff(expected) < Duration::from_millis(2), "{written:?}, not {expected:?}");
    let probed = ffprobe(&path);
    let tracks = probed["streams"].as_array().expect("streams");
    let video = tracks.iter().position(|s| s["codec_type"] == "video").expect("video");
    let packets = probed["packets"].as_array().expect("packets");
    let pictures: Vec<_> = packets.iter().filter(|p| p["stream_index"] == video).collect();
    assert_eq!(pictures.len(), n_pictures);
    assert!(pictures[0]["flags"].as_str().expect("flags").starts_with('K'), "{}", pictures[0]);
    assert_eq!(tracks.iter().any(|s| s["codec_type"] == "audio"), has_sound);
    let size = segments[0].size.expect("size");
    assert_eq!((&tracks[video]["width"], &tracks[video]["height"]), (&size.0.into(), &size.1.into()));
    let duration = seconds(&probed["format"]["duration"]);
    assert!((duration - expected.as_secs_f64()).abs() < 0.15, "{duration}, not {expected:?}");
    // Players fetch what they need first: the index stands before the media.
    let file = std::fs::read(&path).expect("clip");
    let place = |what: &[u8]| file.windows(4).position(|w| w == what).expect("box");
    assert!(place(b"moov") < place(b"mdat"));
    assert_eq!(
        std::fs::read_dir(folder)
            .expect("folder")
            .filter(|e| e.as_ref().is_ok_and(|e| e.path().extension().is_some_and(|x| x == "media")))
            .count(),
        0
    );
}

#[test]
fn segments_of_a_real_recording_become_a_clip() {
    let folder = tempfile::tempdir().expect("folder");
    let segments = segments_of(Path::new(DEMO), Duration::from_secs(2));
    // From the middle: its times do not begin at zero.
    let some = &segments[3..6];
    let total: Duration = some.iter().map(|s| s.duration).sum();
    check(folder.path(), some, (total.as_secs_f64() * 10.0).round() as usize, true);
    let picture = clips::picture_at(&bytes_of(&some[1..2]), Duration::from_millis(700)).expect("picture");
    assert_eq!((picture.width, picture.height, picture.format), (768, 576, PixelFormat::Rgb8));
    assert!(picture.row(575).iter().any(|b| *b > 64));
}

#[test]
fn reordered_pictures_and_streams_without_sound() {
    let folder = tempfile::tempdir().expect("folder");
    let half = Duration::from_millis(500);
    check(folder.path(), &segments_of(&mp4(folder.path(), "a.mp4"), half)[1..4], 30, true);
    let mute = clip(folder.path(), "mute.mp4", H264, "", "mp4mux");
    check(folder.path(), &segments_of(&mute, half), N_FRAMES as usize, false);
}

#[test]
fn the_picture_of_a_moment() {
    let folder = tempfile::tempdir().expect("folder");
    let path = mp4(folder.path(), "a.mp4");
    let all = play(options(&file_url(&path)));
    let frames = &all.seen.lock().frames;
    let segments = segments_of(&path, Duration::from_millis(500));
    let segment = &segments[2];
    let end = segment.start.nanos() + segment.duration.as_nanos() as u64;
    // The ball moves with every picture.
    for frame in frames.iter().filter(|f| (segment.start.nanos()..end).contains(&f.pts.nanos())) {
        let picture =
            clips::picture_at(std::slice::from_ref(&segment.bytes), frame.pts.since(segment.start)).expect("picture");
        assert_eq!((picture.width, picture.height), (160, 120));
        let apart = |other: &base::media::Frame| -> u64 {
            // The middle of what became one pixel.
            let pixel =
                |y: u32, x: u32| i64::from(picture.row((2 * y + 1) * 60 / 64)[3 * ((2 * x + 1) * 80 / 64) as usize]);
            let of = |y: u32, x: u32| i64::from(other.image.row(y)[3 * x as usize]);
            (0..64).flat_map(|y| (0..64).map(move |x| (y, x))).map(|(y, x)| pixel(y, x).abs_diff(of(y, x))).sum()
        };
        let nearest = frames.iter().min_by_key(|f| apart(f)).expect("frames");
        assert_eq!(nearest.pts, frame.pts);
    }
    let first = clips::picture_at(std::slice::from_ref(&segment.bytes), Duration::ZERO).expect("picture");
    let last = clips::picture_at(std::slice::from_ref(&segment.bytes), Duration::from_secs(9)).expect("picture");
    assert!(first.data != last.data);
}

#[test]
fn what_is_no_media_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("folder");
    let noise = [Bytes::from(vec![0x47; 188 * 40])];
    assert!(clips::write_mp4(&noise, &folder.path().join("clip.mp4")).is_err());
    assert!(clips::write_mp4(&[], &folder.path().join("clip.mp4")).is_err());
    assert!(clips::picture_at(&noise, Duration::ZERO).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 0);
    let segments = segments_of(&mp4(folder.path(), "a.mp4"), Duration::from_millis(500));
    let nowhere = folder.path().join("no/such/folder/clip.mp4");
    assert!(clips::write_mp4(&bytes_of(&segments), &nowhere).is_err());
}
