use std::sync::Arc;

use base::{media::StreamInfo, time::ManualClock};

use super::*;
use crate::{Stamp, samples};

fn build(config: &CaptionsConfig) -> Result<Box<dyn Sink>, SinkError> {
    config.build("captions", BuildContext::new(ManualClock::new(), Stamp::Omitted))
}

fn replace(path: PathBuf) -> CaptionsConfig {
    CaptionsConfig { existing: Existing::Replace, ..CaptionsConfig::new(path) }
}

fn door() -> Arc<StreamInfo> {
    samples::stream("front-door")
}

/// Publishes and closes; all must be accepted.
fn write(config: &CaptionsConfig, events: &[Event]) -> String {
    let mut sink = build(config).expect("build");
    for event in events {
        sink.publish(event).expect("publish");
    }
    let report = sink.finish(Duration::ZERO);
    assert_eq!((report.n_published, report.n_failed), (events.len() as u64, 0), "{:?}", report.error);
    fs::read_to_string(&config.path).expect("read")
}

/// Time lines of a file.
fn spans(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.contains("-->")).collect()
}

/// The event as part of another session: dated `later_ms` after the sample's own date, or not at all.
fn moved(mut event: Event, session: &str, later_ms: Option<i64>) -> Event {
    event.session = SessionId::derived([session.as_bytes()]);
    event.captured = event.captured.zip(later_ms).map(|(mut captured, later)| {
        captured.at += Duration::from_millis(later.unsigned_abs()) * if later < 0 { 0 } else { 1 };
        captured
    });
    event
}

#[test]
fn final_cues_become_a_file() {
    let dir = tempfile::tempdir().expect("dir");
    let door = door();
    let session = samples::caption(&door, 0, 0..1, &[], true).session;
    let events = [
        samples::playing(&door),
        samples::caption(&door, 0, 2010..4000, &["and so"], false),
        samples::caption(&door, 0, 2010..4800, &["and so my fellow", "Americans <ask>"], true),
        samples::transcript(&door, 9, "ask not", true),
        // Taken back.
        samples::caption(&door, 1, 5000..6000, &[], true),
        samples::caption(&door, 2, 3_605_000..3_606_500, &["ask not"], true),
    ];
    assert_eq!(
        write(&replace(dir.path().join("a/b.vtt")), &events),
        format!(
            "WEBVTT\n\n{session}-cue-0\n00:00:02.010 --> 00:00:04.800\nand so my fellow\nAmericans &lt;ask&gt;\n\n\
             {session}-cue-2\n01:00:05.000 --> 01:00:06.500\nask not\n\n"
        )
    );
    assert_eq!(
        write(&replace(dir.path().join("b.srt")), &events),
        "1\n00:00:02,010 --> 00:00:04,800\nand so my fellow\nAmericans < ask>\n\n\
         2\n01:00:05,000 --> 01:00:06,500\nask not\n\n"
    );
    let webvtt = CaptionsConfig { format: Some(CaptionFormat::Webvtt), ..replace(dir.path().join("c.txt")) };
    assert_eq!(write(&webvtt, &[]), "WEBVTT\n\n", "nobody spoke: a file without cues");
    assert_eq!(write(&replace(dir.path().join("d.srt")), &[]), "");
}

#[test]
fn every_cue_is_in_the_file_at_once() {
    let dir = tempfile::tempdir().expect("dir");
    let config = CaptionsConfig::new(dir.path().join("x.vtt"));
    let mut sink = build(&config).expect("build");
    for number in 0..3 {
        let at = number * 1000;
        sink.publish(&samples::caption(&door(), number, at..at + 900, &["hello"], true)).expect("publish");
        let text = fs::read_to_string(&config.path).expect("read");
        assert!(text.ends_with("\nhello\n\n"));
        assert_eq!(spans(&text).len() as u64, number + 1);
    }
}

#[test]
fn sessions_share_one_timeline() {
    let first = |number, at: u64| samples::caption(&door(), number, at..at + 1000, &["x"], true);
    let check = |events: &[Event], expected: &[&str]| {
        let dir = tempfile::tempdir().expect("dir");
        let text = write(&CaptionsConfig::new(dir.path().join("x.vtt")), events);
        assert_eq!(spans(&text), expected);
    };
    let one = "00:00:02.000 --> 00:00:03.000";
    // Dated: a minute between the two captures is a minute in the file.
    check(
        &[first(0, 2000), moved(first(0, 500), "b", Some(60_000)), moved(first(1, 4000), "b", Some(60_000))],
        &[one, "00:01:00.500 --> 00:01:01.500", "00:01:04.000 --> 00:01:05.000"],
    );
    // Without dates: where the last cue ended.
    check(
        &[first(0, 2000), moved(first(0, 500), "b", None), moved(first(0, 0), "c", None)],
        &[one, "00:00:03.500 --> 00:00:04.500", "00:00:04.500 --> 00:00:05.500"],
    );
    // The clock was set back: never before the last cue's end.
    check(&[first(0, 2000), moved(first(0, 500), "b", Some(0))], &[one, "00:00:03.000 --> 00:00:04.000"]);
}

#[test]
fn goes_on_after_a_restart_and_a_crash() {
    let dir = tempfile::tempdir().expect("dir");
    let cue = |number, at: u64| samples::caption(&door(), number, at..at + 1000, &["häppy"], true);
    for extension in ["vtt", "srt"] {
        let config = CaptionsConfig::new(dir.path().join(format!("x.{extension}")));
        let before = write(&config, &[cue(0, 0), cue(1, 5000)]);
        let after = write(&config, &[moved(cue(0, 700), "b", Some(0))]);
        let added = after.strip_prefix(&before).expect("kept");
        assert_eq!(spans(&added.replace(',', ".")), ["00:00:06.700 --> 00:00:07.700"]);
        assert!(extension == "vtt" || added.starts_with("3\n"), "{added}");
        // Cut anywhere: whole cues are kept, and nothing but whole cues follows.
        for cut in 0..after.len() {
            fs::write(&config.path, &after.as_bytes()[..cut]).expect("write");
            let text = write(&config, &[moved(cue(0, 700), "c", Some(0))]);
            let kept = String::from_utf8_lossy(&after.as_bytes()[..cut]).into_owned();
            let n_whole = kept.matches("häppy\n\n").count();
            // One line end after the last line is how others end a file.
            let n_kept = n_whole + usize::from(kept.ends_with("häppy\n"));
            assert_eq!(text.matches("häppy\n\n").count(), n_kept + 1, "cut at {cut}: {text}");
            assert_eq!(spans(&text).len(), n_kept + 1, "cut at {cut}: {text}");
            assert!(extension == "srt" || text.starts_with("WEBVTT\n\n"), "{text}");
            let (end, count) = vtt::last_end_and_count(&text);
            assert_eq!((end, count), ([1700, 2700, 7700, 9400][n_kept], n_kept as u64 + 1), "cut at {cut}");
        }
    }
}

#[test]
fn a_file_a_stream() {
    let dir = tempfile::tempdir().expect("dir");
    let cue = |stream: &str| samples::caption(&samples::stream(stream), 0, 0..1000, &[stream], true);
    let config = CaptionsConfig::new(dir.path().join("{stream}/captions.vtt"));
    let mut sink = build(&config).expect("build");
    for stream in ["front-door", "yard"] {
        sink.publish(&cue(stream)).expect("publish");
        let text = fs::read_to_string(dir.path().join(stream).join("captions.vtt")).expect("read");
        assert!(text.ends_with(&format!("\n{stream}\n\n")));
    }
    assert_eq!(sink.finish(Duration::ZERO).n_published, 2);

    let config = CaptionsConfig::new(dir.path().join("one.vtt"));
    let mut sink = build(&config).expect("build");
    for stream in ["front-door", "yard", "front-door", "yard"] {
        sink.publish(&cue(stream)).expect("refused, but no reason to stop");
    }
    let report = sink.finish(Duration::ZERO);
    assert_eq!((report.n_published, report.n_failed), (2, 2));
    let error = report.error.expect("told").to_string();
    assert!(error.contains("one.vtt holds the captions of stream front-door; 2 of stream yard"), "{error}");
    assert!(error.contains("write {stream} into `path`"), "{error}");
    assert!(!fs::read_to_string(&config.path).expect("read").contains("yard"));
}

#[test]
fn files_that_are_not_ours_are_left_alone() {
    let dir = tempfile::tempdir().expect("dir");
    let config = CaptionsConfig::new(dir.path().join("x.vtt"));
    fs::write(&config.path, "dear diary\n").expect("write");
    let error = build(&config).err().expect("no WebVTT").to_string();
    assert!(error.contains("x.vtt") && error.contains("it is no WebVTT file"), "{error}");
    assert_eq!(fs::read_to_string(&config.path).expect("read"), "dear diary\n");
    let _first = build(&replace(config.path.clone())).expect("build");
    let error = build(&config).err().expect("second writer").to_string();
    assert!(error.contains("is being written by another process"), "{error}");
}

/// `/dev/full` is Linux's real full disk: every write fails with ENOSPC.
#[test]
fn a_full_disk_is_told_and_counted() {
    let config = CaptionsConfig { format: Some(CaptionFormat::Srt), ..CaptionsConfig::new("/dev/full") };
    let mut sink = build(&config).expect("opens");
    let cue = |number| samples::caption(&door(), number, 0..1000, &["x"], true);
    sink.publish(&cue(0)).expect("taken into memory");
    assert!(sink.publish(&cue(1)).is_err_and(|error| error.is_temporary()), "takes no more");
    assert!(sink.idle().is_err_and(|error| error.is_temporary()));
    let report = sink.finish(Duration::ZERO);
    assert_eq!((report.n_published, report.n_failed), (0, 1));
    let error = report.error.expect("told").to_string();
    assert!(error.contains("1 events could not be delivered") && error.contains("/dev/full"), "{error}");
}
