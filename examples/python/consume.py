#!/usr/bin/env python3
"""Reads eyewitness's records from Kafka, drops duplicates, and goes on where it stopped. Copy it and make it yours.

    pip install confluent-kafka        # Python 3.10 or newer
    ./consume.py --brokers localhost:9092 --group people-counter --state people-counter.sqlite

eyewitness delivers every record at least once, so a record may come twice, with the same `id`. How this program makes
sure that each counts once, whenever it is killed:

1. In ONE transaction of its database it notes the ids it has handled and writes its own result.
2. Only then does it tell Kafka how far it is. Killed in between, it gets those records again and knows their ids.

Your own result belongs into the same transaction: see `Results.add`. Exit codes: 0 done, 1 failed.
"""
import argparse
import json
import signal
import sqlite3
import sys
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

PROGRAM = Path(sys.argv[0]).stem
TOPICS = ("detections", "transcripts", "captions", "alerts", "status")
# The records' format, `specversion`: a new minor number adds fields and kinds, a new major one may change their meaning.
KNOWN_MAJOR = 1
# Most messages in one transaction, and how long to wait for the first of them.
BATCH = 200
WAIT_SECS = 0.5
# How long ids are remembered: at least as long as the topics keep records (Kafka's default is 7 days), because whatever
# a topic still holds may be read again. The number keeps the file small, about 150 bytes an id.
REMEMBER_SECS = 8 * 24 * 3600
REMEMBER_IDS = 1_000_000
# Errors that waiting will not cure.
HOPELESS = (
    KafkaError._AUTHENTICATION,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.INVALID_GROUP_ID,
)


class Failed(Exception):
    """Why the program ends, in words for a person."""


def describe(record):
    """A record in words. None for a kind that this program does not know: later versions of eyewitness add some."""
    match record["type"]:
        case "detections":
            n_objects = Counter(thing["class"] for thing in record["objects"])
            return "sees " + (", ".join(f"{n} {name}" for name, n in n_objects.items()) or "nothing")
        case "status":
            return record["state"] + (f": {record['detail']}" if record["detail"] else "")
        case "gap":
            secs = (record["to_pts_ms"] - record["from_pts_ms"]) / 1000
            return f"was not analysed for {secs:.1f} s: {record['reason']}"
        case "transcript":  # Revisions: each replaces the one before it, until the final one.
            return f'{"said" if record["final"] else "says"} "{record["text"]}"'
        case "caption":
            return f'{"showed" if record["final"] else "shows"} "{" / ".join(record["lines"])}"'
        case "alert":  # Records of one life: each replaces the one before it, until it is closed. See alerts.py.
            line = f"{record['severity']} {record['rule']} {record['state']}{lasted(record)}: {record['summary']}"
            return line + (f" - {record['closed_because']}" if record["closed_because"] else "")
    return None


def lasted(record):
    """How long an alert lasted, or has lasted until this record. Nothing where nobody knows."""
    if record["state"] == "opened":
        return ""
    is_over = record["state"] == "closed"
    since, until = record["since_ms"], record["until_ms" if is_over else "pts_ms"]
    if since is not None and until is not None:  # in this session, by the stream's own time
        secs = (until - since) / 1000
    else:  # it began in an earlier session
        since, until = record["since"], record["until" if is_over else "captured_at"]
        if since is None or until is None:
            return ""
        since, until = (datetime.fromisoformat(text.replace("Z", "+00:00")) for text in (since, until))
        secs = (until - since).total_seconds()
    return f" after {secs:.1f} s"


class Item(NamedTuple):
    """A record that this program can handle."""

    topic: str
    stream: str
    id: str
    line: str  # in words
    text: str  # as it came


class Results:
    """What this program has made of the records, and the ids of those it has handled: one SQLite file."""

    def __init__(self, path, remember_secs=REMEMBER_SECS, remember_ids=REMEMBER_IDS):
        self.remember_secs, self.remember_ids = remember_secs, remember_ids
        # Several processes of a group may share the file on one machine. On several machines they need a database that
        # all of them reach: a record that comes twice may come to another member of the group the second time.
        self.db = sqlite3.connect(path, timeout=30, isolation_level=None)
        self.db.executescript(
            """
            PRAGMA journal_mode = WAL;
            PRAGMA synchronous = FULL;  -- what we tell Kafka is done must survive a power cut
            CREATE TABLE IF NOT EXISTS handled (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, at INTEGER NOT NULL);
            CREATE TABLE IF NOT EXISTS results (number INTEGER PRIMARY KEY, topic TEXT, stream TEXT, id TEXT, line TEXT);
            """
        )

    def add(self, batch):
        """Handles those items that are new, all or none of them, and returns them."""
        with self.db:  # commits at its end, or takes everything back
            self.db.execute("BEGIN IMMEDIATE")
            new = [item for item in batch if self._note(item.id)]
            # ---- Your own work goes here, in the same transaction. This program's work is a list of lines. ----
            self.db.executemany(
                "INSERT INTO results (topic, stream, id, line) VALUES (?, ?, ?, ?)",
                [(item.topic, item.stream, item.id, item.line) for item in new],
            )
            if new:
                self._forget()
        return new

    def _note(self, record_id):
        """Whether the id is new; from now on it is not."""
        noted = self.db.execute(
            "INSERT INTO handled (id, at) VALUES (?, ?) ON CONFLICT DO NOTHING", (record_id, int(time.time()))
        )
        return noted.rowcount == 1

    def _forget(self):
        """Lets go of ids that are too old or too many. Rows stand in the order of time: it looks at the first ones only."""
        (newest,) = self.db.execute("SELECT max(number) FROM handled").fetchone()
        young = self.db.execute(
            "SELECT number FROM handled WHERE at >= ? ORDER BY number LIMIT 1", (time.time() - self.remember_secs,)
        ).fetchone()
        first = max(newest - self.remember_ids + 1, young[0] if young else newest + 1)
        self.db.execute("DELETE FROM handled WHERE number < ?", (first,))


def parse(message):
    """A message as an item. None when there is nothing to handle in it."""
    place = f"{message.topic()} [{message.partition()}] at {message.offset()}"
    if message.value() is None:
        return None  # a tombstone: a compacted topic forgets this key
    try:
        text = message.value().decode()
        record = json.loads(text)
        version = record["specversion"]
        # With another major number it is not skipped: a newer version of this program will read it, so nothing is lost.
        if int(version.split(".")[0]) != KNOWN_MAJOR:
            raise Failed(f"{place}: format {version}, and this program knows {KNOWN_MAJOR}.x: it needs an update")
        line = describe(record)
        if line is None:
            return None
        line = f"{record['stream']} {record['pts_ms'] / 1000:.3f} {line}"
        return Item(message.topic(), record["stream"], record["id"], line, text)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        # Skipped, or nothing would ever come after it. Somebody else writes to this topic: find out who.
        complain(f"{place}: no record of eyewitness, skipped: {error!r}")
        return None


def receive(consumer):
    """What has come, at most `BATCH` messages; waits for the first of them."""
    first = consumer.poll(WAIT_SECS)
    messages = [first, *consumer.consume(BATCH - 1, timeout=0)] if first else []
    for message in messages:
        error = message.error()
        if error and (error.fatal() or error.code() in HOPELESS):
            raise Failed(f"kafka: {error.str()}")
        if error:
            # Such as a topic that is not there yet. The client tries again by itself.
            complain(f"kafka: {error.str()}")
    return [message for message in messages if not message.error()]


def commit(consumer, messages):
    """Tells Kafka that everything up to these messages is done."""
    done = {(m.topic(), m.partition()): TopicPartition(m.topic(), m.partition(), m.offset() + 1) for m in messages}
    try:
        consumer.commit(offsets=list(done.values()), asynchronous=False)
    except KafkaException as failure:
        error = failure.args[0]
        if error.fatal() or error.code() in HOPELESS:
            raise Failed(f"kafka: {error.str()}") from failure
        # The partitions now belong to another member of the group, or the broker is away: the records come again.
        complain(f"kafka: {error.str()}; these records will come again")


def follow(consumer, results, options, stopping):
    idle_secs = 0
    while not stopping and (options.until_idle is None or idle_secs < options.until_idle):
        messages = receive(consumer)
        if messages:
            idle_secs = 0
            new = results.add([item for message in messages if (item := parse(message))])
            commit(consumer, messages)
            # For people to watch. What is printed is not part of the transaction: the truth is in the database.
            for item in new:
                print(item.text if options.json else item.line, flush=True)
        elif consumer.assignment():
            # Idle is who has partitions to read and finds nothing in them.
            idle_secs += WAIT_SECS


def read_properties(path):
    """`name = value` a line; `#` begins a comment. For TLS and SASL: any property of librdkafka."""
    properties = {}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            name, equals, value = line.partition("=")
            if not equals:
                raise Failed(f"{path}, line {number}: expected `name = value`")
            properties[name.strip()] = value.strip()
    return properties


def connect(options, topics):
    """A consumer that has reached the cluster."""
    try:
        consumer = Consumer({
            "auto.offset.reset": "earliest",  # a new group reads what the topics still hold
            "topic.metadata.refresh.interval.ms": 10_000,  # so soon it finds a topic that is made later
            **(read_properties(options.properties) if options.properties else {}),
            "bootstrap.servers": options.brokers,
            "group.id": options.group,
            "enable.auto.commit": False,  # we say ourselves what is done
            "error_cb": lambda error: complain(f"kafka: {error.str()}"),
            "log_level": 2,  # the same would be said once more
        })
        consumer.subscribe([f"{options.prefix}.{topic}" for topic in topics])
    except KafkaException as error:
        raise Failed(f"kafka: {error.args[0].str()}") from error
    try:
        consumer.list_topics(timeout=10)
    except KafkaException as error:
        consumer.poll(0)
        consumer.close()
        raise Failed(f"no broker at {options.brokers} lets us in: {error.args[0].str()}") from error
    return consumer


def complain(text):
    print(f"{PROGRAM}: {text}", file=sys.stderr, flush=True)


def arguments(description, group, state):
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    option = parser.add_argument
    option("--brokers", default="localhost:9092", help="addresses, separated by commas")
    option("--prefix", default="eyewitness", help="beginning of the topics' names")
    option("--group", default=group, help="consumer group")
    option("--state", default=state, metavar="FILE", help="what is known, an SQLite file")
    option("--properties", metavar="FILE", help="librdkafka properties for TLS and SASL, `name = value` a line")
    option("--until-idle", type=float, metavar="SECS", help="end after so long without a record")
    option("--json", action="store_true", help="print records as JSON Lines")
    return parser.parse_args()


def main(
    topics=TOPICS,
    store=Results,
    description="Read eyewitness's records from Kafka: each one once, from where the last run stopped.",
    group="eyewitness-example",
    state="consume.sqlite",
):
    options = arguments(description, group, state)
    stopping = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stopping.append(number))
    try:
        results = store(options.state)
        consumer = connect(options, topics)
        try:
            follow(consumer, results, options, stopping)
        finally:
            consumer.close()  # leaves the group, so that others take over at once
    except (Failed, OSError) as failure:
        sys.exit(f"{PROGRAM}: {failure}")
    except sqlite3.Error as failure:
        sys.exit(f"{PROGRAM}: {options.state}: {failure}")


if __name__ == "__main__":
    main()
