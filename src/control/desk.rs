//! The way in for everybody who attaches, and the board that shows what came of it. Used on any thread.

use std::{collections::BTreeMap, sync::Arc};

use base::queue::Sender;
use parking_lot::RwLock;
use tokio::sync::oneshot;

use super::{
    attachment::{Attachment, Origin, Patch},
    report::{Announcement, Report},
};

/// Wishes that may wait for the keeper; one more is told to come back later.
pub const MOST_WAITING: usize = 1024;

/// Takes wishes to the keeper. Clones share it.
#[derive(Clone)]
pub struct Desk {
    wishes: Sender<Request>,
    board: Arc<Board>,
}

/// A wish with the way back.
pub struct Request {
    /// What.
    pub wish: Wish,
    /// Whose: an attachment is changed only by those who made it.
    pub origin: Origin,
    /// Answered once it is written down for good, or refused.
    pub reply: oneshot::Sender<Result<Granted, Refused>>,
}

/// What is wished. Whoever asks has checked it (see `control::check`).
#[derive(Debug, Clone, PartialEq)]
pub enum Wish {
    /// Attach a stream, or change what is attached.
    Put {
        /// Its name.
        name: String,
        /// As it is to be.
        attachment: Box<Attachment>,
    },
    /// Change some of what is attached.
    Patch {
        /// The stream's name.
        name: String,
        /// What.
        patch: Box<Patch>,
    },
    /// Detach.
    Remove {
        /// The stream's name.
        name: String,
    },
}

/// A wish is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// It was not there before.
    pub created: bool,
    /// Something was written: false where everything was so already.
    pub changed: bool,
    /// The attachment's revision now.
    pub revision: u64,
}

/// Why a wish is not met, in words that say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such stream.
    #[error("{0}")]
    Missing(String),
    /// It belongs to somebody else: the configuration file, the watched folder, the API.
    #[error("{0}")]
    Conflict(String),
    /// It can never be met.
    #[error("{0}")]
    Invalid(String),
    /// Not now: the store cannot be reached, or the service stops.
    #[error("{0}")]
    Unavailable(String),
}

impl Desk {
    /// With the keeper's queue.
    pub fn new(wishes: Sender<Request>, board: Arc<Board>) -> Self {
        Self { wishes, board }
    }

    /// Hands a wish in; the receiver gets the answer. Does not wait.
    pub fn ask(&self, wish: Wish, origin: Origin) -> oneshot::Receiver<Result<Granted, Refused>> {
        let (reply, answer) = oneshot::channel();
        // One that finds no room is dropped, and its `reply` with it: the receiver sees that.
        self.wishes.send(Request { wish, origin, reply });
        answer
    }

    /// What is attached, and how it is.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// The same, for somebody who outlives this desk.
    pub fn shared_board(&self) -> Arc<Board> {
        Arc::clone(&self.board)
    }
}

/// What is attached and how it is, with all workers. Written by the keeper, read by anybody.
#[derive(Default)]
pub struct Board(RwLock<Shown>);

#[derive(Default)]
struct Shown {
    streams: BTreeMap<String, Listed>,
    workers: BTreeMap<String, WorkerListed>,
    trouble: Option<String>,
}

/// One stream on the board.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// As it is wished. Of a stream of the configuration file the URL is redacted.
    pub attachment: Attachment,
    /// By whom.
    pub origin: Origin,
    /// Of the attachment; 0 of a stream of the configuration file.
    pub revision: u64,
    /// The profile that it runs or would run.
    pub profile: String,
    /// How it is, as its worker told last; none while nobody has it.
    pub report: Option<Report>,
}

/// One worker on the board.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerListed {
    /// What it said.
    pub announcement: Announcement,
    /// When, milliseconds since 1970.
    pub at_ms: i64,
    /// It is this process.
    pub is_this: bool,
}

impl Board {
    /// Shows a stream anew.
    pub fn show(&self, name: &str, listed: Listed) {
        self.0.write().streams.insert(name.to_owned(), listed);
    }

    /// A stream is no longer attached.
    pub fn forget(&self, name: &str) {
        self.0.write().streams.remove(name);
    }

    /// Shows a worker anew; none: it has left.
    pub fn worker(&self, id: &str, listed: Option<WorkerListed>) {
        let mut shown = self.0.write();
        match listed {
            Some(listed) => shown.workers.insert(id.to_owned(), listed),
            None => shown.workers.remove(id),
        };
    }

    /// What stands between this worker and the store, in words.
    pub fn set_trouble(&self, trouble: Option<String>) {
        self.0.write().trouble = trouble;
    }

    /// All streams, by name.
    pub fn streams(&self) -> Vec<(String, Listed)> {
        self.0.read().streams.iter().map(|(name, listed)| (name.clone(), listed.clone())).collect()
    }

    /// One stream.
    pub fn stream(&self, name: &str) -> Option<Listed> {
        self.0.read().streams.get(name).cloned()
    }

    /// All workers, by id.
    pub fn workers(&self) -> Vec<(String, WorkerListed)> {
        self.0.read().workers.iter().map(|(id, listed)| (id.clone(), listed.clone())).collect()
    }

    /// What stands between this worker and the store.
    pub fn trouble(&self) -> Option<String> {
        self.0.read().trouble.clone()
    }
}
