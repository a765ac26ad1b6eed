"""The reading of the whole log at the end, through one agent at a time, held against what was sent and acknowledged."""
import struct
import time
import zlib

from board import VALUE_HEAD
from checker import LogCheck, ToldOffsets
from tools import Failed
from wire import Connection, WireError, records

ANSWERS_WITHIN = 60


def asked(connection, question, what):
    """The answer to a question that is repeated until it has no error."""
    deadline = time.monotonic() + ANSWERS_WITHIN
    while True:
        try:
            answer = question(connection)
            trouble = answer[0]
        except (OSError, WireError, struct.error) as failure:
            trouble = failure
        if trouble == 0:
            return answer[1:]
        if time.monotonic() > deadline:
            raise Failed(f"{what} at {connection.address}: {trouble} for {ANSWERS_WITHIN} s")
        time.sleep(0.2)


def end_offsets(address, plan):
    """Of all partitions, as one agent tells them."""
    def question(connection):
        told = connection.list_offsets(plan.topic, list(range(plan.partitions)))
        bad = [error for error, _ in told.values() if error]
        return (bad[0] if bad else 0), [told[partition][1] for partition in range(plan.partitions)]
    connection = Connection(address, 30)
    ends = asked(connection, question, "ListOffsets")[0]
    connection.close()
    return ends


def read_through(name, address, board, ends, anomalies):
    """Reads and checks all partitions at one agent. Of each partition a checksum of what was there, in order."""
    plan, connection = board.plan, Connection(address, 60)
    sums = [_read_partition(name, connection, board, partition, ends[partition], anomalies) for partition in range(plan.partitions)]
    connection.close()
    return sums


def _read_partition(name, connection, board, partition, end, anomalies):
    plan, told = board.plan, board.told
    check, offsets = LogCheck(partition, anomalies, f"{name}, "), ToldOffsets(anomalies)
    checksum, capacity, record_bytes = 0, plan.capacity, plan.record_bytes
    while check.next_offset < end:
        before = check.next_offset
        _, data = asked(connection, lambda at: at.fetch(plan.topic, partition, before), f"Fetch of partition {partition} from {before}")
        for offset, value in records(data):
            if offset < before:
                # A batch is given whole.
                continue
            checksum = zlib.crc32(value, checksum)
            producer, of, number = VALUE_HEAD.unpack_from(value) if len(value) == record_bytes else (-1, -1, -1)
            if of != partition or producer >= plan.producers or number >= capacity:
                check.foreign(offset, f"{len(value)} bytes, {producer}'s {number} of partition {of}")
                continue
            check.feed(offset, producer, number)
            offsets.found(told[(producer * plan.partitions + partition) * capacity + number], partition, offset, producer, number)
        if check.next_offset == before:
            anomalies.add("short-log", f"{name}, partition {partition}: nothing at {before}, it ends at {end}")
            break
    check.finish(board.sent_by(partition), lambda producer, number: told[board.cell(producer, partition) * capacity + number] != 0)
    return checksum


def agree(sums, anomalies):
    """`sums`: agent → checksums. What one agent shows, all show."""
    first, *others = sums
    for name in others:
        for partition, (one, other) in enumerate(zip(sums[first], sums[name])):
            if one != other:
                anomalies.add("inconsistent-offset", f"partition {partition}: {first} and {name} don't show the same records")
