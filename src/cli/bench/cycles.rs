//! `eyewitness bench cycles`: attaches and detaches small test streams again and again, and tells what that leaves behind.
//!
//! A real house: models, feed, players' windows and a file sink. Every stream has a name of its own, so that whatever is
//! kept by name shows. Figures are taken between rounds, while no stream is there.

use std::{collections::BTreeMap, fs, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use base::{
    event::StreamState,
    media::StreamName,
    shutdown::Shutdown,
    time::{Clock, SystemClock},
};
use sinks::{SinkConfig, file::FileConfig};

use super::super::{EXIT_FAILED, begin, say, say_err};
use crate::{
    config::{self, CheckedStream, ProfileConfig},
    control::stage::{Stage as _, Start},
    front::Front,
    hls::HlsConfig,
    http::{HouseView as _, HttpConfig},
    metrics::Scrape,
    signals::EXIT_ABORTED,
    topology::{House, HouseStage, ModelSettings, Running},
};

/// What to repeat, and how often.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// Streams to attach and detach
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(2..))]
    cycles: u64,
    /// Streams at work at the same time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=256))]
    parallel: u64,
    /// Cycles between two lines
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// Detector: a built-in model's name or the path of a manifest; `none` leaves pictures alone
    #[arg(long, value_name = "MODEL", default_value = config::DEFAULT_DETECTOR)]
    detect: String,
    /// Transcriber: likewise
    #[arg(long, value_name = "MODEL", default_value = config::NO_MODEL)]
    transcribe: String,
}

/// The first part of all cycles, in which caches fill: a fifth.
const WARM_UP: u64 = 5;
/// A stream that takes so long to play or to go never will.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the streams are looked at.
const LOOK: Duration = Duration::from_millis(2);

/// What the process takes while no stream is there.
#[derive(Debug, Clone, Copy)]
struct Figures {
    n_cycles: u64,
    rss_bytes: u64,
    n_threads: u64,
    n_descriptors: u64,
    /// Length of all metrics as text.
    metrics_bytes: usize,
}

pub(super) fn run(args: &Args, log: Option<&str>) -> anyhow::Result<ExitCode> {
    let shutdown = begin(log.unwrap_or("error"), false)?;
    let folder = Folder::new()?;
    let clock = SystemClock::new();
    let profile = ProfileConfig {
        detect: args.detect.clone(),
        transcribe: args.transcribe.clone(),
        // One picture is enough to know that it was really analysed.
        sampling: ingest::Sampling::Fps(1.0),
        ..ProfileConfig::default()
    };
    let sinks = BTreeMap::from([("file".to_owned(), SinkConfig::File(FileConfig::new(folder.0.join("events.jsonl"))))]);
    let front = Front::new(HttpConfig::default(), &HlsConfig::default(), &clock);
    let mut house = House::new(ModelSettings::default(), Arc::clone(&clock));
    house.prepare(&profile)?;
    house.connect(&sinks, &Running::Live, Some(front.onlookers()), Duration::from_secs(10))?;
    house.settle_in();
    let began = clock.monotonic();
    let mut rounds = Rounds { stage: house.stage(), profile, clock: Arc::clone(&clock), shutdown, n_started: 0 };
    let mut all: Vec<Figures> = Vec::new();
    while rounds.n_started < args.cycles {
        let n = args.every.min(args.cycles - rounds.n_started);
        if !rounds.round(n, args.parallel)? {
            return Ok(ExitCode::from(EXIT_ABORTED as u8));
        }
        let figures = Figures { n_cycles: rounds.n_started, ..read(&house)? };
        let per_second = figures.n_cycles as f64 / clock.monotonic().saturating_sub(began).as_secs_f64();
        let Figures { n_cycles, rss_bytes, n_threads, n_descriptors, metrics_bytes } = figures;
        say(&serde_json::json!({
            "n_cycles": n_cycles, "rss_bytes": rss_bytes, "n_threads": n_threads, "n_descriptors": n_descriptors,
            "metrics_bytes": metrics_bytes, "cycles_per_second": rounded(per_second),
        })
        .to_string());
        all.push(figures);
    }
    house.close();
    let warm: Vec<&Figures> = all.iter().filter(|f| f.n_cycles * WARM_UP >= args.cycles).collect();
    let (Some(first), Some(last)) = (warm.first(), warm.last()) else { return Ok(ExitCode::from(EXIT_FAILED)) };
    // What is on its way out at one of the looks is not at every one: what only grows has been left behind.
    let least = |figures: &[&Figures], of: fn(&Figures) -> u64| figures.iter().map(|f| of(f)).min().unwrap_or_default();
    let part = warm.len().div_ceil(4);
    let ends = |of| [least(&warm[..part], of), least(&warm[warm.len() - part..], of)];
    say(&serde_json::json!({
        "n_cycles": last.n_cycles, "warm_from": first.n_cycles, "slope_bytes_per_cycle": rounded(slope(&warm)),
        "rss_bytes": [first.rss_bytes, last.rss_bytes], "n_threads": ends(|f| f.n_threads), "n_descriptors": ends(|f| f.n_descriptors),
        "metrics_bytes": [first.metrics_bytes, last.metrics_bytes],
    })
    .to_string());
    Ok(ExitCode::SUCCESS)
}

struct Rounds {
    stage: HouseStage,
    profile: ProfileConfig,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
    n_started: u64,
}

impl Rounds {
    /// So many cycles, until the last stream is gone; false when we were told to stop.
    fn round(&mut self, n: u64, parallel: u64) -> anyhow::Result<bool> {
        let until = self.n_started + n;
        let mut since = BTreeMap::new();
        loop {
            let now = self.clock.monotonic();
            let readings = self.stage.readings();
            if readings.is_empty() && self.n_started == until {
                return Ok(true);
            }
            if self.shutdown.is_triggered() {
                return Ok(false);
            }
            since.retain(|name: &StreamName, _| readings.iter().any(|reading| reading.name == *name));
            for reading in &readings {
                let began = *since.entry(reading.name.clone()).or_insert(now);
                let (name, figures) = (&reading.name, &reading.figures);
                let detail = reading.detail.as_deref().unwrap_or("no detail");
                anyhow::ensure!(reading.state != Some(StreamState::Failed), "stream `{name}` failed: {detail}");
                anyhow::ensure!(now.saturating_sub(began) < PATIENCE, "stream `{name}` hangs: {reading:?}");
                // Something was really analysed: a picture, or the sound of one that nobody looks at.
                let is_done = figures.n_inferred > 0 || (figures.n_decoded == 0 && reading.pts.nanos() > 0);
                if is_done && !reading.leaving {
                    self.stage.stop(name);
                }
            }
            let n_free = parallel.saturating_sub(readings.len() as u64).min(until - self.n_started);
            for _ in 0..n_free {
                self.start()?;
            }
            std::thread::sleep(LOOK);
        }
    }

    fn start(&mut self) -> anyhow::Result<()> {
        let url = "test://?width=64&height=48&fps=30&audio=tone";
        let stream = CheckedStream {
            name: StreamName::new(&format!("cycle-{}", self.n_started))?,
            url: config::source_url(url).map_err(anyhow::Error::msg)?,
            profile: self.profile.clone(),
            tags: BTreeMap::from([("Location".to_owned(), "Nowhere".to_owned())]),
            source: ingest::SourceConfig::default(),
            rules: Vec::new(),
        };
        self.n_started += 1;
        let start = Start { stream, epoch: Some(self.n_started), earlier: None };
        self.stage.start(start).map_err(anyhow::Error::msg)
    }
}

/// Sources: Linux, Documentation/filesystems/proc.rst, `/proc/self/status` and `/proc/self/fd`.
fn read(house: &House) -> anyhow::Result<Figures> {
    let status = fs::read_to_string("/proc/self/status").context("the figures need Linux' /proc")?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let n_descriptors = fs::read_dir("/proc/self/fd").context("the figures need Linux' /proc")?.count() as u64;
    let mut scrape = Scrape::default();
    house.roster().scrape(&mut scrape);
    Ok(Figures {
        n_cycles: 0,
        rss_bytes: field("VmRSS:").context("no VmRSS")? * 1024,
        n_threads: field("Threads:").context("no Threads")?,
        n_descriptors,
        metrics_bytes: scrape.render().len(),
    })
}

/// By least squares.
fn slope(figures: &[&Figures]) -> f64 {
    let n = figures.len() as f64;
    let mean = |of: fn(&Figures) -> u64| figures.iter().map(|f| of(f) as f64).sum::<f64>() / n;
    let (x, y) = (mean(|f| f.n_cycles), mean(|f| f.rss_bytes));
    let (mut covariance, mut variance) = (0.0, 0.0);
    for figure in figures {
        let dx = figure.n_cycles as f64 - x;
        covariance += dx * (figure.rss_bytes as f64 - y);
        variance += dx * dx;
    }
    if variance > 0.0 { covariance / variance } else { 0.0 }
}

fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// A folder for the sink, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("eyewitness-cycles-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.0) {
            say_err(&format!("cannot remove {}: {e}", self.0.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes() {
        let check = |points: &[(u64, u64)], expected: f64| {
            let figures: Vec<Figures> = points
                .iter()
                .map(|(n_cycles, rss_bytes)| Figures {
                    n_cycles: *n_cycles,
                    rss_bytes: *rss_bytes,
                    n_threads: 0,
                    n_descriptors: 0,
                    metrics_bytes: 0,
                })
                .collect();
            assert!((slope(&figures.iter().collect::<Vec<_>>()) - expected).abs() < 1e-9, "{points:?}");
        };
        check(&[(0, 500), (10, 600), (20, 700)], 10.0);
        check(&[(0, 500), (10, 520), (20, 500)], 0.0);
        check(&[(10, 500)], 0.0);
    }
}
