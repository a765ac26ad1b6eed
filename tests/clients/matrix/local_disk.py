"""The smaller sets: on local disk what is particular to objects in files, and a restart; on a further store a smoke set."""
import random

from . import install, java_tools, kcat as kcat_cells, libraries
from .kcat import Kcat
from .report import Failed, Skipped


def run(report, broker, here, state):
    reader = Kcat(broker.kafka)
    if reader.installed:
        for codec in ("none", *kcat_cells.CODECS[1:]):
            report.cell("disk", f"kcat-{codec}-object", lambda: object_content(reader, broker, codec))
        report.cell("disk", "kcat-restart", lambda: restart(reader, broker))
    else:
        report.skip("disk kcat", "it is not there")
    try:
        command = libraries.programs(here, state)["confluent"]()
        for capability in ("create-topic", "produce-zstd", "consume-end", "group-of-three", "offsets-resumed", "admin-groups"):
            report.cell("disk", f"confluent-{capability}", lambda: libraries.check(command, reader, "disk", capability))
    except Skipped as reason:
        report.skip("disk confluent", str(reason))
    try:
        tools = java_tools.Tools(reader, install.java(here, state))
        report.cell("disk", "java-console", lambda: java_tools.CELLS["console-none"](tools, libraries.run_name("disk", "console")))
    except Skipped as reason:
        report.skip("disk java-console", str(reason))


def run_smoke(report, name, broker, here, state):
    """What shows that a store works: produced, read back, after a restart too, by kcat and by one client more."""
    reader = Kcat(broker.kafka)
    if reader.installed:
        for capability in ("produce-none", "produce-zstd", "consume-timestamp", "offsets-resumed"):
            report.cell(name, f"kcat-{capability}",
                        lambda: kcat_cells.CELLS[capability](reader, libraries.run_name(name, capability)))
        report.cell(name, "kcat-restart", lambda: restart(reader, broker))
    else:
        report.skip(f"{name} kcat", "it is not there")
    try:
        command = libraries.programs(here, state)["confluent"]()
        for capability in ("create-topic", "produce-lz4", "idempotent", "consume-end", "group-of-three", "admin-delete"):
            report.cell(name, f"confluent-{capability}", lambda: libraries.check(command, reader, name, capability))
    except Skipped as reason:
        report.skip(f"{name} confluent", str(reason))


def object_content(kcat, broker, codec):
    """Uncompressed records are in an object as they were sent; compressed ones are not."""
    mark = f"mark-{random.randrange(16**12):012x}"
    topic = libraries.run_name("disk", codec)
    # Each codec writes the first of the repeated marks at most and refers to it after.
    kcat.produce(topic, [("k", (mark + " ") * 20)] * 40, "-z", codec, "-p", "0")
    needle = ((mark + " ") * 3).encode()
    stored = any(needle in path.read_bytes() for path in (broker.directory / "objects").rglob("*") if path.is_file())
    if stored != (codec == "none"):
        raise Failed(f"with {codec}, the records are {'as sent' if stored else 'nowhere'} in the objects")
    kcat_cells.expect(kcat.consume(topic, form="%s"), [(mark + " ") * 20] * 40, "records")


def restart(kcat, broker):
    """All that was there before a restart is there after it, and goes on."""
    topic = libraries.run_name("disk", "restart")
    kcat.produce(topic, kcat_cells.numbered(0, 10), "-p", "0")
    before = kcat.metadata()
    broker.stop()
    broker.start()
    kcat_cells.expect(kcat.consume(topic), kcat_cells.lines(0, 10), "records after a restart")
    kcat.produce(topic, kcat_cells.numbered(10, 12), "-p", "0")
    kcat_cells.expect(kcat.consume(topic, form="%o %s"), [f"{number} {number}" for number in range(12)], "records that follow")
    kcat_cells.expect(sorted(topic["topic"] for topic in kcat.metadata()["topics"]),
                      sorted(topic["topic"] for topic in before["topics"]), "topics after a restart")
