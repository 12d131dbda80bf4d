//! Mistakes in a configuration file, shown with their line, key and a suggestion, and without the secrets on that line.

use std::{fmt, ops::Range, path::Path};

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};

/// One mistake.
#[derive(Debug, Clone)]
pub struct Problem {
    span: Range<usize>,
    message: String,
    help: Option<String>,
}

/// Everything wrong with one file.
#[derive(Debug)]
pub struct Problems {
    origin: String,
    masked: String,
    problems: Vec<Problem>,
}

impl Problem {
    /// A mistake at a place (byte range) in the text.
    pub fn at(span: Range<usize>, message: String) -> Self {
        Self { span, message, help: None }
    }

    /// Adds the candidate that `found` was probably meant to be, or all of them when none is near.
    pub fn with_suggestion<'a>(mut self, found: &str, candidates: impl Iterator<Item = &'a str> + Clone) -> Self {
        self.help = self::candidates(found, candidates);
        self
    }

    /// From the TOML parser, made more precise: where it only knows the table, the key it names is looked for in there.
    pub fn from_toml(text: &str, error: &toml::de::Error) -> Self {
        let mut span = error.span().unwrap_or(0..0);
        if span.is_empty() && span.start > 0 {
            // Something is missing here: point at what stands before.
            span = text.floor_char_boundary(span.start - 1)..span.start;
        }
        let place = span.clone();
        Self::from_message(error.message().trim_end(), span, |word| find_word(text, &place, word))
    }

    /// From a parser's words; `find` gives the place of an unknown key or value.
    pub(super) fn from_message(
        message: &str,
        span: Range<usize>,
        find: impl FnOnce(&str) -> Option<Range<usize>>,
    ) -> Self {
        let message = without_values(message);
        let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
        let unknown = message.contains("unknown field") || message.contains("unknown variant");
        let Some((found, candidates)) = quoted.split_first().filter(|_| unknown) else {
            return Self { span, message, help: None };
        };
        let span = find(found).unwrap_or(span);
        let what = if message.contains("unknown field") { "unknown key" } else { "unknown value" };
        Self { span, message: format!("{what} `{found}`"), help: None }
            .with_suggestion(found, candidates.iter().copied())
    }
}

/// A value in the wrong place may be a secret: `invalid type: string "…"` tells enough.
pub(crate) fn without_values(message: &str) -> String {
    match (message.find('"'), message.rfind('"')) {
        (Some(from), Some(to)) if from < to && message.starts_with("invalid") => {
            format!("{}\"...\"{}", &message[..from], &message[to + 1..])
        }
        _ => base::redact::scrub_urls(message),
    }
}

/// The place of a key or value inside a span that covers its whole table. A table's span may be its header only, so the
/// search goes on to the next header that is not of a table within it.
fn find_word(text: &str, within: &Range<usize>, word: &str) -> Option<Range<usize>> {
    let from = within.start.min(text.len());
    let next_header = |at: usize| text.get(at..).and_then(|rest| rest.find("\n[")).map_or(text.len(), |i| at + i);
    let mut to = next_header(within.end);
    let header = text.get(within.clone()).and_then(|header| header.trim().strip_suffix(']'));
    if let Some(inner) = header.map(|header| format!("\n{header}.")) {
        while text.get(to..).is_some_and(|rest| rest.starts_with(&inner)) {
            to = next_header(to + 1);
        }
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    text.get(from..to)?
        .match_indices(word)
        .map(|(i, _)| from + i..from + i + word.len())
        .find(|place| !text[..place.start].ends_with(is_word) && !text[place.end..].starts_with(is_word))
}

/// The line (from 1) that this byte stands on.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// The candidate nearest to `found`, if one is near enough to be a slip of the finger.
pub fn nearest<'a>(found: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|c| (strsim::damerau_levenshtein(found, c), c))
        .filter(|(distance, c)| *distance <= 1 + c.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, c)| c)
}

/// What `found` was probably meant to be, in words; all there is when nothing is near.
pub fn candidates<'a>(found: &str, candidates: impl Iterator<Item = &'a str> + Clone) -> Option<String> {
    match nearest(found, candidates.clone()) {
        Some(near) => Some(format!("did you mean `{near}`?")),
        None => {
            let all: Vec<_> = candidates.map(|c| format!("`{c}`")).collect();
            (!all.is_empty()).then(|| format!("known are {}", all.join(", ")))
        }
    }
}

impl Problems {
    pub(crate) fn new(origin: &str, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|p| p.span.start);
        Self { origin: origin.into(), masked: mask(text), problems }
    }

    pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> Self {
        let message = format!("cannot read the configuration {}: {error}", path.display());
        Self { origin: path.display().to_string(), masked: String::new(), problems: vec![Problem::at(0..0, message)] }
    }

    /// How many.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.problems.len()
    }

    /// For people: every mistake with its line.
    pub fn render(&self, color: bool) -> String {
        let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(120);
        let mut out = String::new();
        for problem in &self.problems {
            let report = Report { problem, source: NamedSource::new(&self.origin, self.masked.clone()) };
            if handler.render_report(&mut out, &report).is_err() {
                out.push_str(&problem.message);
            }
            out.push('\n');
        }
        out
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

impl std::error::Error for Problems {}

/// Hides what may be secret without moving a byte: user parts of URLs, and the values of keys that sound secret, be it TOML
/// or JSON.
fn mask(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        if let Some(at) = secret_value(line) {
            out.push_str(&line[..at]);
            hide(&mut out, &line[at..]);
            continue;
        }
        let mut rest = line;
        while let Some(at) = rest.find("://") {
            let (before, after) = rest.split_at(at + 3);
            out.push_str(before);
            let url_end = after.find(|c: char| c.is_whitespace() || c == '"' || c == '\'').unwrap_or(after.len());
            let user_end = after[..url_end].rfind('@').unwrap_or(0);
            hide(&mut out, &after[..user_end]);
            // Queries may carry tokens.
            let url = &after[user_end..url_end];
            let query = url.find('?').map_or(url.len(), |i| i + 1);
            out.push_str(&url[..query]);
            hide(&mut out, &url[query..]);
            rest = &after[url_end..];
        }
        out.push_str(rest);
    }
    out
}

/// Where the value of the first key that sounds secret begins.
fn secret_value(line: &str) -> Option<usize> {
    const WORDS: [&str; 11] = [
        "password",
        "passwd",
        "secret",
        "token",
        "passphrase",
        "authorization",
        "cookie",
        "credential",
        "api-key",
        "api_key",
        "apikey",
    ];
    let lower = line.to_ascii_lowercase();
    let first = lower.find('=').filter(|at| lower[..*at].contains("key")).map(|at| at + 1);
    let is_of_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '"' | '\'');
    let of_word = |word: &str| {
        let mut found = lower.match_indices(word).filter_map(|(at, _)| {
            let end = at + lower[at..].find(|c| !is_of_key(c))?;
            let end = end + lower[end..].find(|c: char| !c.is_whitespace())?;
            // A parameter of a URL is hidden with its URL.
            let begin = lower[..at].trim_end_matches(is_of_key);
            (matches!(lower.as_bytes()[end], b'=' | b':') && !begin.ends_with(['?', '&', '/'])).then_some(end + 1)
        });
        found.next()
    };
    WORDS.iter().filter_map(|word| of_word(word)).chain(first).min()
}

/// One `*` a byte, line ends kept.
fn hide(out: &mut String, text: &str) {
    out.extend(text.bytes().map(|b| if matches!(b, b'\n' | b'\r') { char::from(b) } else { '*' }));
}

#[derive(Debug)]
struct Report<'a> {
    problem: &'a Problem,
    source: NamedSource<String>,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem.message)
    }
}

impl std::error::Error for Report<'_> {}

impl Diagnostic for Report<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.problem.help.as_ref().map(|h| Box::new(h) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        (!self.problem.span.is_empty()).then_some(&self.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let span = self.problem.span.clone();
        // A span over many lines says less than its first.
        Some(Box::new(std::iter::once(LabeledSpan::new(Some("here".into()), span.start, span.len().clamp(1, 200)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masking_hides_secrets_and_moves_nothing() {
        let check = |text: &str, expected: &str| {
            assert_eq!(mask(text), expected);
            assert_eq!(mask(text).len(), text.len());
        };
        check("url = 'rtsp://u:pé@h/x'\n", "url = 'rtsp://*****@h/x'\n");
        check("url = \"http://h/x?token=ab\" # y", "url = \"http://h/x?********\" # y");
        check("password = 'abc'\nx = 1", "password =******\nx = 1");
        check("sasl.password = 'a'\r\n", "sasl.password =****\r\n");
        check("{\"a\": 1, \"password\" : \"b\"}", "{\"a\": 1, \"password\" :*****");
        check("cam = { user = 'u', password='b' }", "cam = { user = 'u', password=*****");
        check("ssl.key = 'b'\n", "ssl.key =****\n");
        check("api_token_file = '/x'\n", "api_token_file =*****\n");
        check("tags = { note = 'no secrets here' }", "tags = { note = 'no secrets here' }");
        check("[secrets.cam]\n", "[secrets.cam]\n");
    }

    #[test]
    fn suggestions_are_near() {
        let check = |found, expected| assert_eq!(nearest(found, ["url", "profile", "tags"].into_iter()), expected);
        check("profil", Some("profile"));
        check("ulr", Some("url"));
        check("zebra", None);
    }
}
