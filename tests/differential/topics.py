"""Topics and their settings: what admin tools ask."""

from codec import NULL_UUID
from sides import Ref
from world import Topic

TOPIC, BROKER, BROKER_LOGGER, GROUP = 2, 4, 8, 32
BAD_NAMES = ("", ".", "..", "a b", "x/y", "ü", "n" * 250, "a:b")
GOOD_SETTINGS = (
    ("retention.ms", ("1000000", "-1", "86400000")),
    ("retention.bytes", ("-1", "1000000")),
    ("max.message.bytes", ("2000", "600", "1048588", "20000")),
    ("cleanup.policy", ("delete", "compact", "compact,delete", "delete,compact")),
    ("compression.type", ("producer", "uncompressed")),
    ("message.timestamp.type", ("CreateTime", "LogAppendTime")),
    ("message.timestamp.before.max.ms", ("3600000", "9223372036854775807")),
    ("message.timestamp.after.max.ms", ("3600000", "9223372036854775807")),
    ("min.insync.replicas", ("1", "2")),
    ("segment.bytes", ("1048576", "1073741824")),
    ("segment.ms", ("604800000000", "9223372036854775807")),
    ("flush.messages", ("1", "100")),
    ("unclean.leader.election.enable", ("true", "false")),
    ("min.cleanable.dirty.ratio", ("0.1", "0.5", "1")),
    ("delete.retention.ms", ("0", "86400000")),
    ("index.interval.bytes", ("0", "4096")),
    ("preallocate", ("true", "false", " TRUE ")),
    ("max.compaction.lag.ms", ("1", "9223372036854775807")),
    ("compression.gzip.level", ("1", "-1", "9")),
    ("compression.lz4.level", ("1", "17")),
    ("compression.zstd.level", ("-5", "22")),
)
BAD_SETTINGS = (
    ("retention.ms", ("-2", "x", "", "1.5")),
    ("cleanup.policy", ("remove", "compact,remove", "")),
    ("compression.type", ("brotli", "GZIP", "")),
    ("max.message.bytes", ("-1", "2147483648")),
    ("message.timestamp.type", ("Now", "createtime")),
    ("min.insync.replicas", ("0",)),
    ("segment.bytes", ("1", "0", "100")),
    ("min.cleanable.dirty.ratio", ("1.5", "-1")),
    ("preallocate", ("yes",)),
    ("compression.gzip.level", ("0", "10")),
    ("compression.lz4.level", ("0", "18")),
    ("no.such.setting", ("1",)),
    ("message.format.version", ("3.0",)),
    ("leader.replication.throttled.replicas", ("0:0", "*", "zero")),
    ("max.compaction.lag.ms", ("0",)),
    ("remote.storage.enable", ("true",)),
    ("local.retention.ms", ("-3",)),
)


def setting(world, bad_share=0.0):
    name, values = world.random.choice(BAD_SETTINGS if world.chance(bad_share) else GOOD_SETTINGS)
    return name, world.random.choice(values)


def settings(world, most=3, bad_share=0.0):
    chosen = dict(setting(world, bad_share) for _ in range(world.random.randint(0, most)))
    return [{"Name": name, "Value": value} for name, value in sorted(chosen.items())]


def create(world, name=None, partitions=None, config=None, version=None):
    """A topic that both brokers take."""
    name = name or world.fresh()
    config = {} if config is None else config
    partitions = partitions or world.random.randint(1, 4)
    body = {"Topics": [{"Name": name, "NumPartitions": partitions, "ReplicationFactor": 1,
                        "Configs": [{"Name": key, "Value": value} for key, value in sorted(config.items())]}],
            "TimeoutMs": 10000}
    world.ask("CreateTopics", body, version, learn=learn_ids)
    world.track(name, config=config)
    return world.topics.get(name)


def learn_ids(side, answer):
    for topic in answer["Topics"]:
        if topic.get("TopicId", NULL_UUID) != NULL_UUID:
            side.learn(f"topic:{topic['Name']}", topic["TopicId"])


def create_some(world):
    """One to three topics of all kinds in a request."""
    asked = [creatable(world) for _ in range(world.random.choice((1, 1, 2, 3)))]
    if world.chance(0.05):
        asked.append(dict(asked[0]))
    validate_only = world.chance(0.25) or any(topic["ReplicationFactor"] > 1 for topic in asked)
    body = {"Topics": asked, "TimeoutMs": 10000, "ValidateOnly": validate_only}
    world.ask("CreateTopics", body, learn=learn_ids, purpose="topics of all kinds")
    if not validate_only:
        names = sorted({topic["Name"] for topic in asked if topic["Name"] not in world.topics})
        wanted = {topic["Name"]: topic for topic in asked}
        legal = [name for name in names if name not in BAD_NAMES]
        if legal:
            world.track(*legal)
        for name in legal:
            if name in world.topics:
                world.topics[name].config = {row["Name"]: row["Value"] for row in wanted[name]["Configs"]}


def creatable(world):
    roll = world.random.random()
    topic = {"Name": world.fresh(), "NumPartitions": world.random.choice((-1, 1, 2, 3)),
             "ReplicationFactor": world.random.choice((-1, 1)), "Configs": settings(world)}
    if roll < 0.12:
        topic["Name"] = world.random.choice(BAD_NAMES)
    elif roll < 0.2 and world.topics:
        topic["Name"] = world.some_topic().name
    elif roll < 0.3:
        topic["NumPartitions"] = world.random.choice((0, -2, -7))
    elif roll < 0.36:
        topic["ReplicationFactor"] = world.random.choice((0, -2, 3))
    elif roll < 0.55:
        topic["Configs"] = settings(world, 3, 0.6)
    elif roll < 0.6:
        topic["Configs"] = [{"Name": "retention.ms", "Value": None}]
    elif roll < 0.7:
        topic.update(NumPartitions=-1, ReplicationFactor=-1)
        topic["Assignments"] = world.random.choice((
            [{"PartitionIndex": 0, "BrokerIds": [1]}, {"PartitionIndex": 1, "BrokerIds": [1]}],
            [{"PartitionIndex": 0, "BrokerIds": [99]}],
            [{"PartitionIndex": 1, "BrokerIds": [1]}],
            [{"PartitionIndex": 0, "BrokerIds": []}],
            [{"PartitionIndex": 0, "BrokerIds": [1, 1]}],
            [{"PartitionIndex": 0, "BrokerIds": [1]}, {"PartitionIndex": 0, "BrokerIds": [1]}],
        ))
        if world.chance(0.3):
            topic["NumPartitions"] = 2
    elif roll < 0.74:
        name = world.fresh("dot.")
        create(world, name, 1)
        topic["Name"] = name.replace(".", "_")
    return topic


def delete(world):
    version = world.version("DeleteTopics")
    names = []
    roll = world.random.random()
    if len(world.topics) > 6 and roll < 0.6:
        names.append(world.some_topic().name)
    if roll > 0.4:
        names.append(world.random.choice((world.prefix + "gone", "", "a b", world.prefix + "gone2")))
    if world.chance(0.1) and names:
        names.append(names[0])
    if version < 6:
        world.ask("DeleteTopics", {"TopicNames": names, "TimeoutMs": 10000}, version)
    else:
        rows = []
        for name in names:
            if name in world.topics and world.chance(0.5):
                rows.append({"TopicId": world.topics[name].id})
            elif world.chance(0.15):
                rows.append(world.random.choice((
                    {"TopicId": "00000000-0000-0000-0000-0000000000aa"}, {},
                    {"Name": name, "TopicId": "00000000-0000-0000-0000-0000000000aa"})))
            else:
                rows.append({"Name": name})
        world.ask("DeleteTopics", {"Topics": rows, "TimeoutMs": 10000}, version)
    there = [name for name in sorted(set(names)) if name in world.topics]
    if there:
        world.track(*there)


def create_partitions(world):
    topic = world.some_topic()
    count = topic.partitions + world.random.choice((1, 1, 2, 0, -1, -topic.partitions, -100))
    row = {"Name": topic.name, "Count": count}
    roll = world.random.random()
    if roll < 0.1:
        row["Name"] = world.prefix + "gone"
    elif roll < 0.25:
        row["Assignments"] = world.random.choice((
            [{"BrokerIds": [1]}], [{"BrokerIds": [1]}] * 2, [{"BrokerIds": [99]}], [{"BrokerIds": []}]))
    else:
        row["Assignments"] = None
    if count > 7:
        return
    rows = [row, dict(row)] if world.chance(0.05) else [row]
    validate_only = world.chance(0.25)
    world.ask("CreatePartitions", {"Topics": rows, "TimeoutMs": 10000, "ValidateOnly": validate_only})
    world.track(topic.name)


def metadata(world):
    version = world.version("Metadata")
    body = {"AllowAutoTopicCreation": False} if version >= 4 else {}
    roll = world.random.random()
    if roll < 0.25 and version >= 1:
        body["Topics"] = None
    elif roll < 0.35:
        body["Topics"] = []
    elif roll < 0.5 and version >= 10:
        chosen = world.some_topic()
        body["Topics"] = [{"Name": None, "TopicId": chosen.id},
                          {"Name": None, "TopicId": "00000000-0000-0000-0000-0000000000aa"}][:world.random.choice((1, 2))]
    else:
        names = [world.some_topic().name for _ in range(world.random.randint(1, 3))]
        if version >= 4 and world.chance(0.5):
            names.append(world.random.choice(BAD_NAMES + (world.prefix + "gone",)))
        body["Topics"] = [{"Name": name} for name in dict.fromkeys(names)]
        if version < 4 or world.chance(0.15):
            body["Topics"] = [row for row in body["Topics"] if row["Name"] in world.topics]
    if version >= 8 and world.chance(0.3):
        body["IncludeTopicAuthorizedOperations"] = True
    if 8 <= version <= 10 and world.chance(0.3):
        body["IncludeClusterAuthorizedOperations"] = True
    world.ask("Metadata", body, version)


def auto_create(world):
    """A topic that comes to be because somebody asked for it."""
    name = world.fresh("auto")
    version = world.version("Metadata", 4)
    if world.chance(0.3):
        bad = world.random.choice(BAD_NAMES)
        world.ask("Metadata", {"Topics": [{"Name": bad}], "AllowAutoTopicCreation": True}, version, "auto-create")
    body = {"Topics": [{"Name": name}], "AllowAutoTopicCreation": True}
    world.ask("Metadata", body, version, "auto-create")
    world.track(name)
    world.ask("Metadata", body, version)


def describe_partitions(world):
    names = sorted({world.some_topic().name for _ in range(world.random.randint(0, 3))})
    if world.chance(0.4):
        names.append(world.random.choice(("a b", world.prefix + "gone")))
    if not names:
        names = [world.some_topic().name]
    body = {"Topics": [{"Name": name} for name in names],
            "ResponsePartitionLimit": world.random.choice((1, 2, 3, 2000))}
    if world.chance(0.4):
        body["Cursor"] = {"TopicName": world.random.choice(names), "PartitionIndex": world.random.choice((0, 1, 2))}
    world.ask("DescribeTopicPartitions", body)


def describe_configs(world, topic=None):
    row = {"ResourceType": TOPIC, "ResourceName": (topic or world.some_topic()).name, "ConfigurationKeys": None}
    if topic is None:
        roll = world.random.random()
        if roll < 0.4:
            names = [world.random.choice(GOOD_SETTINGS + BAD_SETTINGS)[0] for _ in range(3)]
            row["ConfigurationKeys"] = list(dict.fromkeys(names))
        elif roll < 0.5:
            row["ConfigurationKeys"] = []
        roll = world.random.random()
        if roll < 0.15:
            row["ResourceName"] = world.random.choice(BAD_NAMES + (world.prefix + "gone",))
        elif roll < 0.25:
            keys = ["num.partitions", "auto.create.topics.enable", "message.max.bytes", "log.retention.hours",
                    "compression.type", "log.cleanup.policy", "group.initial.rebalance.delay.ms"]
            row = {"ResourceType": BROKER, "ResourceName": world.random.choice(("1", "", "7", "x")),
                   "ConfigurationKeys": keys}
        elif roll < 0.3:
            row["ResourceType"] = world.random.choice((0, 1, 3, 64, BROKER_LOGGER))
    rows = [row]
    if world.chance(0.1):
        rows.append({"ResourceType": TOPIC, "ResourceName": world.prefix + "gone", "ConfigurationKeys": None})
    body = {"Resources": rows, "IncludeSynonyms": world.chance(0.5)}
    version = world.version("DescribeConfigs")
    if version >= 3:
        body["IncludeDocumentation"] = False
    return world.ask("DescribeConfigs", body, version)


def alter(world):
    """Changes settings, the new way or the old one, and looks at the outcome."""
    topic = world.some_topic()
    validate_only = world.chance(0.2)
    if world.chance(0.75):
        rows = []
        for _ in range(world.random.choice((1, 1, 2))):
            name, value = setting(world, 0.3)
            operation = world.random.choice((0, 0, 0, 1, 2, 3, 9) if world.chance(0.5) else (0,))
            if operation == 1:
                value = None
            if operation in (2, 3) and world.chance(0.6):
                name, value = "cleanup.policy", world.random.choice(("compact", "delete", "remove"))
            if operation == 0 and world.chance(0.04):
                value = None
            rows.append({"Name": name, "ConfigOperation": operation, "Value": value})
        api = "IncrementalAlterConfigs"
    else:
        rows, api = settings(world, 3, 0.2), "AlterConfigs"
    resource = {"ResourceType": TOPIC, "ResourceName": topic.name, "Configs": rows}
    roll = world.random.random()
    if roll < 0.06:
        resource["ResourceName"] = world.random.choice((world.prefix + "gone", "", "a b"))
    elif roll < 0.1:
        resource["ResourceType"] = world.random.choice((0, 1, 64))
    elif roll < 0.13:
        resource.update(ResourceType=BROKER, ResourceName=world.random.choice(("7", "x")))
    # Asked to alter the same resource twice the old way, Kafka doesn't answer.
    is_doubled = api == "IncrementalAlterConfigs" and world.chance(0.04)
    resources = [resource, dict(resource)] if is_doubled else [resource]
    world.ask(api, {"Resources": resources, "ValidateOnly": validate_only})
    world.settings()
    answer = describe_configs(world, topic)
    for row in answer["Results"][0]["Configs"] or ():
        if row["Name"] in ("max.message.bytes", "cleanup.policy", "message.timestamp.type", "compression.type"):
            topic.config[row["Name"]] = row["Value"]


def list_resources(world):
    version = world.version("ListConfigResources")
    body = {}
    if version >= 1 and world.chance(0.7):
        body["ResourceTypes"] = world.random.choice(([TOPIC], [BROKER], [TOPIC, BROKER], [16], [BROKER_LOGGER], [77]))
    world.ask("ListConfigResources", body, version)


ACTIONS = ((create_some, 6), (delete, 3), (create_partitions, 4), (metadata, 6), (auto_create, 1),
           (describe_partitions, 3), (describe_configs, 4), (alter, 7), (list_resources, 2))
