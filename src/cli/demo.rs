//! `eyewitness demo`: the main job on the bundled clip, through a real RTSP camera on loopback.

use std::{
    collections::BTreeMap,
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use base::{media::StreamName, time::SystemClock};
use inference::rules::Rule;
use ingest::camera::{Camera, CameraOptions};

use sinks::file::{Existing, FileConfig};

use super::{EXIT_FAILED, EXIT_UNDELIVERED, begin, say, say_err};
use crate::{
    config::{self, CheckedStream, ProfileConfig},
    evidence::{AlertDesk, AlertFilter, EvidenceConfig, EvidenceStore},
    front::{Front, GOODBYE},
    history::{History, HistoryConfig},
    hls::HlsConfig,
    http::{HttpConfig, control::Control},
    stream::Outcome,
    summary,
    topology::{House, ModelSettings, Running},
};

/// The clip: 40 s of pedestrians with speech; provenance in media/README.md.
const CLIP: &[u8] = include_bytes!("../../media/demo.mp4");
/// The clip's first sentence is over after so many seconds.
const ENOUGH_TO_HEAR: u64 = 16;

/// The main job on the bundled clip: served by a real RTSP camera on loopback, attached, watched.
///
/// Ends by itself; the exit code is 0 only if real detections arrived.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  eyewitness demo\n  eyewitness demo --secs 10\n  eyewitness demo --secs 0      until Ctrl-C"
)]
pub(super) struct Args {
    /// Seconds to run; 0 runs until Ctrl-C
    #[arg(long, default_value_t = 40)]
    secs: u64,
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
    let clip = dir.join("demo.mp4");
    fs::write(&clip, CLIP).with_context(|| format!("cannot write {}", clip.display()))?;
    let camera = Camera::start(CameraOptions {
        users: vec![("demo".into(), "loopback".into())],
        looped: true,
        ..CameraOptions::new(clip)
    });
    // The camera holds the clip in memory.
    let _ = fs::remove_dir_all(&dir);
    let camera = camera.context("demo camera")?;
    let url = camera.url().replacen("rtsp://", "rtsp://demo:loopback@", 1);
    let stream = CheckedStream {
        name: StreamName::new("demo-camera")?,
        url: config::source_url(&url).map_err(anyhow::Error::msg)?,
        profile: ProfileConfig {
            detect: args.detect.clone(),
            transcribe: args.transcribe.clone(),
            sampling: ingest::Sampling::All,
            ..ProfileConfig::default()
        },
        tags: BTreeMap::from([("Location".to_owned(), "Campus".to_owned())]),
        source: ingest::SourceConfig::default(),
        rules: rules()?,
    };
    let clock = SystemClock::new();
    let running = Running::Live;
    let sinks = config::default_sinks(FileConfig { existing: Existing::Replace, ..FileConfig::new(&args.out) });
    let mut front =
        Front::new(HttpConfig { listen: free_address(), ..HttpConfig::default() }, &HlsConfig::default(), &clock);
    let history = History::open(HistoryConfig::default(), &clock);
    front.keep_history(history.clone());
    let (grace, onlookers) = (Duration::from_secs(10), Some(front.onlookers()));
    let mut house = House::new(ModelSettings::default(), Arc::clone(&clock));
    house.prepare(&stream.profile)?;
    let kept_in = EvidenceConfig::default().path;
    let evidence = EvidenceStore::open(EvidenceConfig::default(), front.players(), Arc::clone(&clock))?;
    house.keep_evidence(evidence.clone());
    let desk = AlertDesk::in_memory(Arc::clone(&clock));
    house.listen_to_desk(desk.clone());
    house.connect(&sinks, &running, onlookers, grace)?;
    let server = front.open(
        &house,
        std::iter::once(&stream.profile),
        Control::default(),
        (Some(evidence.clone()), desk),
        &clock,
    )?;
    say(&format!("A real RTSP camera plays the bundled clip at {}", stream.url));
    say(&format!("Attached as `{}`: {} looks at every frame, {} listens.", stream.name, args.detect, args.transcribe));
    say(&format!("Picture and captions, live: http://{}/", server.local_addr()));
    say("What it sees and hears:\n");
    house.attach(stream, &running)?;
    house.settle_in();
    let began = clock.monotonic();
    let over = || args.secs > 0 && clock.monotonic().saturating_sub(began) >= Duration::from_secs(args.secs);
    while !house.finished() && !over() && !shutdown.wait_timeout(Duration::from_millis(100)) {}
    let (analyses, outcomes) = house.close();
    server.stop(GOODBYE);
    history.close();
    drop(camera);
    let analysis = &analyses[0];
    let counts = analysis.findings.counts();
    say(&format!("\n{}", summary::render(&analyses, &outcomes)));
    say(&format!("Every record is in {}; docs/guide/events.md explains them.", args.out.display()));
    if let Some(picture) = last_picture(&evidence, &kept_in) {
        say(&format!("Of every alert a picture and a clip are kept, such as {}", picture.display()));
    }
    if let Outcome::Failed(detail) = analysis.outcome() {
        anyhow::bail!("{detail}");
    }
    if counts.n_objects == 0 {
        say_err("error: no detection arrived; run `eyewitness doctor`, or again with --log info");
        return Ok(ExitCode::from(EXIT_FAILED));
    }
    if args.transcribe != config::NO_MODEL && args.secs >= ENOUGH_TO_HEAR && counts.n_words == 0 {
        say_err("error: no word arrived; run `eyewitness doctor`, or again with --log info");
        return Ok(ExitCode::from(EXIT_FAILED));
    }
    if !summary::all_delivered(&outcomes) {
        return Ok(ExitCode::from(EXIT_UNDELIVERED));
    }
    say("Next: write your own cameras into eyewitness.toml (docs/guide/getting-started.md) and `eyewitness run`.");
    Ok(ExitCode::SUCCESS)
}

/// The picture of the newest alert.
fn last_picture(store: &EvidenceStore, folder: &Path) -> Option<PathBuf> {
    let newest = store.newest(&AlertFilter::default(), 1);
    let record: serde_json::Value = serde_json::from_str(newest.first()?).ok()?;
    Some(folder.join(record["alert"].as_str()?).join("snapshot.jpg")).filter(|picture| picture.is_file())
}

/// The demo's rules: who crosses the square, and a phrase that is said.
const RULES: &str = include_str!("demo/rules.toml");

fn rules() -> anyhow::Result<Vec<Arc<Rule>>> {
    let book = config::parse_rules("the demo's rules", RULES).map_err(|e| anyhow::anyhow!("{e}"))?;
    Ok(book.rules().map(Arc::clone).collect())
}

/// The service's own address, or any free port where something listens there already.
fn free_address() -> SocketAddr {
    let usual = HttpConfig::default().listen;
    if TcpListener::bind(usual).is_ok() { usual } else { SocketAddr::new(usual.ip(), 0) }
}
