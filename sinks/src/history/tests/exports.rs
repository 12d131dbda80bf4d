//! Files for others. That they can be read by others is the business of the tests of the service.

use super::{
    export::{Export, Format},
    *,
};

fn written(format: Format, events: &[Event]) -> String {
    let rows: Vec<Row> = events.iter().map(|event| row(event, 0)).collect();
    let (dir, _store) = with(&rows);
    let search = Search { limit: 1000, order: Order::OldestFirst, ..Search::default() };
    let found = Reader::open(dir.path()).expect("reader").transcripts(&search).expect("found").found;
    let mut export = Export::new(format);
    export.head() + &found.iter().map(|heard| export.write(heard)).collect::<String>()
}

#[test]
fn records_are_those_of_the_wire() {
    let event = said("cam", 1, "one two");
    assert_eq!(written(Format::Jsonl, std::slice::from_ref(&event)), crate::wire::encode(&event, Some(at(0))) + "\n");
}

#[test]
fn cells() {
    let check = |text: &str, expected: &str| {
        let file = written(Format::Csv, &[said("cam", 1, text)]);
        let lines: Vec<&str> = file.split_terminator("\r\n").collect();
        assert_eq!(lines[0], "id,stream,session,at,captured_at,start_ms,end_ms,language,text");
        let (_, cell) = lines[1].split_once(",en,").expect("a language");
        assert_eq!(cell, expected);
    };
    check("plain words", "plain words");
    check("one, two", "\"one, two\"");
    check("say \"hi\"", "\"say \"\"hi\"\"\"");
    check("=1+1", "\"'=1+1\"");
    check("@cmd", "\"'@cmd\"");
    check("-5 degrees", "\"'-5 degrees\"");
    check("\u{ff1d}x", "\"'\u{ff1d}x\"");
    check("a=b", "a=b");
}

#[test]
fn cues_are_short_and_in_order() {
    let long = "these are so many words that nobody could read them all on one line of a screen at once, really not";
    let file = written(Format::Srt, &[said("cam", 1, long), said("cam", 60, "later")]);
    let blocks: Vec<&str> = file.split_terminator("\n\n").collect();
    assert_eq!(blocks.len(), 3, "{file}");
    assert!(file.lines().all(|line| line.chars().count() <= 42), "{file}");
    assert!(blocks[0].starts_with("1\n00:00:01,000 --> 00:00:04,"), "{file}");
    assert_eq!(blocks[2], "3\n00:01:00,000 --> 00:01:00,200\nlater");
    let said: Vec<&str> = blocks[..2].iter().flat_map(|block| block.lines().skip(2)).collect();
    assert_eq!(said.join(" "), long);
}

#[test]
fn sessions_stand_behind_each_other() {
    // The second one began 100 s after the first.
    let mut second = said_in("two", "cam", 5, "second");
    second.captured = second.captured.map(|c| CaptureTime { at: c.at + Duration::from_secs(100), ..c });
    let file = written(Format::Vtt, &[said("cam", 1, "first <b>"), second]);
    assert!(file.starts_with("WEBVTT\n\nNOTE 00:00:00.000 of stream cam is 2026-"), "{file}");
    assert!(file.contains("00:00:01.000 --> 00:00:01.400\nfirst &lt;b&gt;\n"), "{file}");
    assert!(file.contains("NOTE a new session\n\n"), "{file}");
    assert!(file.contains("00:01:45.000 --> 00:01:45.200\nsecond\n"), "{file}");
}
