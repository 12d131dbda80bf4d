//! Traces: what happened to one moment of a stream on its way through the house, for those who look for lost time.
//!
//! Ids are made of what records say anyway, so that nothing has to be carried along: all that belongs to one moment of a
//! session is one trace, and a record's own span is found from its id (W3C trace context,
//! <https://www.w3.org/TR/trace-context/>). Pure; whoever exports spans implements [`Tracer`].

use sha2::{Digest as _, Sha256};

use crate::time::Timestamp;

/// Id of a trace: all that happened to one moment of a session.
pub type TraceId = [u8; 16];
/// Id of a span within it.
pub type SpanId = [u8; 8];

/// The trace of a moment (stream time in milliseconds) of a session.
pub fn trace_of(session: &str, pts_ms: u64) -> TraceId {
    let mut moment = Sha256::new();
    moment.update(session);
    moment.update("/");
    let mut digits = [0; 20];
    moment.update(decimal(pts_ms, &mut digits));
    first(&moment.finalize())
}

/// The span of a record: its delivery, which a consumer's own spans are children of.
pub fn span_of(id: &str) -> SpanId {
    first(&Sha256::digest(id))
}

/// The span of a part of the way to a record.
pub fn span_of_part(id: &str, part: &str) -> SpanId {
    let mut hash = Sha256::new();
    hash.update(part);
    hash.update("/");
    hash.update(id);
    first(&hash.finalize())
}

/// The first bytes; all zeros, which the specification forbids, become a one.
fn first<const N: usize>(hash: &[u8]) -> [u8; N] {
    let mut id = [0; N];
    id.copy_from_slice(&hash[..N]);
    if id == [0; N] {
        id[N - 1] = 1;
    }
    id
}

fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

/// A stretch of time in which one thing was done.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// What it belongs to.
    pub trace: TraceId,
    /// Itself.
    pub id: SpanId,
    /// What it is a part of.
    pub parent: Option<SpanId>,
    /// What was done.
    pub name: &'static str,
    /// Wall clock.
    pub start: Timestamp,
    /// Wall clock; not before `start`.
    pub end: Timestamp,
    /// Names as in the records, free of secrets.
    pub attributes: Vec<(&'static str, String)>,
    /// Why it went wrong, if it did.
    pub error: Option<String>,
}

/// Takes spans. Called on any thread, the models' too: must be quick and must not wait.
pub trait Tracer: Send + Sync + std::fmt::Debug {
    /// Whether the spans of this trace are wanted; the same answer each time.
    fn is_sampled(&self, trace: &TraceId) -> bool;

    /// Takes a span of a trace that is sampled.
    fn record(&self, span: Span);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn ids_come_from_the_records() {
        // printf 's/1200' | sha256sum; printf 's-detections-3' | sha256sum; printf 'frame/s-detections-3' | sha256sum
        assert_eq!(hex(&trace_of("s", 1200)), "9d6b828e962add6cabbb21bf9a3799df");
        assert_eq!(hex(&span_of("s-detections-3")), "259e8ccfdf65af7f");
        assert_ne!(span_of_part("s-detections-3", "frame"), span_of_part("s-detections-3", "infer"));
        assert_eq!(first::<8>(&[0; 32]), [0, 0, 0, 0, 0, 0, 0, 1]);
        for (number, expected) in [(0, "0"), (7, "7"), (1200, "1200"), (u64::MAX, "18446744073709551615")] {
            assert_eq!(decimal(number, &mut [0; 20]), expected.as_bytes());
        }
    }
}
