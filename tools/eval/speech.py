#!/usr/bin/env python3
"""Words of eyewitness' own transcript records: error rate against a text, and how soon and how surely they were shown.

    eyewitness replay media/demo.mp4 --transcribe whisper-tiny.en --out /tmp/x.jsonl
    tools/eval/speech.py /tmp/x.jsonl --reference media/demo_speech.json

REFERENCE is a text file, or a JSON file like media/demo_speech.json. Live records (with published_at) give delays too: from a
word's end to the first revision that showed it, and to the first in which it was stable. Words end when their final transcript says
so, or when ENDS does: a JSON file {"words": [{"text", "end" in seconds}]} made by hand or by another recogniser. Where a source
carries no capture time, its stream time 0 is the moment at which it began to play. `rewritten` is the share of shown words that a later revision replaced or took back.
Words are compared in lower case without punctuation; that is also the usual normalisation of LibriVox transcripts.
"""

import argparse
import datetime
import difflib
import json
import re
import sys


def bare(text):
    """Letters, digits and apostrophes in lower case; the abbreviations that speakers spell out."""
    words = re.sub(r"[^\w' ]+", " ", text.lower().replace("’", "'").replace("-", " ")).split()
    spelled = {"mr": "mister", "mrs": "missus", "dr": "doctor"}
    return [spelled.get(w, w) for w in (w.strip("'_") for w in words) if w]


def distance(reference, found):
    """Word-level Levenshtein distance."""
    row = list(range(len(found) + 1))
    for i, word in enumerate(reference, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(found, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1]


def read_reference(path):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    return " ".join(s["text"] for s in json.loads(text)["speech"]) if path.endswith(".json") else text


def read_transcripts(path, stream=None):
    """Transcript records, of one stream if it is named; each knows when its session began to play, as `began`."""
    with open(path, encoding="utf-8") as file:
        records = [json.loads(line) for line in file if '"transcript"' in line or '"playing"' in line]
    records = [r for r in records if stream in (None, r["stream"])]
    began = {r["session"]: r["published_at"] for r in records if r["type"] == "status" and r.get("published_at")}
    return [r | {"began": began.get(r["session"])} for r in records if r["type"] == "transcript"]


def seconds(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def is_live(record):
    return bool(record.get("published_at") and (record.get("captured_at") or record.get("began")))


def told_at(record):
    """Stream time in seconds at which the record was published."""
    if record.get("captured_at"):
        return record["pts_ms"] / 1e3 + seconds(record["published_at"]) - seconds(record["captured_at"])
    return seconds(record["published_at"]) - seconds(record["began"])


def delays(records, ends=None):
    """Seconds from a word's end to its first showing, and to its being stable; for every word of a final, or of `ends`."""
    shown, stable = [], []
    words = [(r["session"], w["text"], w["end_ms"]) for r in records if r["final"] for w in r["words"]]
    if ends is not None:
        words = [(session, w["text"], 1e3 * w["end"]) for session in {r["session"] for r in records} for w in ends]
    for session, text, end_ms in words:
        first = firm = None
        for record in records:
            if record["session"] != session or (first is not None and firm is not None):
                continue
            for other in record["words"]:
                if abs(other["end_ms"] - end_ms) <= 600 and bare(other["text"]) == bare(text):
                    first = told_at(record) if first is None else first
                    if other["stable"] and firm is None:
                        firm = told_at(record)
        if first is not None:
            shown.append(first - end_ms / 1e3)
        if firm is not None:
            stable.append(firm - end_ms / 1e3)
    return shown, stable


def rewritten(records):
    """Shown words, and how many of them were replaced or taken back; and how many stable ones changed (never)."""
    n_shown = n_rewritten = n_broken = 0
    last = {}
    for record in records:
        old = last.get(record["segment"], [])
        new = record["words"]
        a, b = bare(" ".join(w["text"] for w in old)), bare(" ".join(w["text"] for w in new))
        for kind, a0, a1, b0, b1 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
            if kind in ("replace", "delete"):
                # What goes on in the next segment is not taken back.
                n_rewritten += 0 if kind == "delete" and record["final"] and a1 == len(a) and record["words"] else a1 - a0
            if kind in ("replace", "insert"):
                n_shown += b1 - b0
        firm = [w for w in old if w["stable"]]
        n_broken += sum(w != v for w, v in zip(firm, new)) + max(0, len(firm) - len(new))
        last[record["segment"]] = new
    return n_shown, n_rewritten, n_broken


def quantile(values, q):
    return round(sorted(values)[min(len(values) - 1, int(q * len(values)))], 3) if values else None


def evaluate(records, reference=None, ends=None):
    """All figures of these transcript records; `reference` is text, `ends` words with their ends."""
    finals = [r for r in records if r["final"]]
    found = bare(" ".join(r["text"] for r in finals))
    n_shown, n_rewritten, n_broken = rewritten(records)
    result = {"words": len(found), "segments": len(finals), "revisions": len(records) - len(finals),
              "shown": n_shown, "rewritten": round(n_rewritten / max(1, n_shown), 4), "stable_changed": n_broken}
    if reference:
        said = bare(reference)
        n_wrong = distance(said, found)
        result |= {"reference_words": len(said), "errors": n_wrong, "wer": round(n_wrong / max(1, len(said)), 4)}
    if finals and all(is_live(r) for r in records):
        shown, stable = delays(records, ends)
        result |= {"timed": len(shown), "shown_p50_s": quantile(shown, .5), "shown_p95_s": quantile(shown, .95),
                   "stable_p50_s": quantile(stable, .5), "stable_p95_s": quantile(stable, .95)}
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records")
    parser.add_argument("--reference", help="what was said")
    parser.add_argument("--ends", help="when its words ended")
    parser.add_argument("--stream", help="only this stream's records")
    parser.add_argument("--json", action="store_true", help="one JSON line instead of text")
    args = parser.parse_args()

    ends = None
    if args.ends:
        with open(args.ends, encoding="utf-8") as file:
            ends = json.load(file)["words"]
    records = read_transcripts(args.records, args.stream)
    result = evaluate(records, args.reference and read_reference(args.reference), ends)
    if args.json:
        print(json.dumps(result))
    else:
        for key, value in result.items():
            print(f"{key:>16}  {value}")
    if result["stable_changed"]:
        sys.exit("stable words changed: this breaks a promise")


if __name__ == "__main__":
    main()
