//! `eyewitness spool replay`: delivers what a spool holds with the sink's own configuration, without streams.
//!
//! On the main thread, which waits for the sink's. Must never take anything out of a spool or a file of dead letters that
//! was neither delivered, nor put aside, nor written where the user asked for.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, IsTerminal as _, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use base::{
    queue::{WhenFull, queue},
    shutdown::Shutdown,
    time::{Clock, SystemClock},
};
use indicatif::{ProgressBar, ProgressStyle};
use sinks::{
    BuildContext, SinkReport, Stamp,
    delivery::{Backlog as _, DeliveryReading, Durability},
    record::Record,
    spool::{Spool, SpoolError, SpoolOptions},
};

use super::{Target, inspect, letters, targets};
use crate::cli::{EXIT_FAILED, EXIT_UNDELIVERED, say, say_err};

/// Deliver what waits in the spool of a sink, while the service does not run.
///
/// Ends when nothing waits any more, after --grace seconds, or at SIGTERM or Ctrl-C; what is then left stays in the spool.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  eyewitness spool replay --sink kafka
  eyewitness spool replay --sink kafka --grace 60
  eyewitness spool replay --sink kafka --out waiting.jsonl            a copy; the spool keeps its records
  eyewitness spool replay --sink kafka --out waiting.jsonl --forget   the file instead of the spool
  eyewitness spool replay --sink hook --dead-letters eyewitness-out/dead-letters/hook.jsonl

Exit codes:
  0    nothing waits any more; with --out: everything is written
  1    something still waits, and nothing is lost; or it failed: the message says what to do
  2    the configuration was refused; nothing was started
  3    the far end refused records for good, or damaged ones could not be delivered")]
pub(in crate::cli) struct Args {
    /// Configuration file (TOML) with the sink
    #[arg(long, value_name = "FILE", default_value = "eyewitness.toml")]
    config: PathBuf,
    /// Name of the sink; may be left out where only one has a spool on disk
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Give up after so many seconds
    #[arg(long, value_name = "SECS", conflicts_with = "out")]
    grace: Option<u64>,
    /// Deliver nothing: write the records to this new file (JSON Lines); `-` is standard output
    #[arg(long, value_name = "FILE", conflicts_with = "dead_letters")]
    out: Option<PathBuf>,
    /// Empty the spool once everything is in the file
    #[arg(long, requires = "out")]
    forget: bool,
    /// Offer the records of this file of dead letters again; what is refused once more goes back to it
    #[arg(long, value_name = "FILE")]
    dead_letters: Option<PathBuf>,
}

/// How long the far end has for its last words.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// How often progress is looked at.
const LOOK_AFTER: Duration = Duration::from_millis(200);
/// How often progress is told where nobody looks at a terminal.
const SAY_AFTER: Duration = Duration::from_secs(10);
/// Read at once.
const PIECE: usize = 1024 * 1024;

pub(super) fn run(args: &Args, log: Option<&str>) -> anyhow::Result<ExitCode> {
    crate::logging::init(log.unwrap_or("warn"), false)?;
    let targets = match targets(&args.config, args.sink.as_deref())? {
        Ok(targets) => targets,
        Err(code) => return Ok(code),
    };
    let names: Vec<String> = targets.iter().map(|target| format!("`{}`", target.name)).collect();
    let [target] = <[Target; 1]>::try_from(targets)
        .map_err(|_| anyhow::anyhow!("{} have a spool: say which one with --sink", names.join(", ")))?;
    match (&args.out, &args.dead_letters) {
        (Some(out), _) if args.forget => move_out(&target, out),
        (Some(out), _) => copy_out(&target, out),
        (None, Some(letters)) => offer_again(target, letters, args.grace),
        (None, None) => {
            find(&target)?;
            deliver(&target, args.grace)
        }
    }
}

fn in_context(error: SpoolError) -> anyhow::Error {
    let is_in_use = matches!(error, SpoolError::InUse { .. });
    let error = anyhow::Error::from(error);
    if is_in_use {
        error.context("the service must be stopped first (or look with `eyewitness spool inspect`)")
    } else {
        error
    }
}

/// A wrong directory must not become a spool. A damaged one is put right when it is opened.
fn find(target: &Target) -> anyhow::Result<()> {
    match Spool::open_read_only(target.directory()) {
        Err(error @ SpoolError::Missing { .. }) => Err(error.into()),
        _ => Ok(()),
    }
}

fn open(target: &Target, clock: Arc<dyn Clock>) -> anyhow::Result<Spool> {
    let options = SpoolOptions {
        directory: target.directory(),
        max_bytes: target.spool.max_bytes(),
        durability: target.spool.durability,
        clock,
    };
    let opened = Spool::open(options).map_err(in_context)?;
    if let Some(damage) = opened.damage {
        say_err(&format!("the spool was damaged: {damage}"));
    }
    Ok(opened.spool)
}

fn deliver(target: &Target, grace: Option<u64>) -> anyhow::Result<ExitCode> {
    let shutdown = Shutdown::default();
    crate::signals::watch(shutdown.clone()).context("signals")?;
    let clock = SystemClock::new();
    // Only to find out who else has it: the sink opens it by itself.
    open(target, Arc::clone(&clock))?.close()?;
    let name = target.name.as_str();
    let context = BuildContext::new(Arc::clone(&clock), Stamp::Published);
    let sink = target.config.build(name, context).with_context(|| format!("sink `{name}`"))?;
    // Nobody publishes: the sink delivers what its spool holds.
    let (nobody, receiver) = queue(format!("sink:{name}"), 1, WhenFull::Block);
    let handle = sinks::spawn(name, sink, receiver, LAST_WORDS, Arc::clone(&clock))?;
    let probe = handle.probe();
    let began = clock.monotonic();
    let mut progress = Progress::start(began);
    loop {
        let reading = probe.read().delivery.unwrap_or_default();
        let now = clock.monotonic();
        progress.show(&reading, now);
        let is_over = grace.is_some_and(|secs| now - began >= Duration::from_secs(secs));
        if reading.n_waiting == 0 || is_over || handle.is_finished() || shutdown.wait_timeout(LOOK_AFTER) {
            break;
        }
    }
    let trouble = probe.read().delivery.and_then(|reading| reading.trouble);
    drop(nobody);
    let SinkReport { n_published, n_failed, n_waiting, error, .. } = handle.join();
    progress.end();
    say(&format!("{name}: {n_published} delivered, {n_failed} refused, {n_waiting} still waiting"));
    let has_failed = error.is_some();
    if let Some(error) = error {
        say_err(&format!("error: sink `{name}`: {error}"));
    }
    if n_failed > 0 {
        return Ok(ExitCode::from(EXIT_UNDELIVERED));
    }
    if has_failed && n_waiting == 0 {
        return Ok(ExitCode::from(EXIT_FAILED));
    }
    if n_waiting > 0 {
        let trouble = trouble.map_or(String::new(), |trouble| format!(" ({trouble})"));
        say_err(&format!("{n_waiting} record(s) still wait in {}{trouble}", target.directory().display()));
        return Ok(ExitCode::from(EXIT_FAILED));
    }
    Ok(ExitCode::SUCCESS)
}

fn offer_again(mut target: Target, path: &Path, grace: Option<u64>) -> anyhow::Result<ExitCode> {
    let clock = SystemClock::new();
    let now_ms = u64::try_from(clock.wall().as_millisecond()).unwrap_or(0);
    // A wrong path must not leave an empty spool behind.
    File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    // They leave a file that reached the disk: in the spool they must be as safe before that.
    target.spool.durability = Durability::Disk;
    let mut spool = open(&target, clock)?;
    let moved = letters::into_spool(path, &mut spool, now_ms)?;
    spool.close()?;
    let letters::Moved { n_moved, n_unreadable, n_without_room } = moved;
    say(&format!("{}: {n_moved} dead letter(s) are offered again", path.display()));
    if n_unreadable > 0 {
        say_err(&format!("{n_unreadable} line(s) are no dead letters, and stay in the file"));
    }
    if n_without_room > 0 {
        say_err(&format!("the spool has no room for {n_without_room} more; they stay in the file for the next time"));
    }
    // What is refused once more goes back where it came from.
    target.config.put_dead_letters_into(path.to_owned());
    deliver(&target, grace)
}

fn copy_out(target: &Target, out: &Path) -> anyhow::Result<ExitCode> {
    let mut spool = Spool::open_read_only(target.directory())?;
    let mut file = Out::create(out)?;
    inspect::walk(&mut spool, &mut |entry| {
        file.write(entry.bytes);
        file.is_ok()
    })?;
    let (n_written, n_damaged) = file.finish()?;
    Ok(told(target, out, n_written, n_damaged, "; the spool keeps them"))
}

fn move_out(target: &Target, out: &Path) -> anyhow::Result<ExitCode> {
    find(target)?;
    let mut spool = open(target, SystemClock::new())?;
    let reading = spool.reading();
    let mut file = Out::create(out)?;
    let mut at = reading.first;
    while at < reading.next && file.is_ok() {
        let from = at;
        spool.read(from, PIECE, &mut |entry| {
            file.write(entry.bytes);
            at = entry.number + 1;
        })?;
        anyhow::ensure!(at > from, "the spool ends before its last record, which is a bug; it was not emptied");
    }
    let (n_written, n_damaged) = file.finish()?;
    spool.trim(reading.next)?;
    spool.close()?;
    Ok(told(target, out, n_written, n_damaged, "; the spool is empty"))
}

fn told(target: &Target, out: &Path, n_written: u64, n_damaged: u64, then: &str) -> ExitCode {
    say_err(&format!("{}: {n_written} record(s) written to {}{then}", target.name, out.display()));
    if n_damaged == 0 {
        return ExitCode::SUCCESS;
    }
    say_err(&format!("{n_damaged} damaged record(s) could not be written"));
    ExitCode::from(EXIT_UNDELIVERED)
}

/// The file of `--out`.
struct Out {
    path: PathBuf,
    file: Option<File>,
    writer: BufWriter<Box<dyn Write>>,
    outcome: io::Result<()>,
    n_written: u64,
    n_damaged: u64,
}

impl Out {
    fn create(path: &Path) -> anyhow::Result<Self> {
        let doing = || format!("cannot make {} (an existing file is not replaced)", path.display());
        let (file, writer): (Option<File>, Box<dyn Write>) = if path == Path::new("-") {
            (None, Box::new(io::stdout()))
        } else {
            let file = OpenOptions::new().write(true).create_new(true).open(path).with_context(doing)?;
            (Some(file.try_clone().with_context(doing)?), Box::new(file))
        };
        let writer = BufWriter::new(writer);
        Ok(Self { path: path.to_owned(), file, writer, outcome: Ok(()), n_written: 0, n_damaged: 0 })
    }

    fn is_ok(&self) -> bool {
        self.outcome.is_ok()
    }

    fn write(&mut self, bytes: Option<&[u8]>) {
        let Some(record) = bytes.and_then(|bytes| Record::from_bytes(bytes).ok()) else {
            self.n_damaged += 1;
            return;
        };
        if self.outcome.is_ok() {
            self.outcome = writeln!(self.writer, "{}", record.payload);
            self.n_written += 1;
        }
    }

    /// Everything is on the disk; gives records written and damaged ones.
    fn finish(mut self) -> anyhow::Result<(u64, u64)> {
        let synced = |file: &Option<File>| file.as_ref().map_or(Ok(()), File::sync_all);
        let outcome = self.outcome.and_then(|()| self.writer.flush()).and_then(|()| synced(&self.file));
        outcome.with_context(|| format!("cannot write {}", self.path.display()))?;
        Ok((self.n_written, self.n_damaged))
    }
}

/// A line on standard error that moves on a terminal; elsewhere one now and then. What is in the way is told by the log.
struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
    /// On the monotonic clock.
    said_at: Duration,
}

impl Progress {
    fn start(now: Duration) -> Self {
        let is_terminal = io::stderr().is_terminal();
        let bar = if is_terminal { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        Self { bar, is_terminal, said_at: now }
    }

    fn show(&mut self, reading: &DeliveryReading, now: Duration) {
        let DeliveryReading { n_waiting, n_delivered, n_failed, .. } = reading;
        let text = format!("{n_waiting} waiting, {n_delivered} delivered, {n_failed} refused");
        if !self.is_terminal && now >= self.said_at + SAY_AFTER {
            self.said_at = now;
            say_err(&text);
        }
        self.bar.set_message(text);
        self.bar.tick();
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}
