//! A tap: the segments of one session, also for somebody who keeps them longer than the window does. Filled on ingest's
//! threads under the store's lock, emptied on the taker's; nobody waits. Must never hold more than it was given room for.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Arc, Weak},
};

use base::{
    media::{MediaSegment, SessionId},
    time::Pts,
};
use parking_lot::Mutex;

use super::store::end_of;

/// Segments on their way to their taker. Closed when it is dropped.
pub struct Tap(Arc<Shared>);

/// Why no more segments come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapEnd {
    /// The session is over, or the stream was detached; or what was asked for is there.
    Over,
    /// They were not taken soon enough, and there was no room for more.
    TooSlow,
}

/// Why there can be no tap, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoTap(pub String);

struct Shared {
    session: SessionId,
    span: Range<Pts>,
    most_bytes: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    segments: VecDeque<MediaSegment>,
    n_bytes: usize,
    end: Option<TapEnd>,
}

impl Tap {
    /// What has come since the last time, in the order of the stream, and whether that was all.
    pub fn take(&self) -> (Vec<MediaSegment>, Option<TapEnd>) {
        let mut state = self.0.state.lock();
        state.n_bytes = 0;
        (state.segments.drain(..).collect(), state.end)
    }
}

/// The taps of one stream. Dropping it ends them.
#[derive(Default)]
pub(super) struct Taps(Vec<Weak<Shared>>);

impl Taps {
    /// One more, for segments of `session` within `span`.
    pub(super) fn open(&mut self, session: SessionId, span: Range<Pts>, most_bytes: usize) -> Tap {
        let shared = Arc::new(Shared { session, span, most_bytes, state: Mutex::default() });
        self.0.retain(|tap| tap.strong_count() > 0);
        self.0.push(Arc::downgrade(&shared));
        Tap(shared)
    }

    /// A segment came; `last` is the session of the one before it.
    pub(super) fn offer(&mut self, segment: &MediaSegment, last: Option<&SessionId>) {
        self.0.retain(|tap| tap.upgrade().is_some_and(|tap| tap.offer(segment, last)));
    }

    /// No more come.
    pub(super) fn end(&mut self) {
        self.0.drain(..).filter_map(|tap| tap.upgrade()).for_each(|tap| tap.end(TapEnd::Over));
    }
}

impl Drop for Taps {
    fn drop(&mut self) {
        self.end();
    }
}

impl Tap {
    /// What the window still has.
    pub(super) fn fill<'a>(&self, kept: impl Iterator<Item = &'a MediaSegment>) {
        for segment in kept {
            self.0.offer(segment, None);
        }
    }
}

impl Shared {
    /// Takes it in if it belongs here; whether more is wanted.
    fn offer(&self, segment: &MediaSegment, last: Option<&SessionId>) -> bool {
        if segment.session != self.session {
            // Segments of another session may come from before this one.
            let is_over = last == Some(&self.session);
            if is_over {
                self.end(TapEnd::Over);
            }
            return !is_over;
        }
        if end_of(segment) <= self.span.start {
            return true;
        }
        if segment.start >= self.span.end {
            self.end(TapEnd::Over);
            return false;
        }
        let mut state = self.state.lock();
        if state.n_bytes + segment.bytes.len() > self.most_bytes && !state.segments.is_empty() {
            state.end = Some(TapEnd::TooSlow);
            return false;
        }
        state.n_bytes += segment.bytes.len();
        state.segments.push_back(segment.clone());
        true
    }

    fn end(&self, end: TapEnd) {
        self.state.lock().end.get_or_insert(end);
    }
}

#[cfg(test)]
mod tests {
    use base::{
        event::{Body, Event, Status, StreamState},
        media::{MediaDescription, SourceDescription, StreamInfo, StreamName},
        time::ManualClock,
    };

    use super::{
        super::{Captions, HlsConfig, HlsStore, window::samples::segment},
        *,
    };

    const MOST: usize = usize::MAX;

    /// From then on.
    fn from(ms: u64) -> Range<Pts> {
        Pts::from_millis(ms)..Pts::from_nanos(u64::MAX)
    }

    fn numbers(tap: &Tap) -> (Vec<u64>, Option<TapEnd>) {
        let (segments, end) = tap.take();
        (segments.iter().map(|s| s.number).collect(), end)
    }

    fn store() -> (Arc<HlsStore>, StreamName) {
        let store = HlsStore::new(HlsConfig { stream_bytes: 10_000, ..HlsConfig::default() }, ManualClock::new());
        let cam = StreamName::new("cam").expect("name");
        store.attach(&cam, Captions::Expected { language: None });
        (store, cam)
    }

    #[test]
    fn gives_what_was_and_what_comes() {
        let (store, cam) = store();
        (0..4).for_each(|n| store.segment(&cam, segment("a", n)));
        let a = segment("a", 0).session;
        // Segments of two seconds; also those that still wait for their captions.
        let tap = store.tap(&cam, &a, from(4500), MOST).expect("tap");
        assert_eq!(numbers(&tap), (vec![2, 3], None));
        store.segment(&cam, segment("a", 4));
        assert_eq!(numbers(&tap), (vec![4], None));
        store.segment(&cam, segment("a", 5));
        store.segment(&cam, segment("b", 0));
        store.segment(&cam, segment("b", 1));
        assert_eq!(numbers(&tap), (vec![5], Some(TapEnd::Over)));
        // As far as it was asked for, and no more than was asked for.
        let tap = store.tap(&cam, &a, Pts::from_millis(4500)..Pts::from_millis(8000), MOST).expect("tap");
        assert_eq!(numbers(&tap), (vec![2, 3], Some(TapEnd::Over)));
        let tap = store.tap(&cam, &a, from(4500), 2000).expect("tap");
        assert_eq!(numbers(&tap), (vec![2, 3], Some(TapEnd::TooSlow)));
        // Of a session that has not begun yet.
        let tap = store.tap(&cam, &segment("c", 0).session, from(0), MOST).expect("tap");
        store.segment(&cam, segment("b", 2));
        assert_eq!(numbers(&tap), (vec![], None));
        store.segment(&cam, segment("c", 0));
        store.detach(&cam);
        assert_eq!(numbers(&tap), (vec![0], Some(TapEnd::Over)));
        assert!(store.tap(&cam, &a, from(0), MOST).is_err_and(|e| e.0.contains("not attached")));
    }

    #[test]
    fn room_is_bounded_and_the_end_is_told() {
        let (store, cam) = store();
        let a = segment("a", 0).session;
        let tap = store.tap(&cam, &a, from(0), MOST).expect("tap");
        (0..50).for_each(|n| store.segment(&cam, segment("a", n)));
        assert_eq!(numbers(&tap), ((0..10).collect(), Some(TapEnd::TooSlow)));
        let tap = store.tap(&cam, &a, from(98_500), MOST).expect("tap");
        let info = Arc::new(StreamInfo { name: cam.clone(), tags: Default::default(), epoch: None });
        let status = |state, source| {
            let body = Body::Status(Status { state, detail: None, source });
            store.event(&Event::new(&info, &a, 0, Pts::ZERO, None, body));
        };
        status(StreamState::Interrupted, None);
        assert_eq!(numbers(&tap), (vec![49], None));
        status(StreamState::Stopped, None);
        assert_eq!(numbers(&tap), (vec![], Some(TapEnd::Over)));
        let video = MediaDescription { codec: "h265".into(), size: None };
        status(StreamState::Playing, Some(SourceDescription { video: Some(video), audio: None }));
        assert!(store.tap(&cam, &a, from(0), MOST).is_err_and(|e| e.0.contains("h265")));
    }
}
