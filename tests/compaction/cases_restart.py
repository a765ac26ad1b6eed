"""What compaction left outlives the process."""

from cases_readers import log_with_gaps
from cases_producers import check_known
from cases_records import pairs


def killed_and_started(pair):
    """The other broker is killed: the same is left, and producers whose records have gone are still known."""
    gaps = log_with_gaps(pair)
    topic = pair.create()
    first, second = ({"producer": pair.producer(f"{name}-to-be-killed"), "epoch": 0} for name in ("first", "second"))
    last = pair.batch(topic, pairs(range(4), "first"), sequence=0, **first)
    base = pair.append(topic, last)
    pair.write(topic, pairs(range(6), "second"), sequence=0, **second)
    pair.compact(topic)
    before = pair.check_same(topic)
    pair.restart_other()
    for one in (gaps, topic):
        pair.wait_until_led(one)
    pair.check_same(gaps, "the same is left of a log with gaps")
    pair.check("of the other log, too, batch by batch", pair.read(topic)[1] == before[1])
    check_known(pair, topic, last, base, "a batch that has gone is known when it comes again")
    pair.write(topic, pairs([1, 9], "first"), sequence=4, **first)
    pair.write(topic, pairs([1, 8], "second"), sequence=6, **second)
    pair.compact(topic)
    pair.check_newest(topic, "producers go on, and only the newest is left")
    pair.check_same(topic, "the same is left after a second compaction")


CASES = (killed_and_started,)
