//! The one shutdown signal of the house. Everything that waits, waits on it.

use std::{sync::Arc, time::Duration};

use parking_lot::{Condvar, Mutex};

#[derive(Default)]
struct Inner {
    triggered: Mutex<bool>,
    wake: Condvar,
}

/// Clones share the signal.
#[derive(Clone, Default)]
pub struct Shutdown(Arc<Inner>);

impl Shutdown {
    /// Tells everybody to stop. Cannot be taken back.
    pub fn trigger(&self) {
        *self.0.triggered.lock() = true;
        self.0.wake.notify_all();
    }

    /// Whether the signal was given.
    pub fn is_triggered(&self) -> bool {
        *self.0.triggered.lock()
    }

    /// Sleeps until the signal, at most `timeout`; true when the signal was given.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let mut triggered = self.0.triggered.lock();
        if !*triggered {
            self.0.wake.wait_while_for(&mut triggered, |t| !*t, timeout);
        }
        *triggered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wakes_every_waiter() {
        let signal = Shutdown::default();
        assert!(!signal.wait_timeout(Duration::from_millis(1)));
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let signal = signal.clone();
                std::thread::Builder::new().spawn(move || signal.wait_timeout(Duration::from_secs(60))).expect("thread")
            })
            .collect();
        signal.trigger();
        for waiter in waiters {
            assert!(waiter.join().expect("waiter"));
        }
        assert!(signal.is_triggered());
    }
}
