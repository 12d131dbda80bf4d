//! How things are found out: what several checks do alike, and what takes more than a line. Pure.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Level,
    facts::{Before, Facts, StreamFact, label, part},
};

/// Nothing was counted for so long: nothing comes.
const STALLED_AFTER: Duration = Duration::from_secs(50);
/// Of the pictures that were wanted, this part was not looked at.
const SUPERSEDED_PART: f64 = 0.5;
/// A room that is used so much is nearly full.
pub(super) const NEARLY_FULL: f64 = 0.8;

/// Bytes free on a disk that are worth a word, and that are bad.
const LITTLE_ROOM: u64 = 1_000_000_000;
const NO_ROOM: u64 = 100_000_000;

/// Something that a check has found.
pub(super) struct Finding {
    pub(super) level: Level,
    pub(super) subject: Option<String>,
    pub(super) says: String,
}

pub(super) fn warn(subject: Option<String>, says: String) -> Finding {
    Finding { level: Level::Warn, subject, says }
}

pub(super) fn bad(subject: Option<String>, says: String) -> Finding {
    Finding { level: Level::Bad, subject, says }
}

pub(super) fn of_stream(level: Level, stream: &StreamFact, what: &str) -> Finding {
    let detail = stream.detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
    Finding { level, subject: Some(stream.name.clone()), says: format!("the stream {what}{detail}") }
}

pub(super) fn in_state(facts: &Facts, state: &str, level: Level, what: &str) -> Vec<Finding> {
    facts.streams.iter().filter(|stream| stream.state == state).map(|s| of_stream(level, s, what)).collect()
}

/// A finding of each counter that has grown.
pub(super) fn grown(
    facts: &Facts,
    before: &Before,
    name: &'static str,
    level: Level,
    subject: &str,
    says: fn(&str, f64) -> String,
) -> Vec<Finding> {
    let grown = before.grown(facts, name).into_iter().filter(|(_, n)| *n > 0.0);
    grown.map(|(labels, n)| Finding { level, subject: Some(label(labels, subject)), says: says(labels, n) }).collect()
}

/// How much counters have grown, by stream.
fn by_stream(facts: &Facts, before: &Before, name: &'static str, keep: fn(&str) -> bool) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for (labels, n) in before.grown(facts, name).into_iter().filter(|(labels, _)| keep(labels)) {
        *sums.entry(label(labels, "stream")).or_default() += n;
    }
    sums
}

pub(super) fn stalled(facts: &Facts, before: &Before) -> Vec<Finding> {
    if before.age < STALLED_AFTER {
        return Vec::new();
    }
    let decoded = by_stream(facts, before, "eyewitness_frames_decoded_total", |_| true);
    let heard = by_stream(facts, before, "eyewitness_audio_seconds_total", |_| true);
    let is_stalled = |stream: &&StreamFact| {
        let has_none = |sums: &BTreeMap<String, f64>| sums.get(&stream.name).is_none_or(|n| *n == 0.0);
        stream.state == "playing"
            && before.was_in(&stream.name, &["playing"])
            && decoded.contains_key(&stream.name)
            && has_none(&decoded)
            && has_none(&heard)
    };
    let secs = before.age.as_secs();
    let what = format!("plays, and nothing came of it for {secs} s");
    facts.streams.iter().filter(is_stalled).map(|s| of_stream(Level::Bad, s, &what)).collect()
}

pub(super) fn superseded(facts: &Facts, before: &Before) -> Vec<Finding> {
    let dropped =
        by_stream(facts, before, "eyewitness_frames_dropped_total", |labels| label(labels, "reason") == "superseded");
    let inferred = by_stream(facts, before, "eyewitness_frames_inferred_total", |_| true);
    let finding = |(stream, n): (String, f64)| {
        let wanted = n + inferred.get(&stream).copied().unwrap_or_default();
        let says =
            format!("{n:.0} of {wanted:.0} pictures of the last minute were not looked at: newer ones came first");
        (n > 0.0 && n / wanted > SUPERSEDED_PART).then(|| warn(Some(stream), says))
    };
    dropped.into_iter().filter_map(finding).collect()
}

pub(super) fn spools(facts: &Facts, _: &Before) -> Vec<Finding> {
    let finding = |sink: &sinks::SinkReading| {
        let far = sink.delivery.as_ref()?;
        let used = part(far.n_waiting_bytes, far.max_waiting_bytes);
        let says = format!("{:.0} % of the spool is used by {} events", used * 100.0, far.n_waiting);
        let level = match far.full {
            true => Level::Bad,
            false if used >= NEARLY_FULL => Level::Warn,
            false => return None,
        };
        Some(Finding { level, subject: Some(sink.name.clone()), says })
    };
    facts.sinks.iter().filter_map(finding).collect()
}

/// Folders by how little room they have; those on one disk are told together.
pub(super) fn no_room(facts: &Facts, _: &Before) -> Vec<Finding> {
    let mut by_room: BTreeMap<(u64, u64), Vec<String>> = BTreeMap::new();
    for room in facts.rooms.iter().filter(|room| room.n_free < LITTLE_ROOM) {
        let folder = format!("{} ({})", room.of, room.path.display());
        by_room.entry((room.n_free, room.n_bytes)).or_default().push(folder);
    }
    let finding = |((n_free, n_bytes), folders): ((u64, u64), Vec<String>)| {
        let says = format!("{} MB of {} MB are free", n_free / 1_000_000, n_bytes / 1_000_000);
        let level = if n_free < NO_ROOM { Level::Bad } else { Level::Warn };
        Finding { level, subject: Some(folders.join(", ")), says }
    };
    by_room.into_iter().map(finding).collect()
}

pub(super) fn versions(facts: &Facts, _: &Before) -> Vec<Finding> {
    let newest =
        facts.workers.iter().find(|(_, worker)| worker.is_this).map(|(_, worker)| &worker.announcement.version);
    let Some(ours) = newest else { return Vec::new() };
    let others = facts.workers.iter().filter(|(_, worker)| worker.announcement.version != *ours);
    let says = |theirs: &str| format!("it runs version {theirs}, this worker {ours}");
    others.map(|(id, worker)| warn(Some(id.clone()), says(&worker.announcement.version))).collect()
}
