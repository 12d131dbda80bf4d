//! Other rules while the stream goes on, and the end of alerts whose rules nobody has any more. Pure.

use std::{collections::BTreeMap, sync::Arc};

use base::event::Event;

use super::{
    Rule, Rules,
    life::{self, Carried, Desk},
    watch::Watch,
};

/// Why such an alert is over.
const GONE: &str = "its rule was taken away";

impl Rules {
    /// Other rules from now on, while the stream goes on. A rule that finds the same as before goes on with what it has
    /// found; what is open of others is closed. Gives those alerts.
    pub fn exchange(&mut self, rules: &[Arc<Rule>]) -> Vec<Event> {
        let mut out = Vec::new();
        let before = std::mem::take(&mut self.watches);
        let mut before: BTreeMap<Arc<str>, Watch> =
            before.into_iter().map(|watch| (Arc::clone(&watch.rule.name), watch)).collect();
        let mut watches = Vec::with_capacity(rules.len());
        for rule in rules {
            watches.push(match before.remove(&rule.name) {
                Some(mut watch) if watch.rule.finds_the_same(rule) => {
                    watch.rule = Arc::clone(rule);
                    watch
                }
                // Nothing has played yet: it is as if it had begun with this rule.
                Some(watch) if !self.timeline.is_begun() => Watch::new(rule, &self.carried_of(&watch), 0),
                Some(watch) => {
                    self.retire(watch, "its rule was changed", &mut out);
                    Watch::new(rule, &[], self.opened.remove(&rule.name).unwrap_or(0))
                }
                None => {
                    let is_of_it = |carried: &mut Carried| carried.rule == *rule.name;
                    let carried: Vec<Carried> = self.forsaken.extract_if(.., is_of_it).collect();
                    Watch::new(rule, &carried, self.opened.remove(&rule.name).unwrap_or(0))
                }
            });
        }
        for watch in before.into_values() {
            self.retire(watch, GONE, &mut out);
        }
        self.watches = watches;
        out
    }

    /// A rule that is looked at no more.
    fn retire(&mut self, mut watch: Watch, because: &str, out: &mut Vec<Event>) {
        if !self.timeline.is_begun() {
            self.forsaken.extend(self.carried_of(&watch).into_iter().filter(|carried| carried.until_ms.is_none()));
            return;
        }
        let mut desk = Desk { stream: &self.stream, timeline: &self.timeline, out };
        watch.book.close_all(&watch.rule, self.timeline.newest, because, &mut desk);
        self.opened.insert(Arc::clone(&watch.rule.name), watch.book.n_opened());
    }

    pub(super) fn carried_of(&self, watch: &Watch) -> Vec<Carried> {
        let mut carried = Vec::new();
        watch.book.carried(&watch.rule, &self.timeline, &mut carried);
        carried
    }

    /// Nobody looks any more at what these were about.
    pub(super) fn bury(&mut self, out: &mut Vec<Event>) {
        let at = self.timeline.newest;
        for carried in self.forsaken.drain(..) {
            let mut desk = Desk { stream: &self.stream, timeline: &self.timeline, out };
            life::bury(&carried, at, GONE, &mut desk);
        }
    }
}
