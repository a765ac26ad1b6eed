#!/usr/bin/env python3
"""Produce latency while background jobs run, against the same without them.

    tests/bench/jobs.py --bin target/release/penstock

One broker with embedded metadata and a bucket on local disk takes records at a fixed rate, and beside them values under random
keys of a compacted topic. Its jobs are set so that they have something to do all the time: what is written is sealed, merged twice,
compacted, expired and deleted within a minute. Phases alternate: all jobs paused (A), all jobs running (B), which then also do what
the pause has left; A and B of a pair follow one another, in turned order from pair to pair, so that a noisy machine disturbs both
alike. The goal is a p99 with jobs of at most 1.2 times that without, the median over the pairs. The exit code tells whether jobs
truly ran in each B, and not in A; not whether the goal is met.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import types

import run as benches
import soak

MIB = 1 << 20
GOAL = 1.2
TOPIC, TABLE = "load", "table"
EAGER = ["seal.age.ms=2s", "seal.interval.ms=500ms", "checkpoint.interval.ms=5s", "log.retention.check.interval.ms=2000",
         "merge.interval.ms=1s", "merge.age.ms=4s", "merge.level.age.ms=8s", "merge.unit.bytes=32MiB", "merge.object.max.bytes=32MiB",
         "compact.interval.ms=1s", "compact.delay.ms=0s", "compact.bytes=1MiB",
         "collect.interval.ms=1s", "collect.delay.ms=5s", "collect.merged.delay.ms=5s", "sweep.interval.ms=5s"]
# What jobs do, as they count it; the first two must happen in each phase with jobs.
DONE = {
    "merge units": "penstock_merge_units_total", "compaction runs": "penstock_compaction_runs_total",
    "seals": "penstock_seals_total", "checkpoints": "penstock_checkpoints_total",
    "merge read MiB": "penstock_merge_read_bytes_total", "merge written MiB": "penstock_merge_written_bytes_total",
    "compaction read MiB": "penstock_compaction_read_bytes_total", "compaction written MiB": "penstock_compaction_written_bytes_total",
    "compaction dropped records": "penstock_compaction_dropped_records_total",
    "retention deleted MiB": "penstock_retention_bytes_total", "collected MiB": "penstock_collected_bytes_total",
}
MUST = ("merge units", "compaction runs")
CPU, FSYNCS, STORE_SECONDS = "process_cpu_seconds_total", "penstock_store_fsyncs_total", "penstock_store_write_seconds_total"
RATIOS = ("p50_ms", "p99_ms", "p999_ms", "max_ms")


class Bench:
    """The broker under load, and the switch of its jobs."""

    def __init__(self, arguments, broker):
        self.arguments, self.broker, self.binary = arguments, broker, arguments.bin.resolve()

    def penstock(self, *command, to="--bootstrap"):
        address = self.broker.bootstrap if to == "--bootstrap" else self.broker.http
        done = subprocess.run([str(self.binary), *command, to, address], capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}")
        return done.stdout

    def jobs(self, *command):
        return self.penstock("jobs", *command, to="--agent-http")

    def begin(self):
        self.penstock("topics", "create", TOPIC, "--partitions", str(self.arguments.partitions), "--config", "retention.ms=60000")

    def switch(self, are_running):
        if are_running:
            self.jobs("resume", "all")
            return
        self.jobs("pause", "all")

        def at_rest():
            agents = json.loads(self.jobs("--output", "json"))
            return all(job["state"] == "paused" for agent in agents for job in agent["jobs"])
        benches.wait_for("the jobs' pause", 120, at_rest)

    def produce(self, seconds):
        """Neither numbered nor bounded in flight, as is librdkafka's default: its own queue would hide the broker."""
        rate = self.arguments.mib_per_second * MIB / self.arguments.record_bytes
        return json.loads(self.penstock(
            "bench", "produce", "--topic", TOPIC, "--partitions", str(self.arguments.partitions), "--rate", f"{rate:.0f}", "--record-bytes",
            str(self.arguments.record_bytes), "--linger-ms", "5", "--no-idempotence", "--seconds", str(seconds), "--output", "json"))

    def phase(self, are_running):
        self.switch(are_running)
        time.sleep(2)
        before, puts = self.broker.counters(), self.broker.put_times()
        told = self.produce(self.arguments.seconds)
        after, puts_after = self.broker.counters(), self.broker.put_times()
        if told["failed"]:
            raise SystemExit(f"{told['failed']} records failed: {told['first_error']}")

        def more(name):
            return after.get(name, 0.0) - before.get(name, 0.0)

        put = {bound: puts_after[bound] - puts.get(bound, 0.0) for bound in puts_after}
        latency = told["latencies"][0]
        return {
            "jobs": are_running, "mib_per_second": told["mib_per_second"], "load_average": os.getloadavg()[0],
            **{name: latency[name] for name in ("p50_ms", "p99_ms", "p999_ms", "max_ms")},
            "put_p50_ms": benches.quantile(put, 0.5), "put_p99_ms": benches.quantile(put, 0.99),
            "commit_ms": 1000 * more(STORE_SECONDS) / max(1.0, more(FSYNCS)), "cpu_seconds": more(CPU),
            "done": {what: more(name) / (MIB if what.endswith("MiB") else 1) for what, name in DONE.items()},
        }


def measure(bench):
    """Pairs of phases: without jobs and with."""
    bench.begin()
    arguments = bench.arguments
    table = types.SimpleNamespace(table_mib_per_second=arguments.table_mib_per_second, table_keys=arguments.table_keys)
    beside = soak.Load(bench.binary, bench.broker, table)
    pairs = []
    try:
        beside.keep_table(3600)
        bench.penstock("configs", "alter", "topic", TABLE, "--set", f"min.cleanable.dirty.ratio={arguments.dirty_ratio}")
        bench.produce(arguments.warm)
        for number in range(arguments.pairs):
            order = (False, True) if number % 2 == 0 else (True, False)
            pair = {}
            for are_running in order:
                pair[are_running] = bench.phase(are_running)
                beside.check()
                print(f"… pair {number + 1}, {told(pair[are_running])}", file=sys.stderr)
            pairs.append({"without": pair[False], "with": pair[True]})
    finally:
        beside.stop()
    return pairs


def told(phase):
    return (f"jobs {'run' if phase['jobs'] else 'paused'}: p50 {phase['p50_ms']:.1f} ms, p99 {phase['p99_ms']:.1f} ms, "
            f"CPU {phase['cpu_seconds']:.1f} s, load {phase['load_average']:.1f}")


def ratio(pairs, name):
    return statistics.median(pair["with"][name] / pair["without"][name] for pair in pairs)


def print_tables(pairs):
    print("| pair | p50 without / with jobs, ms | ratio | p99 without / with, ms | ratio | uploads p99, ms | a write of the metadata, ms | "
          "broker's CPU-s | load average |")
    print("|---|---|---|---|---|---|---|---|---|")
    for number, pair in enumerate(pairs, 1):
        a, b = pair["without"], pair["with"]

        def both(name, digits=1):
            return f"{a[name]:.{digits}f} / {b[name]:.{digits}f}"
        print(f"| {number} | {both('p50_ms')} | {b['p50_ms'] / a['p50_ms']:.2f} | {both('p99_ms')} | {b['p99_ms'] / a['p99_ms']:.2f} | "
              f"{both('put_p99_ms')} | {both('commit_ms')} | {both('cpu_seconds')} | {both('load_average', 0)} |")
    print("\nmedian over the pairs, with / without: " + ", ".join(
        f"{name.removesuffix('_ms')} {ratio(pairs, name):.2f}" for name in RATIOS))
    alone = [pair["without"]["p99_ms"] for pair in pairs]
    print(f"p99 without jobs alone lay between {min(alone):.1f} and {max(alone):.1f} ms")
    met = ratio(pairs, "p99_ms") <= GOAL
    print(f"goal (p99 with jobs at most {GOAL} times that without): {'met' if met else 'NOT met'}")
    print("\njobs' work in a phase, median:")
    for what in DONE:
        work = [statistics.median(pair[side]["done"][what] for pair in pairs) for side in ("without", "with")]
        print(f"  {what}: {work[1]:.0f} (paused: {work[0]:.0f})")


def check(pairs):
    """Whether phases were what they are called."""
    return [f"pair {number}: {what} with jobs {pair['with']['done'][what]:.0f}, without {pair['without']['done'][what]:.0f}"
            for number, pair in enumerate(pairs, 1) for what in MUST
            if not pair["with"]["done"][what] or pair["without"]["done"][what]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="the penstock binary, release build")
    parser.add_argument("--pairs", type=int, default=4, help="how many (default: 4)")
    parser.add_argument("--seconds", type=int, default=45, help="of a phase (default: 45)")
    parser.add_argument("--warm", type=int, default=20, help="seconds of load before the first (default: 20)")
    parser.add_argument("--mib-per-second", type=float, default=4, help="of the topic that is measured (default: 4)")
    parser.add_argument("--record-bytes", type=int, default=1024)
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--table-mib-per-second", type=float, default=0.5, help="of the compacted topic (default: 0.5)")
    parser.add_argument("--table-keys", type=int, default=20000, help="how many keys it has, of 1 KiB each (default: 20000)")
    parser.add_argument("--dirty-ratio", type=float, default=0.05, help="its min.cleanable.dirty.ratio (default: 0.05)")
    parser.add_argument("--puts", type=float, default=4, help="flush.put.budget.per.second (default: 4, as an agent's)")
    parser.add_argument("--set", action="append", default=[], help="a further option of the broker; may be repeated")
    parser.add_argument("--output", choices=["text", "json"], default="text")
    arguments = parser.parse_args()
    options = [*EAGER, f"flush.put.budget.per.second={arguments.puts}", *arguments.set]
    with tempfile.TemporaryDirectory(prefix="penstock-jobs-") as temporary:
        with benches.penstock(arguments.bin.resolve(), pathlib.Path(temporary), "jobs", options=options) as broker:
            pairs = measure(Bench(arguments, broker))
    if arguments.output == "json":
        json.dump({"pairs": pairs, "ratios": {name: ratio(pairs, name) for name in RATIOS}}, sys.stdout, indent=2)
        print()
    else:
        print_tables(pairs)
    wrong = check(pairs)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
