//! `eyewitness probe`: tries a URL before it is kept, through a running service, or here.

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use base::time::SystemClock;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use ingest::SourceConfig;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{
    remote::{At, Trouble, plain, told},
    say,
};
use crate::{
    config::source_url,
    control::resolver::{Resolver, Settings},
    http::control::{ProbeRequest, Prober as _},
    probing::Probing,
};

/// A try from here may take so long.
const PATIENCE: Duration = Duration::from_secs(20);

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
            // Nothing is wrong with what was asked: the source cannot be played.
            Err(Trouble::Refused { status: StatusCode::UNPROCESSABLE_ENTITY, said, .. }) => return Err(failed(&said)),
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

/// The same as the service does, here.
fn locally(url: &str, log: Option<&str>) -> anyhow::Result<Value> {
    crate::logging::init(log.unwrap_or("warn"), false)?;
    ingest::init()?;
    let wanted = ProbeRequest { url: url.to_owned(), credentials: None, source: SourceConfig::default() };
    let prober = Probing::new(Resolver::new(Settings::default()), SystemClock::new());
    let report = prober.probe(&wanted, PATIENCE).map_err(|why| failed(&why.0))?;
    Ok(crate::http::probed(&report))
}

/// Why the source cannot be played, without the name under which it is tried.
fn failed(why: &str) -> anyhow::Error {
    anyhow::Error::msg(why.strip_prefix("stream `probe`: ").unwrap_or(why).to_owned())
}

/// A line each for the source, its pictures and its sound.
fn describe(probe: &Value) {
    let text = |value: &Value| value.as_str().map(plain);
    let count = |value: &Value, unit: &str| value.as_u64().map(|n| format!("{n} {unit}"));
    let rate = |part: &Value| part["bits_per_second"].as_u64().map(|n| format!("{} kbit/s", n / 1000));
    let line = |what: &str, parts: Vec<Option<String>>| {
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        say(&format!("{what:<9}{}", if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }));
    };
    line("source", vec![text(&probe["protocol"]), text(&probe["container"])]);
    let codec = |part: &Value| {
        let profile = text(&part["profile"]).map(|profile| format!(" ({profile})")).unwrap_or_default();
        text(&part["codec"]).map(|codec| format!("{codec}{profile}"))
    };
    let (video, audio) = (&probe["video"], &probe["audio"]);
    let size = video["width"].as_u64().zip(video["height"].as_u64()).map(|(w, h)| format!("{w}x{h}"));
    let fps = video["measured_fps"].as_f64().or(video["stated_fps"].as_f64()).map(|fps| format!("{fps:.2} fps"));
    line("video", vec![codec(video), size, fps, rate(video)]);
    let (samples, channels) = (count(&audio["sample_rate"], "Hz"), count(&audio["channels"], "channels"));
    line("audio", vec![codec(audio), samples, channels, rate(audio)]);
    line("after", vec![count(&probe["first_picture_ms"], "ms")]);
    if let Some(what) = text(&probe["left_out"]) {
        say(&format!("left out {what}"));
    }
}
