//! `eyewitness run`: the service.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use base::time::SystemClock;

use super::{EXIT_FAILED, EXIT_REFUSED, EXIT_UNDELIVERED, begin, say_err};
use crate::{
    config,
    stream::Outcome,
    summary,
    topology::{House, Running},
};

/// Attach every stream of a configuration and run until SIGTERM, or until every source has ended.
///
/// SIGTERM or Ctrl-C stops the sources, infers what is pending and delivers every event within `service.grace_secs`.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  eyewitness run --config eyewitness.toml\n\nThe keys of the file: docs/ref/configuration.md"
)]
pub(super) struct Args {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", default_value = "eyewitness.toml")]
    config: PathBuf,
}

pub(super) fn run(args: Args, log: Option<&str>) -> anyhow::Result<ExitCode> {
    let config = match config::load(&args.config) {
        Ok(config) => config,
        Err(problems) => {
            say_err(problems.render(super::validate::color()).trim_end());
            return Ok(ExitCode::from(EXIT_REFUSED));
        }
    };
    let shutdown = begin(log.unwrap_or(&config.service.log), config.service.log_json)?;
    anyhow::ensure!(
        !config.streams.is_empty(),
        "{}: no stream is configured; add a [streams.NAME] with its url",
        args.config.display()
    );
    let running = Running::Live;
    let mut house =
        House::open(&config.sinks, config.inference.clone(), &running, config.service.grace(), SystemClock::new())?;
    // Every model is loaded, and every profile held against its model, before the first stream starts.
    for stream in &config.streams {
        house.prepare(&stream.profile).map_err(|e| e.context(format!("stream `{}`", stream.name)))?;
    }
    for stream in config.streams {
        house.attach(stream, &running)?;
    }
    tracing::info!(n_streams = house.streams().len(), "running");
    while !house.finished() && !shutdown.wait_timeout(Duration::from_millis(200)) {}
    let (analyses, sinks) = house.close();
    say_err(&summary::render(&analyses, &sinks));
    if !summary::all_delivered(&sinks) {
        return Ok(ExitCode::from(EXIT_UNDELIVERED));
    }
    let failed = analyses.iter().any(|a| matches!(a.outcome(), Outcome::Failed(_)));
    Ok(if failed { ExitCode::from(EXIT_FAILED) } else { ExitCode::SUCCESS })
}
