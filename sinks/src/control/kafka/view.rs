//! Reads one topic, every partition, from its beginning and for ever.
//!
//! On a thread of its own, `plane-view-…`, with a client of its own: so that the end of a partition is known to be that of
//! this topic. It is in the group by name only and commits nothing. Must never pass over a record, nor forget to say that
//! something is gone.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::Ordering::{AcqRel, Relaxed},
    },
    time::Duration,
};

use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::BorrowedMessage,
};

use super::{
    super::News,
    Topic,
    shared::{Context, Finder, Shared, TURN},
};

const POLL: Duration = Duration::from_millis(100);
const MAKE_AGAIN_AFTER: Duration = Duration::from_secs(1);

impl ConsumerContext for Context {}

pub(super) struct View {
    shared: Arc<Shared>,
    topic: Topic,
    /// What there is, by partition and key, and in which reading it was seen last.
    known: HashMap<(i32, String), u64>,
    /// Number of the present reading: after an outage that Kafka did not survive whole, one begins anew.
    reading: u64,
    /// Where it begins. By its number the first record is found a second sooner than by asking for the first one there is;
    /// that is asked for when the number is gone.
    begin: Offset,
    was_read: bool,
}

/// Why a reading ends.
enum End {
    Stop,
    /// Begin anew at once.
    Again,
    /// Begin anew once the topic is there.
    Missing,
}

impl View {
    pub(super) fn new(shared: Arc<Shared>, topic: Topic) -> Self {
        Self { shared, topic, known: HashMap::new(), reading: 0, begin: Offset::Offset(0), was_read: false }
    }

    pub(super) fn run(mut self) {
        while !self.shared.stopped() {
            let n_partitions = self.shared.n_partitions(self.topic);
            if n_partitions == 0 {
                std::thread::sleep(TURN);
                continue;
            }
            match self.open(n_partitions) {
                Ok(consumer) => match self.follow(&consumer, n_partitions) {
                    End::Stop => return,
                    End::Again => {}
                    End::Missing => {
                        self.shared.n_partitions[self.topic as usize].store(0, Relaxed);
                        self.shared.look_again.store(true, Relaxed);
                    }
                },
                Err(problem) => {
                    self.shared.trouble(Finder::View, Some(problem));
                    self.shared.pause(MAKE_AGAIN_AFTER);
                }
            }
        }
    }

    fn open(&self, n_partitions: usize) -> Result<BaseConsumer<Context>, String> {
        let mut client = self.shared.client().map_err(|error| error.to_string())?;
        client
            .set("group.id", &self.shared.config.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            // What is gone is found out by reading all of it again, not by going on somewhere.
            .set("auto.offset.reset", "error")
            .set("fetch.error.backoff.ms", "100")
            .set("fetch.max.bytes", "8388608")
            .set("queued.max.messages.kbytes", "8192");
        let consumer: BaseConsumer<Context> =
            client.create_with_context(self.shared.context()).map_err(|error| error.to_string())?;
        let name = self.shared.topic(self.topic);
        let mut all = TopicPartitionList::with_capacity(n_partitions);
        for partition in (0..n_partitions).filter_map(|partition| i32::try_from(partition).ok()) {
            all.add_partition_offset(&name, partition, self.begin).map_err(|error| error.to_string())?;
        }
        consumer.assign(&all).map_err(|error| error.to_string())?;
        Ok(consumer)
    }

    fn follow(&mut self, consumer: &BaseConsumer<Context>, n_partitions: usize) -> End {
        self.reading += 1;
        let mut ahead: BTreeSet<i32> =
            (0..n_partitions).filter_map(|partition| i32::try_from(partition).ok()).collect();
        loop {
            if self.shared.stopped() {
                return End::Stop;
            }
            if !consumer.context().is_current() || self.shared.n_partitions(self.topic) != n_partitions {
                return End::Again;
            }
            let code = match consumer.poll(POLL) {
                None => continue,
                Some(Ok(record)) => {
                    if !self.learn(&record) {
                        return End::Stop;
                    }
                    continue;
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    if ahead.remove(&partition) && !self.forget(partition) {
                        return End::Stop;
                    }
                    if ahead.is_empty() && !self.was_read {
                        self.was_read = true;
                        if self.shared.n_read.fetch_add(1, AcqRel) + 1 == Topic::ALL.len() {
                            self.shared.inbox.read(News::CaughtUp);
                        }
                    }
                    if ahead.is_empty() {
                        self.shared.trouble(Finder::View, None);
                    }
                    continue;
                }
                Some(Err(error)) => error.rdkafka_error_code(),
            };
            let topic = self.shared.topic(self.topic);
            match code {
                Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition) => {
                    return End::Missing;
                }
                Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => {
                    if self.was_read {
                        tracing::warn!(topic, "records that were next are gone from the topic; it is read anew");
                    }
                    self.begin = Offset::Beginning;
                    return End::Again;
                }
                Some(Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed) => {
                    let group = &self.shared.config.group;
                    let problem = format!(
                        "this user may not read topic {topic}: allow it `Read` there, and `Read` of group {group}"
                    );
                    self.shared.trouble(Finder::View, Some(problem));
                }
                Some(Code::Fatal) => return End::Again,
                // Brokers that are away and leaders that change: the client goes on by itself.
                _ => {}
            }
        }
    }

    /// Tells a record; false when nobody listens any more.
    fn learn(&mut self, record: &BorrowedMessage<'_>) -> bool {
        let partition = record.partition();
        let text = match (record.key_view::<str>(), record.payload_view::<str>()) {
            (Some(Ok(key)), payload) if payload.as_ref().is_none_or(Result::is_ok) => {
                let text = payload.and_then(Result::ok).map(str::to_owned);
                Some((key.to_owned(), text))
            }
            _ => None,
        };
        let at_ms = record.timestamp().to_millis();
        let told = text.and_then(|(key, text)| {
            let news = self.topic.news(partition, &key, text.clone(), record.offset(), at_ms)?;
            Some((key, text, news))
        });
        let Some((key, text, news)) = told else {
            let topic = record.topic();
            tracing::warn!(topic, partition, offset = record.offset(), "a record that is not ours was passed over");
            return true;
        };
        match text {
            Some(_) => self.known.insert((partition, key), self.reading),
            None => self.known.remove(&(partition, key)),
        };
        self.shared.inbox.read(news)
    }

    /// A partition was read to its end: what was there in an earlier reading and is not any more is gone.
    fn forget(&mut self, partition: i32) -> bool {
        if self.reading == 1 {
            return true;
        }
        let is_gone = |(of, _): &(i32, String), reading: u64| *of == partition && reading < self.reading;
        let gone: Vec<_> =
            self.known.iter().filter(|(key, reading)| is_gone(key, **reading)).map(|(key, _)| key.clone()).collect();
        gone.into_iter().all(|(partition, key)| {
            let at_ms = self.shared.clock.wall().as_millisecond();
            let news = self.topic.news(partition, &key, None, 0, Some(at_ms));
            self.known.remove(&(partition, key));
            news.is_none_or(|news| self.shared.inbox.read(news))
        })
    }
}
