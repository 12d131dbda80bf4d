//! An alert's life: opened once, updated while it goes on, closed once. One book for each rule of a stream.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use base::{
    event::{Alert, AlertState, AlertTime, Body, Event, Evidence, Severity, Shape, TrackedObject, Word},
    media::{SessionId, StreamInfo},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};

use super::{
    At, Rule,
    finding::{Detail, Finding, Key},
    timeline::Timeline,
};

/// Objects and words that an alert carries, at most.
const MOST_EVIDENCE: usize = 50;
/// What was open when the stream was taken over waits at least so long to be seen again.
const WAITS: At = 10_000;
/// Alerts of one stream that are told to whoever takes it over.
const MOST_CARRIED: usize = 100;
/// Whoever goes on with an alert of another run counts on from the next multiple of this.
const JUMP: u32 = 1000;

/// An alert that was open, or over only just now, when the stream was taken over from another run of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// Its id.
    pub alert: String,
    /// Its rule.
    pub rule: String,
    /// Of its newest record.
    pub revision: u32,
    /// When it began, milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// When it was over, likewise; none while it goes on.
    pub until_ms: Option<i64>,
    /// What it was about: the class of its object.
    pub class: Option<String>,
    /// Its line.
    pub summary: String,
    /// How much it matters: for whoever closes it and has its rule no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
}

/// Until when something may not open again.
#[derive(Debug, Clone, Copy)]
enum Until {
    /// On the engine's clock.
    At(At),
    /// So long after this time of the wall.
    After(Timestamp, At),
}

impl Until {
    /// On the engine's clock; none while its wall clock is not known.
    fn at(self, now: At, timeline: &Timeline) -> Option<At> {
        match self {
            Self::At(at) => Some(at),
            Self::After(end, cooldown) => {
                let since_ms = timeline.time(now).at?.duration_since(end).as_millis();
                Some(now - At::try_from(since_ms).ok()? + cooldown)
            }
        }
    }
}

/// An alert that goes on.
struct Open {
    alert: String,
    revision: u32,
    since: AlertTime,
    /// Session in which `since` has a stream time.
    session: Option<SessionId>,
    last: At,
    told: At,
    summary: String,
    class: Option<String>,
    tracks: BTreeSet<u64>,
    objects: Vec<TrackedObject>,
    words: Vec<Word>,
    /// It happened at one moment: nothing is waited for but a repetition.
    is_moment: bool,
    has_news: bool,
}

/// The alerts of one rule on one stream.
#[derive(Default)]
pub(super) struct Book {
    /// Every object has an alert of its own.
    is_by_object: bool,
    open: BTreeMap<Key, Open>,
    /// Of objects whose ids are gone; until then they may be seen again.
    orphans: Vec<(Open, At)>,
    /// What was closed does not open before; with the class of its object.
    cooling: BTreeMap<Key, (At, Option<String>)>,
    /// The same of what is not known by key any more. Of an object, the next one of its class is taken for it.
    cooling_unknown: Vec<(Option<String>, Until)>,
    /// What was closed and still cools, for whoever takes the stream over.
    closed: Vec<Carried>,
    n_opened: u64,
}

/// What an event is written with.
pub(super) struct Desk<'a> {
    pub(super) stream: &'a Arc<StreamInfo>,
    pub(super) timeline: &'a Timeline,
    pub(super) out: &'a mut Vec<Event>,
}

impl Book {
    /// `n_opened`: so many alerts of this rule were opened in this session already, and their ids are taken.
    pub(super) fn new(is_by_object: bool, n_opened: u64) -> Self {
        Self { is_by_object, n_opened, ..Self::default() }
    }

    /// How many were opened.
    pub(super) const fn n_opened(&self) -> u64 {
        self.n_opened
    }

    pub(super) fn carry(&mut self, rule: &Rule, carried: &Carried) {
        if let Some(until_ms) = carried.until_ms {
            if rule.cooldown() > 0
                && let Some(until) = timestamp(until_ms)
            {
                self.cools_unknown(carried.class.clone(), Until::After(until, rule.cooldown()));
                // Whoever has the stream next is to know it as well.
                self.closed.push(carried.clone());
            }
            return;
        }
        let open = Open {
            alert: carried.alert.clone(),
            revision: next_run(carried.revision) - 1,
            since: AlertTime { pts: None, at: carried.since_ms.and_then(timestamp) },
            session: None,
            last: 0,
            told: 0,
            summary: carried.summary.clone(),
            class: carried.class.clone(),
            tracks: BTreeSet::new(),
            objects: Vec::new(),
            words: Vec::new(),
            is_moment: rule.is_momentary(),
            has_news: false,
        };
        self.orphans.push((open, At::MAX));
    }

    /// The stream plays for the first time, or again: what was open has so long to be seen again.
    pub(super) fn restart(&mut self, rule: &Rule, at: At) {
        let keys: Vec<Key> = self.open.keys().copied().collect();
        let until = at + rule.close_after().max(WAITS);
        for key in keys {
            match (key, self.open.get_mut(&key)) {
                (Key::Stream, Some(open)) => open.last = open.last.max(at),
                (_, Some(_)) => self.orphans.extend(self.open.remove(&key).map(|open| (open, until))),
                _ => {}
            }
        }
        for (orphan, deadline) in &mut self.orphans {
            *deadline = until;
            orphan.last = orphan.last.max(at.min(until));
        }
        for (_, (until, class)) in self.cooling.extract_if(.., |key, _| *key != Key::Stream).collect::<Vec<_>>() {
            self.cools_unknown(class, Until::At(until));
        }
    }

    fn cools_unknown(&mut self, class: Option<String>, until: Until) {
        if self.cooling_unknown.len() < MOST_CARRIED {
            self.cooling_unknown.push((class, until));
        }
    }

    /// An object that was not seen before may be one whose alert is over only just now, and whose id is gone.
    pub(super) fn recognize(&mut self, finding: &Finding, at: At, timeline: &Timeline) {
        let is_known = self.open.contains_key(&finding.key) || self.cooling.contains_key(&finding.key);
        if !self.is_by_object || is_known || self.orphans.iter().any(|(open, _)| self.goes_on_with(open, finding)) {
            return;
        }
        self.cooling_unknown.retain(|(_, until)| until.at(at, timeline).is_none_or(|until| until > at));
        let class = finding.detail.class.as_deref();
        let is_it = |(of, until): &(Option<String>, Until)| of.as_deref() == class && until.at(at, timeline).is_some();
        if let Some(place) = self.cooling_unknown.iter().position(is_it) {
            let (class, until) = self.cooling_unknown.remove(place);
            let until = until.at(at, timeline).unwrap_or(at);
            self.cooling.insert(finding.key, (until, class));
        }
    }

    /// What somebody is to know who takes the stream over now.
    pub(super) fn carried(&self, rule: &Rule, timeline: &Timeline, into: &mut Vec<Carried>) {
        let orphans = self.orphans.iter().map(|(open, _)| open);
        into.extend(self.open.values().chain(orphans).take(MOST_CARRIED).map(|open| open.carried(rule, None)));
        let now = timeline.time(timeline.newest).at;
        let still_cools = |closed: &&Carried| {
            let since = now.zip(closed.until_ms).map(|(now, until_ms)| now.as_millisecond() - until_ms);
            since.is_some_and(|since| since < rule.cooldown())
        };
        into.extend(self.closed.iter().filter(still_cools).cloned());
    }

    pub(super) fn is_open(&self, key: Key) -> bool {
        self.open.contains_key(&key)
    }

    /// Until when, on the engine's clock, the same thing may not open again.
    pub(super) fn cools_until(&self, key: Key, at: At, timeline: &Timeline) -> Option<At> {
        let by_key = self.cooling.get(&key).map(|(until, _)| *until);
        let of_stream = self.cooling_unknown.iter().filter(|_| !self.is_by_object);
        let of_stream = of_stream.filter_map(|(_, until)| until.at(at, timeline));
        by_key.into_iter().chain(of_stream).max().filter(|until| *until > at)
    }

    /// What happens at moments, and what is heard, may come too late for the alert that is open: that one is over then.
    pub(super) fn outdate(&mut self, rule: &Rule, finding: &Finding, desk: &mut Desk<'_>) {
        let is_late = |open: &Open| {
            let knows_no_frames = rule.listens && !rule.looks;
            (open.is_moment || knows_no_frames) && finding.since - open.last >= rule.close_after()
        };
        if self.open.get(&finding.key).is_some_and(is_late) {
            self.expire(rule, finding.since, false, desk);
        }
    }

    /// It goes on, or is seen again, or opens. Whoever calls has looked whether it may.
    pub(super) fn found(&mut self, rule: &Rule, at: At, finding: &Finding, desk: &mut Desk<'_>) {
        let key = finding.key;
        if !self.open.contains_key(&key) {
            if let Some(orphan) = self.adopt(finding) {
                self.open.insert(key, orphan);
            } else {
                let alert = format!("{}-alert-{}-{}", desk.timeline.session(), rule.name, self.n_opened);
                self.n_opened += 1;
                let mut open = Open {
                    alert,
                    revision: 0,
                    since: desk.timeline.time(finding.since),
                    session: Some(desk.timeline.session().clone()),
                    last: at,
                    told: at,
                    summary: rule.summary(desk.stream, &finding.detail, at - finding.since),
                    class: finding.detail.class.as_deref().map(str::to_owned),
                    tracks: BTreeSet::new(),
                    objects: Vec::new(),
                    words: Vec::new(),
                    is_moment: !finding.lasts,
                    has_news: false,
                };
                open.take(finding);
                open.has_news = false;
                let event = open.event(rule, AlertState::Opened, at, None, desk);
                self.open.insert(key, open);
                desk.out.push(event);
                return;
            }
        }
        let Some(open) = self.open.get_mut(&key) else { return };
        open.last = open.last.max(at);
        open.take(finding);
        // What is new is told at once, and how it goes on now and then.
        let is_due = rule.update_every() > 0 && at - open.told >= rule.update_every();
        if open.has_news || is_due {
            open.has_news = false;
            open.told = at;
            open.revision += 1;
            open.summary = rule.summary(desk.stream, &finding.detail, at - finding.since);
            let event = open.event(rule, AlertState::Updated, at, None, desk);
            desk.out.push(event);
        }
    }

    /// An alert that was open when ids of objects began anew may be about this. One of the stream is about whatever is there,
    /// and the class that is named first says nothing.
    fn goes_on_with(&self, open: &Open, finding: &Finding) -> bool {
        let is_same = !self.is_by_object || open.class.as_deref() == finding.detail.class.as_deref();
        !open.is_moment && finding.lasts && is_same
    }

    /// An alert from before that this finding goes on with.
    fn adopt(&mut self, finding: &Finding) -> Option<Open> {
        let fits = |(open, _): &(Open, At)| self.goes_on_with(open, finding);
        let (mut open, _) = self.orphans.remove(self.orphans.iter().position(fits)?);
        open.tracks.clear();
        open.objects.clear();
        open.has_news = true;
        Some(open)
    }

    /// Closes what was not found again in time. `now` is what the rule's conditions have come to; `keep` those that go on
    /// without being found again.
    pub(super) fn expire(&mut self, rule: &Rule, now: At, keep: bool, desk: &mut Desk<'_>) {
        let after = rule.close_after();
        let due: Vec<Key> =
            self.open.iter().filter(|(_, open)| !keep && now - open.last >= after).map(|(key, _)| *key).collect();
        for key in due {
            let Some(open) = self.open.remove(&key) else { continue };
            let (last, word) = (open.last, if rule.looks { "seen" } else { "heard" });
            let secs = after as f64 / 1000.0;
            let because = match open.is_moment {
                true => format!("it did not happen again for {secs} s"),
                false => format!("not {word} for {secs} s"),
            };
            self.close(rule, Some(key), open, last, last + after, &because, desk);
        }
        let late: Vec<usize> = (0..self.orphans.len()).filter(|n| now > self.orphans[*n].1).rev().collect();
        for number in late {
            let (open, until) = self.orphans.remove(number);
            let last = open.last;
            self.close(rule, None, open, last, until, "not seen again after the stream was interrupted", desk);
        }
        self.cooling.retain(|_, (until, _)| *until > now);
    }

    /// Nothing more comes.
    pub(super) fn close_all(&mut self, rule: &Rule, now: At, because: &str, desk: &mut Desk<'_>) {
        for (key, open) in std::mem::take(&mut self.open) {
            let last = open.last;
            self.close(rule, Some(key), open, last, now, because, desk);
        }
        for (open, _) in std::mem::take(&mut self.orphans) {
            let last = open.last;
            self.close(rule, None, open, last, now, because, desk);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one alert's end, told whole")]
    fn close(
        &mut self,
        rule: &Rule,
        key: Option<Key>,
        mut open: Open,
        until: At,
        at: At,
        because: &str,
        desk: &mut Desk<'_>,
    ) {
        if rule.cooldown() > 0 {
            let (cools_until, class) = (until + rule.cooldown(), open.class.clone());
            match key.or((!self.is_by_object).then_some(Key::Stream)) {
                Some(key) => drop(self.cooling.insert(key, (cools_until, class))),
                None => self.cools_unknown(class, Until::At(cools_until)),
            }
            self.closed.push(open.carried(rule, desk.timeline.time(until).at));
            let n_old = self.closed.len().saturating_sub(MOST_CARRIED);
            self.closed.drain(..n_old);
        }
        open.revision += 1;
        let event = open.event(rule, AlertState::Closed, at, Some((until, because)), desk);
        desk.out.push(event);
    }
}

/// The end of an alert that was open when the stream was taken over, and whose rule nobody has any more.
pub(super) fn bury(carried: &Carried, at: At, because: &str, desk: &mut Desk<'_>) {
    let rule: Arc<str> = carried.rule.as_str().into();
    let severity = carried.severity.as_deref();
    let severity = Severity::ALL.into_iter().find(|known| Some(known.as_str()) == severity);
    let revision = next_run(carried.revision);
    let since = AlertTime { pts: None, at: carried.since_ms.and_then(timestamp) };
    let until = desk.timeline.time(at);
    let alert = Alert {
        alert: carried.alert.clone(),
        revision,
        state: AlertState::Closed,
        rule,
        severity: severity.unwrap_or(Severity::Warning),
        summary: carried.summary.clone(),
        since,
        until: Some(AlertTime { at: until.at.max(since.at), ..until }),
        closed_because: Some(because.to_owned()),
        evidence: Evidence::default(),
        silenced: None,
    };
    let (pts, captured) = desk.timeline.stamp(at);
    desk.out.push(Event {
        id: format!("{}-{revision}", carried.alert),
        stream: Arc::clone(desk.stream),
        session: desk.timeline.session().clone(),
        pts,
        captured,
        body: Body::Alert(Box::new(alert)),
    });
}

/// Whoever had it before may have told more than it reported: no id is given twice.
const fn next_run(revision: u32) -> u32 {
    (revision / JUMP + 1) * JUMP
}

impl Open {
    fn carried(&self, rule: &Rule, until: Option<Timestamp>) -> Carried {
        Carried {
            alert: self.alert.clone(),
            rule: rule.name.to_string(),
            revision: self.revision,
            since_ms: self.since.at.map(Timestamp::as_millisecond),
            until_ms: until.map(Timestamp::as_millisecond),
            class: self.class.clone(),
            summary: self.summary.clone(),
            severity: Some(rule.settings.severity.as_str().to_owned()),
        }
    }

    fn take(&mut self, finding: &Finding) {
        for object in &finding.objects {
            if let Some(track) = object.track {
                // What a stream's alert is about changes from frame to frame; that is no news by itself.
                self.has_news |= self.tracks.insert(track) && (self.objects.is_empty() || finding.key != Key::Stream);
            }
        }
        if !finding.objects.is_empty() {
            self.objects = finding.objects.iter().take(MOST_EVIDENCE).cloned().collect();
        }
        for word in &finding.words {
            if self.words.len() < MOST_EVIDENCE && !self.words.iter().any(|known| known.start == word.start) {
                self.words.push(word.clone());
                self.has_news = true;
            }
        }
    }

    fn event(&self, rule: &Rule, state: AlertState, at: At, end: Option<(At, &str)>, desk: &Desk<'_>) -> Event {
        let timeline = desk.timeline;
        let session = timeline.session();
        let since = match &self.session {
            Some(began_in) if began_in == session => self.since,
            _ => AlertTime { pts: None, ..self.since },
        };
        let mut tracks: Vec<u64> = self.tracks.iter().rev().take(MOST_EVIDENCE).copied().collect();
        tracks.reverse();
        let evidence = Evidence {
            tracks,
            objects: self.objects.clone(),
            words: self.words.clone(),
            shapes: rule.shapes.to_vec(),
            snapshot: None,
            clip: None,
        };
        let alert = Alert {
            alert: self.alert.clone(),
            revision: self.revision,
            state,
            rule: Arc::clone(&rule.name),
            severity: rule.settings.severity,
            summary: self.summary.clone(),
            since,
            until: end
                .map(|(until, _)| timeline.time(until))
                .map(|until| AlertTime { at: until.at.max(since.at), ..until }),
            closed_because: end.map(|(_, because)| because.to_owned()),
            evidence,
            silenced: None,
        };
        let (pts, captured) = timeline.stamp(at);
        Event {
            id: format!("{}-{}", self.alert, self.revision),
            stream: Arc::clone(desk.stream),
            session: session.clone(),
            pts,
            captured,
            body: Body::Alert(Box::new(alert)),
        }
    }
}

fn timestamp(ms: i64) -> Option<Timestamp> {
    Timestamp::from_millisecond(ms).ok()
}

/// The summary of a rule that says none, by what its condition found.
pub(super) fn usual_summary(detail: &Detail, what: &str) -> String {
    match detail {
        Detail { phrase: Some(_), term: Some(_), .. } => "\"{phrase}\" was said ({term})".into(),
        Detail { phrase: Some(_), .. } => "\"{phrase}\" was said".into(),
        Detail { what: Some(what), .. } => what.clone(),
        Detail { direction: Some(_), .. } => "{class} crossed {direction}".into(),
        Detail { count: Some(_), .. } => "{count} there".into(),
        Detail { class: Some(_), .. } => format!("{{class}} {what}"),
        _ => what.to_owned(),
    }
}

/// The shapes of conditions, for those who draw.
pub(super) fn shapes(points: impl Iterator<Item = (Vec<[f32; 2]>, bool)>, name: &Arc<str>) -> Arc<[Shape]> {
    points.map(|(points, is_closed)| Shape { name: Some(Arc::clone(name)), points: points.into(), is_closed }).collect()
}
