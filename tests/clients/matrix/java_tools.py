"""Cells of Apache Kafka's command-line tools, each run as a JVM of its own, one after the other."""
import json
import pathlib
import re
import tempfile
import time

from . import process, wire
from .kcat import FILL, Member, numbered
from .libraries import JVM
from .report import Failed

TOOL_SECONDS = 60
PACKAGE = "org.apache.kafka.tools"


class Tools:
    """The tools against one broker."""

    def __init__(self, kcat, class_path):
        self.kcat, self.bootstrap, self.class_path = kcat, kcat.bootstrap, class_path

    def command(self, tool, *arguments):
        return [*JVM, "-cp", self.class_path, tool, *arguments]

    def run(self, tool, *arguments, **options):
        """Standard output and error of a tool."""
        return self.run_as_is(tool, "--bootstrap-server", self.bootstrap, *arguments, **options)

    def cluster(self, command):
        """kafka-cluster takes its command before the address."""
        return self.run_as_is("ClusterTool", command, "--bootstrap-server", self.bootstrap)

    def run_as_is(self, tool, *arguments, stdin="", accept=(0,)):
        name = tool if tool.startswith("kafka.") else f"{PACKAGE}.{tool}"
        _, output, errors = process.run(self.command(name, *arguments), TOOL_SECONDS, stdin=stdin, accept=accept)
        return output + errors

    def topics(self, *arguments, **options):
        return self.run("TopicCommand", *arguments, **options)

    def configs(self, *arguments, **options):
        return self.run("kafka.admin.ConfigCommand", *arguments, **options)

    def groups(self, *arguments, **options):
        return self.run("consumer.group.ConsumerGroupCommand", *arguments, **options)

    def produce(self, topic, count):
        """Records 0 to `count`, in partition 0."""
        wire.create_topic(self.bootstrap, topic, 1)
        self.run("ConsoleProducer", "--topic", topic, stdin="".join(f"{number}\n" for number in range(count)))

    def consume(self, topic, *arguments, count=None):
        limit = ["--max-messages", str(count)] if count else []
        return self.run("consumer.ConsoleConsumer", "--topic", topic, "--timeout-ms", "20000", *limit, *arguments)


def expect_in(text, *patterns):
    for pattern in patterns:
        if not re.search(pattern, text, re.MULTILINE):
            raise Failed(f"no {pattern!r} in:\n{text[-3000:]}")


def expect_not_in(text, pattern):
    if re.search(pattern, text, re.MULTILINE):
        raise Failed(f"{pattern!r} in:\n{text[-3000:]}")


def records(output):
    return [line for line in output.splitlines() if line and not line.startswith("Processed a total")]


def topics(tools, run):
    expect_in(tools.topics("--create", "--topic", run, "--partitions", "2", "--config", "segment.bytes=1048576"), f"Created topic {run}")
    expect_in(tools.topics("--create", "--topic", run, accept=(1,)), "already exists")
    expect_in(tools.topics("--list"), f"^{run}$")
    expect_in(tools.topics("--describe", "--topic", run), "PartitionCount: 2", r"segment\.bytes=1048576", r"Partition: 1\s+Leader: [1-9]")
    tools.topics("--alter", "--topic", run, "--partitions", "3")
    expect_in(tools.topics("--describe", "--topic", run), "PartitionCount: 3")
    tools.topics("--delete", "--topic", run)
    expect_not_in(tools.topics("--list"), f"^{run}$")


def topic_configs(tools, run):
    wire.create_topic(tools.bootstrap, run, 1)
    of = ("--entity-type", "topics", "--entity-name", run)
    expect_in(tools.configs("--alter", *of, "--add-config", "retention.ms=123456,cleanup.policy=[compact,delete]"), "Completed updating")
    expect_in(tools.configs("--describe", *of), r"retention\.ms=123456 .*DYNAMIC_TOPIC_CONFIG", r"cleanup\.policy=compact,delete")
    expect_in(tools.configs("--alter", *of, "--add-config", "retention.ms=soon", accept=(1,)), "InvalidConfig|Invalid value")
    expect_in(tools.configs("--alter", *of, "--add-config", "no.such.thing=1", accept=(1,)), "InvalidConfig|Unknown topic config")
    tools.configs("--alter", *of, "--delete-config", "retention.ms")
    after = tools.configs("--describe", *of)
    expect_not_in(after, r"retention\.ms=123456")
    expect_in(after, r"cleanup\.policy=compact,delete")
    expect_in(tools.configs("--describe", "--all", *of), r"retention\.ms=604800000")


def broker_configs(tools, _run):
    everywhere = ("--entity-type", "brokers", "--entity-default")
    tools.configs("--alter", *everywhere, "--add-config", "message.max.bytes=1048600")
    expect_in(tools.configs("--describe", *everywhere), r"message\.max\.bytes=1048600")
    expect_in(tools.configs("--describe", "--all", "--entity-type", "brokers", "--entity-name", "1"),
              r"message\.max\.bytes=1048600 .*DYNAMIC_DEFAULT_BROKER_CONFIG", r"auto\.create\.topics\.enable=", r"num\.partitions=")
    tools.configs("--alter", *everywhere, "--delete-config", "message.max.bytes")
    expect_not_in(tools.configs("--describe", *everywhere), r"message\.max\.bytes=")


def client_quotas(tools, _run):
    """No quotas: an empty list, as Kafka answers."""
    for entity in ("clients", "ips"):
        expect_not_in(tools.configs("--describe", "--entity-type", entity), r"\S")


def users(tools, _run):
    """No user has a quota or a SCRAM credential, and one who is asked for by name isn't known."""
    expect_not_in(tools.configs("--describe", "--entity-type", "users"), r"\S")
    expect_not_in(tools.configs("--describe", "--entity-type", "users", "--entity-name", "alice"), r"Exception|Quota|SCRAM-SHA")


def console(codec):
    def check(tools, run):
        wire.create_topic(tools.bootstrap, run, 1)
        lines = "".join(f"codec:{codec},number:{number}\tkey-{number}\tvalue-{number} {FILL}\n" for number in range(20))
        tools.run("ConsoleProducer", "--topic", run, "--compression-codec", codec, "--property", "parse.key=true",
                  "--property", "parse.headers=true", stdin=lines)
        wire.check_codec(tools.bootstrap, run, 1, codec, 20 * len(FILL))
        output = tools.consume(run, "--from-beginning", "--property", "print.key=true", "--property", "print.headers=true", count=20)
        expect_in(output, "Processed a total of 20 messages")
        wanted = lines.splitlines()
        if [line for line in output.splitlines() if line in wanted] != wanted:
            raise Failed(f"the consumer printed:\n{output[:3000]}")
    return check


def console_offset_and_group(tools, run):
    tools.produce(run, 10)
    output = tools.consume(run, "--partition", "0", "--offset", "7", count=3)
    if [line for line in records(output) if line.isdigit()] != ["7", "8", "9"]:
        raise Failed(f"from offset 7 came:\n{output}")
    seen = []
    for _ in range(2):
        seen.append([line for line in records(tools.consume(run, "--group", run, "--from-beginning", count=5)) if line.isdigit()])
    if seen != [["0", "1", "2", "3", "4"], ["5", "6", "7", "8", "9"]]:
        raise Failed(f"a group's two runs gave {seen}")


def consumer_groups(tools, run):
    tools.produce(run, 10)
    tools.consume(run, "--group", run, "--from-beginning", count=6)
    expect_in(tools.groups("--list"), f"^{run}$")
    expect_in(tools.groups("--list", "--state"), rf"^{run}\s+Empty")
    of, on = ("--group", run), ("--topic", run)
    expect_in(tools.groups("--describe", *of), rf"^{run}\s+{run}\s+0\s+6\s+10\s+4\s")
    tools.groups("--reset-offsets", *of, *on, "--to-offset", "2", "--execute")
    expect_in(tools.groups("--describe", *of), rf"^{run}\s+{run}\s+0\s+2\s+10\s+8\s")
    tools.groups("--reset-offsets", *of, *on, "--to-latest", "--execute")
    expect_in(tools.groups("--describe", *of), rf"^{run}\s+{run}\s+0\s+10\s+10\s+0\s")
    tools.groups("--reset-offsets", *of, *on, "--by-duration", "PT1H", "--execute")
    expect_in(tools.groups("--describe", *of), rf"^{run}\s+{run}\s+0\s+0\s+10\s+10\s")
    expect_in(tools.groups("--delete-offsets", *of, *on), rf"{run}\s+0\s+Successful")
    tools.groups("--delete", *of, accept=(0, 1))
    expect_not_in(tools.groups("--list"), f"^{run}$")


def members_described(tools, run):
    """A group that is in use, of a member of another client."""
    wire.create_topic(tools.bootstrap, run, 6)
    member = Member(tools.kcat, run, run)
    try:
        process.wait_until(lambda: len(member.held()) == 6, 30, lambda: "a kcat in the group")
        expect_in(tools.groups("--describe", "--group", run, "--members", "--verbose"), rf"^{run}\s+rdkafka-\S+\s+\S+\s+rdkafka\s+6\s")
        expect_in(tools.groups("--describe", "--group", run, "--state"), rf"^{run}\s.*\srange\s+Stable\s.*1\s*$")
        expect_in(tools.groups("--delete", "--group", run, accept=(0, 1)), "(?i)not empty|NotEmpty")
    finally:
        member.running.end()


def mixed_group(tools, run, told=None, zones=None, consumed=None):
    """A Java consumer and two kcats in one group: one generation, one assignment, and the rest goes on when one leaves.

    `told`: the kcats' brokers, if not the tools' own; `zones`: of the three; `consumed`: is called when all have read.
    """
    wire.create_topic(tools.bootstrap, run, 6)
    told = told or [tools.kcat, tools.kcat]
    with tempfile.TemporaryDirectory() as directory, process.Background(_verifiable_member(tools, run, directory, zones)) as consumer:
        members = []

        def events(name):
            return [event for event in map(json.loads, (line for line in list(consumer.lines) if line.startswith("{")))
                    if event["name"] == name]

        def held():
            assigned = events("partitions_assigned")
            return [at["partition"] for at in assigned[-1]["partitions"]] if assigned else []

        def wait_for_shares(*each):
            def shared():
                shares = [held(), *(member.held() for member in members)]
                return sorted(map(len, shares)) == sorted(each) and sorted(sum(shares, [])) == list(range(6))
            process.wait_until(shared, 40, lambda: f"{each}: {held()} {[member.held() for member in members]}")

        def exchange(first, gone=()):
            for partition in range(6):
                tools.kcat.produce(run, numbered(first + partition * 10, first + partition * 10 + 10), "-p", str(partition))

            def got():
                pairs = ((event["partition"], int(event["value"])) for event in events("record_data"))
                return [(partition, number) for partition, number in pairs if first <= number < first + 100] + [
                    pair for member in (*members, *gone) for pair in member.got(first)]
            process.wait_until(lambda: len(got()) >= 60, 40, lambda: f"60 records, {len(got())} came")
            if sorted(got()) != [(number // 10, first + number) for number in range(60)]:
                raise Failed(f"not each record once: {sorted(got())}")
        try:
            process.wait_until(lambda: len(held()) == 6, 40, lambda: f"six partitions: {consumer.lines[-5:]} {consumer.errors[-5:]}")
            for at, kcat in enumerate(told, 1):
                members.append(Member(kcat, run, run, *(["-X", f"client.id=kcat,zone={zones[at]}"] if zones else [])))
            wait_for_shares(2, 2, 2)
            exchange(0)
            if consumed:
                consumed()
            gone = members.pop()
            gone.running.end()
            wait_for_shares(3, 3)
            exchange(100, [gone])
        finally:
            for member in members:
                member.running.end()


def _verifiable_member(tools, run, directory, zones):
    command = tools.command(f"{PACKAGE}.VerifiableConsumer", "--bootstrap-server", tools.bootstrap, "--topic", run, "--group-id", run,
                            "--assignment-strategy", "org.apache.kafka.clients.consumer.RangeAssignor", "--verbose")
    if zones:
        config = pathlib.Path(directory, "consumer.properties")
        config.write_text(f"client.id=java,zone={zones[0]}\n", encoding="utf-8")
        command += ["--consumer.config", str(config)]
    return command


def verifiable_producer(tools, run):
    wire.create_topic(tools.bootstrap, run, 2)
    output = tools.run("VerifiableProducer", "--topic", run, "--max-messages", "200", "--acks", "-1")
    sent = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    acknowledged = {(event["partition"], event["offset"]): event["value"] for event in sent if event["name"] == "producer_send_success"}
    failures = [event for event in sent if event["name"] == "producer_send_error"]
    if len(acknowledged) != 200 or failures:
        raise Failed(f"{len(acknowledged)} acknowledged, failures {failures[:3]}")
    read = dict(tuple(line.split("=")) for line in tools.kcat.consume(run, form="%p@%o=%s"))
    if read != {f"{partition}@{offset}": value for (partition, offset), value in acknowledged.items()}:
        raise Failed("what was acknowledged is not what is read")


def verifiable_consumer(tools, run):
    wire.create_topic(tools.bootstrap, run, 2)
    for partition in (0, 1):
        tools.kcat.produce(run, numbered(0, 100), "-p", str(partition))
    output = tools.run("VerifiableConsumer", "--topic", run, "--group-id", run, "--max-messages", "200", "--reset-policy", "earliest")
    events = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    consumed = sum(event["count"] for event in events if event["name"] == "records_consumed")
    commits = [event for event in events if event["name"] == "offsets_committed"]
    if consumed != 200 or not commits or not all(event["success"] for event in commits):
        raise Failed(f"{consumed} consumed, commits {commits[-2:]}")


def get_offsets(tools, run):
    tools.produce(run, 3)
    start = int(time.time() * 1000)
    for time_asked, offset in (("latest", "3"), ("earliest", "0"), ("max-timestamp", r"\d"), (str(start - 600_000), "0")):
        expect_in(tools.run("GetOffsetShell", "--topic", run, "--time", time_asked), f"^{run}:0:{offset}$")
    # Nothing is that young, so there is no line.
    expect_not_in(tools.run("GetOffsetShell", "--topic", run, "--time", str(start + 600_000)), run)


def broker_api_versions(tools, _run):
    output = tools.run("BrokerApiVersionsCommand")
    expect_in(output, r"Produce\(0\): 0 to \d+", r"Fetch\(1\): 4 to \d+", r"JoinGroup\(11\): ")
    expect_not_in(output, "ERROR")


def log_dirs(tools, run):
    tools.produce(run, 3)
    output = tools.run("LogDirsCommand", "--describe", "--topic-list", run)
    expect_in(output, '"error":null', f'"partition":"{run}-0"')
    # Kafka counts what lies in its log, so here too it is something.
    size = int(re.search(rf'"partition":"{run}-0","size":(\d+)', output)[1])
    if size == 0:
        raise Failed("the partition has a size of 0")


def cluster(tools, _run):
    first = re.search(r"Cluster ID: (\S+)", tools.cluster("cluster-id"))
    second = re.search(r"Cluster ID: (\S+)", tools.cluster("cluster-id"))
    if not first or not second or first[1] != second[1]:
        raise Failed(f"{first} and {second}")
    expect_in(tools.cluster("list-endpoints"), re.escape(tools.bootstrap.split(":")[1]))


def groups_listed(tools, run):
    tools.produce(run, 1)
    tools.consume(run, "--group", run, "--from-beginning", count=1)
    expect_in(tools.run("GroupsCommand", "--list"), rf"^{run}\s+Classic\s+consumer")


def quorum_and_features(tools, _run):
    expect_in(tools.run("MetadataQuorumCommand", "describe", "--status"), r"LeaderId:\s+[1-9]", "CurrentVoters:")
    expect_in(tools.run("FeatureCommand", "describe"), "Feature: metadata.version")


def acls_disabled(tools, _run):
    expect_in(tools.run("AclCommand", "--list", accept=(0, 1)), "SecurityDisabledException|No Authorizer is configured")


def performance(tools, run):
    wire.create_topic(tools.bootstrap, run, 2)
    produced = tools.run_as_is("ProducerPerformance", "--topic", run, "--num-records", "20000", "--record-size", "200",
                               "--throughput", "-1", "--producer-props", f"bootstrap.servers={tools.bootstrap}", "acks=all")
    expect_in(produced, r"^20000 records sent")
    consumed = tools.run("ConsumerPerformance", "--topic", run, "--messages", "20000", "--timeout", "30000")
    counted = [line.split(", ") for line in consumed.splitlines() if re.match(r"\d{4}-", line)]
    if not counted or int(counted[-1][4]) != 20000:
        raise Failed(f"ConsumerPerformance read:\n{consumed}")


CELLS = {
    "kafka-topics": topics,
    "kafka-configs-topic": topic_configs,
    "kafka-configs-broker": broker_configs,
    "kafka-configs-quotas": client_quotas,
    "kafka-configs-users": users,
    **{f"console-{codec}": console(codec) for codec in wire.CODECS},
    "console-offset-group": console_offset_and_group,
    "kafka-consumer-groups": consumer_groups,
    "kafka-consumer-groups-members": members_described,
    "mixed-group": mixed_group,
    "VerifiableProducer": verifiable_producer,
    "VerifiableConsumer": verifiable_consumer,
    "kafka-get-offsets": get_offsets,
    "kafka-broker-api-versions": broker_api_versions,
    "kafka-log-dirs": log_dirs,
    "kafka-cluster": cluster,
    "kafka-groups": groups_listed,
    "kafka-metadata-quorum-features": quorum_and_features,
    "kafka-acls": acls_disabled,
    "perf-test": performance,
}
