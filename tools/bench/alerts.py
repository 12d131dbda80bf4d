#!/usr/bin/env python3
"""How long an alert takes: from the capture of the frame that shows it, or from the end of the phrase that was said, until it lies
in Kafka.

Real parts: the bundled clip from a real RTSP camera on loopback, the default models, the service as it is with its spool, a real
Apache Kafka whose topics stamp each record with the broker's own time of appending. Camera, service and broker share this machine's
clock. Rules: three lines that people cross, three phrases that are said. Each happening counts once: its record `opened`.

Python's standard library only. Linux, Java, kcat.
"""

import argparse
import contextlib
import datetime
import json
import pathlib
import subprocess
import sys
import tempfile
import time

from delivery_broker import Broker, NotHere, note

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Seconds.
LIMITS = {"phrase p95": 3.5}
LINES = (0.4, 0.5, 0.6)
PHRASES = ("fellow Americans", "ask not what your country", "what you can do for your country")


def configuration(folder, broker, url, args):
    """The service's configuration: these streams, all rules, Kafka."""
    text = [
        f'[profiles.default]\ndetect = "{args.detect}"\ntranscribe = "{args.transcribe}"\nsampling = {{ fps = {args.fps} }}\n',
        f'[sinks.kafka]\ntype = "kafka"\nbrokers = ["{broker.address}"]\ntopic_prefix = "bench"\n',
        f'[evidence]\npath = "{folder / "evidence"}"\n',
    ]
    text += [f'[streams.camera-{at}]\nurl = "{url}"\n' for at in range(args.streams)]
    text += [
        f'[rules.line-{at * 10:.0f}]\nwhen = {{ type = "crosses", line = [[{at}, 1.0], [{at}, 0.0]], '
        f'objects = {{ classes = ["person"] }} }}\n'
        for at in LINES
    ]
    text += [f'[rules.said-{n}]\nwhen = {{ type = "said", phrases = ["{words}"] }}\n' for n, words in enumerate(PHRASES)]
    path = folder / "eyewitness.toml"
    path.write_text("\n".join(text))
    return path


@contextlib.contextmanager
def running(command, folder):
    """A process, ended in peace; gives its standard output, line by line."""
    with open(folder / "errors", "a") as errors:
        process = subprocess.Popen([str(part) for part in command], cwd=folder, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def seconds(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def records(broker):
    """Every record of the topic of alerts and when the broker appended it, seconds since 1970."""
    command = ["kcat", "-C", "-e", "-q", "-b", broker.address, "-t", "bench.alerts", "-o", "beginning", "-f", "%T\t%s\n"]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    for line in out.splitlines():
        stamp, _, record = line.partition("\t")
        yield int(stamp) / 1000, json.loads(record)


def delays(found):
    """Seconds from the frame, or from the phrase's end, to the broker, of each happening."""
    sight, sound, seen = [], [], set()
    for appended, record in found:
        if record["state"] != "opened" or record["id"] in seen:
            continue
        seen.add(record["id"])
        words = record["evidence"]["words"]
        if record["rule"].startswith("line-"):
            sight.append(appended - seconds(record["captured_at"]))
        elif words:
            # Stream time and capture time of one record belong together.
            end = seconds(record["captured_at"]) + (words[-1]["end_ms"] - record["pts_ms"]) / 1000
            sound.append(appended - end)
    return sight, sound


def at(values, part):
    """The nearest-rank percentile."""
    return sorted(values)[max(0, -(-len(values) * part // 100) - 1)]


def show(what, values, aim=""):
    if not values:
        print(f"  {what:<44} none came")
        return {}
    found = {f"p{part}": at(values, part) for part in (50, 95, 99)} | {"max": max(values), "n": len(values)}
    numbers = "".join(f"{found[key]:>9.3f}" for key in ("p50", "p95", "p99", "max"))
    print(f"  {what:<44}{found['n']:>6}{numbers}   {aim}")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("--secs", type=int, default=300, help="seconds to watch")
    parser.add_argument("--streams", type=int, default=2)
    parser.add_argument("--fps", type=float, default=10)
    parser.add_argument("--detect", default="ssdlite-mbv2")
    parser.add_argument("--transcribe", default="whisper-tiny.en")
    parser.add_argument("--clip", type=pathlib.Path, default=ROOT / "media/demo.mp4")
    parser.add_argument("--json", help="write all figures here too")
    args = parser.parse_args()
    binary = args.binary.resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        try:
            broker = Broker(folder / "broker", more="log.message.timestamp.type=LogAppendTime\n")
        except NotHere as problem:
            print(f"alerts: {problem}: skipped")
            return
        with broker, running([binary, "camera", args.clip], folder) as camera:
            url = camera.stdout.readline().strip()
            path = configuration(folder, broker, url, args)
            note(f"alerts: {args.streams} streams for {args.secs} s")
            with running([binary, "run", "--config", path, "--log", "warn"], folder) as service:
                end = time.monotonic() + args.secs
                while time.monotonic() < end:
                    time.sleep(0.2)
                    if service.poll() is not None:
                        sys.exit(f"the service ended with {service.returncode}:\n{(folder / 'errors').read_text()[-2000:]}")
            sight, sound = delays(records(broker))
    print(f"\nAlerts: seconds until Kafka has them ({args.streams} streams, {args.secs} s, {args.fps:g} frames a second each)")
    print(f"  {'':<44}{'n':>6}{'p50':>9}{'p95':>9}{'p99':>9}{'max':>9}")
    figures = {
        "line crossing, since the frame": show("line crossing, since the frame's capture", sight),
        "phrase, since its end": show("phrase, since its last word's end", sound, f"aim p95 <= {LIMITS['phrase p95']}"),
    }
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
