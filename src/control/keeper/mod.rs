//! The keeper: which streams this worker runs, under which epoch, and what it tells others. A state machine without I/O,
//! threads or clock: [`Keeper::step`] is given what has happened and gives back what is to be done; [`thread`] does it.
//!
//! | part | decides |
//! |---|---|
//! | `book` | which text about a stream holds |
//! | `leases` | which leases are ours, when to claim, what claims of others mean; the hold after a freeze |
//! | `runs` | which stream starts, stays and stops |
//! | `reports` | what is told about streams and workers, and shown on the board |
//! | `wishes` | what is written for whoever asks |
//! | `duties` | what one worker does for all: evening out, tidying up |
//! | `placement` | where a stream goes |

mod book;
mod duties;
mod leases;
pub mod placement;
mod reports;
pub mod resolve;
mod run;
mod runs;
pub mod thread;
mod wishes;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use base::{media::StreamName, time::Timestamp};
use inference::rules::Rule;
use sinks::control::{News, Post};

use self::{
    book::Book,
    duties::Duties,
    leases::{Hold, Lease},
    reports::Peer,
    resolve::Resolve,
    run::{Fixed, Run},
    wishes::{Erasure, Errand, Overlay, Removal, Waiting},
};
use super::{
    attachment::{Attachment, Origin, Stored},
    desk::{Granted, Listed, Refused, Wish, WorkerListed},
    report::{Announcement, Report},
    stage::{Earlier, Start, StreamReading},
};
use crate::config::CheckedStream;

/// Who the keeper keeps for.
#[derive(Debug, Clone)]
pub struct Me {
    /// The worker's id, for people and reports. No two workers at a time should have the same.
    pub worker: String,
    /// What its claims say: the id, `#`, and something that no other process has, so that two processes that were given one id
    /// do not take each other's claims for their own.
    pub claimant: String,
    /// Weight that it can take, next to other workers.
    pub capacity: f32,
    /// Address of its HTTP service for others, if any.
    pub address: Option<String>,
    /// Version of the program.
    pub version: String,
    /// Leases of the plane, as far as it is known by now; 0 without one.
    pub n_leases: u32,
    /// How long the plane waits for a silent worker before it gives its leases to others; none where there are no others.
    pub session_timeout: Option<Duration>,
}

/// A stream of the configuration file: always run by this process.
pub struct FixedStream {
    /// The name of its profile.
    pub profile: String,
    /// What to run.
    pub stream: CheckedStream,
}

/// Now, by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Never goes backwards: every wait is counted by it.
    pub mono: Duration,
    /// For what others read.
    pub wall: Timestamp,
}

/// What has happened.
#[derive(Debug)]
pub enum Input {
    /// In the plane.
    News(News),
    /// Somebody wishes; answered with this id.
    Wish {
        /// Of the answer.
        id: u64,
        /// What.
        wish: Wish,
        /// Whose.
        origin: Origin,
    },
    /// How all streams are that the stage has, read after all that was to be done was done.
    Readings(Vec<StreamReading>),
    /// The stage refused to start a stream.
    NotStarted {
        /// Its name.
        name: StreamName,
        /// Why.
        detail: String,
    },
    /// The plane has so many leases.
    Leases(u32),
    /// This process was frozen for so long that others may have its leases.
    Woke,
    /// Profiles or secrets have changed: everything is resolved anew.
    Profiles,
    /// This worker is to hand over its streams and end.
    Leave {
        /// So long streams are waited for to be gone; and before that, if it is not longer than a hand-over takes, for
        /// successors.
        grace: Duration,
    },
}

/// What is to be done, in this order.
pub enum Action {
    /// Write in the plane.
    Post {
        /// For [`News::Posted`].
        ticket: u64,
        /// What.
        post: Post,
    },
    /// Start a stream.
    Start(Box<Start>),
    /// A stream that has not played yet, or only just now, is told of something newer to go on from.
    Earlier {
        /// Its name.
        name: StreamName,
        /// What.
        earlier: Earlier,
    },
    /// A stream goes on with other rules.
    Rules {
        /// Its name.
        name: StreamName,
        /// All that it has now.
        rules: Vec<Arc<Rule>>,
    },
    /// A stream that is let go next is detached.
    Detached(StreamName),
    /// Let a stream go.
    Stop(StreamName),
    /// Give back all leases.
    Leave,
    /// Close the fence, or open it.
    Hold(bool),
    /// Answer a wish.
    Answer {
        /// Its id.
        id: u64,
        /// The answer.
        answer: Result<Granted, Refused>,
    },
    /// Show a stream on the board; none takes it off.
    Show {
        /// Its name.
        name: String,
        /// How it is.
        listed: Option<Box<Listed>>,
    },
    /// Show a worker on the board; none takes it off.
    ShowWorker {
        /// Its id.
        id: String,
        /// How it is.
        listed: Option<WorkerListed>,
    },
    /// Show what stands in the way.
    ShowTrouble(Option<String>),
}

/// The state machine.
pub struct Keeper {
    me: Me,
    resolver: Box<dyn Resolve>,
    now: Moment,
    out: Vec<Action>,
    caught_up: bool,
    trouble: Option<String>,
    hold: Hold,
    book: Book,
    leases: Vec<Lease>,
    reports: BTreeMap<String, Report>,
    /// Streams whose last record is of an earlier epoch than one read before, and when that is to be set right.
    late: BTreeMap<String, Duration>,
    peers: BTreeMap<String, Peer>,
    fixed: BTreeMap<String, Fixed>,
    runs: BTreeMap<String, Run>,
    errands: BTreeMap<u64, Errand>,
    next_ticket: u64,
    overlays: BTreeMap<String, Overlay>,
    waiting: VecDeque<Waiting>,
    removals: BTreeMap<u64, Removal>,
    erasures: Vec<Erasure>,
    last_born: u64,
    announced: Option<(Duration, Announcement)>,
    duties: Duties,
    leaving: Option<Leaving>,
    grace: Duration,
    is_busy: bool,
}

/// How far the leave-taking has come.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Leaving {
    /// Successors are waited for, until then.
    HandingOver(Duration),
    /// Every stream is told to stop, and is waited for, until then.
    Stopping(Duration),
    /// Every stream is gone; what is on its way to the plane is waited for, until then.
    Closing(Duration),
    /// The announcement is being withdrawn, until then.
    Withdrawing(Duration),
    /// There is nothing left to do.
    Done,
}

/// What is on its way to the plane at the end gets so long, twice.
const LAST_WORDS: Duration = Duration::from_secs(2);

impl Keeper {
    /// Nothing read, nothing running; streams of the configuration start with the first step.
    pub fn new(me: Me, fixed: Vec<FixedStream>, resolver: Box<dyn Resolve>, now: Moment) -> Self {
        let n_leases = me.n_leases;
        let fixed = fixed.into_iter().map(|fixed| (fixed.stream.name.to_string(), Fixed::new(fixed))).collect();
        Self {
            me,
            resolver,
            now,
            out: Vec::new(),
            caught_up: false,
            trouble: None,
            hold: Hold::Open,
            book: Book::new(n_leases),
            leases: (0..n_leases).map(|_| Lease::default()).collect(),
            reports: BTreeMap::new(),
            late: BTreeMap::new(),
            peers: BTreeMap::new(),
            fixed,
            runs: BTreeMap::new(),
            errands: BTreeMap::new(),
            next_ticket: 1,
            overlays: BTreeMap::new(),
            waiting: VecDeque::new(),
            removals: BTreeMap::new(),
            erasures: Vec::new(),
            last_born: 0,
            announced: None,
            duties: Duties::default(),
            leaving: None,
            grace: Duration::ZERO,
            is_busy: false,
        }
    }

    /// Takes in what has happened, and says what is to be done now. Also to be called when nothing has happened: time has.
    pub fn step(&mut self, now: Moment, inputs: impl IntoIterator<Item = Input>) -> Vec<Action> {
        self.now = now;
        for input in inputs {
            self.take(input);
        }
        self.release_hold();
        self.settle_runs();
        self.settle_claims();
        self.settle_reports();
        self.settle_wishes();
        self.settle_duties();
        self.settle_leave();
        std::mem::take(&mut self.out)
    }

    /// See [`Resolve::generation`].
    fn generation(&self) -> u64 {
        self.resolver.generation()
    }

    /// There is more to do at once: the next step should not wait.
    pub fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// It has lease 0, and knows all that is attached: it does what one worker does for all.
    pub fn leads(&self) -> bool {
        self.caught_up
            && !self.is_held()
            && self.leaving.is_none()
            && self.leases.first().is_some_and(|l| l.epoch().is_some())
    }

    /// All streams of the configuration have ended or failed.
    pub fn fixed_are_over(&self) -> bool {
        self.fixed.values().all(|fixed| fixed.is_started())
            && self.runs.values().filter(|run| run.lease.is_none()).all(Run::is_over)
    }

    /// It leaves, and every stream that is still there was told to stop.
    pub fn is_stopping(&self) -> bool {
        self.leaving.is_some_and(|leaving| !matches!(leaving, Leaving::HandingOver(_)))
    }

    /// It has left, and what it had to say is said.
    pub fn has_left(&self) -> bool {
        self.leaving == Some(Leaving::Done)
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::News(news) => self.take_news(news),
            Input::Wish { id, wish, origin } => self.take_wish(id, wish, origin),
            Input::Readings(readings) => self.take_readings(readings),
            Input::NotStarted { name, detail } => self.not_started(&name, detail),
            Input::Leases(n_leases) => self.set_leases(n_leases),
            Input::Woke => self.woke(),
            Input::Profiles => self.profiles_changed(),
            Input::Leave { grace } => {
                if self.leaving.is_none() {
                    self.grace = grace;
                    self.leaving = Some(Leaving::HandingOver(self.now.mono + grace.min(runs::HAND_OVER)));
                    self.out.push(Action::Leave);
                }
            }
        }
    }

    fn take_news(&mut self, news: News) {
        match news {
            News::CaughtUp => self.caught_up = true,
            News::Attachment { lease, name, text } => self.read_attachment(lease, &name, text.as_deref()),
            News::Checkpoint { name, text } => self.read_report(&name, text.as_deref()),
            News::Worker { id, text, at_ms } => self.read_worker(id, text.as_deref(), at_ms),
            News::Claimed { lease, worker, epoch } => self.read_claim(lease, &worker, epoch),
            News::Granted { leases } => self.granted(&leases),
            News::Revoked { leases, lost } => self.revoked(&leases, lost),
            News::Posted { ticket, outcome } => self.posted(ticket, outcome),
            News::Trouble(trouble) => {
                self.trouble.clone_from(&trouble);
                self.out.push(Action::ShowTrouble(trouble));
            }
        }
    }

    fn read_attachment(&mut self, lease: u32, name: &str, text: Option<&str>) {
        let Ok(checked_name) = StreamName::new(name) else {
            tracing::warn!(lease, "an attachment under a name that is none: {name:?}");
            return;
        };
        let stored = text.and_then(|text| {
            let parsed = serde_json::from_str::<Stored>(text);
            parsed.map_err(|e| tracing::error!(stream = name, "an attachment that cannot be read: {e}")).ok()
        });
        self.overlay_read(lease, name, stored.as_ref());
        self.duties.forget(lease, name);
        let before = self.book.write(lease, name, stored.clone());
        self.repair(lease, name, before, stored.as_ref());
        if self.book.entry(name).is_none() {
            // Who may still run it forgets its checkpoint once it is gone.
            self.show(name);
            return;
        }
        self.profile_of(checked_name.as_str());
        self.show(name);
    }

    /// Finds out the profile's name of a stream anew.
    fn profile_of(&mut self, name: &str) {
        let profile = self.book.place(name).map(|(_, stored)| self.resolver.profile(name, &stored.attachment));
        if let (Some(profile), Some(entry)) = (profile, self.book.entry_mut(name)) {
            entry.profile = profile;
        }
    }

    fn profiles_changed(&mut self) {
        let names: Vec<String> = self.book.names().cloned().collect();
        for name in &names {
            self.profile_of(name);
            self.show(name);
        }
        for run in self.runs.values_mut() {
            run.is_stale = true;
        }
    }

    /// Hands a post to the plane.
    fn post(&mut self, errand: Errand, post: Post) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.errands.insert(ticket, errand);
        self.out.push(Action::Post { ticket, post });
        ticket
    }

    fn post_attachment(&mut self, errand: Errand, lease: u32, name: &str, stored: Option<&Stored>) -> u64 {
        let text = stored.map(|stored| serde_json::to_string(stored).unwrap_or_default());
        self.post(errand, Post::Attachment { lease, name: name.to_owned(), text })
    }

    fn settle_leave(&mut self) {
        let Some(leaving) = self.leaving else { return };
        let now = self.now.mono;
        let all_gone = self.runs.values().all(|run| !run.is_on_stage());
        let next = match leaving {
            Leaving::HandingOver(_) if all_gone => Leaving::Closing(now + LAST_WORDS),
            Leaving::HandingOver(until) if now >= until || self.others().next().is_none() => {
                Leaving::Stopping(now + self.grace)
            }
            Leaving::Stopping(until) if all_gone || now >= until => Leaving::Closing(now + LAST_WORDS),
            Leaving::Closing(until) if self.errands.is_empty() || now >= until => {
                if self.announced.take().is_none() {
                    self.refuse_all();
                    Leaving::Done
                } else {
                    let id = self.me.worker.clone();
                    self.post(Errand::Other, Post::Worker { id, text: None });
                    Leaving::Withdrawing(now + LAST_WORDS)
                }
            }
            Leaving::Withdrawing(until) if self.errands.is_empty() || now >= until => {
                self.refuse_all();
                Leaving::Done
            }
            same => same,
        };
        self.is_busy |= next != leaving;
        self.leaving = Some(next);
    }
}

/// As it is shown: a stream of the configuration may have a password in its URL.
fn shown_attachment(profile: &str, stream: &CheckedStream) -> Attachment {
    Attachment {
        url: stream.url.to_string(),
        credentials: None,
        profile: Some(profile.to_owned()),
        tags: stream.tags.clone(),
        weight: 1.0,
        source: stream.source.clone(),
        rules: BTreeMap::new(),
    }
}

fn millis(at: Timestamp) -> i64 {
    at.as_millisecond()
}

#[cfg(test)]
mod sim;
