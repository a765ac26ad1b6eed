"""What the schedule knows of the brokers' state, and how it asks both the same.

Everything random comes from one seeded generator, and all that the schedule learns it learns from Kafka's answers, so a
seed gives the same requests each time.
"""

import random
import time
from dataclasses import dataclass, field

from codec import NULL_UUID
from compare import Question, differences, normalised
from records import is_cut
from sides import CLOSED, Ref

SETTLES_WITHIN_S = 20
# A change of a topic's settings reaches Kafka's log a moment after its metadata, and nothing says when.
SETTINGS_APPLY_WITHIN_S = 0.05


@dataclass
class Topic:
    name: str
    partitions: int
    config: dict = field(default_factory=dict)
    ends: dict = field(default_factory=dict)
    history: list = field(default_factory=list)

    @property
    def id(self):
        return Ref(f"topic:{self.name}")

    def end(self, partition):
        return self.ends.get(partition, 0)


class Failure(Exception):
    """Both brokers can't be asked any further."""


class World:
    """Two brokers and one schedule."""

    def __init__(self, seed, kafka, penstock, versions, report):
        self.random = random.Random(seed)
        self.seed, self.kafka, self.penstock, self.report = seed, kafka, penstock, report
        self.versions = versions
        self.prefix = f"s{seed}-"
        self.topics = {}
        self.asked = 0
        self.now = int(time.time() * 1000)
        self.names = 0
        self.pending = {}
        # The listed differences that the last answer met.
        self.listed = []

    def fresh(self, stem="t"):
        self.names += 1
        return f"{self.prefix}{stem}{self.names}"

    def chance(self, share):
        return self.random.random() < share

    def version(self, api, low=0, high=99):
        first, last = self.versions[api]
        return self.random.randint(max(first, low), min(last, high))

    def some_topic(self):
        return self.topics[self.random.choice(sorted(self.topics))]

    def ask(self, api, body, version=None, purpose="", learn=None, lane="main"):
        """Asks both, compares, gives Kafka's answer. `learn(side, answer)` takes in what each numbered itself."""
        self.send(api, body, version, purpose, lane)
        return self.receive(learn, lane)

    def send(self, api, body, version=None, purpose="", lane="main"):
        version = self.version(api) if version is None else version
        self.asked += 1
        question = Question(self.asked, api, version, body, purpose)
        for side in (self.kafka, self.penstock):
            side.send(lane, api, version, body)
        self.pending[lane] = question

    def receive(self, learn=None, lane="main"):
        question = self.pending.pop(lane)
        answers = []
        for side in (self.kafka, self.penstock):
            try:
                answer = side.receive(lane)
            except TimeoutError as error:
                raise Failure(f"{error}: {question}") from None
            if learn and answer != CLOSED:
                learn(side, answer)
            answers.append(answer)
        if question.api == "Fetch" and answers[0] != CLOSED:
            question.is_cut = is_cut(answers[0])
        sides = zip((self.kafka, self.penstock), answers)
        equalised = [normalised(question, side, answer) for side, answer in sides]
        found, listed = differences(question, *equalised)
        self.listed = listed
        self.report.add(self.seed, question, found, listed, equalised)
        return answers[0]

    def settle(self, *names):
        """Waits until both show the same of these topics: Kafka's metadata arrives a moment after the answer."""
        version = min(12, self.versions["Metadata"][1])
        body = {"Topics": [{"Name": name} for name in names], "AllowAutoTopicCreation": False}
        deadline = time.monotonic() + SETTLES_WITHIN_S
        while True:
            seen = []
            for side in (self.kafka, self.penstock):
                answer = side.ask("Metadata", version, body)
                rows = []
                for topic in answer["Topics"]:
                    broken = any(partition["ErrorCode"] for partition in topic["Partitions"])
                    rows.append((topic["Name"], topic["ErrorCode"], len(topic["Partitions"]), broken))
                    if topic["TopicId"] != NULL_UUID:
                        side.learn(f"topic:{topic['Name']}", topic["TopicId"])
                seen.append(sorted(rows))
            is_equal = seen[0] == seen[1] and not any(row[3] for row in seen[0])
            if is_equal and self.leads([row for row in seen[0] if row[1] == 0]):
                return {row[0]: row[2] for row in seen[0] if row[1] == 0}
            if time.monotonic() > deadline:
                return {row[0]: row[2] for row in seen[0] if row[1] == 0}
            time.sleep(0.01)

    def leads(self, rows):
        """Whether Kafka serves these topics' partitions: its log manager follows its metadata."""
        topics = [{"Name": row[0], "Partitions": [{"PartitionIndex": index, "Timestamp": -2} for index in range(row[2])]}
                  for row in rows]
        answer = self.kafka.ask("ListOffsets", 1, {"ReplicaId": -1, "Topics": topics})
        return not any(partition["ErrorCode"] for topic in answer["Topics"] for partition in topic["Partitions"])

    def track(self, *names, config=None):
        """Settles, and takes what is there now into the schedule."""
        there = self.settle(*names)
        for name in names:
            if name not in there:
                self.topics.pop(name, None)
            elif name in self.topics:
                self.topics[name].partitions = there[name]
            else:
                self.topics[name] = Topic(name, there[name], dict(config or {}))

    def settings(self):
        time.sleep(SETTINGS_APPLY_WITHIN_S)
