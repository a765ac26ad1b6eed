#!/usr/bin/env python3
"""Compares log compaction with Apache Kafka's: the same writes to both, both compacted, and what is left has to be the same.

    tests/compaction/run.py                       all cases; prints counts
    tests/compaction/run.py --only tombstones     the cases whose name has that in it; may be given more than once
    tests/compaction/run.py --against kafka       Kafka against a second Kafka: that the test itself is right
"""

import argparse
import pathlib
import shutil
import sys
import tempfile
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "differential"), str(HERE.parent / "kafka")]

import cases_policies
import cases_producers
import cases_readers
import cases_records
import cases_restart
import cases_tombstones
import kafka
import selftest
from brokers import Penstock, warm_up
from codec import Messages
from pair import KafkaSide, Pair, PenstockSide
from report import Report

GROUPS = {"records": cases_records, "tombstones": cases_tombstones, "producers": cases_producers, "policies": cases_policies,
          "readers": cases_readers, "restart": cases_restart}
SETTINGS = ("auto.create.topics.enable=false", "default.replication.factor=1", "group.initial.rebalance.delay.ms=0",
            "log.retention.check.interval.ms=500")
# Its cleaner looks often, and needs little memory.
KAFKA_SETTINGS = SETTINGS + ("log.initial.task.delay.ms=100", "log.cleaner.backoff.ms=100",
                             "log.cleaner.dedupe.buffer.size=8388608")
# Its job has turns only when it is asked, but for one case, in which nothing waits for more to come.
PENSTOCK_SETTINGS = SETTINGS + ("compact.interval.ms=500", "compact.delay.ms=0", "seal.age.ms=1s", "seal.interval.ms=100ms",
                                "flush.put.budget.per.second=100000", "flush.put.burst=100000")


def cases(only):
    """(name, case), of those that were asked for."""
    for group, module in GROUPS.items():
        for case in module.CASES:
            name = f"{group}: {case.__name__.replace('_', ' ')}"
            if not only or any(part in name for part in only):
                yield name, case


def run(pair, name, case, show_times):
    pair.case = name
    begun = time.monotonic()
    try:
        case(pair)
    except Exception as error:
        pair.report.check(f"{name}: {error}", False)
        print("".join(traceback.format_exception(error)[-2:]))
        for side in pair.sides:
            side.close()
    if show_times:
        print(f"        {time.monotonic() - begun:.1f} s")
    sys.stdout.flush()


def start(folder, against, brokers):
    """Both sides. What was started is in `brokers`, also where something doesn't start."""
    messages = Messages(kafka.libs())
    brokers.append(kafka.Broker(folder / "kafka", KAFKA_SETTINGS))
    if against == "kafka":
        brokers.append(kafka.Broker(folder / "kafka-2", KAFKA_SETTINGS))
    else:
        brokers.append(Penstock(folder / "penstock", PENSTOCK_SETTINGS))
    for broker in brokers:
        broker.start()
    other = KafkaSide("Kafka 2", brokers[1], messages) if against == "kafka" else PenstockSide("Penstock", brokers[1], messages)
    sides = KafkaSide("Kafka", brokers[0], messages), other
    for side in sides:
        warm_up(side)
    other.rest()
    return sides


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="TEXT", help="only cases whose name has this in it")
    parser.add_argument("--against", choices=("penstock", "kafka"), default="penstock")
    parser.add_argument("--list", action="store_true", help="the cases, a line each")
    parser.add_argument("--times", action="store_true", help="how long each case took")
    parser.add_argument("--keep", action="store_true", help="keep the brokers' folders")
    options = parser.parse_args()
    chosen = list(cases(options.only))
    if options.list:
        print("\n".join(name for name, _ in chosen))
        return 0
    report = Report()
    missed = selftest.missed()
    report.check(f"the comparison finds what is planted{': not ' if missed else ''}{', '.join(missed)}", not missed)
    try:
        kafka.libs()
    except kafka.Unavailable as reason:
        report.skip("compaction compared with Apache Kafka's", str(reason))
        return report.end()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="penstock-compaction-"))
    brokers = []
    try:
        pair = Pair(*start(folder, options.against, brokers), report)
        for name, case in chosen:
            run(pair, name, case, options.times)
    except Exception as error:
        report.check(f"the brokers start: {error}", False)
    finally:
        for broker in brokers:
            broker.stop()
        if options.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
