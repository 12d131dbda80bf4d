//! Reads eyewitness's records from Kafka, drops duplicates, and goes on where it stopped. Copy it and make it yours.
//!
//! eyewitness delivers every record at least once, so a record may come twice, with the same `id`. How this program
//! makes sure that each counts once, whenever it is killed:
//!
//! 1. In ONE transaction of its database it notes the ids it has handled and writes its own result (`results.rs`).
//! 2. Only then does it tell Kafka how far it is (`lib.rs`, `kafka.rs`). Killed in between, it gets those records again and
//!    knows their ids.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser as _;
use eyewitness_example_consumer::{Options, follow, results::Results};

const TOPICS: [&str; 5] = ["detections", "transcripts", "captions", "alerts", "status"];

/// Reads eyewitness's records from Kafka: each one once, from where the last run stopped.
#[derive(clap::Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Consumer group
    #[arg(long, default_value = "eyewitness-example")]
    group: String,
    /// Results and handled ids
    #[arg(long, value_name = "FILE", default_value = "consume.sqlite")]
    state: PathBuf,
}

fn main() -> ExitCode {
    let Arguments { options, group, state } = Arguments::parse();
    follow::<Results>(&options, &TOPICS, &group, &state)
}
