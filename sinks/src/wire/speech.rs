//! Records of what is heard: transcripts and captions. Plain data; see the module above.

use std::borrow::Cow;

use base::event::{Caption, Transcript, Word};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Envelope, Model, rounded};

/// The words of one stretch of speech, as known by now. Comes in revisions while people speak: each one replaces the
/// whole revision before it, and nothing follows the final one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TranscriptRecord<'a> {
    /// The common fields.
    #[serde(flatten, borrow)]
    pub envelope: Envelope<'a>,
    /// Identifies the stretch of speech: `<session>-segment-<number>`.
    #[serde(borrow)]
    pub segment: Cow<'a, str>,
    /// Counts from 0 within the segment.
    pub revision: u32,
    /// Nothing of it changes any more.
    pub r#final: bool,
    /// Stream time in milliseconds at which the speech begins.
    pub start_ms: u64,
    /// Stream time in milliseconds up to which this revision covers the speech.
    pub end_ms: u64,
    /// The words with a blank between them. Empty in a final: what was shown before is taken back.
    #[serde(borrow)]
    pub text: Cow<'a, str>,
    /// The words in the order of speaking, those that will not change first.
    #[serde(borrow)]
    pub words: Vec<WordRecord<'a>>,
    /// Language of the words, ISO 639-1; null when not known.
    #[serde(borrow)]
    pub language: Option<Cow<'a, str>>,
    /// The words are an English translation of what is spoken.
    pub translated: bool,
    /// Who speaks; null when not known.
    #[serde(borrow)]
    pub speaker: Option<Cow<'a, str>>,
    /// Channel of the sound, from 0; null while all channels are heard as one.
    pub channel: Option<u32>,
    /// The model that heard it.
    #[serde(borrow)]
    pub model: Model<'a>,
}

/// One word of a transcript.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Word")]
pub struct WordRecord<'a> {
    /// As written, with its punctuation.
    #[serde(borrow)]
    pub text: Cow<'a, str>,
    /// Stream time in milliseconds at which it begins.
    pub start_ms: u64,
    /// Stream time in milliseconds at which it ends.
    pub end_ms: u64,
    /// Confidence, 0 to 1.
    #[schemars(range(min = 0, max = 1))]
    pub confidence: f64,
    /// Neither its text nor its times change in a later revision.
    pub stable: bool,
}

/// One cue: a few lines of text to be shown for a while. Comes in revisions until it is final: each one replaces what
/// is shown of this cue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CaptionRecord<'a> {
    /// The common fields.
    #[serde(flatten, borrow)]
    pub envelope: Envelope<'a>,
    /// Identifies the cue: `<session>-cue-<number>`, numbered in the order of showing.
    #[serde(borrow)]
    pub cue: Cow<'a, str>,
    /// Counts from 0 within the cue.
    pub revision: u32,
    /// Stream time in milliseconds at which it is to appear.
    pub start_ms: u64,
    /// Stream time in milliseconds at which it is to go, as far as known.
    pub end_ms: u64,
    /// What to show, a text a line. Empty: the cue is taken back.
    #[serde(borrow)]
    pub lines: Vec<Cow<'a, str>>,
    /// It will not change any more.
    pub r#final: bool,
    /// The `segment` of the transcript that its words come from.
    #[serde(borrow)]
    pub segment: Cow<'a, str>,
    /// Language of the words, ISO 639-1; null when not known.
    #[serde(borrow)]
    pub language: Option<Cow<'a, str>>,
}

pub(super) fn transcript<'a>(envelope: Envelope<'a>, t: &'a Transcript) -> TranscriptRecord<'a> {
    TranscriptRecord {
        envelope,
        segment: Cow::from(&t.segment),
        revision: t.revision,
        r#final: t.is_final,
        start_ms: t.start.millis(),
        end_ms: t.end.millis(),
        text: Cow::from(&t.text),
        words: t.words.iter().map(word).collect(),
        language: t.language.as_deref().map(Cow::from),
        translated: t.translated,
        speaker: t.speaker.as_deref().map(Cow::from),
        channel: t.channel,
        model: Model::from(&*t.model),
    }
}

pub(super) fn word(word: &Word) -> WordRecord<'_> {
    WordRecord {
        text: Cow::from(&word.text),
        start_ms: word.start.millis(),
        end_ms: word.end.millis(),
        confidence: rounded(word.confidence, 1e3).clamp(0.0, 1.0),
        stable: word.stable,
    }
}

pub(super) fn caption<'a>(envelope: Envelope<'a>, c: &'a Caption) -> CaptionRecord<'a> {
    CaptionRecord {
        envelope,
        cue: Cow::from(&c.cue),
        revision: c.revision,
        start_ms: c.start.millis(),
        end_ms: c.end.millis(),
        lines: c.lines.iter().map(Cow::from).collect(),
        r#final: c.is_final,
        segment: Cow::from(&c.segment),
        language: c.language.as_deref().map(Cow::from),
    }
}
