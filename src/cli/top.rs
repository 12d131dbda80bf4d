//! `eyewitness top`: a live table of the streams and workers of a running service. Asks once a second, draws on the
//! terminal's alternate screen, and leaves the terminal as it was.

mod draw;

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use base::shutdown::Shutdown;
use reqwest::Method;
use serde::Deserialize;

use super::{
    remote::{At, Remote, Trouble, told},
    say, streams,
};

/// Watch streams and workers live: state, frames a second, lag, drops by reason, gaps
#[derive(clap::Args)]
#[command(after_help = "Examples:
  eyewitness top                  a table that is drawn anew each second; Ctrl-C ends it
  eyewitness top --once           once, as plain text

Columns: FPS frames analysed a second; LATENCY median from the decoded picture to its record; SPEECH sound not yet
transcribed; AGE how long ago its worker told; DROPPED frames left out since the stream began, by reason: `sampling` is
what the profile asks for, `superseded` grows when the model is too slow.")]
pub(super) struct Args {
    /// Show it once and end; also where standard output is no terminal
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    at: At,
}

/// How often it is drawn.
const EVERY: Duration = Duration::from_secs(1);
/// An answer that takes longer says that something is wrong.
const PATIENCE: Duration = Duration::from_secs(5);
/// Size of a terminal that does not tell its own.
const SIZE: (usize, usize) = (100, 30);

/// The answer to a list of workers.
#[derive(Deserialize, Default)]
struct Workers {
    workers: Vec<Worker>,
    trouble: Option<String>,
}

/// What of a worker is shown.
#[derive(Deserialize, Default)]
struct Worker {
    id: String,
    capacity: f32,
    load: f32,
    n_streams: usize,
    leases: Vec<u32>,
    draining: bool,
    address: Option<String>,
    version: String,
    age_ms: u64,
}

/// What the service says at one moment.
#[derive(Default)]
struct Scene {
    streams: Vec<streams::Shown>,
    workers: Workers,
}

fn look(remote: &Remote) -> Result<Scene, Trouble> {
    let streams = streams::list(remote, "")?;
    let (_, workers) = remote.json(Method::GET, "/v1/workers", None)?;
    Ok(Scene { streams, workers })
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let remote = args.at.open()?.within(PATIENCE)?;
    let mut scene = match look(&remote) {
        Ok(scene) => scene,
        Err(trouble) => return told(trouble),
    };
    if args.once || !std::io::stdout().is_terminal() {
        say(&draw::lines(&scene, None).join("\n"));
        return Ok(ExitCode::SUCCESS);
    }
    let shutdown = Shutdown::default();
    crate::signals::watch(shutdown.clone()).context("signals")?;
    let mut screen = Screen::open()?;
    let mut trouble: Option<Trouble> = None;
    loop {
        let (width, height) =
            terminal_size::terminal_size().map_or(SIZE, |(w, h)| (usize::from(w.0), usize::from(h.0)));
        let said = trouble.as_ref().map(ToString::to_string);
        let room = height.saturating_sub(usize::from(said.is_some()));
        let mut lines: Vec<String> = said.iter().map(|said| draw::cut(said, width)).collect();
        lines.extend(draw::lines(&scene, Some((width, room))));
        if screen.show(&lines).is_err() || shutdown.wait_timeout(EVERY) {
            return Ok(ExitCode::SUCCESS);
        }
        // What was seen last stays, below what is wrong.
        match look(&remote) {
            Ok(now) => (scene, trouble) = (now, None),
            Err(now) => trouble = Some(now),
        }
    }
}

/// The terminal's alternate screen; dropping it brings back what was there.
struct Screen(std::io::Stdout);

impl Screen {
    fn open() -> std::io::Result<Self> {
        let mut out = std::io::stdout();
        // Alternate screen, no cursor (DEC private modes 1049 and 25), lines are not wrapped (7).
        out.write_all(b"\x1b[?1049h\x1b[?25l\x1b[?7l")?;
        out.flush()?;
        Ok(Self(out))
    }

    fn show(&mut self, lines: &[String]) -> std::io::Result<()> {
        let mut frame = String::from("\x1b[H");
        for (n, line) in lines.iter().enumerate() {
            if n > 0 {
                frame.push_str("\r\n");
            }
            frame.push_str(line);
            frame.push_str("\x1b[K");
        }
        frame.push_str("\x1b[J");
        self.0.write_all(frame.as_bytes())?;
        self.0.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.0.write_all(b"\x1b[?7h\x1b[?25h\x1b[?1049l");
        let _ = self.0.flush();
    }
}
