//! What is kept, by id and by time: small facts in memory, the records themselves on disk. Pure bookkeeping.

use std::{
    collections::{BTreeSet, HashMap},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use sinks::history::Doubt;

use super::folder::Meta;

/// Which alerts are asked for. Each list that is not empty must hold the alert's word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlertFilter {
    /// Names of streams.
    pub streams: Vec<String>,
    /// Names of rules.
    pub rules: Vec<String>,
    /// `opened`, `updated`, `closed`, or `open` for what is not closed.
    pub states: Vec<String>,
    /// `info`, `warning`, `critical`.
    pub severities: Vec<String>,
}

/// The facts of one alert that are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) stream: String,
    pub(super) rule: String,
    pub(super) severity: String,
    pub(super) state: String,
}

impl Facts {
    pub(super) fn is_open(&self) -> bool {
        self.state != "closed"
    }
}

impl From<&Meta> for Facts {
    fn from(meta: &Meta) -> Self {
        let Meta { stream, rule, severity, state, .. } = meta.clone();
        Self { stream, rule, severity, state }
    }
}

impl AlertFilter {
    pub(super) fn fits(&self, facts: &Facts) -> bool {
        let has = |wanted: &[String], word: &str| wanted.is_empty() || wanted.iter().any(|w| w == word);
        let state_fits = has(&self.states, &facts.state) || facts.is_open() && self.states.iter().any(|s| s == "open");
        has(&self.streams, &facts.stream)
            && has(&self.rules, &facts.rule)
            && has(&self.severities, &facts.severity)
            && state_fits
    }
}

/// One alert.
#[derive(Debug)]
struct Entry {
    facts: Facts,
    revision: u32,
    at_ms: i64,
    place: u64,
    n_bytes: u64,
}

/// All alerts.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: HashMap<Arc<str>, Entry>,
    /// By the time of the newest record, and the order in which they came.
    by_time: BTreeSet<(i64, u64, Arc<str>)>,
    /// Whether the wall clock can be believed.
    doubt: Doubt,
    next_place: u64,
    n_bytes: u64,
    n_open: usize,
}

impl Index {
    /// A record came. Gives false for one that is older than what is there.
    pub(super) fn note(&mut self, meta: &Meta, at_ms: i64) -> bool {
        let id: Arc<str> = meta.alert.as_str().into();
        let mut n_bytes = 0;
        if let Some(old) = self.entries.get(&id) {
            if old.revision > meta.revision {
                return false;
            }
            n_bytes = old.n_bytes;
            self.by_time.remove(&(old.at_ms, old.place, Arc::clone(&id)));
            self.n_open -= usize::from(old.facts.is_open());
        }
        let entry = Entry { facts: meta.into(), revision: meta.revision, at_ms, place: self.next_place, n_bytes };
        self.next_place += 1;
        self.n_open += usize::from(entry.facts.is_open());
        self.by_time.insert((at_ms, entry.place, Arc::clone(&id)));
        self.entries.insert(id, entry);
        true
    }

    /// What its files take now.
    pub(super) fn resize(&mut self, id: &str, n_bytes: u64) {
        if let Some(entry) = self.entries.get_mut(id) {
            self.n_bytes = self.n_bytes - entry.n_bytes + n_bytes;
            entry.n_bytes = n_bytes;
        }
    }

    pub(super) fn remove(&mut self, id: &str) {
        if let Some((id, old)) = self.entries.remove_entry(id) {
            self.n_bytes -= old.n_bytes;
            self.n_open -= usize::from(old.facts.is_open());
            self.by_time.remove(&(old.at_ms, old.place, id));
        }
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.entries.contains_key(id)
    }

    /// Alerts, open ones among them, and bytes.
    pub(super) fn size(&self) -> (usize, usize, u64) {
        (self.entries.len(), self.n_open, self.n_bytes)
    }

    /// Ids of those that fit, newest first.
    pub(super) fn newest<'a>(&'a self, filter: &'a AlertFilter) -> impl Iterator<Item = &'a Arc<str>> {
        let fits = |id: &&Arc<str>| self.entries.get(*id).is_some_and(|entry| filter.fits(&entry.facts));
        self.by_time.iter().rev().map(|(_, _, id)| id).filter(fits)
    }

    /// What was told before this is too old; nothing is while the wall clock may be wrong.
    pub(super) fn too_old(&mut self, (now_ms, monotonic): (i64, Duration), keep: Duration) -> i64 {
        let Self { by_time, doubt, .. } = self;
        let newest_until = |until: i64| {
            let after = (until.saturating_add(1), 0, Arc::from(""));
            Ok::<_, Infallible>(by_time.range(..after).next_back().map(|(at_ms, _, _)| *at_ms))
        };
        let oldest = by_time.first().map(|(at_ms, _, _)| *at_ms);
        let Ok(may_go) = doubt.lets_go((now_ms, monotonic), keep, oldest, newest_until);
        let keep_ms = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        if may_go { now_ms.saturating_sub(keep_ms) } else { i64::MIN }
    }

    /// What has to go so that nothing is older than `since_ms` and all together take at most `most_bytes`, oldest first and
    /// closed ones before open ones; `busy` ones stay.
    pub(super) fn superfluous(
        &self,
        since_ms: i64,
        most_bytes: u64,
        busy: impl Fn(&str) -> bool,
    ) -> Vec<(Arc<str>, Why)> {
        let free = || self.by_time.iter().filter(|(_, _, id)| !busy(id));
        let mut gone: Vec<(Arc<str>, Why)> = Vec::new();
        let mut n_bytes = self.n_bytes;
        let size = |id: &str| self.entries.get(id).map_or(0, |entry| entry.n_bytes);
        for (_, _, id) in free().take_while(|(at_ms, _, _)| *at_ms < since_ms) {
            n_bytes -= size(id);
            gone.push((Arc::clone(id), Why::Age));
        }
        for of_open in [false, true] {
            for (at_ms, _, id) in free() {
                if n_bytes <= most_bytes {
                    return gone;
                }
                let is_open = self.entries.get(id).is_some_and(|entry| entry.facts.is_open());
                if *at_ms >= since_ms && is_open == of_open {
                    n_bytes -= size(id);
                    gone.push((Arc::clone(id), Why::Bytes));
                }
            }
        }
        gone
    }
}

/// Why an alert is let go of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// It is too old.
    Age,
    /// There is no room.
    Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(id: &str, revision: u32, state: &str) -> Meta {
        let json = format!(
            r#"{{"id":"{id}-{revision}","alert":"{id}","revision":{revision},"stream":"s-{id}","rule":"r","severity":"info","state":"{state}"}}"#
        );
        Meta::parse(&json).expect("meta")
    }

    fn index() -> Index {
        let mut index = Index::default();
        for (n, (id, state)) in [("a", "opened"), ("b", "closed"), ("c", "updated"), ("d", "closed")].iter().enumerate()
        {
            assert!(index.note(&meta(id, 1, state), 1000 * n as i64));
            index.resize(id, 100);
        }
        index
    }

    fn ids(index: &Index, filter: &AlertFilter) -> String {
        index.newest(filter).map(|id| &**id).collect()
    }

    #[test]
    fn newest_first_and_filtered() {
        let mut index = index();
        let check = |index: &Index, filter: AlertFilter, expected: &str| assert_eq!(ids(index, &filter), expected);
        let some = |word: &str| vec![word.to_owned()];
        check(&index, AlertFilter::default(), "dcba");
        check(&index, AlertFilter { states: some("open"), ..AlertFilter::default() }, "ca");
        check(&index, AlertFilter { states: some("opened"), ..AlertFilter::default() }, "a");
        check(&index, AlertFilter { streams: vec!["s-a".into(), "s-d".into()], ..AlertFilter::default() }, "da");
        check(&index, AlertFilter { rules: some("x"), ..AlertFilter::default() }, "");
        check(&index, AlertFilter { severities: some("info"), ..AlertFilter::default() }, "dcba");
        assert!(index.note(&meta("a", 2, "closed"), 9000));
        assert!(!index.note(&meta("a", 1, "opened"), 9500));
        check(&index, AlertFilter::default(), "adcb");
        assert_eq!(index.size(), (4, 1, 400));
        index.remove("a");
        index.remove("a");
        check(&index, AlertFilter::default(), "dcb");
        assert_eq!(index.size(), (3, 1, 300));
    }

    #[test]
    fn retention() {
        let check = |since_ms, most_bytes, busy: &str, expected: &[(&str, Why)]| {
            let gone = index().superfluous(since_ms, most_bytes, |id| id == busy);
            let gone: Vec<_> = gone.iter().map(|(id, why)| (&**id, *why)).collect();
            assert_eq!(gone, expected, "{since_ms} {most_bytes} {busy}");
        };
        check(0, 400, "", &[]);
        check(1001, 400, "", &[("a", Why::Age), ("b", Why::Age)]);
        check(1001, 400, "a", &[("b", Why::Age)]);
        // Closed ones first.
        check(0, 399, "", &[("b", Why::Bytes)]);
        check(0, 250, "", &[("b", Why::Bytes), ("d", Why::Bytes)]);
        check(0, 100, "b", &[("d", Why::Bytes), ("a", Why::Bytes), ("c", Why::Bytes)]);
        check(1000, 250, "", &[("a", Why::Age), ("b", Why::Bytes)]);
    }
}
