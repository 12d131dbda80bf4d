//! `eyewitness run`: the service.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use base::time::SystemClock;

use super::{EXIT_FAILED, EXIT_REFUSED, EXIT_UNDELIVERED, begin, say_err};
use crate::{
    config,
    front::{Front, GOODBYE},
    stream::Outcome,
    summary,
    topology::{House, ModelSettings, Running},
};

/// Attach every stream of a configuration and run until SIGTERM, or until every source has ended.
///
/// SIGTERM or Ctrl-C stops the sources, infers what is pending and then delivers every event within `service.grace_secs`;
/// what a spool on disk still holds waits for the next start.
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
    let models = ModelSettings { engine: config.inference.clone(), speech: config.speech.clone() };
    let clock = SystemClock::new();
    let front = config.http.map(|http| Front::new(http, &config.hls, &clock));
    let onlookers = front.as_ref().map(Front::onlookers);
    let grace = config.service.grace();
    let mut house = House::new(models, Arc::clone(&clock));
    // Every model is loaded, and every profile held against its model, before an output is opened or a stream starts.
    for stream in &config.streams {
        house.prepare(&stream.profile).map_err(|e| e.context(format!("stream `{}`", stream.name)))?;
    }
    house.connect(&config.sinks, &running, onlookers, grace)?;
    let profiles = config.streams.iter().map(|s| &s.profile);
    let server = front.map(|front| front.open(&house, profiles, &clock)).transpose()?;
    if let Some(server) = &server {
        tracing::info!(address = %server.local_addr(), "the HTTP service listens");
    }
    for stream in config.streams {
        house.attach(stream, &running)?;
    }
    house.settle_in();
    tracing::info!(n_streams = house.analyses().len(), "running");
    while !house.finished() && !shutdown.wait_timeout(Duration::from_millis(200)) {}
    let (analyses, sinks) = house.close();
    if let Some(server) = server {
        server.stop(GOODBYE);
    }
    say_err(&summary::render(&analyses, &sinks));
    if !summary::all_delivered(&sinks) {
        return Ok(ExitCode::from(EXIT_UNDELIVERED));
    }
    let failed = analyses.iter().any(|a| matches!(a.outcome(), Outcome::Failed(_)));
    Ok(if failed { ExitCode::from(EXIT_FAILED) } else { ExitCode::SUCCESS })
}
