//! Hears everything that is logged by any thread of this process, as text.

use std::{
    fmt::{Debug, Write as _},
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

/// What was heard so far.
#[derive(Clone, Default)]
pub(crate) struct Listener(Arc<Mutex<String>>);

/// Listens from now on, to all tests of this process.
pub(crate) fn listen() -> Listener {
    static LISTENER: OnceLock<Listener> = OnceLock::new();
    let start = || {
        let listener = Listener::default();
        tracing::subscriber::set_global_default(listener.clone()).expect("nobody else listens");
        listener
    };
    LISTENER.get_or_init(start).clone()
}

impl Listener {
    pub(crate) fn text(&self) -> String {
        self.0.lock().clone()
    }
}

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }
}

impl Subscriber for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        attributes.record(&mut Fields(&mut self.0.lock()));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Fields(&mut self.0.lock()));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = self.0.lock();
        event.record(&mut Fields(&mut text));
        text.push('\n');
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
