//! What a condition finds, and how often it must before it is believed. Plain data and counting.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use base::event::{TrackedObject, Word};

use super::{At, config::Confirm};

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// The stream as a whole.
    Stream,
    /// One object.
    Who(u64),
    /// One object that went one way, to the right or not: to and fro are two happenings.
    Way(u64, bool),
}

/// A condition is true.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    pub(super) key: Key,
    /// It goes on; otherwise it happened at one moment, and is never in doubt.
    pub(super) lasts: bool,
    pub(super) since: At,
    pub(super) objects: Vec<TrackedObject>,
    pub(super) words: Vec<Word>,
    pub(super) detail: Detail,
}

/// What a summary can tell of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Detail {
    pub(super) class: Option<Arc<str>>,
    pub(super) count: Option<usize>,
    pub(super) phrase: Option<String>,
    pub(super) term: Option<String>,
    pub(super) direction: Option<&'static str>,
    pub(super) what: Option<String>,
}

impl Finding {
    pub(super) fn lasting(key: Key, since: At) -> Self {
        Self { key, lasts: true, since, objects: Vec::new(), words: Vec::new(), detail: Detail::default() }
    }

    pub(super) fn moment(key: Key, at: At) -> Self {
        Self { lasts: false, ..Self::lasting(key, at) }
    }

    pub(super) fn of(mut self, object: &TrackedObject) -> Self {
        self.detail.class.get_or_insert_with(|| Arc::clone(&object.detection.class));
        self.objects.push(object.clone());
        self
    }
}

/// Something that was nearly an alert, and why it was not.
#[derive(Debug, Clone, PartialEq)]
pub struct NearMiss {
    /// The rule.
    pub rule: Arc<str>,
    /// Why, in words.
    pub why: String,
    /// What it was about.
    pub objects: Vec<TrackedObject>,
    /// Likewise.
    pub words: Vec<Word>,
    /// When it was over.
    pub when: base::event::AlertTime,
    /// When its objects were where they are here, which may be a little before.
    pub seen: base::event::AlertTime,
}

/// A near miss before it is known which rule's it is, and when.
pub(super) struct Nearly {
    pub(super) why: String,
    pub(super) objects: Vec<TrackedObject>,
    pub(super) words: Vec<Word>,
    /// Its objects were seen here; none: just now.
    pub(super) seen_at: Option<At>,
}

impl Nearly {
    pub(super) fn new(why: String, object: Option<&TrackedObject>) -> Self {
        Self { why, objects: object.cloned().into_iter().collect(), words: Vec::new(), seen_at: None }
    }
}

/// Lets through what was found in N of the last M frames.
#[derive(Default)]
pub(super) struct Confirmer {
    pending: BTreeMap<Key, Window>,
}

struct Window {
    hits: VecDeque<bool>,
    since: At,
    is_confirmed: bool,
    last: Option<(TrackedObject, At)>,
}

impl Confirmer {
    /// Ids of objects begin anew.
    pub(super) fn restart(&mut self) {
        self.pending.retain(|key, _| *key == Key::Stream);
    }

    /// `findings` are all of one frame, at this time.
    pub(super) fn sift(
        &mut self,
        at: At,
        confirm: Confirm,
        findings: Vec<Finding>,
        near: &mut Vec<Nearly>,
    ) -> Vec<Finding> {
        let mut sure = Vec::new();
        for window in self.pending.values_mut() {
            window.hits.push_back(false);
        }
        for mut finding in findings {
            if !finding.lasts {
                sure.push(finding);
                continue;
            }
            let window = self.pending.entry(finding.key).or_insert_with(|| Window {
                hits: VecDeque::from([false]),
                since: finding.since,
                is_confirmed: false,
                last: None,
            });
            if let Some(hit) = window.hits.back_mut() {
                *hit = true;
            }
            window.since = window.since.min(finding.since);
            window.last = finding.objects.first().map(|object| (object.clone(), at));
            let n_hits = window.hits.iter().rev().take(confirm.of as usize).filter(|hit| **hit).count();
            window.is_confirmed |= n_hits >= confirm.frames as usize;
            if window.is_confirmed {
                finding.since = window.since;
                sure.push(finding);
            }
        }
        self.pending.retain(|_, window| {
            while window.hits.len() > confirm.of as usize {
                window.hits.pop_front();
            }
            let n_hits = window.hits.iter().filter(|hit| **hit).count();
            let is_over = n_hits == 0;
            // Told once: when it can no longer come true.
            if !window.is_confirmed
                && window.hits.len() == confirm.of as usize
                && !window.hits.iter().skip(1).any(|hit| *hit)
            {
                let why = format!(
                    "seen in {} of {} frames; {} are needed (`confirm`)",
                    n_hits.max(1),
                    confirm.of,
                    confirm.frames
                );
                let (object, seen_at) = window.last.as_ref().map(|(object, at)| (object, *at)).unzip();
                near.push(Nearly { seen_at, ..Nearly::new(why, object) });
                return false;
            }
            !is_over
        });
        sure
    }
}
