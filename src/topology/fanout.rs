//! Where events go: to the sinks that the stream's profile names, to the feed, the history and the players. Called on whichever thread
//! publishes; waits where a sink's queue blocks.

use std::sync::Arc;

use anyhow::bail;
use base::{event::Event, media::StreamInfo, queue::Sender, time::Clock};
use ingest::SegmentOptions;

use crate::{
    control::fence::{Fence, Gate},
    feed::Entrance,
    history::History,
    hls::{Captions, HlsStore},
    stream::holdup::{Holdups, LONG},
    views::{View, Views},
};

/// Gives every event of a stream to all who are to have it. Clones share it.
#[derive(Clone, Default)]
pub struct Fanout {
    sinks: Arc<[Sender<Arc<Event>>]>,
    feed: Option<Entrance>,
    history: Option<History>,
    holdups: Holdups,
    /// Players want cues beside the pictures: told at once, before anybody says that the cues are settled.
    players: Option<Arc<HlsStore>>,
    /// While it is closed, events are left out.
    gate: Option<Arc<Gate>>,
}

impl FromIterator<Sender<Arc<Event>>> for Fanout {
    fn from_iter<I: IntoIterator<Item = Sender<Arc<Event>>>>(sinks: I) -> Self {
        Self { sinks: sinks.into_iter().collect(), ..Self::default() }
    }
}

impl Fanout {
    /// Sends; waits where a sink's queue blocks. What a full queue refuses is counted by the queue.
    pub fn publish(&self, event: Event) {
        let Some(event) = self.show(event) else { return };
        for sink in &*self.sinks {
            sink.send(Arc::clone(&event));
        }
    }

    /// The same, and notes where it had to wait long; gives whether it had to.
    pub fn publish_timed(&self, event: Event, clock: &dyn Clock) -> bool {
        let Some(event) = self.show(event) else { return false };
        let mut was_held_up = false;
        let mut since = clock.monotonic();
        for sink in &*self.sinks {
            sink.send(Arc::clone(&event));
            let until = clock.monotonic();
            if until.saturating_sub(since) >= LONG {
                was_held_up = true;
                self.holdups.note(sink.read().name.trim_start_matches("sink:"), since, until);
            }
            since = until;
        }
        was_held_up
    }

    /// Who waited for a sink.
    pub fn holdups(&self) -> &Holdups {
        &self.holdups
    }

    /// The same, behind the fence.
    #[cfg(test)]
    pub(crate) fn behind(self, gate: Arc<Gate>) -> Self {
        Self { gate: Some(gate), ..self }
    }

    /// What may keep events from going out.
    pub fn gate(&self) -> Option<&Arc<Gate>> {
        self.gate.as_ref()
    }

    /// To those who never make anybody wait; none where the event may not go out at all.
    fn show(&self, event: Event) -> Option<Arc<Event>> {
        if let Some(gate) = self.gate.as_ref().filter(|gate| !gate.is_open()) {
            gate.hold_back_event(&event.session, event.pts);
            return None;
        }
        let event = Arc::new(event);
        if let Some(players) = &self.players {
            players.event(&event);
        }
        if let Some(feed) = &self.feed {
            feed.event(&event);
        }
        if let Some(history) = &self.history {
            history.event(&event);
        }
        Some(event)
    }
}

/// The ways out of the house, of all streams.
#[derive(Default)]
pub(super) struct Outputs {
    /// By name.
    pub(super) sinks: Vec<(String, Sender<Arc<Event>>)>,
    pub(super) feed: Option<Entrance>,
    pub(super) history: Option<History>,
    pub(super) players: Option<(Arc<HlsStore>, SegmentOptions)>,
    pub(super) views: Option<Views>,
    pub(super) holdups: Holdups,
}

impl Outputs {
    /// Of a stream whose profile names these sinks, or none for all.
    pub(super) fn fanout(&self, names: &[String], fence: Option<Arc<Fence>>) -> anyhow::Result<Fanout> {
        if let Some(unknown) = names.iter().find(|name| !self.sinks.iter().any(|(known, _)| known == *name)) {
            let known: Vec<&str> = self.sinks.iter().map(|(name, _)| name.as_str()).collect();
            bail!("no sink is called `{unknown}`; known are {}", known.join(", "));
        }
        let wanted = |name: &String| names.is_empty() || names.contains(name);
        let sinks = self.sinks.iter().filter(|(name, _)| wanted(name)).map(|(_, sender)| sender.clone()).collect();
        Ok(Fanout {
            sinks,
            feed: self.feed.clone(),
            history: self.history.clone(),
            holdups: self.holdups.clone(),
            players: self.players.as_ref().map(|(store, _)| Arc::clone(store)),
            gate: fence.map(Gate::new),
        })
    }

    /// How a stream's own media are to be cut, where anybody plays them.
    pub(super) fn segments(&self) -> Option<SegmentOptions> {
        self.players.as_ref().map(|(_, cut)| *cut)
    }

    /// A stream comes, before its first event; `is_analysed`: somebody looks at its pictures. Gives what it is to show of itself.
    pub(super) fn attach(
        &self,
        info: &Arc<StreamInfo>,
        captions: Captions,
        is_analysed: bool,
        clock: &Arc<dyn Clock>,
    ) -> Option<View> {
        if let Some(feed) = &self.feed {
            feed.attach(Arc::clone(info));
        }
        if let Some(history) = &self.history {
            history.attach(info);
        }
        if let Some((players, _)) = &self.players {
            players.attach(&info.name, captions);
        }
        self.views.as_ref().map(|views| views.attach(&info.name, is_analysed, clock))
    }

    /// A stream is gone, after its last event.
    pub(super) fn detach(&self, info: &Arc<StreamInfo>) {
        if let Some(feed) = &self.feed {
            feed.detach(info);
        }
        if let Some(history) = &self.history {
            history.detach(info);
        }
        if let Some((players, _)) = &self.players {
            players.detach(&info.name);
        }
        if let Some(views) = &self.views {
            views.detach(&info.name);
        }
    }
}
