#!/usr/bin/env python3
"""Compares Penstock with Apache Kafka: one random schedule of requests, sent to both, has to be answered alike.

    tests/differential/run.py                     a few seeds; prints counts
    tests/differential/run.py --seed 7            that seed alone
    tests/differential/run.py --seeds 20 --steps 500
    tests/differential/run.py --docs              writes docs/differential.md
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(HERE.parent / "kafka")]

import cluster
import groups
import kafka
import logs
import topics
from brokers import Penstock, warm_up
from codec import Messages
from report import Report, page
from sides import Side
from world import World

AREAS = ((topics.ACTIONS, 1.0), (logs.ACTIONS, 2.2), (groups.ACTIONS, 1.3), (cluster.ACTIONS, 0.5))
DEFAULT_SEEDS, DEFAULT_STEPS = 12, 400

SETTINGS = ("num.partitions=2", "default.replication.factor=1", "auto.create.topics.enable=true",
            "group.initial.rebalance.delay.ms=0", "group.min.session.timeout.ms=6000",
            "group.max.session.timeout.ms=60000",
            # A Kafka segment ends a fetch; records that claim old times would roll one each.
            "log.roll.ms=9223372036854775807",
            # Nothing may go away on its own while answers are compared.
            "log.retention.check.interval.ms=3600000")

# Answers as early as possible: what a PUT costs isn't compared.
# Its jobs rest, as Kafka's do.
PENSTOCK_SETTINGS = SETTINGS + ("flush.put.budget.per.second=100000", "flush.put.burst=100000", "compact.interval.ms=1d")
KAFKA_SETTINGS = SETTINGS + ("log.initial.task.delay.ms=3600000",
                             "log.cleaner.enable=false", "offsets.retention.check.interval.ms=3600000")
# With it Kafka's controller writes min.insync.replicas down as a dynamic default of the cluster.
FEATURES = {"eligible.leader.replicas.version": 0}


def served(side, messages):
    """The versions that Penstock serves, cut to those that the definitions have."""
    names = {message.key: name for name, message in messages.requests.items()}
    out = {}
    for row in side.ask("ApiVersions", 2, {})["ApiKeys"]:
        name = names.get(row["ApiKey"])
        if name:
            versions = messages.requests[name].versions
            out[name] = (max(row["MinVersion"], versions.low), min(row["MaxVersion"], versions.high))
    return out


def run_seed(seed, steps, sides, versions, report):
    world = World(seed, *sides, versions, report)
    for _ in range(4):
        topics.create(world)
    pool = [(action, weight * share / sum(weight for _, weight in actions))
            for actions, share in AREAS for action, weight in actions]
    actions, weights = [action for action, _ in pool], [weight for _, weight in pool]
    for step in range(steps):
        while len(world.topics) < 3:
            topics.create(world)
        action = world.random.choices(actions, weights)[0]
        try:
            action(world)
        except Exception as error:
            report.broken(seed, step, action.__name__, world.asked, error)
            for side in sides:
                side.close()
    for topic in list(world.topics.values()):
        for partition in range(topic.partitions):
            logs.look(world, topic, partition, 0)


def verify(side, binary, report):
    """A verifier is only worth something if what is right passes: Kafka first of all."""
    command = [binary, "verify", "--bootstrap", f"127.0.0.1:{side.port}", "--duration", "5s", "--rate", "2000"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=400)
    report.check(f"penstock verify passes on {side.name}", done.returncode == 0)
    if done.returncode:
        print(done.stdout + done.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, action="append")
    parser.add_argument("--seeds", type=int, default=DEFAULT_SEEDS)
    parser.add_argument("--steps", type=int, default=DEFAULT_STEPS)
    parser.add_argument("--docs", action="store_true", help="write docs/differential.md and end")
    parser.add_argument("--answers", action="store_true", help="show whole answers where they differ")
    parser.add_argument("--trace", action="store_true", help="show every request and Kafka's answer")
    parser.add_argument("--keep", action="store_true", help="keep the brokers' folders")
    options = parser.parse_args()
    document = ROOT / "docs" / "differential.md"
    if options.docs:
        document.write_text(page())
        return 0
    report = Report(options.answers, options.trace)
    report.check("docs/differential.md is up to date (--docs renews it)",
                 document.exists() and document.read_text() == page())
    try:
        libs = kafka.libs()
    except kafka.Unavailable as reason:
        report.skip("comparison with Apache Kafka", str(reason))
        return report.end()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="penstock-differential-"))
    brokers = []
    try:
        messages = Messages(libs)
        for broker in (kafka.Broker(folder / "kafka", KAFKA_SETTINGS, features=FEATURES),
                       Penstock(folder / "penstock", PENSTOCK_SETTINGS)):
            brokers.append(broker)
            broker.start()
        sides = [Side(name, broker.port, messages) for name, broker in zip(("kafka", "penstock"), brokers)]
        for side in sides:
            warm_up(side)
        versions = served(sides[1], messages)
        for side in sides:
            verify(side, brokers[1].binary, report)
        seeds = options.seed or range(1, options.seeds + 1)
        for seed in seeds:
            begun = time.monotonic()
            run_seed(seed, options.steps, sides, versions, report)
            report.seed_done(seed, options.steps, time.monotonic() - begun)
            for side in sides:
                side.close()
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
