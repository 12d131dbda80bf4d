//! Detections as JSON, written by hand: nearly every record is one, and this takes a third of serde_json's time. The
//! bytes are those that serde_json would write of the same record. Pure functions.

use super::{Clock, DetectionsRecord, Envelope, Frame, Label, Model, Object};

/// Appends the record as one JSON object.
pub(super) fn write(record: &DetectionsRecord<'_>, json: &mut Vec<u8>) {
    // Whoever adds a field is stopped here.
    let DetectionsRecord { envelope, frame, model, objects, labels, answer } = record;
    let Envelope { id, specversion, stream, tags, session, pts_ms, captured_at, clock, published_at, epoch } = envelope;
    put(json, r#"{"type":"detections","id":"#);
    text(json, id);
    put(json, r#","specversion":"#);
    text(json, specversion);
    put(json, r#","stream":"#);
    text(json, stream);
    put(json, r#","tags":{"#);
    for (at, (tag, value)) in tags.iter().enumerate() {
        put(json, if at == 0 { "" } else { "," });
        text(json, tag);
        put(json, ":");
        text(json, value);
    }
    put(json, r#"},"session":"#);
    text(json, session);
    put(json, r#","pts_ms":"#);
    whole(json, *pts_ms);
    put(json, r#","captured_at":"#);
    match captured_at {
        Some(at) => text(json, at),
        None => put(json, "null"),
    }
    put(
        json,
        match clock {
            Clock::Ntp => r#","clock":"ntp""#,
            Clock::Container => r#","clock":"container""#,
            Clock::Arrival => r#","clock":"arrival""#,
            Clock::None => r#","clock":"none""#,
        },
    );
    if let Some(at) = published_at {
        put(json, r#","published_at":"#);
        text(json, at);
    }
    if let Some(epoch) = epoch {
        put(json, r#","epoch":"#);
        whole(json, *epoch);
    }
    let Frame { width, height, index } = frame;
    put(json, r#","frame":{"width":"#);
    whole(json, (*width).into());
    put(json, r#","height":"#);
    whole(json, (*height).into());
    put(json, r#","index":"#);
    whole(json, *index);
    let Model { name, version } = model;
    put(json, r#"},"model":{"name":"#);
    text(json, name);
    put(json, r#","version":"#);
    text(json, version);
    put(json, r#"},"objects":["#);
    for (at, Object { class, score, r#box, track }) in objects.iter().enumerate() {
        put(json, if at == 0 { r#"{"class":"# } else { r#",{"class":"# });
        text(json, class);
        put(json, r#","score":"#);
        decimal(json, *score, 10_000);
        for (before, side) in [r#","box":["#, ",", ",", ","].into_iter().zip(r#box) {
            put(json, before);
            decimal(json, *side, 10);
        }
        put(json, r#"],"track":"#);
        match track {
            Some(track) => whole(json, *track),
            None => put(json, "null"),
        }
        put(json, "}");
    }
    put(json, "]");
    for (at, Label { class, score }) in labels.iter().enumerate() {
        put(json, if at == 0 { r#","labels":[{"class":"# } else { r#",{"class":"# });
        text(json, class);
        put(json, r#","score":"#);
        decimal(json, *score, 10_000);
        put(json, "}");
    }
    if !labels.is_empty() {
        put(json, "]");
    }
    if let Some(answer) = answer {
        put(json, r#","answer":"#);
        any(json, answer);
    }
    put(json, "}");
}

fn put(json: &mut Vec<u8>, part: &str) {
    json.extend_from_slice(part.as_bytes());
}

/// What this file does not know how to write.
fn any(json: &mut Vec<u8>, value: impl serde::Serialize) {
    serde_json::to_writer(json, &value).expect("texts and numbers are JSON");
}

fn text(json: &mut Vec<u8>, text: &str) {
    // RFC 8259, section 7: what must be escaped.
    let is_special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    // To the end without a way out: the compiler looks at many bytes at once.
    if text.as_bytes().iter().fold(false, |found, byte| found | is_special(byte)) {
        return any(json, text);
    }
    json.push(b'"');
    json.extend_from_slice(text.as_bytes());
    json.push(b'"');
}

fn whole(json: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut from = digits.len();
    loop {
        from -= 1;
        digits[from] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 || from == 0 {
            break;
        }
    }
    json.extend_from_slice(&digits[from..]);
}

/// A number that was rounded to `1 / scale`, a power of ten: its digits, without zeros at the end beyond the first.
/// Up to 15 digits they are the shortest that give the same number back, which is what serde_json writes.
fn decimal(json: &mut Vec<u8>, value: f64, scale: u64) {
    const MOST: f64 = 1e15;
    let scaled = (value * scale as f64).round();
    if !(0.0..MOST).contains(&scaled) || value.is_sign_negative() || scaled / scale as f64 != value {
        return any(json, value);
    }
    let scaled = scaled as u64;
    whole(json, scaled / scale);
    json.push(b'.');
    let (mut rest, mut place) = (scaled % scale, scale / 10);
    loop {
        json.push(b'0' + (rest / place) as u8);
        rest %= place;
        place /= 10;
        if rest == 0 || place == 0 {
            break;
        }
    }
}
