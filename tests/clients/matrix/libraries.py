"""The cells of the client libraries: a program per language or library, started for each capability."""
import random

from . import install, process, wire
from .report import Cannot

CELL_SECONDS = 75
CANNOT = 3

CAPABILITIES = (
    "create-topic", *(f"produce-{codec}" for codec in wire.CODECS), "idempotent", "consume-start", "consume-end",
    "consume-timestamp", "group-of-three", "offsets-resumed", "admin-topics", "admin-configs", "admin-groups",
    "admin-delete-group", "admin-partitions", "admin-delete",
)

# Small, since the machine may be; quick to start rather than quick later.
JVM = ("java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


def programs(here, state):
    """Client → a function that installs it if need be and gives the command line of its program."""
    def python(script):
        return lambda: [install.python_clients(here, state), here / "python" / script]

    def node():
        return ["env", f"NODE_PATH={install.node_modules(here, state)}", "node", here / "node" / "client.js"]

    def go(program):
        return lambda: [install.go_programs(here, state) / program]

    def rust(client):
        return lambda: [install.rust_program(here), client]

    def old_confluent():
        interpreter = install.python_clients(here, state, "python-librdkafka-2.0", "requirements-librdkafka-2.0.txt")
        return [interpreter, here / "python" / "confluent_client.py"]
    return {
        "confluent": python("confluent_client.py"),
        "confluent-2.0": old_confluent,
        "kafka-python": python("kafka_python_client.py"),
        "aiokafka": python("aiokafka_client.py"),
        "kafkajs": node,
        "franz-go": go("franz"),
        "sarama": go("sarama"),
        "kafka-go": go("segmentio"),
        "rdkafka": rust("rdkafka"),
        "rskafka": rust("rskafka"),
        "java": lambda: [*JVM, "-cp", install.java(here, state), "MatrixClient"],
    }


def programs_by_hand(here, state):
    """Further clients and versions, run by hand: they take long to install, or say little that the others don't."""
    codecs = ("cramjam", "lz4", "python-snappy", "zstandard")

    def python(script, *packages):
        def program():
            of = packages[0].replace("==", "-")
            return [install.python_packages(state / "by-hand", of, [*packages, *codecs]), here / "python" / script]
        return program

    def confluent_javascript():
        return ["env", f"NODE_PATH={install.confluent_javascript(state)}", "node", here / "node" / "confluent.js"]
    return {
        "confluent-js": confluent_javascript,
        "kafka-python-2.0": python("kafka_python_2_client.py", "kafka-python==2.0.2"),
        "kafka-python-2.3": python("kafka_python_2_client.py", "kafka-python==2.3.3"),
        "aiokafka-0.8": python("aiokafka_client.py", "aiokafka==0.8.1", "kafka-python==2.0.2", "async-timeout", "packaging"),
        "aiokafka-0.10": python("aiokafka_client.py", "aiokafka==0.10.0", "async-timeout", "packaging", "typing_extensions"),
        # Wheels for Python up to 3.10.
        "confluent-1.9": python("confluent_client.py", "confluent-kafka==1.9.2"),
    }


def run_name(client, capability):
    return f"{client}-{capability}-{random.randrange(16**6):06x}"


def check(command, kcat, client, capability, told=None):
    """One cell. What was produced is then looked at in the log and, if `kcat` is there, read by it. `told` is where the
    client connects, if that is not kcat's broker."""
    run = run_name(client, capability)
    status, output, _ = process.run([*command, told or kcat.bootstrap, capability, run], CELL_SECONDS, accept=(0, CANNOT))
    if status == CANNOT:
        raise Cannot(output.strip().splitlines()[-1].removeprefix("cannot: "))
    if capability.startswith("produce-"):
        codec = capability.removeprefix("produce-")
        wire.check_codec(kcat.bootstrap, run, 2, codec, 40 * 270)
        if kcat.installed:
            kcat.reads_back(run, codec)
