//! What lies in the folder of clips: each file's name says of which transcript it is, and where it begins.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    fs, io,
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use sinks::history::Doubt;

use crate::evidence::is_id;

/// Between a file's id and where it begins; no id has it.
const AT: char = '@';
const SUFFIX: &str = ".mp4";

/// What is dated so far ahead was dated wrongly.
pub(super) const FUTURE_MS: i64 = 24 * 3_600_000;

/// What lies in the folder.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) by_id: BTreeMap<String, Clip>,
    /// By when they were written: milliseconds since 1970, id.
    pub(super) by_age: BTreeSet<(i64, String)>,
    pub(super) n_bytes: u64,
    pub(super) doubt: Doubt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clip {
    /// Stream time of its first picture.
    pub(super) from_ms: u64,
    pub(super) n_bytes: u64,
    pub(super) written_ms: i64,
}

impl Kept {
    /// What earlier processes have left; takes away what they have not finished.
    pub(super) fn scan(dir: &Path) -> io::Result<Self> {
        let mut kept = Self::default();
        for entry in fs::read_dir(dir)? {
            let Ok(entry) = entry else { continue };
            let name = entry.file_name();
            let Some((id, rest)) = name.to_str().and_then(|name| name.split_once(AT)).filter(|(id, _)| is_id(id))
            else {
                continue;
            };
            if rest.contains(".mp4.part") {
                let _ = fs::remove_file(entry.path());
            } else if let Some(from_ms) = rest.strip_suffix(SUFFIX).and_then(|from_ms| from_ms.parse().ok())
                && let Ok(file) = entry.metadata()
                && file.is_file()
            {
                let written =
                    file.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
                let written_ms = i64::try_from(written.as_millis()).unwrap_or(i64::MAX);
                let clip = Clip { from_ms, n_bytes: file.len(), written_ms };
                // Of two the newer is kept, as where a process came to its end between writing it and taking the older away.
                let is_older = kept.by_id.get(id).is_some_and(|other| other.written_ms > written_ms);
                let other = if is_older { Some(clip) } else { kept.add(id.to_owned(), clip) };
                if let Some(Clip { from_ms, .. }) = other {
                    let _ = fs::remove_file(dir.join(name_of(id, from_ms)));
                }
            }
        }
        Ok(kept)
    }

    /// Gives the clip in whose place it comes.
    pub(super) fn add(&mut self, id: String, clip: Clip) -> Option<Clip> {
        let before = self.remove(&id);
        self.by_age.insert((clip.written_ms, id.clone()));
        self.n_bytes += clip.n_bytes;
        self.by_id.insert(id, clip);
        before
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<Clip> {
        let clip = self.by_id.remove(id)?;
        self.by_age.remove(&(clip.written_ms, id.to_owned()));
        self.n_bytes -= clip.n_bytes;
        Some(clip)
    }

    /// Lets go of what is older than `keep`, unless the clock may be wrong, and of the oldest until the rest has room.
    pub(super) fn superfluous(
        &mut self,
        (now_ms, monotonic): (i64, Duration),
        keep: Duration,
        max_bytes: u64,
    ) -> Vec<(String, Clip)> {
        let Self { by_age, doubt, .. } = self;
        let newest_until = |until: i64| {
            let found = by_age.range(..(until.saturating_add(1), String::new())).next_back();
            Ok::<_, Infallible>(found.map(|(written_ms, _)| *written_ms))
        };
        let oldest = by_age.first().map(|(written_ms, _)| *written_ms);
        let Ok(may_go) = doubt.lets_go((now_ms, monotonic), keep, oldest, newest_until);
        let keep_ms = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        let since_ms = if may_go { now_ms.saturating_sub(keep_ms) } else { i64::MIN };
        let mut gone = Vec::new();
        while let Some((written_ms, id)) = self.by_age.first().cloned()
            && written_ms < since_ms
        {
            gone.extend(self.remove(&id).map(|clip| (id, clip)));
        }
        // What is dated far in the future, by a clock that was wrong, does not push out the present.
        let future = (now_ms.saturating_add(FUTURE_MS), String::new());
        while self.n_bytes > max_bytes
            && let Some((_, id)) = self.by_age.range(future.clone()..).next().or_else(|| self.by_age.first()).cloned()
        {
            gone.extend(self.remove(&id).map(|clip| (id, clip)));
        }
        gone
    }
}

pub(super) fn name_of(id: &str, from_ms: u64) -> String {
    format!("{id}{AT}{from_ms}{SUFFIX}")
}
