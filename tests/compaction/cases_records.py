"""Which records are left, and in which batches."""

import random
import time

import compression
import reading
import zstd


def pairs(keys, stem="v"):
    """Records of these keys, each with a value of its own."""
    return [(f"k{key}".encode(), f"{stem}{index}".encode()) for index, key in enumerate(keys)]


def overwrites_of_few_keys(pair):
    topic = pair.create()
    for batch in range(20):
        pair.write(topic, pairs([(batch + index) % 5 for index in range(5)], f"b{batch}-"))
    pair.compact(topic)
    pair.check_newest(topic)
    pair.check_same(topic)


def single_records(pair):
    topic = pair.create()
    for index in range(40):
        pair.write(topic, pairs([index % 7], f"{index}-"))
    pair.compact(topic)
    pair.check_newest(topic)
    pair.check_same(topic)


def many_distinct_keys(pair):
    topic = pair.create()
    for begin in range(0, 3000, 300):
        pair.write(topic, pairs(range(begin, begin + 300)))
    for begin in range(0, 3000, 300):
        pair.write(topic, pairs(range(begin, begin + 300, 2), "w"))
    pair.compact(topic)
    pair.check_newest(topic)
    pair.check_same(topic)


def nothing_to_remove(pair):
    topic = pair.create()
    for begin in range(0, 30, 10):
        pair.write(topic, pairs(range(begin, begin + 10)))
    pair.compact(topic)
    logs = pair.check_same(topic, "all is left, in the same batches")
    pair.check("nothing went", len(logs[0].records) == 31, f"{len(logs[0].records)} records")


def parts_of_batches(pair):
    """The first, the middle, the last, every second, all, and none of a batch's records go."""
    topic = pair.create()
    bases = [pair.write(topic, pairs([f"{name}{index}" for index in range(6)], name)) for name in "abcdef"]
    gone = {"a": [0], "b": [2, 3], "c": [5], "d": [0, 2, 4], "e": range(6), "f": ()}
    for name, indexes in gone.items():
        if indexes:
            pair.write(topic, pairs([f"{name}{index}" for index in indexes], "new"))
    pair.compact(topic)
    pair.check_newest(topic)
    kafka, _ = pair.check_same(topic)
    # What the comparison above rests on: batches keep their bounds, and go once they are empty.
    kept = {batch.base_offset: (len(batch.records), batch.last_offset_delta) for batch in kafka.batches}
    wanted = {base: (6 - len(gone[name]), 5) for base, name in zip(bases, gone) if name != "e"}
    pair.check("batches keep their bounds, empty ones go", all(kept.get(base) == shape for base, shape in wanted.items())
               and bases[4] not in kept, f"{kept}")


def same_key_in_a_batch(pair):
    topic = pair.create()
    pair.write(topic, pairs([1, 1, 1, 2, 1, 2]))
    pair.write(topic, pairs([3] * 50))
    pair.compact(topic)
    pair.check_newest(topic)
    pair.check_same(topic)


def odd_keys_and_values(pair):
    """Empty is not null; keys may be any bytes."""
    topic = pair.create()
    keys = [b"", b"\0", b"\xff" * 3, b"k" * 2000, "ключ".encode(), b" ", b"\0\0"]
    for stem in (b"old", b"new"):
        pair.write(topic, [(key, stem) for key in keys])
    pair.write(topic, [(keys[1], b""), (keys[2], b"x" * 20000)])
    pair.compact(topic)
    pair.check_newest(topic)
    pair.check_same(topic)


def headers(pair):
    topic = pair.create()
    given = ((b"h", b"v"), (b"h", b"again"), (b"", b""), (b"null", None), ("имя".encode(), b"\xff\0"))
    pair.write(topic, pairs(range(6)), headers=given)
    pair.write(topic, pairs([0, 3]), headers=given[:1])
    pair.compact(topic)
    kafka, _ = pair.check_same(topic)
    kept = [record for record in kafka.records if record.offset in (1, 2, 4, 5)]
    pair.check("they are there", [record.headers for record in kept] == [given] * 4, *kept)


def codec(name):
    """Batches of a codec: some whole, some with records removed, which are packed anew."""
    number = compression.NAMES.index(name)

    def case(pair):
        if number == compression.ZSTD and zstd.LIBRARY is None:
            pair.report.skip("codec zstd", "no libzstd")
            return
        topic = pair.create()
        for batch in range(6):
            pair.write(topic, pairs(range(batch * 5, batch * 5 + 20), f"b{batch}-" + "x" * 100), codec=number)
        pair.compact(topic)
        pair.check_newest(topic)
        kafka, _ = pair.check_same(topic)
        pair.check("batches keep their codec", {batch.codec for batch in kafka.batches[:-1]} == {number})

    case.__name__ = f"codec_{name}"
    return case


def codecs_mixed(pair):
    """A key in batches of all codecs; two that can be read everywhere."""
    topic = pair.create()
    for batch in range(8):
        pair.write(topic, pairs([0, batch, batch + 1]), codec=batch % 4)
    pair.compact(topic)
    pair.check_newest(topic)
    pair.check_same(topic)


def compression_of_the_topic(pair):
    """`compression.type`: batches are packed anew when they are written, and again when records go."""
    topic = pair.create(compression_type="gzip")
    for batch in range(4):
        pair.write(topic, pairs(range(batch * 2, batch * 2 + 6)), codec=(0, 2, 1, 3)[batch])
    pair.compact(topic)
    pair.check_newest(topic)
    pair.check_same(topic)


def append_time(pair):
    """Each broker's own clock: a record keeps the time that it was given."""
    topic = pair.create(message_timestamp_type="LogAppendTime")
    for batch in range(4):
        pair.write(topic, pairs(range(batch, batch + 4)))
    before = [{record.offset: record.timestamp for record in log.records} for log in pair.read(topic)]
    pair.compact(topic)
    pair.check_newest(topic)
    logs = pair.check_same(topic)
    for name, log, times in zip(pair.names, logs, before):
        wrong = [record for record in log.records if times.get(record.offset, record.timestamp) != record.timestamp]
        pair.check(f"{name} keeps the time", not wrong, *wrong)


def several_segments(pair):
    """Kafka's segments end between overwrites, and its cleaner puts some together."""
    topic = pair.create()
    for round_ in range(4):
        for batch in range(3):
            pair.write(topic, pairs(range(batch, batch + 5), f"r{round_}b{batch}-"))
        pair.fill(topic)
    pair.compact(topic)
    pair.check_newest(topic)
    pair.check_same(topic)


def several_rounds(pair):
    """What a round left, later ones take away, and records of which the newest is old stay."""
    topic = pair.create()
    for round_ in range(4):
        pair.write(topic, pairs([round_, *range(10, 20)], f"r{round_}-"))
        pair.write(topic, pairs([round_ + 100, *range(10, 10 + 2 * round_)], f"s{round_}-"))
        pair.compact(topic)
        pair.check_same(topic, f"the same is left after round {round_ + 1}")
    pair.check_newest(topic)


def second_run_changes_nothing(pair):
    topic = pair.create()
    for batch in range(5):
        pair.write(topic, pairs(range(batch, batch + 4)), codec=batch % 2)
    filler = pair.compact(topic)
    before = pair.check_same(topic)
    pair.other.compact_again()
    pair.other.compact_again()
    again = pair.read(topic)[1]
    pair.check(f"{pair.other.name} has the same after two more runs", again == before[1])
    pair.compact(topic)
    below = [[batch for batch in log.batches if batch.base_offset <= filler] for log in (*before, *pair.read(topic))]
    pair.check("both have the same after more was written elsewhere", below[:2] == below[2:])


def several_partitions(pair):
    """A key means nothing to another partition."""
    topic = pair.create(partitions=3)
    for batch in range(4):
        for partition in range(3):
            pair.write(topic, pairs(range(batch, batch + 3 + partition), f"p{partition}b{batch}-"), partition)
    for partition in range(3):
        pair.compact(topic, partition)
    for partition in range(3):
        pair.check_newest(topic, f"of each key only the newest is left in partition {partition}", partition)
        pair.check_same(topic, f"the same is left in partition {partition}", partition)


def random_writes(seed):
    """Everything at once: keys, sizes, codecs, tombstones, headers, producers, over rounds of compaction."""

    def case(pair):
        draw = random.Random(seed)
        topic = pair.create()
        producer, sequence = pair.producer(f"random-{seed}"), 0
        for round_ in range(3):
            for _ in range(draw.randint(5, 25)):
                keys = [f"k{draw.randint(0, draw.choice((3, 30, 300)))}".encode() for _ in range(draw.choice((1, 2, 5, 20)))]
                values = [None if draw.random() < 0.15 else draw.randbytes(draw.choice((0, 1, 30, 300))) for _ in keys]
                options = {"codec": draw.choice((0, 0, 1, 2, 3)), "headers": draw.choice(((), (), ((b"h", b"v"),)))}
                if draw.random() < 0.4:
                    options.update(producer=producer, epoch=0, sequence=sequence)
                    sequence += len(keys)
                pair.write(topic, list(zip(keys, values)), **options)
            pair.compact(topic)
            pair.check_same(topic, f"the same is left after round {round_ + 1}")
        pair.check_newest(topic)

    case.__name__ = f"random_writes_with_seed_{seed}"
    return case


def by_its_own_pace(pair):
    """Without a run that somebody asked for."""
    topic = pair.create()
    for batch in range(10):
        pair.write(topic, pairs(range(batch % 3, batch % 3 + 3), f"b{batch}-"))
    filler = pair.fill(topic)
    pair.kafka.compact(topic.name, 0, filler)
    pair.other.go_on()
    try:
        equal = wait_until(lambda: not list(reading.differences(*pair.read(topic), pair.names)), 20)
        pair.check("the same is left", equal, *reading.differences(*pair.read(topic), pair.names))
        pair.check_newest(topic)
    finally:
        pair.other.rest()


def writes_while_it_runs(pair):
    """At any moment a reader finds the newest record of every key that was acknowledged."""
    topic = pair.create()
    pair.other.go_on()
    missing = []
    try:
        for batch in range(80):
            pair.write(topic, pairs([batch % 4, 10 + batch % 7, 100 + batch], f"b{batch}-"), codec=batch % 4)
            if batch % 8 == 7:
                newest = {record.key: record for record in topic.written[0]}
                there = set(reading.read(pair.other, topic.name).records)
                missing += [record for record in newest.values() if record not in there]
            if batch % 20 == 19:
                filler = pair.fill(topic)
    finally:
        pair.other.rest()
    pair.check(f"nothing that is newest was missing at {pair.other.name}", not missing, *missing)
    pair.compact_both(topic, filler)
    pair.check_newest(topic)
    pair.check_same(topic)


def larger_log(pair):
    """More than fits into one of Kafka's segments, or one fetch of a reader that asks for little."""
    topic = pair.create()
    for begin in range(0, 12_000, 1000):
        pair.write(topic, [(f"key-{key}".encode(), f"{key}".encode() * 12) for key in range(begin, begin + 1000)])
    for begin in range(0, 12_000, 3000):
        pair.write(topic, pairs([f"ey-{key}" for key in range(begin, begin + 3000, 3)], "w"), codec=1)
    pair.compact(topic)
    pair.check_newest(topic)
    pair.check_same(topic)


def wait_until(test, seconds):
    """Whether it comes true in time."""
    deadline = time.monotonic() + seconds
    while not test():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


CASES = (overwrites_of_few_keys, single_records, many_distinct_keys, nothing_to_remove, parts_of_batches, same_key_in_a_batch,
         odd_keys_and_values, headers, *(codec(name) for name in compression.NAMES), codecs_mixed, compression_of_the_topic,
         append_time, several_segments, several_rounds, second_run_changes_nothing, several_partitions,
         *(random_writes(seed) for seed in range(1, 5)), larger_log, by_its_own_pace, writes_while_it_runs)
