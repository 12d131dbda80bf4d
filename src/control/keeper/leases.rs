//! Which leases are ours, when to claim, and what others' claims mean. Part of the state machine.

use std::time::Duration;

use sinks::control::Post;

use super::{Action, Keeper, wishes::Errand};

/// Somebody claims a lease that the group says is ours: so long it is waited whether the group thinks again, before the
/// lease is claimed once more.
const BEFORE_CLAIMING_AGAIN: Duration = Duration::from_secs(2);
/// Between tries to claim where the plane failed, or the claim was not great enough.
const BETWEEN_CLAIMS: Duration = Duration::from_millis(250);

/// No plane has more: a greater number is somebody's mistake.
const MOST_LEASES: u32 = 1 << 16;

/// One lease, as this worker sees it.
#[derive(Default)]
pub(super) struct Lease {
    /// The greatest claim that was read.
    pub(super) newest: Option<Claim>,
    pub(super) grip: Grip,
    /// Claims of ours that were posted and neither read back nor refused.
    n_claiming: u32,
    /// Not to be claimed before.
    claim_after: Duration,
    /// The claim is not great enough for some stream that has come from elsewhere.
    pub(super) wants_greater: bool,
}

/// A claim that was read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Claim {
    /// Its id.
    pub(super) worker: String,
    pub(super) epoch: u64,
    /// This process posted it.
    pub(super) is_mine: bool,
}

/// What the group says about a lease.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) enum Grip {
    /// It is not ours.
    #[default]
    None,
    /// It is ours.
    Granted,
    /// It was ours: its streams go on until a successor plays.
    HandingOver,
    /// It was taken without asking: its streams go on until somebody else claims it.
    Lost,
    /// The same, and we were frozen: somebody else has it for sure.
    Forfeit,
}

/// Whether anything may be published.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Hold {
    /// Yes.
    Open,
    /// No, before then: it has to be seen whether the group went on without us.
    Held(Duration),
    /// No: the group did. Until no stream of a forfeited lease is left.
    Lost,
}

impl Lease {
    /// The epoch under which streams are started: of our own claim, where it is the newest.
    pub(super) fn epoch(&self) -> Option<u64> {
        self.newest.as_ref().filter(|claim| claim.is_mine && self.grip == Grip::Granted).map(|claim| claim.epoch)
    }
}

impl Keeper {
    pub(super) fn is_held(&self) -> bool {
        self.hold != Hold::Open
    }

    pub(super) fn is_granted(&self, lease: u32) -> bool {
        self.leases.get(lease as usize).is_some_and(|lease| lease.grip == Grip::Granted)
    }

    pub(super) fn granted_leases(&self) -> Vec<u32> {
        (0..self.me.n_leases).filter(|lease| self.is_granted(*lease)).collect()
    }

    /// The plane has found out how many leases there are.
    pub(super) fn set_leases(&mut self, n_leases: u32) {
        self.me.n_leases = n_leases;
        self.book.set_leases(n_leases);
        let n_known = self.leases.len().max(n_leases as usize);
        self.leases.resize_with(n_known, Lease::default);
    }

    /// What is said about a lease may come before the plane has found out that there is one.
    fn know_lease(&mut self, lease: u32) {
        let n_known = self.leases.len().max(lease as usize + 1);
        self.leases.resize_with(n_known, Lease::default);
    }

    /// Of all claims of other leases.
    pub(super) fn greatest_epoch(&self, but: u32) -> u64 {
        let others = self.leases.iter().enumerate().filter(|(lease, _)| *lease != but as usize);
        others.filter_map(|(_, lease)| lease.newest.as_ref()).map(|claim| claim.epoch).max().unwrap_or(0)
    }

    pub(super) fn read_claim(&mut self, lease: u32, claimant: &str, epoch: u64) {
        if lease >= MOST_LEASES {
            return;
        }
        self.know_lease(lease);
        let state = &mut self.leases[lease as usize];
        // One under the same id that this process did not post is of an earlier life, or of a process that was given the same.
        let is_mine = claimant == self.me.claimant;
        if is_mine {
            state.n_claiming = state.n_claiming.saturating_sub(1);
        }
        if state.newest.as_ref().is_some_and(|claim| claim.epoch >= epoch) {
            state.claim_after = self.now.mono + BEFORE_CLAIMING_AGAIN;
            return;
        }
        state.newest = Some(Claim { worker: worker_of(claimant).to_owned(), epoch, is_mine });
        if is_mine {
            state.wants_greater = false;
            state.claim_after = self.now.mono + BETWEEN_CLAIMS;
            return;
        }
        if state.grip == Grip::Granted && self.caught_up {
            state.claim_after = self.now.mono + BEFORE_CLAIMING_AGAIN;
        }
        self.duties.unsettled(self.now.mono);
        for run in self.runs.values_mut().filter(|run| run.lease == Some(lease)) {
            run.is_overtaken |= run.epoch.is_some_and(|own| epoch > own);
        }
    }

    pub(super) fn granted(&mut self, leases: &[u32]) {
        for lease in leases.iter().filter(|lease| **lease < MOST_LEASES) {
            self.know_lease(*lease);
            let lease = &mut self.leases[*lease as usize];
            lease.grip = Grip::Granted;
            lease.claim_after = self.now.mono;
        }
        self.duties.unsettled(self.now.mono);
    }

    pub(super) fn revoked(&mut self, leases: &[u32], lost: bool) {
        for lease in leases {
            let Some(lease) = self.leases.get_mut(*lease as usize) else { continue };
            lease.grip = match (lost, self.hold) {
                (false, _) => Grip::HandingOver,
                (true, Hold::Open) => Grip::Lost,
                (true, _) => Grip::Forfeit,
            };
        }
        self.duties.unsettled(self.now.mono);
        if lost && self.is_held() {
            self.hold = Hold::Lost;
        }
    }

    pub(super) fn woke(&mut self) {
        if let Some(timeout) = self.me.session_timeout {
            tracing::warn!("this process was frozen: nothing is published until its leases are sure");
            self.hold = Hold::Held(self.now.mono + timeout);
            self.out.push(Action::Hold(true));
        }
    }

    pub(super) fn release_hold(&mut self) {
        let is_over = match self.hold {
            Hold::Open => false,
            Hold::Held(until) => self.now.mono >= until,
            Hold::Lost => !self.runs.values().any(|run| {
                let lease = run.lease.and_then(|lease| self.leases.get(lease as usize));
                run.is_on_stage() && lease.is_some_and(|lease| lease.grip == Grip::Forfeit)
            }),
        };
        if is_over {
            self.open();
        }
    }

    fn open(&mut self) {
        tracing::info!("the leases are sure again");
        self.hold = Hold::Open;
        self.out.push(Action::Hold(false));
    }

    /// Claims what is granted and not claimed, or not claimed greatly enough.
    pub(super) fn settle_claims(&mut self) {
        if !self.caught_up || self.is_held() || self.leaving.is_some() {
            return;
        }
        for number in 0..self.me.n_leases {
            let lease = &mut self.leases[number as usize];
            let is_due = lease.grip == Grip::Granted
                && lease.n_claiming == 0
                && self.now.mono >= lease.claim_after
                && (lease.wants_greater || !lease.newest.as_ref().is_some_and(|claim| claim.is_mine));
            if is_due {
                lease.n_claiming += 1;
                let worker = self.me.claimant.clone();
                self.post(Errand::Claim(number), Post::Claim { lease: number, worker });
            }
        }
    }

    /// A claim could not be written, as far as is known.
    pub(super) fn claim_failed(&mut self, lease: u32) {
        if let Some(lease) = self.leases.get_mut(lease as usize) {
            lease.n_claiming = lease.n_claiming.saturating_sub(1);
            lease.claim_after = self.now.mono + BETWEEN_CLAIMS;
        }
    }
}

/// The id of the worker that claims. Claims of earlier versions say nothing else.
fn worker_of(claimant: &str) -> &str {
    claimant.rsplit_once('#').map_or(claimant, |(worker, _)| worker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_name_their_workers() {
        let check = |claimant: &str, expected: &str| assert_eq!(worker_of(claimant), expected);
        check("north-1#00c0ffee", "north-1");
        check("north-1", "north-1");
    }
}
