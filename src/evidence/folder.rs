//! The folder of alerts: one folder each, named by the alert's id. Files appear whole or not at all. Must never touch what it
//! has not made: a folder is ours when its record says so, and of it only the files that we know are taken away.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// The newest record, as on the wire.
const RECORD: &str = "alert.json";
/// The annotated picture.
pub(super) const SNAPSHOT: &str = "snapshot.jpg";
/// The clip.
pub(super) const CLIP: &str = "clip.mp4";
/// Its segments while they are gathered.
pub(super) const GATHERED: &str = "clip.ts.part";
/// The clip while it is being made.
pub(super) const MAKING: &str = "clip.mp4.part";
/// Why there is no clip, in words.
pub(super) const NO_CLIP: &str = "no-clip.txt";
/// Everything else that may lie in a folder of ours. The record goes last.
const FILES: &[&str] = &[
    SNAPSHOT,
    CLIP,
    GATHERED,
    MAKING,
    "clip.mp4.part.media",
    NO_CLIP,
    "snapshot.jpg.new",
    "no-clip.txt.new",
    "alert.json.new",
];
/// Longest id: leaves room in a file name for what is put behind it.
const LONGEST_ID: usize = 200;

/// Whether this can be an id, and so the name of a folder or file and nothing else.
pub(crate) fn is_id(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=LONGEST_ID).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(plain)
}

/// What the index has to know of a record.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Meta {
    /// Id of the record.
    pub(super) id: String,
    pub(super) alert: String,
    pub(super) revision: u32,
    pub(super) stream: String,
    pub(super) rule: String,
    pub(super) severity: String,
    pub(super) state: String,
    published_at: Option<String>,
}

impl Meta {
    pub(super) fn parse(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// When it was written, milliseconds since 1970 by our own clock.
    pub(super) fn at_ms(&self) -> i64 {
        let at = self.published_at.as_deref().and_then(|at| at.parse::<jiff::Timestamp>().ok());
        at.map_or(0, jiff::Timestamp::as_millisecond)
    }
}

/// What was found of an alert.
pub(super) struct Found {
    pub(super) meta: Meta,
    pub(super) n_bytes: u64,
    /// A clip was being gathered when the process ended.
    pub(super) is_gathering: bool,
}

/// The folder.
#[derive(Debug, Clone)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes it where it is not there, and looks whether it can be written.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let probe = path.join(".writable");
        fs::write(&probe, b"")?;
        fs::remove_file(&probe)?;
        Ok(Self(path.to_owned()))
    }

    /// Path of an alert's file. `id` must be one ([`is_id`]).
    pub(super) fn file(&self, id: &str, name: &str) -> PathBuf {
        debug_assert!(is_id(id));
        self.0.join(id).join(name)
    }

    /// All alerts that are kept, in no order.
    pub(super) fn scan(&self) -> io::Result<Vec<Found>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.0)? {
            // A link is none of ours.
            let Ok(entry) = entry else { continue };
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if let Some(id) = entry.file_name().to_str().filter(|id| is_folder && is_id(id))
                && let Some(meta) = self.meta(id)
            {
                let is_gathering = self.file(id, GATHERED).is_file();
                all.push(Found { meta, n_bytes: self.size(id), is_gathering });
            }
        }
        Ok(all)
    }

    /// Of a folder that is ours.
    fn meta(&self, id: &str) -> Option<Meta> {
        Meta::parse(&self.record(id)?).filter(|meta| meta.alert == id)
    }

    /// The newest record.
    pub(super) fn record(&self, id: &str) -> Option<String> {
        fs::read_to_string(self.file(id, RECORD)).ok()
    }

    /// Bytes of an alert's files.
    pub(super) fn size(&self, id: &str) -> u64 {
        let size = |name: &&str| fs::metadata(self.file(id, name)).map_or(0, |file| file.len());
        FILES.iter().chain(&[RECORD]).map(size).sum()
    }

    /// Puts a record into its place; `for_good`: it is on the disk before this returns.
    pub(super) fn keep_record(&self, id: &str, json: &str, for_good: bool) -> io::Result<()> {
        fs::create_dir_all(self.0.join(id))?;
        self.put(id, RECORD, format!("{json}\n").as_bytes(), for_good)
    }

    /// Puts a file into its place, whole.
    pub(super) fn keep(&self, id: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.put(id, name, bytes, false)
    }

    fn put(&self, id: &str, name: &str, bytes: &[u8], for_good: bool) -> io::Result<()> {
        let new = self.file(id, &format!("{name}.new"));
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(bytes)?;
            if for_good { file.sync_data() } else { Ok(()) }
        });
        written.and_then(|()| fs::rename(&new, self.file(id, name))).inspect_err(|_| {
            let _ = fs::remove_file(&new);
        })
    }

    /// Adds to a file.
    pub(super) fn append(&self, id: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
        OpenOptions::new().create(true).append(true).open(self.file(id, name))?.write_all(bytes)
    }

    /// Takes a file away, if it is there.
    pub(super) fn discard(&self, id: &str, name: &str) {
        let _ = fs::remove_file(self.file(id, name));
    }

    /// Takes an alert away; gives whether it was there and is gone. What lies in its folder besides stays.
    pub(super) fn remove(&self, id: &str) -> io::Result<bool> {
        if self.meta(id).is_none() {
            return Ok(false);
        }
        for name in FILES.iter().chain(&[RECORD]) {
            match fs::remove_file(self.file(id, name)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        let _ = fs::remove_dir(self.0.join(id));
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        for good in ["01JABCDEFGHJKMNPQRSTVWXYZ0-alert-person-in-yard-7", "a", "A.b_c-9"] {
            assert!(is_id(good), "{good}");
        }
        let long = "x".repeat(201);
        for bad in ["", ".", "..", "../x", "a/b", "a\\b", "/etc", ".x", "a b", "a\0", "ä", "a%2fb", "a\n", &long] {
            assert!(!is_id(bad), "{bad:?}");
        }
    }

    #[test]
    fn only_ours_is_found_and_only_what_is_ours_is_removed() {
        let scene = tempfile::tempdir().expect("folder");
        let folder = Folder::open(scene.path()).expect("folder");
        let record = |id: &str| {
            format!(
                r#"{{"type":"alert","id":"{id}-0","alert":"{id}","revision":0,"stream":"a","rule":"r","severity":"info","state":"opened","published_at":"2026-01-02T03:04:05.678Z"}}"#
            )
        };
        folder.keep_record("one", &record("one"), true).expect("kept");
        folder.keep("one", SNAPSHOT, b"jpeg").expect("kept");
        fs::write(folder.file("one", "notes.txt"), b"by somebody else").expect("written");
        // Of another name, broken, without a record, a file, a link to a folder of ours.
        folder.keep_record("two", &record("one"), false).expect("kept");
        folder.keep_record("three", "{", false).expect("kept");
        fs::create_dir(scene.path().join("four")).expect("folder");
        fs::write(scene.path().join("five"), b"").expect("file");
        std::os::unix::fs::symlink(scene.path().join("one"), scene.path().join("six")).expect("link");
        let found = folder.scan().expect("scan");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].meta.at_ms(), 1_767_323_045_678);
        assert_eq!(found[0].n_bytes, record("one").len() as u64 + 1 + 4);
        for id in ["two", "three", "four", "five", "seven"] {
            assert!(!folder.remove(id).expect("no trouble"), "{id}");
        }
        assert!(folder.remove("one").expect("removed"));
        let left: Vec<_> =
            fs::read_dir(scene.path().join("one")).expect("folder").flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, ["notes.txt"]);
        assert!(scene.path().join("two").join(RECORD).exists());
    }
}
