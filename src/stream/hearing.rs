//! What is heard: turns the words of one stream into transcript and caption events. Owned by the stream's ear, runs on the
//! speech pool's threads. Never does I/O.

use std::sync::Arc;

use base::{
    event::{Body, Caption, Event, Gap},
    media::{SessionId, StreamInfo},
    time::{CaptureTime, Clock, Pts},
};
use inference::{captions::Captioner, speech::Heard};
use parking_lot::Mutex;

use super::{
    account::{Findings, Life},
    order::{Branch, Outlet},
};
use crate::hls::HlsStore;

pub(super) struct Hearing {
    pub(super) info: Arc<StreamInfo>,
    pub(super) captioner: Captioner,
    pub(super) life: Arc<Mutex<Life>>,
    pub(super) outlet: Outlet,
    pub(super) findings: Arc<Findings>,
    /// Told of each stretch of stream time whose captions will not change any more.
    pub(super) players: Option<Arc<HlsStore>>,
    /// Where nobody looks: tells when sound was listened to.
    pub(super) clock: Option<Arc<dyn Clock>>,
    /// The session that the numbers below count in.
    pub(super) session: Option<SessionId>,
    pub(super) n_transcripts: u64,
    pub(super) n_captions: u64,
    /// Stream time and capture time of the newest segment.
    pub(super) anchor: Option<(Pts, CaptureTime)>,
}

impl Hearing {
    pub(super) fn take(&mut self, heard: Heard) {
        match heard {
            Heard::Words { session, pts, captured, transcript } => {
                self.enter(&session);
                self.anchor = captured.map(|c| (pts, c));
                {
                    let mut counts = self.findings.counts.lock();
                    counts.pts = counts.pts.max(transcript.end);
                    if transcript.is_final {
                        counts.n_words += transcript.words.len() as u64;
                    }
                }
                let captions = self.captioner.transcript(&session, &transcript);
                let body = Body::Transcript(transcript);
                let event = Event::new(&self.info, &session, self.n_transcripts, pts, captured, body);
                self.n_transcripts += 1;
                self.outlet.publish(Branch::Hearing, event);
                self.captions(&session, captions);
            }
            Heard::Gap { session, from, to, reason, detail } => {
                self.enter(&session);
                tracing::error!(stream = self.info.name.as_str(), reason = reason.as_str(), "{detail}");
                let number = self.life.lock().next_gap();
                {
                    let mut counts = self.findings.counts.lock();
                    counts.n_gaps += 1;
                    counts.speech_gaps.iter_mut().filter(|(r, _)| *r == reason).for_each(|(_, n)| *n += 1);
                }
                let body = Body::Gap(Gap { from, to, reason, n_frames_dropped: None, detail: Some(detail) });
                self.outlet.publish(Branch::Hearing, Event::new(&self.info, &session, number, from, None, body));
            }
            Heard::Until { session, pts } => {
                self.enter(&session);
                if let Some(clock) = &self.clock {
                    self.findings.counts.lock().reach(&session, pts, clock.wall());
                }
                let captions = self.captioner.advance(pts);
                self.captions(&session, captions);
                let settled = pts.min(self.captioner.settled_until());
                self.outlet.told_until(Branch::Hearing, settled);
                self.settled(&session, settled);
            }
        }
    }

    /// What the captions still hold back is told: the sound has come to its end.
    pub(super) fn finish(&mut self) {
        if let Some(session) = self.session.clone() {
            let captions = self.captioner.finish();
            self.captions(&session, captions);
            self.settled(&session, Pts::from_nanos(u64::MAX));
        }
    }

    fn settled(&self, session: &SessionId, pts: Pts) {
        if let Some(players) = &self.players {
            players.settled(&self.info.name, session, pts);
        }
    }

    fn enter(&mut self, session: &SessionId) {
        if self.session.as_ref() != Some(session) {
            self.finish();
            self.captioner.begin(session);
            self.session = Some(session.clone());
            (self.n_transcripts, self.n_captions, self.anchor) = (0, 0, None);
        }
    }

    fn captions(&mut self, session: &SessionId, captions: Vec<Caption>) {
        for caption in captions {
            let captured = self.anchor.map(|(pts, captured)| {
                let (later, earlier) = (caption.start.since(pts), pts.since(caption.start));
                CaptureTime { at: captured.at + later - earlier, ..captured }
            });
            let start = caption.start;
            let event = Event::new(&self.info, session, self.n_captions, start, captured, Body::Caption(caption));
            self.n_captions += 1;
            self.outlet.publish(Branch::Hearing, event);
        }
    }
}
