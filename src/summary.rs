//! The closing summary of a run, for people: what each stream decoded, looked at, left out and found; how the sinks fared.

use std::sync::Arc;

use base::{
    ledger::{DropReason, LedgerReading},
    media::MediaConsumer as _,
};
use comfy_table::{CellAlignment, Table, presets};

use crate::{
    stream::{Analysis, Outcome, describe},
    topology::SinkOutcome,
};

/// Draws both tables.
pub fn render(analyses: &[Arc<Analysis>], sinks: &[SinkOutcome]) -> String {
    format!("{}\n{}", streams_table(analyses), sinks_table(sinks))
}

fn streams_table(analyses: &[Arc<Analysis>]) -> Table {
    let mut table = new_table(&[
        "stream",
        "source",
        "state",
        "decoded",
        "inferred",
        "dropped",
        "objects",
        "tracks",
        "words",
        "gaps",
        "latency p50 / p99",
    ]);
    for analysis in analyses {
        let reading = analysis.ledger().read();
        let counts = analysis.findings.counts();
        let latency = match (analysis.findings.latency.quantile_ms(0.5), analysis.findings.latency.quantile_ms(0.99)) {
            (Some(p50), Some(p99)) => format!("{p50:.0} / {p99:.0} ms"),
            _ => "-".into(),
        };
        table.add_row([
            analysis.info().name.to_string(),
            analysis.source().map_or_else(|| "-".into(), |s| describe(&s)),
            match analysis.outcome() {
                Outcome::Open => "stopped".into(),
                Outcome::Ended => "ended".into(),
                Outcome::Failed(_) => "failed".to_owned(),
            },
            reading.n_decoded.to_string(),
            reading.n_inferred.to_string(),
            drops(&reading),
            counts.n_objects.to_string(),
            counts.n_tracks.to_string(),
            counts.n_words.to_string(),
            counts.n_gaps.to_string(),
            latency,
        ]);
    }
    align(&mut table, &[3, 4, 6, 7, 8, 9, 10]);
    table
}

fn sinks_table(sinks: &[SinkOutcome]) -> Table {
    let mut table = new_table(&["sink", "events published", "waiting", "failed", "dropped", "note"]);
    for outcome @ SinkOutcome { report, n_dropped, n_refused } in sinks {
        table.add_row([
            report.name.clone(),
            report.n_published.to_string(),
            report.n_waiting.to_string(),
            (report.n_failed + n_refused).to_string(),
            (report.n_dropped + n_dropped).to_string(),
            note(outcome),
        ]);
    }
    align(&mut table, &[1, 2, 3, 4]);
    table
}

/// What a sink's figures mean for whoever reads them.
fn note(SinkOutcome { report, .. }: &SinkOutcome) -> String {
    let mut parts = Vec::new();
    if report.n_waiting > 0 {
        parts.push(format!("waiting: {}, for the next start", report.n_waiting));
    }
    if report.n_dropped > 0 {
        parts.push(format!("its full spool dropped {}", report.n_dropped));
    }
    parts.extend(report.error.as_ref().map(ToString::to_string));
    if parts.is_empty() { "-".into() } else { parts.join("; ") }
}

/// A plain table with a header.
pub fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header(header.iter().copied());
    table
}

fn align(table: &mut Table, right: &[usize]) {
    for column in right {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// `12 (sampling 10, superseded 2)`.
fn drops(reading: &LedgerReading) -> String {
    let by_reason: Vec<String> = DropReason::ALL
        .into_iter()
        .filter(|r| reading.dropped(*r) > 0)
        .map(|r| format!("{} {}", r.as_str(), reading.dropped(r)))
        .collect();
    match by_reason.len() {
        0 => "0".into(),
        _ => by_reason.join(", "),
    }
}

/// Whether every sink delivered everything that its queue's policy did not drop, or keeps it on disk for the next start.
pub fn all_delivered(sinks: &[SinkOutcome]) -> bool {
    let is_lost =
        |s: &SinkOutcome| s.report.n_failed + s.report.n_dropped + s.n_refused > 0 || s.report.error.is_some();
    !sinks.iter().any(is_lost)
}

#[cfg(test)]
mod tests {
    use sinks::SinkReport;

    use super::*;

    #[test]
    fn what_waits_on_disk_is_not_lost() {
        let check = |report: SinkReport, n_dropped, n_refused, all: bool, said: &[&str]| {
            let outcomes = [SinkOutcome { report, n_dropped, n_refused }];
            let shown = render(&[], &outcomes);
            assert_eq!(all_delivered(&outcomes), all, "{shown}");
            for part in said {
                assert!(shown.contains(part), "`{part}` is missing in:\n{shown}");
            }
        };
        let report = || SinkReport { name: "kafka".into(), n_published: 10, ..SinkReport::default() };
        check(report(), 0, 0, true, &["10"]);
        check(SinkReport { n_waiting: 7, ..report() }, 0, 0, true, &["waiting: 7, for the next start"]);
        check(SinkReport { n_failed: 1, ..report() }, 0, 0, false, &[]);
        check(SinkReport { n_dropped: 5, ..report() }, 0, 0, false, &["its full spool dropped 5"]);
        check(report(), 3, 0, true, &["3"]);
        check(report(), 0, 2, false, &["2"]);
    }
}
