"""That the comparison finds what is planted: a comparison that finds nothing passes everything."""

import dataclasses
from types import SimpleNamespace

import pair
import reading
import retaining
from records import Batch, Record


def planted():
    """A log, and by name others that differ from it in one thing each."""
    def log():
        batches = [Batch([Record(0, b"a", b"1", ((b"h", b"v"),)), Record(5, b"b", None)], 1000, base_offset=3),
                   Batch([Record(0, b"c", b"2")], 2000, codec=1, base_offset=9, producer=7, epoch=0, sequence=4)]
        return reading.Log(0, 12, 12, list(reading.batches_in(b"".join(batch.encode(batch.producer) for batch in batches))))

    changes = {
        "start": lambda log: dataclasses.replace(log, start=3),
        "end": lambda log: dataclasses.replace(log, end=13),
        "position": lambda log: dataclasses.replace(log, position=10),
        "a record less": lambda log: with_records(log, 0, lambda records: records[1:]),
        "a record twice": lambda log: with_records(log, 0, lambda records: [*records, records[1]]),
        "order": lambda log: with_records(log, 0, lambda records: records[::-1]),
        "a batch less": lambda log: dataclasses.replace(log, batches=log.batches[:1]),
        **{f"a record's {field}": record_changed(field, value) for field, value in (
            ("offset", 5), ("timestamp", 1001), ("key", b"x"), ("value", None), ("headers", ()))},
        **{f"a batch's {field}": batch_changed(field, value) for field, value in (
            ("base_offset", 8), ("last_offset_delta", 2), ("codec", 2), ("is_append_time", True), ("delete_horizon", 5),
            ("has_producer", False), ("epoch", 1), ("base_sequence", 5), ("max_timestamp", 2001), ("is_crc_right", False))},
    }
    return log(), {what: change(log()) for what, change in changes.items()}


def with_records(log, index, change):
    log.batches[index].records[:] = change(log.batches[index].records)
    return log


def record_changed(field, value):
    return lambda log: with_records(log, 0, lambda records: [dataclasses.replace(records[0], **{field: value}), *records[1:]])


def batch_changed(field, value):
    def change(log):
        setattr(log.batches[1], field, value)
        return log
    return change


def watched(kafka, other):
    """What is found where two batches are too old after a second and a third stays, and both log starts went like this, by
    hundreds of milliseconds."""
    topic = pair.Topic("compacted-0-planted", {"cleanup.policy": "delete", "retention.ms": "1000"}, 0)
    batches = [retaining.Written(end - 1, end, 100, (at, at)) for end, at in ((1, 0), (2, 0), (3, 90_000))]
    log = retaining.RetainedLog(topic, batches=batches)
    samples = []
    for index in range(90):
        rule = retaining.start_by_rule(log, 1, index * 100)
        starts = tuple(next((start for at, start in reversed(moves) if at <= index), 0) for moves in (kafka, other))
        samples.append(retaining.Sample(index / 10, starts, (rule, rule)))
    sides = [SimpleNamespace(name=name, expires_within_s=within) for name, within in (("one", 0.3), ("other", 1.4))]
    return {what.split(" within")[0] for what, wrong in retaining.findings(log, samples, sides).items() if wrong}


def missed_while_watched():
    """What is planted into log starts and not found."""
    early, back, late = "nothing goes that Kafka's rule keeps", "no log start goes back", "what may go has gone"
    right = ((12, 2),)
    moves = {"log starts that are right": (right, ((13, 1), (25, 2)), set()),
             "a batch that goes early": (right, ((9, 2),), {early}),
             "Kafka's that goes early": (((9, 1), (11, 2)), right, {early}),
             "one too many": (right, ((12, 3),), {early}),
             "a batch that goes late": (right, ((12, 1), (80, 2)), {late}),
             "one that never goes": (right, (), {late}),
             "Kafka's that goes late": (((70, 2),), right, {late}),
             "a log start that goes back": (right, ((12, 2), (20, 1), (30, 2)), {back})}
    return [what for what, (kafka, other, wanted) in moves.items() if watched(kafka, other) != wanted]


def missed():
    """What is planted and not found; `equal` if equal logs differ."""
    log, changed = planted()
    names = ("one", "other")
    found = [what for what, other in changed.items() if not list(reading.differences(log, other, names))]
    return found + (["equal"] if list(reading.differences(log, log, names)) else []) + missed_while_watched()
