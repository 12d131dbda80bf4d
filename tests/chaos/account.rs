//! What arrived: topics read back by an independent client, and held against what the program said it had accepted.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use super::{Row, stage::N_STREAMS};
use crate::broker::{self, Consumed};

const READ_PATIENCE: Duration = Duration::from_secs(300);

/// What one event looks like each time it arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    id: String,
    payload: u64,
    payload_unstamped: u64,
}

/// Everything in the topic of detections.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// By number of the event.
    seen: HashMap<u64, Seen>,
    /// Of each stream, the highest number that arrived.
    latest: BTreeMap<String, u64>,
    partitions: BTreeMap<String, BTreeSet<i64>>,
    timestamps_ms: Vec<i64>,
    /// Values of `published_at`: the program's clock.
    published: BTreeSet<String>,
    n_records: u64,
    n_out_of_order: u64,
    /// Arrived again with other bytes.
    n_altered: u64,
    /// Arrived again with another time of publication, and else the same.
    n_restamped: u64,
    headers_wrong: Option<String>,
}

impl Account {
    /// Reads `topic` from its beginning to its end.
    pub(super) fn read(brokers: &str, topic: &str) -> Self {
        let mut account = Self::default();
        account.add_topic(brokers, topic);
        account
    }

    /// Reads one more topic, as if its records had come after those that are here.
    pub(super) fn add_topic(&mut self, brokers: &str, topic: &str) {
        let whole = broker::read(brokers, topic, READ_PATIENCE, |record| self.add(&record));
        assert!(whole, "kcat could not read {topic} to its end: {} records", self.n_records);
        self.timestamps_ms.sort_unstable();
    }

    fn add(&mut self, record: &Consumed) {
        let id = record.headers["ce_id"].clone();
        let number = number_of(&record.key, &id);
        if !record.payload.contains(&format!("\"{id}\"")) || !record.payload.ends_with('}') {
            self.headers_wrong.get_or_insert_with(|| format!("{id}: {}", record.payload));
        }
        self.n_records += 1;
        self.timestamps_ms.push(record.timestamp_ms);
        self.partitions.entry(record.key.clone()).or_default().insert(record.partition);
        let (unstamped, stamp) = without_stamp(&record.payload);
        self.published.insert(stamp);
        let seen = Seen { id, payload: hash(&record.payload), payload_unstamped: hash(&unstamped) };
        match self.seen.entry(number) {
            Entry::Occupied(first) => {
                let first = first.get();
                if first.id != seen.id || first.payload_unstamped != seen.payload_unstamped {
                    self.n_altered += 1;
                } else if first.payload != seen.payload {
                    self.n_restamped += 1;
                }
            }
            Entry::Vacant(place) => {
                place.insert(seen);
                let latest = self.latest.entry(record.key.clone()).or_insert(number);
                self.n_out_of_order += u64::from(number < *latest);
                *latest = number.max(*latest);
            }
        }
    }

    pub(super) fn has(&self, number: u64) -> bool {
        self.seen.contains_key(&number)
    }

    pub(super) fn n_arrived(&self) -> u64 {
        self.seen.len() as u64
    }

    /// Of these, the first few that did not arrive, and how many there are.
    fn missing(&self, numbers: impl Iterator<Item = u64>) -> (u64, Vec<u64>) {
        let missing: Vec<u64> = numbers.filter(|number| !self.has(*number)).collect();
        (missing.len() as u64, missing.into_iter().take(5).collect())
    }

    /// The earliest and the latest time that the program gave as the time of publication.
    pub(super) fn published(&self) -> (&str, &str) {
        let ends = (self.published.first(), self.published.last());
        ends.0.zip(ends.1).map(|(first, last)| (first.as_str(), last.as_str())).expect("something arrived")
    }

    /// The longest time between two records.
    pub(super) fn silence_ms(&self) -> i64 {
        self.timestamps_ms.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    }

    /// The row, with everything below `n_accepted` expected but for `excused`, which the program said it would not
    /// deliver. Fails where the promise is broken in a way that the row has no column for.
    #[track_caller]
    pub(super) fn row(&self, n_accepted: u64, excused: &BTreeSet<u64>, stamped: Restamped) -> Row {
        let (n_lost, _) = self.missing((0..n_accepted).filter(|number| !excused.contains(number)));
        assert_eq!(self.headers_wrong, None, "headers and payload do not agree");
        assert_eq!(self.n_altered, 0, "events arrived again with another id or another payload");
        if stamped == Restamped::Never {
            assert_eq!(self.n_restamped, 0, "events arrived again with other bytes");
        }
        let scattered: Vec<_> = self.partitions.iter().filter(|(_, partitions)| partitions.len() > 1).collect();
        assert!(scattered.is_empty(), "streams are in more than one partition: {scattered:?}");
        Row {
            n_accepted,
            n_arrived: self.n_arrived(),
            n_lost,
            n_duplicated: self.n_records - self.n_arrived(),
            n_out_of_order: self.n_out_of_order,
            silence_ms: Some(self.silence_ms()),
            note: String::new(),
        }
    }

    /// The row of a fault after which everything must be there, each stream in order.
    #[track_caller]
    pub(super) fn whole(&self, n_accepted: u64, stamped: Restamped) -> Row {
        let (n_missing, some) = self.missing(0..n_accepted);
        assert_eq!(n_missing, 0, "lost of {n_accepted}, such as {some:?}");
        assert_eq!(self.n_out_of_order, 0, "events arrived after a later one of their stream");
        self.row(n_accepted, &BTreeSet::new(), stamped)
    }
}

/// Whether an event may arrive again with another `published_at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restamped {
    Never,
    /// The event was offered twice: accepted by a process that was killed before it could say so, and then again.
    WhereOfferedTwice,
}

/// The number of an event by the name of its stream (`s<k>`) and its id, which ends with the index of its frame.
pub(super) fn number_of(stream: &str, id: &str) -> u64 {
    let stream: u64 = stream.trim_start_matches('s').parse().expect("stream s<k>");
    let index: u64 = id.rsplit('-').next().and_then(|text| text.parse().ok()).expect("id ends with its index");
    index * N_STREAMS + stream
}

/// A payload without the time of its publication, and that time.
fn without_stamp(payload: &str) -> (String, String) {
    let (before, rest) = payload.split_once("\"published_at\":\"").expect("published_at");
    let (stamp, after) = rest.split_once('"').expect("the end of published_at");
    (format!("{before}{after}"), stamp.to_owned())
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
