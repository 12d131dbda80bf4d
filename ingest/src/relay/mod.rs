//! The encoded media as they come, for whoever watches them now: a [`Relay`] a stream, filled on the tracks' streaming threads
//! between parser and decoder, emptied by any number of [`Viewer`]s on theirs. Units are held by reference and made into
//! MP4 by each viewer. Must never wait for a viewer, decode or encode, nor hold more than [`MOST_BYTES`]; what nobody
//! watches costs a reference to the units since the last keyframe.

mod order;
#[cfg(test)]
mod tests;
mod viewer;

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use base::{
    media::{SessionId, SourceDescription},
    time::CaptureTime,
};
use gstreamer::{self as gst, prelude::*};
use parking_lot::Mutex;

pub use self::viewer::{Piece, Taken, Viewer};
use crate::{
    segment::{Aac, H264, Offsets, SoundTrack},
    session::Session,
    timeline::{Timeline, Track},
    video::running_time,
};

/// Of one stream; the oldest go first.
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// While somebody watches, whole groups of pictures of so long are kept, so that a viewer may be a little late.
const KEPT: i64 = 4 * SECOND;
/// A picture that comes so much earlier than the one before is a jump of the source's clock. One that comes later is one where
/// the decoders' side takes it for one: see [`Timeline::lead`].
const STEP_BACK: i64 = SECOND / 2;
/// After a jump the decoders' side settles the stream's time anew, a moment later.
const UNSETTLED: i64 = SECOND;
/// Sound wakes viewers when so much of it has come without a picture.
const SOUND_ALONE: i64 = SECOND / 10;
/// Pictures that are looked at to learn their order.
const N_RECENT: usize = 16;
const SECOND: i64 = 1_000_000_000;

/// Whether a stream can be watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It plays, and can be carried.
    Ready,
    /// It does not play yet, or not now.
    NotYet,
    /// It can never be carried as its source is now; why, in words.
    Unfit(String),
    /// It is over; why, in words.
    Over(String),
}

/// Wakes a viewer that waits. Called on streaming threads, under the relay's lock: must be quick, and not call back.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// One stream's live media.
#[derive(Default)]
pub struct Relay(Mutex<State>);

/// One picture or frame of sound, as the parser gave it out.
struct Unit {
    track: Track,
    key: bool,
    /// GStreamer's running time, nanoseconds.
    running: i64,
    captured: Option<CaptureTime>,
    buffer: gst::Buffer,
}

#[derive(Default)]
enum Pictures {
    /// No caps yet.
    #[default]
    Unknown,
    /// They can be carried; size in pixels.
    Carried(H264, (u32, u32)),
    /// They cannot: why, in words.
    Unfit(String),
}

#[derive(Default)]
struct State {
    session: Option<SessionId>,
    /// Grows when viewers have to begin anew: another session, format or time.
    generation: u64,
    pictures: Pictures,
    sound: Option<(Aac, SoundTrack)>,
    /// The newest is the last.
    units: VecDeque<Arc<Unit>>,
    /// Number of the first of `units`; units are counted on and on.
    begin: u64,
    n_bytes: usize,
    /// How running times become stream times; none while nobody knows.
    offsets: Option<Offsets>,
    /// The offsets are not believed before this running time.
    unsettled_until: Option<i64>,
    /// Running time of the last picture, and when it came (monotonic).
    last_picture: Option<(i64, Duration)>,
    /// Running times of the last pictures, in the order in which they came.
    recent: VecDeque<i64>,
    /// Most pictures that came before one that is shown before them.
    reorder: usize,
    woken_at: i64,
    viewers: Vec<(u64, Wake)>,
    n_viewers_ever: u64,
    over: Option<String>,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Relay({} viewers)", self.n_viewers())
    }
}

impl Relay {
    /// Of a stream that has not begun yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Whether it can be watched.
    pub fn readiness(&self) -> Readiness {
        let state = self.0.lock();
        match (&state.over, &state.pictures) {
            (Some(why), _) => Readiness::Over(why.clone()),
            (None, Pictures::Unknown) => Readiness::NotYet,
            (None, Pictures::Unfit(why)) => Readiness::Unfit(why.clone()),
            (None, Pictures::Carried(..)) if state.offsets.is_none() => Readiness::NotYet,
            (None, Pictures::Carried(..)) => Readiness::Ready,
        }
    }

    /// Somebody watches, with sound where there is any and it is `wanted`. Begins with the last keyframe.
    pub fn watch(self: &Arc<Self>, sound: bool, wake: Wake) -> Viewer {
        let mut state = self.0.lock();
        state.n_viewers_ever += 1;
        let id = state.n_viewers_ever;
        state.viewers.push((id, wake));
        drop(state);
        Viewer::new(Arc::clone(self), id, sound)
    }

    /// Viewers now.
    pub fn n_viewers(&self) -> usize {
        self.0.lock().viewers.len()
    }

    /// A session begins.
    pub(crate) fn begin(&self, session: &SessionId) {
        let mut state = self.0.lock();
        state.anew();
        state.session = Some(session.clone());
        (state.pictures, state.sound) = (Pictures::Unknown, None);
        (state.last_picture, state.unsettled_until, state.reorder) = (None, None, 0);
    }

    /// A session plays.
    pub(crate) fn playing(&self, source: &SourceDescription) {
        let mut state = self.0.lock();
        if source.video.is_none() && matches!(state.pictures, Pictures::Unknown) {
            let why =
                "it has no pictures, or they are not fetched because nobody looks at them and `hls.enabled` is false";
            state.pictures = Pictures::Unfit(why.into());
        }
        state.wake();
    }

    /// The stream is over: viewers get what is there, then this.
    pub(crate) fn close(&self, why: &str) {
        let mut state = self.0.lock();
        state.over.get_or_insert_with(|| why.to_owned());
        state.wake();
    }

    fn leave(&self, viewer: u64) {
        self.0.lock().viewers.retain(|(id, _)| *id != viewer);
    }
}

/// Taps a parsed track. Before all other probes on the pad, which may leave pictures out.
pub(crate) fn tap(session: &Arc<Session>, pad: &gst::Pad, track: Track) {
    let Some(relay) = &session.options.relay else { return };
    let shared: Weak<Session> = Arc::downgrade(session);
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
        let Some(session) = shared.upgrade() else { return gst::PadProbeReturn::Ok };
        let Some(relay) = &session.options.relay else { return gst::PadProbeReturn::Ok };
        match &info.data {
            Some(gst::PadProbeData::Event(event)) => {
                if let gst::EventView::Caps(caps) = event.view() {
                    relay.0.lock().format(track, caps.caps());
                }
            }
            Some(gst::PadProbeData::Buffer(buffer)) => relay.take(&session, track, pad, buffer),
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
    if let Some(caps) = pad.current_caps() {
        relay.0.lock().format(track, &caps);
    }
}

impl Relay {
    fn take(&self, session: &Session, track: Track, pad: &gst::Pad, buffer: &gst::Buffer) {
        let (Some(running), Ok(map)) = (running_time(pad, buffer.pts()), buffer.map_readable()) else { return };
        let offsets = session.offsets();
        let mut state = self.0.lock();
        let key = track == Track::Video && !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let wanted = match track {
            Track::Video => state.picture((running, session.clock.monotonic()), &session.timeline, key, &map),
            Track::Audio => state.frame_of_sound(&map),
        };
        drop(map);
        if !wanted {
            return;
        }
        let watched = track == Track::Video && !state.viewers.is_empty();
        let captured = watched.then(|| {
            let pts = running.saturating_add(session.timeline.offset(track).unwrap_or(0)).max(0) as u64;
            session.captures.of(track, buffer.pts().map(|p| p.nseconds()), pts, session.clock.wall())
        });
        let unit = Unit { track, key, running, captured: captured.flatten(), buffer: buffer.clone() };
        state.push(unit);
        state.settle(offsets, running);
        if track == Track::Video || (running - state.woken_at).abs() >= SOUND_ALONE {
            state.woken_at = running;
            state.wake();
        }
    }
}

impl State {
    fn wake(&self) {
        self.viewers.iter().for_each(|(_, wake)| wake());
    }

    /// What comes does not go on from what was.
    fn anew(&mut self) {
        self.generation += 1;
        self.begin += self.units.len() as u64;
        self.units.clear();
        self.n_bytes = 0;
        self.offsets = None;
        self.recent.clear();
    }

    fn format(&mut self, track: Track, caps: &gst::CapsRef) {
        let Some(media) = caps.structure(0) else { return };
        let number = |name| media.get::<i32>(name).ok().and_then(|n| u32::try_from(n).ok());
        match track {
            Track::Video => {
                let size = number("width").zip(number("height")).unwrap_or_default();
                let new = H264::from_caps(media);
                if let (Pictures::Carried(old, old_size), Ok(new)) = (&self.pictures, &new)
                    && *old_size == size
                    && old.covers(new)
                {
                    return;
                }
                self.anew();
                self.pictures = match new {
                    Ok(h264) => Pictures::Carried(h264, size),
                    Err(cause) => Pictures::Unfit(cause.to_owned()),
                };
            }
            Track::Audio => {
                let sound = Aac::from_caps(media).ok().zip(number("rate")).map(|(aac, rate)| {
                    let channels = number("channels").and_then(|n| u16::try_from(n).ok()).unwrap_or(1);
                    (aac, SoundTrack { config: Vec::new(), rate, channels })
                });
                let known = |sound: &Option<(Aac, SoundTrack)>| {
                    sound.as_ref().map(|(aac, track)| (aac.codec(), track.rate, track.channels))
                };
                if known(&sound) == known(&self.sound) {
                    return;
                }
                if self.sound.is_some() {
                    self.anew();
                }
                self.sound = sound;
                self.sound_is_known();
            }
        }
    }

    /// Viewers that began without sound begin anew with it.
    fn sound_is_known(&mut self) {
        if let Some((aac, track)) = &mut self.sound
            && let Some(config) = aac.config()
        {
            track.config = config.to_vec();
            self.generation += 1;
        }
    }

    /// A picture comes, now; whether it is of any use.
    fn picture(&mut self, (running, now): (i64, Duration), timeline: &Timeline, key: bool, unit: &[u8]) -> bool {
        let Pictures::Carried(h264, _) = &mut self.pictures else { return false };
        let changed = key && h264.learn(unit);
        let jumped = self.last_picture.replace((running, now)).is_some_and(|(last, came)| {
            let lead = timeline.lead(now.saturating_sub(came));
            running < last.saturating_sub(STEP_BACK) || running > last.saturating_add(lead)
        });
        if changed || jumped {
            self.anew();
        }
        if jumped {
            self.unsettled_until = Some(running.saturating_add(UNSETTLED));
        }
        // An instant decoder refresh (or any keyframe) is shown after all that came before it.
        if key {
            self.recent.clear();
            self.trim();
        }
        let n_later = self.recent.iter().filter(|other| **other > running).count();
        self.reorder = self.reorder.max(n_later);
        if self.recent.len() == N_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(running);
        key || !self.units.is_empty()
    }

    /// A frame of sound comes; whether it is of any use.
    fn frame_of_sound(&mut self, frame: &[u8]) -> bool {
        let Some((aac, track)) = &mut self.sound else { return false };
        if track.config.is_empty() {
            aac.learn(frame);
            self.sound_is_known();
        }
        // There is nothing that it could be the sound of before the first picture.
        !self.units.is_empty()
    }

    /// A keyframe comes: what was before it is only of use to those who are a little late.
    fn trim(&mut self) {
        if self.viewers.is_empty() {
            self.begin += self.units.len() as u64;
            self.units.clear();
            self.n_bytes = 0;
            return;
        }
        let newest = self.units.back().map_or(0, |unit| unit.running);
        while let Some(next) = self.units.iter().skip(1).position(|unit| unit.key)
            && self.units.get(next + 1).is_some_and(|unit| unit.running < newest.saturating_sub(KEPT))
        {
            (0..=next).for_each(|_| self.drop_oldest());
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(unit) = self.units.pop_front() {
            self.n_bytes -= unit.buffer.size();
            self.begin += 1;
        }
    }

    fn push(&mut self, unit: Unit) {
        self.n_bytes += unit.buffer.size();
        self.units.push_back(Arc::new(unit));
        while self.n_bytes > MOST_BYTES && self.units.len() > 1 {
            self.drop_oldest();
        }
    }

    /// Takes over how running times become stream times.
    fn settle(&mut self, now: Option<Offsets>, running: i64) {
        if self.unsettled_until.is_some_and(|until| running < until) {
            return;
        }
        self.unsettled_until = None;
        match (self.offsets, now) {
            (None, now) => self.offsets = now,
            (Some(before), Some(now)) if before != now => {
                self.anew();
                self.unsettled_until = Some(running.saturating_add(UNSETTLED));
            }
            _ => {}
        }
    }

    /// Nanoseconds from picture to picture, as they came lately.
    fn interval(&self) -> i64 {
        let (first, last) = (self.recent.iter().min(), self.recent.iter().max());
        match (first, last, i64::try_from(self.recent.len())) {
            (Some(first), Some(last), Ok(n)) if n > 1 => (last - first) / (n - 1),
            _ => SECOND / 25,
        }
    }

    /// Number of the last keyframe.
    fn last_key(&self) -> Option<u64> {
        let place = self.units.iter().rposition(|unit| unit.key)?;
        Some(self.begin + place as u64)
    }
}
