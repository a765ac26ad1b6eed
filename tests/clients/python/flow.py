"""The capabilities of the matrix, once for all Python clients.

A client's file subclasses `Client` (what a capability needs, in the client's own terms) and calls `main`. Each
capability makes its own topics and groups, all of them named after the run. The process ends with 0 if the capability
holds, with 3 and a line `cannot: reason` if the client doesn't have it, else with a traceback.
"""
import dataclasses
import sys
import threading
import time

RECORDS = 40
FILL = "penstock " * 30
DEADLINE_SECONDS = 45


class Cannot(Exception):
    """The client library has no such function."""


class TopicExists(Exception):
    """What create_topic raises for a topic that is there."""


class Refused(Exception):
    """The broker's refusal of an administrative request; the text has the error's name."""


@dataclasses.dataclass
class Record:
    value: bytes
    key: bytes | None = None
    headers: tuple = ()
    partition: int = 0
    timestamp: int | None = None
    offset: int | None = None


class Consumer:
    """A consumer as the flow uses it."""

    def assign(self, topic, partition, position):
        """`position`: "start", "end" or an offset."""
        raise NotImplementedError

    def subscribe(self, topic):
        raise NotImplementedError

    def assignment(self):
        """The partitions held now, as numbers."""
        raise NotImplementedError

    def poll(self, seconds):
        raise NotImplementedError

    def commit(self, topic, partition, offset):
        raise NotImplementedError

    def offset_for_time(self, topic, partition, timestamp):
        """The first offset at or after `timestamp`, None if there is none."""
        raise NotImplementedError

    def close(self):
        raise NotImplementedError


class Client:
    """A client library as the flow uses it. What is not overridden, the library doesn't have."""

    def create_topic(self, topic, partitions, config):
        raise Cannot("has no CreateTopics")

    def list_topics(self):
        raise Cannot("has no list of topics")

    def partition_count(self, topic):
        raise Cannot("does not describe topics")

    def describe_config(self, topic):
        raise Cannot("has no DescribeConfigs")

    def alter_config(self, topic, name, value):
        raise Cannot("has no AlterConfigs")

    def create_partitions(self, topic, total):
        raise Cannot("has no CreatePartitions")

    def delete_topic(self, topic):
        raise Cannot("has no DeleteTopics")

    def list_groups(self):
        raise Cannot("has no ListGroups")

    def describe_group(self, group):
        """(state, number of members)"""
        raise Cannot("has no DescribeGroups")

    def delete_group(self, group):
        raise Cannot("has no DeleteGroups")

    def produce(self, topic, records, codec="none", idempotent=False):
        """Sends all and waits; the offsets, in the order of `records`."""
        raise NotImplementedError

    def consumer(self, group=None):
        raise NotImplementedError


def wait_until(condition, what):
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not so within {DEADLINE_SECONDS} s: {what()}")
        time.sleep(0.05)


def collect(consumer, count):
    """Polls until `count` records came."""
    records = []
    wait_until(lambda: records.extend(consumer.poll(0.5)) or len(records) >= count,
               lambda: f"{count} records, {len(records)} came")
    return records


def expect(actual, expected, what):
    if actual != expected:
        raise AssertionError(f"{what}: {actual!r}, expected {expected!r}")


def values(records):
    return [record.value for record in records]


def numbered(first, end, partition=0):
    return [Record(b"%d" % number, key=b"k%d" % number, partition=partition) for number in range(first, end)]


def fresh(client, topic, partitions=1, config=None):
    client.create_topic(topic, partitions, config or {})
    wait_until(lambda: topic in client.list_topics(), lambda: f"{topic} in the list of topics")
    return topic


def create_topic(client, run):
    topic = fresh(client, run, 3, {"retention.ms": "7654321"})
    expect(client.partition_count(topic), 3, "partitions")
    expect(client.describe_config(topic)["retention.ms"], "7654321", "retention.ms given at creation")
    try:
        client.create_topic(topic, 3, {})
    except TopicExists:
        return
    raise AssertionError("a topic could be created twice")


def matrix_records(codec):
    """What `produce-CODEC` sends; the driver reads it back with another client and expects just these."""
    return [
        Record(f"value-{number} {FILL}".encode(), key=f"key-{number}".encode(), partition=number % 2,
               headers=(("codec", codec.encode()), ("number", str(number).encode())))
        for number in range(RECORDS)
    ]


def produce(client, run, codec, idempotent=False):
    topic = fresh(client, run, 2)
    sent = matrix_records(codec)
    offsets = client.produce(topic, sent, codec, idempotent)
    for partition in range(2):
        here = [offset for record, offset in zip(sent, offsets) if record.partition == partition]
        expect(here, list(range(RECORDS // 2)), f"offsets answered for partition {partition}")
        consumer = client.consumer()
        consumer.assign(topic, partition, "start")
        received = collect(consumer, RECORDS // 2)
        consumer.close()
        wanted = [record for record in sent if record.partition == partition]
        expect([(r.key, r.value, tuple(r.headers)) for r in received],
               [(r.key, r.value, r.headers) for r in wanted], f"records of partition {partition}")
        expect([r.offset for r in received], list(range(RECORDS // 2)), f"offsets of partition {partition}")


def idempotent(client, run):
    produce(client, run, "none", idempotent=True)


def consume_start(client, run):
    topic = fresh(client, run)
    client.produce(topic, numbered(0, 20))
    consumer = client.consumer()
    consumer.assign(topic, 0, "start")
    expect(values(collect(consumer, 20)), values(numbered(0, 20)), "all records in order")
    consumer.assign(topic, 0, 15)
    expect(values(collect(consumer, 5)), values(numbered(15, 20)), "from offset 15")
    consumer.close()


def consume_end(client, run):
    topic = fresh(client, run)
    client.produce(topic, numbered(0, 5))
    consumer = client.consumer()
    consumer.assign(topic, 0, "end")
    received, sent = [], 5
    while not received and sent < 200:
        received += consumer.poll(0.5)
        client.produce(topic, numbered(sent, sent + 1))
        sent += 1
    wait_until(lambda: received.extend(consumer.poll(0.5)) or (received and received[-1].offset == sent - 1),
               lambda: f"records up to {sent - 1}, got {[r.offset for r in received]}")
    consumer.close()
    first = received[0].offset
    if first < 5:
        raise AssertionError(f"from the end, offset {first} was read, which was there before")
    expect(values(received), values(numbered(first, sent)), "records after the end")


def consume_timestamp(client, run):
    topic = fresh(client, run)
    base = 1_700_000_000_000
    records = numbered(0, 10)
    for number, record in enumerate(records):
        record.timestamp = base + number * 1000
    client.produce(topic, records)
    consumer = client.consumer()
    consumer.assign(topic, 0, "start")
    expect([r.timestamp for r in collect(consumer, 10)], [r.timestamp for r in records], "timestamps")
    for asked, offset in ((base - 1, 0), (base + 4000, 4), (base + 4001, 5), (base + 9000, 9), (base + 9001, None)):
        expect(consumer.offset_for_time(topic, 0, asked), offset, f"offset for base + {asked - base} ms")
    consumer.assign(topic, 0, consumer.offset_for_time(topic, 0, base + 6500))
    expect(values(collect(consumer, 3)), values(records[7:]), "records from a time")
    consumer.close()


class Member(threading.Thread):
    """A member of a group in a thread of its own; it notes what it holds and what it got."""

    def __init__(self, client, group, topic):
        super().__init__(daemon=True)
        self.client, self.group, self.topic = client, group, topic
        self.held, self.received, self.error = set(), [], None
        self.ending = threading.Event()
        self.start()

    def run(self):
        try:
            consumer = self.client.consumer(self.group)
            consumer.subscribe(self.topic)
            while not self.ending.is_set():
                self.received += consumer.poll(0.2)
                self.held = set(consumer.assignment())
            consumer.close()
        except Exception as error:
            self.error = error

    def leave(self):
        self.ending.set()
        self.join(DEADLINE_SECONDS)
        self.held = set()
        if self.is_alive():
            raise AssertionError("a member did not leave in time")


def wait_for_shares(members, shares):
    def so():
        for member in members:
            if member.error is not None:
                raise member.error
        held = [partition for member in members for partition in member.held]
        return sorted(len(member.held) for member in members) == shares and sorted(held) == list(range(6))
    wait_until(so, lambda: f"shares {shares}: {[sorted(member.held) for member in members]}")


def group_of_three(client, run):
    topic, group = fresh(client, run, 6), run

    def exchange(members, first):
        sent = [record for partition in range(6) for record in numbered(first + partition * 10, first + partition * 10 + 10, partition)]
        client.produce(topic, sent)
        wanted = sorted(values(sent))

        def got():
            return sorted(r.value for member in everyone for r in member.received if first <= int(r.value) < first + 100)
        wait_until(lambda: len(got()) >= len(wanted), lambda: f"{len(wanted)} records, {len(got())} came")
        expect(got(), wanted, "each record once")
        for member in members:
            strangers = {r.partition for r in member.received if first <= int(r.value) < first + 100} - member.held
            expect(strangers, set(), "partitions that a member does not hold")

    everyone = [Member(client, group, topic)]
    wait_for_shares(everyone, [6])
    exchange(everyone, 0)
    everyone += [Member(client, group, topic), Member(client, group, topic)]
    wait_for_shares(everyone, [2, 2, 2])
    exchange(everyone, 100)
    everyone[0].leave()
    wait_for_shares(everyone[1:], [3, 3])
    exchange(everyone[1:], 200)
    for member in everyone[1:]:
        member.leave()


def offsets_resumed(client, run):
    topic, group = fresh(client, run), run
    client.produce(topic, numbered(0, 20))
    consumer = client.consumer(group)
    consumer.subscribe(topic)
    expect(values(collect(consumer, 10))[:10], values(numbered(0, 10)), "a group's first records")
    consumer.commit(topic, 0, 10)
    consumer.close()
    consumer = client.consumer(group)
    consumer.subscribe(topic)
    expect(values(collect(consumer, 10)), values(numbered(10, 20)), "records after the committed offset")
    consumer.close()


def admin_topics(client, run):
    names = [fresh(client, f"{run}-{number}", number) for number in (1, 4)]
    listed = set(client.list_topics())
    if not set(names) <= listed:
        raise AssertionError(f"{names} missing in {listed}")
    expect([client.partition_count(name) for name in names], [1, 4], "partitions")


def admin_configs(client, run):
    topic = fresh(client, run)
    expect(client.describe_config(topic)["retention.ms"], "604800000", "retention.ms by default")
    client.alter_config(topic, "retention.ms", "123456")
    expect(client.describe_config(topic)["retention.ms"], "123456", "retention.ms after the change")
    try:
        client.alter_config(topic, "retention.ms", "soon")
    except Refused:
        expect(client.describe_config(topic)["retention.ms"], "123456", "retention.ms after a refused change")
        return
    raise AssertionError("a retention.ms of `soon` was accepted")


def admin_groups(client, run):
    topic, group = fresh(client, run), run
    client.produce(topic, numbered(0, 1))
    consumer = client.consumer(group)
    consumer.subscribe(topic)
    collect(consumer, 1)
    consumer.commit(topic, 0, 1)
    if group not in client.list_groups():
        raise AssertionError(f"{group} is not listed")
    expect(client.describe_group(group), ("Stable", 1), "the group while it is used")
    consumer.close()
    wait_until(lambda: client.describe_group(group) == ("Empty", 0), lambda: str(client.describe_group(group)))


def admin_delete_group(client, run):
    topic, group = fresh(client, run), run
    client.produce(topic, numbered(0, 1))
    consumer = client.consumer(group)
    try:
        consumer.subscribe(topic)
        collect(consumer, 1)
        consumer.commit(topic, 0, 1)
        client.delete_group(group)
    except Refused as refusal:
        if "non" not in str(refusal).lower():
            raise AssertionError(f"deleting a used group: {refusal}, expected a non-empty group") from refusal
    else:
        raise AssertionError("a group with a member could be deleted")
    finally:
        consumer.close()
    client.delete_group(group)
    if group in client.list_groups():
        raise AssertionError(f"{group} is listed after its deletion")


def admin_partitions(client, run):
    topic = fresh(client, run)
    client.create_partitions(topic, 3)
    wait_until(lambda: client.partition_count(topic) == 3, lambda: f"{client.partition_count(topic)} partitions")
    expect(client.produce(topic, numbered(0, 1, partition=2)), [0], "the offset in the new partition")
    try:
        client.create_partitions(topic, 2)
    except Refused:
        return
    raise AssertionError("partitions could be taken away")


def admin_delete(client, run):
    topic = fresh(client, run)
    client.delete_topic(topic)
    wait_until(lambda: topic not in client.list_topics(), lambda: f"{topic} is still listed")


CAPABILITIES = {
    "create-topic": create_topic,
    **{f"produce-{codec}": lambda client, run, codec=codec: produce(client, run, codec)
       for codec in ("none", "gzip", "snappy", "lz4", "zstd")},
    "idempotent": idempotent,
    "consume-start": consume_start,
    "consume-end": consume_end,
    "consume-timestamp": consume_timestamp,
    "group-of-three": group_of_three,
    "offsets-resumed": offsets_resumed,
    "admin-topics": admin_topics,
    "admin-configs": admin_configs,
    "admin-groups": admin_groups,
    "admin-delete-group": admin_delete_group,
    "admin-partitions": admin_partitions,
    "admin-delete": admin_delete,
}


def main(client_of):
    """`client_of`: a function from the bootstrap address to a `Client`. Arguments: BOOTSTRAP CAPABILITY RUN."""
    bootstrap, capability, run = sys.argv[1:]
    try:
        CAPABILITIES[capability](client_of(bootstrap), run)
    except Cannot as reason:
        print(f"cannot: {reason}")
        sys.exit(3)
