//! The segments of one clip, from before its alert was opened until after it was closed. They wait on disk, so that many
//! alerts at once cost no memory. On the thread `evidence`; waits for nothing.

use std::{io, time::Duration};

use base::{media::MediaSegment, time::Pts};

use super::{
    draw::Annotation,
    folder::{Folder, GATHERED},
};
use crate::hls::{Fit, Stretch, Tap};

/// Most bytes of a clip: 60 s of 17 Mbit/s. They are in memory while the clip is made, one clip at a time.
const MOST_BYTES: u64 = 128 << 20;
/// A segment is at most twenty seconds long, and its sound may come a second later.
const SEGMENT_COMES_WITHIN: Duration = Duration::from_secs(30);

/// What a clip is to hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// Where the alert was opened.
    pub(super) opened: Pts,
    /// So long after it was closed.
    pub(super) post_roll: Duration,
    /// So long in all.
    pub(super) most: Duration,
}

/// The picture of the opening in full size, once its segment is there.
#[derive(Debug)]
pub(super) struct Closeup {
    /// Where in what was gathered its segment lies: first byte and length.
    pub(super) place: (u64, u64),
    /// Its time after the first picture of that segment.
    pub(super) after: Duration,
    pub(super) annotation: Annotation,
    /// What the boxes speak of, pixels; none when nobody has seen a frame.
    pub(super) source: Option<(u32, u32)>,
}

/// One clip on its way.
pub(super) struct Gathering {
    pub(super) id: String,
    plan: Plan,
    /// None: what another process has left.
    tap: Option<Tap>,
    /// Where the alert was closed.
    closed: Option<Pts>,
    /// Monotonic time after which nothing is waited for any more.
    deadline: Duration,
    stretch: Stretch,
    n_bytes: u64,
    is_over: bool,
    wanted: Option<(Annotation, Option<(u32, u32)>)>,
    closeup: Option<Closeup>,
}

impl Gathering {
    pub(super) fn new(
        id: &str,
        plan: Plan,
        tap: Tap,
        wanted: Option<(Annotation, Option<(u32, u32)>)>,
        now: Duration,
    ) -> Self {
        Self {
            id: id.to_owned(),
            plan,
            tap: Some(tap),
            closed: None,
            deadline: now + plan.most + SEGMENT_COMES_WITHIN,
            stretch: Stretch::new(plan.opened),
            n_bytes: 0,
            is_over: false,
            wanted,
            closeup: None,
        }
    }

    /// What an earlier process has gathered and made nothing of.
    pub(super) fn left_over(id: &str) -> Self {
        let plan = Plan { opened: Pts::ZERO, post_roll: Duration::ZERO, most: Duration::ZERO };
        Self {
            id: id.to_owned(),
            plan,
            tap: None,
            closed: None,
            deadline: Duration::ZERO,
            stretch: Stretch::new(Pts::ZERO),
            n_bytes: 0,
            is_over: true,
            wanted: None,
            closeup: None,
        }
    }

    /// The alert is closed, at this time of the clip's session; none where it was another session by then.
    pub(super) fn close(&mut self, at: Option<Pts>, now: Duration) {
        self.closed.get_or_insert(at.unwrap_or(self.stretch.end()).max(self.plan.opened));
        self.deadline = self.deadline.min(now + self.plan.post_roll + SEGMENT_COMES_WITHIN);
    }

    /// Nothing more will come.
    pub(super) fn finish(&mut self) {
        self.is_over = true;
    }

    /// Takes in what has come.
    pub(super) fn absorb(&mut self, folder: &Folder) -> io::Result<()> {
        let Some((segments, end)) = self.tap.as_ref().map(Tap::take) else { return Ok(()) };
        for segment in &segments {
            if self.is_over {
                break;
            }
            self.add(segment, folder)?;
        }
        self.is_over |= end.is_some() || self.stretch.first().is_some() && self.stretch.end() >= self.stop();
        Ok(())
    }

    fn add(&mut self, segment: &MediaSegment, folder: &Folder) -> io::Result<()> {
        let fit = self.stretch.fit(segment, self.stop());
        match fit {
            Fit::Next => {}
            Fit::First => {
                folder.discard(&self.id, GATHERED);
                self.n_bytes = 0;
            }
            Fit::Beyond => {
                self.is_over = true;
                return Ok(());
            }
        }
        let n_bytes = segment.bytes.len() as u64;
        if self.n_bytes + n_bytes > MOST_BYTES {
            tracing::warn!(alert = self.id, "its clip ends early: it has {} MiB", self.n_bytes >> 20);
            self.is_over = true;
            return Ok(());
        }
        folder.append(&self.id, GATHERED, &segment.bytes)?;
        self.stretch.add(segment, fit);
        if (segment.start..self.stretch.end()).contains(&self.plan.opened)
            && let Some((annotation, source)) = self.wanted.take()
        {
            let (place, after) = ((self.n_bytes, n_bytes), self.plan.opened.since(segment.start));
            self.closeup = Some(Closeup { place, after, annotation, source });
        }
        self.n_bytes += n_bytes;
        Ok(())
    }

    /// Nothing that begins here or later belongs to it.
    fn stop(&self) -> Pts {
        let longest = later(self.stretch.first().unwrap_or(self.plan.opened), self.plan.most);
        self.closed.map_or(longest, |closed| later(closed, self.plan.post_roll).min(longest))
    }

    /// A picture that can be had now, once.
    pub(super) fn take_closeup(&mut self) -> Option<Closeup> {
        self.closeup.take()
    }

    /// No more is to come.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.is_over || now >= self.deadline
    }
}

pub(super) fn later(pts: Pts, by: Duration) -> Pts {
    Pts::from_nanos(pts.nanos().saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
}
