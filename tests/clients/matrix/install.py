"""Installs the clients by package name into the state directory. What was installed is kept for the next run."""
import hashlib
import os
import shutil
import threading

from . import process
from .report import Failed, Skipped

MINUTES = 60


# Clients that share an installation are run at the same time.
LOCK = threading.Lock()


def once(directory, sources, install):
    """Runs `install` unless it succeeded here before with the same sources."""
    with LOCK:
        return _once(directory, sources, install)


def _once(directory, sources, install):
    wanted = hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()
    mark = directory / "installed"
    if mark.exists() and mark.read_text() == wanted:
        return directory
    if os.environ.get("PENSTOCK_TEST_INSTALL") == "0":
        raise Skipped("not installed, and installing is switched off")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    try:
        install()
    except Failed as failure:
        lines = [line for line in str(failure).splitlines() if line.strip()]
        raise Skipped(f"installation failed: {lines[0]} … {lines[-1]}") from failure
    mark.write_text(wanted)
    return directory


def needs(program):
    found = shutil.which(program)
    if not found:
        raise Skipped(f"{program} is not there")
    return found


def python_clients(here, state, of="python", requirements="requirements.txt"):
    """The interpreter that has the Python clients of a file of requirements."""
    directory, requirements = state / of, here / requirements

    def install():
        process.run([needs("python3"), "-m", "venv", directory / "venv"], 2 * MINUTES)
        process.run([directory / "venv/bin/pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:",
                     "-r", requirements], 5 * MINUTES)
    return once(directory, [requirements], install) / "venv/bin/python"


def python_packages(state, of, packages):
    """The interpreter that has these packages, for clients that are run by hand."""
    state.mkdir(parents=True, exist_ok=True)
    requirements = state / f"{of}.txt"
    requirements.write_text("\n".join(packages) + "\n")
    return python_clients(state, state, of, requirements.name)


def rust_program(here):
    """The program of the Rust clients, built unless PENSTOCK_MATRIX_CLIENT names it."""
    given = os.environ.get("PENSTOCK_MATRIX_CLIENT")
    if given:
        return given
    root = here.parent.parent
    try:
        process.run([needs("cargo"), "build", "-q", "--workspace", "--example", "matrix-client"], 20 * MINUTES, directory=root)
    except Failed as failure:
        raise Skipped(f"it does not build: {str(failure).strip().splitlines()[-1]}") from failure
    return root / os.environ.get("CARGO_TARGET_DIR", "target") / "debug/examples/matrix-client"


def confluent_javascript(state):
    """The folder of @confluentinc/kafka-javascript, which builds a librdkafka where it can't load a built one."""
    needs("node")
    directory, mark = state / "confluent-javascript", state / "confluent-javascript.txt"
    mark.write_text("@confluentinc/kafka-javascript@1.10.1\n")

    def install():
        process.run([needs("npm"), "install", "--no-audit", "--no-fund", "--prefix", directory, mark.read_text().strip()], 30 * MINUTES)
    return once(directory, [mark], install) / "node_modules"


def node_modules(here, state):
    """The folder of kafkajs."""
    needs("node")
    directory, sources = state / "node", [here / "node" / name for name in ("package.json", "package-lock.json", ".npmrc")]

    def install():
        for source in sources:
            shutil.copy(source, directory)
        process.run([needs("npm"), "ci", "--no-audit", "--no-fund", "--ignore-scripts"], 5 * MINUTES, directory=directory)
    return once(directory, sources, install) / "node_modules"


def go_programs(here, state):
    """The folder of the Go clients' programs."""
    directory = state / "go"
    sources = sorted(path for path in (here / "go").rglob("*") if path.is_file())

    def install():
        process.run([needs("go"), "build", "-o", directory, "./franz", "./sarama", "./segmentio"], 6 * MINUTES, directory=here / "go")
    return once(directory, sources, install)


def java(here, state):
    """The class path of Kafka's clients and tools and of our Java programs."""
    needs("java")
    jars = state / "java"
    pom = here / "java" / "pom.xml"

    def install():
        process.run([needs("mvn"), "-B", "-q", "-f", pom, "dependency:copy-dependencies", "-DincludeScope=runtime",
                     f"-DoutputDirectory={jars}"], 6 * MINUTES)
    once(jars, [pom], install)
    classes, sources = state / "java-classes", sorted((here / "java").glob("*.java"))

    def compile_client():
        # The tools come with a compiler, so that a JRE is enough.
        paths = [str(jar) for jar in sorted(jars.glob("*.jar"))]
        process.run(["java", "-jar", *jars.glob("ecj-*.jar"), "--release", "17", "-nowarn", "-cp", ":".join(paths),
                     "-d", classes, *sources], 3 * MINUTES)
    once(classes, [*sources, pom], compile_client)
    shutil.copy(here / "java" / "log4j2.yaml", classes)
    return f"{classes}:{jars}/*"
