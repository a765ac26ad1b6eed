"""Produce, Fetch, offsets: the log."""

from dataclasses import dataclass, field

import topics
from records import Batch, OldMessages, Record, Records
from sides import Ref
from tables import PIECE

NEVER_TOPIC_ID = "00000000-0000-0000-0000-0000000000aa"


@dataclass
class Producer:
    """An idempotent producer as it knows itself."""

    name: str
    epoch: int = 0
    sequences: dict = field(default_factory=dict)
    sent: dict = field(default_factory=dict)


@dataclass
class Session:
    """A fetch session."""

    name: str
    epoch: int
    version: int
    partitions: dict = field(default_factory=dict)


def state(world):
    """What this area keeps between its steps."""
    if not hasattr(world, "producers"):
        world.producers, world.sessions = [], []
    return world


def new_producer(world):
    name = f"producer:{world.prefix}{len(state(world).producers)}"

    def learn(side, answer):
        if answer["ErrorCode"] == 0:
            side.learn(name, answer["ProducerId"])

    body = {"TransactionalId": None, "TransactionTimeoutMs": world.random.choice((60000, 0, -1))}
    answer = world.ask("InitProducerId", body, learn=learn)
    if answer["ErrorCode"] == 0:
        world.producers.append(Producer(name, answer["ProducerEpoch"]))
        return world.producers[-1]
    return None


def bump_epoch(world):
    """InitProducerId with an id and epoch: KIP-360."""
    if not state(world).producers:
        return
    producer = world.random.choice(world.producers)
    epoch = producer.epoch + world.random.choice((0, 0, 0, -1, 1, 5))
    body = {"TransactionalId": None, "TransactionTimeoutMs": 60000, "ProducerId": Ref(producer.name),
            "ProducerEpoch": epoch}
    name = f"producer:{world.prefix}{len(world.producers)}"

    def learn(side, answer):
        known = side.name_of("producer", answer["ProducerId"])
        if answer["ErrorCode"] == 0 and not isinstance(known, str):
            side.learn(name, answer["ProducerId"])

    answer = world.ask("InitProducerId", body, world.version("InitProducerId", 3), learn=learn)
    if answer["ErrorCode"] == 0:
        known = world.kafka.name_of("producer", answer["ProducerId"])
        if known == producer.name:
            producer.epoch = answer["ProducerEpoch"]
            producer.sequences, producer.sent = {}, {}
        else:
            world.producers.append(Producer(name, answer["ProducerEpoch"]))


def records(world, topic, keys=None):
    """One to eight records."""
    random = world.random
    compacted = "compact" in topic.config.get("cleanup.policy", "")
    out = []
    for _ in range(random.choice((1, 1, 2, 3, 8))):
        has_key = random.random() < (1.0 if compacted else 0.5) if keys is None else keys
        key = f"k{random.randint(0, 9)}".encode() if has_key else None
        value = None if random.random() < 0.1 else random.randbytes(random.choice((0, 1, 20, 200)))
        headers = ((b"h", b"v"), (b"", None)) if random.random() < 0.1 else ()
        out.append(Record(random.randint(0, 1000), key, value, headers))
    return out


def good_batch(world, topic, keys=None):
    base = world.now - world.random.choice((0, 1000, 60000))
    return Batch(records(world, topic, keys), base, world.random.choice((0, 0, 1, 2, 3, 4)))


def send(world, topic, partition, content, version=None, purpose="", acks=None):
    """One Produce request for one partition; gives Kafka's answer for the partition."""
    version = world.version("Produce") if version is None else version
    named = {"TopicId": topic.id} if version >= 13 else {"Name": topic.name}
    acks = world.random.choice((-1, -1, 1)) if acks is None else acks
    body = {"Acks": acks, "TimeoutMs": 20000,
            "TopicData": [{**named, "PartitionData": [{"Index": partition, "Records": content}]}]}
    answer = world.ask("Produce", body, version, purpose)
    if not isinstance(answer, dict):
        return None
    result = answer["Responses"][0]["PartitionResponses"][0]
    appended(topic, partition, content, result)
    return result


def appended(topic, partition, content, result):
    if result["ErrorCode"] == 0 and result["BaseOffset"] >= 0 and content.batches:
        end = result["BaseOffset"] + len(getattr(content.batches[0], "records", ()))
        topic.ends[partition] = max(topic.end(partition), end)


def produce(world):
    topic = world.some_topic()
    partition = world.random.randrange(topic.partitions)
    send(world, topic, partition, Records([good_batch(world, topic)]))


def produce_packed(world):
    """To a topic whose batches are packed anew. Packers differ in size, so that these topics are read whole."""
    if not hasattr(world, "packed"):
        world.packed = {}
    codec = world.random.choice(("gzip", "snappy", "lz4"))
    if codec not in world.packed:
        topic = topics.create(world, world.fresh("packed"), 1, {"compression.type": codec})
        if topic is None:
            return
        world.packed[codec] = world.topics.pop(topic.name)
    topic = world.packed[codec]
    end = topic.end(0)
    send(world, topic, 0, Records([good_batch(world, topic)]), purpose=f"packed anew with {codec}")
    look(world, topic, 0, end)


def produce_many(world):
    """Several partitions and topics in one request, some of which aren't there."""
    version = world.version("Produce")
    chosen = {world.some_topic().name for _ in range(3)}
    rows, sent = [], []
    for name in sorted(chosen):
        topic = world.topics[name]
        wanted = sorted({world.random.randrange(topic.partitions) for _ in range(2)})
        if world.chance(0.15):
            wanted.append(world.random.choice((-1, 77)))
        parts = []
        for partition in wanted:
            content = Records([good_batch(world, topic)])
            parts.append({"Index": partition, "Records": content})
            sent.append((topic, partition, content))
        rows.append({**({"TopicId": topic.id} if version >= 13 else {"Name": name}), "PartitionData": parts})
    if world.chance(0.2):
        lost = {"TopicId": NEVER_TOPIC_ID} if version >= 13 else {
            "Name": world.random.choice((world.prefix + "gone", "a b", ""))}
        rows.append({**lost, "PartitionData": [{"Index": 0, "Records": Records([Batch([Record()], world.now)])}]})
    acks = world.random.choice((-1, 1, 1, -1, 2)) if world.chance(0.2) else -1
    body = {"Acks": acks, "TimeoutMs": 20000, "TopicData": rows}
    answer = world.ask("Produce", body, version, "several partitions")
    results = {}
    for row in answer["Responses"]:
        key = world.kafka.name_of("topic", row["TopicId"]).partition(":")[2] if version >= 13 else row["Name"]
        for part in row["PartitionResponses"]:
            results[key, part["Index"]] = part
    for topic, partition, content in sent:
        appended(topic, partition, content, results[topic.name, partition])


def produce_bad(world):
    """A batch that is wrong in one way."""
    topic = world.some_topic()
    partition = world.random.randrange(topic.partitions)
    random = world.random
    batch = good_batch(world, topic)
    wrong = random.choice((
        "crc", "count+", "count-", "last delta", "long", "short", "cut", "magic 3", "magic -1", "control",
        "transactional", "codec 5", "codec 7", "base offset", "too large", "just too large", "old", "future",
        "timestamp -1", "no sequence", "damaged", "tail", "two batches", "empty", "no records", "magic 0",
        "magic 1", "no key", "claims append time", "max timestamp", "bad delta"))
    content = Records([batch])
    if wrong == "crc":
        batch.break_crc = True
    elif wrong == "count+":
        batch.add_to_count = 1
        batch.add_to_last_delta = random.choice((0, 1))
    elif wrong == "count-":
        batch.add_to_count = -1
        batch.add_to_last_delta = random.choice((0, -1))
    elif wrong == "last delta":
        batch.add_to_last_delta = random.choice((1, -1, -20))
    elif wrong == "long":
        batch.add_to_length = 5
    elif wrong == "short":
        batch.add_to_length = random.choice((-1, -5, -48, -100))
    elif wrong == "cut":
        batch.cut = random.choice((1, 5, 30))
    elif wrong.startswith("magic ") and wrong[6:] in ("3", "-1"):
        batch.magic = int(wrong[6:])
    elif wrong.startswith("magic "):
        content = Records([OldMessages(int(wrong[6:]), [b"a", b"b"])])
    elif wrong == "control":
        batch.extra_attributes = 32
    elif wrong == "transactional":
        batch.extra_attributes = 16
    elif wrong.startswith("codec "):
        batch.codec = int(wrong[6:])
    elif wrong == "base offset":
        batch.base_offset = random.choice((5, -1))
    elif wrong == "too large":
        limit = int(topic.config.get("max.message.bytes", 1048588))
        if limit > 30000:
            return
        batch.codec, batch.records = 0, [Record(0, b"k", random.randbytes(limit))]
    elif wrong == "just too large":
        limit = int(topic.config.get("max.message.bytes", 1048588))
        if limit > 30000:
            return
        batch.codec, batch.records = 0, [Record(0, b"k", b"")]
        room = limit - len(batch.encode(-1))
        batch.records = [Record(0, b"k", b"x" * max(0, room - 2 + random.choice((-1, 0, 1, 2))))]
    elif wrong == "old":
        batch.base_timestamp = world.now - random.choice((7_200_000, 10 ** 12, world.now))
    elif wrong == "future":
        batch.base_timestamp = world.now + random.choice((7_200_000, 10 ** 12))
    elif wrong == "timestamp -1":
        batch.base_timestamp = random.choice((-1, -1001, -5000))
    elif wrong == "no sequence":
        batch.producer, batch.epoch = 12345, 0
    elif wrong == "damaged":
        batch.codec = random.choice((1, 2, 3, 4))
        batch.records = [Record(0, b"k", b"y" * 300)]
        content = Records([Damaged(batch)])
    elif wrong == "tail":
        batch.tail = random.choice((b"\0" * 5, b"\0" * 20, b"\1" * 30))
    elif wrong == "two batches":
        content = Records([batch, good_batch(world, topic)])
    elif wrong == "empty":
        content = Records([])
    elif wrong == "no records":
        batch.records = []
    elif wrong == "no key":
        batch = good_batch(world, topic, keys=False)
        content = Records([batch])
    elif wrong == "claims append time":
        batch.extra_attributes = 8
    elif wrong == "max timestamp":
        batch.max_timestamp = batch.base_timestamp + random.choice((-5, 5000))
    elif wrong == "bad delta":
        batch.codec = random.choice((1, 3))
        batch.records = [Record(0, b"k", b"v", (), 0), Record(0, b"k", b"v", (), 2)]
    result = send(world, topic, partition, content, purpose=wrong)
    if result and result["ErrorCode"] == 0:
        look(world, topic, partition, max(0, result["BaseOffset"]))


class Damaged:
    """A batch whose packed bytes are damaged before its checksum is made."""

    def __init__(self, batch):
        self.batch, self.producer = batch, batch.producer

    @property
    def records(self):
        return self.batch.records

    def encode(self, producer_id):
        import struct
        from records import crc32c
        data = bytearray(self.batch.encode(producer_id))
        for at in range(63, min(len(data), 71)):
            data[at] ^= 0xA5
        struct.pack_into(">I", data, 17, crc32c(data[21:]))
        return bytes(data)


def produce_idempotent(world):
    """In sequence, or again, or with a gap, or with another epoch."""
    random = world.random
    if not state(world).producers or (world.chance(0.1) and len(world.producers) < 6):
        new_producer(world)
    producer = random.choice(world.producers)
    topic = world.some_topic()
    partition = random.randrange(topic.partitions)
    if producer.sequences and world.chance(0.75):
        name, partition = random.choice(sorted(producer.sequences))
        if name not in world.topics:
            del producer.sequences[name, partition]
            producer.sent.pop((name, partition), None)
            return
        topic = world.topics[name]
    key = (topic.name, partition)
    following = producer.sequences.get(key, 0)
    sent = producer.sent.get(key, [])
    batch = good_batch(world, topic)
    batch.producer, batch.epoch, batch.sequence = producer.name, producer.epoch, following
    roll, purpose = random.random(), "in sequence"
    known = key in producer.sequences
    if known and roll < 0.2 and sent:
        age = random.randrange(1, min(len(sent), 7) + 1)
        batch, purpose = sent[-age], f"again, {age} back"
    elif known and roll < 0.3:
        batch.sequence, purpose = following + random.choice((1, 5)), "gap"
    elif known and roll < 0.36:
        batch.sequence, purpose = max(0, following - 1), "overlap"
    elif known and roll < 0.44:
        batch.epoch, purpose = producer.epoch - 1, "old epoch"
    elif known and roll < 0.5:
        batch.epoch, batch.sequence, purpose = producer.epoch + 1, 3, "new epoch, not at 0"
    elif known and roll < 0.53:
        batch.epoch, batch.sequence, purpose = producer.epoch + 1, 0, "new epoch, at 0"
    result = send(world, topic, partition, Records([batch]), purpose=f"idempotent, {purpose}")
    if not result or result["ErrorCode"] != 0:
        return
    if batch.epoch > producer.epoch:
        producer.epoch = batch.epoch
        producer.sequences, producer.sent = {}, {}
    if not purpose.startswith("again"):
        producer.sequences[key] = batch.sequence + len(batch.records)
        producer.sent.setdefault(key, []).append(batch)


def look(world, topic, partition, offset):
    """What a partition holds from an offset on."""
    version = world.version("Fetch")
    named = {"TopicId": topic.id} if version >= 13 else {"Topic": topic.name}
    part = {"Partition": partition, "FetchOffset": offset, "PartitionMaxBytes": 1 << 20}
    body = {"MaxWaitMs": 0, "MinBytes": 0, "MaxBytes": 1 << 22, "Topics": [{**named, "Partitions": [part]}]}
    world.ask("Fetch", body, version, "read back")


def fetch_partition(world, topic):
    random = world.random
    partition = random.randrange(topic.partitions)
    end = topic.end(partition)
    offset = random.choice((0, random.randint(0, end), random.randint(0, end), end, end))
    if world.chance(0.12):
        offset = random.choice((-1, end + 1, end + 100, 1 << 40))
    if world.chance(0.06):
        partition = random.choice((-1, 55))
    row = {"Partition": partition, "FetchOffset": offset,
           "PartitionMaxBytes": random.choice((0, 1, 100, 500, 4000, 1 << 20, 1 << 20, 1 << 20))}
    return row


def with_epochs(world, row, version, is_session):
    if version >= 9 and world.chance(0.15):
        row["CurrentLeaderEpoch"] = world.random.choice((0, 0, 1, 5))
    if version >= 12 and not is_session and world.chance(0.1):
        row["LastFetchedEpoch"] = world.random.choice((0, 0, 3))
    return row


def fetch_rows(world, version, most=4, is_session=False):
    by_topic = {}
    for _ in range(world.random.randint(1, most)):
        topic = world.some_topic()
        row = with_epochs(world, fetch_partition(world, topic), version, is_session)
        by_topic.setdefault(topic.name, {})[row["Partition"]] = row
    return by_topic


def fetch_body(world, version, by_topic):
    topics = []
    for name, rows in sorted(by_topic.items()):
        named = {"TopicId": world.topics[name].id} if version >= 13 else {"Topic": name}
        topics.append({**named, "Partitions": [rows[key] for key in sorted(rows)]})
    min_bytes = world.random.choice((0, 0, 1, 500))
    return {"MaxWaitMs": world.random.choice((0, 10, 30)), "MinBytes": min_bytes,
            "MaxBytes": world.random.choice((1, 300, 2000, 1 << 22, 1 << 22, 1 << 22)),
            "IsolationLevel": world.random.choice((0, 1)), "Topics": topics}


def fetch(world):
    version = world.version("Fetch")
    body = fetch_body(world, version, fetch_rows(world, version))
    if world.chance(0.1):
        lost = {"TopicId": NEVER_TOPIC_ID} if version >= 13 else {"Topic": world.prefix + "gone"}
        body["Topics"].append({**lost, "Partitions": [{"Partition": 0, "PartitionMaxBytes": 1000}]})
    if world.chance(0.04):
        key = {"ReplicaState": {"ReplicaId": 3}} if version >= 15 else {"ReplicaId": 3}
        body.update(key)
    world.ask("Fetch", body, version)


def fetch_session(world):
    """A full fetch that opens a session, or an incremental one in it."""
    random = world.random
    if len(state(world).sessions) < 2 or world.chance(0.15):
        open_session(world)
        return
    session = random.choice(world.sessions)
    version = session.version
    session.partitions = {key: row for key, row in session.partitions.items() if key[0] in world.topics}
    by_topic = fetch_rows(world, version, 2, True) if world.chance(0.5) else {}
    body = fetch_body(world, version, by_topic)
    for name, rows in by_topic.items():
        for partition, row in rows.items():
            session.partitions[name, partition] = row
    if session.partitions and world.chance(0.25):
        name, partition = random.choice(sorted(session.partitions))
        if name not in by_topic:
            named = {"TopicId": world.topics[name].id} if version >= 13 else {"Topic": name}
            body["ForgottenTopicsData"] = [{**named, "Partitions": [partition]}]
            del session.partitions[name, partition]
    body.update(SessionId=Ref(session.name), SessionEpoch=session.epoch)
    roll, purpose = random.random(), "incremental"
    if roll < 0.06:
        # 0 would open another session.
        body["SessionEpoch"], purpose = session.epoch + random.choice((1, 7, -1 if session.epoch > 1 else 2)), "wrong epoch"
    elif roll < 0.1:
        body["SessionId"], purpose = 123456789, "unknown session"
    elif roll < 0.14:
        body["SessionEpoch"], purpose = -1, "last fetch of a session"
    answer = world.ask("Fetch", body, version, purpose)
    # With other partitions served, they stand in another order from now on.
    if purpose == "incremental" and answer["ErrorCode"] == 0 and PIECE not in world.listed:
        session.epoch += 1
    else:
        world.sessions.remove(session)


def open_session(world):
    version = world.version("Fetch", 7)
    by_topic = fetch_rows(world, version, is_session=True)
    body = fetch_body(world, version, by_topic)
    body.update(SessionId=0, SessionEpoch=0)
    world.names += 1
    name = f"session:{world.prefix}{world.names}"

    def learn(side, answer):
        if answer["SessionId"]:
            side.learn(name, answer["SessionId"])

    answer = world.ask("Fetch", body, version, "opens a session", learn)
    if answer["ErrorCode"] == 0 and answer["SessionId"] and PIECE not in world.listed and name in world.penstock.numbers:
        partitions = {(topic, row["Partition"]): row for topic, rows in by_topic.items() for row in rows.values()}
        world.sessions.append(Session(name, 1, version, partitions))


def list_offsets(world):
    random = world.random
    version = world.version("ListOffsets")
    chosen = {}
    for _ in range(random.randint(1, 3)):
        topic = world.some_topic()
        partition = random.randrange(topic.partitions) if world.chance(0.93) else random.choice((-1, 99))
        stamp = random.choice((-1, -2, -3, -4, -5, -6, 0, world.now - 60000, world.now - 500, world.now - 3_000_000,
                               world.now + 10 ** 9, world.now - 1000, -7))
        row = {"PartitionIndex": partition, "Timestamp": stamp}
        if version >= 4 and world.chance(0.15):
            row["CurrentLeaderEpoch"] = random.choice((0, 0, 2))
        chosen.setdefault(topic.name, {})[partition] = row
    rows = [{"Name": name, "Partitions": list(parts.values())} for name, parts in sorted(chosen.items())]
    if world.chance(0.1):
        rows.append({"Name": random.choice((world.prefix + "gone", "a b")),
                     "Partitions": [{"PartitionIndex": 0, "Timestamp": -1}]})
    body = {"ReplicaId": random.choice((-1, -1, -1, -1, -2, 4)), "Topics": rows}
    if version >= 2:
        body["IsolationLevel"] = random.choice((0, 1))
    if version >= 10:
        body["TimeoutMs"] = 3000
    world.ask("ListOffsets", body, version)


def leader_epochs(world):
    random = world.random
    version = world.version("OffsetForLeaderEpoch")
    topic = world.some_topic()
    row = {"Partition": random.choice((0, 0, topic.partitions - 1, 88)),
           "LeaderEpoch": random.choice((0, 0, 0, 1, 5, -1)), "CurrentLeaderEpoch": random.choice((-1, -1, 0, 3))}
    name = topic.name if world.chance(0.9) else world.prefix + "gone"
    body = {"Topics": [{"Topic": name, "Partitions": [row]}]}
    if version >= 3:
        body["ReplicaId"] = random.choice((-1, -2))
    world.ask("OffsetForLeaderEpoch", body, version)


def delete_records(world):
    """Some of a log, all of it, nothing, more than there is."""
    random = world.random
    topic = world.some_topic()
    partition = random.randrange(topic.partitions + 1)
    end = topic.end(partition)
    offset = random.choice((-1, 0, end // 4, end // 2, end // 2, end, end + 1, -2, random.randint(0, end + 1)))
    name = topic.name if random.random() < 0.95 else world.fresh("missing")
    body = {"Topics": [{"Name": name, "Partitions": [{"PartitionIndex": partition, "Offset": offset}]}],
            "TimeoutMs": 20000}
    world.ask("DeleteRecords", body)


ACTIONS = ((produce, 14), (produce_packed, 4), (produce_many, 5), (produce_bad, 10), (produce_idempotent, 12), (bump_epoch, 1), (delete_records, 3),
           (fetch, 14), (fetch_session, 12), (list_offsets, 9), (leader_epochs, 2))
