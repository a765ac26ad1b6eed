"""A topic's options: what may be written, when records may go, and what else removes them."""

import time

import reading
from cases_records import pairs, wait_until

POLICY_VIOLATION, INVALID_RECORD = 44, 87
HOUR_MS = 3_600_000
RETENTION_WITHIN_S = 30


def null_keys(pair):
    topic = pair.create()
    pair.write(topic, pairs([1, 2]))
    alone = pair.produce(topic, pair.batch(topic, [(None, b"v")]))
    pair.check_equal("a record without key is refused", alone)
    pair.check("as an invalid record", alone[0][0] == INVALID_RECORD, alone)
    among = pair.produce(topic, pair.batch(topic, [(b"a", b"v"), (None, b"v"), (b"b", b"v")]))
    pair.check_equal("its batch is refused", among)
    packed = pair.produce(topic, pair.batch(topic, [(b"a", b"v"), (None, None)], codec=1))
    pair.check_equal("so is a packed batch", packed)
    logs = pair.read(topic)
    pair.check("nothing of them is there", [log.end for log in logs] == [2, 2], *logs)


def minimum_lag(pair):
    """min.compaction.lag.ms: what is young stays, and takes nothing of the old away."""
    topic = pair.create(begins_before_ms=3 * HOUR_MS, min_compaction_lag_ms=HOUR_MS)
    pair.write(topic, pairs([1, 2, 1, 3]))
    pair.write(topic, pairs([2, 4]))
    old_end = pair.fill(topic) + 1
    topic.clock = int(time.time() * 1000) - HOUR_MS // 4
    young = pair.write(topic, pairs([3, 5, 5, 3], "young"))
    filler = pair.fill(topic)
    pair.compact_both(topic, old_end)
    kafka, _ = pair.check_same(topic)
    there = [record.offset for record in kafka.records]
    pair.check("the old ones are compacted among themselves", there[:5] == [2, 3, 4, 5, old_end - 1], there)
    pair.check("all young ones stay", there[5:] == [*range(young, filler + 1)], there)
    pair.alter(topic, min_compaction_lag_ms=0)
    pair.compact(topic)
    pair.check_newest(topic, "without the lag all is compacted")
    pair.check_same(topic, "the same is left without the lag")


def maximum_lag(pair):
    """max.compaction.lag.ms: compacted however little there is to gain."""
    topic = pair.create(min_cleanable_dirty_ratio="1.0", max_compaction_lag_ms=1000)
    pair.write(topic, pairs([1, 2, 1, 3]))
    pair.write(topic, pairs([3, 4]))
    pair.compact(topic)
    pair.check_newest(topic)
    pair.check_same(topic)


def wait_for_starts(pair, topic, start):
    """Until both logs begin there."""
    def starts():
        return [reading.list_offset(side, topic.name, reading.EARLIEST)[1] for side in pair.sides]
    wait_until(lambda: starts() == [start, start], RETENTION_WITHIN_S)
    pair.check("both logs begin behind what is too old", starts() == [start, start], f"{starts()}, expected {start}")


def retention_beside(pair):
    """compact,delete: what is too old goes, what isn't is compacted."""
    topic = pair.create(begins_before_ms=5 * HOUR_MS, cleanup_policy="compact,delete", retention_ms=2 * HOUR_MS)
    pair.write(topic, pairs([1, 2, 3]))
    pair.write(topic, pairs([4, 5]))
    topic.clock = int(time.time() * 1000) - HOUR_MS
    young = pair.write(topic, pairs([1, 2, 1], "young"))
    wait_for_starts(pair, topic, young)
    pair.write(topic, pairs([2, 6], "young"))
    pair.compact(topic)
    kafka, _ = pair.check_same(topic)
    there = [record.offset for record in kafka.records]
    pair.check("only the newest of the young ones is left", there[:3] == [young + 2, young + 3, young + 4], there)


def delete_records(pair, topic, offset):
    row = {"Name": topic.name, "Partitions": [{"PartitionIndex": 0, "Offset": offset}]}
    answers = pair.ask("DeleteRecords", 2, {"Topics": [row], "TimeoutMs": 20000})
    rows = [answer["Topics"][0]["Partitions"][0] for answer in answers]
    return [(row["ErrorCode"], row["LowWatermark"]) for row in rows]


def deleting_where_only_compacted(pair):
    topic = pair.create()
    pair.write(topic, pairs([1, 2, 1]))
    for offset in (1, -1):
        answers = delete_records(pair, topic, offset)
        pair.check_equal(f"DeleteRecords up to {offset} is refused", answers)
        pair.check("it violates the policy", answers[0][0] == POLICY_VIOLATION, answers)
    pair.compact(topic)
    logs = pair.check_same(topic)
    pair.check("the log begins at 0", logs[0].start == 0)


def deleting_where_deleted_too(pair):
    """DeleteRecords under compact,delete: into a gap, at a record, to the end."""
    topic = pair.create(cleanup_policy="compact,delete")
    for batch in range(6):
        pair.write(topic, pairs(range(batch, batch + 5), f"b{batch}-"))
    filler = pair.compact(topic)
    kafka, _ = pair.check_same(topic)
    there = [record.offset for record in kafka.records]
    gap = next(offset for offset in range(3, filler) if offset not in there)
    for offset, what in ((gap, "into a gap"), (there[3], "up to a record"), (there[5] + 1, "behind a record")):
        pair.check_equal(f"DeleteRecords {what} moves the log start", delete_records(pair, topic, offset))
        logs = pair.check_same(topic, f"the same is left of a log cut {what}")
        pair.check(f"the log begins there, {what}", logs[0].start == offset, logs[0].start)
        first = [reading.first_from(side, topic.name, offset) for side in pair.sides]
        pair.check_equal(f"reading from there begins with the same record, {what}", first)
    below = [reading.fetch(side, topic.name, gap)[0] for side in pair.sides]
    pair.check_equal("a fetch before it is out of range", below)
    pair.write(topic, pairs([1, 2, 1], "later"))
    pair.compact(topic)
    pair.check_same(topic, "the same is left after more was written")
    pair.check_equal("DeleteRecords up to the end empties the log", delete_records(pair, topic, -1))
    pair.check_same(topic, "nothing is left on both")


def policy_changed(pair):
    """delete, then compact, then delete, then compact."""
    topic = pair.create(cleanup_policy="delete")
    pair.write(topic, [(b"a", b"1"), (None, b"keyless"), (b"b", b"1"), (b"a", b"2")])
    pair.write(topic, [(None, b"keyless"), (None, None)])
    pair.write(topic, [(b"c", None), (b"b", b"2")])
    pair.fill(topic)
    filler = pair.fill(topic)
    pair.other.compact_again()
    logs = pair.check_same(topic, "nothing goes while the policy is delete")
    pair.check("all is there", len(logs[0].records) == filler + 1)
    pair.alter(topic, cleanup_policy="compact")
    pair.compact_both(topic, filler)
    logs = pair.check_same(topic, "the same is left once it is compact")
    pair.check("records without key have gone", all(record.key is not None for record in logs[0].records))
    refused = pair.produce(topic, pair.batch(topic, [(None, b"v")]))
    pair.check_equal("records without key are refused now", refused)
    pair.alter(topic, cleanup_policy="delete")
    pair.write(topic, [(None, b"keyless"), (b"a", b"3"), (b"a", b"4")])
    filler = pair.fill(topic)
    pair.other.compact_again()
    pair.check_same(topic, "nothing goes once it is delete again")
    cut = delete_records(pair, topic, 1)
    pair.check_equal("DeleteRecords is taken", cut)
    pair.alter(topic, cleanup_policy="compact")
    pair.compact_both(topic, filler)
    logs = pair.check_same(topic, "the same is left once it is compact again")
    pair.check("of a key only the newest", [record.value for record in logs[0].records if record.key == b"a"] == [b"4"])


CASES = (null_keys, minimum_lag, maximum_lag, retention_beside, deleting_where_only_compacted, deleting_where_deleted_too,
         policy_changed)
