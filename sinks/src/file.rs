//! File sink: JSON Lines, one record a line, with rotation by size and age.
//!
//! On its sink's thread. Must never leave half a line before a whole one, nor lose a record that it accepted: when the
//! disk refuses, records stay in memory, the sink takes no more, and whoever feeds it waits.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use base::{event::Event, queue::WhenFull, time::Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{BuildContext, Configured, QueueConfig, QueueSettings, Sink, SinkError, SinkReport, wire::RecordFormat};

/// Lines are gathered up to this many bytes before they are written.
const BUFFER_BYTES: usize = 64 * 1024;
/// Lines wait at most this long in memory while events keep coming.
const FLUSH_AFTER: Duration = Duration::from_millis(250);
/// Wait before a refused write is tried again at the end.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// Writes events to a file as JSON Lines.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// The file. Missing directories are made. Example: `events/today.jsonl`.
    pub path: PathBuf,
    /// The shape of the records; `kit` is for consumers of AWS's Kinesis Video Streams Inference Template and has
    /// detections only. Default: `eyewitness`.
    #[serde(default)]
    pub format: RecordFormat,
    /// What to do when the file exists already. Default: `append`.
    #[serde(default)]
    pub existing: Existing,
    /// Begin a new file before this one grows over so many bytes; the full one is renamed to
    /// `<name>.<UTC time>.<extension>`. At least 4096. Default: never.
    #[serde(default)]
    pub max_bytes: Option<u64>,
    /// Begin a new file when this one is so many seconds old. Default: never.
    #[serde(default)]
    pub max_age_secs: Option<u64>,
    /// Keep this many renamed files and delete the oldest beyond them. Default: keep all.
    #[serde(default)]
    pub max_files: Option<usize>,
    /// When records must have reached the disk itself. Default: `os`.
    #[serde(default)]
    pub durability: Durability,
    /// The queue before this sink. Default when full: `block`.
    #[serde(default)]
    pub queue: QueueConfig,
}

/// What to do with a file that exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Existing {
    /// Write after what is there. A last line that a crash left torn is taken off first.
    #[default]
    Append,
    /// Begin anew.
    Replace,
}

/// How far a record must get before it counts as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// To the operating system: survives a crash of this program.
    #[default]
    Os,
    /// To the disk (`fdatasync` after each flush): survives a power cut. Slower.
    Disk,
}

impl FileConfig {
    /// Appends to `path`, without rotation.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            format: RecordFormat::default(),
            existing: Existing::default(),
            max_bytes: None,
            max_age_secs: None,
            max_files: None,
            durability: Durability::default(),
            queue: QueueConfig::default(),
        }
    }
}

impl Configured for FileConfig {
    const QUEUE: QueueSettings = QueueSettings { capacity: 1024, when_full: WhenFull::Block };

    fn queue(&self) -> &QueueConfig {
        &self.queue
    }

    fn validate(&self) -> Result<(), SinkError> {
        names_a_file(&self.path)?;
        if self.max_bytes.is_some_and(|n| n < 4096) {
            return Err(SinkError::config("max_bytes", "less than 4096 bytes would rotate at almost every record"));
        }
        if self.max_age_secs == Some(0) {
            return Err(SinkError::config("max_age_secs", "must be at least 1; leave it out for no rotation by age"));
        }
        if self.max_files.is_some() && self.max_bytes.is_none() && self.max_age_secs.is_none() {
            return Err(SinkError::config("max_files", "has no effect without `max_bytes` or `max_age_secs`"));
        }
        Ok(())
    }

    fn build(&self, name: &str, context: BuildContext) -> Result<Box<dyn Sink>, SinkError> {
        self.validate()?;
        let open = Open::new(self, self.existing, &context)?;
        if let Some(n_bytes) = open.n_torn_bytes {
            tracing::warn!(
                sink = name,
                path = %self.path.display(),
                n_bytes,
                "took off a torn last line, left by a crash"
            );
        }
        Ok(Box::new(JsonLines {
            name: name.to_owned(),
            config: self.clone(),
            open,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            flushed_at: context.clock.monotonic(),
            refused: false,
            unsynced: false,
            n_published: 0,
            context,
        }))
    }
}

/// The file being written.
struct Open {
    file: File,
    /// An ordinary file: may be locked, repaired, renamed. A pipe or device may not.
    regular: bool,
    n_bytes: u64,
    born: Timestamp,
    n_torn_bytes: Option<u64>,
}

impl Open {
    fn new(config: &FileConfig, existing: Existing, context: &BuildContext) -> Result<Self, SinkError> {
        let path = &config.path;
        let fail = |doing| move |cause| SinkError::Io { doing, path: path.clone(), cause };
        make_parent(path)?;
        // A pipe or device can only be written.
        let regular = fs::metadata(path).map_or(true, |meta| meta.is_file() || meta.is_dir());
        let mut file = if regular {
            OpenOptions::new().read(true).append(true).create(true).open(path).map_err(fail("open"))?
        } else {
            OpenOptions::new().write(true).open(path).map_err(fail("open"))?
        };
        let mut n_torn_bytes = None;
        let mut n_bytes = 0;
        let mut born = context.clock.wall();
        if regular {
            match try_lock(&file) {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(SinkError::Locked { path: path.clone() }),
                // Some network file systems know no locks: then nobody else has one either.
                Err(TryLockError::Error(cause)) => {
                    tracing::debug!(path = %path.display(), %cause, "the file cannot be locked");
                }
            }
            if existing == Existing::Replace {
                file.set_len(0).map_err(fail("empty"))?;
            }
            n_torn_bytes = repair(&mut file).map_err(fail("repair"))?;
            let meta = file.metadata().map_err(fail("read"))?;
            n_bytes = meta.len();
            if n_bytes > 0
                && let Some(created) = meta.created().or_else(|_| meta.modified()).ok()
                && let Ok(created) = Timestamp::try_from(created)
            {
                born = created;
            }
        }
        Ok(Self { file, regular, n_bytes, born, n_torn_bytes })
    }

    /// Whether the file we write is no longer the one at `path`: somebody else renamed or deleted it.
    #[cfg(unix)]
    fn is_moved_from(&self, path: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        let Ok(ours) = self.file.metadata() else { return false };
        self.regular
            && match fs::metadata(path) {
                Ok(there) => (there.dev(), there.ino()) != (ours.dev(), ours.ino()),
                Err(cause) => cause.kind() == io::ErrorKind::NotFound,
            }
    }

    #[cfg(not(unix))]
    fn is_moved_from(&self, path: &Path) -> bool {
        self.regular && !path.exists()
    }
}

/// How often, and after which pause each time, a lock is tried that somebody else holds.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Locks a file for this process alone. Somebody who only asks whether it is in use holds it for a moment, and so does a
/// child of this process that has not yet become another program.
pub(crate) fn try_lock(file: &File) -> Result<(), TryLockError> {
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            outcome => return outcome,
        }
    }
    file.try_lock()
}

/// Refuses a path that ends in no file's name.
pub(crate) fn names_a_file(path: &Path) -> Result<(), SinkError> {
    match path.file_name() {
        Some(_) => Ok(()),
        None => Err(SinkError::config("path", format!("{path:?} names no file"))),
    }
}

/// Makes the directories that lead to a file.
pub(crate) fn make_parent(path: &Path) -> Result<(), SinkError> {
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else { return Ok(()) };
    let doing = "create directory";
    fs::create_dir_all(parent).map_err(|cause| SinkError::Io { doing, path: parent.to_owned(), cause })
}

/// Makes the file end with a whole line: a last line without its newline gets one if it is whole JSON, and is taken off
/// if it is the beginning of a record of ours. Gives the number of bytes taken off.
///
/// # Errors
/// When the last line is something else: the file is not ours, and nothing of it is touched.
fn repair(file: &mut File) -> io::Result<Option<u64>> {
    const STEP: u64 = 64 * 1024;
    const LONGEST_LINE: u64 = 64 * 1024 * 1024;
    const RECORD: &[u8] = br#"{"type":""#;
    let not_ours = || {
        let cause =
            "its last line has no end and is no record of eyewitness; give another `path`, or `existing = \"replace\"`";
        io::Error::new(io::ErrorKind::InvalidData, cause)
    };
    let len = file.metadata()?.len();
    let mut tail: Vec<u8> = Vec::new();
    let mut from = len;
    while from > 0 && !tail.contains(&b'\n') {
        if len - from > LONGEST_LINE {
            return Err(not_ours());
        }
        let n = STEP.min(from);
        from -= n;
        let mut chunk = vec![0; usize::try_from(n).map_err(io::Error::other)?];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(&mut chunk)?;
        chunk.append(&mut tail);
        tail = chunk;
    }
    let last_line = tail.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
    let last = &tail[last_line..];
    if last.is_empty() {
        return Ok(None);
    }
    if serde_json::from_slice::<serde::de::IgnoredAny>(last).is_ok() {
        file.seek(SeekFrom::End(0))?;
        file.write_all(b"\n")?;
        return Ok(None);
    }
    if !last.starts_with(RECORD) && !RECORD.starts_with(last) {
        return Err(not_ours());
    }
    let n_torn = last.len() as u64;
    file.set_len(len - n_torn)?;
    file.seek(SeekFrom::End(0))?;
    Ok(Some(n_torn))
}

/// The sink.
struct JsonLines {
    name: String,
    config: FileConfig,
    context: BuildContext,
    open: Open,
    /// Accepted and not yet written. May begin in the middle of a line after a write that got only so far.
    buffer: Vec<u8>,
    /// On the monotonic clock.
    flushed_at: Duration,
    /// The last write failed.
    refused: bool,
    /// Written, but not yet known to be on the disk.
    unsynced: bool,
    n_published: u64,
}

impl JsonLines {
    fn fail(&self, doing: &'static str) -> impl FnOnce(io::Error) -> SinkError + use<> {
        let path = self.config.path.clone();
        move |cause| SinkError::Io { doing, path, cause }
    }

    /// Whether the file ends, and the buffer begins, at a line's boundary.
    fn n_lines_waiting(&self) -> u64 {
        self.buffer.iter().filter(|&&b| b == b'\n').count() as u64
    }

    /// Writes the buffer. What was written leaves it even when the rest fails, so a later try goes on at the very byte.
    fn flush(&mut self) -> Result<(), SinkError> {
        self.flushed_at = self.context.clock.monotonic();
        let result = self.write_buffer();
        self.refused = result.is_err();
        result
    }

    fn write_buffer(&mut self) -> Result<(), SinkError> {
        if self.buffer.is_empty() && !self.unsynced {
            return Ok(());
        }
        let mut n_done = 0;
        let outcome = loop {
            if n_done == self.buffer.len() {
                break Ok(());
            }
            match self.open.file.write(&self.buffer[n_done..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => n_done += n,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => break Err(cause),
            }
        };
        let written = self.buffer.drain(..n_done);
        self.n_published += written.as_slice().iter().filter(|&&b| b == b'\n').count() as u64;
        drop(written);
        self.open.n_bytes += n_done as u64;
        outcome.map_err(self.fail("write"))?;
        if self.config.durability == Durability::Disk && self.open.regular {
            // Until it succeeds it is tried again at every flush.
            self.unsynced = true;
            self.open.file.sync_data().map_err(self.fail("sync"))?;
            self.unsynced = false;
        }
        Ok(())
    }

    /// Before a line is taken: rotates if it is time.
    fn rotate_if_due(&mut self, n_line_bytes: usize) -> Result<(), SinkError> {
        let n_bytes = self.open.n_bytes + self.buffer.len() as u64;
        if !self.open.regular || n_bytes == 0 {
            return Ok(());
        }
        let too_big = self.config.max_bytes.is_some_and(|max| n_bytes + n_line_bytes as u64 > max);
        let too_old = self.config.max_age_secs.is_some_and(|max| {
            let age = self.context.clock.wall().duration_since(self.open.born);
            u64::try_from(age.as_secs()).is_ok_and(|age| age >= max)
        });
        if !too_big && !too_old {
            return Ok(());
        }
        self.flush()?;
        // It may have been renamed already: by somebody else, or by us before the new file could not be opened.
        if !self.open.is_moved_from(&self.config.path) {
            let old =
                rotated_path(&self.config.path, self.context.clock.wall()).map_err(self.fail("list files beside"))?;
            fs::rename(&self.config.path, &old).map_err(self.fail("rename"))?;
        }
        self.reopen()?;
        if let Some(keep) = self.config.max_files {
            delete_oldest(&self.config.path, keep)
                .unwrap_or_else(|cause| tracing::warn!(sink = self.name, %cause, "cannot delete old files"));
        }
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), SinkError> {
        self.open = Open::new(&self.config, Existing::Append, &self.context)?;
        Ok(())
    }

    /// Somebody moved or deleted the file (logrotate does): go on in a new one at the same path.
    fn follow_path(&mut self) -> Result<(), SinkError> {
        if self.open.is_moved_from(&self.config.path) {
            self.flush()?;
            self.reopen()?;
            tracing::info!(sink = self.name, path = %self.config.path.display(), "the file was moved; began a new one");
        }
        Ok(())
    }
}

impl Sink for JsonLines {
    fn publish(&mut self, event: &Event) -> Result<(), SinkError> {
        if self.refused || self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        let Some(line) = self.config.format.encode(event, self.context.published_at()) else { return Ok(()) };
        self.rotate_if_due(line.len() + 1)?;
        self.buffer.extend_from_slice(line.as_bytes());
        self.buffer.push(b'\n');
        if self.context.clock.monotonic().saturating_sub(self.flushed_at) >= FLUSH_AFTER {
            // The event is taken; what stands in the way is told at the next call.
            let _told_later = self.flush().and_then(|()| self.follow_path());
        }
        Ok(())
    }

    fn idle(&mut self) -> Result<(), SinkError> {
        self.flush()?;
        self.follow_path()
    }

    fn is_written(&self) -> bool {
        self.buffer.is_empty() && !self.unsynced
    }

    fn finish(mut self: Box<Self>, grace: Duration) -> SinkReport {
        let end = self.context.clock.monotonic() + grace;
        let mut result = self.flush();
        while result.is_err() && self.context.clock.monotonic() < end {
            std::thread::sleep(RETRY_AFTER);
            result = self.flush();
        }
        let n_lost = self.n_lines_waiting();
        let error = result.err().map(|cause| SinkError::Undelivered { n_lost, grace, cause: cause.to_string() });
        if error.is_some() && self.open.regular {
            // Half a line may be at the end: leave whole ones only. Should that fail too, the next start does it.
            let _next_start_repairs = repair(&mut self.open.file);
        }
        SinkReport { n_published: self.n_published, n_failed: n_lost, error, ..SinkReport::default() }
    }
}

/// `dir/events.jsonl` and a time give `dir/events.2026-11-21T04-00-55Z.jsonl`, with `-0001`, `-0002`... for the further
/// ones of the same second. Names sort by age; a number is not used again when its file was deleted.
fn rotated_path(path: &Path, at: Timestamp) -> io::Result<PathBuf> {
    let (stem, extension) = stem_and_extension(path);
    let first = format!("{stem}.{at:.0}").replace(':', "-");
    let numbers = rotated_files(path)?.into_iter().filter_map(|old| {
        let (old, _) = stem_and_extension(&old);
        let number = old.strip_prefix(&first)?;
        if number.is_empty() { Some(0) } else { number.strip_prefix('-')?.parse::<u32>().ok() }
    });
    let name = match numbers.max() {
        None => format!("{first}{extension}"),
        Some(last) => format!("{first}-{:04}{extension}", last + 1),
    };
    Ok(path.with_file_name(name))
}

/// File name without extension, and the extension with its dot (or nothing).
fn stem_and_extension(path: &Path) -> (String, String) {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let extension = path.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
    (stem, extension)
}

/// The files that rotation made of `path`, oldest first.
fn rotated_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (stem, extension) = stem_and_extension(path);
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let middle =
            name.strip_prefix(&stem).and_then(|n| n.strip_prefix('.')).and_then(|n| n.strip_suffix(&extension));
        if middle.is_some_and(is_rotation_time) {
            found.push(name);
        }
    }
    // A name without a number is older than the same with one: compare without the extension.
    found.sort_by_key(|name| name[..name.len() - extension.len()].to_owned());
    Ok(found.into_iter().map(|name| path.with_file_name(name)).collect())
}

/// `2026-11-21T04-00-55Z`, perhaps with `-0001`: nothing else is ours to delete.
fn is_rotation_time(text: &str) -> bool {
    const SHAPE: &str = "dddd-dd-ddTdd-dd-ddZ";
    let fits = |text: &str, shape: &str| {
        text.len() == shape.len()
            && text.bytes().zip(shape.bytes()).all(|(t, s)| if s == b'd' { t.is_ascii_digit() } else { t == s })
    };
    fits(text, SHAPE) || fits(text, &format!("{SHAPE}-dddd"))
}

fn delete_oldest(path: &Path, keep: usize) -> io::Result<()> {
    let files = rotated_files(path)?;
    let n_surplus = files.len().saturating_sub(keep);
    files[..n_surplus].iter().try_for_each(fs::remove_file)
}

#[cfg(test)]
mod tests;
