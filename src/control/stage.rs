//! The seam between the keeper, who decides, and the topology, which runs streams.

use base::{
    event::StreamState,
    media::{SessionId, StreamName},
    time::{Pts, Timestamp},
};

use inference::rules::Carried;

use super::report::Figures;
use crate::config::CheckedStream;

/// Runs streams. Called by the keeper's thread only; nothing here may take long.
pub trait Stage: Send {
    /// Starts a stream. A stream of this name must have been stopped and be gone (see [`Stage::readings`]).
    ///
    /// # Errors
    /// Why it cannot be run at all (model missing, URL that no source takes), in words.
    fn start(&mut self, start: Start) -> Result<(), String>;

    /// Lets a stream go: what it has in hand is analysed and published, then it is gone. Returns at once.
    fn stop(&mut self, name: &StreamName);

    /// A stream that is stopped next is detached: nobody goes on with what is open of it.
    fn detached(&mut self, _name: &StreamName) {}

    /// The run before this one goes on while this one connects (a stream that is handed over) and has come further: what
    /// a stream that has not played yet is to go on from. To one that has played it says that the other was still there.
    fn earlier(&mut self, _name: &StreamName, _earlier: Earlier) {}

    /// The streams that were started and are not yet gone.
    fn readings(&mut self) -> Vec<StreamReading>;
}

/// A stream to be started.
pub struct Start {
    /// What to run.
    pub stream: CheckedStream,
    /// Under which lease; none without a store.
    pub epoch: Option<u64>,
    /// What an earlier run left, if any.
    pub earlier: Option<Earlier>,
}

/// What is known of the run of a stream before this one.
#[derive(Debug, Clone, PartialEq)]
pub struct Earlier {
    /// Its session.
    pub session: SessionId,
    /// How far it was analysed.
    pub pts: Pts,
    /// When.
    pub analysed_at: Timestamp,
    /// When that was told.
    pub told_at: Timestamp,
    /// It was let go of in good order.
    pub released: bool,
    /// Where a source that can be resumed goes on: its own time.
    pub position: Option<Pts>,
    /// Alerts that were open, or over only just now.
    pub alerts: Vec<Carried>,
}

/// A stream at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamReading {
    /// Its name.
    pub name: StreamName,
    /// Under which lease it runs.
    pub epoch: Option<u64>,
    /// None while it has not connected yet.
    pub state: Option<StreamState>,
    /// In words.
    pub detail: Option<String>,
    /// It was told to stop and is on its way out.
    pub leaving: bool,
    /// Its newest session, once it has played.
    pub session: Option<SessionId>,
    /// Stream time in that session up to which it was analysed.
    pub pts: Pts,
    /// When that was; none before the first media.
    pub analysed_at: Option<Timestamp>,
    /// Of a source that can be resumed: its own time up to which every event has arrived at the far ends.
    pub position: Option<Pts>,
    /// Alerts that are open, or over only just now.
    pub alerts: Vec<Carried>,
    /// Counters.
    pub figures: Figures,
}
