"""Against several agents: each client is told of one of them, and what it did is looked at through another.

A smoke set or the whole matrix; and what only several agents can show: members of one group at different agents, and
consumers that read from the agent in their own zone (KIP-392), by the agents' own metrics.
"""
import re
import urllib.request

from . import install, java_tools, kcat as kcat_cells, libraries, platform, process, wire
from .kcat import Kcat
from .report import Failed, Skipped

SMOKE = ("create-topic", "idempotent", "consume-start", "group-of-three", "offsets-resumed", "admin-groups", "admin-delete")
KCAT_SMOKE = ("produce-zstd", "consume-timestamp", "offsets-resumed")
RACK_PARTITIONS, RACK_RECORDS, RACK_RECORD_BYTES = 12, 600, 1000


class Agents:
    """Their addresses, and those of their metrics, if they are known."""

    def __init__(self, each, http=None):
        self.each, self.http = each, http
        self.readers = [Kcat(address, each) for address in each]

    def reader(self, number):
        """A kcat that is told of one agent, in turn."""
        return self.readers[number % len(self.each)]

    def fetched(self):
        """How many bytes of record batches each agent has answered consumers with."""
        return [self._metric(address, "penstock_fetched_bytes_total") for address in self.http]

    @staticmethod
    def _metric(address, name):
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            found = re.search(rf"^{name} (\d+)", answer.read().decode(), re.MULTILINE)
        if not found:
            raise Failed(f"{address} has no {name}")
        return int(found[1])


def run_smoke(report, agents, here, state):
    """A few capabilities of every client, and what only several agents can show."""
    _run_kcat(report, agents, KCAT_SMOKE)
    _run_libraries(report, agents, here, state, SMOKE)
    _run_together(report, agents, here, state)


def run_whole(report, agents, here, state):
    """Every capability of every client, Kafka's tools and what is built on its clients, and what only several agents can show."""
    _run_kcat(report, agents, kcat_cells.CELLS)
    _run_libraries(report, agents, here, state, libraries.CAPABILITIES)
    try:
        class_path = install.java(here, state)
        cells = {f"java-tools-{name}": check for name, check in java_tools.CELLS.items()}
        for number, (name, check) in enumerate({**cells, **platform.CELLS}.items()):
            tools = java_tools.Tools(agents.reader(number), class_path)
            report.cell("agents", name, lambda: check(tools, libraries.run_name("agents", name)))
    except Skipped as reason:
        report.skip("agents java-tools", str(reason))
    _run_together(report, agents, here, state)


def _run_kcat(report, agents, capabilities):
    if not agents.readers[0].installed:
        report.skip("agents kcat", "it is not there")
        return
    for number, capability in enumerate(capabilities):
        report.cell("agents", f"kcat-{capability}", lambda: kcat_cells.CELLS[capability](
            agents.reader(number), libraries.run_name("agents", capability)))


def _run_libraries(report, agents, here, state, capabilities):
    for number, (client, program) in enumerate(libraries.programs(here, state).items()):
        try:
            command = ["env", f"PENSTOCK_MATRIX_AGENTS={len(agents.each)}", *program()]
        except Skipped as reason:
            report.skip(f"agents {client}", str(reason))
            continue
        for capability in capabilities:
            report.cell("agents", f"{client}-{capability}", lambda: libraries.check(
                command, agents.reader(number + 1), "agents", capability, told=agents.reader(number).bootstrap))


def _run_together(report, agents, here, state):
    if not agents.readers[0].installed:
        report.skip("agents together", "kcat is not there")
        return
    try:
        tools = [java_tools.Tools(reader, install.java(here, state)) for reader in agents.readers]
    except Skipped as reason:
        report.skip("agents together", str(reason))
        return
    zones = _zones(tools[0], agents) if agents.http else None
    report.cell("agents", "group-across-agents", lambda: group_across_agents(tools, agents, zones))
    if not zones or not all(zones) or len(set(zones)) < len(zones):
        report.skip("agents rack", "not each agent has a zone of its own, or their metrics are not known")
        return
    report.cell("agents", "java-rack", lambda: rack(agents, zones, "java", _java_consumer(tools)))
    report.cell("agents", "kcat-rack", lambda: rack(agents, zones, "kcat", _kcat_consumer(agents)))


def _zones(tools, agents):
    """Of each agent its zone, as a Java client is told."""
    told = tools.run("BrokerApiVersionsCommand")
    found = dict(re.findall(r"^(\S+) \(id: \d+ rack: (\S+)", told, re.MULTILINE))
    return [{"null": ""}.get(found.get(address, ""), found.get(address, "")) for address in agents.each]


def group_across_agents(tools, agents, zones):
    """A Java consumer and two kcats in one group, each told of another agent; with zones each also reads from its own."""
    run = libraries.run_name("agents", "group")
    before = agents.fetched() if zones else []

    def consumed():
        for address, zone, was, now in zip(agents.each, zones, before, agents.fetched()):
            if now <= was:
                raise Failed(f"nobody read from {address}, which has the zone {zone} of a member")
    java_tools.mixed_group(tools[0], run, [agents.reader(1), agents.reader(2)], zones, consumed if zones else None)


def _java_consumer(tools):
    """`client.rack` in Kafka's console consumer."""
    def consume(number, topic, zone):
        options = ["--consumer-property", f"client.rack={zone}"] if zone else []
        output = tools[number].consume(topic, "--from-beginning", *options, count=RACK_RECORDS)
        return len(re.findall(r"^\d+ \.+$", output, re.MULTILINE))
    return consume


def _kcat_consumer(agents):
    """`client.rack` in librdkafka."""
    def consume(number, topic, zone):
        options = ["-X", f"client.rack={zone}"] if zone else []
        return len(agents.readers[number].consume(topic, "-o", "beginning", *options, form="%o"))
    return consume


def rack(agents, zones, name, consume):
    """Without a rack records come from the leaders, several agents; with one from the agent of that zone alone, though the
    client was told of another agent."""
    run = libraries.run_name("agents", f"{name}-rack")
    wire.create_topic(agents.each[0], run, RACK_PARTITIONS)
    filler = "." * RACK_RECORD_BYTES
    for partition in range(RACK_PARTITIONS):
        numbers = range(partition, RACK_RECORDS, RACK_PARTITIONS)
        agents.readers[0].produce(run, [(number, f"{number} {filler}") for number in numbers], "-p", str(partition))
    for at, zone in enumerate([None, *zones]):
        # What others fetched before has been counted: cells of this kind run alone.
        before = agents.fetched()
        count = consume((at + 1) % len(agents.each), run, zone)
        grown = [now - was for was, now in zip(before, agents.fetched())]
        shown = ", ".join(f"{of} {size:,} B" for of, size in zip(zones, grown))
        if count != RACK_RECORDS:
            raise Failed(f"rack {zone}: {count} of {RACK_RECORDS} records")
        if zone is None and sum(1 for size in grown if size) < 2:
            raise Failed(f"without a rack all was read from one agent: {shown}")
        if zone and not _is_near_alone(grown, zones, zone):
            raise Failed(f"rack {zone}: read from {shown}")
        print(f"        client.rack={zone}: {shown}", flush=True)


def _is_near_alone(grown, zones, zone):
    near = grown[zones.index(zone)]
    return near >= RACK_RECORDS * RACK_RECORD_BYTES and sum(grown) == near
