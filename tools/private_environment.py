"""The private virtual environments of ``run_tests.py`` and ``demo/run.py``.

Both commands work on a machine that has only Python. If an environment cannot be prepared, they
raise `CannotPrepare`, whose first line is one sentence that tells the user how to fix it.

This module uses only the standard library and only syntax that Python 3.6 can parse, so users of an
old Python get such a sentence too.
"""

import contextlib
import importlib.util
import os
import subprocess
import sys
import tempfile

OLDEST_PYTHON = (3, 11)

HOW_TO_GET_VENV = (
    "this Python cannot create a virtual environment with pip: on Debian or Ubuntu, run "
    "`sudo apt install python3-venv` (for a Python that is not the default one, "
    f"python3.{sys.version_info[1]}-venv); elsewhere, use a Python that has the modules "
    "venv and ensurepip; then start again."
)

# These variables would redirect pip, or put another installation's modules in front of ours.
HOSTILE_VARIABLES = ("PYTHONPATH", "PYTHONHOME", "PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")

# pip's messages when the index does not answer: at each retry, and at the end.
NO_CONNECTION = ("connection broken by", "ReadTimeoutError", "(from versions: none)")


class CannotPrepare(Exception):
    """The environment cannot be created; the text gives the reason and the remedy."""


def refuse_old_python():
    """Raise `CannotPrepare` if the running Python is older than the project supports."""
    if sys.version_info < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        raise CannotPrepare(
            f"this is Python {sys.version.split()[0]}, and Python {oldest} or newer is needed: "
            f"start the same command with a newer Python, as in `python{oldest} {sys.argv[0]}`."
        )


def require_writable(folder):
    """Create the folder, and raise `CannotPrepare` if it is not writable."""
    failed_in = folder.parent
    try:
        folder.mkdir(exist_ok=True)
        failed_in = folder
        with tempfile.TemporaryFile(dir=str(folder)):
            pass
    except OSError as error:
        raise CannotPrepare(
            f"cannot write to {failed_in} ({error.strerror}): make that folder writable for this "
            "user, or copy the checkout to a place where it is, and start again."
        ) from None


def python_of(environment):
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make_environment(environment):
    """Create the virtual environment anew; return the command that runs pip for it."""
    try:
        import venv

        venv.create(str(environment), clear=True, symlinks=os.name != "nt", with_pip=False)
    except ImportError:
        raise CannotPrepare(HOW_TO_GET_VENV) from None
    except (OSError, subprocess.CalledProcessError) as error:
        raise CannotPrepare(f"cannot create the environment {environment}: {error}.") from None
    python = python_of(environment)
    # Try Python's own pip first, then a pip that only works from outside the environment.
    if runnable("ensurepip"):
        call([python, "-m", "ensurepip", "--default-pip"], "pip")
        return [python, "-m", "pip"]
    if runnable("pip"):
        return [sys.executable, "-m", "pip", "--python", python]
    raise CannotPrepare(HOW_TO_GET_VENV)


def runnable(module):
    """Whether ``python -m module`` can run; a removed package may leave its folder behind."""
    try:
        return importlib.util.find_spec(module + ".__main__") is not None
    except ImportError:
        return False


def call(command, goal):
    """Run a command silently; raise `CannotPrepare` with its output if it fails."""
    status, output = run(command)
    if status != 0:
        if any(sign in output for sign in NO_CONNECTION):
            raise CannotPrepare(connect(goal))
        raise CannotPrepare(f"could not get {goal}; pip says why:\n{output}")


def run(command):
    done = subprocess.run(
        [str(word) for word in command],
        env=clean_variables(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.returncode, done.stdout.decode(errors="replace").strip()


def connect(goal):
    """Return the message for a machine without an internet connection."""
    return (
        f"cannot download {goal}, because the package index cannot be reached: connect this "
        "machine to the internet, or set PIP_INDEX_URL to an index within reach, and start again."
    )


def is_offline(python):
    """Whether an environment's pip cannot reach the index now."""
    _, output = run([python, "-m", "pip", "--no-cache-dir", "index", "versions", "tox"])
    return any(sign in output for sign in NO_CONNECTION)


def clean_variables():
    variables = {k: v for k, v in os.environ.items() if k not in HOSTILE_VARIABLES}
    variables["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    # pip's default of five attempts takes half a minute without a network.
    variables.setdefault("PIP_RETRIES", "2")
    return variables


@contextlib.contextmanager
def only_one(folder):
    """Let one process at a time prepare the folder; the others wait."""
    try:
        import fcntl
    except ImportError:  # Windows: two simultaneous first starts may collide
        yield
        return
    with open(str(folder / "lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another process is preparing the environment; waiting for it ...", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def stopped(program, error):
    """Print why a command could not start its work; return its exit code."""
    if isinstance(error, KeyboardInterrupt):
        print(f"{program}: stopped; the next start repeats the preparation.", file=sys.stderr)
        return 130
    print(f"{program}: {error}", file=sys.stderr)
    return 1
