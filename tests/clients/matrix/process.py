"""Processes: each bounded in time, in a session of its own, and ended as a whole."""
import os
import signal
import subprocess
import tempfile
import threading
import time

from .report import Failed


def end(process, grace_seconds=5):
    """Ends a process started with a session of its own, and what it started. Its exit status."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def run(arguments, timeout, stdin="", environment=None, directory=None, accept=(0,)):
    """Runs a command; its standard output as text. `Failed` with the ends of both outputs if it doesn't succeed."""
    with tempfile.TemporaryFile("w+", errors="replace") as out, tempfile.TemporaryFile("w+", errors="replace") as err:
        process = subprocess.Popen(
            [str(argument) for argument in arguments], stdin=subprocess.PIPE, stdout=out, stderr=err, text=True,
            env={**os.environ, **(environment or {})}, cwd=directory, start_new_session=True)
        in_time = True
        try:
            process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired:
            in_time = False
            end(process)
        out.seek(0)
        err.seek(0)
        output, errors = out.read(), err.read()
    if not in_time or process.returncode not in accept:
        what = f"status {process.returncode}" if in_time else f"not done in {timeout} s"
        shown = " ".join(str(argument) for argument in arguments)
        raise Failed(f"{what}: …{shown[-300:]}\n{output[-1500:]}\n{errors[-2500:]}")
    return process.returncode, output, errors


class Background:
    """A command that goes on while others run; its output is kept line by line."""

    def __init__(self, arguments, environment=None):
        self.lines, self.errors = [], []
        self.process = subprocess.Popen(
            [str(argument) for argument in arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, errors="replace", bufsize=1, env={**os.environ, **(environment or {})},
            start_new_session=True)
        self.readers = [threading.Thread(target=self._read, args=of, daemon=True)
                        for of in ((self.process.stdout, self.lines), (self.process.stderr, self.errors))]
        for reader in self.readers:
            reader.start()

    @staticmethod
    def _read(stream, lines):
        for line in stream:
            lines.append(line.rstrip("\n"))

    def stop(self, how=signal.SIGTERM, seconds=30):
        """Sends a signal; it has to end by itself, in time. Its exit status."""
        self.process.send_signal(how)
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"not ended within {seconds} s of {how.name}: {self.lines[-5:]} {self.errors[-20:]}") from None
        for reader in self.readers:
            reader.join(5)
        return status

    def end(self):
        status = end(self.process, 15)
        for reader in self.readers:
            reader.join(5)
        return status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


def wait_until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"not so within {seconds} s: {what()}")
        time.sleep(0.1)
