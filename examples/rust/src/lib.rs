//! What the two programs have in common: they read records from Kafka, take in what is new, say so, and only then tell
//! Kafka how far they are. `main.rs` takes every record once (`results.rs`); `bin/eyewitness-example-alerts.rs` keeps the
//! newest of each alert (`alerts.rs`).
//!
//! One thread does all the work; a second one waits for signals. Exit codes: 0 done, 1 failed, 2 wrong arguments.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "programs that print what they read")]

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

pub mod alerts;
mod kafka;
pub mod record;
pub mod results;

use record::Item;

/// Most messages in one transaction.
const BATCH: usize = 200;
/// How long to wait for the first of them.
const WAIT: Duration = Duration::from_millis(500);

/// Options of both programs.
#[derive(clap::Args)]
pub struct Options {
    /// Addresses, separated by commas
    #[arg(long, default_value = "localhost:9092")]
    brokers: String,
    /// Beginning of the topics' names
    #[arg(long, default_value = "eyewitness")]
    prefix: String,
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

/// What a program makes of the records: one SQLite file.
pub trait Store: Sized {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// When it cannot be opened, or is something else.
    fn open(path: &Path) -> rusqlite::Result<Self>;

    /// Takes in those items that are new, all or none of them, and returns them.
    ///
    /// # Errors
    /// When the file cannot be written.
    fn add(&mut self, items: Vec<Item>) -> rusqlite::Result<Vec<Item>>;
}

/// Reads these topics from where the group is, until a signal comes.
#[must_use]
pub fn follow<S: Store>(options: &Options, topics: &[&str], group: &str, state: &Path) -> ExitCode {
    match try_follow::<S>(options, topics, group, state) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn try_follow<S: Store>(options: &Options, topics: &[&str], group: &str, state: &Path) -> anyhow::Result<()> {
    let stopping = stop_on_signals()?;
    let mut store = S::open(state).with_context(|| state.display().to_string())?;
    let topics: Vec<String> = topics.iter().map(|topic| format!("{}.{topic}", options.prefix)).collect();
    let consumer = kafka::connect(&options.brokers, group, &topics, options.properties.as_deref())?;
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
            let new = store.add(items).with_context(|| state.display().to_string())?;
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
