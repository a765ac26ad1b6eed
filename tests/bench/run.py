#!/usr/bin/env python3
"""Benchmarks, side by side in one run: Penstock on MinIO and on local disk, and Apache Kafka from its jars.

CPU seconds are the broker process's own (user + system, from /proc), so that a busy machine changes them little;
rates and latencies are what they are on the machine of the run. Prints Markdown, and JSON with --json FILE.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import raw_load

ROOT = pathlib.Path(__file__).resolve().parents[2]
TICK = os.sysconf("SC_CLK_TCK")
GIB = 1 << 30


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpu_seconds(pid):
    """User and system time of a process and all its threads."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def peak_memory_mib(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


class Broker:
    """A broker under test: its process and where clients connect."""

    def __init__(self, name, process, bootstrap, http=None):
        self.name, self.process, self.bootstrap, self.http = name, process, bootstrap, http

    def metrics(self):
        with urllib.request.urlopen(f"http://{self.http}/metrics", timeout=5) as answer:
            return answer.read().decode().splitlines()

    def counters(self):
        """Each sample of its metrics, by name and labels."""
        samples = (line.rsplit(" ", 1) for line in self.metrics() if line and not line.startswith("#"))
        return {name: float(value) for name, value in samples}

    def put_times(self):
        """How many uploads took at most so long, by seconds; what the broker itself saw of its object store."""
        if not self.http:
            return None
        times = {}
        for line in self.metrics():
            if line.startswith("penstock_object_store_latency_seconds_bucket") and 'operation="put"' in line:
                times[float(line.split('le="')[1].split('"')[0])] = float(line.split()[1])
        return times

    def put_requests(self):
        if not self.http:
            return None
        total = 0.0
        for line in self.metrics():
            if line.startswith("penstock_object_store_requests_total") and 'operation="put"' in line:
                total += float(line.rsplit(" ", 1)[1])
        return total


def floor(mib=1024):
    """CPU seconds per GiB of a process that only receives on one loopback socket and sends on another: what no broker
    on this machine can do without. Unlike the rest it depends on the machine alone, so results are told against it."""
    size = 1 << 20
    script = f"""
import os, resource, socket, sys
received = socket.create_server(("127.0.0.1", 0)); print(received.getsockname()[1], flush=True)
sent = socket.create_connection(("127.0.0.1", int(sys.stdin.readline())))
source, _ = received.accept()
buffer = memoryview(bytearray(8 * {size})); at = total = 0
while count := source.recv_into(buffer[at:at + {size}]):
    at += count; total += count
    if at > 7 * {size}:
        sent.sendall(buffer[:at]); at = 0
used = resource.getrusage(resource.RUSAGE_SELF)
print((used.ru_utime + used.ru_stime) * (1 << 30) / total)
"""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        relay = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        port = int(relay.stdout.readline())
        print(listener.getsockname()[1], file=relay.stdin, flush=True)
        sink, _ = listener.accept()

        def drain():
            with sink:
                while sink.recv(size):
                    pass

        reader = threading.Thread(target=drain)
        reader.start()
        block = os.urandom(size)
        with socket.create_connection(("127.0.0.1", port)) as source:
            for _ in range(mib):
                source.sendall(block)
        reader.join()
        return float(relay.communicate(timeout=60)[0])


def wait_for(what, seconds, look):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if look():
                return
        time.sleep(0.1)
    raise SystemExit(f"{what} does not answer after {seconds} s")


def stop(process):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def minio(directory):
    """A MinIO on loopback; gives the environment that makes Penstock use it."""
    pid_file = directory / "minio.pid"
    port = free_port()
    command = [ROOT / "minio/run.sh", "--background", "--pid-file", pid_file, "--port", str(port)]
    command += ["--data-dir", directory / "minio", "--bucket", "bench"]
    printed = subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout
    environment = dict(os.environ)
    for line in printed.splitlines():
        if line.startswith("export "):
            name, value = line.removeprefix("export ").split("=", 1)
            environment[name] = value.strip("'\"")
    try:
        yield environment
    finally:
        subprocess.run([str(ROOT / "minio/run.sh"), "--stop", "--pid-file", str(pid_file)], check=False,
                       capture_output=True)


@contextlib.contextmanager
def penstock(binary, directory, name, objects=None, environment=None, options=()):
    kafka, http = free_port(), free_port()
    command = [binary, "dev", "--data-dir", directory / name, "--listen", f"127.0.0.1:{kafka}"]
    command += ["--http", f"127.0.0.1:{http}"]
    if objects:
        command += ["--object-store", objects]
    for option in options:
        command += ["--set", option]
    log = open(directory / f"{name}.log", "w")
    process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log, env=environment)
    try:
        ready = f"http://127.0.0.1:{http}/health/ready"
        wait_for(name, 30, lambda: urllib.request.urlopen(ready, timeout=2).status == 200)
        yield Broker(name, process, f"127.0.0.1:{kafka}", f"127.0.0.1:{http}")
    finally:
        stop(process)


def kafka_jars(state):
    """The folder with Apache Kafka's jars, fetched with Maven if need be; None without Java or Maven."""
    given = os.environ.get("KAFKA_LIBS")
    if given:
        return pathlib.Path(given)
    libs = state / "kafka/libs"
    if libs.exists() and any(libs.glob("kafka_2.13-*.jar")):
        return libs
    if not shutil.which("mvn") or not shutil.which("java"):
        return None
    command = ["mvn", "-q", "-f", ROOT / "tests/kafka/pom.xml", "dependency:copy-dependencies"]
    command += [f"-DoutputDirectory={libs}"]
    done = subprocess.run([str(part) for part in command], check=False)
    return libs if done.returncode == 0 else None


@contextlib.contextmanager
def kafka(libs, directory, kind):
    port, controller = free_port(), free_port()
    data = directory / f"kafka-{kind}"
    data.mkdir()
    properties = directory / f"kafka-{kind}.properties"
    properties.write_text(f"""process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
offsets.topic.replication.factor=1
group.initial.rebalance.delay.ms=0
""")
    java = ["java", "-Xmx1g", "-cp", f"{libs}/*"]
    log = open(directory / f"kafka-{kind}.log", "w")
    subprocess.run([*java, "kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qk", "-c",
                    str(properties)], check=True, stdout=log, stderr=log)
    process = subprocess.Popen([*java, "kafka.Kafka", str(properties)], stdout=log, stderr=log)
    try:
        wait_for("Apache Kafka", 60, lambda: socket.create_connection(("127.0.0.1", port), 1).close() is None)
        time.sleep(3)
        yield Broker("Apache Kafka", process, f"127.0.0.1:{port}")
    finally:
        stop(process)


def bench(binary, broker, kind, *arguments):
    """Runs `penstock bench` and adds what the broker's process used."""
    before, puts = cpu_seconds(broker.process.pid), broker.put_requests()
    command = [binary, "bench", kind, "--bootstrap", broker.bootstrap, "--output", "json", *arguments]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        print(f"{broker.name}: bench {kind} failed: {done.stderr.strip()[-500:]}", file=sys.stderr)
        return None
    result = json.loads(done.stdout)
    used = cpu_seconds(broker.process.pid) - before
    gib = result["bytes"] / GIB
    result["broker_cpu_seconds_per_gib"] = used / gib if gib else None
    result["broker_cpu_seconds"] = used
    result["broker_peak_memory_mib"] = peak_memory_mib(broker.process.pid)
    if puts is not None and gib:
        result["put_per_gib"] = (broker.put_requests() - puts) / gib
    return result


def make_topic(binary, broker, topic):
    """Makes a topic and waits until the broker knows it: Apache Kafka answers before its metadata does."""
    made = [binary, "topics", "create", topic, "--partitions", "6", "--if-not-exists", "--bootstrap", broker.bootstrap]
    subprocess.run([str(part) for part in made], check=True, capture_output=True)
    listed = [binary, "topics", "list", "--bootstrap", broker.bootstrap]
    wait_for(f"topic {topic}", 20, lambda: topic in subprocess.run(
        [str(part) for part in listed], capture_output=True, text=True).stdout)


SHAPES = {
    "1 KiB records, 512 KiB batches": ["--record-bytes", "1024", "--batch-bytes", "524288", "--linger-ms", "20",
                                       "--producers", "4"],
    "100 B records, 16 KiB batches": ["--record-bytes", "100", "--batch-bytes", "16384", "--linger-ms", "5",
                                      "--producers", "16", "--queue-bytes", "4194304"],
}
# Records per second, the same for every broker: a client that waits for acknowledgements turns round and round and
# takes the processors away from the broker, so CPU time is measured below what the machine can do.
RATES = {"1 KiB records, 512 KiB batches": 50_000, "100 B records, 16 KiB batches": 80_000}
# What a broker of the overload run may hold, all in all; Penstock's own defaults are larger.
BOUNDS = {"queued.max.request.bytes": 64, "queued.max.decoded.bytes": 32, "request.buffers.retained.bytes": 32,
          "produce.memory.bytes": 64, "fetch.memory.bytes": 64, "cache.bytes": 64, "cache.lagging.bytes": 16,
          "cache.loading.bytes": 16}


def produce_throughput(binary, broker, seconds):
    """Produces each shape, then reads it: much of it is no longer in a cache of 128 MiB."""
    rows = {}
    for index, (shape, arguments) in enumerate(SHAPES.items()):
        topic = f"bench-{index}"
        make_topic(binary, broker, topic)
        common = ["--topic", topic, "--partitions", "6"]
        at_rate = [*common, *arguments, "--rate", str(RATES[shape])]
        # Once unmeasured: the first touch of memory that is used again and again afterwards isn't the broker's cost.
        bench(binary, broker, "produce", *at_rate, "--seconds", str(max(3, seconds // 2)))
        rows[f"produce, {shape}"] = bench(binary, broker, "produce", *at_rate, "--seconds", str(seconds))
        if index == 0:
            rows[f"produce as fast as it goes, {shape}"] = bench(
                binary, broker, "produce", *common, *arguments, "--seconds", str(seconds))
        rows[f"consume from the store, {shape}"] = bench(
            binary, broker, "consume", "--topic", topic, "--seconds", str(seconds))
    return rows


def consume_throughput(binary, broker, seconds):
    """Reads what the cache still holds: 256 MiB of each shape."""
    rows = {}
    for index, (shape, arguments) in enumerate(SHAPES.items()):
        topic = f"cached-{index}"
        make_topic(binary, broker, topic)
        records = (256 << 20) // int(arguments[1])
        bench(binary, broker, "produce", "--topic", topic, "--partitions", "6", *arguments, "--records-max", str(records),
              "--rate", str(RATES[shape]), "--seconds", str(4 * seconds + 30))
        bench(binary, broker, "consume", "--topic", topic, "--seconds", str(seconds))
        rows[f"consume from the cache, {shape}"] = bench(
            binary, broker, "consume", "--topic", topic, "--seconds", str(seconds))
    return rows


def overload(binary, broker, seconds):
    """Ten times what the broker took before, by ten times the connections, on an open schedule."""
    make_topic(binary, broker, "overload")
    shape = {"topic": "overload", "partitions": 6, "batch_bytes": 524288, "record_bytes": 1024}
    # Once unmeasured, as everywhere.
    raw_load.load(broker.bootstrap, connections=4, seconds=5, **shape)
    before = raw_load.load(broker.bootstrap, connections=4, seconds=max(10, seconds // 3), **shape)
    rate = 10 * before["acknowledged"] / before["seconds"]
    after = raw_load.load(broker.bootstrap, connections=40, seconds=seconds, rate=rate, **shape)
    again = raw_load.load(broker.bootstrap, connections=4, seconds=10, **shape)
    return {"overload": {
        "capacity_mib_per_second": before["mib_per_second"], "offered_mib_per_second": after["offered_mib_per_second"],
        "goodput_mib_per_second": after["mib_per_second"],
        "goodput_share": after["mib_per_second"] / before["mib_per_second"],
        "mib_per_second_afterwards": again["mib_per_second"],
        "peak_memory_mib": peak_memory_mib(broker.process.pid), "bound_mib": sum(BOUNDS.values()),
        "refused": after["refused"], "unanswered": after["unanswered"], "seconds": after["seconds"]}}


def latency(binary, broker, seconds, rates):
    rows = {}
    make_topic(binary, broker, "latency")
    for rate in rates:
        arguments = ["--topic", "latency", "--rate", str(rate), "--seconds", str(seconds)]
        before = broker.put_times()
        row = bench(binary, broker, "latency", *arguments)
        if row and before is not None:
            after = broker.put_times()
            row["put_ms"] = [quantile({bound: after[bound] - before[bound] for bound in after}, share) for share in (0.5, 0.99)]
        rows[f"latency at {rate}/s"] = row
    return rows


def quantile(cumulative, share):
    """Of a histogram, in milliseconds: between a bucket's bounds as if its times were spread evenly."""
    bounds = sorted(cumulative)
    wanted = share * cumulative[bounds[-1]]
    below, least = 0.0, 0.0
    for bound in bounds:
        if cumulative[bound] >= wanted:
            if bound == float("inf") or cumulative[bound] == below:
                return least * 1000
            return (least + (bound - least) * (wanted - below) / (cumulative[bound] - below)) * 1000
        below, least = cumulative[bound], bound
    return None


def number(value, digits=2):
    return "–" if value is None else f"{value:.{digits}f}"


def print_tables(results, floors):
    least = min(floors)
    print(f"The floor, a process that receives and sends and does nothing else: {least:.2f} CPU-s/GiB "
          f"(measured before and after: {', '.join(f'{each:.2f}' for each in floors)})\n")
    print("| what | broker | CPU-s/GiB | of the floor | MiB/s | PUT/GiB | peak MiB |")
    print("|---|---|---|---|---|---|---|")
    for broker, rows in results.items():
        for what, row in rows.items():
            if row and not what.startswith(("latency", "overload")):
                used = row["broker_cpu_seconds_per_gib"]
                cells = [number(used), number(used and used / least, 1), number(row["mib_per_second"], 0),
                         number(row.get("put_per_gib"), 0), number(row["broker_peak_memory_mib"], 0)]
                print(f"| {what} | {broker} | " + " | ".join(cells) + " |")
    print("\n| records/s | broker | its uploads p50 / p99 ms | produce p50 / p99 ms | end to end p50 / p99 ms |")
    print("|---|---|---|---|---|")
    for broker, rows in results.items():
        for what, row in rows.items():
            if row and what.startswith("latency"):
                told = {each["what"]: f"{each['p50_ms']:.1f} / {each['p99_ms']:.1f}" for each in row["latencies"]}
                put = row.get("put_ms")
                put = f"{put[0]:.1f} / {put[1]:.1f}" if put else "–"
                print(f"| {what.split()[2]} | {broker} | {put} | {told.get('produce')} | {told.get('end-to-end')} |")
    for broker, rows in results.items():
        if row := rows.get("overload"):
            print(f"\n{broker}, ten times overloaded for {row['seconds']:.0f} s: {row['goodput_mib_per_second']:.0f} of "
                  f"{row['capacity_mib_per_second']:.0f} MiB/s ({row['goodput_share']:.0%}), peak memory "
                  f"{row['peak_memory_mib']:.0f} MiB, bounds {row['bound_mib']} MiB together, refused "
                  f"{sum(row['refused'].values())}, unanswered {row['unanswered']}; {row['mib_per_second_afterwards']:.0f} "
                  f"MiB/s afterwards")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", type=pathlib.Path, required=True, help="the penstock binary, release build")
    parser.add_argument("--seconds", type=int, default=20, help="of each measurement (default: 20)")
    parser.add_argument("--rates", default="10,100,1000", help="records per second of the latency runs")
    parser.add_argument("--only", choices=["minio", "disk", "kafka"], action="append", help="only these brokers")
    parser.add_argument("--stages", default="produce,consume,latency,overload", help="which stages (default: all)")
    parser.add_argument("--overload-seconds", type=int, default=60, help="of the overload (default: 60)")
    parser.add_argument("--flush", default="flush.put.budget.per.second=10", help="the flush policy of the throughput runs")
    parser.add_argument("--json", type=pathlib.Path, help="write all results there")
    arguments = parser.parse_args()
    binary = arguments.bin.resolve()
    wanted = arguments.only or ["minio", "disk", "kafka"]
    rates = [int(rate) for rate in arguments.rates.split(",")]
    state = pathlib.Path(os.environ.get("PENSTOCK_TEST_STATE", ROOT / "target/test-state"))
    results = {}
    floors = [floor()]

    def run(name, make):
        """Each stage on a fresh broker."""
        results[name] = {}
        # A local disk takes some 400 MiB/s, all of which is kept.
        overload_seconds = min(arguments.overload_seconds, 15 if "disk" in name else 3600)
        stages = [
            ("produce", [arguments.flush, "cache.bytes=128MiB"], lambda broker: produce_throughput(
                binary, broker, arguments.seconds)),
            ("consume", [arguments.flush, "cache.bytes=1GiB"], lambda broker: consume_throughput(
                binary, broker, arguments.seconds)),
            ("latency", [], lambda broker: latency(binary, broker, arguments.seconds, rates)),
            ("overload", [f"{option}={mib}MiB" for option, mib in BOUNDS.items()], lambda broker: overload(
                binary, broker, overload_seconds)),
        ]
        for stage, options, measure in stages:
            if stage in arguments.stages.split(","):
                print(f"… {name}: {stage}", file=sys.stderr)
                with make(stage, options) as broker:
                    results[name] |= measure(broker)

    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as temporary:
        directory = pathlib.Path(temporary)
        if "minio" in wanted:
            with minio(directory) as environment:
                store = environment["PENSTOCK_OBJECT_STORE"]
                run("Penstock on MinIO", lambda kind, options: penstock(
                    binary, directory, f"on-minio-{kind}", f"{store.rstrip('/')}/{kind}", environment, options))
        if "disk" in wanted:
            run("Penstock on local disk", lambda kind, options: penstock(
                binary, directory, f"on-disk-{kind}", None, None, options))
        if "kafka" in wanted:
            libs = kafka_jars(state)
            if libs is None:
                print("skipped: Apache Kafka (no java or mvn)", file=sys.stderr)
            else:
                run("Apache Kafka", lambda kind, _options: kafka(libs, directory, kind))
    floors.append(floor())
    print_tables(results, floors)
    if arguments.json:
        arguments.json.write_text(json.dumps({"floors": floors, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
