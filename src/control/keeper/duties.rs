//! What one worker does for all, the one that has lease 0: it evens out load and forgets who has gone. And what each does in its
//! own leases: it takes away what is left of streams that have moved. Part of the state machine.

use std::{collections::BTreeMap, time::Duration};

use sinks::control::Post;

use super::{
    Keeper,
    placement::{self, Move},
    wishes::Errand,
};
use crate::control::attachment::Stored;

/// Nothing is moved before leases have stayed where they are for so long.
const SETTLED: Duration = Duration::from_secs(10);
/// From one move to the next.
const BETWEEN_MOVES: Duration = Duration::from_secs(5);
/// A move that has not come to its end after this time is left as it is.
const MOVE_WITHIN: Duration = Duration::from_secs(20);
/// How often is tidied up.
const TIDY_EVERY: Duration = Duration::from_secs(1);
/// A text that does not hold is left so long, so that everybody has seen what does; one that leads nowhere longer.
const STAYS: Duration = Duration::from_secs(5);
const LEADS_NOWHERE: Duration = Duration::from_secs(30);
/// A worker that has been silent for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// A report of a stream that nobody has attached is forgotten after so long.
const UNATTACHED: Duration = Duration::from_secs(20);

/// The state of the duties.
#[derive(Default)]
pub(super) struct Duties {
    /// When leases last went from one to another.
    unsettled_at: Duration,
    moving: Option<Moving>,
    moved_at: Duration,
    tidied_at: Duration,
    /// Since when texts are known that do not hold.
    idle_texts: BTreeMap<(u32, String), Duration>,
    /// Since when reports are known of streams that are not attached.
    idle_reports: BTreeMap<String, Duration>,
}

/// A stream on its way to another lease.
struct Moving {
    to_do: Move,
    stored: Stored,
    since: Duration,
    step: Step,
}

/// How far it is.
#[derive(Clone, Copy, PartialEq)]
enum Step {
    /// The new text is on its way to the new lease.
    Writing,
    /// The old one is being marked.
    Marking,
    /// The new worker is to report.
    Settling,
}

impl Duties {
    pub(super) fn unsettled(&mut self, now: Duration) {
        self.unsettled_at = now;
    }

    /// A stream is on its way to another lease.
    #[cfg(test)]
    pub(super) fn is_moving(&self) -> bool {
        self.moving.is_some()
    }

    /// A text was written anew: it is not idle, or not for long.
    pub(super) fn forget(&mut self, lease: u32, name: &str) {
        if !self.idle_texts.is_empty() {
            self.idle_texts.remove(&(lease, name.to_owned()));
        }
        self.idle_reports.remove(name);
    }
}

impl Keeper {
    pub(super) fn settle_duties(&mut self) {
        if !self.caught_up || self.is_held() || self.leaving.is_some() {
            return;
        }
        let now = self.now.mono;
        let is_first = self.leads();
        if now.saturating_sub(self.duties.tidied_at) >= TIDY_EVERY {
            self.duties.tidied_at = now;
            self.tidy_texts();
            self.tidy_reports(is_first);
            if is_first {
                self.tidy_workers();
            }
        }
        self.follow_move();
        let is_settled = now.saturating_sub(self.duties.unsettled_at) >= SETTLED;
        let is_due = now.saturating_sub(self.duties.moved_at) >= BETWEEN_MOVES;
        if is_first && is_settled && is_due && self.duties.moving.is_none() {
            self.duties.moved_at = now;
            self.begin_move();
        }
    }

    fn begin_move(&mut self) {
        let Some(to_do) = placement::next_move(&self.seats(), &self.burdens(), self.me.n_leases) else { return };
        if self.is_overlaid(&to_do.name) {
            return;
        }
        let Some(stored) = self.book.text(&to_do.name, to_do.from).cloned() else { return };
        tracing::info!(stream = to_do.name, from = to_do.from, to = to_do.to, "moves to another worker");
        // The revision stays: whoever changes the stream meanwhile, where it was, goes before the move.
        self.post_attachment(Errand::Move, to_do.to, &to_do.name, Some(&stored));
        self.duties.moving = Some(Moving { to_do, stored, since: self.now.mono, step: Step::Writing });
    }

    /// One of the two texts of a move is written, or not.
    pub(super) fn move_posted(&mut self, is_written: bool) {
        let Some(mut moving) = self.duties.moving.take() else { return };
        let Move { name, from, to } = &moving.to_do;
        // Changed, detached or moved by somebody else: then it stays as it is.
        let is_same = self.book.text(name, *from) == Some(&moving.stored);
        moving.step = match moving.step {
            Step::Writing if is_written && is_same => {
                let mark = Stored { moved_to: Some(*to), ..moving.stored.clone() };
                self.post_attachment(Errand::Move, *from, name, Some(&mark));
                Step::Marking
            }
            Step::Writing if is_written && self.book.entry(name).is_none_or(|e| e.leases().all(|l| l == *to)) => {
                // It was detached while it moved: the new text must not attach it again.
                self.erase(*to, name, moving.stored.rank());
                return;
            }
            Step::Marking if is_written => Step::Settling,
            _ => return,
        };
        self.duties.moving = Some(moving);
    }

    fn follow_move(&mut self) {
        let now = self.now.mono;
        let Some(moving) = &self.duties.moving else { return };
        let claimed = self.leases.get(moving.to_do.to as usize).and_then(|lease| lease.newest.as_ref());
        let has_come = moving.step == Step::Settling
            && claimed.is_some_and(|claim| {
                let report = self.reports.get(&moving.to_do.name);
                report.is_some_and(|r| r.worker == claim.worker && matches!(r.state.as_str(), "playing" | "ended"))
            });
        if has_come || now.saturating_sub(moving.since) >= MOVE_WITHIN {
            self.duties.moving = None;
            self.duties.moved_at = now;
        }
    }

    /// The mark of a move was written over something that its writer had not seen: a change, which is made where the stream is
    /// now, or a detachment, which takes the mark and the new text away as well.
    pub(super) fn repair(&mut self, lease: u32, name: &str, before: Option<Stored>, now: Option<&Stored>) {
        let Some((now, to)) = now.and_then(|now| Some((now, now.moved_to?))) else { return };
        let is_ours = self.caught_up && self.leases.first().is_some_and(|first| first.epoch().is_some());
        if !is_ours || lease == to {
            return;
        }
        match before {
            Some(before) if before.moved_to.is_none() && before.rank() > now.rank() => {
                let stored = Stored { revision: before.revision + 1, ..before };
                self.post_attachment(Errand::Other, to, name, Some(&stored));
            }
            Some(_) => {}
            None => {
                self.erase(to, name, now.rank());
                self.erase(lease, name, now.rank());
            }
        }
    }

    /// Takes away texts in our leases that do not hold, once nobody needs them any more.
    fn tidy_texts(&mut self) {
        let now = self.now.mono;
        let mut idle = BTreeMap::new();
        for lease in self.granted_leases() {
            for name in self.book.names_in(lease) {
                let place = self.book.place(name).map(|(place, _)| place);
                if place != Some(lease) && self.runs.get(name).is_none_or(|run| run.lease != Some(lease)) {
                    let key = (lease, name.clone());
                    let since = self.duties.idle_texts.get(&key).copied().unwrap_or(now);
                    let stays = if place.is_some() { STAYS } else { LEADS_NOWHERE };
                    idle.insert(key, (since, stays));
                }
            }
        }
        self.duties.idle_texts = idle.iter().map(|(key, (since, _))| (key.clone(), *since)).collect();
        for ((lease, name), (since, stays)) in idle {
            if now.saturating_sub(since) >= stays {
                self.duties.idle_texts.insert((lease, name.clone()), now);
                self.post_attachment(Errand::Other, lease, &name, None);
            }
        }
    }

    /// Those of all workers, or our own: nobody else may have heard of them.
    fn tidy_reports(&mut self, of_all: bool) {
        let now = self.now.mono;
        let idle: Vec<String> = self
            .reports
            .iter()
            .filter(|(_, report)| of_all || report.worker == self.me.worker)
            .map(|(name, _)| name)
            .filter(|name| self.book.entry(name).is_none() && !self.runs.contains_key(*name) && !self.is_overlaid(name))
            .cloned()
            .collect();
        self.duties.idle_reports.retain(|name, _| idle.contains(name));
        for name in idle {
            let since = *self.duties.idle_reports.entry(name.clone()).or_insert(now);
            if now.saturating_sub(since) >= UNATTACHED {
                self.duties.idle_reports.remove(&name);
                self.forget_report(&name);
            }
        }
    }

    fn tidy_workers(&mut self) {
        let now = self.now.mono;
        let gone = self.peers.iter().filter(|(_, peer)| now.saturating_sub(peer.seen_at) >= FORGOTTEN);
        let gone: Vec<String> = gone.map(|(id, _)| id.clone()).filter(|id| *id != self.me.worker).collect();
        for id in gone {
            self.peers.remove(&id);
            self.post(Errand::Other, Post::Worker { id, text: None });
        }
    }
}
