//! What was said as a file: JSON Lines, CSV, WebVTT, SRT. Pure; rows come in the order of time, any number of them.
//!
//! Cues stand on the stream time of the first session. A later session, whose stream time begins anew, is moved by the time
//! that passed between the two where both are dated, and always behind the last cue.

use super::{Heard, read::time};
use crate::{vtt, wire};

/// Characters of a line of a cue, and lines (as broadcasters do).
const LINE: usize = 42;
const LINES: usize = 2;
/// A pause so long ends a cue.
const PAUSE_MS: u64 = 1500;
/// Longest cue.
const LONGEST_MS: u64 = 7000;
/// The columns.
const COLUMNS: [&str; 9] = ["id", "stream", "session", "at", "captured_at", "start_ms", "end_ms", "language", "text"];

/// Kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One record a line, as on the wire.
    Jsonl,
    /// Comma-separated values (RFC 4180) with a header.
    Csv,
    /// WebVTT.
    Vtt,
    /// SubRip.
    Srt,
}

impl Format {
    /// By its word, which is also the file's extension.
    pub fn of(word: &str) -> Option<Self> {
        Some(match word {
            "jsonl" => Self::Jsonl,
            "csv" => Self::Csv,
            "vtt" => Self::Vtt,
            "srt" => Self::Srt,
            _ => return None,
        })
    }

    /// The file's extension.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Vtt => "vtt",
            Self::Srt => "srt",
        }
    }

    /// The media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Jsonl => "application/jsonl",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Vtt => "text/vtt; charset=utf-8",
            Self::Srt => "application/x-subrip; charset=utf-8",
        }
    }

    /// Whether it has one timeline, and so can hold one stream only.
    pub const fn has_cues(self) -> bool {
        matches!(self, Self::Vtt | Self::Srt)
    }
}

/// Writes one file, piece by piece.
#[derive(Debug)]
pub struct Export {
    format: Format,
    session: Option<String>,
    /// Added to the session's stream time, in milliseconds.
    shift_ms: u64,
    /// Wall clock of time 0 of the file, milliseconds since 1970.
    zero_ms: Option<i64>,
    start_ms: u64,
    end_ms: u64,
    n_cues: u64,
}

impl Export {
    /// A file without rows.
    pub const fn new(format: Format) -> Self {
        Self { format, session: None, shift_ms: 0, zero_ms: None, start_ms: 0, end_ms: 0, n_cues: 0 }
    }

    /// How it begins.
    pub fn head(&self) -> String {
        match self.format {
            Format::Jsonl | Format::Srt => String::new(),
            Format::Csv => csv_line(COLUMNS.map(str::to_owned)),
            Format::Vtt => vtt::header().to_owned(),
        }
    }

    /// The next one.
    pub fn write(&mut self, heard: &Heard) -> String {
        match self.format {
            Format::Jsonl => format!("{}\n", heard.record),
            Format::Csv => csv(heard),
            Format::Vtt | Format::Srt => self.cues(heard),
        }
    }

    fn cues(&mut self, heard: &Heard) -> String {
        let mut text = String::new();
        if self.session.as_ref() != Some(&heard.session) {
            let begins_ms = heard.captured_ms.map(|at| at.saturating_sub_unsigned(heard.start_ms));
            if self.session.is_some() {
                let passed_ms = self.zero_ms.zip(begins_ms).map_or(0, |(zero, begins)| begins.saturating_sub(zero));
                self.shift_ms = self.end_ms.max(u64::try_from(passed_ms).unwrap_or(0));
                if self.format == Format::Vtt {
                    text += &vtt::note("a new session");
                }
            } else {
                self.zero_ms = begins_ms;
                if self.format == Format::Vtt
                    && let Some(begins) = begins_ms
                {
                    text += &vtt::note(&format!("{} of stream {} is {}", vtt::time(0), heard.stream, time(begins)));
                }
            }
            self.session = Some(heard.session.clone());
        }
        for (n, (start, end, lines)) in cues_of(heard).into_iter().enumerate() {
            self.start_ms = self.start_ms.max(self.shift_ms + start);
            let end_ms = (self.shift_ms + end).max(self.start_ms + 1);
            let block = match self.format {
                Format::Srt => vtt::srt_cue(self.n_cues + 1, self.start_ms, end_ms, &lines),
                _ => vtt::cue(&format!("{}-{n}", heard.id), self.start_ms, end_ms, &lines),
            };
            self.n_cues += u64::from(!block.is_empty());
            self.end_ms = self.end_ms.max(end_ms);
            text += &block;
        }
        text
    }
}

/// One word after the other, cut into cues that can be read: from, to, lines.
fn cues_of(heard: &Heard) -> Vec<(u64, u64, Vec<String>)> {
    let record = wire::decode(&heard.record).ok();
    let words: Vec<(u64, u64, &str)> = match &record {
        Some(wire::Record::Transcript(transcript)) if !transcript.words.is_empty() => {
            transcript.words.iter().map(|word| (word.start_ms, word.end_ms, &*word.text)).collect()
        }
        _ => vec![(heard.start_ms, heard.end_ms, heard.text.as_str())],
    };
    let mut cues: Vec<(u64, u64, Vec<String>)> = Vec::new();
    for (start, end, word) in words {
        let fits = cues.last_mut().filter(|(first, last, _)| {
            start.saturating_sub(*last) < PAUSE_MS && end.saturating_sub(*first) <= LONGEST_MS
        });
        let length = word.chars().count();
        match fits {
            Some((_, last, lines)) => {
                let room = lines.last().map_or(0, |line| LINE.saturating_sub(line.chars().count() + 1));
                if length <= room
                    && let Some(line) = lines.last_mut()
                {
                    line.push(' ');
                    line.push_str(word);
                    *last = end;
                } else if lines.len() < LINES {
                    lines.push(word.to_owned());
                    *last = end;
                } else {
                    cues.push((start, end, vec![word.to_owned()]));
                }
            }
            None => cues.push((start, end, vec![word.to_owned()])),
        }
    }
    cues
}

fn csv(heard: &Heard) -> String {
    let language = match wire::decode(&heard.record) {
        Ok(wire::Record::Transcript(transcript)) => transcript.language.map(|language| language.into_owned()),
        _ => None,
    };
    csv_line([
        safe(&heard.id),
        safe(&heard.stream),
        safe(&heard.session),
        heard.at(),
        heard.captured_ms.map(time).unwrap_or_default(),
        heard.start_ms.to_string(),
        heard.end_ms.to_string(),
        safe(&language.unwrap_or_default()),
        safe(&heard.text),
    ])
}

/// Text that no spreadsheet takes for a formula (OWASP, "CSV Injection"): one that could begin such gets a `'` before it.
fn safe(text: &str) -> String {
    let is_formula =
        text.trim_start().starts_with(['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}']);
    if is_formula || text.starts_with(['\t', '\r', '\n']) { format!("'{text}") } else { text.to_owned() }
}

/// One record with its line end (RFC 4180, section 2).
fn csv_line<const N: usize>(fields: [String; N]) -> String {
    let quoted = fields.map(|field| match field.contains(['"', ',', '\r', '\n']) || field.starts_with([' ', '\'']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field,
    });
    quoted.join(",") + "\r\n"
}
