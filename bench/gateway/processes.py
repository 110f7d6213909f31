"""The programs of the bench: Kafka, Mosquitto, this gateway, Telegraf.

Each is started with a folder of its own, killed by its own process id, and skipped with a
message where what it needs is missing.
"""

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TELEGRAF_VERSION = "v1.37.2"
TELEGRAF_TAGS = "custom,inputs.mqtt_consumer,outputs.kafka,parsers.json,serializers.json"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "microclimate"
KAFKA_TOOLS = CACHE / "kafka-tools-4.1.0"
WAIT_S_MAX = 90


class Missing(Exception):
    """Something that the bench needs is not on this machine."""


def free_ports(count=1):
    """The first of so many ports in a row that nobody listens on."""
    while True:
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
        try:
            for other in range(port, port + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", other))
            return port
        except (OSError, OverflowError):
            continue


def wait_until(what, is_so, seconds=WAIT_S_MAX):
    began = time.monotonic()
    while not is_so():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"not {what} within {seconds} s")
        time.sleep(0.02)
    return time.monotonic() - began


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


class Process:
    """A program that can be killed, frozen and started again."""

    def __init__(self, command, log, env=None):
        self.command = [str(word) for word in command]
        self.log = Path(log)
        self.env = dict(os.environ, **(env or {}))
        self.child = None
        self.peak_rss_bytes = 0

    def start(self):
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(self.command, stdout=log, stderr=log, env=self.env)

    def signal(self, number):
        self.note_memory()
        self.child.send_signal(number)

    def kill(self):
        if self.child and self.child.poll() is None:
            self.signal(signal.SIGKILL)
            self.child.wait()

    def stop(self, seconds=60):
        self.signal(signal.SIGTERM)
        self.child.wait(seconds)

    def status_bytes(self, field):
        """A size of proc(5), bytes; 0 where the process has ended."""
        try:
            text = Path(f"/proc/{self.child.pid}/status").read_text()
        except (OSError, AttributeError):
            return 0
        line = next((line for line in text.splitlines() if line.startswith(f"{field}:")), None)
        return int(line.split()[1]) * 1024 if line else 0

    def note_memory(self):
        self.peak_rss_bytes = max(self.peak_rss_bytes, self.status_bytes("VmHWM"))
        return self.peak_rss_bytes

    def said(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Kafka(Process):
    """Apache Kafka, one node, by scripts/kafka."""

    def __init__(self, folder):
        for tool in ("java", "mvn"):
            if not shutil.which(tool):
                raise Missing(f"Apache Kafka needs the program `{tool}`")
        fetch_kafka_tools()
        self.folder = Path(folder)
        for attempt in range(3):
            self.port = free_ports(2)
            try:
                self.set_up()
                return
            except Missing:
                # Somebody else has taken the port since.
                shutil.rmtree(self.folder, ignore_errors=True)
                if attempt == 2:
                    raise

    def set_up(self):
        command = [ROOT / "scripts/kafka", "start", self.port, self.folder]
        Process.__init__(self, command, self.folder.with_suffix(".log"))
        self.properties = self.folder.with_suffix(".properties")
        self.properties.write_text("auto.create.topics.enable=true\nnum.partitions=1\n")
        self.env["KAFKA_PROPERTIES"] = str(self.properties)
        self.begin()

    def begin(self):
        done = subprocess.run(self.command, env=self.env, capture_output=True, text=True)
        if done.returncode:
            raise Missing(f"Apache Kafka does not start: {done.stderr.strip()}")
        self.pid = int((self.folder / "pid").read_text())

    def signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        try:
            self.signal(signal.SIGKILL)
        except ProcessLookupError:
            return
        wait_until("killed", lambda: not answers(self.port))

    def create_topic(self, name, **config):
        """A topic with one partition, and configuration of its own."""
        words = ["--create", "--topic", name, "--partitions", "1", "--replication-factor", "1"]
        for key, value in config.items():
            words += ["--config", f"{key.replace('_', '.')}={value}"]
        self.tool("org.apache.kafka.tools.TopicCommand", *words)

    def tool(self, name, *words):
        command = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", f"{KAFKA_TOOLS}/*", name]
        command += ["--bootstrap-server", f"127.0.0.1:{self.port}", *words]
        done = subprocess.run(command, capture_output=True)
        if done.returncode:
            raise RuntimeError(f"{name}: {done.stderr.decode(errors='replace')[-500:]}")
        return done.stdout

    def end_offset(self, topic):
        """Records of a topic's only partition: ListOffsets, version 1, of Kafka's protocol."""
        name, client = topic.encode(), b"bench"
        body = struct.pack(">iih", -1, 1, len(name)) + name + struct.pack(">iiq", 1, 0, -1)
        request = struct.pack(">hhih", 2, 1, 1, len(client)) + client + body
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=10) as stream:
                stream.sendall(struct.pack(">i", len(request)) + request)
                answer = read_exactly(stream, struct.unpack(">i", read_exactly(stream, 4))[0])
        except OSError:
            return 0
        error, _, offset = struct.unpack(">hqq", answer[-18:])
        return offset if error == 0 else 0

    def read(self, topic):
        """Values of all records in their order."""
        count = self.end_offset(topic)
        if not count:
            return []
        text = self.tool(
            "org.apache.kafka.tools.consumer.ConsoleConsumer", "--topic", topic,
            "--from-beginning", "--max-messages", str(count), "--timeout-ms", "20000",
            "--property", "line.separator=\x1e",
        )
        return [value for value in text.split(b"\x1e") if value]


def fetch_kafka_tools():
    if (KAFKA_TOOLS / "complete").exists():
        return
    pom = Path(__file__).with_name("kafka-tools.pom.xml")
    command = ["mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies", f"-DoutputDirectory={KAFKA_TOOLS}"]
    if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
        raise Missing("Kafka's tools: Maven cannot bring their jars (no network?)")
    (KAFKA_TOOLS / "complete").touch()


def read_exactly(stream, count):
    chunks = b""
    while len(chunks) < count:
        chunk = stream.recv(count - len(chunks))
        if not chunk:
            raise OSError("the connection was closed")
        chunks += chunk
    return chunks


class Mosquitto(Process):
    """Mosquitto as deploy/mosquitto.conf has it, on a port of its own."""

    def __init__(self, folder):
        program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
        if not program:
            raise Missing("the program `mosquitto`")
        self.port = free_ports()
        folder = Path(folder)
        folder.mkdir(parents=True)
        deployed = (ROOT / "deploy/mosquitto.conf").read_text()
        own = {"listener": f"listener {self.port} 127.0.0.1",
               "persistence_location": f"persistence_location {folder}/"}
        lines = [own.get(line.split(" ")[0], line) for line in deployed.splitlines()]
        # As root, it would give up the right to its own folder.
        (folder / "mosquitto.conf").write_text("\n".join([*lines, "user root"]) + "\n")
        super().__init__([program, "-c", folder / "mosquitto.conf"], folder / "mosquitto.log")
        self.start()
        wait_until("listening", lambda: answers(self.port))


class Gateway(Process):
    """This gateway, from Mosquitto (bridge) or by itself (listener), into Kafka."""

    topic, dead_letters = "sensor.readings", "sensor.dead-letters"

    def __init__(self, program, folder, kafka=None, broker=None, settings=()):
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.mqtt, self.rest = free_ports(), free_ports()
        own = [f"mqtt.listen=127.0.0.1:{self.mqtt}", f"rest.listen=127.0.0.1:{self.rest}",
               f"log.spool.dir={folder / 'spool'}", f"log.dir={folder / 'log'}"]
        if kafka:
            own += ["log.kind=kafka", f"log.kafka.brokers=127.0.0.1:{kafka.port}",
                    "log.kafka.partitions=1"]
        if broker:
            own += ["mqtt.mode=bridge", f"mqtt.port={broker.port}"]
        self.sends_to = broker.port if broker else self.mqtt
        command = [program, "run"]
        for setting in [*own, *settings]:
            command += ["--set", setting]
        super().__init__(command, folder / "gateway.log")

    def ready(self):
        self.start()
        wait_until("ready", lambda: self.get("readyz") == "ready")

    def get(self, path):
        try:
            url = f"http://127.0.0.1:{self.rest}/{path}"
            return urllib.request.urlopen(url, timeout=30).read().decode()
        except (OSError, urllib.error.URLError):
            return ""

    def totals(self):
        text = self.get("ledger")
        return json.loads(text)["totals"] if text else {}

    def reported_lost(self):
        """Messages that it says it dropped."""
        return self.totals().get("dropped", 0)

    def waiting(self):
        """Records that its spool holds for Kafka."""
        lines = self.get("metrics").splitlines()
        spools = [line for line in lines if line.startswith("microclimate_gateway_spool_records{")]
        return sum(int(float(line.rsplit(" ", 1)[1])) for line in spools)


def build_telegraf(folder):
    """Telegraf with its MQTT input and Kafka output alone, from its Go module."""
    program = Path(folder) / f"telegraf-{TELEGRAF_VERSION}"
    if program.exists():
        return program
    if not shutil.which("go"):
        raise Missing("Telegraf is built from its Go module, which needs the program `go`")
    module = Path(folder) / "telegraf-module"
    module.mkdir(parents=True, exist_ok=True)
    (module / "go.mod").write_text("module bench\n\ngo 1.24.0\n")
    source = "github.com/influxdata/telegraf"
    version = f"-X {source}/internal.Version={TELEGRAF_VERSION.lstrip('v')}"
    for command in (
        ["go", "get", f"{source}@{TELEGRAF_VERSION}"],
        ["go", "build", "-mod=mod", "-p", "1", "-tags", TELEGRAF_TAGS, "-ldflags", version,
         "-o", str(program), f"{source}/cmd/telegraf"],
    ):
        done = subprocess.run(["nice", "-n", "15", *command], cwd=module, capture_output=True, text=True)
        if done.returncode:
            raise Missing(f"Telegraf cannot be built: {done.stderr[-500:]}")
    return program


class Telegraf(Process):
    """Telegraf, set up not to lose anything as far as its documentation says how."""

    topic, dead_letters = "telegraf", None

    def __init__(self, program, folder, kafka, broker):
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.sends_to, self.port = broker.port, broker.port
        config = folder / "telegraf.conf"
        config.write_text(f"""
[agent]
  interval = "1s"
  flush_interval = "1s"
  metric_batch_size = 1000
  metric_buffer_limit = 100000
  omit_hostname = true
  debug = true
[[inputs.mqtt_consumer]]
  servers = ["tcp://127.0.0.1:{broker.port}"]
  topics = ["sensors/#"]
  client_id = "telegraf"
  persistent_session = true
  qos = 1
  max_undelivered_messages = 10000
  data_format = "json"
[[outputs.kafka]]
  brokers = ["127.0.0.1:{kafka.port}"]
  topic = "{self.topic}"
  routing_tag = "topic"
  required_acks = -1
  max_retry = 10
  idempotent_writes = true
  data_format = "json"
""")
        super().__init__([program, "--config", config], folder / "telegraf.log")

    def ready(self):
        before = self.said().count("Connected [tcp://")
        self.start()
        wait_until("connected", lambda: self.said().count("Connected [tcp://") > before)

    def reported_lost(self):
        """Metrics that its log says were dropped; of a dropped batch, the number in the line
        after it."""
        lost, is_batch = 0, False
        for line in self.said().splitlines():
            words = line.split()
            if "metrics have been dropped" in line:
                lost += int(words[words.index("metrics") - 1])
            elif "dropping batch" in line:
                is_batch = True
            elif is_batch and "Wrote batch of" in line:
                lost, is_batch = lost + int(words[words.index("of") + 1]), False
        return lost

    def waiting(self):
        """Metrics that its buffer in memory holds for Kafka."""
        fullness = [line for line in self.said().splitlines() if "Buffer fullness:" in line]
        return int(fullness[-1].split("Buffer fullness:")[1].split("/")[0]) if fullness else 0
