//! `eyewitness models`: list, fetch and verify models.

use std::{io::IsTerminal as _, process::ExitCode};

use indicatif::{ProgressBar, ProgressStyle};
use inference::store::{ModelStore, Pulled, Row, State};

use super::{EXIT_FAILED, complain, say};
use crate::summary;

/// What to do with models. They are kept in `$EYEWITNESS_MODELS`, or in the user's data folder.
#[derive(clap::Subcommand)]
#[command(after_help = "Examples:
  eyewitness models list
  eyewitness models pull ssdlite-mbv2
  eyewitness models pull yolox-nano --from yolox_nano.onnx
  eyewitness models pull whisper-base --from ggml-base-q8_0.bin
  eyewitness models verify

Wherever a model is named, the path of a manifest (TOML) may stand: docs/guide/models.md")]
pub(super) enum Command {
    /// Show every known model and where its weights are
    List,
    /// Fetch a model's weights into the store, checked against its manifest
    Pull {
        /// Built-in model, or the path of a manifest
        name: String,
        /// Where from: a file, a folder that holds the model's files, or a URL
        #[arg(long, value_name = "FILE|DIR|URL")]
        from: Option<String>,
    },
    /// Compare weights with their checksums
    Verify {
        /// Built-in models or paths of manifests; else all that are there
        names: Vec<String>,
    },
}

pub(super) fn run(command: Command, log: Option<&str>) -> anyhow::Result<ExitCode> {
    crate::logging::init(log.unwrap_or("warn"), false)?;
    let store = ModelStore::open_default();
    match command {
        Command::List => {
            let mut table = summary::new_table(&["model", "task", "licence", "MB", "state", "where"]);
            for row in store.list() {
                let size = row.bytes.map_or_else(|| "-".into(), |b| format!("{:.1}", b as f64 / 1e6));
                table.add_row([&row.name, row.task.as_str(), &row.licence, &size, row.state.as_str(), &place(&row)]);
            }
            say(&table.to_string());
        }
        Command::Pull { name, from } => {
            let bar = if std::io::stderr().is_terminal() { ProgressBar::no_length() } else { ProgressBar::hidden() };
            if let Ok(style) = ProgressStyle::with_template("{msg} {bar:40} {bytes} / {total_bytes} ({bytes_per_sec})")
            {
                bar.set_style(style);
            }
            bar.set_message(name.clone());
            let pulled = store.pull(&name, from.as_deref(), &mut |progress| {
                if let Some(total) = progress.total {
                    bar.set_length(total);
                }
                bar.set_position(progress.done);
            });
            bar.finish_and_clear();
            match pulled? {
                Pulled::Embedded => say(&format!("{name}: part of the program, nothing to fetch")),
                Pulled::AlreadyThere(path) => say(&format!("{name}: already there and right: {}", path.display())),
                Pulled::Fetched(path) => say(&format!("{name}: fetched, checksum right: {}", path.display())),
            }
        }
        Command::Verify { names } => {
            let all = || store.list().into_iter().filter(|r| r.state != State::Missing).map(|r| r.name).collect();
            let names: Vec<String> = if names.is_empty() { all() } else { names };
            let mut good = true;
            for name in &names {
                match store.verify(name) {
                    Ok(model) => say(&format!("{name}: right ({})", model.place())),
                    Err(e) => {
                        good = false;
                        complain(&anyhow::Error::new(e));
                    }
                }
            }
            return Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) });
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Where a model's weights are, or how to get them.
pub(super) fn place(row: &Row) -> String {
    match row.state {
        State::Missing => match &row.recipe {
            Some(recipe) => {
                format!("get it: {recipe} (in a checkout), or eyewitness models pull {} --from FILE", row.name)
            }
            None => format!("get it: eyewitness models pull {} [--from FILE]", row.name),
        },
        State::Corrupt => format!("{}: not what it should be; pull it again", row.place),
        State::Embedded | State::InStore => row.place.clone(),
    }
}
