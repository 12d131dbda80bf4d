//! What this worker tells about its streams and itself, what it reads of others, and the board. Part of the state machine.

use std::time::Duration;

use sinks::control::Post;

use super::{
    Action, Keeper, millis,
    placement::Seat,
    run::{Phase, Run, Told},
    wishes::Errand,
};
use crate::control::{
    attachment::Origin,
    desk::{Listed, WorkerListed},
    report::{Announcement, Report},
};

/// How often a stream's report is posted, where anything has changed.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// While it is handed over: the successor goes on from it, and must not think that something was missed.
const REPORT_HANDING_OVER: Duration = Duration::from_millis(400);
/// What was told behind a late record is expected to be read within this time.
const RETELL_AFTER: Duration = Duration::from_secs(2);
/// How often a worker says how it is, and how soon where something has changed.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(2);
const ANNOUNCE_SOONEST: Duration = Duration::from_millis(300);
/// A worker that has said nothing for so long takes no streams.
const SILENT: Duration = Duration::from_secs(10);

/// Another worker, or this one, as it was read.
pub(super) struct Peer {
    pub(super) announcement: Announcement,
    pub(super) seen_at: Duration,
}

impl Keeper {
    pub(super) fn read_report(&mut self, name: &str, text: Option<&str>) {
        let Some(text) = text else {
            // Its run here, if there is one, tells it anew.
            self.reports.remove(name);
            self.late.remove(name);
            if let Some(run) = self.runs.get_mut(name) {
                run.told = None;
            }
            self.show(name);
            return;
        };
        let report: Report = match serde_json::from_str(text) {
            Ok(report) => report,
            Err(e) => return tracing::warn!(stream = name, "a checkpoint that cannot be read: {e}"),
        };
        self.run_reported(name, &report);
        match self.reports.get(name).is_some_and(|known| report.epoch < known.epoch) {
            true => drop(self.late.entry(name.to_owned()).or_insert(self.now.mono)),
            false => drop(self.late.remove(name)),
        }
        self.keep_report(name, report);
    }

    /// What is known of a stream may be known to nobody else.
    pub(super) fn tell_again(&mut self, name: &str) {
        self.late.entry(name.to_owned()).or_insert(self.now.mono);
    }

    /// Where a late record is the last of its key, whoever has the stream puts what holds behind it: workers that start later
    /// read, once it is compacted, nothing else.
    fn settle_late(&mut self) {
        if !self.caught_up || self.is_held() {
            return;
        }
        let now = self.now.mono;
        let due: Vec<String> = self.late.iter().filter(|(_, at)| now >= **at).map(|(name, _)| name.clone()).collect();
        for name in due {
            let Some(known) = self.reports.get(&name).cloned() else {
                self.late.remove(&name);
                continue;
            };
            match self.runs.get_mut(&name) {
                Some(run) if run.epoch == Some(known.epoch) => run.told = None,
                Some(_) => continue,
                None => {
                    let lease = self.book.place(&name).and_then(|(lease, _)| self.leases.get(lease as usize));
                    if lease.is_none_or(|lease| lease.epoch().is_none()) {
                        continue;
                    }
                    self.post_report(&name, &known);
                }
            }
            self.late.insert(name, now + RETELL_AFTER);
        }
    }

    /// Keeps a report unless a newer one is known. What this worker knows of its own streams is newer than what it reads.
    pub(super) fn keep_report(&mut self, name: &str, report: Report) {
        let is_old =
            self.reports.get(name).is_some_and(|known| (report.epoch, report.at_ms) < (known.epoch, known.at_ms));
        if !is_old {
            self.reports.insert(name.to_owned(), report);
            self.show(name);
        }
    }

    pub(super) fn read_worker(&mut self, id: String, text: Option<&str>, at_ms: i64) {
        let announcement = text.and_then(|text| {
            let parsed = serde_json::from_str::<Announcement>(text);
            parsed.map_err(|e| tracing::warn!(worker = id, "an announcement that cannot be read: {e}")).ok()
        });
        let Some(announcement) = announcement else {
            self.peers.remove(&id);
            self.out.push(Action::ShowWorker { id, listed: None });
            return;
        };
        // What was said before we came is as old as the store's clock says it is.
        let age = if self.caught_up { 0 } else { millis(self.now.wall).saturating_sub(at_ms).max(0).unsigned_abs() };
        let seen_at = self.now.mono.saturating_sub(Duration::from_millis(age));
        let is_this = id == self.me.worker;
        let listed = Some(WorkerListed { announcement: announcement.clone(), at_ms, is_this });
        self.out.push(Action::ShowWorker { id: id.clone(), listed });
        self.peers.insert(id, Peer { announcement, seen_at });
    }

    /// The workers beside this one that can take streams.
    pub(super) fn others(&self) -> impl Iterator<Item = (&String, &Announcement)> {
        let now = self.now.mono;
        self.peers
            .iter()
            .filter(|(id, _)| **id != self.me.worker)
            .filter(move |(_, peer)| now.saturating_sub(peer.seen_at) < SILENT && !peer.announcement.draining)
            .map(|(id, peer)| (id, &peer.announcement))
    }

    /// How a stream is that runs here.
    pub(super) fn report(&self, run: &Run) -> Report {
        let reading = run.reading.as_ref();
        let detail = match &run.phase {
            Phase::Over { detail, .. } => detail.clone(),
            _ => reading.and_then(|reading| reading.detail.clone()),
        };
        let mut report = Report {
            worker: self.me.worker.clone(),
            epoch: run.epoch.unwrap_or(0),
            born: run.born,
            revision: run.revision,
            state: run.state().to_owned(),
            detail,
            at_ms: millis(self.now.wall),
            ..Report::default()
        };
        if let Some(reading) = reading {
            report.session = reading.session.as_ref().map(ToString::to_string);
            report.pts_ms = reading.pts.millis();
            report.analysed_at_ms = reading.analysed_at.map(millis);
            report.position_ms = reading.position.map(|position| position.millis());
            report.alerts.clone_from(&reading.alerts);
            report.figures = reading.figures.clone();
        }
        // Until it has played, what an earlier run left is still what a successor is to go on from.
        if let Some(earlier) = &run.earlier {
            if report.session.is_none() {
                report.session.clone_from(&earlier.session);
                report.pts_ms = earlier.pts_ms;
                report.analysed_at_ms = earlier.analysed_at_ms;
            }
            if !run.has_played() {
                report.alerts.clone_from(&earlier.alerts);
            }
            report.position_ms = report.position_ms.or(earlier.position_ms);
        }
        report
    }

    pub(super) fn settle_reports(&mut self) {
        self.settle_late();
        let now = self.now.mono;
        let mut due = Vec::new();
        for (name, run) in &self.runs {
            let is_quiet = run.is_overtaken && run.handing_since.is_none();
            if run.lease.is_some() && (run.is_posting || is_quiet || !self.caught_up || self.is_held()) {
                continue;
            }
            let every = if run.handing_since.is_some() { REPORT_HANDING_OVER } else { REPORT_EVERY };
            if let Some(told) = &run.told {
                let is_news = told.report.state != run.state() && told.is_written;
                if !is_news && now.saturating_sub(told.at) < every {
                    continue;
                }
            }
            let report = self.report(run);
            if run.told.as_ref().is_none_or(|told| !told.is_written || !is_same(&told.report, &report)) {
                due.push((name.clone(), report));
            }
        }
        for (name, report) in due {
            let Some(run) = self.runs.get_mut(&name) else { continue };
            run.told = Some(Told { at: now, report: report.clone(), is_written: true });
            if run.lease.is_none() {
                self.show_fixed(&name, report);
                continue;
            }
            run.is_posting = true;
            self.post_report(&name, &report);
            self.keep_report(&name, report);
        }
        self.settle_announcement();
    }

    pub(super) fn post_report(&mut self, name: &str, report: &Report) {
        let text = serde_json::to_string(report).ok();
        self.post(Errand::Report(name.to_owned()), Post::Checkpoint { name: name.to_owned(), text });
    }

    /// A report has arrived, or not.
    pub(super) fn report_posted(&mut self, name: &str, is_written: bool) {
        if let Some(run) = self.runs.get_mut(name) {
            run.is_posting = false;
            if let Some(told) = &mut run.told {
                told.is_written = is_written;
            }
            return;
        }
        // The last word about a run that is gone.
        if is_written || self.leaving.is_some() || self.book.entry(name).is_none() {
            return;
        }
        if let Some(known) = self.reports.get(name).filter(|known| known.worker == self.me.worker).cloned() {
            self.post_report(name, &known);
        }
    }

    fn settle_announcement(&mut self) {
        let is_ending = self.leaving.is_some_and(|l| !matches!(l, super::Leaving::HandingOver(_)));
        if self.me.n_leases == 0 || !self.caught_up || self.is_held() || is_ending {
            return;
        }
        let announcement = Announcement {
            capacity: self.me.capacity,
            leases: self.granted_leases(),
            n_streams: self.runs.values().filter(|run| run.is_on_stage()).count(),
            draining: self.leaving.is_some(),
            address: self.me.address.clone(),
            version: self.me.version.clone(),
        };
        let now = self.now.mono;
        let is_due = match &self.announced {
            None => true,
            Some((at, before)) => {
                let age = now.saturating_sub(*at);
                let has_changed = before.leases != announcement.leases || before.draining != announcement.draining;
                age >= ANNOUNCE_EVERY || (age >= ANNOUNCE_SOONEST && has_changed)
            }
        };
        if is_due && !self.errands.values().any(|errand| matches!(errand, Errand::Announcement)) {
            let text = serde_json::to_string(&announcement).ok();
            self.announced = Some((now, announcement));
            self.post(Errand::Announcement, Post::Worker { id: self.me.worker.clone(), text });
        }
    }

    /// Who can take streams, this worker with them.
    pub(super) fn seats(&self) -> Vec<Seat> {
        let mine = (self.leaving.is_none()).then(|| Seat {
            worker: self.me.worker.clone(),
            capacity: self.me.capacity,
            leases: self.granted_leases(),
        });
        let seat = |(id, announcement): (&String, &Announcement)| Seat {
            worker: id.clone(),
            capacity: announcement.capacity,
            leases: announcement.leases.clone(),
        };
        self.others().map(seat).chain(mine).collect()
    }

    /// Shows a stream on the board as it is now.
    pub(super) fn show(&mut self, name: &str) {
        if self.fixed.contains_key(name) {
            return;
        }
        let listed = self.book.entry(name).and_then(|entry| {
            let (_, stored) = entry.place()?;
            Some(Box::new(Listed {
                attachment: stored.attachment.clone(),
                origin: stored.origin,
                revision: stored.revision,
                profile: entry.profile.clone(),
                report: self.reports.get(name).filter(|report| report.born == stored.born).cloned(),
            }))
        });
        // A stream between two leases is still attached.
        if listed.is_some() || self.book.entry(name).is_none() {
            self.out.push(Action::Show { name: name.to_owned(), listed });
        }
    }

    /// Shows a stream of the configuration file.
    pub(super) fn show_fixed(&mut self, name: &str, report: Report) {
        let Some(fixed) = self.fixed.get(name) else { return };
        let listed = Listed {
            attachment: fixed.attachment.clone(),
            origin: Origin::Config,
            revision: 0,
            profile: fixed.profile.clone(),
            report: Some(report),
        };
        self.out.push(Action::Show { name: name.to_owned(), listed: Some(Box::new(listed)) });
    }
}

/// Whether two reports say the same, whenever.
fn is_same(a: &Report, b: &Report) -> bool {
    let mut a = a.clone();
    a.at_ms = b.at_ms;
    a == *b
}
