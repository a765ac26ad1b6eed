"""What is done to a cluster under load. A fault is struck, held for a while, and undone; then the next, with a pause between."""
import random
import threading
import time

from tools import Failed

RESTART_WITHIN = 90
# An agent's own deadline is 30 s.
ENDS_WITHIN = 45


class Fault:
    """One kind of fault. `strike` does it all, to a part that it draws, and tells which."""

    def __init__(self, cluster, draw, lease_seconds):
        self.cluster, self.draw, self.lease_seconds = cluster, draw, lease_seconds

    def agent(self):
        """A random one."""
        return self.draw.choice(self.cluster.agents).name

    def strike(self, rest):
        """`rest(seconds)` waits; it returns early when the run is given up."""
        raise NotImplementedError


class KillAgent(Fault):
    """kill -9, and a new start after a moment."""

    def strike(self, rest):
        name = self.agent()
        self.cluster.kill(name)
        rest(self.draw.uniform(0, 2))
        self.cluster.restart(name, RESTART_WITHIN)
        return name


class DrainAgent(Fault):
    """Asked to let its clients move and to end, by HTTP or SIGTERM; it has to end by itself. Then a new start."""

    def strike(self, rest):
        name = self.agent()
        if self.draw.random() < 0.5:
            self.cluster.drain(name)
            # Which is SIGTERM's way from here on.
            ended = self.cluster.part(name).process.wait_for_end(ENDS_WITHIN)
        else:
            ended = self.cluster.part(name).stop(ENDS_WITHIN)
        if not ended:
            raise Failed(f"{name} did not end within {ENDS_WITHIN} s of being drained")
        rest(self.draw.uniform(0, 2))
        self.cluster.restart(name, RESTART_WITHIN)
        return name


class PauseAgent(Fault):
    """SIGSTOP for longer than its lease, then SIGCONT."""

    def strike(self, rest):
        name = self.agent()
        self.cluster.pause(name)
        rest(self.lease_seconds * self.draw.uniform(1.3, 2))
        self.cluster.resume(name)
        return name


class KillStore(Fault):
    """kill -9 of a store, and a new start."""

    store = None

    def strike(self, rest):
        self.cluster.kill(self.store)
        rest(self.draw.uniform(0, 3))
        self.cluster.restart(self.store, RESTART_WITHIN)
        return self.store


class KillFoundationDb(KillStore):
    """Of FoundationDB."""

    store = "fdb"


class KillMinio(KillStore):
    """Of MinIO."""

    store = "minio"


class Cut(Fault):
    """An agent and a store that don't reach one another: half of the time for longer than the lease."""

    store = None

    def strike(self, rest):
        name = self.agent()
        self.cluster.cut(name, self.store)
        try:
            rest(self.draw.choice((self.draw.uniform(0.5, 3), self.lease_seconds * self.draw.uniform(1.3, 2))))
        finally:
            self.cluster.heal(name, self.store)
        return name


class CutFoundationDb(Cut):
    """From FoundationDB."""

    store = "fdb"


class CutMinio(Cut):
    """From MinIO."""

    store = "minio"


FAULTS = {"kill-agent": KillAgent, "drain-agent": DrainAgent, "pause-agent": PauseAgent, "kill-fdb": KillFoundationDb,
          "kill-minio": KillMinio, "cut-fdb": CutFoundationDb, "cut-minio": CutMinio}
NEED_NAMESPACES = ("cut-fdb", "cut-minio")


class Campaign(threading.Thread):
    """Faults of the named kinds, each in its turn of a shuffled round, until told to stop; it ends when the last is undone."""

    def __init__(self, cluster, names, seed, lease_seconds, pause_seconds, tell):
        super().__init__(daemon=True)
        self.cluster, self.draw = cluster, random.Random(seed)
        self.faults = {name: FAULTS[name](cluster, self.draw, lease_seconds) for name in names}
        self.pause_seconds, self.tell = pause_seconds, tell
        self.events, self.failure = [], None
        self.to_end, self.given_up = threading.Event(), threading.Event()
        self.rounds = 0
        self.begun = time.monotonic()

    def counts(self):
        """How often each was struck."""
        return {name: sum(1 for event in self.events if event["fault"] == name) for name in self.faults}

    def run(self):
        """Ends early, with `failure`, if a part does not come back."""
        try:
            # What was sent before is to be delivered before.
            self.to_end.wait(self.pause_seconds)
            while not self.to_end.is_set():
                for name in self.draw.sample(sorted(self.faults), len(self.faults)):
                    self._strike(name)
                    self.to_end.wait(self.draw.uniform(0.5, 1.5) * self.pause_seconds)
                    if self.to_end.is_set():
                        return
                self.rounds += 1
        except Exception as failure:
            # The driver's to raise: a thread's end goes unseen.
            self.failure = failure

    def _strike(self, name):
        ended = self.cluster.ended()
        if ended:
            raise Failed("; ".join(f"{part.name} ended by itself, the end of {part.log}:\n{part.end_of_log()}" for part in ended))
        begun = time.monotonic()
        part = self.faults[name].strike(self.given_up.wait)
        seconds = time.monotonic() - begun
        self.events.append({"fault": name, "part": part, "at seconds": round(begun - self.begun, 2), "seconds": round(seconds, 2)})
        self.tell(f"{name} {part}, {seconds:.1f} s")

    def end(self, at_once=False):
        """Waits until the last fault is undone; `at_once`: it is undone now."""
        self.to_end.set()
        if at_once:
            self.given_up.set()
        self.join()
