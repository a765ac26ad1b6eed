"""What was compared, and docs/differential.md."""

import collections
import traceback

from tables import DIFFERENCES, RULES

SHOWN_FAILURES = 60


class Report:
    """Counts a check for each seed and API."""

    def __init__(self, show_answers=False, show_all=False):
        self.show_all = show_all
        self.show_answers = show_answers
        self.asked = collections.Counter()
        self.unequal = collections.Counter()
        self.listed = collections.Counter()
        self.passed = self.failed = self.skipped = self.shown = 0

    def add(self, seed, question, found, listed, answers):
        self.asked[seed, question.api] += 1
        for name in set(listed):
            self.listed[name] += 1
        if self.show_all:
            print(f"request {question.number}: {question.api} v{question.version} {question.purpose} "
                  f"{short(question.body, 1000)}\n    {short(answers[0], 1000)}")
        if not found:
            return
        self.unequal[seed, question.api] += 1
        self.shown += 1
        if self.shown > SHOWN_FAILURES:
            return
        purpose = f" ({question.purpose})" if question.purpose else ""
        print(f"differs: seed {seed}, request {question.number}: {question.api} v{question.version}{purpose}")
        print(f"    asked {short(question.body, 700)}")
        for path, one, other in found[:6]:
            place = ".".join(map(str, path)) or "answer"
            print(f"    {place}: Kafka {short(one)}, Penstock {short(other)}")
        if self.show_answers:
            print(f"    Kafka    {answers[0]}\n    Penstock {answers[1]}")

    def broken(self, seed, step, action, asked, error):
        self.failed += 1
        print(f"FAILED  seed {seed}: step {step} ({action}, after request {asked}): {error!r}")
        print("".join(traceback.format_exception(error)[-3:]))

    def check(self, name, is_right):
        self.passed += is_right
        self.failed += not is_right
        print(f"{'ok     ' if is_right else 'FAILED '} {name}")

    def skip(self, name, reason):
        self.skipped += 1
        print(f"skipped {name}: {reason}")

    def seed_done(self, seed, steps, seconds):
        rows = sorted((api, count) for (of, api), count in self.asked.items() if of == seed)
        for api, count in rows:
            unequal = self.unequal[seed, api]
            self.passed += not unequal
            self.failed += bool(unequal)
            if unequal:
                print(f"FAILED  seed {seed}: {api}: {unequal} of {count} answers differ")
        total = sum(count for _, count in rows)
        unequal = sum(count for (of, _), count in self.unequal.items() if of == seed)
        print(f"{'FAILED ' if unequal else 'ok     '} seed {seed}: {steps} steps, {total} requests, {unequal} answers "
              f"differ ({seconds:.0f} s; --seed {seed} --steps {steps} repeats it)")

    def end(self):
        for name, count in sorted(self.listed.items()):
            print(f"listed difference met {count} times: {name}")
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped")
        return 1 if self.failed else 0


def short(value, most=300):
    text = repr(value)
    return text if len(text) <= most else text[:most] + "…"


PREFACE = """# Comparison with Apache Kafka

<!-- Written by tests/differential/run.py --docs from tests/differential/tables.py; the test fails when it is out of date. -->

`tests/differential/run.py` starts a one-node Apache Kafka 4.1 and `penstock dev` with the same options, sends both one
random schedule of requests (a few hundred for each of several seeds; a seed repeats exactly), and compares the answers
field by field. Requests are written and answers are read by a codec of its own, from the message definitions that
Kafka's client jar carries: all versions that Penstock serves of CreateTopics, DeleteTopics, CreatePartitions, Metadata,
DescribeTopicPartitions, DescribeConfigs, AlterConfigs, IncrementalAlterConfigs, ListConfigResources, Produce, Fetch
(with sessions), ListOffsets, OffsetForLeaderEpoch, InitProducerId, FindCoordinator, the classic groups' APIs,
ApiVersions, DescribeCluster, DescribeQuorum, ListPartitionReassignments, ElectLeaders, DescribeAcls,
CreateAcls, DeleteAcls, DescribeClientQuotas, DescribeUserScramCredentials and DescribeLogDirs, right requests and wrong ones.

Both of these tables are what the test goes by; whatever else differs fails it.
"""

NOT_ASKED = """
## Not asked

- Produce with acks=0: it has no answer.
- Produce with null records (Kafka never answers, nor reads the connection any more; Penstock answers INVALID_RECORD, as
  to no records at all), and AlterConfigs with the same resource twice (Kafka never answers).
- A JoinGroup of protocol type `consumer` whose metadata isn't a subscription: Kafka never answers.
- An idempotent producer that begins at another sequence than 0: Kafka takes it, Penstock answers
  OUT_OF_ORDER_SEQUENCE_NUMBER, since two agents may hold a producer's first two batches (ARCHITECTURE.md).
- Several partitions of which one has a bad length or magic: Kafka fails the whole request (docs/record-batch.md).
- Uncompressed records whose offset deltas aren't 0, 1, 2, ... (docs/record-batch.md).
- `compression.type=zstd`: the test can't unpack it.
- Time: sessions that run out, retention, expiry.
"""


def page():
    """docs/differential.md."""
    lines = [PREFACE, "## Made equal", "", "What two sound brokers answer differently.", "", "| what | where | why |",
             "|---|---|---|"]
    for rule in RULES:
        where = ", ".join(f"`{name}`" for name in rule.fields)
        apis = " of " + ", ".join(rule.apis) if 0 < len(rule.apis) <= 3 else ""
        lines.append(f"| {rule.name} | {where}{apis} | {rule.reason} |")
    lines += ["", "## Different on purpose", "", "| what | APIs | why |", "|---|---|---|"]
    lines += [f"| {row.name} | {', '.join(row.apis)} | {row.reason} |" for row in DIFFERENCES]
    return "\n".join(lines) + "\n" + NOT_ASKED
