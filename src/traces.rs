//! Traces for an OpenTelemetry collector: from the decoded frame to Kafka's acknowledgement.
//!
//! Spans go into a bounded queue and are sent by a thread of the OpenTelemetry SDK (OTLP over HTTP, protobuf); while the
//! collector is away, or too slow, they are dropped there. Nothing else ever waits for a span.

use std::{collections::HashMap, sync::Arc, time::Duration};

use base::{
    time::Timestamp,
    trace::{Span, TraceId, Tracer},
};
use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceState},
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanProcessor as _},
};
use schemars::JsonSchema;
use serde::Deserialize;

/// Spans that wait for the collector; more are dropped.
const MOST_WAITING: usize = 8192;
/// Spans are sent this often.
const SEND_EVERY: Duration = Duration::from_secs(1);
/// A collector gets so long to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Traces: which of them are sent, and where to. Without this table there are none, and they cost nothing.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TracesConfig {
    /// Where an OpenTelemetry collector takes OTLP over HTTP. Example: `http://127.0.0.1:4318/v1/traces`.
    pub endpoint: String,
    /// Part of all traces that is sent, 0 to 1. All spans of one moment of a stream are sent, or none. Default: 0.01.
    #[serde(default = "one_in_hundred")]
    pub ratio: f64,
    /// Environment variable whose value is sent as `authorization` header.
    #[serde(default)]
    pub authorization_env: Option<String>,
    /// `service.name` of the spans. Default: `eyewitness`.
    #[serde(default = "our_name")]
    pub service_name: String,
}

const fn one_in_hundred() -> f64 {
    0.01
}

fn our_name() -> String {
    "eyewitness".into()
}

/// What is wrong with the table; names the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTraces {
    /// Not a part of a whole.
    #[error("`ratio` lies between 0 and 1")]
    Ratio,
    /// No place to send to.
    #[error(
        "`endpoint` must be an http or https URL without user and password, such as http://127.0.0.1:4318/v1/traces"
    )]
    Endpoint,
    /// A variable that is not there.
    #[error("`authorization_env`: the environment has no variable `{0}`")]
    NoVariable(String),
    /// The exporter cannot be made.
    #[error("`endpoint`: {0}")]
    Exporter(String),
}

impl TracesConfig {
    /// Checks what the types cannot, touching neither disk nor network.
    ///
    /// # Errors
    /// Every [`BadTraces`] but `Exporter`.
    pub fn check(&self) -> Result<(), BadTraces> {
        if !(0.0..=1.0).contains(&self.ratio) {
            return Err(BadTraces::Ratio);
        }
        let good = url::Url::parse(&self.endpoint).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.username().is_empty()
                && url.password().is_none()
        });
        if !good {
            return Err(BadTraces::Endpoint);
        }
        self.authorization().map(drop)
    }

    fn authorization(&self) -> Result<Option<String>, BadTraces> {
        let Some(name) = &self.authorization_env else { return Ok(None) };
        std::env::var(name).map(Some).map_err(|_| BadTraces::NoVariable(name.clone()))
    }
}

/// Sends spans to a collector.
pub struct Traces {
    /// Traces whose last eight bytes, as a number, are below this are sampled, as OpenTelemetry's `TraceIdRatioBased` does.
    below: u64,
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
}

impl Traces {
    /// Starts the thread that sends. A collector that is away is no error.
    ///
    /// # Errors
    /// What [`TracesConfig::check`] refuses; an endpoint that the library does not take.
    pub fn start(config: &TracesConfig) -> Result<Arc<Self>, BadTraces> {
        config.check()?;
        let headers = config.authorization()?.map(|value| ("authorization".to_owned(), value));
        let exporter = SpanExporter::builder()
            .with_http()
            .with_endpoint(&config.endpoint)
            .with_timeout(PATIENCE)
            .with_headers(headers.into_iter().collect::<HashMap<_, _>>())
            .build()
            .map_err(|e| BadTraces::Exporter(base::redact::scrub_urls(&e.to_string())))?;
        let batches =
            BatchConfigBuilder::default().with_max_queue_size(MOST_WAITING).with_scheduled_delay(SEND_EVERY).build();
        let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource =
            Resource::builder_empty().with_service_name(config.service_name.clone()).with_attribute(version).build();
        processor.set_resource(&resource);
        let scope = InstrumentationScope::builder("eyewitness").with_version(env!("CARGO_PKG_VERSION")).build();
        Ok(Arc::new(Self { below: bound(config.ratio), processor, scope }))
    }

    /// Sends what waits, and ends.
    pub fn close(&self) {
        if let Err(error) = self.processor.shutdown_with_timeout(PATIENCE) {
            tracing::debug!(%error, "the last traces were not sent");
        }
    }
}

fn bound(ratio: f64) -> u64 {
    if ratio >= 1.0 { u64::MAX } else { (ratio.max(0.0) * (u64::MAX as f64)) as u64 }
}

impl std::fmt::Debug for Traces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Traces(below {:x})", self.below)
    }
}

impl Tracer for Traces {
    fn is_sampled(&self, trace: &TraceId) -> bool {
        let mut low = [0; 8];
        low.copy_from_slice(&trace[8..]);
        u64::from_be_bytes(low) <= self.below && self.below > 0
    }

    fn record(&self, span: Span) {
        let Span { trace, id, parent, name, start, end, attributes, error } = span;
        let context = SpanContext::new(
            opentelemetry::trace::TraceId::from_bytes(trace),
            SpanId::from_bytes(id),
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        );
        self.processor.on_end(SpanData {
            span_context: context,
            parent_span_id: parent.map_or(SpanId::INVALID, SpanId::from_bytes),
            parent_span_is_remote: false,
            span_kind: if name == "deliver" { SpanKind::Producer } else { SpanKind::Internal },
            name: name.into(),
            start_time: system(start),
            end_time: system(end),
            attributes: attributes.into_iter().map(|(key, value)| KeyValue::new(key, value)).collect(),
            dropped_attributes_count: 0,
            events: Default::default(),
            links: Default::default(),
            status: error.map_or(Status::Unset, Status::error),
            instrumentation_scope: self.scope.clone(),
        });
    }
}

fn system(at: Timestamp) -> std::time::SystemTime {
    at.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks() {
        let check = |toml: &str, expected: Result<(), &str>| {
            let got = toml::from_str::<TracesConfig>(toml).map_err(|e| e.to_string());
            let got = got.and_then(|config| config.check().map_err(|e| e.to_string()));
            match (&got, expected) {
                (Ok(()), Ok(())) => {}
                (Err(got), Err(part)) if got.contains(part) => {}
                _ => panic!("{toml}: {got:?}, not {expected:?}"),
            }
            assert!(!got.err().unwrap_or_default().contains("hunter2"), "{toml}");
        };
        check("endpoint = 'http://127.0.0.1:4318/v1/traces'", Ok(()));
        check("endpoint = 'https://collector.example.org/v1/traces'\nratio = 1.0", Ok(()));
        check("endpoint = 'http://h/'\nratio = 1.5", Err("`ratio`"));
        check("endpoint = 'h:4318'", Err("`endpoint`"));
        check("endpoint = 'http://u:hunter2@h/'", Err("without user and password"));
        check("endpoint = 'http://h/'\nauthorization_env = 'NO_SUCH_VARIABLE'", Err("NO_SUCH_VARIABLE"));
        check("ratio = 0.5", Err("endpoint"));
    }

    #[test]
    fn sampled_by_the_id_alone() {
        let sampled = |ratio: f64, low: u64| {
            let config = TracesConfig {
                endpoint: "http://127.0.0.1:9/".into(),
                ratio,
                authorization_env: None,
                service_name: our_name(),
            };
            let mut id = [0; 16];
            id[8..].copy_from_slice(&low.to_be_bytes());
            Traces::start(&config).expect("traces").is_sampled(&id)
        };
        assert!(sampled(1.0, u64::MAX) && sampled(1.0, 0));
        assert!(!sampled(0.0, 0) && !sampled(0.0, u64::MAX));
        assert!(sampled(0.5, u64::MAX / 4) && !sampled(0.5, u64::MAX / 4 * 3));
    }
}
