//! How a segment gets its words: when the transcriber is asked, what it is shown, and what of its answer is told.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use base::{
    event::{Transcript, Word},
    media::GapReason,
    time::CaptureTime,
};

use super::super::{
    config::{samples, time},
    firming::{Edge, FirmWord, after_known, bare},
    guard::{Guard, Verdict, mean},
    transcriber::{HeardWord, Hypothesis, Request, Token},
    vad::WINDOW,
};
use super::{BROKE_DOWN, Heard, Listener, Tools, segment::Segment};
use crate::InferenceError;

/// Speech before the first revision of a segment.
const FIRST: Duration = Duration::from_millis(800);
/// A pause, within a segment, after which the words are revised at once.
const PAUSE: Duration = Duration::from_millis(256);
/// Silence after the speech that the last hypothesis of a segment is shown.
const TAIL: Duration = Duration::from_millis(400);
/// The model is shown at most so much while the words firm up; then sound whose words are stable is left behind...
const VIEW: Duration = Duration::from_millis(9_000);
/// ...except for so much of it, whose words the model is forced to begin with.
const BACKGROUND: Duration = Duration::from_millis(3_000);
/// A view that cannot be made shorter, because nothing firms up, ends its segment.
const LONGEST_VIEW: Duration = Duration::from_secs(26);
/// Words at the edge of the sound stay open.
const MARGIN: Duration = Duration::from_millis(600);
/// An open word this near to the edge is not shown yet: it may be half a word.
const HALF_WORD: Duration = Duration::from_millis(120);
/// Open words from the first on that is less sure than this are not shown yet: most such words are replaced.
const SHOWN: f32 = 0.3;
/// The same for the mean of the open words while no word of the segment is stable.
const SHOWN_FIRST: f32 = 0.6;
/// Words that are less sure than this firm up later.
const DOUBT: f32 = 0.7;

impl Listener {
    /// Asks the model when enough has been said since the last time, or when a pause has begun.
    pub(super) fn revise_if_due(&mut self, tools: &mut Tools, tell: &mut dyn FnMut(Heard)) -> bool {
        let Some(segment) = &self.segment else { return false };
        if !self.config.partials || segment.voiced <= segment.voiced_then {
            return false;
        }
        let paused = self.position >= segment.voiced + samples(PAUSE);
        let fresh = self.position - segment.heard.max(segment.start) >= self.config.step();
        let first = segment.heard == 0 && self.position - segment.start < samples(FIRST);
        if !(paused || fresh && !first) {
            return false;
        }
        self.revise(tools, tell);
        true
    }

    /// A revision: what two hypotheses agree on becomes stable.
    pub(super) fn revise(&mut self, tools: &mut Tools, tell: &mut dyn FnMut(Heard)) {
        let until = self.position;
        let Some(mut segment) = self.segment.take() else { return };
        if let Some(tail) = self.ask(&mut segment, until, false, tools, tell) {
            let edge = Edge { heard_until: time(until), margin: MARGIN, doubt: DOUBT };
            let n = segment.firming.revise(tail, edge);
            segment.learn(n);
            self.tell_words(&mut segment, false, tell);
            self.leave_behind(&mut segment);
            if self.is_long_enough(&segment) {
                self.split(&mut segment, tell);
            }
        }
        self.segment = Some(segment);
    }

    /// Moves the view on: the model needs not see again what is stable, except for a little background.
    pub(super) fn leave_behind(&mut self, segment: &mut Segment) {
        if time(self.position - segment.view) > VIEW
            && let Some(last) = segment.known.last().map(|w| w.end)
            && let Some(i) = segment.known.iter().rposition(|w| w.start + BACKGROUND <= last)
            && i > 0
        {
            let begin = samples(segment.known[i].start).saturating_sub(samples(Duration::from_millis(40)));
            segment.view = begin.clamp(segment.view, self.position);
            segment.known.drain(..i);
        }
        self.forget_before(segment.view);
    }

    pub(super) fn is_long_enough(&self, segment: &Segment) -> bool {
        let Some(last) = segment.firming.stable.last() else { return false };
        let length = last.end.saturating_sub(time(segment.start));
        let most = Duration::from_secs(self.config.max_segment_secs);
        let sentence = last.text.ends_with(['.', '?', '!']);
        length >= most || (sentence && length >= most / 2)
    }

    /// Ends a segment after its last stable word; the next one goes on with what is open.
    pub(super) fn split(&mut self, segment: &mut Segment, tell: &mut dyn FnMut(Heard)) {
        let open = std::mem::take(&mut segment.firming.open);
        self.tell_words(segment, true, tell);
        let start = segment.firming.stable.last().map_or(segment.start, |w| samples(w.end));
        let mut next = Segment::new(self.n_segments, start, segment.voiced);
        self.n_segments += 1;
        let skipped = (start.saturating_sub(segment.start) / WINDOW).min(segment.probabilities.len());
        next.probabilities = segment.probabilities.split_off(skipped);
        next.view = segment.view;
        next.known = std::mem::take(&mut segment.known);
        next.firming.open = open;
        (next.heard, next.voiced_then, next.trusted) = (segment.heard, segment.voiced_then, segment.trusted);
        next.language = segment.language.take();
        *segment = next;
        if !segment.firming.open.is_empty() {
            self.tell_words(segment, false, tell);
        }
    }

    /// A segment whose words cannot be left behind (no revisions, or nothing firms up) is cut where it is quietest.
    pub(super) fn end_if_long(&mut self, tools: &mut Tools, tell: &mut dyn FnMut(Heard)) -> bool {
        let Some(segment) = &self.segment else { return false };
        let (seen, most) = match self.config.partials {
            true => (self.position - segment.view, LONGEST_VIEW),
            false => (self.position - segment.start, Duration::from_secs(self.config.max_segment_secs)),
        };
        if time(seen) < most {
            return false;
        }
        let recent = (segment.probabilities.len() / 3).clamp(1, samples(Duration::from_secs(8)) / WINDOW);
        let from = segment.probabilities.len() - recent;
        let quietest = segment.probabilities[from..]
            .iter()
            .enumerate()
            .rev()
            .min_by(|a, b| a.1.total_cmp(b.1))
            .map_or(0, |(i, _)| recent - i);
        let cut = self.position - quietest * WINDOW + WINDOW / 2;
        let rest = segment.probabilities[segment.probabilities.len() - quietest..].to_vec();
        let voiced = segment.voiced;
        self.finish(cut, tools, tell);
        self.open(cut);
        if let Some(segment) = &mut self.segment {
            segment.voiced = voiced;
            segment.probabilities = rest;
        }
        true
    }

    pub(super) fn close(&mut self, tools: &mut Tools, tell: &mut dyn FnMut(Heard)) {
        let Some(segment) = &self.segment else { return };
        let until = self.position.min(segment.voiced + samples(TAIL));
        self.finish(until, tools, tell);
    }

    /// The segment's final.
    pub(super) fn finish(&mut self, until: usize, tools: &mut Tools, tell: &mut dyn FnMut(Heard)) {
        let Some(mut segment) = self.segment.take() else { return };
        let quiet_heard = segment.heard >= segment.voiced + samples(PAUSE).min(until - segment.voiced.min(until));
        // Words in doubt get a last hearing.
        let sure = segment.firming.open.iter().all(|w| w.confidence >= DOUBT);
        let complete = segment.trusted && quiet_heard && sure;
        if complete {
            let open = std::mem::take(&mut segment.firming.open);
            segment.firming.settle(open);
        } else if let Some(tail) = self.ask(&mut segment, until, true, tools, tell) {
            segment.firming.settle(tail);
        } else {
            segment.firming.settle(Vec::new());
        }
        self.tell_words(&mut segment, true, tell);
        self.done = segment.firming.stable.last().map_or(until, |w| samples(w.end).max(until));
        self.forget_before(until);
    }

    /// Asks the model about the segment's view; gives the words after the known ones, or none when it is not to be trusted.
    pub(super) fn ask(
        &mut self,
        segment: &mut Segment,
        until: usize,
        is_final: bool,
        tools: &mut Tools,
        tell: &mut dyn FnMut(Heard),
    ) -> Option<Vec<FirmWord>> {
        let sound = self.sound.get(segment.view.checked_sub(self.first)?..until.checked_sub(self.first)?)?;
        let forced: Vec<Token> = segment.known.iter().flat_map(|w| w.tokens.iter().copied()).collect();
        let draft: Vec<Token> = segment.firming.open.iter().flat_map(|w| w.tokens.iter().copied()).collect();
        let can_force = tools.transcriber.can_be_forced();
        let mut request = Request {
            forced: if can_force { &forced } else { &[] },
            draft: &draft,
            language: segment.language.as_deref().or(self.config.language()),
            translate: self.config.translate,
            ..Request::new(sound)
        };
        (segment.heard, segment.voiced_then) = (until, segment.voiced);
        segment.trusted = false;
        let may_retry = is_final || until >= segment.retry_from;
        let transcribe = || {
            let heard = tools.transcriber.transcribe(&request)?;
            match self.guard.judge(&heard) {
                Verdict::Words => Ok(Some(heard)),
                Verdict::Nothing => Ok(None),
                Verdict::Doubtful if !may_retry => Ok(None),
                Verdict::Doubtful => {
                    // A longer context, and nothing carried over, often brings the model back to its senses.
                    segment.retry_from = until + samples(Duration::from_secs(2));
                    (request.draft, request.context) = (&[], Some(Guard::LONG_CONTEXT));
                    let second = tools.transcriber.transcribe(&request)?;
                    Ok((self.guard.judge(&second) == Verdict::Words).then_some(second))
                }
            }
        };
        // One stream's sound must not silence the others, nor what was said before in this one.
        let answer = catch_unwind(AssertUnwindSafe(transcribe))
            .unwrap_or_else(|_| Err(InferenceError::Onnx { name: self.model.name.clone(), cause: BROKE_DOWN.into() }));
        let heard = match answer {
            Ok(heard) => heard?,
            Err(e) if is_final => {
                tracing::error!("speech is lost, the transcriber failed: {e}");
                self.lost(segment, until, &e.to_string(), tell);
                return None;
            }
            Err(e) => {
                tracing::warn!("the transcriber failed, and is asked again with more sound: {e}");
                return None;
            }
        };
        segment.trusted = true;
        if segment.language.is_none() {
            segment.language = heard.language.clone();
        }
        let words = self.words_after(segment, &heard, if can_force { forced.len() } else { 0 });
        let mut words = self.guard.over_speech(words, |from, to| segment.most_voiced(samples(from), samples(to)));
        // A word does not reach beyond the sound: what begins there may follow it at once.
        let end = time(until.min(self.padded_from.unwrap_or(until)));
        for word in &mut words {
            (word.start, word.end) = (word.start.min(end), word.end.min(end));
        }
        Some(words)
    }

    pub(super) fn words_after(&self, segment: &Segment, heard: &Hypothesis, n_forced: usize) -> Vec<FirmWord> {
        let origin = time(segment.view);
        let firm = |w: &HeardWord| FirmWord::heard(w, &heard.tokens, origin);
        if n_forced > 0 {
            // What only adds to the last forced word (a comma, say) comes too late: that word is stable.
            return heard.words.iter().filter(|w| w.tokens.start >= n_forced).map(firm).collect();
        }
        after_known(&segment.known, heard.words.iter().map(firm).collect())
    }

    /// Sound of the segment that nobody has transcribed, after its last stable word.
    pub(super) fn lost(&self, segment: &Segment, until: usize, detail: &str, tell: &mut dyn FnMut(Heard)) {
        let from = segment.known.last().map_or(segment.view, |w| samples(w.end).max(segment.view));
        let Some(anchor) = self.anchor.as_ref().filter(|_| from < until) else { return };
        let (session, from, to) = (anchor.session.clone(), self.pts(from), self.pts(until));
        tell(Heard::Gap { session, from, to, reason: GapReason::SpeechFailed, detail: detail.to_owned() });
    }

    pub(super) fn tell_words(&self, segment: &mut Segment, is_final: bool, tell: &mut dyn FnMut(Heard)) {
        let Some(anchor) = &self.anchor else { return };
        let word = |w: &FirmWord, stable| Word {
            text: w.text.clone(),
            start: self.pts(samples(w.start)),
            end: self.pts(samples(w.end)),
            confidence: w.confidence,
            stable,
        };
        let mut words: Vec<Word> = segment.firming.stable.iter().map(|w| word(w, true)).collect();
        let speaking = self.position < segment.voiced + samples(PAUSE);
        let edge = time(segment.heard).saturating_sub(if speaking { HALF_WORD } else { Duration::ZERO });
        let open = &segment.firming.open;
        // The first words of a segment are often wrong at first: they wait until they are surer.
        let early = segment.known.is_empty() && mean(open.iter().map(|w| w.confidence)) < SHOWN_FIRST;
        let sure = |w: &&FirmWord| !early && w.end <= edge && w.confidence >= SHOWN;
        let n_sure = open.iter().take_while(sure).count();
        // What readers have seen stays as long as it is heard again.
        let seen = segment.told.iter().skip(words.len());
        let n_seen = open.iter().zip(seen).take_while(|(w, seen)| bare(&w.text) == bare(&seen.text)).count();
        words.extend(open.iter().take(n_sure.max(n_seen)).map(|w| word(w, false)));
        // Nothing new is not told again; what never was words is never told at all.
        if if is_final { words.is_empty() && segment.n_revisions == 0 } else { words == segment.told } {
            return;
        }
        let start = self.pts(segment.start);
        let text = words.iter().map(|w| w.text.as_str()).collect::<Vec<_>>().join(" ");
        let transcript = Transcript {
            segment: format!("{}-segment-{}", anchor.session, segment.number),
            revision: segment.n_revisions,
            is_final,
            start: words.first().map_or(start, |w| w.start),
            end: words.last().map_or(self.pts(segment.heard), |w| w.end),
            text,
            language: segment.language.clone(),
            translated: self.config.translate,
            speaker: None,
            channel: None,
            model: Arc::clone(&self.model),
            words: words.clone(),
        };
        segment.n_revisions += 1;
        segment.told = words;
        let captured = anchor.captured.map(|c| CaptureTime { at: c.at + time(segment.start), ..c });
        tell(Heard::Words { session: anchor.session.clone(), pts: start, captured, transcript });
    }
}
