//! `eyewitness demo`: the main job on the bundled clip, through a real RTSP camera on loopback. It is the service as `run`
//! starts it, with a configuration of its own.

use std::{
    fs,
    io::IsTerminal as _,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use ingest::camera::{Camera, CameraOptions};
use serde_json::json;

use super::{EXIT_FAILED, EXIT_UNDELIVERED, begin, say, say_err, service};
use crate::{
    config,
    evidence::{AlertFilter, EvidenceConfig, EvidenceStore},
    http::HttpConfig,
    stream::Outcome,
    summary,
};

/// The clip: 40 s of pedestrians with speech; provenance in media/README.md.
const CLIP: &[u8] = include_bytes!("../../media/demo.mp4");
/// The demo's rules: who crosses the square, and a phrase that is said.
const RULES: &str = include_str!("demo/rules.toml");
/// The stream.
const NAME: &str = "demo-camera";
/// Once through the clip, where nobody sits at a terminal.
const ONCE: u64 = 40;
/// The clip's first sentence is over after so many seconds.
const ENOUGH_TO_HEAR: u64 = 16;

/// The main job on the bundled clip: served by a real RTSP camera on loopback, attached, watched.
///
/// Runs until Ctrl-C at a terminal, else for 40 s. The exit code is 0 only if real detections arrived.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  eyewitness demo\n  eyewitness demo --secs 10")]
pub(super) struct Args {
    /// Seconds to run; 0 runs until Ctrl-C [default: 0 at a terminal, else 40]
    #[arg(long)]
    secs: Option<u64>,
    /// Detector: a built-in model's name or the path of a manifest
    #[arg(long, value_name = "MODEL", default_value = config::DEFAULT_DETECTOR)]
    detect: String,
    /// Transcriber: likewise; `none` leaves the sound alone
    #[arg(long, value_name = "MODEL", default_value = config::DEFAULT_TRANSCRIBER)]
    transcribe: String,
    /// Where the records go
    #[arg(long, value_name = "FILE", default_value = "eyewitness-out/demo.jsonl")]
    out: PathBuf,
}

pub(super) fn run(args: Args, log: Option<&str>) -> anyhow::Result<ExitCode> {
    let shutdown = begin(log.unwrap_or("warn"), false)?;
    let dir = std::env::temp_dir().join(format!("eyewitness-demo-{}", std::process::id()));
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let done = demonstrate(&args, &dir, &shutdown);
    // What was attached by way of the page goes with it.
    let _ = fs::remove_dir_all(&dir);
    done
}

fn demonstrate(args: &Args, dir: &Path, shutdown: &base::shutdown::Shutdown) -> anyhow::Result<ExitCode> {
    let clip = dir.join("demo.mp4");
    fs::write(&clip, CLIP).with_context(|| format!("cannot write {}", clip.display()))?;
    let camera = Camera::start(CameraOptions {
        users: vec![("demo".into(), "loopback".into())],
        looped: true,
        ..CameraOptions::new(clip)
    })
    .context("demo camera")?;
    let url = camera.url().replacen("rtsp://", "rtsp://demo:loopback@", 1);
    let text = configuration(args, dir, &url)?;
    let config = config::parse("the demo's configuration", &text, &|_| None).map_err(|e| anyhow::anyhow!("{e}"))?;
    let secs = args.secs.unwrap_or(if std::io::stdout().is_terminal() { 0 } else { ONCE });
    let lasts = (secs > 0).then(|| Duration::from_secs(secs));
    let ended = service::serve(&config, None, shutdown, lasts, |address| {
        say(&format!("A real RTSP camera plays the bundled clip at {}", camera.url()));
        say(&format!("Attached as `{NAME}`: {} looks at every frame, {} listens.", args.detect, args.transcribe));
        if let Some(address) = address {
            say(&format!("\n  Watch it in a browser:  http://{address}/\n"));
        }
        say(if secs == 0 { "What it sees and hears (Ctrl-C ends it):\n" } else { "What it sees and hears:\n" });
    })?;
    drop(camera);
    say(&format!("\n{}", summary::render(&ended.analyses, &ended.sinks)));
    say(&format!("Every record is in {}; docs/guide/events.md explains them.", args.out.display()));
    if let Some(picture) = ended.evidence.as_ref().and_then(last_picture) {
        say(&format!("Of every alert a picture and a clip are kept, such as {}", picture.display()));
    }
    let analysis = ended.analyses.iter().find(|analysis| analysis.info().name.as_str() == NAME);
    let analysis = analysis.context("the demo's stream was detached")?;
    if let Outcome::Failed(detail) = analysis.outcome() {
        anyhow::bail!("{detail}");
    }
    let counts = analysis.findings.counts();
    if counts.n_objects == 0 {
        say_err("error: no detection arrived; run `eyewitness doctor`, or again with --log info");
        return Ok(ExitCode::from(EXIT_FAILED));
    }
    if args.transcribe != config::NO_MODEL && secs >= ENOUGH_TO_HEAR && counts.n_words == 0 {
        say_err("error: no word arrived; run `eyewitness doctor`, or again with --log info");
        return Ok(ExitCode::from(EXIT_FAILED));
    }
    if !summary::all_delivered(&ended.sinks) {
        return Ok(ExitCode::from(EXIT_UNDELIVERED));
    }
    say("Next: write your own cameras into eyewitness.toml (docs/guide/getting-started.md) and `eyewitness run`.");
    Ok(ExitCode::SUCCESS)
}

/// What `run` would be given to do the same.
fn configuration(args: &Args, dir: &Path, url: &str) -> anyhow::Result<String> {
    let profile = json!({ "detect": args.detect, "transcribe": args.transcribe, "sampling": "all" });
    let config = json!({
        "streams": { NAME: { "url": url, "tags": { "Location": "Campus" } } },
        "profiles": { "default": profile },
        "sinks": {
            "console": { "type": "console" },
            "file": { "type": "file", "path": args.out, "existing": "replace" },
        },
        "http": { "listen": free_address().to_string() },
        "history": { "dir": "eyewitness-out/demo-history" },
        // Streams that are attached by way of the page are gone with it.
        "attachments": { "store": dir.join("attachments") },
    });
    Ok(format!("{}\n{RULES}", toml::to_string(&config)?))
}

/// The picture of the newest alert.
fn last_picture(store: &EvidenceStore) -> Option<PathBuf> {
    let newest = store.newest(&AlertFilter::default(), 1);
    let record: serde_json::Value = serde_json::from_str(newest.first()?).ok()?;
    let folder = EvidenceConfig::default().path.join(record["alert"].as_str()?);
    Some(folder.join("snapshot.jpg")).filter(|picture| picture.is_file())
}

/// The service's own address, or any free port where something listens there already.
fn free_address() -> SocketAddr {
    let usual = HttpConfig::default().listen;
    if TcpListener::bind(usual).is_ok() { usual } else { SocketAddr::new(usual.ip(), 0) }
}
