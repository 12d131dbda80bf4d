//! Kafka sink: one idempotent producer; key = stream, one topic a kind of record, CloudEvents attributes as headers.
//!
//! The sink's own thread sends and polls; librdkafka's threads do the network and call nothing of ours.
//! Must never: reorder the records of a stream, drop one without counting it, or fail because a broker is away.
//! Not promised here: that records survive the end of this process while the broker is away; that takes a spool.
//!
//! Headers: CloudEvents 1.0, Kafka protocol binding, section 3.2 (binary content mode).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base::{
    event::{Body, Event},
    redact::REDACTED,
};
use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, ClientContext, Message,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
};

use crate::{BuildContext, Sink, SinkError, SinkReport, TopicCount, wire};

mod config;
pub use config::{Compression, KafkaConfig, OnStart, Property};

/// How long `on_start = "fail"` waits for a broker.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// One turn of that wait.
const START_STEP: Duration = Duration::from_millis(500);
/// One turn of waiting for acknowledgements.
const POLL: Duration = Duration::from_millis(20);
/// Of the payload.
const CONTENT_TYPE: &str = "application/json";

/// The sink.
pub(crate) struct Kafka {
    name: String,
    brokers: String,
    topics: Topics,
    client: ClientConfig,
    producer: BaseProducer<Reports>,
    context: BuildContext,
    /// Records handed to the client.
    n_sent: u64,
}

/// Names of the topics.
struct Topics {
    detections: String,
    transcripts: String,
    captions: String,
    status: String,
}

impl Topics {
    fn new(prefix: &str) -> Self {
        let topic = |kind| format!("{prefix}.{kind}");
        Self {
            detections: topic("detections"),
            transcripts: topic("transcripts"),
            captions: topic("captions"),
            status: topic("status"),
        }
    }

    fn of(&self, body: &Body) -> &str {
        match body {
            Body::Detections(_) => &self.detections,
            Body::Transcript(_) => &self.transcripts,
            Body::Caption(_) => &self.captions,
            Body::Status(_) | Body::Gap(_) => &self.status,
        }
    }
}

impl Kafka {
    /// Makes the client, which connects in the background.
    fn start(
        name: &str,
        config: &KafkaConfig,
        client: ClientConfig,
        secrets: Vec<String>,
        context: BuildContext,
    ) -> Result<Self, SinkError> {
        let reports = Reports(Arc::new(Shared { name: name.to_owned(), secrets, account: Mutex::default() }));
        let producer = make_producer(&client, reports)?;
        Ok(Self {
            name: name.to_owned(),
            brokers: config.brokers.join(","),
            topics: Topics::new(&config.topic_prefix),
            client,
            producer,
            context,
            n_sent: 0,
        })
    }

    /// Waits for an answer of any broker. Wrong credentials end the wait at once: time does not cure them.
    fn check_broker(&self) -> Result<(), SinkError> {
        let end = self.context.clock.monotonic() + START_PATIENCE;
        loop {
            let Err(error) = self.producer.client().fetch_metadata(None, START_STEP) else { return Ok(()) };
            self.producer.poll(POLL);
            let code = self.shared().account.lock().trouble_code;
            let hopeless = matches!(code, Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL));
            if hopeless || self.context.clock.monotonic() >= end {
                let cause = self.shared().trouble().unwrap_or_else(|| error.to_string());
                return Err(SinkError::KafkaUnreachable { brokers: self.brokers.clone(), cause });
            }
        }
    }

    fn shared(&self) -> &Shared {
        &self.producer.context().0
    }

    fn n_waiting(&self) -> u64 {
        let account = self.shared().account.lock();
        self.n_sent.saturating_sub(account.n_delivered() + account.n_failed())
    }

    fn busy(&self) -> SinkError {
        SinkError::KafkaBusy {
            n_waiting: self.n_waiting(),
            cause: self.shared().trouble().unwrap_or_else(|| "the broker is slower than the events come".into()),
        }
    }

    /// After a fatal error the client takes nothing more: goes on with a new one. What the old one still held is
    /// counted as failed, in [`Reports::delivery`], when it is dropped.
    fn renew(&mut self) -> Result<(), SinkError> {
        let reports = Reports(Arc::clone(&self.producer.context().0));
        self.producer = make_producer(&self.client, reports)?;
        Ok(())
    }
}

fn make_producer(client: &ClientConfig, reports: Reports) -> Result<BaseProducer<Reports>, SinkError> {
    let shared = Arc::clone(&reports.0);
    client
        .create_with_context(reports)
        .map_err(|error| SinkError::KafkaClient { cause: shared.scrub(&error.to_string()) })
}

impl Sink for Kafka {
    fn publish(&mut self, event: &Event) -> Result<(), SinkError> {
        self.producer.poll(Duration::ZERO);
        let published_at = self.context.published_at();
        let payload = wire::encode(event, published_at);
        let time = event.captured.map(|captured| captured.at).or(published_at).map(wire::rfc3339);
        let topic = self.topics.of(&event.body);
        let record = BaseRecord::to(topic)
            .key(event.stream.name.as_str())
            .payload(&payload)
            .headers(headers(event, time.as_deref()));
        let Err((error, _record)) = self.producer.send(record) else {
            self.n_sent += 1;
            return Ok(());
        };
        let refused = |cause: &KafkaError| SinkError::KafkaRefused {
            id: event.id.clone(),
            topic: topic.to_owned(),
            cause: cause.to_string(),
        };
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => {
                self.producer.poll(POLL);
                Err(self.busy())
            }
            Some(RDKafkaErrorCode::Fatal) => {
                let cause = self.producer.client().fatal_error().map_or_else(|| error.to_string(), |(_, text)| text);
                let cause = self.shared().scrub(&cause);
                tracing::error!(sink = self.name, cause, "the kafka client gave up; starting a new one");
                self.renew()?;
                Err(self.busy())
            }
            _ => Err(refused(&error)),
        }
    }

    fn idle(&mut self) -> Result<(), SinkError> {
        self.producer.poll(POLL);
        Ok(())
    }

    fn finish(self: Box<Self>, grace: Duration) -> SinkReport {
        // Flushing also sends what waits for company (`linger_ms`) at once.
        let flushed = self.producer.flush(grace);
        let n_waiting = self.n_waiting();
        let account = self.shared().account.lock().clone();
        let cause = || match (account.trouble.clone(), &flushed) {
            (Some(trouble), _) => trouble,
            (None, Err(_)) => format!("{} did not acknowledge them in time", self.brokers),
            (None, Ok(())) => "see the log".into(),
        };
        let n_lost = n_waiting + account.n_failed();
        let error = (n_lost > 0).then(|| SinkError::Undelivered { n_lost, grace, cause: cause() });
        SinkReport {
            n_published: account.n_delivered(),
            n_failed: n_lost,
            topics: account.topics,
            error,
            ..SinkReport::default()
        }
    }
}

/// CloudEvents 1.0 attributes in binary mode.
fn headers(event: &Event, time: Option<&str>) -> OwnedHeaders {
    let stream = event.stream.name.as_str();
    let kind = format!("eyewitness.{}", event.body.kind());
    let source = format!("/eyewitness/streams/{stream}");
    let mut headers = OwnedHeaders::new_with_capacity(7);
    let attributes = [
        ("content-type", CONTENT_TYPE),
        ("ce_specversion", "1.0"),
        ("ce_id", &event.id),
        ("ce_type", &kind),
        ("ce_source", &source),
        ("ce_subject", event.session.as_str()),
    ];
    for (key, value) in attributes.into_iter().chain(time.map(|time| ("ce_time", time))) {
        headers = headers.insert(Header { key, value: Some(value) });
    }
    headers
}

/// What the client tells us, on the sink's thread, inside `poll` and `flush`.
struct Reports(Arc<Shared>);

struct Shared {
    name: String,
    secrets: Vec<String>,
    account: Mutex<Account>,
}

#[derive(Debug, Default, Clone)]
struct Account {
    topics: BTreeMap<String, TopicCount>,
    /// The last trouble with the brokers, until a delivery shows that it is over.
    trouble: Option<String>,
    trouble_code: Option<RDKafkaErrorCode>,
}

impl Account {
    fn n_delivered(&self) -> u64 {
        self.topics.values().map(|count| count.n_delivered).sum()
    }
    fn n_failed(&self) -> u64 {
        self.topics.values().map(|count| count.n_failed).sum()
    }
}

impl Shared {
    fn trouble(&self) -> Option<String> {
        self.account.lock().trouble.clone()
    }

    fn scrub(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), REDACTED))
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let message = self.0.scrub(message);
        let sink = &self.0.name;
        match level {
            // Connection failures are told once more, and better, through `error`.
            _ if matches!(facility, "FAIL" | "ERROR") => {
                tracing::debug!(target: "librdkafka", sink, facility, "{message}");
            }
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::error!(target: "librdkafka", sink, facility, "{message}")
            }
            RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", sink, facility, "{message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(target: "librdkafka", sink, facility, "{message}");
            }
            RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", sink, facility, "{message}"),
        }
    }

    /// Trouble with brokers: told when it begins and when its kind changes. Comes twice for each.
    fn error(&self, error: KafkaError, reason: &str) {
        let reason = self.0.scrub(reason);
        let code = error.rdkafka_error_code();
        let mut account = self.0.account.lock();
        // "all brokers down" follows each real cause and says less.
        if code == Some(RDKafkaErrorCode::AllBrokersDown) && account.trouble.is_some() {
            return;
        }
        let is_news = account.trouble.is_none() || account.trouble_code != code;
        account.trouble = Some(reason.clone());
        account.trouble_code = code;
        drop(account);
        if is_news {
            tracing::warn!(sink = self.0.name, reason, "trouble with kafka; records wait");
        }
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _opaque: ()) {
        let mut account = self.0.account.lock();
        match result {
            Ok(message) => {
                account.topics.entry(message.topic().to_owned()).or_default().n_delivered += 1;
                if account.trouble.take().is_some() {
                    account.trouble_code = None;
                    tracing::info!(sink = self.0.name, "kafka takes records again");
                }
            }
            Err((error, message)) => {
                let topic = message.topic().to_owned();
                let cause = self.0.scrub(&error.to_string());
                account.trouble = Some(format!("{cause} (topic {topic})"));
                account.topics.entry(topic.clone()).or_default().n_failed += 1;
                drop(account);
                let stream = message.key().map(String::from_utf8_lossy);
                tracing::error!(sink = self.0.name, topic, stream = ?stream, cause, "record lost");
            }
        }
    }
}
