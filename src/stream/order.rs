//! Puts what is seen and what is heard of a recording into one order, whichever of the two is worked off first, so that
//! two replays are the same bytes. Live events are not held back. Called on the models' threads.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use base::{
    event::{Body, Event},
    media::Frame,
    time::Pts,
};
use inference::rules::{Carried, Rule, Rules};
use parking_lot::Mutex;

use super::holdup::Watch;
use crate::{
    evidence::{AlertDesk, EvidenceStore},
    topology::Fanout,
};

/// Who an event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Branch {
    /// The pictures.
    Sight,
    /// The sound.
    Hearing,
}

/// What one branch has told that the other has not yet come up to.
#[derive(Default)]
struct Side {
    /// With its place in the order: its PTS, or what was told before it came where that is later (a cue that ends long
    /// after its words).
    waiting: VecDeque<(Pts, Event)>,
    /// Nothing will come any more that belongs before this.
    told_until: Pts,
}

/// The outlet of one stream's branches.
#[derive(Clone)]
pub struct Outlet {
    fanout: Fanout,
    /// None where events go out as they come.
    sides: Option<Arc<Mutex<[Side; 2]>>>,
    /// Notices hold-ups of a live stream.
    watch: Option<Arc<Watch>>,
    /// Look at every event that goes out. None where there are none.
    rules: Option<Arc<Ruling>>,
}

/// Rules at work, and what evidence of their alerts is made of.
struct Ruling {
    /// Held while alerts go out, which a sink may hold up.
    rules: Mutex<Rules>,
    /// What is open now. For those who must not wait.
    open: Mutex<Vec<Carried>>,
    /// Frames that rules have not looked at, because later ones had come before. Likewise.
    n_late: AtomicU64,
    /// There is a rule: pictures are kept for it.
    has_rules: AtomicBool,
    evidence: Option<EvidenceStore>,
    /// Says which alerts are silenced.
    desk: Option<AlertDesk>,
    /// Seen last.
    frame: Mutex<Option<Frame>>,
}

impl Outlet {
    /// Of a recording; `in_order` where both branches are worked off.
    pub fn recorded(fanout: Fanout, in_order: bool) -> Self {
        Self { fanout, sides: in_order.then(Arc::default), watch: None, rules: None }
    }

    /// Of a live stream.
    pub fn live(fanout: Fanout, watch: Option<Arc<Watch>>) -> Self {
        Self { fanout, sides: None, watch, rules: None }
    }

    /// The same, with rules that look at every event. There may be none yet: they come by [`Outlet::exchange`].
    #[must_use]
    pub fn ruled(mut self, rules: Rules, evidence: Option<EvidenceStore>, desk: Option<AlertDesk>) -> Self {
        self.rules = Some(Arc::new(Ruling {
            open: Mutex::new(rules.carried()),
            n_late: AtomicU64::new(0),
            has_rules: AtomicBool::new(!rules.is_empty()),
            rules: Mutex::new(rules),
            evidence,
            desk,
            frame: Mutex::default(),
        }));
        self
    }

    /// Other rules from now on; what is open of those that are gone is closed. May wait for a sink.
    pub fn exchange(&self, wanted: &[Arc<Rule>]) {
        let Some(ruling) = &self.rules else { return };
        let mut rules = ruling.rules.lock();
        let alerts = rules.exchange(wanted);
        ruling.has_rules.store(!rules.is_empty(), Relaxed);
        if rules.is_empty() {
            ruling.frame.lock().take();
        }
        *ruling.open.lock() = rules.carried();
        self.give_alerts(ruling, &rules, alerts);
    }

    /// The picture that the next event tells of.
    pub fn picture(&self, frame: &Frame) {
        let is_wanted = |ruling: &&Arc<Ruling>| ruling.evidence.is_some() && ruling.has_rules.load(Relaxed);
        if let Some(ruling) = self.rules.as_ref().filter(is_wanted) {
            *ruling.frame.lock() = Some(frame.clone());
        }
    }

    /// Frames that the rules have not looked at, because later ones had come before. Never waits.
    pub fn n_late(&self) -> u64 {
        self.rules.as_ref().map_or(0, |ruling| ruling.n_late.load(Relaxed))
    }

    /// Alerts that are open, or over only just now. Never waits.
    pub fn open_alerts(&self) -> Vec<Carried> {
        self.rules.as_ref().map(|ruling| ruling.open.lock().clone()).unwrap_or_default()
    }

    fn send(&self, event: Event) {
        let Some(ruling) = &self.rules else { return self.give(event) };
        // One record after the other of an alert's life: held until they are out.
        let mut rules = ruling.rules.lock();
        let alerts = rules.observe(&event);
        ruling.n_late.store(rules.n_late(), Relaxed);
        self.give(event);
        self.give_alerts(ruling, &rules, alerts);
    }

    /// Sound was listened to up to here.
    fn listened_until(&self, until: Pts) {
        if let Some(ruling) = &self.rules {
            let mut rules = ruling.rules.lock();
            let alerts = rules.listened_until(until);
            self.give_alerts(ruling, &rules, alerts);
        }
    }

    /// What is open is over.
    pub fn close_alerts(&self, because: &str) {
        if let Some(ruling) = &self.rules {
            let mut rules = ruling.rules.lock();
            let alerts = rules.finish(because);
            self.give_alerts(ruling, &rules, alerts);
        }
    }

    fn give_alerts(&self, ruling: &Ruling, rules: &Rules, alerts: Vec<Event>) {
        if !alerts.is_empty() {
            *ruling.open.lock() = rules.carried();
        }
        alerts.into_iter().for_each(|alert| self.give_alert(ruling, alert));
    }

    /// An alert goes out with the places of its evidence, and with who wants to hear nothing of it.
    fn give_alert(&self, ruling: &Ruling, mut event: Event) {
        if let (Some(desk), Body::Alert(alert)) = (&ruling.desk, &mut event.body) {
            alert.silenced = desk.judge(event.stream.name.as_str(), alert);
        }
        if let (Some(store), Body::Alert(alert)) = (&ruling.evidence, &mut event.body) {
            let frame = ruling.frame.lock().clone();
            let (snapshot, clip) = store.paths(&alert.alert, frame.is_some(), true);
            (alert.evidence.snapshot, alert.evidence.clip) = (snapshot, clip);
            // Of what the fence holds back nobody is told: then there is nothing to keep either.
            if self.fanout.gate().is_none_or(|gate| gate.is_open()) {
                store.take(&Arc::new(event.clone()), frame.as_ref());
            }
        }
        self.give(event);
    }

    fn give(&self, event: Event) {
        match &self.watch {
            Some(watch) => watch.publish(&self.fanout, event),
            None => self.fanout.publish(event),
        }
    }

    /// Publishes one event of a branch; its branch tells them in its own order.
    pub fn publish(&self, branch: Branch, event: Event) {
        let Some(sides) = &self.sides else { return self.send(event) };
        let mut sides = sides.lock();
        let side = &mut sides[branch as usize];
        side.waiting.push_back((event.pts.max(side.told_until), event));
        self.release(&mut sides);
    }

    /// Publishes what belongs to neither branch (the stream's own life), after what was drained from both.
    pub fn publish_aside(&self, event: Event) {
        self.send(event);
    }

    /// A branch has come to `until`. What it tells, and these times, must be the same in every replay.
    pub fn told_until(&self, branch: Branch, until: Pts) {
        let Some(sides) = &self.sides else {
            if branch == Branch::Hearing {
                self.listened_until(until);
            }
            return;
        };
        let mut sides = sides.lock();
        sides[branch as usize].told_until = until;
        self.release(&mut sides);
    }

    /// Publishes what waits: both branches have been drained.
    pub fn flush(&self) {
        if let Some(watch) = &self.watch {
            watch.settle(&self.fanout);
        }
        if let Some(sides) = &self.sides {
            let mut sides = sides.lock();
            let before = sides.each_mut().map(|s| std::mem::replace(&mut s.told_until, Pts::from_nanos(u64::MAX)));
            self.release(&mut sides);
            for (side, before) in sides.iter_mut().zip(before) {
                side.told_until = before;
            }
        }
    }

    /// Stream time begins anew.
    pub fn restart(&self) {
        self.flush();
        if let Some(sides) = &self.sides {
            sides.lock().iter_mut().for_each(|s| s.told_until = Pts::ZERO);
        }
    }

    fn release(&self, [sight, hearing]: &mut [Side; 2]) {
        loop {
            let next = match (sight.waiting.front(), hearing.waiting.front()) {
                (Some((seen, _)), Some((heard, _))) if seen <= heard => sight.waiting.pop_front(),
                (Some(_), Some(_)) => hearing.waiting.pop_front(),
                (Some((seen, _)), None) if *seen <= hearing.told_until => sight.waiting.pop_front(),
                (None, Some((heard, _))) if *heard < sight.told_until => hearing.waiting.pop_front(),
                _ => None,
            };
            let Some((_, event)) = next else { return };
            if matches!(event.body, Body::Detections(_)) {
                // Nothing said before it is still to come.
                self.listened_until(event.pts);
            }
            self.send(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base::{
        event::{Detections, Gap, ModelId},
        media::{GapReason, SessionId, StreamInfo, StreamName},
        queue::{WhenFull, queue},
        time::ManualClock,
    };

    use super::*;
    use crate::{
        config,
        control::fence::{Fence, Gate},
        evidence::EvidenceConfig,
    };

    /// However the two branches interleave, the order is the same.
    #[test]
    fn one_order_for_every_interleaving() {
        let name = StreamName::new("a").expect("name");
        let info = Arc::new(StreamInfo { name, tags: Default::default(), epoch: None });
        let event = |number, ms| {
            let (from, to) = (Pts::ZERO, Pts::ZERO);
            let body = Body::Gap(Gap { from, to, reason: GapReason::Stalled, n_frames_dropped: None, detail: None });
            Event::new(&info, &SessionId::derived([]), number, Pts::from_millis(ms), None, body)
        };
        let seen = [0, 100, 200, 300, 400];
        // Number, PTS, and until when all is told after it. The second one comes late.
        let heard = [(100, 150, 150), (101, 120, 150), (102, 150, 390)];
        let run = |pattern: u32| {
            let (tx, rx) = queue("test", 64, WhenFull::Block);
            let outlet = Outlet::recorded(Fanout::from_iter([tx]), true);
            let (mut s, mut h) = (seen.iter().enumerate(), heard.iter());
            for bit in 0..8 {
                let hear = pattern >> bit & 1 == 1;
                if let Some((number, ms, until)) = hear.then(|| h.next()).flatten() {
                    outlet.publish(Branch::Hearing, event(*number, *ms));
                    outlet.told_until(Branch::Hearing, Pts::from_millis(*until));
                } else if let Some((number, ms)) = s.next() {
                    outlet.publish(Branch::Sight, event(number as u64, *ms));
                    outlet.told_until(Branch::Sight, Pts::from_millis(*ms));
                }
            }
            outlet.flush();
            drop(outlet);
            std::iter::from_fn(|| rx.recv())
                .map(|e| e.id.rsplit('-').next().unwrap_or("").to_owned())
                .collect::<Vec<_>>()
        };
        for pattern in 0..256_u32 {
            // Only those in which both come to their end.
            if pattern.count_ones() == 3 {
                assert_eq!(run(pattern), ["0", "1", "100", "101", "102", "2", "3", "4"], "{pattern:b}");
            }
        }
    }

    #[test]
    fn nothing_is_kept_of_what_the_fence_holds_back() {
        let text = "[rules.empty]\nconfirm = { frames = 1, of = 1 }\nwhen = { type = 'count', under = 1 }\n";
        let book = config::parse_rules("rules", text).expect("rules");
        let info = Arc::new(StreamInfo {
            name: StreamName::new("a").expect("name"),
            tags: Default::default(),
            epoch: Some(1),
        });
        let empty = Body::Detections(Detections {
            width: 1,
            height: 1,
            index: 0,
            model: Arc::new(ModelId { name: "m".into(), version: "1".into() }),
            objects: Vec::new(),
            labels: Vec::new(),
            answer: None,
            classes: Arc::from([]),
        });
        let event = Event::new(&info, &SessionId::derived([]), 0, Pts::ZERO, None, empty);
        for is_held in [true, false] {
            let (dir, clock) = (tempfile::tempdir().expect("dir"), ManualClock::new());
            let fence = Fence::new(clock.clone(), Duration::MAX);
            fence.hold(is_held);
            let (tx, rx) = queue("test", 64, WhenFull::Block);
            let kept = EvidenceConfig { path: dir.path().to_owned(), ..EvidenceConfig::default() };
            let store = EvidenceStore::open(kept, None, clock).expect("store");
            let rules: Vec<Arc<Rule>> = book.rules().map(Arc::clone).collect();
            let outlet = Outlet::live(Fanout::from_iter([tx]).behind(Gate::new(fence)), None).ruled(
                Rules::new(Arc::clone(&info), &rules, &[]),
                Some(store.clone()),
                None,
            );
            outlet.publish(Branch::Sight, event.clone());
            assert_eq!(outlet.open_alerts().len(), 1, "the rule has fired");
            drop(outlet);
            store.close();
            let n_told = std::iter::from_fn(|| rx.recv()).filter(|event| matches!(event.body, Body::Alert(_))).count();
            let n_kept = std::fs::read_dir(dir.path()).expect("folder").count();
            assert_eq!((n_told, n_kept), (usize::from(!is_held), usize::from(!is_held)));
        }
    }
}
