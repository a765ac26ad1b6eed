"""Retention: nothing goes that Kafka would keep, and what Kafka deletes goes within a stated time (docs/retention.md).

Several logs are written together and watched together: by the rule, by Kafka's log start, and by when each batch goes.
"""

import time

import reading
from cases_policies import delete_records
from cases_readers import CONSUMER_WITHIN_S, Consumer, committed
from cases_records import wait_until
from retaining import Watch, Written, append, batch_at, create, log_starts, now_ms

HOUR_MS = 3_600_000
KEEPS_MS = 2000
OUT_OF_RANGE = 1


def check_whole(pair, *logs):
    """Both have everything from the log start to the end."""
    for log in logs:
        kafka, _ = pair.check_same(log.topic, f"{log.stem}: the same is left")
        wanted = list(range(log_starts(pair.kafka, [log.name])[log.name], log.end))
        there = [record.offset for record in kafka.records if record.offset >= kafka.start]
        pair.check(f"{log.stem}: all of it", there == wanted, f"found {there[:50]}", f"wanted {wanted[:50]}")


def write_together(pair, plans):
    """The first batch of each log, then the second of each. A batch is given by its times."""
    for index in range(max(len(batches) for batches in plans.values())):
        append(pair, *((log, batch_at(*batches[index])) for log, batches in plans.items() if index < len(batches)))


def by_age(pair):
    """By the largest timestamp, from the front: what is too old goes as soon as everything before it does."""
    keeps = {"retention_ms": KEEPS_MS}
    ordered, disordered, future, mixed, none = (
        create(pair, stem, **keeps)
        for stem in ("in-order", "out-of-order", "in-the-future", "within-a-batch", "no-timestamps"))
    appended = create(pair, "append-time", message_timestamp_type="LogAppendTime", **keeps)
    at_once = create(pair, "retention-of-0", retention_ms=0)
    never = create(pair, "retention-of-minus-1")
    infinite = create(pair, "retention-of-50-years", retention_ms=HOUR_MS * 24 * 365 * 50)
    compacted = create(pair, "only-compacted", cleanup_policy="compact", min_compaction_lag_ms=24 * HOUR_MS, **keeps)
    # All in one segment: Kafka keeps the front until the last of it is too old, Penstock goes batch by batch.
    long_segment = create(pair, "one-segment", is_rolled=False, **keeps)
    watch = Watch(pair, ordered, disordered, future, mixed, none, appended, at_once, never, infinite, compacted, long_segment)
    now = now_ms()
    old = now - HOUR_MS
    write_together(pair, {
        ordered: [[old], [old + 1, old + 2], [now - 1000], [now], [now + 500], [now + 1000]],
        # The old ones stay as long as a young one in front of them.
        disordered: [[old], [now], [old], [now - 1500, old], [now + 1500], [old]],
        future: [[old, old], [now + HOUR_MS // 2], [old], [old], [now - 1000]],
        mixed: [[now, old, old], [old, old, now - 1000], [old, now + 1000, old], [old]],
        none: [[-1], [-1, -1], [old], [-1]],
        appended: [[old], [old, old], [now], [now + HOUR_MS // 2], [old], [old]],
        at_once: [[old], [now], [now + 1500], [old], [now + 1000]],
        never: [[old], [1], [-1], [now], [old], [1, old]],
        infinite: [[old], [now], [old, now], [now], [old, old], [old]],
        compacted: [[old], [old], [now], [old], [old], [old]],
        long_segment: [[old], [old], [now], [old], [now + 1000]]})
    watch.until({ordered: 6, disordered: 6, future: 1, mixed: 4, none: 4, appended: 6, at_once: 5, never: 0, infinite: 0,
                 compacted: 0, long_segment: 5})
    check_whole(pair, future, never, infinite, compacted)
    for log in (ordered, appended, future):
        wrong = offsets_by_time(pair, log, [old - 1, old, now - 1000, now, now + HOUR_MS])
        pair.check(f"{log.stem}: the same offset at each timestamp", not wrong, *wrong)
    append(pair, *((log, batch_at(now_ms(), size=10)) for log in watch.logs))
    ends = [reading.list_offset(side, ordered.name, reading.LATEST)[1] for side in pair.sides]
    pair.check("in order: an empty log goes on at its end", ends == [ordered.end] * 2, ends)


def offsets_by_time(pair, log, times):
    """What differs between the answers to ListOffsets."""
    # By append time each broker gives its own.
    compared = 2 if log.topic.has_append_time else 3
    wrong = []
    for at in (*times, reading.EARLIEST, reading.LATEST, reading.OF_MAX_TIMESTAMP):
        one, other = (reading.list_offset(side, log.name, at)[:compared] for side in pair.sides)
        if one != other:
            wrong.append(f"at {at}: {pair.names[0]} {one}, {pair.names[1]} {other} (error, offset, timestamp)")
    return wrong


SIZES = (200, 30, 900, 1, 250, 250, 1500, 100)


def by_size(pair):
    """As long as what stays is not below retention.bytes; by size and by age at once."""
    now = now_ms()
    old, young = now - HOUR_MS, now - 60_000
    batches = [batch_at(young, size=size, codec=index % 2) for index, size in enumerate(SIZES)]
    sizes = [len(batch.encode(-1)) for batch in batches]
    last_3, last_5 = sum(sizes[-3:]), sum(sizes[-5:])
    exact, more, less, zero, large, never = (create(pair, stem, retention_bytes=keeps) for stem, keeps in (
        ("as-many-bytes", last_3), ("a-byte-more", last_3 + 1), ("a-byte-less", last_3 - 1), ("0-bytes", 0),
        ("more-than-there-are", 1 << 40), ("any-number-of-bytes", -1)))
    by_size_first = create(pair, "size-before-age", retention_bytes=last_3, retention_ms=HOUR_MS * 2)
    by_age_first = create(pair, "age-before-size", retention_bytes=last_5, retention_ms=HOUR_MS // 2)
    watch = Watch(pair, exact, more, less, zero, large, never, by_size_first, by_age_first)
    for index, batch in enumerate(batches):
        aged = batch_at(old if index < 6 else young, size=SIZES[index], codec=index % 2)
        append(pair, *((log, batch) for log in watch.logs if log is not by_age_first), (by_age_first, aged))
        watch.sample()
    watch.until({exact: 5, more: 4, less: 5, zero: 8, large: 0, never: 0, by_size_first: 5, by_age_first: 6})
    check_whole(pair, *watch.logs)


def altered(pair):
    """Options of a live topic: raised before anything goes, lowered, and given to a policy that deletes nothing."""
    raised, paused = (create(pair, stem, retention_ms=5000) for stem in ("raised", "no-longer-deleted"))
    lowered, fewer = create(pair, "lowered", retention_ms=HOUR_MS), create(pair, "fewer-bytes", retention_bytes=1 << 30)
    logs = (raised, lowered, fewer, paused)
    watch = Watch(pair, *logs)
    now = now_ms()
    size = len(batch_at(now, size=1000).encode(-1))
    for age_ms in (60_000, 50_000, 10_000, 0):
        late = {raised: now, paused: now}
        append(pair, *((log, batch_at(late.get(log, now - age_ms), size=1000)) for log in logs))
    pair.alter(raised.topic, retention_ms=HOUR_MS)
    pair.alter(paused.topic, cleanup_policy="compact")
    watch.go_on(0.5)
    pair.alter(lowered.topic, retention_ms=30_000)
    pair.alter(fewer.topic, retention_bytes=2 * size)
    # Longer than what the first one was to keep, with all that retention takes.
    watch.until({raised: 0, lowered: 2, fewer: 2, paused: 0}, stays_s=3.5)
    check_whole(pair, raised, lowered, fewer)


def beside_deleted_records(pair):
    """DeleteRecords and retention: the log start is the higher one, and what was deleted doesn't count as kept bytes."""
    now = now_ms()
    size = len(batch_at(now, now, now, size=500).encode(-1))
    aged, sized = create(pair, "age", retention_ms=KEEPS_MS), create(pair, "size", retention_bytes=3 * size)
    kept = create(pair, "kept", retention_ms=HOUR_MS)
    for _ in range(3):
        append(pair, *((log, batch_at(now, now, now, size=500)) for log in (aged, sized, kept)))
    watch = Watch(pair, aged, sized, kept)
    watch.sample()
    for log, offset in ((aged, 4), (sized, 4), (kept, 7)):
        log.deleted = offset
        pair.check_equal(f"{log.stem}: DeleteRecords is taken", delete_records(pair, log.topic, offset))
        watch.sample()
    # The first has gone, of the second a part, so that three more leave one too many.
    for _ in range(3):
        append(pair, *((log, batch_at(now_ms(), now, now, size=500)) for log in (sized, kept)))
        watch.sample()
    watch.until({aged: 3, sized: 3})
    pair.check_equal("kept: a batch that is cut stays", [log_starts(side, [kept.name]) for side in pair.sides])
    check_whole(pair, sized, kept)
    for offset in (2, aged.end, aged.end + 1, -1):
        pair.check_equal(f"age: DeleteRecords at {offset} of an empty log", delete_records(pair, aged.topic, offset))


def while_written(pair):
    """A producer and a consumer go on while the front goes."""
    size = len(batch_at(now_ms(), size=200).encode(-1))
    aged, sized = create(pair, "written-by-age", retention_ms=1500), create(pair, "written-by-size", retention_bytes=10 * size)
    infinite = create(pair, "written-beside")
    watch = Watch(pair, aged, sized, infinite)
    wrong = []
    deadline = time.monotonic() + 3.5
    while time.monotonic() < deadline:
        append(pair, *((log, batch_at(now_ms(), size=200)) for log in watch.logs))
        watch.sample()
        for log in (aged, sized):
            wrong += (f"{side.name}: {log.stem}: {found}" for side in pair.sides if (found := hole_at_start(side, log)))
    pair.check("a consumer at the log start gets each offset, or is told that it has gone", not wrong, *wrong)
    gone = [[start / log.end for start in watch.samples[log.name][-1].starts] for log in (aged, sized)]
    pair.check("a quarter of it went while it was written", all(part > 0.25 for parts in gone for part in parts), gone)
    watch.until({aged: len(aged.batches), sized: len(sized.batches) - 10, infinite: 0}, stays_s=1)
    check_whole(pair, aged, sized, infinite)


def hole_at_start(side, log):
    """What is wrong with a fetch at the log start: nothing if the start has moved on since it was asked for."""
    start = log_starts(side, [log.name])[log.name]
    error, batches = reading.fetch(side, log.name, start)
    offsets = [record.offset for batch in batches for record in batch.records]
    if error == OUT_OF_RANGE:
        moved = log_starts(side, [log.name])[log.name]
        return None if moved > start else f"out of range at its log start {start}"
    is_whole = offsets == list(range(start, start + len(offsets)))
    return None if not error and is_whole else f"error {error}, {offsets[:20]} from {start}"


def consumers(pair):
    """Offsets below the log start: refused, and a group that has committed one begins at the log start."""
    now = now_ms()
    log, infinite = create(pair, "read", retention_ms=HOUR_MS), create(pair, "read-beside")
    for index in range(12):
        times = [(now - 2 * HOUR_MS if index < 5 else now - index) for _ in range(3)]
        append(pair, (log, batch_at(*times)), (infinite, batch_at(*times)))
    for side in pair.sides:
        commit(side, log, 2)
    watch = Watch(pair, log, infinite)
    watch.until({log: 5, infinite: 0}, stays_s=1)
    start = log.end_of(5)
    below = [[reading.fetch(side, log.name, offset) for offset in range(start)] for side in pair.sides]
    pair.check("every fetch below the log start is out of range", below == [[(OUT_OF_RANGE, [])] * start] * 2, below)
    beyond = [[reading.fetch(side, log.name, offset) for offset in (log.end, log.end + 1, -1)] for side in pair.sides]
    pair.check_equal("at the end, and beyond", beyond)
    first = [reading.first_from(side, log.name, start) for side in pair.sides]
    pair.check_equal("the first record from the log start on", first)
    wrong = offsets_by_time(pair, log, [now - 2 * HOUR_MS, now - 2 * HOUR_MS + 1, now - 11, now - 5, now])
    pair.check("the same offset at each timestamp", not wrong, *wrong)
    pair.check_equal("what was committed stays", [committed(side, log.name, group(log)) for side in pair.sides])
    check_whole(pair, log, infinite)
    log.topic.ends[0] = log.end
    both = [Consumer(pair, side, log.topic) for side in pair.sides]
    try:
        wait_until(lambda: all(consumer.is_at_end() for consumer in both), CONSUMER_WITHIN_S)
    finally:
        one, other = (consumer.end() for consumer in both)
    pair.check("a group that was below the log start gets all from there",
               one == other and len(one) == log.end - start, *one[:4], *other[:4])


def group(log):
    return f"group-{log.name}"


def commit(side, log, offset):
    row = {"PartitionIndex": 0, "CommittedOffset": offset, "CommittedMetadata": ""}
    body = {"GroupId": group(log), "GenerationIdOrMemberEpoch": -1, "MemberId": "",
            "Topics": [{"Name": log.name, "Partitions": [row]}]}
    error = side.ask("OffsetCommit", 8, body)["Topics"][0]["Partitions"][0]["ErrorCode"]
    if error:
        raise ValueError(f"{side.name} answers OffsetCommit with error {error}")


def compacted_too(pair):
    """compact,delete: the front goes by age, what was compacted leaves no hole that holds it."""
    # Kafka makes one segment of what it has compacted, and so keeps it until the last of it is too old.
    log = create(pair, "compacted-too", cleanup_policy="compact,delete", retention_ms=4000)
    log.is_rolled = False
    now = now_ms()
    for index in range(8):
        append(pair, (log, batch_at(*[now + 200 * index] * (4 - index % 4))))
    append(pair, (log, batch_at(now + 2000, stem="last")))
    pair.compact_both(log.topic, log.end_of(8))
    kafka, _ = pair.check_same(log.topic, "compacted too: the same is left before anything is too old")
    there = [batch.base_offset for batch in kafka.batches]
    pair.check("compacted too: what is compacted has gone", there == [log.end_of(count) for count in range(4, 9)], there)
    log.batches = [Written(batch.base_offset, batch.end, 0, (batch.max_timestamp,) * 2) for batch in kafka.batches]
    watch = Watch(pair, log)
    watch.until({log: 5}, stays_s=0)
    check_whole(pair, log)


def started_again(pair):
    """Log starts and records outlive the process; what comes to its time afterwards goes afterwards."""
    now = now_ms()
    size = len(batch_at(now, now, size=400).encode(-1))
    aged, sized, infinite = (create(pair, stem, **config) for stem, config in (
        ("aged", {"retention_ms": 3 * HOUR_MS}), ("sized", {"retention_bytes": 2 * size}), ("infinite", {})))
    watch = Watch(pair, aged, sized, infinite)
    for index in range(8):
        at = now - (4 * HOUR_MS if index < 3 else 2 * HOUR_MS if index < 6 else 0)
        append(pair, *((log, batch_at(at, at, size=400)) for log in watch.logs))
        watch.sample()
    watch.until({aged: 3, sized: 6, infinite: 0}, stays_s=0.5)
    before = [log_starts(side, [aged.name, infinite.name]) for side in pair.sides]
    # Nobody has sealed these when Penstock is killed.
    append(pair, *((log, batch_at(now, now, size=400)) for log in watch.logs))
    pair.restart_both()
    for log in watch.logs:
        pair.wait_until_led(log.topic)
    after = [log_starts(side, [aged.name, infinite.name]) for side in pair.sides]
    pair.check("log starts are as before", before == after, before, after)
    check_whole(pair, aged, infinite)
    pair.alter(aged.topic, retention_ms=HOUR_MS)
    watch = Watch(pair, aged, sized, infinite)
    watch.until({aged: 6, sized: 7, infinite: 0}, stays_s=1)
    check_whole(pair, *watch.logs)


CASES = (by_age, by_size, altered, beside_deleted_records, while_written, consumers, compacted_too, started_again)
