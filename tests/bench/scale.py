#!/usr/bin/env python3
"""Many partitions and two agents, on a FoundationDB in a single process: what a Metadata answer for all partitions takes,
what memory an agent has that knows 100,000 of them and serves 1,000, and how long after a commit at one agent a long
poll at the other is answered. Prints Markdown.

    cargo build --release -p penstock-agent --features foundationdb
    python3 tests/bench/scale.py --bin target/release/penstock

`fdbserver` and `fdbcli` have to be on PATH; without them nothing is measured, and it says so. Requests are written here,
byte by byte: no client library stands between the clock and the broker.
"""

import argparse
import contextlib
import os
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from run import free_port, stop, wait_for  # before the next one: it changes where modules are looked for
import raw_load

PRODUCE, FETCH, METADATA, CREATE_TOPICS = 0, 1, 3, 19


class Client:
    """One connection, one request at a time."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), 60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.correlation = 0

    def send(self, api, version, body, flexible=False):
        self.correlation += 1
        head = struct.pack(">hhih", api, version, self.correlation, 5) + b"scale" + (b"\0" if flexible else b"")
        self.socket.sendall(struct.pack(">i", len(head) + len(body)) + head + body)

    def receive(self):
        """The answer behind its correlation id."""
        length = struct.unpack(">i", self.exactly(4))[0]
        return self.exactly(length)[4:]

    def exactly(self, length):
        received = bytearray(length)
        view, at = memoryview(received), 0
        while at < length:
            taken = self.socket.recv_into(view[at:])
            if not taken:
                raise ConnectionError("the broker closed the connection")
            at += taken
        return bytes(received)

    def call(self, api, version, body, flexible=False):
        self.send(api, version, body, flexible)
        return self.receive()


def text(value):
    return struct.pack(">h", len(value)) + value.encode()


class Answer:
    """Reads an answer."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, format_):
        value = struct.unpack_from(">" + format_, self.data, self.at)[0]
        self.at += struct.calcsize(">" + format_)
        return value

    def skip(self, length):
        self.at += length
        return self.data[self.at - length:self.at]

    def text(self):
        length = self.take("h")
        return None if length < 0 else self.skip(length).decode()

    def varint(self):
        value = shift = 0
        while True:
            byte = self.take("B")
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    def compact(self):
        length = self.varint()
        return None if length == 0 else self.skip(length - 1)


def create_topics(client, names, partitions):
    body = struct.pack(">i", len(names))
    for name in names:
        body += text(name) + struct.pack(">ihii", partitions, 1, 0, 0)
    answer = Answer(client.call(CREATE_TOPICS, 2, body + struct.pack(">ib", 60_000, 0)))
    answer.take("i")
    for _ in range(answer.take("i")):
        name, error = answer.text(), answer.take("h")
        answer.text()
        if error:
            raise SystemExit(f"topic {name} can't be made: error {error}")


def metadata(client):
    """All topics, as a new client asks (version 12): the answer."""
    return client.call(METADATA, 12, b"\0\0\0\0", flexible=True)


def count_partitions(data):
    """How many partitions a Metadata answer of version 12 shows."""
    answer = Answer(data)
    answer.skip(1 + 4)
    for _ in range(answer.varint() - 1):
        answer.skip(4)
        answer.compact()
        answer.skip(4)
        answer.compact()
        answer.varint()
    answer.compact()
    answer.skip(4)
    partitions = 0
    for _ in range(answer.varint() - 1):
        answer.skip(2)
        answer.compact()
        answer.skip(16 + 1)
        for _ in range(answer.varint() - 1):
            partitions += 1
            answer.skip(2 + 4 + 4 + 4)
            for _ in range(3):
                answer.skip(4 * (answer.varint() - 1))
            answer.varint()
        answer.skip(4)
        answer.varint()
    return partitions


def produce_body(batch, topics):
    """A Produce request (version 7) with the batch for each partition of {topic: [partition, ...]}."""
    body = struct.pack(">hhii", -1, -1, 30_000, len(topics))
    for name, partitions in topics.items():
        body += text(name) + struct.pack(">i", len(partitions))
        for partition in partitions:
            body += struct.pack(">ii", partition, len(batch)) + batch
    return body


def base_offsets(data):
    answer, offsets = Answer(data), {}
    for _ in range(answer.take("i")):
        name = answer.text()
        for _ in range(answer.take("i")):
            partition, error = answer.take("i"), answer.take("h")
            if error:
                raise SystemExit(f"{name}-{partition} can't be written to: error {error}")
            offsets[name, partition] = answer.take("q")
            answer.skip(16)
    return offsets


def fetch_body(offsets, wait_ms):
    """A Fetch request (version 4) of {(topic, partition): offset}."""
    topics = {}
    for (name, partition), offset in offsets.items():
        topics.setdefault(name, []).append((partition, offset))
    body = struct.pack(">iiiibi", -1, wait_ms, 1, 64 << 20, 0, len(topics))
    for name, partitions in topics.items():
        body += text(name) + struct.pack(">i", len(partitions))
        for partition, offset in partitions:
            body += struct.pack(">iqi", partition, offset, 1 << 20)
    return body


def fetched_bytes(data):
    answer, total = Answer(data), 0
    answer.take("i")
    for _ in range(answer.take("i")):
        answer.text()
        for _ in range(answer.take("i")):
            answer.take("i")
            error = answer.take("h")
            if error:
                raise SystemExit(f"a fetch is refused: error {error}")
            answer.skip(16)
            answer.skip(16 * max(0, answer.take("i")))
            length = answer.take("i")
            total += max(0, length)
            answer.skip(max(0, length))
    return total


@contextlib.contextmanager
def foundationdb(directory):
    """A server with an empty database; its cluster file."""
    port = free_port()
    cluster = directory / "fdb.cluster"
    cluster.write_text(f"bench:penstock@127.0.0.1:{port}\n")
    (directory / "fdb-log").mkdir()
    command = ["fdbserver", "-p", f"127.0.0.1:{port}", "-l", f"127.0.0.1:{port}", "-C", cluster, "--memory", "2GiB",
               "--cache-memory", "128MiB", "-d", directory / "fdb-data", "-L", directory / "fdb-log"]
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        subprocess.run(["fdbcli", "-C", str(cluster), "--timeout", "60", "--exec", "configure new single ssd"], check=True,
                       stdout=subprocess.DEVNULL)
        yield cluster
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def agent(binary, directory, cluster, name):
    """An agent of the cluster: its Kafka address and the one of its metrics."""
    kafka, http = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    command = [binary, "agent", "--metadata", f"fdb:{cluster}", "--object-store", f"file://{directory}/objects",
               "--data-dir", directory / name, "--listen", kafka, "--http", http]
    # A test ends at once, and small records need no large cache.
    for option in ("drain.grace.ms=0", "cache.bytes=64MiB", "flush.put.budget.per.second=50"):
        command += ["--set", option]
    log = open(directory / f"{name}.log", "w")
    process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log)
    try:
        def ready():
            if process.poll() is not None:
                raise SystemExit(f"the agent ended: {(directory / f'{name}.log').read_text()[-500:]}")
            return urllib.request.urlopen(f"http://{http}/health/ready", timeout=2).status == 200
        wait_for(name, 60, ready)
        yield kafka, http
    finally:
        stop(process)


def resident_mib(http):
    with urllib.request.urlopen(f"http://{http}/metrics", timeout=10) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith("process_resident_memory_bytes "):
                return float(line.split()[1]) / 2**20
    raise SystemExit("the agent doesn't tell its memory")


def quantiles(seconds):
    ordered = sorted(seconds)
    at = lambda share: ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e3
    return f"{at(0.5):.1f} | {at(0.99):.1f}"


def partitions(kafka, http, topics, of_topic, served, rounds):
    """What an agent with many partitions needs; the topics' names."""
    client = Client(kafka)
    metadata(client)
    rows = [("started, no topics", resident_mib(http))]
    names = [f"topic-{number:04}" for number in range(topics)]
    begun = time.monotonic()
    at_once = max(1, 10_000 // of_topic)
    for first in range(0, topics, at_once):
        create_topics(client, names[first:first + at_once], of_topic)
    made = time.monotonic() - begun
    took, data = [], b""
    for _ in range(10):
        begun = time.monotonic()
        data = metadata(client)
        took.append(time.monotonic() - begun)
    found = count_partitions(data)
    if found != topics * of_topic:
        raise SystemExit(f"Metadata shows {found} partitions")
    rows.append((f"knows {found:,} partitions, ten Metadata answers for all", resident_mib(http)))
    print(f"{topics} topics of {of_topic} partitions: made in {made:.2f} s ({-(-topics // at_once)} requests)\n")
    print("| Metadata for all | bytes | first ms | p50 ms | p99 ms |\n|---|---|---|---|---|")
    print(f"| {found:,} partitions | {len(data):,} | {took[0] * 1e3:.0f} | {quantiles(took[1:])} |\n")

    each = served // topics
    some = {name: list(range(each)) for name in names}
    batch, records = raw_load.batch_of(1_024, 100)
    body = produce_body(batch, some)
    reader, written, read = Client(kafka), [], []
    for _ in range(rounds):
        begun = time.monotonic()
        offsets = base_offsets(client.call(PRODUCE, 7, body))
        written.append(time.monotonic() - begun)
        begun = time.monotonic()
        if fetched_bytes(reader.call(FETCH, 4, fetch_body(offsets, 500))) < served * len(batch):
            raise SystemExit("a fetch shows less than was written")
        read.append(time.monotonic() - begun)
    rows.append((f"serves {served:,} of them, written to and read {rounds} times", resident_mib(http)))
    ends, idle = {key: offset + records for key, offset in offsets.items()}, []
    for _ in range(5):
        begun = time.monotonic()
        if fetched_bytes(reader.call(FETCH, 4, fetch_body(ends, 0))):
            raise SystemExit("there is something where nothing was written")
        idle.append(time.monotonic() - begun)
    print("| the agent | resident MiB |\n|---|---|")
    for what, mib in rows:
        print(f"| {what} | {mib:.0f} |")
    print(f"\n| {served:,} partitions in one request | p50 ms | p99 ms |\n|---|---|---|")
    print(f"| Produce, 1 KiB each, acks=all | {quantiles(written)} |")
    print(f"| Fetch of all of it | {quantiles(read)} |")
    print(f"| Fetch with nothing new | {quantiles(idle)} |\n")


def wake_ups(writes_at, polls_at, count):
    """Long polls at one agent while another is written to."""
    writer, reader = Client(writes_at), Client(polls_at)
    create_topics(writer, ["wake"], 1)
    metadata(reader)
    batch, records = raw_load.batch_of(1_024, 100)
    body = produce_body(batch, {"wake": [0]})
    next_offset = base_offsets(writer.call(PRODUCE, 7, body))["wake", 0] + records
    fetched_bytes(reader.call(FETCH, 4, fetch_body({("wake", 0): next_offset - records}, 500)))
    answered = {}

    def poll():
        answered["bytes"] = fetched_bytes(reader.receive())
        answered["at"] = time.monotonic()

    acknowledged, from_send, from_acknowledgement = [], [], []
    for number in range(count + 10):
        reader.send(FETCH, 4, fetch_body({("wake", 0): next_offset}, 10_000))
        thread = threading.Thread(target=poll)
        thread.start()
        # The poll finds nothing, and waits.
        time.sleep(0.05)
        begun = time.monotonic()
        offset = base_offsets(writer.call(PRODUCE, 7, body))["wake", 0]
        now = time.monotonic()
        thread.join()
        if not answered["bytes"] or offset != next_offset:
            raise SystemExit(f"the long poll was answered without the records at {next_offset}")
        next_offset += records
        if number >= 10:
            acknowledged.append(now - begun)
            from_send.append(answered["at"] - begun)
            from_acknowledgement.append(answered["at"] - now)
    print(f"| {count} records one by one, written at one agent, polled at the other | p50 ms | p99 ms |\n|---|---|---|")
    print(f"| acknowledged | {quantiles(acknowledged)} |")
    print(f"| long poll answered, from the send | {quantiles(from_send)} |")
    print(f"| long poll answered, from the acknowledgement | {quantiles(from_acknowledgement)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, type=pathlib.Path, help="penstock, with the feature foundationdb")
    parser.add_argument("--topics", type=int, default=100)
    parser.add_argument("--partitions", type=int, default=1_000, help="of each topic, at most 10,000")
    parser.add_argument("--served", type=int, default=1_000, help="partitions written to and read, of all topics together")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--wake-ups", type=int, default=200)
    arguments = parser.parse_args()
    for program in ("fdbserver", "fdbcli"):
        if not shutil.which(program):
            print(f"skipped: foundationdb, many partitions: there is no {program} on PATH")
            return
    binary = arguments.bin.resolve()
    with tempfile.TemporaryDirectory(prefix="penstock-scale-") as temporary, contextlib.ExitStack() as stack:
        directory = pathlib.Path(temporary)
        (directory / "objects").mkdir()
        cluster = stack.enter_context(foundationdb(directory))
        first = stack.enter_context(agent(binary, directory, cluster, "first"))
        partitions(*first, arguments.topics, arguments.partitions, arguments.served, arguments.rounds)
        second = stack.enter_context(agent(binary, directory, cluster, "second"))
        wake_ups(first[0], second[0], arguments.wake_ups)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
