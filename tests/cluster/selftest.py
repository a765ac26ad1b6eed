"""Shows that the checker can fail: histories with something planted in them, each of which it has to name, and healthy ones,
of which it may say nothing."""
import random
import sys
import tempfile

import verify
import wire
from board import BUCKETS, VALUE_HEAD, Board, Plan, bucket, quantile
from checker import Anomalies, Committed, Ends, LogCheck, Position, ToldOffsets, check_all_seen
from fake_agent import FakeAgent, batch

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
    wrong = []
    for name, plant in PLANTED.items():
        for step in range(200):
            draw = random.Random(f"{seed} {name} {step}")
            log, sent = healthy(draw, draw.randrange(30, 120))
            if found_in(log, sent):
                wrong.append(f"a healthy log is called {found_in(log, sent)} (seed {seed}, {step})")
            if name.split(" ", maxsplit=1)[0] not in found_in(plant(draw, list(log)), sent):
                wrong.append(f"{name} is not found (seed {seed}, {step})")
    log, sent = healthy(random.Random(seed), 50)
    if found_in(dense(log[:10] + log[11:]), sent, lambda producer, number: (producer, number) != log[10][1:]):
        wrong.append("a record that was never acknowledged is called lost")
    return wrong


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
    wrong = []
    for check, healthy_one, damaged, name in cases:
        if check(healthy_one).counts:
            wrong.append(f"{check.__name__}: {healthy_one} is called {dict(check(healthy_one).counts)}")
        if set(check(damaged).counts) != {name}:
            wrong.append(f"{check.__name__}: {damaged} is called {dict(check(damaged).counts)}, not {name}")
    return wrong


def check_wire():
    """The reader of batches: offsets and values of one, and what isn't one."""
    whole, wrong = batch(40, (b"one", b"three" * 50)), []
    if list(wire.records(whole + whole[:30])) != [(40, b"one"), (41, b"three" * 50)]:
        wrong.append("a batch is read wrongly")
    compressed, counted, cut = bytearray(whole), bytearray(whole), wire.Reader(whole[:4])
    compressed[22], counted[60] = 4, 3
    for bad in (lambda: list(wire.records(bytes(compressed))), lambda: list(wire.records(bytes(counted))), lambda: cut.bytes(5)):
        try:
            bad()
            wrong.append("what can't be read is read")
        except wire.WireError:
            pass
    return wrong


def check_reading():
    """The whole way of the last check: agents that serve a damaged log, read over the network."""
    with tempfile.TemporaryDirectory(prefix="penstock-selftest-") as directory:
        plan = Plan(directory=directory, topic="t", bootstrap=[], zones=[], names=[], partitions=1, producers=PRODUCERS, rate=0,
                    record_bytes=20, capacity=200, records=0, group="", move_seconds=1, drain_seconds=1)
        log, sent = healthy(random.Random(3), 100)
        board = Board(plan, create=True)
        for producer, count in sent.items():
            board.sent[board.cell(producer, 0)] = count
        for offset, producer, number in log:
            board.told[board.cell(producer, 0) * plan.capacity + number] = offset + 1
        damages = {None: log, "lost-write": dense(log[:20] + log[21:]), "duplicate": dense([*log[:30], log[10], *log[30:]]),
                   "offset-hole": hole(random.Random(4), log), "foreign-record": [*log[:50], (50, PRODUCERS, 0), *log[51:]],
                   # Within one producer's turn nothing is out of order, but not what was told.
                   "inconsistent-offset": _swap_neighbours(log)}
        wrong, first = [], None
        for name, served in damages.items():
            values = [(offset, VALUE_HEAD.pack(producer, 0, number) + b"....") for offset, producer, number in served]
            found, sums = _read(board, values)
            first = first or sums
            verify.agree({"a1": first, "a2": sums}, found)
            if name not in found.counts and (name or found.counts):
                wrong.append(f"an agent that serves {name or 'a healthy log'} is told of: {dict(found.counts)}")
        return wrong


def _read(board, values):
    anomalies, agent = Anomalies(), FakeAgent([values])
    try:
        ends = verify.end_offsets(agent.address, board.plan)
        return anomalies, verify.read_through("a1", agent.address, board, ends, anomalies)
    finally:
        agent.end()


def _swap_neighbours(log):
    """Two records of different producers that stand side by side have changed places."""
    at = next(at for at in range(len(log) - 1) if log[at][1] != log[at + 1][1])
    return dense([*log[:at], log[at + 1], log[at], *log[at + 2:]])


def check_latencies():
    """The histogram's error is that of its buckets."""
    counts = [0] * BUCKETS
    for value in range(1, 1001):
        counts[bucket(value / 1000)] += 1
    return [f"quantile {share} of 1 to 1000 ms is {quantile(counts, share)}" for share in (0.5, 0.99, 1)
            if not share <= quantile(counts, share) <= share * 1.04]


def failures(seed=None):
    """What the self-test finds wrong with the checker; empty if it can be trusted."""
    return check_logs(seed or 1) + check_others() + check_wire() + check_reading() + check_latencies()


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
