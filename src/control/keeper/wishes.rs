//! Wishes and what is written for them; what is on its way to the plane. Part of the state machine.

use std::time::Duration;

use sinks::control::Post;

use super::{
    Action, Keeper, millis,
    placement::{self, Burden},
};
use crate::control::{
    attachment::{Attachment, Origin, Stored},
    desk::{Granted, MOST_WAITING, Refused, Wish},
};

/// A wish is answered within this time, come what may.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// A text that could not be taken away is tried again after this time.
const ERASE_AGAIN_AFTER: Duration = Duration::from_millis(250);
/// What was written and acknowledged is expected to be read back within this time.
const READ_BACK_WITHIN: Duration = Duration::from_secs(10);

/// What a ticket is about.
pub(super) enum Errand {
    /// A wish, and perhaps others that are met by the same text.
    Wish { name: String, since: Duration, answers: Vec<(u64, Granted)> },
    /// What is left of a stream elsewhere is taken away, before the stream is: for the wish with this id.
    Clear(u64),
    /// A text that must not hold is taken away: again and again, until it is.
    Erase(Erasure),
    /// A claim of this lease.
    Claim(u32),
    /// A report of this stream.
    Report(String),
    /// How this worker is.
    Announcement,
    /// A stream is written to another lease, or said to have moved there.
    Move,
    /// Nobody waits for it.
    Other,
}

/// What was written and not read back: the next wish about the same stream builds on it.
pub(super) struct Overlay {
    ticket: u64,
    lease: u32,
    stored: Option<Stored>,
    is_written: bool,
    since: Duration,
}

/// A stream that is to be detached once nothing is left of it elsewhere: else that would hold again if only a part of it all
/// could be written.
pub(super) struct Removal {
    name: String,
    lease: u32,
    granted: Granted,
    /// Of the overlay.
    ticket: u64,
    since: Duration,
    n_left: usize,
    failed: Option<String>,
    is_answered: bool,
}

/// A text that is to be taken away, unless another one has come into its place.
#[derive(Clone)]
pub(super) struct Erasure {
    pub(super) lease: u32,
    pub(super) name: String,
    /// Of that text.
    pub(super) rank: (u64, u64),
    /// Not again before.
    pub(super) after: Duration,
}

/// A wish that waits until everything was read.
pub(super) struct Waiting {
    id: u64,
    wish: Wish,
    origin: Origin,
    since: Duration,
}

impl Keeper {
    pub(super) fn take_wish(&mut self, id: u64, wish: Wish, origin: Origin) {
        if self.me.n_leases == 0 {
            return self.refuse(id, Refused::Unavailable("this service keeps no attachments".into()));
        }
        if self.leaving.is_some() {
            return self.refuse(id, Refused::Unavailable("this worker is stopping: ask again in a moment".into()));
        }
        if self.caught_up {
            return self.meet(id, wish, origin);
        }
        if self.waiting.len() >= MOST_WAITING {
            return self.refuse(id, Refused::Unavailable("too many wishes are waiting: ask again in a moment".into()));
        }
        self.waiting.push_back(Waiting { id, wish, origin, since: self.now.mono });
    }

    fn meet(&mut self, id: u64, wish: Wish, origin: Origin) {
        let (Wish::Put { name, .. } | Wish::Patch { name, .. } | Wish::Remove { name }) = &wish;
        let name = name.clone();
        if self.fixed.contains_key(&name) {
            let what = format!("stream `{name}` is part of the configuration file: change it there");
            return self.refuse(id, Refused::Conflict(what));
        }
        let there = self.there(&name);
        if let Some((_, stored)) = &there
            && stored.origin != origin
        {
            return self.refuse(id, Refused::Conflict(format!("stream `{name}` was attached {}", by(stored.origin))));
        }
        match (wish, there) {
            (Wish::Put { attachment, .. }, None) => self.create(id, &name, *attachment, origin),
            (Wish::Put { attachment, .. }, Some((lease, stored))) => self.change(id, &name, lease, stored, *attachment),
            (Wish::Patch { .. } | Wish::Remove { .. }, None) => {
                self.refuse(id, Refused::Missing(format!("no stream `{name}` is attached")));
            }
            (Wish::Patch { patch, .. }, Some((lease, stored))) => {
                let mut attachment = stored.attachment.clone();
                patch.apply(&mut attachment);
                self.change(id, &name, lease, stored, attachment);
            }
            (Wish::Remove { .. }, Some((lease, stored))) => self.remove(id, &name, lease, &stored),
        }
    }

    /// What is attached under a name, with what was written and not yet read.
    fn there(&self, name: &str) -> Option<(u32, Stored)> {
        match self.overlays.get(name) {
            Some(overlay) => overlay.stored.clone().map(|stored| (overlay.lease, stored)),
            None => self.book.place(name).map(|(lease, stored)| (lease, stored.clone())),
        }
    }

    fn create(&mut self, id: u64, name: &str, attachment: Attachment, origin: Origin) {
        let lease = self.lease_for(attachment.weight);
        // Greater than whatever is left of an earlier stream of this name.
        let revision = self.book.entry(name).map_or(0, |entry| entry.revision()) + 1;
        // Later than whatever this worker has attached, or knows of it.
        let known = self.book.entry(name).map_or(0, |entry| entry.born()).max(self.last_born);
        self.last_born = millis(self.now.wall).unsigned_abs().max(known + 1);
        let stored = Stored {
            attachment,
            origin,
            born: self.last_born,
            revision,
            url_since: revision,
            after: self.greatest_epoch(lease),
            moved_to: None,
        };
        let granted = Granted { created: true, changed: true, revision };
        self.write(vec![(id, granted)], name, lease, Some(stored));
    }

    fn change(&mut self, id: u64, name: &str, lease: u32, stored: Stored, attachment: Attachment) {
        if stored.attachment == attachment {
            let granted = Granted { created: false, changed: false, revision: stored.revision };
            // It is so, but perhaps not for good yet.
            let ticket = self.overlays.get(name).filter(|o| !o.is_written).map(|overlay| overlay.ticket);
            match ticket.and_then(|ticket| self.errands.get_mut(&ticket)) {
                Some(Errand::Wish { answers, .. }) => answers.push((id, granted)),
                _ => self.out.push(Action::Answer { id, answer: Ok(granted) }),
            }
            return;
        }
        let revision = stored.revision + 1;
        let url_since = if stored.attachment.url == attachment.url { stored.url_since } else { revision };
        let stored = Stored { attachment, revision, url_since, ..stored };
        let granted = Granted { created: false, changed: true, revision };
        self.write(vec![(id, granted)], name, lease, Some(stored));
    }

    fn remove(&mut self, id: u64, name: &str, lease: u32, stored: &Stored) {
        let granted = Granted { created: false, changed: true, revision: stored.revision };
        // What else is left of it goes first, so that nothing of it holds again.
        let elsewhere = self.book.entry(name).into_iter().flat_map(|e| e.leases());
        let elsewhere: Vec<u32> = elsewhere.filter(|other| *other != lease).collect();
        let (name, since, n_left) = (name.to_owned(), self.now.mono, elsewhere.len());
        let mut ticket = 0;
        for other in elsewhere {
            ticket = self.post_attachment(Errand::Clear(id), other, &name, None);
        }
        if n_left == 0 {
            return self.take_away(vec![(id, granted)], &name, lease);
        }
        self.overlays.insert(name.clone(), Overlay { ticket, lease, stored: None, is_written: false, since });
        let removal = Removal { name, lease, granted, ticket, since, n_left, failed: None, is_answered: false };
        self.removals.insert(id, removal);
    }

    /// One of the texts that are left elsewhere is gone, or not.
    fn cleared(&mut self, id: u64, outcome: Result<(), String>) {
        let Some(removal) = self.removals.get_mut(&id) else { return };
        removal.n_left -= 1;
        removal.failed = removal.failed.take().or(outcome.err());
        if removal.n_left > 0 {
            return;
        }
        let Some(Removal { name, lease, granted, ticket, failed, is_answered, .. }) = self.removals.remove(&id) else {
            return;
        };
        let overlay = self.overlays.get(&name).filter(|overlay| overlay.ticket != ticket);
        // Attached anew meanwhile, in the same place.
        let is_replaced = overlay.is_some_and(|overlay| overlay.lease == lease && overlay.stored.is_some());
        let is_elsewhere = overlay.is_some() && !is_replaced;
        match failed {
            Some(cause) => {
                self.overlays.retain(|_, overlay| overlay.ticket != ticket);
                if !is_answered {
                    self.refuse(id, Refused::Unavailable(format!("it could not be written down: {cause}")));
                }
            }
            None if is_replaced => {
                if !is_answered {
                    self.out.push(Action::Answer { id, answer: Ok(granted) });
                }
            }
            None => {
                let answers = if is_answered { Vec::new() } else { vec![(id, granted)] };
                if is_elsewhere {
                    let errand = Errand::Wish { name: name.clone(), since: self.now.mono, answers };
                    self.post_attachment(errand, lease, &name, None);
                } else {
                    self.take_away(answers, &name, lease);
                }
            }
        }
    }

    fn take_away(&mut self, answers: Vec<(u64, Granted)>, name: &str, lease: u32) {
        self.write(answers, name, lease, None);
        if !self.runs.contains_key(name) {
            // Else once it is gone.
            self.post(Errand::Other, Post::Checkpoint { name: name.to_owned(), text: None });
        }
    }

    fn write(&mut self, answers: Vec<(u64, Granted)>, name: &str, lease: u32, stored: Option<Stored>) {
        let since = self.now.mono;
        let errand = Errand::Wish { name: name.to_owned(), since, answers };
        let ticket = self.post_attachment(errand, lease, name, stored.as_ref());
        self.overlays.insert(name.to_owned(), Overlay { ticket, lease, stored, is_written: false, since });
    }

    fn lease_for(&self, weight: f32) -> u32 {
        let overlaid = self.overlays.iter().filter_map(|(name, overlay)| {
            let stored = overlay.stored.as_ref()?;
            Some(Burden { name, lease: overlay.lease, weight: stored.attachment.weight })
        });
        let mut burdens = self.burdens();
        burdens.retain(|burden| !self.overlays.contains_key(burden.name));
        burdens.extend(overlaid);
        placement::place(&self.seats(), &burdens, self.me.n_leases, weight)
    }

    /// All streams with their weights.
    pub(super) fn burdens(&self) -> Vec<Burden<'_>> {
        let mut burdens = Vec::new();
        for name in self.book.names() {
            if let Some((lease, stored)) = self.book.place(name) {
                burdens.push(Burden { name, lease, weight: stored.attachment.weight });
            }
        }
        burdens
    }

    /// Something about a stream is written and not read back.
    pub(super) fn is_overlaid(&self, name: &str) -> bool {
        self.overlays.contains_key(name)
    }

    /// A text about a stream was read: if it is ours, the book has it now.
    pub(super) fn overlay_read(&mut self, lease: u32, name: &str, stored: Option<&Stored>) {
        if self.overlays.get(name).is_some_and(|o| o.lease == lease && o.stored.as_ref() == stored) {
            self.overlays.remove(name);
        }
    }

    pub(super) fn posted(&mut self, ticket: u64, outcome: Result<(), String>) {
        match self.errands.remove(&ticket) {
            Some(Errand::Wish { name, answers, .. }) => {
                match self.overlays.get_mut(&name).filter(|overlay| overlay.ticket == ticket) {
                    Some(overlay) if outcome.is_ok() => overlay.is_written = true,
                    Some(_) => drop(self.overlays.remove(&name)),
                    None => {}
                }
                for (id, granted) in answers {
                    let refused =
                        |cause: &String| Refused::Unavailable(format!("it could not be written down: {cause}"));
                    self.out.push(Action::Answer { id, answer: outcome.as_ref().map(|()| granted).map_err(refused) });
                }
            }
            Some(Errand::Clear(id)) => self.cleared(id, outcome),
            Some(Errand::Erase(erasure)) if outcome.is_err() => {
                self.erasures.push(Erasure { after: self.now.mono + ERASE_AGAIN_AFTER, ..erasure });
            }
            Some(Errand::Claim(lease)) if outcome.is_err() => self.claim_failed(lease),
            Some(Errand::Report(name)) => self.report_posted(&name, outcome.is_ok()),
            Some(Errand::Move) => self.move_posted(outcome.is_ok()),
            Some(Errand::Claim(_) | Errand::Announcement | Errand::Erase(_) | Errand::Other) | None => {}
        }
    }

    /// Takes a text away that must not hold.
    pub(super) fn erase(&mut self, lease: u32, name: &str, rank: (u64, u64)) {
        let erasure = Erasure { lease, name: name.to_owned(), rank, after: self.now.mono };
        self.post_attachment(Errand::Erase(erasure), lease, name, None);
    }

    fn settle_erasures(&mut self) {
        let now = self.now.mono;
        for erasure in std::mem::take(&mut self.erasures) {
            // Its text may not have been read yet.
            let is_replaced =
                self.book.text(&erasure.name, erasure.lease).is_some_and(|stored| stored.rank() > erasure.rank);
            match now < erasure.after {
                _ if is_replaced || self.is_overlaid(&erasure.name) => {}
                true => self.erasures.push(erasure),
                false => self.erase(erasure.lease, &erasure.name, erasure.rank),
            }
        }
    }

    pub(super) fn settle_wishes(&mut self) {
        let now = self.now.mono;
        self.settle_erasures();
        while self.caught_up
            && let Some(Waiting { id, wish, origin, .. }) = self.waiting.pop_front()
        {
            self.meet(id, wish, origin);
        }
        while self.waiting.front().is_some_and(|waiting| now.saturating_sub(waiting.since) >= ANSWER_WITHIN) {
            if let Some(waiting) = self.waiting.pop_front() {
                let what = self.in_the_way("what is attached could not be read yet");
                self.refuse(waiting.id, Refused::Unavailable(what));
            }
        }
        let mut late = Vec::new();
        for errand in self.errands.values_mut() {
            if let Errand::Wish { since, answers, .. } = errand
                && now.saturating_sub(*since) >= ANSWER_WITHIN
            {
                late.append(answers);
            }
        }
        let mut late: Vec<u64> = late.into_iter().map(|(id, _)| id).collect();
        for (id, removal) in &mut self.removals {
            if now.saturating_sub(removal.since) >= ANSWER_WITHIN && !std::mem::replace(&mut removal.is_answered, true)
            {
                late.push(*id);
            }
        }
        for id in late {
            let what = self.in_the_way("it was not written down in time, and may still be");
            self.refuse(id, Refused::Unavailable(what));
        }
        self.overlays.retain(|_, o| !o.is_written || now.saturating_sub(o.since) < READ_BACK_WITHIN);
    }

    /// The service ends: whoever still waits is told so.
    pub(super) fn refuse_all(&mut self) {
        let waiting = std::mem::take(&mut self.waiting).into_iter().map(|waiting| waiting.id);
        let mut ids: Vec<u64> = waiting.collect();
        let removals = std::mem::take(&mut self.removals);
        ids.extend(removals.into_iter().filter(|(_, removal)| !removal.is_answered).map(|(id, _)| id));
        for errand in std::mem::take(&mut self.errands).into_values() {
            if let Errand::Wish { answers, .. } = errand {
                ids.extend(answers.into_iter().map(|(id, _)| id));
            }
        }
        for id in ids {
            self.refuse(id, Refused::Unavailable("the service has stopped; it may still be written down".into()));
        }
    }

    fn in_the_way(&self, what: &str) -> String {
        match &self.trouble {
            Some(trouble) => format!("{what}: {trouble}"),
            None => what.to_owned(),
        }
    }

    fn refuse(&mut self, id: u64, refused: Refused) {
        self.out.push(Action::Answer { id, answer: Err(refused) });
    }
}

const fn by(origin: Origin) -> &'static str {
    match origin {
        Origin::Api => "by a request: change it by REST or on the command line",
        Origin::Folder => "by a file of the watched folder: change that file",
        Origin::Config => "by the configuration file: change it there",
    }
}
