#!/usr/bin/env python3
"""MOTA, IDF1 and identity switches of eyewitness' own records against labels with identities, by py-motmetrics.

    tools/eval/tracking.py x.jsonl labels.txt --frames 1-400

RECORDS are `detections` records (.jsonl) or a MOT result file; objects without a track are left out. LABELS is a MOT file.
"""

import argparse
import json
import sys

import numpy as np

np.asfarray = np.asarray  # motmetrics 1.4 calls what NumPy 2 took away
import motmetrics  # noqa: E402

from boxes import frame_range, iou, read_any_detections, read_labels  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records")
    parser.add_argument("labels")
    parser.add_argument("--iou", type=float, default=0.5, help="least overlap of a match (default %(default)s)")
    parser.add_argument("--class", dest="wanted_class", default="person", help="class to look at (default %(default)s)")
    parser.add_argument("--frames", type=frame_range, help="first-last, from 1; default: all up to the last label")
    parser.add_argument("--json", action="store_true", help="one JSON line instead of text")
    args = parser.parse_args()

    found = read_any_detections(args.records, args.wanted_class)
    labels = read_labels(args.labels)
    if any(identity is None for entries in labels.values() for _, identity, _ in entries):
        sys.exit(f"{args.labels}: these labels have no identities; tracking needs a MOT file")
    first, last = args.frames or (min(labels), max(labels))
    accumulator = motmetrics.MOTAccumulator()
    for frame in range(first, last + 1):
        entries = labels.get(frame, [])
        tracked = [(box, track) for _, box, track in found.get(frame, []) if track is not None]
        distances = 1.0 - iou([e[0] for e in entries], [t[0] for t in tracked])
        distances[distances > 1.0 - args.iou] = np.nan
        accumulator.update([e[1] for e in entries], [t[1] for t in tracked], distances, frameid=frame)
    names = ["mota", "idf1", "num_switches", "num_false_positives", "num_misses", "num_objects", "num_unique_objects"]
    values = motmetrics.metrics.create().compute(accumulator, metrics=names, name="all").loc["all"]
    n_tracks = len({track for frame in range(first, last + 1) for _, _, track in found.get(frame, []) if track is not None})
    result = {
        "mota": round(float(values["mota"]), 4), "idf1": round(float(values["idf1"]), 4),
        "n_switches": int(values["num_switches"]), "n_false": int(values["num_false_positives"]),
        "n_missed": int(values["num_misses"]), "n_labels": int(values["num_objects"]),
        "n_labelled_tracks": int(values["num_unique_objects"]), "n_tracks": n_tracks,
    }
    if args.json:
        print(json.dumps(result))
    else:
        print(f"MOTA {result['mota']:.3f}  IDF1 {result['idf1']:.3f}  switches {result['n_switches']}   "
              f"({result['n_false']} false, {result['n_missed']} missed of {result['n_labels']}; "
              f"{result['n_tracks']} tracks, {result['n_labelled_tracks']} labelled; IoU >= {args.iou})")


if __name__ == "__main__":
    main()
