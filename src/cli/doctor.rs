//! `eyewitness doctor`: what this machine has and lacks, and what to do about it.

use std::process::ExitCode;

use inference::{
    runtime::RuntimeInfo,
    store::{ModelStore, State as Stored},
};

use super::{EXIT_FAILED, say};
use crate::summary;

/// Check this machine: GStreamer and its decoders, ONNX Runtime, models, disk.
#[derive(clap::Args)]
#[command(after_help = "The exit code is 1 when something that is needed is missing.")]
pub(super) struct Args {}

/// One line of the diagnosis.
struct Line {
    what: String,
    state: State,
    detail: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    /// Something works less well without it.
    Lacking,
    /// Nothing works without it.
    Bad,
}

pub(super) fn run(_args: &Args, log: Option<&str>) -> anyhow::Result<ExitCode> {
    crate::logging::init(log.unwrap_or("error"), false)?;
    let mut lines = vec![Line {
        what: "eyewitness".into(),
        state: State::Good,
        detail: format!(
            "{} on {} core(s)",
            env!("CARGO_PKG_VERSION"),
            std::thread::available_parallelism().map_or(1, |n| n.get())
        ),
    }];
    match ingest::init() {
        Err(e) => lines.push(bad("GStreamer", e.to_string())),
        Ok(()) => lines.extend(ingest::doctor().into_iter().map(|check| Line {
            what: check.name,
            state: if check.ok { State::Good } else { State::Lacking },
            detail: check.detail,
        })),
    }
    match inference::runtime::init() {
        Err(e) => lines.push(bad("ONNX Runtime", e.to_string())),
        Ok(info) => lines.push(good("ONNX Runtime", describe(&info))),
    }
    for row in ModelStore::open_default().list() {
        let usable = matches!(row.state, Stored::Embedded | Stored::InStore);
        lines.push(Line {
            what: format!("model {}", row.name),
            state: if usable { State::Good } else { State::Lacking },
            detail: super::models::place(&row),
        });
    }
    let dir = std::env::current_dir()?;
    let probe = dir.join(format!(".eyewitness-doctor-{}", std::process::id()));
    lines.push(match std::fs::write(&probe, b"x").and_then(|()| std::fs::remove_file(&probe)) {
        Ok(()) => good("this folder", format!("{} can be written", dir.display())),
        Err(e) => Line {
            what: "this folder".into(),
            state: State::Lacking,
            detail: format!("{} cannot be written ({e}); give sinks a path elsewhere", dir.display()),
        },
    });
    let mut table = summary::new_table(&["what", "", "detail"]);
    for line in &lines {
        let mark = match line.state {
            State::Good => "ok",
            State::Lacking => "lacking",
            State::Bad => "MISSING",
        };
        table.add_row([line.what.as_str(), mark, line.detail.as_str()]);
    }
    say(&table.to_string());
    Ok(if lines.iter().any(|l| l.state == State::Bad) { ExitCode::from(EXIT_FAILED) } else { ExitCode::SUCCESS })
}

fn describe(info: &RuntimeInfo) -> String {
    let providers: Vec<&str> = info.providers.iter().map(|p| p.as_str()).collect();
    let version = info.version.as_deref().unwrap_or("of unknown version");
    format!("{version}, built with {}; {}", providers.join(", "), info.path.display())
}

fn good(what: &str, detail: String) -> Line {
    Line { what: what.into(), state: State::Good, detail }
}

fn bad(what: &str, detail: String) -> Line {
    Line { what: what.into(), state: State::Bad, detail }
}
