//! One stream's segments in memory: those a playlist shows, those kept for slow players, and those that still wait for
//! their captions. Pure bookkeeping under the store's lock.

use std::{collections::VecDeque, ops::Range, time::Duration};

use base::{
    media::{MediaSegment, SessionId},
    time::Pts,
};
use bytes::Bytes;

use super::{
    HlsConfig,
    store::end_of,
    tap::{Tap, Taps},
    vtt::Cues,
};

/// One segment.
pub(super) struct Entry {
    /// Place in the stream: counts over all sessions, without holes.
    pub(super) sequence: u64,
    /// The stream does not simply go on here.
    pub(super) discontinuity: bool,
    /// Discontinuities before this segment, its own not counted.
    pub(super) n_discontinuities: u64,
    pub(super) segment: MediaSegment,
    /// Monotonic time at which it came.
    arrived: Duration,
    /// Its captions, written once when it is first shown, so that every player gets the same.
    pub(super) captions: Bytes,
}

/// Whether and how a stream is captioned.
#[derive(Debug, Default)]
pub(super) struct Captioned {
    /// ISO 639-1.
    pub(super) language: Option<String>,
    pub(super) cues: Cues,
    /// Up to where no caption changes or comes any more.
    settled: Option<(SessionId, Pts)>,
}

/// One stream.
#[derive(Default)]
pub(super) struct Window {
    entries: VecDeque<Entry>,
    /// So many of them, from the front, may be shown.
    n_listed: usize,
    n_bytes: usize,
    next_sequence: u64,
    n_discontinuities: u64,
    last_session: Option<SessionId>,
    /// Seconds; longest segment so far, rounded, and at least what is aimed at.
    pub(super) target_secs: u64,
    /// Bits a second of the fattest segment so far, and over all.
    pub(super) peak_bandwidth: u64,
    pub(super) total: (u64, Duration),
    pub(super) captioned: Option<Captioned>,
    /// Why there can be no segments, in words.
    pub(super) unfit: Option<String>,
    /// Nothing more comes.
    pub(super) over: bool,
    pub(super) taps: Taps,
}

impl Captioned {
    pub(super) fn new(language: Option<String>) -> Self {
        Self { language, ..Self::default() }
    }
}

impl Window {
    pub(super) fn new(captioned: Option<Captioned>) -> Self {
        Self { captioned, ..Self::default() }
    }

    pub(super) fn push(&mut self, segment: MediaSegment, now: Duration, config: &HlsConfig) {
        let new_session = self.last_session.as_ref().is_some_and(|last| *last != segment.session);
        let discontinuity = self.last_session.is_some() && (new_session || segment.discontinuity);
        self.taps.offer(&segment, self.last_session.as_ref());
        self.last_session = Some(segment.session.clone());
        let seconds = segment.duration.as_secs_f64();
        self.target_secs = self.target_secs.max(u64::from(config.segment_secs)).max(seconds.round() as u64);
        let bits = 8 * segment.bytes.len() as u64;
        self.peak_bandwidth = self.peak_bandwidth.max((bits as f64 / seconds.max(0.1)) as u64);
        self.total = (self.total.0 + bits, self.total.1 + segment.duration);
        self.n_bytes += segment.bytes.len();
        self.entries.push_back(Entry {
            sequence: self.next_sequence,
            discontinuity,
            n_discontinuities: self.n_discontinuities,
            segment,
            arrived: now,
            captions: Bytes::new(),
        });
        self.next_sequence += 1;
        self.n_discontinuities += u64::from(discontinuity);
        (self.unfit, self.over) = (None, false);
        self.advance(now, config);
    }

    /// From now on, and what is still there of it.
    pub(super) fn tap(&mut self, session: &SessionId, span: Range<Pts>, most_bytes: usize) -> Tap {
        let tap = self.taps.open(session.clone(), span, most_bytes);
        tap.fill(self.entries.iter().map(|entry| &entry.segment));
        tap
    }

    /// Captions up to `pts` of `session` are there and stay.
    pub(super) fn settle(&mut self, session: &SessionId, pts: Pts) {
        let Some(captioned) = &mut self.captioned else { return };
        match &mut captioned.settled {
            Some((known, at)) if known == session => *at = (*at).max(pts),
            settled => *settled = Some((session.clone(), pts)),
        }
    }

    /// Lists what is due and drops what nobody needs any more.
    pub(super) fn advance(&mut self, now: Duration, config: &HlsConfig) {
        while let Some(entry) = self.entries.get_mut(self.n_listed) {
            if let Some(captioned) = &mut self.captioned {
                let settled = captioned
                    .settled
                    .as_ref()
                    .is_some_and(|(session, at)| *session == entry.segment.session && *at >= end_of(&entry.segment));
                if !settled && now.saturating_sub(entry.arrived) < config.patience() {
                    break;
                }
                entry.captions = captioned.cues.write(&entry.segment).into();
            }
            self.n_listed += 1;
        }
        while self.n_listed > 2 * config.window + 1 || self.n_bytes > config.stream_bytes && self.entries.len() > 1 {
            let Some(old) = self.entries.pop_front() else { break };
            self.n_bytes -= old.segment.bytes.len();
            self.n_listed = self.n_listed.saturating_sub(1);
        }
        let (Some(captioned), Some(oldest)) = (&mut self.captioned, self.entries.get(self.n_listed.saturating_sub(1)))
        else {
            return;
        };
        let newest = self.last_session.as_ref();
        let settled = captioned.settled.as_ref().map(|(session, _)| session.clone());
        captioned.cues.forget(&oldest.segment.session, oldest.segment.start, |session| {
            newest == Some(session)
                || settled.as_ref() == Some(session)
                || self.entries.iter().skip(self.n_listed).any(|e| e.segment.session == *session)
        });
    }

    /// What a playlist shows, oldest first.
    pub(super) fn shown(&self, config: &HlsConfig) -> impl Iterator<Item = &Entry> {
        self.entries.iter().take(self.n_listed).skip(self.n_listed.saturating_sub(config.window))
    }

    /// A segment that a playlist shows or has shown.
    pub(super) fn find(&self, session: &str, number: u64) -> Option<&Entry> {
        let listed = self.entries.iter().take(self.n_listed);
        listed.rev().find(|e| e.segment.number == number && e.segment.session.as_str() == session)
    }

    /// Whether the last segment is listed and no more come.
    pub(super) fn ended(&self) -> bool {
        self.over && self.n_listed == self.entries.len()
    }

    /// Segments and their bytes, and segments that wait for captions.
    pub(super) fn size(&self) -> (usize, usize, usize) {
        (self.entries.len(), self.n_bytes, self.entries.len() - self.n_listed)
    }
}

#[cfg(test)]
pub(super) mod samples {
    use base::event::Caption;

    use super::*;

    /// A final cue.
    pub(in crate::hls) fn caption(id: &str, (start, end): (u64, u64), lines: &[&str]) -> Caption {
        Caption {
            cue: id.into(),
            revision: 0,
            start: Pts::from_millis(start),
            end: Pts::from_millis(end),
            lines: lines.iter().map(|l| (*l).to_owned()).collect(),
            is_final: true,
            language: None,
            segment: String::new(),
        }
    }

    /// The segment with this number: 2 s long, 1000 bytes.
    pub(in crate::hls) fn segment(session: &str, number: u64) -> MediaSegment {
        let start = Pts::from_millis(2000 * number);
        MediaSegment {
            session: SessionId::derived([session.as_bytes()]),
            number,
            start,
            duration: Duration::from_secs(2),
            captured: None,
            mpegts: MediaSegment::MPEGTS_AT_ZERO + 180_000 * number,
            bytes: vec![0; 1000].into(),
            discontinuity: false,
            codecs: "avc1.64001f,mp4a.40.2".into(),
            size: Some((768, 576)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{samples::segment, *};

    const SECOND: Duration = Duration::from_secs(1);

    fn shown(window: &Window, config: &HlsConfig) -> Vec<u64> {
        window.shown(config).map(|e| e.sequence).collect()
    }

    #[test]
    fn without_captions_nothing_waits() {
        let (mut window, config) = (Window::default(), HlsConfig::default());
        for n in 0..40 {
            window.push(segment("a", n), SECOND, &config);
            let first = (n + 1).saturating_sub(6);
            assert_eq!(shown(&window, &config), (first..=n).collect::<Vec<_>>());
        }
        assert_eq!(window.size(), (13, 13_000, 0));
        let a = segment("a", 0).session;
        assert!(window.find(a.as_str(), 27).is_some() && window.find(a.as_str(), 26).is_none());
        assert!(window.find("b", 27).is_none());
    }

    #[test]
    fn a_segment_waits_for_its_captions_or_for_so_long() {
        let (mut window, config) = (Window::new(Some(Captioned::default())), HlsConfig::default());
        let (a, b) = (segment("a", 0).session, segment("b", 0).session);
        window.push(segment("a", 0), SECOND, &config);
        window.push(segment("a", 1), 3 * SECOND, &config);
        assert!(shown(&window, &config).is_empty());
        window.settle(&a, Pts::from_millis(1999));
        window.advance(3 * SECOND, &config);
        assert!(shown(&window, &config).is_empty());
        window.settle(&a, Pts::from_millis(2000));
        window.advance(3 * SECOND, &config);
        assert_eq!(shown(&window, &config), [0]);
        // Going back is no settling; another session's time is another time.
        window.settle(&a, Pts::ZERO);
        window.settle(&b, Pts::from_millis(9000));
        window.advance(6 * SECOND, &config);
        assert_eq!(shown(&window, &config), [0]);
        window.advance(7 * SECOND, &config);
        assert_eq!(shown(&window, &config), [0, 1]);
        // The last ones are shown before the end is.
        window.push(segment("b", 5), 8 * SECOND, &config);
        window.over = true;
        assert!(!window.ended());
        window.advance(12 * SECOND, &config);
        assert!(window.ended());
    }

    #[test]
    fn memory_is_bounded_whatever_comes() {
        let config = HlsConfig { stream_bytes: 1_000_000, ..HlsConfig::default() };
        let mut window = Window::new(Some(Captioned::default()));
        for n in 0..1000 {
            let session = format!("{}", n / 10);
            let mut segment = segment(&session, n % 10);
            segment.bytes = vec![0; 300_000].into();
            let cues = &mut window.captioned.as_mut().expect("captioned").cues;
            let times = (segment.start.millis(), end_of(&segment).millis());
            cues.put(&segment.session, &samples::caption(&n.to_string(), times, &["words"]));
            window.push(segment, Duration::from_secs(2 * n), &config);
            let (n_segments, n_bytes, _) = window.size();
            assert!(n_bytes <= 1_000_000 && n_segments <= 3, "{n}: {n_segments}, {n_bytes}");
        }
        let n_cues = window.captioned.expect("captioned").cues.len();
        assert!(n_cues <= 20, "{n_cues}");
    }

    #[test]
    fn discontinuities_are_counted_as_they_leave() {
        let (mut window, config) = (Window::default(), HlsConfig::default());
        for n in 0..20 {
            let mut segment = segment(if n < 4 { "a" } else { "b" }, n);
            segment.discontinuity = n == 0 || n == 10;
            window.push(segment, SECOND, &config);
        }
        let marks: Vec<_> = window.entries.iter().map(|e| (e.sequence, e.discontinuity, e.n_discontinuities)).collect();
        assert_eq!(marks[0], (7, false, 1));
        assert_eq!((marks[3], marks[4]), ((10, true, 1), (11, false, 2)));
    }
}
