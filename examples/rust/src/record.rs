//! eyewitness's records, as far as this program knows them. Fields that it does not know are ignored.

use std::fmt::Write as _;

use anyhow::bail;
use jiff::Timestamp;
use serde_json::Value;

use crate::{complain, kafka::Message};

/// The records' format, `specversion`: a new minor number adds fields and kinds, a new major one may change their meaning.
const KNOWN_MAJOR: &str = "1";
/// The kinds of records that [`describe`] knows. Later versions of eyewitness add some.
const KINDS: [&str; 6] = ["detections", "status", "gap", "transcript", "caption", "alert"];

/// A record that this program can handle.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The topic.
    pub topic: String,
    /// The stream.
    pub stream: String,
    /// Its id.
    pub id: String,
    /// In words.
    pub line: String,
    /// As it came.
    pub text: String,
}

/// A message as an item. None when there is nothing to handle in it.
///
/// # Errors
/// For a format that this program does not know. That is not skipped: a newer version of this program will read it, so
/// nothing is lost.
pub(crate) fn parse(message: &Message) -> anyhow::Result<Option<Item>> {
    // None is a tombstone: a compacted topic forgets this key.
    let Some(payload) = &message.payload else { return Ok(None) };
    // Skipped, or nothing would ever come after it. Somebody else writes to this topic: find out who.
    let skipped = |why: &str| complain(&format!("{}: no record of eyewitness, skipped: {why}", message.place()));
    let record: Value = match serde_json::from_slice(payload) {
        Ok(record) => record,
        Err(error) => {
            skipped(&error.to_string());
            return Ok(None);
        }
    };
    let Some(version) = record["specversion"].as_str() else {
        skipped("it has no specversion");
        return Ok(None);
    };
    if version.split('.').next() != Some(KNOWN_MAJOR) {
        bail!("{}: format {version}, and this program knows {KNOWN_MAJOR}.x: it needs an update", message.place());
    }
    if record["type"].as_str().is_some_and(|kind| !KINDS.contains(&kind)) {
        return Ok(None);
    }
    let item = item(&message.topic, payload, &record);
    if item.is_none() {
        skipped("a field is missing or of another type");
    }
    Ok(item)
}

/// None when a field is missing or of another type.
fn item(topic: &str, payload: &[u8], record: &Value) -> Option<Item> {
    let stream = record["stream"].as_str()?;
    Some(Item {
        topic: topic.to_owned(),
        stream: stream.to_owned(),
        id: record["id"].as_str()?.to_owned(),
        line: format!("{stream} {:.3} {}", record["pts_ms"].as_f64()? / 1000.0, describe(record)?),
        text: String::from_utf8_lossy(payload).into_owned(),
    })
}

/// A record in words. None when a field is missing or of another type.
fn describe(record: &Value) -> Option<String> {
    Some(match record["type"].as_str()? {
        "detections" => sees(record["objects"].as_array()?)?,
        "status" => {
            let state = record["state"].as_str()?;
            record["detail"].as_str().map_or_else(|| state.to_owned(), |detail| format!("{state}: {detail}"))
        }
        "gap" => {
            let secs = (record["to_pts_ms"].as_f64()? - record["from_pts_ms"].as_f64()?) / 1000.0;
            format!("was not analysed for {secs:.1} s: {}", record["reason"].as_str()?)
        }
        // Revisions: each replaces the one before it, until the final one.
        "transcript" => {
            let verb = if record["final"].as_bool()? { "said" } else { "says" };
            format!("{verb} \"{}\"", record["text"].as_str()?)
        }
        "caption" => {
            let verb = if record["final"].as_bool()? { "showed" } else { "shows" };
            let lines: Option<Vec<&str>> = record["lines"].as_array()?.iter().map(Value::as_str).collect();
            format!("{verb} \"{}\"", lines?.join(" / "))
        }
        // Records of one life: each replaces the one before it, until it is closed. See alerts.rs.
        "alert" => {
            let word = |key: &str| record[key].as_str();
            let mut line = format!("{} {} {}", word("severity")?, word("rule")?, word("state")?);
            if let Some(secs) = lasted(record) {
                write!(line, " after {secs:.1} s").ok()?;
            }
            write!(line, ": {}", word("summary")?).ok()?;
            if let Some(because) = word("closed_because") {
                write!(line, " - {because}").ok()?;
            }
            line
        }
        _ => return None,
    })
}

/// How many seconds an alert lasted, or has lasted until this record. None at its opening, and where nobody knows.
fn lasted(record: &Value) -> Option<f64> {
    let (until_ms, until) = match record["state"].as_str()? {
        "opened" => return None,
        "closed" => ("until_ms", "until"),
        _ => ("pts_ms", "captured_at"),
    };
    // In this session, by the stream's own time.
    if let (Some(since), Some(until)) = (record["since_ms"].as_f64(), record[until_ms].as_f64()) {
        return Some((until - since) / 1000.0);
    }
    // It began in an earlier session.
    let time = |key: &str| record[key].as_str()?.parse::<Timestamp>().ok();
    Some(time(until)?.duration_since(time("since")?).as_secs_f64())
}

/// `sees 2 person, 1 dog`, in the order of first appearance.
fn sees(objects: &[Value]) -> Option<String> {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for object in objects {
        let class = object["class"].as_str()?;
        match counts.iter_mut().find(|(known, _)| *known == class) {
            Some((_, n)) => *n += 1,
            None => counts.push((class, 1)),
        }
    }
    let mut text = String::from(if counts.is_empty() { "sees nothing" } else { "sees" });
    for (number, (class, n)) in counts.iter().enumerate() {
        write!(text, "{} {n} {class}", if number == 0 { "" } else { "," }).ok()?;
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: Option<&str>) -> Message {
        Message { topic: "t".into(), partition: 0, offset: 7, payload: payload.map(|p| p.as_bytes().to_vec()) }
    }

    #[test]
    fn records_become_lines() {
        let check = |body: &str, expected: Option<&str>| {
            let text =
                format!(r#"{{"id":"S-x-0","specversion":"1.9","stream":"cam","pts_ms":1500,"news":[1],{body}}}"#);
            let line = parse(&message(Some(&text))).expect(body).map(|item| item.line);
            assert_eq!(line.as_deref(), expected, "{body}");
        };
        check(r#""type":"detections","objects":[]"#, Some("cam 1.500 sees nothing"));
        check(
            r#""type":"detections","objects":[{"class":"dog"},{"class":"person"},{"class":"dog"}]"#,
            Some("cam 1.500 sees 2 dog, 1 person"),
        );
        check(r#""type":"status","state":"playing","detail":null"#, Some("cam 1.500 playing"));
        check(r#""type":"status","state":"failed","detail":"gone""#, Some("cam 1.500 failed: gone"));
        check(
            r#""type":"gap","from_pts_ms":1000,"to_pts_ms":3500,"reason":"a_new_one""#,
            Some("cam 1.500 was not analysed for 2.5 s: a_new_one"),
        );
        check(r#""type":"transcript","final":false,"text":"and so""#, Some("cam 1.500 says \"and so\""));
        check(r#""type":"caption","final":true,"lines":["and","so"]"#, Some("cam 1.500 showed \"and / so\""));
        let alert = r#""type":"alert","rule":"yard","severity":"info","summary":"person there""#;
        let alert = |rest: &str| format!("{alert},{rest}");
        check(
            &alert(r#""state":"opened","since_ms":1000,"until_ms":null,"closed_because":null"#),
            Some("cam 1.500 info yard opened: person there"),
        );
        check(
            &alert(r#""state":"updated","since_ms":250,"until_ms":null,"closed_because":null"#),
            Some("cam 1.500 info yard updated after 1.2 s: person there"),
        );
        check(
            &alert(
                r#""state":"closed","since_ms":null,"until_ms":1000,"since":"2026-09-21T14:13:32.123Z",
                "until":"2026-09-21T14:14:33.000Z","closed_because":"not seen for 5 s""#,
            ),
            Some("cam 1.500 info yard closed after 60.9 s: person there - not seen for 5 s"),
        );
        check(
            &alert(r#""state":"closed","since_ms":null,"until_ms":1000,"closed_because":"gone","since":null"#),
            Some("cam 1.500 info yard closed: person there - gone"),
        );
        // A kind of a later version, and a known one that lacks what it should have.
        check(r#""type":"of_tomorrow","state":"opened""#, None);
        check(r#""type":"alert","state":"opened""#, None);
        check(r#""type":"caption","final":true"#, None);
        check(r#""state":"opened""#, None);
    }

    #[test]
    fn what_is_no_record_is_skipped_and_what_is_too_new_is_not() {
        let check = |payload: Option<&str>, expected: Result<Option<Item>, &str>| match (
            parse(&message(payload)).map_err(|e| e.to_string()),
            expected,
        ) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{payload:?}"),
            (Err(got), Err(expected)) => assert!(got.contains(expected), "{payload:?}: {got}"),
            (got, expected) => panic!("{payload:?}: {got:?}, not {expected:?}"),
        };
        for nonsense in [None, Some("{"), Some("7"), Some("{}"), Some(r#"{"specversion":2}"#)] {
            check(nonsense, Ok(None));
        }
        check(Some(r#"{"specversion":"2.0","type":"detections"}"#), Err("t [0] at 7: format 2.0"));
        check(Some(r#"{"specversion":"10.1","type":"detections"}"#), Err("it needs an update"));
    }
}
