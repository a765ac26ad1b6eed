"""aiokafka (asyncio). Its loop runs in a thread of its own, so that its background tasks go on between calls."""
import asyncio
import threading

import aiokafka
from aiokafka import TopicPartition
from aiokafka import admin
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, for_code

try:
    from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
except ModuleNotFoundError:  # Before 0.9 it took kafka-python's.
    from kafka.admin.config_resource import ConfigResource, ConfigResourceType

import flow

LOOP = asyncio.new_event_loop()
threading.Thread(target=LOOP.run_forever, daemon=True).start()


def wait(coroutine):
    return asyncio.run_coroutine_threadsafe(coroutine, LOOP).result(flow.DEADLINE_SECONDS)


def refuse(code, message):
    """aiokafka leaves the codes in answers to its caller."""
    name = for_code(code).__name__
    if name == "TopicAlreadyExistsError":
        raise flow.TopicExists(message)
    if code:
        raise flow.Refused(f"{name} {message}")


class Consumer(flow.Consumer):
    def __init__(self, bootstrap, group):
        async def start():
            consumer = aiokafka.AIOKafkaConsumer(
                bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False, auto_offset_reset="earliest",
                session_timeout_ms=10000, heartbeat_interval_ms=1000, fetch_max_wait_ms=100)
            await consumer.start()
            return consumer
        self.consumer = wait(start())

    def assign(self, topic, partition, position):
        async def assign():
            at = TopicPartition(topic, partition)
            self.consumer.assign([at])
            if position == "start":
                await self.consumer.seek_to_beginning(at)
            elif position == "end":
                await self.consumer.seek_to_end(at)
            else:
                self.consumer.seek(at, position)
        wait(assign())

    def subscribe(self, topic):
        LOOP.call_soon_threadsafe(self.consumer.subscribe, [topic])

    def assignment(self):
        return [at.partition for at in self.consumer.assignment()]

    def poll(self, seconds):
        polled = wait(self.consumer.getmany(timeout_ms=int(seconds * 1000)))
        return [flow.Record(record.value, record.key, tuple(record.headers), record.partition, record.timestamp,
                            record.offset)
                for records in polled.values() for record in records]

    def commit(self, topic, partition, offset):
        wait(self.consumer.commit({TopicPartition(topic, partition): offset}))

    def offset_for_time(self, topic, partition, timestamp):
        at = TopicPartition(topic, partition)
        found = wait(self.consumer.offsets_for_times({at: timestamp}))[at]
        return found.offset if found else None

    def close(self):
        wait(self.consumer.stop())


class Client(flow.Client):
    def __init__(self, bootstrap):
        self.bootstrap = bootstrap

        async def start():
            client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
            await client.start()
            return client
        self.admin = wait(start())

    def create_topic(self, topic, partitions, config):
        answer = wait(self.admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=config)]))
        [(_, code, *message)] = answer.topic_errors
        refuse(code, str(message))

    def list_topics(self):
        return set(wait(self.admin.list_topics()))

    def partition_count(self, topic):
        [described] = wait(self.admin.describe_topics([topic]))
        return len(described["partitions"])

    def describe_config(self, topic):
        [answer] = wait(self.admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))
        [(code, message, _, _, entries)] = answer.resources
        refuse(code, message)
        return {entry[0]: entry[1] for entry in entries}

    def alter_config(self, topic, name, value):
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {name: value})
        [answer] = wait(self.admin.alter_configs([resource]))
        [(code, message, _, _)] = answer.resources
        refuse(code, message)

    def create_partitions(self, topic, total):
        if not hasattr(admin, "NewPartitions"):  # Before 0.10.
            raise flow.Cannot("has no CreatePartitions that works")
        try:
            wait(self.admin.create_partitions({topic: admin.NewPartitions(total)}))
        except KafkaError as error:
            raise flow.Refused(str(error)) from error

    def delete_topic(self, topic):
        [(_, code)] = wait(self.admin.delete_topics([topic])).topic_error_codes
        refuse(code, topic)

    def list_groups(self):
        return {group[0] for group in wait(self.admin.list_consumer_groups())}

    def describe_group(self, group):
        [answer] = wait(self.admin.describe_consumer_groups([group]))
        [(code, _, state, _, _, members, *_)] = answer.groups
        refuse(code, group)
        return state, len(members)

    def delete_group(self, group):
        raise flow.Cannot("has no DeleteGroups")

    def produce(self, topic, records, codec="none", idempotent=False):
        async def produce():
            producer = aiokafka.AIOKafkaProducer(
                bootstrap_servers=self.bootstrap, compression_type=None if codec == "none" else codec,
                enable_idempotence=idempotent, linger_ms=20)
            await producer.start()
            try:
                sent = [await producer.send(topic, record.value, record.key, record.partition, record.timestamp,
                                            list(record.headers))
                        for record in records]
                return [answer.offset for answer in await asyncio.gather(*sent)]
            finally:
                await producer.stop()
        return wait(produce())

    def consumer(self, group=None):
        return Consumer(self.bootstrap, group)


flow.main(Client)
