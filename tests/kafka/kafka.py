"""Apache Kafka from Maven Central: its jars, and a one-node KRaft broker as a process of its own.

Owns nothing but the processes it starts. What isn't there (java, mvn, the registry) is said as `Unavailable`, so that
a caller can skip by name.
"""

import os
import pathlib
import shutil
import socket
import subprocess
import time
import uuid
import base64

HERE = pathlib.Path(__file__).resolve().parent
VERSION = "4.1.1"

PROPERTIES = """
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}
log.dirs={data}/log
# On a machine that is busy a broker that misses a few heartbeats would be fenced, and answer as one that leads nothing.
broker.session.timeout.ms=120000
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
"""

LOGGING = """
Configuration:
  Appenders:
    Console:
      name: console
      target: SYSTEM_ERR
      PatternLayout: {pattern: "[%d] %p %m (%c)%n"}
  Loggers:
    Root:
      level: WARN
      AppenderRef: {ref: console}
"""


class Unavailable(Exception):
    """Apache Kafka can't be had here; the text says why."""


def state_dir():
    """Where test state is kept between runs."""
    default = HERE.parent.parent / "target" / "test-state"
    return pathlib.Path(os.environ.get("PENSTOCK_TEST_STATE", default))


def libs():
    """The folder with the jars; fetched by Maven once. Raises Unavailable."""
    if shutil.which("java") is None:
        raise Unavailable("no java")
    given = os.environ.get("PENSTOCK_TEST_KAFKA_LIBS")
    if given:
        return pathlib.Path(given)
    folder = state_dir() / "kafka" / "libs"
    done = folder / f".complete-{VERSION}"
    if done.exists():
        return folder
    if shutil.which("mvn") is None:
        raise Unavailable("no mvn")
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mvn", "-B", "-q", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=900)
    if result.returncode != 0:
        lines = (result.stdout + result.stderr).strip().splitlines() or ["no reason given"]
        raise Unavailable(f"Maven could not copy Kafka's jars: {lines[0]}")
    done.touch()
    return folder


def free_port():
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Broker:
    """A one-node Apache Kafka over `data`, with further lines of server.properties.

    `features` are levels to format it with: `{"eligible.leader.replicas.version": 0}`.
    """

    def __init__(self, data, properties=(), heap="512m", features=None):
        self.features = features or {}
        self.data = pathlib.Path(data)
        self.port = free_port()
        self.log = self.data / "broker.log"
        self.process = None
        self.data.mkdir(parents=True, exist_ok=True)
        text = PROPERTIES.format(port=self.port, controller_port=free_port(), data=self.data)
        self.properties = self.data / "server.properties"
        self.properties.write_text(text + "\n".join(properties) + "\n")
        logging = self.data / "log4j2.yaml"
        logging.write_text(LOGGING)
        self.java = ["java", f"-Xmx{heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true"]
        self.java += [f"-Dlog4j2.configurationFile={logging}", "-cp", f"{libs()}/*"]

    def start(self, within=90):
        """Formats its folder if it is new, starts it, and waits until it accepts connections."""
        with open(self.log, "ab") as log:
            if not (self.data / "log" / "meta.properties").exists():
                cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
                tool = ["kafka.tools.StorageTool", "format", "--standalone", "-c", str(self.properties)]
                tool += [f"--cluster-id={cluster}"]
                for feature, level in self.features.items():
                    tool += ["--feature", f"{feature}={level}"]
                subprocess.run(self.java + tool, check=True, stdout=log, stderr=log)
            command = self.java + ["kafka.Kafka", str(self.properties)]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                time.sleep(0.1)
        end = self.log.read_text(errors="replace").splitlines()[-20:]
        self.stop()
        raise RuntimeError("Apache Kafka doesn't start:\n" + "\n".join(end))

    def stop(self):
        """Kills it; its data is the caller's to remove."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
