//! What the history tells of itself at a scrape.

use std::sync::atomic::Ordering::Relaxed;

use sinks::history::{Store, Table};

use super::{Counts, History};
use crate::metrics::{MetricsSource, Scrape};

impl Counts {
    /// What is kept now.
    pub(super) fn note(&self, store: &Store) {
        for (n, table) in self.n_rows.iter().zip(Table::ALL) {
            n.store(store.n_rows(table), Relaxed);
        }
        self.n_bytes.store(store.n_bytes(), Relaxed);
    }
}

impl MetricsSource for History {
    fn scrape(&self, out: &mut Scrape) {
        let counts = &self.0.counts;
        for (n, table) in counts.n_rows.iter().zip(Table::ALL) {
            out.gauge(
                "eyewitness_history_rows",
                "Rows of the history, by table.",
                &[("table", table.as_str())],
                n.load(Relaxed) as f64,
            );
        }
        let n_bytes = counts.n_bytes.load(Relaxed) as f64;
        out.gauge("eyewitness_history_bytes", "Bytes of the history's file.", &[], n_bytes);
        out.gauge(
            "eyewitness_history_max_bytes",
            "Most bytes that the history may have.",
            &[],
            self.0.config.max_bytes as f64,
        );
        out.gauge(
            "eyewitness_history_troubled",
            "1 while nothing can be kept; the log says why.",
            &[],
            f64::from(u8::from(counts.is_troubled.load(Relaxed))),
        );
        out.counter(
            "eyewitness_history_dropped_total",
            "Rows that could not be written, as the disk was full or gone or the file damaged.",
            &[],
            counts.n_lost.load(Relaxed) as f64,
        );
        for (limit, n) in [("age", &counts.n_removed_for_age), ("bytes", &counts.n_removed_for_bytes)] {
            out.counter(
                "eyewitness_history_removed_total",
                "Rows that were let go of, by what was used up.",
                &[("limit", limit)],
                n.load(Relaxed) as f64,
            );
        }
        if let Some(clips) = self.0.clips.get() {
            clips.scrape(out);
        }
    }
}
