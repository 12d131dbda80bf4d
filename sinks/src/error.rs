//! What can go wrong in a sink. Holds text and paths only; texts from elsewhere are scrubbed of secrets before.

use std::{io, path::PathBuf, time::Duration};

/// Everything a sink can fail with.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The configuration cannot work.
    #[error("`{key}`: {problem}")]
    Config {
        /// Key within the sink's table.
        key: String,
        /// What is wrong with it, and what to write instead.
        problem: String,
    },
    /// The operating system refused. At start this is final; later the write is tried again, and nothing is lost meanwhile.
    #[error("cannot {doing} {}: {cause}{}", path.display(), hint(cause))]
    Io {
        /// What was tried (`open`, `write`).
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// Another process writes the same file.
    #[error("{} is being written by another process: give this one its own `path`", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// A caption file takes one stream, and a second one came.
    #[error(
        "{} holds the captions of stream {first}; {n_lost} of stream {second} and others were refused: \
         write {{stream}} into `path` for a file a stream",
        path.display()
    )]
    SecondStream {
        /// The file.
        path: PathBuf,
        /// The stream in it.
        first: String,
        /// The next one that came.
        second: String,
        /// Captions refused.
        n_lost: u64,
    },
    /// Whoever read our output has gone (a closed pipe). No failure: nobody wants more.
    #[error("the reader of the output has gone")]
    Closed,
    /// The Kafka client could not be made.
    #[error("cannot start the kafka client: {cause}")]
    KafkaClient {
        /// From librdkafka, without secrets.
        cause: String,
    },
    /// No broker answered at start, and `on_start = "fail"`.
    #[error(
        "no kafka broker answers at {brokers}: {cause}; start the broker, correct `brokers`, or set on_start = \"wait\""
    )]
    KafkaUnreachable {
        /// Where we looked.
        brokers: String,
        /// From librdkafka, without secrets.
        cause: String,
    },
    /// The backlog is full, and its policy is to wait.
    #[error("the spool is full ({n_bytes} of {max_bytes} bytes wait to be delivered): {cause}")]
    SpoolFull {
        /// Bytes that wait.
        n_bytes: u64,
        /// Most that may.
        max_bytes: u64,
        /// Why they are not delivered, without secrets.
        cause: String,
    },
    /// The backlog cannot be written or read.
    #[error(transparent)]
    Backlog(#[from] crate::delivery::BacklogError),
    /// The spool cannot be opened.
    #[error(transparent)]
    Spool(#[from] crate::spool::SpoolError),
    /// The grace period was over before everything was written.
    #[error("{n_lost} events could not be delivered within {} s: {cause}", grace.as_secs_f32())]
    Undelivered {
        /// Events lost.
        n_lost: u64,
        /// How long we tried.
        grace: Duration,
        /// The last trouble.
        cause: String,
    },
    /// The sink's thread could not be started, or it panicked.
    #[error("the thread of sink `{sink}` {problem}")]
    Thread {
        /// The sink's name.
        sink: String,
        /// What became of it.
        problem: String,
    },
}

impl SinkError {
    /// Whether the same event should be offered again a little later.
    pub const fn is_temporary(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::SpoolFull { .. } | Self::Backlog(_))
    }

    /// A configuration error.
    pub(crate) fn config(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Config { key: key.into(), problem: problem.into() }
    }
}

fn hint(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space, or rotate with `max_bytes` and `max_files`"
        }
        io::ErrorKind::PermissionDenied => "; let this user write there, or choose another `path`",
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::IsADirectory => "; choose another `path`",
        _ => "",
    }
}
