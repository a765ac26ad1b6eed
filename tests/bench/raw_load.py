"""Load from sockets: ready-made Produce requests, sent again and again.

A client library that waits takes the processors away from the broker it loads, when both share a machine: so overload
comes from here. Only the correlation id of a request changes; the checksum of a batch doesn't cover it.
"""

import pathlib
import selectors
import socket
import struct
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "differential"))
from records import Batch, Record  # noqa: E402

PRODUCE, VERSION = 0, 7
CORRELATION_AT = 8  # behind length, API and version


def request(topic, partition, batch):
    """A Produce request with its length in front, acks=all."""
    name = topic.encode()
    client = b"overload"
    body = struct.pack(">hhi", PRODUCE, VERSION, 0) + struct.pack(">h", len(client)) + client
    body += struct.pack(">hhii", -1, -1, 30_000, 1) + struct.pack(">h", len(name)) + name
    body += struct.pack(">iii", 1, partition, len(batch)) + batch
    return bytearray(struct.pack(">i", len(body)) + body)


def batch_of(batch_bytes, record_bytes):
    import random
    value = random.Random(1).randbytes(record_bytes)
    records = [Record(value=value) for _ in range(max(1, batch_bytes // (record_bytes + 12)))]
    return Batch(records, int(time.time() * 1000)).encode(-1), len(records)


class Connection:
    """One socket: requests go out as far as it takes them, answers come in."""

    def __init__(self, address, template, topic):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setblocking(False)
        self.template = template
        self.error_at = 4 + 4 + 2 + len(topic.encode()) + 4 + 4
        self.left = memoryview(b"")
        self.started = 0
        self.sent = 0
        self.answered = 0
        self.refused = {}
        self.received = bytearray()

    def begin(self):
        struct.pack_into(">i", self.template, CORRELATION_AT, self.started & 0x7FFFFFFF)
        # The template is another connection's too: what is under way keeps its bytes but for the number, which nobody reads.
        self.left = memoryview(self.template)
        self.started += 1

    def write(self):
        """Whether there is more to write."""
        try:
            while len(self.left):
                self.left = self.left[self.socket.send(self.left):]
        except BlockingIOError:
            return True
        if self.started > self.sent:
            self.sent = self.started
        return False

    def read(self):
        """Takes the answers that have come; how many were acknowledgements."""
        acknowledged = 0
        try:
            while True:
                piece = self.socket.recv(65_536)
                if not piece:
                    raise ConnectionError("the broker closed a connection")
                self.received += piece
        except BlockingIOError:
            pass
        while len(self.received) >= 4:
            length = struct.unpack_from(">i", self.received)[0]
            if len(self.received) < 4 + length:
                break
            error = struct.unpack_from(">h", self.received, 4 + self.error_at)[0]
            del self.received[:4 + length]
            self.answered += 1
            if error == 0:
                acknowledged += 1
            else:
                self.refused[error] = self.refused.get(error, 0) + 1
        return acknowledged

    def in_flight(self):
        return self.started - self.answered


def load(address, topic, partitions, connections, seconds, batch_bytes, record_bytes, rate=None, depth=4):
    """Sends for so long: with `rate` that many requests a second all together, due whether or not earlier ones were taken
    (those that can't be written in time are left out); else as many as are answered, `depth` in flight a connection.

    MiB/s are of batches acknowledged within the time.
    """
    batch, count = batch_of(batch_bytes, record_bytes)
    templates = [request(topic, partition, batch) for partition in range(partitions)]
    selector = selectors.DefaultSelector()
    sockets = [Connection(address, bytearray(templates[index % partitions]), topic) for index in range(connections)]
    for each in sockets:
        selector.register(each.socket, selectors.EVENT_READ, each)
    began = time.monotonic()
    acknowledged = 0
    due_each = rate / connections if rate else None
    blocked = set()
    end = began + seconds
    while (now := time.monotonic()) < end:
        waits = True
        for each in sockets:
            if each in blocked:
                continue
            if due_each is None:
                is_due = each.in_flight() < depth
            else:
                is_due = each.started < (now - began) * due_each
            # One request a turn: nobody's is left half sent while another's goes on and on.
            if not is_due:
                continue
            waits = False
            each.begin()
            if each.write():
                blocked.add(each)
                selector.modify(each.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, each)
        for key, events in selector.select(0.005 if waits else 0):
            each = key.data
            if events & selectors.EVENT_WRITE and not each.write():
                blocked.discard(each)
                selector.modify(each.socket, selectors.EVENT_READ, each)
            if events & selectors.EVENT_READ:
                acknowledged += each.read()
    took = time.monotonic() - began
    # What is under way is still answered.
    until = time.monotonic() + 60
    late = 0
    while time.monotonic() < until and any(each.sent > each.answered for each in sockets):
        for key, events in selector.select(0.1):
            each = key.data
            if events & selectors.EVENT_WRITE and not each.write():
                selector.modify(each.socket, selectors.EVENT_READ, each)
            if events & selectors.EVENT_READ:
                late += each.read()
    refused = {}
    for each in sockets:
        for error, times in each.refused.items():
            refused[error] = refused.get(error, 0) + times
        each.socket.close()
    return {
        "requests": sum(each.sent for each in sockets), "acknowledged": acknowledged, "acknowledged_later": late,
        "unanswered": sum(each.sent - each.answered for each in sockets), "refused": refused, "seconds": took,
        "offered_mib_per_second": rate * len(batch) / 2**20 if rate else None, "records_of_a_request": count,
        "mib_per_second": acknowledged * len(batch) / 2**20 / took,
    }
