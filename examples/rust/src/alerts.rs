//! The newest record of each alert, one row an alert: one SQLite file.
//!
//! Newer is what has the greater `epoch`, and within one epoch the greater `revision`. When a stream changes hands, the
//! alert keeps its name, and the worker that has the stream now counts on from what it was told last: it may give a number
//! that another worker has given, too. Its epoch is greater, and what it says holds, even if the alert was closed before.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use serde_json::Value;

use crate::{Store, record::Item};

/// How long closed alerts are remembered: at least as long as the topic keeps records (Kafka's default is 7 days), because
/// whatever it still holds may be read again, and would begin anew here.
const REMEMBER_SECS: i64 = 8 * 24 * 3600;

const TABLES: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;  -- what we tell Kafka is done must survive a power cut
    CREATE TABLE IF NOT EXISTS alerts (
        alert TEXT PRIMARY KEY, epoch INTEGER NOT NULL, revision INTEGER NOT NULL, state TEXT NOT NULL,
        stream TEXT, line TEXT, record TEXT, at INTEGER NOT NULL
    );
    CREATE INDEX IF NOT EXISTS alerts_at ON alerts (at);";

const KEEP_THE_NEWEST: &str = "
    INSERT INTO alerts (alert, epoch, revision, state, stream, line, record, at)
    VALUES (?, ?, ?, ?, ?, ?, ?, unixepoch())
    ON CONFLICT (alert) DO UPDATE SET epoch = excluded.epoch, revision = excluded.revision,
        state = excluded.state, line = excluded.line, record = excluded.record, at = excluded.at
    WHERE (excluded.epoch, excluded.revision) > (epoch, revision)";

/// What is known of alerts.
pub struct Alerts {
    db: Connection,
}

impl Store for Alerts {
    fn open(path: &Path) -> rusqlite::Result<Self> {
        let db = Connection::open(path)?;
        db.busy_timeout(Duration::from_secs(30))?;
        db.execute_batch(TABLES)?;
        Ok(Self { db })
    }

    fn add(&mut self, items: Vec<Item>) -> rusqlite::Result<Vec<Item>> {
        // Takes everything back when it is dropped without a commit.
        let all = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut news = Vec::with_capacity(items.len());
        for item in items {
            if is_news(&all, &item)? {
                // ---- Your own work goes here, in the same transaction: each change is told once. ----
                news.push(item);
            }
        }
        forget(&all, REMEMBER_SECS)?;
        all.commit()?;
        Ok(news)
    }
}

/// Whether it is newer than what is known of its alert; from now on it is what is known.
fn is_news(all: &Transaction<'_>, item: &Item) -> rusqlite::Result<bool> {
    let record: Value = serde_json::from_str(&item.text).unwrap_or_default();
    let (Some(alert), Some(revision)) = (record["alert"].as_str(), record["revision"].as_i64()) else {
        return Ok(false); // another kind: somebody has given two of them one topic
    };
    // Streams of a configuration file never change hands, and have none.
    let epoch = record["epoch"].as_i64().unwrap_or(0);
    let row = params![alert, epoch, revision, record["state"].as_str(), item.stream, item.line, item.text];
    Ok(all.execute(KEEP_THE_NEWEST, row)? == 1)
}

fn forget(all: &Transaction<'_>, remember_secs: i64) -> rusqlite::Result<()> {
    all.execute("DELETE FROM alerts WHERE at < unixepoch() - ? AND state = 'closed'", [remember_secs])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written `alert epoch revision state`.
    fn item(text: &str) -> Item {
        let parts: Vec<&str> = text.split(' ').collect();
        let [alert, epoch, revision, state] = parts[..] else { panic!("{text}") };
        let record = format!(r#"{{"alert":"{alert}","epoch":{epoch},"revision":{revision},"state":"{state}"}}"#);
        Item { topic: "t".into(), stream: "cam".into(), id: text.into(), line: text.into(), text: record }
    }

    fn lines(alerts: &Alerts) -> Vec<String> {
        let mut statement = alerts.db.prepare("SELECT line FROM alerts ORDER BY alert").expect("query");
        let rows = statement.query_map([], |row| row.get(0)).expect("rows");
        rows.map(|row| row.expect("row")).collect()
    }

    #[test]
    fn the_newest_record_of_each_alert_holds() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("alerts.sqlite");
        let check = |came: &[&str], news: &[&str], known: &[&str]| {
            let mut alerts = Alerts::open(&path).expect("open");
            let got: Vec<String> = alerts
                .add(came.iter().map(|text| item(text)).collect())
                .expect("add")
                .into_iter()
                .map(|item| item.line)
                .collect();
            assert_eq!(got, news, "{came:?}");
            assert_eq!(lines(&alerts), known, "{came:?}");
        };
        check(
            &["a 1 0 opened", "b 1 0 opened", "a 1 0 opened"],
            &["a 1 0 opened", "b 1 0 opened"],
            &["a 1 0 opened", "b 1 0 opened"],
        );
        // Some were missed; what comes late changes nothing.
        check(&["a 1 3 updated", "a 1 2 updated"], &["a 1 3 updated"], &["a 1 3 updated", "b 1 0 opened"]);
        check(&["b 1 1 closed", "b 1 0 opened"], &["b 1 1 closed"], &["a 1 3 updated", "b 1 1 closed"]);
        // Another worker has it now, and goes on from what it was told; what the one before it says is late.
        check(&["a 2 2 updated", "a 1 4 closed"], &["a 2 2 updated"], &["a 2 2 updated", "b 1 1 closed"]);
        check(
            &["b 2 1 updated", "b 2 2 closed"],
            &["b 2 1 updated", "b 2 2 closed"],
            &["a 2 2 updated", "b 2 2 closed"],
        );
    }

    #[test]
    fn closed_ones_are_forgotten_and_open_ones_are_not() {
        let mut alerts = Alerts::open(Path::new(":memory:")).expect("open");
        let came = ["a 1 0 opened", "b 1 1 closed", "c 1 1 closed"];
        alerts.add(came.iter().map(|text| item(text)).collect()).expect("add");
        alerts.db.execute("UPDATE alerts SET at = at - 100 WHERE alert < 'c'", []).expect("update");
        let all = alerts.db.transaction().expect("transaction");
        forget(&all, 50).expect("forget");
        all.commit().expect("commit");
        assert_eq!(lines(&alerts), ["a 1 0 opened", "c 1 1 closed"]);
    }

    #[test]
    fn what_is_no_alert_is_passed_over() {
        let mut alerts = Alerts::open(Path::new(":memory:")).expect("open");
        let status = Item { text: r#"{"type":"status","state":"playing"}"#.into(), ..item("x 1 0 opened") };
        assert_eq!(alerts.add(vec![status]).expect("add"), []);
        assert!(lines(&alerts).is_empty());
    }
}
