//! No more room: on the disk, or in the spool as it was bounded.

use std::{collections::BTreeSet, time::Duration};

use super::{
    account::{Account, Restamped},
    run_case,
    stage::{ArenaGuard, N_STREAMS, Offer, Stage},
};
use crate::broker;

pub(super) const DISK_FULL: &str = "disk full";
pub(super) const SPOOL_FULL_BLOCKS: &str = "spool full, when_full = \"block\"";
pub(super) const SPOOL_FULL_DROPS: &str = "spool full, when_full = \"drop_oldest\"";

/// So long without an event accepted, and it stands still.
const QUIET: Duration = Duration::from_secs(1);

#[test]
fn disk_full() {
    run_case(DISK_FULL, |scale| {
        let arena = ArenaGuard::enter();
        let mib = scale.of(4, 64);
        // A file system of its own, in a mount namespace that goes with the process.
        let mount = "mkdir -p disk && mount -t tmpfs -o size=\"$0\"m tmpfs disk && exec \"$@\"";
        let mib = mib.to_string();
        let mut stage = Stage::new("disk", &[arena.relay.address()], "spool = { path = \"disk/spool\" }").wrapped(&[
            "unshare",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            mount,
            &mib,
        ]);
        arena.create_topic(&stage);
        arena.disconnect();
        let mut run = stage.start(Offer::at(0));
        run.wait_for_log("the disk is full");
        let full_at = run.wait_for_standstill(QUIET);
        arena.connect();
        run.wait_for_more(2000);
        // Nothing may wait any more: the disk goes with the process.
        run.terminate().expect_waiting(0);
        let account = Account::read(&arena.broker.address(), &stage.topic());
        let mut row = account.whole(stage.n_accepted(), Restamped::Never);
        row.note = format!("{mib} MiB, full at {full_at} events");
        row
    });
}

#[test]
fn spool_full_blocks() {
    run_case(SPOOL_FULL_BLOCKS, |scale| {
        let arena = ArenaGuard::enter();
        let max_bytes: u64 = scale.of(1 << 20, 64 << 20);
        let sink = format!("spool = {{ max_bytes = {max_bytes} }}");
        let mut stage = Stage::new("blocked", &[arena.relay.address()], &sink);
        arena.create_topic(&stage);
        arena.disconnect();
        let mut run = stage.start(Offer::at(0));
        run.wait_for_log("full");
        let full_at = run.wait_for_standstill(QUIET);
        arena.connect();
        run.wait_for_more(2000);
        let ended = run.terminate();
        stage.deliver_rest(&ended);
        let account = Account::read(&arena.broker.address(), &stage.topic());
        let mut row = account.whole(stage.n_accepted(), Restamped::Never);
        row.note = format!("full at {full_at} events");
        row
    });
}

/// Here events are lost, as it was configured; and nobody is left to guess how many, and of which stream.
#[test]
fn spool_full_drops_the_oldest() {
    run_case(SPOOL_FULL_DROPS, |scale| {
        let arena = ArenaGuard::enter();
        let max_bytes: u64 = scale.of(1 << 20, 16 << 20);
        let sink = format!("spool = {{ max_bytes = {max_bytes}, when_full = \"drop_oldest\" }}");
        let mut stage = Stage::new("dropped", &[arena.relay.address()], &sink);
        arena.create_topic(&stage);
        arena.disconnect();
        // More than the client takes on top of what the spool holds.
        let n_events = scale.of(40_000, 160_000);
        let mut run = stage.start(Offer { n_events: Some(n_events), ..Offer::at(0) });
        run.wait_for_log("dropped");
        let ended = run.end();
        assert_eq!(ended.code, Some(3), "{}; the program says:\n{}", ended.report, ended.log);
        let (n_dropped, n_waiting) = (ended.n("n_dropped"), ended.n("n_waiting"));
        assert_eq!(ended.n("n_failed"), 0, "{}", ended.report);
        arena.connect();
        // What was not dropped is there for the next one.
        let next = stage.start(Offer { n_events: Some(1), ..Offer::at(0) }).end();
        stage.deliver_rest(&next);

        let account = Account::read(&arena.broker.address(), &stage.topic());
        let mut row = account.row(stage.n_accepted(), &BTreeSet::new(), Restamped::Never);
        assert!(row.n_lost > 0, "more was offered than the spool holds: {row:?}");
        assert_eq!(row.n_out_of_order, 0, "{row:?}");
        let gaps = Gaps::read(&arena.broker.address(), &stage.status_topic());
        assert_eq!(gaps.streams.len() as u64, N_STREAMS, "each stream hears of its gap: {:?}", gaps.streams);
        assert_eq!(row.n_lost, n_dropped, "as many as the program says: {gaps:?}, {n_waiting} waited");
        row.note = format!("as configured: exit code 3, {} gap records", gaps.n_records);
        row
    });
}

/// What the topic of status says of full spools.
#[derive(Debug, Default)]
struct Gaps {
    streams: BTreeSet<String>,
    n_records: u64,
}

impl Gaps {
    fn read(brokers: &str, topic: &str) -> Self {
        let mut gaps = Self::default();
        let whole = broker::read(brokers, topic, Duration::from_secs(60), |record| {
            let payload: serde_json::Value = serde_json::from_str(&record.payload).unwrap();
            assert_eq!((&payload["type"], &payload["reason"]), (&"gap".into(), &"spool_full".into()), "{payload}");
            assert_eq!(payload["stream"], record.key.as_str());
            gaps.streams.insert(record.key);
            gaps.n_records += 1;
        });
        assert!(whole, "kcat could not read {topic}");
        gaps
    }
}
