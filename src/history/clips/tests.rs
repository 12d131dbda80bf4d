//! Which clips are gathered and kept, in a real folder.

use std::time::UNIX_EPOCH;

use base::{
    media::{MediaSegment, SessionId, StreamName},
    time::ManualClock,
};

use super::{kept::FUTURE_MS, *};
use crate::hls::{Captions, HlsConfig};

fn clip(n_bytes: u64, written_ms: i64) -> Clip {
    Clip { from_ms: 0, n_bytes, written_ms }
}

#[test]
fn the_oldest_go_first() {
    let check = |since_ms: i64, max_bytes: u64, expected: &[&str]| {
        let mut kept = Kept::default();
        for (id, n_bytes, written_ms) in [("c", 10, 30), ("a", 10, 10), ("b", 10, 20), ("a", 20, 10)] {
            kept.add(id.into(), clip(n_bytes, written_ms));
        }
        assert_eq!((kept.n_bytes, kept.by_id.len(), kept.by_age.len()), (40, 3, 3));
        let gone: Vec<String> = kept
            .superfluous((since_ms + 1000, Duration::ZERO), Duration::from_secs(1), max_bytes)
            .into_iter()
            .map(|(id, _)| id)
            .collect();
        assert_eq!(gone, expected, "since {since_ms}, {max_bytes} bytes");
        assert_eq!(kept.n_bytes, kept.by_id.values().map(|clip| clip.n_bytes).sum::<u64>());
    };
    check(0, 40, &[]);
    check(10, 39, &["a"]);
    check(21, 40, &["a", "b"]);
    check(0, 9, &["a", "b", "c"]);
}

#[test]
fn a_clock_that_is_wrong_costs_nothing_for_an_hour() {
    let day = 24 * 3_600_000;
    let mut kept = Kept::default();
    for n in 0..8 {
        kept.add(format!("s-{n}"), clip(10, n * day));
    }
    kept.add("s-8".into(), clip(10, 365 * day));
    let mut n_gone = |at_days: i64, minutes: u64, max_bytes: u64| {
        let now = (at_days * day, Duration::from_secs(60 * minutes));
        kept.superfluous(now, Duration::from_secs(7 * 24 * 3600), max_bytes).len()
    };
    assert_eq!(n_gone(8, 0, 100), 1);
    assert_eq!(n_gone(366, 0, 100), 0);
    // There is as much room as ever.
    assert_eq!(n_gone(366, 59, 70), 1);
    assert_eq!(n_gone(366, 60, 100), 6);
}

const NEVER: Duration = Duration::MAX;

/// So many clips that wait for segments of one stream, each of two seconds and so many bytes; from its first word until
/// the second 100.
fn gatherings(n: usize) -> (Arc<HlsStore>, StreamName, Vec<Gathering>) {
    let media = HlsStore::new(HlsConfig::default(), ManualClock::new());
    let cam = StreamName::new("cam").expect("name");
    media.attach(&cam, Captions::Expected { language: None });
    let gathering = |number| {
        let tap = media
            .tap(&cam, &SessionId::derived([b"s".as_slice()]), Pts::ZERO..Pts::from_nanos(u64::MAX), usize::MAX)
            .expect("tap");
        let (start, end) = (Pts::ZERO, Pts::from_millis(100_000));
        Gathering::new(Wanted { id: format!("s-{number}"), start, end, tap }, NEVER)
    };
    let gatherings = (0..n).map(gathering).collect();
    (media, cam, gatherings)
}

fn segment(number: u64, n_bytes: usize) -> MediaSegment {
    MediaSegment {
        session: SessionId::derived([b"s".as_slice()]),
        number,
        start: Pts::from_millis(2000 * number),
        duration: Duration::from_secs(2),
        captured: None,
        mpegts: MediaSegment::MPEGTS_AT_ZERO + 180_000 * number,
        bytes: vec![0; n_bytes].into(),
        discontinuity: false,
        codecs: "avc1.64001f".into(),
        size: Some((64, 48)),
    }
}

#[test]
fn clips_that_are_gathered_have_room_together() {
    let (media, cam, mut gatherings) = gatherings(4);
    let step = |gatherings: &mut [Gathering], number: u64| {
        media.segment(&cam, segment(number, 1000));
        absorb(gatherings, 7500);
        let bytes: Vec<usize> = gatherings.iter().map(Gathering::n_bytes).collect();
        (bytes, gatherings.iter().map(|gathering| gathering.is_cut && gathering.is_over).collect::<Vec<_>>())
    };
    assert_eq!(step(&mut gatherings, 0), (vec![1000; 4], vec![false; 4]));
    // Seven have room: the last one ends.
    assert_eq!(step(&mut gatherings, 1), (vec![2000, 2000, 2000, 1000], vec![false, false, false, true]));
    // What is made leaves room.
    gatherings.remove(3);
    let expected = (vec![3000, 2000, 2000], vec![false, true, true]);
    assert_eq!(step(&mut gatherings, 2), expected);
    gatherings.truncate(1);
    for number in 3..7 {
        assert_eq!(step(&mut gatherings, number).1, [false]);
    }
    assert_eq!(step(&mut gatherings, 7), (vec![7000], vec![true]));
}

#[test]
fn one_clip_has_its_own_bound_and_what_has_no_room_at_all_fails() {
    let (media, cam, mut gatherings) = gatherings(2);
    media.segment(&cam, segment(0, MOST_BYTES - 1));
    media.segment(&cam, segment(1, 2));
    absorb(&mut gatherings, MOST_BYTES);
    let figures = |gathering: &Gathering| (gathering.n_bytes(), gathering.is_cut, gathering.is_over);
    assert_eq!(gatherings.iter().map(figures).collect::<Vec<_>>(), [(MOST_BYTES - 1, true, true), (0, true, true)]);
    let folder = tempfile::tempdir().expect("folder");
    let shared = shared(folder.path());
    shared.make(gatherings.remove(1));
    assert_eq!((shared.n_failed.load(Relaxed), shared.n_cut.load(Relaxed)), (1, 0));
    assert_eq!(names(folder.path()), [""; 0]);
}

fn shared(dir: &Path) -> Shared {
    Shared {
        dir: dir.to_owned(),
        keep: Duration::from_secs(1000),
        max_bytes: 1000,
        clock: ManualClock::new(),
        kept: Mutex::new(Kept::scan(dir).expect("read")),
        n_failed: AtomicU64::new(0),
        n_cut: AtomicU64::new(0),
        n_removed: AtomicU64::new(0),
        is_troubled: AtomicBool::new(false),
        is_closing: AtomicBool::new(false),
    }
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).expect("folder").flatten().map(|entry| entry.file_name().into_string());
    let mut names: Vec<String> = names.map(|name| name.expect("UTF-8")).collect();
    names.sort();
    names
}

#[test]
fn a_transcript_has_one_clip() {
    let folder = tempfile::tempdir().expect("folder");
    let write = |name: &str, n_bytes: usize, at: u64| {
        let path = folder.path().join(name);
        fs::write(&path, vec![0; n_bytes]).expect("written");
        let at = UNIX_EPOCH + Duration::from_secs(at);
        fs::File::options().append(true).open(path).and_then(|file| file.set_modified(at)).expect("its time");
    };
    // Whichever is found first.
    for (name, n_bytes, at) in [("a@1.mp4", 1, 10), ("a@2.mp4", 2, 20), ("b@1.mp4", 4, 40), ("b@2.mp4", 8, 30)] {
        write(name, n_bytes, at);
    }
    let shared = shared(folder.path());
    assert_eq!(names(folder.path()), ["a@2.mp4", "b@1.mp4"]);
    assert_eq!(shared.kept.lock().n_bytes, 6);
    // It is made again, from elsewhere and from there.
    write("a@7.mp4", 16, 50);
    shared.keep("a".into(), Clip { from_ms: 7, n_bytes: 16, written_ms: 50_000 });
    shared.keep("b".into(), Clip { from_ms: 1, n_bytes: 5, written_ms: 60_000 });
    assert_eq!(names(folder.path()), ["a@7.mp4", "b@1.mp4"]);
    let kept = shared.kept.lock();
    assert_eq!((kept.n_bytes, kept.by_id.len(), kept.by_age.len()), (21, 2, 2));
}

#[test]
fn what_was_left_is_found_and_what_was_not_finished_goes() {
    let folder = tempfile::tempdir().expect("folder");
    for name in ["s-1@2000.mp4", "s-2@x.mp4", "s-3@5.mp4.part", "s-3@5.mp4.part.media", "notes.txt", "a b@7.mp4"] {
        fs::write(folder.path().join(name), b"12345").expect("written");
    }
    let kept = Kept::scan(folder.path()).expect("read");
    let ids: Vec<_> = kept.by_id.iter().map(|(id, clip)| (id.as_str(), clip.from_ms, clip.n_bytes)).collect();
    assert_eq!(ids, [("s-1", 2000, 5)]);
    let mut left: Vec<_> = fs::read_dir(folder.path()).expect("folder").flatten().map(|e| e.file_name()).collect();
    left.sort();
    assert_eq!(left, ["a b@7.mp4", "notes.txt", "s-1@2000.mp4", "s-2@x.mp4"]);
}

#[test]
fn what_is_dated_in_the_future_does_not_push_out_the_present() {
    let mut kept = Kept::default();
    for (id, written_ms) in [("old", 10), ("new", 20), ("wrong", 20 + 2 * FUTURE_MS)] {
        kept.add(id.into(), Clip { from_ms: 0, n_bytes: 10, written_ms });
    }
    let mut gone = |max_bytes| {
        let gone = kept.superfluous((30, Duration::ZERO), Duration::from_secs(1000), max_bytes);
        gone.into_iter().map(|(id, _)| id).collect::<Vec<_>>()
    };
    assert_eq!(gone(20), ["wrong"]);
    assert_eq!(gone(19), ["old"]);
}

#[test]
fn what_cannot_be_taken_away_is_not_forgotten() {
    let folder = tempfile::tempdir().expect("folder");
    let shared = shared(folder.path());
    for (id, written_ms) in [("a", 10), ("b", 20), ("c", 30)] {
        shared.kept.lock().add(id.into(), Clip { from_ms: 7, n_bytes: 600, written_ms });
    }
    // In the place of its file lies a folder.
    fs::create_dir(shared.path("b", 7)).expect("folder");
    fs::write(shared.path("c", 7), b"mp4").expect("file");
    shared.sweep();
    let left = |shared: &Shared| shared.kept.lock().by_id.keys().cloned().collect::<Vec<_>>();
    assert_eq!((left(&shared), shared.n_removed.load(Relaxed)), (vec!["b".to_owned(), "c".to_owned()], 1));
    fs::remove_dir(shared.path("b", 7)).expect("folder");
    shared.sweep();
    assert_eq!((left(&shared), shared.n_removed.load(Relaxed)), (vec!["c".to_owned()], 2));
    assert_eq!(shared.kept.lock().n_bytes, 600);
}
