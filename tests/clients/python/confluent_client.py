"""confluent-kafka-python (librdkafka)."""
import uuid

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka import admin
from confluent_kafka.admin import AdminClient, ConfigResource, NewPartitions, NewTopic

import flow


def only(futures):
    """The result of a call for one thing."""
    [future] = futures.values()
    try:
        return future.result(20)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
            raise flow.TopicExists(str(error)) from error
        raise flow.Refused(f"{error.args[0].name()} {error}") from error


class Consumer(flow.Consumer):
    def __init__(self, bootstrap, group):
        self.consumer = confluent_kafka.Consumer({
            "bootstrap.servers": bootstrap, "group.id": group or f"unused-{uuid.uuid4()}", "enable.auto.commit": False,
            "auto.offset.reset": "earliest", "session.timeout.ms": 10000, "fetch.wait.max.ms": 100})

    def assign(self, topic, partition, position):
        offset = {"start": confluent_kafka.OFFSET_BEGINNING, "end": confluent_kafka.OFFSET_END}.get(position, position)
        self.consumer.assign([TopicPartition(topic, partition, offset)])

    def subscribe(self, topic):
        self.consumer.subscribe([topic])

    def assignment(self):
        return [at.partition for at in self.consumer.assignment()]

    def poll(self, seconds):
        records = []
        for message in self.consumer.consume(100, seconds):
            if message.error():
                raise KafkaException(message.error())
            records.append(flow.Record(message.value(), message.key(), tuple(message.headers() or ()),
                                       message.partition(), message.timestamp()[1], message.offset()))
        return records

    def commit(self, topic, partition, offset):
        self.consumer.commit(offsets=[TopicPartition(topic, partition, offset)], asynchronous=False)

    def offset_for_time(self, topic, partition, timestamp):
        [found] = self.consumer.offsets_for_times([TopicPartition(topic, partition, timestamp)], timeout=20)
        # Past the last record librdkafka gives the logical end.
        return found.offset if found.offset >= 0 else None

    def close(self):
        self.consumer.close()


class Client(flow.Client):
    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.admin = AdminClient({"bootstrap.servers": bootstrap})

    def create_topic(self, topic, partitions, config):
        only(self.admin.create_topics([NewTopic(topic, partitions, 1, config=config)]))

    def list_topics(self):
        return set(self.admin.list_topics(timeout=20).topics)

    def partition_count(self, topic):
        return len(self.admin.list_topics(topic, timeout=20).topics[topic].partitions)

    def describe_config(self, topic):
        entries = only(self.admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, topic)]))
        return {name: entry.value for name, entry in entries.items()}

    def alter_config(self, topic, name, value):
        if not hasattr(self.admin, "incremental_alter_configs"):  # Before 2.2.
            only(self.admin.alter_configs([ConfigResource(ConfigResource.Type.TOPIC, topic, {name: value})]))
            return
        entry = admin.ConfigEntry(name, value, incremental_operation=admin.AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
        only(self.admin.incremental_alter_configs([resource]))

    def create_partitions(self, topic, total):
        only(self.admin.create_partitions([NewPartitions(topic, total)]))

    def delete_topic(self, topic):
        only(self.admin.delete_topics([topic]))

    def list_groups(self):
        if not hasattr(self.admin, "list_consumer_groups"):  # Before 2.0.
            return {group.id for group in self.admin.list_groups(timeout=20)}
        return {group.group_id for group in self.admin.list_consumer_groups().result(20).valid}

    def describe_group(self, group):
        if not hasattr(self.admin, "describe_consumer_groups"):
            [described] = self.admin.list_groups(group, timeout=20)
            return described.state, len(described.members)
        described = only(self.admin.describe_consumer_groups([group]))
        return described.state.name.title(), len(described.members)

    def delete_group(self, group):
        if not hasattr(self.admin, "delete_consumer_groups"):
            raise flow.Cannot("has no DeleteGroups")
        only(self.admin.delete_consumer_groups([group]))

    def produce(self, topic, records, codec="none", idempotent=False):
        producer = confluent_kafka.Producer({
            "bootstrap.servers": self.bootstrap, "compression.type": codec, "enable.idempotence": idempotent,
            "linger.ms": 20})
        offsets = [None] * len(records)

        def done(at):
            def note(error, message):
                offsets[at] = error or message.offset()
            return note
        for at, record in enumerate(records):
            producer.produce(topic, record.value, record.key, record.partition, on_delivery=done(at),
                             timestamp=record.timestamp or 0, headers=list(record.headers))
        flow.expect(producer.flush(flow.DEADLINE_SECONDS), 0, "records not delivered")
        return offsets

    def consumer(self, group=None):
        return Consumer(self.bootstrap, group)


flow.main(Client)
