//! Rules: what of that which is seen and heard somebody is to be told of, and the life of what they are told.
//!
//! A state machine over one stream's events, without threads, I/O or clock: time is the stream's own. So the same events
//! give the same alerts, live or years later. Every frame, word and state of the stream goes through [`Rules::observe`];
//! what comes back are events of their own. Rules may be exchanged while the stream goes on ([`Rules::exchange`]).
//!
//! | part | knows |
//! |---|---|
//! | `config` | what a rule says, and what cannot be meant |
//! | `leaf` | single conditions: what each finds in a frame, in a word |
//! | `finding` | what a condition finds, and how often before it is believed |
//! | `life` | alerts: opened, updated, closed; cooldown; what was open before a restart |
//! | `exchange` | other rules while the stream goes on |
//! | `tracks` | who is who, when a track is lost and found |
//! | `timeline` | the clock that goes on over sessions |
//! | `phrase`, `geometry`, `schedule`, `expression` | words, polygons, hours, CEL |

#[cfg(test)]
mod changes;
pub mod config;
mod exchange;
mod expression;
mod finding;
mod geometry;
mod leaf;
mod life;
mod phrase;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod samples;
pub mod schedule;
#[cfg(test)]
mod tests;
mod timeline;
mod tracks;
mod watch;

use std::{collections::BTreeMap, sync::Arc};

use base::{
    event::{Body, Event, Shape, StreamState},
    media::StreamInfo,
    time::Pts,
};

use self::{
    config::{Condition, RuleError, Settings},
    expression::{Expression, Scene},
    finding::{Detail, Nearly},
    leaf::{Leaf, millis},
    life::Desk,
    phrase::Memory,
    schedule::Hours,
    timeline::Timeline,
    tracks::Identities,
    watch::Watch,
};
pub use self::{finding::NearMiss, life::Carried};

/// Milliseconds on the engine's clock.
type At = i64;

/// What is heard is known so much later than what is seen, at most: frames tell the time to rules that only listen, this
/// much late.
const HEARD_LATER: At = 10_000;
/// Near misses that are kept until somebody asks.
const MOST_NEAR: usize = 1000;

/// A rule, checked: shared by all streams that it is for.
#[derive(Debug)]
pub struct Rule {
    name: Arc<str>,
    settings: Settings,
    hours: Option<Hours>,
    only_if: Option<Expression>,
    shapes: Arc<[Shape]>,
    looks: bool,
    listens: bool,
    /// What its objects do, in a word of its summary.
    what: &'static str,
}

impl Rule {
    /// # Errors
    /// Everything that is wrong with it, by key.
    pub fn new(name: &str, settings: Settings) -> Result<Self, Vec<RuleError>> {
        let mut wrong = settings.check().err().unwrap_or_default();
        let mut keep = |e: RuleError| wrong.push(e);
        let hours = settings.schedule.as_ref().map(Hours::read).transpose().map_err(&mut keep).ok().flatten();
        let only_if = settings.only_if.as_deref().map(|text| Expression::compile("only_if", text));
        let only_if = only_if.transpose().map_err(&mut keep).ok().flatten();
        let (mut looks, mut listens) = (false, false);
        for (key, condition) in settings.when.keys().iter().zip(settings.when.parts()) {
            match Leaf::new(key, condition) {
                Ok(leaf) => {
                    looks |= leaf.looks();
                    listens |= leaf.listens();
                }
                Err(e) => keep(e),
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let name: Arc<str> = name.into();
        let shapes = life::shapes(settings.when.parts().iter().filter_map(shape_of), &name);
        let what = match &settings.when {
            Condition::InZone { .. } => "in the zone",
            Condition::Appeared { .. } => "appeared",
            Condition::Disappeared { .. } => "disappeared",
            Condition::Stopped { .. } => "does not move",
            Condition::Speech { present: true, .. } => "somebody speaks",
            Condition::Speech { present: false, .. } => "nobody speaks",
            Condition::All { .. } => "all of it together",
            _ => "it is so",
        };
        Ok(Self { name, settings, hours, only_if, shapes, looks, listens, what })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it says.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The zones and lines that it speaks of, for those who draw.
    pub fn shapes(&self) -> &[Shape] {
        &self.shapes
    }

    /// Both find the same: what is open of one goes on with the other.
    fn finds_the_same(&self, other: &Self) -> bool {
        let (one, two) = (&self.settings, &other.settings);
        (&one.when, one.confirm, one.per) == (&two.when, two.confirm, two.per)
    }

    /// It finds moments, not what lasts.
    const fn is_momentary(&self) -> bool {
        matches!(self.settings.when, Condition::Crosses { .. } | Condition::Said { .. } | Condition::All { .. })
    }

    fn close_after(&self) -> At {
        millis(self.settings.close_after_secs)
    }

    fn cooldown(&self) -> At {
        millis(self.settings.cooldown_secs)
    }

    fn update_every(&self) -> At {
        millis(self.settings.update_every_secs)
    }

    fn summary(&self, stream: &StreamInfo, detail: &Detail, lasted: At) -> String {
        let usual;
        let text = match &self.settings.summary {
            Some(text) => text,
            None => {
                usual = life::usual_summary(detail, self.what);
                &usual
            }
        };
        let count = detail.count.map(|n| n.to_string());
        let secs = format!("{:.0}", lasted.max(0) as f64 / 1000.0);
        [
            ("{class}", detail.class.as_deref().unwrap_or("something")),
            ("{count}", count.as_deref().unwrap_or("")),
            ("{phrase}", detail.phrase.as_deref().unwrap_or("")),
            ("{term}", detail.term.as_deref().unwrap_or("")),
            ("{direction}", detail.direction.unwrap_or("")),
            ("{secs}", &secs),
            ("{stream}", stream.name.as_str()),
        ]
        .into_iter()
        .fold(text.clone(), |text, (place, value)| text.replace(place, value))
    }
}

fn shape_of(condition: &Condition) -> Option<(Vec<[f32; 2]>, bool)> {
    match condition {
        Condition::InZone { zone, .. }
        | Condition::Count { zone: Some(zone), .. }
        | Condition::Appeared { zone: Some(zone), .. }
        | Condition::Disappeared { zone: Some(zone), .. }
        | Condition::Stopped { zone: Some(zone), .. } => Some((zone.clone(), true)),
        Condition::Crosses { line, .. } => Some((line.clone(), false)),
        _ => None,
    }
}

/// The rules of one stream.
pub struct Rules {
    stream: Arc<StreamInfo>,
    watches: Vec<Watch>,
    /// Open when the stream was taken over, and their rules are gone: closed once there is a session to say so in.
    forsaken: Vec<Carried>,
    /// How many alerts of rules that are gone were opened in this session: their ids are taken.
    opened: BTreeMap<Arc<str>, u64>,
    timeline: Timeline,
    people: Identities,
    words: Memory,
    /// How far frames and sound have come.
    seen_until: Option<At>,
    heard_until: Option<At>,
    explains: bool,
    near: Vec<NearMiss>,
    /// Frames that came after later ones.
    n_late: u64,
}

impl Rules {
    /// The rules of a stream; `carried` is what an earlier run of it left.
    pub fn new(stream: Arc<StreamInfo>, rules: &[Arc<Rule>], carried: &[Carried]) -> Self {
        let watches = rules.iter().map(|rule| Watch::new(rule, carried, 0)).collect();
        let is_forsaken =
            |carried: &&Carried| carried.until_ms.is_none() && !rules.iter().any(|rule| carried.rule == *rule.name);
        Self {
            stream,
            watches,
            forsaken: carried.iter().filter(is_forsaken).cloned().collect(),
            opened: BTreeMap::new(),
            timeline: Timeline::new(),
            people: Identities::default(),
            words: Memory::default(),
            seen_until: None,
            heard_until: None,
            explains: false,
            near: Vec::new(),
            n_late: 0,
        }
    }

    /// Near misses are kept from now on, for [`Self::near_misses`].
    pub const fn explain(&mut self) {
        self.explains = true;
    }

    /// The near misses since the last call.
    pub fn near_misses(&mut self) -> Vec<NearMiss> {
        std::mem::take(&mut self.near)
    }

    /// Frames that came after later ones, and were not looked at.
    pub const fn n_late(&self) -> u64 {
        self.n_late
    }

    /// Whether there is anything to do at all.
    pub fn is_empty(&self) -> bool {
        self.watches.is_empty() && self.forsaken.is_empty()
    }

    /// Takes in one event of the stream; gives the alerts that come of it, as events to be published after it.
    pub fn observe(&mut self, event: &Event) -> Vec<Event> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut out = Vec::new();
        match &event.body {
            Body::Detections(seen) => {
                self.enter(event);
                let at = self.timeline.at(event.pts);
                if self.seen_until.is_some_and(|until| at <= until) {
                    self.n_late += 1;
                    return out;
                }
                self.seen_until = Some(at);
                let mut people = std::mem::take(&mut self.people);
                let things = people.of_frame(at, seen);
                self.each(at, Scene::of(event), &mut out, |watch, near| watch.look(at, event, &things, near));
                self.people = people;
            }
            Body::Transcript(transcript) => {
                self.enter(event);
                let span = (self.timeline.at(transcript.start), self.timeline.at(transcript.end));
                for word in self.words.new_words(&event.session, &transcript.segment, &transcript.words) {
                    self.words.push(word);
                    let at = self.timeline.at(word.end);
                    let words = std::mem::take(&mut self.words);
                    self.each(at, Scene::of(event), &mut out, |watch, near| watch.hear(at, &words, near));
                    self.words = words;
                }
                if !transcript.words.is_empty() {
                    self.heard_until = self.heard_until.max(Some(span.1));
                    self.each(span.1, Scene::of(event), &mut out, |watch, near| watch.listen(span, event, near));
                }
            }
            Body::Status(status) => {
                if status.state == StreamState::Playing {
                    self.enter(event);
                }
                self.begin(event);
                let at = self.timeline.newest;
                self.each(at, Scene::of(event), &mut out, |watch, _| watch.status(at, status));
                if matches!(status.state, StreamState::Ended | StreamState::Failed) {
                    // Everything was heard as well.
                    self.heard_until = self.heard_until.max(self.seen_until);
                    self.expire(&mut out);
                    self.close_all(&format!("the stream has {}", status.state.as_str()), &mut out);
                }
            }
            Body::Gap(gap) => {
                self.begin(event);
                let at = self.timeline.newest;
                self.each(at, Scene::of(event), &mut out, |watch, _| watch.gap(at, gap));
            }
            Body::Caption(_) | Body::Alert(_) => return out,
        }
        self.expire(&mut out);
        out
    }

    /// What somebody is to know who takes the stream over now.
    pub fn carried(&self) -> Vec<Carried> {
        let of_rules = self.watches.iter().flat_map(|watch| self.carried_of(watch));
        of_rules.chain(self.forsaken.iter().cloned()).collect()
    }

    /// Sound was listened to up to a stream time of the session that plays, whether or not anybody spoke.
    pub fn listened_until(&mut self, pts: Pts) -> Vec<Event> {
        let mut out = Vec::new();
        if self.is_empty() || !self.timeline.is_begun() {
            return out;
        }
        let at = self.timeline.at(pts);
        self.heard_until = self.heard_until.max(Some(at));
        let stream = Arc::clone(&self.stream);
        let captured = self.timeline.captured(at).map(|captured| captured.at);
        let scene = Scene { stream: &stream, captured, body: None };
        self.each(at, scene, &mut out, |watch, _| watch.heard_until(at));
        self.expire(&mut out);
        out
    }

    /// Lets every rule look at something, and opens and goes on with what it finds.
    fn each(
        &mut self,
        at: At,
        scene: Scene<'_>,
        out: &mut Vec<Event>,
        mut look: impl FnMut(&mut Watch, &mut Vec<Nearly>),
    ) {
        for watch in &mut self.watches {
            let mut near = Vec::new();
            look(watch, &mut near);
            let mut desk = Desk { stream: &self.stream, timeline: &self.timeline, out };
            watch.settle(at, &scene, &mut near, &mut desk);
            if self.explains {
                let when = self.timeline.time(at);
                for Nearly { why, objects, words, seen_at } in near {
                    if self.near.len() < MOST_NEAR {
                        let (rule, seen) = (Arc::clone(&watch.rule.name), seen_at.map(|at| self.timeline.time(at)));
                        self.near.push(NearMiss { rule, why, objects, words, when, seen: seen.unwrap_or(when) });
                    }
                }
            }
        }
    }

    fn close_all(&mut self, because: &str, out: &mut Vec<Event>) {
        let at = self.timeline.newest;
        for watch in self.watches.iter_mut().filter(|watch| !watch.is_in_trouble()) {
            let mut desk = Desk { stream: &self.stream, timeline: &self.timeline, out };
            watch.book.close_all(&watch.rule, at, because, &mut desk);
        }
    }

    /// The stream is detached for good: nothing will close what is open any more.
    pub fn finish(&mut self, because: &str) -> Vec<Event> {
        let mut out = Vec::new();
        self.bury(&mut out);
        let at = self.timeline.newest;
        for watch in &mut self.watches {
            let mut desk = Desk { stream: &self.stream, timeline: &self.timeline, out: &mut out };
            watch.book.close_all(&watch.rule, at, because, &mut desk);
        }
        out
    }

    /// What comes before the first media belongs to a session too.
    fn begin(&mut self, event: &Event) {
        if !self.timeline.is_begun() {
            self.enter(event);
        }
    }

    fn enter(&mut self, event: &Event) {
        let was_begun = self.seen_until.is_some() || self.heard_until.is_some();
        if self.timeline.enter(&event.session, event.pts, event.captured) {
            let at = self.timeline.newest;
            self.people.restart();
            (self.seen_until, self.heard_until) = (None, None);
            self.opened.clear();
            for watch in &mut self.watches {
                watch.restart(at, was_begun);
            }
        }
    }

    fn expire(&mut self, out: &mut Vec<Event>) {
        self.bury(out);
        let heard = self.heard_until.max(self.seen_until.map(|at| at - HEARD_LATER));
        for watch in &mut self.watches {
            let now = if watch.rule.looks || !watch.rule.listens { self.seen_until.or(heard) } else { heard };
            let Some(now) = now else { continue };
            let keep = watch.is_in_trouble();
            let mut desk = Desk { stream: &self.stream, timeline: &self.timeline, out };
            watch.book.expire(&watch.rule, now, keep, &mut desk);
        }
    }
}
