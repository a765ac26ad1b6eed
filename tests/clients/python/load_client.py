"""As LoadClient.java, with confluent-kafka (librdkafka): a producer or a consumer with default settings.

Arguments, input and output are those of LoadClient.java. Non-fatal errors that librdkafka tells of by the way (a connection that
was refused, which it tries again) are lines `told NAME`.
"""
import os
import sys
import threading
import time

from confluent_kafka import Consumer, Producer


class Told:
    """What the driver said so far."""

    def __init__(self):
        self.phase, self.ending = 0, False
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in sys.stdin:
            if line == "end\n":
                break
            self.phase = int(line)
        self.ending = True


def say(text):
    """A line for the driver."""
    print(text, flush=True)


def by_the_way(error):
    """librdkafka's error_cb: for information, unless it is fatal."""
    say(f"{'error' if error.fatal() else 'told'} {error.name()}")


def produce(told, bootstrap, topic, out, rate):
    """Until told to end; then until all is delivered."""
    producer = Producer({"bootstrap.servers": bootstrap, "error_cb": by_the_way})
    filler = " " + "." * 100

    def delivered(number, phase):
        def note(error, message):
            if error:
                say(f"error {error}")
            else:
                out.write(f"{number} {message.partition()} {message.offset()} {phase} {message.latency() * 1000:.0f}\n")
        return note
    begun, number = time.monotonic(), 0
    while not told.ending:
        while number < (time.monotonic() - begun) * rate:
            producer.produce(topic, f"{number}{filler}", on_delivery=delivered(number, told.phase))
            number += 1
        producer.poll(0.005)
    left = producer.flush(330)
    if left:
        say(f"error {left} records not delivered")
    say(f"sent {number}")


def consume(told, bootstrap, topic, out, group):
    """Until told to end."""
    # A topic that nobody wrote to yet is read from its start by whoever comes when.
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest", "error_cb": by_the_way})
    consumer.subscribe([topic], on_assign=lambda _, partitions: say(f"assigned {sorted(at.partition for at in partitions)}"),
                       on_lost=lambda _, partitions: say(f"error partitions lost: {sorted(at.partition for at in partitions)}"))
    while not told.ending:
        for message in consumer.consume(500, 0.2):
            if message.error():
                say(f"error {message.error()}")
            else:
                out.write(f"{message.value().split(b' ')[0].decode()} {message.partition()} {message.offset()}\n")
        out.flush()
    consumer.close()


def main():
    """BOOTSTRAP produce TOPIC OUT RATE, or BOOTSTRAP consume TOPIC OUT GROUP."""
    bootstrap, role, topic, path, last = sys.argv[1:]
    told = Told()
    with open(path, "w", encoding="utf-8") as out:
        if role == "produce":
            produce(told, bootstrap, topic, out, int(last))
        else:
            consume(told, bootstrap, topic, out, last)
    # Not held up by the thread that reads.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
