"""kafka-python before 3.0, whose administration is another and leaves the codes in answers to its caller."""
from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic
from kafka.errors import for_code
from kafka.structs import OffsetAndMetadata

import flow
import kafka_python_client
from kafka_python_client import refusals


def check(code, message):
    if code:
        raise flow.Refused(f"{for_code(code).__name__} {message}")


class Consumer(kafka_python_client.Consumer):
    def commit(self, topic, partition, offset):
        # The leader epoch came with 2.1.
        more = ("", -1) if "leader_epoch" in OffsetAndMetadata._fields else ("",)
        self.consumer.commit({TopicPartition(topic, partition): OffsetAndMetadata(offset, *more)})


class Client(kafka_python_client.Client):
    def create_topic(self, topic, partitions, config):
        refusals(self.admin.create_topics, [NewTopic(topic, partitions, 1, topic_configs=config)])

    def describe_config(self, topic):
        [answer] = self.admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        [(code, message, _, _, entries)] = answer.resources
        check(code, message)
        return {entry[0]: entry[1] for entry in entries}

    def alter_config(self, topic, name, value):
        answer = self.admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {name: value})])
        for one in answer if isinstance(answer, list) else [answer]:
            for code, message, *_ in one.resources:
                check(code, message)

    def create_partitions(self, topic, total):
        refusals(self.admin.create_partitions, {topic: NewPartitions(total)})

    def list_groups(self):
        return {group[0] for group in self.admin.list_consumer_groups()}

    def describe_group(self, group):
        [described] = self.admin.describe_consumer_groups([group])
        return described.state, len(described.members)

    def delete_group(self, group):
        [(_, error)] = self.admin.delete_consumer_groups([group])
        check(error.errno, group)

    def produce(self, topic, records, codec="none", idempotent=False):
        if idempotent and "enable_idempotence" not in kafka_python_client.kafka.KafkaProducer.DEFAULT_CONFIG:
            raise flow.Cannot("has no idempotent producer")
        return super().produce(topic, records, codec, idempotent)

    def options(self, idempotent):
        return super().options(idempotent) if idempotent else {}

    def consumer(self, group=None):
        return Consumer(self.bootstrap, group)


if __name__ == "__main__":
    flow.main(Client)
