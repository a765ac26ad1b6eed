"""The little of Kafka's protocol that is asked of one agent and no other: ListOffsets v2, Fetch v4, uncompressed batches.

Real clients go where Metadata sends them; these questions are for the agent that is named.
"""
import itertools
import socket
import struct

LIST_OFFSETS, FETCH = 2, 1
LATEST = -1
OFFSET_OUT_OF_RANGE, NOT_LEADER_OR_FOLLOWER = 1, 6
BATCH_HEAD = struct.Struct(">qiibIhiqqqhii")
ANSWER_MAX = 1 << 28


class WireError(Exception):
    """An answer that can't be read."""


def _text(value):
    return struct.pack(">h", len(value)) + value.encode()


class Reader:
    """Takes fields from the front of an answer."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        """The fields of one struct format."""
        fields = struct.unpack_from(">" + form, self.data, self.at)
        self.at += struct.calcsize(">" + form)
        return fields if len(fields) > 1 else fields[0]

    def bytes(self, length):
        """A piece of it."""
        if length < 0 or self.at + length > len(self.data):
            raise WireError(f"{length} bytes at {self.at} of {len(self.data)}")
        self.at += length
        return self.data[self.at - length:self.at]


class Connection:
    """One request at a time; opened when it is needed, closed by an error."""

    def __init__(self, address, timeout):
        self.address, self.timeout, self.socket = address, timeout, None
        self.correlations = itertools.count(1)

    def list_offsets(self, topic, partitions, time=LATEST):
        """partition → (error code, offset)."""
        wanted = b"".join(struct.pack(">iq", partition, time) for partition in partitions)
        body = struct.pack(">ibi", -1, 0, 1) + _text(topic) + struct.pack(">i", len(partitions)) + wanted
        answer = self._ask(LIST_OFFSETS, 2, body)
        answer.take("i")
        found = {}
        for _ in range(answer.take("i")):
            answer.bytes(answer.take("h"))
            for _ in range(answer.take("i")):
                partition, error, _, offset = answer.take("ihqq")
                found[partition] = (error, offset)
        return found

    def fetch(self, topic, partition, offset, max_bytes=4 << 20, wait_ms=0):
        """(error code, high watermark, the bytes of the batches)."""
        wanted = struct.pack(">iiqi", 1, partition, offset, max_bytes)
        body = struct.pack(">iiiibi", -1, wait_ms, 1, max_bytes, 0, 1) + _text(topic) + wanted
        answer = self._ask(FETCH, 4, body)
        answer.take("i")
        if answer.take("i") != 1:
            raise WireError("not one topic")
        answer.bytes(answer.take("h"))
        if answer.take("i") != 1:
            raise WireError("not one partition")
        _, error, high_watermark, _, aborted = answer.take("ihqqi")
        answer.bytes(16 * max(aborted, 0))
        return error, high_watermark, answer.bytes(max(answer.take("i"), 0))

    def close(self):
        """A question opens it again."""
        if self.socket:
            self.socket.close()
            self.socket = None

    def _ask(self, api, version, body):
        try:
            if not self.socket:
                host, port = self.address.rsplit(":", 1)
                self.socket = socket.create_connection((host, int(port)), timeout=self.timeout)
            correlation = next(self.correlations)
            head = struct.pack(">hhi", api, version, correlation) + _text("probe")
            self.socket.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
            length, told = struct.unpack(">ii", self._receive(8))
            if told != correlation or not 4 <= length <= ANSWER_MAX:
                raise WireError(f"answer {told} of {length} bytes to request {correlation}")
            return Reader(self._receive(length - 4))
        except (OSError, WireError, struct.error):
            self.close()
            raise

    def _receive(self, length):
        data = bytearray(length)
        view, done = memoryview(data), 0
        while done < length:
            got = self.socket.recv_into(view[done:])
            if not got:
                raise WireError("the connection was closed")
            done += got
        return bytes(data)


def _varint(data, at):
    shift = value = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7


def records(data):
    """(offset, value) of each record of whole batches; what is cut off at the end is left. Offsets come from the batch's
    head and each record's own field."""
    at = 0
    while at + BATCH_HEAD.size <= len(data):
        base, length, _, magic, _, attributes, last_delta, _, _, _, _, _, count = BATCH_HEAD.unpack_from(data, at)
        end = at + 12 + length
        if magic != 2 or attributes & 0x27 or count != last_delta + 1:
            raise WireError(f"a batch at {base} with magic {magic}, attributes {attributes}, {count} records")
        if end > len(data):
            return
        position = at + BATCH_HEAD.size
        for _ in range(count):
            size, position = _varint(data, position)
            record_end = position + size
            _, position = _varint(data, position + 1)
            delta, position = _varint(data, position)
            key_length, position = _varint(data, position)
            value_length, position = _varint(data, position + max(key_length, 0))
            if position + value_length > record_end:
                raise WireError(f"a record at {base + delta} is longer than itself")
            yield base + delta, data[position:position + value_length]
            position = record_end
        at = end
