#!/usr/bin/env python3
"""Run the demo: ``python3 demo/run.py`` (``--check``, ``--help``); needs Python 3.11 or newer only.

How it works: the first start makes a private virtual environment in ``.demo/`` at the top of the
repository, builds the wheels of ``packages/*``, and installs those, Flask, uvicorn and redis-py
into it. Then this same file starts again with the environment's Python and hands over to
``app.main``. Later starts go straight there, until something that the environment was made of
changes. Nothing outside ``.demo/`` is written but pip's own cache and what the system keeps for
temporary files, and the system's own Python stays as it is.

Only the standard library may be used here, and only syntax that old Pythons can read, so that they
too get a sentence instead of a traceback.
"""

import contextlib
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

DEMO = Path(__file__).resolve().parent
REPOSITORY = DEMO.parent
STATE = REPOSITORY / ".demo"
ENVIRONMENT = STATE / "venv"
WHEELS = STATE / "wheels"
STAMP = ENVIRONMENT / "demo-made-of"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
REQUIREMENTS = DEMO / "requirements.txt"

# What would send pip elsewhere, or let another installation's modules in front of ours.
HOSTILE_VARIABLES = ("PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")


class CannotPrepare(Exception):
    """The environment cannot be made; the text says what to do about it."""


def main():
    """Make the environment if need be, then run the demo in it; return the exit code."""
    if sys.version_info < (3, 11):  # noqa: UP036 - somebody may try
        print(f"The demo needs Python 3.11 or newer; this is {sys.version.split()[0]}.")
        return 1
    if ENVIRONMENT.is_dir() and os.path.samefile(sys.prefix, ENVIRONMENT):
        sys.pycache_prefix = str(STATE / "pycache")
        from app.main import main as run_demo

        return run_demo(sys.argv[1:], STATE)
    try:
        STATE.mkdir(exist_ok=True)
        with only_one():
            fingerprint = compute_fingerprint()
            if not (STAMP.is_file() and STAMP.read_text() == fingerprint and starts()):
                prepare()
                STAMP.write_text(fingerprint)
    except (CannotPrepare, OSError) as error:
        print(f"The demo cannot be prepared: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped while preparing; the next start begins anew.", file=sys.stderr)
        return 130
    return start_again()


def compute_fingerprint():
    """A hash of everything that the environment is made of, this file and the Python included."""
    digest = hashlib.sha256()
    digest.update(repr((sys.version, sys.base_prefix, str(ENVIRONMENT))).encode())
    inputs = [Path(__file__).resolve(), REQUIREMENTS]
    for package in sorted((REPOSITORY / "packages").iterdir()):
        inputs += [package / "pyproject.toml", package / "README.md", package / "LICENSE"]
        inputs += sorted(p for p in (package / "src").rglob("*") if "__pycache__" not in p.parts)
    for path in inputs:
        if path.is_file():
            content = path.read_bytes()
            digest.update(f"{path.relative_to(REPOSITORY)} {len(content)} ".encode())
            digest.update(content)
    return digest.hexdigest()


def starts():
    """Whether the environment's Python still runs; it does not if the one below was removed."""
    try:
        return subprocess.run([str(PYTHON), "-c", ""], check=False).returncode == 0
    except OSError:
        return False


def prepare():
    """Make the environment from scratch."""
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    shutil.rmtree(WHEELS, ignore_errors=True)
    say("Making a virtual environment in .demo/ (the first start takes about a minute) ...")
    pip = make_environment()
    packages = sorted(p.parent for p in (REPOSITORY / "packages").glob("*/pyproject.toml"))
    say(f"Building the {len(packages)} wheels of packages/ ...")
    call([*pip, "install", "--quiet", "flit_core>=3.12,<5"], "the build backend")
    build = [*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", WHEELS]
    call([*build, *packages], "the wheels")
    say("Installing them, Flask, uvicorn and redis-py ...")
    install(pip, sorted(WHEELS.glob("*.whl")))


def make_environment():
    """Create the virtual environment and return the command that runs pip for it."""
    try:
        import venv

        venv.create(ENVIRONMENT, symlinks=os.name != "nt", with_pip=False)
    except ImportError:
        raise CannotPrepare(advice()) from None
    # In this order: what Python brings along, then a pip that only works from outside.
    if runnable("ensurepip"):
        call([PYTHON, "-m", "ensurepip", "--default-pip"], "pip")
        return [PYTHON, "-m", "pip"]
    if runnable("pip"):
        return [sys.executable, "-m", "pip", "--python", PYTHON]
    raise CannotPrepare(advice())


def runnable(module):
    """Whether ``python -m module`` would find something; a removed package may leave its folder."""
    try:
        return importlib.util.find_spec(f"{module}.__main__") is not None
    except ImportError:
        return False


def advice():
    """One sentence for a Debian whose Python comes without ensurepip."""
    return (
        "this Python can make no virtual environment with pip in it: on Debian or Ubuntu, run "
        "'sudo apt install python3-venv' (for a Python that is not the default one, "
        f"python3.{sys.version_info[1]}-venv) and start the demo again."
    )


def install(pip, wheels):
    """Install our wheels, then the rest, so that none of our names can come from an index.

    ``asgiref`` is also the name of a well-known distribution, which others may ask for. Ours are
    installed first, without any index; after that the constraints hold the names to these files.
    """
    # asgiref-redis needs something of others, so it is the last.
    last = [wheel for wheel in wheels if wheel.name.startswith("asgiref_redis-")]
    first = [wheel for wheel in wheels if wheel not in last]
    ours = [*pip, "install", "--quiet", "--no-index", "--find-links", WHEELS]
    call([*ours, *first], "the wheels")
    constraints = WHEELS / "constraints.txt"
    names = [wheel.name.split("-")[0].replace("_", "-") for wheel in wheels]
    lines = [f"{name} @ {wheel.as_uri()}\n" for name, wheel in zip(names, wheels)]  # noqa: B905
    constraints.write_text("".join(lines))
    rest = ["--constraint", constraints, "--requirement", REQUIREMENTS]
    goal = "Flask, uvicorn and redis-py (is a package index reachable?)"
    call([*pip, "install", "--quiet", *rest], goal)
    call([*ours, *last], "the wheel of asgiref-redis")
    call([*pip, "check"], "a consistent set of packages")


def call(command, goal):
    """Run a command silently; raise ``CannotPrepare`` with its output if it fails."""
    variables = {k: v for k, v in os.environ.items() if k not in HOSTILE_VARIABLES}
    variables["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    done = subprocess.run(
        [str(word) for word in command],
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode != 0:
        output = done.stdout.decode(errors="replace").strip()
        raise CannotPrepare(f"could not get {goal}.\n{output}")


@contextlib.contextmanager
def only_one():
    """Let one start at a time prepare the environment; the others wait."""
    try:
        import fcntl
    except ImportError:  # Windows: two first starts at the same moment are not guarded there
        yield
        return
    with open(STATE / "lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another start prepares the environment; waiting for it ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def start_again():
    """Continue in the environment, in this same process where the system allows it."""
    for name in HOSTILE_VARIABLES:
        os.environ.pop(name, None)
    command = [str(PYTHON), str(Path(__file__).resolve()), *sys.argv[1:]]
    sys.stdout.flush()
    if os.name == "posix":
        os.execv(command[0], command)
    return subprocess.run(command, check=False).returncode


def say(text):
    """Tell how far it is."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
