//! Caption file sink: WebVTT or SRT, one file a stream, that is valid at any moment.
//!
//! On its sink's thread. Takes final cues only and writes each at once, as one block. Must never leave half a cue before
//! a whole one, let times go backwards within a file, or mix the captions of two streams.
//!
//! A file has one timeline: stream time of the first session, which begins at 0. A later session begins at 0 again; its
//! times are moved on by the time between the two captures where both are dated, and otherwise to the end of the last
//! cue. A file that is continued after a restart goes on at the end of its last cue.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use base::{
    event::{Body, Caption, Event},
    media::SessionId,
    queue::WhenFull,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    BuildContext, Configured, QueueConfig, QueueSettings, Sink, SinkError, SinkReport,
    file::{Existing, make_parent, names_a_file},
    vtt,
};

/// Wait before a refused write is tried again at the end.
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// What stands for the stream's name in `path`.
const STREAM: &str = "{stream}";
/// A caption file larger than this is not read through to be continued: years of speech.
const MAX_CONTINUED_BYTES: u64 = 1 << 30;

/// Writes finished captions to a file that players and editors read.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CaptionsConfig {
    /// The file. `{stream}` in it is replaced by the stream's name: one file a stream, which more than one stream needs.
    /// Missing directories are made. Example: `captions/{stream}.vtt`.
    pub path: PathBuf,
    /// `webvtt` or `srt`. Default: by the path's extension, `.vtt` or `.srt`.
    #[serde(default)]
    pub format: Option<CaptionFormat>,
    /// What to do when the file exists already. Default: `append`, on the same timeline.
    #[serde(default)]
    pub existing: Existing,
    /// The queue before this sink. Default when full: `block`.
    #[serde(default)]
    pub queue: QueueConfig,
}

/// How captions are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CaptionFormat {
    /// WebVTT, for browsers.
    Webvtt,
    /// SubRip, for players and editors.
    Srt,
}

impl CaptionsConfig {
    /// Continues `path`, in the format that its extension says.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), format: None, existing: Existing::default(), queue: QueueConfig::default() }
    }

    fn format(&self) -> Result<CaptionFormat, SinkError> {
        let by_extension = || match self.path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "vtt" => Some(CaptionFormat::Webvtt),
            "srt" => Some(CaptionFormat::Srt),
            _ => None,
        };
        self.format.or_else(by_extension).ok_or_else(|| {
            SinkError::config("format", "the extension of `path` is neither .vtt nor .srt: say `webvtt` or `srt`")
        })
    }

    fn a_file_a_stream(&self) -> bool {
        self.path.to_string_lossy().contains(STREAM)
    }

    fn path_for(&self, stream: &str) -> PathBuf {
        // Names of streams hold nothing that means something in a path.
        self.path.to_string_lossy().replace(STREAM, stream).into()
    }
}

impl Configured for CaptionsConfig {
    const QUEUE: QueueSettings = QueueSettings { capacity: 1024, when_full: WhenFull::Block };

    fn queue(&self) -> &QueueConfig {
        &self.queue
    }

    fn validate(&self) -> Result<(), SinkError> {
        names_a_file(&self.path)?;
        self.format().map(drop)
    }

    fn build(&self, name: &str, context: BuildContext) -> Result<Box<dyn Sink>, SinkError> {
        self.validate()?;
        let mut sink = Captions {
            name: name.to_owned(),
            format: self.format()?,
            config: self.clone(),
            tracks: BTreeMap::new(),
            n_taken: 0,
            refused: None,
            context,
        };
        if !self.a_file_a_stream() {
            // It is there from the start, also when nobody ever speaks.
            let track = Track::open(&self.path, sink.format, self.existing)?;
            sink.tracks.insert(String::new(), track);
        }
        Ok(Box::new(sink))
    }
}

/// The sink.
struct Captions {
    name: String,
    config: CaptionsConfig,
    format: CaptionFormat,
    /// By stream; by nothing where there is one file for the only stream.
    tracks: BTreeMap<String, Track>,
    /// Events that were written, or had nothing to be written.
    n_taken: u64,
    /// Captions of a second stream, where only one may come: both names, and how many.
    refused: Option<(String, String, u64)>,
    context: BuildContext,
}

/// One file.
struct Track {
    path: PathBuf,
    file: File,
    format: CaptionFormat,
    /// The stream in it, once one came.
    stream: Option<String>,
    /// Accepted and not yet written; may begin in the middle of a block after a write that got only so far.
    buffer: Vec<u8>,
    /// Cues in the file and the buffer.
    n_cues: u64,
    /// End of the last one, milliseconds of the file's timeline.
    last_end_ms: u64,
    session: Option<Session>,
    /// Wall-clock time of the file's time 0 in milliseconds; none before a dated session came.
    zero_at_ms: Option<i64>,
}

/// The connection that the cues come from.
struct Session {
    id: SessionId,
    /// To be added to stream time, in milliseconds.
    offset_ms: i64,
}

impl Sink for Captions {
    fn publish(&mut self, event: &Event) -> Result<(), SinkError> {
        if let Body::Caption(caption) = &event.body
            && caption.is_final
            && !caption.lines.is_empty()
        {
            let stream = event.stream.name.as_str();
            let key = if self.config.a_file_a_stream() { stream } else { "" };
            if !self.tracks.contains_key(key) {
                let track = Track::open(&self.config.path_for(stream), self.format, self.config.existing)?;
                self.tracks.insert(key.to_owned(), track);
            }
            let Some(track) = self.tracks.get_mut(key) else { return Ok(()) };
            let first = track.stream.get_or_insert_with(|| stream.to_owned());
            if first != stream {
                if self.refused.is_none() {
                    let path = self.config.path.display();
                    tracing::error!(
                        sink = self.name, %path, stream, first = &**first,
                        "captions of a second stream are refused; write {STREAM} into the path for a file a stream"
                    );
                }
                let refused = self.refused.get_or_insert_with(|| (first.clone(), stream.to_owned(), 0));
                refused.2 += 1;
                return Ok(());
            }
            track.flush()?;
            track.add(event, caption);
            // It is taken; what stands in the way of writing it is told at the next call.
            let _told_later = track.flush();
        }
        self.n_taken += 1;
        Ok(())
    }

    fn idle(&mut self) -> Result<(), SinkError> {
        self.tracks.values_mut().try_for_each(Track::flush)
    }

    fn is_written(&self) -> bool {
        self.tracks.values().all(|track| track.buffer.is_empty())
    }

    fn finish(mut self: Box<Self>, grace: Duration) -> SinkReport {
        let clock = &self.context.clock;
        let end = clock.monotonic() + grace;
        let mut result = self.tracks.values_mut().try_for_each(Track::flush);
        while result.is_err() && clock.monotonic() < end {
            std::thread::sleep(RETRY_AFTER);
            result = self.tracks.values_mut().try_for_each(Track::flush);
        }
        // One cue waits at most in each file.
        let n_lost = self.tracks.values().filter(|track| !track.buffer.is_empty()).count() as u64;
        let error = result.err().map(|cause| SinkError::Undelivered { n_lost, grace, cause: cause.to_string() });
        let n_refused = self.refused.as_ref().map_or(0, |refused| refused.2);
        let refused = self.refused.map(|(first, second, n_lost)| SinkError::SecondStream {
            path: self.config.path.clone(),
            first,
            second,
            n_lost,
        });
        SinkReport {
            n_published: self.n_taken.saturating_sub(n_lost),
            n_failed: n_lost + n_refused,
            error: error.or(refused),
            ..SinkReport::default()
        }
    }
}

impl Track {
    fn open(path: &Path, format: CaptionFormat, existing: Existing) -> Result<Self, SinkError> {
        let fail = |doing| move |cause| SinkError::Io { doing, path: path.to_owned(), cause };
        make_parent(path)?;
        // A pipe or device can only be written.
        let regular = fs::metadata(path).map_or(true, |meta| meta.is_file() || meta.is_dir());
        let mut options = OpenOptions::new();
        let options = if regular { options.read(true).append(true).create(true) } else { options.write(true) };
        let file = options.open(path).map_err(fail("open"))?;
        let mut track = Self {
            path: path.to_owned(),
            file,
            format,
            stream: None,
            buffer: Vec::new(),
            n_cues: 0,
            last_end_ms: 0,
            session: None,
            zero_at_ms: None,
        };
        if regular {
            match track.file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(SinkError::Locked { path: path.to_owned() }),
                // Some network file systems know no locks: then nobody else has one either.
                Err(TryLockError::Error(cause)) => {
                    tracing::debug!(path = %path.display(), %cause, "the file cannot be locked");
                }
            }
            if existing == Existing::Replace {
                track.file.set_len(0).map_err(fail("empty"))?;
            }
            track.resume().map_err(fail("continue"))?;
        }
        let is_empty = !regular || track.file.metadata().map_err(fail("read"))?.len() == 0;
        if is_empty && format == CaptionFormat::Webvtt {
            track.buffer.extend_from_slice(vtt::header().as_bytes());
        }
        track.flush()?;
        Ok(track)
    }

    /// Takes off what a crash or a full disk left of a block at the end, and finds where the times have to go on.
    fn resume(&mut self) -> io::Result<()> {
        let len = self.file.metadata()?.len();
        if len == 0 {
            return Ok(());
        }
        if len > MAX_CONTINUED_BYTES {
            return Err(io::Error::other("it is too large; move it away, or set existing = \"replace\""));
        }
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(0))?;
        self.file.read_to_end(&mut bytes)?;
        let n_whole = bytes.windows(2).rposition(|pair| pair == b"\n\n").map_or(0, |at| at + 2);
        let text = String::from_utf8_lossy(&bytes);
        if self.format == CaptionFormat::Webvtt && !text.starts_with(vtt::header().trim_end()) && !is_torn_header(&text)
        {
            return Err(io::Error::other("it is no WebVTT file; choose another path, or set existing = \"replace\""));
        }
        let whole = String::from_utf8_lossy(&bytes[..n_whole]);
        // Others end a file with one line end only.
        let ends_otherwise = text.ends_with('\n')
            && !text.lines().next_back().is_some_and(|line| line.contains("-->"))
            && vtt::last_end_and_count(&text).1 > vtt::last_end_and_count(&whole).1;
        if n_whole < bytes.len() && ends_otherwise {
            self.file.write_all(b"\n")?;
        } else if n_whole < bytes.len() {
            self.file.set_len(n_whole as u64)?;
            let n_torn = bytes.len() - n_whole;
            tracing::warn!(path = %self.path.display(), n_torn, "took off a torn cue, left by a crash");
        }
        let whole = if ends_otherwise { text } else { whole };
        (self.last_end_ms, self.n_cues) = vtt::last_end_and_count(&whole);
        Ok(())
    }

    /// Puts a final cue into the buffer.
    fn add(&mut self, event: &Event, caption: &Caption) {
        let offset_ms = self.offset(event, caption);
        let ms = |pts: base::time::Pts| (pts.millis() as i64).saturating_add(offset_ms).max(0) as u64;
        let start = ms(caption.start).max(self.last_end_ms);
        let end = ms(caption.end).max(start + 1);
        let block = match self.format {
            CaptionFormat::Webvtt => vtt::cue(&caption.cue, start, end, &caption.lines),
            CaptionFormat::Srt => vtt::srt_cue(self.n_cues + 1, start, end, &caption.lines),
        };
        if !block.is_empty() {
            self.buffer.extend_from_slice(block.as_bytes());
            self.n_cues += 1;
            self.last_end_ms = end;
        }
    }

    /// What to add to the session's stream time to get the file's; fixed by the first cue of the session.
    fn offset(&mut self, event: &Event, caption: &Caption) -> i64 {
        if let Some(session) = self.session.as_ref().filter(|session| session.id == event.session) {
            return session.offset_ms;
        }
        let last_end_ms = self.last_end_ms as i64;
        // Wall-clock time of this session's beginning.
        let zero =
            event.captured.map(|captured| captured.at.as_millisecond().saturating_sub(event.pts.millis() as i64));
        let is_first = self.session.is_none() && self.n_cues == 0;
        let offset_ms = match (zero, self.zero_at_ms) {
            _ if is_first => 0,
            // Never before the last cue's end: clocks are set, and differ.
            (Some(zero), Some(file)) => zero.saturating_sub(file).max(last_end_ms - caption.start.millis() as i64),
            _ => last_end_ms,
        };
        self.zero_at_ms = self.zero_at_ms.or(zero.map(|zero| zero.saturating_sub(offset_ms)));
        self.session = Some(Session { id: event.session.clone(), offset_ms });
        offset_ms
    }

    /// Writes the buffer. What was written leaves it even when the rest fails, so a later try goes on at the very byte.
    fn flush(&mut self) -> Result<(), SinkError> {
        while !self.buffer.is_empty() {
            match self.file.write(&self.buffer) {
                Ok(0) => return Err(self.refused(io::ErrorKind::WriteZero.into())),
                Ok(n) => drop(self.buffer.drain(..n)),
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(self.refused(cause)),
            }
        }
        Ok(())
    }

    fn refused(&self, cause: io::Error) -> SinkError {
        SinkError::Io { doing: "write", path: self.path.clone(), cause }
    }
}

/// The header itself was cut: there is nothing in the file yet.
fn is_torn_header(text: &str) -> bool {
    vtt::header().starts_with(text)
}

#[cfg(test)]
mod tests;
