"""Importing asgiref.sync next to another distribution's asgiref/__init__.py gives a warning."""

import subprocess
import sys

import asgiref.sync

# The state after asgiref 3.13.0: a version, but no mark of the meta-package.
BESIDE_ANOTHER = """
import asgiref

vars(asgiref).pop("_installation_checked", None)
asgiref.__version__ = "3.13.0"
"""


def run(program: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", *options, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_warning_names_both_distributions_and_the_repair_command() -> None:
    done = run(f"{BESIDE_ANOTHER}\nimport asgiref.sync")

    assert done.returncode == 0
    assert "RuntimeWarning: asgiref 3.13.0 is installed together with asgiref-sync" in done.stderr
    assert '`pip install "asgiref~=3.13.100"`' in done.stderr


def test_the_import_fails_if_warnings_are_errors() -> None:
    done = run(f"{BESIDE_ANOTHER}\nimport asgiref.sync", "-W", "error")

    assert done.returncode == 1
    assert "\nRuntimeWarning: asgiref 3.13.0 is installed together with" in done.stderr


def test_a_second_import_does_not_warn_again() -> None:
    again = "import sys\ndel sys.modules['asgiref.sync']\nimport asgiref.sync"

    done = run(f"{BESIDE_ANOTHER}\nimport asgiref.sync\n{again}")

    assert done.stderr.count("RuntimeWarning") == 1


def test_a_correct_installation_gives_no_warning() -> None:
    done = run("import asgiref.sync", "-W", "error")

    assert (done.returncode, done.stderr) == (0, "")
    assert asgiref.sync.__version__
