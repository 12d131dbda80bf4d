//! Console sink: standard output, readable for people or as JSON Lines for a pipe.
//!
//! On its sink's thread. Must never flood a terminal, show colour codes to a pipe, or fail because a reader has gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, IsTerminal, Write},
    sync::Arc,
    time::Duration,
};

use base::{
    event::{Body, Caption, Detections, Event, Gap, Status, StreamState, Transcript},
    queue::WhenFull,
    time::Pts,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{BuildContext, Configured, QueueConfig, QueueSettings, Sink, SinkError, SinkReport, wire};

/// What is seen is shown again after this much stream time, even when nothing changed: a sign of life.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Most track ids on a line.
const MAX_TRACKS_SHOWN: usize = 8;
/// Widest column of stream names.
const MAX_NAME_WIDTH: usize = 24;

/// Shows events on standard output.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConsoleConfig {
    /// `readable` (default): a line when what is seen changes. `json`: every record as one line of JSON.
    pub format: Format,
    /// Colour in readable lines. `auto` (default): on a terminal, unless `NO_COLOR` is set.
    pub color: Color,
    /// Readable only: at most one line about what is seen in this many seconds of stream time, for each stream.
    /// 0 shows every change. Default: 1.
    pub interval_secs: f64,
    /// Readable only: how what is said is shown. Default: `transcripts`.
    pub speech: Speech,
    /// The queue before this sink. Default when full: `drop_oldest`.
    pub queue: QueueConfig,
}

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// For people.
    #[default]
    Readable,
    /// JSON Lines.
    Json,
}

/// How readable lines show what is said. Never word by word: a line appears once its text is final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Speech {
    /// A line when somebody has finished speaking: all they said.
    #[default]
    Transcripts,
    /// A line a caption cue, while they still speak: short, and sooner.
    Captions,
    /// Not at all.
    None,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Default for ConsoleConfig {
    fn default() -> Self {
        Self {
            format: Format::Readable,
            color: Color::Auto,
            interval_secs: 1.0,
            speech: Speech::Transcripts,
            queue: QueueConfig::default(),
        }
    }
}

impl Configured for ConsoleConfig {
    const QUEUE: QueueSettings = QueueSettings { capacity: 1024, when_full: WhenFull::DropOldest };

    fn queue(&self) -> &QueueConfig {
        &self.queue
    }

    fn validate(&self) -> Result<(), SinkError> {
        if (0.0..=3600.0).contains(&self.interval_secs) {
            Ok(())
        } else {
            Err(SinkError::config("interval_secs", format!("{} is not between 0 and 3600 seconds", self.interval_secs)))
        }
    }

    fn build(&self, _name: &str, context: BuildContext) -> Result<Box<dyn Sink>, SinkError> {
        self.validate()?;
        let out = io::stdout();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colored = match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => out.is_terminal() && !no_color,
        };
        Ok(Box::new(Console::new(self, Box::new(out), colored, context)))
    }
}

/// The sink. `out` may be any writer.
struct Console {
    out: Box<dyn Write + Send>,
    context: BuildContext,
    format: Format,
    paint: Paint,
    interval: Duration,
    speech: Speech,
    streams: BTreeMap<Arc<str>, Watched>,
    name_width: usize,
    n_shown: u64,
}

impl Console {
    fn new(config: &ConsoleConfig, out: Box<dyn Write + Send>, colored: bool, context: BuildContext) -> Self {
        Self {
            out,
            context,
            format: config.format,
            paint: Paint { colored },
            interval: Duration::from_secs_f64(config.interval_secs),
            speech: config.speech,
            streams: BTreeMap::new(),
            name_width: 0,
            n_shown: 0,
        }
    }

    /// The event's line without its end; none when there is nothing new to say.
    fn line(&mut self, event: &Event) -> Option<String> {
        let name: Arc<str> = event.stream.name.as_str().into();
        // What is said is dated by when it began to be said.
        let (at, said) = match &event.body {
            Body::Detections(detections) => {
                let watched = self.streams.entry(Arc::clone(&name)).or_default();
                let seen = watched.look(event, detections, self.interval)?;
                (event.pts, seen.text(self.paint))
            }
            Body::Status(status) => {
                if matches!(status.state, StreamState::Stopped | StreamState::Ended | StreamState::Failed) {
                    // It may never come back, and there may be many like it.
                    self.streams.remove(&name);
                }
                (event.pts, status_text(status, self.paint))
            }
            Body::Gap(gap) => (event.pts, gap_text(gap, self.paint)),
            Body::Transcript(transcript) if self.speech == Speech::Transcripts => {
                (transcript.start, transcript_text(transcript)?)
            }
            Body::Caption(caption) if self.speech == Speech::Captions => (caption.start, caption_text(caption)?),
            Body::Transcript(_) | Body::Caption(_) => return None,
            Body::Alert(alert) => (event.pts, alert_text(alert, self.paint)),
        };
        self.name_width = self.name_width.max(name.len()).min(MAX_NAME_WIDTH);
        let name = format!("{name:<0$}", self.name_width);
        Some(format!("{}  {:>8}  {said}", self.paint.bold(&name), stream_time(at)))
    }
}

impl Sink for Console {
    fn publish(&mut self, event: &Event) -> Result<(), SinkError> {
        let line = match self.format {
            Format::Json => Some(wire::encode(event, self.context.published_at())),
            Format::Readable => self.line(event),
        };
        if let Some(mut line) = line {
            line.push('\n');
            // One write a line: lines of other writers never land inside it. Whatever stands in the way, the terminal
            // is not worth stopping for.
            self.out.write_all(line.as_bytes()).and_then(|()| self.out.flush()).map_err(|cause| {
                if cause.kind() != io::ErrorKind::BrokenPipe {
                    tracing::warn!(%cause, "cannot write to standard output; no more events are shown");
                }
                SinkError::Closed
            })?;
        }
        self.n_shown += 1;
        Ok(())
    }

    fn idle(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn finish(self: Box<Self>, _grace: Duration) -> SinkReport {
        SinkReport { n_published: self.n_shown, ..SinkReport::default() }
    }
}

/// What was seen in a stretch of a stream: the most of each class at a time, and all tracks.
#[derive(Debug, Clone, PartialEq, Default)]
struct Seen {
    classes: BTreeMap<Arc<str>, usize>,
    tracks: BTreeSet<u64>,
}

impl Seen {
    fn add(&mut self, detections: &Detections) {
        let mut now: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        for object in &detections.objects {
            *now.entry(Arc::clone(&object.detection.class)).or_default() += 1;
            self.tracks.extend(object.track);
        }
        for (class, n) in now {
            let most = self.classes.entry(class).or_default();
            *most = n.max(*most);
        }
    }

    /// Whether it holds something that `shown` did not.
    fn has_more_than(&self, shown: &Self) -> bool {
        !self.tracks.is_subset(&shown.tracks)
            || self.classes.iter().any(|(class, n)| shown.classes.get(class).is_none_or(|before| n > before))
    }

    /// `2 person, 1 dog  #7 #9`.
    fn text(&self, paint: Paint) -> String {
        if self.classes.is_empty() {
            return paint.dim("nothing");
        }
        let mut classes: Vec<_> = self.classes.iter().collect();
        classes.sort_by_key(|(class, n)| (std::cmp::Reverse(**n), Arc::clone(class)));
        let classes: Vec<String> = classes.iter().map(|(class, n)| format!("{n} {class}")).collect();
        let mut text = paint.green(&classes.join(", "));
        if !self.tracks.is_empty() {
            let mut tracks: Vec<String> =
                self.tracks.iter().take(MAX_TRACKS_SHOWN).map(|track| format!("#{track}")).collect();
            if self.tracks.len() > MAX_TRACKS_SHOWN {
                tracks.push(format!("+{}", self.tracks.len() - MAX_TRACKS_SHOWN));
            }
            text.push_str("  ");
            text.push_str(&paint.dim(&tracks.join(" ")));
        }
        text
    }
}

/// One stream as the terminal knows it.
#[derive(Default)]
struct Watched {
    session: Option<Arc<str>>,
    /// Last line: when, and what it said.
    shown: Option<(Pts, Seen)>,
    /// What was seen since `window_from`.
    window: Seen,
    window_from: Pts,
}

impl Watched {
    /// Takes a frame in; gives what to show, if it is time to show something.
    fn look(&mut self, event: &Event, detections: &Detections, interval: Duration) -> Option<Seen> {
        if self.session.as_deref() != Some(event.session.as_str()) {
            *self = Self { session: Some(event.session.as_str().into()), window_from: event.pts, ..Self::default() };
        }
        self.window.add(detections);
        let show = match &self.shown {
            None => true,
            Some((at, _)) if event.pts.since(*at) < interval => false,
            Some((at, seen)) => {
                let window_over = event.pts.since(self.window_from) >= interval;
                let changed = self.window.has_more_than(seen) || (window_over && self.window != *seen);
                changed || (window_over && event.pts.since(*at) >= HEARTBEAT)
            }
        };
        if show {
            self.shown = Some((event.pts, self.window.clone()));
        }
        let seen = show.then(|| self.window.clone());
        if show || event.pts.since(self.window_from) >= interval {
            self.window = Seen::default();
            self.window_from = event.pts;
        }
        seen
    }
}

fn status_text(status: &Status, paint: Paint) -> String {
    let word = status.state.as_str();
    let mut text = match status.state {
        StreamState::Playing => paint.cyan(word),
        StreamState::Ended | StreamState::Stopped => paint.bold(word),
        StreamState::Interrupted => paint.yellow(word),
        StreamState::Failed => paint.red(word),
    };
    if let Some(source) = &status.source {
        let video = source.video.as_ref().map(|v| match v.size {
            Some((width, height)) => format!("{} {width}x{height}", v.codec),
            None => v.codec.clone(),
        });
        let audio = source.audio.as_ref().map(|a| a.codec.clone());
        let tracks: Vec<String> = video.into_iter().chain(audio).collect();
        text.push_str(&format!("  {}", tracks.join(" + ")));
    }
    if let Some(detail) = &status.detail {
        text.push_str(&format!("  {detail}"));
    }
    text
}

fn alert_text(alert: &base::event::Alert, paint: Paint) -> String {
    let word = format!("alert {} ({})", alert.state.as_str(), alert.severity.as_str());
    let mut text = format!("{}  {}: {}", paint.bold(&word), alert.rule, alert.summary);
    if let Some(because) = &alert.closed_because {
        text.push_str(&format!(" - {because}"));
    }
    if let Some(snapshot) = alert.evidence.snapshot.as_deref().filter(|_| alert.revision == 0) {
        text.push_str(&format!("  {snapshot}"));
    }
    text
}

fn gap_text(gap: &Gap, paint: Paint) -> String {
    let secs = gap.to.since(gap.from).as_secs_f64();
    let mut text = paint.yellow(&format!("gap of {secs:.1}s"));
    text.push_str(&format!("  {}", gap.reason.as_str().replace('_', " ")));
    if let Some(n) = gap.n_frames_dropped {
        text.push_str(&format!(", {n} frames lost"));
    }
    if let Some(detail) = &gap.detail {
        text.push_str(&format!("  {detail}"));
    }
    text
}

/// What was said, once it is final; none while it may change and when there was nothing.
fn transcript_text(transcript: &Transcript) -> Option<String> {
    (transcript.is_final && !transcript.text.is_empty()).then(|| quoted(&transcript.text))
}

/// A final cue's lines on one line.
fn caption_text(caption: &Caption) -> Option<String> {
    (caption.is_final && !caption.lines.is_empty()).then(|| quoted(&caption.lines.join(" ")))
}

/// In quotation marks, without anything that a terminal would take for an order.
fn quoted(text: &str) -> String {
    format!("“{}”", text.replace(char::is_control, " "))
}

/// `12.4s`, `1:02.4`, `1:02:03.4`.
fn stream_time(pts: Pts) -> String {
    let tenths = pts.millis() / 100;
    let (hours, minutes, secs, tenth) = (tenths / 36_000, tenths / 600 % 60, tenths / 10 % 60, tenths % 10);
    match (hours, minutes) {
        (0, 0) => format!("{secs}.{tenth}s"),
        (0, _) => format!("{minutes}:{secs:02}.{tenth}"),
        _ => format!("{hours}:{minutes:02}:{secs:02}.{tenth}"),
    }
}

/// ANSI colours, or none.
#[derive(Debug, Clone, Copy)]
struct Paint {
    colored: bool,
}

impl Paint {
    fn code(self, code: u8, text: &str) -> String {
        if self.colored { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
    fn bold(self, text: &str) -> String {
        self.code(1, text)
    }
    fn dim(self, text: &str) -> String {
        self.code(2, text)
    }
    fn red(self, text: &str) -> String {
        self.code(31, text)
    }
    fn green(self, text: &str) -> String {
        self.code(32, text)
    }
    fn yellow(self, text: &str) -> String {
        self.code(33, text)
    }
    fn cyan(self, text: &str) -> String {
        self.code(36, text)
    }
}

#[cfg(test)]
mod tests;
