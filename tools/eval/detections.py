#!/usr/bin/env python3
"""Precision and recall of eyewitness' own records against labels.

    eyewitness replay media/demo.mp4 --detect ssdlite-mbv2 --out /tmp/x.jsonl
    tools/eval/detections.py /tmp/x.jsonl media/demo_labels.json

RECORDS are `detections` records (.jsonl) or a MOT detection file; LABELS a MOT file or media/demo_labels.json. Only frames that
are labelled count, and every one of them must have been analysed. Matching: greedy by score, one label each.
"""

import argparse
import json
import sys

from boxes import frame_range, match, read_any_detections, read_labels


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records")
    parser.add_argument("labels")
    parser.add_argument("--score", type=float, default=0.4, help="least score of a detection (default %(default)s)")
    parser.add_argument("--iou", type=float, default=0.5, help="least overlap of a match (default %(default)s)")
    parser.add_argument("--class", dest="wanted_class", default="person", help="class to look at (default %(default)s)")
    parser.add_argument("--frames", type=frame_range, help="first-last, from 1; default: all that are labelled")
    parser.add_argument("--ignore-occluded", action="store_true", help="people labelled as occluded count neither way")
    parser.add_argument("--missing-ok", action="store_true", help="leave labelled frames without a record out of the count")
    parser.add_argument("--json", action="store_true", help="one JSON line instead of text")
    args = parser.parse_args()

    found = read_any_detections(args.records, args.wanted_class)
    labels = read_labels(args.labels, args.ignore_occluded)
    first, last = args.frames or (min(labels), max(labels))
    # A MOT file has no line for an empty frame: within an asked-for range, no line means nobody is there.
    frames = range(first, last + 1) if args.frames and not args.labels.endswith(".json") else sorted(labels)
    frames = [frame for frame in frames if first <= frame <= last]
    by_records = args.records.endswith((".jsonl", ".json"))
    absent = [frame for frame in frames if by_records and frame not in found]
    if absent and not args.missing_ok:
        sys.exit(f"{len(absent)} of {len(frames)} labelled frames have no record (first: index {absent[0] - 1}); "
                 "analyse every frame (--sample all) or say --missing-ok")
    frames = [frame for frame in frames if frame not in set(absent)]

    n_hits = n_false = n_missed = 0
    for frame in frames:
        strong = [d for d in found.get(frame, []) if d[0] >= args.score]
        hits, false, missed = match(strong, labels.get(frame, []), args.iou)
        n_hits, n_false, n_missed = n_hits + hits, n_false + false, n_missed + missed
    result = {
        "precision": round(n_hits / max(1, n_hits + n_false), 4),
        "recall": round(n_hits / max(1, n_hits + n_missed), 4),
        "n_frames": len(frames), "n_hits": n_hits, "n_false": n_false, "n_missed": n_missed,
    }
    if args.json:
        print(json.dumps(result))
    else:
        print(f"precision {result['precision']:.3f}  recall {result['recall']:.3f}   "
              f"({len(frames)} frames: {n_hits} hits, {n_false} false, {n_missed} missed; "
              f"{args.wanted_class}, score >= {args.score}, IoU >= {args.iou})")


if __name__ == "__main__":
    main()
