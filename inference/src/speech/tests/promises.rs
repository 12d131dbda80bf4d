//! What is promised to readers of transcripts, checked over all that an ear told.

use std::collections::{BTreeMap, HashMap};

use base::{event::Transcript, media::SessionId, time::Pts};

use crate::speech::Heard;

/// One session's state while what was told is read.
#[derive(Default)]
struct Reader {
    segments: BTreeMap<String, Transcript>,
    /// Begin of the newest segment.
    pts: Pts,
    until: Pts,
}

/// Fails unless everything that was told keeps its promises. After this nothing more is told.
#[track_caller]
pub(super) fn check(heard: &[Heard]) {
    let mut readers: HashMap<SessionId, Reader> = HashMap::new();
    for (i, one) in heard.iter().enumerate() {
        match one {
            Heard::Words { session, pts, transcript, .. } => {
                let reader = readers.entry(session.clone()).or_default();
                assert!(transcript.segment.starts_with(session.as_str()), "{i}: {transcript:?}");
                assert!(*pts >= reader.pts, "{i}: a segment begins before the one told earlier: {transcript:?}");
                assert!(*pts >= reader.until, "{i}: all words before {:?} had been told: {transcript:?}", reader.until);
                reader.pts = *pts;
                shape(transcript);
                let before = reader.segments.insert(transcript.segment.clone(), transcript.clone());
                follows(before.as_ref(), transcript);
            }
            Heard::Gap { from, to, .. } => assert!(from < to, "{i}: an empty gap"),
            Heard::Until { session, pts } => {
                let reader = readers.entry(session.clone()).or_default();
                assert!(*pts >= reader.until, "{i}: it was {:?} already: {one:?}", reader.until);
                reader.until = *pts;
                let open = reader.segments.values().find(|t| !t.is_final && t.start < *pts);
                assert!(open.is_none(), "{i}: {one:?}, but this is open: {open:?}");
            }
        }
    }
    for reader in readers.values() {
        let mut last = Pts::ZERO;
        let mut segments: Vec<_> = reader.segments.values().collect();
        segments.sort_by_key(|t| t.segment.rsplit('-').next().and_then(|n| n.parse::<u64>().ok()));
        for segment in segments {
            assert!(segment.is_final, "left open: {segment:?}");
            for word in &segment.words {
                assert!(
                    word.start >= last,
                    "spoken before the word before it ended ({last:?}): {word:?} in {segment:?}"
                );
                last = word.end;
            }
        }
    }
}

/// A revision by itself.
#[track_caller]
fn shape(transcript: &Transcript) {
    let words = &transcript.words;
    let text: Vec<&str> = words.iter().map(|w| w.text.as_str()).collect();
    assert_eq!(transcript.text, text.join(" "));
    for word in words {
        assert!(!word.text.trim().is_empty() && word.text.trim() == word.text, "{word:?}");
        assert!(word.start <= word.end && (0.0..=1.0).contains(&word.confidence), "{word:?}");
        assert!(transcript.start <= word.start && word.end <= transcript.end, "{word:?} lies outside {transcript:?}");
    }
    assert!(words.windows(2).all(|w| w[0].end <= w[1].start), "{transcript:?}");
    assert!(words.is_sorted_by_key(|w| !w.stable), "stable ones come first: {transcript:?}");
    assert!(!transcript.is_final || words.iter().all(|w| w.stable), "{transcript:?}");
}

/// A revision beside the one before it.
#[track_caller]
fn follows(before: Option<&Transcript>, now: &Transcript) {
    let Some(before) = before else {
        assert_eq!(now.revision, 0, "{now:?}");
        assert!(!now.words.is_empty(), "nothing was shown that could be taken back: {now:?}");
        return;
    };
    assert!(!before.is_final, "{now:?} after {before:?}");
    assert_eq!(now.revision, before.revision + 1, "{now:?}");
    let n_stable = before.words.iter().filter(|w| w.stable).count();
    let kept = now.words.get(..n_stable);
    assert_eq!(kept, Some(&before.words[..n_stable]), "stable words changed: {before:?} became {now:?}");
    assert!(now.is_final || now.words != before.words, "nothing new: {now:?}");
}
