//! Records that a far end will never take, in a file for people: JSON Lines of `{at, sink, reason, kind, key, record}`.
//!
//! On the sink's thread. Written and flushed to the disk before the record leaves the backlog. Must never lose a record
//! that it said it has.

use std::{
    borrow::Cow,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use base::time::Timestamp;
use serde_json::value::RawValue;

use crate::{SinkError, file::make_parent, record::Record, wire};

/// The file of dead letters of one sink.
pub struct DeadLetters {
    sink: String,
    path: PathBuf,
    file: File,
}

/// One line of the file.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct DeadLetter<'a> {
    /// When it was put aside (RFC 3339, UTC).
    #[serde(borrow)]
    pub at: Cow<'a, str>,
    /// Name of the sink.
    #[serde(borrow)]
    pub sink: Cow<'a, str>,
    /// Why it will never be taken, in words.
    pub reason: String,
    /// What kept it together with others: Kafka's key.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
    /// The record.
    #[serde(borrow)]
    pub record: &'a RawValue,
}

impl DeadLetters {
    /// Opens the file for appending; missing directories are made.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(sink: &str, path: &Path) -> Result<Self, SinkError> {
        make_parent(path)?;
        let fail = |cause| SinkError::Io { doing: "open", path: path.to_owned(), cause };
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(fail)?;
        end_last_line(&mut file).map_err(fail)?;
        Ok(Self { sink: sink.to_owned(), path: path.to_owned(), file })
    }

    /// Puts a record aside.
    ///
    /// # Errors
    /// When the disk refuses; nothing was put aside then, and it may be tried again.
    pub fn put(&mut self, record: &Record<'_>, reason: &str, at: Timestamp) -> Result<(), SinkError> {
        let fail = |path: &Path, cause| SinkError::Io { doing: "write", path: path.to_owned(), cause };
        let payload: &RawValue =
            serde_json::from_str(record.payload).map_err(|cause| fail(&self.path, io::Error::other(cause)))?;
        let at = wire::rfc3339(at);
        let letter = DeadLetter {
            at: at.into(),
            sink: Cow::from(&self.sink),
            reason: reason.to_owned(),
            key: record.key.into(),
            record: payload,
        };
        let mut line = serde_json::to_vec(&letter).map_err(|cause| fail(&self.path, io::Error::other(cause)))?;
        line.push(b'\n');
        let before = self.file.metadata().map_err(|cause| fail(&self.path, cause))?.len();
        let written = self.file.write_all(&line).and_then(|()| sync(&self.file));
        written.map_err(|cause| {
            // Half a line must not stay: the next one would be glued to it.
            let _half_a_line_is_ended_at_the_next_start = self.file.set_len(before);
            fail(&self.path, cause)
        })
    }
}

fn sync(file: &File) -> io::Result<()> {
    match file.sync_data() {
        // A special file, such as /dev/null, has nothing to bring to a disk.
        Err(cause) if cause.kind() == io::ErrorKind::InvalidInput => Ok(()),
        outcome => outcome,
    }
}

/// A line that a crash left torn is ended, so that the next one stands by itself.
fn end_last_line(file: &mut File) -> io::Result<()> {
    if file.seek(SeekFrom::End(0))? == 0 || !fs::File::metadata(file)?.is_file() {
        return Ok(());
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    if last != *b"\n" {
        file.write_all(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use base::time::Timestamp;

    use super::*;
    use crate::{
        record::{KeyBy, encode},
        samples,
    };

    #[test]
    fn letters_are_whole_lines_even_after_a_crash() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("new/dead.jsonl");
        let event = samples::detections(&samples::stream("front-door"), 0, &[]);
        let bytes = encode(&event, &KeyBy::Stream, None, 0);
        let record = Record::from_bytes(&bytes).expect("record");
        let put = || {
            let mut letters = DeadLetters::open("hook", &path).expect("open");
            letters.put(&record, "410 Gone \"for ever\"", Timestamp::UNIX_EPOCH).expect("put");
        };
        put();
        let torn = fs::read_to_string(&path).expect("read");
        fs::write(&path, &torn[..torn.len() / 2]).expect("tear");
        put();
        put();
        let text = fs::read_to_string(&path).expect("read");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        for line in &lines[1..] {
            let letter: DeadLetter<'_> = serde_json::from_str(line).expect("a letter");
            assert_eq!((&*letter.sink, &*letter.key, &*letter.reason), ("hook", "front-door", "410 Gone \"for ever\""));
            assert_eq!(letter.record.get(), record.payload);
        }
    }
}
