//! What cannot be played says so, once and clearly; what can be played of it is played.

use base::media::{GapReason, Notice};

use crate::harness::*;

/// Plays bytes as a file; gives the failure and the number of pictures before it.
fn failure(name: &str, bytes: &[u8]) -> (String, usize) {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("write");
    failure_of(&file_url(&path))
}

fn failure_of(url: &str) -> (String, usize) {
    let recorder = play(options(url));
    let Notice::Failed { detail } = recorder.last_notice() else { panic!("{:?}", recorder.last_notice()) };
    let n_failed = recorder.seen.lock().notices.iter().filter(|n| matches!(n, Notice::Failed { .. })).count();
    assert_eq!(n_failed, 1);
    let n = recorder.seen.lock().frames.len();
    (detail, n)
}

#[test]
fn what_is_no_media() {
    let check = |(detail, n): (String, usize), part: &str| {
        assert!(detail.contains(part) && detail.starts_with("file://") && n == 0, "{detail}");
    };
    check(failure_of("file:///nowhere/clip.mp4"), "there is no such file");
    check(failure_of("file:///"), "this is a folder");
    check(failure("zero.mp4", b""), "the file is empty (0 bytes)");
    check(failure("text.mp4", "Dear diary, nothing happened today.\n".repeat(100).as_bytes()), "text file");
    let noise: Vec<u8> = (0..5000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    check(failure("noise.mp4", &noise), "no media that is known");
}

#[test]
fn a_truncated_recording_is_played_as_far_as_it_goes() {
    let folder = tempfile::tempdir().expect("folder");
    let whole = std::fs::read(mp4(folder.path(), "clip.mp4")).expect("clip");
    let (detail, n) = failure("half.mp4", &whole[..whole.len() / 2]);
    assert!(detail.contains("truncated"), "{detail}");
    assert!((5..45).contains(&n), "{n} pictures");
    let index_last = std::fs::read(clip(folder.path(), "last.mp4", H264, "", "mp4mux")).expect("clip");
    let (detail, n) = failure("headless.mp4", &index_last[..index_last.len() / 2]);
    assert!(detail.contains("truncated") && n == 0, "{detail}");
    let packets = std::fs::read(clip(folder.path(), "clip.ts", H264, "", "mpegtsmux")).expect("clip");
    let (detail, n) = failure("half.ts", &packets[..packets.len() / 2 / 188 * 188 + 100]);
    assert!(detail.contains("truncated"), "{detail}");
    assert!((5..45).contains(&n), "{n} pictures");
}

#[test]
fn a_truncated_recording_leaves_a_gap() {
    let folder = tempfile::tempdir().expect("folder");
    let path = mp4(folder.path(), "clip.mp4");
    let whole = std::fs::read(&path).expect("clip");
    std::fs::write(&path, &whole[..whole.len() / 2]).expect("write");
    let recorder = play(options(&file_url(&path)));
    let seen = recorder.seen.lock();
    let gaps: Vec<_> = seen.notices.iter().filter(|n| matches!(n, Notice::Gap { .. })).collect();
    let [Notice::Gap { reason: GapReason::DecodeError, from, session: Some(_), .. }] = gaps[..] else {
        panic!("{gaps:?}")
    };
    assert!(*from >= seen.frames.last().expect("frames").pts);
}

#[test]
fn broken_bytes_in_the_middle_stop_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let path = clip(folder.path(), "clip.ts", H264, AAC, "mpegtsmux");
    let mut bytes = std::fs::read(&path).expect("clip");
    let (from, to) = (bytes.len() / 3 / 188 * 188, bytes.len() / 2 / 188 * 188);
    for (i, b) in bytes[from..to].iter_mut().enumerate().filter(|(i, _)| i % 188 > 4) {
        *b = (i as u32).wrapping_mul(2_654_435_761).to_le_bytes()[2];
    }
    std::fs::write(&path, bytes).expect("write");
    let recorder = play(options(&file_url(&path)));
    let seen = recorder.seen.lock();
    assert!(seen.frames.len() >= 25, "{}", seen.frames.len());
    assert!(seen.frames.last().expect("frames").pts.millis() > 1500);
}

/// Bytes with every `from` made `to`, of the same length.
fn renamed(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    let places: Vec<_> = (0..bytes.len() - from.len()).filter(|i| bytes[*i..].starts_with(from)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    bytes
}

#[test]
fn a_codec_that_nobody_knows_is_named() {
    let folder = tempfile::tempdir().expect("folder");
    let read = |path| std::fs::read(path).expect("clip");
    let alone = read(clip(folder.path(), "alone.mp4", H264, "", "mp4mux faststart=true"));
    let (detail, n) = failure("odd.mp4", &renamed(alone, b"avc1", b"xyz1"));
    assert!(detail.contains("nothing on this machine decodes the codec `xyz1`") && n == 0, "{detail}");
    let matroska = read(clip(folder.path(), "alone.mkv", H264, "", "matroskamux"));
    let (detail, n) = failure("odd.mkv", &renamed(matroska, b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/XYZ"));
    assert!(detail.contains("decodes the codec `v_mpeg4/iso/xyz`") && n == 0, "{detail}");
}

#[test]
fn sound_in_a_codec_that_nobody_knows_does_not_cost_the_pictures() {
    let folder = tempfile::tempdir().expect("folder");
    let both = std::fs::read(clip(folder.path(), "clip.mkv", H264, "opusenc", "matroskamux")).expect("clip");
    let path = folder.path().join("odd.mkv");
    std::fs::write(&path, renamed(both, b"A_OPUS", b"A_OPUZ")).expect("write");
    let recorder = play(options(&file_url(&path)));
    assert_eq!(recorder.last_notice(), Notice::Ended);
    assert_eq!(recorder.seen.lock().frames.len() as u64, N_FRAMES);
    assert_eq!(recorder.source().audio, None);
}

#[test]
fn nothing_of_what_is_wanted_is_there() {
    let folder = tempfile::tempdir().expect("folder");
    let mut options = options(&file_url(&clip(folder.path(), "clip.mkv", H264, "", "matroskamux")));
    options.video = None;
    let recorder = play(options);
    let Notice::Failed { detail } = recorder.last_notice() else { panic!("{:?}", recorder.last_notice()) };
    assert!(detail.contains("none of the pictures or sound that are wanted"), "{detail}");
}

#[test]
fn bad_urls_are_refused_at_once() {
    let check = |url: &str, part: &str| {
        let result = ingest::Stream::spawn(options(url), std::sync::Arc::new(Recorder::default()));
        let Err(error) = result else { panic!("{url} was taken") };
        let error = error.to_string();
        assert!(error.contains(part) && !error.contains("hunter2"), "{error}");
    };
    check("gopher://admin:hunter2@host/x", "no source knows; known ones are rtsp, rtsps, file");
    check("test://?width=0", "width=0: write a whole number");
    check("test://?size=3", "unknown parameter `size`");
    check("test://?pattern=plaid", "none of smpte, snow");
    check("srt://host/?passphrase=hunter2", "has a port");
    check("srt://host:9000?passphrase=hunter2", "10 to 79 characters");
    check("rtmp://host/live", "an application and a stream");
    check("udp://239.0.0.1", "an address and a port");
    check("v4l2:///dev/video0?format=gif", "none of raw, mjpeg, h264");
}
