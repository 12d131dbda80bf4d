"""A real Apache Kafka for benchmarks: one node on free loopback ports, killed and started again as told.

Python's standard library only. The jars come from scripts/kafka/fetch.sh. Never leaves a broker behind.
"""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
START_PATIENCE = 120
# Any id will do; it only has to stay the same.
CLUSTER_ID = "5L6g3nShT-eMCtK--X86sw"
LOG4J = """status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{HH:mm:ss.SSS} %p %c{1} %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""


class NotHere(Exception):
    """What the broker needs is not on this machine."""


def note(text):
    print(f"  {text}", file=sys.stderr, flush=True)


def free_port(taken=()):
    """Below those that the system gives to outgoing connections: a client that tries again and again while the broker is away
    would sooner or later be given the broker's own port, and talk to itself."""
    for step in range(20_000):
        port = 12_000 + (os.getpid() * 7919 + step) % 20_000
        if port in taken:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise NotHere("no free port")


def jars():
    for program in ("java", "kcat"):
        if shutil.which(program) is None:
            raise NotHere(f"{program} is missing (`make setup-test` installs it)")
    done = subprocess.run([ROOT / "scripts/kafka/fetch.sh"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise NotHere(f"Apache Kafka is not here and cannot be fetched:\n{done.stdout}")
    pom = (ROOT / "scripts/kafka/pom.xml").read_text()
    version = pom.split("<kafka.version>")[1].split("<")[0]
    cache = os.environ.get("EYEWITNESS_CACHE")
    if not cache:
        cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache", "eyewitness")
    return pathlib.Path(cache, "kafka", version)


class Broker:
    """Runs inside `with`."""

    def __init__(self, home, heap_mib=512, more=""):
        self.home, self.heap_mib = home, heap_mib
        self.java = self.guard = None
        self.jars = jars()
        home.mkdir()
        port = free_port()
        controller = free_port({port})
        self.address = f"127.0.0.1:{port}"
        (home / "log4j2.properties").write_text(LOG4J)
        # A session that ends soon: a broker that was killed may come back only when its old one is over.
        (home / "server.properties").write_text(
            "process.roles=broker,controller\nnode.id=1\n"
            f"listeners=PLAIN://{self.address},CONTROLLER://127.0.0.1:{controller}\n"
            f"advertised.listeners=PLAIN://{self.address}\n"
            "controller.listener.names=CONTROLLER\ninter.broker.listener.name=PLAIN\n"
            f"controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n"
            "listener.security.protocol.map=PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT\n"
            "broker.session.timeout.ms=3000\nbroker.heartbeat.interval.ms=500\n"
            "num.partitions=1\nauto.create.topics.enable=true\noffsets.topic.replication.factor=1\n"
            f"transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\nlog.dirs={home / 'data'}\n{more}"
        )
        made = subprocess.run(
            self.command("kafka.tools.StorageTool", "format", "--standalone", "-t", CLUSTER_ID, "-c"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if made.returncode != 0:
            raise NotHere(f"kafka cannot make its folder:\n{made.stdout}")

    def command(self, name, *arguments):
        java = ["java", f"-Xmx{self.heap_mib}m", f"-Dlog4j2.configurationFile={self.home / 'log4j2.properties'}"]
        return [*java, "-cp", f"{self.jars}/*", name, *arguments, str(self.home / "server.properties")]

    def start(self):
        """Starts it and waits until it answers."""
        with open(self.home / "kafka.log", "a") as log:
            self.java = subprocess.Popen(self.command("kafka.Kafka"), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        # Its input ends with this process, however that ends.
        kill = ["sh", "-c", 'read _; kill -9 "$0"', str(self.java.pid)]
        self.guard = subprocess.Popen(kill, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + START_PATIENCE
        ask = ["kcat", "-L", "-b", self.address, "-m", "2"]
        while subprocess.run(ask, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0:
            if self.java.poll() is not None or time.monotonic() > end:
                tail = "\n".join((self.home / "kafka.log").read_text().splitlines()[-30:])
                raise RuntimeError(f"kafka does not answer:\n{tail}")
            time.sleep(0.1)

    def kill(self):
        """As a power cut would; its data stays."""
        if self.java is None:
            return
        self.java.kill()
        self.java.wait()
        # Killed before its input ends, so that it kills nobody else with that number.
        self.guard.kill()
        self.guard.wait()
        self.guard.stdin.close()
        self.java = self.guard = None

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_):
        self.kill()
