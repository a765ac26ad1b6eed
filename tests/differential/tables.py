"""The two tables of the comparison: rules that make equal what must differ, and differences that are on purpose."""

import re
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


def is_internal(topic):
    return (topic.get("Name") or topic.get("Topic") or topic.get("ResourceName")) in ("__consumer_offsets", "__transaction_state")


def fetched_partitions(_question, _side, _path, _parent, value):
    rows = [{**{key: topic[key] for key in ("Topic", "TopicId") if key in topic}, **partition}
            for topic in value for partition in topic["Partitions"]]
    return sorted(rows, key=lambda row: (row.get("Topic") or row.get("TopicId"), row["PartitionIndex"]))


def by_key(_question, _side, _path, _parent, value):
    return {row["ApiKey"]: row for row in value}


def without_bounds(_question, _side, _path, _parent, value):
    return re.sub(r"within \[.*\]", "within [bounds]", value or "")


ORDER = "Of no meaning, and hash order in Kafka."
MANY = ("Metadata", "DeleteTopics", "CreateTopics", "ListOffsets", "Produce", "ElectLeaders", "OffsetCommit",
        "OffsetFetch", "OffsetDelete", "OffsetForLeaderEpoch", "DescribeLogDirs")
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
    Rule("internal topics", ("Topics", "ReplicaElectionResults"), "Kafka keeps offsets in a topic; Penstock has no "
         "internal topics.", without(is_internal), ("Metadata", "ElectLeaders", "DescribeLogDirs")),
    Rule("internal topics", ("ConfigResources",), "Kafka keeps offsets in a topic; Penstock has no internal topics.",
         without(is_internal), ("ListConfigResources",)),
    Rule("order of topics", ("Topics", "Responses", "ReplicaElectionResults"), ORDER,
         in_order("Name", "Topic", "TopicId"), MANY),
    Rule("order of partitions", ("Partitions", "PartitionResponses", "PartitionResult"), ORDER,
         in_order("PartitionIndex", "Partition", "Index", "PartitionId"), MANY),
    Rule("order of fetched partitions", ("Responses",), ORDER + " What fits within max bytes shows the order in which "
         "they were read.", fetched_partitions, ("Fetch",)),
    Rule("order of groups", ("Groups",), ORDER, in_order("GroupId"), ("ListGroups",)),
    Rule("order of groups", ("Results",), ORDER, in_order("GroupId"), ("DeleteGroups",)),
    Rule("order of users", ("Results",), ORDER, in_order("User"), ("DescribeUserScramCredentials",)),
    Rule("order of members", ("Members",), ORDER, in_order("MemberId"), ("JoinGroup", "DescribeGroups")),
    Rule("order of configs", ("Configs",), ORDER, in_order("Name"), ("DescribeConfigs", "CreateTopics")),
    Rule("order of resources", ("ConfigResources",), ORDER, in_order("ResourceType", "ResourceName"),
         ("ListConfigResources",)),
    Rule("order of APIs", ("ApiKeys",), "The table of APIs is compared row by row.", by_key, ("ApiVersions",)),
    Rule("log directories", ("LogDir",), "A path here, a bucket there.", constant("log dir"), ("DescribeLogDirs",)),
    Rule("raft", ("LogEndOffset", "HighWatermark", "LeaderEpoch", "LastFetchTimestamp", "LastCaughtUpTimestamp",
                  "ReplicaDirectoryId", "Listeners"), "Kafka's metadata is a raft log, Penstock's a store; what is "
         "compared is that there is one live leader.", constant("raft"), ("DescribeQuorum",)),
    Rule("bounds of timestamps", ("BatchIndexErrorMessage",), "The message of a refused timestamp holds the bounds, "
         "which move with the clock.", without_bounds, ("Produce",)),
    Rule("sizes of partitions", ("PartitionSize",), "Kafka counts the bytes of segments on disk, Penstock those of the "
         "batches in the bucket.", constant("size"), ("DescribeLogDirs",)),
]


def auto_created(question, path, _kafka, _penstock):
    return question.purpose == "auto-create" and path[:1] == ("Topics",)


def not_served(_question, path, _kafka, penstock):
    return len(path) == 2 and path[0] == "ApiKeys" and penstock == "absent" and path[1] in NOT_SERVED


def unknown_operation(question, path, _kafka, _penstock):
    operations = (row["ConfigOperation"] for resource in question.body["Resources"] for row in resource["Configs"])
    return path[0] == "Responses" and any(operation > 3 for operation in operations)


def no_volume(_question, path, _kafka, penstock):
    return path[-1] in ("TotalBytes", "UsableBytes") and penstock == -1


# Api keys: DeleteRecords, SASL, transactions, ACLs, credentials, tokens, quotas, moves of replicas, features, DescribeProducers,
# telemetry, the groups of KIP-848, KIP-932 and KIP-1071, raft voters.
NOT_SERVED = {17, 21, 24, 25, 26, 27, 28, 30, 31, 34, 36, 37, 38, 39, 40, 41, 45, 49, 50, 51, 57, 61, 64, 65, 66, 68, 69,
              71, 72, 76, 77, 78, 79, 80, 81, 83, 84, 85, 86, 87, 88, 89, 90, 91, 92}


def told_leader(question, path, _kafka, _penstock):
    is_follower = question.body.get("ReplicaId", -1) >= 0 or "ReplicaState" in question.body
    return is_follower and (path[-2:-1] == ("CurrentLeader",) or path[0] == "NodeEndpoints")


def transaction_list(question, path, kafka, penstock):
    return path[-1] == "AbortedTransactions" and (kafka, penstock) == (None, [])


def room_left(question, path, kafka, penstock):
    if not question.is_cut or not isinstance(kafka, list) or not isinstance(penstock, list):
        return False
    if path[-1] == "Records":
        return penstock[:len(kafka)] == kafka
    names = [{(row.get("Topic") or row.get("TopicId"), row["PartitionIndex"]) for row in rows} for rows in (kafka, penstock)]
    return path == ("Responses",) and names[0] <= names[1]


def segment_end(_question, path, kafka, penstock):
    return path[-1] == "Records" and isinstance(kafka, list) and isinstance(penstock, list) and \
        0 < len(kafka) < len(penstock) and penstock[:len(kafka)] == kafka


def diverging(question, path, _kafka, _penstock):
    rows = [row for topic in question.body["Topics"] for row in topic["Partitions"]]
    return path[0] == "Responses" and path[-1] != "Records" and any(row.get("LastFetchedEpoch", -1) >= 0 for row in rows)


def unknown_type(question, path, _kafka, _penstock):
    types = {row["ResourceType"] for row in question.body["Resources"]}
    return path[-1] in ("ErrorCode", "ErrorMessage") and len(types) > 1 and types & {0, 1, 3, 64}


def features(_question, path, _kafka, _penstock):
    return path[0] in ("FinalizedFeatures", "FinalizedFeaturesEpoch", "SupportedFeatures")


def refusal_words(_question, path, kafka, penstock):
    if path[-1] != "ErrorMessage" or not kafka or not penstock:
        return False
    of_several = ("Invalid value", "Unknown topic config name")
    if kafka.startswith(of_several) and penstock.startswith(of_several):
        return True
    return kafka.startswith("This most likely occurs") or kafka == "Error due to duplicate config keys"


def wrong_twice(question, path, _kafka, _penstock):
    return path[-1] in ("ErrorCode", "ErrorMessage") and any(row["ResourceName"] in ("", "a b") for row in question.body["Resources"])


def as_written(_question, path, kafka, penstock):
    if path[-1] != "Value" or not kafka or not penstock:
        return False
    return kafka.strip().lower() in (penstock, penstock.removesuffix(".0"))


def duplicate_time(question, path, _kafka, penstock):
    return question.purpose.startswith("idempotent") and path[-1] == "LogAppendTimeMs" and penstock == -1


def replicated(question, path, kafka, _penstock):
    asked = question.body["Topics"]
    return any(topic["ReplicationFactor"] > 1 for topic in asked) and path[0] == "Topics"


def illegal_name(_question, path, kafka, penstock):
    return path[-1] == "ErrorCode" and (kafka, penstock) == (3, 17)


def deleted_in_session(question, path, kafka, penstock):
    return "SessionId" in question.body and path[-1] == "ErrorCode" and (kafka, penstock) == (3, 100)


PIECE = "room for a piece of a batch"
DIFFERENCES = [
    Difference("any replication factor", ("CreateTopics",), "Accepted and stored, since data is as durable as the "
               "bucket; Kafka wants as many brokers.", replicated),
    Difference("records for an illegal topic name", ("Produce",), "INVALID_TOPIC_EXCEPTION, so that producers give up; "
               "Kafka says UNKNOWN_TOPIC_OR_PARTITION, which they retry.", illegal_name),
    Difference("a topic deleted during a fetch session", ("Fetch",), "UNKNOWN_TOPIC_ID, as for a fetch without "
               "session; Kafka remembers that the id had a name and says UNKNOWN_TOPIC_OR_PARTITION. Clients ask for "
               "metadata after both.", deleted_in_session),
    Difference("auto-created topics are there at once", ("Metadata",), "Kafka asks its controller and answers with a "
               "retriable error; Penstock answers with the new topic.", auto_created),
    Difference("APIs that aren't served", ("ApiVersions",), "Transactions, security, newer groups, "
               "quotas and telemetry aren't served yet and so aren't advertised.", not_served),
    Difference("no aborted transactions", ("Fetch",), "Under read_committed an empty list; Kafka sends null where the "
               "first batch didn't fit. Both mean none.", transaction_list),
    Difference("features", ("ApiVersions",), "Kafka tells the levels of its transactions, groups and raft; Penstock "
               "only the metadata.version that tools look for.", features),
    Difference("size of the volume", ("DescribeLogDirs",), "A bucket has no size: -1, as Kafka says where it doesn't "
               "know.", no_volume),
    Difference("unknown operation on a setting", ("IncrementalAlterConfigs",), "Kafka's controller throws "
               "(UNKNOWN_SERVER_ERROR); Penstock answers INVALID_REQUEST.", unknown_operation),
    Difference(PIECE, ("Fetch",), "Kafka fills max bytes with a piece of a batch, which consumers throw away; Penstock "
               "sends whole batches and gives the rest of the room to the partitions that follow.", room_left),
    Difference("a segment's end", ("Fetch",), "Kafka's fetch ends with the segment that it begins in; Penstock has none, and goes "
               "on.", segment_end),
    Difference("leader told to a follower", ("Fetch",), "Nobody follows an agent: a stranger is refused as by Kafka, but "
               "not told the leader.", told_leader),
    Difference("diverging epochs", ("Fetch",), "The last fetched epoch is a follower's field: Kafka tells it where its "
               "log diverges. There are no followers; a fetch beyond the end is OFFSET_OUT_OF_RANGE.", diverging),
    Difference("an unknown type among several resources", ("DescribeConfigs",), "Kafka fails the whole request, "
               "Penstock that resource.", unknown_type),
    Difference("a setting that is wrong twice", ("IncrementalAlterConfigs", "AlterConfigs"), "An illegal topic name and a "
               "bad operation: either is named.", wrong_twice),
    Difference("new settings as written", ("CreateTopics",), "Kafka shows the settings of a topic just created as they "
               "were written (` TRUE `, `1`), later as it reads them (`true`, `1.0`); Penstock always does the latter.",
               as_written),
    Difference("words of a refusal", ("FindCoordinator", "DescribeConfigs", "CreateTopics", "AlterConfigs",
                                      "IncrementalAlterConfigs"), "The code is the same. Kafka names any of several wrong settings (hash order), and has "
               "words for some refusals that say less.",
               refusal_words),
    Difference("append time of a duplicate", ("Produce",), "Kafka answers a batch that it has already with the batch's "
               "latest timestamp as append time, also where the producer sets timestamps; Penstock with -1, as it did "
               "the first time.", duplicate_time),
]
