use std::sync::Arc;

use base::{
    queue::queue,
    time::{ManualClock, SystemClock},
};

use super::*;
use crate::{SinkReport, Stamp, samples, spawn, wire};

fn build(config: &FileConfig, clock: &Arc<ManualClock>) -> Result<Box<dyn Sink>, SinkError> {
    config.build("file", BuildContext::new(clock.clone(), Stamp::Omitted))
}

/// Publishes frames `from..to` and closes.
fn write(config: &FileConfig, clock: &Arc<ManualClock>, from: u64, to: u64) -> SinkReport {
    let mut sink = build(config, clock).expect("build");
    let stream = samples::stream("d");
    for number in from..to {
        sink.publish(&samples::detections(&stream, number, &[])).expect("publish");
    }
    sink.finish(Duration::ZERO)
}

/// Frame numbers in a file; every line must be a record.
fn numbers(path: &Path) -> Vec<u64> {
    let text = fs::read_to_string(path).expect("read");
    assert!(text.is_empty() || text.ends_with('\n'), "no newline at the end of {path:?}");
    let number = |line: &str| match wire::decode(line).unwrap_or_else(|e| panic!("{line}: {e}")) {
        wire::Record::Detections(record) => record.frame.index,
        other => panic!("{other:?}"),
    };
    text.lines().map(number).collect()
}

#[test]
fn appends_in_a_directory_of_its_own() {
    let dir = tempfile::tempdir().expect("dir");
    let config = FileConfig::new(dir.path().join("a/b/events.jsonl"));
    let clock = ManualClock::new();
    assert_eq!(write(&config, &clock, 0, 3).n_published, 3);
    let report = write(&config, &clock, 3, 5);
    assert_eq!((report.n_published, report.n_failed), (2, 0));
    assert_eq!(numbers(&config.path), [0, 1, 2, 3, 4]);
    let replace = FileConfig { existing: Existing::Replace, durability: Durability::Disk, ..config.clone() };
    write(&replace, &clock, 7, 9);
    assert_eq!(numbers(&config.path), [7, 8]);
}

#[test]
fn a_torn_last_line_is_repaired() {
    let check = |tail: &str, expected: &[u64]| {
        let dir = tempfile::tempdir().expect("dir");
        let config = FileConfig::new(dir.path().join("e.jsonl"));
        let clock = ManualClock::new();
        write(&config, &clock, 0, 2);
        let mut file = OpenOptions::new().append(true).open(&config.path).expect("open");
        file.write_all(tail.as_bytes()).expect("write");
        write(&config, &clock, 8, 9);
        assert_eq!(numbers(&config.path), expected, "{tail:.40}");
    };
    check("", &[0, 1, 8]);
    check("{", &[0, 1, 8]);
    check(r#"{"type":"detections","id":"x-1","spec"#, &[0, 1, 8]);
    check(&format!("{{\"type\":\"{}", "x".repeat(200_000)), &[0, 1, 8]);
    // Whole but for its newline: kept.
    let whole = wire::encode(&samples::detections(&samples::stream("d"), 2, &[]), None);
    check(&whole, &[0, 1, 2, 8]);
    // Cut anywhere, nothing but the cut line goes.
    for cut in 1..whole.len() {
        check(&whole[..cut], &[0, 1, 8]);
    }
}

#[test]
fn a_file_of_one_torn_line_becomes_empty() {
    let dir = tempfile::tempdir().expect("dir");
    let config = FileConfig::new(dir.path().join("e.jsonl"));
    fs::write(&config.path, "{\"type\":\"torn").expect("write");
    write(&config, &ManualClock::new(), 1, 2);
    assert_eq!(numbers(&config.path), [1]);
}

#[test]
fn a_file_of_somebody_else_is_left_alone() {
    for theirs in ["name,age\nanna,3", "{\"id\":\"x", "\0\0\0", "[1, 2"] {
        let dir = tempfile::tempdir().expect("dir");
        let config = FileConfig::new(dir.path().join("theirs"));
        fs::write(&config.path, theirs).expect("write");
        let context = BuildContext::new(ManualClock::new(), Stamp::Omitted);
        let error = config.build("out", context).err().expect(theirs).to_string();
        assert!(error.contains("no record of eyewitness") && error.contains("theirs"), "{error}");
        assert_eq!(fs::read_to_string(&config.path).expect("read"), theirs);
    }
}

#[test]
fn rotates_by_size_and_keeps_so_many() {
    let dir = tempfile::tempdir().expect("dir");
    let clock = ManualClock::new();
    let config = FileConfig { max_bytes: Some(4096), ..FileConfig::new(dir.path().join("e.jsonl")) };
    // A file that only looks similar is not ours.
    fs::write(dir.path().join("e.old.jsonl"), "mine").expect("write");
    assert_eq!(write(&config, &clock, 0, 200).n_published, 200);
    let old = rotated_files(&config.path).expect("list");
    assert!(old.len() > 3, "{old:?}");
    let all: Vec<u64> = old.iter().chain([&config.path]).flat_map(|path| numbers(path)).collect();
    assert_eq!(all, (0..200).collect::<Vec<_>>(), "in order, nothing lost, nothing twice");
    for path in &old {
        assert!(fs::metadata(path).expect("meta").len() <= 4096);
    }
    let config = FileConfig { max_files: Some(2), ..config };
    clock.advance(Duration::from_secs(100));
    write(&config, &clock, 200, 300);
    let old = rotated_files(&config.path).expect("list");
    assert_eq!(old.len(), 2);
    let kept: Vec<u64> = old.iter().chain([&config.path]).flat_map(|path| numbers(path)).collect();
    assert_eq!(kept, (kept[0]..300).collect::<Vec<_>>(), "the newest are kept");
    assert!(dir.path().join("e.old.jsonl").exists());
}

#[test]
fn rotates_by_age() {
    let dir = tempfile::tempdir().expect("dir");
    let clock = ManualClock::new();
    let config = FileConfig { max_age_secs: Some(3600), ..FileConfig::new(dir.path().join("e.jsonl")) };
    let mut sink = build(&config, &clock).expect("build");
    for number in 0..6 {
        sink.publish(&samples::detections(&samples::stream("d"), number, &[])).expect("publish");
        clock.advance(Duration::from_secs(1800));
    }
    sink.finish(Duration::ZERO);
    let old = rotated_files(&config.path).expect("list");
    assert_eq!(old.iter().map(|path| numbers(path)).collect::<Vec<_>>(), [[0, 1], [2, 3]]);
    assert_eq!(old[0].file_name().expect("name"), "e.1970-01-01T01-00-00Z.jsonl");
    assert_eq!(numbers(&config.path), [4, 5]);
}

#[test]
fn follows_a_file_that_somebody_moves() {
    let dir = tempfile::tempdir().expect("dir");
    let clock = ManualClock::new();
    let config = FileConfig::new(dir.path().join("e.jsonl"));
    let mut sink = build(&config, &clock).expect("build");
    let stream = samples::stream("d");
    sink.publish(&samples::detections(&stream, 0, &[])).expect("publish");
    fs::rename(&config.path, dir.path().join("moved")).expect("rename");
    sink.idle().expect("idle");
    sink.publish(&samples::detections(&stream, 1, &[])).expect("publish");
    sink.finish(Duration::ZERO);
    assert_eq!(numbers(&dir.path().join("moved")), [0]);
    assert_eq!(numbers(&config.path), [1]);
}

#[test]
fn two_writers_are_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let config = FileConfig::new(dir.path().join("e.jsonl"));
    let clock = ManualClock::new();
    let first = build(&config, &clock).expect("build");
    let error = build(&config, &clock).err().expect("second writer").to_string();
    assert!(error.contains("e.jsonl is being written by another process"), "{error}");
    drop(first);
    build(&config, &clock).expect("free again");
}

#[test]
fn errors_name_the_path_and_what_to_do() {
    let check = |path: &str, expected: &str| {
        let error = build(&FileConfig::new(path), &ManualClock::new()).err().expect(path).to_string();
        assert!(error.contains(path.trim_end_matches("/x")) && error.contains(expected), "{error}");
    };
    check("/proc/no/x", "cannot create directory");
    check("/tmp", "choose another `path`");
    let config =
        |json: &str| serde_json::from_str::<FileConfig>(json).expect(json).validate().expect_err(json).to_string();
    assert!(config(r#"{"path":"x","max_bytes":10}"#).contains("`max_bytes`"));
    assert!(config(r#"{"path":"x","max_files":3}"#).contains("no effect without"));
    assert!(config(r#"{"path":".."}"#).contains("`path`"));
}

/// `/dev/full` is Linux's real full disk: every write fails with ENOSPC.
#[test]
fn a_full_disk_blocks_and_loses_nothing_uncounted() {
    let clock = SystemClock::new();
    let context = BuildContext::new(clock.clone(), Stamp::Omitted);
    let sink = FileConfig::new("/dev/full").build("file", context).expect("build");
    let (tx, rx) = queue("test", 4, WhenFull::Block);
    let handle = spawn("file", sink, rx, Duration::from_millis(300), clock).expect("thread");
    let stream = samples::stream("d");
    let n_sent = 2000;
    let feeder = std::thread::Builder::new()
        .spawn(move || {
            let event = |number| Arc::new(samples::detections(&stream, number, &[]));
            (0..n_sent).filter(|&number| tx.send(event(number)) == base::queue::Sent::Queued).count() as u64
        })
        .expect("thread");
    std::thread::sleep(Duration::from_millis(300));
    assert!(!feeder.is_finished(), "a full disk holds back whoever feeds it");
    handle.drain();
    let n_queued = feeder.join().expect("the feeder is let go");
    let report = handle.join();
    assert_eq!((report.n_published, report.n_failed), (0, n_queued));
    let error = report.error.expect("error").to_string();
    assert!(error.contains(&format!("{n_queued} events could not be delivered")), "{error}");
    assert!(error.contains("cannot write /dev/full") && error.contains("free some space"), "{error}");
}

/// A disk that is full for a while: everything arrives in the end, each record once and whole.
#[test]
fn goes_on_at_the_very_byte_after_a_refused_write() {
    let dir = tempfile::tempdir().expect("dir");
    let config = FileConfig::new(dir.path().join("e.jsonl"));
    let clock = ManualClock::new();
    let context = BuildContext::new(clock.clone(), Stamp::Omitted);
    let open = Open::new(&config, Existing::Append, &context).expect("open");
    let mut sink = JsonLines {
        name: "file".into(),
        config: config.clone(),
        open,
        buffer: Vec::new(),
        flushed_at: Duration::ZERO,
        refused: false,
        unsynced: false,
        n_published: 0,
        context,
    };
    let stream = samples::stream("d");
    sink.publish(&samples::detections(&stream, 0, &[])).expect("publish");
    sink.idle().expect("idle");
    let good = std::mem::replace(&mut sink.open.file, OpenOptions::new().write(true).open("/dev/full").expect("full"));
    sink.open.regular = false;
    sink.publish(&samples::detections(&stream, 1, &[])).expect("taken into memory");
    let error = sink.idle().expect_err("full");
    assert!(error.is_temporary(), "{error}");
    assert!(sink.publish(&samples::detections(&stream, 2, &[])).is_err_and(|e| e.is_temporary()), "takes no more");
    // Half of the first line went out before the disk was full again.
    sink.open.file = good;
    let half: Vec<u8> = sink.buffer.drain(..40).collect();
    sink.open.file.write_all(&half).expect("write");
    sink.publish(&samples::detections(&stream, 2, &[])).expect("space again");
    let report = Box::new(sink).finish(Duration::ZERO);
    assert_eq!((report.n_published, report.n_failed), (3, 0));
    assert_eq!(numbers(&config.path), [0, 1, 2]);
}

#[test]
fn what_is_written_has_arrived() {
    let dir = tempfile::tempdir().expect("dir");
    let (clock, progress) = (ManualClock::new(), crate::delivery::Progress::default());
    let context = BuildContext { progress: Some(progress.clone()), ..BuildContext::new(clock.clone(), Stamp::Omitted) };
    let config = FileConfig::new(dir.path().join("e.jsonl"));
    let config = crate::SinkConfig::File(config);
    let mut sink = config.build("file", context).expect("build");
    let stream = samples::stream("d");
    let stream = Arc::new(base::media::StreamInfo { epoch: Some(1), ..base::media::StreamInfo::clone(&stream) });
    let event = samples::detections(&stream, 7, &[]);
    sink.publish(&event).expect("publish");
    assert_eq!(progress.of(&stream.name), None, "still in the buffer");
    sink.idle().expect("idle");
    assert_eq!(progress.of(&stream.name), Some((event.session.clone(), event.pts)));
    let last = samples::detections(&stream, 9, &[]);
    sink.publish(&last).expect("publish");
    sink.finish(Duration::ZERO);
    assert_eq!(progress.of(&stream.name), Some((last.session, last.pts)));
}
