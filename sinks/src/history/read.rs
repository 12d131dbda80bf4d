//! The reader: looks up what was said, and the audit, over a connection of its own that can only read. On the caller's thread,
//! which it makes wait for the disk; any other thread can stop it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use base::time::Timestamp;
use rusqlite::{Connection, InterruptHandle, params_from_iter, types::Value};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    Audit, HistoryError, Phrase,
    error::database,
    file::{self, PER_MS},
};
use crate::wire::rfc3339;

/// Begin and end of a hit in a snippet. Rows hold no control characters, see `Row::of`.
const HIT: [char; 2] = ['\u{1}', '\u{2}'];
/// Words of a snippet.
const SNIPPET: u32 = 24;
/// So many streams are read beside each other, each in the order of time; of more, all is read and put in order. SQLite takes
/// 500 at most (<https://www.sqlite.org/limits.html#max_compound_select>).
const MOST_MERGED: usize = 100;

/// What is looked for.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// These words; none for whatever was said.
    pub words: Option<Phrase>,
    /// On one of these streams; none for all.
    pub streams: Vec<String>,
    /// Said at this time or later: milliseconds since 1970.
    pub from_ms: Option<i64>,
    /// Said before this time.
    pub to_ms: Option<i64>,
    /// Go on behind this one: [`Page::after`].
    pub after: Option<i64>,
    /// At most so many; at least 1.
    pub limit: usize,
    /// In which order.
    pub order: Order,
}

/// An order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// What was said last comes first.
    #[default]
    NewestFirst,
    /// As it was said.
    OldestFirst,
}

/// Some of what was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// In the order that was asked for.
    pub found: Vec<Heard>,
    /// Where to go on; none where there is no more.
    pub after: Option<i64>,
}

/// Something that was said.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// Its place in the order of time.
    pub place: i64,
    /// Id of the record.
    pub id: String,
    /// Name of the stream.
    pub stream: String,
    /// The session.
    pub session: String,
    /// Stream time of its begin, in milliseconds.
    pub start_ms: u64,
    /// Stream time of its end.
    pub end_ms: u64,
    /// Wall clock of its begin, milliseconds since 1970; none where the recording carries no date.
    pub captured_ms: Option<i64>,
    /// The words.
    pub text: String,
    /// The words around what was searched for; none where nothing was.
    pub snippet: Option<Vec<Piece>>,
    /// The record as on the wire.
    pub record: String,
}

/// A piece of a snippet: text, to be shown as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Piece {
    /// The text, blanks around it included.
    pub text: String,
    /// It is what was searched for.
    pub hit: bool,
}

impl Heard {
    /// By the wall clock, RFC 3339: [`Self::captured_ms`], or when it was told.
    pub fn at(&self) -> String {
        time(self.place / PER_MS)
    }

    /// One JSON object. `clip` is where its clip is and when that begins, where there is one.
    pub fn to_json(&self, clip: Option<(&str, u64)>) -> String {
        #[derive(Serialize)]
        struct Shown<'a> {
            id: &'a str,
            stream: &'a str,
            session: &'a str,
            start_ms: u64,
            end_ms: u64,
            captured_at: Option<String>,
            at: String,
            text: &'a str,
            snippet: &'a Option<Vec<Piece>>,
            words: &'a RawValue,
            clip: Option<Clip<'a>>,
        }
        #[derive(Serialize)]
        struct Clip<'a> {
            path: &'a str,
            from_ms: u64,
        }
        #[derive(Deserialize)]
        struct Kept<'a> {
            #[serde(borrow)]
            words: &'a RawValue,
        }
        let kept: Option<Kept<'_>> = serde_json::from_str(&self.record).ok();
        let none = RawValue::from_string("[]".to_owned()).unwrap_or_default();
        let shown = Shown {
            id: &self.id,
            stream: &self.stream,
            session: &self.session,
            start_ms: self.start_ms,
            end_ms: self.end_ms,
            captured_at: self.captured_ms.map(time),
            at: self.at(),
            text: &self.text,
            snippet: &self.snippet,
            words: kept.as_ref().map_or(&none, |kept| kept.words),
            clip: clip.map(|(path, from_ms)| Clip { path, from_ms }),
        };
        serde_json::to_string(&shown).unwrap_or_else(|_| "null".to_owned())
    }
}

/// Milliseconds since 1970 as RFC 3339.
pub(super) fn time(ms: i64) -> String {
    rfc3339(Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// A connection that can only read.
pub struct Reader {
    pub(super) db: Connection,
    pub(super) path: PathBuf,
    is_stopped: Arc<AtomicBool>,
}

/// Stops a reader, from any thread: what it is doing fails with [`HistoryError::Stopped`], and so does all it is asked for.
#[derive(Clone)]
pub struct Stopper {
    handle: Arc<InterruptHandle>,
    is_stopped: Arc<AtomicBool>,
}

impl Stopper {
    /// Stops it.
    pub fn stop(&self) {
        self.is_stopped.store(true, Relaxed);
        self.handle.interrupt();
    }
}

impl Reader {
    /// Opens the history in this directory.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn open(directory: &Path) -> Result<Self, HistoryError> {
        let path = file::path_in(directory);
        let db = file::connect_read_only(&path)?;
        Ok(Self { db, path, is_stopped: Arc::default() })
    }

    /// For whoever may want to stop it.
    pub fn stopper(&self) -> Stopper {
        Stopper { handle: Arc::new(self.db.get_interrupt_handle()), is_stopped: Arc::clone(&self.is_stopped) }
    }

    /// One page of what was said.
    ///
    /// # Errors
    /// When it cannot be read, or was stopped.
    pub fn transcripts(&self, search: &Search) -> Result<Page, HistoryError> {
        let (sql, values) = query(search);
        let mut found: Vec<Heard> = self.rows(&sql, values, |row| {
            let unsigned = |at: usize| row.get::<_, i64>(at).map(|ms| u64::try_from(ms).unwrap_or(0));
            Ok(Heard {
                place: row.get(0)?,
                id: row.get(1)?,
                stream: row.get(2)?,
                session: row.get(3)?,
                start_ms: unsigned(4)?,
                end_ms: unsigned(5)?,
                captured_ms: row.get(6)?,
                text: row.get(7)?,
                record: row.get(8)?,
                snippet: row.get::<_, Option<String>>(9)?.as_deref().map(pieces),
            })
        })?;
        let has_more = found.len() > search.limit.max(1);
        found.truncate(search.limit.max(1));
        let after = found.last().filter(|_| has_more).map(|last| last.place);
        Ok(Page { found, after })
    }

    /// The newest entries of the audit, newest first.
    ///
    /// # Errors
    /// When it cannot be read, or was stopped.
    pub fn audits(&self, limit: usize) -> Result<Vec<Audit>, HistoryError> {
        let sql =
            "SELECT told_ms, user, role, address, method, route, subject, status FROM audit ORDER BY id DESC LIMIT ?1";
        let limit = Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX));
        self.rows(sql, vec![limit], |row| {
            Ok(Audit {
                at: Timestamp::from_millisecond(row.get(0)?).unwrap_or(Timestamp::UNIX_EPOCH),
                user: row.get(1)?,
                role: row.get(2)?,
                address: row.get(3)?,
                method: row.get(4)?,
                route: row.get(5)?,
                subject: row.get(6)?,
                status: row.get(7)?,
            })
        })
    }

    /// All rows that a query gives; looks now and then whether it was stopped.
    pub(super) fn rows<T>(
        &self,
        sql: &str,
        values: Vec<Value>,
        mut each: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, HistoryError> {
        let fail = || database("read", &self.path);
        let mut statement = self.db.prepare(sql).map_err(fail())?;
        let mut rows = statement.query(params_from_iter(values)).map_err(fail())?;
        let mut found = Vec::new();
        loop {
            if self.is_stopped.load(Relaxed) {
                return Err(HistoryError::Stopped);
            }
            match rows.next().map_err(fail())? {
                Some(row) => found.push(each(row).map_err(fail())?),
                None => return Ok(found),
            }
        }
    }
}

/// The query of a search, with one row more than it asks for, which says whether there is more; and its values.
fn query(search: &Search) -> (String, Vec<Value>) {
    let mut values: Vec<Value> = Vec::new();
    let mut bind = |value: Value| {
        values.push(value);
        format!("?{}", values.len())
    };
    let mut conditions = Vec::new();
    let (from, snippet) = match &search.words {
        Some(phrase) => {
            conditions.push(format!("words MATCH {}", bind(Value::Text(phrase.query(&search.streams)))));
            let marks = HIT.map(|mark| format!("char({})", u32::from(mark)));
            let snippet = format!("snippet(words, 0, {}, {}, '\u{2026}', {SNIPPET})", marks[0], marks[1]);
            // In this order: what is found is looked up, and not the other way round.
            ("words CROSS JOIN transcripts t ON t.id = words.rowid", snippet)
        }
        None => ("transcripts t", "NULL".to_owned()),
    };
    let place = if search.words.is_some() { "words.rowid" } else { "t.id" };
    let (order, beyond) = match search.order {
        Order::NewestFirst => ("DESC", "<"),
        Order::OldestFirst => ("ASC", ">"),
    };
    let moment = |ms: i64| Value::Integer(ms.max(0).saturating_mul(PER_MS));
    conditions.extend(search.from_ms.map(|ms| format!("{place} >= {}", bind(moment(ms)))));
    conditions.extend(search.to_ms.map(|ms| format!("{place} < {}", bind(moment(ms)))));
    conditions.extend(search.after.map(|after| format!("{place} {beyond} {}", bind(Value::Integer(after)))));
    let names: BTreeSet<&String> = search.streams.iter().collect();
    let names: Vec<String> = names.into_iter().map(|name| bind(Value::Text(name.clone()))).collect();
    let limit = bind(Value::Integer(i64::try_from(search.limit.max(1)).unwrap_or(i64::MAX).saturating_add(1)));
    let select = |of_streams: Option<String>| {
        let all: Vec<String> = conditions.iter().cloned().chain(of_streams).collect();
        let condition = if all.is_empty() { "1".to_owned() } else { all.join(" AND ") };
        format!(
            "SELECT t.id, t.event, t.stream, t.session, t.start_ms, t.end_ms, t.captured_ms, t.text, t.record, {snippet} \
             FROM {from} WHERE {condition}"
        )
    };
    // The index of words is in the order of time. That of streams is for each of them: these are merged as they are read, as
    // otherwise all that they have would be read and sorted for one page.
    let (selected, place) = if search.words.is_none() && (2..=MOST_MERGED).contains(&names.len()) {
        let each: Vec<String> = names.iter().map(|name| select(Some(format!("t.stream = {name}")))).collect();
        (each.join(" UNION ALL "), "1")
    } else {
        (select((!names.is_empty()).then(|| format!("t.stream IN ({})", names.join(", ")))), place)
    };
    (format!("{selected} ORDER BY {place} {order} LIMIT {limit}"), values)
}

/// What the index gives, taken apart at its marks.
fn pieces(marked: &str) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut hit = false;
    for part in marked.split_inclusive(HIT) {
        let text = part.trim_end_matches(HIT);
        if !text.is_empty() {
            pieces.push(Piece { text: text.to_owned(), hit });
        }
        match part.chars().next_back() {
            Some(mark) if mark == HIT[0] => hit = true,
            Some(mark) if mark == HIT[1] => hit = false,
            _ => {}
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page costs what is on it: nothing is read whole to be sorted.
    #[test]
    fn pages_are_read_in_order() {
        let dir = tempfile::tempdir().expect("folder");
        let limits = super::super::Limits { keep: std::time::Duration::from_secs(1), max_bytes: 1 << 30 };
        let _store = super::super::Store::open(dir.path(), limits).expect("opened");
        let reader = Reader::open(dir.path()).expect("reader");
        let check = |n_streams: usize, words: &str, is_sorted: bool| {
            for order in [Order::NewestFirst, Order::OldestFirst] {
                let streams = (0..n_streams).map(|n| format!("cam-{n}")).collect();
                let (from_ms, after) = (Some(1), Some(7 * PER_MS));
                let search =
                    Search { words: Phrase::parse(words), streams, from_ms, after, limit: 9, order, to_ms: None };
                let (sql, values) = query(&search);
                let plan = reader.rows(&format!("EXPLAIN QUERY PLAN {sql}"), values, |row| row.get::<_, String>(3));
                let plan = plan.expect("a plan").join("; ");
                assert_eq!(plan.contains("TEMP B-TREE"), is_sorted, "{n_streams} {words} {order:?}: {plan}");
            }
        };
        for n_streams in [0, 1, 2, 3, MOST_MERGED] {
            check(n_streams, "", false);
            check(n_streams, "ask", false);
        }
        check(MOST_MERGED + 1, "", true);
    }

    #[test]
    fn snippets() {
        let check = |marked: &str, expected: &[(&str, bool)]| {
            let got = pieces(marked);
            let got: Vec<(&str, bool)> = got.iter().map(|piece| (piece.text.as_str(), piece.hit)).collect();
            assert_eq!(got, expected, "{marked:?}");
        };
        check("", &[]);
        check("nothing", &[("nothing", false)]);
        check("\u{1}and\u{2} so", &[("and", true), (" so", false)]);
        check("my \u{1}fellow\u{2}\u{1}x\u{2}", &[("my ", false), ("fellow", true), ("x", true)]);
        check("<b>\u{1}a", &[("<b>", false), ("a", true)]);
    }
}
