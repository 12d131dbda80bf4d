//! What somebody searches for, made into a query of the full-text index that can be no syntax error. Pure.
//!
//! Words must all be there, in any order; the last one may be the beginning of a word, as somebody types. Words in "double
//! quotes" must stand together. Nothing else means anything: every word is a string of FTS5
//! (<https://www.sqlite.org/fts5.html#fts5_strings>), so that `NOT`, `*` or `text:` are words like others.

/// Words taken; more than anybody types.
const MOST_TERMS: usize = 32;

/// What is searched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phrase(String);

impl Phrase {
    /// Of what somebody typed; none where there is no word in it.
    pub fn parse(typed: &str) -> Option<Self> {
        let mut terms: Vec<String> = Vec::new();
        // Every other part stood in quotes; a quote that is not closed goes on to the end.
        let parts: Vec<&str> = typed.split(['"', '\u{201c}', '\u{201d}']).collect();
        for (n, part) in parts.iter().enumerate() {
            let is_quoted = n % 2 == 1;
            let words: Vec<&str> = if is_quoted { vec![part] } else { part.split_whitespace().collect() };
            for (at, word) in words.iter().enumerate().filter(|(_, word)| has_token(word)) {
                let is_last = !is_quoted && n + 1 == parts.len() && at + 1 == words.len();
                let is_begun = is_last && part.ends_with(|c: char| !c.is_whitespace());
                terms.push(format!("\"{}\"{}", plain(word), if is_begun { " *" } else { "" }));
            }
        }
        terms.truncate(MOST_TERMS);
        // FTS5 takes strings with a blank between them as AND.
        (!terms.is_empty()).then(|| Self(terms.join(" ")))
    }

    /// The query. Names of streams narrow it down, but a longer name may hold a shorter one: they are to be looked at again.
    pub(super) fn query(&self, streams: &[String]) -> String {
        let text = format!("text : ({})", self.0);
        if streams.is_empty() || !streams.iter().all(|name| has_token(name)) {
            return text;
        }
        let names: Vec<String> = streams.iter().map(|name| format!("stream : \"{}\"", plain(name))).collect();
        format!("{text} AND ({})", names.join(" OR "))
    }
}

/// Whether the index would find a word in it: its tokens are letters and digits.
fn has_token(text: &str) -> bool {
    text.chars().any(char::is_alphanumeric)
}

/// Without what would end the string.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c == '"' || c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let check = |typed: &str, expected: Option<&str>| {
            assert_eq!(Phrase::parse(typed).as_ref().map(|phrase| phrase.0.as_str()), expected, "{typed}");
        };
        check("", None);
        check("  \" \" - !? ", None);
        check("fellow", Some("\"fellow\" *"));
        check("fellow ", Some("\"fellow\""));
        check("my  fellow amer", Some("\"my\" \"fellow\" \"amer\" *"));
        check("\"my fellow\" amer", Some("\"my fellow\" \"amer\" *"));
        check("amer \"my fellow\"", Some("\"amer\" \"my fellow\""));
        check("\"not closed", Some("\"not closed\""));
        check("\u{201c}my fellow\u{201d}", Some("\"my fellow\""));
        check("a NOT b OR text:c", Some("\"a\" \"NOT\" \"b\" \"OR\" \"text:c\" *"));
        check("don't* -x ^y (z)", Some("\"don't*\" \"-x\" \"^y\" \"(z)\" *"));
        check("a\0b", Some("\"a b\" *"));
        let query = |streams: &[&str]| {
            let streams: Vec<String> = streams.iter().map(|name| (*name).to_owned()).collect();
            Phrase::parse("a b").map(|phrase| phrase.query(&streams)).unwrap_or_default()
        };
        assert_eq!(query(&[]), "text : (\"a\" \"b\" *)");
        assert_eq!(query(&["x-1", "y\"z"]), "text : (\"a\" \"b\" *) AND (stream : \"x-1\" OR stream : \"y z\")");
        assert_eq!(query(&["x", "--"]), query(&[]));
        assert_eq!(Phrase::parse(&"x ".repeat(1000)).map(|p| p.0.matches('x').count()), Some(MOST_TERMS));
    }
}
