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
    let mut table = new_table(&["sink", "events published", "failed", "dropped", "note"]);
    for SinkOutcome { report, n_dropped, n_refused } in sinks {
        let note = report.error.as_ref().map_or_else(|| "-".into(), ToString::to_string);
        table.add_row([
            report.name.clone(),
            report.n_published.to_string(),
            (report.n_failed + n_refused).to_string(),
            n_dropped.to_string(),
            note,
        ]);
    }
    align(&mut table, &[1, 2, 3]);
    table
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

/// Whether every sink delivered everything that its queue's policy did not drop.
pub fn all_delivered(sinks: &[SinkOutcome]) -> bool {
    sinks.iter().all(|s| s.report.n_failed == 0 && s.n_refused == 0 && s.report.error.is_none())
}
