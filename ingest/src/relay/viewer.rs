//! One who watches: a position among a relay's units, and what makes MP4 of them. Runs on the viewer's own thread. Must
//! never hold units back: a slow viewer goes on with the last keyframe.

use std::sync::Arc;

use base::{
    media::SessionId,
    time::{CaptureTime, Pts},
};
use bytes::Bytes;

use super::{Pictures, Relay, SECOND, State, Unit, order::Order};
use crate::{
    segment::{
        Aac, H264, Offsets,
        fmp4::{self, PICTURES, Run, SOUND, Sample},
    },
    timeline::Track,
};

/// Bytes that are made into one fragment at a time: more of them come with the next one.
const AT_ONCE: usize = 256 * 1024;
/// Clocks are told so far apart.
const CLOCK_EVERY: i64 = SECOND;

/// What a viewer gets, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// What follows begins anew: another session, other formats, another time. Fragments up to the next one belong to it.
    Init {
        /// The connection that it comes through.
        session: SessionId,
        /// With codecs, as in RFC 6381: `video/mp4; codecs="avc1.64001f,mp4a.40.2"`.
        mime: String,
        /// Size of the pictures in pixels; 0 where the source does not tell.
        size: (u32, u32),
        /// Whether there is a track of sound.
        has_audio: bool,
        /// The initialisation segment (ISO/IEC 14496-12): `ftyp` and `moov`.
        bytes: Bytes,
    },
    /// Pictures and sound: `moof` and `mdat`. Times are the stream's PTS in ticks of 90 kHz.
    Fragment(Bytes),
    /// When a picture was captured, about once a second.
    Clock {
        /// Of the picture.
        pts: Pts,
        /// What the source says.
        captured: CaptureTime,
    },
}

/// What there was to be taken.
#[derive(Debug, Default)]
pub struct Taken {
    /// In order.
    pub pieces: Vec<Piece>,
    /// There is more already: ask again at once.
    pub more: bool,
    /// Nothing will come any more; why, in words.
    pub over: Option<String>,
}

/// Watches a stream until it is dropped.
pub struct Viewer {
    relay: Arc<Relay>,
    id: u64,
    sound: bool,
    generation: u64,
    /// Number of the unit to look at next.
    at: u64,
    /// None before the first keyframe.
    muxer: Option<Muxer>,
    n_cuts: u64,
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.relay.leave(self.id);
    }
}

impl Viewer {
    pub(super) fn new(relay: Arc<Relay>, id: u64, sound: bool) -> Self {
        Self { relay, id, sound, generation: 0, at: 0, muxer: None, n_cuts: 0 }
    }

    /// How often it was too slow, and went on with a later keyframe.
    pub const fn n_cuts(&self) -> u64 {
        self.n_cuts
    }

    /// What has come since the last time. Never waits.
    pub fn take(&mut self) -> Taken {
        let mut taken = Taken::default();
        let relay = Arc::clone(&self.relay);
        let state = relay.0.lock();
        if self.muxer.is_none() || self.generation != state.generation {
            self.muxer = None;
            if let Some((muxer, init)) = state.beginning(self.sound)
                && let Some(at) = state.last_key()
            {
                (self.muxer, self.at, self.generation) = (Some(muxer), at, state.generation);
                taken.pieces.push(init);
            }
        }
        let Some(muxer) = &mut self.muxer else {
            taken.over = state.over.clone();
            return taken;
        };
        let end = state.begin + state.units.len() as u64;
        if self.at < state.begin {
            self.n_cuts += 1;
            self.at = state.last_key().unwrap_or(end);
            muxer.begin_anew();
        }
        let (mut units, mut n_bytes) = (Vec::new(), 0);
        while let Some(unit) = state.units.get((self.at - state.begin) as usize)
            && n_bytes < AT_ONCE
        {
            n_bytes += unit.buffer.size();
            units.push(Arc::clone(unit));
            self.at += 1;
        }
        taken.more = self.at < end;
        taken.over = state.over.clone().filter(|_| !taken.more);
        let (reorder, interval) = (state.reorder, state.interval());
        drop(state);
        muxer.mux(&units, reorder, interval, &mut taken.pieces);
        taken
    }
}

impl State {
    /// What a viewer begins with; none before all of that is known.
    fn beginning(&self, sound: bool) -> Option<(Muxer, Piece)> {
        let Pictures::Carried(h264, size) = &self.pictures else { return None };
        let (config, offsets) = (h264.config()?, self.offsets?);
        let sound = self.sound.as_ref().filter(|(_, track)| sound && !track.config.is_empty());
        let codecs = [h264.codec(), sound.map(|(aac, _)| aac.codec())];
        let codecs: Vec<String> = codecs.into_iter().flatten().collect();
        let init = Piece::Init {
            session: self.session.clone()?,
            mime: format!("video/mp4; codecs=\"{}\"", codecs.join(",")),
            size: *size,
            has_audio: sound.is_some(),
            bytes: fmp4::init(&config, *size, sound.map(|(_, track)| track)).into(),
        };
        Some((Muxer::new(h264.clone(), sound.map(|(aac, _)| aac.clone()), offsets), init))
    }
}

/// Makes fragments of units of one generation.
struct Muxer {
    h264: H264,
    aac: Option<Aac>,
    offsets: Offsets,
    sequence: u32,
    order: Order,
    /// Stream time of the keyframe that it began with, nanoseconds: what is shown before it cannot be decoded. None while
    /// it waits for one.
    begun: Option<i64>,
    /// The last frame of sound: it lasts until the next one, whenever that comes.
    held: Option<(u64, Vec<u8>)>,
    clock_told: Option<i64>,
}

impl Muxer {
    fn new(h264: H264, aac: Option<Aac>, offsets: Offsets) -> Self {
        Self { h264, aac, offsets, sequence: 0, order: Order::default(), begun: None, held: None, clock_told: None }
    }

    /// Units are left out: what comes goes on with a keyframe.
    fn begin_anew(&mut self) {
        (self.order, self.begun, self.held) = (Order::default(), None, None);
    }

    fn mux(&mut self, units: &[Arc<Unit>], reorder: usize, interval: i64, pieces: &mut Vec<Piece>) {
        let run = |track| Run { track, decode_time: 0, samples: Vec::new() };
        let (mut pictures, mut sounds) = (run(PICTURES), run(SOUND));
        let mut clock = None;
        for unit in units {
            let Ok(map) = unit.buffer.map_readable() else { continue };
            match unit.track {
                Track::Video => {
                    let pts = unit.running.saturating_add(self.offsets.video).max(0);
                    if self.begun.is_none() && unit.key {
                        self.begun = Some(pts);
                    }
                    let data = self.h264.sample(&map, unit.key);
                    if self.begun.is_none_or(|begun| pts < begun) || data.is_empty() {
                        continue;
                    }
                    let shown = ticks(pts);
                    let (decode, duration) = self.order.stamp(shown, reorder, ticks(interval));
                    if pictures.samples.is_empty() {
                        pictures.decode_time = decode;
                    }
                    let offset = shown as i64 - decode as i64;
                    let offset = i32::try_from(offset).unwrap_or_default();
                    pictures.samples.push(Sample { data, duration, offset, key: unit.key });
                    if let Some(captured) = unit.captured
                        && self.clock_told.is_none_or(|told| pts.abs_diff(told) >= CLOCK_EVERY as u64)
                    {
                        self.clock_told = Some(pts);
                        clock = Some(Piece::Clock { pts: Pts::from_nanos(pts as u64), captured });
                    }
                }
                Track::Audio => {
                    let pts = unit.running.saturating_add(self.offsets.audio);
                    let Some(aac) = self.aac.as_ref().filter(|_| self.begun.is_some_and(|begun| pts >= begun)) else {
                        continue;
                    };
                    let mut pts = ticks(pts);
                    if let Some((before, data)) = self.held.take() {
                        pts = pts.clamp(before + 1, before.saturating_add(u64::from(u32::MAX)));
                        if sounds.samples.is_empty() {
                            sounds.decode_time = before;
                        }
                        sounds.samples.push(Sample { data, duration: (pts - before) as u32, offset: 0, key: true });
                    }
                    self.held = Some((pts, aac.bare(&map).to_vec()));
                }
            }
        }
        self.sequence = self.sequence.wrapping_add(1);
        let fragment = fmp4::fragment(self.sequence, &[pictures, sounds]);
        if !fragment.is_empty() {
            pieces.push(Piece::Fragment(fragment.into()));
        }
        pieces.extend(clock);
    }
}

/// Nanoseconds in ticks of [`fmp4::TIMESCALE`].
fn ticks(nanos: i64) -> u64 {
    u64::try_from((i128::from(nanos) * 9 + 50_000).div_euclid(100_000)).unwrap_or(0)
}
