//! `eyewitness bench` (hidden): one part alone, for `make bench`. CPU time is read from outside by whoever calls, but for
//! `transcribe`, whose single calls are too short for that.

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use base::{
    ledger::Ledger,
    media::{
        AudioChunk, Fit, Frame, Image, MediaConsumer, Notice, PictureRequest, PixelFormat, SessionId, StreamInfo,
        StreamName,
    },
    shutdown::Shutdown,
    time::{Pts, SystemClock},
};
use inference::{
    engine::{Engine, EngineConfig, LanePolicy},
    filter::DetectionFilter,
    speech::{
        load::{SpeechEngineConfig, TranscriberFactory},
        transcriber::Request,
    },
    store::ModelStore,
};
use ingest::{Mode, Sampling, Stream, StreamOptions};
use parking_lot::Mutex;

use super::{begin, replay::parse_sampling, say};
use crate::config;

mod cycles;
mod deliver;

/// Which part.
#[derive(clap::Subcommand)]
pub(super) enum Command {
    /// Decode, sample and scale only
    Decode {
        /// The recording
        input: String,
        /// Frames to hand on
        #[arg(long, default_value = "all", value_parser = parse_sampling)]
        sample: Sampling,
        /// WIDTHxHEIGHT of the scaled picture
        #[arg(long, default_value = "300x300", value_parser = parse_size)]
        size: (u32, u32),
    },
    /// Take the sound at the pace of a live stream; nothing listens
    Sound {
        /// The recording
        input: String,
    },
    /// Inference only, on one grey picture
    Infer {
        /// The model
        model: String,
        /// How many times
        #[arg(long, default_value_t = 100)]
        frames: u64,
        /// Threads for the model; 0 uses half of the cores, 4 at most
        #[arg(long, default_value_t = 0)]
        threads: usize,
    },
    /// Single calls of a speech model, and the CPU seconds of each
    Transcribe {
        /// A recording with speech
        input: String,
        /// The model
        #[arg(long, default_value = config::DEFAULT_TRANSCRIBER)]
        model: String,
        /// Lengths of the calls in seconds, separated by commas
        #[arg(long, value_delimiter = ',', default_value = "2,5,11", value_parser = parse_secs)]
        secs: Vec<f64>,
        /// Where in the recording they begin, in seconds
        #[arg(long, default_value = "0", value_parser = parse_from)]
        from: f64,
        /// How many times each
        #[arg(long, default_value_t = 3)]
        repeat: u32,
    },
    /// One sink alone: numbered events through its queue and thread, and what became of them
    Deliver(deliver::Args),
    /// Attach and detach test streams again and again, and tell what that leaves behind
    Cycles(cycles::Args),
}

/// Most sound that a model takes at once, in seconds.
const LONGEST_CALL_SECS: f64 = 30.0;

fn parse_secs(text: &str) -> Result<f64, String> {
    let fits = |secs: &f64| (0.1..=LONGEST_CALL_SECS).contains(secs);
    text.parse().ok().filter(fits).ok_or_else(|| format!("write 0.1 to {LONGEST_CALL_SECS}"))
}

fn parse_from(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|secs| (0.0..=86_400.0).contains(secs)).ok_or_else(|| "write 0 to 86400".into())
}

fn parse_size(text: &str) -> Result<(u32, u32), String> {
    let sides = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    sides.ok_or_else(|| "write WIDTHxHEIGHT".into())
}

#[derive(Default)]
struct Counter {
    ledger: Ledger,
    failure: Mutex<Option<String>>,
    /// 16 kHz, mono, from the begin.
    sound: Mutex<Vec<f32>>,
    n_wanted: usize,
}

impl MediaConsumer for Counter {
    fn frame(&self, _frame: Frame) {
        self.ledger.inferred();
    }

    fn audio(&self, chunk: AudioChunk) {
        let mut sound = self.sound.lock();
        let n = self.n_wanted.saturating_sub(sound.len()).min(chunk.samples.len());
        sound.extend_from_slice(&chunk.samples[..n]);
    }

    fn notice(&self, notice: Notice) {
        if let Notice::Failed { detail } = notice {
            *self.failure.lock() = Some(detail);
        }
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}

pub(super) fn run(command: Command, log: Option<&str>) -> anyhow::Result<ExitCode> {
    if let Command::Deliver(args) = &command {
        // It needs neither media nor models.
        return deliver::run(args, log);
    }
    if let Command::Cycles(args) = &command {
        return cycles::run(args, log);
    }
    let shutdown = begin(log.unwrap_or("warn"), false)?;
    let info = Arc::new(StreamInfo { name: StreamName::new("bench")?, tags: Default::default(), epoch: None });
    match command {
        Command::Deliver(_) | Command::Cycles(_) => {}
        Command::Decode { input, sample, size } => {
            let counter = Arc::new(Counter::default());
            let request =
                PictureRequest { width: size.0, height: size.1, fit: Fit::Stretch, format: PixelFormat::Rgb8 };
            let options = StreamOptions { sampling: sample, video: Some(request), ..recording(&input, info)? };
            play(options, &counter, &shutdown)?;
            let reading = counter.ledger.read();
            say(&format!(r#"{{"n_decoded":{},"n_frames":{}}}"#, reading.n_decoded, reading.n_inferred));
        }
        Command::Sound { input } => {
            let n = sound_of(&input, Mode::Live, info, usize::MAX, &shutdown)?.len();
            say(&format!(r#"{{"secs":{}}}"#, n as f64 / f64::from(AudioChunk::SAMPLE_RATE)));
        }
        Command::Infer { model, frames, threads } => {
            let resolved = ModelStore::open_default().resolve(&model)?;
            let engine = Engine::load(&resolved, &EngineConfig { threads, ..EngineConfig::default() })?;
            let request = engine.picture_request();
            let (width, height) = request.scaled_size(1280, 720);
            let image = Image {
                width,
                height,
                stride: 3 * width as usize,
                format: request.format,
                data: vec![127; 3 * (width * height) as usize].into(),
            };
            let filter = DetectionFilter::default();
            let lane =
                engine.lane(info.name.clone(), LanePolicy::Block, Ledger::default(), &filter, Box::new(|_, _| {}))?;
            let session = SessionId::derived([]);
            for index in 0..frames {
                lane.submit(Frame {
                    session: session.clone(),
                    index,
                    pts: Pts::from_millis(index * 40),
                    captured: None,
                    decoded_at: Duration::ZERO,
                    source_width: 1280,
                    source_height: 720,
                    image: image.clone(),
                });
            }
            lane.drain();
            say(&format!(r#"{{"n_frames":{frames}}}"#));
        }
        Command::Transcribe { input, model, secs, from, repeat } => {
            let longest = secs.iter().copied().fold(0.0, f64::max);
            let sound = sound_of(&input, Mode::Batch, info, n_samples(from + longest), &shutdown)?;
            let (begin, end) = (n_samples(from), n_samples(from + longest));
            anyhow::ensure!(sound.len() >= end, "{input}: it has less than {} s of sound", from + longest);
            let resolved = ModelStore::open_default().resolve(&model)?;
            let mut transcriber = TranscriberFactory::open(&resolved, &SpeechEngineConfig::default())?.make()?;
            let mut call = |secs: f64| -> anyhow::Result<(f64, String)> {
                let request = Request::new(&sound[begin..begin + n_samples(secs)]);
                let before = cpu_secs()?;
                let heard = transcriber.transcribe(&request)?;
                let spent = cpu_secs()? - before;
                Ok((spent, heard.words.iter().map(|w| w.text.as_str()).collect::<Vec<_>>().join(" ")))
            };
            if let Some(secs) = secs.first() {
                call(*secs)?;
            }
            for secs in secs {
                let mut spent = Vec::new();
                let mut text = String::new();
                for _ in 0..repeat {
                    let (cpu, words) = call(secs)?;
                    (spent, text) = ([spent, vec![cpu]].concat(), words);
                }
                say(&serde_json::json!({"model": &model, "secs": secs, "cpu_s": spent, "text": text}).to_string());
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn n_samples(secs: f64) -> usize {
    (secs * f64::from(AudioChunk::SAMPLE_RATE)).round() as usize
}

/// A recording of which nothing is taken yet.
fn recording(input: &str, info: Arc<StreamInfo>) -> anyhow::Result<StreamOptions> {
    Ok(StreamOptions {
        info,
        url: config::source_url(input).map_err(anyhow::Error::msg)?,
        source: Default::default(),
        sampling: Sampling::All,
        video: None,
        audio: false,
        segments: None,
        relay: None,
        mode: Mode::Batch,
        start_at: None,
        session: Some(SessionId::derived([])),
        clock: SystemClock::new(),
    })
}

/// Plays it to its end, or until we are told to stop.
fn play(options: StreamOptions, counter: &Arc<Counter>, shutdown: &Shutdown) -> anyhow::Result<()> {
    let stream = Stream::spawn(options, Arc::clone(counter) as _)?;
    while !stream.is_finished() && !shutdown.wait_timeout(Duration::from_millis(20)) {}
    stream.join();
    match counter.failure.lock().take() {
        Some(detail) => anyhow::bail!("{detail}"),
        None => Ok(()),
    }
}

/// The first so many samples of a recording's sound, or as many as there are.
fn sound_of(
    input: &str,
    mode: Mode,
    info: Arc<StreamInfo>,
    n_wanted: usize,
    shutdown: &Shutdown,
) -> anyhow::Result<Vec<f32>> {
    let counter = Arc::new(Counter { n_wanted, ..Counter::default() });
    play(StreamOptions { audio: true, mode, ..recording(input, info)? }, &counter, shutdown)?;
    let sound = std::mem::take(&mut *counter.sound.lock());
    Ok(sound)
}

/// CPU seconds (user and system) that this process' threads have spent, to the nanosecond.
///
/// Source: Linux, Documentation/scheduler/sched-stats.rst, `/proc/<pid>/schedstat`: first field.
fn cpu_secs() -> anyhow::Result<f64> {
    let mut nanos = 0;
    for task in std::fs::read_dir("/proc/self/task").context("CPU time needs Linux' /proc")? {
        // A thread may end in between.
        let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else { continue };
        nanos += text.split(' ').next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(nanos as f64 / 1e9)
}
