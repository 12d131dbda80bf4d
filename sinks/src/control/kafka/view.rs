//! Reads one topic, every partition, from its beginning and for ever. A client made anew (other credentials, more
//! partitions) goes on where the one before it was.
//!
//! On a thread of its own, `plane-view-…`, with a client of its own: so that the end of a partition is known to be that of
//! this topic. It is in the group by name only and commits nothing. Must never pass over a record, nor forget to say that
//! something is gone.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
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
/// For one answer about where a partition begins and ends.
const PATIENCE: Duration = Duration::from_secs(3);
/// After so long is asked where a partition ends of which there is still more; and again after this, if nobody answers.
const ASK_AFTER: Duration = Duration::from_millis(250);
/// Who was not at the end of a partition for so long reads all of it again: what says that something is gone is kept for a
/// day (`delete.retention.ms`), and then gone itself.
const TOO_LONG_AWAY: Duration = Duration::from_secs(12 * 3600);

impl ConsumerContext for Context {}

pub(super) struct View {
    shared: Arc<Shared>,
    topic: Topic,
    /// What there is, by partition and key, and in which reading of the partition it was seen last.
    known: HashMap<(i32, String), u64>,
    places: BTreeMap<i32, Place>,
    was_read: bool,
}

/// How far a partition was read.
struct Place {
    /// What is read next. By its number the first record is found a second sooner than by asking for the first one there is;
    /// that is asked for when the number is gone.
    next: Offset,
    /// Number of the present reading: where records that were next are gone, one begins anew.
    reading: u64,
    /// When its end was seen last, on the monotonic clock.
    ended_at: Option<Duration>,
    /// Of a reading anew: the last record of each key, told once all of them are known. What was once so is no news.
    again: HashMap<String, (i64, Option<String>, Option<i64>)>,
    is_at_end: bool,
}

impl Default for Place {
    fn default() -> Self {
        Self { next: Offset::Offset(0), reading: 1, ended_at: None, again: HashMap::new(), is_at_end: false }
    }
}

impl Place {
    /// All of it is to be read again.
    fn begin_anew(&mut self) {
        *self = Self { next: Offset::Beginning, reading: self.reading + 1, ..Self::default() };
    }

    /// What is next is not there, in a partition that begins and ends here.
    fn is_gone(&self, begin: i64, end: i64) -> bool {
        matches!(self.next, Offset::Offset(next) if !(begin..=end).contains(&next))
    }
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
        Self { shared, topic, known: HashMap::new(), places: BTreeMap::new(), was_read: false }
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
                        // One that is made in its stead has numbers of its own.
                        self.places.values_mut().for_each(Place::begin_anew);
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

    fn open(&mut self, n_partitions: usize) -> Result<BaseConsumer<Context>, String> {
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
            let place = self.places.entry(partition).or_default();
            let now = self.shared.clock.monotonic();
            if place.ended_at.is_some_and(|at| now.saturating_sub(at) >= TOO_LONG_AWAY) {
                place.begin_anew();
            }
            all.add_partition_offset(&name, partition, place.next).map_err(|error| error.to_string())?;
        }
        consumer.assign(&all).map_err(|error| error.to_string())?;
        Ok(consumer)
    }

    fn follow(&mut self, consumer: &BaseConsumer<Context>, n_partitions: usize) -> End {
        // What is to be read before all is known that was there: each partition up to where it ended, once that is known.
        let mut ahead: BTreeMap<i32, Option<i64>> =
            (0..n_partitions).filter_map(|partition| Some((i32::try_from(partition).ok()?, None))).collect();
        let mut ask_at = self.shared.clock.monotonic() + ASK_AFTER;
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
                    let partition = record.partition();
                    let Some(end) = ahead.get_mut(&partition) else { continue };
                    // Who has just sent a record answers at once.
                    if end.is_none() && self.shared.clock.monotonic() >= ask_at {
                        *end = consumer.fetch_watermarks(record.topic(), partition, PATIENCE).map(|(_, end)| end).ok();
                        if end.is_none() {
                            ask_at = self.shared.clock.monotonic() + ASK_AFTER;
                        }
                    }
                    let is_there = end.is_some_and(|end| record.offset() + 1 >= end);
                    if is_there && !self.come_to_end(partition, &mut ahead) {
                        return End::Stop;
                    }
                    continue;
                }
                // Only said where nothing came for a while, so never of a partition that is always written to.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    if !self.come_to_end(partition, &mut ahead) {
                        return End::Stop;
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
                    self.find_gone(consumer, &topic);
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

    /// A partition was read to its end; false when nobody listens any more.
    fn come_to_end(&mut self, partition: i32, ahead: &mut BTreeMap<i32, Option<i64>>) -> bool {
        ahead.remove(&partition);
        if !self.ended(partition) {
            return false;
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
        true
    }

    /// Records that were next are gone: finds out of which partitions, since the client does not say, and reads those anew.
    fn find_gone(&mut self, consumer: &BaseConsumer<Context>, topic: &str) {
        let mut gone = BTreeSet::new();
        for (partition, place) in &self.places {
            match consumer.fetch_watermarks(topic, *partition, PATIENCE) {
                Ok((begin, end)) if place.is_gone(begin, end) => drop(gone.insert(*partition)),
                Ok(_) => {}
                // It comes up again once somebody answers.
                Err(_) => return,
            }
        }
        if self.was_read {
            tracing::warn!(topic, partitions = ?gone, "records that were next are gone from the topic; it is read anew");
        }
        for (partition, place) in &mut self.places {
            // None: there is something else at their places by now, and nobody knows where.
            if gone.is_empty() || gone.contains(partition) {
                place.begin_anew();
            }
        }
    }

    /// Tells a record; false when nobody listens any more.
    fn learn(&mut self, record: &BorrowedMessage<'_>) -> bool {
        let (partition, offset) = (record.partition(), record.offset());
        let now = self.shared.clock.monotonic();
        let place = self.places.entry(partition).or_default();
        place.next = Offset::Offset(offset + 1);
        if place.is_at_end {
            place.ended_at = Some(now);
        }
        let read = match (record.key_view::<str>(), record.payload_view::<str>()) {
            (Some(Ok(key)), payload) if payload.as_ref().is_none_or(Result::is_ok) => {
                let text = payload.and_then(Result::ok).map(str::to_owned);
                Some((key.to_owned(), text))
            }
            _ => None,
        };
        let at_ms = record.timestamp().to_millis();
        match read {
            Some((key, text)) if place.reading > 1 && !place.is_at_end => {
                place.again.insert(key, (offset, text, at_ms));
                true
            }
            Some((key, text)) => self.tell(partition, key, offset, text, at_ms),
            None => {
                not_ours(record.topic(), partition, offset);
                true
            }
        }
    }

    fn tell(&mut self, partition: i32, key: String, offset: i64, text: Option<String>, at_ms: Option<i64>) -> bool {
        let is_there = text.is_some();
        let Some(news) = self.topic.news(partition, &key, text, offset, at_ms) else {
            not_ours(self.topic.as_str(), partition, offset);
            return true;
        };
        let reading = self.places.get(&partition).map_or(1, |place| place.reading);
        match is_there {
            true => drop(self.known.insert((partition, key), reading)),
            false => drop(self.known.remove(&(partition, key))),
        }
        self.shared.inbox.read(news)
    }

    /// A partition was read to its end. Where that was not the first time from its beginning on, what is there is told now, and
    /// what was there and is not any more is gone.
    fn ended(&mut self, partition: i32) -> bool {
        let now = self.shared.clock.monotonic();
        let place = self.places.entry(partition).or_default();
        place.ended_at = Some(now);
        if std::mem::replace(&mut place.is_at_end, true) || place.reading == 1 {
            return true;
        }
        let reading = place.reading;
        let mut again: Vec<_> = std::mem::take(&mut place.again).into_iter().collect();
        again.sort_unstable_by_key(|(_, (offset, ..))| *offset);
        let mut is_heard = true;
        for (key, (offset, text, at_ms)) in again {
            is_heard &= self.tell(partition, key, offset, text, at_ms);
        }
        let is_gone = |(of, _): &(i32, String), seen: u64| *of == partition && seen < reading;
        let gone: Vec<_> =
            self.known.iter().filter(|(key, seen)| is_gone(key, **seen)).map(|(key, _)| key.clone()).collect();
        for (partition, key) in gone {
            let news = self.topic.news(partition, &key, None, 0, Some(self.shared.clock.wall().as_millisecond()));
            self.known.remove(&(partition, key));
            is_heard &= news.is_none_or(|news| self.shared.inbox.read(news));
        }
        is_heard
    }
}

fn not_ours(topic: &str, partition: i32, offset: i64) {
    tracing::warn!(topic, partition, offset, "a record that is not ours was passed over");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_any_more_is_gone() {
        let check = |next: Offset, begin: i64, end: i64, expected: bool| {
            assert_eq!(Place { next, ..Place::default() }.is_gone(begin, end), expected, "{next:?} {begin}..{end}");
        };
        check(Offset::Offset(0), 0, 0, false);
        check(Offset::Offset(7), 0, 7, false);
        check(Offset::Offset(7), 0, 6, true);
        check(Offset::Offset(7), 8, 9, true);
        check(Offset::Beginning, 8, 9, false);
    }
}
