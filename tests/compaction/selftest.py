"""That the comparison finds what is planted: a comparison that finds nothing passes everything."""

import dataclasses

import reading
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


def missed():
    """What is planted and not found; `equal` if equal logs differ."""
    log, changed = planted()
    names = ("one", "other")
    found = [what for what, other in changed.items() if not list(reading.differences(log, other, names))]
    return found + (["equal"] if list(reading.differences(log, log, names)) else [])
