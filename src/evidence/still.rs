//! The analysed picture of an alert on its way to the thread `evidence`: a copy, so that the decoder gets its memory back.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use base::{
    media::{Frame, SessionId},
    time::Pts,
};

use super::draw::Picture;

/// Pictures on their way at the same time: some 1 MB each. Further alerts get theirs from the clip, if they have one.
const MOST: usize = 32;

/// The picture.
pub(super) struct Still {
    picture: Picture,
    pub(super) session: SessionId,
    pub(super) pts: Pts,
    /// Pixels.
    pub(super) source: (u32, u32),
    _place: Place,
}

/// Places for pictures. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Places(Arc<AtomicUsize>);

struct Place(Places);

impl Places {
    /// A copy of a frame; none when there is no place.
    pub(super) fn copy(&self, frame: &Frame) -> Option<Still> {
        let n_taken = self.0.fetch_add(1, Relaxed);
        let place = Place(self.clone());
        (n_taken < MOST).then(|| Still {
            picture: Picture::copy_of(&frame.image),
            session: frame.session.clone(),
            pts: frame.pts,
            source: (frame.source_width, frame.source_height),
            _place: place,
        })
    }
}

impl Still {
    /// The pixels; its place is free again.
    pub(super) fn into_picture(self) -> Picture {
        self.picture
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}
