"""Idempotent producers, whose sequences outlive the batches that told of them."""

from cases_records import pairs

OUT_OF_ORDER_SEQUENCE_NUMBER = 45
DUPLICATE_SEQUENCE_NUMBER = 46


def check_known(pair, topic, batch, base, what):
    """A batch of which nothing is left comes again. Kafka remembers its offset for as long as the producer is active; Penstock
    knows the batch, but not any more where it was, and answers DUPLICATE_SEQUENCE_NUMBER, which clients count as success."""
    answers = [*pair.produce(topic, batch)]
    pair.check(what, answers[0] == (0, base) and answers[1] in ((0, base), (DUPLICATE_SEQUENCE_NUMBER, -1)), answers)


def goes_on(pair):
    """Compaction takes records out of a producer's batches; it sends the next ones, and some again."""
    topic = pair.create()
    producer = {"producer": pair.producer("goes-on"), "epoch": 0}
    sent = []
    for number in range(6):
        batch = pair.batch(topic, pairs(range(number, number + 4)), sequence=number * 4, **producer)
        sent.append((batch, pair.append(topic, batch)))
    pair.compact(topic)
    pair.check_newest(topic)
    pair.check_same(topic)
    batch, base = sent[-1]
    pair.check_equal("its last batch again is the same success", [*pair.produce(topic, batch)])
    pair.check("at the same offset", pair.produce(topic, batch)[0] == (0, base))
    batch, base = sent[2]
    pair.check_equal("so is one of the last five", pair.produce(topic, batch))
    gap = pair.batch(topic, pairs([1]), sequence=30, **producer)
    answers = pair.produce(topic, gap)
    pair.check_equal("a gap in the sequence is refused", answers)
    pair.check("as out of order", answers[0][0] == OUT_OF_ORDER_SEQUENCE_NUMBER, answers)
    pair.write(topic, pairs(range(3)), sequence=24, **producer)
    pair.compact(topic)
    pair.check_same(topic, "the next sequence is taken, and compacted as well")
    pair.check_newest(topic)


def all_overwritten(pair):
    """Others overwrite all that a producer wrote. Its batches go (Kafka keeps the last one, empty); it goes on."""
    topic = pair.create()
    first, second = ({"producer": pair.producer(name), "epoch": 0} for name in ("first", "second"))
    batch = pair.batch(topic, pairs(range(5), "first"), sequence=0, **first)
    base = pair.append(topic, batch)
    last = pair.batch(topic, pairs(range(5, 8), "first"), sequence=5, **first)
    last_base = pair.append(topic, last)
    pair.write(topic, pairs(range(8), "second"), sequence=0, **second)
    pair.compact(topic)
    pair.check_newest(topic)
    pair.check_same(topic)
    check_known(pair, topic, last, last_base, "its last batch again is a success")
    pair.check("and the one before", pair.produce(topic, batch)[0] == (0, base))
    pair.write(topic, pairs([20, 21], "first"), sequence=8, **first)
    pair.write(topic, pairs([21, 22], "second"), sequence=8, **second)
    pair.compact(topic)
    pair.check_newest(topic, "both go on, and only the newest is left")
    pair.check_same(topic, "the same is left after a second compaction")


def packed(pair):
    """A producer's packed batches keep their sequence when they are packed anew."""
    topic = pair.create()
    producer = {"producer": pair.producer("packed"), "epoch": 0}
    for number in range(4):
        pair.write(topic, pairs(range(number, number + 5)), codec=number, sequence=number * 5, **producer)
    pair.compact(topic)
    pair.check_newest(topic)
    pair.check_same(topic)


def new_epoch(pair):
    """The epoch is raised after compaction: sequences begin anew, and the old epoch is fenced."""
    topic = pair.create()
    name = pair.producer("epochs")
    pair.write(topic, pairs([1, 2, 1]), producer=name, epoch=0, sequence=0)
    pair.compact(topic)
    pair.check_same(topic)
    pair.write(topic, pairs([1, 3]), producer=name, epoch=1, sequence=0)
    late = pair.batch(topic, pairs([9]), producer=name, epoch=0, sequence=3)
    answers = pair.produce(topic, late)
    pair.check_equal("the old epoch is fenced", [error for error, _ in answers])
    pair.check("it is refused", answers[0][0] != 0)
    pair.compact(topic)
    pair.check_same(topic, "the same is left after a second compaction")


CASES = (goes_on, all_overwritten, packed, new_epoch)
