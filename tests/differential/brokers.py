"""Penstock as a process, and what both brokers are waited for before they are compared."""

import os
import pathlib
import subprocess
import time
import urllib.request

import kafka

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
COORDINATOR_WITHIN_S = 60
READY_WITHIN_S = 60


class Penstock:
    """`penstock dev` over a folder, with further options."""

    def __init__(self, data, settings=()):
        self.data, self.settings, self.process = pathlib.Path(data), settings, None
        self.port, self.http = kafka.free_port(), kafka.free_port()
        default = ROOT / "target" / "debug" / "penstock"
        self.binary = os.environ.get("PENSTOCK_BIN", str(default))
        # What the tests are told by PENSTOCK_… variables would be unknown options to the broker.
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("PENSTOCK_")}

    def start(self):
        command = [self.binary, "dev", "--data-dir", str(self.data), "--listen", f"127.0.0.1:{self.port}",
                   "--http", f"127.0.0.1:{self.http}"]
        for setting in self.settings:
            command += ["--set", setting]
        self.data.mkdir(parents=True, exist_ok=True)
        with open(self.data / "broker.log", "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=self.environment)
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline and self.process.poll() is None:
            if ready(self.http):
                return self
            time.sleep(0.05)
        raise RuntimeError("Penstock doesn't start:\n" + (self.data / "broker.log").read_text()[-3000:])

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def ready(port):
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=2).status == 200
    except OSError:
        return False


def warm_up(side):
    """Waits until group requests are served: Kafka makes its offsets topic when first asked."""
    deadline = time.monotonic() + COORDINATOR_WITHIN_S
    while time.monotonic() < deadline:
        found = side.ask("FindCoordinator", 4, {"CoordinatorKeys": ["warm"]})["Coordinators"][0]
        if found["ErrorCode"] == 0:
            body = {"GroupId": "warm", "GenerationId": 1, "MemberId": "x"}
            init = {"TransactionalId": None, "TransactionTimeoutMs": 1000}
            if side.ask("Heartbeat", 3, body)["ErrorCode"] not in (14, 15, 16) and \
                    side.ask("InitProducerId", 4, init)["ErrorCode"] == 0:
                return
        time.sleep(0.1)
    raise RuntimeError(f"{side.name} has no group coordinator")
