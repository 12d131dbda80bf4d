//! A plane that many pretended workers share: logs, a group, and everything that can go wrong with both.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sinks::control::{News, Post};

use super::world::{Millis, Random};

/// Leases of the pretended plane.
pub(super) const N_LEASES: u32 = 4;
/// The group gives a silent member's leases to others after so long.
pub(super) const SESSION: Millis = 6000;
/// A post that could not be written for so long comes back.
const GIVES_UP: Millis = 10_000;

/// A record of some log.
#[derive(Clone)]
enum Record {
    Attachment { lease: u32, name: String, text: Option<String> },
    Checkpoint { name: String, text: Option<String> },
    Worker { id: String, text: Option<String> },
    Claim { lease: u32, worker: String },
}

/// What all workers share. Logs: one for each lease, then claims with workers, then checkpoints.
pub(super) struct Store {
    logs: Vec<Vec<(Millis, Record)>>,
    owners: Vec<Option<usize>>,
    /// A lease on its way: to whom, and when.
    coming: Vec<Option<(usize, Millis)>>,
    members: BTreeMap<usize, Millis>,
    rebalance_at: Option<Millis>,
    pub(super) is_down: bool,
    /// It now and then refuses to write something, or says so and has written it.
    pub(super) is_moody: bool,
}

/// One worker's way to it.
pub(super) struct Client {
    id: usize,
    read: Vec<usize>,
    /// The record that is next in each log is seen from then on.
    seen_from: Vec<Option<Millis>>,
    ends: Vec<usize>,
    caught_up: bool,
    outbox: VecDeque<(Millis, u64, Post)>,
    inbox: VecDeque<(Millis, News)>,
    believes: BTreeSet<u32>,
    pub(super) is_cut_off: bool,
    out_since: Option<Millis>,
    is_member: bool,
    joins_at: Option<Millis>,
    has_left: bool,
}

const CLAIMS: usize = N_LEASES as usize;
const CHECKPOINTS: usize = CLAIMS + 1;

impl Store {
    pub(super) fn new() -> Self {
        Self {
            logs: vec![Vec::new(); CHECKPOINTS + 1],
            owners: vec![None; CLAIMS],
            coming: vec![None; CLAIMS],
            members: BTreeMap::new(),
            rebalance_at: None,
            is_down: false,
            is_moody: false,
        }
    }

    pub(super) fn client(&self, id: usize, now: Millis) -> Client {
        Client {
            id,
            read: vec![0; self.logs.len()],
            seen_from: vec![None; self.logs.len()],
            ends: self.logs.iter().map(Vec::len).collect(),
            caught_up: false,
            outbox: VecDeque::new(),
            inbox: VecDeque::new(),
            believes: BTreeSet::new(),
            is_cut_off: false,
            out_since: None,
            is_member: false,
            joins_at: Some(now + 300),
            has_left: false,
        }
    }

    /// Every text about every stream, as somebody reads it who comes last.
    pub(super) fn attachments(&self) -> impl Iterator<Item = (u32, &str, Option<&str>)> {
        self.logs[..CLAIMS].iter().flatten().filter_map(|(_, record)| match record {
            Record::Attachment { lease, name, text } => Some((*lease, name.as_str(), text.as_deref())),
            _ => None,
        })
    }

    /// Every report about a stream.
    pub(super) fn reports(&self, of: &str) -> impl Iterator<Item = Option<&str>> {
        self.logs[CHECKPOINTS].iter().filter_map(move |(_, record)| match record {
            Record::Checkpoint { name, text } if name == of => Some(text.as_deref()),
            _ => None,
        })
    }

    /// The coordinator's turn. `alive` are those that can be heard now.
    pub(super) fn coordinate(
        &mut self,
        now: Millis,
        alive: &BTreeSet<usize>,
        clients: &mut BTreeMap<usize, &mut Client>,
        random: &mut Random,
    ) {
        if self.is_down {
            // Nobody is counted as silent for it.
            self.members.values_mut().for_each(|seen| *seen = now);
            return;
        }
        let before = self.members.len();
        for (id, seen) in &mut self.members {
            if alive.contains(id) {
                *seen = now;
            }
        }
        self.members.retain(|_, seen| now - *seen < SESSION);
        if self.members.len() != before {
            self.change(now, random);
        }
        for lease in 0..CLAIMS {
            if self.owners[lease].is_some_and(|owner| !self.members.contains_key(&owner)) {
                self.owners[lease] = None;
                self.change(now, random);
            }
            if let Some((to, at)) = self.coming[lease]
                && now >= at
            {
                self.coming[lease] = None;
                match clients.get_mut(&to) {
                    Some(client) if self.members.contains_key(&to) => {
                        self.owners[lease] = Some(to);
                        client.tell(now, News::Granted { leases: vec![lease as u32] }, random);
                    }
                    _ => self.change(now, random),
                }
            }
        }
        if self.rebalance_at.is_some_and(|at| now >= at) && self.coming.iter().all(Option::is_none) {
            self.rebalance_at = None;
            self.rebalance(now, clients, random);
        }
    }

    fn change(&mut self, now: Millis, random: &mut Random) {
        self.rebalance_at.get_or_insert(now + random.below(1500));
    }

    fn rebalance(&mut self, now: Millis, clients: &mut BTreeMap<usize, &mut Client>, random: &mut Random) {
        if self.members.is_empty() {
            return;
        }
        let most = CLAIMS.div_ceil(self.members.len());
        let count = |owners: &[Option<usize>], member: usize| owners.iter().filter(|o| **o == Some(member)).count();
        for lease in 0..CLAIMS {
            let owner = self.owners[lease];
            let mut target: Vec<Option<usize>> = self.owners.clone();
            for (slot, coming) in target.iter_mut().zip(&self.coming) {
                if let Some((to, _)) = coming {
                    *slot = Some(*to);
                }
            }
            let least = self.members.keys().copied().min_by_key(|member| count(&target, *member));
            let Some(least) = least else { return };
            match owner {
                Some(owner) if count(&target, owner) <= most && count(&target, owner) <= count(&target, least) + 1 => {}
                Some(owner) => {
                    // In good order: the next one has it only after this one was told.
                    let told = clients.get_mut(&owner).map_or(now, |client| {
                        client.tell(now, News::Revoked { leases: vec![lease as u32], lost: false }, random)
                    });
                    self.owners[lease] = None;
                    self.coming[lease] = Some((least, told + random.below(1000)));
                }
                None => self.coming[lease] = Some((least, now + random.below(1000))),
            }
        }
    }
}

impl Client {
    /// Gives the time at which it is told.
    fn tell(&mut self, now: Millis, news: News, random: &mut Random) -> Millis {
        let last = self.inbox.back().map_or(0, |(at, _)| *at);
        let at = (now + random.below(300)).max(last);
        self.inbox.push_back((at, news));
        at
    }

    pub(super) fn post(&mut self, now: Millis, ticket: u64, post: Post, random: &mut Random) {
        let last = self.outbox.back().map_or(0, |(at, ..)| *at);
        self.outbox.push_back(((now + random.below(60)).max(last), ticket, post));
    }

    pub(super) fn leave(&mut self, now: Millis, store: &mut Store, random: &mut Random) {
        self.has_left = true;
        self.joins_at = None;
        store.members.remove(&self.id);
        let leases = self.all_told();
        self.tell(now, News::Revoked { leases, lost: false }, random);
        store.change(now, random);
    }

    /// What is new now. Called while the process is awake.
    pub(super) fn news(&mut self, now: Millis, store: &mut Store, random: &mut Random, news: &mut Vec<News>) {
        let is_reachable = !store.is_down && !self.is_cut_off;
        if is_reachable {
            self.out_since = None;
            self.read(now, store, random, news);
            self.membership(now, store, random);
        } else if self.is_member && now - *self.out_since.get_or_insert(now) > SESSION {
            self.lose(now, random);
        }
        self.write(now, is_reachable, store, random);
        while self.inbox.front().is_some_and(|(at, _)| *at <= now)
            && let Some((_, item)) = self.inbox.pop_front()
        {
            match &item {
                News::Granted { leases } => self.believes.extend(leases),
                News::Revoked { leases, .. } => self.believes.retain(|lease| !leases.contains(lease)),
                _ => {}
            }
            news.push(item);
        }
    }

    fn lose(&mut self, now: Millis, random: &mut Random) {
        self.is_member = false;
        self.joins_at = Some(now + 500 + random.below(1000));
        let leases = self.all_told();
        self.tell(now, News::Revoked { leases, lost: true }, random);
    }

    /// Leases that it has, and those that it is about to be told of.
    fn all_told(&self) -> Vec<u32> {
        let coming = self.inbox.iter().filter_map(|(_, news)| match news {
            News::Granted { leases } => Some(leases),
            _ => None,
        });
        coming.flatten().chain(&self.believes).copied().collect::<BTreeSet<_>>().into_iter().collect()
    }

    fn membership(&mut self, now: Millis, store: &mut Store, random: &mut Random) {
        if self.is_member && !self.has_left && !store.members.contains_key(&self.id) {
            self.lose(now, random);
        }
        if self.joins_at.is_some_and(|at| now >= at) && !self.has_left {
            self.joins_at = None;
            self.is_member = true;
            let is_new = store.members.insert(self.id, now).is_none();
            let kept: Vec<u32> = (0..N_LEASES).filter(|l| store.owners[*l as usize] == Some(self.id)).collect();
            if is_new {
                // It may have been granted something between its loss and its coming back: that went with its place.
                let leases = self.all_told();
                if !leases.is_empty() {
                    self.tell(now, News::Revoked { leases, lost: true }, random);
                }
                store.owners.iter_mut().filter(|owner| **owner == Some(self.id)).for_each(|owner| *owner = None);
                store.change(now, random);
            } else if !kept.is_empty() {
                self.tell(now, News::Granted { leases: kept }, random);
            }
        }
    }

    fn read(&mut self, now: Millis, store: &Store, random: &mut Random, news: &mut Vec<News>) {
        for (i, log) in store.logs.iter().enumerate() {
            while let Some((at, record)) = log.get(self.read[i]) {
                let from = *self.seen_from[i].get_or_insert_with(|| at + random.below(150));
                if now < from {
                    break;
                }
                self.seen_from[i] = None;
                self.read[i] += 1;
                news.push(match record.clone() {
                    Record::Attachment { lease, name, text } => News::Attachment { lease, name, text },
                    Record::Checkpoint { name, text } => News::Checkpoint { name, text },
                    Record::Worker { id, text } => News::Worker { id, text, at_ms: *at as i64 },
                    Record::Claim { lease, worker } => News::Claimed { lease, worker, epoch: self.read[i] as u64 },
                });
            }
        }
        if !self.caught_up && self.read.iter().zip(&self.ends).all(|(read, end)| read >= end) {
            self.caught_up = true;
            news.push(News::CaughtUp);
        }
    }

    fn write(&mut self, now: Millis, is_reachable: bool, store: &mut Store, random: &mut Random) {
        while let Some((at, ticket, post)) = self.outbox.front().cloned() {
            let gives_up = now >= at + GIVES_UP;
            if now < at || (!is_reachable && !gives_up) {
                break;
            }
            self.outbox.pop_front();
            let is_refused = !gives_up && store.is_moody && random.one_in(30);
            let outcome = match (gives_up, is_refused) {
                (true, _) => Err("the plane is not there".to_owned()),
                (_, true) => Err("the plane is in a mood".to_owned()),
                _ => Ok(()),
            };
            if !gives_up && (!is_refused || random.one_in(2)) {
                let (log, record) = match post {
                    Post::Attachment { lease, name, text } => {
                        (lease as usize, Record::Attachment { lease, name, text })
                    }
                    Post::Checkpoint { name, text } => (CHECKPOINTS, Record::Checkpoint { name, text }),
                    Post::Worker { id, text } => (CLAIMS, Record::Worker { id, text }),
                    Post::Claim { lease, worker } => (CLAIMS, Record::Claim { lease, worker }),
                };
                store.logs[log].push((now, record));
            }
            let at = now + random.below(60);
            let place = self.inbox.iter().position(|(other, _)| *other > at).unwrap_or(self.inbox.len());
            self.inbox.insert(place, (at, News::Posted { ticket, outcome }));
        }
    }
}
