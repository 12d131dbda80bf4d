//! The encoded media, cut on keyframes into segments of a transport stream for players. Runs on the tracks' streaming
//! threads, between parser and decoder: each unit is copied once, there is no queue and no waiting, so that neither side
//! can hold the other up. Must never decode or encode, nor keep more than [`MAX_BYTES`] of a segment.

mod aac;
pub(crate) mod fmp4;
mod h264;
mod ts;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use base::{
    media::{MediaSegment, SessionId},
    time::{CaptureTime, Pts},
};
use gstreamer::{self as gst, prelude::*};
use parking_lot::Mutex;

use self::ts::Writer;
pub(crate) use self::{aac::Aac, fmp4::SoundTrack, h264::H264};
use crate::{config::SegmentOptions, session::Session, timeline::Track, video::running_time};

/// A segment without another keyframe is cut at so many bytes or after so long, wherever that is.
const MAX_BYTES: usize = 32 * 1024 * 1024;
const MAX_LENGTH: i64 = 20 * SECOND;
/// A keyframe ends the segment when so much of the target length has passed: one that comes a little early will do.
const ENOUGH: f64 = 0.75;
/// The sound of a segment may come so much later than its pictures.
const SOUND_PATIENCE: i64 = SECOND;
/// Pictures further apart, in the order of decoding, are a jump of the source's clock, or many are lost.
const JUMP: i64 = 5 * SECOND;
const SECOND: i64 = 1_000_000_000;

/// A picture in Annex B.
struct Picture {
    /// GStreamer's running time, nanoseconds.
    running: i64,
    key: bool,
    captured: Option<CaptureTime>,
    unit: Vec<u8>,
}

/// A frame of sound with its header.
struct Sound {
    running: i64,
    frame: Vec<u8>,
}

/// What a parsed track turned out to be.
enum Format<T> {
    /// No caps yet.
    Unknown,
    /// It can be carried.
    Carried(T),
    /// It cannot.
    Unfit,
}

/// Times of the session that the decoders' side settles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offsets {
    /// PTS minus running time of the pictures, nanoseconds.
    pub video: i64,
    /// The same of the sound.
    pub audio: i64,
}

/// One session's segments.
pub(crate) struct Segmenter {
    state: Mutex<Open>,
}

/// The open segment, and the closed ones that still wait for their sound, or for the session to play.
struct Open {
    target: i64,
    video: Format<H264>,
    size: Option<(u32, u32)>,
    audio: Format<Aac>,
    pictures: Vec<Picture>,
    n_bytes: usize,
    sounds: VecDeque<Sound>,
    n_sound_bytes: usize,
    closed: VecDeque<Closed>,
    writer: Writer,
    number: u64,
    /// What comes next does not go on from what was handed on.
    broken: bool,
    /// How much later than decoded pictures are shown, ticks: grows to what the stream needs.
    reorder: u64,
    last_dts: u64,
}

/// Pictures of a segment that gets no more of them.
struct Closed {
    pictures: Vec<Picture>,
    n_bytes: usize,
    /// Where it ends when nothing goes on from it: running time, nanoseconds.
    end: Option<i64>,
    codec: String,
    size: Option<(u32, u32)>,
    broken: bool,
}

impl Segmenter {
    pub(crate) fn new(options: SegmentOptions) -> Self {
        let state = Open {
            target: i64::try_from(options.target.as_nanos()).unwrap_or(i64::MAX).max(1),
            video: Format::Unknown,
            size: None,
            audio: Format::Unknown,
            pictures: Vec::new(),
            n_bytes: 0,
            sounds: VecDeque::new(),
            n_sound_bytes: 0,
            closed: VecDeque::new(),
            writer: Writer::default(),
            number: 0,
            broken: false,
            reorder: 0,
            last_dts: 0,
        };
        Self { state: Mutex::new(state) }
    }
}

/// Taps a parsed track. Before all other probes on the pad, which may leave pictures out.
pub(crate) fn tap(session: &Arc<Session>, pad: &gst::Pad, track: Track) {
    if session.segmenter.is_none() {
        return;
    }
    let shared = Arc::clone(session);
    pad.add_probe(gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
        let Some(segmenter) = &shared.segmenter else { return gst::PadProbeReturn::Ok };
        match &info.data {
            Some(gst::PadProbeData::Event(event)) => {
                if let gst::EventView::Caps(caps) = event.view() {
                    segmenter.state.lock().format(&shared, track, caps.caps());
                }
            }
            Some(gst::PadProbeData::Buffer(buffer)) => segmenter.take(&shared, track, pad, buffer),
            _ => {}
        }
        gst::PadProbeReturn::Ok
    });
    if let (Some(segmenter), Some(caps)) = (&session.segmenter, pad.current_caps()) {
        segmenter.state.lock().format(session, track, &caps);
    }
}

impl Segmenter {
    fn take(&self, session: &Session, track: Track, pad: &gst::Pad, buffer: &gst::BufferRef) {
        let mut state = self.state.lock();
        let fits = match track {
            Track::Video => matches!(state.video, Format::Carried(_)),
            Track::Audio => matches!(state.audio, Format::Carried(_)) && matches!(state.video, Format::Carried(_)),
        };
        let (true, Some(running), Ok(map)) = (fits, running_time(pad, buffer.pts()), buffer.map_readable()) else {
            return;
        };
        match track {
            Track::Audio => state.sound(running, &map),
            Track::Video => {
                let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
                let offset = session.timeline.offset(Track::Video).unwrap_or(0);
                let pts = running.saturating_add(offset).max(0) as u64;
                let raw = buffer.pts().map(|p| p.nseconds());
                let captured = || session.captures.of(Track::Video, raw, pts, session.clock.wall());
                state.picture(running, key, &map, captured);
            }
        }
        state.hand_on(session, false);
    }

    /// The session is over: hands on what there is.
    pub(crate) fn flush(&self, session: &Session) {
        let mut state = self.state.lock();
        state.close(None);
        state.hand_on(session, true);
    }
}

impl Open {
    fn format(&mut self, session: &Session, track: Track, caps: &gst::CapsRef) {
        let Some(media) = caps.structure(0) else { return };
        let name = &session.options.info.name;
        match track {
            Track::Video => {
                let side = |side| media.get::<i32>(side).ok().and_then(|n| u32::try_from(n).ok());
                let size = side("width").zip(side("height"));
                let video = H264::from_caps(media);
                if let (Format::Carried(old), Ok(new)) = (&self.video, &video)
                    && size == self.size
                    && old.covers(new)
                {
                    return;
                }
                // What is open belongs to the old ones.
                self.close(None);
                self.size = size;
                self.video = match video {
                    Ok(h264) => Format::Carried(h264),
                    Err(cause) => {
                        tracing::info!(stream = %name, "no segments for players: {cause}");
                        Format::Unfit
                    }
                };
            }
            Track::Audio => {
                self.audio = match Aac::from_caps(media) {
                    Ok(aac) => Format::Carried(aac),
                    Err(cause) => {
                        tracing::info!(stream = %name, "segments for players have no sound: {cause}");
                        Format::Unfit
                    }
                };
            }
        }
    }

    fn picture(&mut self, running: i64, key: bool, unit: &[u8], captured: impl FnOnce() -> Option<CaptureTime>) {
        let Format::Carried(h264) = &mut self.video else { return };
        let before = if key { h264.codec() } else { None };
        let made = h264.picture(unit, key);
        if let Some(last) = self.pictures.last()
            && running.abs_diff(last.running) > JUMP as u64
        {
            self.close(before.clone());
        }
        // A damaged one spoils those that need it as well, which the decoder tells of.
        let Some((unit, changed)) = made else { return };
        if let Some(first) = self.pictures.first() {
            let elapsed = running - first.running;
            if key && changed {
                self.close(before);
            } else if key && elapsed as f64 >= self.target as f64 * ENOUGH
                || self.n_bytes + unit.len() > MAX_BYTES
                || elapsed > MAX_LENGTH
            {
                self.cut(None, None);
                self.push(Picture { running, key, captured: captured(), unit });
                return;
            }
        }
        if self.pictures.is_empty() {
            if key {
                self.push(Picture { running, key, captured: captured(), unit });
            }
            return;
        }
        self.push(Picture { running, key, captured: None, unit });
    }

    fn push(&mut self, picture: Picture) {
        self.n_bytes += picture.unit.len();
        self.pictures.push(picture);
    }

    fn sound(&mut self, running: i64, frame: &[u8]) {
        let Format::Carried(aac) = &self.audio else { return };
        // Before the first picture there is nothing that it could be the sound of.
        let none_yet = self.pictures.is_empty() && self.closed.is_empty();
        if let Some(frame) = aac.frame(frame) {
            self.n_sound_bytes += frame.len();
            self.sounds.push_back(Sound { running, frame });
        }
        while self.n_sound_bytes > MAX_BYTES || none_yet && self.sounds.len() > 1000 {
            let Some(sound) = self.sounds.pop_front() else { break };
            self.n_sound_bytes -= sound.frame.len();
        }
    }

    /// Ends the open segment where its last picture ends: what comes does not go on from it.
    fn close(&mut self, codec: Option<String>) {
        let end = self.pictures.iter().map(|p| p.running).max().map(|last| last + interval(&self.pictures));
        let any = end.is_some() || self.number > 0;
        self.cut(end, codec);
        self.broken |= any;
    }

    /// Ends the open segment.
    fn cut(&mut self, end: Option<i64>, codec: Option<String>) {
        if self.pictures.is_empty() {
            return;
        }
        let codec = codec.or_else(|| match &self.video {
            Format::Carried(h264) => h264.codec(),
            _ => None,
        });
        let pictures = std::mem::take(&mut self.pictures);
        self.closed.push_back(Closed {
            pictures,
            n_bytes: std::mem::take(&mut self.n_bytes),
            end,
            codec: codec.unwrap_or_default(),
            size: self.size,
            broken: std::mem::take(&mut self.broken),
        });
    }

    /// Where the first closed segment ends, once all its media is there: running time, nanoseconds. `over`: nothing more
    /// comes.
    fn ready(&self, over: bool) -> Option<i64> {
        let closed = self.closed.front()?;
        let next = self.closed.get(1).map_or(&self.pictures, |c| &c.pictures);
        let end = match closed.end {
            Some(end) => end,
            None => {
                let key = next.first()?.running;
                // Pictures after a keyframe may be shown before it; they come before any that is shown after it.
                let all = over || self.closed.len() > 1 || next.iter().any(|p| p.running > key);
                all.then(|| next.iter().map(|p| p.running).min())??
            }
        };
        let heard = match &self.audio {
            Format::Carried(_) => self.sounds.back().is_some_and(|s| s.running >= end),
            _ => true,
        };
        let newest = self.pictures.last().or_else(|| self.closed.back()?.pictures.last());
        let late = newest.is_some_and(|p| p.running >= end.saturating_add(SOUND_PATIENCE));
        (over || closed.end.is_some() || heard || late).then_some(end)
    }

    fn hand_on(&mut self, session: &Session, over: bool) {
        while let Some(end) = self.ready(over)
            // Without a picture or sound decoded, nobody knows the stream's time yet.
            && let Some(offsets) = session.offsets()
            && let Some(closed) = self.closed.pop_front()
        {
            if let Some(segment) = self.mux(&session.id, closed, end, offsets) {
                session.consumer.segment(segment);
            }
        }
        let mut n_bytes = self.closed.iter().map(|c| c.n_bytes).sum::<usize>();
        while n_bytes > MAX_BYTES
            && let Some(lost) = self.closed.pop_front()
        {
            tracing::warn!(stream = %session.options.info.name, "a segment for players is lost: nothing of its time was decoded");
            n_bytes -= lost.n_bytes;
            match self.closed.front_mut() {
                Some(next) => next.broken = true,
                None => self.broken = true,
            }
        }
    }

    fn mux(&mut self, session: &SessionId, closed: Closed, end: i64, offsets: Offsets) -> Option<MediaSegment> {
        let pts = |running: i64| running.saturating_add(offsets.video);
        let mut shown: Vec<i64> = closed.pictures.iter().map(|p| p.running).collect();
        shown.sort_unstable();
        let first = *shown.first()?;
        let times: Vec<(u64, u64)> =
            closed.pictures.iter().zip(&shown).map(|(p, shown)| (ticks(pts(p.running)), ticks(pts(*shown)))).collect();
        // In the order of decoding, picture n is decoded when the n-th one is shown, less the most that any needs.
        self.reorder = times.iter().map(|(pts, nth)| nth.saturating_sub(*pts)).max()?.max(self.reorder);
        if closed.broken {
            self.last_dts = 0;
        }
        let mut sounds = Vec::new();
        while self.sounds.front().is_some_and(|s| s.running < end) {
            let Some(sound) = self.sounds.pop_front() else { break };
            self.n_sound_bytes -= sound.frame.len();
            // Sound of before the first picture has no place; what only came late has.
            if !(closed.broken || self.number == 0) || sound.running >= first {
                sounds.push(sound);
            }
        }
        let audio = match &self.audio {
            Format::Carried(aac) if !sounds.is_empty() => Some(aac.codec()),
            _ => None,
        };
        let n_bytes = closed.n_bytes + sounds.iter().map(|s| s.frame.len() + 100).sum::<usize>();
        self.writer.begin(n_bytes, audio.is_some());
        let mut sounds = sounds.into_iter().peekable();
        for (picture, (pts, nth)) in closed.pictures.iter().zip(&times) {
            let dts = nth.saturating_sub(self.reorder).max(self.last_dts + 1).min(*pts);
            self.last_dts = dts;
            while let Some(sound) = sounds.next_if(|s| ticks(s.running.saturating_add(offsets.audio)) <= dts) {
                self.writer.sound(&sound.frame, ticks(sound.running.saturating_add(offsets.audio)));
            }
            self.writer.picture(&picture.unit, *pts, dts, picture.key);
        }
        for sound in sounds {
            self.writer.sound(&sound.frame, ticks(sound.running.saturating_add(offsets.audio)));
        }
        let number = self.number;
        self.number += 1;
        Some(MediaSegment {
            session: session.clone(),
            number,
            start: Pts::from_nanos(pts(first).max(0) as u64),
            duration: Duration::from_nanos(end.saturating_sub(first).max(0) as u64),
            captured: closed.pictures.first()?.captured,
            mpegts: ticks(pts(first)) & ((1 << 33) - 1),
            bytes: self.writer.finish().into(),
            discontinuity: closed.broken,
            codecs: [Some(closed.codec), audio].into_iter().flatten().collect::<Vec<_>>().join(","),
            size: closed.size,
        })
    }
}

/// Stream time in ticks of 90 kHz, beginning at [`MediaSegment::MPEGTS_AT_ZERO`].
fn ticks(pts: i64) -> u64 {
    let ticks = (i128::from(pts) * 9 + 50_000).div_euclid(100_000) + i128::from(MediaSegment::MPEGTS_AT_ZERO);
    u64::try_from(ticks).unwrap_or(0)
}

/// The usual time from picture to picture, nanoseconds.
fn interval(pictures: &[Picture]) -> i64 {
    let (mut first, mut last) = (i64::MAX, i64::MIN);
    for picture in pictures {
        (first, last) = (first.min(picture.running), last.max(picture.running));
    }
    match i64::try_from(pictures.len()) {
        Ok(n) if n > 1 => (last - first) / (n - 1),
        _ => SECOND / 25,
    }
}
