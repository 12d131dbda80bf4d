//! An event as it is delivered: encoded once, when the sink takes it. From there on only these bytes travel, so that a
//! record sent again is the same record to the byte.
//!
//! On disk: a version byte, then the fields in order as postcard 1 writes them
//! (<https://postcard.jamesmunns.com/wire-format>). Fields are added at the end only, with a new version byte.

use base::{event::Event, time::Timestamp};
use serde::{Deserialize, Serialize};

use crate::wire::{self, RecordFormat};

const VERSION: u8 = 1;

/// What a remote sink delivers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record<'a> {
    /// `type` of the record on the wire: `detections`, `status`...
    pub kind: &'a str,
    /// The event's id: the same each time the record is delivered.
    pub id: &'a str,
    /// Name of the stream.
    pub stream: &'a str,
    /// The stream's session.
    pub session: &'a str,
    /// Stream time in milliseconds.
    pub pts_ms: u64,
    /// `captured_at`, or else `published_at`, of the payload (RFC 3339); none when it has neither.
    pub time: Option<&'a str>,
    /// What keeps records together and in order, such as Kafka's key: the stream's name unless configured otherwise.
    pub key: &'a str,
    /// Wall clock, milliseconds since 1970: when the sink took it.
    pub accepted_ms: u64,
    /// The record: one JSON object without a newline.
    pub payload: &'a str,
}

/// Bytes that are no record of a version that this program knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no record of a version that this program knows")]
pub struct Unreadable;

impl<'a> Record<'a> {
    /// The bytes that a backlog keeps.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.payload.len() + 192);
        bytes.push(VERSION);
        postcard::to_extend(self, bytes).expect("a record holds nothing that postcard cannot say")
    }

    /// Reads [`Record::to_bytes`] back, copying nothing.
    ///
    /// # Errors
    /// For anything else.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(|_| Unreadable),
            _ => Err(Unreadable),
        }
    }
}

/// Which records stay together and in order at the far end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum KeyBy {
    /// Those of one stream.
    #[default]
    Stream,
    /// Those of all streams with the same value of this tag; of one stream where it has no such tag.
    Tag(String),
}

/// The bytes of an event's record.
pub fn encode(event: &Event, key_by: &KeyBy, published_at: Option<Timestamp>, accepted_ms: u64) -> Vec<u8> {
    encode_as(RecordFormat::Eyewitness, event, key_by, published_at, accepted_ms)
}

/// The same, with a payload in this shape; in our own where that shape knows nothing of the event.
pub fn encode_as(
    format: RecordFormat,
    event: &Event,
    key_by: &KeyBy,
    published_at: Option<Timestamp>,
    accepted_ms: u64,
) -> Vec<u8> {
    let stream = event.stream.name.as_str();
    let key = match key_by {
        KeyBy::Stream => stream,
        KeyBy::Tag(tag) => event.stream.tags.get(tag).map_or(stream, String::as_str),
    };
    let record = wire::record(event, published_at);
    let envelope = record.envelope();
    let other = (format != RecordFormat::Eyewitness).then(|| format.encode(event, published_at)).flatten();
    Record {
        kind: event.body.kind(),
        id: &event.id,
        stream,
        session: event.session.as_str(),
        pts_ms: event.pts.millis(),
        time: envelope.captured_at.as_deref().or(envelope.published_at.as_deref()),
        key,
        accepted_ms,
        payload: &other.unwrap_or_else(|| wire::json(&record)),
    }
    .to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn a_record_survives_its_bytes() {
        let stream = samples::stream("front-door");
        let event = samples::detections(&stream, 3, &[("person", Some(7))]);
        let bytes = encode(&event, &KeyBy::Stream, None, 1_800_000_000_123);
        let record = Record::from_bytes(&bytes).expect("a record");
        assert_eq!((record.kind, record.stream, record.key), ("detections", "front-door", "front-door"));
        assert_eq!((record.id, record.payload), (&*event.id, &*wire::encode(&event, None)));
        assert_eq!(record.to_bytes(), bytes);
        for cut in 0..bytes.len() {
            assert_eq!(Record::from_bytes(&bytes[..cut]), Err(Unreadable), "{cut}");
        }
        assert_eq!(Record::from_bytes(&[9; 40]), Err(Unreadable));
    }

    #[test]
    fn keys() {
        let stream = samples::stream("front-door");
        let event = samples::detections(&stream, 0, &[]);
        let (name, value) = stream.tags.first_key_value().expect("a tag");
        let check = |by: KeyBy, expected: &str| {
            let bytes = encode(&event, &by, None, 0);
            assert_eq!(Record::from_bytes(&bytes).expect("a record").key, expected, "{by:?}");
        };
        check(KeyBy::Stream, "front-door");
        check(KeyBy::Tag(name.clone()), value);
        check(KeyBy::Tag("no-such-tag".into()), "front-door");
    }
}
