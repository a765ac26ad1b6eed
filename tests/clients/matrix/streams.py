"""A Kafka Streams application: counts at least once through a repartition topic and a changelog.

Where the application's state directory is gone, the counts come back from the changelog. Streams deletes what it is through
with from the repartition topic (DeleteRecords).
"""
import pathlib
import re
import shutil
import signal
import tempfile

from . import process, wire
from .kcat import STEP_SECONDS, expect
from .libraries import JVM
from .report import Failed, Skipped

PARTITIONS = 2
READY_SECONDS = 60
WORDS = ("pipe", "river", "sluice", "turbine", "valve", "weir")


class Application:
    """The word count, one life after the other; what was sent to it, word by word."""

    def __init__(self, tools, run, directory):
        self.kcat, self.run, self.state = tools.kcat, run, pathlib.Path(directory, "state")
        self.lines, self.counts = f"{run}-lines", f"{run}-counts"
        self.command = [*JVM, "-cp", tools.class_path, "StreamsClient", tools.bootstrap, run, self.lines, self.counts, self.state]
        self.sent = dict.fromkeys(WORDS, 0)
        for topic in (self.lines, self.counts):
            wire.create_topic(tools.bootstrap, topic, PARTITIONS)

    def send(self, lines):
        """So many lines of all words, the first word once more in each second line."""
        texts = [" ".join(WORDS + WORDS[:1] if number % 2 else WORDS) for number in range(lines)]
        for partition in range(PARTITIONS):
            self.kcat.produce(self.lines, [(str(number), text) for number, text in enumerate(texts)][partition::PARTITIONS],
                              "-p", str(partition))
        for text in texts:
            for word in text.split():
                self.sent[word] += 1

    def start(self):
        return process.Background(self.command)

    def counted(self):
        """The newest count of each word."""
        return {word: int(count) for word, count in (line.split("|") for line in self.kcat.consume(self.counts))}

    def wait_counted(self, running, done):
        def check():
            if running.process.poll() is not None or any(line.startswith("error") for line in running.lines):
                raise Failed(f"the application ended: {running.lines[-5:]} {running.errors[-20:]}")
            return done(self.counted())
        process.wait_until(check, READY_SECONDS, lambda: f"{self.counted()} of {self.sent}; {running.lines[-5:]} {running.errors[-5:]}")

    def restored(self, running):
        """How many records of the changelog the stores were filled from."""
        found = [line.split() for line in running.lines if line.startswith("restored ")]
        return sum(int(count) for _, changelog, count in found if changelog.startswith(f"{self.run}-counts-changelog-"))

    def offset(self, topic, partition, which):
        """The first (-2) or the next (-1) offset."""
        arguments = ["kcat", "-b", self.kcat.bootstrap, "-m", "10", "-Q", "-t", f"{self.run}-{topic}:{partition}:{which}"]
        _, output, _ = process.run(arguments, STEP_SECONDS)
        return int(re.search(r"offset (\d+)", output)[1])


def word_count(tools, run):
    if not tools.kcat.installed:
        raise Skipped("kcat is not there")
    with tempfile.TemporaryDirectory() as directory:
        application = Application(tools, run, directory)
        counts_exactly(application, restores=False)
        check_purged(application)
        # After a clean stop what was counted is in the changelog, and nothing is counted twice.
        shutil.rmtree(application.state)
        counts_exactly(application, restores=True)
        counts_after_a_kill(application)


def counts_exactly(application, restores):
    with application.start() as running:
        application.send(100)
        application.wait_counted(running, lambda counted: counted == application.sent)
        check_restored(application, running, restores)
        running.stop()
        if "closed true" not in running.lines:
            raise Failed(f"it did not close: {running.lines[-5:]} {running.errors[-20:]}")
    expect(application.counted(), application.sent, "counts after a clean stop")


def counts_after_a_kill(application):
    """At least once: nothing is left out. What was not committed may come into the repartition topic twice, and what was in it
    already may be counted once more, so that nothing is counted more than three times."""
    before = dict(application.sent)
    application.send(2000)
    with application.start() as running:
        application.wait_counted(running, lambda counted: sum(counted.values()) > sum(before.values()))
        running.stop(signal.SIGKILL)
    shutil.rmtree(application.state)
    # What only the next life can have counted.
    application.send(100)
    with application.start() as running:
        application.wait_counted(
            running, lambda counted: all(counted.get(word, 0) >= sent for word, sent in application.sent.items()))
        check_restored(application, running, True)
        running.stop()
    most = {word: 3 * sent - 2 * before[word] for word, sent in application.sent.items()}
    counted = application.counted()
    if any(not application.sent[word] <= counted[word] <= most[word] for word in WORDS):
        raise Failed(f"{counted}, expected {application.sent} to {most}")


def check_restored(application, running, restores):
    restored = application.restored(running)
    if (restored > 0) != restores:
        raise Failed(f"{restored} records came from the changelog: {running.lines}")


def check_purged(application):
    """Of the repartition topic what was processed is gone; the changelog is whole."""
    for partition in range(PARTITIONS):
        first, end = (application.offset("words-repartition", partition, which) for which in (-2, -1))
        if end and not 0 < first <= end:
            raise Failed(f"the repartition topic's partition {partition} begins at {first}, ends at {end}")
        expect(len(application.kcat.consume(f"{application.run}-words-repartition", "-p", str(partition))), end - first, "records left")
        expect(application.offset("counts-changelog", partition, -2), 0, "the changelog's first offset")


CELLS = {"word-count": word_count}
