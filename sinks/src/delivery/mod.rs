//! The delivery contract: what a sink with a far end (Kafka, a webhook) promises, made once for all of them.
//!
//! A far end is one file that implements [`Outlet`]: it takes numbered records, and tells later what became of each.
//! [`Courier`] makes a [`Sink`](crate::Sink) of it: encodes events, keeps them in a [`Backlog`] (on disk, or in memory)
//! until the outlet says that they arrived, sends again what came back, puts refused records aside, and keeps the account.
//!
//! The promise: a record that was accepted arrives at least once, with the same id and the same bytes each time, and for
//! the first time in order within its key. On disk that holds across the end of the process.

use std::{collections::BTreeMap, time::Duration};

use crate::{TopicCount, record::Record};

mod config;
mod courier;
mod dead_letters;
mod flight;
mod herald;
mod losses;
mod memory;
mod meter;
mod progress;

pub(crate) use config::text_of_file;
pub use config::{Durability, SpoolConfig, Store, WhenSpoolFull};
pub use courier::{Courier, CourierOptions};
pub use dead_letters::{DeadLetter, DeadLetters};
pub(crate) use memory::Memory;
pub use meter::{DeliveryReading, Meter};
pub use progress::Progress;
pub(crate) use progress::Tally;

/// The way to a far end. Owned by one thread, and called by that thread only.
pub trait Outlet: Send {
    /// Takes a record on its way, at once: whoever has to wait for the far end does so on a thread of its own. Records
    /// come in the order of their numbers, but a number comes again after [`Fate::Again`].
    ///
    /// # Errors
    /// [`NotSent::Busy`] when as many are on their way as may be; [`NotSent::Refused`] when this one can never be sent.
    fn send(&mut self, number: u64, record: &Record<'_>) -> Result<(), NotSent>;

    /// Adds what became of records sent earlier. Waits up to `patience` for the first news, not longer.
    fn reports(&mut self, patience: Duration, reports: &mut Vec<Report>);

    /// Gives back whatever is on its way: every record sent and not yet reported is reported soon, as [`Fate::Again`]
    /// unless it arrived or was refused. Called after a report of [`Fate::Again`], so that order can be kept.
    fn recall(&mut self);

    /// Nothing more comes for the moment: what waits for company need not wait longer.
    fn hurry(&mut self);

    /// What stands in the way now, in words and without secrets; none while all is well.
    fn trouble(&self) -> Option<String>;

    /// What became of records by destination (Kafka's topics), for the closing account; empty where there is but one.
    fn topics(&self) -> BTreeMap<String, TopicCount> {
        BTreeMap::new()
    }
}

/// Why a record was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotSent {
    /// As many are on their way as may be: offer it again after the next reports.
    Busy,
    /// It will never be sent; why, in words that say what to do.
    Refused(String),
}

/// What became of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The number it was sent with.
    pub number: u64,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// The far end has it.
    Delivered,
    /// The far end will never take it; why, in words that say what to do.
    Refused(String),
    /// It did not arrive, for a reason that may pass: it must be sent again.
    Again(String),
}

/// Entries that wait, numbered without holes, oldest first.
pub trait Backlog: Send {
    /// Keeps all of these or none. Once it returns, they are kept as durably as was configured.
    ///
    /// # Errors
    /// [`BacklogError::Full`] when there is no room for them; [`BacklogError::Io`] when the disk refuses: later it may not.
    fn append(&mut self, entries: &[Vec<u8>]) -> Result<(), BacklogError>;

    /// Makes room for `n_bytes` more by letting go of the oldest, a good part of them at once; `notice` sees each that
    /// goes, and returns entries that are appended in the same step: all of it happens, or nothing.
    ///
    /// # Errors
    /// As [`Backlog::append`].
    fn make_room(&mut self, n_bytes: u64, notice: Notice<'_>) -> Result<(), BacklogError>;

    /// Shows entries from number `from` on, in order, up to about `max_bytes` (at least one entry when there is any).
    ///
    /// # Errors
    /// [`BacklogError::Io`] when the disk refuses.
    fn read(&mut self, from: u64, max_bytes: usize, each: &mut dyn FnMut(Entry<'_>)) -> Result<(), BacklogError>;

    /// Lets go of all entries below `number`. May let go later of some, when it is cheaper; they then are there again
    /// after a restart.
    ///
    /// # Errors
    /// [`BacklogError::Io`] when the disk refuses.
    fn trim(&mut self, below: u64) -> Result<(), BacklogError>;

    /// How full it is.
    fn reading(&self) -> BacklogReading;
}

/// Sees the entries that go, and returns those that say so in their place.
pub type Notice<'a> = &'a mut dyn FnMut(&mut dyn Iterator<Item = Entry<'_>>) -> Vec<Vec<u8>>;

/// One entry of a backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its number.
    pub number: u64,
    /// Its bytes; none when the disk gives back others than it was given.
    pub bytes: Option<&'a [u8]>,
}

/// A backlog's figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BacklogReading {
    /// Number of the oldest entry; equal to `next` when it is empty.
    pub first: u64,
    /// Number of the next entry.
    pub next: u64,
    /// Bytes of the entries.
    pub n_bytes: u64,
    /// Most that they may be.
    pub max_bytes: u64,
}

/// Why a backlog did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub enum BacklogError {
    /// There is no room. Whoever has the choice waits, or makes room.
    #[error("the backlog is full: {n_bytes} of {max_bytes} bytes wait to be delivered")]
    Full {
        /// Bytes that wait.
        n_bytes: u64,
        /// Most that may.
        max_bytes: u64,
    },
    /// The disk refused.
    #[error(transparent)]
    Io(#[from] crate::spool::SpoolError),
}

#[cfg(test)]
mod tests;
