//! What this program has made of the records, and the ids of those it has handled: one SQLite file.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use crate::{Store, record::Item};

/// How long ids are remembered: at least as long as the topics keep records (Kafka's default is 7 days), because
/// whatever a topic still holds may be read again.
const REMEMBER_SECS: i64 = 8 * 24 * 3600;
/// Most ids remembered. Keeps the file small, about 150 bytes an id.
const REMEMBER_IDS: i64 = 1_000_000;

const TABLES: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;  -- what we tell Kafka is done must survive a power cut
    CREATE TABLE IF NOT EXISTS handled (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, at INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS results (number INTEGER PRIMARY KEY, topic TEXT, stream TEXT, id TEXT, line TEXT);";

/// The results. Several processes of a group may share the file on one machine. On several machines they need a database
/// that all of them reach: a record that comes twice may come to another member of the group the second time.
pub struct Results {
    db: Connection,
}

impl Store for Results {
    fn open(path: &Path) -> rusqlite::Result<Self> {
        let db = Connection::open(path)?;
        db.busy_timeout(Duration::from_secs(30))?;
        db.execute_batch(TABLES)?;
        Ok(Self { db })
    }

    fn add(&mut self, items: Vec<Item>) -> rusqlite::Result<Vec<Item>> {
        // Takes everything back when it is dropped without a commit.
        let all = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut new = Vec::with_capacity(items.len());
        for item in items {
            if note(&all, &item.id)? {
                // ---- Your own work goes here, in the same transaction. This program's work is a list of lines. ----
                all.execute(
                    "INSERT INTO results (topic, stream, id, line) VALUES (?, ?, ?, ?)",
                    params![item.topic, item.stream, item.id, item.line],
                )?;
                new.push(item);
            }
        }
        if !new.is_empty() {
            forget(&all, REMEMBER_SECS, REMEMBER_IDS)?;
        }
        all.commit()?;
        Ok(new)
    }
}

/// Whether the id is new; from now on it is not.
fn note(all: &Transaction<'_>, id: &str) -> rusqlite::Result<bool> {
    Ok(all.execute("INSERT INTO handled (id, at) VALUES (?, unixepoch()) ON CONFLICT DO NOTHING", [id])? == 1)
}

/// Lets go of ids that are too old or too many. Rows stand in the order of time: it looks at the first ones only.
fn forget(all: &Transaction<'_>, remember_secs: i64, remember_ids: i64) -> rusqlite::Result<()> {
    let newest: i64 = all.query_row("SELECT max(number) FROM handled", [], |row| row.get(0))?;
    let young: i64 = all.query_row(
        "SELECT ifnull((SELECT number FROM handled WHERE at >= unixepoch() - ? ORDER BY number LIMIT 1), ?)",
        [remember_secs, newest + 1],
        |row| row.get(0),
    )?;
    all.execute("DELETE FROM handled WHERE number < ?", [young.max(newest - remember_ids + 1)])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(ids: &[&str]) -> Vec<Item> {
        let item = |id: &&str| Item {
            topic: "t".into(),
            stream: "cam".into(),
            id: (*id).into(),
            line: format!("line of {id}"),
            text: String::new(),
        };
        ids.iter().map(item).collect()
    }

    fn column(results: &Results, query: &str) -> Vec<String> {
        let mut statement = results.db.prepare(query).expect(query);
        let rows = statement.query_map([], |row| row.get(0)).expect(query);
        rows.map(|row| row.expect(query)).collect()
    }

    #[test]
    fn each_id_counts_once_over_restarts() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("state.sqlite");
        let check = |ids: &[&str], expected_new: &[&str], expected_lines: &[&str]| {
            let mut results = Results::open(&path).expect("open");
            assert_eq!(results.add(items(ids)).expect("add"), items(expected_new), "{ids:?}");
            assert_eq!(column(&results, "SELECT line FROM results ORDER BY number"), expected_lines, "{ids:?}");
        };
        check(&["a", "b", "a"], &["a", "b"], &["line of a", "line of b"]);
        check(&["a", "b"], &[], &["line of a", "line of b"]);
        check(&["b", "c"], &["c"], &["line of a", "line of b", "line of c"]);
        check(&[], &[], &["line of a", "line of b", "line of c"]);
    }

    #[test]
    fn ids_are_forgotten_by_number_and_by_age() {
        let check = |remember_secs: i64, remember_ids: i64, expected: &[&str]| {
            let mut results = Results::open(Path::new(":memory:")).expect("open");
            results.add(items(&["a", "b", "c", "d"])).expect("add");
            results.db.execute("UPDATE handled SET at = at - 100 WHERE id IN ('a', 'b')", []).expect("update");
            let all = results.db.transaction().expect("transaction");
            forget(&all, remember_secs, remember_ids).expect("forget");
            all.commit().expect("commit");
            assert_eq!(column(&results, "SELECT id FROM handled ORDER BY number"), expected);
        };
        check(1000, 100, &["a", "b", "c", "d"]);
        check(1000, 3, &["b", "c", "d"]);
        check(50, 100, &["c", "d"]);
        check(50, 1, &["d"]);
        check(-10, 100, &[]);
    }
}
