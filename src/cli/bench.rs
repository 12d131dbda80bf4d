//! `eyewitness bench` (hidden): one part alone, for `make bench`. CPU time is read from outside by whoever calls.

use std::{process::ExitCode, sync::Arc, time::Duration};

use base::{
    ledger::Ledger,
    media::{
        AudioChunk, Fit, Frame, Image, MediaConsumer, Notice, PictureRequest, PixelFormat, SessionId, StreamInfo,
        StreamName,
    },
    time::{Pts, SystemClock},
};
use inference::{
    engine::{Engine, EngineConfig, LanePolicy},
    filter::DetectionFilter,
    store::ModelStore,
};
use ingest::{Mode, Sampling, Stream, StreamOptions};
use parking_lot::Mutex;

use super::{begin, replay::parse_sampling, say};
use crate::config;

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
}

fn parse_size(text: &str) -> Result<(u32, u32), String> {
    let sides = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    sides.ok_or_else(|| "write WIDTHxHEIGHT".into())
}

#[derive(Default)]
struct Counter {
    ledger: Ledger,
    failure: Mutex<Option<String>>,
}

impl MediaConsumer for Counter {
    fn frame(&self, _frame: Frame) {
        self.ledger.inferred();
    }

    fn audio(&self, _chunk: AudioChunk) {}

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
    let shutdown = begin(log.unwrap_or("warn"), false)?;
    let info = Arc::new(StreamInfo { name: StreamName::new("bench")?, tags: Default::default() });
    match command {
        Command::Decode { input, sample, size } => {
            let counter = Arc::new(Counter::default());
            let request =
                PictureRequest { width: size.0, height: size.1, fit: Fit::Stretch, format: PixelFormat::Rgb8 };
            let options = StreamOptions {
                info,
                url: config::source_url(&input).map_err(anyhow::Error::msg)?,
                source: Default::default(),
                sampling: sample,
                video: Some(request),
                audio: false,
                mode: Mode::Batch,
                session: Some(SessionId::derived([])),
                clock: SystemClock::new(),
            };
            let stream = Stream::spawn(options, Arc::clone(&counter) as _)?;
            while !stream.is_finished() && !shutdown.wait_timeout(Duration::from_millis(20)) {}
            stream.join();
            if let Some(detail) = counter.failure.lock().take() {
                anyhow::bail!("{detail}");
            }
            let reading = counter.ledger.read();
            say(&format!(r#"{{"n_decoded":{},"n_frames":{}}}"#, reading.n_decoded, reading.n_inferred));
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
    }
    Ok(ExitCode::SUCCESS)
}
