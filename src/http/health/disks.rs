//! How much room there is where the service writes. Looked at now and then on a blocking thread: a disk that is gone may make
//! who asks wait for ever, and must not make a request wait.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use parking_lot::Mutex;

use crate::metrics::Scrape;

/// The folders and what was last found of them.
pub(in super::super) struct Disks {
    /// What each is for, and where it is.
    folders: Vec<(String, PathBuf)>,
    newest: Mutex<Vec<Room>>,
    /// Somebody is still looking.
    is_looking: AtomicBool,
}

/// What is free where one folder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) of: String,
    pub(super) path: PathBuf,
    pub(super) n_free: u64,
    pub(super) n_bytes: u64,
}

impl Disks {
    pub(in super::super) fn new(folders: Vec<(String, PathBuf)>) -> Self {
        Self { folders, newest: Mutex::default(), is_looking: AtomicBool::new(false) }
    }

    /// What was found last.
    pub(super) fn rooms(&self) -> Vec<Room> {
        self.newest.lock().clone()
    }

    /// Looks, unless an earlier look has not ended: then that disk is gone, and what is known of it is old. Waits for the disks.
    pub(super) fn look(&self) {
        if self.is_looking.swap(true, Relaxed) {
            return;
        }
        let rooms = self.folders.iter().filter_map(|(of, path)| room(of, path)).collect();
        *self.newest.lock() = rooms;
        self.is_looking.store(false, Relaxed);
    }

    pub(in super::super) fn scrape(&self, out: &mut Scrape) {
        for Room { of, n_free, n_bytes, .. } in self.rooms() {
            let labels = [("folder", of.as_str())];
            out.gauge(
                "eyewitness_disk_free_bytes",
                "Bytes free where a folder of the service is.",
                &labels,
                n_free as f64,
            );
            out.gauge(
                "eyewitness_disk_bytes",
                "Bytes of the disk where a folder of the service is.",
                &labels,
                n_bytes as f64,
            );
        }
    }
}

/// Of the folder, or where it is to be made.
fn room(of: &str, path: &Path) -> Option<Room> {
    let here = Path::new(".");
    let places = path.ancestors().map(|place| if place.as_os_str().is_empty() { here } else { place });
    let found = places.map(rustix::fs::statvfs).find_map(Result::ok)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Some(Room {
        of: of.to_owned(),
        path: path.to_owned(),
        n_free: bytes(found.f_bavail),
        n_bytes: bytes(found.f_blocks),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_are_not_there_yet_are_those_above_them() {
        let folder = tempfile::tempdir().expect("folder");
        let disks = Disks::new(vec![
            ("history".into(), folder.path().join("not/yet")),
            ("spool:kafka".into(), "eyewitness-out/nobody/made/this".into()),
        ]);
        assert_eq!(disks.rooms(), []);
        disks.look();
        let rooms = disks.rooms();
        assert_eq!(rooms.iter().map(|room| room.of.as_str()).collect::<Vec<_>>(), ["history", "spool:kafka"]);
        assert!(rooms.iter().all(|room| room.n_bytes > 0 && room.n_free <= room.n_bytes), "{rooms:?}");
        let mut out = Scrape::default();
        disks.scrape(&mut out);
        assert!(out.render().contains("eyewitness_disk_free_bytes{folder=\"history\"}"));
    }
}
