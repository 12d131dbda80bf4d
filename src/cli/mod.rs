//! The command line: one file a command. Standard output carries results, standard error everything else.

mod attach;
mod bench;
mod camera;
mod demo;
mod detach;
mod doctor;
mod models;
mod probe;
mod remote;
mod replay;
mod rules;
mod run;
mod schema;
mod service;
mod spool;
mod streams;
mod tail;
mod top;
mod validate;

use std::process::ExitCode;

use anyhow::Context as _;
use base::{redact::scrub_urls, shutdown::Shutdown};
use clap::{Parser, Subcommand};

/// Exit code when something went wrong at run time.
pub const EXIT_FAILED: u8 = 1;
/// Exit code when the command line or the configuration was refused; nothing was started.
pub const EXIT_REFUSED: u8 = 2;
/// Exit code when the work was done but a sink lost events. What waits in a spool on disk is not lost.
pub const EXIT_UNDELIVERED: u8 = 3;

const AFTER_HELP: &str = "\
Examples:
  eyewitness demo                                     watch the bundled clip through a real RTSP camera
  eyewitness replay clip.mp4 --out clip.jsonl         one JSON record for every frame of a recording
  eyewitness run --config eyewitness.toml             the service: every stream of the configuration
  eyewitness attach rtsp://camera.lan/1 --name yard   attach a stream to the running service
  eyewitness top                                      watch its streams and workers live
  eyewitness validate eyewitness.toml                 check a configuration without starting anything
  eyewitness spool inspect                            what waits on disk to be delivered
  eyewitness doctor                                   what this machine has and lacks

Exit codes:
  0    done
  1    failed: the message says what, where and what to do
  2    the command line, the configuration or what a service was asked for was refused; nothing was started or changed
  3    done, but a sink lost events: refused, dropped by a full spool, or left in memory (what waits on disk is not lost)
  130  stopped by a signal before the work was done (a replay), or at once by a second one

Environment:
  EYEWITNESS_MODELS   where models are kept (else the user's data folder)
  EYEWITNESS_SERVICE  address of the service that attach, detach, streams, probe, tail and top talk to
  EYEWITNESS_TOKEN    its token
  RUST_LOG            log filter, before the configuration's
  NO_COLOR            no colours";

/// Attach a camera or any live stream; its detections, captions and alerts arrive on a web page, on Kafka, at webhooks and in
/// files.
#[derive(Parser)]
#[command(name = "eyewitness", version, after_help = AFTER_HELP, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Log filter: error, warn, info, debug, or directives such as info,ingest=debug
    #[arg(long, global = true, value_name = "FILTER", env = "RUST_LOG")]
    log: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service: attach every stream of a configuration
    Run(run::Args),
    /// Attach a stream to a running service, or change what is attached
    Attach(attach::Args),
    /// Detach a stream from a running service
    Detach(detach::Args),
    /// Show the streams of a running service
    Streams(streams::Args),
    /// Try a URL: codecs, picture size, rate and one picture, or why it cannot be played
    Probe(probe::Args),
    /// Follow the captions, transcripts and states of streams, as they come
    Tail(tail::Args),
    /// Watch streams and workers live: state, frames a second, lag, drops by reason, gaps
    Top(top::Args),
    /// Analyse a recording as fast as it goes, dropping nothing
    Replay(replay::Args),
    /// Try rules on a recording
    #[command(subcommand)]
    Rules(rules::Command),
    /// Check a configuration file
    Validate(validate::Args),
    /// Print or write the JSON Schemas of all records, and the configuration reference
    Schema(schema::Args),
    /// Check this machine: GStreamer, ONNX Runtime, models, disk
    Doctor(doctor::Args),
    /// List, fetch and verify models
    #[command(subcommand)]
    Models(models::Command),
    /// Look at what waits on disk for a far end, or deliver it without the service
    #[command(subcommand)]
    Spool(spool::Command),
    /// The main job on the bundled clip, through a real RTSP camera on loopback
    Demo(demo::Args),
    /// Serve a clip as an RTSP camera on loopback
    #[command(hide = true)]
    Camera(camera::Args),
    /// Measure one part alone
    #[command(hide = true, subcommand)]
    Bench(bench::Command),
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let log = cli.log.as_deref();
    let done = match cli.command {
        Command::Run(args) => run::run(args, log),
        Command::Attach(args) => attach::run(&args),
        Command::Detach(args) => detach::run(&args),
        Command::Streams(args) => streams::run(&args),
        Command::Probe(args) => probe::run(&args, log),
        Command::Tail(args) => tail::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Replay(args) => replay::run(args, log),
        Command::Rules(command) => rules::run(command, log),
        Command::Validate(args) => validate::run(&args),
        Command::Schema(args) => schema::run(&args),
        Command::Doctor(args) => doctor::run(&args, log),
        Command::Models(command) => models::run(command, log),
        Command::Spool(command) => spool::run(command, log),
        Command::Demo(args) => demo::run(args, log),
        Command::Camera(args) => camera::run(args, log),
        Command::Bench(command) => bench::run(command, log),
    };
    done.unwrap_or_else(|error| {
        complain(&error);
        ExitCode::from(EXIT_FAILED)
    })
}

/// Prints an error with its causes, secrets taken out.
fn complain(error: &anyhow::Error) {
    say_err(&scrub_urls(&format!("error: {error:#}")));
}

/// A line on standard output; a reader that has gone away ends nothing.
fn say(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// A line on standard error.
fn say_err(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// What every command that looks at media needs first.
fn begin(log: &str, log_json: bool) -> anyhow::Result<Shutdown> {
    let shutdown = begin_media(log, log_json)?;
    inference::runtime::init()?;
    Ok(shutdown)
}

/// What every command that handles media needs first.
fn begin_media(log: &str, log_json: bool) -> anyhow::Result<Shutdown> {
    crate::logging::init(log, log_json)?;
    ingest::init()?;
    let shutdown = Shutdown::default();
    crate::signals::watch(shutdown.clone()).context("signals")?;
    Ok(shutdown)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
