//! Metrics, pulled: at each scrape every part writes what it has counted. No global state, no thread of its own.
//!
//! Text format: Prometheus exposition format 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>). Names: `eyewitness_*`, counters end in `_total`,
//! times are in seconds.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use base::{
    ledger::{DropReason, LedgerReading},
    queue::QueueReading,
    time::Timestamp,
};
use sinks::{SinkReading, delivery::DeliveryReading};

/// `Content-Type` of [`Scrape::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Has something to tell at a scrape. Called on a thread of the HTTP service: must be quick and must not wait.
pub trait MetricsSource: Send + Sync {
    /// Writes all of its values.
    fn scrape(&self, out: &mut Scrape);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Counter,
    Gauge,
}

#[derive(Debug)]
struct Family {
    shape: Shape,
    help: &'static str,
    samples: Vec<(String, f64)>,
}

/// The values of one scrape, by family.
#[derive(Debug, Default)]
pub struct Scrape {
    families: BTreeMap<&'static str, Family>,
}

impl Scrape {
    /// A value that only grows while the process lives. `name` ends in `_total`.
    pub fn counter(&mut self, name: &'static str, help: &'static str, labels: &[(&str, &str)], value: f64) {
        debug_assert!(name.ends_with("_total"), "{name}");
        self.add(Shape::Counter, name, help, labels, value);
    }

    /// A value of this moment.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, labels: &[(&str, &str)], value: f64) {
        self.add(Shape::Gauge, name, help, labels, value);
    }

    fn add(&mut self, shape: Shape, name: &'static str, help: &'static str, labels: &[(&str, &str)], value: f64) {
        let family = self.families.entry(name).or_insert_with(|| Family { shape, help, samples: Vec::new() });
        debug_assert_eq!(family.shape, shape, "{name}");
        let mut text = String::new();
        for (key, value) in labels {
            let value = value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
            let _ = write!(text, "{}{key}=\"{value}\"", if text.is_empty() { "" } else { "," });
        }
        family.samples.push((text, value));
    }

    /// The values of a family: labels as they are rendered, and the value.
    pub fn samples(&self, name: &str) -> impl Iterator<Item = (&str, f64)> {
        let samples = self.families.get(name).map(|family| family.samples.as_slice()).unwrap_or_default();
        samples.iter().map(|(labels, value)| (labels.as_str(), *value))
    }

    /// A stream's account of frames and sound.
    pub fn ledger(&mut self, stream: &str, reading: &LedgerReading) {
        let labels = [("stream", stream)];
        self.counter(
            "eyewitness_frames_decoded_total",
            "Pictures that the decoder gave out.",
            &labels,
            reading.n_decoded as f64,
        );
        self.counter(
            "eyewitness_frames_inferred_total",
            "Pictures that the model looked at.",
            &labels,
            reading.n_inferred as f64,
        );
        for reason in DropReason::ALL {
            self.counter(
                "eyewitness_frames_dropped_total",
                "Decoded pictures that the model did not look at, by reason.",
                &[("stream", stream), ("reason", reason.as_str())],
                reading.dropped(reason) as f64,
            );
        }
        self.counter(
            "eyewitness_audio_seconds_total",
            "Sound handed on to speech analysis.",
            &labels,
            reading.n_audio_samples as f64 / f64::from(base::media::AudioChunk::SAMPLE_RATE),
        );
    }

    /// A queue's figures.
    pub fn queue(&mut self, reading: &QueueReading) {
        let labels = [("queue", reading.name.as_str())];
        self.gauge("eyewitness_queue_items", "Items in the queue now.", &labels, reading.n_items as f64);
        self.gauge(
            "eyewitness_queue_capacity",
            "Items that the queue holds at most.",
            &labels,
            reading.capacity as f64,
        );
        self.gauge(
            "eyewitness_queue_high_water",
            "Most items that the queue ever held.",
            &labels,
            reading.n_high_water as f64,
        );
        self.counter(
            "eyewitness_queue_dropped_total",
            "Items that a full queue lost by its policy.",
            &labels,
            reading.n_dropped as f64,
        );
        self.counter(
            "eyewitness_queue_refused_total",
            "Items that came after the queue had closed.",
            &labels,
            reading.n_refused as f64,
        );
    }

    /// A sink's figures; what becomes of records only where there is a far end.
    pub fn sink(&mut self, reading: &SinkReading, now: Timestamp) {
        let labels = [("sink", reading.name.as_str())];
        let accepted = reading.n_accepted as f64;
        self.counter("eyewitness_sink_accepted_total", "Events that the sink took.", &labels, accepted);
        let Some(delivery) = &reading.delivery else { return };
        let DeliveryReading { n_delivered, n_failed, n_dropped, n_waiting, n_waiting_bytes, max_waiting_bytes, .. } =
            *delivery;
        for (name, help, value) in [
            ("eyewitness_sink_delivered_total", "Records that the far end has acknowledged.", n_delivered),
            (
                "eyewitness_sink_failed_total",
                "Records that the far end will never take, or that were damaged.",
                n_failed,
            ),
            ("eyewitness_sink_dropped_total", "Records that a full spool let go of.", n_dropped),
        ] {
            self.counter(name, help, &labels, value as f64);
        }
        let oldest = delivery.oldest_ms.map_or(0, |at| now.as_millisecond().saturating_sub_unsigned(at).max(0));
        for (name, help, value) in [
            ("eyewitness_sink_waiting_records", "Records accepted and not yet delivered.", n_waiting as f64),
            ("eyewitness_sink_waiting_bytes", "Bytes that wait in the spool.", n_waiting_bytes as f64),
            ("eyewitness_sink_waiting_max_bytes", "Most bytes that may wait in the spool.", max_waiting_bytes as f64),
            (
                "eyewitness_sink_oldest_seconds",
                "Age of the oldest record that waits; 0 when none does.",
                oldest as f64 / 1e3,
            ),
            ("eyewitness_sink_full", "1 while the spool is full.", f64::from(u8::from(delivery.full))),
            (
                "eyewitness_sink_troubled",
                "1 while something stands in the way of delivery; the log says what.",
                f64::from(u8::from(delivery.trouble.is_some())),
            ),
        ] {
            self.gauge(name, help, &labels, value);
        }
    }

    /// How far speech analysis is behind the stream.
    pub fn speech_lag(&mut self, stream: &str, lag: Duration) {
        self.gauge(
            "eyewitness_speech_lag_seconds",
            "Sound received but not yet transcribed.",
            &[("stream", stream)],
            lag.as_secs_f64(),
        );
    }

    /// Speech that was never transcribed, by reason.
    pub fn speech_gaps(&mut self, stream: &str, reason: &str, n_gaps: u64) {
        self.counter(
            "eyewitness_speech_gaps_total",
            "Stretches of speech that were not transcribed, by reason.",
            &[("stream", stream), ("reason", reason)],
            n_gaps as f64,
        );
    }

    /// The text that is served.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (name, family) in &self.families {
            let shape = match family.shape {
                Shape::Counter => "counter",
                Shape::Gauge => "gauge",
            };
            let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {shape}", family.help);
            for (labels, value) in &family.samples {
                let _ = match labels.as_str() {
                    "" => writeln!(text, "{name} {}", number(*value)),
                    labels => writeln!(text, "{name}{{{labels}}} {}", number(*value)),
                };
            }
        }
        text
    }
}

fn number(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_format() {
        let mut out = Scrape::default();
        out.gauge("eyewitness_b", "Second.", &[], 0.25);
        out.counter("eyewitness_a_total", "First.", &[("stream", "x\"y\\z\n"), ("reason", "r")], 3.0);
        out.gauge("eyewitness_b", "Second.", &[("k", "v")], f64::INFINITY);
        assert_eq!(
            out.render(),
            "# HELP eyewitness_a_total First.\n\
             # TYPE eyewitness_a_total counter\n\
             eyewitness_a_total{stream=\"x\\\"y\\\\z\\n\",reason=\"r\"} 3\n\
             # HELP eyewitness_b Second.\n\
             # TYPE eyewitness_b gauge\n\
             eyewitness_b 0.25\n\
             eyewitness_b{k=\"v\"} +Inf\n"
        );
    }

    #[test]
    fn a_sink_with_a_far_end_tells_what_waits() {
        let mut out = Scrape::default();
        let delivery = DeliveryReading {
            n_delivered: 5,
            n_waiting: 2,
            n_waiting_bytes: 900,
            oldest_ms: Some(1_000),
            trouble: Some("the broker at host:9092 is away".into()),
            ..DeliveryReading::default()
        };
        let now = Timestamp::from_millisecond(3_500).expect("time");
        out.sink(&SinkReading { name: "k".into(), n_accepted: 7, delivery: Some(delivery) }, now);
        out.sink(&SinkReading { name: "f".into(), n_accepted: 9, delivery: None }, now);
        let text = out.render();
        for line in [
            "accepted_total{sink=\"k\"} 7",
            "accepted_total{sink=\"f\"} 9",
            "delivered_total{sink=\"k\"} 5",
            "waiting_records{sink=\"k\"} 2",
            "waiting_bytes{sink=\"k\"} 900",
            "oldest_seconds{sink=\"k\"} 2.5",
            "full{sink=\"k\"} 0",
            "troubled{sink=\"k\"} 1",
        ] {
            assert!(text.contains(&format!("\neyewitness_sink_{line}\n")), "{line} in {text}");
        }
        assert!(!text.contains("delivered_total{sink=\"f\"}") && !text.contains("host:9092"), "{text}");
    }

    #[test]
    fn every_drop_reason_has_its_sample() {
        let ledger = base::ledger::Ledger::default();
        ledger.decoded();
        ledger.dropped(DropReason::Superseded);
        ledger.audio(8000);
        let mut out = Scrape::default();
        out.ledger("cam", &ledger.read());
        let text = out.render();
        for reason in DropReason::ALL {
            let n = u8::from(reason == DropReason::Superseded);
            let line =
                format!("eyewitness_frames_dropped_total{{stream=\"cam\",reason=\"{}\"}} {n}\n", reason.as_str());
            assert!(text.contains(&line), "{line} in {text}");
        }
        assert!(text.contains("eyewitness_audio_seconds_total{stream=\"cam\"} 0.5\n"), "{text}");
    }
}
