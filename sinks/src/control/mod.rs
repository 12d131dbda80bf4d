//! The store of the control plane: which streams there are to be, which worker may run them, how far each has come.
//!
//! Texts in, texts out: what attachments, checkpoints and announcements say is the root's business. Two stores behind one
//! trait: a file, for one worker; compacted topics of Kafka and a consumer group, for many.
//!
//! # Leases and epochs
//! Every stream lies in one of [`Plane::n_leases`] leases (with Kafka: the partitions of the topic of attachments). A
//! worker that is granted a lease posts a claim; the claim's place in the one log of all claims is its epoch. Whoever
//! claims later has a greater epoch, whatever lease it is about, so that a stream that moves to another lease moves on to
//! a greater epoch as well. The newest claim of a lease is the one that holds.

use std::time::Duration;

mod config;
mod embedded;
mod error;
mod kafka;

pub use config::ClusterConfig;
pub use embedded::Embedded;
pub use error::PlaneError;
pub use kafka::KafkaPlane;

/// The store, as one worker sees it. Owned by one thread, and called by that thread only.
pub trait Plane: Send {
    /// How many leases there are, numbered from 0. To be relied on from [`News::CaughtUp`] on; may grow, never shrinks.
    fn n_leases(&self) -> u32;

    /// Adds what has happened since the last call. Waits up to `patience` for the first news, not longer.
    ///
    /// What was written under one key comes in the order in which it was written; so do all claims. After an outage that the
    /// store did not survive whole, what is there may be told once more, and what is gone is told as taken away.
    fn news(&mut self, patience: Duration, news: &mut Vec<News>);

    /// Writes something down, at once or as soon as the store can be reached; [`News::Posted`] with this ticket says what
    /// became of it. What was written comes back as news of its own, to this worker as to all others.
    fn post(&mut self, ticket: u64, post: Post);

    /// Gives all leases back and takes no more; news of the others, and posts, go on. Returns at once: [`News::Revoked`]
    /// follows.
    fn leave(&mut self);
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Everything written before this worker came is told.
    CaughtUp,
    /// An attachment was written; none: taken away from this lease.
    Attachment {
        /// The lease it lies in.
        lease: u32,
        /// The stream's name.
        name: String,
        /// What it says.
        text: Option<String>,
    },
    /// How far a stream has come; none: forgotten.
    Checkpoint {
        /// The stream's name.
        name: String,
        /// What it says.
        text: Option<String>,
    },
    /// A worker says how it is; none: it has left.
    Worker {
        /// Its id.
        id: String,
        /// What it says.
        text: Option<String>,
        /// When it said so, milliseconds since 1970 by the store's clock.
        at_ms: i64,
    },
    /// A worker has claimed a lease.
    Claimed {
        /// The lease.
        lease: u32,
        /// Who, as the claim says it.
        worker: String,
        /// The number of the claim: greater than that of every claim before it, and above 0.
        epoch: u64,
    },
    /// These leases are this worker's to claim.
    Granted {
        /// Which.
        leases: Vec<u32>,
    },
    /// These leases are no longer this worker's.
    Revoked {
        /// Which.
        leases: Vec<u32>,
        /// Nobody asked: the group has gone on without us, or cannot be reached. Others may have them already.
        lost: bool,
    },
    /// What became of a post.
    Posted {
        /// Its ticket.
        ticket: u64,
        /// Written down for good, or why not, in words.
        outcome: Result<(), String>,
    },
    /// Something stands in the way, in words and without secrets; none: no longer.
    Trouble(Option<String>),
}

/// What can be written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Post {
    /// An attachment; none takes it away.
    Attachment {
        /// The lease it is to lie in.
        lease: u32,
        /// The stream's name.
        name: String,
        /// What it says.
        text: Option<String>,
    },
    /// How far a stream has come; none forgets it.
    Checkpoint {
        /// The stream's name.
        name: String,
        /// What it says.
        text: Option<String>,
    },
    /// How a worker is; none: it has left.
    Worker {
        /// Its id.
        id: String,
        /// What it says.
        text: Option<String>,
    },
    /// This worker's claim of a lease.
    Claim {
        /// The lease.
        lease: u32,
        /// Who: something that no other process says, or two could take each other's claims for their own.
        worker: String,
    },
}
