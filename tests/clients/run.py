#!/usr/bin/env python3
"""The client matrix: real Kafka clients × capabilities, against `penstock dev` on MinIO, and smaller sets on SeaweedFS, on
local disk, and against three agents.

    PENSTOCK_BIN=target/debug/penstock tests/clients/run.py [CLIENT[/CAPABILITY]]...

Each cell prints `ok`, `FAILED`, `skipped` (something is not installed) or `cannot` (the client has no such function;
neither passed nor failed). The last line counts. Clients are installed by package name into PENSTOCK_TEST_STATE (default
target/test-state), unless PENSTOCK_TEST_INSTALL=0.

    tests/clients/run.py --bootstrap 127.0.0.1:9092

runs the cells against a broker that is there, for instance Apache Kafka: what they expect has to hold there too. With more than one
address, those of a cluster's agents, each client is told of one of them alone, and what it did is looked at through another:

    tests/clients/run.py --bootstrap 127.0.0.1:19092,127.0.0.1:19093,127.0.0.1:19094 [--smoke] \\
        [--http 127.0.0.1:19644,127.0.0.1:19645,127.0.0.1:19646]

    tests/clients/run.py --by-hand [CLIENT]...

runs further clients and versions instead, which take long to install.
"""
import argparse
import concurrent.futures
import os
import pathlib
import shutil
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from matrix import install, java_tools, kcat, libraries, local_disk, platform, servers, several
from matrix.report import Failed, Report, Skipped

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# What Connect, Streams and others keep in compacted topics is compacted as soon as half of it is new.
COMPACTS_AT_ONCE = ["seal.age.ms=1s", "seal.interval.ms=100ms", "compact.interval.ms=500ms", "compact.delay.ms=0s"]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", metavar="CLIENT[/CAPABILITY]", help="only these cells")
    parser.add_argument("--bootstrap", metavar="HOST:PORT,...",
                        help="a broker that is there, instead of starting one; or all agents of a cluster")
    parser.add_argument("--http", metavar="HOST:PORT,...",
                        help="of those agents their metrics, in the same order, by which is seen from which agent consumers read")
    parser.add_argument("--smoke", action="store_true", help="on those agents the smoke set only")
    parser.add_argument("--by-hand", action="store_true", help="the clients and versions that are run by hand, instead")
    parser.add_argument("--list", action="store_true", help="the clients, a line each")
    return parser.parse_args()


def run_kcat(report, reader):
    if not report.wants("kcat"):
        return
    if not reader.installed:
        report.skip("kcat", "it is not there")
        return
    for capability, check in kcat.CELLS.items():
        report.cell("kcat", capability, lambda: check(reader, libraries.run_name("kcat", capability)))


def run_library(report, reader, client, program):
    if not report.wants(client):
        return
    try:
        command = program()
    except Skipped as reason:
        report.skip(client, str(reason))
        return
    for capability in libraries.CAPABILITIES:
        report.cell(client, capability, lambda: libraries.check(command, reader, client, capability))


def run_libraries(report, reader, programs):
    """Two clients at a time: a cell mostly waits, for instance for a group."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        running = [pool.submit(run_library, report, reader, client, program) for client, program in programs.items()]
    for client in running:
        client.result()


def run_java_tools(report, reader, state):
    if not report.wants("java-tools"):
        return
    try:
        tools = java_tools.Tools(reader, install.java(HERE, state))
    except Skipped as reason:
        report.skip("java-tools", str(reason))
        return
    for name, check in java_tools.CELLS.items():
        report.cell("java-tools", name, lambda: check(tools, libraries.run_name("java-tools", name)))


def run_platform(report, reader, state):
    """Connect, Streams, and a store of schemas; two at a time, since they mostly wait for groups and for JVMs."""
    if not report.wants("platform"):
        return
    try:
        tools = java_tools.Tools(reader, install.java(HERE, state))
    except Skipped as reason:
        report.skip("platform", str(reason))
        return

    def run_cell(name):
        report.cell("platform", name, lambda: platform.CELLS[name](tools, libraries.run_name("platform", name)))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(run_cell, name) for name in platform.CELLS]:
            done.result()


def run_by_hand(report, bootstrap, state):
    programs = libraries.programs_by_hand(HERE, state)
    run_libraries(report, kcat.Kcat(bootstrap), programs)
    report.print_table(list(programs), libraries.CAPABILITIES)


def run_matrix(report, bootstrap, state):
    reader = kcat.Kcat(bootstrap)
    if reader.installed:
        print(f"kcat {reader.version()}")
    programs = libraries.programs(HERE, state)
    run_kcat(report, reader)
    run_libraries(report, reader, programs)
    run_java_tools(report, reader, state)
    run_platform(report, reader, state)
    report.print_table(["kcat", *programs], libraries.CAPABILITIES)


def check_broker(report, broker, where):
    """After all that: it lives, is ready, found nothing to complain of, and ends as asked."""
    report.cell("broker", f"alive-{where}", broker.check_alive)
    report.cell("broker", f"ready-{where}", broker.check_ready)
    report.cell("broker", f"stops-{where}", broker.stop)
    report.cell("broker", f"log-{where}", broker.check_log)


def copied_binary(state):
    """The binary under test, safe from a build that goes on."""
    binary = pathlib.Path(os.environ.get("PENSTOCK_BIN", ROOT / "target/debug/penstock"))
    if not binary.exists():
        sys.exit(f"{binary} is not there; build it with: cargo build -p penstock-agent")
    copy = state / "penstock"
    # One that still runs keeps its own.
    copy.unlink(missing_ok=True)
    return pathlib.Path(shutil.copy2(binary, copy))


def on_minio(report, binary, state, run):
    minio = None
    options = {}
    try:
        minio = servers.Minio(ROOT, state)
        options = {"object_store": minio.url, "environment": minio.environment}
    except Skipped as reason:
        report.skip("MinIO", f"{reason}; the matrix runs on local disk")
    try:
        broker = servers.Broker(binary, state / "broker", options=["group.initial.rebalance.delay.ms=0", *COMPACTS_AT_ONCE], **options)
        try:
            run(report, broker.kafka, state)
            if report.wants("platform"):
                report.cell("platform", "on topics that are compacted meanwhile", broker.check_compacted)
            check_broker(report, broker, "minio" if minio else "disk")
        finally:
            broker.end()
    finally:
        if minio:
            minio.end()


def on_seaweedfs(report, binary, state, _run):
    """kcat and one client more: what the store is asked for doesn't depend on who asks the broker."""
    if not report.wants("seaweedfs"):
        return
    try:
        store = servers.SeaweedFs(ROOT, state)
    except Skipped as reason:
        report.skip("seaweedfs", str(reason))
        return
    try:
        broker = servers.Broker(binary, state / "broker-seaweedfs", options=["group.initial.rebalance.delay.ms=0"],
                                object_store=store.url, environment=store.environment)
        try:
            local_disk.run_smoke(report, "seaweedfs", broker, HERE, state)
            check_broker(report, broker, "seaweedfs")
        finally:
            broker.end()
    finally:
        store.end()


def on_three_agents(report, binary, state, _run):
    """Every client, told of one agent of three; what it sends is read through another."""
    if not report.wants("agents"):
        return
    broker = servers.Broker(binary, state / "broker-agents", options=["group.initial.rebalance.delay.ms=0"], agents=3)
    try:
        several.run_smoke(report, several.Agents(broker.each), HERE, state)
        check_broker(report, broker, "agents")
    finally:
        broker.end()


def on_local_disk(report, binary, state, _run):
    if not report.wants("disk"):
        return
    broker = servers.Broker(binary, state / "broker-disk")
    try:
        local_disk.run(report, broker, HERE, state)
        check_broker(report, broker, "disk")
    finally:
        broker.end()


def main():
    options = arguments()
    state = pathlib.Path(os.environ.get("PENSTOCK_TEST_STATE", ROOT / "target/test-state")).resolve() / "clients"
    state.mkdir(parents=True, exist_ok=True)
    if options.list:
        print("\n".join(["kcat", *libraries.programs(HERE, state), "java-tools", "platform", "disk", "seaweedfs", "agents", "broker"]))
        print("by hand: " + ", ".join(libraries.programs_by_hand(HERE, state)))
        return 0
    report = Report(options.only)
    started = time.monotonic()
    run = run_by_hand if options.by_hand else run_matrix
    if options.bootstrap and "," in options.bootstrap:
        agents = several.Agents(options.bootstrap.split(","), options.http and options.http.split(","))
        (several.run_smoke if options.smoke else several.run_whole)(report, agents, HERE, state)
    elif options.bootstrap:
        run(report, options.bootstrap, state)
    else:
        binary = copied_binary(state)
        for leftover in ("broker", "broker-disk", "broker-seaweedfs", "broker-agents", "minio"):
            shutil.rmtree(state / leftover, ignore_errors=True)
        for part in (on_minio,) if options.by_hand else (on_minio, on_seaweedfs, on_local_disk, on_three_agents):
            try:
                part(report, binary, state, run)
            except Failed as failure:
                report.cell("broker", part.__name__, lambda: _raise(failure))
    print(f"\n{time.monotonic() - started:.0f} s")
    return report.finish()


def _raise(failure):
    raise failure


if __name__ == "__main__":
    sys.exit(main())
