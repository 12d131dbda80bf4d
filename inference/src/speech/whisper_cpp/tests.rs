//! whisper.cpp on real speech, with the weights that `make setup-test` makes.

use super::*;
use crate::{
    speech::{
        load::{SpeechEngineConfig, TranscriberFactory},
        test_media::{jfk, spanish},
    },
    store::{Model, ModelStore},
};

fn model(name: &str) -> Model {
    match ModelStore::open_default().resolve(name) {
        Ok(model) => model,
        Err(e) => panic!("this test needs {name}: run `make setup-test` ({e})"),
    }
}

fn factory(name: &str) -> TranscriberFactory {
    TranscriberFactory::open(&model(name), &SpeechEngineConfig::default()).expect("loaded")
}

fn text(heard: &Hypothesis) -> String {
    heard.words.iter().map(|w| w.text.as_str()).collect::<Vec<_>>().join(" ")
}

fn lower(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric() || *c == ' ').collect::<String>().to_lowercase()
}

const KENNEDY_SAID: &str =
    "and so my fellow americans ask not what your country can do for you ask what you can do for your country";

#[test]
fn words_with_times_and_confidence() {
    let factory = factory("whisper-tiny.en-cpp");
    let mut transcriber = factory.make().expect("transcriber");
    assert_eq!((transcriber.languages(), transcriber.can_be_forced()), (&["en"][..], false));
    assert_eq!((&*factory.model_id().name, factory.model_id().version.len()), ("whisper-tiny.en-cpp", 8));
    assert_eq!(factory.settings().floor, Duration::from_secs(10));

    let samples = jfk();
    let heard = transcriber.transcribe(&Request::new(&samples)).expect("heard");
    assert_eq!(lower(&text(&heard)), KENNEDY_SAID);
    assert!(!heard.cut && heard.no_speech < 0.2, "{heard:?}");
    assert!((-0.5..0.0).contains(&heard.avg_logprob) && (1.0..2.0).contains(&heard.compression_ratio), "{heard:?}");
    assert_eq!(heard.language.as_deref(), Some("en"));

    let end = Duration::from_micros(samples.len() as u64 * 1000 / 16);
    let (mut before, mut token) = (Duration::ZERO, 0);
    for word in &heard.words {
        assert!(before <= word.span.start && word.span.start < word.span.end && word.span.end <= end, "{word:?}");
        assert!(word.confidence > 0.0 && word.confidence <= 1.0, "{word:?}");
        assert_eq!(word.tokens.start, token);
        (before, token) = (word.span.end, word.tokens.end);
    }
    assert_eq!(token, heard.tokens.len());
    // Where the words are in the recording, read off its waveform: pauses are around "ask" and "not".
    for (word, start, end) in
        [("Americans", 1.7, 2.3), ("ask", 3.3, 3.75), ("not", 4.0, 4.6), ("country.", 10.1, 10.75)]
    {
        let found = heard.words.iter().find(|w| w.text.trim_end_matches(',') == word).expect(word);
        let near = |at: Duration, expected: f64| (at.as_secs_f64() - expected).abs() < 0.35;
        assert!(near(found.span.start, start) && near(found.span.end, end), "{found:?}");
    }
}

#[test]
fn short_sound_is_shown_with_the_floor() {
    let factory = factory("whisper-tiny.en-cpp");
    let mut transcriber = factory.make().expect("transcriber");
    let samples = jfk();
    // Two calls in turn: neither leaves anything behind for the other.
    let short = transcriber.transcribe(&Request::new(&samples[..2 * RATE])).expect("short");
    let long = transcriber.transcribe(&Request::new(&samples)).expect("long");
    assert!(lower(&text(&short)).starts_with("and so my fellow american"), "{short:?}");
    assert!(short.words.iter().all(|w| w.span.end <= Duration::from_secs(2)), "{short:?}");
    let mut other = factory.make().expect("transcriber");
    assert_eq!(other.transcribe(&Request::new(&samples)).expect("long"), long);
    assert_eq!(transcriber.transcribe(&Request::new(&samples[..2 * RATE])).expect("short"), short);

    let check = |seconds: f64, floor: u64, expected: usize| {
        let n_samples = (seconds * RATE as f64) as usize;
        assert_eq!(audio_ctx(n_samples, Duration::from_secs(floor)), expected, "{seconds} s, floor {floor} s");
    };
    check(2.0, 10, 500);
    check(2.0, 1, 100 + MARGIN);
    check(10.0, 10, 500 + MARGIN);
    check(29.9, 10, 1500);
    check(2.0, 30, 1500);
    check(40.0, 10, 1500);
    check(2.0, 99, 1500);
}

#[test]
fn silence_is_probably_no_speech() {
    let factory = factory("whisper-tiny.en-cpp");
    let mut transcriber = factory.make().expect("transcriber");
    let silence = vec![0.0; 5 * RATE];
    let heard = transcriber.transcribe(&Request::new(&silence)).expect("heard");
    assert!(heard.no_speech > 0.6, "{heard:?}");
    // Less than the library looks at.
    for n in [0, 1, SHORTEST - 1] {
        let heard = transcriber.transcribe(&Request::new(&silence[..n])).expect("heard");
        assert_eq!((heard.words.len(), heard.no_speech), (0, 1.0));
    }
    // More than 30 s: the rest is left aside.
    let heard = transcriber.transcribe(&Request::new(&vec![0.0; 31 * RATE])).expect("heard");
    assert!(heard.no_speech > 0.6, "{heard:?}");
}

#[test]
fn languages_are_told_apart_and_translated() {
    let factory = factory("whisper-base");
    let mut transcriber = factory.make().expect("transcriber");
    assert!(factory.settings().multilingual() && transcriber.languages().len() == 99);
    let kennedy = jfk();
    let spanish = spanish();
    let heard = transcriber.transcribe(&Request::new(&kennedy)).expect("heard");
    assert_eq!((heard.language.as_deref(), &*lower(&text(&heard))), (Some("en"), KENNEDY_SAID));

    let heard = transcriber.transcribe(&Request::new(&spanish)).expect("heard");
    let said = lower(&text(&heard));
    assert_eq!(heard.language.as_deref(), Some("es"), "{said}");
    for word in ["buenos días", "muy buen tiempo", "vamos juntos al parque", "café"] {
        assert!(said.contains(word), "{said}");
    }
    let english = transcriber.transcribe(&Request { translate: true, ..Request::new(&spanish) }).expect("heard");
    let said = lower(&text(&english));
    assert_eq!(english.language.as_deref(), Some("es"), "the language that is spoken");
    for word in ["good morning", "today", "park", "coffee"] {
        assert!(said.contains(word), "{said}");
    }
    // The same with the language given: only the telling apart is saved.
    let named = transcriber.transcribe(&Request { language: Some("es"), ..Request::new(&spanish) }).expect("heard");
    assert_eq!(named, heard);
    let error = transcriber.transcribe(&Request { language: Some("xx"), ..Request::new(&spanish) }).expect_err("xx");
    assert!(error.to_string().starts_with("model `whisper-base` knows no language `xx`; it knows en, zh,"), "{error}");
}

#[test]
fn what_the_model_cannot_do_is_refused() {
    let english = model("whisper-tiny.en-cpp");
    let mut transcriber = factory("whisper-tiny.en-cpp").make().expect("transcriber");
    let samples = jfk();
    let error = transcriber.transcribe(&Request { translate: true, ..Request::new(&samples) }).expect_err("translate");
    assert!(error.to_string().contains("`whisper-tiny.en-cpp` cannot translate"), "{error}");
    let error =
        transcriber.transcribe(&Request { language: Some("de"), ..Request::new(&samples) }).expect_err("German");
    assert!(error.to_string().contains("knows no language `de`; it knows en"), "{error}");

    // A manifest that promises more than the weights hold, and weights that are none.
    let weights = english.read(crate::manifest::Role::Weights).expect("weights");
    let load = |weights: &[u8], languages: &[&'static str]| {
        WhisperCppModel::load("m".into(), weights, languages.into()).err().expect("refused").to_string()
    };
    assert_eq!(
        load(&weights, &["en", "de"]),
        "model `m` does not fit its manifest: vocabulary: expected 51865 tokens or more for 2 languages (manifest), \
         found 51864 tokens, for English alone"
    );
    assert_eq!(load(b"ONNX or the like", &["en"]), "model `m`: whisper.cpp: the weights are no file of whisper.cpp's");
    assert!(load(&weights[..1 << 20], &["en"]).starts_with("model `m`: whisper.cpp: cannot load the weights"));
    let detector = ModelStore::open_default().resolve("ssdlite-mbv2").expect("built in");
    let error = TranscriberFactory::open(&detector, &SpeechEngineConfig::default()).err().expect("refused").to_string();
    assert_eq!(error, "model `ssdlite-mbv2` is for `detect`, not for `transcribe`");
}

#[test]
fn alignment_heads_by_size() {
    let check = |n_vocabulary: i32, layers: [i32; 2], expected: &str| {
        let header = Header { n_vocabulary, n_audio_layers: layers[0], n_text_layers: layers[1] };
        assert!(format!("{:?}", header.alignment()).contains(expected), "{header:?}");
    };
    check(51_864, [4, 4], "TinyEn");
    check(51_865, [4, 4], "Tiny }");
    check(51_865, [6, 6], "Base }");
    check(51_864, [12, 12], "SmallEn");
    check(51_865, [32, 32], "LargeV2");
    check(51_866, [32, 32], "LargeV3 }");
    check(51_866, [32, 4], "LargeV3Turbo");
    check(51_864, [12, 2], "TopMost { n_top: 1 }");
    assert_eq!(Header::read(b"short"), None);
}
