//! The headers of a record: CloudEvents 1.0, Kafka protocol binding, section 3.2 (binary content mode), and the W3C trace
//! context (<https://www.w3.org/TR/trace-context/>). Pure functions.

use base::trace::{Tracer, span_of, trace_of};
use rdkafka::message::{Header, OwnedHeaders};

use crate::record::Record;

/// Of the payload.
const CONTENT_TYPE: &str = "application/json";
/// Upper bound of what Kafka's format adds to a record, and to a batch of one record, beyond key, value and headers
/// (<https://kafka.apache.org/documentation/#messageformat>): 61 bytes of the batch, and lengths.
const FRAMING_BYTES: usize = 61 + 40;
/// The same of one header: two lengths.
const HEADER_BYTES: usize = 6;

/// The headers of `record`, and the bytes that the whole record takes at most in a batch of its own.
pub(super) fn of(record: &Record<'_>, tracer: Option<&dyn Tracer>) -> (OwnedHeaders, usize) {
    let kind = ["eyewitness.", record.kind].concat();
    let source = ["/eyewitness/streams/", record.stream].concat();
    let trace = trace_parent(record, tracer);
    let trace = std::str::from_utf8(&trace).unwrap_or_default();
    let attributes = [
        ("content-type", CONTENT_TYPE),
        ("ce_specversion", "1.0"),
        ("ce_id", record.id),
        ("ce_type", &kind),
        ("ce_source", &source),
        ("ce_subject", record.session),
        ("traceparent", trace),
    ];
    let mut headers = OwnedHeaders::new_with_capacity(attributes.len() + 1);
    let mut n_bytes = record.payload.len() + record.key.len() + FRAMING_BYTES;
    for (key, value) in attributes.into_iter().chain(record.time.map(|time| ("ce_time", time))) {
        headers = headers.insert(Header { key, value: Some(value) });
        n_bytes += key.len() + value.len() + HEADER_BYTES;
    }
    (headers, n_bytes)
}

/// `traceparent`: the same whenever the record is sent. All records of one moment of a session share a trace; it is flagged
/// as sampled where our own spans of it are exported.
fn trace_parent(record: &Record<'_>, tracer: Option<&dyn Tracer>) -> [u8; 55] {
    let trace = trace_of(record.session, record.pts_ms);
    let mut text = [b'-'; 55];
    text[..2].copy_from_slice(b"00");
    hex(&trace, &mut text[3..35]);
    hex(&span_of(record.id), &mut text[36..52]);
    text[53] = b'0';
    text[54] = if tracer.is_some_and(|tracer| tracer.is_sampled(&trace)) { b'1' } else { b'0' };
    text
}

/// Lower-case hexadecimal digits.
fn hex(bytes: &[u8], text: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(text.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Headers as _;

    use super::*;

    const RECORD: Record<'static> = Record {
        kind: "detections",
        id: "s-detections-3",
        stream: "front-door",
        session: "s",
        pts_ms: 1200,
        time: Some("2026-09-21T13:33:20.123Z"),
        key: "front-door",
        accepted_ms: 0,
        payload: "{}",
    };

    #[test]
    fn trace_context() {
        let check = |record: Record<'_>, expected: &str| {
            assert_eq!(std::str::from_utf8(&trace_parent(&record, None)).expect("ascii"), expected);
        };
        // printf 's/1200' | sha256sum; printf 's-detections-3' | sha256sum; printf 's-status-1' | sha256sum
        check(RECORD, "00-9d6b828e962add6cabbb21bf9a3799df-259e8ccfdf65af7f-00");
        check(Record { id: "s-status-1", ..RECORD }, "00-9d6b828e962add6cabbb21bf9a3799df-ff1b5263111f7b35-00");
        #[derive(Debug)]
        struct All;
        impl Tracer for All {
            fn is_sampled(&self, _: &base::trace::TraceId) -> bool {
                true
            }
            fn record(&self, _: base::trace::Span) {}
        }
        assert!(trace_parent(&RECORD, Some(&All)).ends_with(b"-01"), "sampled");
    }

    #[test]
    fn attributes_and_size() {
        let (headers, n_bytes) = of(&RECORD, None);
        let got: Vec<(&str, &[u8])> = headers.iter().map(|h| (h.key, h.value.expect("a value"))).collect();
        assert_eq!(got.len(), 8);
        assert_eq!(got[2], ("ce_id", &b"s-detections-3"[..]));
        assert_eq!(got[7], ("ce_time", &b"2026-09-21T13:33:20.123Z"[..]));
        let bare: usize = got.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() + 12;
        assert!(n_bytes > bare + 61 && n_bytes < bare + 200, "{n_bytes} for {bare}");
        assert_eq!(of(&Record { time: None, ..RECORD }, None).0.count(), 7);
    }
}
