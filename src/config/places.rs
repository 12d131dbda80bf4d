//! Where keys stand in a TOML text, for mistakes that are found after it was read. Pure.

use std::ops::Range;

use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

/// The keys of a text with their places in it, in bytes.
pub(crate) struct Places<'t>(Option<Spanned<DeTable<'t>>>);

impl<'t> Places<'t> {
    /// Of a text; of one that is no TOML there are none.
    pub(crate) fn read(text: &'t str) -> Self {
        Self(DeTable::parse(text).ok())
    }

    /// The place of a key, given with the tables that it is in; where it is not there, of the innermost table that is.
    pub(crate) fn of<'k>(&self, path: impl IntoIterator<Item = &'k str>) -> Range<usize> {
        self.walk(path).0
    }

    /// The same for a key that is written as in the file, such as `spool.max_bytes` or `properties."acks"`.
    pub(crate) fn of_dotted(&self, table: &[&str], key: &str) -> Range<usize> {
        let parts = dotted(key);
        self.of(table.iter().copied().chain(parts.iter().map(String::as_str)))
    }

    /// The place of the first key in this table, or in a table within it, that a message names, as `key` in backquotes or as
    /// key = value; else of the table.
    pub(crate) fn named(&self, table: &[&str], message: &str) -> Range<usize> {
        let (place, found) = self.walk(table.iter().copied());
        let quoted = message.split('`').skip(1).step_by(2);
        let set = message.split(" = ").filter_map(|before| before.split(' ').next_back());
        quoted.chain(set).find_map(|word| find(found?, word)).unwrap_or(place)
    }

    /// The text at a path, where there is text.
    pub(crate) fn text(&self, path: &[&str]) -> Option<&str> {
        let (mut table, (last, tables)) = (self.0.as_ref()?.get_ref(), path.split_last()?);
        for key in tables {
            table = entry(table, key)?.1.get_ref().as_table()?;
        }
        entry(table, last)?.1.get_ref().as_str()
    }

    fn walk<'k>(&self, path: impl IntoIterator<Item = &'k str>) -> (Range<usize>, Option<&DeTable<'t>>) {
        let (mut place, mut table) = (0..0, self.0.as_ref().map(Spanned::get_ref));
        for key in path {
            let Some((key, value)) = table.and_then(|table| entry(table, key)) else { break };
            (place, table) = (key.span(), value.get_ref().as_table());
        }
        (place, table)
    }
}

type Entry<'a, 't> = (&'a Spanned<std::borrow::Cow<'t, str>>, &'a Spanned<DeValue<'t>>);

fn entry<'a, 't>(table: &'a DeTable<'t>, key: &str) -> Option<Entry<'a, 't>> {
    table.iter().find(|(found, _)| found.get_ref() == key)
}

fn find(table: &DeTable<'_>, key: &str) -> Option<Range<usize>> {
    let here = entry(table, key).map(|(found, _)| found.span());
    here.or_else(|| table.values().filter_map(|value| value.get_ref().as_table()).find_map(|inner| find(inner, key)))
}

/// The parts of a dotted key; quoted ones may hold dots.
fn dotted(key: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for c in key.chars() {
        match (c, parts.last_mut()) {
            ('"', _) => quoted = !quoted,
            ('.', _) if !quoted => parts.push(String::new()),
            (c, Some(part)) => part.push(c),
            (_, None) => {}
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[sinks.k]\ntype = 'kafka'\nproperties = { \"a.b\" = 1, acks = 0 }\n\
                        [sinks.k.spool]\nmax_bytes = 1\n[hls]\nwindow = 1\n";

    #[test]
    fn keys_are_found() {
        let places = Places::read(TEXT);
        let check = |place: Range<usize>, expected: &str, line: usize| {
            assert_eq!((&TEXT[place.clone()], TEXT[..place.start].lines().count()), (expected, line));
        };
        check(places.of_dotted(&["sinks", "k"], "spool.max_bytes"), "max_bytes", 4);
        check(places.of_dotted(&["sinks", "k"], "properties.\"a.b\""), "\"a.b\"", 3);
        check(places.of_dotted(&["sinks", "k"], "properties.acks"), "acks", 3);
        check(places.of_dotted(&["sinks", "k"], "spool.path"), "spool", 4);
        check(places.of_dotted(&["sinks", "k"], "brokers"), "k", 1);
        check(places.named(&["hls"], "`window` is 1 and must be 6 to 60"), "window", 6);
        check(places.named(&["sinks"], "`queue` and `max_bytes`"), "max_bytes", 4);
        check(places.named(&["hls"], "window = 1 is out of range"), "window", 6);
        check(places.named(&["hls"], "nothing is named"), "hls", 6);
        assert_eq!(places.of(["speech"]), 0..0);
        assert_eq!(places.text(&["sinks", "k", "type"]), Some("kafka"));
        assert_eq!(places.text(&["sinks", "k", "spool", "max_bytes"]), None);
        assert_eq!(Places::read("[").of(["a"]), 0..0);
    }
}
