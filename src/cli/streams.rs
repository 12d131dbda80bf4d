//! `eyewitness streams`: the streams of a running service.

use std::{collections::BTreeMap, process::ExitCode};

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    remote::{At, Remote, Trouble, plain, query, tag, told},
    say,
};
use crate::{control::report::Figures, summary};

/// Show the streams of a running service, whichever worker runs them
#[derive(clap::Args)]
#[command(after_help = "Examples:
  eyewitness streams
  eyewitness streams --name 'front-*' --tag Location=Front
  eyewitness streams --state failed --json")]
pub(super) struct Args {
    /// Only this one; `*` and `?` stand for any characters
    #[arg(long, value_name = "GLOB")]
    name: Option<String>,
    /// Only those with this tag; may be given several times
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,
    /// Only those that run this profile
    #[arg(long)]
    profile: Option<String>,
    /// Only those in this state
    #[arg(long)]
    state: Option<String>,
    /// Only those of this worker
    #[arg(long, value_name = "ID")]
    worker: Option<String>,
    /// All that is known of them, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: At,
}

/// What of a stream is shown.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Shown {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) detail: Option<String>,
    #[serde(default)]
    pub(super) tags: BTreeMap<String, String>,
    pub(super) url: Option<String>,
    pub(super) profile: Option<String>,
    pub(super) worker: Option<String>,
    pub(super) figures: Option<Figures>,
    pub(super) speech_lag_ms: Option<u64>,
    pub(super) report_age_ms: Option<u64>,
}

/// The answer to a list.
#[derive(Deserialize)]
struct List<T> {
    streams: Vec<T>,
}

/// The streams that fit a query.
pub(super) fn list(remote: &Remote, query: &str) -> Result<Vec<Shown>, Trouble> {
    let (_, List { streams }) = remote.json(Method::GET, &format!("/v1/streams{query}"), None)?;
    Ok(streams)
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let remote = args.at.open()?;
    // As JSON, so that a key may hold a colon.
    let filter = |(key, value): &(String, String)| json!({ "key": key, "values": [value] }).to_string();
    let tags: Vec<String> = args.tags.iter().map(filter).collect();
    let mut pairs: Vec<(&str, &str)> = tags.iter().map(|tag| ("tag", tag.as_str())).collect();
    let single = [("name", &args.name), ("profile", &args.profile), ("state", &args.state), ("worker", &args.worker)];
    pairs.extend(single.into_iter().filter_map(|(key, value)| Some((key, value.as_deref()?))));
    let query = query(&pairs);
    if args.json {
        return match remote.json::<List<Value>>(Method::GET, &format!("/v1/streams{query}"), None) {
            Ok((_, List { streams })) => {
                say(&serde_json::to_string_pretty(&streams)?);
                Ok(ExitCode::SUCCESS)
            }
            Err(trouble) => told(trouble),
        };
    }
    let streams = match list(&remote, &query) {
        Ok(streams) => streams,
        Err(trouble) => return told(trouble),
    };
    let mut table = summary::new_table(&["stream", "state", "profile", "worker", "tags", "url"]);
    for stream in &streams {
        let tags: Vec<String> = stream.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let or = |text: &Option<String>| plain(text.as_deref().unwrap_or("-"));
        let state = match &stream.detail {
            Some(detail) => format!("{}: {detail}", stream.state),
            None => stream.state.clone(),
        };
        table.add_row([
            plain(&stream.name),
            plain(&state),
            or(&stream.profile),
            or(&stream.worker),
            plain(&tags.join(" ")),
            or(&stream.url),
        ]);
    }
    if streams.is_empty() {
        say(if pairs.is_empty() { "no stream is attached" } else { "no stream fits" });
    } else {
        say(&table.to_string());
    }
    Ok(ExitCode::SUCCESS)
}
