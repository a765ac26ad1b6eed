#!/usr/bin/env python3
"""The part `cluster` of tests/run.sh: the checker's self-test, the script that starts a cluster, and a short run of verified load
under every fault.

    tests/cluster/run.py [--seconds N]

Prints a line for each, and counts as the last one. Without FoundationDB the self-test is all there is; the rest is skipped by
name.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import selftest
import tools
from faults import FAULTS
from tools import Failed, Missing

HERE = pathlib.Path(__file__).resolve().parent


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
    parser.add_argument("--seconds", type=int, default=75, help="of the load (default: 75)")
    parser.add_argument("chaos", nargs="*", metavar="-- OPTION",
                        help=f"further options of chaos.py, behind `--`; its faults: {', '.join(FAULTS)}")
    options = parser.parse_args()
    lines = Lines()
    check_self_test(lines)
    try:
        if options.without_foundationdb:
            raise Missing(options.without_foundationdb)
        tools.FoundationDbPrograms()
        # Built once, for all that follows.
        os.environ["PENSTOCK_BIN"] = str(tools.build_agent())
        check_script(lines)
        check_chaos(lines, options.seconds, options.chaos)
    except Missing as reason:
        lines.skip("cluster", f"FoundationDB ({reason})")
    except Failed as failure:
        lines.fail(f"cluster: {failure}")
    print(f"\n{lines.passed} passed, {lines.failed} failed, {lines.skipped} skipped")
    return 1 if lines.failed else 0


if __name__ == "__main__":
    sys.exit(main())
