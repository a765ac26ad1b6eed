#!/usr/bin/env python3
"""A long run at load with short retention: does what is kept level off?

One broker with its embedded metadata and a bucket on local disk takes records at a fixed rate: half into a topic whose
records expire by age, half into one that is bounded by size; a third topic is compacted, in which the same keys are written
again and again; every few minutes a further topic is made, filled and deleted, and a reader reads a topic from its
beginning. Merged objects are deleted soon, rather than after a day. Each sample tells the bytes and the files of the bucket, the bytes
of the metadata, and the memory of the process. Writes samples.csv and soak.svg into --out; the exit code is 1 if one of
them is larger in the run's last quarter than in its second by more than --slack.
"""

import argparse
import contextlib
import csv
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import run as benches

SERIES = [
    ("bucket_mib", "Bucket, MiB"),
    ("objects", "Objects in the bucket"),
    ("metadata_mib", "Metadata, MiB (tables of the store, without its journal)"),
    ("rss_mib", "Memory of the process (RSS), MiB"),
]


def held(directory):
    """Bytes and files below a directory, of which files may vanish meanwhile."""
    size = files = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                size += os.stat(os.path.join(folder, name)).st_size
                files += 1
    return size, files


def rss_mib(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("the broker has ended")


def metric(broker, name):
    return next(float(line.split()[1]) for line in broker.metrics() if line.startswith(f"{name} "))


def sample(broker, bucket, begun):
    size, files = held(bucket)
    return {
        "seconds": round(time.monotonic() - begun, 1),
        "bucket_mib": round(size / 2**20, 2),
        "objects": files,
        "metadata_mib": round(metric(broker, "penstock_store_disk_bytes") / 2**20, 3),
        "rss_mib": round(rss_mib(broker.process.pid), 1),
    }


class Load:
    """What goes on beside the samples; each part a process of its own."""

    def __init__(self, binary, broker, arguments):
        self.binary, self.broker, self.arguments = binary, broker, arguments
        self.running, self.churned = [], 0

    def penstock(self, *command, wait=True):
        line = [str(self.binary), *command, "--bootstrap", self.broker.bootstrap]
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if not wait:
            self.running.append((command, process))
        elif process.communicate()[1] and process.returncode != 0:
            raise SystemExit(f"{' '.join(command)} failed")

    def produce(self, topic, mib_per_second, seconds):
        rate = max(1, int(mib_per_second * 1024))
        self.penstock("bench", "produce", "--topic", topic, "--rate", str(rate), "--seconds", str(seconds), "--record-bytes",
                      "1024", "--batch-bytes", "1000000", "--linger-ms", "1000", "--producers", "1",
                      "-X", "max.in.flight.requests.per.connection=1", wait=False)

    def begin(self, seconds):
        rate, keep = self.arguments.mib_per_second / 2, self.arguments.retention_minutes * 60
        share = int(rate * keep / 6 * 2**20)
        for topic, config in (("by-age", f"retention.ms={keep * 1000}"), ("by-size", f"retention.bytes={share}")):
            self.penstock("topics", "create", topic, "--partitions", "6", "--config", config)
            self.produce(topic, rate, seconds)
        self.keep_table(seconds)

    def keep_table(self, seconds):
        """Writes values of 1 KiB under random keys of a compacted topic, at the given rate."""
        options = ["cleanup.policy=compact", "segment.ms=60000", "min.cleanable.dirty.ratio=0.3"]
        self.penstock("topics", "create", "table", "--partitions", "2", *(each for option in options for each in ("--config", option)))
        line = [str(self.binary), "produce", "table", "--key-separator", ":", "--bootstrap", self.broker.bootstrap]
        process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.running.append((line[1:], process))
        rate, keys = self.arguments.table_mib_per_second * 1024, self.arguments.table_keys

        def write():
            begun, sent = time.monotonic(), 0
            # Whoever ends the command ends this.
            with contextlib.suppress(OSError, ValueError):
                while (passed := time.monotonic() - begun) < seconds:
                    for _ in range(int(rate * passed) - sent):
                        process.stdin.write(f"key-{random.randrange(keys)}:{random.randbytes(512).hex()}\n")
                        sent += 1
                    process.stdin.flush()
                    time.sleep(0.1)
                process.stdin.close()

        threading.Thread(target=write, daemon=True).start()

    def churn(self):
        """A topic comes and goes, and somebody reads another from its beginning."""
        if self.churned:
            self.penstock("topics", "delete", f"churn-{self.churned}")
        self.churned += 1
        self.penstock("topics", "create", f"churn-{self.churned}", "--partitions", "6")
        self.produce(f"churn-{self.churned}", self.arguments.mib_per_second / 4, self.arguments.churn_minutes * 30)
        self.penstock("bench", "consume", "--topic", "by-age", "--seconds", "20", wait=False)

    def check(self):
        """Processes that ended by themselves must have ended well."""
        for command, process in list(self.running):
            if process.poll() is not None:
                self.running.remove((command, process))
                if process.returncode != 0:
                    told = process.stderr.read().strip()[-300:]
                    raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {told}")

    def stop(self):
        for _, process in self.running:
            benches.stop(process)


def levels(samples, slack):
    """Of each series the median of the second quarter and of the last; and whether the last is too large."""
    quarter = len(samples) // 4
    told = {}
    for name, _ in SERIES:
        second = statistics.median(each[name] for each in samples[quarter:2 * quarter])
        last = statistics.median(each[name] for each in samples[-quarter:])
        told[name] = {"second_quarter": second, "last_quarter": last, "levels_off": last <= second * (1 + slack)}
    return told


def nice_top(value):
    step = 10 ** (len(str(int(max(value, 1)))) - 1)
    return step * (int(value / step) + 1)


def svg(samples, title):
    """Four graphs, one below the other, that share the time."""
    width, height, left, gap = 760, 130, 64, 46
    total = len(SERIES) * (height + gap) + 40
    end = samples[-1]["seconds"]
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {total}" font-family="sans-serif" font-size="12">',
           f'<rect width="{width}" height="{total}" fill="#ffffff"/>',
           f'<text x="{left}" y="20" font-size="14" fill="#222">{title}</text>']
    for index, (name, label) in enumerate(SERIES):
        top = 40 + index * (height + gap)
        most = nice_top(max(each[name] for each in samples))

        def at(seconds, value):
            return left + (width - left - 16) * seconds / end, top + height * (1 - value / most)

        out.append(f'<text x="{left}" y="{top - 6}" fill="#222">{label}</text>')
        for part in (0, 0.5, 1):
            y = top + height * (1 - part)
            out.append(f'<line x1="{left}" x2="{width - 16}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
            out.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{most * part:g}</text>')
        points = " ".join("%.1f,%.1f" % at(each["seconds"], each[name]) for each in samples)
        out.append(f'<polyline points="{points}" fill="none" stroke="#1f6feb" stroke-width="1.5"/>')
        for minutes in range(0, int(end / 60) + 1, max(1, int(end / 60 / 6))):
            x = at(minutes * 60, 0)[0]
            out.append(f'<text x="{x:.1f}" y="{top + height + 15}" text-anchor="middle" fill="#555">{minutes} min</text>')
    return "\n".join([*out, "</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="the penstock binary, release build")
    parser.add_argument("--minutes", type=int, default=60, help="how long (default: 60)")
    parser.add_argument("--mib-per-second", type=float, default=4, help="of the two lasting topics together (default: 4)")
    parser.add_argument("--retention-minutes", type=int, default=5, help="what both keep (default: 5)")
    parser.add_argument("--churn-minutes", type=int, default=4, help="how often a topic comes and goes (default: 4)")
    parser.add_argument("--table-mib-per-second", type=float, default=0.5, help="of the compacted topic (default: 0.5)")
    parser.add_argument("--table-keys", type=int, default=20000, help="how many keys it has, of 1 KiB each (default: 20000)")
    parser.add_argument("--sample-seconds", type=float, default=5)
    parser.add_argument("--slack", type=float, default=0.25, help="growth that is still level (default: 0.25)")
    parser.add_argument("--set", action="append", default=[], help="a further option of the broker; may be repeated")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="where samples.csv and soak.svg are put")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    options = ["flush.put.budget.per.second=4", "log.retention.check.interval.ms=15000", "collect.delay.ms=60000",
               "collect.interval.ms=10000", "seal.age.ms=30000", "collect.merged.delay.ms=60000", "merge.age.ms=120000",
               "merge.level.age.ms=300000", "compact.delay.ms=60000",
               "sweep.interval.ms=60000", "sweep.lag.ms=300000", *arguments.set]
    samples = []
    with tempfile.TemporaryDirectory(prefix="penstock-soak-") as temporary:
        directory = pathlib.Path(temporary)
        with benches.penstock(arguments.bin.resolve(), directory, "soak", options=options) as broker:
            data = directory / "soak"
            load = Load(arguments.bin.resolve(), broker, arguments)
            begun = time.monotonic()
            try:
                load.begin(arguments.minutes * 60)
                churn_at = 0
                while (passed := time.monotonic() - begun) < arguments.minutes * 60:
                    if passed >= churn_at:
                        load.churn()
                        churn_at += arguments.churn_minutes * 60
                    load.check()
                    samples.append(sample(broker, data / "objects", begun))
                    print(f"\r{passed / 60:5.1f} of {arguments.minutes} min  {samples[-1]}", end="", file=sys.stderr, flush=True)
                    time.sleep(arguments.sample_seconds)
            finally:
                print(file=sys.stderr)
                load.stop()
    with open(arguments.out / "samples.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, samples[0].keys())
        writer.writeheader()
        writer.writerows(samples)
    title = f"{arguments.mib_per_second:g} MiB/s for {arguments.minutes} min, {arguments.retention_minutes} min of retention"
    (arguments.out / "soak.svg").write_text(svg(samples, title))
    told = levels(samples, arguments.slack)
    for name, each in told.items():
        word = "levels off" if each["levels_off"] else "GROWS"
        print(f"{name:14} {each['second_quarter']:10.1f} in the second quarter, {each['last_quarter']:10.1f} in the last: {word}")
    return 0 if all(each["levels_off"] for each in told.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
