//! What an operator did wrong, and then right: a password, a certificate, a limit.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use super::{
    account::{Account, Restamped, number_of},
    run_case,
    stage::{ArenaGuard, Offer, Stage},
};
use crate::broker::{SASL_PASSWORD, SASL_USER};

pub(super) const WRONG_PASSWORD: &str = "wrong password, corrected";
pub(super) const EXPIRED_CERTIFICATE: &str = "server certificate expired, renewed";
pub(super) const TOO_LARGE: &str = "some messages too large";

#[test]
fn wrong_password() {
    run_case(WRONG_PASSWORD, |scale| {
        let arena = ArenaGuard::enter();
        let authority = arena.broker.certificate();
        let sink = format!(
            "password_file = \"password\"\n[sinks.kafka.properties]\n\"security.protocol\" = \"SASL_SSL\"\n\
             \"ssl.ca.location\" = {authority:?}\n\"sasl.mechanisms\" = \"SCRAM-SHA-512\"\n\
             \"sasl.username\" = \"{SASL_USER}\""
        );
        let mut stage = Stage::new("password", &[arena.broker.sasl_address()], &sink);
        arena.create_topic(&stage);
        stage.file("password", "wr0ng-passw0rd\n");
        let rate = scale.of(500, 2000);
        let mut run = stage.start(Offer { grace_secs: 1, ..Offer::at(rate) });
        run.wait_for_log("uthentication");
        run.wait_for_more(rate);
        let ended = run.terminate();
        ended.expect_waiting(ended.n("n_accepted"));
        assert!(!ended.log.contains("wr0ng-passw0rd"), "a secret is in the log:\n{}", ended.log);
        stage.file("password", &format!("{SASL_PASSWORD}\n"));
        let ended = stage.start(Offer { n_events: Some(rate), ..Offer::at(rate) }).end();
        stage.deliver_rest(&ended);
        let account = Account::read(&arena.broker.address(), &stage.topic());
        account.whole(stage.n_accepted(), Restamped::Never)
    });
}

#[test]
fn expired_certificate() {
    run_case(EXPIRED_CERTIFICATE, |scale| {
        let mut arena = ArenaGuard::enter();
        let authority = arena.broker.certificate();
        let sink =
            format!("[sinks.kafka.properties]\n\"security.protocol\" = \"SSL\"\n\"ssl.ca.location\" = {authority:?}");
        let mut stage = Stage::new("certificate", &[arena.broker.expired_address()], &sink);
        arena.create_topic(&stage);
        let (rate, topic) = (scale.of(500, 1000), stage.topic());
        let mut run = stage.start(Offer::at(rate));
        run.wait_for_log("certificate");
        run.wait_for_more(rate * 2);
        let before = Account::read(&arena.broker.address(), &topic);
        assert_eq!(before.n_arrived(), 0, "an expired certificate is not trusted");
        // The program is left alone: it is the broker's fault, and mended there.
        arena.broker.renew_certificate();
        arena.broker.stop();
        arena.broker.restart();
        run.wait_for_more(rate);
        let ended = run.terminate();
        stage.deliver_rest(&ended);
        let account = Account::read(&arena.broker.address(), &topic);
        account.whole(stage.n_accepted(), Restamped::Never)
    });
}

/// One limit is the sink's, the other the topic's. Records above either are put aside, and hold up none that fit.
#[test]
fn too_large() {
    run_case(TOO_LARGE, |scale| {
        let arena = ArenaGuard::enter();
        let sink = "compression = \"none\"\ndead_letters = \"letters.jsonl\"\nmax_record_bytes = 20000";
        let mut stage = Stage::new("large", &[arena.relay.address()], sink);
        let topic = stage.topic();
        arena.broker.create_topic(
            &topic,
            3,
            &[("message.timestamp.type", "LogAppendTime"), ("max.message.bytes", "10000")],
        );
        arena.disconnect();
        let n = scale.of(400, 4000);
        let waiting = Offer { grace_secs: 1, ..Offer::at(0) };
        let few = 10;
        // All wait in the spool in this order, so that those that fit are behind and before those that do not.
        let mut refused = BTreeSet::new();
        for (payload_bytes, n_events) in [(None, n), (Some(40_000), few), (None, n), (Some(15_000), few), (None, n)] {
            let first = stage.n_accepted();
            let ended = stage.start(Offer { n_events: Some(n_events), payload_bytes, ..waiting }).end();
            if payload_bytes.is_some() {
                refused.extend(first..first + n_events);
            }
            assert_eq!(stage.n_accepted(), first + n_events, "{}", ended.log);
        }
        arena.connect();
        // Until the broker answers; then everything is delivered or refused.
        let ended = loop {
            let ended = stage.start(Offer { n_events: Some(1), ..Offer::at(0) }).end();
            if ended.n("n_waiting") == 0 {
                break ended;
            }
        };
        assert_eq!(ended.code, Some(3), "{}; the program says:\n{}", ended.report, ended.log);
        let [n_failed, n_dropped, n_waiting] = ["n_failed", "n_dropped", "n_waiting"].map(|key| ended.n(key));
        assert_eq!((n_failed, n_dropped, n_waiting), (2 * few, 0, 0), "{}\n{}", ended.report, ended.log);
        let account = Account::read(&arena.broker.address(), &topic);
        let mut row = account.row(stage.n_accepted(), &refused, Restamped::Never);
        assert_eq!((row.n_lost, row.n_out_of_order), (0, 0), "{row:?}");
        assert_eq!(row.n_arrived, stage.n_accepted() - 2 * few, "{row:?}");

        let letters = fs::read_to_string(stage.path("letters.jsonl")).unwrap();
        let letters: Vec<Value> = letters.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let numbers: BTreeSet<u64> = letters.iter().map(number).collect();
        assert_eq!(numbers, refused, "each is with the dead letters");
        for letter in &letters {
            let reason = letter["reason"].as_str().unwrap();
            assert!(
                reason.contains("max_record_bytes") || reason.contains("max.message.bytes"),
                "what to do: {reason}"
            );
        }
        row.note = format!("{} refused, in the dead letters, exit code 3", refused.len());
        row
    });
}

/// The number of the event of a dead letter.
fn number(letter: &Value) -> u64 {
    let id = letter["record"]["id"].as_str().unwrap();
    number_of(letter["key"].as_str().unwrap(), id)
}
