"""A partition as a consumer finds it: the batches that are left, and every record in them with its own offset and time."""

import struct
import time
from dataclasses import dataclass, field

import compression
import zstd
from codec import Reader
from records import HEAD, HEAD_BYTES, LOG_APPEND_TIME, crc32c

DELETE_HORIZON = 0x40
FETCH, FETCH_BYTES = 12, 8 << 20
LATEST, EARLIEST, OF_MAX_TIMESTAMP = -1, -2, -3
# How often an answer without records is asked for again before it is taken for the truth.
EMPTY_ANSWERS = 4


@dataclass(frozen=True)
class Kept:
    """A record that compaction left."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple = ()

    def __repr__(self):
        value = "tombstone" if self.value is None else f"{self.value[:24]!r}"
        headers = f" {self.headers}" if self.headers else ""
        return f"{self.offset}: {self.key!r}={value} at {self.timestamp}{headers}"


@dataclass
class KeptBatch:
    """A batch that has records left."""

    base_offset: int
    last_offset_delta: int
    codec: int
    is_append_time: bool
    # When its tombstones may go, once compaction has decided on it.
    delete_horizon: int | None
    has_producer: bool
    epoch: int
    base_sequence: int
    max_timestamp: int
    is_crc_right: bool
    records: list = field(repr=False)

    @property
    def end(self):
        return self.base_offset + self.last_offset_delta + 1

    def shape(self):
        """What has to be the same on both brokers."""
        producer = (self.epoch, self.base_sequence) if self.has_producer else None
        return {"base offset": self.base_offset, "last offset delta": self.last_offset_delta,
                "records": len(self.records), "codec": compression.NAMES[self.codec],
                "append time": self.is_append_time, "delete horizon": self.delete_horizon is not None,
                "producer's epoch and sequence": producer, "right checksum": self.is_crc_right}


@dataclass
class Log:
    """A partition from its log start to its end."""

    start: int
    end: int
    # Where a consumer is after the last batch that it got.
    position: int
    batches: list

    @property
    def records(self):
        return [record for batch in self.batches for record in batch.records]


def batches_in(data):
    """Fetched bytes as batches, those without records as well; a piece of a batch at the end is left out, as by consumers."""
    at = 0
    while data is not None and at + 12 <= len(data):
        end = at + 12 + struct.unpack_from(">i", data, at + 8)[0]
        if end > len(data):
            return
        yield take(data[at:end])
        at = end


def take(data):
    base_offset, _, _, _, crc, attributes, last_delta, base_timestamp, max_timestamp, producer, epoch, sequence, count = \
        struct.unpack_from(HEAD, data)
    horizon = base_timestamp if attributes & DELETE_HORIZON else None
    batch = KeptBatch(base_offset, last_delta, attributes & 7, bool(attributes & LOG_APPEND_TIME), horizon, producer >= 0,
                      epoch, sequence, max_timestamp, crc == crc32c(data[21:]), [])
    # A batch without records has nothing that could be unpacked.
    if count:
        append_time = max_timestamp if batch.is_append_time else None
        payload = unpack(batch.codec, data[HEAD_BYTES:])
        batch.records.extend(records_in(payload, count, base_offset, base_timestamp, append_time))
    return batch


def unpack(codec, data):
    return zstd.unpack(data) if codec == compression.ZSTD else compression.unpack(codec, data)


def records_in(payload, count, base_offset, base_timestamp, append_time):
    reader = Reader(payload)
    for _ in range(count):
        reader.signed()
        reader.take(1)
        timestamp, offset = base_timestamp + reader.signed(), base_offset + reader.signed()
        key, value = nullable(reader), nullable(reader)
        headers = tuple((nullable(reader), nullable(reader)) for _ in range(reader.signed()))
        yield Kept(offset, timestamp if append_time is None else append_time, key, value, headers)
    if reader.at != len(payload):
        raise ValueError(f"{len(payload) - reader.at} bytes behind the records of the batch at {base_offset}")


def nullable(reader):
    length = reader.signed()
    return None if length < 0 else reader.take(length)


def list_offset(side, topic, timestamp, partition=0):
    """The answer to ListOffsets for a partition: error, offset, timestamp."""
    row = {"PartitionIndex": partition, "CurrentLeaderEpoch": -1, "Timestamp": timestamp}
    body = {"ReplicaId": -1, "IsolationLevel": 0, "Topics": [{"Name": topic, "Partitions": [row]}]}
    answer = side.ask("ListOffsets", 7, body)["Topics"][0]["Partitions"][0]
    return answer["ErrorCode"], answer["Offset"], answer["Timestamp"]


def fetch(side, topic, offset, partition=0, max_bytes=FETCH_BYTES):
    """The answer to a Fetch of a partition: error, batches."""
    row = {"Partition": partition, "CurrentLeaderEpoch": -1, "FetchOffset": offset, "PartitionMaxBytes": max_bytes}
    body = {"MaxWaitMs": 200, "MinBytes": 1, "MaxBytes": max_bytes, "SessionEpoch": -1,
            "Topics": [{"Topic": topic, "Partitions": [row]}]}
    answer = side.ask("Fetch", FETCH, body)["Responses"][0]["Partitions"][0]
    return answer["ErrorCode"], list(batches_in(answer["Records"]))


def follow(side, topic, offset, partition=0, max_bytes=FETCH_BYTES):
    """Fetches as a consumer does, from `offset` to the end: yields (batch, position after it)."""
    end = list_offset(side, topic, LATEST, partition)[1]
    position, empty = offset, 0
    while position < end and empty < EMPTY_ANSWERS:
        error, batches = fetch(side, topic, position, partition, max_bytes)
        if error:
            raise ValueError(f"{side.name} answers a fetch of {topic} at {position} with error {error}")
        empty = 0 if batches else empty + 1
        for batch in batches:
            if batch.end > position:
                position = batch.end
                yield batch, position
        if not batches:
            time.sleep(0.05)


def read(side, topic, partition=0):
    """The whole partition. Kafka keeps the last batch of an active producer also if it has no records left, so that it finds
    its sequence again after a restart; Penstock keeps sequences elsewhere, and consumers pass over such batches: they are
    left out."""
    start, end = (list_offset(side, topic, which, partition)[1] for which in (EARLIEST, LATEST))
    position, batches = start, []
    for batch, position in follow(side, topic, start, partition):
        if batch.records:
            batches.append(batch)
    return Log(start, end, position, batches)


def first_from(side, topic, offset, partition=0, max_bytes=FETCH_BYTES):
    """The first record that a consumer gets that begins at `offset`, and the batch it is in: (base offset, record), or None."""
    for batch, _ in follow(side, topic, offset, partition, max_bytes):
        for record in batch.records:
            if record.offset >= offset:
                return batch.base_offset, record
    return None


def differences(one, other, names, times=True):
    """What differs between two logs, a line each. `times`: whether timestamps have to be the same."""
    for what in ("start", "end", "position"):
        left, right = getattr(one, what), getattr(other, what)
        if left != right:
            yield f"{what}: {names[0]} {left}, {names[1]} {right}"
    left, right = ([plain(record, times) for record in log.records] for log in (one, other))
    for name, here, there in ((names[0], left, right), (names[1], right, left)):
        alone = set(there)
        for record in here:
            if record not in alone:
                yield f"only {name} has {record}"
    if left != right and set(left) == set(right):
        yield "the same records in another order, or more than once"
    shapes = [{batch.base_offset: batch.shape() for batch in log.batches} for log in (one, other)]
    for base in sorted(set(shapes[0]) | set(shapes[1])):
        left, right = (shape.get(base) for shape in shapes)
        if left is None or right is None:
            yield f"batch {base}: only {names[0] if right is None else names[1]} has it"
        elif left != right:
            for what in left:
                if left[what] != right[what]:
                    yield f"batch {base}: {what}: {names[0]} {left[what]}, {names[1]} {right[what]}"
    for name, log in zip(names, (one, other)):
        for batch in log.batches:
            if batch.max_timestamp != max(record.timestamp for record in batch.records):
                yield f"batch {batch.base_offset}: {name}'s max timestamp is no record's"


def plain(record, times):
    return record if times else Kept(record.offset, 0, record.key, record.value, record.headers)
