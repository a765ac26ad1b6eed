"""What a cluster is made of, found on PATH or built: FoundationDB's programs, its client library, the agent's binary."""
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


class Missing(Exception):
    """Something that is needed isn't there; one line for whoever asked."""


class Failed(Exception):
    """A part doesn't do what it should; the text says all."""


def find_program(name, variable):
    """The program `name`: what the environment's `variable` names, else what PATH has."""
    given = os.environ.get(variable)
    found = shutil.which(given or name)
    if not found:
        raise Missing(f"{given} ({variable}) is not there" if given else f"{name} is not on PATH")
    return found


def check_client_library():
    """That the loader finds FoundationDB's client, in the environment that agents get."""
    script = "import ctypes, sys; sys.exit(ctypes.CDLL('libfdb_c.so').fdb_get_max_api_version() < 730)"
    if subprocess.run([sys.executable, "-c", script], stderr=subprocess.DEVNULL, check=False).returncode:
        raise Missing("libfdb_c 7.3 is not where the loader looks (LD_LIBRARY_PATH)")


class FoundationDbPrograms:
    """The server and its command line; `Missing` says which of all that is needed isn't there."""

    def __init__(self):
        self.server, self.cli = find_program("fdbserver", "FDBSERVER"), find_program("fdbcli", "FDBCLI")
        check_client_library()


def build_agent(release=False):
    """The binary with FoundationDB's client: PENSTOCK_BIN, or built here."""
    given = os.environ.get("PENSTOCK_BIN")
    if given:
        if not shutil.which(given):
            raise Missing(f"{given} (PENSTOCK_BIN) is not there")
        return pathlib.Path(shutil.which(given)).resolve()
    if not shutil.which("cargo"):
        raise Missing("cargo is not on PATH, and PENSTOCK_BIN names no binary")
    environment = dict(os.environ)
    # Whoever says where the library is to be loaded from has said where it can be linked from.
    environment.setdefault("LIBRARY_PATH", environment.get("LD_LIBRARY_PATH", ""))
    profile = ["--release"] if release else []
    print("building the agent with FoundationDB's client ...", file=sys.stderr)
    command = ["cargo", "build", "-q", "-p", "penstock-agent", "--bin", "penstock", "--features", "foundationdb", *profile]
    if subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode:
        raise Failed("the agent does not build: " + " ".join(command))
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return (ROOT / target / ("release" if release else "debug") / "penstock").resolve()


def copy_binary(binary, directory):
    """A copy that a later build doesn't touch; one that still runs keeps its own."""
    copy = directory / "penstock"
    copy.unlink(missing_ok=True)
    return pathlib.Path(shutil.copy2(binary, copy))


def without_options(environment):
    """PENSTOCK_... are options to an agent; those of the tests aren't."""
    return {name: value for name, value in environment.items() if not name.startswith("PENSTOCK_")}


def options_known(binary, settings):
    """Those of the settings whose key this binary knows. A value that is wrong on purpose ends each run at once."""
    known = {}
    environment = without_options(os.environ)
    for key, value in settings.items():
        command = [str(binary), "agent", "--set", f"{key}={value}", "--set", "node.id=none"]
        told = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
                              env=environment).stdout
        if "error while loading shared libraries" in told:
            raise Missing(told.strip().splitlines()[0])
        if f"unknown option {key}" not in told:
            known[key] = value
    return known
