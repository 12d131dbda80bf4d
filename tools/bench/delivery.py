#!/usr/bin/env python3
"""What delivery to Kafka costs: events per second and CPU per event with and without a spool, next to librdkafka's own
producer benchmark on the same broker; then memory during an outage, and whether everything arrives after it.

The broker is a real Apache Kafka of one node, started here with the jars that scripts/kafka/fetch.sh fetches. Ours is
`eyewitness bench deliver`: numbered events through the sink's real queue and thread. librdkafka's is `rdkafka_performance -P`,
built from the very library that is linked into our program, with records as long as ours and as many headers, and with the
same compression, acknowledgements and waiting for company. Its records are all the same, and made beforehand; ours are encoded
one by one. Machines are shared and noisy, so runs are interleaved (each round runs everything once), and the ratios of one round
are compared; medians over the rounds are printed. CPU is user and system of the whole process, less what making the events cost.

Python's standard library only. Linux, Java, kcat; a C compiler for librdkafka's benchmark, which is left out without one.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from delivery_broker import Broker, NotHere, note

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIMITS = {"ours / librdkafka": 0.80, "events/s with spool": 100_000}
PREFIX = "bench"
LINGER_MS = 20
STREAMS = 4
# Name, and the spool's part of the configuration.
OURS = {
    "no spool": 'store = "memory"',
    "spool, os": 'store = "disk"\ndurability = "os"',
    "spool, interval": 'store = "disk"\ndurability = "interval"',
    "spool, disk": 'store = "disk"\ndurability = "disk"',
}
# As many headers, and about as long, as our records have.
HEADERS = [
    "content-type=application/json",
    "ce_specversion=1.0",
    "ce_id=4Z5YCGWBVT69SCYANVNA09NW9R-detections-100000",
    "ce_type=eyewitness.detections",
    "ce_source=/eyewitness/streams/s0",
    "ce_subject=4Z5YCGWBVT69SCYANVNA09NW9R",
    "traceparent=00-9d6b828e962add6cabbb21bf9a3799df-259e8ccfdf65af7f-00",
    "ce_time=2026-09-21T14:13:20.123Z",
]


class Spent:
    """Runs a command; its CPU seconds, the seconds it took, what it printed."""

    def __init__(self, command, good=(0,)):
        start = time.monotonic()
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen([str(part) for part in command], stdout=out, stderr=errors, text=True)
            try:
                _, status, usage = os.wait4(process.pid, 0)
            except BaseException:
                process.kill()
                process.wait()
                raise
            process.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            errors.seek(0)
            self.out, self.errors = out.read(), errors.read()
        self.secs = time.monotonic() - start
        self.cpu_secs = usage.ru_utime + usage.ru_stime
        if process.returncode not in good:
            words = " ".join(map(str, command))
            sys.exit(f"{words}\nfailed with {process.returncode}:\n{self.out[-1000:]}{self.errors[-2000:]}")


def peer(binary, folder):
    """librdkafka's own benchmark, built against the library that our program was built with; or why there is none."""
    built = pathlib.Path(binary).resolve().parent / "build"
    libraries = sorted(built.glob("rdkafka-sys-*/out/src/librdkafka.a"), key=os.path.getmtime)
    if not libraries:
        return None, f"no librdkafka.a below {built}"
    library = libraries[-1]
    source = library.parents[1] / "examples/rdkafka_performance.c"
    if not source.exists():
        return None, f"{source} is not there"
    program = folder / "rdkafka_performance"
    # Libraries that cargo built for it come before the system's.
    beside = [f"-L{found.parent}" for kind in ("zstd", "openssl", "libz") for found in built.glob(f"{kind}-sys-*/out/*.a")]
    beside += [f"-L{found.parent}" for found in built.glob("openssl-sys-*/out/openssl-build/install/lib*/*.a")]
    command = ["cc", "-O2", "-w", "-o", program, source, f"-I{library.parent}", library, *beside]
    try:
        for more in (["-lzstd"], ["-lzstd", "-lsasl2"], []):
            done = subprocess.run(
                [*map(str, command), *more, "-lssl", "-lcrypto", "-lz", "-lm", "-ldl", "-lpthread", "-lrt"],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            if done.returncode == 0:
                return program, None
    except OSError as error:
        return None, f"cc: {error}"
    return None, f"cc failed: {done.stdout.strip().splitlines()[-1]}"


def configuration(path, broker, spool):
    path.write_text(
        f'[sinks.kafka]\ntype = "kafka"\nbrokers = ["{broker.address}"]\ntopic_prefix = "{PREFIX}"\n'
        # One partition for all, as for the others: batches as large.
        f"linger_ms = {LINGER_MS}\n[sinks.kafka.topics]\npartitions = 1\n[sinks.kafka.spool]\n{spool}\n"
    )
    return path


def ours(binary, broker, folder, name, n_events, session):
    """Events per second, CPU microseconds per event, and the program's own account."""
    spool = OURS[name]
    where = folder / "spool"
    if "memory" not in spool:
        spool += f'\npath = "{where}"'
    config = configuration(folder / "deliver.toml", broker, spool)
    run = Spent(
        [binary, "bench", "deliver", "--config", config, "--sink", "kafka", "--events", n_events, "--streams", STREAMS]
        + ["--session", session, "--grace", 300]
    )
    shutil.rmtree(where, ignore_errors=True)
    said = json.loads(run.out.splitlines()[-1])
    if said["n_delivered"] != n_events:
        sys.exit(f"{name}: not all was delivered: {said}")
    return {
        "per_sec": n_events / said["wall_secs"],
        "accepted_per_sec": n_events / said["offered_secs"],
        "cpu_us": 1e6 * (run.cpu_secs - said["generator_cpu_secs"]) / n_events,
        "peak_rss_mib": said["peak_rss_mib"],
        "event_bytes": said["event_bytes"],
    }


def theirs(program, broker, n_events, pattern):
    properties = {
        "enable.idempotence": "true",
        "acks": "all",
        "linger.ms": LINGER_MS,
        "message.send.max.retries": 2147483647,
        "partitioner": "murmur2_random",
    }
    command = [program, "-P", "-t", f"{PREFIX}.librdkafka", "-b", broker.address, "-c", n_events, "-z", "lz4", "-k", "s0"]
    command += ["-s", len(pattern), "-m", pattern]
    for header in HEADERS:
        command += ["-H", header]
    for key, value in properties.items():
        command += ["-X", f"{key}={value}"]
    # It now and then ends with 1, because it counted one record too few as sent; what counts is what was delivered.
    run = Spent(command, good=(0, 1))
    took = re.findall(r"in (\d+)ms: (\d+) msgs/s", run.out)
    delivered = re.findall(r"(\d+) delivered", run.out)
    if not took or not delivered or int(delivered[-1]) != n_events:
        sys.exit(f"rdkafka_performance: not all was delivered:\n{run.out[-1500:]}{run.errors[-500:]}")
    return {"per_sec": 1000 * n_events / int(took[-1][0]), "cpu_us": 1e6 * run.cpu_secs / n_events}


def sample_of(broker):
    """A record of ours, for the others to send."""
    kcat = ["kcat", "-C", "-b", broker.address, "-t", f"{PREFIX}.detections", "-o", "beginning", "-c", "1", "-q"]
    return subprocess.run(kcat, stdout=subprocess.PIPE, check=True, text=True, timeout=60).stdout.strip()


def throughput(args, broker, folder):
    program, problem = peer(args.binary, folder)
    if problem:
        print(f"librdkafka's own benchmark is not here ({problem}): ours alone")
    names = [name for name in OURS if not args.only or any(wanted in name for wanted in args.only)]
    # The topics come to be, the broker's code is compiled by its virtual machine.
    ours(args.binary, broker, folder, "no spool", max(args.events // 2, 1000), "warm")
    pattern = sample_of(broker)
    if program:
        theirs(program, broker, max(args.events // 2, 1000), pattern)
    rounds = []
    for at in range(args.rounds):
        one = {}
        if program:
            one["librdkafka"] = theirs(program, broker, args.events, pattern)
        for name in names:
            one[name] = ours(args.binary, broker, folder, name, args.events, f"round-{at}")
        rounds.append(one)
        note(f"round {at + 1}: " + ", ".join(f"{n} {f['per_sec']:,.0f}/s {f['cpu_us']:.2f} us" for n, f in one.items()))

    def median(of):
        return statistics.median(of(one) for one in rounds)

    print(f"\n{args.events} events of {len(pattern)} bytes each time, medians of {len(rounds)} rounds\n")
    print(f"{'':18}{'events/s':>12}{'CPU us/event':>14}{'/ librdkafka':>14}{'CPU ratio':>11}{'peak MiB':>10}")
    figures = {}
    for name in rounds[0]:
        per_sec, cpu_us = median(lambda one: one[name]["per_sec"]), median(lambda one: one[name]["cpu_us"])
        figures[name] = {"per_sec": per_sec, "cpu_us": cpu_us}
        line = f"{name:18}{per_sec:>12,.0f}{cpu_us:>14.2f}"
        if "librdkafka" in rounds[0]:
            ratio = median(lambda one: one[name]["per_sec"] / one["librdkafka"]["per_sec"])
            cpu = median(lambda one: one[name]["cpu_us"] / one["librdkafka"]["cpu_us"])
            figures[name] |= {"ratio": ratio, "cpu_ratio": cpu}
            line += f"{ratio:>14.2f}{cpu:>11.2f}"
        else:
            line += f"{'-':>14}{'-':>11}"
        if name in OURS:
            line += f"{median(lambda one: one[name]['peak_rss_mib']):>10.1f}"
        print(line)
    print()
    if "ratio" in figures.get("no spool", {}):
        verdict("no spool: events/s of ours / librdkafka's", figures["no spool"]["ratio"], LIMITS["ours / librdkafka"], ".2f")
    if "spool, os" in figures:
        verdict("spool: events/s", figures["spool, os"]["per_sec"], LIMITS["events/s with spool"], ",.0f")
    return {"events": args.events, "event_bytes": len(pattern), "medians": figures, "rounds": rounds}


def verdict(what, value, least, shape):
    print(f"{what}: {value:{shape}}, aim >= {least:{shape}}: {'met' if value >= least else 'NOT met'}")


class Service:
    """`bench deliver` at a steady rate, and its figures as they come."""

    def __init__(self, command):
        self.process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines = []
        self.errors = []
        self.readers = [threading.Thread(target=self.read, daemon=True), threading.Thread(target=self.listen, daemon=True)]
        for reader in self.readers:
            reader.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append((time.monotonic(), json.loads(line)))

    def listen(self):
        self.errors.extend(self.process.stderr)

    def now(self):
        if self.process.poll() is not None:
            sys.exit(f"it ended with {self.process.returncode}:\n{''.join(self.errors)[-2000:]}")
        return self.lines[-1][1] if self.lines else {}

    def wait_for(self, condition, patience, what):
        end = time.monotonic() + patience
        while not condition(self.now()):
            if time.monotonic() > end:
                sys.exit(f"{what}: not within {patience} s: {self.now()}")
            time.sleep(0.2)

    def end(self):
        self.process.terminate()
        self.process.wait()
        for reader in self.readers:
            reader.join()
        return self.lines[-1][1]


def slope(samples):
    """Least squares, MiB a minute."""
    mean_at = statistics.fmean(at for at, _ in samples)
    mean = statistics.fmean(rss for _, rss in samples)
    spread = sum((at - mean_at) ** 2 for at, _ in samples)
    return 60 * sum((at - mean_at) * (rss - mean) for at, rss in samples) / spread if spread else 0.0


def disk_mib(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def arrived(broker, n_accepted):
    """How often each event arrived, as an independent client reads it: lost, duplicated, out of order at first arrival."""
    kcat = ["kcat", "-C", "-b", broker.address, "-t", f"{PREFIX}-outage.detections", "-o", "beginning", "-e", "-q", "-f", "%s\n"]
    times = bytearray(n_accepted + 1)
    newest = [-1] * STREAMS
    n_unordered = 0
    fields = re.compile(r'"stream":"s(\d+)".*?"index":(\d+)')
    with subprocess.Popen(kcat, stdout=subprocess.PIPE, text=True) as reader:
        for line in reader.stdout:
            stream, index = map(int, fields.search(line).groups())
            number = index * STREAMS + stream
            if number < n_accepted:
                if times[number] == 0:
                    n_unordered += index < newest[stream]
                    newest[stream] = max(newest[stream], index)
                times[number] = min(times[number] + 1, 255)
    held = times[:n_accepted]
    return held.count(0), sum(count - 1 for count in held if count > 1), n_unordered


def outage(args, broker, folder):
    where = folder / "outage-spool"
    spool = f'store = "disk"\nmax_bytes = {16 * 2**30}\npath = "{where}"'
    config = configuration(folder / "outage.toml", broker, spool)
    config.write_text(config.read_text().replace(f'"{PREFIX}"', f'"{PREFIX}-outage"'))
    step = max(1, min(5, args.outage_secs // 20))
    service = Service(
        [args.binary, "bench", "deliver", "--config", config, "--sink", "kafka", "--rate", args.rate, "--streams", STREAMS]
        + ["--session", "outage", "--grace", 300, "--rss-every", step, "--log", "error"]
    )
    try:
        service.wait_for(lambda now: now.get("n_delivered", 0) > 0, 60, "the first event arrives")
        time.sleep(args.warm_secs)
        before = service.now()
        broker.kill()
        killed_at = time.monotonic()
        note(f"the broker is gone for {args.outage_secs} s; {args.rate} events/s come")
        while time.monotonic() < killed_at + args.outage_secs:
            time.sleep(0.2)
            service.now()
        spool_mib = disk_mib(where)
        last = service.now()
        samples = [(at - killed_at, said["rss_mib"]) for at, said in service.lines if at >= killed_at]
        broker.start()
        back_at = time.monotonic()
        # Events go on coming: drained is when no more wait than come within a moment.
        service.wait_for(lambda now: now["n_waiting"] < 2 * args.rate, 600, "the backlog is delivered")
        drain_secs = time.monotonic() - back_at
        time.sleep(2 * step)
        after = service.now()
        account = service.end()
    finally:
        if service.process.poll() is None:
            service.process.kill()
            service.process.wait()
    n_lost, n_duplicated, n_unordered = arrived(broker, account["n_accepted"])
    steady = [(at, rss) for at, rss in samples if at >= 0.2 * args.outage_secs]
    middle = steady[len(steady) // 2][1]
    kib_a_minute = 1024 * slope(steady)
    print(f"\nOutage: the broker killed for {args.outage_secs} s, {args.rate} events/s, spool on disk\n")
    print(f"memory before it              {before['rss_mib']:10.1f} MiB")
    print(f"memory in its middle          {middle:10.1f} MiB")
    print(f"memory at its end             {last['rss_mib']:10.1f} MiB")
    print(f"memory after it               {after['rss_mib']:10.1f} MiB (peak {account['peak_rss_mib']:.1f})")
    print(f"its slope, last four fifths   {kib_a_minute:10.1f} KiB a minute")
    print(f"events that waited at its end {last['n_waiting']:10} in a spool of {spool_mib:.1f} MiB on disk")
    speed = last["n_waiting"] / drain_secs
    print(f"delivered after it            {drain_secs:10.1f} s from the broker's start: {speed:,.0f} events/s, and what came meanwhile")
    print(f"accepted, delivered           {account['n_accepted']:10} {account['n_delivered']}")
    print(f"lost, duplicated, unordered   {n_lost:10} {n_duplicated} {n_unordered}, as kcat read them")
    return {
        "secs": args.outage_secs,
        "rate": args.rate,
        "samples": samples,
        "kib_a_minute": kib_a_minute,
        "spool_mib": spool_mib,
        "n_waiting": last["n_waiting"],
        "drain_secs": drain_secs,
        "account": account,
        "n_lost": n_lost,
        "n_duplicated": n_duplicated,
        "n_unordered": n_unordered,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--events", type=int, default=400_000, help="events of each run")
    parser.add_argument("--only", type=lambda text: text.split(","), help="some of ours, such as memory,os; default: all")
    parser.add_argument("--outage-secs", type=int, default=600, help="0 leaves the outage out")
    parser.add_argument("--warm-secs", type=int, default=20, help="seconds of delivery before the outage")
    parser.add_argument("--rate", type=int, default=2000, help="events a second during the outage")
    parser.add_argument("--parts", default="throughput,outage", help="what to run")
    parser.add_argument("--folder", help="a folder on the disk to be measured, for spool and broker; default: the temporary one")
    parser.add_argument("--json", help="write all figures here too")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))

    figures = {}
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = pathlib.Path(name)
        try:
            broker = Broker(folder / "broker")
        except NotHere as problem:
            print(f"delivery: {problem}: skipped")
            return
        with broker:
            if "throughput" in args.parts:
                figures["throughput"] = throughput(args, broker, folder)
            if "outage" in args.parts and args.outage_secs > 0:
                figures["outage"] = outage(args, broker, folder)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
