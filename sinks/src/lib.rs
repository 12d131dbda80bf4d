//! Outputs and the wire format: the only crate that serialises events and the only one that knows rdkafka.
//!
//! A sink is one file: a configuration struct (the user's keys) whose [`Configured::build`] makes a [`Sink`], plus one
//! line in the table below. [`spawn`] runs each sink on its own named OS thread behind its own bounded queue.
//! Must never: know GStreamer or ONNX Runtime, drop an event without counting and saying so, or print a secret.

use std::{num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration};

use base::{
    event::Event,
    queue::WhenFull,
    time::{Clock, Timestamp},
    trace::Tracer,
};
use schemars::JsonSchema;
use serde::Deserialize;

pub mod captions;
pub mod console;
pub mod control;
pub mod delivery;
mod error;
pub mod file;
pub mod history;
pub mod kafka;
pub mod record;
#[cfg(test)]
mod samples;
pub mod spool;
pub mod vtt;
pub mod webhook;
pub mod wire;
mod worker;
mod written;

pub use error::SinkError;
pub use worker::{SinkHandle, SinkProbe, SinkReading, SinkReport, TopicCount, spawn};

/// An output while it runs. Owned by one thread, and called by that thread only.
pub trait Sink: Send {
    /// Takes one event. `Ok` means accepted: from here on the sink either writes it or counts it as failed.
    ///
    /// # Errors
    /// Where [`SinkError::is_temporary`], the event was not taken and must be offered again; otherwise it is lost.
    fn publish(&mut self, event: &Event) -> Result<(), SinkError>;

    /// Takes events in their order, as many as it can; gives their number, and what stands in the way of the next one.
    fn publish_all(&mut self, events: &[Arc<Event>]) -> (usize, Result<(), SinkError>) {
        for (n_taken, event) in events.iter().enumerate() {
            if let Err(error) = self.publish(event) {
                return (n_taken, Err(error));
            }
        }
        (events.len(), Ok(()))
    }

    /// Called when no event has come for a moment: the time to flush or poll.
    ///
    /// # Errors
    /// What stands in the way of writing what was accepted; it is tried again at the next call.
    fn idle(&mut self) -> Result<(), SinkError>;

    /// How long to wait for an event before `idle` is due.
    fn patience(&self) -> Duration {
        Duration::from_millis(50)
    }

    /// Whether everything accepted so far is where it belongs: nothing waits in a buffer of this process.
    fn is_written(&self) -> bool {
        true
    }

    /// The figures of its delivery while it runs, where there is a far end.
    fn meter(&self) -> Option<Arc<delivery::Meter>> {
        None
    }

    /// Writes what was accepted and closes, within `grace`. Whatever is not written by then is counted as failed.
    fn finish(self: Box<Self>, grace: Duration) -> SinkReport;
}

/// Whether records say when they were published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamp {
    /// `published_at` is written: live use.
    Published,
    /// `published_at` is left out, so that two replays of a recording are the same bytes.
    Omitted,
}

/// What a sink needs besides its configuration.
#[derive(Debug, Clone)]
pub struct BuildContext {
    /// Time, for stamps, rotation and patience.
    pub clock: Arc<dyn Clock>,
    /// Whether records are stamped.
    pub stamp: Stamp,
    /// Where to tell how far streams under a lease have arrived; none where nobody asks.
    pub progress: Option<delivery::Progress>,
    /// Takes the spans of deliveries, where anybody wants them.
    pub tracer: Option<Arc<dyn Tracer>>,
}

impl BuildContext {
    /// With nobody who asks for progress or spans.
    pub fn new(clock: Arc<dyn Clock>, stamp: Stamp) -> Self {
        Self { clock, stamp, progress: None, tracer: None }
    }

    /// The `published_at` of a record encoded now.
    fn published_at(&self) -> Option<Timestamp> {
        match self.stamp {
            Stamp::Published => Some(self.clock.wall()),
            Stamp::Omitted => None,
        }
    }
}

/// A sink's configuration: checks itself and builds the runnable.
pub trait Configured {
    /// The queue before this sink where the user says nothing.
    const QUEUE: QueueSettings;

    /// The user's wishes for the queue.
    fn queue(&self) -> &QueueConfig;

    /// Where its events wait; none without a far end.
    fn spool(&self) -> Option<&delivery::SpoolConfig> {
        None
    }

    /// Records that the far end will never take go here, whatever the user wished; nothing without a far end.
    fn put_dead_letters_into(&mut self, _path: PathBuf) {}

    /// Checks what the types cannot, touching neither disk nor network.
    ///
    /// # Errors
    /// [`SinkError::Config`], naming the key.
    fn validate(&self) -> Result<(), SinkError>;

    /// Opens the output. `name` is the sink's name in the configuration, for logs.
    ///
    /// # Errors
    /// When it cannot be opened as configured.
    fn build(&self, name: &str, context: BuildContext) -> Result<Box<dyn Sink>, SinkError>;
}

/// The queue before a sink: how many events it holds, and what happens to one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueSettings {
    /// Events it holds at most.
    pub capacity: usize,
    /// What a full queue does.
    pub when_full: WhenFull,
}

/// The queue between the pipeline and this sink.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueConfig {
    /// Events the queue holds at most. Default: 1024.
    pub capacity: Option<NonZeroUsize>,
    /// What a full queue does with one more event. Default: `block`; `drop_oldest` for `console`.
    pub when_full: Option<WhenFullConfig>,
}

/// What a full queue does with one more event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFullConfig {
    /// The pipeline waits: nothing is lost here, but analysis slows down and live frames are dropped (and counted)
    /// before it.
    Block,
    /// The oldest waiting event is dropped and counted.
    DropOldest,
    /// The new event is dropped and counted.
    DropNewest,
}

impl From<WhenFullConfig> for WhenFull {
    fn from(config: WhenFullConfig) -> Self {
        match config {
            WhenFullConfig::Block => Self::Block,
            WhenFullConfig::DropOldest => Self::DropOldest,
            WhenFullConfig::DropNewest => Self::DropNewest,
        }
    }
}

impl QueueConfig {
    fn over(&self, default: QueueSettings) -> QueueSettings {
        QueueSettings {
            capacity: self.capacity.map_or(default.capacity, NonZeroUsize::get),
            when_full: self.when_full.map_or(default.when_full, WhenFull::from),
        }
    }
}

/// The table of sinks: `Variant = configuration struct`; the variant in snake case is the `type` in the configuration.
macro_rules! registry {
    ($($(#[$doc:meta])* $variant:ident = $config:ty,)*) => {
        /// One output, as the user configures it.
        #[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
        #[serde(tag = "type", rename_all = "snake_case")]
        pub enum SinkConfig {
            $($(#[$doc])* $variant($config),)*
        }

        impl SinkConfig {
            /// Checks what the types cannot, touching neither disk nor network.
            ///
            /// # Errors
            /// [`SinkError::Config`], naming the key.
            pub fn validate(&self) -> Result<(), SinkError> {
                match self { $(Self::$variant(config) => config.validate(),)* }
            }

            /// The queue that belongs before this sink.
            pub fn queue(&self) -> QueueSettings {
                match self { $(Self::$variant(config) => config.queue().over(<$config as Configured>::QUEUE),)* }
            }

            /// Where its events wait; none without a far end.
            pub fn spool(&self) -> Option<&delivery::SpoolConfig> {
                match self { $(Self::$variant(config) => config.spool(),)* }
            }

            /// Records that the far end will never take go here, whatever the user wished; nothing without a far end.
            pub fn put_dead_letters_into(&mut self, path: PathBuf) {
                match self { $(Self::$variant(config) => config.put_dead_letters_into(path),)* }
            }

            /// Opens the output. `name` is the sink's name in the configuration, for logs.
            ///
            /// # Errors
            /// When it cannot be opened as configured.
            pub fn build(&self, name: &str, context: BuildContext) -> Result<Box<dyn Sink>, SinkError> {
                let progress = context.progress.clone().filter(|_| self.spool().is_none());
                let sink = match self { $(Self::$variant(config) => config.build(name, context),)* }?;
                Ok(match progress {
                    Some(progress) => Box::new(written::Written::new(sink, &progress)),
                    None => sink,
                })
            }
        }
    };
}

registry! {
    /// JSON Lines in a file, one record a line, with rotation.
    File = file::FileConfig,
    /// Standard output, for people or as JSON Lines.
    Console = console::ConsoleConfig,
    /// Captions as a WebVTT or SRT file.
    Captions = captions::CaptionsConfig,
    /// Apache Kafka.
    Kafka = kafka::KafkaConfig,
    /// HTTP: a signed POST for each event, or for each batch.
    Webhook = webhook::WebhookConfig,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration() {
        let check = |json: &str, expected: Result<QueueSettings, &str>| {
            let got = serde_json::from_str::<SinkConfig>(json).map_err(|e| e.to_string()).and_then(|c| {
                c.validate().map_err(|e| e.to_string())?;
                Ok(c.queue())
            });
            match (got, expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{json}"),
                (Err(got), Err(expected)) => assert!(got.contains(expected), "{json}: {got}"),
                (got, expected) => panic!("{json}: {got:?}, not {expected:?}"),
            }
        };
        let block = QueueSettings { capacity: 1024, when_full: WhenFull::Block };
        check(r#"{"type":"file","path":"x.jsonl"}"#, Ok(block));
        check(r#"{"type":"kafka","brokers":["localhost:9092"]}"#, Ok(block));
        check(r#"{"type":"captions","path":"x.srt"}"#, Ok(block));
        check(r#"{"type":"captions","path":"x.txt","format":"webvtt"}"#, Ok(block));
        check(
            r#"{"type":"captions","path":"x.txt"}"#,
            Err("`format`: the extension of `path` is neither .vtt nor .srt"),
        );
        check(r#"{"type":"captions","path":"x.vtt","format":"ass"}"#, Err("expected `webvtt` or `srt`"));
        check(r#"{"type":"captions","path":"/"}"#, Err("names no file"));
        check(r#"{"type":"console"}"#, Ok(QueueSettings { when_full: WhenFull::DropOldest, ..block }));
        check(
            r#"{"type":"file","path":"x","queue":{"capacity":7,"when_full":"drop_newest"}}"#,
            Ok(QueueSettings { capacity: 7, when_full: WhenFull::DropNewest }),
        );
        check(r#"{"type":"file","path":"x","queue":{"capacity":0}}"#, Err("nonzero"));
        check(r#"{"type":"file","path":"x","pth":"y"}"#, Err("unknown field `pth`"));
        check(r#"{"type":"file"}"#, Err("missing field `path`"));
        check(
            r#"{"type":"kafak"}"#,
            Err("unknown variant `kafak`, expected one of `file`, `console`, `captions`, `kafka`, `webhook`"),
        );
        check(r#"{"type":"kafka","brokers":[]}"#, Err("`brokers`"));
    }
}
