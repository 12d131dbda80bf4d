//! The thread `folder`: keeps what is attached as the files of a folder say (GitOps). It looks at the folder every other
//! second, by content, so that mounted ConfigMaps and editors that replace files are followed, and hands what differs to the
//! keeper. A file with mistakes changes nothing; nothing is detached on the word of a folder that cannot be read.

mod files;
mod sync;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use base::shutdown::Shutdown;

use self::{files::Files, sync::Sync};
use super::{desk::Desk, resolver::Resolver};

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How soon it is looked at again when something in it has just changed: a file is taken when it is the same at two looks,
/// so that one half written is not.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// A folder to be watched.
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// Checks what its files say.
    pub resolver: Arc<Resolver>,
    /// Takes wishes, and shows what is attached.
    pub desk: Desk,
    /// This worker is the one that follows the folder: it holds lease 0, and the board shows all that was attached.
    pub leads: Arc<AtomicBool>,
    /// Ends the thread.
    pub shutdown: Shutdown,
}

impl Folder {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn watch(self) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("folder".into()).spawn(move || self.run())
    }

    fn run(self) {
        let Self { path, resolver, desk, leads, shutdown } = self;
        let mut at_work = None;
        let mut wait = Duration::ZERO;
        while !shutdown.wait_timeout(wait) {
            if !leads.load(Relaxed) {
                // Another worker follows the folder from here on; whatever was seen of it is old when it comes back.
                at_work = None;
                wait = LOOK_AGAIN;
                continue;
            }
            let (files, sync) = at_work.get_or_insert_with(|| {
                tracing::info!(folder = %path.display(), "this worker follows the folder of attachments");
                (Files::new(&path), Sync::default())
            });
            let settled = files.look(&resolver);
            let idle = sync.step(&files.wanted(), &desk);
            wait = if settled && idle { LOOK } else { LOOK_AGAIN };
        }
    }
}

#[cfg(test)]
mod tests;
