//! Words that firm up never change, however the sound comes in and whatever the model says.

use proptest::prelude::*;

use super::*;
use crate::speech::{
    config::{SpeechConfig, samples, time},
    guard::Guard,
    listener::{Listener, Sound},
    pool::EarPolicy,
    test_media::{austen, jfk},
    transcriber::HeardWord,
};
use std::time::Duration;

/// What comes next in a stream.
#[derive(Debug, Clone)]
enum Step {
    /// So many milliseconds more of the speech.
    Speech(usize),
    /// So many milliseconds of silence.
    Silence(usize),
    /// So many milliseconds are missing, and the next chunk says so.
    Hole(usize),
    /// So many milliseconds had to be thrown away.
    Lost(usize),
    /// The connection is over; the stream goes on in the same session.
    End,
    /// Another session, whose time begins anew.
    Session,
    /// What waits is worked off down to so many milliseconds before more comes.
    Wait(u64),
}

/// Steps of a whole stream.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        24 => prop_oneof![1..40_usize, 20..400_usize].prop_map(Step::Speech),
        2 => (1..1500_usize).prop_map(Step::Silence),
        1 => (1..1500_usize).prop_map(Step::Hole),
        1 => (1..800_usize).prop_map(Step::Lost),
        1 => Just(Step::End),
        1 => Just(Step::Session),
        8 => (0..500_u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..120)
}

/// The speech of the tests, for ever: a second speaker after the first, with a pause between them.
fn speech() -> Vec<f32> {
    [jfk(), vec![0.0; 16_000], austen(), vec![0.0; 16_000]].concat()
}

/// Turns steps into sound.
struct Stream {
    speech: Vec<f32>,
    at: usize,
    session: u32,
    /// Samples since the session's begin.
    position: usize,
    discontinuity: bool,
}

impl Stream {
    fn new(begin: usize) -> Self {
        Self { speech: speech(), at: begin, session: 0, position: 0, discontinuity: false }
    }

    fn sound(&mut self, step: &Step) -> Option<Sound> {
        let (samples, ms) = match step {
            Step::Speech(ms) => {
                let n = ms * 16;
                let samples = (0..n).map(|i| self.speech[(self.at + i) % self.speech.len()]).collect();
                self.at += n;
                (samples, *ms)
            }
            Step::Silence(ms) => (vec![0.0; ms * 16], *ms),
            Step::Hole(ms) | Step::Lost(ms) => {
                let from = pts(self.position);
                // The speaker goes on meanwhile.
                (self.position, self.at) = (self.position + ms * 16, self.at + ms * 16);
                let session = session(self.session);
                if matches!(step, Step::Lost(_)) {
                    return Some(Sound::Lost { session, from, to: pts(self.position) });
                }
                self.discontinuity = true;
                return None;
            }
            Step::End => return Some(Sound::End),
            Step::Session => {
                (self.session, self.position, self.discontinuity) = (self.session + 1, 0, false);
                return None;
            }
            Step::Wait(_) => return None,
        };
        let mut chunk = chunk(&session(self.session), pts(self.position), &samples);
        chunk.discontinuity = std::mem::take(&mut self.discontinuity);
        self.position += ms * 16;
        Some(Sound::Chunk(chunk))
    }
}

/// The settings' corners, too.
fn config(dice: &mut Dice) -> SpeechConfig {
    let mut config = SpeechConfig { partials: !dice.happens(0.2), ..SpeechConfig::default() };
    if dice.happens(0.5) {
        config.hangover_ms = 100 + dice.below(900) as u64;
        config.pre_roll_ms = dice.below(1001) as u64;
        config.max_segment_secs = 5 + dice.below(6) as u64;
        config.step_ms = 100 + dice.below(900) as u64;
        config.min_speech_ms = 32 + dice.below(300) as u64;
    }
    config
}

/// Stands in for the transcriber to say what a real one hardly ever says: other words every time, times that go back, words
/// without length or beyond the sound, wild doubts, errors. Only for the listener's own logic.
struct Adversary {
    dice: Dice,
    can_be_forced: bool,
    /// How often a word is another one than last time.
    wildness: f32,
}

impl Transcriber for Adversary {
    fn transcribe(&mut self, request: &Request<'_>) -> Result<Hypothesis, InferenceError> {
        let dice = &mut self.dice;
        if dice.happens(0.05) {
            return Err(InferenceError::Onnx { name: "adversary".into(), cause: "as told".into() });
        }
        let n_forced = if self.can_be_forced { request.forced.len() } else { 0 };
        let length = time(request.samples.len()).as_millis() as u64;
        let mut heard = Hypothesis { avg_logprob: -0.3, language: Some("en".into()), ..Hypothesis::default() };
        if dice.happens(0.1) {
            heard.avg_logprob = -2.0 * dice.part();
            heard.no_speech = dice.part();
            heard.compression_ratio = 3.0 * dice.part();
            heard.cut = dice.happens(0.2);
        }
        heard.tokens.extend(&request.forced[..n_forced]);
        // A word every 300 ms; which one depends on the sound at that place, so that it is found again.
        let n_words = (length / 300) as usize;
        for i in 0..n_words.max(n_forced) {
            let sample = request.samples.get(i * 4800 + 2400).copied().unwrap_or_default();
            let mut token = heard.tokens.get(i).copied().unwrap_or((sample.abs() * 1e4) as u32 % 7);
            let (mut start, mut end) = (i as u64 * 300, i as u64 * 300 + 250);
            if i >= n_forced {
                if dice.happens(self.wildness) {
                    token = dice.below(7) as u32;
                }
                if dice.happens(self.wildness) {
                    start = dice.below(length as usize + 1500) as u64;
                    end = start + dice.below(1500) as u64;
                }
                if dice.happens(self.wildness / 4.0) {
                    break;
                }
                heard.tokens.push(token);
            }
            heard.words.push(HeardWord {
                text: ["and", "so", "So,", "my", "fellow", "word.", "no"][token as usize % 7].into(),
                span: Duration::from_millis(start)..Duration::from_millis(end),
                confidence: if dice.happens(0.3) { dice.part() } else { 0.9 },
                tokens: i..i + 1,
            });
        }
        Ok(heard)
    }

    fn languages(&self) -> &[&'static str] {
        &["en"]
    }

    fn can_be_forced(&self) -> bool {
        self.can_be_forced
    }
}

/// Hears the steps with the listener alone, on this thread: a failing case is the same when it is tried again.
fn hear(steps: &[Step], seed: u64) -> Vec<Heard> {
    let mut dice = Dice(seed);
    let config = config(&mut dice);
    let (batch, can_be_forced) = (dice.happens(0.3), dice.happens(0.5));
    let wildness = [0.0, 0.05, 0.3][dice.below(3)];
    let mut stream = Stream::new(dice.below(200_000));
    let mut listener = Listener::new(config, batch, model_id(), Guard::default());
    let mut tools = Tools { vad: vad(), transcriber: Box::new(Adversary { dice, can_be_forced, wildness }) };
    let mut told = Vec::new();
    for step in steps {
        listener.take(stream.sound(step));
        if matches!(step, Step::Wait(ms) if ms % 2 == 0) {
            while listener.turn(&mut tools, &mut |heard| told.push(heard)) {}
        }
    }
    listener.take([Sound::End]);
    while listener.turn(&mut tools, &mut |heard| told.push(heard)) {}
    told
}

/// One step after the other into a real ear, which works on its own thread meanwhile.
fn hear_live(pool: &SpeechPool, config: &SpeechConfig, steps: &[Step]) -> Vec<Heard> {
    let told = Told::default();
    let ear = pool.ear(name("cam"), EarPolicy::Live, config, told.callback()).expect("an ear");
    let mut stream = Stream::new(0);
    for step in steps {
        match stream.sound(step) {
            Some(Sound::Chunk(chunk)) => ear.push(chunk),
            Some(Sound::End) => ear.end(),
            // Only the pool itself loses sound; its reader sees a hole.
            Some(Sound::Lost { .. }) => stream.discontinuity = true,
            None => {
                if let Step::Wait(ms) = step {
                    while ear.reading().waiting > Duration::from_millis(100 + ms) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            }
        }
    }
    ear.end();
    ear.drain();
    told.all()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn whatever_the_model_says(steps in steps(), seed in any::<u64>()) {
        promises::check(&hear(&steps, seed));
    }
}

#[test]
fn however_real_speech_comes_in() {
    let pool = pool(&SpeechPoolConfig::default(), vec![whisper()]);
    let mut dice = Dice(2003);
    let config = SpeechConfig { language: "en".into(), ..SpeechConfig::default() };
    let mut n_stable = 0;
    for case in 0..8 {
        // From chunks of 10 ms to chunks of a third of a second, as fast as they are used up or all at once.
        let (most, patient) = (10 + case * 40, case % 4 != 3);
        let mut steps = Vec::new();
        let mut ms = 0;
        while ms < 9_000 {
            steps.push(match dice.below(60) {
                0 if case > 2 => Step::Hole(1 + dice.below(1200)),
                1 if case > 2 => Step::End,
                2 if case > 4 => Step::Session,
                n if n < 20 && patient => Step::Wait(dice.below(300) as u64),
                _ => Step::Speech(1 + dice.below(most)),
            });
            ms += if let Some(Step::Speech(n)) = steps.last() { *n } else { 0 };
        }
        let heard = hear_live(&pool, &config, &steps);
        promises::check(&heard);
        let revisions = heard.iter().filter_map(|h| match h {
            Heard::Words { transcript, .. } if !transcript.is_final => Some(transcript),
            _ => None,
        });
        n_stable += revisions.flat_map(|t| &t.words).filter(|w| w.stable).count();
        let words = final_words(&heard);
        if case == 0 {
            // The words themselves are the business of the tests of `replay`; here they must be those of this speaker.
            let n_right = ["fellow", "americans", "ask", "what", "your", "country"]
                .iter()
                .filter(|w| words.iter().any(|h| h == *w))
                .count();
            assert!(n_right >= 5, "{words:?}");
        }
    }
    // Otherwise there was nothing that could have changed.
    assert!(n_stable > 50, "{n_stable}");
}

#[test]
fn a_recording_is_heard_the_same_however_it_is_cut() {
    let pool = pool(&SpeechPoolConfig { workers: 2, ..SpeechPoolConfig::default() }, vec![whisper(), whisper()]);
    let speech = speech();
    let hear = |length: usize| {
        let told = Told::default();
        let ear = pool.ear(name("clip"), EarPolicy::Block, &SpeechConfig::default(), told.callback()).expect("an ear");
        for (i, samples) in speech.chunks(length).enumerate() {
            ear.push(chunk(&session(0), pts(i * length), samples));
        }
        ear.end();
        ear.drain();
        let words = |h: &Heard| matches!(h, Heard::Words { .. });
        told.all().into_iter().filter(words).collect::<Vec<_>>()
    };
    let first = hear(1_024);
    promises::check(&first);
    assert!(first.len() > 10, "{first:?}");
    // Revision by revision.
    assert_eq!(hear(samples(Duration::from_millis(333))), first);
}
