//! Captions: readable cues made from transcripts that are still being revised.
//!
//! One captioner a stream, owned by whoever consumes that stream's transcripts. Pure and deterministic: no clock, no
//! I/O; the same transcripts and times give the same cues, ids included. Must never drop a word that became final, move
//! or change a shown word that is stable, change a final cue, or let two cues overlap.
//!
//! Words join the open cue as they come and stay on the line on which they were first shown. A revised word takes the
//! place of the one it revises (`align.rs`); words that are new are laid out at the cheapest price over all that is known
//! (`layout.rs`). A cue is final once its words are, and its end is known: by the next cue's first stable word, or by
//! [`Captioner::advance`].
//!
//! Times are those of the words: a cue starts with its first word and ends after its last one, later where it would be
//! too short to read and the next cue leaves room.

mod align;
mod config;
mod flow;
mod layout;
mod phrase;
mod timing;
mod units;

use std::collections::{BTreeMap, VecDeque};

use base::{
    event::{Caption, Transcript},
    media::SessionId,
    time::Pts,
};

pub use self::config::CaptionConfig;
use self::{
    config::Limits,
    flow::Placed,
    layout::End,
    timing::{Span, Timing},
    units::units,
};

/// Segments that were final lately; revisions of theirs that come late are left aside.
const MAX_CLOSED: usize = 16;

/// Makes captions of one stream's transcripts.
#[derive(Debug)]
pub struct Captioner {
    show_unstable: bool,
    limits: Limits,
    session: Option<SessionId>,
    state: State,
}

/// All that belongs to one session.
#[derive(Debug, Default)]
struct State {
    /// The words of all cues that are not final, in order.
    flow: Vec<Placed>,
    /// The cues that are not final, by number. One without words in the flow was taken back.
    cues: BTreeMap<u64, Cue>,
    /// The segment whose words come; none between segments.
    active: Option<Active>,
    /// Newest revisions of segments that began before the active one was final, in the order of coming.
    waiting: VecDeque<Transcript>,
    /// Ids of segments that are final, newest last.
    closed: VecDeque<String>,
    /// Number of the cue after the last final one.
    next_cue: u64,
    timing: Timing,
}

/// A cue that is not final.
#[derive(Debug)]
struct Cue {
    segment: String,
    language: Option<String>,
    next_revision: u32,
    /// As last told; none before it was.
    shown: Option<(Span, Vec<String>)>,
}

#[derive(Debug)]
struct Active {
    id: String,
    revision: u32,
    /// Begin of its speech, nanoseconds of stream time.
    start: u64,
    /// Units of its beginning that are in final cues.
    n_done: usize,
}

impl Captioner {
    /// A captioner that has heard nothing. `config` must have been checked.
    pub fn new(config: CaptionConfig) -> Self {
        Self { show_unstable: config.show_unstable, limits: config.limits(), session: None, state: State::default() }
    }

    /// A session begins, and its stream time at 0; the one before, if it was not finished, ends with the captions given.
    /// Nothing happens when it is the same. [`Captioner::transcript`] does it where nobody else did.
    pub fn begin(&mut self, session: &SessionId) -> Vec<Caption> {
        if self.session.as_ref() == Some(session) {
            return Vec::new();
        }
        let captions = self.finish();
        if self.session.replace(session.clone()).is_some() {
            self.state = State::default();
        }
        captions
    }

    /// Takes a revision in; gives the revisions of cues that follow from it, in the order of showing.
    ///
    /// Another session than before ends the one before; call [`Captioner::finish`] yourself first to be able to tell its
    /// captions from those of the new session. Revisions that come late, of a segment that is final or
    /// out of order, change nothing. A segment that begins before the one before it is final waits for it.
    pub fn transcript(&mut self, session: &SessionId, transcript: &Transcript) -> Vec<Caption> {
        let mut captions = self.begin(session);
        if self.state.closed.contains(&transcript.segment) {
            return captions;
        }
        match &self.state.active {
            Some(active) if active.id != transcript.segment => {
                self.wait(transcript);
                // Segments become final in their order: nothing more will come of those before this one.
                while transcript.is_final && !self.state.closed.contains(&transcript.segment) {
                    self.close();
                    self.take_waiting();
                }
            }
            Some(active) if transcript.revision <= active.revision => return captions,
            _ => self.take(transcript),
        }
        self.take_waiting();
        captions.extend(self.tell(false));
        captions
    }

    /// Everything up to `now` has been heard: no word that nobody told of yet begins before it, save words of the segment
    /// that is being spoken. Ends and finalises the cues that only waited for somebody to go on speaking. Going backwards
    /// changes nothing.
    ///
    /// Should a word begin before `now` all the same, it is shown from `now` on.
    pub fn advance(&mut self, now: Pts) -> Vec<Caption> {
        self.state.timing.heard(now.nanos());
        self.tell(false)
    }

    /// The session is over: every cue becomes final, with the words as they are. A segment that was not final by then keeps
    /// the words that were shown of it.
    pub fn finish(&mut self) -> Vec<Caption> {
        self.close();
        while !self.state.waiting.is_empty() {
            self.take_waiting();
            self.close();
        }
        self.tell(true)
    }

    /// Captions up to this stream time will not change any more, nor will any be added. Never goes backwards within a
    /// session; zero when a session begins.
    pub const fn settled_until(&self) -> Pts {
        Pts::from_nanos(self.state.timing.settled)
    }

    /// Keeps the newest revision of a segment whose turn has not come.
    fn wait(&mut self, transcript: &Transcript) {
        match self.state.waiting.iter_mut().find(|waiting| waiting.segment == transcript.segment) {
            Some(waiting) if waiting.revision < transcript.revision => *waiting = transcript.clone(),
            Some(_) => {}
            None => self.state.waiting.push_back(transcript.clone()),
        }
    }

    fn take_waiting(&mut self) {
        while self.state.active.is_none()
            && let Some(transcript) = self.state.waiting.pop_front()
        {
            self.take(&transcript);
        }
    }

    /// The active segment is over, with the words that it has.
    fn close(&mut self) {
        let Some(active) = self.state.active.take() else { return };
        self.state.flow.iter_mut().for_each(|placed| placed.unit.fixed = true);
        if self.state.closed.len() == MAX_CLOSED {
            self.state.closed.pop_front();
        }
        self.state.closed.push_back(active.id);
    }

    /// Puts a revision of the active segment, or the first of a new one, into the flow.
    fn take(&mut self, transcript: &Transcript) {
        let state = &mut self.state;
        let shown = |stable: bool| stable || transcript.is_final || self.show_unstable;
        let words = transcript.words.iter().filter(|word| shown(word.stable));
        let mut units = units(words, self.limits.width, transcript.is_final);
        let active = state.active.get_or_insert_with(|| Active {
            id: transcript.segment.clone(),
            revision: 0,
            start: transcript.start.nanos(),
            n_done: 0,
        });
        active.revision = transcript.revision;
        units.drain(..active.n_done.min(units.len()));

        // What is in the flow of earlier segments stays as it is; this segment begins a cue of its own.
        let first_cue = state
            .cues
            .iter()
            .rev()
            .find(|(_, cue)| cue.segment != transcript.segment)
            .map_or(state.next_cue, |(number, _)| number + 1);
        let n_before = state.flow.partition_point(|placed| placed.cue < first_cue);
        let old = state.flow.split_off(n_before);
        let english = transcript.translated || transcript.language.as_deref().is_none_or(|language| language == "en");
        let end = if transcript.is_final { End::Closed } else { End::Open };
        let placed = flow::place(&self.limits, english, first_cue, &old, units, end);
        for placed in &placed {
            state.cues.entry(placed.cue).or_insert_with(|| Cue {
                segment: transcript.segment.clone(),
                language: transcript.language.clone(),
                next_revision: 0,
                shown: None,
            });
        }
        state.flow.extend(placed);
        if transcript.is_final {
            self.close();
        }
    }

    /// Tells what changed since it was last told, and lets go of the cues that became final.
    fn tell(&mut self, finish: bool) -> Vec<Caption> {
        let state = &mut self.state;
        let Some(session) = &self.session else {
            state.timing.settle(None, None);
            return Vec::new();
        };
        // Nobody will be found to have begun to speak before.
        let heard = state.active.as_ref().map_or(u64::MAX, |active| active.start).min(state.timing.heard);
        let speeches = flow::speeches(&state.flow);
        let spans = state.timing.spans(&self.limits, &speeches);
        let mut captions = Vec::new();
        let mut all_final = true;
        let (mut n_final_units, mut n_final_speeches) = (0, 0);
        let numbers: Vec<u64> = state.cues.keys().copied().collect();
        for number in numbers {
            let at = speeches.partition_point(|speech| speech.cue < number);
            let speech = speeches.get(at).filter(|speech| speech.cue == number);
            let next = if speech.is_some() { at + 1 } else { at };
            let followed = speeches.get(next).is_some_and(|next| next.first_fixed);
            let segment_over = state
                .cues
                .get(&number)
                .is_some_and(|cue| state.active.as_ref().is_none_or(|active| active.id != cue.segment));
            let last = next == speeches.len();
            let is_final = all_final
                && match speech {
                    None => segment_over || followed || finish,
                    Some(_) if finish => true,
                    Some(speech) if !speech.all_fixed => false,
                    Some(_) if followed => true,
                    // Nobody went on speaking in time to make it go sooner.
                    Some(_) => segment_over && last && heard >= spans[at].end + self.limits.gap,
                };
            all_final &= is_final;

            let Some(cue) = state.cues.get_mut(&number) else { continue };
            let lines = speech.map_or_else(Vec::new, |speech| speech.lines.clone());
            let span = match (speech, &cue.shown) {
                (Some(_), _) => spans[at],
                (None, Some((span, _))) => *span,
                (None, None) => Span::default(),
            };
            let is_news = match &cue.shown {
                Some(shown) => *shown != (span, lines.clone()) || is_final,
                None => !lines.is_empty(),
            };
            if is_news {
                captions.push(Caption {
                    cue: format!("{session}-cue-{number}"),
                    revision: cue.next_revision,
                    start: Pts::from_nanos(span.start),
                    end: Pts::from_nanos(span.end),
                    lines: lines.clone(),
                    is_final,
                    language: cue.language.clone(),
                    segment: cue.segment.clone(),
                });
                cue.next_revision += 1;
                cue.shown = Some((span, lines));
            }
            if is_final {
                state.next_cue = number + 1;
                if let Some(speech) = speech {
                    n_final_units += speech.n_units;
                    n_final_speeches += 1;
                    state.timing.last_end = span.end;
                    if let Some(active) = state.active.as_mut().filter(|_| !segment_over) {
                        active.n_done += speech.n_units;
                    }
                }
                state.cues.remove(&number);
            }
        }
        state.flow.drain(..n_final_units);
        let open = speeches.get(n_final_speeches).zip(spans.get(n_final_speeches)).map(|(speech, span)| {
            let segment = state.cues.get(&speech.cue).map(|cue| &cue.segment);
            (speech, *span, state.active.as_ref().is_none_or(|active| Some(&active.id) != segment))
        });
        state.timing.settle(open, state.active.as_ref().map(|active| active.start));
        captions
    }
}

#[cfg(test)]
mod tests;
