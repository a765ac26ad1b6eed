"""What the processes of a load share: arrays in files that all of them map. Sparse, so that what isn't used costs nothing.

Each cell has one writer (but `seen`, where all write the same 1), and is eight bytes in one place, so that readers see
whole values.
"""
import dataclasses
import json
import math
import mmap
import pathlib
import struct

# Latency: 20 buckets to a doubling, from 0.1 ms on; 500 of them reach an hour.
BUCKETS, BUCKETS_PER_DOUBLING, SMALLEST_SECONDS = 500, 20, 1e-4
PHASES = ("before", "during", "after")
VALUE_HEAD = struct.Struct(">IIQ")


@dataclasses.dataclass
class Plan:
    """What a load does. `capacity`: records of one producer to one partition, at most."""

    directory: str
    topic: str
    bootstrap: list
    zones: list
    names: list
    partitions: int
    producers: int
    rate: float
    record_bytes: int
    capacity: int
    records: int
    group: str
    move_seconds: float
    drain_seconds: float

    def save(self):
        """For the workers."""
        pathlib.Path(self.directory, "plan.json").write_text(json.dumps(dataclasses.asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, directory):
        """What `save` wrote."""
        return cls(**json.loads(pathlib.Path(directory, "plan.json").read_text(encoding="utf-8")))

    @property
    def partition_capacity(self):
        """Records of all producers to one partition, at most."""
        return self.capacity * self.producers

    def client(self, index, kind):
        """librdkafka's settings of a client that is told one address, another than its neighbours."""
        at = index % len(self.bootstrap)
        zone = f",zone={self.zones[at % len(self.zones)]}" if self.zones and index % 2 else ""
        return {"bootstrap.servers": self.bootstrap[at], "client.id": f"{kind}-{index}{zone}", "reconnect.backoff.max.ms": 1000,
                "topic.metadata.refresh.interval.ms": 10000, "log_level": 2}


class Board:
    """The arrays. Offsets are kept as offset + 1, so that 0 says nothing."""

    def __init__(self, plan, create=False):
        self.plan, self.directory = plan, pathlib.Path(plan.directory)
        cells = plan.producers * plan.partitions
        self.told = self._map("told", cells * plan.capacity, "q", create)
        self.seen = self._map("seen", plan.partitions * plan.partition_capacity, "B", create)
        # Of each producer and partition: records handed over, records acknowledged, the highest acknowledged end.
        self.sent = self._map("sent", cells, "q", create)
        self.acknowledged = self._map("acknowledged", cells, "q", create)
        self.acknowledged_end = self._map("acknowledged_end", cells, "q", create)
        self.latency = self._map("latency", plan.producers * len(PHASES) * BUCKETS, "q", create)
        # Signals, and the end offsets once producers are done: see the names below.
        self.signals = self._map("signals", 5, "q", create)
        self.ends = self._map("ends", plan.partitions, "q", create)

    # Indices of `signals`. When the second and the third phase began, in nanoseconds of the monotonic clock; whether producers
    # are to end, whether `ends` is filled in, whether everybody is to end.
    DURING_AT, AFTER_AT, PRODUCERS_END, ENDS_KNOWN, ALL_END = range(5)

    def _map(self, name, cells, form, create):
        path, size = self.directory / f"{name}.map", max(cells, 1) * struct.calcsize(form)
        with open(path, "w+b" if create else "r+b") as file:
            if create:
                file.truncate(size)
            return memoryview(mmap.mmap(file.fileno(), size)).cast(form)

    def cell(self, producer, partition):
        """Into the arrays of each producer and partition."""
        return producer * self.plan.partitions + partition

    def end_acknowledged(self, partition):
        """The highest end that any producer was told of a partition."""
        return max(self.acknowledged_end[self.cell(producer, partition)] for producer in range(self.plan.producers))

    def sent_by(self, partition):
        """Of a partition: producer → records handed over."""
        return {producer: self.sent[self.cell(producer, partition)] for producer in range(self.plan.producers)}

    def count_latency(self, producer, sent_at_ns, seconds):
        """One acknowledged record; it belongs to the phase in which it was sent."""
        phase = sum(1 for at in (self.signals[self.DURING_AT], self.signals[self.AFTER_AT]) if 0 < at <= sent_at_ns)
        self.latency[(producer * len(PHASES) + phase) * BUCKETS + bucket(seconds)] += 1

    def at_end(self, positions):
        """Whether a reader has got to the end of all partitions."""
        return self.signals[self.ENDS_KNOWN] != 0 and all(position >= end for position, end in zip(positions, self.ends))

    def latencies(self, phase):
        """All producers' of a phase."""
        rows = [(producer * len(PHASES) + phase) * BUCKETS for producer in range(self.plan.producers)]
        return [sum(self.latency[row + at] for row in rows) for at in range(BUCKETS)]


def bucket(seconds):
    """Where a latency is counted."""
    if seconds <= SMALLEST_SECONDS:
        return 0
    return min(int(math.log2(seconds / SMALLEST_SECONDS) * BUCKETS_PER_DOUBLING), BUCKETS - 1)


def quantile(counts, share):
    """The upper bound of the bucket with that share of all, in seconds; `None` if there are none."""
    left = math.ceil(sum(counts) * share)
    if left == 0:
        return None
    for at, count in enumerate(counts):
        left -= count
        if left <= 0:
            return SMALLEST_SECONDS * 2 ** ((at + 1) / BUCKETS_PER_DOUBLING)
    raise AssertionError("a share is no more than all")
