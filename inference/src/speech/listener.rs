//! One stream's hearing: takes sound in order, finds segments, has them transcribed, and tells words as they firm up.
//!
//! Owned by the pool and run on one of its threads at a time. Never reads a clock: in a replay the same sound gives the
//! same words, revision by revision. Positions are samples since the last break of the sound.

mod segment;
mod words;

use std::{sync::Arc, time::Duration};

use base::{
    event::{ModelId, Transcript},
    media::{AudioChunk, GapReason, SessionId},
    time::{CaptureTime, Pts},
};

use self::segment::Segment;
use super::{
    config::{SpeechConfig, samples, time},
    guard::Guard,
    segmenter::{Change, Segmenter},
    transcriber::Transcriber,
    vad::{Vad, VadState, WINDOW},
};

/// What a stream's listener has to tell.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// A revision of a segment's words.
    Words {
        /// The connection that the sound came through.
        session: SessionId,
        /// Stream time of the segment's begin: never goes back within a session.
        pts: Pts,
        /// When that was captured.
        captured: Option<CaptureTime>,
        /// The words.
        transcript: Transcript,
    },
    /// Sound that was not transcribed.
    Gap {
        /// The connection.
        session: SessionId,
        /// Begin of the stretch.
        from: Pts,
        /// Its end.
        to: Pts,
        /// Why.
        reason: GapReason,
        /// In words.
        detail: String,
    },
    /// Every word before this time has been told in a final.
    Until {
        /// The connection.
        session: SessionId,
        /// Stream time.
        pts: Pts,
    },
}

/// What a listener is handed, in the order of arrival.
#[derive(Debug)]
pub(crate) enum Sound {
    /// More sound.
    Chunk(AudioChunk),
    /// Sound that had to be thrown away.
    Lost { session: SessionId, from: Pts, to: Pts },
    /// The connection is over: what is open becomes final.
    End,
}

/// The models a pool thread lends to the listener whose turn it is.
pub(crate) struct Tools {
    pub(crate) vad: Vad,
    pub(crate) transcriber: Box<dyn Transcriber>,
}

/// Windows after which a recording's listener tells how far it is (1.024 s): never when it happens to be its turn.
const UNTIL_EVERY: usize = 32;
/// A hole shorter than this (a lost packet) is filled with silence.
const FILLED: Duration = Duration::from_millis(500);
/// Why speech is lost when a model panics.
const BROKE_DOWN: &str = "the transcriber broke down; this is a bug";

/// The time of sample 0.
#[derive(Debug, Clone)]
struct Anchor {
    session: SessionId,
    pts: Pts,
    captured: Option<CaptureTime>,
}

/// See the module.
pub(crate) struct Listener {
    config: SpeechConfig,
    /// Revisions come at fixed stream times, whatever has arrived by then: the same in every replay.
    batch: bool,
    model: Arc<ModelId>,
    guard: Guard,
    segmenter: Segmenter,
    vad: VadState,
    anchor: Option<Anchor>,
    /// Sound from sample `first` on; what lies before `position` went through voice activity detection.
    sound: Vec<f32>,
    first: usize,
    position: usize,
    waiting: std::collections::VecDeque<Sound>,
    /// What lies before it belongs to segments that are over.
    done: usize,
    /// The sound ends here; what follows is there to fill the last window.
    padded_from: Option<usize>,
    segment: Option<Segment>,
    n_segments: u64,
}

impl Listener {
    pub(crate) fn new(config: SpeechConfig, batch: bool, model: Arc<ModelId>, guard: Guard) -> Self {
        Self {
            segmenter: Segmenter::new(&config),
            config,
            batch,
            model,
            guard,
            vad: VadState::default(),
            anchor: None,
            sound: Vec::new(),
            first: 0,
            position: 0,
            waiting: Default::default(),
            done: 0,
            padded_from: None,
            segment: None,
            n_segments: 0,
        }
    }

    /// Takes more sound for the turns to come.
    pub(crate) fn take(&mut self, sound: impl IntoIterator<Item = Sound>) {
        self.waiting.extend(sound);
    }

    /// Samples that it was given and has not worked off.
    pub(crate) fn backlog(&self) -> usize {
        let waiting = self.waiting.iter().map(|sound| if let Sound::Chunk(c) = sound { c.samples.len() } else { 0 });
        waiting.sum::<usize>() + self.end_of_sound() - self.position
    }

    /// One turn: works until the model was asked once, or all sound is used up. True when there is more to do.
    pub(crate) fn turn(&mut self, tools: &mut Tools, tell: &mut dyn FnMut(Heard)) -> bool {
        let more = loop {
            if let Some(asked) = self.windows(tools, tell) {
                if self.batch && (self.position / WINDOW).is_multiple_of(UNTIL_EVERY) {
                    self.until(tell);
                }
                if asked {
                    break true;
                }
                continue;
            }
            match self.waiting.pop_front() {
                Some(Sound::Chunk(chunk)) => self.chunk(chunk, tools, tell),
                Some(Sound::Lost { session, from, to }) => {
                    self.end(tools, tell);
                    let secs = to.since(from).as_secs_f32();
                    let detail =
                        format!("speech comes faster than it can be transcribed: {secs:.1} s of sound left out");
                    tell(Heard::Gap { session, from, to, reason: GapReason::SpeechOverload, detail });
                }
                Some(Sound::End) => self.end(tools, tell),
                None => {
                    let asked = !self.batch && self.revise_if_due(tools, tell);
                    break asked && !self.waiting.is_empty();
                }
            }
        };
        if !self.batch {
            self.until(tell);
        }
        more
    }

    /// The worker panicked over this listener's sound: begin anew. True when there is more to do.
    pub(crate) fn start_over(&mut self, tell: &mut dyn FnMut(Heard)) -> bool {
        if let Some(mut segment) = self.segment.take() {
            self.lost(&segment, self.end_of_sound(), BROKE_DOWN, tell);
            segment.firming.settle(Vec::new());
            self.tell_words(&mut segment, true, tell);
        }
        self.break_off();
        !self.waiting.is_empty()
    }

    fn chunk(&mut self, chunk: AudioChunk, tools: &mut Tools, tell: &mut dyn FnMut(Heard)) {
        let same = self.anchor.as_ref().is_some_and(|a| a.session == chunk.session);
        if chunk.discontinuity && same && self.end_of_sound() > 0 {
            let hole = chunk.pts.since(self.pts(self.end_of_sound()));
            if hole <= FILLED {
                self.sound.resize(self.sound.len() + samples(hole), 0.0);
            } else {
                self.end(tools, tell);
            }
        } else if !same {
            self.end(tools, tell);
            self.n_segments = 0;
        }
        if self.anchor.as_ref().is_none_or(|a| a.session != chunk.session) {
            self.anchor = Some(Anchor { session: chunk.session.clone(), pts: chunk.pts, captured: chunk.captured });
        } else if self.sound.is_empty()
            && self.first == 0
            && let Some(anchor) = &mut self.anchor
        {
            (anchor.pts, anchor.captured) = (chunk.pts, chunk.captured);
        }
        self.sound.extend_from_slice(&chunk.samples);
    }

    /// Closes what is open and forgets the sound.
    fn end(&mut self, tools: &mut Tools, tell: &mut dyn FnMut(Heard)) {
        // The last window is not full.
        let end = self.end_of_sound();
        self.padded_from = Some(end);
        self.sound.resize(self.sound.len() + (WINDOW - (end - self.position) % WINDOW) % WINDOW, 0.0);
        while self.windows(tools, tell).is_some() {}
        if self.segment.is_some() {
            self.close(tools, tell);
        }
        self.tell_until(end, tell);
        self.break_off();
    }

    fn break_off(&mut self) {
        self.segment = None;
        self.segmenter.reset();
        self.vad = VadState::default();
        self.sound.clear();
        (self.first, self.position, self.done, self.padded_from) = (0, 0, 0, None);
    }

    fn end_of_sound(&self) -> usize {
        self.first + self.sound.len()
    }

    fn pts(&self, position: usize) -> Pts {
        self.anchor.as_ref().map_or(Pts::ZERO, |a| Pts::from_nanos(a.pts.nanos() + time(position).as_nanos() as u64))
    }

    /// Runs voice activity detection over one window. None when there is no whole window; else whether the model was asked.
    fn windows(&mut self, tools: &mut Tools, tell: &mut dyn FnMut(Heard)) -> Option<bool> {
        let at = self.position - self.first;
        let window: &[f32; WINDOW] = self.sound.get(at..at + WINDOW)?.try_into().ok()?;
        let probability = match tools.vad.probability(&mut self.vad, window) {
            Ok(p) => p,
            Err(e) => {
                tracing::error!("voice activity detection failed: {e}");
                0.0
            }
        };
        self.position += WINDOW;
        let change = self.segmenter.window(probability);
        if let Some(segment) = &mut self.segment {
            segment.probabilities.push(probability);
        }
        match change {
            Change::Quiet => {
                let kept = samples(Duration::from_millis(self.config.pre_roll_ms)) + 64 * WINDOW;
                self.forget_before(self.position.saturating_sub(kept));
                Some(false)
            }
            Change::Opened { n_windows } => {
                let began = self.position.saturating_sub(n_windows * WINDOW);
                let start = began.saturating_sub(samples(Duration::from_millis(self.config.pre_roll_ms)));
                self.open(start.max(self.first).max(self.done));
                Some(false)
            }
            Change::Goes { voiced } => {
                if voiced && let Some(segment) = &mut self.segment {
                    segment.voiced = self.position;
                }
                Some((self.batch && self.revise_if_due(tools, tell)) || self.end_if_long(tools, tell))
            }
            Change::Closed => {
                self.close(tools, tell);
                Some(true)
            }
        }
    }

    fn open(&mut self, start: usize) {
        let mut segment = Segment::new(self.n_segments, start, self.position);
        // What made it open counts as speech, and so does its pre-roll.
        segment.probabilities = vec![1.0; (self.position - start).div_ceil(WINDOW)];
        self.segment = Some(segment);
        self.n_segments += 1;
    }

    fn forget_before(&mut self, position: usize) {
        // In large steps: each moves what is left.
        let n = position.saturating_sub(self.first).min(self.sound.len());
        if n > 32_000 {
            self.sound.drain(..n);
            self.first += n;
        }
    }

    fn until(&self, tell: &mut dyn FnMut(Heard)) {
        let undecided = samples(Duration::from_millis(self.config.pre_roll_ms)) + self.segmenter.since() * WINDOW;
        let quiet = self.position.saturating_sub(undecided).max(self.done);
        self.tell_until(self.segment.as_ref().map_or(quiet, |s| s.start), tell);
    }

    fn tell_until(&self, position: usize, tell: &mut dyn FnMut(Heard)) {
        if let Some(anchor) = self.anchor.as_ref().filter(|_| position > 0) {
            tell(Heard::Until { session: anchor.session.clone(), pts: self.pts(position) });
        }
    }
}
