"""kcat's cells, and kcat as the reader that checks what other clients produced."""
import json
import re
import shutil
import time

from . import process, wire
from .report import Cannot, Failed

CODECS = wire.CODECS
FILL = "penstock " * 30
STEP_SECONDS = 40


def expect(actual, expected, what):
    if actual != expected:
        raise Failed(f"{what}: {actual!r}, expected {expected!r}")


class Kcat:
    """kcat against one broker."""

    def __init__(self, bootstrap, agents=None):
        """`agents`: the addresses of all agents, where there are several; it is told of one all the same."""
        self.bootstrap, self.agents = bootstrap, agents or [bootstrap]
        self.installed = shutil.which("kcat") is not None

    def version(self):
        """Its own and its library's."""
        _, output, errors = process.run(["kcat", "-V"], STEP_SECONDS, accept=(0, 1))
        found = re.search(r"Version (\S+) .*librdkafka ([\d.]+)", output + errors)
        return f"{found[1]}, librdkafka {found[2]}" if found else "of an unknown version"

    def _arguments(self, *arguments):
        return ["kcat", "-b", self.bootstrap, "-m", "10", *arguments]

    def produce(self, topic, records, *options):
        """`records`: (key, value)"""
        lines = "".join(f"{key}|{value}\n" for key, value in records)
        process.run(self._arguments("-P", "-t", topic, "-K|", *options), STEP_SECONDS, stdin=lines)

    def consume(self, topic, *options, form="%k|%s"):
        """What there is now, a line per record."""
        _, output, _ = process.run(self._arguments("-C", "-e", "-q", "-t", topic, "-f", form + "\\n", *options), STEP_SECONDS)
        return output.splitlines()

    def metadata(self, topic=None):
        _, output, _ = process.run(self._arguments("-L", "-J", *(["-t", topic] if topic else [])), STEP_SECONDS)
        return json.loads(output)

    def reads_back(self, topic, codec):
        """The records of another client's `produce-…` cell, with keys, values and headers."""
        lines = sorted(self.consume(topic, form="%p@%o|%k|%s|%h"))
        expect(lines, sorted(f"{number % 2}@{number // 2}|key-{number}|value-{number} {FILL}|codec={codec},number={number}"
                             for number in range(40)), f"kcat's view of {topic}")


def numbered(first, end):
    return [(f"k{number}", str(number)) for number in range(first, end)]


def lines(first, end):
    return [f"k{number}|{number}" for number in range(first, end)]


def create_topic(kcat, run):
    """kcat has no CreateTopics; producing to a topic that isn't there makes it."""
    kcat.produce(run, numbered(0, 3))
    expect(kcat.consume(run), lines(0, 3), "records of a topic made by producing")


def produce(codec, *options):
    def check(kcat, run):
        kcat.produce(run, [(f"key-{number}", f"value-{number} {FILL}") for number in range(40)],
                     "-p", "0", "-z", codec, "-H", f"codec={codec}", "-H", "empty=", *options)
        expect(kcat.consume(run, form="%p@%o|%k|%s|%h"),
               [f"0@{number}|key-{number}|value-{number} {FILL}|codec={codec},empty=" for number in range(40)], "records")
        wire.check_codec(kcat.bootstrap, run, 1, codec, 40 * len(FILL))
    return check


def consume_start(kcat, run):
    kcat.produce(run, numbered(0, 20), "-p", "0")
    expect(kcat.consume(run, "-o", "beginning"), lines(0, 20), "from the beginning")
    expect(kcat.consume(run, "-p", "0", "-o", "15"), lines(15, 20), "from offset 15")
    expect(kcat.consume(run, "-p", "0", "-o", "-2"), lines(18, 20), "the last two")
    expect(kcat.consume(run, "-p", "0", "-o", "3", "-c", "4"), lines(3, 7), "four from offset 3")


def consume_end(kcat, run):
    kcat.produce(run, numbered(0, 5), "-p", "0")
    arguments = ["kcat", "-b", kcat.bootstrap, "-C", "-u", "-q", "-t", run, "-p", "0", "-o", "end", "-f", "%o %k|%s\\n"]
    with process.Background(arguments) as reader:
        sent = 5
        while not reader.lines and sent < 60:
            kcat.produce(run, numbered(sent, sent + 1), "-p", "0")
            sent += 1
            time.sleep(0.2)
        process.wait_until(lambda: reader.lines and reader.lines[-1].startswith(f"{sent - 1} "), 20,
                           lambda: f"the record at {sent - 1}: {reader.lines} {reader.errors}")
    first = int(reader.lines[0].split()[0])
    if first < 5:
        raise Failed(f"from the end, offset {first} was read, which was there before")
    expect(reader.lines, [f"{number} k{number}|{number}" for number in range(first, sent)], "records after the end")


def consume_timestamp(kcat, run):
    for number in range(3):
        kcat.produce(run, numbered(number, number + 1), "-p", "0")
        time.sleep(0.02)
    stamps = [int(stamp) for stamp in kcat.consume(run, form="%T")]
    expect(stamps, sorted(set(stamps)), "timestamps that grow")
    expect(kcat.consume(run, "-o", f"s@{stamps[1]}"), lines(1, 3), "from the second record's time")
    expect(kcat.consume(run, "-o", f"s@{stamps[0] + 1}"), lines(1, 3), "from just after the first record's time")
    expect(kcat.consume(run, "-o", f"s@{stamps[0]}", "-o", f"e@{stamps[2]}"), lines(0, 2), "up to the third record's time")
    for stamp, offset in ((stamps[2], 2), (stamps[2] + 1, -1), (-1, 3), (-2, 0)):
        _, output, _ = process.run(["kcat", "-b", kcat.bootstrap, "-Q", "-t", f"{run}:0:{stamp}"], STEP_SECONDS)
        # librdkafka gives its mark of the end, -1, where there is no such record.
        found = int(re.search(r"offset (-?\d+)", output)[1])
        expect(found, offset, f"the offset that a query for {stamp} gives")


class Member:
    """A kcat in a group; its standard error tells what it holds."""

    def __init__(self, kcat, group, topic, *options):
        self.running = process.Background(
            ["kcat", "-b", kcat.bootstrap, "-u", "-G", group, "-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=10000",
             "-X", "heartbeat.interval.ms=500", "-X", "auto.commit.interval.ms=200", *options, "-f", "%p %s\\n", topic])

    def held(self):
        for line in reversed(list(self.running.errors)):
            if "rebalanced" in line:
                return [int(at) for at in re.findall(r"\[(\d+)\]", line.split("assigned:")[1])] if "assigned:" in line else []
        return []

    def got(self, first):
        numbers = [line.split() for line in list(self.running.lines) if re.fullmatch(r"\d+ \d+", line)]
        return [(int(partition), int(number)) for partition, number in numbers if first <= int(number) < first + 100]


def wait_for_shares(members, each):
    def so():
        held = [member.held() for member in members]
        return all(len(share) == each for share in held) and sorted(sum(held, [])) == list(range(6))
    process.wait_until(so, STEP_SECONDS, lambda: f"{each} for each: {[member.held() for member in members]}, "
                                                 f"{[member.running.errors[-3:] for member in members]}")


def exchange(kcat, run, everyone, members, first):
    for partition in range(6):
        kcat.produce(run, numbered(first + partition * 10, first + partition * 10 + 10), "-p", str(partition))

    def got():
        return sorted(number for member in everyone for _, number in member.got(first))
    process.wait_until(lambda: len(got()) >= 60, STEP_SECONDS, lambda: f"60 records, {len(got())} came")
    expect(got(), list(range(first, first + 60)), "each record once")
    for member in members:
        expect({partition for partition, _ in member.got(first)} - set(member.held()), set(), "partitions that a member does not hold")


def group_of_three(kcat, run):
    wire.create_topic(kcat.bootstrap, run, 6)
    everyone = [Member(kcat, run, run)]
    try:
        wait_for_shares(everyone, 6)
        exchange(kcat, run, everyone, everyone, 0)
        everyone += [Member(kcat, run, run), Member(kcat, run, run)]
        wait_for_shares(everyone, 2)
        exchange(kcat, run, everyone, everyone, 100)
        everyone[0].running.end()
        wait_for_shares(everyone[1:], 3)
        exchange(kcat, run, everyone, everyone[1:], 200)
    finally:
        for member in everyone:
            member.running.end()


def offsets_resumed(kcat, run):
    kcat.produce(run, numbered(0, 20), "-p", "0")
    for first in (0, 10):
        arguments = ["kcat", "-b", kcat.bootstrap, "-q", "-u", "-G", run, "-c", "10", "-X", "auto.offset.reset=earliest",
                     "-f", "%k|%s\\n", run]
        _, output, _ = process.run(arguments, STEP_SECONDS)
        expect(output.splitlines(), lines(first, first + 10), "ten records of a group")


def admin_topics(kcat, run):
    kcat.produce(run, numbered(0, 1))
    cluster = kcat.metadata()
    if run not in [topic["topic"] for topic in cluster["topics"]]:
        raise Failed(f"{run} is not listed")
    expect(sorted(broker["name"] for broker in cluster["brokers"]), sorted(kcat.agents), "brokers")
    [topic] = kcat.metadata(run)["topics"]
    partitions = topic["partitions"]
    expect([partition["partition"] for partition in partitions], list(range(len(partitions))), "partitions")


def cannot(what):
    def check(_kcat, _run):
        raise Cannot(f"has no {what}")
    return check


CELLS = {
    "create-topic": create_topic,
    **{f"produce-{codec}": produce(codec) for codec in CODECS},
    "idempotent": produce("none", "-X", "enable.idempotence=true"),
    "consume-start": consume_start,
    "consume-end": consume_end,
    "consume-timestamp": consume_timestamp,
    "group-of-three": group_of_three,
    "offsets-resumed": offsets_resumed,
    "admin-topics": admin_topics,
    "admin-configs": cannot("DescribeConfigs"),
    "admin-groups": cannot("ListGroups"),
    "admin-delete-group": cannot("DeleteGroups"),
    "admin-partitions": cannot("CreatePartitions"),
    "admin-delete": cannot("DeleteTopics"),
}
