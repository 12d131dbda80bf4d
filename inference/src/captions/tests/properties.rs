//! What must hold for every stream of revisions that keeps the transcript's promises.

use std::collections::{BTreeMap, HashMap};

use base::event::Word;
use proptest::prelude::*;
use unicode_width::UnicodeWidthStr;

use super::*;

/// A segment as it was really spoken, and how it became known.
#[derive(Debug, Clone)]
struct Spoken {
    /// Silence before it.
    pause_ms: u64,
    /// Length, time, pause before, and punctuation of each word.
    words: Vec<(usize, u64, u64, u8)>,
    revisions: Vec<Revision>,
}

#[derive(Debug, Clone)]
struct Revision {
    n_more_known: usize,
    n_more_stable: usize,
    /// Which words that are not stable are wrong, and how.
    mistakes: Vec<(usize, u8)>,
    /// How far the stream is known to be heard, in thousandths of the way to what comes next.
    heard: u64,
}

fn a_revision() -> impl Strategy<Value = Revision> {
    (0..6_usize, 0..5_usize, prop::collection::vec((0..12_usize, 0..5_u8), 0..4), 0..=1000_u64).prop_map(
        |(n_more_known, n_more_stable, mistakes, heard)| Revision { n_more_known, n_more_stable, mistakes, heard },
    )
}

fn a_word() -> impl Strategy<Value = (usize, u64, u64, u8)> {
    let length = prop_oneof![8 => 1..12_usize, 1 => 12..60_usize];
    let pause = prop_oneof![6 => Just(0), 3 => 1..400_u64, 1 => 400..3000_u64];
    let duration = prop_oneof![1 => Just(0), 12 => 20..700_u64, 1 => 700..9000_u64];
    (length, duration, pause, 0..12_u8)
}

fn a_segment() -> impl Strategy<Value = Spoken> {
    (0..4000_u64, prop::collection::vec(a_word(), 0..45), prop::collection::vec(a_revision(), 0..10))
        .prop_map(|(pause_ms, words, revisions)| Spoken { pause_ms, words, revisions })
}

fn a_config() -> impl Strategy<Value = CaptionConfig> {
    let sizes = (1..=3_u32, prop_oneof![2 => Just(42), 1 => 10..60_u32], prop_oneof![Just(20.0_f32), 8.0..30.0_f32]);
    let times = (0..=1500_u32, prop_oneof![Just(7000), 2000..9000_u32], 0..=300_u32, 0..=2500_u32);
    (sizes, times, prop::bool::weighted(0.75)).prop_map(|(sizes, times, show_unstable)| CaptionConfig {
        max_lines: sizes.0,
        max_chars_per_line: sizes.1,
        max_chars_per_second: sizes.2,
        min_duration_ms: times.0,
        max_duration_ms: times.1,
        min_gap_ms: times.2,
        linger_ms: times.3,
        show_unstable,
    })
}

/// What is fed to the captioner, in turn.
#[derive(Debug, Clone)]
enum Step {
    Take(Transcript),
    Heard(Pts),
}

/// Every word's text occurs once, so that it can be found again: `w17xxxx,`. Some letters are two columns wide.
fn true_words(segments: &[Spoken]) -> Vec<(u64, Vec<Word>)> {
    let (mut at, mut number) = (0, 0);
    let mut all = Vec::new();
    for segment in segments {
        at += segment.pause_ms;
        let start = at;
        let mut words = Vec::new();
        for (n, &(length, duration, pause, ending)) in segment.words.iter().enumerate() {
            at += if n == 0 { 0 } else { pause };
            let fill = if number % 7 == 0 { "字" } else { "x" };
            let end = [".", ",", "?"].get(usize::from(ending)).copied().unwrap_or("");
            words.push(word(&format!("w{number}{}{end}", fill.repeat(length.saturating_sub(1))), at..at + duration));
            number += 1;
            at += duration;
        }
        all.push((start, words));
    }
    all
}

fn steps(segments: &[Spoken], truth: &[(u64, Vec<Word>)]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut heard = 0;
    for (number, (segment, (start, words))) in segments.iter().zip(truth).enumerate() {
        let next = truth.get(number + 1).map_or(words.last().map_or(*start, |w| w.end.millis()) + 5000, |next| next.0);
        let (mut n_known, mut n_stable) = (0, 0);
        let mut revision = 0;
        let mut hear = |steps: &mut Vec<Step>, most: u64, part: u64| {
            heard = heard.max(heard + most.saturating_sub(heard) * part / 1000);
            steps.push(Step::Heard(Pts::from_millis(heard)));
        };
        hear(&mut steps, *start, segment.revisions.first().map_or(0, |r| r.heard));
        for step in &segment.revisions {
            n_known = (n_known + step.n_more_known).min(words.len());
            n_stable = (n_stable + step.n_more_stable).min(n_known);
            let mut told = words[..n_known].to_vec();
            for &(at, mistake) in &step.mistakes {
                let at = n_stable + at;
                if at >= told.len() {
                    continue;
                }
                match mistake {
                    0 => drop(told.remove(at)),
                    1 => told[at].text = format!("m{revision}{}", "o".repeat(at % 9)),
                    2 => told.insert(at, word("uh", told[at].start.millis()..told[at].start.millis())),
                    3 => told.truncate(at),
                    // Elsewhere in time, as far as its neighbours let it.
                    _ => {
                        let begin = at.checked_sub(1).map_or(*start, |before| told[before].end.millis());
                        let shift = told[at].start.millis().saturating_sub(begin) / 2;
                        told[at].start = Pts::from_millis(begin + shift);
                    }
                }
            }
            steps.push(Step::Take(transcript(number, revision, false, *start, n_stable, &told)));
            revision += 1;
            hear(&mut steps, told.last().map_or(*start, |w| w.end.millis()), step.heard);
        }
        steps.push(Step::Take(transcript(number, revision, true, *start, 0, words)));
        hear(&mut steps, next, segment.revisions.last().map_or(500, |r| r.heard));
    }
    steps
}

/// What a reader has on the screen, cue by cue; refuses what must never be told.
#[derive(Default)]
struct Screen {
    cues: BTreeMap<u64, Caption>,
    /// Where each word that is stable stands: cue, line, and place on the line.
    places: HashMap<String, (u64, usize, usize)>,
    settled: Pts,
    /// What was shown before `settled`.
    frozen: Vec<(u64, u64, Vec<String>)>,
}

fn number_of(caption: &Caption) -> u64 {
    caption.cue.rsplit('-').next().and_then(|n| n.parse().ok()).expect("a number")
}

impl Screen {
    fn take(&mut self, config: &CaptionConfig, captions: Vec<Caption>) {
        let mut last = None;
        for caption in captions {
            let number = number_of(&caption);
            assert!(last.is_none_or(|last| last < number), "in the order of showing, each once");
            last = Some(number);
            assert!(caption.lines.len() <= config.max_lines as usize, "{caption:?}");
            for line in &caption.lines {
                assert!((1..=config.max_chars_per_line as usize).contains(&line.width()), "{caption:?}");
                assert_eq!(line.trim(), line);
            }
            match self.cues.get(&number) {
                None => {
                    assert_eq!(caption.revision, 0, "{caption:?}");
                    assert!(self.cues.keys().next_back().is_none_or(|last| *last < number), "numbers count up");
                }
                Some(before) => {
                    assert!(!before.is_final, "a final cue changed: {before:?} {caption:?}");
                    assert_eq!(caption.revision, before.revision + 1);
                    assert_eq!(caption.segment, before.segment);
                    let same =
                        (before.start, before.end, &before.lines) == (caption.start, caption.end, &caption.lines);
                    assert!(!same || caption.is_final, "told twice: {caption:?}");
                    if !config.show_unstable {
                        let text = |caption: &Caption| caption.lines.join(" ");
                        assert!(text(&caption).starts_with(&text(before)), "rewritten: {before:?} {caption:?}");
                    }
                }
            }
            self.cues.insert(number, caption);
        }
        let finals: Vec<bool> = self.cues.values().map(|cue| cue.is_final).collect();
        assert!(finals.is_sorted_by(|a, b| a >= b), "cues become final in their order");
        let visible: Vec<&Caption> = self.visible().collect();
        for cue in &visible {
            assert!(cue.start <= cue.end, "{cue:?}");
        }
        for pair in visible.windows(2) {
            assert!(pair[0].end <= pair[1].start, "they overlap: {pair:?}");
        }
    }

    fn visible(&self) -> impl Iterator<Item = &Caption> {
        self.cues.values().filter(|cue| !cue.lines.is_empty())
    }

    /// Where each word stands now. Words that were cut stand where they begin.
    fn places_now(&self) -> HashMap<String, (u64, usize, usize)> {
        let mut places = HashMap::new();
        for (number, cue) in &self.cues {
            for (line_number, line) in cue.lines.iter().enumerate() {
                for (place, word) in line.split(' ').enumerate() {
                    places.insert(word.to_owned(), (*number, line_number, place));
                }
            }
        }
        places
    }

    fn check_stable(&mut self, transcript: &Transcript, line_width: usize) {
        let now = self.places_now();
        for word in transcript.words.iter().filter(|word| word.stable && word.text.width() <= line_width) {
            let place = now.get(&word.text).unwrap_or_else(|| panic!("{} is not shown", word.text));
            let before = self.places.entry(word.text.clone()).or_insert(*place);
            assert_eq!(before, place, "{} moved", word.text);
        }
    }

    fn check_settled(&mut self, settled: Pts) {
        assert!(settled >= self.settled, "settled time went back");
        let clipped = |until: Pts| -> Vec<(u64, u64, Vec<String>)> {
            let before = self.visible().filter(|cue| cue.start < until);
            before.map(|cue| (cue.start.nanos(), cue.end.min(until).nanos(), cue.lines.clone())).collect()
        };
        assert_eq!(clipped(self.settled), self.frozen, "changed before {}", self.settled);
        self.frozen = clipped(settled);
        self.settled = settled;
    }
}

fn run(config: &CaptionConfig, segments: &[Spoken]) -> Vec<Caption> {
    let truth = true_words(segments);
    let mut captioner = Captioner::new(config.clone());
    let mut screen = Screen::default();
    let mut told = Vec::new();
    for step in steps(segments, &truth) {
        let captions = match &step {
            Step::Take(transcript) => captioner.transcript(&session(), transcript),
            Step::Heard(now) => captioner.advance(*now),
        };
        told.extend(captions.clone());
        screen.take(config, captions);
        if let Step::Take(transcript) = &step {
            screen.check_stable(transcript, config.max_chars_per_line as usize);
        }
        screen.check_settled(captioner.settled_until());
    }
    let captions = captioner.finish();
    told.extend(captions.clone());
    screen.take(config, captions);
    screen.check_settled(captioner.settled_until());
    check_final(config, &screen, &truth);
    told
}

/// Every word once and in order, and each cue in its time.
fn check_final(config: &CaptionConfig, screen: &Screen, truth: &[(u64, Vec<Word>)]) {
    assert!(screen.cues.values().all(|cue| cue.is_final), "the session is over");
    let cues: Vec<&Caption> = screen.visible().collect();
    let words: Vec<&Word> = truth.iter().flat_map(|(_, words)| words).collect();
    let said: String = words.iter().map(|word| word.text.as_str()).collect();
    let shown: String = cues.iter().flat_map(|cue| &cue.lines).map(|line| line.replace(' ', "")).collect();
    assert_eq!(shown, said, "every word once, in order");

    // The words of each cue, by counting letters; a word that was cut belongs to the cues of both parts.
    let (mut at, mut word) = (0, 0);
    let ms = |config: u32| u64::from(config) * 1_000_000;
    for (n, cue) in cues.iter().enumerate() {
        let n_letters: usize = cue.lines.iter().map(|line| line.replace(' ', "").len()).sum();
        let first = words[word];
        let begins = at == 0;
        let mut left = n_letters;
        let last = loop {
            let rest = words[word].text.len() - at;
            if left < rest {
                at += left;
                break words[word];
            }
            left -= rest;
            (word, at) = (word + 1, 0);
            if left == 0 {
                break words[word - 1];
            }
        };
        let (start, end) = (cue.start.nanos(), cue.end.nanos());
        let before = n.checked_sub(1).map_or(0, |before| cues[before].end.nanos());
        if begins {
            assert_eq!(start, first.start.nanos().max(before), "starts with its first word: {cue:?}");
        }
        if at == 0 {
            assert!(end >= last.end.nanos(), "lasts until its last word ends: {cue:?}");
        }
        let n_words = cue.lines.iter().flat_map(|line| line.split(' ')).count();
        assert!(end - start <= ms(config.max_duration_ms) || n_words == 1, "too long: {cue:?}");
        let next = cues.get(n + 1).map_or(u64::MAX, |next| next.start.nanos());
        let room = next.saturating_sub(ms(config.min_gap_ms));
        assert!(end >= (start + ms(config.min_duration_ms)).min(room), "too short: {cue:?}");
        if at == 0 {
            assert!(end <= room.max(last.end.nanos()).max(start), "no gap, though the words leave one: {cue:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn all_promises_are_kept(config in a_config(), segments in prop::collection::vec(a_segment(), 0..5)) {
        let told = run(&config, &segments);
        prop_assert_eq!(told, run(&config, &segments), "the same again gives the same");
    }

    /// Nothing that a transcriber may do wrong brings it down.
    #[test]
    fn broken_promises_do_no_harm(
        config in a_config(),
        revisions in prop::collection::vec(
            (0..4_usize, 0..9_u32, any::<bool>(), 0..6_usize, prop::collection::vec((".{0,60}", 0..20_000_u64, 0..9000_u64), 0..12), any::<u32>()),
            0..20,
        )
    ) {
        let mut captioner = Captioner::new(config.clone());
        let mut screen = Screen::default();
        for (segment, revision, is_final, n_stable, words, now) in revisions {
            let words: Vec<Word> = words.iter().map(|(text, start, length)| word(text, *start..start + length)).collect();
            let transcript = transcript(segment, revision, is_final, u64::from(now % 9000), n_stable, &words);
            let lenient = CaptionConfig { show_unstable: true, ..config.clone() };
            screen.take(&lenient, captioner.transcript(&session(), &transcript));
            screen.check_settled(captioner.settled_until());
            screen.take(&lenient, captioner.advance(Pts::from_millis(u64::from(now % 20_000))));
            screen.check_settled(captioner.settled_until());
        }
        screen.take(&CaptionConfig { show_unstable: true, ..config }, captioner.finish());
        prop_assert!(screen.cues.values().all(|cue| cue.is_final));
    }
}
