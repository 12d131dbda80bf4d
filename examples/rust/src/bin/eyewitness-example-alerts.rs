//! Follows the alerts of eyewitness: when each began, what became of it, and when it was over. Copy it and make it yours.
//!
//! An alert lives: `opened` once, `updated` any number of times, `closed`. All its records name it in `alert`, and each
//! replaces the one before it, so all that must be known of an alert is its newest record. This program keeps that
//! (`alerts.rs`): whatever comes twice, too late or again after a crash is not newer, and changes nothing.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser as _;
use eyewitness_example_consumer::{Options, alerts::Alerts, follow};

/// Follows the alerts of eyewitness: each change once, from where the last run stopped.
#[derive(clap::Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Consumer group
    #[arg(long, default_value = "eyewitness-example-alerts")]
    group: String,
    /// The newest record of each alert
    #[arg(long, value_name = "FILE", default_value = "alerts.sqlite")]
    state: PathBuf,
}

fn main() -> ExitCode {
    let Arguments { options, group, state } = Arguments::parse();
    follow::<Alerts>(&options, &["alerts"], &group, &state)
}
