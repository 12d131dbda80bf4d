//! The picture of `eyewitness top`, as lines of text. Pure.

use std::collections::BTreeMap;

use super::{Scene, Worker};
use crate::cli::{remote::plain, streams::Shown};

/// Columns of streams: heading, and whether numbers stand in it.
const COLUMNS: [(&str, bool); 10] = [
    ("STREAM", false),
    ("STATE", false),
    ("FPS", true),
    ("LATENCY", true),
    ("SPEECH", true),
    ("AGE", true),
    ("GAPS", true),
    ("WORKER", false),
    ("PROFILE", false),
    ("DROPPED", false),
];
const WORKER_COLUMNS: [(&str, bool); 8] = [
    ("WORKER", false),
    ("LOAD", true),
    ("CAPACITY", true),
    ("STREAMS", true),
    ("LEASES", true),
    ("AGE", true),
    ("VERSION", false),
    ("ADDRESS", false),
];

/// All lines. `size`: columns and rows that there are; without it, nothing is cut.
pub(super) fn lines(scene: &Scene, size: Option<(usize, usize)>) -> Vec<String> {
    let mut head = vec![totals(&scene.streams)];
    head.extend(scene.workers.trouble.as_ref().map(|trouble| format!("store: {}", plain(trouble))));
    head.push(String::new());
    let mut below = Vec::new();
    if !scene.workers.workers.is_empty() {
        below.push(String::new());
        below.extend(table(&WORKER_COLUMNS, scene.workers.workers.iter().map(worker).collect()));
    }
    let mut streams: Vec<&Shown> = scene.streams.iter().collect();
    // What needs somebody comes first, should not all of it fit.
    streams.sort_by_key(|stream| (rank(&stream.state), stream.name.clone()));
    let mut rows = table(&COLUMNS, streams.into_iter().map(stream).collect());
    if let Some((_, height)) = size {
        let room = height.saturating_sub(head.len() + below.len()).max(2);
        if rows.len() > room {
            let n_hidden = rows.len() - (room - 1);
            rows.truncate(room - 1);
            rows.push(format!("... and {n_hidden} more"));
        }
    }
    let all = head.into_iter().chain(rows).chain(below);
    match size {
        Some((width, height)) => all.take(height).map(|line| cut(&line, width)).collect(),
        None => all.map(|line| line.trim_end().to_owned()).collect(),
    }
}

/// At most so many characters.
pub(super) fn cut(line: &str, width: usize) -> String {
    plain(line).chars().take(width).collect()
}

fn rank(state: &str) -> u8 {
    match state {
        "failed" => 0,
        "interrupted" => 1,
        "waiting" | "starting" | "connecting" => 2,
        "playing" => 3,
        _ => 4,
    }
}

/// `3 streams: 2 playing, 1 failed; 14.9 fps; decoded 812, analysed 402, dropped 410; 1 gap`.
fn totals(streams: &[Shown]) -> String {
    let mut states: BTreeMap<(u8, &str), usize> = BTreeMap::new();
    for stream in streams {
        *states.entry((rank(&stream.state), stream.state.as_str())).or_default() += 1;
    }
    let figures = || streams.iter().filter_map(|stream| stream.figures.as_ref());
    let fps: f64 = figures().map(|f| f.fps).sum();
    let n_decoded: u64 = figures().map(|f| f.n_decoded).sum();
    let n_inferred: u64 = figures().map(|f| f.n_inferred).sum();
    let n_dropped: u64 = figures().flat_map(|f| f.n_dropped.values()).sum();
    let n_gaps: u64 = figures().map(|f| f.n_gaps).sum();
    let states: Vec<String> = states.iter().map(|((_, state), n)| format!("{n} {}", plain(state))).collect();
    let states = if states.is_empty() { String::new() } else { format!(": {}", states.join(", ")) };
    format!(
        "{}{states}; {fps:.1} fps; decoded {n_decoded}, analysed {n_inferred}, dropped {n_dropped}; {}",
        many(streams.len() as u64, "stream"),
        many(n_gaps, "gap")
    )
}

fn many(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn stream(stream: &Shown) -> Vec<String> {
    let none = || "-".to_owned();
    let or = |text: &Option<String>| text.as_deref().map_or_else(none, plain);
    let figures = stream.figures.as_ref();
    let drops = figures.map(|figures| {
        let by_reason: Vec<String> =
            figures.n_dropped.iter().filter(|(_, n)| **n > 0).map(|(r, n)| format!("{} {n}", plain(r))).collect();
        if by_reason.is_empty() { "0".to_owned() } else { by_reason.join(", ") }
    });
    vec![
        plain(&stream.name),
        plain(&stream.state),
        figures.map_or_else(none, |f| format!("{:.1}", f.fps)),
        figures.and_then(|f| f.latency_ms).map_or_else(none, |ms| format!("{ms:.0} ms")),
        stream.speech_lag_ms.map_or_else(none, seconds),
        stream.report_age_ms.map_or_else(none, seconds),
        figures.map_or_else(none, |f| f.n_gaps.to_string()),
        or(&stream.worker),
        or(&stream.profile),
        drops.unwrap_or_else(none),
    ]
}

fn worker(worker: &Worker) -> Vec<String> {
    let id = plain(&worker.id);
    vec![
        if worker.draining { format!("{id} (leaving)") } else { id },
        format!("{:.1}", worker.load),
        format!("{:.1}", worker.capacity),
        worker.n_streams.to_string(),
        worker.leases.len().to_string(),
        seconds(worker.age_ms),
        plain(&worker.version),
        worker.address.as_deref().map_or_else(|| "-".to_owned(), plain),
    ]
}

fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1e3)
}

/// Columns as wide as their widest entry, two blanks between them; numbers stand right.
fn table(columns: &[(&str, bool)], rows: Vec<Vec<String>>) -> Vec<String> {
    let heading = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(heading).chain(rows).collect();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row
            .iter()
            .zip(columns)
            .zip(&widths)
            .map(
                |((cell, (_, right)), width)| {
                    if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
                },
            )
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::top::Workers, control::report::Figures};

    fn shown(name: &str, state: &str, figures: Option<Figures>) -> Shown {
        Shown { name: name.into(), state: state.into(), figures, ..Shown::default() }
    }

    fn figures() -> Figures {
        Figures {
            fps: 4.96,
            latency_ms: Some(31.4),
            n_decoded: 100,
            n_inferred: 48,
            n_dropped: [("sampling".to_owned(), 50), ("superseded".to_owned(), 2), ("stale".to_owned(), 0)].into(),
            n_gaps: 1,
            ..Figures::default()
        }
    }

    #[test]
    fn a_table_with_totals() {
        let streams = vec![
            Shown {
                worker: Some("w-1".into()),
                profile: Some("people".into()),
                ..shown("yard", "playing", Some(figures()))
            },
            shown("front-door", "failed", None),
        ];
        let worker = Worker {
            id: "w-1".into(),
            capacity: 8.0,
            load: 2.5,
            n_streams: 1,
            leases: vec![0, 1],
            draining: true,
            age_ms: 1500,
            version: "0.1.0".into(),
            ..Worker::default()
        };
        let workers = Workers { workers: vec![worker], trouble: Some("no broker\u{1b}[2J".into()) };
        let got = lines(&Scene { streams, workers }, None);
        let expected = [
            "2 streams: 1 failed, 1 playing; 5.0 fps; decoded 100, analysed 48, dropped 52; 1 gap",
            "store: no broker [2J",
            "",
            "STREAM      STATE    FPS  LATENCY  SPEECH  AGE  GAPS  WORKER  PROFILE  DROPPED",
            "front-door  failed     -        -       -    -     -  -       -        -",
            "yard        playing  5.0    31 ms       -    -     1  w-1     people   sampling 50, superseded 2",
            "",
            "WORKER         LOAD  CAPACITY  STREAMS  LEASES    AGE  VERSION  ADDRESS",
            "w-1 (leaving)   2.5       8.0        1       2  1.5 s  0.1.0    -",
        ];
        assert_eq!(got, expected);
    }

    #[test]
    fn it_fits_any_terminal() {
        let streams: Vec<Shown> = (0..50).map(|n| shown(&format!("cam-{n}"), "playing", Some(figures()))).collect();
        let scene = Scene { streams, workers: Workers::default() };
        for size in [(80, 24), (20, 5), (200, 100), (1, 1)] {
            let got = lines(&scene, Some(size));
            assert!(got.len() <= size.1, "{size:?}: {}", got.len());
            assert!(got.iter().all(|line| line.chars().count() <= size.0), "{size:?}");
        }
        let got = lines(&scene, Some((80, 24)));
        assert_eq!(got.last().map(String::as_str), Some("... and 30 more"));
        assert_eq!(got.len(), 24);
    }
}
