#!/usr/bin/env python3
"""What speech costs and how soon it is shown: live delays, CPU of captions, of silence and of single calls, many streams at once,
and word error rates; where they are, next to the tools a user would pick instead.

Live runs are `eyewitness run` on recordings, which it plays at their own speed: they last as long as these. CPU seconds are
user and system of the whole process; what the process costs up to and with its first second of silence (libraries, models) and
what taking the sound costs with nothing listening are measured too and taken off, as the peers' figures hold neither. Runs are
interleaved; minima and medians are printed. A peer that gets too little of a busy machine leaves rounds out and looks cheaper than
it is: compare captions on an idle one.

Python's standard library only. Linux. --media DIR adds DIR's *.wav (16 kHz mono): texts are read from DIR/transcription (lines of
`<s> text </s> (name)`) or NAME.txt. Peers: PEERS_PYTHON, a Python with what speech_peers.py names, and PEERS_WHISPER, a folder
with the same weights for CTranslate2; PEERS_SCRIPTS with PEERS_DIR for the prototype captions_ct2.py.
"""

import argparse
import concurrent.futures
import importlib.util
import json
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import wave

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEERS = pathlib.Path(__file__).with_name("speech_peers.py")
DEMO = ROOT / "media/demo.mp4"
DEMO_TEXT = ROOT / "media/demo_speech.json"
DEMO_SECS = 40
DEMO_SPEECH_AT = 2  # seconds: its first sentence lasts 11 s
LIMITS = {
    "shown p50": 1.2,
    "shown p95": 2.5,
    "stable p95": 3.0,
    "rewritten": 0.10,
    "captions / whisper_streaming": 1 / 3,
    "call / faster-whisper": 0.4,
}


def load_eval():
    spec = importlib.util.spec_from_file_location("eval_speech", ROOT / "tools/eval/speech.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


evaluation = load_eval()


def note(text):
    print(f"  {text}", file=sys.stderr, flush=True)


class Run:
    """A process, its CPU seconds (user and system) once it is over, and what it printed."""

    def __init__(self, command, env=None):
        self.command = [str(part) for part in command]
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=env)

    def wait(self):
        out = self.process.stdout.read()
        _, status, spent = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        if self.process.returncode != 0:
            self.errors.seek(0)
            raise RuntimeError(f"{' '.join(self.command)}\nfailed with {self.process.returncode}:\n{self.errors.read()[-2000:]}")
        return spent.ru_utime + spent.ru_stime, out


def cpu_of(command, env=None):
    return Run(command, env).wait()


def silence(path, secs):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(2 * 16_000 * secs))
    return path


class Bench:
    def __init__(self, args, folder):
        self.args, self.folder, self.binary = args, pathlib.Path(folder), args.binary
        self.quiet = silence(self.folder / "silence.wav", 60)
        self.short = silence(self.folder / "start.wav", 1)
        self.python, self.weights = os.environ.get("PEERS_PYTHON"), os.environ.get("PEERS_WHISPER")
        self.result = {}

    def config(self, inputs, port=None, partials=True):
        out = self.folder / f"{time.monotonic_ns()}.jsonl"
        path = out.with_suffix(".toml")
        streams = "".join(f'[streams.s{i}]\nurl = "{source}"\n' for i, source in enumerate(inputs))
        http = f'[http]\nlisten = "127.0.0.1:{port}"\n' if port else ""
        path.write_text(
            f'{streams}[profiles.default]\ndetect = "none"\ntranscribe = "{self.args.model}"\n{http}'
            f'[sinks.file]\ntype = "file"\npath = "{out}"\n'
        )
        return path, out

    def live(self, inputs):
        """CPU seconds, path of the records, and the largest lag by stream that /metrics showed (polled twice a second)."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        config, out = self.config(inputs, port)
        run = Run([self.binary, "run", "--config", config, "--log", "error"])
        with concurrent.futures.ThreadPoolExecutor(1) as watcher:
            lags = watcher.submit(largest_lags, run.process, port)
            cpu, _ = run.wait()  # which tells the watcher, too
            return cpu, out, lags.result()

    def start_cost(self):
        """What a process costs that hears one second of silence."""
        return statistics.median(cpu_of([self.binary, "run", "--config", self.config([self.short])[0], "--log", "error"])[0]
                                 for _ in range(3))

    def sound_cost(self, source):
        """Taking the sound at its pace, nothing listening; and what that process costs to start."""
        command = [self.binary, "bench", "sound"]
        return cpu_of([*command, source])[0] - cpu_of([*command, self.short])[0]

    def peer(self, what, sound, *options):
        if not self.python or not self.weights:
            return None
        try:
            _, out = cpu_of([self.python, PEERS, what, self.weights, sound, *options])
        except RuntimeError as e:
            note(f"speech_peers.py {what}: {str(e).strip().splitlines()[-1]}: skipped")
            return None
        return [json.loads(line) for line in out.splitlines()]


def largest_lags(process, port):
    """Of each stream; polled until `process` is known to be over."""
    lags = {}
    while process.returncode is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as answer:
                text = answer.read().decode()
            for stream, lag in re.findall(r'eyewitness_speech_lag_seconds\{stream="([^"]+)"\} (\S+)', text):
                lags[stream] = max(lags.get(stream, 0.0), float(lag))
        except OSError:
            pass  # not up yet, or over
        time.sleep(0.5)
    return lags


def as_wav(source, folder):
    """Peers read WAV alone."""
    source = pathlib.Path(source)
    if source.suffix == ".wav":
        return source
    target = pathlib.Path(folder, source.stem + ".wav")
    command = ["gst-launch-1.0", "-q", "filesrc", f"location={source}", "!", "decodebin", "!", "audioconvert", "!",
               "audioresample", "!", "audio/x-raw,rate=16000,channels=1,format=S16LE", "!", "wavenc", "!", "filesink",
               f"location={target}"]
    try:
        done = subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0
    except FileNotFoundError:
        done = False
    return target if done else None


def of_peer(found, ends, text):
    """Delays and errors of a peer's stable words; it shows no others that it stands by."""
    words = found["words"]
    ends = ends or words
    late = []
    for said in ends:
        for word in words:
            if abs(word["end"] - said["end"]) <= 0.6 and evaluation.bare(word["text"]) == evaluation.bare(said["text"]):
                late.append(word["stable_at"] - said["end"])
                break
    result = {"cpu_s": found["cpu_s"], "stable_p50_s": evaluation.quantile(late, 0.5),
              "stable_p95_s": evaluation.quantile(late, 0.95)}
    if text:
        said, heard = evaluation.bare(text), evaluation.bare(" ".join(w["text"] for w in words))
        result["wer"] = round(evaluation.distance(said, heard) / len(said), 4)
    return result


def captions(bench, clips):
    """Delays and CPU of live captions, and the CPU of silence."""
    start = bench.start_cost()
    rows = []
    for source, text in clips:
        row = {"clip": pathlib.Path(source).name, "rounds": []}
        sound = as_wav(source, bench.folder)
        ends = bench.peer("words", sound) if sound else None
        for _ in range(bench.args.live_rounds):
            cpu, out, lags = bench.live([source])
            found = evaluation.evaluate(evaluation.read_transcripts(out), text)
            found |= {"cpu_s": cpu - start - bench.sound_cost(source), "lag_s": max(lags.values(), default=None)}
            if ends:
                other = evaluation.evaluate(evaluation.read_transcripts(out), text, ends[0]["words"])
                found |= {f"{key} by other's ends": other[key] for key in ("shown_p50_s", "shown_p95_s", "stable_p95_s")}
            peer = bench.peer("captions", sound) if sound else None
            if peer:
                found["whisper_streaming"] = of_peer(peer[0], ends and ends[0]["words"], text)
            prototype = prototype_cpu(row["clip"])
            if prototype:
                found["captions_ct2"] = {"cpu_s": prototype}
            row["rounds"].append(found)
            note(f"{row['clip']}: {json.dumps(found)}")
        rows.append(row)
    on = statistics.median(bench.live([bench.quiet])[0] - start for _ in range(bench.args.live_rounds))
    off = bench.sound_cost(bench.quiet)
    bench.result |= {"start_cpu_s": start, "captions": rows, "silence_60_s": {"listening": on, "not_listening": off}}

    print("\nLive captions (median of rounds; seconds after a word's end, CPU seconds for the whole clip)")
    print(f"  {'':<44}{'shown p50':>10}{'shown p95':>10}{'stable p95':>11}{'rewritten':>10}{'WER':>7}{'CPU-s':>7}")
    for row in rows:
        pick = lambda key: middle(r.get(key) for r in row["rounds"])
        delays = ("shown_p50_s", "shown_p95_s", "stable_p95_s")
        line(row["clip"], *map(pick, (*delays, "rewritten", "wer", "cpu_s")))
        if any("shown_p50_s by other's ends" in r for r in row["rounds"]):
            line("  words' ends by faster-whisper", *(pick(f"{key} by other's ends") for key in delays))
        for peer in ("whisper_streaming", "captions_ct2"):
            theirs = [r[peer] for r in row["rounds"] if peer in r]
            if theirs:
                of = lambda key: middle(r.get(key) for r in theirs)
                line(f"  {peer}", None, None, of("stable_p95_s"), None, of("wer"), of("cpu_s"))
        ratios = [r["cpu_s"] / r["whisper_streaming"]["cpu_s"] for r in row["rounds"] if "whisper_streaming" in r]
        if ratios:
            print(f"  captions / whisper_streaming: {middle(ratios):.3f}   aim <= {LIMITS['captions / whisper_streaming']:.3f}")
    print(f"  aims: shown p50 <= {LIMITS['shown p50']}, p95 <= {LIMITS['shown p95']}, stable p95 <= {LIMITS['stable p95']}, "
          f"rewritten <= {LIMITS['rewritten']}")
    print(f"  60 s of silence: {on:.2f} CPU-s listening, {off:.2f} not listening; a process starts for {start:.2f}")


def prototype_cpu(clip):
    """CPU seconds of captions_ct2.py, which knows one clip alone."""
    scripts, folder = os.environ.get("PEERS_SCRIPTS"), os.environ.get("PEERS_DIR")
    python = os.environ.get("PEERS_PYTHON")
    if clip != "mix60.wav" or not (scripts and folder and python):
        return None
    try:
        out = cpu_of([python, pathlib.Path(scripts, "captions_ct2.py"), "0.5", "trim"])[1]
    except RuntimeError as e:
        note(f"captions_ct2.py: {str(e).strip().splitlines()[-1]}: skipped")
        return None
    return json.loads(out.splitlines()[-1])["cpu_s"]


def middle(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def line(name, *values):
    widths = (10, 10, 11, 10, 7, 7)
    print(f"  {name:<44}" + "".join(f"{v:>{w}.3f}" if v is not None else f"{'-':>{w}}" for v, w in zip(values, widths)))


def calls(bench):
    """Single calls. Ours and the peer's take turns."""
    jfk = bench.args.media and pathlib.Path(bench.args.media, "jfk.wav")
    source, begin = (jfk, 0) if jfk and jfk.exists() else (DEMO, DEMO_SPEECH_AT)
    sound = as_wav(source, bench.folder)
    ours, theirs = {}, {}
    for _ in range(bench.args.rounds):
        _, out = cpu_of([bench.binary, "bench", "transcribe", source, "--model", bench.args.model, "--from", str(begin)])
        for found in map(json.loads, out.splitlines()):
            ours.setdefault(found["secs"], []).append(found["cpu_s"])
        for found in (sound and bench.peer("calls", sound, "--from", str(begin))) or []:
            theirs.setdefault(found["secs"], []).append(found["cpu_s"])
    print(f"\nSingle calls, CPU seconds on 1 thread ({bench.args.rounds} rounds of 3 calls: min, median)")
    rows = {}
    for secs, found in ours.items():
        every = [c for round_ in found for c in round_]
        row = {"min": min(every), "median": statistics.median(every)}
        text = f"  {secs:>4g} s   {bench.args.model} {row['min']:.3f} {row['median']:.3f}"
        if theirs:
            every = [c for round_ in theirs[secs] for c in round_]
            row["peer"] = {"min": min(every), "median": statistics.median(every)}
            row["ratio"] = statistics.median(min(a) / min(b) for a, b in zip(found, theirs[secs]))
            text += (f"   faster-whisper int8 {row['peer']['min']:.3f} {row['peer']['median']:.3f}   "
                     f"ratio {row['ratio']:.2f}   aim <= {LIMITS['call / faster-whisper']:.2f}")
        print(text)
        rows[secs] = row
    bench.result["calls"] = rows


def copies(bench):
    """So many live copies of the demo clip at once."""
    print("\nLive copies of the demo clip at once (each stream's own figures: best to worst)")
    print(f"  {'streams':>7}{'shown p50':>16}{'shown p95':>16}{'stable p95':>16}{'largest lag':>16}{'words':>10}{'gaps':>6}{'lost s':>8}"
          f"{'CPU-s/stream-s':>16}")
    rows = []
    text = evaluation.read_reference(str(DEMO_TEXT))
    for n in bench.args.copies:
        cpu, out, lags = bench.live([DEMO] * n)
        found = [evaluation.evaluate(evaluation.read_transcripts(out, f"s{i}"), text) for i in range(n)]
        records = [json.loads(record) for record in out.read_text().splitlines() if '"gap"' in record]
        gaps = [(r["to_pts_ms"] - r["from_pts_ms"]) / 1e3 for r in records if r["type"] == "gap"]
        spent = cpu - bench.start_cost()
        row = {"streams": n, "cpu_s": spent, "gaps_s": gaps, "lag_s": lags, "of_streams": found}
        rows.append(row)
        span = lambda values: (lambda v: f"{min(v):.2f} - {max(v):.2f}" if v else "-")([x for x in values if x is not None])
        of = lambda key: span(f.get(key) for f in found)
        n_words = [f["words"] for f in found]
        print(f"  {n:>7}{of('shown_p50_s'):>16}{of('shown_p95_s'):>16}{of('stable_p95_s'):>16}{span(lags.values()):>16}"
              f"{f'{min(n_words)}-{max(n_words)}':>10}{len(gaps):>6}{sum(gaps):>8.1f}"
              f"{spent / n / DEMO_SECS:>16.3f}", flush=True)
    bench.result["copies"] = rows


def texts(media):
    """Clips of a folder with what is said in them; None where that is not known."""
    known = {}
    listing = pathlib.Path(media, "transcription")
    if listing.exists():
        for text, name in re.findall(r"<s>(.*)</s>\s*\((.+)\)", listing.read_text()):
            known[name] = text
    first = json.loads(DEMO_TEXT.read_text())["speech"][0]
    known.setdefault("jfk", first["text"])
    for path in sorted(pathlib.Path(media).glob("*.wav")):
        own = path.with_suffix(".txt")
        yield path, own.read_text() if own.exists() else known.get(path.stem)


def errors(bench, clips):
    """Word error rates, offline and with revisions as a live stream has them."""
    print("\nWord error rate: wrong of all words, offline / streaming")
    rows = {}
    for model in bench.args.models.split(","):
        of_model, total = {}, [0, 0, 0]
        for source, text in clips:
            if not text:
                continue
            pair = []
            for partials in ([], ["--partials"]):
                out = bench.folder / "errors.jsonl"
                try:
                    cpu_of([bench.binary, "replay", source, "--transcribe", model, *partials, "--out", out])
                except RuntimeError as e:
                    note(f"{model}: {str(e).strip().splitlines()[-1]}: skipped")
                    break
                pair.append(evaluation.evaluate(evaluation.read_transcripts(out), text))
            if len(pair) < 2:
                break
            counts = pair[0]["reference_words"], pair[0]["errors"], pair[1]["errors"]
            of_model[pathlib.Path(source).name] = dict(zip(("words", "offline", "streaming"), counts))
            total = [a + b for a, b in zip(total, counts)]
        if of_model:
            rows[model] = of_model
            print(f"  {model}: {total[1] / total[0]:.3f} / {total[2] / total[0]:.3f} of {total[0]} words")
            for name, row in of_model.items():
                print(f"    {name:<48}{row['offline']:>3} / {row['streaming']:<3} of {row['words']}")
    bench.result["errors"] = rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--media", help="a folder with more recordings")
    parser.add_argument("--clips", default="mix60", help="which of them to caption live too: a part of their names")
    parser.add_argument("--model", default="whisper-tiny.en")
    parser.add_argument("--models", default="whisper-tiny.en,whisper-tiny.en-cpp,whisper-base", help="for word error rates")
    parser.add_argument("--rounds", type=int, default=5, help="of single calls")
    parser.add_argument("--live-rounds", type=int, default=1, help="of live captions")
    counts = lambda text: [int(n) for n in text.split(",") if n]
    parser.add_argument("--copies", type=counts, default=[1, 4, 12], help="streams at once")
    parser.add_argument("--parts", default="calls,captions,copies,errors")
    parser.add_argument("--json", help="write all figures here too")
    args = parser.parse_args()

    demo = (DEMO, evaluation.read_reference(str(DEMO_TEXT)))
    others = list(texts(args.media)) if args.media else []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args, folder)
        if not bench.python or not bench.weights:
            note("PEERS_PYTHON and PEERS_WHISPER are not set: no peers of speech")
        if "calls" in args.parts:
            calls(bench)
        if "captions" in args.parts:
            captions(bench, [demo] + [(path, text) for path, text in others if args.clips and args.clips in path.name])
        if "copies" in args.parts:
            copies(bench)
        if "errors" in args.parts:
            errors(bench, [demo] + others)
        if args.json:
            pathlib.Path(args.json).write_text(json.dumps(bench.result, indent=1))


if __name__ == "__main__":
    main()
