//! Each sampling on a real clip: which pictures come, and that none is missing from the account.

use base::ledger::DropReason;
use ingest::Sampling;

use crate::harness::*;

fn check(sampling: Sampling, n_decoded: u64, expected: &[u64]) {
    let folder = tempfile::tempdir().expect("folder");
    let mut options = options(&file_url(&mp4(folder.path(), "clip.mp4")));
    options.sampling = sampling;
    options.audio = false;
    let recorder = play(options);
    let indices: Vec<u64> = recorder.seen.lock().frames.iter().map(|f| f.index).collect();
    assert_eq!(indices, expected, "{sampling:?}");
    let reading = base::media::MediaConsumer::ledger(&*recorder).read();
    assert_eq!(reading.n_decoded, n_decoded, "{sampling:?}");
    assert_eq!(reading.dropped(DropReason::Sampling), n_decoded - expected.len() as u64);
}

#[test]
fn all_and_every_nth() {
    check(Sampling::All, 50, &(0..50).collect::<Vec<_>>());
    check(Sampling::EveryNth(20), 50, &[0, 20, 40]);
}

#[test]
fn frames_per_second() {
    check(Sampling::Fps(5.0), 50, &[0, 5, 10, 15, 20, 25, 30, 35, 40, 45]);
    check(Sampling::Fps(0.5), 50, &[0]);
    check(Sampling::Fps(1000.0), 50, &(0..50).collect::<Vec<_>>());
}

#[test]
fn keyframes_are_the_only_ones_decoded() {
    check(Sampling::Keyframes, 5, &[0, 1, 2, 3, 4]);
}

#[test]
fn a_stop_in_the_middle_leaves_the_account_balanced() {
    for sampling in [Sampling::All, Sampling::EveryNth(7)] {
        let mut options = options("test://?width=320&height=240&fps=100&pattern=snow&audio=noise");
        options.sampling = sampling;
        let (recorder, stream) = start(options);
        recorder.wait("pictures and sound", |s| s.frames.len() > 20 && s.chunks.len() > 2);
        stream.stop();
        stream.join();
        recorder.check_sane();
        let notices = &recorder.seen.lock().notices;
        assert!(
            matches!(notices.last(), Some(base::media::Notice::Playing { .. })),
            "a stop is no outage: {notices:?}"
        );
    }
}
