//! Single conditions: what each of them finds in a frame, in a word, in a stream's state. Keep what they need to remember.

use std::collections::{BTreeMap, VecDeque};

use base::{
    event::{Event, Gap, Status, StreamState, TrackedObject, Word},
    time::Pts,
};

use super::{
    At,
    config::{Condition, Direction, Objects, Points, RuleError, Trouble},
    expression::{Expression, Scene},
    finding::{Finding, Key, Nearly},
    geometry::{self, Point},
    phrase::{Memory, NearlyHeard, Phrases},
    tracks::Thing,
};

/// What is not seen for so long inside a zone has left it, as far as its time there is concerned.
const UNSEEN: At = 2000;
/// Over how long frames are counted.
const RATE_OVER: At = 10_000;

/// One condition at work on one stream.
pub(super) struct Leaf {
    wanted: Objects,
    zone: Option<Points>,
    kind: Kind,
}

enum Kind {
    InZone {
        for_ms: At,
        margin: f32,
        inside: BTreeMap<u64, Stay>,
    },
    Crosses {
        line: [Point; 2],
        direction: Direction,
        margin: f32,
        sides: BTreeMap<u64, (Point, At)>,
    },
    Count {
        over: Option<u32>,
        under: Option<u32>,
        for_ms: At,
        since: Option<At>,
        last: At,
    },
    Appeared,
    Disappeared {
        for_ms: At,
        seen_at: Option<At>,
        last: Vec<TrackedObject>,
        n_seen: u32,
    },
    Stopped {
        for_ms: At,
        within: f32,
        rests: BTreeMap<u64, Rest>,
    },
    Said {
        phrases: Phrases,
    },
    Speech {
        present: bool,
        for_ms: At,
        said: Option<(At, At)>,
        begun: Option<At>,
    },
    Health {
        of: Vec<Trouble>,
        least_fps: f32,
        frames: VecDeque<At>,
        begun: Option<At>,
        trouble: Option<At>,
        recovered: Option<At>,
    },
    Expression(Expression),
}

struct Stay {
    since: At,
    seen_at: At,
    object: TrackedObject,
}

struct Rest {
    at: Point,
    since: At,
    seen_at: At,
}

/// Seconds as the engine counts.
pub(super) fn millis(secs: f32) -> At {
    (f64::from(secs) * 1000.0).round() as At
}

fn seconds(ms: At) -> f64 {
    ms as f64 / 1000.0
}

impl Leaf {
    /// `at` is its key, for messages.
    pub(super) fn new(at: &str, condition: &Condition) -> Result<Self, RuleError> {
        let mut leaf = Self { wanted: Objects::default(), zone: None, kind: Kind::Appeared };
        leaf.kind = match condition.clone() {
            Condition::InZone { zone, objects, for_secs, margin } => {
                (leaf.wanted, leaf.zone) = (objects, Some(zone));
                Kind::InZone { for_ms: millis(for_secs), margin, inside: BTreeMap::new() }
            }
            Condition::Crosses { line, direction, objects, margin } => {
                leaf.wanted = objects;
                let line = [line.first(), line.last()].map(|end| end.copied().unwrap_or_default());
                Kind::Crosses { line, direction, margin, sides: BTreeMap::new() }
            }
            Condition::Count { zone, objects, over, under, for_secs } => {
                (leaf.wanted, leaf.zone) = (objects, zone);
                Kind::Count { over, under, for_ms: millis(for_secs), since: None, last: 0 }
            }
            Condition::Appeared { zone, objects } => {
                (leaf.wanted, leaf.zone) = (objects, zone);
                Kind::Appeared
            }
            Condition::Disappeared { zone, objects, for_secs } => {
                (leaf.wanted, leaf.zone) = (objects, zone);
                Kind::Disappeared { for_ms: millis(for_secs), seen_at: None, last: Vec::new(), n_seen: 0 }
            }
            Condition::Stopped { zone, objects, for_secs, within } => {
                (leaf.wanted, leaf.zone) = (objects, zone);
                Kind::Stopped { for_ms: millis(for_secs), within, rests: BTreeMap::new() }
            }
            Condition::Said { phrases, terms, matching, negated, min_confidence } => {
                Kind::Said { phrases: Phrases::new(&phrases, &terms, (matching, negated, min_confidence)) }
            }
            Condition::Speech { present, for_secs } => {
                Kind::Speech { present, for_ms: millis(for_secs), said: None, begun: None }
            }
            Condition::Health { of, least_fps } => {
                Kind::Health { of, least_fps, frames: VecDeque::new(), begun: None, trouble: None, recovered: None }
            }
            Condition::Expression { expression } => {
                Kind::Expression(Expression::compile(&format!("{at}.expression"), &expression)?)
            }
            Condition::All { .. } => return Err(RuleError::new(at, "an `all` within an `all`")),
        };
        Ok(leaf)
    }

    /// It is about pictures, and frames tell it the time.
    pub(super) fn looks(&self) -> bool {
        !matches!(self.kind, Kind::Said { .. } | Kind::Speech { .. } | Kind::Health { .. })
    }

    /// It is about sound.
    pub(super) fn listens(&self) -> bool {
        matches!(self.kind, Kind::Said { .. } | Kind::Speech { .. })
    }

    /// Each object has a finding of its own.
    pub(super) fn is_about_objects(&self) -> bool {
        matches!(self.kind, Kind::InZone { .. } | Kind::Crosses { .. } | Kind::Appeared | Kind::Stopped { .. })
    }

    /// Ids of objects begin anew, and what happened meanwhile is not known.
    pub(super) fn restart(&mut self, at: At) {
        match &mut self.kind {
            Kind::InZone { inside, .. } => inside.clear(),
            Kind::Crosses { sides, .. } => sides.clear(),
            Kind::Stopped { rests, .. } => rests.clear(),
            Kind::Count { since, .. } => *since = None,
            Kind::Disappeared { seen_at: Some(seen_at), .. } => *seen_at = at,
            Kind::Health { frames, begun, .. } => {
                frames.clear();
                *begun = None;
            }
            Kind::Speech { begun, .. } => *begun = None,
            _ => {}
        }
    }

    /// One analysed frame.
    pub(super) fn look(&mut self, at: At, event: &Event, things: &[Thing<'_>], near: &mut Vec<Nearly>) -> Vec<Finding> {
        let (wanted, zone) = (&self.wanted, &self.zone);
        let is_there = |thing: &&Thing<'_>| {
            thing.fits(wanted)
                && zone.as_ref().is_none_or(|zone| geometry::is_inside(zone, thing.anchor(wanted.anchor)))
        };
        let fitting = things.iter().filter(|thing| thing.fits(wanted));
        let mut found = Vec::new();
        match &mut self.kind {
            Kind::InZone { for_ms, margin, inside } => {
                let zone = zone.as_deref().unwrap_or_default();
                let mut is_anybody_in = false;
                for thing in fitting {
                    let point = thing.anchor(wanted.anchor);
                    let who = thing.who.unwrap_or(0);
                    let is_in = match inside.get(&who) {
                        Some(_) => geometry::is_near(zone, point, *margin),
                        None => geometry::is_inside(zone, point),
                    };
                    if !is_in {
                        // Without tracks nobody knows who it is: it is empty when nobody is there.
                        if thing.who.is_some() {
                            left(inside.remove(&who), at, *for_ms, near);
                        }
                        continue;
                    }
                    is_anybody_in |= thing.who.is_none();
                    let stay = inside.entry(who).or_insert_with(|| Stay {
                        since: at,
                        seen_at: at,
                        object: thing.object.clone(),
                    });
                    (stay.seen_at, stay.object) = (at, thing.object.clone());
                    if at - stay.since >= *for_ms {
                        found.push(Finding::lasting(key_of(thing), stay.since).of(thing.object));
                    }
                }
                if !is_anybody_in && things.iter().any(|thing| thing.who.is_none()) {
                    left(inside.remove(&0), at, *for_ms, near);
                }
                let gone: Vec<u64> =
                    inside.iter().filter(|(_, stay)| at - stay.seen_at > UNSEEN).map(|(who, _)| *who).collect();
                for who in gone {
                    left(inside.remove(&who), at - UNSEEN, *for_ms, near);
                }
            }
            Kind::Crosses { line: [a, b], direction, margin, sides } => {
                for thing in fitting {
                    let Some(who) = thing.who else { continue };
                    let point = thing.anchor(wanted.anchor);
                    let off = geometry::right_of(*a, *b, point);
                    if off.abs() < *margin {
                        continue;
                    }
                    let Some((before, _)) = sides.insert(who, (point, at)) else { continue };
                    let was_off = geometry::right_of(*a, *b, before);
                    if (was_off > 0.0) == (off > 0.0) || !geometry::crosses(before, point, *a, *b) {
                        continue;
                    }
                    let way = if off > 0.0 { Direction::ToRight } else { Direction::ToLeft };
                    let word = if off > 0.0 { "to the right" } else { "to the left" };
                    if *direction != Direction::Any && *direction != way {
                        near.push(Nearly::new(format!("crossed {word}"), Some(thing.object)));
                        continue;
                    }
                    let mut finding = Finding::moment(Key::Way(who, off > 0.0), at).of(thing.object);
                    finding.detail.direction = Some(word);
                    found.push(finding);
                }
                sides.retain(|_, (_, seen_at)| at - *seen_at < 60_000);
            }
            Kind::Count { over, under, for_ms, since, last } => {
                let here: Vec<&Thing<'_>> = things.iter().filter(is_there).collect();
                let n = here.len();
                let is_true =
                    over.is_some_and(|over| n > over as usize) || under.is_some_and(|under| n < under as usize);
                if is_true {
                    *last = at;
                    let since = *since.get_or_insert(at);
                    if at - since >= *for_ms {
                        let mut finding = Finding::lasting(Key::Stream, since);
                        finding = here.iter().fold(finding, |finding, thing| finding.of(thing.object));
                        finding.detail.count = Some(n);
                        found.push(finding);
                    }
                } else if let Some(begun) = *since
                    && at - *last > 1000
                {
                    // A single frame that says otherwise does not end it.
                    if *last - begun < *for_ms {
                        let why = format!(
                            "it was so for {:.1} s; {:.1} s are needed (`for_secs`)",
                            seconds(*last - begun),
                            seconds(*for_ms)
                        );
                        near.push(Nearly::new(why, None));
                    }
                    *since = None;
                }
            }
            Kind::Appeared => {
                let finding = |thing: &Thing<'_>| Finding::lasting(key_of(thing), at).of(thing.object);
                found.extend(things.iter().filter(is_there).map(finding));
            }
            Kind::Disappeared { for_ms, seen_at, last, n_seen } => {
                let here: Vec<TrackedObject> =
                    things.iter().filter(is_there).map(|thing| thing.object.clone()).collect();
                if here.is_empty() {
                    if let Some(seen) = seen_at.filter(|seen| *n_seen > 1 && at - *seen >= *for_ms) {
                        let mut finding = Finding::lasting(Key::Stream, seen);
                        finding = last.iter().fold(finding, |finding, object| finding.of(object));
                        found.push(finding);
                    }
                } else {
                    let away = seen_at.map_or(0, |seen| at - seen);
                    if away > 1000 && away < *for_ms && *n_seen > 1 {
                        let (away, needed) = (seconds(away), seconds(*for_ms));
                        let why = format!("away for {away:.1} s; {needed:.1} s are needed (`for_secs`)");
                        near.push(Nearly::new(why, here.first()));
                    }
                    *n_seen = if seen_at.is_some() { n_seen.saturating_add(1) } else { 1 };
                    (*seen_at, *last) = (Some(at), here);
                }
            }
            Kind::Stopped { for_ms, within, rests } => {
                for thing in things.iter().filter(is_there) {
                    let Some(who) = thing.who else { continue };
                    let point = thing.anchor(wanted.anchor);
                    let rest = rests.entry(who).or_insert(Rest { at: point, since: at, seen_at: at });
                    let moved = (point[0] - rest.at[0]).hypot(point[1] - rest.at[1]);
                    if moved > *within * thing.height().max(0.01) {
                        let stayed = at - rest.since;
                        if stayed > *for_ms / 2 && stayed < *for_ms {
                            let (stayed, needed) = (seconds(stayed), seconds(*for_ms));
                            let why = format!("stood for {stayed:.1} s; {needed:.1} s are needed (`for_secs`)");
                            near.push(Nearly::new(why, Some(thing.object)));
                        }
                        (rest.at, rest.since) = (point, at);
                    }
                    rest.seen_at = at;
                    if at - rest.since >= *for_ms {
                        found.push(Finding::lasting(Key::Who(who), rest.since).of(thing.object));
                    }
                }
                rests.retain(|_, rest| at - rest.seen_at <= UNSEEN);
            }
            Kind::Expression(expression) => found.extend(told(expression, at, event, near)),
            Kind::Health { of, least_fps, frames, begun, recovered, .. } => {
                // Until here it was in trouble.
                found.extend(recovered.take().map(|since| Finding::lasting(Key::Stream, since)));
                if !of.contains(&Trouble::Lagging) {
                    return found;
                }
                let begun = *begun.get_or_insert(at);
                frames.push_back(at);
                while frames.front().is_some_and(|first| at - *first > RATE_OVER) {
                    frames.pop_front();
                }
                let fps = frames.len() as f32 * 1000.0 / RATE_OVER as f32;
                if at - begun >= RATE_OVER && fps < *least_fps {
                    let mut finding = Finding::moment(Key::Stream, at);
                    finding.detail.what = Some(format!("{fps:.1} frames a second are analysed"));
                    found.push(finding);
                }
            }
            Kind::Said { .. } | Kind::Speech { .. } => {}
        }
        found
    }

    /// One more stable word; `memory` ends with it.
    pub(super) fn hear(&mut self, at: At, memory: &Memory, near: &mut Vec<Nearly>) -> Vec<Finding> {
        let Kind::Said { phrases } = &self.kind else { return Vec::new() };
        let mut nearly = Vec::new();
        let heard = phrases.hear(memory, &mut nearly);
        near.extend(nearly.into_iter().map(|NearlyHeard { words, why }| Nearly { words, ..Nearly::new(why, None) }));
        let finding = |heard: super::phrase::Heard| {
            let spoken = span(&heard.words);
            let mut finding = Finding::moment(Key::Stream, at - spoken);
            finding.words = heard.words;
            (finding.detail.phrase, finding.detail.term) = (Some(heard.phrase), heard.term);
            finding
        };
        heard.into_iter().map(finding).collect()
    }

    /// A revision of a transcript: its speech lasts from `from` to `to`.
    pub(super) fn listen(&mut self, (from, to): (At, At), event: &Event, near: &mut Vec<Nearly>) -> Vec<Finding> {
        match &mut self.kind {
            Kind::Speech { present, for_ms, said, .. } => {
                // Pauses for breath are speech.
                let since = said.filter(|(_, until)| from - until < 1500).map_or(from, |(since, _)| since.min(from));
                let until = said.map_or(to, |(_, until)| until.max(to));
                *said = Some((since, until));
                let is_long = until - since >= *for_ms;
                if *present && is_long { vec![Finding::lasting(Key::Stream, since)] } else { Vec::new() }
            }
            Kind::Expression(expression) => told(expression, to, event, near),
            _ => Vec::new(),
        }
    }

    /// Sound was listened to up to here.
    pub(super) fn heard_until(&mut self, at: At) -> Vec<Finding> {
        let Kind::Speech { present: false, for_ms, said, begun } = &mut self.kind else { return Vec::new() };
        let since = (*begun.get_or_insert(at)).max(said.map_or(At::MIN, |(_, until)| until));
        if at - since >= *for_ms { vec![Finding::lasting(Key::Stream, since)] } else { Vec::new() }
    }

    /// The stream's own state has changed.
    pub(super) fn status(&mut self, at: At, status: &Status) -> Vec<Finding> {
        let Kind::Health { of, trouble, recovered, .. } = &mut self.kind else { return Vec::new() };
        let (what, word) = match status.state {
            StreamState::Interrupted => (Trouble::Interrupted, "interrupted"),
            StreamState::Failed => (Trouble::Failed, "failed"),
            StreamState::Playing | StreamState::Ended | StreamState::Stopped => {
                *recovered = trouble.take().or(*recovered);
                return Vec::new();
            }
        };
        if !of.contains(&what) {
            return Vec::new();
        }
        let detail = status.detail.as_deref().map_or_else(|| word.to_owned(), |detail| format!("{word}: {detail}"));
        let since = *trouble.get_or_insert(at);
        let mut finding = Finding::lasting(Key::Stream, since);
        finding.detail.what = Some(detail);
        vec![finding]
    }

    /// Something is wrong, and stays so until the stream says otherwise.
    pub(super) fn is_in_trouble(&self) -> bool {
        matches!(&self.kind, Kind::Health { trouble: Some(_), .. } | Kind::Health { recovered: Some(_), .. })
    }

    pub(super) fn gap(&mut self, at: At, gap: &Gap) -> Vec<Finding> {
        let Kind::Health { of, .. } = &self.kind else { return Vec::new() };
        if !of.contains(&Trouble::Gap) {
            return Vec::new();
        }
        let secs = gap.to.since(gap.from).as_secs_f64();
        let mut finding = Finding::moment(Key::Stream, at);
        finding.detail.what = Some(format!("{secs:.1} s were not analysed ({})", gap.reason.as_str()));
        vec![finding]
    }
}

fn key_of(thing: &Thing<'_>) -> Key {
    thing.who.map_or(Key::Stream, Key::Who)
}

/// It has left a zone; if it was there for too short a time, that is told.
fn left(stay: Option<Stay>, at: At, for_ms: At, near: &mut Vec<Nearly>) {
    if let Some(stay) = stay.filter(|stay| (1..for_ms).contains(&(at - stay.since))) {
        let (stayed, needed) = (seconds(at - stay.since), seconds(for_ms));
        let why = format!("in the zone for {stayed:.1} s; {needed:.1} s are needed (`for_secs`)");
        near.push(Nearly { seen_at: Some(stay.seen_at), ..Nearly::new(why, Some(&stay.object)) });
    }
}

fn told(expression: &Expression, at: At, event: &Event, near: &mut Vec<Nearly>) -> Vec<Finding> {
    match expression.holds(&Scene::of(event), None) {
        Ok(true) => vec![Finding::lasting(Key::Stream, at)],
        Ok(false) => Vec::new(),
        Err(why) => {
            near.push(Nearly::new(format!("the expression {why}"), None));
            Vec::new()
        }
    }
}

/// How long the words took to be said.
fn span(words: &[Word]) -> At {
    let (first, last) = (words.first().map_or(Pts::ZERO, |w| w.start), words.last().map_or(Pts::ZERO, |w| w.end));
    At::try_from(last.since(first).as_millis()).unwrap_or(0)
}
