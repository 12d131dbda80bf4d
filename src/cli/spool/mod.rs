//! `eyewitness spool`: what waits on disk for a far end, looked at and delivered without the service. On the main thread.

mod inspect;
mod letters;
mod replay;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use base::time::Timestamp;
use sinks::{
    SinkConfig,
    delivery::{SpoolConfig, Store},
};

use super::{EXIT_REFUSED, say_err};
use crate::config;

/// Look at what waits in the spools of sinks, or deliver it without the service
#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Show what waits; changes nothing, and works beside a running service
    Inspect(inspect::Args),
    /// Deliver what waits, or dead letters, while the service does not run
    Replay(replay::Args),
}

pub(super) fn run(command: Command, log: Option<&str>) -> anyhow::Result<ExitCode> {
    match command {
        Command::Inspect(args) => inspect::run(&args),
        Command::Replay(args) => replay::run(&args, log),
    }
}

/// A sink with a spool on disk.
struct Target {
    name: String,
    config: SinkConfig,
    spool: SpoolConfig,
}

impl Target {
    fn directory(&self) -> PathBuf {
        self.spool.directory(&self.name)
    }
}

/// The sinks of a configuration that have a spool on disk, or the one called `wanted`. Only the sinks are checked: the
/// cameras' passwords need not be there.
///
/// # Errors
/// The exit code where the configuration was refused, which is then told; in words where no such sink is in it.
fn targets(config: &Path, wanted: Option<&str>) -> anyhow::Result<Result<Vec<Target>, ExitCode>> {
    let sinks = match config::load_sinks(config) {
        Ok(sinks) => sinks,
        Err(problems) => {
            say_err(problems.render(super::validate::color()).trim_end());
            return Ok(Err(ExitCode::from(EXIT_REFUSED)));
        }
    };
    let file = config.display();
    if let Some(wanted) = wanted {
        let found = sinks
            .get(wanted)
            .ok_or_else(|| anyhow::anyhow!("{file}: no sink is called `{wanted}`; {}", list(&sinks)))?;
        let spool =
            found.spool().ok_or_else(|| anyhow::anyhow!("{file}: sink `{wanted}` is of a type without a spool"))?;
        anyhow::ensure!(
            spool.store == Store::Disk,
            "{file}: sink `{wanted}` keeps what waits in memory (`spool.store = \"memory\"`): there is nothing on disk"
        );
    }
    let on_disk = |(name, config): (String, SinkConfig)| {
        let spool = config.spool()?.clone();
        let is_wanted = wanted.is_none_or(|wanted| wanted == name) && spool.store == Store::Disk;
        is_wanted.then_some(Target { name, config, spool })
    };
    let found: Vec<Target> = sinks.into_iter().filter_map(on_disk).collect();
    anyhow::ensure!(!found.is_empty(), "{file}: no sink has a spool on disk");
    Ok(Ok(found))
}

fn list(sinks: &BTreeMap<String, SinkConfig>) -> String {
    let names: Vec<String> = sinks.keys().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "there are none".into() } else { format!("there are {}", names.join(", ")) }
}

/// Bytes for people.
fn size(n_bytes: u64) -> String {
    const KIB: f64 = 1024.0;
    match n_bytes as f64 {
        n if n < KIB => format!("{n_bytes} B"),
        n if n < KIB * KIB => format!("{:.1} KiB", n / KIB),
        n if n < KIB * KIB * KIB => format!("{:.1} MiB", n / KIB / KIB),
        n => format!("{:.1} GiB", n / KIB / KIB / KIB),
    }
}

/// A time of acceptance, for people and for machines.
fn accepted_at(ms: u64) -> String {
    let at = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
    format!("{at:.3}")
}
