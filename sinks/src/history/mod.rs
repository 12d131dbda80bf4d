//! What was said, how streams fared and who changed what: kept in one SQLite file, to be searched.
//!
//! [`Store`] writes and forgets, owned by one thread. [`Reader`]s look things up on any thread, over connections of their own
//! that can only read and can be stopped. A file that is damaged is put aside under another name, and a new one begun. Must
//! never write to a file that is not ours, grow beyond its limits, or take what somebody searches for as SQL.

use std::time::Duration;

mod doubt;
mod error;
pub mod export;
mod file;
mod phrase;
mod read;
mod row;
mod series;
mod store;
#[cfg(test)]
mod tests;

pub use self::{
    doubt::Doubt,
    error::HistoryError,
    phrase::Phrase,
    read::{Heard, Order, Page, Piece, Reader, Search, Stopper},
    row::{Audit, GapRow, Row, Sample, StatusRow, TranscriptRow},
    series::{GapSpan, Objects, Series, StateChange, Stretch},
    store::{Opened, Removed, Store, Table},
};

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// What is older goes.
    pub keep: Duration,
    /// Bytes of the file; the oldest of everything goes first.
    pub max_bytes: u64,
}
