"""MinIO, SeaweedFS and the broker, started and ended by the driver."""
import contextlib
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

from . import process
from .report import Failed, Skipped


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def free_ports(count):
    """The first of so many successive ports that were free a moment ago."""
    while True:
        first = free_port()
        with contextlib.ExitStack() as held:
            try:
                for port in range(first + 1, first + count):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except (OSError, OverflowError):
                continue
        return first


class Minio:
    """A MinIO of this run's own; `environment` is what makes the broker use it."""

    def __init__(self, root, state):
        self.script = root / "minio" / "run.sh"
        self.pid_file = state / "minio.pid"
        arguments = [self.script, "--background", "--pid-file", self.pid_file, "--port", free_port(),
                     "--data-dir", state / "minio", "--bucket", "penstock-clients"]
        try:
            _, printed, _ = process.run(arguments, 400, environment={"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""})
        except Failed as failure:
            raise Skipped(f"MinIO does not start: {str(failure).strip().splitlines()[-1]}") from failure
        self.environment = dict(re.findall(r"^export (AWS_\w+)='(.*)'$", printed, re.MULTILINE))
        self.url = "s3://penstock-clients/matrix"

    def end(self):
        process.run([self.script, "--stop", "--pid-file", self.pid_file], 30)


class SeaweedFs:
    """A SeaweedFS of this run's own, as `Minio`."""

    def __init__(self, root, state):
        self.script, self.directory = root / "tests" / "s3" / "weed.py", state / "seaweedfs"
        status, printed, errors = process.run(
            ["python3", self.script, "start", "--directory", self.directory, "--bucket", "penstock-clients"], 700, accept=(0, 3))
        if status:
            raise Skipped(errors.strip().splitlines()[-1])
        self.environment = dict(re.findall(r"^export (AWS_\w+)='(.*)'$", printed, re.MULTILINE))
        self.url = "s3://penstock-clients/smoke"

    def end(self):
        process.run(["python3", self.script, "stop", "--directory", self.directory], 30)


class Broker:
    """`penstock dev` on free ports of the loopback: several agents on successive ones."""

    def __init__(self, binary, directory, object_store=None, environment=None, options=(), agents=1):
        self.binary, self.directory, self.object_store = binary, directory, object_store
        self.environment, self.options = environment or {}, options
        self.agents = agents
        kafka, http = free_ports(agents), free_ports(agents)
        self.kafka, self.http = f"127.0.0.1:{kafka}", f"127.0.0.1:{http}"
        self.each = [f"127.0.0.1:{kafka + number}" for number in range(agents)]
        self.http_ports = [http + number for number in range(agents)]
        self.log = directory.parent / f"{directory.name}.log"
        self.log.unlink(missing_ok=True)
        self.start()

    def start(self):
        arguments = [self.binary, "dev", "--data-dir", self.directory, "--listen", self.kafka, "--http", self.http]
        if self.agents > 1:
            arguments += ["--agents", str(self.agents)]
        if self.object_store:
            arguments += ["--object-store", self.object_store]
        for option in self.options:
            arguments += ["--set", option]
        # PENSTOCK_… are options to the broker; those of the tests aren't.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env={**inherited, **self.environment}, start_new_session=True)
        deadline = time.monotonic() + 30
        while any(self.ready(port) != 200 for port in self.http_ports):
            if self.process.poll() is not None or time.monotonic() > deadline:
                process.end(self.process)
                raise Failed(f"the broker does not get ready; the end of {self.log}:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.1)

    def ready(self, port=None):
        """The HTTP status of /health/ready, None without an answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port or self.http_ports[0]}/health/ready", timeout=5) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    def check_alive(self):
        if self.process.poll() is not None:
            raise Failed(f"the broker ended with status {self.process.returncode}; log {self.log}")

    def check_ready(self):
        status = self.ready()
        if status != 200:
            raise Failed(f"/health/ready answers {status}")

    def check_compacted(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_ports[0]}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        told = {name: float(value) for name, value in re.findall(r"^penstock_compaction_(\w+) (\S+)$", text, re.MULTILINE)}
        if not told.get("runs_total") or not told.get("dropped_records_total") or told.get("failures_total"):
            raise Failed(f"log compaction has not run, or has failed: {told}")

    def check_log(self):
        lines = self.log.read_text(errors="replace").splitlines()
        bad = [line for line in lines if re.search(r"\bERROR\b|panicked at", line)]
        if bad:
            shown = "\n".join(bad[:10])
            raise Failed(f"{len(bad)} lines of {self.log} tell of errors:\n{shown}")

    def stop(self):
        """SIGTERM; the broker has to end by itself, with 0."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(40)
        except subprocess.TimeoutExpired:
            process.end(self.process)
            raise Failed("the broker did not end within 40 s of SIGTERM") from None
        if status != 0:
            raise Failed(f"the broker ended with status {status} at SIGTERM")

    def end(self):
        process.end(self.process)
