#!/usr/bin/env python3
"""The part `cluster` of tests/run.sh, on FoundationDB and MinIO: the checker's self-test; the script that starts a cluster; real
clients on three agents, each told of one; a rolling restart under load; a short run of verified load under every fault.

    tests/cluster/run.py [--only clients] [--matrix] [--seconds N]

Prints a line for each, and counts as the last one. Without FoundationDB the self-test is all there is; the rest is skipped by
name.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import cluster as clusters
import selftest
import tools
from faults import FAULTS
from tools import Failed, Missing

HERE = pathlib.Path(__file__).resolve().parent
CLIENTS = HERE.parent / "clients/run.py"
PARTS = ("script", "clients", "roll", "chaos")


class Lines:
    """What is printed and counted."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def ok(self, what):
        """One that passed."""
        self.passed += 1
        print(f"ok      {what}", flush=True)

    def fail(self, what):
        """One that failed."""
        self.failed += 1
        print(f"FAILED  {what}", flush=True)

    def add(self, passed, failed, skipped):
        """Those of a program that printed its own lines."""
        self.passed, self.failed, self.skipped = self.passed + passed, self.failed + failed, self.skipped + skipped

    def skip(self, what, reason):
        """One that can't be run here."""
        self.skipped += 1
        print(f"skipped {what}: {reason}", flush=True)


def check_self_test(lines):
    """Always possible."""
    wrong = selftest.failures()
    for failure in wrong:
        lines.fail(f"cluster checker: {failure}")
    if not wrong:
        lines.ok("cluster checker finds what is planted")


def check_script(lines):
    """start, kill, restart, status and stop, as somebody who tries it does, each in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="penstock-cluster-") as directory:
        def script(*arguments):
            done = subprocess.run([sys.executable, str(HERE / "cluster.py"), *arguments, "--data-dir", directory], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True, timeout=300, check=False)
            if done.returncode:
                raise Failed(f"cluster.py {' '.join(arguments)}: {done.stderr.strip()[-1500:]}")
            return done.stdout

        def states():
            return {line.split()[0]: line.split()[-1] for line in script("status").splitlines()}
        try:
            script("start", "--background", "--free-ports", "--agents", "2")
            try:
                script("kill", "a2")
                killed = states()
                script("restart", "a2")
                restarted = states()
            finally:
                script("stop")
        except (Failed, subprocess.TimeoutExpired) as failure:
            lines.fail(f"cluster script: {failure}")
            return
    expected = dict.fromkeys(("fdb", "minio", "a1", "a2"), "ready")
    for name, found, wanted in (("kill", killed, {**expected, "a2": "ended"}), ("restart", restarted, expected)):
        if found != wanted:
            lines.fail(f"cluster script: after {name} the parts are {found}")
            return
    lines.ok("cluster script: start, kill, restart, status, stop")


def check_clients(lines, whole):
    """The client matrix on three agents in three zones, each client told of one address: a smoke set, or all of it."""
    parser = argparse.ArgumentParser()
    clusters.add_options(parser)
    with tempfile.TemporaryDirectory(prefix="penstock-cluster-") as directory:
        cluster = clusters.create(parser.parse_args(
            ["--data-dir", directory, "--free-ports", "--set", "group.initial.rebalance.delay.ms=0"]))
        try:
            cluster.start()
            command = [sys.executable, str(CLIENTS), "--bootstrap", ",".join(cluster.bootstrap), "--http",
                       ",".join(agent.http for agent in cluster.agents), *([] if whole else ["--smoke"])]
            _count_clients(lines, command)
            complaints = [f"{agent.name}: {line}" for agent in cluster.agents
                          for line in agent.log.read_text(encoding="utf-8", errors="replace").splitlines()
                          if re.search(r"\bERROR\b|panicked at", line)]
            ended = [part.name for part in cluster.ended()]
        finally:
            killed = cluster.stop()
    for what, found in (("logs tell of errors", complaints), ("ended by themselves", ended), ("had to be killed", killed)):
        if found:
            lines.fail(f"cluster of clients: {what}: {'; '.join(found[:5])}")
    if not complaints + ended + killed:
        lines.ok("cluster of clients: no errors in logs, all ended when asked")


def _count_clients(lines, command):
    """Its lines as they come; its counts are ours."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        counts = None
        for line in running.stdout:
            found = re.fullmatch(r"(\d+) passed, (\d+) failed, (\d+) skipped\n", line)
            counts = found.groups() if found else counts
            if not found:
                print(line, end="", flush=True)
    if not counts:
        raise Failed(f"the clients ended with {running.returncode} and without counts")
    lines.add(*map(int, counts))


def check_roll(lines):
    """A rolling restart under clients with default settings."""
    done = subprocess.run([sys.executable, str(HERE / "roll.py"), "--rounds", "1", "--output", "json"], stdout=subprocess.PIPE, text=True,
                          timeout=900, check=False)
    if done.returncode == 3:
        lines.skip("rolling restart", "see above")
        return
    try:
        told = json.loads(done.stdout)
    except ValueError:
        lines.fail(f"rolling restart: ended with {done.returncode} and without a report")
        return
    for name, reason in told["skipped"].items():
        lines.skip(f"rolling restart with {name}", reason)
    for library, found in told["clients"].items():
        for name, wrong in found["wrong"].items():
            lines.fail(f"rolling restart with {library}: {name}, {wrong['count']} times, for instance {wrong['examples'][0]}")
        if not found["wrong"]:
            p99 = ", ".join(f"{phase} {of['p99']} ms" for phase, of in found["produce latency milliseconds"].items())
            lines.ok(f"rolling restart with {library}: {found['read']:,} records, {len(told['restarts'])} restarts, no error; p99 {p99}")


def check_chaos(lines, seconds, more):
    """The faults one and all, in one run."""
    command = [sys.executable, str(HERE / "chaos.py"), "--seconds", str(seconds), "--rate", "1000", "--output", "json", *more]
    # Its progress is this part's; the report is on standard output.
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=seconds * 4 + 900, check=False)
    if done.returncode == 3:
        lines.skip("cluster under faults", "see above")
        return
    try:
        told = json.loads(done.stdout)
    except ValueError:
        lines.fail(f"cluster under faults: ended with {done.returncode} and without a report")
        return
    for name, reason in told["faults skipped"].items():
        lines.skip(f"cluster fault {name}", reason)
    for name, anomaly in told["anomalies"].items():
        lines.fail(f"cluster under faults: {name}, {anomaly['count']} times, for instance {anomaly['examples'][0]}")
    if done.returncode and not told["anomalies"]:
        lines.fail(f"cluster under faults: ended with {done.returncode}")
    if not done.returncode:
        struck = ", ".join(f"{name} {count}" for name, count in told["faults"].items())
        records = f"{told['records']['in the log']:,} records, 0 lost, 0 duplicated, 0 reordered"
        lines.ok(f"cluster under faults: {records} ({struck}; seed {told['seed']})")


def main():
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without-foundationdb", metavar="REASON", help="don't look for it: why it can't be used")
    parser.add_argument("--only", action="append", choices=PARTS, help="only this, beside the self-test; may be given more than once")
    parser.add_argument("--matrix", action="store_true", help="the whole client matrix instead of the smoke set")
    parser.add_argument("--seconds", type=int, default=75, help="of the load under faults (default: 75)")
    parser.add_argument("chaos", nargs="*", metavar="-- OPTION",
                        help=f"further options of chaos.py, behind `--`; its faults: {', '.join(FAULTS)}")
    options = parser.parse_args()
    lines, wanted = Lines(), [name for name in PARTS if not options.only or name in options.only]
    check_self_test(lines)
    try:
        if options.without_foundationdb:
            raise Missing(options.without_foundationdb)
        tools.FoundationDbPrograms()
        # Built once, for all that follows.
        os.environ["PENSTOCK_BIN"] = str(tools.build_agent())
    except Missing as reason:
        for name in wanted:
            lines.skip(f"cluster {name}", f"FoundationDB ({reason})")
        wanted = []
    except Failed as failure:
        lines.fail(f"cluster: {failure}")
        wanted = []
    checks = {"script": lambda: check_script(lines), "clients": lambda: check_clients(lines, options.matrix),
              "roll": lambda: check_roll(lines), "chaos": lambda: check_chaos(lines, options.seconds, options.chaos)}
    for name in wanted:
        try:
            checks[name]()
        except Missing as reason:
            lines.skip(f"cluster {name}", str(reason))
        except (Failed, subprocess.TimeoutExpired) as failure:
            lines.fail(f"cluster {name}: {failure}")
    print(f"\n{lines.passed} passed, {lines.failed} failed, {lines.skipped} skipped")
    return 1 if lines.failed else 0


if __name__ == "__main__":
    sys.exit(main())
