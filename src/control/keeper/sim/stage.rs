//! A stage whose streams take their time to connect and to go, and publish onto a pretended wire.

use std::collections::BTreeMap;

use base::{
    event::StreamState,
    media::SessionId,
    time::{Pts, Timestamp},
};

use super::world::{Millis, Random};
use crate::control::{
    report::Figures,
    stage::{Earlier, Start, StreamReading},
};

/// A pretended file is over after so long.
pub(super) const FILE_LENGTH: Millis = 6000;
/// A gap is told where more than this was missed.
const MISSED: i64 = 2000;

/// One stream at work.
pub(super) struct Performance {
    pub(super) start: Start,
    started_at: Millis,
    plays_at: Millis,
    gone_at: Option<Millis>,
    state: Option<StreamState>,
    session: Option<SessionId>,
    pts: Millis,
    analysed_at: Option<Millis>,
    position: Option<Millis>,
}

/// What a worker's streams do at one moment.
#[derive(Default)]
pub(super) struct Deeds {
    /// Streams that publish, with their epochs.
    pub(super) published: Vec<(String, u64)>,
    /// Streams that told a gap.
    pub(super) gaps: Vec<String>,
    /// Streams that began to play, and from which position.
    pub(super) begun: Vec<(String, Millis)>,
}

#[derive(Default)]
pub(super) struct PretendedStage {
    pub(super) streams: BTreeMap<String, Performance>,
    pub(super) n_refused: u64,
}

impl PretendedStage {
    pub(super) fn start(&mut self, now: Millis, start: Start, random: &mut Random) -> Result<(), String> {
        let name = start.stream.name.to_string();
        assert!(!self.streams.contains_key(&name), "{name} is run twice in one process");
        if start.stream.url.scheme() == "srt" {
            self.n_refused += 1;
            return Err("nobody can run this".into());
        }
        let performance = Performance {
            start,
            started_at: now,
            plays_at: now + 100 + random.below(1500),
            gone_at: None,
            state: None,
            session: None,
            pts: 0,
            analysed_at: None,
            position: None,
        };
        self.streams.insert(name, performance);
        Ok(())
    }

    /// What is not there can be nobody's any more.
    pub(super) fn detached(&self, name: &str) {
        assert!(self.streams.contains_key(name), "{name} is detached, and was never started");
    }

    pub(super) fn stop(&mut self, now: Millis, name: &str, random: &mut Random) {
        let stream = self.streams.get_mut(name).expect("only what was started is stopped");
        assert!(stream.gone_at.is_none(), "{name} is stopped twice");
        stream.gone_at = Some(now + random.below(800));
    }

    pub(super) fn earlier(&mut self, name: &str, earlier: Earlier) {
        let stream = self.streams.get_mut(name).expect("only of what was started");
        stream.start.earlier = Some(earlier);
    }

    /// Time goes on.
    pub(super) fn advance(&mut self, now: Millis, is_open: bool) -> Deeds {
        let mut deeds = Deeds::default();
        for (name, stream) in &mut self.streams {
            let is_file = stream.start.stream.url.scheme() == "file";
            if stream.state.is_none() && now >= stream.plays_at && stream.gone_at.is_none() {
                stream.state = Some(StreamState::Playing);
                let at = Timestamp::from_millisecond(now as i64).expect("a time");
                stream.session = Some(SessionId::live(at));
                let earlier = stream.start.earlier.as_ref();
                let position = earlier.and_then(|e| e.position).map_or(0, |p| p.millis());
                stream.position = is_file.then_some(position);
                if !is_file && earlier.is_some_and(|e| now as i64 - e.analysed_at.as_millisecond() > MISSED) {
                    deeds.gaps.push(name.clone());
                }
                deeds.begun.push((name.clone(), position));
            }
            if stream.state == Some(StreamState::Playing) {
                stream.pts = now - stream.plays_at;
                stream.analysed_at = Some(now);
                if is_open {
                    deeds.published.push((name.clone(), stream.start.epoch.unwrap_or(0)));
                }
                if let Some(position) = &mut stream.position {
                    *position += super::world::TICK;
                    if *position >= FILE_LENGTH {
                        stream.state = Some(StreamState::Ended);
                    }
                }
            }
        }
        self.streams.retain(|_, stream| stream.gone_at.is_none_or(|at| now < at));
        deeds
    }

    pub(super) fn readings(&self) -> Vec<StreamReading> {
        let reading = |stream: &Performance| StreamReading {
            name: stream.start.stream.name.clone(),
            epoch: stream.start.epoch,
            state: stream.state,
            detail: None,
            leaving: stream.gone_at.is_some(),
            session: stream.session.clone(),
            pts: Pts::from_millis(stream.pts),
            analysed_at: stream.analysed_at.and_then(|at| Timestamp::from_millisecond(at as i64).ok()),
            position: stream.position.map(Pts::from_millis),
            alerts: Vec::new(),
            figures: Figures { n_decoded: stream.started_at, ..Figures::default() },
        };
        self.streams.values().map(reading).collect()
    }
}
