//! One rule at work on one stream: its conditions, what they found, and whether that may open an alert.

use std::{collections::VecDeque, sync::Arc};

use base::event::{Event, Gap, Status};

use super::{
    At, Rule,
    config::{Condition, Per},
    expression::Scene,
    finding::{Confirmer, Finding, Key, Nearly},
    leaf::{Leaf, millis},
    life::{Book, Carried, Desk},
    phrase::Memory,
    tracks::Thing,
};

/// What is heard is known later than what is seen at the same time: findings are kept so much longer than they are needed.
const KNOWN_LATER: At = 15_000;
/// Findings of one condition that are kept.
const MOST_FOUND: usize = 256;

/// One condition of a rule.
struct Part {
    leaf: Leaf,
    confirmer: Confirmer,
    /// In this event.
    found: Vec<Finding>,
    /// Of conditions that must come together: when each thing was found last.
    lately: VecDeque<(Finding, At)>,
}

/// A rule at work on a stream.
pub(super) struct Watch {
    pub(super) rule: Arc<Rule>,
    pub(super) book: Book,
    parts: Vec<Part>,
    /// All parts must be true within so long of each other.
    within: Option<At>,
    per: Per,
    /// Did not open, when last: told once while it goes on.
    refused: Vec<(Key, At)>,
}

impl Watch {
    /// `carried` is what an earlier run of the stream left; so many of its alerts (`n_opened`) were opened in this one.
    pub(super) fn new(rule: &Arc<Rule>, carried: &[Carried], n_opened: u64) -> Self {
        let within = match &rule.settings.when {
            Condition::All { within_secs, .. } => Some(millis(*within_secs)),
            _ => None,
        };
        let part = |condition: &Condition| {
            // It was made once before, when the rule was checked.
            let leaf = Leaf::new("when", condition).ok()?;
            Some(Part { leaf, confirmer: Confirmer::default(), found: Vec::new(), lately: VecDeque::new() })
        };
        let parts: Vec<Part> = rule.settings.when.parts().iter().filter_map(part).collect();
        let is_about_objects = within.is_none() && parts.iter().all(|part| part.leaf.is_about_objects());
        let per = rule.settings.per.unwrap_or(if is_about_objects { Per::Track } else { Per::Stream });
        let mut book = Book::new(per == Per::Track, n_opened);
        carried.iter().filter(|carried| carried.rule == *rule.name).for_each(|carried| book.carry(rule, carried));
        Self { rule: Arc::clone(rule), book, parts, within, per, refused: Vec::new() }
    }

    /// A session begins; `again`: after another one.
    pub(super) fn restart(&mut self, at: At, again: bool) {
        if again {
            for part in &mut self.parts {
                part.leaf.restart(at);
                part.confirmer.restart();
            }
        }
        self.book.restart(&self.rule, at);
    }

    pub(super) fn look(&mut self, at: At, event: &Event, things: &[Thing<'_>], near: &mut Vec<Nearly>) {
        for part in &mut self.parts {
            let found = part.leaf.look(at, event, things, near);
            if part.leaf.looks() {
                part.found = part.confirmer.sift(at, self.rule.settings.confirm, found, near);
            } else {
                part.found = found;
            }
        }
    }

    pub(super) fn hear(&mut self, at: At, words: &Memory, near: &mut Vec<Nearly>) {
        self.parts.iter_mut().for_each(|part| part.found = part.leaf.hear(at, words, near));
    }

    pub(super) fn listen(&mut self, span: (At, At), event: &Event, near: &mut Vec<Nearly>) {
        self.parts.iter_mut().for_each(|part| part.found = part.leaf.listen(span, event, near));
    }

    pub(super) fn heard_until(&mut self, at: At) {
        self.parts.iter_mut().for_each(|part| part.found = part.leaf.heard_until(at));
    }

    pub(super) fn status(&mut self, at: At, status: &Status) {
        self.parts.iter_mut().for_each(|part| part.found = part.leaf.status(at, status));
    }

    pub(super) fn gap(&mut self, at: At, gap: &Gap) {
        self.parts.iter_mut().for_each(|part| part.found = part.leaf.gap(at, gap));
    }

    /// Something is wrong with the stream itself, and stays so until it says otherwise.
    pub(super) fn is_in_trouble(&self) -> bool {
        self.parts.iter().any(|part| part.leaf.is_in_trouble())
    }

    /// Opens, and goes on with, what was found.
    pub(super) fn settle(&mut self, at: At, scene: &Scene<'_>, near: &mut Vec<Nearly>, desk: &mut Desk<'_>) {
        let findings = match self.within {
            None => self.parts.iter_mut().flat_map(|part| std::mem::take(&mut part.found)).collect(),
            Some(within) => self.together(at, within).into_iter().collect(),
        };
        let findings = if self.per == Per::Stream { merged(findings) } else { findings };
        for finding in findings {
            self.book.outdate(&self.rule, &finding, desk);
            self.book.recognize(&finding, at, desk.timeline);
            match self.refusal(at, &finding, scene, desk) {
                None => self.book.found(&self.rule, at, &finding, desk),
                Some(why) => self.refuse(at, &finding, why, near),
            }
        }
    }

    /// Why a finding may not open an alert, or not go on with one.
    fn refusal(&self, at: At, finding: &Finding, scene: &Scene<'_>, desk: &Desk<'_>) -> Option<String> {
        if let (Some(hours), Some(wall)) = (&self.rule.hours, scene.captured)
            && !hours.holds(wall)
        {
            return Some("outside of its `schedule`".into());
        }
        if self.book.is_open(finding.key) {
            return None;
        }
        if let Some(until) = self.book.cools_until(finding.key, at, desk.timeline) {
            let secs = (until - at) as f64 / 1000.0;
            return Some(format!("over only just now: it may open again in {secs:.1} s (`cooldown_secs`)"));
        }
        let only_if = self.rule.only_if.as_ref()?;
        match only_if.holds(scene, finding.objects.first()) {
            Ok(true) => None,
            Ok(false) => Some("`only_if` is false".into()),
            Err(why) => Some(format!("`only_if` {why}")),
        }
    }

    fn refuse(&mut self, at: At, finding: &Finding, why: String, near: &mut Vec<Nearly>) {
        let again_after = self.rule.close_after();
        let known = self.refused.iter_mut().find(|(key, _)| *key == finding.key);
        let is_new = match known {
            Some((_, last)) => at - std::mem::replace(last, at) > again_after,
            None => {
                self.refused.retain(|(_, last)| at - *last <= again_after);
                self.refused.push((finding.key, at));
                true
            }
        };
        if is_new {
            near.push(Nearly { why, objects: finding.objects.clone(), words: finding.words.clone(), seen_at: None });
        }
    }

    /// One finding where every part has one, all within so long of each other.
    fn together(&mut self, at: At, within: At) -> Option<Finding> {
        let mut newest: Option<(usize, Finding, At)> = None;
        for (number, part) in self.parts.iter_mut().enumerate() {
            part.lately.retain(|(_, last)| at - *last <= within + KNOWN_LATER);
            for finding in std::mem::take(&mut part.found) {
                // A moment is when it happened; what lasts is true until now.
                let end = if finding.lasts { at } else { finding.since.max(at) };
                part.lately.retain(|(known, _)| !(known.lasts && finding.lasts && known.key == finding.key));
                if part.lately.len() == MOST_FOUND {
                    part.lately.pop_front();
                }
                part.lately.push_back((finding.clone(), end));
                newest = Some((number, finding, end));
            }
        }
        let (number, newest, end) = newest?;
        let mut all: Vec<(Finding, At)> = vec![(newest.clone(), end)];
        for (other, part) in self.parts.iter().enumerate() {
            if other == number {
                continue;
            }
            let apart = |(finding, last): &&(Finding, At)| gap_between((finding.since, *last), (newest.since, end));
            let nearest = part.lately.iter().min_by_key(apart)?;
            if all.iter().any(|(known, last)| gap_between((known.since, *last), (nearest.0.since, nearest.1)) > within)
            {
                return None;
            }
            all.push(nearest.clone());
        }
        let mut whole = Finding::moment(Key::Stream, all.iter().map(|(finding, _)| finding.since).min()?);
        // In the order of the rule's own conditions would be nicer to read; in that of time it is the same every time.
        for (finding, _) in all {
            whole.objects.extend(finding.objects);
            whole.words.extend(finding.words);
            let (known, more) = (&mut whole.detail, finding.detail);
            known.class = known.class.take().or(more.class);
            known.count = known.count.or(more.count);
            known.phrase = known.phrase.take().or(more.phrase);
            known.term = known.term.take().or(more.term);
            known.direction = known.direction.or(more.direction);
        }
        Some(whole)
    }
}

/// How long it is from the end of one stretch to the begin of the other; nothing where they overlap.
fn gap_between(a: (At, At), b: (At, At)) -> At {
    (a.0.max(b.0) - a.1.min(b.1)).max(0)
}

/// One finding for the stream, whatever it is about.
fn merged(findings: Vec<Finding>) -> Vec<Finding> {
    let mut whole: Option<Finding> = None;
    for mut finding in findings {
        finding.key = Key::Stream;
        match &mut whole {
            None => whole = Some(finding),
            Some(whole) => {
                whole.since = whole.since.min(finding.since);
                whole.lasts |= finding.lasts;
                whole.objects.append(&mut finding.objects);
                whole.words.append(&mut finding.words);
            }
        }
    }
    whole.into_iter().collect()
}
