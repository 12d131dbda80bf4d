//! The broker goes away, in every way that it can.

use std::{collections::BTreeSet, time::Duration};

use super::{
    account::{Account, Restamped},
    run_case,
    stage::{ArenaGuard, Offer, Stage, wait_for_arrivals},
};
use crate::broker::cluster::Cluster;

/// Longest wait for replicas.
const PATIENCE: Duration = Duration::from_secs(90);

pub(super) const STOPPED: &str = "broker stopped under load, started again";
pub(super) const KILLED: &str = "broker killed -9 under load, restarted";
pub(super) const ONE_OF_THREE: &str = "three brokers: one killed, then a leader";
pub(super) const NETWORK_CUT: &str = "network cut (black hole), connections reset";
pub(super) const TOPIC_DELETED: &str = "topic deleted under us";

#[test]
fn broker_stopped() {
    run_case(STOPPED, |scale| {
        let mut arena = ArenaGuard::enter();
        let mut stage = Stage::new("stopped", &[arena.broker.address()], "");
        let topic = stage.topic();
        arena.create_topic(&stage);
        let (rate, away_secs) = scale.of((500, 6), (1000, 120));
        let mut run = stage.start(Offer::at(rate));
        run.wait_for_more(rate);
        wait_for_arrivals(&arena.broker.address(), &topic);
        arena.broker.stop();
        // Events are accepted all the while.
        run.wait_for_more(rate * away_secs);
        arena.broker.restart();
        run.wait_for_more(rate * 2);
        let ended = run.terminate();
        stage.deliver_rest(&ended);
        let account = Account::read(&arena.broker.address(), &topic);
        let row = account.whole(stage.n_accepted(), Restamped::Never);
        assert!(account.silence_ms() >= 1000 * away_secs as i64, "the broker was away: {row:?}");
        row
    });
}

#[test]
fn broker_killed() {
    run_case(KILLED, |scale| {
        let mut arena = ArenaGuard::enter();
        let mut stage = Stage::new("killed", &[arena.broker.address()], "");
        let topic = stage.topic();
        arena.create_topic(&stage);
        let (rate, n_times) = scale.of((1000, 1), (2000, 5));
        let mut run = stage.start(Offer::at(rate));
        wait_for_arrivals(&arena.broker.address(), &topic);
        for _ in 0..n_times {
            run.wait_for_more(rate);
            arena.broker.kill();
            run.wait_for_more(rate);
            arena.broker.restart();
        }
        run.wait_for_more(rate);
        let ended = run.terminate();
        stage.deliver_rest(&ended);
        let account = Account::read(&arena.broker.address(), &topic);
        let mut row = account.whole(stage.n_accepted(), Restamped::Never);
        assert!(account.silence_ms() >= 1000, "the broker was away: {row:?}");
        row.note = format!("{n_times} x");
        row
    });
}

#[test]
fn one_broker_of_three_killed() {
    run_case(ONE_OF_THREE, |scale| {
        let mut cluster = Cluster::start();
        let mut stage = Stage::new("three", &cluster.addresses(), "");
        let topic = stage.topic();
        cluster.create_topic(&topic, 3, &[("message.timestamp.type", "LogAppendTime")]);
        let (rate, n_rounds) = scale.of((500, 1), (1000, 3));
        let mut run = stage.start(Offer::at(rate));
        wait_for_arrivals(&cluster.addresses().join(","), &topic);
        let mut n_killed = 0;
        for _ in 0..n_rounds {
            // The one that leads a partition; and, once it is back, the one that leads it now.
            for _ in 0..2 {
                let victim = cluster.leader(&topic, 0);
                cluster.kill(victim);
                n_killed += 1;
                run.wait_for_more(rate * 2);
                cluster.restart(victim);
                cluster.wait_in_sync(&topic, PATIENCE);
                assert_ne!(cluster.leader(&topic, 0), victim, "another leads now");
            }
        }
        run.wait_for_more(rate);
        let ended = run.terminate();
        stage.deliver_rest(&ended);
        let account = Account::read(&cluster.addresses().join(","), &topic);
        let mut row = account.whole(stage.n_accepted(), Restamped::Never);
        row.note = format!("{n_killed} killed");
        row
    });
}

#[test]
fn network_cut() {
    run_case(NETWORK_CUT, |scale| {
        let arena = ArenaGuard::enter();
        let mut stage = Stage::new("network", &[arena.relay.address()], "");
        let topic = stage.topic();
        arena.create_topic(&stage);
        let (rate, cut_secs, n_resets) = scale.of((500, 4, 3), (1000, 100, 20));
        let mut run = stage.start(Offer::at(rate));
        wait_for_arrivals(&arena.broker.address(), &topic);
        arena.relay.cut();
        let n_passed = arena.relay.n_bytes();
        run.wait_for_more(rate * cut_secs);
        // What a pump already held when the network was cut.
        assert!(arena.relay.n_bytes() - n_passed < 256 * 1024, "nothing passed");
        arena.relay.heal();
        let mut n_reset = 0;
        for _ in 0..n_resets {
            run.wait_for_more(rate);
            n_reset += arena.relay.reset();
        }
        run.wait_for_more(rate);
        let ended = run.terminate();
        stage.deliver_rest(&ended);
        assert!(n_reset >= n_resets, "connections were open and then reset: {n_reset}");
        let account = Account::read(&arena.broker.address(), &topic);
        let mut row = account.whole(stage.n_accepted(), Restamped::Never);
        assert!(account.silence_ms() >= 1000 * (cut_secs as i64 - 1), "the network was cut: {row:?}");
        row.note = format!("cut {cut_secs} s, {n_resets} resets");
        row
    });
}

/// Records that the topic already had go with it; nobody can promise those. All others must arrive in the new one.
#[test]
fn topic_deleted() {
    run_case(TOPIC_DELETED, |scale| {
        let arena = ArenaGuard::enter();
        let mut stage = Stage::new("deleted", &[arena.relay.address()], "");
        arena.create_topic(&stage);
        let topic = stage.topic();
        let rate = scale.of(500, 1000);
        let mut run = stage.start(Offer::at(rate));
        wait_for_arrivals(&arena.broker.address(), &topic);
        run.wait_for_more(rate);
        // Nothing is acknowledged from here on, so that it is known what was in the topic when it went.
        arena.relay.cut();
        run.wait_for_more(rate);
        let before = Account::read(&arena.broker.address(), &topic);
        arena.broker.delete_topic(&topic);
        arena.relay.heal();
        run.wait_for_more(2 * rate);
        let ended = run.terminate();
        stage.deliver_rest(&ended);
        let after = Account::read(&arena.broker.address(), &topic);
        let n_accepted = stage.n_accepted();
        assert!(before.n_arrived() > 0 && after.n_arrived() < n_accepted, "what was in the topic is gone");
        let gone: BTreeSet<u64> = (0..n_accepted).filter(|&n| before.has(n)).collect();
        let mut row = after.row(n_accepted, &gone, Restamped::Never);
        assert_eq!((row.n_lost, row.n_out_of_order), (0, 0), "{row:?}");
        row.n_arrived = (0..n_accepted).filter(|&n| before.has(n) || after.has(n)).count() as u64;

        // Once more in full flow: nobody knows what the topic had by then, but all that is accepted after it must arrive.
        let mut run = stage.start(Offer::at(rate));
        run.wait_for_more(2 * rate);
        arena.broker.delete_topic(&topic);
        let n_before = run.accepted();
        run.wait_for_more(2 * rate);
        let ended = run.terminate();
        stage.deliver_rest(&ended);
        let last = Account::read(&arena.broker.address(), &topic);
        assert!(!last.has(n_accepted), "what was in the topic is gone");
        let earlier = (0..n_before).collect();
        let after_it = last.row(stage.n_accepted(), &earlier, Restamped::Never);
        assert_eq!((after_it.n_lost, after_it.n_out_of_order), (0, 0), "{after_it:?}");
        row.note = format!("{} of them in the topic that went", gone.len());
        row
    });
}
