//! `eyewitness validate`: a configuration is good, or every mistake in it with line, key and suggestion.

use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode};

use super::{EXIT_REFUSED, say, say_err};
use crate::config;

/// Check a configuration file without starting anything.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  eyewitness validate eyewitness.toml")]
pub(super) struct Args {
    /// Configuration file (TOML)
    file: PathBuf,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match config::load(&args.file) {
        Ok(config) => {
            let names: Vec<String> = config.streams.iter().map(|s| format!("{} ({})", s.name, s.url)).collect();
            say(&format!(
                "{}: good: {} stream(s), {} sink(s)",
                args.file.display(),
                config.streams.len(),
                config.sinks.len()
            ));
            for name in names {
                say(&format!("  {name}"));
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(problems) => {
            say_err(problems.render(color()).trim_end());
            say_err(&format!("{}: {} mistake(s); nothing was started", args.file.display(), problems.len()));
            Ok(ExitCode::from(EXIT_REFUSED))
        }
    }
}

/// Whether standard error takes colours.
pub(super) fn color() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}
