//! Going on with a recording where an earlier run left it: holds the first media back until the source has been sought to
//! a little before that place, and says which pictures and samples are new.
//!
//! The gates run on GStreamer's streaming threads, [`step`] on the supervising thread. A gate must never hold a buffer while
//! the source flushes, nor let one through that lies before the flush.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use base::time::Pts;
use gstreamer::{self as gst, glib, prelude::*};
use parking_lot::Mutex;

use crate::session::Session;

/// Sought is so much before the place: what the sampling remembers of the pictures before it is the same again.
const RUN_UP: gst::ClockTime = gst::ClockTime::from_seconds(1);
/// A gate looks so often whether it may open.
const LOOK_AFTER: Duration = Duration::from_millis(5);

/// How a session begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// Where the source begins, or is.
    Anew,
    /// After this place, which is sought.
    Sought(Pts),
    /// After this place; everything before it is decoded and left out, for sources that cannot seek.
    Skipped(Pts),
}

#[derive(Debug)]
enum State {
    /// Held until the source was sought; with the pad on which media came first.
    Held(Option<glib::WeakRef<gst::Pad>>),
    /// Whatever comes is from before the flush.
    Seeking,
    Open,
}

/// What is to be done about a source that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing: it plays, or there is nothing yet.
    GoOn,
    /// The place lies behind the end.
    PastTheEnd,
    /// It must be opened anew, and played without seeking.
    CannotSeek,
}

/// One session's way to its first new media.
#[derive(Debug)]
pub(crate) struct Resume {
    state: Mutex<State>,
    /// The first stream time that is new, in milliseconds: the unit in which places travel, so that a picture whose time was
    /// rounded down on its way is known again. Zero: all are.
    from_ms: AtomicU64,
    /// The place itself, nanoseconds; zero where all is new.
    from: AtomicI64,
    /// The source knows how long it is: its own time is the same for everybody who plays it.
    finite: AtomicBool,
}

impl Resume {
    pub(crate) fn new(beginning: Beginning) -> Self {
        let place = match beginning {
            Beginning::Anew => None,
            Beginning::Sought(place) | Beginning::Skipped(place) => Some(place),
        };
        let held = matches!(beginning, Beginning::Sought(_));
        Self {
            state: Mutex::new(if held { State::Held(None) } else { State::Open }),
            from_ms: AtomicU64::new(place.map_or(0, |place| place.millis() + 1)),
            from: AtomicI64::new(place.map_or(0, |place| i64::try_from(place.nanos()).unwrap_or(i64::MAX))),
            finite: AtomicBool::new(false),
        }
    }

    /// The session goes on after a place, instead of beginning anew.
    pub(crate) fn is_resumed(&self) -> bool {
        self.from_ms.load(Relaxed) > 0
    }

    /// A later session could go on after a PTS of this one.
    pub(crate) fn is_resumable(&self) -> bool {
        self.finite.load(Relaxed)
    }

    /// Whether a picture at `pts` nanoseconds was seen in an earlier run.
    pub(crate) fn is_old(&self, pts: u64) -> bool {
        Pts::from_nanos(pts).millis() < self.from_ms.load(Relaxed)
    }

    /// Whether it is the very picture after which this session goes on.
    pub(crate) fn is_last_old(&self, pts: u64) -> bool {
        Pts::from_nanos(pts).millis() + 1 == self.from_ms.load(Relaxed)
    }

    /// Sound from before this stream time, nanoseconds, is old.
    pub(crate) fn sound_from(&self) -> i64 {
        self.from.load(Relaxed)
    }

    /// It is no recording: there is no way back.
    fn abandon(&self) {
        self.from_ms.store(0, Relaxed);
        self.from.store(0, Relaxed);
        *self.state.lock() = State::Open;
    }
}

/// Puts a gate before a track of a recording, before anything else sees its media.
pub(crate) fn gate(session: &Arc<Session>, pad: &gst::Pad) {
    if !session.may_be_resumed() {
        return;
    }
    let shared = Arc::clone(session);
    let (flushed, is_file) = (AtomicBool::new(false), session.troubles.kind.is_file());
    // What running time counts from before the flush, in the buffers' own time.
    let zero = AtomicI64::new(i64::MIN);
    let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST | gst::PadProbeType::EVENT_FLUSH;
    pad.add_probe(kinds, move |pad, info| {
        let resume = &shared.resume;
        if let Some(gst::PadProbeData::Event(event)) = &info.data {
            if event.type_() == gst::EventType::FlushStop && matches!(*resume.state.lock(), State::Seeking) {
                flushed.store(true, Relaxed);
            }
            return gst::PadProbeReturn::Ok;
        }
        if !flushed.load(Relaxed) {
            if let Some(start) = start_of(pad).filter(|_| zero.load(Relaxed) == i64::MIN) {
                zero.store(start.in_buffers, Relaxed);
            }
            shared.busy(|| hold(&shared, pad));
            if !matches!(*resume.state.lock(), State::Open) && !flushed.load(Relaxed) {
                return gst::PadProbeReturn::Drop;
            }
        }
        // From here on running time counts from the place that was sought.
        if let Some(start) = start_of(pad).filter(|_| flushed.load(Relaxed)) {
            let zero = zero.load(Relaxed);
            let by_buffers = zero != i64::MIN && is_transport_stream(pad);
            shared.timeline.begin_at(if by_buffers { start.in_buffers - zero } else { start.in_stream });
        }
        if is_file || pad.query_duration::<gst::ClockTime>().is_some() {
            resume.finite.store(true, Relaxed);
        }
        gst::PadProbeReturn::Remove
    });
}

/// Where running time is 0, nanoseconds.
struct Start {
    /// In the buffers' own time.
    in_buffers: i64,
    /// In stream time.
    in_stream: i64,
}

fn start_of(pad: &gst::Pad) -> Option<Start> {
    let event = pad.sticky_event::<gst::event::Segment>(0)?;
    let segment = event.segment().downcast_ref::<gst::ClockTime>()?;
    let nanos = |time: Option<gst::ClockTime>| time.map_or(0, |t| i64::try_from(t.nseconds()).unwrap_or(i64::MAX));
    let base = nanos(segment.base());
    Some(Start { in_buffers: nanos(segment.start()) - base, in_stream: nanos(segment.time()) - base })
}

/// GStreamer's `tsdemux` counts from the first picture while it plays from the beginning, but from the first clock reference
/// when it seeks; only the buffers' own time is the same. Not where a playlist (HLS) tells the time.
fn is_transport_stream(pad: &gst::Pad) -> bool {
    let parse = pad.parent_element().and_then(|element| element.downcast::<gst::Bin>().ok());
    let Some(parse) = parse else { return false };
    let is = |name: &str| parse.children().iter().any(|e| e.factory().is_some_and(|f| f.name().starts_with(name)));
    is("tsdemux") && !is("hlsdemux")
}

/// Waits until the supervising thread has made up its mind.
fn hold(session: &Session, pad: &gst::Pad) {
    loop {
        match &mut *session.resume.state.lock() {
            State::Held(first @ None) => *first = Some(pad.downgrade()),
            State::Held(_) => {}
            State::Seeking | State::Open => return,
        }
        if session.stop.wait_timeout(LOOK_AFTER) {
            return;
        }
    }
}

/// Seeks once the first media is held.
pub(crate) fn step(session: &Session) -> Step {
    let resume = &session.resume;
    let held = match &*resume.state.lock() {
        State::Held(Some(pad)) => pad.upgrade(),
        _ => None,
    };
    let Some(pad) = held else { return Step::GoOn };
    let duration = pad.query_duration::<gst::ClockTime>();
    let is_file = session.troubles.kind.is_file();
    if duration.is_none() && !is_file {
        resume.abandon();
        return Step::GoOn;
    }
    let place = gst::ClockTime::from_nseconds(resume.from.load(Relaxed).max(0).unsigned_abs());
    if duration.is_some_and(|duration| place >= duration) {
        return Step::PastTheEnd;
    }
    let target = place.saturating_sub(RUN_UP);
    if target.is_zero() {
        *resume.state.lock() = State::Open;
        return Step::GoOn;
    }
    let mut query = gst::query::Seeking::new(gst::Format::Time);
    if !pad.query(&mut query) || !query.result().0 {
        return Step::CannotSeek;
    }
    *resume.state.lock() = State::Seeking;
    let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE;
    let none = gst::ClockTime::NONE;
    let seek = gst::event::Seek::new(1.0, flags, gst::SeekType::Set, target, gst::SeekType::None, none);
    if !pad.send_event(seek) {
        return Step::CannotSeek;
    }
    // Tracks that were not there yet have nothing from before the flush; those that were have their own mark.
    *resume.state.lock() = State::Open;
    Step::GoOn
}
