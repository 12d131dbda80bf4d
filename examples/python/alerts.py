#!/usr/bin/env python3
"""Follows the alerts of eyewitness: when each began, what became of it, and when it was over. Copy it and make it yours.

    pip install confluent-kafka        # Python 3.10 or newer
    ./alerts.py --brokers localhost:9092

An alert lives: `opened` once, `updated` any number of times, `closed`. All its records name it in `alert`, and each
replaces the one before it, so all that must be known of an alert is its newest record. This program keeps that, one row
an alert, in an SQLite file: whatever comes twice, too late or again after a crash is not newer than the row, and changes
nothing.

Newer is what has the greater `epoch`, and within one epoch the greater `revision`. When a stream changes hands, the alert
keeps its name, and the worker that has the stream now counts on from what it was told last: it may give a number that
another worker has given, too. Its epoch is greater, and what it says holds, even if the alert was closed before.

Beside consume.py, whose way to Kafka it takes. Exit codes: 0 done, 1 failed.
"""
import json
import sqlite3
import time

import consume

# How long closed alerts are remembered: at least as long as the topic keeps records (Kafka's default is 7 days), because
# whatever it still holds may be read again, and would begin anew here.
REMEMBER_SECS = 8 * 24 * 3600


class Alerts:
    """The newest record of each alert."""

    def __init__(self, path, remember_secs=REMEMBER_SECS):
        self.remember_secs = remember_secs
        self.db = sqlite3.connect(path, timeout=30, isolation_level=None)
        self.db.executescript(
            """
            PRAGMA journal_mode = WAL;
            PRAGMA synchronous = FULL;  -- what we tell Kafka is done must survive a power cut
            CREATE TABLE IF NOT EXISTS alerts (
                alert TEXT PRIMARY KEY, epoch INTEGER NOT NULL, revision INTEGER NOT NULL, state TEXT NOT NULL,
                stream TEXT, line TEXT, record TEXT, at INTEGER NOT NULL
            );
            CREATE INDEX IF NOT EXISTS alerts_at ON alerts (at);
            """
        )

    def add(self, batch):
        """Takes in those records that are newer than what is known, all or none of them, and returns them."""
        with self.db:  # commits at its end, or takes everything back
            self.db.execute("BEGIN IMMEDIATE")
            news = [item for item in batch if self._is_news(item)]
            # ---- Your own work goes here, in the same transaction: each of `news` is told once. ----
            self.db.execute(
                "DELETE FROM alerts WHERE at < ? AND state = 'closed'", (time.time() - self.remember_secs,)
            )
        return news

    def _is_news(self, item):
        """Whether it is newer than what is known of its alert; from now on it is what is known."""
        record = json.loads(item.text)
        if "alert" not in record or "revision" not in record:
            return False  # another kind: somebody has given two of them one topic
        noted = self.db.execute(
            """
            INSERT INTO alerts (alert, epoch, revision, state, stream, line, record, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (alert) DO UPDATE SET epoch = excluded.epoch, revision = excluded.revision,
                state = excluded.state, line = excluded.line, record = excluded.record, at = excluded.at
            WHERE (excluded.epoch, excluded.revision) > (epoch, revision)
            """,
            (
                record["alert"],
                record.get("epoch", 0),  # streams of a configuration file never change hands, and have none
                record["revision"],
                record["state"],
                item.stream,
                item.line,
                item.text,
                int(time.time()),
            ),
        )
        return noted.rowcount == 1


if __name__ == "__main__":
    consume.main(
        topics=("alerts",),
        store=Alerts,
        description="Follow the alerts of eyewitness: each change once, from where the last run stopped.",
        group="eyewitness-example-alerts",
        state="alerts.sqlite",
    )
