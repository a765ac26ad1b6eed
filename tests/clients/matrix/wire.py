"""Requests by hand: a fetch, to see record batches as they lie in the log (codec and size), and the making of a topic."""
import socket
import struct

from .report import Failed

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
FETCH, FETCH_VERSION = 1, 4
CREATE_TOPICS, CREATE_TOPICS_VERSION = 19, 2


def check_codec(bootstrap, topic, partitions, codec, raw_bytes):
    """All batches of a topic have the codec; compressed, they are together smaller than their records were."""
    batches = [batch for partition in range(partitions) for batch in fetch(bootstrap, topic, partition)]
    if not batches:
        raise Failed(f"{topic} has no batches")
    found = sorted({found for found, _ in batches})
    if found != [codec]:
        raise Failed(f"{topic} has batches of {found}, expected {codec}")
    size = sum(size for _, size in batches)
    if (codec == "none") != (size >= raw_bytes):
        raise Failed(f"{topic}: {size} bytes of batches in {codec} for {raw_bytes} bytes of records")


def fetch(bootstrap, topic, partition):
    """The codec and size of each batch of a partition."""
    batches, offset = [], 0
    with socket.create_connection(_address(bootstrap), timeout=20) as connection:
        while True:
            records = _records(connection, topic, partition, offset)
            if not records:
                return batches
            at = 0
            while at + 61 <= len(records):
                base, length = struct.unpack_from(">qi", records, at)
                attributes, last_delta = struct.unpack_from(">hi", records, at + 21)
                if at + 12 + length > len(records):
                    break
                batches.append((CODECS[attributes & 7], 12 + length))
                offset = base + last_delta + 1
                at += 12 + length


def create_topic(bootstrap, topic, partitions):
    """For clients that can't, and need one of so many partitions."""
    body = struct.pack(">i", 1) + _string(topic) + struct.pack(">ihiiib", partitions, 1, 0, 0, 20_000, 0)
    with socket.create_connection(_address(bootstrap), timeout=20) as connection:
        answer = _exchange(connection, CREATE_TOPICS, CREATE_TOPICS_VERSION, body)
    # Correlation id, throttle time, one topic, its name.
    at = 4 + 4 + 4 + 2 + len(topic)
    error, = struct.unpack_from(">h", answer, at)
    if error:
        raise Failed(f"creating {topic}: error {error}")


def _address(bootstrap):
    host, port = bootstrap.rsplit(":", 1)
    return host, int(port)


def _string(text):
    data = text.encode()
    return struct.pack(">h", len(data)) + data


def _exchange(connection, api_key, version, body):
    request = struct.pack(">hhi", api_key, version, 7) + _string("matrix") + body
    connection.sendall(struct.pack(">i", len(request)) + request)
    return _exactly(connection, struct.unpack(">i", _exactly(connection, 4))[0])


def _records(connection, topic, partition, offset):
    limit = 8 << 20
    body = struct.pack(">iiiib", -1, 200, 1, limit, 0) + struct.pack(">i", 1) + _string(topic)
    body += struct.pack(">iiqi", 1, partition, offset, limit)
    answer = _exchange(connection, FETCH, FETCH_VERSION, body)
    # Correlation id, throttle time, one topic, its name, one partition.
    at = 4 + 4 + 4
    at += 2 + struct.unpack_from(">h", answer, at)[0] + 4
    _, error, _, _, aborted = struct.unpack_from(">ihqqi", answer, at)
    at += 26 + max(aborted, 0) * 16
    if error:
        raise Failed(f"fetch of {topic}-{partition} at {offset}: error {error}")
    length, = struct.unpack_from(">i", answer, at)
    return answer[at + 4:at + 4 + max(length, 0)]


def _exactly(connection, count):
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise Failed("the broker closed the connection of a fetch by hand")
        data += more
    return data
