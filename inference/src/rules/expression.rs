//! Expressions in CEL, the Common Expression Language (<https://github.com/google/cel-spec>), over a frame or a transcript.
//!
//! | variable | is |
//! |---|---|
//! | `stream`, `tags` | name of the stream; its tags by name |
//! | `hour`, `weekday` | of the capture time in UTC, 0 to 23; 1 (Monday) to 7; -1 and 0 where there is no date |
//! | `objects` | what is seen: a list of `{class, score, track, x, y, width, height}`, the box in parts of the picture |
//! | `text` | what was said: the segment's words |
//! | `object` | in `only_if` of a rule about objects: the one that it is about |

use std::{collections::BTreeMap, sync::Arc};

use base::{
    event::{Body, BoxInImage, Detection, Detections, Event, ModelId, TrackedObject},
    media::{StreamInfo, StreamName},
    time::Timestamp,
};
use cel::{Context, Program, Value};
use jiff::tz::TimeZone;
use serde_json::{Value as Json, json};

use super::config::RuleError;

/// What an expression is held against.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) stream: &'a StreamInfo,
    pub(super) captured: Option<Timestamp>,
    pub(super) body: Option<&'a Body>,
}

impl<'a> Scene<'a> {
    pub(super) fn of(event: &'a Event) -> Self {
        Self { stream: &event.stream, captured: event.captured.map(|c| c.at), body: Some(&event.body) }
    }
}

/// A compiled expression.
#[derive(Debug)]
pub(super) struct Expression {
    program: Program,
}

impl Expression {
    pub(super) fn compile(key: &str, text: &str) -> Result<Self, RuleError> {
        let program = Program::compile(text)
            .map_err(|e| RuleError::new(key, format!("cannot be read: {}", e.to_string().replace('\n', " "))))?;
        let expression = Self { program };
        // Tried once on a frame with one object, so that a name that nobody knows is found now.
        match expression.holds(&Scene { stream: &example(), captured: None, body: Some(&example_frame()) }, None) {
            Err(why) if why.contains("Undeclared reference") => {
                let known = "stream, tags, hour, weekday, objects, text, object";
                Err(RuleError::new(key, format!("{why}; there are {known}")))
            }
            _ => Ok(expression),
        }
    }

    /// Whether it is true.
    ///
    /// # Errors
    /// Why it is neither true nor false.
    pub(super) fn holds(&self, scene: &Scene<'_>, object: Option<&TrackedObject>) -> Result<bool, String> {
        let (hour, weekday) = scene.captured.map_or((-1, 0), clock);
        let (objects, size) = match scene.body {
            Some(Body::Detections(seen)) => (described(seen), (seen.width, seen.height)),
            _ => (Vec::new(), (1, 1)),
        };
        let text = match scene.body {
            Some(Body::Transcript(transcript)) => transcript.text.as_str(),
            _ => "",
        };
        let mut context = Context::default();
        let object = object.map_or(Json::Null, |object| describe(object, size));
        for (name, value) in [
            ("stream", Json::from(scene.stream.name.as_str())),
            ("tags", json!(scene.stream.tags)),
            ("hour", hour.into()),
            ("weekday", weekday.into()),
            ("objects", objects.into()),
            ("text", text.into()),
            ("object", object),
        ] {
            context.add_variable(name, value).map_err(|e| e.to_string())?;
        }
        match self.program.execute(&context) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("gives {:?} and must give true or false", other.type_of())),
            Err(e) => Err(e.to_string()),
        }
    }
}

fn example() -> StreamInfo {
    let name = StreamName::new("example").expect("a stream's name");
    StreamInfo { name, tags: BTreeMap::new(), epoch: None }
}

fn example_frame() -> Body {
    let detection = Detection { class: "person".into(), score: 0.9, box_in_image: BoxInImage::default() };
    Body::Detections(Detections {
        width: 1,
        height: 1,
        index: 0,
        model: Arc::new(ModelId { name: String::new(), version: String::new() }),
        objects: vec![TrackedObject { detection, track: Some(1) }],
        labels: Vec::new(),
        answer: None,
        classes: Arc::from([]),
    })
}

fn clock(at: Timestamp) -> (i64, i64) {
    let utc = at.to_zoned(TimeZone::UTC);
    (i64::from(utc.hour()), i64::from(utc.weekday().to_monday_one_offset()))
}

fn described(seen: &Detections) -> Vec<Json> {
    seen.objects.iter().map(|object| describe(object, (seen.width, seen.height))).collect()
}

fn describe(object: &TrackedObject, (width, height): (u32, u32)) -> Json {
    let (b, w, h) = (object.detection.box_in_image, f64::from(width.max(1)), f64::from(height.max(1)));
    json!({
        "class": &*object.detection.class,
        "score": f64::from(object.detection.score),
        "track": object.track,
        "x": f64::from(b.x) / w,
        "y": f64::from(b.y) / h,
        "width": f64::from(b.width) / w,
        "height": f64::from(b.height) / h,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::samples;

    #[test]
    fn what_expressions_say() {
        let event =
            samples::frame(0, &[("person", Some(7), [0.1, 0.1, 0.2, 0.6]), ("car", None, [0.5, 0.5, 0.1, 0.1])]);
        let check = |text: &str, expected: Result<bool, &str>| {
            let holds = Expression::compile("x", text).expect(text).holds(&Scene::of(&event), None);
            match (&holds, expected) {
                (Ok(holds), Ok(expected)) => assert_eq!(*holds, expected, "{text}"),
                (Err(e), Err(part)) => assert!(e.contains(part), "{text}: {e}"),
                _ => panic!("{text}: {holds:?}, not {expected:?}"),
            }
        };
        check("objects.exists(o, o.class == 'person' && o.height > 0.5)", Ok(true));
        check("objects.exists(o, o.class == 'car' && o.height > 0.5)", Ok(false));
        check("size(objects) == 2 && objects.filter(o, o.track == 7).size() == 1", Ok(true));
        check("stream == 'yard' && tags.site == 'north'", Ok(true));
        check("text.contains('help')", Ok(false));
        check("hour < 24 && weekday <= 7", Ok(true));
        check("size(objects)", Err("true or false"));
        check("tags.nothing == ''", Err("nothing"));
    }

    #[test]
    fn what_cannot_be_read() {
        for (bad, part) in [("objects.", "cannot be read"), ("camera == 1", "'camera'")] {
            let error = Expression::compile("only_if", bad).expect_err(bad);
            assert!(error.key == "only_if" && error.what.contains(part), "{error}");
        }
    }
}
