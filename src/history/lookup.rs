//! Looking things up, and being stopped at it. On the caller's thread, which waits for the disk.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use parking_lot::Mutex;
use sinks::history::{Audit, HistoryError, Reader, Stopper};

use super::{History, Standing};

/// Stops a look-up, from any thread, before it has begun as well.
#[derive(Clone, Default)]
pub struct Stop(Arc<Mutex<(bool, Option<Stopper>)>>);

impl Stop {
    /// Stops it.
    pub fn stop(&self) {
        let mut state = self.0.lock();
        state.0 = true;
        if let Some(stopper) = &state.1 {
            stopper.stop();
        }
    }

    fn arm(&self, stopper: Stopper) {
        let mut state = self.0.lock();
        if state.0 {
            stopper.stop();
        }
        state.1 = Some(stopper);
    }
}

/// Why nothing could be looked up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// It was told to stop.
    #[error("it was stopped")]
    Stopped,
    /// In words, without secrets.
    #[error("{0}")]
    Failed(String),
}

impl History {
    /// Looks something up over a connection of its own.
    ///
    /// # Errors
    /// When nothing is kept at present, the file cannot be read, or it was stopped.
    pub fn look_up<T>(&self, stop: &Stop, work: impl FnOnce(&Reader) -> Result<T, HistoryError>) -> Result<T, Unread> {
        let file = match &*self.0.standing.lock() {
            Standing::Kept { file } => *file,
            Standing::Off(why) => return Err(Unread::Failed(why.clone())),
        };
        let looked = Reader::open(&self.0.config.dir).and_then(|reader| {
            stop.arm(reader.stopper());
            work(&reader)
        });
        looked.map_err(|error| match error {
            HistoryError::Stopped => Unread::Stopped,
            error => {
                if error.is_damage() {
                    // The thread puts it aside, if it is still the same.
                    self.0.damaged.store(file, Relaxed);
                }
                Unread::Failed(error.to_string())
            }
        })
    }

    /// The newest entries of the audit, newest first. Waits for the disk; what was told within the last second may be
    /// missing.
    ///
    /// # Errors
    /// When nothing is kept at present, or the file cannot be read.
    pub fn audits(&self, limit: usize) -> Result<Vec<Audit>, Unread> {
        self.look_up(&Stop::default(), |reader| reader.audits(limit))
    }
}
