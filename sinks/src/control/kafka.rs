//! The store of many workers: three compacted topics, and a consumer group whose partitions are the leases.
//!
//! | topic | partitions | key | value |
//! |---|---|---|---|
//! | `<prefix>.attachments` | one a lease | a stream's name | what is attached |
//! | `<prefix>.leases` | 1 | `lease/<number>` | the worker that claims it; the epoch is the record's offset + 1 |
//! | | | `worker/<id>` | how that worker is; the record's time says when |
//! | `<prefix>.checkpoints` | 1 | a stream's name | how far it has come |
//!
//! Who has a lease is decided by the group alone; its members read no record. What is written is read by all workers, from
//! the beginning and for ever, by clients outside of the group. Epochs come from the one log of claims, so nobody has to
//! read a number, add one and write it back: whoever claims later has a greater epoch, whatever became of his clock.
//!
//! Six threads: `plane-look` makes topics and says what stands in the way, three `plane-view-…` read, `plane-group` keeps the
//! place in the group, `plane-post` hears acknowledgements. They put their news into one [`inbox`], which the keeper
//! empties. Must never hold up the keeper, nor take a lease before everything written earlier was read.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    thread::JoinHandle,
    time::Duration,
};

use base::time::Clock;

use super::{ClusterConfig, News, Plane, PlaneError, Post};
use crate::{SinkError, kafka::connection::Access};
use look::Look;
use post::Writer;
use shared::Shared;
use view::View;

mod group;
mod inbox;
mod look;
mod post;
mod shared;
mod view;

/// What is on its way when the plane ends gets so long to arrive.
const LAST_CHANCE: Duration = Duration::from_secs(2);
/// The threads get so long to end, and the group to be told; whoever waits for a dead network is left to itself.
const END_PATIENCE: Duration = Duration::from_secs(3);

/// The store of many workers.
pub struct KafkaPlane {
    shared: Arc<Shared>,
    writer: Arc<Writer>,
    threads: Vec<JoinHandle<()>>,
}

impl KafkaPlane {
    /// Starts to connect, in the background: brokers that are away are told as [`News::Trouble`], and waited for.
    /// `worker`: this process's name (see [`ClusterConfig::worker_id`]).
    ///
    /// # Errors
    /// When the configuration, or a password that it names, cannot be used.
    pub fn open(config: &ClusterConfig, worker: &str, clock: Arc<dyn Clock>) -> Result<Self, PlaneError> {
        config.check()?;
        let shared = Arc::new(Shared::new(config, worker, Access::new(config.connection(), Arc::default()), clock));
        let no_thread = |error: std::io::Error| SinkError::KafkaClient { cause: format!("no thread for it: {error}") };
        if let Some(tokens) = &shared.tokens {
            tokens.keep_fresh(Arc::clone(&shared.stop)).map_err(no_thread)?;
        }
        let writer = Arc::new(Writer::open(Arc::clone(&shared))?);
        let mut plane = Self { shared, writer, threads: Vec::new() };
        let (shared, writer) = (&plane.shared, &plane.writer);
        let (look, group, post) =
            (Look::new(Arc::clone(shared), Arc::clone(writer)), Arc::clone(shared), Arc::clone(writer));
        let views = Topic::ALL.map(|topic| (topic.thread(), View::new(Arc::clone(shared), topic)));
        plane.spawn("plane-look", move || look.run()).map_err(no_thread)?;
        plane.spawn("plane-post", move || post.run()).map_err(no_thread)?;
        plane.spawn("plane-group", move || group::run(&group)).map_err(no_thread)?;
        for (name, view) in views {
            plane.spawn(name, move || view.run()).map_err(no_thread)?;
        }
        Ok(plane)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        self.threads.push(std::thread::Builder::new().name(name.into()).spawn(run)?);
        Ok(())
    }
}

impl Plane for KafkaPlane {
    fn n_leases(&self) -> u32 {
        let n_leases = match self.shared.n_partitions(Topic::Attachments) {
            0 => self.shared.config.leases.get().into(),
            known => known,
        };
        u32::try_from(n_leases).unwrap_or(u32::MAX)
    }

    fn news(&mut self, patience: Duration, news: &mut Vec<News>) {
        self.shared.inbox.fetch(patience, news);
    }

    fn post(&mut self, ticket: u64, post: Post) {
        self.writer.post(ticket, post);
    }

    fn leave(&mut self) {
        self.shared.leaving.store(true, Relaxed);
    }
}

impl Drop for KafkaPlane {
    /// Leaves the group, so that others need not wait until it misses us.
    fn drop(&mut self) {
        let clock = Arc::clone(&self.shared.clock);
        self.leave();
        self.writer.finish(LAST_CHANCE);
        self.shared.stop.store(true, Relaxed);
        self.shared.inbox.close();
        let end = clock.monotonic() + END_PATIENCE;
        while clock.monotonic() < end && !self.threads.iter().all(JoinHandle::is_finished) {
            std::thread::sleep(shared::TURN);
        }
    }
}

/// The three topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Topic {
    Attachments,
    Leases,
    Checkpoints,
}

impl Topic {
    const ALL: [Self; 3] = [Self::Attachments, Self::Leases, Self::Checkpoints];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Attachments => "attachments",
            Self::Leases => "leases",
            Self::Checkpoints => "checkpoints",
        }
    }

    /// Names of threads have 15 letters at most.
    const fn thread(self) -> &'static str {
        match self {
            Self::Attachments => "plane-view-att",
            Self::Leases => "plane-view-lea",
            Self::Checkpoints => "plane-view-chk",
        }
    }

    /// When it is made.
    fn n_partitions(self, n_leases: u16) -> i32 {
        if self == Self::Attachments { n_leases.into() } else { 1 }
    }

    /// When it is made. What changes every second is compacted every few minutes, so that whoever comes has little to read.
    const fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            // What is being written to is never compacted, so it must not be that for the week of Kafka's default.
            Self::Attachments => &[
                ("cleanup.policy", "compact"),
                ("segment.ms", "600000"),
                ("segment.bytes", "16777216"),
                ("min.cleanable.dirty.ratio", "0.2"),
            ],
            Self::Leases => &[
                ("cleanup.policy", "compact"),
                // Of all workers' clocks, one.
                ("message.timestamp.type", "LogAppendTime"),
                ("segment.ms", "600000"),
                ("segment.bytes", "16777216"),
                ("min.cleanable.dirty.ratio", "0.2"),
            ],
            Self::Checkpoints => &[
                ("cleanup.policy", "compact"),
                ("segment.ms", "600000"),
                ("segment.bytes", "67108864"),
                ("min.cleanable.dirty.ratio", "0.2"),
            ],
        }
    }

    fn lease_key(lease: u32) -> String {
        format!("lease/{lease}")
    }

    fn worker_key(id: &str) -> String {
        format!("worker/{id}")
    }

    /// What a record of this topic says; none where it is not one of ours.
    fn news(self, partition: i32, key: &str, text: Option<String>, offset: i64, at_ms: Option<i64>) -> Option<News> {
        match self {
            Self::Attachments => {
                Some(News::Attachment { lease: u32::try_from(partition).ok()?, name: key.to_owned(), text })
            }
            Self::Checkpoints => Some(News::Checkpoint { name: key.to_owned(), text }),
            Self::Leases => match key.split_once('/')? {
                ("worker", id) => Some(News::Worker { id: id.to_owned(), text, at_ms: at_ms.unwrap_or_default() }),
                ("lease", lease) => Some(News::Claimed {
                    lease: lease.parse().ok()?,
                    worker: text?,
                    epoch: u64::try_from(offset).ok()?.checked_add(1)?,
                }),
                _ => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read() {
        let check = |topic: Topic, key: &str, text: Option<&str>, expected: Option<News>| {
            assert_eq!(topic.news(3, key, text.map(str::to_owned), 41, Some(7)), expected, "{topic:?} {key}");
        };
        let some = Some("x".to_owned());
        let attachment = |text| Some(News::Attachment { lease: 3, name: "yard".into(), text });
        check(Topic::Attachments, "yard", Some("x"), attachment(some.clone()));
        check(Topic::Attachments, "yard", None, attachment(None));
        check(Topic::Checkpoints, "a/b", Some("x"), Some(News::Checkpoint { name: "a/b".into(), text: some.clone() }));
        check(Topic::Leases, "lease/12", Some("x"), Some(News::Claimed { lease: 12, worker: "x".into(), epoch: 42 }));
        check(Topic::Leases, "lease/12", None, None);
        check(Topic::Leases, "lease/x", Some("x"), None);
        check(Topic::Leases, "worker/a/b", Some("x"), Some(News::Worker { id: "a/b".into(), text: some, at_ms: 7 }));
        check(Topic::Leases, "worker/a", None, Some(News::Worker { id: "a".into(), text: None, at_ms: 7 }));
        check(Topic::Leases, "yard", Some("x"), None);
    }
}
