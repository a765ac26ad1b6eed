#!/usr/bin/env python3
"""A Penstock cluster on this machine: FoundationDB, MinIO and some agents, with one command.

    tests/cluster/cluster.py start                       # until Ctrl-C
    tests/cluster/cluster.py start --background && ... && tests/cluster/cluster.py stop
    tests/cluster/cluster.py kill a2                     # also pause, resume, restart, drain, cut, heal

Needed: fdbserver and fdbcli on PATH (or FDBSERVER, FDBCLI), libfdb_c 7.3 where the loader looks (LD_LIBRARY_PATH), MinIO or go
to install it. The agent is built with its feature `foundationdb` unless PENSTOCK_BIN names one. Parts are called fdb, minio,
a1, a2, ...; logs are in logs/ of the data directory. What is there from an earlier run of the same directory stays.

Exit codes: 0 it went well; 1 it failed, and one line on standard error says why; 2 wrong usage.
"""
import argparse
import json
import os
import pathlib
import signal
import socket
import sys
import time

import network as networks
import tools
from parts import Agent, FoundationDb, Minio, Process
from tools import Failed, Missing

STORES = ("fdb", "minio")


class Cluster:
    """The parts by their names. Its state file lets another process find them."""

    def __init__(self, directory, network, ports, zones, settings):
        self.directory, self.network, self.ports = pathlib.Path(directory).resolve(), network, ports
        self.zones, self.settings = zones, settings
        self.binary = self.programs = None
        self.environment = {}
        self.parts = {"fdb": FoundationDb(self, "fdb", ports["fdb"]), "minio": Minio(self, "minio", ports["minio"])}
        self.parts["minio"].log = self.directory / "minio.log"
        self.agents = []
        for name in network.names:
            if name not in STORES:
                kafka, http = ports[name]
                self.agents.append(Agent(self, name, kafka, http, settings.get(name, {})))
                self.parts[name] = self.agents[-1]

    # --- where its state is kept

    @property
    def state_file(self):
        """What `attach` reads."""
        return self.directory / "cluster.json"

    def save(self):
        """After each start of a process."""
        state = {
            "network": networks.to_state(self.network), "ports": self.ports, "zones": self.zones, "settings": self.settings,
            "binary": str(self.binary), "server": self.programs.server, "cli": self.programs.cli, "environment": self.environment,
            "processes": {name: [part.process.pid, part.process.started] for name, part in self.parts.items() if part.process},
        }
        partial = self.state_file.with_suffix(".new")
        partial.write_text(json.dumps(state, indent=1), encoding="utf-8")
        partial.replace(self.state_file)

    @classmethod
    def attach(cls, directory):
        """The cluster that was started from this directory."""
        file = pathlib.Path(directory).resolve() / "cluster.json"
        try:
            state = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise Missing(f"no cluster runs from {file.parent}") from None
        cluster = cls(file.parent, networks.from_state(state["network"]), state["ports"], state["zones"], state["settings"])
        cluster.binary, cluster.environment = pathlib.Path(state["binary"]), state["environment"]
        cluster.programs = argparse.Namespace(server=state["server"], cli=state["cli"])
        for name, (pid, started) in state["processes"].items():
            cluster.parts[name].process = Process(pid, started)
        return cluster

    # --- all of it

    def start(self):
        """All parts, until all agents are ready. What was started is stopped again if one doesn't get there."""
        (self.directory / "logs").mkdir(parents=True, exist_ok=True)
        try:
            self.network.create()
            for name in STORES:
                self._start(name)
            self.parts["fdb"].wait_ready(60)
            for agent in self.agents:
                self._start(agent.name)
            for agent in self.agents:
                agent.wait_ready(60)
        except BaseException:
            self.stop()
            raise

    def stop(self):
        """Agents first, all at once; then the stores. The names of those that had to be killed."""
        for agent in self.agents:
            if agent.lives():
                agent.process.send(signal.SIGCONT)
                agent.process.send(signal.SIGTERM)
        killed = [part.name for part in (*self.agents, *(self.parts[name] for name in STORES)) if not part.stop()]
        self.network.remove()
        self.state_file.unlink(missing_ok=True)
        (self.directory / "minio.pid").unlink(missing_ok=True)
        return killed

    def ended(self):
        """The parts that don't run."""
        return [part for part in self.parts.values() if not part.lives()]

    @property
    def bootstrap(self):
        """The agents' addresses, one for each."""
        return [agent.address for agent in self.agents]

    # --- one part

    def part(self, name):
        """By its name."""
        if name not in self.parts:
            raise Missing(f"no part {name}; there are: {', '.join(self.parts)}")
        return self.parts[name]

    def agent(self, name):
        """As `part`, but no store."""
        if name in STORES:
            raise Missing(f"{name} is no agent; there are: {', '.join(agent.name for agent in self.agents)}")
        return self.part(name)

    def _start(self, name):
        self.part(name).start()
        self.save()

    def kill(self, name):
        """kill -9."""
        self.part(name).process.kill()

    def restart(self, name, wait_seconds=60):
        """Starts a part again, killed first if it runs, and waits until it is ready; `None`: doesn't wait."""
        self.kill(name)
        self._start(name)
        if wait_seconds is not None:
            self.part(name).wait_ready(wait_seconds)

    def pause(self, name):
        """SIGSTOP."""
        self.part(name).process.send(signal.SIGSTOP)

    def resume(self, name):
        """SIGCONT."""
        self.part(name).process.send(signal.SIGCONT)

    def drain(self, name):
        """Lets an agent's clients move; it ends by itself."""
        self.agent(name).drain()

    def cut(self, agent, store):
        """The two don't reach one another any more."""
        self._namespaces().cut(self.agent(agent).name, store)

    def heal(self, agent, store):
        """Ends a cut."""
        self._namespaces().heal(self.agent(agent).name, store)

    def _namespaces(self):
        if self.network.kind != networks.Namespaces.kind:
            raise Missing("only a cluster started with --namespaces can be cut")
        return self.network


def free_ports(count):
    """Ports of the loopback that nobody listens on now."""
    listeners = [socket.socket() for _ in range(count)]
    try:
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()


def create(options):
    """A cluster that can be started, from the options of `add_options`."""
    directory = pathlib.Path(options.data_dir).resolve()
    if (directory / "cluster.json").exists():
        if any(part.lives() for part in Cluster.attach(directory).parts.values()):
            raise Failed(f"a cluster runs from {directory}; end it with: tests/cluster/cluster.py stop --data-dir {directory}")
        # It was ended by force, or the machine was.
        Cluster.attach(directory).stop()
    programs = tools.FoundationDbPrograms()
    names = [f"a{number}" for number in range(1, options.agents + 1)]
    if options.namespaces:
        networks.Namespaces.check()
        network = networks.Namespaces([*STORES, *names], f"pk{os.getpid() % 0xfffff:x}")
    else:
        network = networks.Loopback([*STORES, *names])
    ports = choose_ports(options, names)
    directory.mkdir(parents=True, exist_ok=True)
    binary = tools.copy_binary(tools.build_agent(options.release), directory)
    zones = options.zones.split(",") if options.zones else []
    cluster = Cluster(directory, network, ports, zones, agent_settings(binary, names, zones, options.set))
    cluster.binary, cluster.programs = binary, programs
    return cluster


def choose_ports(options, names):
    """Of each part; those of agents are for Kafka and for HTTP."""
    count = len(names)
    if options.free_ports:
        free = free_ports(2 + 2 * count)
        return {"fdb": free[0], "minio": free[1], **{name: [free[2 + i], free[2 + count + i]] for i, name in enumerate(names)}}
    ports = {"fdb": options.fdb_port, "minio": options.minio_port,
             **{name: [options.port + i, options.http_port + i] for i, name in enumerate(names)}}
    if not options.namespaces:
        for port in (ports["fdb"], ports["minio"], *(port for name in names for port in ports[name])):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError as error:
                    others = "--port, --http-port, --fdb-port, --minio-port, --free-ports"
                    raise Failed(f"port {port}: {error.strerror} (see {others})") from error
    return ports


def agent_settings(binary, names, zones, given):
    """What each agent is told with --set."""
    common = dict(setting.split("=", 1) for setting in given)
    has_names = tools.options_known(binary, {"node.name": "a1"})
    settings = {}
    for number, name in enumerate(names, 1):
        own = {"node.name": name} if has_names else {"node.id": str(number)}
        if zones:
            own["zone"] = zones[(number - 1) % len(zones)]
        settings[name] = {**own, **common}
    return settings


def add_options(parser):
    """What `create` needs."""
    parser.add_argument("--agents", type=int, default=3, metavar="N", help="how many agents (default: 3)")
    parser.add_argument("--zones", default="z1,z2,z3", metavar="Z,...",
                        help="zones, given to the agents in turn (default: z1,z2,z3; '': none)")
    parser.add_argument("--data-dir", default="./penstock-cluster", metavar="DIR", help="data and logs (default: ./penstock-cluster)")
    parser.add_argument("--release", action="store_true", help="build and run a release build")
    parser.add_argument("--port", type=int, default=19092, help="Kafka, of the first agent; the others' follow (default: 19092)")
    parser.add_argument("--http-port", type=int, default=19644, help="metrics and health, likewise (default: 19644)")
    parser.add_argument("--fdb-port", type=int, default=14500, help="FoundationDB (default: 14500)")
    parser.add_argument("--minio-port", type=int, default=19000, help="MinIO (default: 19000)")
    parser.add_argument("--free-ports", action="store_true", help="any ports that are free, instead")
    parser.add_argument("--namespaces", action="store_true",
                        help="each part in a network namespace of its own (root, iproute2), so that `cut` works")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="an option of all agents; may be given more than once")


def check_options(parser, options):
    """Ends with 2 if they make no sense."""
    if not 1 <= options.agents <= 100:
        parser.error("--agents is 1 to 100")
    for setting in options.set:
        if "=" not in setting:
            parser.error(f"--set {setting}: KEY=VALUE")


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    start = commands.add_parser("start", help="start a cluster")
    add_options(start)
    start.add_argument("--background", action="store_true", help="return when it is ready, and leave it running")
    for name, told in (("stop", "end it, and wait until it has"), ("status", "its parts, a line each"),
                       ("kill", "kill -9 a part"), ("restart", "start a part again"), ("pause", "SIGSTOP"), ("resume", "SIGCONT"),
                       ("drain", "let an agent's clients move, and end it"), ("cut", "cut an agent off from fdb or minio"),
                       ("heal", "end a cut")):
        command = commands.add_parser(name, help=told)
        if name not in ("stop", "status"):
            command.add_argument("part", metavar="PART", help="fdb, minio, a1, a2, ...")
        if name in ("cut", "heal"):
            command.add_argument("store", choices=STORES)
        command.add_argument("--data-dir", default="./penstock-cluster", metavar="DIR")
    options = parser.parse_args()
    if options.command == "start":
        check_options(parser, options)
    return options


def show(cluster, script):
    """What to paste."""
    directory = f" --data-dir {cluster.directory}"
    print(f"bootstrap   {','.join(cluster.bootstrap)}")
    for agent in cluster.agents:
        zone = agent.settings.get("zone")
        print(f"{agent.name:<11} Kafka {agent.address}, http://{agent.http}/metrics{f', zone {zone}' if zone else ''}, log {agent.log}")
    first = cluster.agents[0]
    print(f"""
  kcat -b {first.address} -L
  {cluster.binary} produce greetings --bootstrap {first.address}
  {script} status{directory}
  {script} kill {first.name}{directory} && {script} restart {first.name}{directory}
  {script} drain {first.name}{directory}        (curl -X POST http://{first.http}/admin/drain)
  {script} stop{directory}""", flush=True)


def watch(cluster):
    """Tells of parts that end, until this process is told to stop."""
    known = set()
    while True:
        time.sleep(0.5)
        # Whoever killed or started a part wrote its state down.
        try:
            current = Cluster.attach(cluster.directory)
        except Missing:
            print("stopped by somebody else", flush=True)
            return
        ended = {part.name for part in current.ended()}
        for name in sorted(ended - known):
            print(f"{name} ended; its log is {current.parts[name].log}", flush=True)
        for name in sorted(known - ended):
            print(f"{name} runs again", flush=True)
        known = ended


def run_start(options, script):
    """Until Ctrl-C, or until all are ready."""
    def interrupted(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, interrupted)
    cluster = create(options)
    cluster.start()
    show(cluster, script)
    if options.background:
        return
    print("\nCtrl-C ends it", flush=True)
    try:
        watch(cluster)
    except KeyboardInterrupt:
        print("stopping ...", flush=True)
        killed = Cluster.attach(cluster.directory).stop()
        if killed:
            raise Failed(f"had to be killed: {', '.join(killed)}") from None


def run_command(options):
    """One that is about a cluster that runs."""
    cluster = Cluster.attach(options.data_dir)
    if options.command == "stop":
        killed = cluster.stop()
        if killed:
            raise Failed(f"had to be killed: {', '.join(killed)}")
    elif options.command == "status":
        for part in cluster.parts.values():
            state = "ended" if not part.lives() else "ready" if part.is_ready() else "not-ready"
            print(f"{part.name:<6} {part.address:<22} {part.process.pid:<8} {state}")
    elif options.command in ("cut", "heal"):
        getattr(cluster, options.command)(options.part, options.store)
    else:
        getattr(cluster, options.command)(options.part)


def main():
    """The exit code."""
    options = arguments()
    try:
        if options.command == "start":
            run_start(options, sys.argv[0])
        else:
            run_command(options)
    except (Missing, Failed) as trouble:
        print(f"cluster.py: {trouble}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read the output has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
