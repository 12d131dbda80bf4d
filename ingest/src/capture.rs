//! When media was captured, and how far that can be trusted: the camera's own clock, a date in the media, or its arrival.
//! Runs on the tracks' streaming threads. Must never take a clock that was never set for a capture time.

use std::collections::VecDeque;

use base::time::{CaptureTime, ClockQuality, Timestamp};
use gstreamer as gst;
use parking_lot::Mutex;

use crate::timeline::Track;

/// Seconds from the NTP epoch (1900) to the Unix epoch (RFC 5905, section 6).
const NTP_TO_UNIX_SECS: i64 = 2_208_988_800;
/// Capture times before 2000 or after 2100 come from clocks that nobody set.
const PLAUSIBLE_SECS: std::ops::Range<i64> = 946_684_800..4_102_444_800;
/// Pictures or sound packets whose camera time is remembered while they are in the decoder.
const N_REMEMBERED: usize = 256;

/// Camera time of one packet.
#[derive(Debug, Clone, Copy)]
struct Reference {
    /// The buffer's PTS, nanoseconds.
    pts: u64,
    /// Unix nanoseconds.
    at: i128,
}

/// What one session knows about capture times.
#[derive(Debug)]
pub(crate) struct Captures {
    arrival_counts: bool,
    container: Mutex<Option<Timestamp>>,
    references: [Mutex<VecDeque<Reference>>; 2],
}

impl Captures {
    /// `arrival_counts`: whether the arrival stands in where the source says nothing (live), or nothing does (batch).
    pub(crate) fn new(arrival_counts: bool) -> Self {
        Self { arrival_counts, container: Mutex::new(None), references: Default::default() }
    }

    /// Learns the camera's clock from a packet as it leaves the jitter buffer, which marks it once a sender report told
    /// the relation of RTP time and NTP time (RFC 3550, section 6.4.1).
    pub(crate) fn learn_packet(&self, track: Track, buffer: &gst::BufferRef) {
        let Some(pts) = buffer.pts() else { return };
        let meta = buffer
            .iter_meta::<gst::ReferenceTimestampMeta>()
            .find(|m| m.reference().structure(0).is_some_and(|s| s.name() == "timestamp/x-ntp"));
        let Some(meta) = meta else { return };
        let at = i128::from(meta.timestamp().nseconds()) - i128::from(NTP_TO_UNIX_SECS) * 1_000_000_000;
        if !PLAUSIBLE_SECS.contains(&((at / 1_000_000_000) as i64)) {
            return;
        }
        let mut known = self.references[track as usize].lock();
        let pts = pts.nseconds();
        if known.back().is_none_or(|last| last.pts != pts) {
            if known.len() == N_REMEMBERED {
                known.pop_front();
            }
            known.push_back(Reference { pts, at });
        }
    }

    /// Learns the date at which a recording begins, from its tags (MP4 `mvhd` creation time, Matroska `DateUTC`).
    pub(crate) fn learn_tags(&self, tags: &gst::TagListRef) {
        let Some(date) = tags.get::<gst::tags::DateTime>() else { return };
        let Ok(text) = date.get().to_iso8601_string() else { return };
        let Ok(at) = text.parse::<Timestamp>() else { return };
        if PLAUSIBLE_SECS.contains(&at.as_second()) {
            self.container.lock().get_or_insert(at);
        }
    }

    /// The capture time of media with this raw `buffer_pts` and this PTS, which came at `arrival`.
    pub(crate) fn of(
        &self,
        track: Track,
        buffer_pts: Option<u64>,
        pts_nanos: u64,
        arrival: Timestamp,
    ) -> Option<CaptureTime> {
        let found = buffer_pts.and_then(|pts| self.by_camera(track, pts)).map(|at| (at, ClockQuality::Ntp));
        let found = found.or_else(|| {
            let date = (*self.container.lock())?;
            let at = Timestamp::from_nanosecond(date.as_nanosecond() + i128::from(pts_nanos)).ok()?;
            Some((at, ClockQuality::Container))
        });
        let found = found.or_else(|| self.arrival_counts.then_some((arrival, ClockQuality::Arrival)));
        found.map(|(at, quality)| CaptureTime { at, quality })
    }

    /// By the packet with just this PTS, or else by the nearest one before it. Not by a later one: with the first sender
    /// reports the jitter buffer shifts the tracks against each other, and what came before belongs to the old clock.
    fn by_camera(&self, track: Track, pts: u64) -> Option<Timestamp> {
        let known = self.references[track as usize].lock();
        let reference = known.iter().rev().find(|r| r.pts <= pts)?;
        Timestamp::from_nanosecond(reference.at + i128::from(pts) - i128::from(reference.pts)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARRIVAL: Timestamp = Timestamp::UNIX_EPOCH;

    fn packet(pts_ms: u64, unix_ms: i64) -> gst::Buffer {
        let mut buffer = gst::Buffer::new();
        let at = gst::ClockTime::from_mseconds((unix_ms + NTP_TO_UNIX_SECS * 1000) as u64);
        let inner = buffer.get_mut().expect("own buffer");
        inner.set_pts(gst::ClockTime::from_mseconds(pts_ms));
        let reference = gst::Caps::builder("timestamp/x-ntp").build();
        gst::ReferenceTimestampMeta::add(inner, &reference, at, gst::ClockTime::NONE);
        buffer
    }

    #[test]
    fn best_clock_wins() {
        crate::init().expect("gstreamer");
        let captures = Captures::new(true);
        let of = |c: &Captures, pts_ms: u64| {
            let t = c.of(Track::Video, Some(pts_ms * 1_000_000), pts_ms * 1_000_000, ARRIVAL);
            t.map(|t| (t.at.as_millisecond(), t.quality))
        };
        assert_eq!(of(&captures, 40), Some((0, ClockQuality::Arrival)));
        assert_eq!(of(&Captures::new(false), 40), None);
        let mut tags = gst::TagList::new();
        let date = gst::DateTime::from_iso8601_string("2024-05-01T12:00:00Z").expect("date");
        tags.get_mut().expect("own").add::<gst::tags::DateTime>(&date, gst::TagMergeMode::Append);
        captures.learn_tags(&tags);
        assert_eq!(of(&captures, 40), Some((1_714_564_800_040, ClockQuality::Container)));
        captures.learn_packet(Track::Video, &packet(0, 1_800_000_000_000));
        captures.learn_packet(Track::Video, &packet(80, 1_800_000_000_083));
        assert_eq!(of(&captures, 40), Some((1_800_000_000_040, ClockQuality::Ntp)));
        assert_eq!(of(&captures, 90), Some((1_800_000_000_093, ClockQuality::Ntp)));
    }

    #[test]
    fn a_clock_never_set_is_no_clock() {
        crate::init().expect("gstreamer");
        let captures = Captures::new(false);
        for unix_ms in [0, 3_600_000, 315_532_800_000] {
            captures.learn_packet(Track::Audio, &packet(0, unix_ms));
        }
        assert_eq!(captures.of(Track::Audio, Some(0), 0, ARRIVAL), None);
    }
}
