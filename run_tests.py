#!/usr/bin/env python3
"""Run tox from a private environment: ``python3 run_tests.py [tox arguments]``.

Needs nothing but Python 3.11 or newer, and never installs into it: tox goes into a virtual
environment of this checkout, ``.tox-bootstrap/``, made at the first run. That also satisfies
systems whose Python refuses ``pip install`` (PEP 668). Whoever has tox can call ``tox`` instead.

The tests run on the interpreter that runs this script, unless tox is asked for another one.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
TOX_REQUIREMENT = "tox>=4.24,<5"
OLDEST_PYTHON = (3, 11)


def environment_folder() -> Path:
    """One environment per interpreter version: another ``python3`` never meets this one's."""
    return ROOT / ".tox-bootstrap" / "{}.{}.{}".format(*sys.version_info[:3])


def scripts_folder(environment: Path) -> Path:
    return environment / ("Scripts" if os.name == "nt" else "bin")


def make_environment(environment: Path) -> None:
    """Create the environment and install tox; leave nothing half-made that looks complete."""
    print(f"Preparing {environment.relative_to(ROOT)} with {TOX_REQUIREMENT} ...", flush=True)
    venv.create(environment, clear=True, with_pip=True)
    python = scripts_folder(environment) / "python"
    subprocess.run([python, "-m", "pip", "-qq", "install", TOX_REQUIREMENT], check=True)
    (environment / "complete").touch()


def main(arguments: list[str]) -> int:
    if sys.version_info < OLDEST_PYTHON:
        found = ".".join(map(str, sys.version_info[:3]))
        print(f"run_tests.py: needs Python 3.11 or newer, but this is {found}.", file=sys.stderr)
        return 2
    environment = environment_folder()
    if not (environment / "complete").exists():
        try:
            make_environment(environment)
        except subprocess.CalledProcessError as error:
            print(
                f"run_tests.py: cannot prepare {environment}: {error}\n"
                "Where `python3 -m venv` is a package of its own, install that first "
                "(Debian, Ubuntu: apt install python3-venv).",
                file=sys.stderr,
            )
            return 2
    tox = scripts_folder(environment) / "tox"
    command = [str(tox), *arguments]
    os.chdir(ROOT)
    if os.name == "nt":
        return subprocess.call(command)
    os.execv(tox, command)  # Ctrl-C reaches tox alone, which then ends its children in order


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
