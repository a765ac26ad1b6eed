"""What Kafka's retention lets go, by the batches that were written; and both log starts, watched beside it.

A segment of Kafka's logs here is one batch (its time index is full at once), so both brokers have the same rule: the front of
the log goes, as long as each batch is too old by its largest timestamp, or what is behind it is not below `retention.bytes`. Kafka
deletes its active segment by it, too.
"""

import time
from dataclasses import dataclass, field

import reading
from pair import Failure, Topic
from records import Batch, Record, Records

# A time index of one entry is kept free for when its segment is closed: it is full, and each batch begins a segment.
SEGMENT_OF_A_BATCH = {"segment_index_bytes": 12}
SAMPLED_EVERY_S = 0.03
# How long nothing more may go: longer than any job's interval.
STAYS_S = 2.0
ARRIVES_WITHIN_S = 30
# What a busy machine may add to an interval.
SLACK_S = 2.0
# By how much a batch without timestamps may seem older than it is: times of files are coarse, and Penstock counts its store's
# versions.
COARSE_MS = 300


def now_ms():
    return int(time.time() * 1000)


@dataclass(frozen=True)
class Written:
    """A batch, as retention sees it."""

    base: int
    end: int
    size: int
    # The largest timestamp that each side has given it, or when it was appended if it has none.
    newest: tuple


@dataclass(eq=False)
class RetainedLog:
    """A topic of one partition, and what was written to it."""

    topic: Topic
    # Whether each batch is a segment. If not, Kafka's log goes later than the rule says.
    is_rolled: bool = True
    batches: list = field(default_factory=list)
    # What DeleteRecords deleted.
    deleted: int = 0

    @property
    def name(self):
        return self.topic.name

    @property
    def stem(self):
        return self.name.split("-", 2)[2].replace("-", " ")

    @property
    def end(self):
        return self.batches[-1].end if self.batches else 0

    def end_of(self, count):
        """Where the log begins once that many batches have gone."""
        return self.batches[count - 1].end if count else 0


def start_by_rule(log, side, at_ms):
    """Where a side's log begins at a time if everything has gone that may go."""
    if "delete" not in log.topic.config["cleanup.policy"]:
        return log.deleted
    keeps_ms, keeps_bytes = (int(log.topic.config.get(key, -1)) for key in ("retention.ms", "retention.bytes"))
    batches = [batch for batch in log.batches if batch.end > log.deleted]
    left = sum(batch.size for batch in batches)
    for batch in batches:
        left -= batch.size
        is_old = 0 <= keeps_ms < at_ms - batch.newest[side]
        is_too_much = 0 <= keeps_bytes <= left
        if not is_old and not is_too_much:
            # Offsets before it that compaction has left empty may go with it or before.
            return max(log.deleted, batch.base)
    return max(log.deleted, log.end)


def create(pair, stem, is_rolled=True, **config):
    given = {"cleanup_policy": "delete", **(SEGMENT_OF_A_BATCH if is_rolled else {}), **config}
    return RetainedLog(pair.create(stem, **given), is_rolled)


def batch_at(*times, size=0, codec=0, stem="k"):
    """A batch with a record at each of these times; -1 is none."""
    records = [Record(at - times[0], f"{stem}{index}".encode(), bytes(size)) for index, at in enumerate(times)]
    return Batch(records, times[0], codec)


def append(pair, *rows):
    """A batch for each of several logs, in one request, so that Penstock's objects have batches of all of them."""
    begun_ms = now_ms()
    body = {"Acks": -1, "TimeoutMs": 20000, "TopicData": [
        {"Name": log.name, "PartitionData": [{"Index": 0, "Records": Records([batch])}]} for log, batch in rows]}
    answers = [{row["Name"]: row["PartitionResponses"][0] for row in answer["Responses"]}
               for answer in pair.ask("Produce", 9, body)]
    for log, batch in rows:
        given = [(answer[log.name]["ErrorCode"], answer[log.name]["BaseOffset"]) for answer in answers]
        if given[0] != given[1] or given[0] != (0, log.end):
            raise Failure(f"a batch for {log.name} at {log.end} is answered with {given} (error, base offset)")
        newest = batch.base_timestamp + max(record.timestamp_delta for record in batch.records)
        if log.topic.has_append_time:
            each = tuple(answer[log.name]["LogAppendTimeMs"] for answer in answers)
        else:
            each = (newest, newest) if newest >= 0 else (begun_ms - COARSE_MS,) * 2
        log.batches.append(Written(log.end, log.end + len(batch.records), len(batch.encode(-1)), each))


def log_starts(side, names):
    """Where these logs begin, by one ListOffsets."""
    row = {"PartitionIndex": 0, "CurrentLeaderEpoch": -1, "Timestamp": reading.EARLIEST}
    body = {"ReplicaId": -1, "IsolationLevel": 0, "Topics": [{"Name": name, "Partitions": [row]} for name in names]}
    found = {}
    for topic in side.ask("ListOffsets", 7, body)["Topics"]:
        answer = topic["Partitions"][0]
        if answer["ErrorCode"]:
            raise Failure(f"{side.name} answers ListOffsets of {topic['Name']} with error {answer['ErrorCode']}")
        found[topic["Name"]] = answer["Offset"]
    return found


@dataclass(frozen=True)
class Sample:
    """A moment: where each side's log begins, and where it may begin at most."""

    at_s: float
    starts: tuple
    rules: tuple


class Watch:
    """Samples of several logs."""

    def __init__(self, pair, *logs):
        self.pair, self.logs = pair, logs
        self.samples = {log.name: [] for log in logs}

    def sample(self):
        found = [log_starts(side, self.samples) for side in self.pair.sides]
        # Read after both have answered, so what has gone by then had a clock that was behind this one.
        at_ms, at_s = now_ms(), time.monotonic()
        for log in self.logs:
            rules = tuple(start_by_rule(log, side, at_ms) for side in range(len(found)))
            self.samples[log.name].append(Sample(at_s, tuple(starts[log.name] for starts in found), rules))

    def go_on(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.sample()
            time.sleep(SAMPLED_EVERY_S)

    def until(self, finals, stays_s=STAYS_S):
        """Until the logs begin where they are to begin, by how many of their batches have gone; and on for a while, in which
        nothing more goes."""
        wanted = [(self.samples[log.name], log.end_of(count)) for log, count in finals.items()]
        deadline = time.monotonic() + ARRIVES_WITHIN_S
        while time.monotonic() < deadline:
            self.sample()
            if all(samples[-1].starts == (start, start) for samples, start in wanted):
                break
            time.sleep(SAMPLED_EVERY_S)
        self.go_on(stays_s)
        for log, count in finals.items():
            last, start = self.samples[log.name][-1], log.end_of(count)
            self.pair.check(f"{log.stem}: in the end {count} of {len(log.batches)} batches have gone",
                            last.starts == (start, start), f"expected {start}: {last}")
        self.check()

    def check(self):
        for log in self.logs:
            found = findings(log, self.samples[log.name], self.pair.sides)
            for what, wrong in found.items():
                self.pair.check(f"{log.stem}: {what}", not wrong, *wrong)


def findings(log, samples, sides):
    """What is wrong, by what should be so."""
    names = [side.name for side in sides]
    early = [f"{sample.starts} where {sample.rules} is allowed, after {sample.at_s - samples[0].at_s:.2f} s"
             for sample in samples if any(start > rule for start, rule in zip(sample.starts, sample.rules))]
    back = [f"{one.starts}, then {after.starts}" for one, after in zip(samples, samples[1:])
            if any(start > later for start, later in zip(one.starts, after.starts))]
    late = []
    for end in (batch.end for batch in log.batches if batch.end <= samples[-1].rules[1]):
        ruled, gone = ([arrival(samples, values, side, end) for side in (0, 1)] for values in ("rules", "starts"))
        bounds = [side.expires_within_s + SLACK_S for side in sides]
        # Nothing is early by the rule, so this bounds by how much the other one can be ahead of Kafka, too.
        if log.is_rolled and gone[0] > ruled[0] + bounds[0]:
            late.append(f"{names[0]} lets {end} go {gone[0] - ruled[0]:.2f} s after the rule")
        if gone[1] > ruled[1] + bounds[1]:
            late.append(f"{names[1]} lets {end} go {gone[1] - ruled[1]:.2f} s after the rule")
        if log.is_rolled and gone[1] > gone[0] + bounds[1]:
            late.append(f"{names[1]} lets {end} go {gone[1] - gone[0]:.2f} s after {names[0]}")
    within = f"{sides[1].expires_within_s:.1f} s (and {SLACK_S:.0f} s for a busy machine)"
    return {"nothing goes that Kafka's rule keeps": early, "no log start goes back": back,
            f"what may go has gone within {within}": late}


def arrival(samples, values, side, end):
    """When a side's start (or rule) first was there; never is far away."""
    return next((sample.at_s for sample in samples if getattr(sample, values)[side] >= end), float("inf"))
