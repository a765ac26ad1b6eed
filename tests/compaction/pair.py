"""The two brokers side by side: the same topics, the same writes, and compaction of both up to the same offset."""

import subprocess
import time
from dataclasses import dataclass, field

import reading
from brokers import warm_up
from codec import NULL_UUID
from records import Batch, Record, Records
from sides import Side

# Kafka rolls a segment when a record is that much later than the segment's first, which is how a filler makes it roll.
SEGMENT_MS = 60_000
FILLER_AFTER_MS = 2 * SEGMENT_MS
# As much as fits into a batch, for topics where time doesn't roll: a segment can't be larger than that.
SEGMENT_BYTES, LARGE_FILLER_BYTES = 1 << 20, (1 << 20) - 200
# Far enough in the past that no filler is in the future.
BEGINS_BEFORE_MS = 6 * 3_600_000
CLEANED_WITHIN_S = 60
LEADS_WITHIN_S = 20
SETTINGS_APPLY_WITHIN_S = 0.8
# How long the other broker may go on to differ.
EQUAL_WITHIN_S, EQUAL_WITHIN_S_AFTER_FAILURES = 12, 2
PATIENT_FAILURES = 3
CONFIG = {"cleanup.policy": "compact", "segment.ms": str(SEGMENT_MS), "segment.bytes": str(SEGMENT_BYTES),
          "min.cleanable.dirty.ratio": "0.01", "delete.retention.ms": "86400000", "retention.ms": "-1"}


class Failure(Exception):
    """The brokers can't be compared any further in this case."""


class KafkaSide(Side):
    """Apache Kafka: its cleaner runs by itself over all segments but the active one."""

    def __init__(self, name, broker, messages):
        super().__init__(name, broker.port, messages)
        self.broker = broker
        self.checkpoint = broker.data / "log" / "cleaner-offset-checkpoint"
        self.java = broker.java

    def compact(self, topic, partition, up_to):
        """Waits until it has cleaned everything below `up_to`, as it writes down once new segments are in place."""
        deadline = time.monotonic() + CLEANED_WITHIN_S
        while self.cleaned(topic, partition) < up_to:
            if time.monotonic() > deadline:
                raise Failure(f"{self.name} doesn't clean {topic}-{partition} up to {up_to}")
            time.sleep(0.02)

    def cleaned(self, topic, partition):
        try:
            lines = self.checkpoint.read_text().splitlines()[2:]
        except FileNotFoundError:
            return -1
        rows = (line.rsplit(" ", 2) for line in lines)
        return next((int(offset) for name, index, offset in rows if (name, int(index)) == (topic, partition)), -1)

    def restart(self):
        """In peace: one that was killed isn't let in again before its session has run out."""
        self.broker.process.terminate()
        self.broker.process.wait()
        self.broker.start()

    def compact_again(self):
        """Nothing: it cleans when there is something to clean."""

    def rest(self):
        pass

    def go_on(self):
        pass


class PenstockSide(Side):
    """Penstock: its job runs when it is told to, so that both are compacted at the same moments."""

    def __init__(self, name, broker, messages):
        super().__init__(name, broker.port, messages)
        self.broker = broker

    def compact(self, _topic, _partition, _up_to):
        self.jobs("run", "compact")

    def restart(self):
        """Killed, so that nothing is put in order before."""
        self.broker.stop()
        self.broker.start()

    def compact_again(self):
        self.jobs("run", "compact")

    def rest(self):
        self.jobs("pause", "compact", "--for", "1h")

    def go_on(self):
        self.jobs("resume", "compact")

    def jobs(self, *arguments):
        command = [self.broker.binary, "jobs", *arguments, "--agent-http", f"127.0.0.1:{self.broker.http}"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
                              env=self.broker.environment, check=False)
        if done.returncode:
            raise Failure(f"penstock jobs {' '.join(arguments)}: {(done.stderr or done.stdout).strip()[-400:]}")


@dataclass
class Topic:
    """A topic on both, and the time at which its next record is written."""

    name: str
    config: dict
    clock: int
    fillers: int = 0
    ends: dict = field(default_factory=dict)
    # Per partition the records that were written, as Kafka numbered them.
    written: dict = field(default_factory=dict)

    def end(self, partition=0):
        return self.ends.get(partition, 0)

    @property
    def has_append_time(self):
        return self.config.get("message.timestamp.type") == "LogAppendTime"


class Pair:
    """Kafka, and what is compared with it."""

    def __init__(self, kafka, other, report):
        self.kafka, self.other, self.report = kafka, other, report
        self.sides = (kafka, other)
        self.case, self.topics = "", 0

    @property
    def names(self):
        return [side.name for side in self.sides]

    # What is checked.

    def check(self, what, is_right, *details):
        self.report.check(f"{self.case}: {what}", bool(is_right))
        if not is_right:
            for line in details[:12]:
                print(f"    {line}")

    def check_equal(self, what, answers):
        """One answer of each side."""
        one, other = answers
        self.check(what, one == other, f"{self.names[0]}: {one}", f"{self.names[1]}: {other}")

    def check_same(self, topic, what="the same is left", partition=0):
        """Both have the same left. What the other one compacts late it may compact while this waits."""
        is_patient = self.report.failed < PATIENT_FAILURES
        deadline = time.monotonic() + (EQUAL_WITHIN_S if is_patient else EQUAL_WITHIN_S_AFTER_FAILURES)
        while True:
            logs = self.read(topic, partition)
            found = list(reading.differences(*logs, self.names, not topic.has_append_time))
            if not found or time.monotonic() > deadline:
                break
            self.other.compact_again()
            time.sleep(0.3)
        self.check(what, not found, *found)
        return logs

    def check_newest(self, topic, what="of each key only the newest is left", partition=0):
        """Compares Kafka with what was written, so that no comparison passes because nothing was compacted."""
        newest = {record.key: record for record in topic.written.get(partition, ())}
        wanted = sorted(newest.values(), key=lambda record: record.offset)
        found = reading.read(self.kafka, topic.name, partition).records
        self.check(what, [record.offset for record in found] == [record.offset for record in wanted],
                   f"found {[record.offset for record in found][:50]}", f"wanted {[record.offset for record in wanted][:50]}")

    def read(self, topic, partition=0):
        return [reading.read(side, topic.name, partition) for side in self.sides]

    # What is done to both.

    def ask(self, api, version, body):
        """The same of both; an answer of each."""
        return [side.ask(api, version, body) for side in self.sides]

    def create(self, stem="", partitions=1, begins_before_ms=BEGINS_BEFORE_MS, **config):
        """A compacted topic; options are given with `_` for `.`."""
        self.topics += 1
        given = {key.replace("_", "."): str(value) for key, value in config.items()}
        name = f"compacted-{self.topics}{'-' + stem if stem else ''}"
        topic = Topic(name, {**CONFIG, **given}, int(time.time() * 1000) - begins_before_ms)
        rows = [{"Name": key, "Value": value} for key, value in sorted(topic.config.items())]
        body = {"Topics": [{"Name": name, "NumPartitions": partitions, "ReplicationFactor": 1, "Configs": rows}],
                "TimeoutMs": 10000}
        for side, answer in zip(self.sides, self.ask("CreateTopics", 7, body)):
            row = answer["Topics"][0]
            if row["ErrorCode"] or row["TopicId"] == NULL_UUID:
                raise Failure(f"{side.name} doesn't create the topic: {row['ErrorCode']} {row['ErrorMessage']}")
        self.wait_until_led(topic, partitions)
        return topic

    def alter(self, topic, **config):
        """Sets options of a topic."""
        given = {key.replace("_", "."): str(value) for key, value in config.items()}
        rows = [{"Name": key, "ConfigOperation": 0, "Value": value} for key, value in given.items()]
        body = {"Resources": [{"ResourceType": 2, "ResourceName": topic.name, "Configs": rows}], "ValidateOnly": False}
        for side, answer in zip(self.sides, self.ask("IncrementalAlterConfigs", 1, body)):
            if answer["Responses"][0]["ErrorCode"]:
                raise Failure(f"{side.name} doesn't alter the topic: {answer['Responses'][0]}")
        topic.config.update(given)
        # Kafka's log follows its metadata a moment later, and nothing says when.
        time.sleep(SETTINGS_APPLY_WITHIN_S)

    def produce(self, topic, batch, partition=0):
        """One batch; of each side error and base offset."""
        body = {"Acks": -1, "TimeoutMs": 20000, "TopicData": [
            {"Name": topic.name, "PartitionData": [{"Index": partition, "Records": Records([batch])}]}]}
        rows = [answer["Responses"][0]["PartitionResponses"][0] for answer in self.ask("Produce", 9, body)]
        return [(row["ErrorCode"], row["BaseOffset"]) for row in rows]

    def restart_other(self):
        """Ends the other one and starts it again: a lie that only its memory tells would come out."""
        self.other.close()
        self.other.restart()
        warm_up(self.other)
        self.other.rest()

    def wait_until_led(self, topic, partitions=1):
        deadline = time.monotonic() + LEADS_WITHIN_S
        for side in self.sides:
            for partition in range(partitions):
                while reading.list_offset(side, topic.name, reading.LATEST, partition)[0]:
                    if time.monotonic() > deadline:
                        raise Failure(f"{side.name} doesn't lead {topic.name}")
                    time.sleep(0.02)

    def batch(self, topic, pairs, codec=0, headers=(), **producer):
        """A batch of (key, value) a millisecond apart, at the topic's clock, which goes on."""
        records = [Record(index, key, value, headers) for index, (key, value) in enumerate(pairs)]
        batch = Batch(records, topic.clock, codec, **producer)
        topic.clock += len(records)
        return batch

    def write(self, topic, pairs, partition=0, **options):
        """Appends a batch to both, which has to be taken at the same offset."""
        return self.append(topic, self.batch(topic, pairs, **options), partition)

    def append(self, topic, batch, partition=0):
        answers = self.produce(topic, batch, partition)
        if answers[0] != answers[1] or answers[0][0]:
            raise Failure(f"a batch for {topic.name} is answered with {answers} (error, base offset)")
        base = answers[0][1]
        topic.ends[partition] = base + len(batch.records)
        for index, record in enumerate(batch.records):
            kept = reading.Kept(base + index, batch.base_timestamp + record.timestamp_delta, record.key, record.value,
                                tuple(record.headers))
            topic.written.setdefault(partition, []).append(kept)
        return base

    def fill(self, topic, partition=0, large=False):
        """A record with a key of its own that begins a segment: Kafka can clean all that is before it. Gives its offset."""
        topic.fillers += 1
        key = f"filler-{topic.fillers}".encode()
        if large or topic.has_append_time:
            return self.write(topic, [(key, bytes(LARGE_FILLER_BYTES))], partition)
        topic.clock += FILLER_AFTER_MS
        return self.write(topic, [(key, b"")], partition)

    def compact_both(self, topic, up_to, partition=0):
        """Compacts: Kafka everything below an offset that a filler begins a segment at, Penstock everything."""
        for side in self.sides:
            side.compact(topic.name, partition, up_to)

    def compact(self, topic, partition=0, large=False):
        """Rolls and compacts; gives the filler's offset."""
        filler = self.fill(topic, partition, large)
        self.compact_both(topic, filler, partition)
        return filler

    def producer(self, name):
        """An idempotent producer on both, by a name for the ids that they gave it."""
        body = {"TransactionalId": None, "TransactionTimeoutMs": 60000}
        for side, answer in zip(self.sides, self.ask("InitProducerId", 4, body)):
            if answer["ErrorCode"]:
                raise Failure(f"{side.name} gives no producer id: {answer['ErrorCode']}")
            side.learn(f"producer:{name}", answer["ProducerId"])
        return f"producer:{name}"
