//! Spans of deliveries: from the moment a sink accepted a record to the far end's acknowledgement. On the sink's thread;
//! costs nothing where nobody wants spans.

use std::{collections::VecDeque, sync::Arc};

use base::{
    event::Event,
    time::{Clock, Timestamp},
    trace::{Span, TraceId, Tracer, span_of, span_of_part, trace_of},
};

use super::super::Fate;
use crate::BuildContext;

/// Most records whose deliveries are followed at a time; of more, the newest are not.
const MOST: usize = 16 * 1024;

/// The deliveries that are followed.
pub(super) struct Traced {
    sink: String,
    clock: Arc<dyn Clock>,
    tracer: Option<Arc<dyn Tracer>>,
    /// In the order of their numbers.
    open: VecDeque<Open>,
}

struct Open {
    number: u64,
    trace: TraceId,
    stream: String,
    id: String,
    accepted: Timestamp,
    /// It came back so often, and was sent again.
    n_returns: u32,
}

impl Traced {
    pub(super) fn new(sink: &str, context: &BuildContext) -> Self {
        let (clock, tracer) = (Arc::clone(&context.clock), context.tracer.clone());
        Self { sink: sink.to_owned(), clock, tracer, open: VecDeque::new() }
    }

    /// These were accepted, under these numbers.
    pub(super) fn accepted<'e>(&mut self, events: impl Iterator<Item = (u64, &'e Event)>) {
        let Some(tracer) = &self.tracer else { return };
        let now = self.clock.wall();
        for (number, event) in events {
            let trace = trace_of(event.session.as_str(), event.pts.millis());
            if self.open.len() < MOST && tracer.is_sampled(&trace) {
                self.open.push_back(Open {
                    number,
                    trace,
                    stream: event.stream.name.to_string(),
                    id: event.id.clone(),
                    accepted: now,
                    n_returns: 0,
                });
            }
        }
    }

    /// What became of a record.
    pub(super) fn fate(&mut self, number: u64, fate: &Fate) {
        let Some(tracer) = &self.tracer else { return };
        let Ok(at) = self.open.binary_search_by_key(&number, |open| open.number) else { return };
        if matches!(fate, Fate::Again(_)) {
            self.open[at].n_returns += 1;
            return;
        }
        let Some(open) = self.open.remove(at) else { return };
        let Open { trace, stream, id, accepted, n_returns, .. } = open;
        let error = if let Fate::Refused(reason) = fate { Some(reason.clone()) } else { None };
        tracer.record(Span {
            trace,
            id: span_of(&id),
            parent: Some(span_of_part(&id, "record")),
            name: "deliver",
            start: accepted,
            end: self.clock.wall().max(accepted),
            attributes: vec![
                ("sink", self.sink.clone()),
                ("stream", stream),
                ("id", id),
                ("n_returns", n_returns.to_string()),
            ],
            error,
        });
    }
}
