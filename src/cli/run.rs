//! `eyewitness run`: the service.

use std::{path::PathBuf, process::ExitCode};

use super::{EXIT_FAILED, EXIT_REFUSED, EXIT_UNDELIVERED, begin, say_err, service};
use crate::{config, summary};

/// Attach every stream of a configuration and run until SIGTERM, or until every source has ended.
///
/// With [attachments], [cluster] or [http] in the configuration, streams are attached and detached while it runs, and it runs
/// until SIGTERM. SIGTERM or Ctrl-C stops the sources, infers what is pending and then delivers every event within
/// `service.grace_secs`; what a spool on disk still holds waits for the next start. A worker of a cluster hands its streams
/// over first, for up to 10 s.
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
        service::keeps_store(&config) || !config.streams.is_empty(),
        "{}: no stream is configured; add a [streams.NAME] with its url, or [http] to attach streams while it runs",
        args.config.display()
    );
    let ended = service::serve(&config, Some(&args.config), &shutdown, None, |_| {})?;
    say_err(&summary::render(&ended.analyses, &ended.sinks));
    if !summary::all_delivered(&ended.sinks) {
        return Ok(ExitCode::from(EXIT_UNDELIVERED));
    }
    Ok(if ended.failed { ExitCode::from(EXIT_FAILED) } else { ExitCode::SUCCESS })
}
