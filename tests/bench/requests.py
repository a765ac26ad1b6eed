#!/usr/bin/env python3
"""What a steady load makes the agents of a running cluster ask of its bucket: the measured half of docs/cost.md.

    tests/cluster/cluster.py start --release --background
    tests/bench/requests.py --bin target/release/penstock --mib 1

A producer (`penstock bench produce`) and a member of one consumer group (kcat) in each zone, so that nothing crosses zones but
through the bucket; the group's members share the partitions and read at the end of the log. Prints JSON: rates a second over all agents.
"""
import argparse
import contextlib
import json
import re
import subprocess
import sys
import time
import urllib.request

KEPT = re.compile(r'^(penstock_(?:object_store_requests_total\{operation="\w+"\}|flushes_total|flushed_bytes_total|fetched_bytes_total'
                  r'|cache_loads_total|cache_loaded_bytes_total|checkpoint_objects_total)|process_cpu_seconds_total) (\S+)$', re.MULTILINE)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", default="target/release/penstock", help="the binary whose `bench produce` sends")
    parser.add_argument("--bootstrap", default="127.0.0.1:19092,127.0.0.1:19093,127.0.0.1:19094", help="an agent of each zone")
    parser.add_argument("--http", default="127.0.0.1:19644,127.0.0.1:19645,127.0.0.1:19646", help="of all agents")
    parser.add_argument("--zones", default="z1,z2,z3", help="of the agents of --bootstrap")
    parser.add_argument("--mib", type=float, required=True, help="MiB/s of 1 KiB records, of all producers together")
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--producers", type=int, default=1, help="in each zone")
    parser.add_argument("--warm", type=int, default=30, help="seconds before counting")
    parser.add_argument("--seconds", type=int, default=120, help="seconds to count")
    return parser.parse_args()


def totals(agents):
    """Of each counter the sum over all agents, and when it was taken."""
    sums = {}
    for agent in agents:
        with urllib.request.urlopen(f"http://{agent}/metrics", timeout=10) as answer:
            for name, value in KEPT.findall(answer.read().decode()):
                sums[name] = sums.get(name, 0.0) + float(value)
    return time.monotonic(), sums


def producer(options, topic, bootstrap, zone, zones):
    rate = options.mib * 1024 / zones
    command = [options.bin, "bench", "produce", "--bootstrap", bootstrap, "--topic", topic, "--partitions", str(options.partitions),
               "--rate", f"{rate:.0f}", "--record-bytes", "1024", "--producers", str(options.producers),
               "--seconds", str(options.warm + options.seconds + 30), "-X", f"client.id=cost,zone={zone}"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def consumer(topic, bootstrap, zone):
    command = ["kcat", "-b", bootstrap, "-X", f"client.id=cost,zone={zone}", "-X", "auto.offset.reset=latest", "-q", "-u",
               "-G", f"{topic}-readers", topic]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def terminate(process):
    process.terminate()
    process.wait()


def measure(options):
    agents, places = options.http.split(","), list(zip(options.bootstrap.split(","), options.zones.split(",")))
    topic = f"cost-{time.time_ns() % 10**9}"
    with contextlib.ExitStack() as running:
        def run(process):
            running.callback(terminate, process)
        _, idle = totals(agents)
        for place in places:
            run(producer(options, topic, *place, len(places)))
        # A consumer of a topic that isn't there looks again minutes later.
        while totals(agents)[1]["penstock_flushes_total"] < idle["penstock_flushes_total"] + len(places):
            time.sleep(0.5)
        for place in places:
            run(consumer(topic, *place))
        time.sleep(options.warm)
        begin, before = totals(agents)
        time.sleep(options.seconds)
        end, after = totals(agents)
    seconds = end - begin
    return {"mib_per_second": options.mib, "agents": len(agents), "seconds": round(seconds, 1),
            "per_second": {name: round((after[name] - before.get(name, 0.0)) / seconds, 4) for name in sorted(after)}}


def main():
    json.dump(measure(arguments()), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
