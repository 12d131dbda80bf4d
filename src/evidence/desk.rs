//! What people said about alerts: which they have seen to, and of which they want to hear nothing for a while. Kept in one
//! JSON file, so that a restart changes nothing. Asked on any thread, and never waits for the disk then; whoever changes
//! something does, on a thread that may wait. Beside it lies of which open alerts nobody was told ([`hushed`]), which the
//! thread `desk` writes within a second: a crash within that second may lose it.

mod hushed;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use base::{
    event::{Alert, AlertState, Silenced},
    shutdown::Shutdown,
    time::{Clock, Timestamp},
};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use self::hushed::{Hush, Hushed};

/// The file, in the folder of alerts.
pub const FILE: &str = "desk.json";
/// Silences at the same time.
const MOST_SILENCES: usize = 1000;
/// Acknowledgements that are kept; the oldest go first.
const MOST_ACKNOWLEDGED: usize = 10_000;
/// What is in hand at the end gets so long; a disk that is gone takes for ever.
const GRACE: Duration = Duration::from_secs(5);

/// Somebody has seen to an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// Who.
    pub by: String,
    /// When, milliseconds since 1970.
    pub at_ms: i64,
    /// What they say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Alerts of which somebody wants to hear nothing for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Its id.
    pub id: String,
    /// Of this stream; none for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Of this rule; none for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Who wants it.
    pub by: String,
    /// Since when, milliseconds since 1970.
    pub since_ms: i64,
    /// Until when.
    pub until_ms: i64,
    /// Why.
    pub reason: String,
}

/// What is wished of a silence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SilenceWish {
    /// As in [`Silence`].
    pub stream: Option<String>,
    /// As in [`Silence`].
    pub rule: Option<String>,
    /// As in [`Silence`].
    pub by: String,
    /// How long.
    pub lasts: Duration,
    /// As in [`Silence`].
    pub reason: String,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// There are as many as there may be.
    #[error("there are {MOST_SILENCES} silences already: end some, or silence a whole stream or rule")]
    TooMany,
    /// The machine has no random numbers.
    #[error("this machine gives no random numbers now")]
    NoId,
    /// It could not be written down.
    #[error("it could not be written to {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Silence {
    fn fits(&self, stream: &str, rule: &str) -> bool {
        let has = |wanted: &Option<String>, word: &str| wanted.as_deref().is_none_or(|wanted| wanted == word);
        has(&self.stream, stream) && has(&self.rule, rule)
    }

    /// As it stands in records.
    pub fn on_record(&self) -> Silenced {
        Silenced {
            id: self.id.clone(),
            by: self.by.clone(),
            until: Timestamp::from_millisecond(self.until_ms).unwrap_or(Timestamp::MAX),
            reason: self.reason.clone(),
        }
    }
}

/// All that was said. Clones share it.
#[derive(Clone)]
pub struct AlertDesk(Arc<Inner>);

struct Inner {
    /// None: nothing is kept over a restart.
    path: Option<PathBuf>,
    clock: Arc<dyn Clock>,
    said: RwLock<Said>,
    /// Held by whoever changes something, until it is written: how many changes of `hushed` are.
    writing: Mutex<u64>,
    /// Never held while anything is written.
    hushed: Mutex<Hushed>,
    /// The thread is to come to its end.
    over: Shutdown,
    /// It has, or there is none.
    done: Shutdown,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Said {
    /// By the alert's id.
    acknowledged: BTreeMap<String, Acknowledged>,
    silences: Vec<Silence>,
}

/// What lies in the file.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Filed {
    #[serde(flatten)]
    said: Said,
    /// By the alert's id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    hushed: BTreeMap<String, Hush>,
}

impl AlertDesk {
    /// Nothing is kept over a restart.
    pub fn in_memory(clock: Arc<dyn Clock>) -> Self {
        let desk = Self::with(None, Filed::default(), clock);
        desk.0.done.trigger();
        desk
    }

    /// With what an earlier run wrote into this file; starts the thread `desk`. A file that cannot be read is put aside, and
    /// that is told.
    pub fn open(path: PathBuf, clock: Arc<dyn Clock>) -> Self {
        let filed = match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map_err(|e| e.to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Filed::default()),
            Err(error) => Err(error.to_string()),
        };
        let filed = filed.unwrap_or_else(|cause| {
            let aside = path.with_extension("json.damaged");
            let _ = fs::rename(&path, &aside);
            let (path, aside) = (path.display(), aside.display());
            tracing::error!(
                "{path} cannot be read, what was acknowledged and silenced is forgotten: {cause}; see {aside}"
            );
            Filed::default()
        });
        let desk = Self::with(Some(path), filed, clock);
        desk.start();
        desk
    }

    fn with(path: Option<PathBuf>, filed: Filed, clock: Arc<dyn Clock>) -> Self {
        let (said, hushed) = (RwLock::new(filed.said), Mutex::new(Hushed::new(filed.hushed)));
        let (over, done) = (Shutdown::default(), Shutdown::default());
        Self(Arc::new(Inner { path, clock, said, writing: Mutex::default(), hushed, over, done }))
    }

    /// What is not yet written is written, if the disk does not take too long. Of which alerts nobody was told is not written
    /// any more from here on, by no clone.
    pub fn close(&self) {
        self.0.over.trigger();
        if !self.0.done.wait_timeout(GRACE) {
            tracing::error!("the thread desk does not come to its end: its disk may be gone");
        }
    }

    fn now_ms(&self) -> i64 {
        self.0.clock.wall().as_millisecond()
    }

    /// Whether somebody has seen to an alert.
    pub fn acknowledged(&self, alert: &str) -> Option<Acknowledged> {
        self.0.said.read().acknowledged.get(alert).cloned()
    }

    /// The silence that holds now for alerts of this stream and rule: the one that holds longest.
    pub fn silence_of(&self, stream: &str, rule: &str) -> Option<Silence> {
        let now = self.now_ms();
        let said = self.0.said.read();
        let fitting = said.silences.iter().filter(|silence| silence.until_ms > now && silence.fits(stream, rule));
        fitting.max_by_key(|silence| silence.until_ms).cloned()
    }

    /// The silences that hold now, those first that end first.
    pub fn silences(&self) -> Vec<Silence> {
        let now = self.now_ms();
        let mut all: Vec<_> = self.0.said.read().silences.iter().filter(|s| s.until_ms > now).cloned().collect();
        all.sort_by(|a, b| (a.until_ms, &a.id).cmp(&(b.until_ms, &b.id)));
        all
    }

    /// What is to stand in a record of an alert that goes out now. Who was told of an alert is told of its end, whatever is
    /// silenced by then; who was told of none of it is not told of its end either. Never waits for the disk.
    pub fn judge(&self, stream: &str, alert: &Alert) -> Option<Silenced> {
        let mut hushed = self.0.hushed.lock();
        if alert.state == AlertState::Closed {
            return hushed.remove(&alert.alert).map(|silence| silence.on_record());
        }
        let Some(silence) = self.silence_of(stream, &alert.rule) else {
            hushed.remove(&alert.alert);
            return None;
        };
        let on_record = silence.on_record();
        if alert.state == AlertState::Opened {
            hushed.insert(alert.alert.clone(), Hush { since_ms: self.now_ms(), silence });
        }
        Some(on_record)
    }

    /// Somebody has seen to an alert. Those of alerts that are not `known` any more are forgotten.
    ///
    /// # Errors
    /// When it cannot be written down; then it does not hold.
    pub fn acknowledge(
        &self,
        alert: &str,
        by: &str,
        note: Option<String>,
        known: impl Fn(&str) -> bool,
    ) -> Result<(), DeskError> {
        let acknowledged = Acknowledged { by: by.to_owned(), at_ms: self.now_ms(), note };
        self.change(|said| {
            said.acknowledged.retain(|alert, _| known(alert));
            if said.acknowledged.len() >= MOST_ACKNOWLEDGED
                && let Some(oldest) = said.acknowledged.iter().min_by_key(|(_, a)| a.at_ms).map(|(id, _)| id.clone())
            {
                said.acknowledged.remove(&oldest);
            }
            said.acknowledged.insert(alert.to_owned(), acknowledged);
            Ok(())
        })
    }

    /// Nobody has seen to it after all.
    ///
    /// # Errors
    /// As [`AlertDesk::acknowledge`].
    pub fn unacknowledge(&self, alert: &str) -> Result<(), DeskError> {
        self.change(|said| {
            said.acknowledged.remove(alert);
            Ok(())
        })
    }

    /// From now on, alerts that fit are silenced.
    ///
    /// # Errors
    /// As [`AlertDesk::acknowledge`], and when there are too many.
    pub fn silence(&self, wish: SilenceWish) -> Result<Silence, DeskError> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(|_| DeskError::NoId)?;
        let since_ms = self.now_ms();
        let SilenceWish { stream, rule, by, lasts, reason } = wish;
        let silence = Silence {
            id: format!("{:016x}", u64::from_be_bytes(bytes)),
            stream,
            rule,
            by,
            since_ms,
            until_ms: since_ms.saturating_add(i64::try_from(lasts.as_millis()).unwrap_or(i64::MAX)),
            reason,
        };
        self.change(|said| {
            if said.silences.len() >= MOST_SILENCES {
                return Err(DeskError::TooMany);
            }
            said.silences.push(silence.clone());
            Ok(silence.clone())
        })
    }

    /// Ends a silence; gives whether there was one.
    ///
    /// # Errors
    /// As [`AlertDesk::acknowledge`].
    pub fn lift(&self, id: &str) -> Result<bool, DeskError> {
        let now = self.now_ms();
        self.change(|said| {
            let n = said.silences.len();
            let is_over = said.silences.iter().any(|silence| silence.id == id && silence.until_ms <= now);
            said.silences.retain(|silence| silence.id != id);
            Ok(said.silences.len() < n && !is_over)
        })
    }

    /// Changes what was said, once it is written down. Silences that are over go.
    fn change<T>(&self, change: impl FnOnce(&mut Said) -> Result<T, DeskError>) -> Result<T, DeskError> {
        let mut n_written = self.0.writing.lock();
        let now = self.now_ms();
        let mut said = self.0.said.read().clone();
        said.silences.retain(|silence| silence.until_ms > now);
        let outcome = change(&mut said)?;
        let said = self.write(said, &mut n_written)?;
        *self.0.said.write() = said;
        Ok(outcome)
    }

    /// Writes all of it, with what is hushed by now; gives what was said back.
    fn write(&self, said: Said, n_written: &mut u64) -> Result<Said, DeskError> {
        let Some(path) = &self.0.path else { return Ok(said) };
        let (hushed, n_changes) = self.0.hushed.lock().now();
        let filed = Filed { said, hushed };
        write(path, &filed).map_err(|source| DeskError::Write { path: path.clone(), source })?;
        *n_written = n_changes;
        Ok(filed.said)
    }
}

/// The file appears whole or not at all, and is on the disk when this returns.
fn write(path: &PathBuf, filed: &Filed) -> io::Result<()> {
    let text = serde_json::to_vec(filed)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        fs::create_dir_all(folder)?;
    }
    let making = path.with_extension("json.part");
    let mut file = File::create(&making)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&making, path)?;
    folder.map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests;
