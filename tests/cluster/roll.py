#!/usr/bin/env python3
"""A rolling restart of all agents under load of clients with default settings: nobody sees an error.

    tests/cluster/roll.py [--rounds N] [--output json]

Producers and consumers in groups, librdkafka's (confluent-kafka) and Apache Kafka's own (Java), each told one address and nothing else
but its group; agent after agent is sent SIGTERM, has to end by itself, and is started again. An error is what an application would see:
a failed delivery, an exception or an error in a poll, partitions that are lost, a record that is missing or comes twice, records of an
idempotent producer (Java's default) in another order, a group that rebalances because an agent went. librdkafka's producer isn't
idempotent by default and overtakes what it sends again, whatever the broker; what came in another order is counted.

The cluster is cluster.py's and needs what that needs; the clients are installed as for tests/clients/run.py; one that can't be had is
skipped by name.

Exit codes: 0 no error; 1 errors, or the run failed; 2 wrong usage; 3 something that is needed isn't there.
"""
import argparse
import collections
import json
import os
import pathlib
import signal
import shutil
import subprocess
import sys
import tempfile
import time

import cluster as clusters
from tools import ROOT, Failed, Missing

sys.path.insert(0, str(ROOT / "tests/clients"))
from matrix import install, wire
from matrix.libraries import JVM
from matrix.report import Failed as ClientFailed, Skipped

CLIENTS = ROOT / "tests/clients"
NOT_THERE, EXAMPLES = 3, 5
PHASES = ("before", "during", "after")
MEMBERS = 2
# An agent's own deadline is 30 s.
ENDS_WITHIN = 45
READ_WITHIN = 60
IDEMPOTENT_BY_DEFAULT = ("java",)


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2, help="how often each agent is restarted (default: 2)")
    parser.add_argument("--rate", type=int, default=500, help="records a second of each producer (default: 500)")
    parser.add_argument("--partitions", type=int, default=6, help="of each topic (default: 6)")
    parser.add_argument("--quiet", type=float, default=15, metavar="SECONDS", help="before and after the restarts (default: 15)")
    parser.add_argument("--pause", type=float, default=5, metavar="SECONDS", help="between two restarts (default: 5)")
    parser.add_argument("--output", choices=("text", "json"), default="text", help="of the report (default: text)")
    parser.add_argument("--keep", action="store_true", help="leave data and logs; they stay by themselves after errors")
    clusters.add_options(parser)
    parser.set_defaults(data_dir=None, free_ports=True)
    options = parser.parse_args()
    clusters.check_options(parser, options)
    if options.agents < 2 or options.rounds < 1 or options.rate < 1:
        parser.error("a rolling restart needs two agents, a round and a record a second")
    return options


def say(text):
    """For whoever waits; the report goes to standard output."""
    print(text, file=sys.stderr, flush=True)


def programs(state):
    """Library → the command line of its load client, and library → why it can't be had."""
    found, skipped = {}, {}
    for name, program in (
            ("librdkafka", lambda: [install.python_clients(CLIENTS, state), CLIENTS / "python/load_client.py"]),
            ("java", lambda: [*JVM, "-cp", install.java(CLIENTS, state), "LoadClient"])):
        try:
            found[name] = [str(argument) for argument in program()]
        except (Skipped, ClientFailed) as reason:
            skipped[name] = str(reason).strip().splitlines()[0]
    return found, skipped


class Client:
    """A load client that runs."""

    def __init__(self, command, directory, name, *told):
        self.name, self.out = name, directory / f"{name}.records"
        self.lines, self.log = directory / f"{name}.out", directory / f"{name}.log"
        bootstrap, role, topic, last = told
        with open(self.lines, "wb") as output, open(self.log, "wb") as errors:
            self.process = subprocess.Popen([*command, bootstrap, role, topic, str(self.out), str(last)], stdin=subprocess.PIPE,
                                            stdout=output, stderr=errors, start_new_session=True)

    def tell(self, line):
        """A line of its input."""
        try:
            self.process.stdin.write(f"{line}\n".encode())
            self.process.stdin.flush()
        except BrokenPipeError:
            # It has ended, which is found where it is waited for.
            pass

    def wait(self, seconds):
        """Until it has ended as it should."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} does not end: {self.end_of_log()}") from None
        if status:
            raise Failed(f"{self.name} ended with {status}: {self.end_of_log()}")

    def end_of_log(self):
        """For messages."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-800:]

    def said(self, what):
        """The rests of the lines that begin so."""
        lines = self.lines.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line[len(what) + 1:] for line in lines if line.startswith(f"{what} ")]

    def records(self):
        """The whole lines so far, as numbers."""
        with open(self.out, encoding="utf-8") as lines:
            return [tuple(map(int, line.split())) for line in lines if line.endswith("\n")]


class Side:
    """One library's topic, producer and group."""

    def __init__(self, library, command, directory, cluster, options):
        self.library, topic, told = library, f"roll-{library}", cluster.bootstrap
        wire.create_topic(told[0], topic, options.partitions)
        self.members = [Client(command, directory, f"{library}-member-{number}", told[number % len(told)], "consume", topic, f"{topic}-group")
                        for number in range(MEMBERS)]
        self.producer = Client(command, directory, f"{library}-producer", told[-1], "produce", topic, options.rate)
        self.clients = [self.producer, *self.members]

    def assignments(self):
        """How often a member was given partitions."""
        return sum(len(member.said("assigned")) for member in self.members)

    def consumes(self):
        """Whether each member has read."""
        return all(member.out.exists() and member.out.stat().st_size for member in self.members)

    def finish(self):
        """Ends the producer, then, when they have all or have had the time, the members."""
        self.producer.tell("end")
        self.producer.wait(360)
        sent, deadline = int(self.producer.said("sent")[0]), time.monotonic() + READ_WITHIN
        while sum(len(member.records()) for member in self.members) < sent and time.monotonic() < deadline:
            time.sleep(0.5)
        for member in self.members:
            member.tell("end")
        for member in self.members:
            member.wait(60)

    def check(self, assignments):
        """What is wrong: name → examples. `assignments`: how many there were before the restarts."""
        wrong = collections.defaultdict(list)
        for client in self.clients:
            for error in client.said("error"):
                wrong["error"].append(f"{client.name}: {error}")
        if self.assignments() != assignments:
            wrong["rebalance"].append(f"{self.assignments()} assignments, {assignments} before the restarts")
        sent, acknowledged = int(self.producer.said("sent")[0]), self.producer.records()
        places = {number: (partition, offset) for number, partition, offset, _, _ in acknowledged}
        read = collections.Counter()
        for member in self.members:
            nexts, highest = {}, collections.defaultdict(lambda: -1)
            for number, partition, offset in member.records():
                read[number] += 1
                if nexts.setdefault(partition, offset) != offset:
                    wrong["skip" if offset > nexts[partition] else "again"].append(f"{member.name}: {partition}@{offset} for {nexts[partition]}")
                if number < highest[partition] and self.library in IDEMPOTENT_BY_DEFAULT:
                    wrong["reordered"].append(f"{member.name}: {number} at {partition}@{offset} behind {highest[partition]}")
                if places.get(number, (partition, offset)) != (partition, offset) and read[number] == 1:
                    wrong["elsewhere"].append(f"{member.name}: {number} at {partition}@{offset}, was told {places[number]}")
                nexts[partition], highest[partition] = offset + 1, max(number, highest[partition])
        wrong["not acknowledged"] += [str(number) for number in range(sent) if number not in places]
        wrong["not read"] += [str(number) for number in range(sent) if not read[number]]
        wrong["read twice"] += [f"{number}, {count} times" for number, count in read.items() if count > 1]
        return {name: examples for name, examples in wrong.items() if examples}

    def facts(self):
        """For the report."""
        latencies = [[] for _ in PHASES]
        for *_, phase, milliseconds in self.producer.records():
            latencies[phase].append(milliseconds)
        return {
            "sent": int(self.producer.said("sent")[0]), "acknowledged": len(self.producer.records()),
            "read": sum(len(member.records()) for member in self.members), "assignments": self.assignments(),
            "sent again and overtaken": self._overtaken(),
            "produce latency milliseconds": {phase: quantiles(sorted(found)) for phase, found in zip(PHASES, latencies)},
            "told by the way": dict(collections.Counter(told for client in self.clients for told in client.said("told"))),
        }

    def _overtaken(self):
        """Records behind a later one of their partition."""
        highest, count = collections.defaultdict(lambda: -1), 0
        for number, partition, _, *_ in sorted(self.producer.records(), key=lambda record: record[1:3]):
            count += number < highest[partition]
            highest[partition] = max(highest[partition], number)
        return count


def quantiles(ordered):
    """p50, p99 and the longest."""
    return {name: ordered[min(int(len(ordered) * share), len(ordered) - 1)] for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1))} \
        if ordered else {}


def wait_until(condition, seconds, what):
    """`Failed` if it takes longer."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"not so within {seconds} s: {what}")
        time.sleep(0.2)


def restart_all(cluster, options):
    """Agent after agent; how long each took to end and to be ready again."""
    events = []
    for _ in range(options.rounds):
        for agent in cluster.agents:
            begun = time.monotonic()
            if not agent.stop(ENDS_WITHIN):
                raise Failed(f"{agent.name} did not end within {ENDS_WITHIN} s of SIGTERM")
            ended = time.monotonic()
            cluster.restart(agent.name)
            ready = time.monotonic()
            events.append({"agent": agent.name, "drained in seconds": round(ended - begun, 1), "ready in seconds": round(ready - ended, 1)})
            say(f"{agent.name}: drained in {ended - begun:.1f} s, ready again in {ready - ended:.1f} s")
            time.sleep(options.pause)
    return events


def run(options, directory):
    """The report."""
    state = pathlib.Path(os.environ.get("PENSTOCK_TEST_STATE", ROOT / "target/test-state")).resolve() / "clients"
    found, skipped = programs(state)
    if not found:
        raise Missing("; ".join(f"{name}: {reason}" for name, reason in skipped.items()))
    options.data_dir = str(directory)
    cluster, sides = clusters.create(options), []
    try:
        cluster.start()
        (directory / "load").mkdir(exist_ok=True)
        sides = [Side(library, command, directory / "load", cluster, options) for library, command in found.items()]
        wait_until(lambda: all(side.consumes() for side in sides), 90, "each member of a group has read")
        say("all members read")
        time.sleep(options.quiet)
        before = [side.assignments() for side in sides]
        clients = [client for side in sides for client in side.clients]
        for client in clients:
            client.tell(1)
        events = restart_all(cluster, options)
        for client in clients:
            client.tell(2)
        time.sleep(options.quiet)
        for side in sides:
            side.finish()
        wrong = {side.library: side.check(assignments) for side, assignments in zip(sides, before)}
        return {"agents": options.agents, "restarts": events, "skipped": skipped,
                "clients": {side.library: {**side.facts(), "wrong": {
                    name: {"count": len(examples), "examples": examples[:EXAMPLES]} for name, examples in wrong[side.library].items()}}
                    for side in sides}}
    finally:
        for side in sides:
            for client in side.clients:
                client.process.kill()
                client.process.wait()
        cluster.stop()


def text(report):
    """For people."""
    restarts = report["restarts"]
    lines = [f"restarts    {len(restarts)} of {report['agents']} agents, drained in up to {max(at['drained in seconds'] for at in restarts)} s"]
    lines += [f"skipped     {name}: {reason}" for name, reason in report["skipped"].items()]
    for library, told in report["clients"].items():
        lines.append(f"{library:<11} {told['sent']:,} sent, {told['acknowledged']:,} acknowledged, {told['read']:,} read")
        for phase, found in told["produce latency milliseconds"].items():
            lines.append(f"{library:<11} {phase:<6} " + ", ".join(f"{name} {value:,} ms" for name, value in found.items()))
        if told["told by the way"]:
            lines.append(f"{library:<11} told by the way: " + ", ".join(f"{name} × {count}" for name, count in told["told by the way"].items()))
        if told["sent again and overtaken"]:
            lines.append(f"{library:<11} sent again and overtaken: {told['sent again and overtaken']:,}")
        for name, found in told["wrong"].items():
            lines.append(f"WRONG       {library}, {name}: {found['count']:,}, for instance {found['examples'][0]}")
        if not told["wrong"]:
            lines.append(f"{library:<11} no error, nothing lost or doubled, no rebalance")
    return "\n".join(lines)


def main():
    """The exit code."""
    options = arguments()

    def interrupted(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, interrupted)
    directory, status = pathlib.Path(options.data_dir or tempfile.mkdtemp(prefix="penstock-roll-")).resolve(), 1
    directory.mkdir(parents=True, exist_ok=True)
    try:
        report = run(options, directory)
        print(json.dumps(report, indent=1) if options.output == "json" else text(report), flush=True)
        status = 1 if any(told["wrong"] for told in report["clients"].values()) else 0
    except Missing as missing:
        say(f"roll.py: {missing}")
        status = NOT_THERE
    except (Failed, ClientFailed) as failure:
        say(f"roll.py: {failure}")
    except KeyboardInterrupt:
        status = 130
    finally:
        if status in (0, NOT_THERE) and not options.keep:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            say(f"data and logs stay in {directory}")
    return status


if __name__ == "__main__":
    sys.exit(main())
