use base::time::ManualClock;
use parking_lot::Mutex;

use super::*;
use crate::{Stamp, samples};

#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the sink shows of `events`.
fn shown(config: &ConsoleConfig, colored: bool, events: &[Event]) -> String {
    let screen = Screen::default();
    let context = BuildContext::new(ManualClock::new(), Stamp::Omitted);
    let mut sink = Box::new(Console::new(config, Box::new(screen.clone()), colored, context));
    for event in events {
        sink.publish(event).expect("screen");
    }
    let report = sink.finish(Duration::ZERO);
    assert_eq!((report.n_published, report.n_failed), (events.len() as u64, 0));
    String::from_utf8(screen.0.lock().clone()).expect("utf-8")
}

#[test]
fn readable_lines() {
    let door = samples::stream("front-door");
    let yard = samples::stream("yard");
    let check = |events: &[Event], expected: &str| {
        assert_eq!(shown(&ConsoleConfig::default(), false, events), expected);
    };
    let people = [("person", Some(7)), ("person", Some(9)), ("dog", None)];
    check(&[samples::detections(&door, 124, &people)], "front-door     12.4s  2 person, 1 dog  #7 #9\n");
    check(&[samples::detections(&door, 0, &[])], "front-door      0.0s  nothing\n");
    check(
        &[samples::playing(&door), samples::status(&yard, 37_234, StreamState::Failed, "no such file")],
        "front-door      0.0s  playing  h264 768x576 + aac\nyard        1:02:03.4  failed  no such file\n",
    );
    check(
        &[samples::gap(&door, 623)],
        "front-door    1:02.3  gap of 7.5s  source lost  the server closed the connection\n",
    );
    let many: Vec<(&str, Option<u64>)> = (1..=11).map(|track| ("person", Some(track))).collect();
    check(&[samples::detections(&door, 0, &many)], "front-door      0.0s  11 person  #1 #2 #3 #4 #5 #6 #7 #8 +3\n");
}

#[test]
fn what_is_said_is_shown_once_it_is_final() {
    let door = samples::stream("front-door");
    let events = [
        samples::transcript(&door, 0, "and so", false),
        samples::caption(&door, 0, 3400..4000, &["and so"], false),
        samples::caption(&door, 0, 3400..4800, &["and so my fellow", "Americans\x1b[31m"], true),
        samples::caption(&door, 1, 5000..6000, &[], true),
        samples::transcript(&door, 1, "and so my fellow Americans", true),
        samples::transcript(&door, 2, "", true),
    ];
    let check = |speech, expected: &str| {
        assert_eq!(shown(&ConsoleConfig { speech, ..ConsoleConfig::default() }, false, &events), expected);
    };
    check(Speech::Transcripts, "front-door      3.4s  “and so my fellow Americans”\n");
    check(Speech::Captions, "front-door      3.4s  “and so my fellow Americans [31m”\n");
    check(Speech::None, "");
}

/// Classes with their tracks.
type Objects<'a> = &'a [(&'a str, Option<u64>)];

#[test]
fn a_line_when_what_is_seen_changes() {
    let door = samples::stream("d");
    let one: Objects<'_> = &[("person", None)];
    // Frames at 10 a second: (first, last, seen), and the times of the lines.
    let check = |stretches: &[(u64, u64, Objects<'_>)], expected: &[&str]| {
        let frames = stretches.iter().flat_map(|&(from, to, seen)| (from..=to).map(move |n| (n, seen)));
        let events: Vec<Event> = frames.map(|(n, seen)| samples::detections(&door, n, seen)).collect();
        let text = shown(&ConsoleConfig::default(), false, &events);
        let lines: Vec<String> =
            text.lines().map(|l| l.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines, expected);
    };
    // The same all the time: once, and again as a sign of life.
    check(&[(0, 95, one)], &["0.0s 1 person"]);
    check(&[(0, 105, one)], &["0.0s 1 person", "10.0s 1 person"]);
    // Something new shows at once; something gone after a whole interval without it.
    check(&[(0, 29, &[]), (30, 45, one), (46, 80, &[])], &["0.0s nothing", "3.0s 1 person", "6.0s nothing"]);
    // A glimpse between two lines is shown, late rather than never.
    check(&[(0, 2, &[]), (3, 3, one), (4, 30, &[])], &["0.0s nothing", "1.0s 1 person", "2.0s nothing"]);
    // Flicker is no news.
    let flicker: Vec<_> = (0..60).map(|n| (n, n, if n % 3 == 0 { &[][..] } else { one })).collect();
    check(&flicker, &["0.0s nothing", "1.0s 1 person"]);
}

#[test]
fn a_new_session_begins_anew() {
    let door = samples::stream("d");
    let late = samples::detections(&door, 500, &[]);
    let mut next = samples::detections(&door, 0, &[]);
    next.session = base::media::SessionId::derived([b"next".as_slice()]);
    assert_eq!(shown(&ConsoleConfig::default(), false, &[late, next]).lines().count(), 2);
}

#[test]
fn json_is_the_wire_format_and_colour_is_optional() {
    let door = samples::stream("d");
    let event = samples::detections(&door, 1, &[("person", None)]);
    let json = ConsoleConfig { format: Format::Json, ..ConsoleConfig::default() };
    assert_eq!(shown(&json, true, std::slice::from_ref(&event)), format!("{}\n", wire::encode(&event, None)));
    assert!(shown(&ConsoleConfig::default(), true, std::slice::from_ref(&event)).contains("\x1b[32m1 person\x1b[0m"));
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let clock = ManualClock::new();
    let context = BuildContext::new(clock.clone(), Stamp::Omitted);
    let sink = Box::new(Console::new(&ConsoleConfig::default(), Box::new(Gone), false, context));
    let (tx, rx) = base::queue::queue("test", 1, WhenFull::Block);
    let handle = crate::spawn("console", sink, rx, Duration::from_secs(60), clock).expect("thread");
    for number in 0..20 {
        let event = Arc::new(samples::detections(&samples::stream("d"), number, &[]));
        assert_eq!(tx.send(event), base::queue::Sent::Queued);
    }
    drop(tx);
    let report = handle.join();
    assert_eq!((report.n_published, report.n_failed), (0, 0));
    assert!(report.error.is_none(), "{:?}", report.error);
}
