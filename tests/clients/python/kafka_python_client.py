"""kafka-python (pure Python)."""
import kafka
from kafka import TopicPartition
from kafka.admin import ConfigResource, KafkaAdminClient
from kafka.errors import KafkaError, TopicAlreadyExistsError
from kafka.structs import OffsetAndMetadata

import flow


def refusals(call, *arguments, **options):
    try:
        return call(*arguments, **options)
    except TopicAlreadyExistsError as error:
        raise flow.TopicExists(str(error)) from error
    except KafkaError as error:
        raise flow.Refused(f"{type(error).__name__} {error}") from error


class Consumer(flow.Consumer):
    def __init__(self, bootstrap, group):
        self.consumer = kafka.KafkaConsumer(
            bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False, auto_offset_reset="earliest",
            session_timeout_ms=10000, heartbeat_interval_ms=1000, fetch_max_wait_ms=100)

    def assign(self, topic, partition, position):
        at = TopicPartition(topic, partition)
        self.consumer.assign([at])
        if position == "start":
            self.consumer.seek_to_beginning(at)
        elif position == "end":
            self.consumer.seek_to_end(at)
        else:
            self.consumer.seek(at, position)

    def subscribe(self, topic):
        self.consumer.subscribe([topic])

    def assignment(self):
        return [at.partition for at in self.consumer.assignment()]

    def poll(self, seconds):
        polled = self.consumer.poll(timeout_ms=int(seconds * 1000))
        return [flow.Record(record.value, record.key, tuple(record.headers), record.partition, record.timestamp,
                            record.offset)
                for records in polled.values() for record in records]

    def commit(self, topic, partition, offset):
        self.consumer.commit({TopicPartition(topic, partition): OffsetAndMetadata(offset, "", -1)})

    def offset_for_time(self, topic, partition, timestamp):
        at = TopicPartition(topic, partition)
        found = self.consumer.offsets_for_times({at: timestamp})[at]
        return found.offset if found else None

    def close(self):
        self.consumer.close()


class Client(flow.Client):
    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.admin = KafkaAdminClient(bootstrap_servers=bootstrap)

    def create_topic(self, topic, partitions, config):
        options = {"num_partitions": partitions, "replication_factor": 1, "configs": config}
        refusals(self.admin.create_topics, {topic: options})

    def list_topics(self):
        return set(self.admin.list_topics())

    def partition_count(self, topic):
        [described] = self.admin.describe_topics([topic])
        return len(described["partitions"])

    def describe_config(self, topic):
        described = self.admin.describe_configs([ConfigResource("topic", topic)], config_filter="all")
        return {name: entry["value"] for name, entry in described["topic"][topic].items()}

    def alter_config(self, topic, name, value):
        answers = refusals(self.admin.alter_configs, [ConfigResource("topic", topic, {name: value})])
        if answers["topic"][topic] not in (None, "OK"):
            raise flow.Refused(str(answers))

    def create_partitions(self, topic, total):
        refusals(self.admin.create_partitions, {topic: total})

    def delete_topic(self, topic):
        refusals(self.admin.delete_topics, [topic])

    def list_groups(self):
        return {group["group_id"] for group in self.admin.list_groups()}

    def describe_group(self, group):
        described = self.admin.describe_groups([group])[group]
        return described["group_state"], len(described["members"])

    def delete_group(self, group):
        refused = refusals(self.admin.delete_groups, [group])
        if str(refused[group]) != "OK" and refused[group] is not None:
            raise flow.Refused(str(refused))

    def options(self, idempotent):
        return {"enable_idempotence": idempotent}

    def produce(self, topic, records, codec="none", idempotent=False):
        producer = kafka.KafkaProducer(
            bootstrap_servers=self.bootstrap, compression_type=None if codec == "none" else codec, linger_ms=20,
            **self.options(idempotent))
        sent = [producer.send(topic, record.value, record.key, list(record.headers), record.partition, record.timestamp)
                for record in records]
        offsets = [future.get(flow.DEADLINE_SECONDS).offset for future in sent]
        producer.close()
        return offsets

    def consumer(self, group=None):
        return Consumer(self.bootstrap, group)


if __name__ == "__main__":
    flow.main(Client)
