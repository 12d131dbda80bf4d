//! Who has which lease, when workers come, leave, are killed and are frozen.

use std::{collections::BTreeSet, sync::Arc};

use base::time::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::{
    cluster,
    member::{Member, leases},
    wait_for,
};

const ALL: usize = 12;

/// Two workers, each with half of the leases.
fn two(config: &Value, clock: &Arc<dyn Clock>) -> (Member, Member) {
    let a = Member::start(config, "a", clock);
    a.wait_held(ALL);
    let b = Member::start(config, "b", clock);
    check_shares(&[(&a, ALL / 2), (&b, ALL / 2)]);
    (a, b)
}

/// Waits until each has so many; together they have all.
fn check_shares(shares: &[(&Member, usize)]) {
    wait_for(|| {
        let held: Vec<_> = shares.iter().map(|(member, _)| member.held()).collect();
        let n_held: Vec<_> = held.iter().map(BTreeSet::len).collect();
        let n_together = held.iter().flatten().collect::<BTreeSet<_>>().len();
        match n_together == ALL && n_held.iter().eq(shares.iter().map(|(_, n)| n)) {
            true => Ok(()),
            false => Err(format!("they hold {held:?}")),
        }
    });
}

fn revoked(member: &Member, from: usize) -> Vec<Value> {
    member.heard().into_iter().skip(from).filter(|news| news["news"] == "revoked").collect()
}

#[test]
fn a_worker_that_comes_is_given_some_and_the_others_keep_the_rest() {
    let clock = SystemClock::new();
    let config = cluster("comes");
    let a = Member::start(&config, "a", &clock);
    let before = a.wait_held(ALL);
    let b = Member::start(&config, "b", &clock);
    check_shares(&[(&a, 6), (&b, 6)]);
    let lost: BTreeSet<u64> = revoked(&a, 0).iter().flat_map(leases).collect();
    assert!(revoked(&a, 0).iter().all(|news| news["lost"] == false), "{:?}", revoked(&a, 0));
    assert_eq!((lost.len(), &lost), (6, &b.held()), "no other lease was touched");
    assert_eq!(a.held(), before.difference(&lost).copied().collect());
    let c = Member::start(&config, "c", &clock);
    check_shares(&[(&a, 4), (&b, 4), (&c, 4)]);
}

#[test]
fn a_worker_that_leaves_hands_over() {
    let clock = SystemClock::new();
    let config = cluster("leaves");
    let (mut a, mut b) = two(&config, &clock);
    let had = a.held();
    let (a_from, b_from) = (a.heard().len(), b.heard().len());
    a.leave();
    check_shares(&[(&a, 0), (&b, ALL)]);
    let gone = revoked(&a, a_from);
    assert!(gone.iter().all(|news| news["lost"] == false), "{gone:?}");
    assert_eq!(gone.iter().flat_map(leases).collect::<BTreeSet<_>>(), had);
    assert_eq!(revoked(&b, b_from), Vec::<Value>::new(), "whoever stays loses nothing, not for a moment");
    // It may still say how far it came, and hear what others do.
    assert_eq!(a.post_and_wait(json!({ "post": "checkpoint", "name": "yard", "text": "released" })), Value::Null);
    b.wait("released", |news| news["text"] == "released");
    assert_eq!(b.post_and_wait(json!({ "post": "claim", "lease": 1, "worker": "b" })), Value::Null);
    a.wait("a claim", |news| news["news"] == "claimed" && news["worker"] == "b");
    a.end();
    b.end();
}

#[test]
fn a_killed_workers_leases_go_to_the_others() {
    let clock = SystemClock::new();
    let config = cluster("killed");
    let (mut a, b) = two(&config, &clock);
    let c = Member::start(&config, "c", &clock);
    check_shares(&[(&a, 4), (&b, 4), (&c, 4)]);
    let (b_from, c_from) = (b.heard().len(), c.heard().len());
    a.kill();
    check_shares(&[(&b, 6), (&c, 6)]);
    for (member, from) in [(&b, b_from), (&c, c_from)] {
        assert_eq!(revoked(member, from), Vec::<Value>::new(), "nobody else loses anything");
    }
}

#[test]
fn a_frozen_worker_is_told_when_it_wakes() {
    let clock = SystemClock::new();
    let config = cluster("frozen");
    let (a, b) = two(&config, &clock);
    let (had, from) = (a.held(), a.heard().len());
    a.signal("STOP");
    check_shares(&[(&b, ALL)]);
    assert_eq!(a.held(), had, "it cannot know");
    a.signal("CONT");
    let at = a.wait_from(from, "loss", |news| news["news"] == "revoked");
    let told = a.heard()[at].clone();
    assert_eq!((leases(&told), &told["lost"]), (had, &true.into()));
    check_shares(&[(&a, 6), (&b, 6)]);
}
