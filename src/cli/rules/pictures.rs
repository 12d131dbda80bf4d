//! Pictures of what a trial of rules tells: the recording's own, with boxes, zones and lines drawn over them. The recording is
//! decoded once, on GStreamer's threads, which wait while a picture is written; nothing is kept of frames that nobody wants.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use base::{
    event::{BoxInImage, Shape, TrackedObject},
    ledger::Ledger,
    media::{
        AudioChunk, Fit, Frame, MediaConsumer, Notice, PictureRequest, PixelFormat, SessionId, StreamInfo, StreamName,
    },
    shutdown::Shutdown,
    time::{Pts, SystemClock},
};
use ingest::{Mode, Sampling, SourceConfig, Stream, StreamOptions};
use parking_lot::Mutex;

use crate::{config, evidence};

/// Larger pictures are made smaller, in pixels a side.
const MOST_SIDE: u32 = 1920;
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A picture that is wanted.
pub(super) struct Wanted {
    name: String,
    boxes: Vec<BoxInImage>,
    shapes: Vec<Shape>,
}

/// All that are wanted of one recording, in the order of their time.
pub(super) struct Pictures {
    folder: PathBuf,
    wanted: Vec<(Pts, Wanted)>,
    names: BTreeMap<String, u32>,
}

impl Pictures {
    /// Into this folder, which is made.
    pub(super) fn into(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { folder: folder.to_owned(), wanted: Vec::new(), names: BTreeMap::new() })
    }

    /// Asks for one; gives where it will be. Names of files sort by time, rule and what it is (`alert` or `near`). What is
    /// told at `told` was seen at `seen`.
    pub(super) fn want(
        &mut self,
        (told, seen): (&str, Pts),
        rule: &str,
        what: &str,
        objects: &[TrackedObject],
        shapes: &[Shape],
    ) -> PathBuf {
        let stem = format!("{}_{rule}_{what}", told.replace(':', "-"));
        let n_before = self.names.entry(stem.clone()).or_default();
        *n_before += 1;
        let name = if *n_before == 1 { format!("{stem}.jpg") } else { format!("{stem}-{n_before}.jpg") };
        let path = self.folder.join(&name);
        let boxes = objects.iter().map(|object| object.detection.box_in_image).collect();
        self.wanted.push((seen, Wanted { name, boxes, shapes: shapes.to_vec() }));
        path
    }

    /// Decodes the recording and writes them; gives why some could not be had, by their paths.
    pub(super) fn take_from(mut self, media: &str) -> anyhow::Result<BTreeMap<PathBuf, String>> {
        self.wanted.sort_by_key(|(seen, _)| *seen);
        let folder = self.folder;
        let mut missing = BTreeMap::new();
        if self.wanted.is_empty() {
            return Ok(missing);
        }
        let url = config::source_url(media).map_err(anyhow::Error::msg)?;
        let n_wanted = self.wanted.len();
        let painter = Arc::new(Painter {
            ledger: Ledger::default(),
            done: Shutdown::default(),
            state: Mutex::new(State {
                folder: folder.clone(),
                // The last is what is wanted next.
                wanted: self.wanted.into_iter().rev().collect(),
                before: None,
                missing: Vec::new(),
                failed: None,
            }),
        });
        let name = StreamName::new("pictures")?;
        let options = StreamOptions {
            info: Arc::new(StreamInfo { name, tags: BTreeMap::new(), epoch: None }),
            url,
            source: SourceConfig::default(),
            sampling: Sampling::All,
            video: Some(PictureRequest {
                width: MOST_SIDE,
                height: MOST_SIDE,
                fit: Fit::Within,
                format: PixelFormat::Rgb8,
            }),
            audio: false,
            segments: None,
            relay: None,
            mode: Mode::Batch,
            start_at: None,
            session: Some(SessionId::derived([b"pictures".as_slice()])),
            clock: SystemClock::new(),
        };
        let stream = Stream::spawn(options, Arc::clone(&painter) as _)?;
        while !painter.done.wait_timeout(LOOK_EVERY) && !stream.is_finished() {}
        stream.stop();
        stream.join();
        let mut state = painter.state.lock();
        state.finish();
        anyhow::ensure!(
            state.missing.len() < n_wanted || state.failed.is_none(),
            "no picture could be had of {media}: {}",
            state.failed.take().unwrap_or_default()
        );
        missing.extend(state.missing.drain(..).map(|(name, why)| (folder.join(name), why)));
        Ok(missing)
    }
}

/// Takes the frames of the recording.
struct Painter {
    ledger: Ledger,
    /// Nothing more is wanted, or to come.
    done: Shutdown,
    state: Mutex<State>,
}

struct State {
    folder: PathBuf,
    wanted: Vec<(Pts, Wanted)>,
    /// The frame before this one.
    before: Option<Frame>,
    missing: Vec<(String, String)>,
    failed: Option<String>,
}

impl State {
    /// A frame has come: what was shown until now is known.
    fn take(&mut self, frame: Frame) {
        // Times of records are in whole milliseconds.
        let now = frame.pts.millis();
        while let Some((seen, wanted)) = self.wanted.pop_if(|(seen, _)| seen.millis() <= now) {
            // Between two frames, the one before was shown.
            let shown = self.before.clone().filter(|_| seen.millis() < now).unwrap_or_else(|| frame.clone());
            let name = wanted.name.clone();
            if let Err(why) = self.paint(&shown, wanted) {
                self.missing.push((name, why));
            }
        }
        self.before = Some(frame);
    }

    fn paint(&self, frame: &Frame, wanted: Wanted) -> Result<(), String> {
        let jpeg = evidence::annotated(frame, wanted.boxes, wanted.shapes)?;
        let path = self.folder.join(&wanted.name);
        fs::write(&path, jpeg).map_err(|e| format!("cannot write {}: {e}", path.display()))
    }

    /// No frame comes any more: what is told after the last one shows that one.
    fn finish(&mut self) {
        while let Some((_, wanted)) = self.wanted.pop() {
            let name = wanted.name.clone();
            let painted = match self.before.clone() {
                Some(frame) => self.paint(&frame, wanted),
                None => Err(self.failed.clone().unwrap_or_else(|| "the recording has no pictures".into())),
            };
            self.missing.extend(painted.err().map(|why| (name, why)));
        }
        self.before = None;
    }
}

impl MediaConsumer for Painter {
    fn frame(&self, frame: Frame) {
        let mut state = self.state.lock();
        if !state.wanted.is_empty() {
            state.take(frame);
        }
        if state.wanted.is_empty() {
            self.done.trigger();
        }
    }

    fn audio(&self, _chunk: AudioChunk) {}

    fn notice(&self, notice: Notice) {
        match notice {
            Notice::Ended => self.done.trigger(),
            Notice::Failed { detail } => {
                self.state.lock().failed = Some(detail);
                self.done.trigger();
            }
            _ => {}
        }
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }
}
