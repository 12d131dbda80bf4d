//! Which stream starts, goes on and stops here. Part of the state machine.

use std::time::Duration;

use base::{
    event::StreamState,
    media::{SessionId, StreamName},
    time::{Pts, Timestamp},
};
use sinks::control::Post;

use super::{
    Action, FixedStream, Keeper, Leaving,
    leases::Grip,
    resolve::fingerprint,
    run::{Fixed, Phase, Run},
    wishes::Errand,
};
use crate::control::{
    report::Report,
    stage::{Earlier, Start, StreamReading},
};

/// A stream that is handed over goes on so long without a successor.
pub(super) const HAND_OVER: Duration = Duration::from_secs(10);
/// So long after it has begun to play, a stream is still told what the run before it says.
const HEARD_AFTER: Duration = Duration::from_secs(5);
/// Streams started in one step: each may take some 100 ms, in which nobody listens to the plane.
const STARTS: usize = 4;

/// What becomes of a run.
enum Verdict {
    Stay,
    Stop,
}

impl Keeper {
    pub(super) fn take_readings(&mut self, readings: Vec<StreamReading>) {
        let mut by_name: std::collections::BTreeMap<StreamName, StreamReading> =
            readings.into_iter().map(|reading| (reading.name.clone(), reading)).collect();
        let mut gone = Vec::new();
        let now = self.now.mono;
        for (name, run) in &mut self.runs {
            let reading = by_name.remove(&run.name);
            match (&mut run.phase, reading) {
                (Phase::Running { is_seen }, Some(reading)) => {
                    *is_seen = true;
                    run.read(reading, now);
                }
                (Phase::Stopping, Some(reading)) => run.read(reading, now),
                (Phase::Stopping, None) => gone.push(name.clone()),
                (Phase::Running { is_seen: true }, None) => {
                    let last = run.reading.as_ref();
                    let state = last.and_then(|reading| reading.state);
                    let detail = last.and_then(|reading| reading.detail.clone());
                    run.phase = match state {
                        Some(StreamState::Ended) => Phase::Over { state: StreamState::Ended, detail },
                        _ => Phase::Over { state: StreamState::Failed, detail },
                    };
                }
                (Phase::Running { is_seen: false } | Phase::Over { .. }, _) => {}
            }
        }
        for name in gone {
            self.gone(&name);
        }
    }

    pub(super) fn not_started(&mut self, name: &StreamName, detail: String) {
        if let Some(run) = self.runs.get_mut(name.as_str()) {
            tracing::error!(stream = name.as_str(), "cannot be started: {detail}");
            run.phase = Phase::Over { state: StreamState::Failed, detail: Some(detail) };
        }
    }

    /// A stream that was told to stop is gone.
    fn gone(&mut self, name: &str) {
        let Some(run) = self.runs.remove(name) else { return };
        let mut report = self.report(&run);
        if !matches!(report.state.as_str(), "ended" | "failed") {
            report.state = StreamState::Stopped.as_str().to_owned();
        }
        if run.lease.is_none() {
            return self.show_fixed(name, report);
        }
        if self.book.entry(name).is_none() {
            let is_known_later = self.reports.get(name).is_some_and(|known| Some(known.epoch) > run.epoch);
            return if is_known_later { self.show(name) } else { self.forget_report(name) };
        }
        // Another stream has this name by now.
        if self.book.place(name).is_some_and(|(_, stored)| stored.born != run.born) {
            return self.show(name);
        }
        // What the fence kept back is not published: that is no good order. Nobody else is told, so it is not kept here either.
        if run.is_overtaken || self.is_held() {
            // What was kept of it, and perhaps never written, is told if the lease is ours by now.
            if run.told.as_ref().is_some_and(|told| !told.is_written) || run.is_posting {
                self.tell_again(name);
            }
            // Only the successor wants to hear that this one was there until now; one that had come to its end was not.
            if run.handing_since.is_some() && !self.is_held() && report.state == StreamState::Stopped.as_str() {
                report.released = true;
                self.post_report(name, &report);
            }
            return;
        }
        report.released = true;
        self.post_report(name, &report);
        self.keep_report(name, report);
    }

    /// Nothing is known of a stream any more, once this is written and read back; where it is not, it is tidied up later.
    pub(super) fn forget_report(&mut self, name: &str) {
        self.post(Errand::Other, Post::Checkpoint { name: name.to_owned(), text: None });
        self.show(name);
    }

    pub(super) fn settle_runs(&mut self) {
        let mut to_stop = Vec::new();
        let names: Vec<String> = self.runs.keys().cloned().collect();
        for name in names {
            if let Verdict::Stop = self.verdict(&name) {
                to_stop.push(name);
            }
        }
        for name in to_stop {
            let Some(run) = self.runs.get_mut(&name) else { continue };
            match run.phase {
                Phase::Running { .. } => {
                    run.phase = Phase::Stopping;
                    let (name, born) = (run.name.clone(), run.born);
                    // Of one that lies between two leases, somebody goes on with it.
                    let is_detached = match (self.book.place(name.as_str()), self.book.entry(name.as_str())) {
                        (Some((_, stored)), _) => stored.born != born,
                        (None, entry) => entry.is_none(),
                    };
                    if is_detached && !self.fixed.contains_key(name.as_str()) {
                        self.out.push(Action::Detached(name.clone()));
                    }
                    self.out.push(Action::Stop(name));
                }
                Phase::Stopping => {}
                Phase::Over { .. } => self.gone(&name),
            }
        }
        self.is_busy = false;
        if self.leaving.is_none() {
            self.settle_starts();
        }
    }

    fn verdict(&mut self, name: &str) -> Verdict {
        let Some(run) = self.runs.get(name) else { return Verdict::Stay };
        if run.phase == Phase::Stopping {
            return Verdict::Stay;
        }
        let is_over = matches!(run.phase, Phase::Over { .. });
        let Some(own_lease) = run.lease else {
            return self.verdict_fixed(name);
        };
        if matches!(self.leaving, Some(leaving) if !matches!(leaving, Leaving::HandingOver(_))) {
            return Verdict::Stop;
        }
        let lease = match (self.book.place(name), self.book.entry(name)) {
            // Another one by the same name.
            (Some((_, stored)), _) if stored.born != run.born => return Verdict::Stop,
            (Some((lease, _)), _) => lease,
            // It is moving, and where it goes was not read yet.
            (None, Some(_)) => return self.verdict_elsewhere(name),
            (None, None) => return Verdict::Stop,
        };
        match self.leases[lease as usize].grip {
            Grip::Granted => self.verdict_here(name, lease),
            _ if is_over => Verdict::Stop,
            Grip::Lost if lease == own_lease => {
                let is_overtaken = self.runs.get(name).is_some_and(|run| run.is_overtaken);
                if is_overtaken { Verdict::Stop } else { Verdict::Stay }
            }
            Grip::Forfeit => Verdict::Stop,
            _ => self.verdict_elsewhere(name),
        }
    }

    /// Of a stream of the configuration file. Nobody takes over what that gives to this process.
    fn verdict_fixed(&mut self, name: &str) -> Verdict {
        let Some(run) = self.runs.get_mut(name) else { return Verdict::Stay };
        if self.leaving.is_some() {
            return if run.is_on_stage() { Verdict::Stop } else { Verdict::Stay };
        }
        if !std::mem::take(&mut run.is_stale) {
            return Verdict::Stay;
        }
        match (self.resolver.fixed(name), self.fixed.get_mut(name)) {
            (Some(stream), Some(fixed)) if fingerprint(&stream) != run.print => {
                *fixed = Fixed::new(FixedStream { profile: fixed.profile.clone(), stream });
                Verdict::Stop
            }
            (Some(stream), Some(_)) => {
                self.out.extend(run.exchange(stream));
                Verdict::Stay
            }
            _ => Verdict::Stay,
        }
    }

    /// Of a stream that lies in a lease of ours.
    fn verdict_here(&mut self, name: &str, lease: u32) -> Verdict {
        let wanted = self.wanted_epoch(name, lease);
        let epoch = self.leases[lease as usize].epoch();
        let Some((_, stored)) = self.book.place(name) else { return Verdict::Stay };
        let Some(run) = self.runs.get_mut(name) else { return Verdict::Stay };
        run.handing_since = None;
        run.lease = Some(lease);
        if run.is_overtaken {
            // Under a greater epoch, once we have one.
            let has_one = epoch.is_some_and(|epoch| Some(epoch) > run.epoch && epoch >= wanted);
            if !has_one && epoch.is_some() {
                self.leases[lease as usize].wants_greater = true;
            }
            return if has_one { Verdict::Stop } else { Verdict::Stay };
        }
        let is_resolved = run.resolved.as_ref().is_some_and(|(r, a)| (*r, a) == (stored.revision, &stored.attachment));
        if is_resolved && !run.is_stale {
            return Verdict::Stay;
        }
        run.is_stale = false;
        run.resolved = Some((stored.revision, stored.attachment.clone()));
        match self.resolver.resolve(name, &stored.attachment) {
            _ if run.has_failed() => Verdict::Stop,
            Ok(stream) if fingerprint(&stream) != run.print => Verdict::Stop,
            Ok(stream) => {
                run.revision = stored.revision;
                self.out.extend(run.exchange(stream));
                Verdict::Stay
            }
            // Its secret may be on its way: what runs goes on as it does.
            Err(detail) => {
                tracing::error!(stream = name, "goes on as it was, since what is wished cannot be run: {detail}");
                Verdict::Stay
            }
        }
    }

    /// Of a stream that is somebody else's now: it goes on until that one has it.
    fn verdict_elsewhere(&mut self, name: &str) -> Verdict {
        let now = self.now.mono;
        let Some(run) = self.runs.get_mut(name) else { return Verdict::Stay };
        let since = *run.handing_since.get_or_insert(now);
        let has_successor = self.reports.get(name).is_some_and(|report| {
            Some(report.epoch) > run.epoch && matches!(report.state.as_str(), "playing" | "ended")
        });
        if has_successor || !run.is_on_stage() || now.saturating_sub(since) >= HAND_OVER {
            Verdict::Stop
        } else {
            Verdict::Stay
        }
    }

    /// The least epoch under which a stream may run here: that of every run of it that is known, and of every claim of a lease
    /// in which it lay.
    fn wanted_epoch(&self, name: &str, lease: u32) -> u64 {
        let reported = self.reports.get(name).map_or(0, |report| report.epoch);
        let claimed = |other: u32| self.leases.get(other as usize)?.newest.as_ref().map(|claim| claim.epoch);
        let elsewhere = self.book.entry(name).into_iter().flat_map(|entry| entry.leases());
        let attached_after = self.book.place(name).map_or(0, |(_, stored)| stored.after);
        elsewhere.filter(|other| *other != lease).filter_map(claimed).fold(reported.max(attached_after), u64::max)
    }

    fn settle_starts(&mut self) {
        let mut n_left = STARTS;
        let is_to_start = |(name, fixed): &(&String, &Fixed)| !fixed.is_started() && !self.runs.contains_key(*name);
        let names: Vec<String> = self.fixed.iter().filter(is_to_start).map(|(name, _)| name.clone()).collect();
        for name in names {
            if n_left == 0 {
                self.is_busy = true;
                return;
            }
            n_left -= 1;
            self.start_fixed(&name);
        }
        if !self.caught_up || self.is_held() {
            return;
        }
        for lease in self.granted_leases() {
            let Some(epoch) = self.leases[lease as usize].epoch() else { continue };
            let names: Vec<String> =
                self.book.names_in(lease).filter(|n| self.is_to_start(n, lease)).cloned().collect();
            for name in names {
                if self.wanted_epoch(&name, lease) > epoch {
                    self.leases[lease as usize].wants_greater = true;
                    continue;
                }
                if n_left == 0 {
                    self.is_busy = true;
                    return;
                }
                n_left -= 1;
                self.start(&name, lease, epoch);
            }
        }
    }

    fn is_to_start(&self, name: &str, lease: u32) -> bool {
        let Some((place, stored)) = self.book.place(name) else { return false };
        let has_ended = self
            .reports
            .get(name)
            .is_some_and(|r| r.state == "ended" && r.born == stored.born && r.revision >= stored.revision);
        place == lease && !has_ended && !self.runs.contains_key(name) && !self.fixed.contains_key(name)
    }

    fn start_fixed(&mut self, name: &str) {
        let Some(stream) = self.fixed.get_mut(name).and_then(|fixed| fixed.stream.take()) else { return };
        let mut run = Run::new(stream.name.clone(), None, None);
        run.was_started(&stream);
        self.runs.insert(name.to_owned(), run);
        self.out.push(Action::Start(Box::new(Start { stream, epoch: None, earlier: None })));
    }

    fn start(&mut self, name: &str, lease: u32, epoch: u64) {
        let Some((_, stored)) = self.book.place(name) else { return };
        let Ok(checked_name) = StreamName::new(name) else { return };
        let mut run = Run::new(checked_name, Some(lease), Some(epoch));
        (run.born, run.revision) = (stored.born, stored.revision);
        run.resolved = Some((stored.revision, stored.attachment.clone()));
        // Of a source that had come to its end, or that was another one, nothing is to be gone on from.
        let is_of_use = |report: &&Report| report.state != "ended" && report.born == stored.born;
        let report = self.reports.get(name).filter(is_of_use).cloned();
        run.earlier = report.map(|mut report| {
            report.position_ms = report.position_ms.filter(|_| report.revision >= stored.url_since);
            report
        });
        match self.resolver.resolve(name, &stored.attachment) {
            Ok(stream) => {
                run.was_started(&stream);
                let earlier = run.earlier.as_ref().and_then(earlier);
                self.out.push(Action::Start(Box::new(Start { stream, epoch: Some(epoch), earlier })));
            }
            Err(detail) => {
                tracing::error!(stream = name, "cannot be run: {detail}");
                run.phase = Phase::Over { state: StreamState::Failed, detail: Some(detail) };
            }
        }
        self.runs.insert(name.to_owned(), run);
    }

    /// A report of another run was read: an earlier one may have come further, a later one overtakes ours.
    pub(super) fn run_reported(&mut self, name: &str, report: &Report) {
        let url_since = self.book.place(name).map_or(0, |(_, stored)| stored.url_since);
        let now = self.now.mono;
        let Some(run) = self.runs.get_mut(name) else { return };
        let Some(own) = run.epoch else { return };
        run.is_overtaken |= report.epoch > own;
        let is_newer =
            run.earlier.as_ref().is_none_or(|known| (report.epoch, report.at_ms) > (known.epoch, known.at_ms));
        let is_of_use = report.born == run.born
            && report.epoch < own
            && is_newer
            && run.played_at.is_none_or(|at| now.saturating_sub(at) < HEARD_AFTER)
            && run.phase == Phase::Running { is_seen: true };
        if is_of_use && report.state != "ended" {
            let mut report = report.clone();
            report.position_ms = report.position_ms.filter(|_| report.revision >= url_since);
            if let Some(earlier) = earlier(&report) {
                self.out.push(Action::Earlier { name: run.name.clone(), earlier });
            }
            run.earlier = Some(report);
        }
    }
}

/// What a report says to a successor; none where it has never played.
fn earlier(report: &Report) -> Option<Earlier> {
    Some(Earlier {
        session: SessionId::from_text(report.session.as_deref()?)?,
        pts: Pts::from_millis(report.pts_ms),
        analysed_at: Timestamp::from_millisecond(report.analysed_at_ms?).ok()?,
        told_at: Timestamp::from_millisecond(report.at_ms).ok()?,
        released: report.released,
        position: report.position_ms.map(Pts::from_millis),
        alerts: report.alerts.clone(),
    })
}
