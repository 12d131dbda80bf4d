//! What streams show of themselves to those who look right now: the newest analysed picture, and the encoded media as they
//! come. Filled on the models' and on ingest's threads, read by the HTTP service. Must cost nothing while nobody looks,
//! and hold nobody up.

mod preview;

use std::{collections::BTreeMap, sync::Arc};

use base::{media::StreamName, time::Clock};
use ingest::Relay;
use parking_lot::Mutex;

pub use self::preview::Preview;
use crate::metrics::{MetricsSource, Scrape};

/// One stream's.
#[derive(Clone)]
pub struct View {
    /// Its newest analysed picture; none where nobody looks at its pictures.
    pub preview: Option<Arc<Preview>>,
    /// Its own media.
    pub relay: Arc<Relay>,
}

/// All streams', by name. Clones share them.
#[derive(Clone, Default)]
pub struct Views(Arc<Mutex<BTreeMap<String, View>>>);

impl Views {
    /// A stream is attached; `is_analysed`: somebody looks at its pictures.
    pub fn attach(&self, stream: &StreamName, is_analysed: bool, clock: &Arc<dyn Clock>) -> View {
        let preview = is_analysed.then(|| Preview::new(Arc::clone(clock)));
        let view = View { preview, relay: Relay::new() };
        self.0.lock().insert(stream.to_string(), view.clone());
        view
    }

    /// A stream is detached.
    pub fn detach(&self, stream: &StreamName) {
        self.0.lock().remove(stream.as_str());
    }

    /// Of one stream.
    pub fn view(&self, stream: &str) -> Option<View> {
        self.0.lock().get(stream).cloned()
    }
}

impl MetricsSource for Views {
    fn scrape(&self, out: &mut Scrape) {
        for (name, view) in &*self.0.lock() {
            let n_viewers = view.relay.n_viewers() as f64;
            out.gauge("eyewitness_live_viewers", "Viewers of the live video now.", &[("stream", name)], n_viewers);
        }
    }
}
