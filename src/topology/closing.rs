//! What a stop means for the sinks: those that take nothing hold nobody up for ever.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use base::queue::{QueueReading, WhenFull};
use sinks::SinkHandle;

use crate::roster::QueueProbe;

/// How often a stop looks whether a sink holds it up.
const LOOK_AFTER: Duration = Duration::from_millis(20);

/// Does what still publishes, and then begins the sinks' grace period. A sink whose full queue holds that up while things
/// `come_to_an_end` begins its own at once: else nothing ever would.
pub(super) fn while_sinks_take<T>(
    sinks: &[(SinkHandle, QueueProbe)],
    come_to_an_end: impl Fn() -> bool + Sync,
    work: impl FnOnce() -> T,
) -> T {
    let done = AtomicBool::new(false);
    let drain_full = || {
        while !done.load(Relaxed) {
            for (sink, queue) in sinks {
                let QueueReading { n_items, capacity, when_full, .. } = queue();
                if when_full == WhenFull::Block && n_items >= capacity && come_to_an_end() {
                    sink.drain();
                }
            }
            std::thread::sleep(LOOK_AFTER);
        }
    };
    let outcome = std::thread::scope(|scope| {
        let watch = std::thread::Builder::new().name("closing".into()).spawn_scoped(scope, drain_full);
        if watch.is_err() {
            // Nobody would let go of a full one.
            sinks.iter().for_each(|(sink, _)| sink.drain());
        }
        let _ends_the_watch = Done(&done);
        work()
    });
    sinks.iter().for_each(|(sink, _)| sink.drain());
    outcome
}

/// Says so when it is dropped, also by a panic.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
