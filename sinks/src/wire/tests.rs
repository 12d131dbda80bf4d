use base::event::{AlertState, AlertTime, Evidence};
use serde_json::{Value, json};

use super::*;
use crate::samples;

fn validator(kind: &str) -> jsonschema::Validator {
    let (_, text) =
        schemas().into_iter().find(|(file, _)| *file == format!("{kind}.schema.json")).expect("a schema for each kind");
    let schema: Value = serde_json::from_str(&text).expect("json");
    assert!(jsonschema::meta::is_valid(&schema), "{kind}: not a valid JSON Schema");
    jsonschema::draft202012::options().should_validate_formats(true).build(&schema).expect("schema")
}

fn every_kind() -> Vec<(&'static str, Event)> {
    let stream = samples::stream("front-door");
    let mut undated = samples::detections(&stream, 3, &[]);
    undated.captured = None;
    let mut classified = samples::detections(&stream, 4, &[("person", None)]);
    let mut answered = [
        samples::answered(&stream, 5, "application/json", br#"{ "a": [1, 2.50, "x"] }"#),
        samples::answered(&stream, 6, "text/plain", b"not {json}"),
    ];
    if let Body::Detections(detections) = &mut classified.body {
        let label = |class: &str, score| base::event::Label { class: class.into(), score };
        detections.labels = vec![label("parking lot", 0.912_345), label("\"street\"", 1.0)];
    }
    if let Body::Detections(detections) = &mut answered[1].body {
        detections.labels = vec![base::event::Label { class: "dog".into(), score: 0.5 }];
    }
    let [answered, answered_in_bytes] = answered;
    // Opened in an earlier session of a stream without dates, for words, and without evidence that is kept.
    let mut heard = samples::alert(&stream, 1, AlertState::Updated);
    heard.captured = None;
    let Body::Transcript(said) = samples::transcript(&stream, 0, "call the \"police\"", true).body else {
        unreachable!("a transcript")
    };
    if let Body::Alert(alert) = &mut heard.body {
        alert.since = AlertTime { pts: None, at: None };
        alert.evidence = Evidence { words: said.words, ..Evidence::default() };
    }
    vec![
        ("detections", samples::detections(&stream, 120, &[("person", Some(7)), ("dog", None)])),
        ("detections", undated),
        ("status", samples::playing(&stream)),
        ("status", samples::status(&stream, 4, base::event::StreamState::Failed, "no such file")),
        ("gap", samples::gap(&stream, 5)),
        ("transcript", samples::transcript(&stream, 3, "and so my fellow Americans", false)),
        ("transcript", samples::transcript(&stream, 4, "", true)),
        ("caption", samples::caption(&stream, 1, 3400..4800, &["and so my fellow", "\"Americans\""], true)),
        ("caption", samples::caption(&stream, 1, 3400..4800, &[], false)),
        ("alert", samples::alert(&stream, 0, AlertState::Closed)),
        ("alert", samples::alert(&stream, 0, AlertState::Opened)),
        ("alert", heard),
        ("detections", classified),
        ("detections", answered),
        ("detections", answered_in_bytes),
    ]
}

#[test]
fn exact_bytes() {
    let check = |event: Event, stamp: Option<i64>, expected: &str| {
        let stamp = stamp.map(|ms| Timestamp::from_millisecond(ms).expect("date"));
        assert_eq!(encode(&event, stamp), expected);
    };
    let stream = samples::stream("front-door");
    let session = samples::detections(&stream, 0, &[]).session;
    check(
        samples::detections(&stream, 120, &[("person", Some(7))]),
        None,
        &format!(
            concat!(
                r#"{{"type":"detections","id":"{0}-detections-120","specversion":"1.5","stream":"front-door","#,
                r#""tags":{{"site":"north"}},"session":"{0}","pts_ms":12000,"captured_at":"2026-09-21T14:13:32.123Z","#,
                r#""clock":"ntp","frame":{{"width":768,"height":576,"index":120}},"#,
                r#""model":{{"name":"ssdlite-mbv2","version":"b42166a4"}},"#,
                r#""objects":[{{"class":"person","score":0.9123,"box":[258.0,219.0,32.9,88.7],"track":7}}]}}"#
            ),
            session
        ),
    );
    check(
        samples::playing(&stream),
        Some(1_790_000_001_000),
        &format!(
            concat!(
                r#"{{"type":"status","id":"{0}-status-0","specversion":"1.5","stream":"front-door","#,
                r#""tags":{{"site":"north"}},"session":"{0}","pts_ms":0,"captured_at":"2026-09-21T14:13:20.123Z","#,
                r#""clock":"ntp","published_at":"2026-09-21T14:13:21.000Z","state":"playing","detail":null,"#,
                r#""source":{{"video":{{"codec":"h264","width":768,"height":576}},"audio":{{"codec":"aac"}}}}}}"#
            ),
            session
        ),
    );
    let mut gap = samples::gap(&stream, 5);
    gap.captured = None;
    check(
        gap,
        None,
        &format!(
            concat!(
                r#"{{"type":"gap","id":"{0}-gap-5","specversion":"1.5","stream":"front-door","#,
                r#""tags":{{"site":"north"}},"session":"{0}","pts_ms":500,"captured_at":null,"clock":"none","#,
                r#""from_pts_ms":12000,"to_pts_ms":19500,"reason":"source_lost","n_frames_dropped":null,"#,
                r#""detail":"the server closed the connection"}}"#
            ),
            session
        ),
    );
    check(
        samples::transcript(&stream, 3, "and so", false),
        None,
        &format!(
            concat!(
                r#"{{"type":"transcript","id":"{0}-transcript-43","specversion":"1.5","stream":"front-door","#,
                r#""tags":{{"site":"north"}},"session":"{0}","pts_ms":4300,"captured_at":"2026-09-21T14:13:24.423Z","#,
                r#""clock":"ntp","segment":"{0}-segment-0","revision":3,"final":false,"start_ms":3400,"end_ms":3950,"#,
                r#""text":"and so","words":["#,
                r#"{{"text":"and","start_ms":3400,"end_ms":3650,"confidence":0.912,"stable":true}},"#,
                r#"{{"text":"so","start_ms":3700,"end_ms":3950,"confidence":0.912,"stable":false}}],"#,
                r#""language":"en","translated":false,"speaker":null,"channel":null,"#,
                r#""model":{{"name":"whisper-tiny.en","version":"0a1b2c3d"}}}}"#
            ),
            session
        ),
    );
    check(
        samples::caption(&stream, 1, 3400..4800, &["and so my fellow", "Americans"], true),
        None,
        &format!(
            concat!(
                r#"{{"type":"caption","id":"{0}-caption-1","specversion":"1.5","stream":"front-door","#,
                r#""tags":{{"site":"north"}},"session":"{0}","pts_ms":100,"captured_at":"2026-09-21T14:13:20.223Z","#,
                r#""clock":"ntp","cue":"{0}-cue-1","revision":2,"start_ms":3400,"end_ms":4800,"#,
                r#""lines":["and so my fellow","Americans"],"final":true,"segment":"{0}-segment-0","language":"en"}}"#
            ),
            session
        ),
    );
}

#[test]
fn exact_bytes_of_an_alert() {
    let event = samples::alert(&samples::stream("front-door"), 4, AlertState::Closed);
    let expected = format!(
        concat!(
            r#"{{"type":"alert","id":"{0}-alert-person-in-yard-4-2","specversion":"1.5","stream":"front-door","#,
            r#""tags":{{"site":"north"}},"session":"{0}","pts_ms":14000,"captured_at":"2026-09-21T14:13:34.123Z","#,
            r#""clock":"ntp","alert":"{0}-alert-person-in-yard-4","revision":2,"state":"closed","rule":"person-in-yard","#,
            r#""severity":"warning","summary":"person in \"yard\" for 3 s","since":"2026-09-21T14:13:29.123Z","#,
            r#""since_ms":9000,"until":"2026-09-21T14:13:33.623Z","until_ms":13500,"#,
            r#""closed_because":"nobody is there any more","evidence":{{"tracks":[7],"#,
            r#""objects":[{{"class":"person","score":0.9123,"box":[258.0,219.0,32.9,88.7],"track":7}}],"words":[],"#,
            r#""shapes":[{{"name":"yard","points":[[0.1,0.2],[0.9,0.2],[0.5,0.9877]],"closed":true}}],"#,
            r#""snapshot":"/v1/alerts/{0}-alert-person-in-yard-4/snapshot.jpg","clip":null}}}}"#
        ),
        event.session
    );
    assert_eq!(encode(&event, None), expected);
}

#[test]
fn a_silenced_alert_says_so_at_its_end() {
    let mut event = samples::alert(&samples::stream("front-door"), 4, AlertState::Closed);
    let without = encode(&event, None);
    let base::event::Body::Alert(alert) = &mut event.body else { panic!("no alert") };
    alert.silenced = Some(base::event::Silenced {
        id: "5f".into(),
        by: "anna".into(),
        until: base::time::Timestamp::UNIX_EPOCH,
        reason: "works in the yard".into(),
    });
    let silenced =
        r#","silenced":{"id":"5f","by":"anna","until":"1970-01-01T00:00:00.000Z","reason":"works in the yard"}}"#;
    assert_eq!(encode(&event, None), without.strip_suffix('}').expect("an object").to_owned() + silenced);
}

#[test]
fn every_word_of_an_alert_has_its_own() {
    use base::event::Severity::{Critical, Info, Warning};
    for state in [AlertState::Opened, AlertState::Updated, AlertState::Closed] {
        for severity in [Info, Warning, Critical] {
            let mut event = samples::alert(&samples::stream("d"), 1, state);
            let Body::Alert(alert) = &mut event.body else { unreachable!("an alert") };
            alert.severity = severity;
            let value: Value = serde_json::from_str(&encode(&event, None)).expect("json");
            assert_eq!((&value["state"], &value["severity"]), (&json!(state.as_str()), &json!(severity.as_str())));
            assert!(validator("alert").is_valid(&value), "{value}");
        }
    }
}

#[test]
fn every_reason_has_its_word() {
    use base::media::GapReason::{DecodeError, SourceLost, SpeechFailed, SpeechOverload, Stalled, Unreachable};
    for reason in [SourceLost, Stalled, Unreachable, DecodeError, SpeechOverload, SpeechFailed] {
        let mut event = samples::gap(&samples::stream("d"), 1);
        let Body::Gap(gap) = &mut event.body else { unreachable!("a gap") };
        gap.reason = reason;
        let value: Value = serde_json::from_str(&encode(&event, None)).expect("json");
        assert_eq!(value["reason"], reason.as_str());
        assert!(validator("gap").is_valid(&value), "{value}");
    }
}

#[test]
fn every_record_fits_its_schema_and_comes_back() {
    for stamp in [None, Some(Timestamp::UNIX_EPOCH)] {
        for (kind, event) in every_kind() {
            let text = encode(&event, stamp);
            let value: Value = serde_json::from_str(&text).expect("json");
            let errors: Vec<String> = validator(kind).iter_errors(&value).map(|e| e.to_string()).collect();
            assert!(errors.is_empty(), "{text}: {errors:?}");
            assert_eq!(decode(&text).expect("decodes"), record(&event, stamp));
        }
    }
}

#[test]
fn wrong_records_do_not_fit() {
    let good = |wanted: &str| {
        let (_, event) = every_kind().into_iter().find(|(kind, _)| *kind == wanted).expect("sample");
        serde_json::from_str::<Value>(&encode(&event, None)).expect("json")
    };
    let check = |kind: &str, pointer: &str, wrong: Value| {
        let mut value = good(kind);
        *value.pointer_mut(pointer).expect(pointer) = wrong.clone();
        assert!(!validator(kind).is_valid(&value), "{kind} {pointer} = {wrong} passed");
    };
    check("detections", "/type", json!("status"));
    check("detections", "/objects/0/score", json!(1.5));
    check("detections", "/objects/0/box", json!([1, 2, 3]));
    check("detections", "/objects/0/track", json!("seven"));
    check("detections", "/frame/width", json!(-1));
    check("detections", "/pts_ms", json!(null));
    check("detections", "/clock", json!("sundial"));
    check("detections", "/captured_at", json!("yesterday"));
    check("status", "/state", json!("dancing"));
    check("status", "/source/video/codec", json!(null));
    check("gap", "/reason", json!("boredom"));
    check("gap", "/to_pts_ms", json!("19500"));
    check("transcript", "/words/0/confidence", json!(1.5));
    check("transcript", "/words/0/stable", json!("yes"));
    check("transcript", "/final", json!(null));
    check("transcript", "/revision", json!(-1));
    check("transcript", "/model/version", json!(7));
    check("caption", "/lines", json!("and so"));
    check("caption", "/lines/0", json!(null));
    check("caption", "/end_ms", json!("4800"));
    check("alert", "/state", json!("reopened"));
    check("alert", "/severity", json!("high"));
    check("alert", "/since", json!("yesterday"));
    check("alert", "/until_ms", json!("13500"));
    check("alert", "/revision", json!(-1));
    check("alert", "/evidence/tracks", json!(7));
    check("alert", "/evidence/objects/0/score", json!(1.5));
    check("alert", "/evidence/shapes/0/points/0", json!([0.1]));
    check("alert", "/evidence/snapshot", json!(7));
    for kind in ["detections", "status", "gap", "transcript", "caption", "alert"] {
        let value = good(kind);
        for key in value.as_object().expect("object").keys() {
            let mut without = value.clone();
            without.as_object_mut().expect("object").shift_remove(key);
            assert!(!validator(kind).is_valid(&without), "{kind} without {key} passed");
        }
        // What a later version adds must not break today's consumers.
        let mut later = value.clone();
        later["colour"] = json!("red");
        assert!(validator(kind).is_valid(&later));
        assert!(decode(&later.to_string()).is_ok());
    }
}

#[test]
fn numbers_that_json_cannot_say_do_not_break_a_record() {
    let check = |value: f32, scale: f64, expected: f64| {
        let got = rounded(value, scale);
        assert_eq!(got.to_bits(), expected.to_bits(), "{value}");
    };
    check(f32::NAN, 10.0, 0.0);
    check(f32::INFINITY, 10.0, 0.0);
    check(-0.04, 10.0, 0.0);
    check(-12.34, 10.0, -12.3);
    check(0.912_345_6, 1e4, 0.9123);
}

#[test]
fn times_are_written_as_jiff_writes_them() {
    let check = |ms: i64| {
        let at = Timestamp::from_millisecond(ms).expect("date");
        assert_eq!(rfc3339(at), format!("{at:.3}"), "{ms}");
    };
    // Around the end of February and of the year, from 1960 to 9998.
    for year in -10_i64..8029 {
        let days = year * 365 + (year + 1).div_euclid(4) - (year + 69).div_euclid(100) + (year + 369).div_euclid(400);
        for around in [0, 58, 59, 60, 364] {
            let ms = (days + around) * 86_400_000;
            [ms - 1, ms, ms + 45_296_789].into_iter().for_each(check);
        }
    }
    let with_nanos = Timestamp::new(1_790_000_000, 123_999_999).expect("date");
    assert_eq!(rfc3339(with_nanos), format!("{with_nanos:.3}"));
}

#[test]
fn detections_are_written_as_serde_writes_them() {
    let check = |record: &Record<'_>| {
        assert_eq!(json(record), serde_json::to_string(record).expect("json"));
    };
    for (_, event) in every_kind() {
        check(&record(&event, None));
        check(&record(&event, Timestamp::from_millisecond(1_790_000_001_000).ok()));
    }
    let sides = [
        0.0,
        -0.0,
        0.04,
        0.05,
        0.1,
        1.0,
        -1.0,
        -0.1,
        9.95,
        10.0,
        123.45,
        1919.96,
        65_536.7,
        1e6,
        1e7,
        16_777_216.5,
        1e14,
        1e15,
        1e16,
        1e17,
        3.4e38,
        f32::MIN_POSITIVE,
        f32::INFINITY,
        f32::NAN,
    ];
    let scores = [0.0, 1.0, 0.5, 0.1, 0.01, 0.0001, 0.000_04, 0.9999, 0.999_96, 0.25, 0.912_345_6, 2.0, -1.0, f32::NAN];
    let texts =
        ["", "a", "\"", "\\", "a\u{7f}b", "\n\t\u{1}", "\u{e9}t\u{e9} \u{1f600}", "0123456789abcdef0123456789abcdef\""];
    let stream = samples::stream("front-door");
    for round in 0..sides.len() * scores.len() {
        let mut event = samples::detections(&stream, round as u64 * 977, &[("person", Some(7)), ("dog", None)]);
        let Body::Detections(detections) = &mut event.body else { unreachable!("detections") };
        let object = &mut detections.objects[0].detection;
        (object.class, object.score) = (texts[round % texts.len()].into(), scores[round % scores.len()]);
        let side = |by: usize| sides[(round + by) % sides.len()];
        object.box_in_image = base::event::BoxInImage { x: side(0), y: side(1), width: side(2), height: side(3) };
        check(&record(&event, None));
    }
    // Every box side of an 8K picture in tenths, every score: as they come out of the rounding.
    let event = samples::detections(&stream, 0, &[("person", None)]);
    for tenth in 0..38_400_u16 {
        let Record::Detections(mut detections) = record(&event, None) else { unreachable!("detections") };
        let side = rounded(f32::from(tenth) * 0.2, 10.0);
        detections.objects[0].r#box = [side, side + 0.1, -side, side * 0.77];
        detections.objects[0].score = rounded(f32::from(tenth % 10_001) / 10_000.0, 1e4);
        check(&Record::Detections(detections));
    }
}
