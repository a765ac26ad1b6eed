#!/usr/bin/env python3
"""Load with real clients on a cluster whose parts fail, and the proof that nothing was lost, doubled or out of order.

    tests/cluster/chaos.py --seconds 90
    tests/cluster/chaos.py --records 10000000 --rate 20000 --data-dir /var/tmp/chaos
    tests/cluster/chaos.py --faults kill-agent,pause-agent --no-group
    tests/cluster/chaos.py --self-test

Idempotent producers number their records in each partition. Readers and the members of a group move from agent to agent, each
client told one address. A probe asks every agent for end offsets, an observer for committed ones. In the end the whole log is
read by a client, and through each agent for itself.

Faults: kill-agent (kill -9, restarted), drain-agent (asked to let its clients move and to end, then
restarted), pause-agent (SIGSTOP for longer than its lease), kill-fdb, kill-minio (kill -9, restarted), cut-fdb, cut-minio (an agent
can't reach that store; these need root and iproute2, and are skipped without).

The cluster is cluster.py's and needs what that needs; confluent-kafka is installed by name into PENSTOCK_TEST_STATE (default
target/test-state) if need be.

Exit codes: 0 no anomaly; 1 anomalies, or the run failed; 2 wrong usage; 3 something that is needed isn't there.
"""
import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import cluster as clusters
import faults
import selftest
import tools
import verify
from board import Board, Plan
from checker import Anomalies, check_all_seen
from network import Namespaces
from report import Report
from tools import ROOT, Failed, Missing

HERE = pathlib.Path(__file__).resolve().parent
NOT_THERE = 3
# Shares of the load: without faults, with them; the rest is behind them.
BEFORE, DURING = 0.15, 0.65
STUCK_SECONDS = 180


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--self-test", action="store_true", help="only show that the checker finds what is planted; needs nothing")
    parser.add_argument("--faults", default=",".join(faults.FAULTS), metavar="NAME,...", help="which (default: all; '': none)")
    parser.add_argument("--seconds", type=float, help="how long the load lasts (default: 90, without --records)")
    parser.add_argument("--records", type=int, help="how many records are sent, at most")
    parser.add_argument("--rate", type=float, default=2000, help="records a second of all producers; 0: all they can (default: 2000)")
    parser.add_argument("--producers", type=int, default=2, help="(default: 2)")
    parser.add_argument("--partitions", type=int, default=6, help="(default: 6)")
    parser.add_argument("--readers", type=int, default=1, help="readers that move between agents (default: 1)")
    parser.add_argument("--members", type=int, default=3, help="members of the group (default: 3)")
    parser.add_argument("--no-group", action="store_true", help="without the group")
    parser.add_argument("--record-bytes", type=int, default=100, help="of each value (default: 100)")
    parser.add_argument("--lease-ms", type=int, default=3000, help="of the agents (default: 3000)")
    parser.add_argument("--pause", type=float, default=2, metavar="SECONDS", help="about as long is it quiet between faults (default: 2)")
    parser.add_argument("--move-seconds", type=float, default=7, help="how long a reader stays at an agent (default: 7)")
    parser.add_argument("--drain-seconds", type=float, default=120, help="how long anything may come no further (default: 120)")
    parser.add_argument("--seed", type=int, help="of the faults (default: random, and printed)")
    parser.add_argument("--output", choices=("text", "json"), default="text", help="of the report (default: text)")
    parser.add_argument("--keep", action="store_true", help="leave data and logs; they stay by themselves after anomalies")
    clusters.add_options(parser)
    parser.set_defaults(data_dir=None, free_ports=True)
    options = parser.parse_args()
    check(parser, options)
    return options


def check(parser, options):
    """Ends with 2 if the options make no sense."""
    options.faults = [name for name in options.faults.split(",") if name]
    unknown = [name for name in options.faults if name not in faults.FAULTS]
    if unknown:
        parser.error(f"no fault {', '.join(unknown)}; there are: {', '.join(faults.FAULTS)}")
    if options.record_bytes < 16:
        parser.error("--record-bytes is 16 or more")
    for name in ("producers", "partitions", "agents"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} is 1 or more")
    clusters.check_options(parser, options)
    if options.no_group:
        options.members = 0
    if options.seconds is None and options.records is None:
        options.seconds = 90
    if options.records is None:
        options.records = int(options.rate * options.seconds * 1.1) + 1 if options.rate else 10_000_000
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 31)


def say(text):
    """For whoever waits; the report goes to standard output."""
    print(text, file=sys.stderr, flush=True)


def python_with_clients():
    """An interpreter that has confluent-kafka: this one, or one that the client matrix installs."""
    if subprocess.run([sys.executable, "-c", "import confluent_kafka"], stderr=subprocess.DEVNULL, check=False).returncode == 0:
        return sys.executable
    sys.path.insert(0, str(ROOT / "tests/clients"))
    from matrix import install
    from matrix.report import Skipped
    state = pathlib.Path(os.environ.get("PENSTOCK_TEST_STATE", ROOT / "target/test-state")).resolve() / "clients"
    try:
        return install.python_clients(ROOT / "tests/clients", state)
    except Skipped as reason:
        raise Missing(f"confluent-kafka: {reason}") from reason


class Run:
    """One run: the cluster, the workers, what they found."""

    def __init__(self, options, directory, python):
        self.options, self.directory, self.python = options, directory, python
        self.anomalies, self.skipped = Anomalies(), {}
        self.workers, self.facts, self.errors = {}, {}, {}
        self.campaign = None
        self.cluster = self._cluster()

    def _cluster(self):
        options = self.options
        if any(name in faults.NEED_NAMESPACES for name in options.faults):
            try:
                Namespaces.check()
                options.namespaces = True
            except Missing as reason:
                self.skipped = {name: str(reason) for name in faults.NEED_NAMESPACES if name in options.faults}
                options.faults = [name for name in options.faults if name not in self.skipped]
        cluster = clusters.create(options)
        known = tools.options_known(cluster.binary, {"node.lease.ms": options.lease_ms})
        for agent in cluster.agents:
            agent.settings.update(known)
        return cluster

    # --- the load

    def start(self):
        """The cluster, the topic and the workers."""
        self.cluster.start()
        options = self.options
        self.plan = Plan(
            directory=str(self.directory / "load"), topic="chaos", bootstrap=self.cluster.bootstrap, zones=self.cluster.zones,
            names=[agent.name for agent in self.cluster.agents], partitions=options.partitions, producers=options.producers,
            rate=options.rate, record_bytes=options.record_bytes, records=options.records,
            capacity=-(-options.records // (options.producers * options.partitions)) + 1, group="chaos-group",
            move_seconds=options.move_seconds, drain_seconds=options.drain_seconds)
        pathlib.Path(self.plan.directory).mkdir(parents=True, exist_ok=True)
        self.plan.save()
        self.board = Board(self.plan, create=True)
        self._make_topic()
        for kind, count in (("reader", options.readers), ("member", options.members), ("observer", 1 if options.members else 0),
                            ("probe", 1), ("producer", options.producers)):
            for index in range(count):
                self._start_worker(kind, index)

    def _make_topic(self):
        script = ("import sys; from confluent_kafka.admin import AdminClient, NewTopic; "
                  "admin = AdminClient({'bootstrap.servers': sys.argv[1]}); "
                  "made = admin.create_topics([NewTopic(sys.argv[2], int(sys.argv[3]), 1)]); "
                  "[future.result(30) for future in made.values()]")
        done = subprocess.run([str(self.python), "-c", script, self.plan.bootstrap[0], self.plan.topic, str(self.plan.partitions)],
                              stderr=subprocess.PIPE, text=True, timeout=60, check=False)
        if done.returncode:
            raise Failed(f"the topic can't be made: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")

    def _start_worker(self, kind, index):
        log = self.directory / "load" / f"{kind}-{index}.log"
        with open(log, "wb") as output:
            self.workers[kind, index] = subprocess.Popen(
                [str(self.python), str(HERE / "workers.py"), self.plan.directory, kind, str(index)], stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True)

    def load(self):
        """The three phases."""
        self._until(BEFORE)
        self.board.signals[Board.DURING_AT] = time.monotonic_ns()
        if self.options.faults:
            say(f"faults from now on: {', '.join(self.options.faults)}")
            self.campaign = faults.Campaign(self.cluster, self.options.faults, self.options.seed, self.options.lease_ms / 1000,
                                            self.options.pause, say)
            self.campaign.start()
        self._until(BEFORE + DURING, lambda: not self.campaign or self.campaign.rounds or not self.campaign.is_alive())
        self._end_faults()
        self.board.signals[Board.AFTER_AT] = time.monotonic_ns()
        say("no more faults")
        self._until(1)
        self.board.signals[Board.PRODUCERS_END] = 1
        self._join("producer", self.plan.drain_seconds + 60)

    def _end_faults(self):
        if not self.campaign:
            return
        self.campaign.end()
        failure = self.campaign.failure
        if failure and not isinstance(failure, Failed):
            raise failure
        if failure:
            self.anomalies.add("part-ended", str(failure))
        for name, count in self.campaign.counts().items():
            if not count:
                self.anomalies.add("fault-not-struck", name)
        for part in self.cluster.parts.values():
            try:
                part.wait_ready(90)
            except Failed as failure:
                self.anomalies.add("not-ready-again", str(failure))

    def _until(self, share, also=lambda: True):
        """Until that share of the load is over; and until `also`, for no longer than the load is to last."""
        begun = self.begun = getattr(self, "begun", time.monotonic())
        told_at, progress_at, before = time.monotonic(), time.monotonic(), -1
        while True:
            now, acknowledged, sent = time.monotonic(), sum(self.board.acknowledged), sum(self.board.sent)
            parts = [acknowledged / self.options.records]
            if self.options.seconds:
                parts.append((now - begun) / self.options.seconds)
            late = self.options.seconds and now - begun > 2 * self.options.seconds
            if max(parts) >= share and (also() or late or sent >= self.options.records):
                return
            if acknowledged != before:
                progress_at, before = now, acknowledged
            if now - progress_at > STUCK_SECONDS:
                self.anomalies.add("stuck-producers", f"{acknowledged} of {sent} records acknowledged, and no more for {STUCK_SECONDS} s")
                return
            if now - told_at >= 10:
                say(f"{now - begun:.0f} s: {sent:,} sent, {acknowledged:,} acknowledged")
                told_at = now
            self._check_workers()
            time.sleep(0.1)

    def _check_workers(self):
        for (kind, index), worker in self.workers.items():
            if worker.poll() not in (None, 0):
                raise Failed(f"{kind} {index} ended with {worker.returncode}: {self._end_of_log(kind, index)}")

    def _end_of_log(self, kind, index):
        return (self.directory / "load" / f"{kind}-{index}.log").read_text(encoding="utf-8", errors="replace")[-800:]

    def _join(self, kind, seconds):
        """Waits for all workers of a kind and takes what they found."""
        deadline = time.monotonic() + seconds
        for (of, index), worker in list(self.workers.items()):
            if of != kind:
                continue
            try:
                status = worker.wait(max(deadline - time.monotonic(), 1))
            except subprocess.TimeoutExpired:
                raise Failed(f"{kind} {index} does not end: {self._end_of_log(kind, index)}") from None
            if status:
                raise Failed(f"{kind} {index} ended with {status}: {self._end_of_log(kind, index)}")
            told = json.loads((self.directory / "load" / f"{kind}-{index}.json").read_text(encoding="utf-8"))
            self.anomalies.merge(told.pop("anomalies"))
            self.errors[f"{kind} {index}"] = told.pop("errors")
            self.facts[f"{kind} {index}"] = told
            del self.workers[of, index]

    # --- the checks

    def verify(self):
        """Behind the load: the log is what was sent, everywhere."""
        board, agents = self.board, self.cluster.agents
        say(f"reading {sum(board.sent):,} records through each agent")
        ends = {agent.name: verify.end_offsets(agent.address, self.plan) for agent in agents}
        first = ends[agents[0].name]
        if any(others != first for others in ends.values()):
            self.anomalies.add("end-went-back", f"in quiet the agents tell {ends}")
        for partition, end in enumerate(first):
            board.ends[partition] = end
        board.signals[Board.ENDS_KNOWN] = 1
        self._start_worker("reader", self.options.readers)
        patience = self.plan.drain_seconds + sum(first) / 5000
        self._join("reader", patience)
        self._join("observer", patience)
        # In order, so that each pass has the machine for itself.
        sums = {agent.name: verify.read_through(agent.name, agent.address, board, first, self.anomalies) for agent in agents}
        verify.agree(sums, self.anomalies)
        board.signals[Board.ALL_END] = 1
        self._join("member", 60)
        self._join("probe", 60)
        if self.options.members:
            for partition, end in enumerate(first):
                start = partition * self.plan.partition_capacity
                check_all_seen(board.seen[start:start + self.plan.partition_capacity], end, partition, self.anomalies)
        self._check_parts()
        return sum(first)

    def _check_parts(self):
        for part in self.cluster.ended():
            self.anomalies.add("part-ended", f"{part.name}, the end of {part.log}: {part.end_of_log()}")
        for agent in self.cluster.agents:
            for line in agent.log.read_text(encoding="utf-8", errors="replace").splitlines():
                if "panicked at" in line:
                    self.anomalies.add("panic", f"{agent.name}: {line}")

    def end(self):
        """Ends all that was started, whatever state it is in."""
        if self.campaign:
            self.campaign.end(at_once=True)
        for worker in self.workers.values():
            worker.kill()
            worker.wait()
        self.cluster.stop()


def run(options, directory):
    """The exit code."""
    python = python_with_clients()
    options.data_dir = str(directory)
    this = Run(options, directory, python)
    for name, reason in this.skipped.items():
        say(f"skipped {name}: {reason}")
    say(f"seed {options.seed}, data and logs in {directory}")
    try:
        this.start()
        this.load()
        found = this.verify()
    except Failed:
        # What was seen up to here may tell why.
        for name, (count, examples) in this.anomalies.told().items():
            say(f"ANOMALY {name}: {count}, for instance {examples[0]}")
        raise
    finally:
        this.end()
    report = Report(this, found)
    print(report.json() if options.output == "json" else report.text(), flush=True)
    return 1 if this.anomalies.counts else 0


def main():
    """The exit code."""
    options = arguments()
    if options.self_test:
        return selftest.main(options.seed)

    def interrupted(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, interrupted)
    directory = pathlib.Path(options.data_dir or tempfile.mkdtemp(prefix="penstock-chaos-")).resolve()
    status = 1
    try:
        status = run(options, directory)
    except Missing as missing:
        say(f"chaos.py: {missing}")
        status = NOT_THERE
    except Failed as failure:
        say(f"chaos.py: {failure}")
    except KeyboardInterrupt:
        status = 130
    finally:
        if status in (0, NOT_THERE) and not options.keep:
            shutil.rmtree(directory, ignore_errors=True)
        elif directory.exists():
            say(f"data and logs stay in {directory}")
    return status


if __name__ == "__main__":
    sys.exit(main())
