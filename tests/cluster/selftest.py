"""Shows that the checker can fail: histories with something planted in them, each of which it has to name, and healthy ones,
of which it may say nothing."""
import random
import struct
import sys

import wire
from board import BUCKETS, bucket, quantile
from checker import Anomalies, Committed, Ends, LogCheck, Position, ToldOffsets, check_all_seen

PRODUCERS = 3


def healthy(draw, count):
    """A log as [(offset, producer, number)], and how many each producer sent."""
    numbers = [0] * PRODUCERS
    log = []
    for offset in range(count):
        producer = draw.randrange(PRODUCERS)
        log.append((offset, producer, numbers[producer]))
        numbers[producer] += 1
    return log, dict(enumerate(numbers))


def dense(log):
    """The same records at the offsets from 0 on."""
    return [(offset, producer, number) for offset, (_, producer, number) in enumerate(log)]


def found_in(log, sent, acknowledged=lambda *_: True):
    """The names of what the checker finds."""
    anomalies = Anomalies()
    check = LogCheck(0, anomalies)
    for record in log:
        check.feed(*record)
    check.finish(sent, acknowledged)
    return set(anomalies.counts)


def lost(draw, log):
    """One record fewer."""
    log.pop(draw.randrange(len(log)))
    return dense(log)


def lost_tail(_draw, log):
    """The last ones are gone."""
    return log[:-2]


def duplicated(draw, log):
    """One record is there again, later."""
    at = draw.randrange(len(log))
    log.insert(draw.randrange(at + 1, len(log) + 1), log[at])
    return dense(log)


def reordered(draw, log):
    """Two records of one producer have changed places."""
    at = draw.randrange(len(log))
    of_same = [other for other, record in enumerate(log) if record[1] == log[at][1] and other != at]
    other = draw.choice(of_same)
    log[at], log[other] = log[other], log[at]
    return dense(log)


def hole(draw, log):
    """Offsets jump."""
    at = draw.randrange(1, len(log))
    return log[:at] + [(offset + 1, producer, number) for offset, producer, number in log[at:]]


def back(draw, log):
    """Offsets go back: two records have one."""
    at = draw.randrange(1, len(log))
    return log[:at] + [(offset - 1, producer, number) for offset, producer, number in log[at:]]


PLANTED = {"lost-write": lost, "lost-write at the end": lost_tail, "duplicate": duplicated, "reordered": reordered,
           "offset-hole": hole, "nonmonotonic-poll": back}


def check_logs(seed):
    """Each kind of damage, many times at random places; names of what failed."""
    failures = []
    for name, plant in PLANTED.items():
        for step in range(200):
            draw = random.Random(f"{seed} {name} {step}")
            log, sent = healthy(draw, draw.randrange(30, 120))
            if found_in(log, sent):
                failures.append(f"a healthy log is called {found_in(log, sent)} (seed {seed}, {step})")
            if name.split(" ", maxsplit=1)[0] not in found_in(plant(draw, list(log)), sent):
                failures.append(f"{name} is not found (seed {seed}, {step})")
    log, sent = healthy(random.Random(seed), 50)
    if found_in(dense(log[:10] + log[11:]), sent, lambda producer, number: (producer, number) != log[10][1:]):
        failures.append("a record that was never acknowledged is called lost")
    return failures


def check_others():
    """Offsets told, ends, committed offsets, groups: what each finds in (right, wrong) histories."""
    def told(history):
        anomalies = Anomalies()
        for offset, kept in history:
            ToldOffsets(anomalies).found(kept, 0, offset, 0, 0)
        return anomalies

    def ends(history):
        anomalies = Anomalies()
        end = Ends(0, anomalies)
        for acknowledged, answer in history:
            end.answered("a1", end.floor(acknowledged), answer)
        return anomalies

    def committed(history):
        anomalies = Anomalies()
        seen = Committed(anomalies)
        for offset in history:
            seen.seen(0, offset)
        return anomalies

    def position(history):
        anomalies = Anomalies()
        polled = Position(0, anomalies)
        for offset in history:
            polled.polled(offset)
        return anomalies

    def seen(history):
        anomalies = Anomalies()
        check_all_seen(memoryview(bytes(history)), 4, 0, anomalies)
        return anomalies

    cases = [
        (told, [(5, 6), (6, -1), (7, 0)], [(5, 7)], "inconsistent-offset"),
        (ends, [(0, 3), (3, 3), (4, 7), (7, 7)], [(0, 3), (0, 2)], "end-went-back"),
        (ends, [(5, 5)], [(5, 4)], "end-went-back"),
        (committed, [None, 0, 4, 4, 9], [None, 4, 3], "committed-went-back"),
        (committed, [None, 4], [4, None], "committed-went-back"),
        (position, [7, 8, 9], [7, 9], "poll-skip"),
        (position, [7, 8], [7, 8, 8], "nonmonotonic-poll"),
        (seen, [1, 1, 1, 1, 0], [1, 1, 0, 1, 1], "unseen"),
    ]
    failures = []
    for check, right, wrong, name in cases:
        if check(right).counts:
            failures.append(f"{check.__name__}: {right} is called {dict(check(right).counts)}")
        if set(check(wrong).counts) != {name}:
            failures.append(f"{check.__name__}: {wrong} is called {dict(check(wrong).counts)}, not {name}")
    return failures


def check_wire():
    """The reader of batches: offsets and values of one that is made by hand, byte by byte, and what isn't one."""
    # Length, attributes, time delta, offset delta, key length -1, value length, value, no headers; all are zigzag varints.
    body = b"".join(bytes([2 * (6 + len(value)), 0, 0, 2 * delta, 1, 2 * len(value)]) + value + b"\0"
                    for delta, value in enumerate((b"one", b"three")))

    def batch(attributes=0, count=2):
        return wire.BATCH_HEAD.pack(40, wire.BATCH_HEAD.size - 12 + len(body), 0, 2, 0, attributes, 1, 0, 0, -1, -1, -1, count) + body
    failures = []
    if list(wire.records(batch() + batch()[:30])) != [(40, b"one"), (41, b"three")]:
        failures.append("a batch is read wrongly")
    for bad in (batch(attributes=4), batch(count=3)):
        try:
            list(wire.records(bad))
            failures.append("a batch that can't be read is read")
        except wire.WireError:
            pass
    try:
        struct.unpack(">i", wire.Reader(b"\0\0\0\1").bytes(5))
        failures.append("more is read than there is")
    except wire.WireError:
        pass
    return failures


def check_latencies():
    """The histogram's error is that of its buckets."""
    counts = [0] * BUCKETS
    for value in range(1, 1001):
        counts[bucket(value / 1000)] += 1
    return [f"quantile {share} of 1 to 1000 ms is {quantile(counts, share)}" for share in (0.5, 0.99, 1)
            if not share <= quantile(counts, share) <= share * 1.04]


def failures(seed=None):
    """What the self-test finds wrong with the checker; empty if it can be trusted."""
    return check_logs(seed or 1) + check_others() + check_wire() + check_latencies()


def main(seed=None):
    """The exit code."""
    wrong = failures(seed)
    for failure in wrong:
        print(f"FAILED  checker: {failure}")
    if not wrong:
        print(f"ok      checker: finds {', '.join(PLANTED)}, and more in ends, offsets told and groups")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
