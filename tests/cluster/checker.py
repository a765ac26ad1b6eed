"""What must hold of a log and of what was seen of it: pure functions of histories, without clients or clocks.

The names of the anomalies are those of Jepsen's Kafka workload where it has one. Memory is that of the gaps that are open,
and of one offset for each record where acknowledgements are compared.
"""
import bisect
import collections

# Gaps of one partition and producer; past it the log is in ruins and no more is learnt from it.
GAPS_MAX = 100_000
EXAMPLES = 5


class Anomalies:
    """Counts by name, with the first examples of each."""

    def __init__(self):
        self.counts, self.examples = collections.Counter(), {}

    def add(self, name, example, count=1):
        """One that was seen."""
        self.counts[name] += count
        examples = self.examples.setdefault(name, [])
        if len(examples) < EXAMPLES:
            examples.append(example)

    def merge(self, told, where=""):
        """What another process found, as `told` gave it."""
        for name, (count, examples) in told.items():
            self.counts[name] += count
            kept = self.examples.setdefault(name, [])
            kept += [f"{where}{example}" for example in examples][:EXAMPLES - len(kept)]

    def told(self):
        """For JSON: name → (count, examples)."""
        return {name: (count, self.examples[name]) for name, count in sorted(self.counts.items()) if count}


class Gaps:
    """Ranges of sequence numbers that were passed over, half-open and sorted."""

    def __init__(self):
        self.starts, self.ends = [], []

    def add(self, start, end):
        """Behind all that are there. Whether there was room."""
        if len(self.starts) >= GAPS_MAX:
            return False
        self.starts.append(start)
        self.ends.append(end)
        return True

    def fill(self, number):
        """Takes a number out. Whether it was in a gap."""
        at = bisect.bisect_right(self.starts, number) - 1
        if at < 0 or number >= self.ends[at]:
            return False
        start, end = self.starts[at], self.ends[at]
        pieces = [(s, e) for s, e in ((start, number), (number + 1, end)) if s < e]
        self.starts[at:at + 1] = [s for s, _ in pieces]
        self.ends[at:at + 1] = [e for _, e in pieces]
        return True

    def __iter__(self):
        return iter(zip(self.starts, self.ends))


class LogCheck:
    """One reading of one partition, record by record in the order of the log.

    Of each producer the numbers 0, 1, 2, … have to come, each once and in order; offsets have to be dense.
    """

    def __init__(self, partition, anomalies, where=""):
        self.partition, self.anomalies, self.where = partition, anomalies, where
        self.next_offset = 0
        self.next_numbers = collections.defaultdict(int)
        self.gaps = collections.defaultdict(Gaps)

    def feed(self, offset, producer, number):
        """The next record."""
        if offset != self.next_offset:
            name = "offset-hole" if offset > self.next_offset else "nonmonotonic-poll"
            self._add(name, f"offset {offset} where {self.next_offset} was next", offset=offset)
        self.next_offset = offset + 1
        expected = self.next_numbers[producer]
        if number == expected:
            self.next_numbers[producer] = number + 1
        else:
            self._out_of_turn(offset, producer, number, expected)

    def _out_of_turn(self, offset, producer, number, expected):
        if number > expected:
            self.next_numbers[producer] = number + 1
            if not self.gaps[producer].add(expected, number):
                self._add("lost-write", f"more than {GAPS_MAX} gaps of producer {producer}", offset=offset)
        elif self.gaps[producer].fill(number):
            self._add("reordered", f"producer {producer}'s {number} comes behind its {expected - 1}", offset=offset)
        else:
            self._add("duplicate", f"producer {producer}'s {number} is there again", offset=offset)

    def foreign(self, offset, what):
        """A record that nobody sent here."""
        self._add("foreign-record", what, offset=offset)
        self.next_offset = offset + 1

    def finish(self, sent, acknowledged, name="lost-write"):
        """Behind the last record. `sent`: producer → how many; `acknowledged(producer, number)`: whether it was."""
        for producer, count in sent.items():
            if self.next_numbers[producer] < count:
                self.gaps[producer].add(self.next_numbers[producer], count)
            elif self.next_numbers[producer] > count:
                self._add("foreign-record", f"producer {producer} sent {count}, {self.next_numbers[producer]} are there")
            for start, end in self.gaps[producer]:
                missing = [number for number in range(start, end) if acknowledged(producer, number)]
                if missing:
                    what = f"producer {producer}: {len(missing)} of {start} to {end - 1}, the first {missing[0]}"
                    self._add(name, what, count=len(missing))

    def _add(self, name, what, offset=None, count=1):
        at = f" at offset {offset}" if offset is not None else ""
        self.anomalies.add(name, f"{self.where}partition {self.partition}{at}: {what}", count)


class ToldOffsets:
    """What producers were told: one offset, one record, and the record stands there.

    `told` holds offset + 1 by number; 0: not acknowledged; -1: acknowledged without an offset.
    """

    def __init__(self, anomalies):
        self.anomalies = anomalies

    def found(self, told, partition, offset, producer, number):
        """A record that a reader found."""
        if told > 0 and told != offset + 1:
            what = f"partition {partition}: producer {producer}'s {number} was told {told - 1} and is at {offset}"
            self.anomalies.add("inconsistent-offset", what)


class Ends:
    """End offsets of one partition, as any agent tells them: what was acknowledged before the question is below them."""

    def __init__(self, partition, anomalies):
        self.partition, self.anomalies = partition, anomalies
        self.highest = 0

    def floor(self, acknowledged_end):
        """Before a question: what its answer must not be below."""
        self.highest = max(self.highest, acknowledged_end)
        return self.highest

    def answered(self, agent, floor, end):
        """Its answer."""
        if end < floor:
            self.anomalies.add("end-went-back", f"partition {self.partition}: {agent} says {end}, {floor} was acknowledged or told before")
        self.highest = max(self.highest, end)


class Committed:
    """A group's committed offsets, in the order in which they were asked for."""

    def __init__(self, anomalies):
        self.anomalies, self.offsets = anomalies, {}

    def seen(self, partition, offset):
        """An answer; `None`: there is none."""
        before = self.offsets.get(partition)
        if before is not None and (offset is None or offset < before):
            self.anomalies.add("committed-went-back", f"partition {partition}: from {before} to {offset}")
        elif offset is not None:
            self.offsets[partition] = offset


class Position:
    """Where a group's member is in a partition that is assigned to it: no record is passed over or comes again."""

    def __init__(self, partition, anomalies):
        self.partition, self.anomalies, self.next_offset = partition, anomalies, None

    def polled(self, offset):
        """The next record."""
        if self.next_offset is not None and offset != self.next_offset:
            name = "poll-skip" if offset > self.next_offset else "nonmonotonic-poll"
            self.anomalies.add(name, f"group, partition {self.partition}: offset {offset} where {self.next_offset} was next")
        self.next_offset = offset + 1


def check_all_seen(seen, end, partition, anomalies):
    """`seen`: a byte for each offset, 1 if the group has polled it."""
    at = bytes(seen[:end]).find(0)
    if at >= 0:
        anomalies.add("unseen", f"partition {partition}: the first at offset {at}", bytes(seen[:end]).count(0))
