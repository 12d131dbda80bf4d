//! The way into the feed: events and the ends of streams, in one order. Called on any thread, never waits.

use std::sync::Arc;

use base::{
    event::Event,
    media::StreamInfo,
    queue::{Sender, Sent},
};

use super::Feed;

/// What the feed's queue carries.
pub enum Item {
    /// It happened.
    Event(Arc<Event>),
    /// The stream is detached: what it told stands before this.
    Detached(Arc<StreamInfo>),
}

/// Sends into the feed's queue. Clones share it.
#[derive(Clone)]
pub struct Entrance {
    feed: Feed,
    queue: Sender<Item>,
}

impl Entrance {
    /// Of a feed, by the queue that its thread receives from.
    pub fn new(feed: Feed, queue: Sender<Item>) -> Self {
        Self { feed, queue }
    }

    /// A stream is attached; before its first event.
    pub fn attach(&self, info: Arc<StreamInfo>) {
        self.feed.attach(info);
    }

    /// It happened.
    pub fn event(&self, event: &Arc<Event>) {
        self.send(Item::Event(Arc::clone(event)));
    }

    /// A stream is detached: its readers get what it told, then the end. After its last event.
    pub fn detach(&self, info: &Arc<StreamInfo>) {
        self.send(Item::Detached(Arc::clone(info)));
    }

    fn send(&self, item: Item) {
        match self.queue.send(item) {
            // A full queue may lose events, but no end of a stream: everything before it has been taken or is lost.
            Sent::Displaced(Item::Detached(info)) | Sent::Refused(Item::Detached(info)) => self.feed.detach_this(&info),
            _ => {}
        }
    }
}
