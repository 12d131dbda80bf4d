"""Reads eyewitness' records and label files, and matches boxes. Frames are numbered from 1 here, as in MOT files."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np


def read_records(path, wanted_class):
    """Objects of one class from `detections` records (JSON Lines): frame -> list of (score, box, track or None).

    Frames that were analysed and empty are there with an empty list, so that unanalysed ones can be told apart.
    """
    frames = {}
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise SystemExit(f"{path}:{number}: no JSON: {error}") from error
        if record.get("type") != "detections":
            continue
        frame = record["frame"]["index"] + 1
        if frame in frames:
            raise SystemExit(f"{path}:{number}: second record of frame index {frame - 1}: give a file with one stream and one session")
        frames[frame] = [(o["score"], o["box"], o.get("track")) for o in record["objects"] if o["class"] == wanted_class]
    if not frames:
        raise SystemExit(f"{path}: no detections records")
    return frames


def read_mot(path, as_detections=False):
    """A MOT text file. Labels: frame -> list of (box, id, ignored). Detections: frame -> list of (score, box, id or None)."""
    frames = defaultdict(list)
    rows = np.loadtxt(path, delimiter=",", ndmin=2)
    for row in rows:
        frame, identity, box = int(row[0]), int(row[1]), row[2:6].tolist()
        if as_detections:
            frames[frame].append((row[6], box, identity if identity >= 0 else None))
        else:
            frames[frame].append((box, identity, False))
    return dict(frames)


def read_labels(path, without_occluded=False):
    """Labels from a MOT file or from `media/demo_labels.json`: frame -> list of (box, id or None, ignored).

    Only the frames that are labelled are keys, which for a MOT file means frames with at least one box.
    """
    if Path(path).suffix != ".json":
        return read_mot(path)
    frames = json.loads(Path(path).read_text(encoding="utf-8"))["frames"]
    return {
        int(index) + 1: [(entry["box"], None, without_occluded and entry["occluded"]) for entry in entries]
        for index, entries in frames.items()
    }


def read_any_detections(path, wanted_class):
    """Records (.jsonl) or a MOT detection file (anything else)."""
    if Path(path).suffix in (".jsonl", ".json"):
        return read_records(path, wanted_class)
    return read_mot(path, as_detections=True)


def frame_range(text):
    """`1-400` -> (1, 400)."""
    first, last = text.split("-")
    return int(first), int(last)


def iou(a, b):
    """Intersection over union of every box of `a` [N,4] with every box of `b` [M,4]; boxes are x, y, width, height."""
    a, b = np.asarray(a, float).reshape(-1, 4), np.asarray(b, float).reshape(-1, 4)
    a_end, b_end = a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:]
    sides = np.minimum(a_end[:, None], b_end[None]) - np.maximum(a[:, None, :2], b[None, :, :2])
    shared = np.clip(sides, 0, None).prod(-1)
    union = a[:, 2:].prod(-1)[:, None] + b[:, 2:].prod(-1)[None] - shared
    return np.where(union > 0, shared / np.maximum(union, 1e-9), 0.0)


def match(detections, labels, least_iou):
    """Greedy, best score first: each detection takes the free label it overlaps most. Returns (hits, false, missed).

    Labels marked as ignored count neither as hits nor as missed, and swallow the detections that match them.
    """
    free = list(labels)
    hits = false = 0
    for _, box, _ in sorted(detections, key=lambda d: -d[0]):
        overlaps = iou([box], [label[0] for label in free])[0] if free else np.zeros(0)
        if len(overlaps) and overlaps.max() >= least_iou:
            if not free.pop(int(overlaps.argmax()))[2]:
                hits += 1
        else:
            false += 1
    return hits, false, sum(not label[2] for label in free)
