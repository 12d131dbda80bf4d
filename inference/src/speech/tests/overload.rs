//! More speech than can be transcribed: nobody waits, nobody starves, and what is left out is told to the millisecond.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use base::media::GapReason;

use super::*;
use crate::speech::{
    config::SpeechConfig,
    pool::EarPolicy,
    test_media::{austen, jfk},
};

/// A transcriber that answers once the test lets it.
struct Gated {
    inner: Box<dyn Transcriber>,
    gate: Arc<Mutex<()>>,
    /// Somebody has come to the gate.
    reached: Arc<AtomicBool>,
}

impl Transcriber for Gated {
    fn transcribe(&mut self, request: &Request<'_>) -> Result<Hypothesis, InferenceError> {
        self.reached.store(true, Relaxed);
        drop(self.gate.lock());
        self.inner.transcribe(request)
    }

    fn languages(&self) -> &[&'static str] {
        self.inner.languages()
    }

    fn can_be_forced(&self) -> bool {
        self.inner.can_be_forced()
    }
}

#[test]
fn what_is_left_out_and_what_is_heard_make_up_the_whole() {
    let gate = Arc::new(Mutex::new(()));
    let reached = Arc::new(AtomicBool::new(false));
    let gated = Gated { inner: whisper(), gate: Arc::clone(&gate), reached: Arc::clone(&reached) };
    let config = SpeechPoolConfig { max_pending_secs: 2, ..SpeechPoolConfig::default() };
    let pool = pool(&config, vec![Box::new(gated)]);
    let told = Told::default();
    let ear = pool.ear(name("cam"), EarPolicy::Live, &SpeechConfig::default(), told.callback()).expect("an ear");
    let speech: Vec<f32> = jfk().into_iter().cycle().take(60 * 16_000).collect();
    // The first half while the transcriber does not move at all, the second as it pleases.
    let mut shut = Some(gate.lock());
    for (i, samples) in speech.chunks(320).enumerate() {
        if i == 1500 {
            assert!(ear.reading().lost > Duration::from_secs(20), "{:?}", ear.reading());
            shut = None;
        }
        ear.push(chunk(&session(0), pts(i * 320), samples));
    }
    assert!(shut.is_none());
    ear.end();
    ear.drain();
    let heard = told.all();
    promises::check(&heard);

    // Between the gaps all was worked off, up to the gap's first sample.
    let (mut worked_off, mut left_out) = (Duration::ZERO, Duration::ZERO);
    let (mut begin, mut until) = (Pts::ZERO, Pts::ZERO);
    let mut gaps = Vec::new();
    for one in &heard {
        match one {
            Heard::Gap { from, to, reason, .. } => {
                assert_eq!(*reason, GapReason::SpeechOverload, "{one:?}");
                assert_eq!(*from, until, "a hole between what was heard and {one:?}");
                worked_off += from.since(begin);
                left_out += to.since(*from);
                (begin, until) = (*to, *to);
                gaps.push(*from..*to);
            }
            Heard::Until { pts, .. } => until = until.max(*pts),
            Heard::Words { .. } => {}
        }
    }
    worked_off += until.since(begin);
    assert_eq!(worked_off + left_out, Duration::from_secs(60), "{gaps:?}");
    let reading = ear.reading();
    assert_eq!((reading.lost, reading.waiting, reading.lag), (left_out, Duration::ZERO, Duration::ZERO));
    assert!(!gaps.is_empty() && !final_words(&heard).is_empty(), "{heard:?}");
    // Nobody hears what was left out.
    for one in &heard {
        if let Heard::Words { transcript, .. } = one {
            let inside = |pts: Pts| gaps.iter().any(|g| g.start < pts && pts < g.end);
            assert!(!transcript.words.iter().any(|w| inside(w.start) || inside(w.end)), "{transcript:?} in {gaps:?}");
        }
    }
}

#[test]
fn streams_take_turns() {
    let gate = Arc::new(Mutex::new(()));
    let reached = Arc::new(AtomicBool::new(false));
    let gated = Gated { inner: whisper(), gate: Arc::clone(&gate), reached: Arc::clone(&reached) };
    let pool = pool(&SpeechPoolConfig::default(), vec![Box::new(gated)]);
    let speech = [austen(), vec![0.0; 16_000]].concat().repeat(5);
    let order = Arc::new(Mutex::new(Vec::new()));
    let shut = gate.lock();
    // Somebody else's sound keeps the worker at the gate, so that all three have their whole sound before their first turn.
    let other = pool.ear(name("other"), EarPolicy::Live, &SpeechConfig::default(), Box::new(|_| {})).expect("an ear");
    other.push(chunk(&session(3), pts(0), &speech));
    while !reached.load(Relaxed) {
        std::thread::yield_now();
    }
    let ears = [0, 1, 2].map(|n| {
        let order = Arc::clone(&order);
        let on_heard = Box::new(move |heard| order.lock().push((n, heard)));
        let ear =
            pool.ear(name(&format!("cam{n}")), EarPolicy::Live, &SpeechConfig::default(), on_heard).expect("an ear");
        // All at once; nobody is in the way of the one who pushes.
        for (i, samples) in speech.chunks(1600).enumerate() {
            ear.push(chunk(&session(n), pts(i * 1600), samples));
        }
        ear.end();
        ear
    });
    drop(shut);
    ears.iter().for_each(Ear::drain);
    let order = order.lock();
    let words: Vec<u32> = order.iter().filter(|(_, h)| matches!(h, Heard::Words { .. })).map(|(n, _)| *n).collect();
    let count = |words: &[u32], n| words.iter().filter(|w| **w == n).count();
    // The same work for each...
    assert!(count(&words, 0) >= 5, "{words:?}");
    assert!([1, 2].iter().all(|n| count(&words, *n) == count(&words, 0)), "{words:?}");
    // ...and nobody is ever ahead of another by more than a turn and what was begun before the others came.
    for end in 0..words.len() {
        let done = [0, 1, 2].map(|n| count(&words[..end], n));
        let apart = done.iter().max().zip(done.iter().min()).map(|(most, least)| most - least);
        assert!(apart <= Some(2), "{words:?}");
    }
    for n in 0..3 {
        let own: Vec<Heard> = order.iter().filter(|(m, _)| *m == n).map(|(_, h)| h.clone()).collect();
        promises::check(&own);
        assert_eq!(
            final_words(&own),
            "he might even have been made amiable himself ".repeat(5).split_whitespace().collect::<Vec<_>>()
        );
    }
    assert!(ears.iter().all(|ear| ear.reading().lost == Duration::ZERO));
}
