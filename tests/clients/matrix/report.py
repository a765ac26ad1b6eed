"""The lines and counts that a run prints, and the cells that they are about."""
import threading
import time
import traceback


class Cannot(Exception):
    """The client has no such function; the cell counts neither as passed nor as failed."""


class Skipped(Exception):
    """Something that a cell needs isn't there."""


class Failed(Exception):
    """A cell's failure whose text says all; any other exception is shown with its traceback."""


class Report:
    """Prints each cell as it ends and keeps the counts."""

    def __init__(self, cells):
        self.wanted = cells
        self.passed = self.failed = self.skipped = 0
        self.cannot = []
        self.table = {}
        self.lock = threading.RLock()

    def cell(self, client, capability, check):
        """Runs `check` and prints what came of it. True if it passed."""
        if not self._is_wanted(client, capability):
            return False
        started = time.monotonic()
        try:
            check()
            failure = None
        except Exception as raised:
            failure = raised
        with self.lock:
            return self._ended(client, capability, failure, time.monotonic() - started)

    def _ended(self, client, capability, failure, seconds):
        if isinstance(failure, Cannot):
            self.cannot.append((client, capability, str(failure)))
            self._note(client, capability, "-")
            print(f"cannot  {client} {capability}: {failure}", flush=True)
        elif isinstance(failure, Skipped):
            self._note(client, capability, "?")
            self.skip(f"{client} {capability}", str(failure))
        elif failure is not None:
            self.failed += 1
            self._note(client, capability, "FAILED")
            print(f"FAILED  {client} {capability}: {type(failure).__name__}: {failure}", flush=True)
            if not isinstance(failure, Failed):
                traceback.print_exception(failure)
        else:
            self.passed += 1
            self._note(client, capability, "ok")
            print(f"ok      {client} {capability} ({seconds:.1f} s)", flush=True)
            return True
        return False

    def skip(self, what, reason):
        with self.lock:
            self.skipped += 1
            print(f"skipped {what}: {reason}", flush=True)

    def wants(self, client):
        """Whether any cell of this client is wanted."""
        return not self.wanted or any(pattern.split("/")[0] == client for pattern in self.wanted)

    def _is_wanted(self, client, capability):
        return not self.wanted or client in self.wanted or f"{client}/{capability}" in self.wanted

    def _note(self, client, capability, outcome):
        self.table.setdefault(capability, {})[client] = outcome

    def print_table(self, clients, capabilities):
        """Clients as columns, capabilities as rows; `-`: the client can't, `?`: skipped, blank: not run."""
        shown = [client for client in clients if any(client in row for row in self.table.values())]
        if not shown:
            return

        def width(client):
            return max(9, len(client))
        print("\n" + " " * 20 + " ".join(f"{client:>{width(client)}}" for client in shown))
        for capability in capabilities:
            row = self.table.get(capability, {})
            print(f"{capability:<20}" + " ".join(f"{row.get(client, ''):>{width(client)}}" for client in shown))

    def finish(self):
        if self.cannot:
            print(f"{len(self.cannot)} cells that the client itself has no function for")
        print(f"\n{self.passed} passed, {self.failed} failed, {self.skipped} skipped", flush=True)
        return 1 if self.failed else 0
