//! What a consumer sees of streams that change hands, read back by an independent client.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use serde_json::Value;

use crate::broker;

const READ_PATIENCE: Duration = Duration::from_secs(120);
/// Where records come all the time, a reader may never be told that it is at the end.
const LOOK_PATIENCE: Duration = Duration::from_secs(5);

/// One record.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) epoch: u64,
    pub(super) session: String,
    /// Milliseconds since 1970.
    pub(super) captured_ms: i64,
    pub(super) pts_ms: i64,
}

/// Everything in the topics of detections and status, by stream, in the order of arrival.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) detections: BTreeMap<String, Vec<Seen>>,
    pub(super) gaps: BTreeMap<String, Vec<Value>>,
}

/// What passes a consumer's fence.
#[derive(Debug, Default)]
pub(super) struct Fenced {
    /// Those that are news, in their order.
    pub(super) news: Vec<Seen>,
    /// Those of a smaller epoch than an earlier one.
    pub(super) late: Vec<Seen>,
}

impl Account {
    /// Everything that is there, of workers that have stopped.
    pub(super) fn read(brokers: &str, prefix: &str) -> Self {
        let (account, whole) = Self::within(READ_PATIENCE, brokers, prefix);
        assert!(whole, "the topics of {prefix} could not be read to their end");
        account
    }

    /// What can be read in a few seconds, of workers that go on.
    pub(super) fn so_far(brokers: &str, prefix: &str) -> Self {
        Self::within(LOOK_PATIENCE, brokers, prefix).0
    }

    /// And whether that is all.
    fn within(patience: Duration, brokers: &str, prefix: &str) -> (Self, bool) {
        let mut account = Self::default();
        let mut ids = HashSet::new();
        let all_detections = broker::read(brokers, &format!("{prefix}.detections"), patience, |record| {
            let value: Value = serde_json::from_str(&record.payload).unwrap();
            let id = value["id"].as_str().unwrap().to_owned();
            // A record that came twice counts once, as for any consumer.
            if ids.insert(id) {
                account.detections.entry(record.key).or_default().push(Seen {
                    epoch: value["epoch"].as_u64().unwrap_or_else(|| panic!("no epoch: {value}")),
                    session: value["session"].as_str().unwrap().to_owned(),
                    captured_ms: millis(&value["captured_at"]),
                    pts_ms: value["pts_ms"].as_i64().unwrap(),
                });
            }
        });
        let all_gaps = broker::read(brokers, &format!("{prefix}.status"), patience, |record| {
            let value: Value = serde_json::from_str(&record.payload).unwrap();
            let id = value["id"].as_str().unwrap().to_owned();
            if value["type"] == "gap" && ids.insert(id) {
                account.gaps.entry(record.key).or_default().push(value);
            }
        });
        (account, all_detections && all_gaps)
    }

    /// The records of a stream behind a consumer's fence.
    pub(super) fn fenced(&self, stream: &str) -> Fenced {
        let mut fenced = Fenced::default();
        let mut epoch = 0;
        for seen in self.detections.get(stream).into_iter().flatten() {
            if seen.epoch < epoch {
                fenced.late.push(seen.clone());
            } else {
                epoch = seen.epoch;
                fenced.news.push(seen.clone());
            }
        }
        fenced
    }

    pub(super) fn gaps_of(&self, stream: &str) -> &[Value] {
        self.gaps.get(stream).map_or(&[], Vec::as_slice)
    }

    /// One runner at a time behind the fence: records of an epoch are of one worker's sessions, which no other epoch has.
    #[track_caller]
    pub(super) fn assert_one_runner(&self) {
        for stream in self.detections.keys() {
            let mut owner: BTreeMap<String, u64> = BTreeMap::new();
            for seen in &self.fenced(stream).news {
                let epoch = *owner.entry(seen.session.clone()).or_insert(seen.epoch);
                assert_eq!(epoch, seen.epoch, "{stream}: session {} runs under two leases", seen.session);
            }
        }
    }
}

impl Fenced {
    /// When the first record came that was captured after this; none if none did.
    pub(super) fn first_captured_after(&self, at_ms: i64) -> Option<&Seen> {
        self.news.iter().filter(|seen| seen.captured_ms > at_ms).min_by_key(|seen| seen.captured_ms)
    }
}

pub(super) fn millis(value: &Value) -> i64 {
    let text = value.as_str().unwrap_or_else(|| panic!("no time: {value}"));
    text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}
