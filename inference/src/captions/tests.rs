use std::sync::Arc;

use base::event::{ModelId, Word};

use super::*;

mod properties;

pub(super) fn session() -> SessionId {
    SessionId::derived([b"captions".as_slice()])
}

pub(super) fn word(text: &str, span_ms: std::ops::Range<u64>) -> Word {
    let (start, end) = (Pts::from_millis(span_ms.start), Pts::from_millis(span_ms.end));
    Word { text: text.into(), start, end, confidence: 0.9, stable: false }
}

/// A revision of a segment that began at `start_ms`; its first `n_stable` words are stable.
pub(super) fn transcript(
    segment: usize,
    revision: u32,
    is_final: bool,
    start_ms: u64,
    n_stable: usize,
    words: &[Word],
) -> Transcript {
    let words: Vec<Word> =
        (0..).zip(words).map(|(n, word)| Word { stable: is_final || n < n_stable, ..word.clone() }).collect();
    Transcript {
        segment: format!("{}-segment-{segment}", session()),
        revision,
        is_final,
        start: Pts::from_millis(start_ms),
        end: words.last().map_or(Pts::from_millis(start_ms), |word| word.end),
        text: words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" "),
        words,
        language: Some("en".into()),
        translated: false,
        speaker: None,
        channel: None,
        model: Arc::new(ModelId { name: "whisper-tiny.en".into(), version: "0a1b2c3d".into() }),
    }
}

/// `text` spoken from `start_ms` on, 15 characters a second; `|600` is a pause of 600 ms.
fn spoken(start_ms: u64, text: &str) -> Vec<Word> {
    let mut at = start_ms;
    let mut words = Vec::new();
    for text in text.split_whitespace() {
        if let Some(pause) = text.strip_prefix('|') {
            at += pause.parse::<u64>().expect("pause in ms");
            continue;
        }
        let end = at + 66 * (text.chars().count() as u64 + 1);
        words.push(word(text, at..end));
        at = end;
    }
    words
}

/// `1.2-3.4 first line / second line`, with `~` before what is not final.
fn shown(caption: &Caption) -> String {
    let (start, end) = (caption.start.millis(), caption.end.millis());
    let mark = if caption.is_final { "" } else { "~" };
    format!("{mark}{start}-{end} {}", caption.lines.join(" / "))
}

/// Only the lines.
fn lines(captions: &[Caption]) -> Vec<String> {
    captions.iter().map(|caption| caption.lines.join(" / ")).collect()
}

/// The final cues of a text that comes at once, as in a replay.
fn offline(config: CaptionConfig, text: &str) -> Vec<Caption> {
    let mut captioner = Captioner::new(config);
    let words = spoken(1000, text);
    let mut captions = captioner.transcript(&session(), &transcript(0, 0, true, 1000, 0, &words));
    captions.extend(captioner.finish());
    captions.retain(|caption| caption.is_final);
    captions
}

/// The final cues of the same text when `step` words come at a time and are stable one step later.
fn live(text: &str, step: usize) -> Vec<Caption> {
    let mut captioner = Captioner::new(CaptionConfig::default());
    let words = spoken(1000, text);
    let mut captions = Vec::new();
    let mut n_stable = 0;
    for (revision, chunk_end) in (0..).zip((step..words.len()).step_by(step)) {
        let revision = transcript(0, revision, false, 1000, n_stable, &words[..chunk_end]);
        captions.extend(captioner.transcript(&session(), &revision));
        n_stable = chunk_end;
    }
    captions.extend(captioner.transcript(&session(), &transcript(0, 1000, true, 1000, 0, &words)));
    captions.extend(captioner.finish());
    captions.retain(|caption| caption.is_final);
    captions
}

#[test]
fn configuration_is_checked() {
    let check = |change: fn(&mut CaptionConfig), expected: &str| {
        let mut config = CaptionConfig::default();
        config.check().expect("the defaults are good");
        change(&mut config);
        let error = config.check().expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(|c| c.max_lines = 0, "max_lines = 0 is out of range: 1 to 3");
    check(|c| c.max_lines = 4, "max_lines");
    check(|c| c.max_chars_per_line = 9, "max_chars_per_line = 9");
    check(|c| c.max_chars_per_second = f32::NAN, "max_chars_per_second");
    check(|c| c.min_duration_ms = 5001, "min_duration_ms");
    check(|c| (c.min_duration_ms, c.max_duration_ms) = (3000, 2000), "at most max_duration_ms");
    check(|c| c.max_duration_ms = 100, "max_duration_ms");
    check(|c| c.min_gap_ms = 2000, "min_gap_ms");
    check(|c| c.linger_ms = 20_000, "linger_ms");
}

#[test]
fn lines_and_cues_break_at_good_places() {
    let check = |text: &str, expected: &[&str]| assert_eq!(lines(&offline(CaptionConfig::default(), text)), expected);
    check("", &[]);
    check("Yes.", &["Yes."]);
    check(
        "And so my fellow Americans, |500 ask not |700 what your country can do for you, |800 ask what you can do for \
         your country.",
        &[
            "And so my fellow Americans, ask not",
            "what your country can do for you,",
            "ask what you can do for your country.",
        ],
    );
    check(
        "Mr. Quilter is the apostle of the middle classes, and we are glad to welcome his gospel. Nor is \
         Mr. Quilter's manner less interesting than his matter.",
        &[
            "Mr. Quilter is the apostle / of the middle classes,",
            "and we are glad to welcome his gospel.",
            "Nor is Mr. Quilter's manner less / interesting than his matter.",
        ],
    );
    // A long silence ends a cue, whatever was said.
    check("the |1600 end", &["the", "end"]);
    // Wider than a line: cut, and nothing lost.
    check(&"x".repeat(100), &[&format!("{} / {}", "x".repeat(42), "x".repeat(42)), &"x".repeat(16)]);
    // A Chinese letter is two columns wide.
    check(&"字".repeat(30), &[&format!("{} / {}", "字".repeat(21), "字".repeat(9))]);
}

#[test]
fn no_article_is_left_at_the_end_of_a_line() {
    let text = "The old man went down to the river with a basket of apples for the children of the village because \
                they had asked him for some of the apples that grew in the garden behind the house";
    for step in [1, 2, 3, 5, 100] {
        let captions = live(text, step);
        assert_eq!(lines(&captions).join(" ").replace(" / ", " "), text, "every word");
        if step >= 3 {
            for line in captions.iter().flat_map(|caption| &caption.lines) {
                let last = line.rsplit(' ').next().unwrap_or_default();
                assert!(!["the", "a", "of"].contains(&last), "step {step}: {:?}", lines(&captions));
            }
        }
    }
}

#[test]
fn limits_are_configurable() {
    let narrow = CaptionConfig { max_lines: 1, max_chars_per_line: 12, ..CaptionConfig::default() };
    assert_eq!(lines(&offline(narrow, "ask what you can do")), ["ask what you", "can do"]);
    let tall = CaptionConfig { max_lines: 3, max_chars_per_line: 12, ..CaptionConfig::default() };
    assert_eq!(lines(&offline(tall, "ask what you can do, for us")), ["ask what you / can do, / for us"]);
    let brief = CaptionConfig { max_duration_ms: 1000, ..CaptionConfig::default() };
    for caption in offline(brief, "ask what you can do for your country and mine") {
        assert!(caption.end.since(caption.start).as_millis() <= 1000, "{}", shown(&caption));
    }
}

#[test]
fn cues_stay_long_enough_to_be_read_where_there_is_room() {
    let check = |words: &[Word], expected: &[&str]| {
        let mut captioner = Captioner::new(CaptionConfig { linger_ms: 0, ..CaptionConfig::default() });
        let mut captions = captioner.transcript(&session(), &transcript(0, 0, true, 0, 0, words));
        captions.extend(captioner.finish());
        captions.retain(|caption| caption.is_final);
        assert_eq!(captions.iter().map(shown).collect::<Vec<_>>(), expected);
    };
    // At least 833 ms, unless the next cue comes; 83 ms before it where the words leave them.
    check(&[word("No.", 1000..1200)], &["1000-1833 No."]);
    check(&[word("No.", 1000..1200), word("Yes.", 2500..2600)], &["1000-1833 No.", "2500-3333 Yes."]);
    // 40 columns at 20 a second are 2 s, and are spoken in one.
    let fast = "a very fast speaker cannot be stopped ok";
    check(&[word(fast, 1000..2000)], &[&format!("1000-3000 {fast}")]);
    check(&[word(fast, 1000..2000), word("Yes.", 2900..2950)], &[&format!("1000-2817 {fast}"), "2900-3733 Yes."]);
    check(
        &[word(fast, 1000..2000), word(fast, 2000..3000), word("Yes.", 4500..4600)],
        &[&format!("1000-4417 {fast} / {fast}"), "4500-5333 Yes."],
    );
}

#[test]
fn a_cue_grows_and_what_is_shown_stays_in_its_place() {
    let mut captioner = Captioner::new(CaptionConfig::default());
    let mut revision = 0;
    let mut check = |text: &str, n_stable: usize, is_final: bool, expected: &[&str]| {
        let transcript = transcript(0, revision, is_final, 1000, n_stable, &spoken(1000, text));
        revision += 1;
        let captions = captioner.transcript(&session(), &transcript);
        assert_eq!(captions.iter().map(shown).collect::<Vec<_>>(), expected, "{text}");
        assert!(captions.iter().all(|caption| caption.language.as_deref() == Some("en")));
        assert!(captions.iter().all(|caption| caption.segment == transcript.segment));
    };
    check("and", 0, false, &["~1000-2764 and"]);
    check("and so", 0, false, &["~1000-2962 and so"]);
    // The same again: nothing to tell.
    check("and so", 1, false, &[]);
    // A revised word takes the place of the one that it revises; words may come in between.
    check("and so, my fellow", 1, false, &["~1000-3688 and so, my fellow"]);
    check("and so, oh my fellow Americans", 2, false, &["~1000-4546 and so, oh my fellow Americans"]);
    check(
        "and so, oh my fellow Americans, ask not what",
        2,
        false,
        &["~1000-5470 and so, oh my fellow Americans, / ask not what"],
    );
    // Shorter by a word: nothing moves up to the line that it was too long for.
    check(
        "and so, my fellow Americans, ask not what your",
        3,
        false,
        &["~1000-5602 and so, my fellow Americans, / ask not what your"],
    );
    // Taken back.
    check("and so, my", 3, false, &["~1000-3226 and so, my"]);
    check("and so, my fellow", 0, true, &["~1000-3688 and so, my fellow"]);
}

#[test]
fn words_that_are_taken_back_take_their_cue_with_them() {
    let mut captioner = Captioner::new(CaptionConfig::default());
    let first = captioner.transcript(&session(), &transcript(0, 0, false, 1000, 0, &spoken(1000, "thank you")));
    assert_eq!(first.iter().map(shown).collect::<Vec<_>>(), ["~1000-3160 thank you"]);
    let last = captioner.transcript(&session(), &transcript(0, 1, true, 1000, 0, &[]));
    assert_eq!(last.iter().map(shown).collect::<Vec<_>>(), ["1000-3160 "]);
    assert_eq!((last[0].cue.as_str(), last[0].revision), (first[0].cue.as_str(), 1));
    assert!(last[0].lines.is_empty());
    let next = captioner.transcript(&session(), &transcript(1, 0, true, 5000, 0, &spoken(5000, "Yes.")));
    assert!(next[0].cue.ends_with("-cue-1"), "a number is never used twice: {next:?}");
}

#[test]
fn a_cue_is_final_when_its_words_and_its_end_are_known() {
    let mut captioner = Captioner::new(CaptionConfig::default());
    let told = |captions: Vec<Caption>| captions.iter().map(shown).collect::<Vec<_>>();
    let settled = |captioner: &Captioner| captioner.settled_until().millis();
    assert_eq!(told(captioner.advance(Pts::from_millis(900))), [""; 0]);
    assert_eq!(settled(&captioner), 900);
    let yes = transcript(0, 0, true, 1000, 0, &spoken(1000, "Yes."));
    assert_eq!(told(captioner.transcript(&session(), &yes)), ["~1000-2830 Yes."]);
    // It is over, but somebody may speak at once, and the cue would go sooner.
    assert_eq!(told(captioner.advance(Pts::from_millis(2000))), [""; 0]);
    // Its words are told: only how long it stays is open.
    assert_eq!(settled(&captioner), 1330);
    let no = transcript(1, 0, false, 2100, 0, &spoken(2100, "No."));
    assert_eq!(told(captioner.transcript(&session(), &no)), ["~1000-2017 Yes.", "~2100-3864 No."]);
    let no = transcript(1, 1, false, 2100, 1, &spoken(2100, "No. Never"));
    assert_eq!(told(captioner.transcript(&session(), &no)), ["1000-2017 Yes.", "~2100-4260 No. Never"]);
    assert_eq!(settled(&captioner), 2100);
    let no = transcript(1, 2, true, 2100, 0, &spoken(2100, "No. Never"));
    assert_eq!(told(captioner.transcript(&session(), &no)), [""; 0]);
    assert_eq!(told(captioner.advance(Pts::from_millis(4342))), [""; 0]);
    assert_eq!(told(captioner.advance(Pts::from_millis(4343))), ["2100-4260 No. Never"]);
    assert_eq!(settled(&captioner), 4343);
    // Late and repeated revisions of a final segment change nothing.
    assert_eq!(told(captioner.transcript(&session(), &no)), [""; 0]);
    assert_eq!(told(captioner.advance(Pts::from_millis(100))), [""; 0]);
    assert_eq!(told(captioner.finish()), [""; 0]);
    assert_eq!(settled(&captioner), 4343);
}

#[test]
fn a_segment_that_overtakes_another_waits_for_it() {
    let mut captioner = Captioner::new(CaptionConfig::default());
    let one = |revision, is_final| transcript(0, revision, is_final, 1000, 0, &spoken(1000, "one"));
    let two = |revision, is_final| transcript(1, revision, is_final, 5000, 0, &spoken(5000, "two"));
    let mut take = |transcript: &Transcript| -> Vec<String> {
        captioner.transcript(&session(), transcript).iter().map(shown).collect()
    };
    assert_eq!(take(&one(0, false)), ["~1000-2764 one"]);
    assert_eq!(take(&two(0, false)), [""; 0]);
    assert_eq!(take(&two(1, false)), [""; 0]);
    assert_eq!(take(&one(1, true)), ["~5000-6764 two"]);
    // A final one says that nothing more comes of those before it.
    assert_eq!(take(&transcript(2, 0, true, 9000, 0, &spoken(9000, "three"))).len(), 3);
    assert_eq!(take(&two(2, true)), [""; 0]);
}

#[test]
fn a_new_session_begins_anew() {
    let mut captioner = Captioner::new(CaptionConfig::default());
    captioner.transcript(&session(), &transcript(0, 0, false, 9000, 0, &spoken(9000, "old")));
    let next = SessionId::derived([b"next".as_slice()]);
    let new = transcript(0, 0, false, 0, 0, &spoken(0, "new"));
    let captions = captioner.transcript(&next, &Transcript { segment: format!("{next}-segment-0"), ..new });
    assert_eq!(captions.iter().map(shown).collect::<Vec<_>>(), ["9000-10764 old", "~0-1764 new"]);
    assert_eq!(captions[1].cue, format!("{next}-cue-0"));
    assert_eq!(captions[0].cue, format!("{}-cue-0", session()));
    let third = SessionId::derived([b"third".as_slice()]);
    assert_eq!(captioner.begin(&third).iter().map(shown).collect::<Vec<_>>(), ["0-1764 new"]);
    assert_eq!((captioner.begin(&third), captioner.settled_until()), (Vec::new(), Pts::ZERO));
}

#[test]
fn only_words_that_stay_are_shown_on_demand() {
    let mut captioner = Captioner::new(CaptionConfig { show_unstable: false, ..CaptionConfig::default() });
    let mut take = |revision, is_final, n_stable, text: &str| -> Vec<String> {
        let transcript = transcript(0, revision, is_final, 0, n_stable, &spoken(0, text));
        captioner.transcript(&session(), &transcript).iter().map(shown).collect()
    };
    assert_eq!(take(0, false, 0, "and so"), [""; 0]);
    assert_eq!(take(1, false, 1, "and so my"), ["~0-1764 and"]);
    assert_eq!(take(2, true, 0, "and so"), ["~0-1962 and so"]);
}
