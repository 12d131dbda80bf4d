#!/usr/bin/env python3
"""What a stream costs: CPU seconds per stream-second of decoding alone, inference alone, the whole pipeline and, where
their scripts are, the tools a user would pick instead. Then resident memory per added stream.

Machines are shared and noisy, so runs are interleaved (each round runs everything once), CPU time counts and not wall
time, and the ratios of one round are compared; medians over the rounds are printed. What a process costs up to and with its
first frame (libraries, model, warm-up) is measured too and taken off, as the peers' scripts do with theirs.

Python's standard library only. Linux (reads /proc). Peers: set PEERS_SCRIPTS to the folder of p_opencv.py and p_av.py, and PEERS_PYTHON to a
Python that has numpy, opencv, onnxruntime and av.
"""
import argparse, json, os, pathlib, resource, statistics, subprocess, sys, tempfile, time

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = {  # name: (input side, keeps the picture's shape, file in the repository)
    "ssdlite-mbv2": (300, False, ROOT / "models/ssdlite_mbv2_coco_300.onnx"),
    "yolox-nano": (416, True, None),
}
PEERS_EVERY = 5  # the peers' scripts look at every 5th frame, come what may


def cpu_of(command, env=None):
    """CPU seconds (user and system) of a command and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nfailed with {done.returncode}:\n{done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def peers(args, size, weights):
    """Name and command of every peer that can run here, and a line for every one that cannot."""
    weights = args.weights or weights
    scripts = os.environ.get("PEERS_SCRIPTS")
    if not scripts or not pathlib.Path(scripts, "p_opencv.py").exists():
        return {}, ["peer scripts not present (PEERS_SCRIPTS): skipped"]
    python = os.environ.get("PEERS_PYTHON", sys.executable)
    found, notes = {}, []
    for name, modules, tail in [
        ("opencv naive", "cv2, onnxruntime", ["p_opencv.py", "naive"]),
        ("opencv tuned", "cv2, onnxruntime", ["p_opencv.py", "tuned"]),
        ("pyav tuned", "cv2, onnxruntime, av", ["p_av.py"]),
    ]:
        if subprocess.run([python, "-c", f"import {modules}"], stderr=subprocess.DEVNULL).returncode != 0:
            notes.append(f"{name}: {python} lacks one of {modules}: skipped")
            continue
        if weights is None or not pathlib.Path(weights).exists():
            notes.append(f"{name}: the weights of {args.model} are not here as a file: skipped")
            continue
        script = [str(pathlib.Path(scripts, tail[0])), *tail[1:]]
        found[name] = [python, *script, str(weights), str(size), str(args.secs), str(args.input)]
    return found, notes


def scaled(source, side, keeps_shape):
    """WIDTHxHEIGHT to which the pipeline scales a picture for the model; the padding of a letterbox costs nothing here."""
    if not keeps_shape:
        return f"{side}x{side}"
    width, height = map(int, source.split("x"))
    ratio = side / max(width, height)
    return f"{round(width * ratio)}x{round(height * ratio)}"


def probe(binary, input_path):
    """Number of frames in the recording."""
    _, out = cpu_of([binary, "bench", "decode", input_path, "--sample", "every=1000000"])
    return json.loads(out)["n_decoded"]


def rss_mib(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def memory(binary, input_path, model, counts, settle):
    """Resident MiB of the service with so many live RTSP streams, all from one camera process; or why there is no figure."""
    found = {}
    camera = subprocess.Popen([binary, "camera", input_path], stdout=subprocess.PIPE, text=True)
    try:
        url = camera.stdout.readline().strip()
        if not url:
            return {}, "the camera did not start: no figure for memory"
        for n in counts:
            with tempfile.TemporaryDirectory() as folder:
                config = pathlib.Path(folder, "eyewitness.toml")
                streams = "".join(f'[streams.s{i}]\nurl = "{url}"\n' for i in range(n))
                config.write_text(
                    streams + f'[profiles.default]\ndetect = "{model}"\nsampling = {{ fps = 1.0 }}\n'
                    f'[sinks.file]\ntype = "file"\npath = "{folder}/events.jsonl"\n'
                )
                service = subprocess.Popen([binary, "run", "--config", config, "--log", "error"], stderr=subprocess.DEVNULL)
                try:
                    time.sleep(settle)
                    if service.poll() is not None:
                        return {}, f"the service with {n} streams ended with {service.returncode}: no figure for memory"
                    found[n] = rss_mib(service.pid)
                finally:
                    service.terminate()
                    service.wait()
                n_playing = pathlib.Path(folder, "events.jsonl").read_text().count('"state":"playing"')
                if n_playing != n:
                    return {}, f"{n_playing} of {n} streams played: no figure for memory"
    finally:
        camera.kill()
        camera.wait()
    return found, None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--input", default=str(ROOT / "media/demo.mp4"), help="recording; default: the bundled clip")
    parser.add_argument("--fps", type=float, default=10, help="its frames per second; default: the bundled clip's")
    parser.add_argument("--source-size", default="768x576", help="WIDTHxHEIGHT of its pictures; default: the bundled clip's")
    parser.add_argument("--every", type=int, default=2, help="look at every Nth frame")
    parser.add_argument("--model", default="ssdlite-mbv2", choices=MODELS)
    parser.add_argument("--weights", help="the model's file, for the peers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=8, help="added streams for the memory figure; 0 leaves it out")
    parser.add_argument("--json", help="write all figures here too")
    args = parser.parse_args()

    n_decoded = probe(args.binary, args.input)
    args.secs = round(n_decoded / args.fps)
    n_frames = -(-n_decoded // args.every)
    size, keeps_shape, shipped = MODELS[args.model]
    picture = scaled(args.source_size, size, keeps_shape)
    found, notes = peers(args, size, shipped)
    with tempfile.TemporaryDirectory() as folder:
        env = dict(os.environ, DET="yolox" if args.model == "yolox-nano" else "yolov8", PEERS_DIR=folder)
        binary, sample = args.binary, f"every={args.every}"
        parts = {
            "decode": [binary, "bench", "decode", args.input, "--sample", sample, "--size", picture],
            "inference": [binary, "bench", "infer", args.model, "--frames", str(n_frames + 1)],
            "pipeline": [binary, "replay", args.input, "--detect", args.model, "--sample", sample, "--out", f"{folder}/x"],
        }
        ours = "pipeline"
        if found and args.every != PEERS_EVERY:
            ours = f"pipeline, every {PEERS_EVERY}th"
            parts[ours] = [f"every={PEERS_EVERY}" if part == sample else part for part in parts["pipeline"]]
        width, height = args.source_size.split("x")
        one_frame = f"test://?width={width}&height={height}&fps=1&secs=1"
        starts = {
            name: ["1" if part == str(n_frames + 1) else one_frame if part == args.input else part for part in command]
            for name, command in parts.items()
        }
        print(f"{args.input}: {args.secs} s, {n_decoded} frames, every {args.every}th analysed, {args.model}; "
              f"{args.rounds} interleaved rounds", flush=True)
        rounds = []
        for n in range(args.rounds):
            row = {name: cpu_of(command)[0] - cpu_of(starts[name])[0] for name, command in parts.items()}
            for name, command in found.items():
                out = cpu_of(command, env)[1]
                row[name] = json.loads(out.splitlines()[-1])["cpu_s"]
            rounds.append({name: seconds / args.secs for name, seconds in row.items()})
            print(f"  round {n + 1} of {args.rounds} done", file=sys.stderr, flush=True)

    median = lambda pick: statistics.median(pick(row) for row in rounds)
    result = {"cpu_s_per_stream_s": {name: median(lambda row: row[name]) for name in rounds[0]}}
    ratios = {"pipeline / (decode + inference)": median(lambda r: r["pipeline"] / (r["decode"] + r["inference"]))}
    for name in found:
        ratios[f"{ours} / {name}"] = median(lambda row: row[ours] / row[name])
    result["ratios"] = ratios
    print("\nCPU seconds per stream-second (median)")
    for name, seconds in result["cpu_s_per_stream_s"].items():
        print(f"  {name:<38}{seconds:8.4f}")
    aims = {"pipeline / (decode + inference)": 1.10, f"{ours} / opencv naive": 0.60}
    print("\nRatios (median of each round's)")
    for name, ratio in ratios.items():
        aim = f"   aim <= {aims[name]:.2f}" if name in aims else ""
        print(f"  {name:<38}{ratio:8.3f}{aim}")
    for note in notes:
        print(f"  {note}")
    if args.streams:
        at, trouble = memory(args.binary, args.input, args.model, [1, 1 + args.streams], 20)
        if trouble:
            print(f"\nMemory: {trouble}")
        else:
            slope = (at[1 + args.streams] - at[1]) / args.streams
            result["memory_mib"] = {"streams": at, "per_added_stream": slope}
            print(f"\nMemory: {at[1]:.0f} MiB with 1 live RTSP stream, {at[1 + args.streams]:.0f} MiB with {1 + args.streams}: "
                  f"{slope:.1f} MiB per added stream   aim <= 30")
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
