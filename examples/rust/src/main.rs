//! Reads eyewitness's records from Kafka, drops duplicates, and goes on where it stopped. Copy it and make it yours.
//!
//! eyewitness delivers every record at least once, so a record may come twice, with the same `id`. How this program
//! makes sure that each counts once, whenever it is killed:
//!
//! 1. In ONE transaction of its database it notes the ids it has handled and writes its own result (`results.rs`).
//! 2. Only then does it tell Kafka how far it is (`kafka.rs`). Killed in between, it gets those records again and knows
//!    their ids.
//!
//! One thread does all the work; a second one waits for signals. Exit codes: 0 done, 1 failed, 2 wrong arguments.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints what it reads")]

use std::{
    io,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

mod kafka;
mod record;
mod results;

/// Most messages in one transaction.
const BATCH: usize = 200;
/// How long to wait for the first of them.
const WAIT: Duration = Duration::from_millis(500);

/// Reads eyewitness's records from Kafka: each one once, from where the last run stopped.
#[derive(clap::Parser)]
struct Options {
    /// Addresses, separated by commas
    #[arg(long, default_value = "localhost:9092")]
    brokers: String,
    /// Beginning of the topics' names
    #[arg(long, default_value = "eyewitness")]
    prefix: String,
    /// Consumer group
    #[arg(long, default_value = "eyewitness-example")]
    group: String,
    /// Results and handled ids
    #[arg(long, value_name = "FILE", default_value = "consume.sqlite")]
    state: PathBuf,
    /// librdkafka properties for TLS and SASL, `name = value` a line
    #[arg(long, value_name = "FILE")]
    properties: Option<PathBuf>,
    /// End after so long without a record
    #[arg(long, value_name = "SECS")]
    until_idle: Option<f64>,
    /// Print records as JSON Lines
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    let stopping = stop_on_signals()?;
    let mut results = results::Results::open(&options.state).with_context(|| options.state.display().to_string())?;
    let consumer = kafka::connect(&options.brokers, &options.group, &options.prefix, options.properties.as_deref())?;
    let until_idle = options.until_idle.map(Duration::from_secs_f64);
    let mut idle = Duration::ZERO;
    while !stopping.load(Ordering::Relaxed) && until_idle.is_none_or(|most| idle < most) {
        let messages = kafka::receive(&consumer, BATCH, WAIT)?;
        if !messages.is_empty() {
            idle = Duration::ZERO;
            let mut items = Vec::with_capacity(messages.len());
            for message in &messages {
                items.extend(record::parse(message)?);
            }
            let new = results.add(items).with_context(|| options.state.display().to_string())?;
            kafka::commit(&consumer, &messages)?;
            // For people to watch. What is printed is not part of the transaction: the truth is in the database.
            for item in new {
                println!("{}", if options.json { &item.text } else { &item.line });
            }
        } else if kafka::has_partitions(&consumer)? {
            // Idle is who has partitions to read and finds nothing in them.
            idle += WAIT;
        }
    }
    Ok(()) // Dropping the consumer leaves the group, so that others take over at once.
}

/// A flag that SIGTERM and Ctrl-C set.
fn stop_on_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let stopping = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut term, mut interrupt) = {
        let _inside = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let flag = Arc::clone(&stopping);
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        flag.store(true, Ordering::Relaxed);
        io::Result::Ok(())
    })?;
    Ok(stopping)
}

/// Says it on standard error.
fn complain(text: &str) {
    eprintln!("consume: {text}");
}
