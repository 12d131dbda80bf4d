//! Mistakes in a JSON text, with their places. Pure.

use std::ops::Range;

use super::problem::Problem;

impl Problem {
    /// From the JSON parser, which stops at the first mistake, just behind it.
    pub(crate) fn from_json(text: &str, error: &serde_json::Error) -> Self {
        let line = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
        let at = text.floor_char_boundary((line + error.column()).min(text.len()));
        let span = text.floor_char_boundary(at.saturating_sub(1))..at;
        let message = error.to_string();
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message);
        Self::from_message(message, span, |word| {
            let quoted = format!("\"{word}\"");
            text[..at].rfind(&quoted).map(|start| start + 1..start + 1 + word.len())
        })
    }
}

/// The place of the first key within this table that a message names in backquotes; else that of the table, as far as it is
/// found. A key is taken for the first of its name behind the one that it is in.
pub(crate) fn key_in_json(text: &str, table: &[&str], message: &str) -> Range<usize> {
    let mut place = 0..0;
    for key in table {
        match find_key(text, place.end, key) {
            Some(found) => place = found,
            None => return place,
        }
    }
    let mut quoted = message.split('`').skip(1).step_by(2);
    quoted.find_map(|key| find_key(text, place.end, key)).unwrap_or(place)
}

fn find_key(text: &str, from: usize, key: &str) -> Option<Range<usize>> {
    let quoted = serde_json::to_string(key).ok()?;
    let is_key = |end: usize| text[end..].trim_start().starts_with(':');
    let mut places = text[from..].match_indices(&quoted).map(|(i, _)| from + i);
    let start = places.find(|start| is_key(start + quoted.len()))?;
    Some(start + 1..start + quoted.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::problem::Problems;

    const TEXT: &str =
        "{\"streams\": {\n  \"a\": {\"url\": \"b\"},\n  \"b\": {\n    \"url\" : \"x\",\n    \"tags\": {}\n  }\n}}\n";

    #[test]
    fn keys_are_found() {
        let check = |table: &[&str], message: &str, expected: &str, line: usize| {
            let place = key_in_json(TEXT, table, message);
            assert_eq!((&TEXT[place.clone()], TEXT[..place.start].lines().count()), (expected, line), "{table:?}");
        };
        check(&["streams", "b"], "`url`: no", "url", 4);
        check(&["streams", "a"], "`url`: no", "url", 2);
        check(&["streams", "b"], "`x` is no name", "b", 3);
        check(&["streams", "b"], "no `good` and `tags`", "tags", 5);
        assert_eq!(key_in_json(TEXT, &["stream"], "x"), 0..0);
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        let check = |text: &str, line: usize, expected: &str| {
            let wrong = serde_json::from_str::<crate::control::attachment::Attachment>(text).expect_err(text);
            let told = Problems::new("x.json", text, vec![Problem::from_json(text, &wrong)]).to_string();
            assert!(told.contains(&format!("x.json:{line}:")) && told.contains(expected), "{told}");
            assert!(!told.contains("hunter2"), "{told}");
        };
        check("{\n\"url\": \"test://\",\n\"tag\": {}}", 3, "did you mean `tags`?");
        check("{\n\"profile\": \"x\"\n}", 3, "missing field `url`");
        check("{\n\"url\": \"rtsp://u:hunter2@h\",\n}", 3, "trailing comma");
        check("{\n\"url\": \"test://\",\n\"password\": \"hunter2\"}", 3, "unknown key `password`");
        check("{\"url\": \"test://\", \"weight\":\n\"heavy\"}", 2, "invalid type: string \"...\"");
        check("{", 1, "EOF");
    }
}
