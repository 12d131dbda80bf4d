//! `eyewitness detach`: detaches a stream from a running service.

use std::process::ExitCode;

use base::media::StreamName;
use reqwest::Method;
use serde_json::Value;

use super::{
    remote::{At, stream_path, told},
    say,
};

/// Detach a stream from a running service; what it has in hand is still analysed and published
#[derive(clap::Args)]
#[command(after_help = "Example:\n  eyewitness detach front-door")]
pub(super) struct Args {
    /// The stream's name
    #[arg(value_parser = StreamName::new)]
    name: StreamName,
    #[command(flatten)]
    at: At,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match args.at.open()?.json::<Value>(Method::DELETE, &stream_path(args.name.as_str()), None) {
        Ok(_) => say(&format!("{}: detached", args.name)),
        Err(trouble) => return told(trouble),
    }
    Ok(ExitCode::SUCCESS)
}
