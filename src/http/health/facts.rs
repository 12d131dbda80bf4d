//! What the checks look at: this moment's numbers and states, and those of the last minute. Pure, but for [`models`], which
//! looks at the disk.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use inference::store::ModelStore;
use serde_json::{Value, json};
use sinks::SinkReading;

use super::{
    super::{Service, control::ProfileShown, routes, streams},
    disks::Room,
};
use crate::{config::NO_MODEL, control::desk::WorkerListed, metrics::Scrape};

/// Counters are remembered for so long.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Counters whose growth is looked at.
const WATCHED: [&str; 12] = [
    "eyewitness_frames_decoded_total",
    "eyewitness_frames_inferred_total",
    "eyewitness_frames_dropped_total",
    "eyewitness_audio_seconds_total",
    "eyewitness_speech_gaps_total",
    "eyewitness_queue_dropped_total",
    "eyewitness_sink_failed_total",
    "eyewitness_sink_dropped_total",
    "eyewitness_evidence_failed_total",
    "eyewitness_history_dropped_total",
    "eyewitness_history_clips_failed_total",
    "eyewitness_fenced_events_total",
];

/// This moment.
#[derive(Default)]
pub(super) struct Facts {
    pub(super) scrape: Scrape,
    pub(super) streams: Vec<StreamFact>,
    pub(super) workers: Vec<(String, WorkerListed)>,
    pub(super) sinks: Vec<SinkReading>,
    pub(super) models: Vec<Model>,
    /// What stands between this worker and the store.
    pub(super) trouble: Option<String>,
    /// What is missing until the service is ready.
    pub(super) not_ready: Option<String>,
    /// Something is kept of alerts.
    pub(super) has_evidence: bool,
    /// Room on disks.
    pub(super) rooms: Vec<Room>,
    /// Milliseconds since 1970.
    pub(super) now_ms: i64,
}

/// One stream.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct StreamFact {
    pub(in super::super) name: String,
    pub(in super::super) state: String,
    pub(in super::super) detail: Option<String>,
    /// How long ago its worker told this; none of one that runs here.
    pub(in super::super) report_age_ms: Option<i64>,
}

/// A model that a profile names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) name: String,
    pub(super) profiles: Vec<String>,
    /// Why it cannot be used; none where it can.
    pub(super) missing: Option<String>,
}

/// A queue.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Queue {
    pub(super) name: String,
    pub(super) n_items: f64,
    pub(super) capacity: f64,
    n_dropped: f64,
}

impl Facts {
    pub(super) fn now(service: &Service, models: Vec<Model>) -> Self {
        let board = &service.control.board;
        Self {
            scrape: routes::scrape(service),
            streams: streams::facts(service),
            workers: board.workers(),
            sinks: service.house.sinks(),
            models,
            trouble: board.trouble(),
            not_ready: service.house.ready().err(),
            has_evidence: service.alerts.is_some(),
            rooms: service.disks.rooms(),
            now_ms: service.clock.wall().as_millisecond(),
        }
    }

    /// The only value of a gauge without labels.
    pub(super) fn gauge(&self, name: &str) -> Option<f64> {
        self.scrape.samples(name).next().map(|(_, value)| value)
    }

    pub(super) fn queues(&self) -> impl Iterator<Item = Queue> {
        let value = |name: &str, labels: &str| {
            self.scrape.samples(name).find(|(other, _)| *other == labels).map_or(0.0, |(_, value)| value)
        };
        self.scrape.samples("eyewitness_queue_items").map(move |(labels, n_items)| Queue {
            name: label(labels, "queue"),
            n_items,
            capacity: value("eyewitness_queue_capacity", labels),
            n_dropped: value("eyewitness_queue_dropped_total", labels),
        })
    }

    pub(super) fn sinks_json(&self) -> Vec<Value> {
        let one = |sink: &SinkReading| {
            let far = sink.delivery.as_ref();
            let oldest = far.and_then(|far| far.oldest_ms).map(|at| self.now_ms.saturating_sub_unsigned(at).max(0));
            json!({
                "name": sink.name,
                "n_accepted": sink.n_accepted,
                "n_delivered": far.map(|far| far.n_delivered),
                "n_failed": far.map(|far| far.n_failed),
                "n_dropped": far.map(|far| far.n_dropped),
                "n_waiting": far.map(|far| far.n_waiting),
                "waiting_part": far.map(|far| part(far.n_waiting_bytes, far.max_waiting_bytes)),
                "oldest_secs": oldest.map(|ms| ms as f64 / 1e3),
                "trouble": far.and_then(|far| far.trouble.as_ref()),
            })
        };
        self.sinks.iter().map(one).collect()
    }
}

/// How much of a room is used, 0 to 1.
pub(super) fn part(used: u64, most: u64) -> f64 {
    if most == 0 { 0.0 } else { used as f64 / most as f64 }
}

impl Queue {
    pub(super) fn to_json(&self, past: &Before) -> Value {
        let labels = format!("queue=\"{}\"", self.name);
        let lately = past.growth("eyewitness_queue_dropped_total", &labels, self.n_dropped);
        json!({ "name": self.name, "n_items": self.n_items as u64, "capacity": self.capacity as u64,
                "n_dropped": self.n_dropped as u64, "n_dropped_last_minute": lately as u64 })
    }
}

/// The value of a label in the text of a sample.
pub(super) fn label(labels: &str, key: &str) -> String {
    let Some(rest) = labels.split(&format!("{key}=\"")).nth(1) else { return String::new() };
    let mut value = String::new();
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => match chars.next() {
                Some('n') => value.push('\n'),
                Some(other) => value.push(other),
                None => break,
            },
            other => value.push(other),
        }
    }
    value
}

/// What was, at some moment.
#[derive(Debug, Clone, Default)]
struct Moment {
    /// On the monotonic clock.
    at: Duration,
    counters: HashMap<(&'static str, String), f64>,
    /// States of streams, by name.
    states: BTreeMap<String, String>,
}

/// The last minute, a moment every few seconds.
#[derive(Debug, Default)]
pub(in super::super) struct Past(VecDeque<Moment>);

/// The oldest moment of the last minute. Before the first one everything was at zero.
#[derive(Debug, Clone, Default)]
pub(super) struct Before {
    /// How long ago.
    pub(super) age: Duration,
    counters: HashMap<(&'static str, String), f64>,
    states: BTreeMap<String, String>,
}

impl Past {
    /// Writes this moment down.
    pub(super) fn note(&mut self, facts: &Facts, now: Duration) {
        let samples = |name: &'static str| {
            facts.scrape.samples(name).map(move |(labels, value)| ((name, labels.to_owned()), value))
        };
        let counters = WATCHED.into_iter().flat_map(samples).collect();
        let states = facts.streams.iter().map(|stream| (stream.name.clone(), stream.state.clone())).collect();
        self.0.push_back(Moment { at: now, counters, states });
        while self.0.len() > 1 && self.0.get(1).is_some_and(|second| now.saturating_sub(second.at) >= REMEMBERED) {
            self.0.pop_front();
        }
    }

    pub(super) fn before(&self, now: Duration) -> Before {
        let Some(Moment { at, counters, states }) = self.0.front().cloned() else { return Before::default() };
        Before { age: now.saturating_sub(at), counters, states }
    }
}

impl Before {
    /// How much a counter has grown since.
    pub(super) fn growth(&self, name: &'static str, labels: &str, now: f64) -> f64 {
        (now - self.counters.get(&(name, labels.to_owned())).copied().unwrap_or_default()).max(0.0)
    }

    /// How much each counter of this name has grown, with its labels.
    pub(super) fn grown<'f>(&self, facts: &'f Facts, name: &'static str) -> Vec<(&'f str, f64)> {
        let samples = facts.scrape.samples(name);
        samples.map(|(labels, now)| (labels, self.growth(name, labels, now))).collect()
    }

    /// Whether a stream was in one of these states already.
    pub(super) fn was_in(&self, stream: &str, states: &[&str]) -> bool {
        self.states.get(stream).is_some_and(|state| states.contains(&state.as_str()))
    }
}

/// The models that profiles name, and whether they are there. Looks at the disk.
pub(super) fn models(profiles: &[ProfileShown]) -> Vec<Model> {
    let mut named: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for profile in profiles {
        for model in [&profile.detect, &profile.transcribe].into_iter().flatten().filter(|model| *model != NO_MODEL) {
            named.entry(model).or_default().insert(&profile.name);
        }
    }
    let store = ModelStore::open_default();
    let one = |(name, profiles): (&str, BTreeSet<&str>)| Model {
        name: name.to_owned(),
        profiles: profiles.into_iter().map(str::to_owned).collect(),
        missing: store.resolve(name).err().map(|error| error.to_string()),
    };
    named.into_iter().map(one).collect()
}
