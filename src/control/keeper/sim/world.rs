//! The pretended world: workers, their plane, what people ask of them, and what must hold once all is quiet.

use std::collections::{BTreeMap, BTreeSet};

use base::{media::StreamName, redact::SourceUrl, time::Timestamp};

use super::{
    super::{Action, Input, Keeper, Me, Moment, Resolve, book::Book},
    plane::{Client, N_LEASES, SESSION, Store},
    stage::PretendedStage,
};
use crate::{
    config::{CheckedStream, ProfileConfig},
    control::{
        attachment::{Attachment, Origin, Stored},
        desk::{Granted, Refused, Wish},
    },
};

/// Pretended time.
pub(super) type Millis = u64;
/// One step of it.
pub(super) const TICK: Millis = 100;
/// Without a step for so long, the keeper knows that it was frozen, and the fence is closed.
pub(super) const FROZEN: Millis = 3000;

/// SplitMix64 (Steele, Lea, Flood 2014).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Takes every attachment as it stands.
pub(super) struct Plain;

impl Resolve for Plain {
    fn profile(&self, _: &str, _: &Attachment) -> String {
        "default".into()
    }

    fn resolve(&self, name: &str, attachment: &Attachment) -> Result<CheckedStream, String> {
        if attachment.credentials.is_some() {
            return Err("there is no such secret".into());
        }
        Ok(CheckedStream {
            name: StreamName::new(name).map_err(|e| e.to_string())?,
            url: SourceUrl::parse(&attachment.url).map_err(|e| e.to_string())?,
            profile: ProfileConfig::default(),
            tags: attachment.tags.clone(),
            source: attachment.source.clone(),
            rules: Vec::new(),
        })
    }
}

pub(in super::super) fn attachment(url: &str, tag: u64) -> Attachment {
    let mut attachment: Attachment =
        serde_json::from_value(serde_json::json!({ "url": url })).expect("a good attachment");
    attachment.tags.insert("tag".into(), tag.to_string());
    attachment
}

/// A worker's process.
pub(super) struct Worker {
    pub(super) keeper: Keeper,
    pub(super) client: Client,
    pub(super) stage: PretendedStage,
    pub(super) inputs: Vec<Input>,
    pub(super) ticked_at: Millis,
    pub(super) is_held: bool,
    pub(super) read_at: Millis,
    /// Stopped in its tracks until then.
    pub(super) frozen_until: Millis,
    /// Only the keeper is.
    pub(super) stalled_until: Millis,
    pub(super) cut_off_until: Millis,
    /// When it was last not in good health.
    pub(super) ill_at: Millis,
    pub(super) is_leaving: bool,
}

/// What was asked for and is not answered yet.
pub(super) struct Asked {
    pub(super) worker: usize,
    pub(super) name: String,
    pub(super) wished: Option<Attachment>,
    pub(super) was_healthy: bool,
}

pub(super) struct World {
    pub(super) seed: u64,
    pub(super) random: Random,
    pub(super) now: Millis,
    pub(super) store: Store,
    pub(super) workers: BTreeMap<usize, Box<Worker>>,
    pub(super) next_worker: usize,
    pub(super) next_wish: u64,
    pub(super) asked: BTreeMap<u64, Asked>,
    /// Who was last asked about a stream, and when it was answered; none while it is on its way.
    pub(super) wished_at: BTreeMap<String, (usize, Option<Millis>)>,
    /// What must be attached in the end, where that is sure.
    pub(super) expected: BTreeMap<String, Option<Option<Attachment>>>,
    pub(super) down_until: Millis,
    /// The newest epoch of each stream that a consumer has seen, and who published under it.
    pub(super) seen: BTreeMap<String, (u64, usize)>,
    /// Who published under which epoch, ever.
    pub(super) authors: BTreeMap<(String, u64), usize>,
    /// When a stream's records were last taken for new, and the longest time between two.
    pub(super) taken_at: BTreeMap<String, Millis>,
    pub(super) longest_hole: BTreeMap<String, Millis>,
    /// Greatest epoch under which a process has started a stream.
    pub(super) started: BTreeMap<(usize, String), u64>,
    pub(super) n_gaps: BTreeMap<String, u64>,
    pub(super) published_lately: BTreeMap<String, BTreeSet<usize>>,
    pub(super) n_files_begun: BTreeMap<String, Vec<Millis>>,
    /// Somebody has given all workers the same name.
    pub(super) is_of_one_name: bool,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            random: Random(seed),
            now: 1_000,
            store: Store::new(),
            workers: BTreeMap::new(),
            next_worker: 0,
            next_wish: 1,
            asked: BTreeMap::new(),
            wished_at: BTreeMap::new(),
            expected: BTreeMap::new(),
            down_until: 0,
            seen: BTreeMap::new(),
            authors: BTreeMap::new(),
            taken_at: BTreeMap::new(),
            longest_hole: BTreeMap::new(),
            started: BTreeMap::new(),
            n_gaps: BTreeMap::new(),
            published_lately: BTreeMap::new(),
            n_files_begun: BTreeMap::new(),
            is_of_one_name: false,
        }
    }

    pub(super) fn moment(&self) -> Moment {
        Moment {
            mono: std::time::Duration::from_millis(self.now),
            wall: Timestamp::from_millisecond(self.now as i64).expect("a time"),
        }
    }

    pub(super) fn add_worker(&mut self) -> usize {
        let id = self.next_worker;
        self.next_worker += 1;
        let me = Me {
            // Now and then one comes back under the name of one that has gone.
            worker: format!("w{}", if self.workers.contains_key(&(id % 3)) { id } else { id % 3 }),
            claimant: String::new(),
            capacity: 1.0 + (id % 2) as f32,
            address: None,
            version: "1".into(),
            n_leases: N_LEASES,
            session_timeout: Some(std::time::Duration::from_millis(SESSION)),
        };
        let mut me = me;
        if self.is_of_one_name {
            me.worker = "w".into();
        } else if self.workers.values().any(|worker| worker.keeper.me.worker == me.worker) {
            me.worker = format!("w{id}");
        }
        me.claimant = format!("{}#{id}", me.worker);
        let worker = Worker {
            keeper: Keeper::new(me, Vec::new(), Box::new(Plain), self.moment()),
            client: self.store.client(id, self.now),
            stage: PretendedStage::default(),
            inputs: Vec::new(),
            ticked_at: self.now,
            is_held: false,
            read_at: 0,
            frozen_until: 0,
            stalled_until: 0,
            cut_off_until: 0,
            ill_at: 0,
            is_leaving: false,
        };
        self.workers.insert(id, Box::new(worker));
        id
    }

    pub(super) fn ask(&mut self, worker: usize, wish: Wish, wished: Option<Attachment>) {
        let (Wish::Put { name, .. } | Wish::Patch { name, .. } | Wish::Remove { name }) = &wish;
        let name = name.clone();
        let Some(asked) = self.workers.get_mut(&worker) else { return };
        let was_healthy = self.now > asked.ill_at + 4000 && self.now > self.down_until + 4000 && self.now > 6000;
        let id = self.next_wish;
        self.next_wish += 1;
        asked.inputs.push(Input::Wish { id, wish, origin: Origin::Api });
        self.wished_at.insert(name.clone(), (worker, None));
        self.asked.insert(id, Asked { worker, name, wished, was_healthy });
    }

    pub(super) fn answered(&mut self, id: u64, answer: Result<Granted, Refused>) {
        let asked = self.asked.remove(&id).expect("a wish is answered once");
        self.wished_at.insert(asked.name.clone(), (asked.worker, Some(self.now)));
        let expected = self.expected.entry(asked.name.clone()).or_insert(Some(None));
        match answer {
            Ok(_) if asked.was_healthy => *expected = Some(asked.wished),
            Err(Refused::Missing(_)) if asked.was_healthy => {
                assert!(!matches!(expected, Some(Some(_))), "seed {}: {} was there", self.seed, asked.name);
            }
            // Written perhaps, or by one who could not know how things are.
            _ => *expected = None,
        }
    }

    /// A stream about which nobody waits for an answer, and the last one is known to this worker: it gave it, or it is known
    /// everywhere.
    pub(super) fn free_name(&mut self, worker: usize) -> Option<String> {
        let name =
            format!("{}{}", ["live", "live", "file", "bad"][self.random.below(4) as usize], self.random.below(3));
        let is_free =
            self.wished_at.get(&name).is_none_or(|(by, at)| at.is_some_and(|at| *by == worker || self.now > at + 2000));
        is_free.then_some(name)
    }

    pub(super) fn wish_something(&mut self) {
        let Some(worker) = self.any_worker() else { return };
        let Some(name) = self.free_name(worker) else { return };
        let url = match &name[..3] {
            "liv" => "rtsp://camera/",
            "fil" => "file:///clip.mp4",
            _ => "srt://nowhere/",
        };
        if self.random.one_in(4) {
            self.ask(worker, Wish::Remove { name }, None);
        } else {
            let attachment = attachment(url, self.random.below(4));
            let wish = Wish::Put { name, attachment: Box::new(attachment.clone()) };
            self.ask(worker, wish, Some(attachment));
        }
    }

    pub(super) fn any_worker(&mut self) -> Option<usize> {
        let ids: Vec<usize> = self.workers.iter().filter(|(_, w)| !w.is_leaving).map(|(id, _)| *id).collect();
        (!ids.is_empty()).then(|| ids[self.random.below(ids.len() as u64) as usize])
    }

    pub(super) fn kill(&mut self, id: usize) {
        self.workers.remove(&id);
        let lost: Vec<u64> = self.asked.iter().filter(|(_, a)| a.worker == id).map(|(wish, _)| *wish).collect();
        for wish in lost {
            if let Some(asked) = self.asked.remove(&wish) {
                self.wished_at.insert(asked.name.clone(), (asked.worker, Some(self.now)));
                self.expected.insert(asked.name, None);
            }
        }
    }

    pub(super) fn leave(&mut self, id: usize) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.is_leaving = true;
            worker.inputs.push(Input::Leave { grace: std::time::Duration::from_secs(10) });
        }
    }

    /// Something bad, or good, happens.
    pub(super) fn happen(&mut self) {
        let (Some(id), n_workers) = (self.any_worker(), self.workers.len()) else { return };
        let until = self.now + 1000 + self.random.below(14_000);
        match self.random.below(12) {
            0 => {
                if let Some(worker) = self.workers.get_mut(&id) {
                    (worker.frozen_until, worker.ill_at) = (until, until + 10_000);
                }
            }
            1 => {
                if let Some(worker) = self.workers.get_mut(&id) {
                    (worker.cut_off_until, worker.ill_at) = (until, until + 10_000);
                }
            }
            2 => {
                if let Some(worker) = self.workers.get_mut(&id) {
                    (worker.stalled_until, worker.ill_at) = (until, until + 10_000);
                }
            }
            3 if self.random.one_in(2) => self.down_until = until,
            4 if n_workers > 1 => self.kill(id),
            5 if n_workers > 1 => self.leave(id),
            6 if n_workers < 4 => drop(self.add_worker()),
            7 => {
                if let Some(worker) = self.workers.get_mut(&id) {
                    worker.inputs.push(Input::Profiles);
                }
            }
            _ => self.wish_something(),
        }
    }

    /// One tick of pretended time.
    pub(super) fn tick(&mut self) {
        self.now += TICK;
        let now = self.now;
        self.store.is_down = now < self.down_until;
        let alive: BTreeSet<usize> = self
            .workers
            .iter()
            .filter(|(_, w)| now >= w.frozen_until && now >= w.cut_off_until)
            .map(|(id, _)| *id)
            .collect();
        let mut clients: BTreeMap<usize, &mut Client> =
            self.workers.iter_mut().map(|(id, worker)| (*id, &mut worker.client)).collect();
        self.store.coordinate(now, &alive, &mut clients, &mut self.random);
        let ids: Vec<usize> = self.workers.keys().copied().collect();
        let first = self.random.below(ids.len().max(1) as u64) as usize;
        for id in ids[first..].iter().chain(&ids[..first]) {
            let Some(mut worker) = self.workers.remove(id) else { continue };
            if now >= worker.frozen_until {
                worker.client.is_cut_off = now < worker.cut_off_until;
                self.advance(*id, &mut worker);
                if now >= worker.stalled_until {
                    self.step(*id, &mut worker);
                }
            }
            if !worker.keeper.has_left() {
                self.workers.insert(*id, worker);
            }
        }
    }

    /// A worker's streams go on.
    pub(super) fn advance(&mut self, id: usize, worker: &mut Worker) {
        let is_open = !worker.is_held && self.now - worker.ticked_at <= FROZEN;
        let deeds = worker.stage.advance(self.now, is_open);
        for (name, epoch) in deeds.published {
            let author = *self.authors.entry((name.clone(), epoch)).or_insert(id);
            assert_eq!(author, id, "seed {} at {}: two run {name} under {epoch}", self.seed, self.now);
            self.published_lately.entry(name.clone()).or_default().insert(id);
            let seen = self.seen.entry(name.clone()).or_insert((0, id));
            if epoch < seen.0 {
                continue;
            }
            *seen = (epoch, id);
            if let Some(before) = self.taken_at.insert(name.clone(), self.now) {
                let hole = self.longest_hole.entry(name).or_default();
                *hole = (*hole).max(self.now - before);
            }
        }
        for name in deeds.gaps {
            *self.n_gaps.entry(name).or_default() += 1;
        }
        for (name, position) in deeds.begun {
            if name.starts_with("file") {
                self.n_files_begun.entry(name).or_default().push(position);
            }
        }
    }

    pub(super) fn step(&mut self, id: usize, worker: &mut Worker) {
        let mut news = Vec::new();
        worker.client.news(self.now, &mut self.store, &mut self.random, &mut news);
        let mut inputs = Vec::new();
        if self.now - worker.ticked_at > FROZEN {
            worker.is_held = true;
            inputs.push(Input::Woke);
        }
        worker.ticked_at = self.now;
        inputs.extend(news.into_iter().map(Input::News));
        if self.now - worker.read_at >= 200 {
            worker.read_at = self.now;
            inputs.push(Input::Readings(worker.stage.readings()));
        }
        inputs.append(&mut worker.inputs);
        for action in worker.keeper.step(self.moment(), inputs) {
            match action {
                Action::Post { ticket, post } => worker.client.post(self.now, ticket, post, &mut self.random),
                Action::Start(start) => {
                    let name = start.stream.name.clone();
                    let epoch = start.epoch.expect("streams of the store have epochs");
                    let before = self.started.insert((id, name.to_string()), epoch);
                    assert!(before <= Some(epoch), "seed {}: {name} went back to epoch {epoch}", self.seed);
                    if let Err(detail) = worker.stage.start(self.now, *start, &mut self.random) {
                        worker.inputs.push(Input::NotStarted { name, detail });
                    }
                }
                Action::Earlier { name, earlier } => worker.stage.earlier(name.as_str(), earlier),
                Action::Detached(name) => worker.stage.detached(name.as_str()),
                Action::Stop(name) => worker.stage.stop(self.now, name.as_str(), &mut self.random),
                Action::Leave => worker.client.leave(self.now, &mut self.store, &mut self.random),
                Action::Hold(held) => worker.is_held = held,
                Action::Answer { id, answer } => self.answered(id, answer),
                Action::Rules { .. } => {}
                Action::Show { .. } | Action::ShowWorker { .. } | Action::ShowTrouble(_) => {}
            }
        }
    }

    pub(super) fn run(&mut self, for_so_long: Millis) {
        let until = self.now + for_so_long;
        while self.now < until {
            self.tick();
        }
    }

    /// What is attached, as one reads it who comes now.
    pub(super) fn attached(&self) -> BTreeMap<String, Stored> {
        let mut book = Book::new(N_LEASES);
        for (lease, name, text) in self.store.attachments() {
            book.write(lease, name, text.map(|text| serde_json::from_str(text).expect("what was written can be read")));
        }
        let names: Vec<String> = book.names().cloned().collect();
        names.into_iter().filter_map(|name| book.place(&name).map(|(_, s)| (name.clone(), s.clone()))).collect()
    }

    /// Everything is well again and has had time: now everything must be as it is wished.
    pub(super) fn check_quiet(&mut self) {
        let seed = self.seed;
        self.published_lately.clear();
        self.run(3000);
        // A stream that is evened out just now is with two.
        let (mut n_quiet, until) = (0, self.now + 60_000);
        while n_quiet < 15 && self.now < until {
            self.run(TICK);
            let is_moving = self.workers.values().any(|worker| worker.keeper.duties.is_moving());
            n_quiet = if is_moving { 0 } else { n_quiet + 1 };
        }
        assert!(self.asked.is_empty(), "seed {seed}: {} wishes are not answered", self.asked.len());
        let attached = self.attached();
        for (name, expected) in &self.expected {
            if let Some(expected) = expected {
                let found = attached.get(name).map(|stored| &stored.attachment);
                assert_eq!(found, expected.as_ref(), "seed {seed}: {name} is not as it was granted");
            }
        }
        for (name, stored) in &attached {
            let runners: Vec<_> = self
                .workers
                .iter()
                .filter_map(|(id, worker)| worker.stage.streams.get(name).map(|s| (*id, s.start.stream.tags.clone())))
                .collect();
            let reports: Vec<_> = self.workers.values().map(|w| w.keeper.reports.get(name)).collect();
            if name.starts_with("live") {
                assert_eq!(runners.len(), 1, "seed {seed}: {name} is run by {runners:?}, {stored:?}");
                let seen = self.seen.get(name).expect("it was published");
                assert_eq!(seen.1, runners[0].0, "seed {seed}: {name}'s runner is not the one who is heard");
                assert!(
                    self.taken_at.get(name).is_some_and(|at| self.now - at <= 2 * TICK),
                    "seed {seed}: {name} is silent"
                );
            }
            if name.starts_with("file") {
                assert!(
                    reports.iter().all(|r| r.is_some_and(|r| r.state == "ended" && r.born == stored.born)),
                    "seed {seed}: {name} {reports:?}"
                );
                assert!(!self.published_lately.contains_key(name), "seed {seed}: {name} still runs");
            }
            if name.starts_with("bad") {
                let is_told = |r: &Option<&crate::control::report::Report>| {
                    r.is_some_and(|r| r.state == "failed" && r.detail.as_deref() == Some("nobody can run this"))
                };
                assert!(reports.iter().all(is_told), "seed {seed}: {name} {reports:?}");
            } else {
                for (_, tags) in runners {
                    assert_eq!(tags, stored.attachment.tags, "seed {seed}: {name} is run as it was before");
                }
            }
        }
        // What is left of reports once they are compacted does not mislead whoever comes now.
        for name in attached.keys() {
            let told = |text: Option<&str>| serde_json::from_str::<crate::control::report::Report>(text?).ok();
            let last = self.store.reports(name).last().and_then(told);
            let known = self.workers.values().filter_map(|w| w.keeper.reports.get(name)).map(|r| r.epoch).max();
            assert!(last.as_ref().map(|r| r.epoch) >= known, "seed {seed}: {name}: {last:?}, epoch {known:?} is known");
        }
        for (id, worker) in &self.workers {
            for name in worker.stage.streams.keys() {
                assert!(attached.contains_key(name), "seed {seed}: {name} is detached, and runs in {id}");
            }
            for name in worker.keeper.reports.keys() {
                let is_known = attached.contains_key(name);
                assert!(is_known, "seed {seed}: {id} remembers {name}, which is detached: {:?}", worker.keeper.reports);
            }
            assert!(!worker.is_held, "seed {seed}: {id} is still held");
        }
    }
}
