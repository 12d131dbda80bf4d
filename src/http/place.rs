//! A place for a reader or speaker: held for as long as its client stays. Clients leave when the service stops, and when the
//! session is over by which they came: a cookie opens nothing for longer than it lasts.

use std::{future::pending, sync::Arc, time::Duration};

use axum::extract::ws::close_code;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, sleep_until},
};

use super::{Service, error::Refusal, guard::Pass, socket::Goodbye, told, users::Role};

/// So many parts of all places are kept for those who are no viewers.
const RESERVED_PART: usize = 8;

/// A place.
pub(super) struct Place {
    stopping: watch::Receiver<bool>,
    session: Option<(Lease, Instant)>,
    _permit: OwnedSemaphorePermit,
}

/// How long a session lasts. The other end is dropped when it is ended before that.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) ended: watch::Receiver<()>,
    /// From when it was looked up.
    pub(super) lasts: Duration,
}

/// Why a client has to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// The service stops.
    Stopping,
    /// The session is over.
    Session,
}

impl Over {
    /// In words.
    pub(super) const fn why(self) -> &'static str {
        match self {
            Self::Stopping => "the service is stopping",
            Self::Session => "the session is over: log in again",
        }
    }

    /// For a WebSocket.
    pub(super) fn goodbye(self) -> Goodbye {
        let code = match self {
            Self::Stopping => close_code::AWAY,
            Self::Session => close_code::POLICY,
        };
        Some((code, self.why().into()))
    }
}

impl Service {
    /// A place for one more reader or speaker.
    pub(super) fn place(&self, pass: &Pass) -> Result<Place, Refusal> {
        if *self.stopping.borrow() {
            return Err(Refusal::busy(Over::Stopping.why()));
        }
        let taken = || {
            let most = self.max_clients;
            Refusal::busy(format!("all {most} places for readers are taken (`http.max_clients`); try again later"))
        };
        let is_viewer = pass.who.as_ref().is_some_and(|who| who.role == Role::Viewer);
        if is_viewer && self.clients.available_permits() <= self.max_clients / RESERVED_PART {
            return Err(taken());
        }
        let permit = Arc::clone(&self.clients).try_acquire_owned().map_err(|_| taken())?;
        let session = pass.lease.clone().map(|lease| {
            let until = Instant::now() + lease.lasts;
            (lease, until)
        });
        Ok(Place { stopping: self.stopping.clone(), session, _permit: permit })
    }
}

impl Place {
    /// Comes when the client has to leave. May be dropped and asked again.
    pub(super) async fn over(&mut self) -> Over {
        let Self { stopping, session, .. } = self;
        let ended = async {
            match session {
                // Nothing is ever sent: an error says that the other end is gone.
                Some((lease, until)) => tokio::select! {
                    _ = lease.ended.changed() => {}
                    () = sleep_until(*until) => {}
                },
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            () = told(stopping) => Over::Stopping,
            () = ended => Over::Session,
        }
    }
}
