"""Tombstones: how long they stay, and what goes with them."""

import time

import reading
from cases_records import pairs

LONG_MS = 86_400_000
SHORT_MS = 6_000
HORIZON_WITHIN_MS = 120_000


def check_horizons(pair, logs, retention_ms):
    """Both decided just now when tombstones go, and wrote it into the batches' heads."""
    goes = time.time() * 1000 + retention_ms
    for name, log in zip(pair.names, logs):
        horizons = [batch.delete_horizon for batch in log.batches if batch.delete_horizon is not None]
        is_near = bool(horizons) and all(abs(horizon - goes) < HORIZON_WITHIN_MS for horizon in horizons)
        pair.check(f"{name} says when they go", is_near, f"horizons {horizons}, expected about {goes:.0f}")


def tombstones(log):
    return [record.offset for record in log.records if record.value is None]


def kept_while_retained(pair):
    topic = pair.create(delete_retention_ms=LONG_MS)
    pair.write(topic, pairs(range(6)))
    pair.write(topic, [(b"k0", None), (b"k2", None), (b"k3", b"new")])
    pair.write(topic, [(b"k5", None)])
    pair.write(topic, pairs([7, 8]))
    pair.compact(topic)
    pair.check_newest(topic)
    logs = pair.check_same(topic)
    pair.check("they are there", tombstones(logs[0]) == [6, 7, 9], tombstones(logs[0]))
    check_horizons(pair, logs, LONG_MS)
    pair.write(topic, pairs([8, 9]))
    pair.compact(topic)
    pair.check_same(topic, "the same is left after a second compaction")
    again = [[batch.delete_horizon for batch in log.batches[:2]] for log in pair.read(topic)]
    first = [[batch.delete_horizon for batch in log.batches[:2]] for log in logs]
    pair.check("what was said of when they go stays", again == first, f"{first} became {again}")


def gone_after_retention(pair):
    topic = pair.create(delete_retention_ms=SHORT_MS)
    pair.write(topic, pairs(range(6)))
    pair.write(topic, [(b"k0", None), (b"k2", None), (b"k3", b"new")])
    pair.write(topic, [(b"k4", None)])
    pair.compact(topic)
    decided = time.monotonic()
    logs = pair.check_same(topic, "they stay at first")
    pair.check("they are there", tombstones(logs[0]) == [6, 7, 9], tombstones(logs[0]))
    check_horizons(pair, logs, SHORT_MS)
    # From here on they may go: at the next compaction, which Kafka begins when there is something to clean.
    time.sleep(max(0, SHORT_MS / 1000 + 1 - (time.monotonic() - decided)))
    pair.write(topic, pairs([10, 11]))
    pair.compact(topic)
    logs = pair.check_same(topic, "they have gone")
    pair.check("none is left", not tombstones(logs[0]), tombstones(logs[0]))
    # k3's batch has lost its tombstones, and still says when they would go.
    pair.check("what was with them stays", 8 in [record.offset for record in logs[0].records])


def without_retention(pair):
    """delete.retention.ms=0: they outlive one compaction, so that whoever reads meanwhile sees them."""
    topic = pair.create(delete_retention_ms=0)
    pair.write(topic, pairs(range(4)))
    pair.write(topic, [(b"k0", None), (b"k1", None)])
    pair.compact(topic)
    logs = pair.check_same(topic, "they outlive the first compaction")
    pair.check("they are there", tombstones(logs[0]) == [4, 5], tombstones(logs[0]))
    time.sleep(0.1)
    pair.write(topic, pairs([5]))
    pair.compact(topic)
    logs = pair.check_same(topic, "the second one removes them")
    pair.check("none is left", not tombstones(logs[0]), tombstones(logs[0]))


def overwritten(pair):
    """A value after a tombstone, a tombstone after a tombstone, one for a key that never was."""
    topic = pair.create()
    pair.write(topic, [(b"a", b"1"), (b"b", b"1"), (b"c", b"1")])
    pair.write(topic, [(b"a", None), (b"b", None), (b"never", None)])
    pair.write(topic, [(b"a", b"2"), (b"b", None)])
    pair.compact(topic)
    pair.check_newest(topic)
    pair.check_same(topic)


def overwritten_later(pair):
    """A tombstone that was kept goes when its key is written again; its batch remembers when tombstones go."""
    topic = pair.create()
    pair.write(topic, [(b"a", b"1"), (b"b", b"1"), (b"c", b"1")])
    pair.write(topic, [(b"a", None), (b"d", b"1"), (b"b", None)])
    pair.compact(topic)
    pair.check_same(topic)
    pair.write(topic, [(b"a", b"2"), (b"b", b"2")])
    pair.compact(topic)
    pair.check_newest(topic)
    pair.check_same(topic, "the same is left after a second compaction")


def nothing_but_tombstones(pair):
    topic = pair.create(delete_retention_ms=0)
    for batch in range(3):
        pair.write(topic, [(f"k{key}".encode(), None) for key in range(batch, batch + 4)])
    pair.compact(topic)
    pair.check_newest(topic)
    pair.check_same(topic)
    time.sleep(0.1)
    pair.compact(topic)
    logs = pair.check_same(topic, "the second compaction leaves none")
    pair.check("none is left", not tombstones(logs[0]), tombstones(logs[0]))


def in_packed_batches(pair):
    topic = pair.create(delete_retention_ms=0)
    for codec in (1, 2, 3):
        pair.write(topic, [(f"a{codec}".encode(), b"1"), (f"b{codec}".encode(), None), (f"c{codec}".encode(), b"1")], codec=codec)
    pair.compact(topic)
    pair.check_newest(topic)
    pair.check_same(topic)
    time.sleep(0.1)
    pair.write(topic, [(b"c2", b"2")])
    pair.compact(topic)
    pair.check_same(topic, "the same is left after a second compaction")


def at_the_end(pair):
    """The log ends with a tombstone. Kafka doesn't touch the segment that it writes; where the last record is removed, the log
    must end where it did, consumers get there, and the next record comes after."""
    topic = pair.create(delete_retention_ms=0)
    pair.write(topic, pairs([1, 2]))
    pair.write(topic, [(b"k1", None), (b"k2", None)])
    for _ in range(3):
        pair.other.compact_again()
        time.sleep(0.1)
    logs = pair.read(topic)
    for name, log in zip(pair.names, logs):
        pair.check(f"{name}'s log ends where it did", (log.start, log.end) == (0, 4), f"{log.start} to {log.end}")
        pair.check(f"consumers get to the end at {name}", log.position == 4, f"position {log.position}")
    pair.check_equal("one asked for later finds the end", [reading.list_offset(side, topic.name, -1) for side in pair.sides])
    base = pair.write(topic, pairs([3]))
    pair.check("the next record comes after it", base == 4, base)
    read = [reading.first_from(side, topic.name, 4) for side in pair.sides]
    pair.check_equal("it is read from there", read)


CASES = (kept_while_retained, gone_after_retention, without_retention, overwritten, overwritten_later, nothing_but_tombstones,
         in_packed_batches, at_the_end)
