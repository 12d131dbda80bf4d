//! The house as the keeper sees it. On the keeper's thread, which it never makes wait.

use std::sync::Arc;

use base::media::StreamName;
use inference::rules::Rule;

use super::residents::Residents;
use crate::control::stage::{Earlier, Stage, Start, StreamReading};

/// Starts and stops streams of a house. Others may exist; the house closes whether or not they are still there.
pub struct HouseStage(pub(super) Arc<Residents>);

impl Stage for HouseStage {
    fn start(&mut self, start: Start) -> Result<(), String> {
        self.0.start(start).map_err(|error| base::redact::scrub_urls(&format!("{error:#}")))
    }

    fn detached(&mut self, name: &StreamName) {
        self.0.detached(name);
    }

    fn stop(&mut self, name: &StreamName) {
        self.0.stop(name);
    }

    fn earlier(&mut self, name: &StreamName, earlier: Earlier) {
        self.0.earlier(name, earlier);
    }

    fn rules(&mut self, name: &StreamName, rules: Vec<Arc<Rule>>) {
        self.0.exchange_rules(name, rules);
    }

    fn readings(&mut self) -> Vec<StreamReading> {
        self.0.let_go_of_idle_models();
        self.0.tell_held_back();
        let progress = &self.0.progress;
        self.0.streams.lock().iter_mut().map(|(name, resident)| resident.read(name, progress)).collect()
    }
}
