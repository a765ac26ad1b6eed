"""Where the parts of a cluster listen: all on the loopback, or each in a network namespace of its own on one bridge, so
that an agent can be cut off from one other part and from nothing else.

A cut needs no packet filter. Each end is told a hardware address for the other that nobody has: what it sends is lost
without a word, as in a network that fails; connections stay open, and new ones time out.
"""
import os
import shutil
import subprocess
import zlib

from tools import Failed, Missing

# Locally administered, and nobody's.
NOWHERE = "02:00:00:00:00:fe"


class Loopback:
    """Everything on 127.0.0.1; nothing can be cut."""

    kind = "loopback"

    def __init__(self, names):
        self.names = names

    def create(self):
        """Nothing has to be made."""

    def remove(self):
        """Nothing has to be removed."""

    def address(self, _name):
        """Where the part listens."""
        return "127.0.0.1"

    def inside(self, _name, command):
        """The command, such that it runs where the part does."""
        return [str(argument) for argument in command]


class Namespaces:
    """A namespace for each part, one link of each to a bridge; whoever runs this script reaches all of them."""

    kind = "namespaces"

    def __init__(self, names, tag, subnet=None):
        self.names, self.tag = names, tag
        self.subnet = subnet or _free_subnet(tag)
        self.bridge = f"{tag}br"

    @staticmethod
    def check():
        """Says why namespaces can't be had here."""
        if os.geteuid() != 0:
            raise Missing("network namespaces need root")
        if not shutil.which("ip"):
            raise Missing("ip (iproute2) is not on PATH")
        probe = f"pk{os.getpid():x}"
        try:
            _ip("link", "add", f"{probe}b", "type", "bridge")
            _ip("link", "del", f"{probe}b")
            _ip("netns", "add", probe)
            _ip("netns", "del", probe)
        except Failed as failure:
            raise Missing(f"no network namespaces here: {failure}") from failure

    def address(self, name):
        """Where the part listens."""
        return f"{self.subnet}.{self.names.index(name) + 1}"

    def inside(self, name, command):
        """The command, such that it runs in the part's namespace; it keeps the process id."""
        return ["ip", "netns", "exec", self._namespace(name), *(str(argument) for argument in command)]

    def create(self):
        """Makes the bridge, the namespaces and their links."""
        try:
            _ip("link", "add", self.bridge, "type", "bridge")
            _ip("addr", "add", f"{self.subnet}.254/24", "dev", self.bridge)
            _ip("link", "set", self.bridge, "up")
            for name in self.names:
                self._connect(name)
        except Failed:
            self.remove()
            raise

    def _connect(self, name):
        namespace, outside = self._namespace(name), self._link(name)
        _ip("netns", "add", namespace)
        _ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        _ip("link", "set", outside, "master", self.bridge, "up")
        _ip("-n", namespace, "addr", "add", f"{self.address(name)}/24", "dev", "eth0")
        _ip("-n", namespace, "link", "set", "eth0", "up")
        _ip("-n", namespace, "link", "set", "lo", "up")

    def remove(self):
        """Removes whatever `create` made and is still there."""
        for name in self.names:
            _ip("link", "del", self._link(name), check=False)
            _ip("netns", "del", self._namespace(name), check=False)
        _ip("link", "del", self.bridge, check=False)

    def cut(self, one, other):
        """Nothing that either sends reaches the other from now on."""
        for here, there in ((one, other), (other, one)):
            _ip("-n", self._namespace(here), "neigh", "replace", self.address(there), "lladdr", NOWHERE, "dev", "eth0",
                "nud", "permanent")

    def heal(self, one, other):
        """Ends a cut; without one it does nothing."""
        for here, there in ((one, other), (other, one)):
            _ip("-n", self._namespace(here), "neigh", "del", self.address(there), "dev", "eth0", check=False)

    def _namespace(self, name):
        return f"{self.tag}-{name}"

    def _link(self, name):
        return f"{self.tag}{name}"


def _ip(*arguments, check=True):
    done = subprocess.run(["ip", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=30, check=False)
    if check and done.returncode:
        raise Failed(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _free_subnet(tag):
    """The first three bytes of a network that nothing here knows."""
    known = _ip("-4", "route", "show", "table", "all")
    start = zlib.crc32(tag.encode())
    for step in range(256):
        subnet = f"10.213.{(start + step) % 256}"
        if f"{subnet}." not in known:
            return subnet
    raise Failed("no free network in 10.213.0.0/16")


def from_state(state):
    """The network that a state file tells of."""
    if state["kind"] == Namespaces.kind:
        return Namespaces(state["names"], state["tag"], state["subnet"])
    return Loopback(state["names"])


def to_state(network):
    """What `from_state` needs."""
    state = {"kind": network.kind, "names": network.names}
    if network.kind == Namespaces.kind:
        state.update(tag=network.tag, subnet=network.subnet)
    return state
