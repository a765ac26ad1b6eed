"""The processes of a cluster: FoundationDB, MinIO, agents. Each knows how it is started and when it is ready.

A process is known by its id and the time of its start, so that nobody else's is ever ended.
"""
import os
import pathlib
import re
import secrets
import signal
import subprocess
import time
import urllib.error
import urllib.request

from tools import ROOT, Failed, without_options

# Those that this process started, to be reaped when they end.
_children = []


def start_time(pid):
    """When the process started, in the kernel's ticks; None if it is gone, or nothing is left of it but its status."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


class Process:
    """A process by its id and start."""

    def __init__(self, pid, started):
        self.pid, self.started = pid, started

    @classmethod
    def of(cls, pid):
        """The one that has this id now."""
        return cls(pid, start_time(pid))

    @classmethod
    def start(cls, command, log, environment):
        """Starts a command in a session of its own, so that Ctrl-C reaches who asked for it alone."""
        with open(log, "ab") as output:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment,
                                     start_new_session=True)
        _children.append(child)
        return cls.of(child.pid)

    def lives(self):
        """Whether it runs or is stopped."""
        for child in list(_children):
            if child.poll() is not None:
                _children.remove(child)
        return self.started is not None and start_time(self.pid) == self.started

    def send(self, number):
        """A signal, if it still lives."""
        if self.lives():
            os.kill(self.pid, number)

    def wait_for_end(self, seconds):
        """Whether it ends within that time."""
        deadline = time.monotonic() + seconds
        while self.lives():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def kill(self):
        """kill -9, and waits until it is gone."""
        self.send(signal.SIGKILL)
        if not self.wait_for_end(20):
            raise Failed(f"process {self.pid} outlives SIGKILL")


class Part:
    """A part of a cluster, by its name. `address` is `host:port`."""

    def __init__(self, cluster, name, port):
        self.cluster, self.name, self.port = cluster, name, port
        self.directory, self.log = cluster.directory / name, cluster.directory / "logs" / f"{name}.log"
        self.process = None

    @property
    def address(self):
        """Where its service is."""
        return f"{self.cluster.network.address(self.name)}:{self.port}"

    def lives(self):
        """Whether its process does."""
        return self.process is not None and self.process.lives()

    def end_of_log(self, lines=5):
        """For messages."""
        try:
            return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return "(no log)"

    def wait_ready(self, seconds):
        """Until it serves; `Failed` if it ends or takes longer."""
        deadline = time.monotonic() + seconds
        while not self.is_ready():
            if not self.lives():
                raise Failed(f"{self.name} ended; the end of {self.log}:\n{self.end_of_log()}")
            if time.monotonic() > deadline:
                raise Failed(f"{self.name} is not ready after {seconds:.0f} s; the end of {self.log}:\n{self.end_of_log()}")
            time.sleep(0.1)

    def stop(self, seconds=45):
        """SIGTERM, and SIGKILL if that isn't enough. Whether it ended by itself."""
        if not self.lives():
            return True
        self.process.send(signal.SIGCONT)
        self.process.send(signal.SIGTERM)
        by_itself = self.process.wait_for_end(seconds)
        self.process.kill()
        return by_itself

    def _run(self, command):
        environment = {**without_options(os.environ), **self.cluster.environment}
        self.process = Process.start(self.cluster.network.inside(self.name, command), self.log, environment)


class FoundationDb(Part):
    """One fdbserver with all roles and the ssd engine."""

    @property
    def cluster_file(self):
        """The server's own; agents have copies."""
        return self.directory / "fdb.cluster"

    def start(self):
        """Starts the server; the first time it also makes the database."""
        for name in ("data", "trace"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        if not self.cluster_file.exists():
            self.cluster_file.write_text(f"penstock:{secrets.token_hex(4)}@{self.address}\n", encoding="utf-8")
        elif f"@{self.address}\n" not in self.cluster_file.read_text(encoding="utf-8"):
            raise Failed(f"the FoundationDB in {self.directory} has another address than {self.address}: "
                         "use its ports, or another --data-dir")
        self._run_server()
        if not (self.directory / "configured").exists():
            self._configure()

    def _run_server(self):
        """The port of a server that was killed is the kernel's for a moment more."""
        command = [self.cluster.programs.server, "-p", self.address, "-l", self.address, "-C", self.cluster_file,
                   "-d", self.directory / "data", "-L", self.directory / "trace", "--memory", "2GiB", "--cache-memory", "256MiB"]
        deadline = time.monotonic() + 90
        while True:
            self._run(command)
            ended = self.process.wait_for_end(0.5)
            if not ended:
                return
            if "Local address in use" not in self.end_of_log() or time.monotonic() > deadline:
                raise Failed(f"fdbserver ended; the end of {self.log}:\n{self.end_of_log()}")

    def _configure(self):
        deadline = time.monotonic() + 60
        while True:
            told = self._ask("configure new single ssd")
            if "Database created" in told or "already exists" in told:
                (self.directory / "configured").touch()
                return
            if not self.lives() or time.monotonic() > deadline:
                raise Failed(f"FoundationDB can't be configured: {told.strip()}\n{self.end_of_log()}")
            time.sleep(0.3)

    def is_ready(self):
        """Whether it commits."""
        return "is available" in self._ask("status minimal")

    def _ask(self, command):
        ask = [self.cluster.programs.cli, "-C", self.cluster_file, "--timeout", "5", "--exec", command]
        try:
            done = subprocess.run(self.cluster.network.inside(self.name, ask), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  text=True, timeout=20, check=False)
        except subprocess.TimeoutExpired:
            return "no answer"
        return done.stdout


class Minio(Part):
    """A bucket, by minio/run.sh, which installs MinIO if it isn't there."""

    bucket = "penstock"

    def start(self):
        """Returns when it serves."""
        pid_file = self.cluster.directory / "minio.pid"
        host = self.cluster.network.address(self.name)
        command = [ROOT / "minio/run.sh", "--background", "--pid-file", pid_file, "--host", host, "--port", self.port,
                   "--data-dir", self.directory, "--bucket", self.bucket]
        if os.environ.get("PENSTOCK_TEST_INSTALL") == "0":
            command.append("--no-install")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        done = subprocess.run(self.cluster.network.inside(self.name, command), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, timeout=600, env=environment, check=False)
        if done.returncode:
            raise Failed(f"MinIO does not start: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
        self.process = Process.of(int(pid_file.read_text(encoding="utf-8")))
        self.cluster.environment.update(re.findall(r"^export (AWS_\w+)='(.*)'$", done.stdout, re.MULTILINE))

    def is_ready(self):
        """run.sh has waited for it."""
        return self.lives()


class Agent(Part):
    """A Penstock agent."""

    def __init__(self, cluster, name, port, http_port, settings):
        super().__init__(cluster, name, port)
        self.http_port, self.settings = http_port, settings

    @property
    def http(self):
        """Where metrics, health and administration are."""
        return f"{self.cluster.network.address(self.name)}:{self.http_port}"

    def start(self):
        """Starts it; it is ready some time later."""
        self.directory.mkdir(parents=True, exist_ok=True)
        # FoundationDB's client writes to its cluster file.
        cluster_file = self.directory / "fdb.cluster"
        if not cluster_file.exists():
            cluster_file.write_bytes(self.cluster.parts["fdb"].cluster_file.read_bytes())
        command = [self.cluster.binary, "agent", "--metadata", f"fdb:{cluster_file}", "--object-store",
                   f"s3://{Minio.bucket}/cluster", "--data-dir", self.directory / "data", "--listen", self.address, "--http", self.http]
        for key, value in self.settings.items():
            command += ["--set", f"{key}={value}"]
        self._run(command)

    def is_ready(self):
        """Whether /health/ready says so."""
        try:
            with urllib.request.urlopen(f"http://{self.http}/health/ready", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.HTTPError, OSError):
            return False

    def drain(self):
        """Asks it to let its clients move and to end."""
        request = urllib.request.Request(f"http://{self.http}/admin/drain", method="POST")
        try:
            with urllib.request.urlopen(request, timeout=30):
                return
        except urllib.error.HTTPError as error:
            raise Failed(f"{self.name}: POST /admin/drain answers {error.code}") from error
        except OSError as error:
            raise Failed(f"{self.name} does not answer: {error}") from error
