//! `eyewitness attach`: attaches a stream to a running service, or changes what is attached.

use std::{collections::BTreeMap, process::ExitCode};

use base::media::StreamName;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    EXIT_REFUSED,
    remote::{At, plain, stream_path, tag, told},
    say, say_err,
};
use crate::config::source_url;

/// Attach a stream to a running service, or change what is attached
///
/// The stream is as this command says afterwards: what it leaves out (tags, profile, credentials, rules of its own) is taken away. Other
/// streams go on undisturbed.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  eyewitness attach rtsp://192.0.2.10/stream1 --name front-door --tag Location=Front
  eyewitness attach https://example.org/live.m3u8 --name news --profile captions
  eyewitness attach rtsp://192.0.2.11/stream1 --name yard --credentials yard-camera

Users and passwords do not belong into the URL: --credentials names a secret of the service.")]
pub(super) struct Args {
    /// Where the media comes from: a URL, or a file if the service runs on this machine
    url: String,
    /// The stream's name
    #[arg(long, value_parser = StreamName::new)]
    name: StreamName,
    /// A tag, written into every event of the stream; may be given several times
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,
    /// The profile to run; else the one whose selectors fit
    #[arg(long)]
    profile: Option<String>,
    /// Name of the secret that holds user and password
    #[arg(long, value_name = "SECRET")]
    credentials: Option<String>,
    /// How much work the stream is, next to others
    #[arg(long, allow_negative_numbers = true)]
    weight: Option<f32>,
    #[command(flatten)]
    at: At,
}

/// What of the answer is shown.
#[derive(Deserialize)]
struct Attached {
    revision: Option<u64>,
    profile: Option<String>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut url = args.url.clone();
    if !url.contains("://") && args.at.is_here() {
        // A file, as the shell sees it.
        url = source_url(&url).map_err(anyhow::Error::msg)?.expose().to_owned();
    }
    let mut body = Map::from_iter([("url".to_owned(), Value::from(url))]);
    let mut tags = BTreeMap::new();
    for (key, value) in &args.tags {
        if tags.insert(key, value).is_some() {
            say_err(&format!("error: tag `{}` is given twice: take one of them out", plain(key)));
            return Ok(ExitCode::from(EXIT_REFUSED));
        }
    }
    if !tags.is_empty() {
        body.insert("tags".into(), serde_json::to_value(tags)?);
    }
    for (key, value) in [("profile", &args.profile), ("credentials", &args.credentials)] {
        body.extend(value.as_ref().map(|value| (key.to_owned(), Value::from(value.as_str()))));
    }
    body.extend(args.weight.map(|weight| ("weight".to_owned(), weight.into())));
    let put = args.at.open()?.json::<Attached>(Method::PUT, &stream_path(args.name.as_str()), Some(&body.into()));
    let (status, attached) = match put {
        Ok(done) => done,
        Err(trouble) => return told(trouble),
    };
    let done = if status == StatusCode::CREATED { "attached" } else { "is attached as this" };
    let profile = attached.profile.map(|profile| format!(", profile {}", plain(&profile))).unwrap_or_default();
    say(&format!("{}: {done} (revision {}{profile})", args.name, attached.revision.unwrap_or_default()));
    Ok(ExitCode::SUCCESS)
}
