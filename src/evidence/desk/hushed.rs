//! Open alerts of which every record so far was silenced: nobody was told of them, and so nobody is told of their end. Changed
//! on streams' threads, which must not wait; written on the thread `desk`, about once a second where something has changed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{super::Ended, AlertDesk, DeskError, Silence};

/// Kept at the same time; the oldest go first, and are told of like others.
pub(super) const MOST: usize = 10_000;
/// What has changed waits so long at most.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// Nobody was told of an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hush {
    /// When it was opened, milliseconds since 1970.
    pub(super) since_ms: i64,
    /// Why not.
    pub(super) silence: Silence,
}

/// All of them, by the alert's id.
pub(super) struct Hushed {
    alerts: BTreeMap<String, Hush>,
    n_changes: u64,
}

impl Hushed {
    pub(super) const fn new(alerts: BTreeMap<String, Hush>) -> Self {
        Self { alerts, n_changes: 0 }
    }

    pub(super) fn insert(&mut self, alert: String, hush: Hush) {
        if self.alerts.len() >= MOST
            && let Some(oldest) = self.alerts.iter().min_by_key(|(_, hush)| hush.since_ms).map(|(id, _)| id.clone())
        {
            self.alerts.remove(&oldest);
        }
        self.alerts.insert(alert, hush);
        self.n_changes += 1;
    }

    /// Somebody is told of it, or it is over.
    pub(super) fn remove(&mut self, alert: &str) -> Option<Silence> {
        let Hush { silence, .. } = self.alerts.remove(alert)?;
        self.n_changes += 1;
        Some(silence)
    }

    /// As it is now, and how many changes that are.
    pub(super) fn now(&self) -> (BTreeMap<String, Hush>, u64) {
        (self.alerts.clone(), self.n_changes)
    }

    #[cfg(test)]
    pub(super) fn n_alerts(&self) -> usize {
        self.alerts.len()
    }
}

impl AlertDesk {
    /// Starts the thread `desk`, which ends with the last clone.
    pub(super) fn start(&self) {
        let (shared, over) = (Arc::downgrade(&self.0), self.0.over.clone());
        let ended = Ended(self.0.done.clone());
        let started = std::thread::Builder::new().name("desk".into()).spawn(move || {
            let _ended = ended;
            let mut is_troubled = false;
            loop {
                let is_over = over.wait_timeout(WRITE_EVERY);
                let Some(inner) = shared.upgrade() else { return };
                let kept = Self(inner).keep();
                if let Err(error) = &kept
                    && !is_troubled
                {
                    tracing::error!(
                        "{error}; should this process end now, the end of alerts that are silenced will be told to those who \
                         were told nothing of them"
                    );
                }
                is_troubled = kept.is_err();
                if is_over {
                    return;
                }
            }
        });
        if let Err(error) = started {
            tracing::error!(
                "cannot start thread desk: {error}; of which alerts nobody was told is not kept over a restart"
            );
        }
    }

    /// Writes what has changed, if anything has. Waits for the disk.
    fn keep(&self) -> Result<(), DeskError> {
        let mut n_written = self.0.writing.lock();
        if self.0.hushed.lock().n_changes == *n_written {
            return Ok(());
        }
        let said = self.0.said.read().clone();
        self.write(said, &mut n_written).map(drop)
    }
}
