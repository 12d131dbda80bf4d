//! `eyewitness schema`: the wire's JSON Schemas and the configuration reference, as generated from the types.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context as _;

use super::say;
use crate::reference;

/// Print the JSON Schema of every record kind (draft 2020-12), or write all reference files into a folder.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  eyewitness schema                      list what there is\n  eyewitness schema detections           print one\n  eyewitness schema --write docs/ref     write all"
)]
pub(super) struct Args {
    /// Which one to print
    name: Option<String>,
    /// Write every reference file into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "name")]
    write: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let files = reference::files();
    if let Some(dir) = &args.write {
        for (name, text) in &files {
            let path = dir.join(name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
            }
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            say(&path.display().to_string());
        }
        return Ok(ExitCode::SUCCESS);
    }
    match &args.name {
        None => {
            for (name, _) in &files {
                say(name);
            }
        }
        Some(wanted) => {
            let stem =
                |name: &str| name.rsplit('/').next().unwrap_or(name).split('.').next().unwrap_or(name).to_owned();
            let (_, text) =
                files.iter().find(|(name, _)| stem(name) == *wanted || name == wanted).with_context(|| {
                    let known: Vec<String> = files.iter().map(|(name, _)| stem(name)).collect();
                    format!("no schema is called `{wanted}`; known are {}", known.join(", "))
                })?;
            say(text.trim_end());
        }
    }
    Ok(ExitCode::SUCCESS)
}
