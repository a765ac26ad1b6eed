"""The clients of a load, each a process: producers, readers that move from agent to agent, members of a group, what asks for
committed offsets, and what asks each agent for end offsets.

    python workers.py DIRECTORY KIND INDEX

What a worker found is in KIND-INDEX.json at its end. They need confluent-kafka.
"""
import collections
import json
import os
import pathlib
import signal
import struct
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from board import VALUE_HEAD, Board, Plan
from checker import Anomalies, Committed, Ends, LogCheck, Position
from wire import NOT_LEADER_OR_FOLLOWER, OFFSET_OUT_OF_RANGE, Connection, WireError

TICK_SECONDS = 0.01


class Worker:
    """What all of them have."""

    def __init__(self, plan, kind, index):
        self.plan, self.kind, self.index = plan, kind, index
        self.board, self.anomalies, self.errors = Board(plan), Anomalies(), collections.Counter()
        self.facts = {}

    def signal(self, which):
        """Whether the driver gave that signal."""
        return self.board.signals[which] != 0

    def error(self, error):
        """One that clients are to live through; counted."""
        name = error.name() if isinstance(error, KafkaError) else type(error).__name__
        self.errors[name] += 1

    def finish(self):
        """Writes down what was found."""
        told = {"anomalies": self.anomalies.told(), "errors": dict(sorted(self.errors.items())), **self.facts}
        path = pathlib.Path(self.plan.directory, f"{self.kind}-{self.index}.json")
        path.write_text(json.dumps(told), encoding="utf-8")


class ProducerWorker(Worker):
    """An idempotent producer that numbers its records in each partition."""

    def run(self):
        """Until the driver says so, or its share is sent; then all has to be delivered."""
        self.producer = Producer({
            **self.plan.client(self.index, "producer"), "enable.idempotence": True, "message.timeout.ms": 0,
            "queue.buffering.max.messages": 200_000, "error_cb": self._failed})
        self._send()
        left = self.producer.flush(self.plan.drain_seconds)
        if left:
            what = f"producer {self.index}: {left} records not delivered in {self.plan.drain_seconds:.0f} s"
            self.anomalies.add("undelivered", what, left)
            # They would be sent on while the log is read.
            self.producer.purge()
            self.producer.flush(5)

    def _failed(self, error):
        self.error(error)
        if error.fatal():
            self.anomalies.add("fatal-producer", f"producer {self.index}: {error}")

    def _send(self):
        plan, board = self.plan, self.board
        begun, count, share = time.monotonic(), 0, plan.records // plan.producers
        filler = b"." * (plan.record_bytes - VALUE_HEAD.size)
        numbers = [0] * plan.partitions
        while count < share and not self.signal(Board.PRODUCERS_END):
            due = min(share, int((time.monotonic() - begun) * plan.rate / plan.producers) + 1) if plan.rate else share
            while count < due:
                partition = count % plan.partitions
                value = VALUE_HEAD.pack(self.index, partition, numbers[partition]) + filler
                try:
                    self.producer.produce(plan.topic, value, partition=partition, on_delivery=self._delivered)
                except BufferError:
                    self.producer.poll(0.05)
                    break
                numbers[partition] += 1
                count += 1
                board.sent[board.cell(self.index, partition)] = numbers[partition]
                if count % 1000 == 0:
                    self.producer.poll(0)
            self.producer.poll(TICK_SECONDS)
            if self.anomalies.counts["fatal-producer"]:
                return

    def _delivered(self, error, message):
        if error:
            if error.code() != KafkaError._PURGE_QUEUE and error.code() != KafkaError._PURGE_INFLIGHT:
                self.anomalies.add("undelivered", f"producer {self.index}: {error}")
            return
        partition, number, offset = message.partition(), VALUE_HEAD.unpack_from(message.value())[2], message.offset()
        board, cell = self.board, self.board.cell(self.index, message.partition())
        at = cell * self.plan.capacity + number
        if board.told[at]:
            self.anomalies.add("duplicate", f"producer {self.index}'s {number} of partition {partition} was acknowledged twice")
        board.told[at] = offset + 1 if offset >= 0 else -1
        if offset >= board.acknowledged_end[cell]:
            board.acknowledged_end[cell] = offset + 1
        board.acknowledged[cell] += 1
        seconds = message.latency() or 0
        board.count_latency(self.index, time.monotonic_ns() - int(seconds * 1e9), seconds)


class Reading:
    """The checks of one reader of all partitions."""

    def __init__(self, plan, anomalies, where):
        self.plan, self.anomalies = plan, anomalies
        self.checks = [LogCheck(partition, anomalies, where) for partition in range(plan.partitions)]

    def polled(self, message):
        """A message without an error."""
        self.value(message.partition(), message.offset(), message.value())

    def value(self, partition, offset, value):
        """The next record of a partition. Its producer and number, if it is one of ours."""
        check = self.checks[partition]
        if len(value) != self.plan.record_bytes:
            check.foreign(offset, f"a value of {len(value)} bytes")
            return None
        producer, of, number = VALUE_HEAD.unpack_from(value)
        if of != partition or producer >= self.plan.producers or number >= self.plan.capacity:
            check.foreign(offset, f"producer {producer}'s {number} of partition {of}")
            return None
        check.feed(offset, producer, number)
        return producer, number

    def positions(self):
        """Next offsets."""
        return [check.next_offset for check in self.checks]


class Progress:
    """Tells who has come no further for too long."""

    def __init__(self, seconds):
        self.seconds, self.state, self.since, self.longest = seconds, None, time.monotonic(), 0

    def is_stuck(self, state):
        """The state now."""
        now = time.monotonic()
        if state != self.state:
            if self.state is not None:
                self.longest = max(self.longest, now - self.since)
            self.state, self.since = state, now
        return now - self.since > self.seconds


class ReaderWorker(Worker):
    """Reads all partitions with a client that is closed and opened at another agent again and again."""

    def run(self):
        """To the end of the log once that is known."""
        self.reading = Reading(self.plan, self.anomalies, f"reader {self.index}, ")
        moves, progress = 0, Progress(self.plan.drain_seconds)
        while not self._done():
            if progress.is_stuck(self.reading.positions()):
                self.anomalies.add("stuck-reader", f"reader {self.index} is at {self.reading.positions()} of {list(self.board.ends)}")
                return
            self._read_at(self.index + moves)
            moves += 1
        self.facts["moves"] = moves
        for partition, check in enumerate(self.reading.checks):
            check.finish(self.board.sent_by(partition), lambda *_: False, "poll-skip")

    def _done(self):
        return self.signal(Board.ALL_END) or self.board.at_end(self.reading.positions())

    def _read_at(self, at):
        consumer = Consumer({**self.plan.client(at, f"reader-{self.index}"), "group.id": "no-group", "enable.auto.commit": False,
                             "auto.offset.reset": "error", "check.crcs": True, "error_cb": self.error})
        consumer.assign([TopicPartition(self.plan.topic, partition, offset) for partition, offset in enumerate(self.reading.positions())])
        until = time.monotonic() + self.plan.move_seconds
        while time.monotonic() < until and not self._done():
            for message in consumer.consume(1000, 0.2):
                if not message.error():
                    self.reading.polled(message)
                elif message.error().code() in (KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET):
                    where = self.plan.bootstrap[at % len(self.plan.bootstrap)]
                    self.anomalies.add("offset-out-of-range", f"reader {self.index} at {where}: {message.error()}")
                    until = 0
                else:
                    self.error(message.error())
        consumer.close()


class MemberWorker(Worker):
    """A member of the group, which commits what it has polled, and leaves and joins again at another agent."""

    def run(self):
        """Until the driver says so."""
        moves = 0
        while not self.signal(Board.ALL_END):
            self._consume_at(self.index + moves)
            moves += 1
        self.facts["moves"] = moves

    def _consume_at(self, at):
        self.positions = {}
        consumer = Consumer({
            **self.plan.client(at, f"member-{self.index}"), "group.id": self.plan.group, "enable.auto.commit": False,
            "auto.offset.reset": "earliest", "session.timeout.ms": 10_000, "heartbeat.interval.ms": 2000, "check.crcs": True,
            "error_cb": self.error})
        consumer.subscribe([self.plan.topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
        until = time.monotonic() + self.plan.move_seconds * (2 + self.index % 2)
        commit_at = 0
        # The last members stay, or the group would not come to its end.
        while not self.signal(Board.ALL_END) and (time.monotonic() < until or self.signal(Board.ENDS_KNOWN)):
            self._polled(consumer.consume(1000, 0.2))
            if time.monotonic() >= commit_at:
                self._commit(consumer)
                commit_at = time.monotonic() + 0.5
        self._commit(consumer)
        consumer.close()

    def _polled(self, messages):
        seen, capacity = self.board.seen, self.plan.partition_capacity
        for message in messages:
            if message.error():
                self.error(message.error())
                continue
            partition, offset = message.partition(), message.offset()
            if offset < capacity:
                seen[partition * capacity + offset] = 1
            if partition not in self.positions:
                self.positions[partition] = Position(partition, self.anomalies)
            self.positions[partition].polled(offset)

    def _commit(self, consumer):
        offsets = [TopicPartition(self.plan.topic, partition, position.next_offset)
                   for partition, position in sorted(self.positions.items())]
        if not offsets:
            return
        try:
            for told in consumer.commit(offsets=offsets, asynchronous=False):
                if told.error:
                    self.error(told.error)
        except KafkaException as failure:
            self.error(failure.args[0])

    def _assigned(self, _consumer, partitions):
        self.facts["assignments"] = self.facts.get("assignments", 0) + 1
        for partition in partitions:
            self.positions.pop(partition.partition, None)

    def _revoked(self, consumer, partitions):
        self._commit(consumer)
        self._lost(consumer, partitions)

    def _lost(self, _consumer, partitions):
        for partition in partitions:
            self.positions.pop(partition.partition, None)


class ObserverWorker(Worker):
    """Asks for the group's committed offsets, which never go back and reach the end."""

    def run(self):
        """Until the group is at the end of the log."""
        self.committed, self.progress = Committed(self.anomalies), Progress(self.plan.drain_seconds)
        moves = 0
        while not self._done():
            consumer = Consumer({**self.plan.client(moves, "observer"), "group.id": self.plan.group, "error_cb": self.error})
            until = time.monotonic() + self.plan.move_seconds
            while time.monotonic() < until and not self._done():
                self._ask(consumer)
                if self.progress.is_stuck(dict(self.committed.offsets)):
                    self._tell_stuck()
                    consumer.close()
                    return
                time.sleep(0.3)
            consumer.close()
            moves += 1
        self.facts["longest stall seconds"] = round(self.progress.longest, 1)
        for partition, offset in sorted(self.committed.offsets.items()):
            if self.signal(Board.ENDS_KNOWN) and offset > self.board.ends[partition]:
                self.anomalies.add("committed-past-end", f"partition {partition}: {offset}, it ends at {self.board.ends[partition]}")

    def _positions(self):
        return [self.committed.offsets.get(partition, 0) for partition in range(self.plan.partitions)]

    def _done(self):
        return self.signal(Board.ALL_END) or self.board.at_end(self._positions())

    def _tell_stuck(self):
        ends = list(self.board.ends) if self.signal(Board.ENDS_KNOWN) else "a log that grows"
        self.anomalies.add("stuck-group", f"committed {self._positions()} of {ends} for {self.plan.drain_seconds:.0f} s")

    def _ask(self, consumer):
        try:
            wanted = [TopicPartition(self.plan.topic, partition) for partition in range(self.plan.partitions)]
            for told in consumer.committed(wanted, timeout=15):
                if told.error:
                    self.error(told.error)
                else:
                    self.committed.seen(told.partition, told.offset if told.offset >= 0 else None)
        except KafkaException as failure:
            self.error(failure.args[0])


class ProbeWorker(Worker):
    """Asks each agent for itself for end offsets, and for what lies at the highest known end."""

    def run(self):
        """Until the readers are to end, an agent a thread."""
        self.ends = [Ends(partition, self.anomalies) for partition in range(self.plan.partitions)]
        self.answers = collections.Counter()
        self.lock = threading.Lock()
        agents = list(zip(self.plan.names, self.plan.bootstrap))
        threads = [threading.Thread(target=self._ask_for_ever, args=agent, daemon=True) for agent in agents]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.facts["answers"] = dict(sorted(self.answers.items()))

    def _ask_for_ever(self, name, address):
        # Longer than any pause, so that an agent answers behind it what it was asked before.
        connection = Connection(address, 20)
        while not self.signal(Board.ALL_END):
            leave = False
            try:
                leave = self._ask(connection, name)
            except (OSError, WireError, struct.error) as failure:
                with self.lock:
                    self.error(failure)
            if leave:
                # An agent that drains waits for its clients to go.
                connection.close()
            time.sleep(2 if leave else 0.2)
        connection.close()

    def _ask(self, connection, name):
        """Whether the agent sends its clients away."""
        partitions = range(self.plan.partitions)
        with self.lock:
            floors = [self.ends[partition].floor(self.board.end_acknowledged(partition)) for partition in partitions]
        told = connection.list_offsets(self.plan.topic, list(partitions))
        with self.lock:
            for partition, (error, end) in told.items():
                if error:
                    self.errors[f"ListOffsets error {error}"] += 1
                else:
                    self.answers[name] += 1
                    self.ends[partition].answered(name, floors[partition], end)
        for partition in partitions:
            error, high_watermark, _ = connection.fetch(self.plan.topic, partition, floors[partition], max_bytes=1)
            with self.lock:
                if error == NOT_LEADER_OR_FOLLOWER:
                    return True
                if error == OFFSET_OUT_OF_RANGE:
                    self.anomalies.add("offset-out-of-range", f"partition {partition}: {name} at {floors[partition]}")
                elif error:
                    self.errors[f"Fetch error {error}"] += 1
                else:
                    self.answers[name] += 1
                    self.ends[partition].answered(f"{name}'s fetch", floors[partition], high_watermark)
        return False


KINDS = {"producer": ProducerWorker, "reader": ReaderWorker, "member": MemberWorker, "observer": ObserverWorker, "probe": ProbeWorker}


def main():
    """One worker, to its end."""
    directory, kind, index = sys.argv[1], sys.argv[2], int(sys.argv[3])
    # Ctrl-C is the driver's.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    worker = KINDS[kind](Plan.load(directory), kind, index)
    worker.run()
    worker.finish()


def _end_with(parent):
    """Nothing is left behind by a driver that was killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    main()
