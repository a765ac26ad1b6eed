"""What consumers see of a log with gaps."""

import subprocess

import reading
from cases_records import pairs, wait_until
from pair import Failure

CONSUMER_WITHIN_S = 60


def log_with_gaps(pair, **config):
    """A compacted log of some 120 offsets: batches that are whole, have gaps at either end or within, or have gone."""
    topic = pair.create(**config)
    for batch in range(12):
        pair.write(topic, pairs([*range(batch, batch + 5), 50 + batch, *range(batch % 3, batch % 3 + 3)], f"b{batch}-"),
                   codec=(0, 0, 1, 3)[batch % 4])
    pair.write(topic, [(b"k52", None), (b"k55", None)])
    pair.compact(topic)
    pair.check_newest(topic)
    pair.check_same(topic)
    return topic


def fetch_at_every_offset(pair):
    """In a gap a consumer gets what comes after it: the same batch, and the same record first."""
    topic = log_with_gaps(pair)
    end = topic.end()
    for max_bytes, what in ((reading.FETCH_BYTES, "at every offset"), (1, "at every offset, a batch at a time")):
        wrong = []
        for offset in range(end + 1):
            one, other = (reading.first_from(side, topic.name, offset, max_bytes=max_bytes) for side in pair.sides)
            if one != other:
                wrong.append(f"at {offset}: {pair.names[0]} {one}, {pair.names[1]} {other}")
        pair.check(f"the same first record {what}", not wrong, *wrong)
    wrong = []
    for offset in range(end + 1):
        one, other = (batches_from(side, topic.name, offset) for side in pair.sides)
        if one != other:
            wrong.append(f"from {offset}: {pair.names[0]} {one}, {pair.names[1]} {other}")
    pair.check("the same batches from every offset on", not wrong, *wrong)
    beyond = [reading.fetch(side, topic.name, end + 1)[0] for side in pair.sides]
    pair.check_equal("a fetch beyond the end is out of range", beyond)


def batches_from(side, topic, offset):
    """The batches with records that one gets from there to the end, and the position that one ends at. A batch whose records
    all come before `offset` is left out: consumers pass over it, and whether it is sent depends on where reading begins."""
    position, found = offset, []
    for batch, position in reading.follow(side, topic, offset):
        if any(record.offset >= offset for record in batch.records):
            found.append((batch.base_offset, batch.last_offset_delta, len(batch.records), batch.delete_horizon is not None))
    return found, position


def offsets_by_time(pair):
    """ListOffsets for every timestamp that a record has or had, and those beside it."""
    topic = log_with_gaps(pair)
    times = sorted({record.timestamp + delta for record in topic.written[0] for delta in (-1, 0, 1)})
    wrong = []
    for timestamp in times:
        one, other = (reading.list_offset(side, topic.name, timestamp) for side in pair.sides)
        if one != other:
            wrong.append(f"at {timestamp}: {pair.names[0]} {one}, {pair.names[1]} {other} (error, offset, timestamp)")
    pair.check(f"the same offset at each of {len(times)} timestamps", not wrong, *wrong)
    for which, what in ((reading.EARLIEST, "earliest"), (reading.LATEST, "latest"), (reading.OF_MAX_TIMESTAMP, "max timestamp")):
        pair.check_equal(f"{what} is the same", [reading.list_offset(side, topic.name, which) for side in pair.sides])


def times_out_of_order(pair):
    """Timestamps that go back: the first record in the log that is late enough, and the latest of all not at the end."""
    topic = pair.create()
    begin = topic.clock
    for batch, after in enumerate((0, 40_000, 10_000, 50_000, 20_000, 5_000)):
        topic.clock = begin + after
        pair.write(topic, pairs([batch, batch + 1, 20 + batch], f"b{batch}-"))
    # It takes k3's and k4's newest records, the latest of them, to a time before.
    topic.clock = begin + 1000
    pair.write(topic, pairs([3, 4], "last"))
    filler = pair.compact(topic, large=True)
    pair.check_newest(topic)
    pair.check_same(topic)
    wrong = []
    for timestamp in sorted({record.timestamp + delta for record in topic.written[0] for delta in (-1, 0, 1)}):
        one, other = (reading.list_offset(side, topic.name, timestamp) for side in pair.sides)
        if one != other:
            wrong.append(f"at {timestamp}: {pair.names[0]} {one}, {pair.names[1]} {other}")
    pair.check("the same offset at each timestamp", not wrong, *wrong)
    latest = [reading.list_offset(side, topic.name, reading.OF_MAX_TIMESTAMP) for side in pair.sides]
    pair.check_equal("max timestamp is the same", latest)
    pair.check("it is a record before the end", latest[0][1] < filler, latest)


class Consumer:
    """Kafka's own consumer in a group, as a process; it prints what it gets."""

    def __init__(self, pair, side, topic):
        self.side, self.topic, self.group = side, topic, f"group-{topic.name}"
        command = [*pair.kafka.java, "org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server",
                   f"127.0.0.1:{side.port}", "--topic", topic.name, "--group", self.group, "--from-beginning",
                   "--consumer-property", "auto.commit.interval.ms=200"]
        for shown in ("print.offset", "print.key", "print.timestamp", "print.headers"):
            command += ["--property", f"{shown}=true"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def is_at_end(self):
        return committed(self.side, self.topic.name, self.group) == self.topic.end()

    def end(self):
        """Ends it in peace; gives the lines that it has printed."""
        self.process.terminate()
        try:
            return self.process.communicate(timeout=CONSUMER_WITHIN_S)[0].splitlines()
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.communicate()[0].splitlines()


def committed(side, topic, group):
    body = {"Groups": [{"GroupId": group, "Topics": [{"Name": topic, "PartitionIndexes": [0]}]}], "RequireStable": False}
    found = side.ask("OffsetFetch", 8, body)["Groups"][0]
    if found["ErrorCode"] or not found["Topics"]:
        raise Failure(f"{side.name} tells no offsets of {group}: {found}")
    return found["Topics"][0]["Partitions"][0]["CommittedOffset"]


def group_reads_to_the_end(pair):
    """Kafka's own consumer gets every record, and its group's offset gets to the end: no lag stays where records went."""
    gaps = log_with_gaps(pair)
    ends = pair.create(delete_retention_ms=0)
    pair.write(ends, pairs([1, 2]))
    pair.write(ends, [(b"k1", None), (b"k2", None)])
    for _ in range(3):
        pair.other.compact_again()
    consumers = [Consumer(pair, side, topic) for topic in (gaps, ends) for side in pair.sides]
    try:
        wait_until(lambda: all(consumer.is_at_end() for consumer in consumers), CONSUMER_WITHIN_S)
    finally:
        printed = [consumer.end() for consumer in consumers]
    one, other = printed[:2]
    pair.check("both groups get the same", one == other and len(one) == len(reading.read(pair.kafka, gaps.name).records),
               *[line for line in one if line not in other], *[line for line in other if line not in one], len(one))
    for consumer in consumers:
        what = "a log with gaps" if consumer.topic is gaps else "one that ends with removed tombstones"
        offset = committed(consumer.side, consumer.topic.name, consumer.group)
        pair.check(f"the group is at the end of {what} at {consumer.side.name}", offset == consumer.topic.end(),
                   f"{offset} of {consumer.topic.end()}")


CASES = (fetch_at_every_offset, offsets_by_time, times_out_of_order, group_reads_to_the_end)
