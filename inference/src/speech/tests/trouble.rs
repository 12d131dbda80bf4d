//! A transcriber that fails or breaks down: what is lost is told, the stream goes on, the other streams do not notice.

use base::media::GapReason;

use super::*;
use crate::speech::{config::SpeechConfig, pool::EarPolicy, test_media::austen};

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answer,
    Fail,
    Panic,
}

/// The real transcriber, with a fate for each call: its number, and the peak of its sound.
struct Fated<F> {
    inner: Box<dyn Transcriber>,
    n_calls: usize,
    fate: F,
}

impl<F: FnMut(usize, f32) -> Fate + Send> Transcriber for Fated<F> {
    fn transcribe(&mut self, request: &Request<'_>) -> Result<Hypothesis, InferenceError> {
        let peak = request.samples.iter().fold(0.0_f32, |most, s| most.max(s.abs()));
        self.n_calls += 1;
        match (self.fate)(self.n_calls - 1, peak) {
            Fate::Answer => self.inner.transcribe(request),
            Fate::Fail => Err(InferenceError::Onnx { name: "whisper".into(), cause: "out of memory".into() }),
            Fate::Panic => panic!("a fated call"),
        }
    }

    fn languages(&self) -> &[&'static str] {
        self.inner.languages()
    }

    fn can_be_forced(&self) -> bool {
        self.inner.can_be_forced()
    }
}

fn fated(fate: impl FnMut(usize, f32) -> Fate + Send + 'static) -> SpeechPool {
    pool(&SpeechPoolConfig::default(), vec![Box::new(Fated { inner: whisper(), n_calls: 0, fate })])
}

const SENTENCE: &str = "he might even have been made amiable himself";

/// The sentence so many times, each 3.3 s and a second of silence.
fn sentences(n: usize) -> Vec<f32> {
    [austen(), vec![0.0; 16_000]].concat().repeat(n)
}

fn hear(pool: &SpeechPool, partials: bool, speech: &[f32]) -> Vec<Heard> {
    let told = Told::default();
    let config = SpeechConfig { partials, ..SpeechConfig::default() };
    let ear = pool.ear(name("cam"), EarPolicy::Block, &config, told.callback()).expect("an ear");
    for (i, samples) in speech.chunks(1600).enumerate() {
        ear.push(chunk(&session(0), pts(i * 1600), samples));
    }
    ear.end();
    ear.drain();
    promises::check(&told.all());
    told.all()
}

fn gaps(heard: &[Heard]) -> Vec<(u64, u64, GapReason)> {
    let gap = |h: &Heard| match h {
        Heard::Gap { from, to, reason, .. } => Some((from.millis(), to.millis(), *reason)),
        _ => None,
    };
    heard.iter().filter_map(gap).collect()
}

#[test]
fn speech_that_cannot_be_transcribed_is_a_gap() {
    for fate in [Fate::Fail, Fate::Panic] {
        // Finals only: the first sentence's one call.
        let heard = hear(&fated(move |n, _| if n == 0 { fate } else { Fate::Answer }), false, &sentences(3));
        assert_eq!(final_words(&heard).join(" "), [SENTENCE; 2].join(" "), "{fate:?}");
        let gaps = gaps(&heard);
        assert!(
            matches!(gaps[..], [(from, to, GapReason::SpeechFailed)] if from < 500 && (2_800..4_300).contains(&to)),
            "{gaps:?}"
        );
    }
}

#[test]
fn a_revision_that_fails_loses_nothing() {
    for fate in [Fate::Fail, Fate::Panic] {
        // Every second call; each final is asked for until it succeeds or is made of what was heard before.
        let heard = hear(&fated(move |n, _| if n < 3 { fate } else { Fate::Answer }), true, &sentences(1));
        assert_eq!(final_words(&heard).join(" "), SENTENCE, "{fate:?}");
        assert_eq!(gaps(&heard), [], "{fate:?}");
    }
}

#[test]
fn a_transcriber_that_never_answers_leaves_one_gap_a_segment() {
    for fate in [Fate::Fail, Fate::Panic] {
        let heard = hear(&fated(move |_, _| fate), true, &sentences(2));
        assert!(final_words(&heard).is_empty());
        let gaps = gaps(&heard);
        assert_eq!(gaps.len(), 2, "{fate:?}: {gaps:?}");
        assert!(gaps[0].1 <= gaps[1].0, "{fate:?}: told twice: {gaps:?}");
    }
}

#[test]
fn one_streams_breakdown_is_its_own() {
    // What is quiet breaks the transcriber.
    let pool = fated(|_, peak| if peak < 0.1 { Fate::Panic } else { Fate::Answer });
    let (bad, good) = (Told::default(), Told::default());
    let config = SpeechConfig::default();
    let ears =
        [&bad, &good].map(|told| pool.ear(name("cam"), EarPolicy::Live, &config, told.callback()).expect("an ear"));
    let loud = sentences(2);
    let peak = loud.iter().fold(0.0_f32, |most, s| most.max(s.abs()));
    let quiet: Vec<f32> = loud.iter().map(|s| s * 0.09 / peak).collect();
    for (i, (loud, quiet)) in loud.chunks(1600).zip(quiet.chunks(1600)).enumerate() {
        ears[0].push(chunk(&session(0), pts(i * 1600), quiet));
        ears[1].push(chunk(&session(1), pts(i * 1600), loud));
    }
    ears.iter().for_each(Ear::end);
    ears.iter().for_each(Ear::drain);
    promises::check(&bad.all());
    promises::check(&good.all());
    assert_eq!(final_words(&good.all()).join(" "), [SENTENCE; 2].join(" "));
    assert_eq!(gaps(&good.all()), []);
    assert!(final_words(&bad.all()).is_empty());
    assert!(!gaps(&bad.all()).is_empty());
    // And it is heard again as soon as it can be.
    ears[0].push(chunk(&session(0), pts(loud.len()), &loud));
    ears[0].end();
    ears[0].drain();
    assert_eq!(final_words(&bad.all()).join(" "), [SENTENCE; 2].join(" "));
}

#[test]
fn what_came_before_the_end_is_told_though_the_worker_broke_down() {
    let pool = fated(|n, _| if n == 0 { Fate::Panic } else { Fate::Answer });
    let told = Told::default();
    let config = SpeechConfig { partials: false, ..SpeechConfig::default() };
    let ear = pool.ear(name("cam"), EarPolicy::Paced, &config, told.callback()).expect("an ear");
    // All in one piece, and the ear's owner is gone before it is worked off.
    ear.push(chunk(&session(0), Pts::ZERO, &sentences(1)));
    ear.push(chunk(&session(0), pts(sentences(1).len()), &sentences(1)));
    ear.finish();
    // The callback goes when all is told.
    while Arc::strong_count(&told.0) > 1 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!(final_words(&told.all()).join(" "), SENTENCE);
    assert_eq!(gaps(&told.all()).len(), 1);
    promises::check(&told.all());
}
