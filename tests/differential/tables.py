"""The two tables of the comparison: rules that make equal what must differ, and differences that are on purpose."""

import time
from dataclasses import dataclass
from typing import Callable

from codec import NULL_UUID
from records import LOG_APPEND_TIME, take_apart

NOW_WITHIN_MS = 120_000


@dataclass
class Rule:
    """Makes equal what two sound brokers answer differently."""

    name: str
    fields: tuple
    reason: str
    apply: Callable
    apis: tuple = ()

    def concerns(self, question, path):
        if self.apis and question.api not in self.apis:
            return False
        last = path[-1] if path else None
        return last in self.fields


@dataclass
class Difference:
    """An answer of Penstock's that isn't Kafka's, on purpose."""

    name: str
    apis: tuple
    reason: str
    test: Callable

    def concerns(self, question, path, kafka, penstock):
        return question.api in self.apis and self.test(question, path, kafka, penstock)


def constant(value):
    return lambda _question, _side, _path, _parent, _value: value


def named(kind):
    return lambda _question, side, _path, _parent, value: side.name_of(kind, value)


def now(_question, _side, _path, _parent, value):
    return "now" if isinstance(value, int) and abs(value - time.time() * 1000) < NOW_WITHIN_MS else value


def in_order(*keys):
    def apply(_question, _side, _path, _parent, value):
        if not isinstance(value, list):
            return value
        return sorted(value, key=lambda element: (repr([element.get(key) for key in keys]), repr(element)))
    return apply


def batches(question, side, _path, _parent, value):
    """Fetched bytes as batches, with the rules for what is in them."""
    out = take_apart(value)
    for batch in out:
        batch["ProducerId"] = side.name_of("producer", batch["ProducerId"])
        if batch["Attributes"] & LOG_APPEND_TIME:
            batch["MaxTimestamp"] = now(question, side, (), {}, batch["MaxTimestamp"])
        if isinstance(batch["Payload"], list):
            batch.pop("Packed", None)
            if batch["Attributes"] & 7:
                batch.pop("Length")
    return out


def without(test):
    def apply(_question, _side, _path, _parent, value):
        return [element for element in value if not test(element)] if isinstance(value, list) else value
    return apply


RULES = [
    Rule("port", ("Port",), "Each broker listens on its own port.", constant("port")),
    Rule("cluster id", ("ClusterId",), "Random, made at the first start.", constant("cluster id")),
    Rule("topic ids", ("TopicId",), "Random. Requests and answers map them to the topic's name.", named("topic")),
    Rule("producer ids", ("ProducerId",), "Each broker numbers producers itself; mapped to the producer's name.",
         named("producer")),
    Rule("member ids", ("MemberId", "Leader"), "Random; mapped to the member's name.", named("member")),
    Rule("fetch sessions", ("SessionId",), "Random; mapped to the session's name.", named("session")),
    Rule("append time", ("LogAppendTimeMs", "Timestamp"), "The broker's clock: within two minutes of now is `now`.",
         now),
    Rule("fetched records", ("Records",), "Compared batch by batch: head, whether the checksum is right, and every "
         "record. A batch cut off at the end is left out, as consumers do: Kafka cuts at max bytes, Penstock sends "
         "whole batches. Where a codec can be read without a library (all but zstd) the packed bytes and their length "
         "aren't compared: packers differ.", batches, ("Fetch",)),
    Rule("internal topics", ("Topics",), "Kafka keeps offsets in a topic; Penstock has no internal topics.",
         without(lambda topic: topic.get("Name", "") in ("__consumer_offsets", "__transaction_state")), ("Metadata",)),
    Rule("order of topics", ("Topics",), "Of no meaning, and hash order in Kafka.", in_order("Name", "TopicId"),
         ("Metadata", "DeleteTopics", "CreateTopics", "ListOffsets")),
    Rule("order of partitions", ("Partitions",), "Of no meaning, and hash order in Kafka.", in_order("PartitionIndex"),
         ("Metadata", "ListOffsets")),
    Rule("order of topics", ("Responses",), "Of no meaning, and hash order in Kafka.", in_order("Name", "TopicId"),
         ("DeleteTopics",)),
    Rule("order of groups", ("Groups",), "Of no meaning, and hash order in Kafka.", in_order("GroupId"),
         ("ListGroups",)),
    Rule("order of configs", ("Configs",), "Of no meaning, and hash order in Kafka.", in_order("Name"),
         ("DescribeConfigs", "CreateTopics")),
    Rule("order of resources", ("ConfigResources",), "Of no meaning, and hash order in Kafka.",
         in_order("ResourceType", "ResourceName"), ("ListConfigResources",)),
]

def auto_created(question, path, _kafka, _penstock):
    return question.purpose == "auto-create" and path[:1] == ("Topics",)


DIFFERENCES = [
    Difference("auto-created topics are there at once", ("Metadata",), "Kafka asks its controller and answers with a "
               "retriable error; Penstock answers with the new topic.", auto_created),
]
