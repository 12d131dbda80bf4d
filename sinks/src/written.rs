//! A sink without a far end, and the account of how far each stream has been written by it. On the sink's thread.

use std::{sync::Arc, time::Duration};

use base::event::Event;

use crate::{
    Sink, SinkError, SinkReport,
    delivery::{Meter, Progress, Tally},
};

/// Tells the board what the sink within has written.
pub(crate) struct Written {
    sink: Box<dyn Sink>,
    tally: Tally,
    n_accepted: u64,
}

impl Written {
    pub(crate) fn new(sink: Box<dyn Sink>, progress: &Progress) -> Self {
        Self { sink, tally: progress.tally(false), n_accepted: 0 }
    }

    fn tell(&mut self) {
        if self.sink.is_written() {
            self.tally.settled(self.n_accepted);
        }
    }
}

impl Sink for Written {
    fn publish(&mut self, event: &Event) -> Result<(), SinkError> {
        self.publish_all(&[Arc::new(event.clone())]).1
    }

    fn publish_all(&mut self, events: &[Arc<Event>]) -> (usize, Result<(), SinkError>) {
        self.tally.seen(events);
        let (n_taken, outcome) = self.sink.publish_all(events);
        let before = self.n_accepted;
        self.tally.accepted(&events[..n_taken], |n| before + n as u64 + 1);
        self.n_accepted += n_taken as u64;
        self.tell();
        (n_taken, outcome)
    }

    fn idle(&mut self) -> Result<(), SinkError> {
        let outcome = self.sink.idle();
        self.tell();
        outcome
    }

    fn patience(&self) -> Duration {
        self.sink.patience()
    }

    fn is_written(&self) -> bool {
        self.sink.is_written()
    }

    fn meter(&self) -> Option<Arc<Meter>> {
        self.sink.meter()
    }

    fn finish(mut self: Box<Self>, grace: Duration) -> SinkReport {
        let report = self.sink.finish(grace);
        if report.n_failed == 0 {
            self.tally.settled(self.n_accepted);
        }
        report
    }
}
