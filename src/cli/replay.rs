//! `eyewitness replay`: the same pipeline over a recording, nothing dropped, the same bytes every time.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{IsTerminal as _, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use base::{
    media::{SessionId, StreamName},
    redact::SourceUrl,
    time::{Clock, SystemClock},
};
use indicatif::{ProgressBar, ProgressStyle};
use inference::{
    engine::{EngineConfig, Provider},
    rules::Rule,
    speech::config::{SpeechConfig, SpeechPoolConfig},
    store::ModelStore,
};
use ingest::Sampling;
use sinks::{
    QueueConfig, SinkConfig, WhenFullConfig,
    captions::CaptionsConfig,
    console::{ConsoleConfig, Format},
    file::{Existing, FileConfig},
};

use super::{EXIT_FAILED, EXIT_UNDELIVERED, begin, complain, say_err};
use crate::{
    config::{self, CheckedStream, DEFAULT_DETECTOR, NO_MODEL, ProfileConfig},
    signals::EXIT_ABORTED,
    stream::{Analysis, Outcome},
    summary,
    topology::{House, ModelSettings, Running},
};

/// Analyse a recording as fast as it goes: every frame the sampling asks for gets a record, nothing is dropped.
///
/// The same recording with the same options gives the same bytes, event ids included.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  eyewitness replay clip.mp4 --out clip.jsonl
  eyewitness replay clip.mp4 --sample fps=2 --classes person,car --min-score 0.5
  eyewitness replay talk.wav --transcribe whisper-tiny.en --captions talk.vtt
  eyewitness replay clip.mp4 --detect yolox-nano --sample keyframes --out - | jq .objects")]
pub(super) struct Args {
    /// The recording: a file, or the URL of one
    input: String,
    /// Detector: a built-in model's name or the path of a manifest [default: ssdlite-mbv2, unless --transcribe is given]
    #[arg(long, value_name = "MODEL")]
    detect: Option<String>,
    /// Transcriber: a built-in model's name or the path of a manifest
    #[arg(long, value_name = "MODEL")]
    transcribe: Option<String>,
    /// Captions as WebVTT (.vtt) or SubRip (.srt), replacing what is there; may be given twice
    #[arg(long, value_name = "FILE", requires = "transcribe")]
    captions: Vec<PathBuf>,
    /// Publish the revisions of transcripts as a live stream would, every so many milliseconds of sound
    #[arg(long, value_name = "STEP_MS", requires = "transcribe", num_args = 0..=1, default_missing_value = "450")]
    partials: Option<u64>,
    /// Spoken language (ISO 639-1), or auto
    #[arg(long, default_value = "auto", requires = "transcribe")]
    language: String,
    /// Write English, whatever is spoken
    #[arg(long, requires = "transcribe")]
    translate: bool,
    /// Frames to look at: all, every=N, fps=F or keyframes
    #[arg(long, value_name = "WHICH", default_value = "all", value_parser = parse_sampling)]
    sample: Sampling,
    /// Where the records go (JSON Lines), replacing what is there; `-` is standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    out: PathBuf,
    /// Stream name in the records; else made from the file's name
    #[arg(long)]
    name: Option<String>,
    /// Classes to report, separated by commas; else all
    #[arg(long, value_delimiter = ',')]
    classes: Vec<String>,
    /// Least score of a reported detection, 0 to 1; else the model's own
    #[arg(long, value_parser = parse_score)]
    min_score: Option<f32>,
    /// Rules: a TOML file with [rules.NAME]; alerts are records among the others
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Do not follow objects over frames
    #[arg(long)]
    no_track: bool,
    /// Execution providers to try in turn: cpu, cuda, tensorrt, openvino, coreml
    #[arg(long, value_delimiter = ',', default_value = "cpu", value_parser = parse_provider)]
    providers: Vec<Provider>,
    /// Threads for the model; 0 uses half of the cores, 4 at most
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

/// Reads `all`, `keyframes`, `every=N` or `fps=F`.
pub(super) fn parse_sampling(text: &str) -> Result<Sampling, String> {
    let sampling = match text.split_once('=') {
        None if text == "all" => Sampling::All,
        None if text == "keyframes" => Sampling::Keyframes,
        Some(("every", n)) => Sampling::EveryNth(n.parse().map_err(|_| format!("`{n}` is no whole number"))?),
        Some(("fps", f)) => Sampling::Fps(f.parse().map_err(|_| format!("`{f}` is no number"))?),
        _ => return Err("write all, keyframes, every=N or fps=F".into()),
    };
    sampling.check().map_err(|e| e.to_string())?;
    Ok(sampling)
}

fn parse_provider(text: &str) -> Result<Provider, String> {
    let known = Provider::ALL.map(Provider::as_str).join(", ");
    Provider::ALL.into_iter().find(|p| p.as_str() == text).ok_or_else(|| format!("write one of {known}"))
}

fn parse_score(text: &str) -> Result<f32, String> {
    text.parse().ok().filter(|s| (0.0..=1.0).contains(s)).ok_or_else(|| "a score lies between 0 and 1".into())
}

/// Makes the events of a recording, as the command does by itself.
///
/// # Errors
/// When the recording or a model cannot be used, or not all events could be written.
pub(super) fn record(
    input: &str,
    detect: Option<&str>,
    transcribe: Option<&str>,
    sample: &str,
    out: &Path,
    log: Option<&str>,
) -> anyhow::Result<()> {
    /// The command's own defaults.
    #[derive(clap::Parser)]
    struct Alone {
        #[command(flatten)]
        args: Args,
    }
    let mut words = vec!["replay".into(), PathBuf::from(input), "--out".into(), out.to_owned()];
    words.extend(["--sample", sample].map(PathBuf::from));
    words.extend(detect.into_iter().flat_map(|model| ["--detect", model].map(PathBuf::from)));
    words.extend(transcribe.into_iter().flat_map(|model| ["--transcribe", model].map(PathBuf::from)));
    let Alone { args } = clap::Parser::try_parse_from(words)?;
    let done = run(args, log)?;
    anyhow::ensure!(done == ExitCode::SUCCESS, "the recording was not analysed to its end");
    Ok(())
}

pub(super) fn run(args: Args, log: Option<&str>) -> anyhow::Result<ExitCode> {
    let shutdown = begin(log.unwrap_or("warn"), false)?;
    let url = config::source_url(&args.input).map_err(anyhow::Error::msg)?;
    let name = match &args.name {
        Some(name) => StreamName::new(name)?,
        None => name_from(&url),
    };
    let detect = match (&args.detect, &args.transcribe) {
        (Some(model), _) => model.as_str(),
        (None, Some(_)) => NO_MODEL,
        (None, None) => DEFAULT_DETECTOR,
    };
    let profile = ProfileConfig {
        detect: detect.into(),
        transcribe: args.transcribe.clone().unwrap_or_else(|| NO_MODEL.into()),
        speech: SpeechConfig {
            language: args.language.clone(),
            translate: args.translate,
            partials: args.partials.is_some(),
            step_ms: args.partials.unwrap_or(SpeechConfig::default().step_ms),
            ..SpeechConfig::default()
        },
        sampling: args.sample,
        classes: args.classes.clone(),
        min_score: args.min_score,
        class_scores: BTreeMap::new(),
        track: !args.no_track,
        ..ProfileConfig::default()
    };
    let rules: Vec<Arc<Rule>> = match &args.rules {
        Some(path) => config::load_rules(path)?.rules().map(Arc::clone).collect(),
        None => Vec::new(),
    };
    let engine_config =
        EngineConfig { providers: args.providers.clone(), threads: args.threads, ..EngineConfig::default() };
    let to_file = args.out != Path::new("-");
    // The output is emptied when it is opened: not before the input is known to be there, and the models fit.
    if !args.input.contains("://") {
        let input = Path::new(&args.input).canonicalize().with_context(|| format!("cannot open {}", args.input))?;
        let is_output = to_file && args.out.canonicalize().is_ok_and(|out| out == input);
        anyhow::ensure!(!is_output, "{}: the output is the input; give --out another file", args.out.display());
    }
    for model in profile.detector().into_iter().chain(profile.transcriber()) {
        ModelStore::open_default().resolve(model).with_context(|| format!("model `{model}`"))?;
    }
    let sink = if to_file {
        SinkConfig::File(FileConfig { existing: Existing::Replace, ..FileConfig::new(&args.out) })
    } else {
        let queue = QueueConfig { when_full: Some(WhenFullConfig::Block), ..QueueConfig::default() };
        SinkConfig::Console(ConsoleConfig { format: Format::Json, queue, ..ConsoleConfig::default() })
    };
    let mut sinks = BTreeMap::from([("out".to_owned(), sink)]);
    for path in &args.captions {
        sinks.insert(
            format!("captions {}", path.display()),
            SinkConfig::Captions(CaptionsConfig { existing: Existing::Replace, ..CaptionsConfig::new(path) }),
        );
    }
    for sink in sinks.values() {
        sink.validate()?;
    }
    let clock = SystemClock::new();
    let grace = Duration::from_secs(60);
    let settings = ModelSettings { engine: engine_config, speech: SpeechPoolConfig::default() };
    let mut house = House::new(settings, Arc::clone(&clock));
    let models = house.prepare(&profile)?;
    let mut settings =
        format!("{:?} {:?} {:?}", args.sample, (&args.classes, args.min_score), (args.no_track, &profile.tracker));
    if models.pool.is_some() {
        settings += &format!(" {:?} {:?}", profile.speech, profile.captions);
    }
    if !rules.is_empty() {
        settings += &format!(" {rules:?}");
    }
    let print = fingerprint(&args.input);
    let model_ids = [models.engine.map(|e| e.model_id()), models.pool.map(|p| p.model_id())];
    let of_models = model_ids.iter().flatten().flat_map(|m| [m.name.as_bytes(), m.version.as_bytes()]);
    let session = SessionId::derived(
        [name.as_str().as_bytes(), print.as_slice()].into_iter().chain(of_models).chain([settings.as_bytes()]),
    );
    let running = Running::Replay { session };
    house.connect(&sinks, &running, None, grace)?;
    house.attach(
        CheckedStream { name, url, profile, tags: BTreeMap::new(), source: ingest::SourceConfig::default(), rules },
        &running,
    )?;
    let analysis = house.analyses().pop().context("the stream has gone at once")?;
    let progress = Progress::start(clock);
    while !house.finished() && !shutdown.wait_timeout(Duration::from_millis(100)) {
        progress.show(&analysis);
    }
    let interrupted = shutdown.is_triggered() && !house.finished();
    let (analyses, outcomes) = house.close();
    progress.end();
    if to_file {
        say_err(&summary::render(&analyses, &outcomes));
    }
    for outcome in &outcomes {
        if let Some(e) = &outcome.report.error {
            complain(&anyhow::anyhow!("sink `{}`: {e}", outcome.report.name));
        }
    }
    if let Outcome::Failed(detail) = analysis.outcome() {
        bail!("{detail}");
    }
    if interrupted {
        say_err("stopped before the end of the recording; what was analysed until then is written");
        return Ok(ExitCode::from(EXIT_ABORTED as u8));
    }
    if !summary::all_delivered(&outcomes) {
        return Ok(ExitCode::from(EXIT_UNDELIVERED));
    }
    Ok(if analysis.outcome() == Outcome::Ended { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

/// A stream name from a URL: the last part of its path without the extension, odd characters replaced. Never its user.
fn name_from(url: &SourceUrl) -> StreamName {
    let shown = url.to_string();
    let path = shown.split(['?', '#']).next().unwrap_or_default().split_once("://").map_or("", |(_, rest)| rest);
    let path = path.split_once('/').map_or("", |(_, path)| path).replace("%20", "-");
    let path = path.as_str();
    let stem = Path::new(path).file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let clean: String = stem
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' })
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(128)
        .collect();
    StreamName::new(&clean).or_else(|_| StreamName::new("recording")).expect("`recording` is a stream name")
}

/// What makes a recording this one: its length, its first and its last mebibyte. A URL that is no file stands for itself.
fn fingerprint(input: &str) -> Vec<u8> {
    const PART: u64 = 1 << 20;
    let path = url::Url::parse(input).ok().filter(|u| u.scheme() == "file").and_then(|u| u.to_file_path().ok());
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path.as_deref().unwrap_or(Path::new(input)))?;
        let length = file.metadata()?.len();
        let mut bytes = length.to_le_bytes().to_vec();
        (&mut file).take(PART).read_to_end(&mut bytes)?;
        file.seek(SeekFrom::Start(length.saturating_sub(PART)))?;
        file.take(PART).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().unwrap_or_else(|_| input.as_bytes().to_vec())
}

/// A progress line on standard error, when that is a terminal.
struct Progress {
    bar: ProgressBar,
    clock: Arc<dyn Clock>,
    began: Duration,
}

impl Progress {
    fn start(clock: Arc<dyn Clock>) -> Self {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        let began = clock.monotonic();
        Self { bar, clock, began }
    }

    fn show(&self, analysis: &Analysis) {
        let counts = analysis.findings.counts();
        let spent = self.clock.monotonic().saturating_sub(self.began).as_secs_f64();
        let media = counts.pts.nanos() as f64 / 1e9;
        self.bar.set_message(format!(
            "{media:.1} s of media, {} frames, {} objects, {} words, {:.1} x real time",
            counts.n_records,
            counts.n_objects,
            counts.n_words,
            if spent > 0.0 { media / spent } else { 0.0 }
        ));
        self.bar.tick();
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samplings_are_read() {
        assert!(matches!(parse_sampling("all"), Ok(Sampling::All)));
        assert!(matches!(parse_sampling("keyframes"), Ok(Sampling::Keyframes)));
        assert!(matches!(parse_sampling("every=3"), Ok(Sampling::EveryNth(n)) if n == 3));
        assert!(matches!(parse_sampling("fps=2.5"), Ok(Sampling::Fps(f)) if f == 2.5));
        for bad in ["", "every", "every=0", "every=x", "fps=0", "fps=nan", "sometimes"] {
            assert!(parse_sampling(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_come_from_inputs() {
        let check = |input, expected| {
            let url = config::source_url(input).expect(input);
            assert_eq!(name_from(&url).as_str(), expected);
        };
        check("/srv/front door.mp4", "front-door");
        check("https://u:p@h/live/index.m3u8?token=abc", "index");
        check("http://admin:hunter2@127.0.0.1:9", "recording");
        check("/srv/...", "recording");
    }

    #[test]
    fn fingerprints_follow_the_content() {
        let dir = tempfile::tempdir().expect("dir");
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&a, b"same").expect("write");
        std::fs::write(&b, b"same").expect("write");
        let of = |p: &Path| fingerprint(&p.display().to_string());
        assert_eq!(of(&a), of(&b));
        assert_eq!(fingerprint(&format!("file://{}", a.display())), of(&b));
        std::fs::write(&b, b"more").expect("write");
        assert_ne!(of(&a), of(&b));
    }
}
