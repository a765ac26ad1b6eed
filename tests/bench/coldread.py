#!/usr/bin/env python3
"""What reading a log from its beginning asks of the bucket: before its objects are merged, after, and after the second time.

    tests/bench/coldread.py --bin target/release/penstock

One broker with embedded metadata and a bucket on local disk takes records at a fixed rate with the default flush policy, which
makes small objects in which all partitions are mixed. Then, each time by a broker that has just started and runs no jobs: each
partition is read from its beginning by a consumer of its own, one after the other; and all of them together by one consumer.
GETs and their bytes are those that the broker counts. The goal: merged, a consumer that reads a partition from its beginning
takes at most one GET for each 8 MiB of it (for each 8 MiB begun). The exit code tells whether all was read, not whether the
goal is met.
"""

import argparse
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import time

import run as benches

MIB = 1 << 20
GOAL = 8 * MIB
TOPIC = "cold"
GETS = 'penstock_object_store_requests_total{operation="get"}'
GOT_BYTES = 'penstock_object_store_bytes_total{operation="get"}'
FETCHED = "penstock_fetched_bytes_total"
MERGED = ("units", "inputs", "read_bytes", "gets", "outputs", "written_bytes")


class Bench:
    """The data and what is done to it, each time by a broker of its own."""

    def __init__(self, arguments, directory):
        self.arguments, self.directory = arguments, directory
        self.binary = arguments.bin.resolve()
        self.records = int(arguments.mib * MIB / arguments.record_bytes)

    def broker(self, *options):
        return benches.penstock(self.binary, self.directory, "coldread", options=[*options, *self.arguments.set])

    def penstock(self, *command):
        done = subprocess.run([str(self.binary), *command], capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}")
        return done.stdout

    def write(self):
        """Fills the topic, packs the log's rows into its index, and tells what flushes made of it."""
        rate = self.arguments.mib_per_second * MIB / self.arguments.record_bytes
        with self.broker(f"flush.put.budget.per.second={self.arguments.puts}") as broker:
            self.penstock("bench", "produce", "--bootstrap", broker.bootstrap, "--topic", TOPIC, "--partitions",
                          str(self.arguments.partitions), "--record-bytes", str(self.arguments.record_bytes), "--rate", f"{rate:.0f}",
                          "--records-max", str(self.records), "--seconds", str(20 * self.arguments.mib / self.arguments.mib_per_second))
            self.penstock("jobs", "run", "seal", "--agent-http", broker.http)
            counted = broker.counters()
        return {"objects": counted["penstock_flushes_total"], "bytes": counted["penstock_flushed_bytes_total"]}

    def merge_once(self):
        """Merges level 0 as it is merged in the course of time, and leaves the level above as it is."""
        enough = self.arguments.section_bytes * self.arguments.partitions
        # Where units are too small for sections of the size wanted, what comes of them would soon be merged again.
        section = self.arguments.section_bytes if enough < self.arguments.unit_bytes else 1 << 30
        options = [f"merge.section.bytes={section}", "seal.age.ms=1s", "merge.interval.ms=500ms", "merge.age.ms=1s",
                   "merge.level.age.ms=30d"]
        with self.broker(*options, *self.sizes()) as broker:
            def is_done():
                counted = broker.counters()
                return counted["penstock_merge_units_total"] and not counted["penstock_merge_waiting_units"] \
                    and not counted["penstock_merge_queue_seconds"]
            benches.wait_for("merging", 600, is_done)
            return self.merged(broker)

    def merge_again(self):
        """Merges everything that waits at any level, until a turn merges nothing."""
        options = [f"merge.section.bytes={self.arguments.section_bytes}", "seal.age.ms=1s"]
        with self.broker(*options, *self.sizes()) as broker:
            units = -1
            while units != (units := self.merged(broker)["units"]):
                self.penstock("jobs", "run", "merge", "--agent-http", broker.http)
            return self.merged(broker)

    def sizes(self):
        return [f"merge.unit.bytes={self.arguments.unit_bytes}", f"merge.object.max.bytes={self.arguments.object_bytes}"]

    @staticmethod
    def merged(broker):
        counted = broker.counters()
        return {name: counted[f"penstock_merge_{name}_total"] for name in MERGED}

    def read(self):
        """Both ways of reading, each from an empty cache."""
        with self.broker("roles=clients") as broker:
            one_by_one = [self.counting(broker, lambda: self.consume(broker, partition))
                          for partition in range(self.arguments.partitions)]
        with self.broker("roles=clients") as broker:
            together = self.counting(broker, lambda: self.consume_all(broker))
        records = [sum(each["records"] for each in one_by_one), together["records"]]
        if records != [self.records] * 2:
            raise SystemExit(f"read {records[0]} and {records[1]} records of {self.records}")
        return {"partitions": one_by_one, "together": together}

    def consume(self, broker, partition):
        """A character for each record."""
        return len(self.penstock("consume", TOPIC, "--partition", str(partition), "--from", "beginning", "--until-end", "--format", ".",
                                 "--bootstrap", broker.bootstrap))

    def consume_all(self, broker):
        told = self.penstock("bench", "consume", "--topic", TOPIC, "--bootstrap", broker.bootstrap, "--output", "json")
        return json.loads(told)["records"]

    @staticmethod
    def counting(broker, read):
        before, begun = broker.counters(), time.monotonic()
        records = read()
        seconds, after = time.monotonic() - begun, broker.counters()

        def more(name):
            return after.get(name, 0.0) - before.get(name, 0.0)

        return {"records": records, "seconds": round(seconds, 2), "fetched_bytes": more(FETCHED), "gets": more(GETS),
                "got_bytes": more(GOT_BYTES)}


def sums(readings):
    return {name: sum(each[name] for each in readings) for name in readings[0]}


def verdict(partitions):
    """Whether each partition took at most a GET for each 8 MiB begun; and the one that is furthest from it."""
    def too_many(each):
        return each["gets"] - math.ceil(each["fetched_bytes"] / GOAL)
    worst = max(partitions, key=too_many)
    within = sum(too_many(each) <= 0 for each in partitions)
    return {"met": within == len(partitions), "within": within, "worst_gets": worst["gets"],
            "worst_mib": round(worst["fetched_bytes"] / MIB, 1), "allowed": math.ceil(worst["fetched_bytes"] / GOAL)}


def row(stage, way, counted):
    fetched, gets = counted["fetched_bytes"], counted["gets"]
    cells = [stage, way, f"{gets:,.0f}", f"{fetched / benches.GIB:.3f}", f"{gets * benches.GIB / fetched:,.0f}",
             f"{fetched / MIB / gets:.2f}" if gets else "–", f"{counted['got_bytes'] / fetched:.2f}", f"{counted['seconds']:.0f}"]
    return "| " + " | ".join(cells) + " |"


def print_table(results):
    written = results["written"]
    objects, mib = written["objects"], written["bytes"] / MIB
    print(f"Written: {mib:.0f} MiB in {objects:.0f} objects of {mib / objects:.2f} MiB\n")
    print("| the log's objects | read | GETs | GiB | GETs per GiB | MiB per GET | bytes got per byte read | s |")
    print("|---|---|---|---|---|---|---|---|")
    for stage, each in results["stages"].items():
        print(row(stage, "partition by partition", sums(each["read"]["partitions"])))
        print(row(stage, "all together", each["read"]["together"]))
    print()
    for stage, each in results["stages"].items():
        told, partitions = each["goal"], len(each["read"]["partitions"])
        print(f"{stage}: {told['within']} of {partitions} partitions took at most one GET for each 8 MiB begun; the one furthest from it "
              f"{told['worst_gets']:.0f} for {told['worst_mib']} MiB, {told['allowed']} were allowed: goal {'met' if told['met'] else 'NOT met'}")
        if merged := each["merged"]:
            read, wrote = merged["read_bytes"] / MIB, merged["written_bytes"] / MIB
            print(f"  merging: {merged['units']:.0f} units, {read:.0f} MiB read with {merged['gets']:.0f} GETs, {wrote:.0f} MiB written to "
                  f"{merged['outputs']:.0f} objects")


def size(text):
    number = text.removesuffix("MiB")
    return int(number) * (MIB if number != text else 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="the penstock binary, release build")
    # Two units of the default size: a log's end, less than a unit, isn't what is measured.
    parser.add_argument("--mib", type=int, default=500, help="MiB of values to write (default: 500)")
    parser.add_argument("--mib-per-second", type=float, default=8, help="at which rate (default: 8)")
    parser.add_argument("--puts", type=float, default=4, help="flush.put.budget.per.second (default: 4, as an agent's)")
    parser.add_argument("--record-bytes", type=int, default=1024, help="of a value (default: 1024)")
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--unit-bytes", type=size, default=256 * MIB, help="merge.unit.bytes, bytes or MiB (default: 256MiB)")
    parser.add_argument("--object-bytes", type=size, default=128 * MIB, help="merge.object.max.bytes (default: 128MiB)")
    parser.add_argument("--section-bytes", type=size, default=8 * MIB, help="merge.section.bytes (default: 8MiB)")
    parser.add_argument("--set", action="append", default=[], help="a further option of the broker; may be repeated")
    parser.add_argument("--output", choices=["text", "json"], default="text")
    arguments = parser.parse_args()
    stages = {}

    with tempfile.TemporaryDirectory(prefix="penstock-coldread-") as temporary:
        bench = Bench(arguments, pathlib.Path(temporary))

        def stage(name, merged=None):
            print(f"… {name}: reading", file=sys.stderr)
            read = bench.read()
            stages[name] = {"merged": merged, "read": read, "goal": verdict(read["partitions"])}

        print("… writing", file=sys.stderr)
        written = bench.write()
        stage("as flushed")
        stage("merged once", bench.merge_once())
        again = bench.merge_again()
        if again["units"]:
            stage("merged twice", again)
        else:
            print("… what is merged has long enough sections: nothing to merge again", file=sys.stderr)
    results = {"written": written, "stages": stages}
    if arguments.output == "json":
        json.dump(results, sys.stdout, indent=2)
        print()
    else:
        print_table(results)


if __name__ == "__main__":
    main()
