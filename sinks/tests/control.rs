//! The control plane's store on a real Apache Kafka, with workers in processes of their own.

use std::{sync::LazyLock, time::Duration};

use base::time::SystemClock;
use broker::Broker;
use serde_json::json;

mod broker;
#[path = "control/leases.rs"]
mod leases;
#[path = "control/member.rs"]
mod member;
#[path = "control/outages.rs"]
mod outages;
#[path = "control/records.rs"]
mod records;
#[path = "control/topics.rs"]
mod topics;

const PATIENCE: Duration = Duration::from_secs(90);

/// For all tests that leave it as it is. It ends with this process.
static BROKER: LazyLock<Broker> = LazyLock::new(Broker::start);

/// A cluster of its own on [`BROKER`], with 12 leases.
fn cluster(name: &str) -> serde_json::Value {
    json!({ "brokers": [BROKER.address()], "topic_prefix": name, "group": name, "leases": 12 })
}

/// Waits until `what` is there.
fn wait_for<T>(mut what: impl FnMut() -> Result<T, String>) -> T {
    let clock = SystemClock::new();
    loop {
        match what() {
            Ok(it) => return it,
            Err(instead) => assert!(clock.monotonic() < PATIENCE, "after {PATIENCE:?} {instead}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
