//! The default speech model on real speech.

use std::sync::OnceLock;

use parking_lot::Mutex;

use super::*;
use crate::speech::test_media::{DECODER, ENCODER, VOCABULARY, austen, jfk};

const JFK: &str =
    "And so my fellow Americans ask not what your country can do for you ask what you can do for your country";
const AUSTEN: &str = "He might even have been made amiable himself";

fn files() -> WhisperFiles {
    WhisperFiles {
        name: "whisper-tiny.en".into(),
        encoder: ENCODER.into(),
        decoder: DECODER.into(),
        vocabulary: VOCABULARY.into(),
    }
}

/// Loading takes longer than most tests: they share one model.
fn with_model<T>(f: impl FnOnce(&mut WhisperOnnx) -> T) -> T {
    static MODEL: OnceLock<Mutex<WhisperOnnx>> = OnceLock::new();
    let load = || Mutex::new(WhisperOnnx::load(files(), WhisperOptions::default()).expect("the model in models/"));
    f(&mut MODEL.get_or_init(load).lock())
}

fn transcribe(request: &Request<'_>) -> Hypothesis {
    with_model(|model| model.transcribe(request)).expect("transcribed")
}

fn plain(heard: &Hypothesis) -> String {
    let words = heard.words.iter().map(|w| w.text.trim_matches(|c: char| c.is_ascii_punctuation()));
    words.collect::<Vec<_>>().join(" ")
}

/// Two that should be the same but for the last digits of what was computed.
fn assert_same(found: &Hypothesis, expected: &Hypothesis, what: &str) {
    assert_eq!(found.tokens, expected.tokens, "{what}");
    assert_eq!(found.cut, expected.cut, "{what}");
    assert!((found.no_speech - expected.no_speech).abs() < 1e-3, "{what}");
    for (a, b) in found.words.iter().zip(&expected.words) {
        assert_eq!((&a.text, &a.tokens), (&b.text, &b.tokens), "{what}");
        // A position of the encoder more or less.
        let apart = a.span.start.abs_diff(b.span.start).max(a.span.end.abs_diff(b.span.end));
        assert!(apart <= Duration::from_millis(40), "{what}: {a:?}, expected {b:?}");
    }
    assert_eq!(found.words.len(), expected.words.len(), "{what}");
}

#[test]
fn real_speech_becomes_its_words() {
    for (samples, expected) in [(jfk(), JFK), (austen(), AUSTEN)] {
        let heard = transcribe(&Request::new(&samples));
        assert_eq!(plain(&heard).to_lowercase(), expected.to_lowercase());
        assert!(!heard.cut && heard.no_speech < 0.2 && heard.avg_logprob > -0.4, "{heard:?}");
        assert!(heard.compression_ratio < 1.6, "{heard:?}");
        assert_eq!(heard.language.as_deref(), Some("en"));
        assert!(heard.words.iter().all(|w| w.confidence > 0.1 && w.confidence <= 1.0), "{heard:?}");
        let covered: Vec<usize> = heard.words.iter().flat_map(|w| w.tokens.clone()).collect();
        assert_eq!(covered, (0..heard.tokens.len()).collect::<Vec<_>>());
    }
}

/// Where the silence is shown coarsely, the model writes what it writes when it sees all 30 s.
#[test]
fn coarse_silence_changes_nothing_that_is_said() {
    let all = Some(Duration::from_secs(30));
    for samples in [jfk(), austen(), jfk()[..3 * RATE].to_vec()] {
        let coarse = transcribe(&Request::new(&samples));
        let fine = transcribe(&Request { context: all, ..Request::new(&samples) });
        assert_eq!(plain(&coarse).to_lowercase(), plain(&fine).to_lowercase());
        assert!((coarse.avg_logprob - fine.avg_logprob).abs() < 0.1, "{coarse:?}, {fine:?}");
    }
}

#[test]
fn views_cover_thirty_seconds() {
    let check = |n_samples: usize, floor_secs: u64, n_fine: usize, n_positions: usize, n_shown: usize| {
        let view = View::of(n_samples, Duration::from_secs(floor_secs));
        assert_eq!((view.n_fine, view.places.len(), view.n_samples()), (n_fine, n_positions, n_shown));
        assert_eq!((view.frames.len(), view.weights.len()), (n_positions, n_positions));
        let stood_for: f32 = view.weights.iter().map(|w| w.exp()).sum();
        assert!((stood_for - 1500.0).abs() < 0.1, "{stood_for}");
        assert!(view.places.is_sorted() && view.places.iter().all(|p| (0..1500).contains(p)));
        assert!(view.frames.iter().all(|f| *f < (n_shown / 320) as i64));
    };
    check(0, 0, 25, 25 + 185, 27 * 320);
    check(1, 0, 26, 26 + 185, 28 * 320);
    check(RATE, 10, 500, 500 + 125, 502 * 320);
    check(11 * RATE, 0, 575, 575 + 116, 577 * 320);
    check(30 * RATE, 0, 1500, 1500, 480_000);
    check(0, 60, 1500, 1500, 480_000);
    check(475_000, 0, 1500, 1500, 480_000);
}

/// Times by ear and by the loudness of the recording; the reference implementation's are the same within 0.1 s.
#[test]
fn words_have_their_times() {
    let samples = jfk();
    let heard = transcribe(&Request::new(&samples));
    let check = |nth: usize, word: &str, start: f64, end: f64| {
        let found = heard.words.iter().filter(|w| w.text.trim_matches([',', '.']).eq_ignore_ascii_case(word)).nth(nth);
        let span = found.expect("was said").span.clone();
        let off = (span.start.as_secs_f64() - start).abs().max((span.end.as_secs_f64() - end).abs());
        assert!(off <= 0.4, "{word}: {span:?}, expected {start} to {end}");
    };
    check(0, "and", 0.35, 0.75);
    check(0, "fellow", 1.45, 1.75);
    check(0, "Americans", 1.75, 2.25);
    check(0, "ask", 3.4, 3.85);
    check(0, "country", 6.0, 6.35);
    check(1, "ask", 8.15, 8.6);
    check(1, "country", 10.2, 10.65);
    let end = Duration::from_secs(11);
    let ordered = heard.words.windows(2).all(|w| w[0].span.end <= w[1].span.start);
    assert!(ordered && heard.words.iter().all(|w| w.span.start <= w.span.end && w.span.end <= end), "{heard:?}");
}

/// Right, wrong, too long, with what is no text: any draft gives what none gives.
#[test]
fn drafts_never_change_the_result() {
    for samples in [jfk(), jfk()[..5 * RATE].to_vec(), austen()] {
        let expected = transcribe(&Request::new(&samples));
        let truth = expected.tokens.clone();
        let changed = |at: usize, token: Token| {
            let mut draft = truth.clone();
            draft[at] = token;
            draft
        };
        let without = |at: usize| [&truth[..at], &truth[at + 1..]].concat();
        let n = truth.len();
        let drafts = [
            truth.clone(),
            truth[..n / 2].to_vec(),
            [&truth[..], &truth[..]].concat(),
            truth.iter().rev().copied().collect(),
            changed(0, 1000),
            changed(n / 2, 50_256),
            changed(n - 1, 60_000),
            without(0),
            without(n / 2),
            vec![11; 400],
            vec![u32::MAX],
        ];
        for draft in drafts {
            let heard = transcribe(&Request { draft: &draft, ..Request::new(&samples) });
            assert_same(&heard, &expected, &format!("draft {draft:?}"));
            assert!((heard.avg_logprob - expected.avg_logprob).abs() < 1e-3);
        }
    }
}

/// Forced with what it would say anyway, the model says the rest of it; forced with something else, it keeps that.
#[test]
fn forced_tokens_come_first() {
    let samples = jfk();
    let expected = transcribe(&Request::new(&samples));
    for n in [1, expected.tokens.len() / 2, expected.tokens.len()] {
        let (forced, draft) = expected.tokens.split_at(n);
        for draft in [&[], draft] {
            let heard = transcribe(&Request { forced, draft, ..Request::new(&samples) });
            assert_same(&heard, &expected, &format!("{n} forced"));
            assert!(heard.words.iter().all(|w| w.tokens.end > n || w.confidence == 1.0), "{heard:?}");
        }
    }
    let other = transcribe(&Request::new(&austen())).tokens;
    let heard = transcribe(&Request { forced: &other[..3], ..Request::new(&samples) });
    assert_eq!(heard.tokens[..3], other[..3]);
}

#[test]
fn silence_is_known_as_such() {
    let noise: Vec<f32> =
        (0..5 * RATE as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 16) as f32 / 3.3e7 - 1e-3).collect();
    for samples in [vec![0.0; 5 * RATE], noise] {
        let heard = transcribe(&Request::new(&samples));
        assert!(heard.words.is_empty() || heard.no_speech > 0.6, "{heard:?}");
        let speech = transcribe(&Request::new(&austen()));
        assert!(heard.no_speech > 2.0 * speech.no_speech, "{heard:?}");
    }
}

#[test]
fn bounds_of_a_request() {
    let heard = transcribe(&Request::new(&[]));
    assert!(heard.words.iter().all(|w| w.span.end.is_zero()), "{heard:?}");
    let long: Vec<f32> = jfk().into_iter().cycle().take(30 * RATE).collect();
    let heard = transcribe(&Request::new(&long));
    assert!(plain(&heard).starts_with("And so my fellow Americans") && heard.words.len() > 40, "{heard:?}");
    let refused = |request: Request<'_>, expected: &str| {
        let error = with_model(|m| m.transcribe(&request)).expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    };
    let short = &long[..RATE];
    refused(Request::new(&vec![0.0; 30 * RATE + 1]), "480001 at 16 kHz is out of range: at most 30 s");
    refused(Request { forced: &[50_257], ..Request::new(short) }, "token 50257");
    refused(Request { forced: &[11; 225], ..Request::new(short) }, "at most 224");
    refused(Request { language: Some("de"), ..Request::new(short) }, "knows no language `de`");
    refused(Request { translate: true, ..Request::new(short) }, "cannot translate");
    let heard = transcribe(&Request { language: Some("en"), ..Request::new(&austen()) });
    assert_eq!(plain(&heard), AUSTEN);
}

/// Sound that repeats itself makes no endless text, and a passage that the model was made to repeat is no loop of its own.
#[test]
fn text_ends() {
    let tone: Vec<f32> = (0..8 * RATE).map(|i| (i as f32 * 0.17).sin() * ((i / 3000) % 2) as f32 * 0.4).collect();
    let heard = transcribe(&Request::new(&tone));
    assert!(heard.tokens.len() <= 8 * TOKENS_PER_SECOND + TOKENS_AT_LEAST, "{heard:?}");
    let and_so = &transcribe(&Request::new(&jfk())).tokens[..4];
    let forced = and_so.repeat(8);
    let heard = transcribe(&Request { forced: &forced, ..Request::new(&jfk()) });
    assert!(heard.tokens.starts_with(&forced), "{heard:?}");
}

#[test]
fn files_that_do_not_fit_are_refused() {
    let check = |change: fn(&mut WhisperFiles), expected: &[&str]| {
        let mut files = files();
        change(&mut files);
        let error = WhisperOnnx::load(files, WhisperOptions::default()).err().expect("refused").to_string();
        assert!(expected.iter().all(|part| error.contains(part)), "{error}");
    };
    check(
        |f| f.encoder = DECODER.into(),
        &["whisper-tiny.en", "encoder.onnx: input `mel`", "expected f32 [1, -1, -1]", "found none"],
    );
    check(|f| f.decoder = ENCODER.into(), &["decoder.onnx: input `past_key`", "found none"]);
    check(|f| f.encoder = b"no graph".as_slice().into(), &["whisper-tiny.en", "encoder.onnx: "]);
    check(|f| f.vocabulary = ENCODER.into(), &["vocabulary.bin", "expected whisper-vocabulary-1"]);
    let short = |f: &mut WhisperFiles| f.vocabulary = [VOCABULARY, b"\0"].concat().into();
    check(short, &["decoder.onnx: output `probabilities`", "51865"]);
}
