//! `eyewitness probe`: tries a URL before it is kept, through a running service, or here.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    remote::{At, plain, told},
    say,
};
use crate::config::source_url;

/// Try a URL: codecs, picture size, rate and one picture, or why it cannot be played; nothing is kept
#[derive(clap::Args)]
#[command(after_help = "Examples:
  eyewitness probe rtsp://192.0.2.10/stream1 --credentials yard-camera --snapshot yard.jpg
  eyewitness probe clip.mp4 --local

The service tries it from where it runs; --local tries it from here, without a service.")]
pub(super) struct Args {
    /// What to try: a URL, or a file
    url: String,
    /// Name of the service's secret that holds user and password
    #[arg(long, value_name = "SECRET", conflicts_with = "local")]
    credentials: Option<String>,
    /// Write a picture (JPEG) into this file
    #[arg(long, value_name = "FILE")]
    snapshot: Option<PathBuf>,
    /// Try it from this machine, without a service
    #[arg(long)]
    local: bool,
    /// The answer as JSON, without the picture
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: At,
}

pub(super) fn run(args: &Args, log: Option<&str>) -> anyhow::Result<ExitCode> {
    let mut url = args.url.clone();
    if !url.contains("://") && (args.local || args.at.is_here()) {
        url = source_url(&url).map_err(anyhow::Error::msg)?.expose().to_owned();
    }
    let mut probe = if args.local {
        locally(&url, log)?
    } else {
        let mut body = json!({ "url": url });
        if let Some(credentials) = &args.credentials {
            body["credentials"] = credentials.as_str().into();
        }
        match args.at.open()?.json::<Value>(Method::POST, "/v1/probe", Some(&body)) {
            Ok((_, probe)) => probe,
            Err(trouble) => return told(trouble),
        }
    };
    let picture = probe.as_object_mut().and_then(|probe| probe.remove("snapshot"));
    let picture = picture.as_ref().and_then(Value::as_str).and_then(|url| url.split_once("base64,"));
    let picture = picture.map(|(_, text)| BASE64_STANDARD.decode(text)).transpose().context("the picture is broken")?;
    if args.json {
        say(&serde_json::to_string_pretty(&probe)?);
    } else {
        describe(&probe);
    }
    if let Some(path) = &args.snapshot {
        let picture = picture.context("the source gave no picture")?;
        fs::write(path, &picture).with_context(|| format!("cannot write {}", path.display()))?;
        if !args.json {
            say(&format!("picture  {} ({} kB)", path.display(), picture.len() / 1000));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn locally(_url: &str, _log: Option<&str>) -> anyhow::Result<Value> {
    anyhow::bail!("this version cannot try URLs without a service")
}

/// A line each for pictures and sound.
fn describe(probe: &Value) {
    let number = |value: &Value, unit: &str| match (value.as_u64(), value.as_f64()) {
        (Some(n), _) => format!(", {n} {unit}"),
        (None, Some(n)) => format!(", {n:.2} {unit}"),
        (None, None) => String::new(),
    };
    let codec = |part: &Value| plain(part["codec"].as_str().unwrap_or("unknown"));
    let video = &probe["video"];
    if video.is_object() {
        let size = match (video["width"].as_u64(), video["height"].as_u64()) {
            (Some(width), Some(height)) => format!(", {width}x{height}"),
            _ => String::new(),
        };
        say(&format!("video    {}{size}{}", codec(video), number(&video["fps"], "fps")));
    } else {
        say("video    none");
    }
    let audio = &probe["audio"];
    if audio.is_object() {
        let channels = number(&audio["n_channels"], "channels");
        say(&format!("audio    {}{}{channels}", codec(audio), number(&audio["sample_rate"], "Hz")));
    } else {
        say("audio    none");
    }
    if let Some(took) = probe["took_ms"].as_u64() {
        say(&format!("took     {took} ms"));
    }
}
