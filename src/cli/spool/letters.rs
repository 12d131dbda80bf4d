//! Dead letters on their way back: from their file into the sink's spool, from which they are delivered like any record.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::value::RawValue;
use sinks::{
    delivery::{Backlog, BacklogError},
    record::Record,
};

/// Appended at once.
const GROUP: usize = 256;

/// What is needed of a line of the file.
#[derive(Deserialize)]
struct Letter {
    key: String,
    record: Box<RawValue>,
}

/// What is needed of its record.
#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
    id: String,
    stream: String,
    session: String,
    pts_ms: u64,
    #[serde(default)]
    captured_at: Option<String>,
    #[serde(default)]
    published_at: Option<String>,
}

/// What became of the lines of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) n_moved: u64,
    /// No dead letters of ours; they stay.
    pub(super) n_unreadable: u64,
    /// Dead letters for which the spool had no room; they stay.
    pub(super) n_without_room: u64,
}

/// The bytes that a spool keeps of a line.
fn entry(line: &[u8], now_ms: u64) -> Option<Vec<u8>> {
    let letter: Letter = serde_json::from_slice(line).ok()?;
    let envelope: Envelope = serde_json::from_str(letter.record.get()).ok()?;
    let record = Record {
        kind: &envelope.kind,
        id: &envelope.id,
        stream: &envelope.stream,
        session: &envelope.session,
        pts_ms: envelope.pts_ms,
        time: envelope.captured_at.as_deref().or(envelope.published_at.as_deref()),
        key: &letter.key,
        accepted_ms: now_ms,
        payload: letter.record.get(),
    };
    Some(record.to_bytes())
}

/// Moves the letters of a file into a spool. They are in the spool before they leave the file: a crash in between makes
/// duplicates with equal ids, and loses nothing.
pub(super) fn into_spool(path: &Path, spool: &mut dyn Backlog, now_ms: u64) -> anyhow::Result<Moved> {
    // Bytes: a line that was torn need not be text.
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let lines: Vec<(&[u8], Option<Vec<u8>>)> = lines.map(|line| (line, entry(line, now_ms))).collect();
    let entries: Vec<Vec<u8>> = lines.iter().filter_map(|(_, entry)| entry.clone()).collect();
    let mut n_moved = 0;
    while n_moved < entries.len() {
        let end = entries.len().min(n_moved + GROUP);
        match append(spool, &entries[n_moved..end])? {
            0 => break,
            n => n_moved += n,
        }
    }
    let mut n_to_leave_out = n_moved;
    let mut left = Vec::new();
    for (line, entry) in &lines {
        if entry.is_some() && n_to_leave_out > 0 {
            n_to_leave_out -= 1;
        } else {
            left.extend_from_slice(line);
            left.push(b'\n');
        }
    }
    if n_moved > 0 {
        replace(path, &left).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let n_letters = entries.len();
    Ok(Moved {
        n_moved: n_moved as u64,
        n_unreadable: (lines.len() - n_letters) as u64,
        n_without_room: (n_letters - n_moved) as u64,
    })
}

/// Appends as many of these as there is room for, from the first.
fn append(spool: &mut dyn Backlog, entries: &[Vec<u8>]) -> Result<usize, BacklogError> {
    let mut n = entries.len();
    while n > 0 {
        match spool.append(&entries[..n]) {
            Ok(()) => return Ok(n),
            Err(BacklogError::Full { .. }) => n /= 2,
            Err(error) => return Err(error),
        }
    }
    Ok(0)
}

/// The whole new content, or the old one, whatever happens.
fn replace(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = File::create(&new)?;
    file.write_all(text)?;
    file.set_permissions(fs::metadata(path)?.permissions())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.map_or_else(|| PathBuf::from("."), Path::to_path_buf))?.sync_all()
}
