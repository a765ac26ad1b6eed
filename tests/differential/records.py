"""Record batches: built as a producer builds them (or wrongly, on purpose), and taken apart to be compared."""

import struct
from dataclasses import dataclass, field, fields

import compression
from codec import signed_varint, Reader

HEAD = ">qiibIhiqqqhii"
HEAD_BYTES = struct.calcsize(HEAD)
LOG_APPEND_TIME = 8


def make_crc_table():
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


CRC_TABLE = make_crc_table()


def crc32c(data):
    value = 0xFFFFFFFF
    for byte in data:
        value = CRC_TABLE[(value ^ byte) & 255] ^ value >> 8
    return value ^ 0xFFFFFFFF


def terse(value):
    """What isn't at its default, long bytes by their length."""
    shown = []
    for declared in fields(value):
        given = getattr(value, declared.name)
        if given != declared.default:
            text = f"{len(given)} bytes" if isinstance(given, bytes) and len(given) > 12 else repr(given)
            shown.append(f"{declared.name}={text}")
    return f"{type(value).__name__}({', '.join(shown)})"


@dataclass(repr=False)
class Record:
    timestamp_delta: int = 0
    key: bytes | None = None
    value: bytes | None = b""
    headers: tuple = ()
    offset_delta: int | None = None

    def __repr__(self):
        return terse(self)

    def encode(self, index):
        body = b"\0" + signed_varint(self.timestamp_delta)
        body += signed_varint(index if self.offset_delta is None else self.offset_delta)
        body += nullable(self.key) + nullable(self.value) + signed_varint(len(self.headers))
        for name, value in self.headers:
            body += nullable(name) + nullable(value)
        return signed_varint(len(body)) + body


def nullable(data):
    return signed_varint(-1) if data is None else signed_varint(len(data)) + data


@dataclass(repr=False)
class Batch:
    """A batch to be sent. `producer` is the producer's id, or the name of one that each broker has numbered itself."""

    records: list
    base_timestamp: int
    codec: int = 0
    producer: object = -1
    epoch: int = -1
    sequence: int = -1
    base_offset: int = 0
    magic: int = 2
    extra_attributes: int = 0
    # Wrong on purpose:
    add_to_count: int = 0
    add_to_last_delta: int = 0
    add_to_length: int = 0
    break_crc: bool = False
    cut: int = 0
    tail: bytes = b""
    max_timestamp: int | None = None

    def __repr__(self):
        return terse(self)

    def encode(self, producer_id):
        payload = b"".join(record.encode(index) for index, record in enumerate(self.records))
        payload = compression.pack(self.codec, payload)
        deltas = [record.timestamp_delta for record in self.records] or [0]
        latest = self.base_timestamp + max(deltas) if self.max_timestamp is None else self.max_timestamp
        count = len(self.records) + self.add_to_count
        last_delta = len(self.records) - 1 + self.add_to_last_delta
        covered = struct.pack(">hiqqqhii", self.codec | self.extra_attributes, last_delta, self.base_timestamp, latest,
                              producer_id, self.epoch, self.sequence, count) + payload
        crc = crc32c(covered) ^ (0x5A if self.break_crc else 0)
        length = 9 + len(covered) + self.add_to_length
        out = struct.pack(">qiibI", self.base_offset, length, -1, self.magic, crc) + covered
        return out[:len(out) - self.cut] + self.tail


@dataclass
class OldMessages:
    """A message set of magic 0 or 1, as producers sent before 0.11."""

    magic: int
    values: list
    producer: object = -1

    def encode(self, _producer_id):
        import zlib
        out = b""
        for index, value in enumerate(self.values):
            body = struct.pack(">bb", self.magic, 0) + (struct.pack(">q", 1) if self.magic else b"")
            body += struct.pack(">i", -1) + struct.pack(">i", len(value)) + value
            message = struct.pack(">I", zlib.crc32(body)) + body
            out += struct.pack(">qi", index, len(message)) + message
        return out


@dataclass
class Records:
    """What a Produce request holds for a partition: usually one batch."""

    batches: list = field(default_factory=list)

    def encode(self, side):
        return b"".join(batch.encode(side.number(batch.producer)) for batch in self.batches)


def take_apart(data):
    """Fetched bytes as a list of batches; a cut one at the end is left out, as consumers do. See docs/differential.md."""
    batches, at = [], 0
    while data is not None and at + 12 <= len(data):
        length = struct.unpack_from(">i", data, at + 8)[0]
        if at + 12 + length > len(data):
            break
        batches.append(take_batch(data[at:at + 12 + length]))
        at += 12 + length
    return batches


def is_cut(answer):
    """Whether a Fetch answer holds a piece of a batch."""
    for topic in answer["Responses"]:
        for partition in topic["Partitions"]:
            data, at = partition["Records"] or b"", 0
            while at + 12 <= len(data):
                at += 12 + struct.unpack_from(">i", data, at + 8)[0]
            if at != len(data):
                return True
    return False


def take_batch(data):
    names = ("BaseOffset", "Length", "LeaderEpoch", "Magic", "Crc", "Attributes", "LastOffsetDelta", "BaseTimestamp",
             "MaxTimestamp", "ProducerId", "ProducerEpoch", "BaseSequence", "Count")
    head = dict(zip(names, struct.unpack_from(HEAD, data)))
    head["Crc"] = "right" if head["Crc"] == crc32c(data[21:]) else "wrong"
    codec = head["Attributes"] & 7
    payload = data[HEAD_BYTES:]
    try:
        head["Payload"] = take_records(compression.unpack(codec, payload), head["Count"])
    except compression.Unreadable:
        head["Payload"] = payload.hex()
    if codec:
        head["Packed"] = payload.hex()
    return head


def take_records(data, count):
    reader, records = Reader(data), []
    for _ in range(count):
        size = reader.signed()
        end = reader.at + size
        reader.take(1)
        timestamp, offset = reader.signed(), reader.signed()
        records.append((timestamp, offset, reader.take(end - reader.at).hex()))
    if reader.at != len(data):
        records.append(f"{len(data) - reader.at} bytes more")
    return records
