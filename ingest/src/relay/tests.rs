use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use base::media::MediaDescription;

use super::*;
use crate::timeline::Origin;

const HEAD: [u8; 18] = [0, 0, 0, 1, 0x67, 0x42, 0xc0, 0x1e, 0xd9, 0, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80, 0];

fn caps(kind: &str) -> gst::Caps {
    let caps = gst::Caps::builder(kind);
    match kind {
        "video/x-h264" => caps.field("stream-format", "byte-stream").field("width", 64).field("height", 48).build(),
        _ => caps
            .field("mpegversion", 4)
            .field("stream-format", "adts")
            .field("rate", 48_000)
            .field("channels", 1)
            .build(),
    }
}

/// A relay whose session plays, with stream time 0 at running time 1 s.
fn relay() -> Arc<Relay> {
    crate::init().expect("gstreamer");
    let relay = Relay::new();
    relay.begin(&SessionId::derived([b"relay".as_slice()]));
    relay.0.lock().format(Track::Video, &caps("video/x-h264"));
    relay
}

const OFFSETS: Option<Offsets> = Some(Offsets { video: -SECOND, audio: -SECOND });

/// All of it comes at once.
fn put(relay: &Relay, track: Track, ms: i64, key: bool, unit: Vec<u8>, offsets: Option<Offsets>) {
    put_at(relay, track, (ms, Duration::ZERO), &Timeline::new(Origin::FirstMedia, true), key, unit, offsets);
}

/// Running time in milliseconds, and when it comes.
fn put_at(
    relay: &Relay,
    track: Track,
    (ms, now): (i64, Duration),
    timeline: &Timeline,
    key: bool,
    unit: Vec<u8>,
    offsets: Option<Offsets>,
) {
    let running = ms * 1_000_000;
    let mut state = relay.0.lock();
    let wanted = match track {
        Track::Video => state.picture((running, now), timeline, key, &unit),
        Track::Audio => state.frame_of_sound(&unit),
    };
    if wanted {
        let buffer = gst::Buffer::from_slice(unit);
        state.push(Unit { track, key, running, captured: None, buffer });
        state.settle(offsets, running);
        state.wake();
    }
}

/// A picture of some bytes, with its parameter sets where it is a keyframe.
fn picture(relay: &Relay, ms: i64, key: bool) {
    let slice = [0, 0, 1, if key { 0x65 } else { 0x41 }, 0x88, 1, 2, 3];
    let unit = if key { [&HEAD[..17], &slice].concat() } else { slice.to_vec() };
    put(relay, Track::Video, ms, key, unit, OFFSETS);
}

/// Ten groups a second apart, from one second on.
fn pictures(relay: &Relay, range: std::ops::Range<i64>) {
    range.for_each(|n| picture(relay, 1000 + 100 * n, n % 10 == 0));
}

fn watch(relay: &Arc<Relay>) -> (Viewer, Arc<AtomicUsize>) {
    let n_woken = Arc::new(AtomicUsize::new(0));
    let shared = Arc::clone(&n_woken);
    let wake = move || {
        shared.fetch_add(1, Relaxed);
    };
    (relay.watch(true, Arc::new(wake)), n_woken)
}

/// What is taken: `init`, with `+` where there is sound, and for a fragment the times of its tracks in ms and its samples.
fn take(viewer: &mut Viewer) -> Vec<String> {
    let told = |piece: Piece| match piece {
        Piece::Init { has_audio, .. } => format!("init{}", if has_audio { "+" } else { "" }),
        Piece::Clock { pts, .. } => format!("clock {}", pts.millis()),
        Piece::Fragment(bytes) => {
            let places = |kind: &[u8]| -> Vec<usize> {
                let found = bytes.windows(4).enumerate().filter(|(_, window)| *window == kind);
                found.map(|(at, _)| at + 8).collect()
            };
            let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("word"));
            let times = places(b"tfdt").into_iter().zip(places(b"trun")).map(|(tfdt, trun)| {
                // Presentation of the first: its decode time and its offset.
                let offset = word(trun + 8 + 12) as i32;
                let shown = i64::from(word(tfdt + 4)) + i64::from(offset);
                format!("{}x{}", shown / 90, word(trun))
            });
            times.collect::<Vec<_>>().join("+")
        }
    };
    viewer.take().pieces.into_iter().map(told).collect()
}

#[test]
fn a_viewer_begins_with_the_last_keyframe_and_goes_on_live() {
    let relay = relay();
    assert_eq!(relay.readiness(), Readiness::NotYet);
    let (mut early, n_woken) = watch(&relay);
    assert_eq!(take(&mut early), [""; 0]);
    // It waits for a keyframe, whatever comes.
    picture(&relay, 900, false);
    assert_eq!(take(&mut early), [""; 0]);
    pictures(&relay, 0..15);
    assert_eq!(relay.readiness(), Readiness::Ready);
    assert_eq!(n_woken.load(Relaxed), 15);
    assert_eq!(take(&mut early), ["init", "1000x5"]);
    let (mut viewer, _) = watch(&relay);
    assert_eq!(take(&mut viewer), ["init", "1000x5"]);
    assert_eq!(take(&mut viewer), [""; 0]);
    pictures(&relay, 15..16);
    assert_eq!(take(&mut viewer), ["1500x1"]);
    assert_eq!(relay.n_viewers(), 2);
    drop((viewer, early));
    assert_eq!(relay.n_viewers(), 0);
}

#[test]
fn nobody_watches_and_only_the_last_group_is_held() {
    let relay = relay();
    pictures(&relay, 0..95);
    assert_eq!(relay.0.lock().units.len(), 5);
    let (mut viewer, _) = watch(&relay);
    assert_eq!(take(&mut viewer), ["init", "9000x5"]);
    // While somebody does, some seconds.
    pictures(&relay, 95..200);
    assert!((40..=60).contains(&relay.0.lock().units.len()), "{}", relay.0.lock().units.len());
    // Too late: on from the last keyframe, which is told by its time.
    assert_eq!((take(&mut viewer), viewer.n_cuts()), (vec!["19000x10".to_owned()], 1));
    pictures(&relay, 200..201);
    assert_eq!(take(&mut viewer), ["20000x1"]);
    let held: usize = relay.0.lock().units.iter().map(|unit| unit.buffer.size()).sum();
    assert_eq!(relay.0.lock().n_bytes, held);
}

#[test]
fn room_is_bounded_without_a_keyframe() {
    let relay = relay();
    let (mut viewer, _) = watch(&relay);
    picture(&relay, 1000, true);
    for n in 1..40 {
        let unit = [&[0, 0, 1, 0x41, 0x88][..], &vec![7; 1 << 20]].concat();
        put(&relay, Track::Video, 1000 + 40 * n, false, unit, OFFSETS);
    }
    assert!(relay.0.lock().n_bytes <= MOST_BYTES);
    // It has lost its keyframe, and waits for the next one.
    assert_eq!(take(&mut viewer), [""; 0]);
    let (mut late, _) = watch(&relay);
    assert_eq!(take(&mut late), [""; 0]);
    picture(&relay, 3000, true);
    assert_eq!(take(&mut viewer), ["init", "2000x1"]);
    assert_eq!(take(&mut late), ["init", "2000x1"]);
}

#[test]
fn sound_comes_along_once_it_says_what_it_is() {
    let relay = relay();
    pictures(&relay, 0..2);
    let (mut viewer, _) = watch(&relay);
    assert_eq!(take(&mut viewer), ["init", "0x2"]);
    relay.0.lock().format(Track::Audio, &caps("audio/mpeg"));
    assert_eq!(take(&mut viewer), [""; 0]);
    // AAC-LC, 48 kHz, mono; 7 bytes of header.
    let frame = || vec![0xff, 0xf1, 0x4c, 0x40, 1, 0x1f, 0xfc, 9];
    put(&relay, Track::Audio, 1110, false, frame(), OFFSETS);
    put(&relay, Track::Audio, 1131, false, frame(), OFFSETS);
    // Anew from the keyframe. The last frame waits for the next, which says how long it is.
    assert_eq!(take(&mut viewer), ["init+", "0x2+110x1"]);
    put(&relay, Track::Audio, 1153, false, frame(), OFFSETS);
    assert_eq!(take(&mut viewer), ["131x1"]);
    let mut mute = relay.watch(false, Arc::new(|| ()));
    assert_eq!(take(&mut mute), ["init", "0x2"]);
}

#[test]
fn what_does_not_go_on_begins_anew() {
    let relay = relay();
    let (mut viewer, _) = watch(&relay);
    pictures(&relay, 0..3);
    assert_eq!(take(&mut viewer), ["init", "0x3"]);
    // The source's clock jumps: the stream's time is known again a little later.
    let jumped = |ms: i64, key, offsets| {
        let head = if key { &HEAD[..17] } else { &[] };
        put(&relay, Track::Video, ms, key, [head, &[0, 0, 1, 0x65, 0x88]].concat(), offsets);
    };
    jumped(90_000, true, OFFSETS);
    jumped(90_500, false, OFFSETS);
    assert_eq!(take(&mut viewer), [""; 0]);
    let later = Some(Offsets { video: -89_700 * 1_000_000, audio: -89_700 * 1_000_000 });
    jumped(91_000, false, later);
    assert_eq!(take(&mut viewer), ["init", "300x3"]);
    // Other parameter sets.
    let other = [&HEAD[..8], &[0xda], &HEAD[9..17], &[0, 0, 1, 0x65, 0x88]].concat();
    put(&relay, Track::Video, 91_100, true, other, later);
    assert_eq!(take(&mut viewer), ["init", "1400x1"]);
    // Another session, whose pictures are something else.
    relay.begin(&SessionId::derived([b"another".as_slice()]));
    assert_eq!((take(&mut viewer), relay.readiness()), (vec![], Readiness::NotYet));
    let h265 = gst::Caps::builder("video/x-h265").build();
    relay.0.lock().format(Track::Video, &h265);
    assert!(matches!(relay.readiness(), Readiness::Unfit(why) if why.contains("not H.264")));
    relay.close("detached");
    relay.close("stopped");
    assert_eq!(viewer.take().over.as_deref(), Some("detached"));
    assert_eq!(relay.readiness(), Readiness::Over("detached".into()));
}

#[test]
fn pictures_may_be_far_apart() {
    // Seconds between pictures, seconds in which they come; whether they can be watched. A jump each time cannot.
    let check = |step: i64, comes_in: u64, live: bool, expected: bool| {
        let relay = relay();
        let (mut viewer, timeline) = (watch(&relay).0, Timeline::new(Origin::FirstMedia, live));
        let mut taken = Vec::new();
        for n in 0..4 {
            let times = (1000 + 1000 * step * n, Duration::from_secs(comes_in * n as u64));
            let unit = [&HEAD[..17], &[0, 0, 1, 0x65, 0x88]].concat();
            put_at(&relay, Track::Video, times, &timeline, true, unit, OFFSETS.filter(|_| n > 0));
            taken.extend(take(&mut viewer));
        }
        assert_eq!(relay.readiness() == Readiness::Ready, expected, "{step} s in {comes_in} s: {taken:?}");
        let ms = |n: i64| format!("{}x1", 1000 * step * n);
        let all = ["init".to_owned(), ms(1), ms(2), ms(3)];
        assert_eq!(taken, if expected { &all[..] } else { &[] }, "{step} s in {comes_in} s");
    };
    check(6, 6, true, true);
    check(60, 60, true, true);
    // At once, of a recording as well.
    check(6, 0, true, true);
    check(60, 0, true, false);
    check(60, 0, false, true);
}

#[test]
fn sound_alone_cannot_be_watched() {
    crate::init().expect("gstreamer");
    let relay = Relay::new();
    let audio = Some(MediaDescription { codec: "aac".into(), size: None });
    relay.begin(&SessionId::derived([b"sound".as_slice()]));
    relay.0.lock().format(Track::Audio, &caps("audio/mpeg"));
    relay.playing(&SourceDescription { video: None, audio });
    assert!(matches!(relay.readiness(), Readiness::Unfit(why) if why.contains("no pictures")));
}
