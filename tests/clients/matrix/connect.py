"""Kafka Connect workers, standalone and distributed, that carry lines from a file through a topic to a file.

A worker that was stopped goes on where it was; one that was killed repeats at most what it had not committed. A distributed one
keeps connectors, their offsets and their state in topics that it makes compacted, and refuses to start on others.
"""
import http.client
import json
import pathlib
import re
import signal
import tempfile

from . import process, wire
from .kcat import expect
from .report import Failed, Skipped
from .servers import free_port

READY_SECONDS = 60
CLI = "org.apache.kafka.connect.cli"
FILE = "org.apache.kafka.connect.file"
WORKER = {
    "key.converter": "org.apache.kafka.connect.storage.StringConverter",
    "value.converter": "org.apache.kafka.connect.storage.StringConverter",
    "plugin.discovery": "SERVICE_LOAD",
    "offset.flush.interval.ms": "1000",
    # So that the consumer of a worker that was killed is soon out of its group.
    "consumer.session.timeout.ms": "6000",
    "consumer.heartbeat.interval.ms": "1000",
}


class Lines:
    """The file that is read, the topic, and the file that is written; each line is a number."""

    def __init__(self, tools, run, directory):
        self.kcat, self.topic = tools.kcat, run
        self.source, self.sink = directory / "source.txt", directory / "sink.txt"
        self.count = 0
        self.source.touch()
        self.sink.touch()
        wire.create_topic(tools.bootstrap, run, 1)

    def connectors(self):
        """Name → config of the two that carry them."""
        common = {"tasks.max": "1"}
        return {
            f"{self.topic}-source": {**common, "connector.class": f"{FILE}.FileStreamSourceConnector",
                                     "file": str(self.source), "topic": self.topic},
            f"{self.topic}-sink": {**common, "connector.class": f"{FILE}.FileStreamSinkConnector",
                                   "file": str(self.sink), "topics": self.topic},
        }

    def add(self, count):
        with self.source.open("a") as file:
            file.writelines(f"{number}\n" for number in range(self.count, self.count + count))
        self.count += count

    def written(self):
        """The whole lines of the file that is written."""
        return [int(line) for line in self.sink.read_text().split("\n")[:-1]]

    def sent(self):
        """What lies in the topic."""
        return [int(line) for line in self.kcat.consume(self.topic, form="%s")]

    def wait_written(self, worker, until=None):
        """Until line `until` is there, by default the last one."""
        wanted = (until or self.count) - 1
        worker.wait(lambda: wanted in self.written(), lambda: f"line {wanted} is written: {self.written()[-3:]}")

    def check_exact(self):
        """Each line once, in order."""
        expect(self.sent(), list(range(self.count)), "lines in the topic")
        expect(self.written(), list(range(self.count)), "lines written")

    def check_at_least_once(self, crashes, committed):
        """Each line, in order; behind a crash some are repeated, but none of the first `committed`."""
        # What is twice in the topic is twice in the file, too.
        for lines, returns in ((self.sent(), crashes), (self.written(), 2 * crashes)):
            known = back = 0
            for before, line in zip([-1, *lines], lines):
                if line > known or (line != before + 1 and line < committed):
                    raise Failed(f"line {line} after {before}, up to {known} were there, {committed} committed")
                back += line != before + 1
                known = max(known, line + 1)
            if known != self.count or back > returns:
                raise Failed(f"{known} lines of {self.count}, repeated from {back} points after {crashes} crashes")


class Worker:
    """One life of a worker. Each listens on a port of its own, so that what is told of an earlier life isn't taken for this one's."""

    def __init__(self, tools, directory, program, config, *files):
        self.id = f"127.0.0.1:{free_port()}"
        settings = {**WORKER, **config, "bootstrap.servers": tools.bootstrap, "listeners": f"http://{self.id}"}
        properties = write_properties(directory / "worker.properties", settings)
        self.running = process.Background(tools.command(f"{CLI}.{program}", properties, *files))
        try:
            self.wait(lambda: self.ask("/connectors")[0] == 200, lambda: "the worker answers")
        except BaseException:
            self.running.end()
            raise

    def ask(self, path, method="GET", body=None):
        """(status, answer) over REST; (None, None) where nobody answers."""
        connection = http.client.HTTPConnection(self.id, timeout=30)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            text = response.read()
            # A server that is about to start has pages for people.
            is_json = response.headers.get_content_type() == "application/json"
            return response.status, json.loads(text) if text and is_json else None
        except (OSError, http.client.HTTPException):
            return None, None
        finally:
            connection.close()

    def change(self, path, method, body=None):
        """As `ask`, until the group is not just rebalancing."""
        answers = []

        def done():
            answers.append(self.ask(path, method, body))
            return answers[-1][0] in (200, 201, 204)
        self.wait(done, lambda: f"{method} {path}: {answers[-1]}")

    def wait(self, condition, what):
        def check():
            if self.running.process.poll() is not None:
                raise Failed(f"the worker ended with {self.running.process.returncode}: {self.running.errors[-20:]}")
            return condition()
        process.wait_until(check, READY_SECONDS, lambda: f"{what()}; {self.running.errors[-5:]}")

    def places(self, name):
        """Where a connector and its tasks run; empty unless all do."""
        status, told = self.ask(f"/connectors/{name}/status")
        if status != 200 or not told["tasks"]:
            return set()
        parts = [told["connector"], *told["tasks"]]
        return {part["worker_id"] for part in parts} if all(part["state"] == "RUNNING" for part in parts) else set()

    def wait_running(self, connectors, workers=None):
        """Until all run, on all these workers and no other."""
        wanted = {worker.id for worker in workers or (self,)}

        def running():
            places = [self.places(name) for name in connectors]
            return all(places) and set().union(*places) == wanted
        self.wait(running, lambda: f"running on {wanted}: {[self.ask(f'/connectors/{name}/status') for name in connectors]}")

    def check_connectors(self, connectors):
        """Just these, with just these configs."""
        status, names = self.ask("/connectors")
        expect((status, sorted(names or ())), (200, sorted(connectors)), "connectors")
        for name, config in connectors.items():
            expect(self.ask(f"/connectors/{name}/config"), (200, {**config, "name": name}), f"config of {name}")

    def stop(self):
        # What a JVM that ends at SIGTERM says.
        expect(self.running.stop(), 128 + signal.SIGTERM, "exit status at SIGTERM")

    def kill(self):
        self.running.stop(signal.SIGKILL)


def write_properties(path, settings):
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    return path


class Case:
    """A case's lines and workers; the workers end with it."""

    def __init__(self, tools, run):
        if not tools.kcat.installed:
            raise Skipped("kcat is not there")
        self.tools, self.temporary, self.workers = tools, tempfile.TemporaryDirectory(), []
        self.directory = pathlib.Path(self.temporary.name)
        self.lines = Lines(tools, run, self.directory)

    def start(self, program, config, *files):
        self.workers.append(Worker(self.tools, self.directory, program, config, *files))
        return self.workers[-1]

    def crash(self, worker):
        """Kills it right after it has carried some of many lines on."""
        first = self.lines.count
        self.lines.add(500)
        self.lines.wait_written(worker, until=first + 1)
        worker.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for worker in self.workers:
            worker.running.end()
        self.temporary.cleanup()


def standalone(tools, run):
    with Case(tools, run) as case:
        lines = case.lines
        connectors = lines.connectors()
        files = [write_properties(case.directory / f"{name}.properties", {"name": name, **config})
                 for name, config in connectors.items()]
        config = {"offset.storage.file.filename": case.directory / "offsets"}

        def start():
            worker = case.start("ConnectStandalone", config, *files)
            worker.wait_running(connectors)
            return worker
        worker = start()
        lines.add(100)
        lines.wait_written(worker)
        worker.stop()
        lines.add(100)
        worker = start()
        lines.wait_written(worker)
        worker.stop()
        lines.check_exact()
        committed = lines.count
        worker = start()
        case.crash(worker)
        worker = start()
        lines.add(100)
        lines.wait_written(worker)
        worker.stop()
        lines.check_at_least_once(1, committed)


def distributed(tools, run):
    with Case(tools, run) as case:
        lines = case.lines
        connectors = lines.connectors()
        config = distributed_config(run)
        worker = case.start("ConnectDistributed", config)
        for name, of in connectors.items():
            worker.change(f"/connectors/{name}/config", "PUT", of)
        make_and_delete(worker, f"{run}-deleted", {**connectors[f"{run}-source"], "file": str(case.directory / "other.txt")})
        worker.wait_running(connectors)
        lines.add(100)
        lines.wait_written(worker)
        worker.stop()
        check_compacted(tools, run)
        lines.add(100)
        worker = restarted(case, config, connectors)
        lines.wait_written(worker)
        worker.stop()
        lines.check_exact()
        committed = lines.count
        worker = restarted(case, config, connectors)
        case.crash(worker)
        worker = restarted(case, config, connectors)
        lines.add(100)
        lines.wait_written(worker)
        lines.check_at_least_once(1, committed)
        taken_over(case, config, connectors, worker, committed)


def distributed_config(run):
    topics = {name: f"{run}-connect-{name}" for name in ("config", "offset", "status")}
    return {
        "group.id": f"{run}-connect", **{f"{name}.storage.topic": topic for name, topic in topics.items()},
        **{f"{name}.storage.replication.factor": "1" for name in topics},
        "offset.storage.partitions": "3", "status.storage.partitions": "2",
        "session.timeout.ms": "6000", "heartbeat.interval.ms": "1000", "scheduled.rebalance.max.delay.ms": "0",
    }


def make_and_delete(worker, name, config):
    """A connector that ran and was deleted; it stays so."""
    worker.change(f"/connectors/{name}/config", "PUT", config)
    worker.wait_running([name])
    worker.change(f"/connectors/{name}", "DELETE")


def check_compacted(tools, run):
    described = tools.topics("--describe", "--topic", f"{run}-connect-.*")
    found = re.findall(rf"Topic: {run}-connect-(\w+)\s.*PartitionCount: (\d+)\s.*cleanup\.policy=compact(?:,|\s|$)", described)
    expect(sorted(found), [("config", "1"), ("offset", "3"), ("status", "2")], f"compacted topics of {described}")


def restarted(case, config, connectors):
    """A further life of a worker, which knows of the connectors from its topics alone."""
    worker = case.start("ConnectDistributed", config)
    worker.wait_running(connectors)
    worker.check_connectors(connectors)
    return worker


def taken_over(case, config, connectors, first, committed):
    """Two workers share what is to do; where one is killed, the other does it all."""
    second = case.start("ConnectDistributed", config)
    second.wait_running(connectors, [first, second])
    second.check_connectors(connectors)
    case.crash(first)
    second.wait_running(connectors)
    case.lines.add(100)
    case.lines.wait_written(second)
    second.stop()
    case.lines.check_at_least_once(2, committed)


CELLS = {"connect-standalone": standalone, "connect-distributed": distributed}
