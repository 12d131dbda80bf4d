//! Detections in the shape that AWS's Kinesis Video Streams Inference Template (KIT) writes, for consumers written for it.
//! Pure functions.
//!
//! Sources: AWS's own Lambda function for KIT's stream reads `fragmentMetaData`, `frameMetaData` and `streamName` as texts
//! and `sageMakerOutput` as base64 of the endpoint's answer; others cut `fragmentMetaData` up by its commas and equals
//! signs, because it is the `toString` of `FragmentMetadata` in amazon-kinesis-video-streams-parser-library.

use base::{
    event::{Body, Detections, Event},
    time::Timestamp,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;

/// What KIT puts in place of a time that it does not know.
const NO_TIME: i64 = -1;

/// KIT's record.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KitRecord<'a> {
    stream_name: &'a str,
    fragment_meta_data: String,
    frame_meta_data: String,
    sage_maker_output: String,
}

/// The event as KIT would write it, without a newline; none for what KIT knows nothing of.
pub fn encode(event: &Event, published_at: Option<Timestamp>) -> Option<String> {
    let Body::Detections(detections) = &event.body else { return None };
    let ms = |at: Option<Timestamp>| at.map_or(NO_TIME, Timestamp::as_millisecond);
    let (server, producer) = (ms(published_at), ms(event.captured.map(|captured| captured.at)));
    // A fragment is a stretch of stored media in Kinesis; the nearest to its number is ours of the frame: whole, and
    // growing with time within a session and over the sessions of a live stream.
    let number = format!("{}{:010}", session_number(event.session.as_str()), detections.index);
    let record = KitRecord {
        stream_name: event.stream.name.as_str(),
        fragment_meta_data: format!(
            "FragmentMetadata(fragmentNumberString={number}, serverSideTimestampMillis={server}, \
             producerSideTimestampMillis={producer}, fragmentNumber={number}, success=true, errorId=0, errorCode=null, \
             millisBehindNow=OptionalLong.empty, continuationToken=Optional.empty)"
        ),
        frame_meta_data: format!(
            "FrameMetadata(frameNumber={}, timestampMillis={}, width={}, height={}, id={})",
            detections.index,
            event.pts.millis(),
            detections.width,
            detections.height,
            event.id
        ),
        sage_maker_output: match &detections.answer {
            Some(answer) => STANDARD.encode(&answer.body),
            None => STANDARD.encode(prediction(detections)),
        },
    };
    Some(serde_json::to_string(&record).expect("texts are JSON"))
}

/// What a model that runs here saw, as SageMaker's object detection would answer: class by number, best score first, sides
/// as fractions of the picture's.
fn prediction(detections: &Detections) -> String {
    let (width, height) = (f64::from(detections.width.max(1)), f64::from(detections.height.max(1)));
    let row = |object: &base::event::TrackedObject| {
        let detection = &object.detection;
        let b = detection.box_in_image;
        let class = detections.classes.iter().position(|class| *class == detection.class);
        let class = class.map_or(-1.0, |at| at as f64);
        let (left, top) = (f64::from(b.x) / width, f64::from(b.y) / height);
        let (right, bottom) = (f64::from(b.x + b.width) / width, f64::from(b.y + b.height) / height);
        [class, f64::from(detection.score), left, top, right, bottom]
    };
    let rows: Vec<[f64; 6]> = detections.objects.iter().map(row).collect();
    serde_json::json!({ "prediction": rows }).to_string()
}

/// A ULID as a number (Crockford's base 32).
fn session_number(session: &str) -> u128 {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    session.bytes().fold(0, |number: u128, byte| {
        let digit = DIGITS.iter().position(|digit| *digit == byte).unwrap_or_default();
        number.wrapping_mul(32).wrapping_add(digit as u128)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::samples;

    /// As AWS's Lambda function and those that cut `fragmentMetaData` up read a record.
    fn read(record: &str) -> (String, String, i64, i64, Value) {
        let record: Value = serde_json::from_str(record).expect("json");
        let text = |key: &str| record[key].as_str().unwrap_or_else(|| panic!("{key} is no text")).to_owned();
        let fragment = text("fragmentMetaData");
        let parts: Vec<&str> = fragment[17..fragment.len() - 1].split(',').collect();
        let value = |n: usize| parts[n].split('=').nth(1).expect("a value");
        assert!(!text("frameMetaData").is_empty());
        let output = STANDARD.decode(text("sageMakerOutput")).expect("base64");
        let times = [1, 2].map(|n| value(n).parse::<i64>().expect("a time"));
        assert!(value(0).bytes().all(|byte| byte.is_ascii_digit()), "{fragment}");
        assert_eq!(value(0), value(3));
        // Another one takes the third word.
        let third = fragment.split_whitespace().nth(2).expect("three words");
        assert_eq!(
            third.trim_start_matches("producerSideTimestampMillis=").trim_end_matches(','),
            times[1].to_string()
        );
        let output = serde_json::from_slice(&output).unwrap_or(Value::Null);
        (text("streamName"), value(0).to_owned(), times[0], times[1], output)
    }

    #[test]
    fn a_consumer_of_kit_reads_it() {
        let stream = samples::stream("front-door");
        let event = samples::detections(&stream, 3, &[("dog", Some(7)), ("unicorn", None)]);
        let published = Timestamp::from_millisecond(1_790_000_001_000).expect("date");
        let (name, number, server, producer, output) = read(&encode(&event, Some(published)).expect("detections"));
        assert_eq!((&*name, server, producer), ("front-door", 1_790_000_001_000, 1_790_000_000_423));
        let rows = output["prediction"].as_array().expect("prediction");
        let numbers: Vec<f64> = rows[0].as_array().expect("row").iter().map(|n| n.as_f64().expect("number")).collect();
        assert_eq!(numbers.len(), 6);
        // The third of the classes; 258.04 of 768 and 219 of 576.
        assert_eq!((numbers[0], rows[1][0].as_f64()), (2.0, Some(-1.0)));
        for (got, expected) in numbers[1..].iter().zip([0.9123456, 0.33599, 0.38021, 0.37878, 0.53429]) {
            assert!((got - expected).abs() < 1e-4, "{numbers:?}");
        }
        let next = samples::detections(&stream, 4, &[]);
        let (_, next, server, _, output) = read(&encode(&next, None).expect("detections"));
        assert!(next > number && next.len() == number.len(), "{number} {next}");
        assert_eq!((server, output), (-1, serde_json::json!({ "prediction": [] })));
        let mut undated = event;
        undated.captured = None;
        assert_eq!(read(&encode(&undated, None).expect("detections")).3, -1);
    }

    #[test]
    fn a_servers_own_answer_is_passed_on_to_the_byte() {
        let answer = br#"{"prediction": [[4.0, 0.864, 0.3, 0.07, 0.71, 0.93]]}"#;
        let event = samples::answered(&samples::stream("a"), 1, "application/json", answer);
        let record: Value = serde_json::from_str(&encode(&event, None).expect("detections")).expect("json");
        assert_eq!(STANDARD.decode(record["sageMakerOutput"].as_str().expect("text")).expect("base64"), answer);
        let keys: Vec<&str> = record.as_object().expect("object").keys().map(String::as_str).collect();
        assert_eq!(keys, ["streamName", "fragmentMetaData", "frameMetaData", "sageMakerOutput"]);
    }

    #[test]
    fn other_records_are_left_out() {
        let stream = samples::stream("a");
        assert_eq!(encode(&samples::playing(&stream), None), None);
        assert_eq!(encode(&samples::gap(&stream, 1), None), None);
    }
}
