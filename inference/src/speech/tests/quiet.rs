//! Where nobody speaks there are no words, and the transcriber is not even asked on silence. All sound is made here.

use std::f32::consts::TAU;

use super::*;
use crate::speech::{config::SpeechConfig, pool::EarPolicy, test_media::austen};

const RATE: usize = 16_000;
/// What is said in the clip.
const SENTENCE: [&str; 8] = ["he", "might", "even", "have", "been", "made", "amiable", "himself"];

/// A kind of sound: the sample at a place of the stream.
type Sounding = Box<dyn FnMut(usize) -> f32>;

fn decibels(level: f32) -> f32 {
    10_f32.powf(level / 20.0)
}

/// Noise with as much of every frequency; the level, in dB below full scale, is that of the peaks.
fn white(level: f32, mut dice: Dice) -> Sounding {
    Box::new(move |_| decibels(level) * (2.0 * dice.part() - 1.0))
}

/// Noise with as much in every octave (Voss-McCartney): rain, wind, a distant street.
fn pink(level: f32, mut dice: Dice) -> Sounding {
    let mut rows = [0.0_f32; 12];
    Box::new(move |i| {
        rows[i.trailing_zeros().min(11) as usize] = 2.0 * dice.part() - 1.0;
        decibels(level) * rows.iter().sum::<f32>() / 6.0
    })
}

/// A tone for ten seconds, the next one for ten seconds, with overtones in every second one: a hum, a dial tone, a beep.
fn tones() -> Sounding {
    let pitches = [50.0, 100.0, 120.0, 200.0, 300.0, 440.0, 425.0, 800.0, 1000.0, 2100.0, 4000.0];
    Box::new(move |i| {
        let (n, t) = (i / (10 * RATE), i as f32 / RATE as f32 % 10.0);
        let tone = |k: f32| (TAU * pitches[n % pitches.len()] * k * t).sin() / k;
        0.3 * if n % 2 == 0 { tone(1.0) } else { tone(1.0) + tone(2.0) + tone(3.0) }
    })
}

/// Tones that glide up and down: a siren, a motor.
fn glides() -> Sounding {
    let mut phase = 0.0_f32;
    Box::new(move |i| {
        let t = i as f32 / RATE as f32;
        let speed = [0.25, 0.5, 2.0, 0.1][i / (20 * RATE) % 4];
        let pitch = 150.0 * 2_f32.powf(2.5 * (0.5 + 0.5 * (TAU * speed * t).sin()));
        phase = (phase + pitch / RATE as f32).fract();
        0.3 * ((TAU * phase).sin() + 0.4 * (2.0 * TAU * phase).sin())
    })
}

/// Four chords, an arpeggio, a bass and drums at 100 beats a minute.
fn music(mut dice: Dice) -> Sounding {
    let beat = RATE * 60 / 100;
    let chords = [[60, 64, 67, 72], [55, 59, 62, 67], [57, 60, 64, 69], [53, 57, 60, 65]];
    let pitch = |note: i32| 440.0 * 2_f32.powf((note - 69) as f32 / 12.0);
    let tone = |pitch: f32, t: f32, n: i32| (1..=n).map(|k| (TAU * pitch * k as f32 * t).sin() / k as f32).sum::<f32>();
    Box::new(move |i| {
        let chord = chords[i / (4 * beat) % 4];
        let in_chord = (i % (4 * beat)) as f32 / RATE as f32;
        let in_beat = (i % beat) as f32 / RATE as f32;
        let in_half = (i % (beat / 2)) as f32 / RATE as f32;
        let swell = (in_chord / 0.1).min(1.0) * (-in_chord / 2.0).exp();
        let pad: f32 = chord.iter().map(|n| tone(pitch(*n), in_chord, 5)).sum();
        let pluck = tone(pitch(chord[i / (beat / 2) % 4] + 12), in_half, 4) * (-in_half * 9.0).exp();
        let bass = tone(pitch(chord[0] - 24), in_beat, 3) * (-in_beat * 3.0).exp();
        let kick = (TAU * (45.0 + 90.0 * (-in_beat * 30.0).exp()) * in_beat).sin() * (-in_beat * 12.0).exp();
        let noise = 2.0 * dice.part() - 1.0;
        let snare = if i / beat % 2 == 1 { noise * (-in_beat * 18.0).exp() } else { 0.0 };
        let hat = noise * (-in_half * 60.0).exp();
        0.04 * pad * swell + 0.12 * pluck + 0.15 * bass + 0.3 * kick + 0.2 * snare + 0.06 * hat
    })
}

/// So many seconds of each sound through an ear of its own, all at once on two threads; then a sentence, to see that the
/// ear is not simply deaf. Gives how often the transcriber was asked before the sentence.
fn no_words(sounds: Vec<(&str, usize, Sounding)>) -> usize {
    let (one, n_first) = Counted::around(whisper());
    let (two, n_second) = Counted::around(whisper());
    let pool = pool(&SpeechPoolConfig::default(), vec![one, two]);
    let mut ears: Vec<_> = sounds
        .into_iter()
        .map(|(kind, secs, sound)| {
            let told = Told::default();
            let ear =
                pool.ear(name(kind), EarPolicy::Block, &SpeechConfig::default(), told.callback()).expect("an ear");
            (kind, secs, sound, ear, told)
        })
        .collect();
    let longest = ears.iter().map(|(_, secs, ..)| *secs).max().unwrap_or_default();
    for second in 0..longest {
        for (_, _, sound, ear, _) in ears.iter_mut().filter(|(_, secs, ..)| second < *secs) {
            let places = second * RATE..(second + 1) * RATE;
            let samples: Vec<f32> = places.clone().map(|i| sound(i).clamp(-1.0, 1.0)).collect();
            ear.push(chunk(&session(0), pts(places.start), &samples));
        }
    }
    for (_, _, _, ear, _) in &ears {
        ear.end();
        ear.drain();
    }
    let n_asked = n_first.load(SeqCst) + n_second.load(SeqCst);
    for (kind, secs, _, ear, told) in &ears {
        let words: Vec<Heard> = told.all().into_iter().filter(|h| !matches!(h, Heard::Until { .. })).collect();
        assert!(words.is_empty(), "{kind}, the transcriber was asked {n_asked} times: {words:?}");
        ear.push(chunk(&session(0), pts(secs * RATE), &austen()));
        ear.end();
        ear.drain();
        assert_eq!(final_words(&told.all()), SENTENCE, "after {kind}");
    }
    n_asked
}

#[test]
fn ten_minutes_of_silence_ask_nothing_of_the_transcriber() {
    // Digital silence, and what a sound card makes of it: the last bit flickers.
    let mut dice = Dice(1);
    let flicker = move |_| (dice.below(3) as f32 - 1.0) / 32768.0;
    let sounds: Vec<(_, _, Sounding)> = vec![("zeros", 600, Box::new(|_| 0.0)), ("flicker", 600, Box::new(flicker))];
    assert_eq!(no_words(sounds), 0);
}

/// 10 minutes of each kind of noise, over its levels: at 0.4 ms for each 32 ms window they cost some 15 s of CPU.
#[test]
fn ten_minutes_of_noise_have_no_words() {
    let sounds: Vec<(_, _, Sounding)> = vec![
        ("white-60", 150, white(-60.0, Dice(2))),
        ("white-40", 150, white(-40.0, Dice(3))),
        ("white-20", 150, white(-20.0, Dice(4))),
        ("white-3", 150, white(-3.0, Dice(5))),
        ("pink-50", 200, pink(-50.0, Dice(6))),
        ("pink-30", 200, pink(-30.0, Dice(7))),
        ("pink-6", 200, pink(-6.0, Dice(8))),
    ];
    no_words(sounds);
}

/// As long and as costly.
#[test]
fn ten_minutes_of_tones_and_of_music_have_no_words() {
    let sounds: Vec<(_, _, Sounding)> =
        vec![("tones", 300, tones()), ("glides", 300, glides()), ("music", 600, music(Dice(9)))];
    no_words(sounds);
}

#[test]
fn what_surrounds_speech_adds_no_words() {
    let pool = pool(&SpeechPoolConfig::default(), vec![whisper()]);
    let kinds: [(&str, Sounding); 5] = [
        ("white", white(-25.0, Dice(10))),
        ("pink", pink(-25.0, Dice(11))),
        ("tones", tones()),
        ("glides", glides()),
        ("music", music(Dice(12))),
    ];
    for (kind, mut sound) in kinds {
        let around = 8 * RATE;
        let mut place = 0..;
        let mut surround = || place.by_ref().take(around).map(|i| sound(i).clamp(-1.0, 1.0)).collect::<Vec<_>>();
        // Right before the first word and right after the last one.
        let stream = [surround(), austen(), surround(), austen(), surround()].concat();
        let told = Told::default();
        let ear = pool.ear(name(kind), EarPolicy::Block, &SpeechConfig::default(), told.callback()).expect("an ear");
        for (i, samples) in stream.chunks(1600).enumerate() {
            ear.push(chunk(&session(0), pts(i * 1600), samples));
        }
        ear.end();
        ear.drain();
        let words = final_words(&told.all());
        let spoken = SENTENCE.repeat(2);
        // Some of the words are lost in the noise; none may come from it.
        let n_right = words.iter().filter(|w| SENTENCE.contains(&w.as_str())).count();
        assert!(words.len() <= spoken.len() && n_right * 4 >= spoken.len() * 3, "{kind}: {words:?}");
    }
}
