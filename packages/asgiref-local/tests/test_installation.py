"""Importing asgiref.local next to another distribution's asgiref/__init__.py gives a warning."""

import subprocess
import sys

import asgiref.local

# The state that asgiref 3.13.0 leaves: a version, but no mark of these components' meta-package.
WITH_ANOTHER = """
import asgiref

vars(asgiref).pop("_installation_checked", None)
asgiref.__version__ = "3.13.0"
"""


def run(program: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", *options, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_warning_names_both_distributions_and_the_repair_command() -> None:
    done = run(f"{WITH_ANOTHER}\nimport asgiref.local")

    assert done.returncode == 0
    assert "RuntimeWarning: asgiref 3.13.0 is installed together with asgiref-local" in done.stderr
    assert '`pip install "asgiref~=3.13.100"`' in done.stderr


def test_the_import_fails_if_warnings_are_errors() -> None:
    done = run(f"{WITH_ANOTHER}\nimport asgiref.local", "-W", "error")

    assert done.returncode == 1
    assert "\nRuntimeWarning: asgiref 3.13.0 is installed together with" in done.stderr


def test_a_second_import_does_not_warn_again() -> None:
    again = "import sys\ndel sys.modules['asgiref.local']\nimport asgiref.local"

    done = run(f"{WITH_ANOTHER}\nimport asgiref.local\n{again}")

    assert done.stderr.count("RuntimeWarning") == 1


def test_a_correct_installation_gives_no_warning() -> None:
    done = run("import asgiref.local", "-W", "error")

    assert (done.returncode, done.stderr) == (0, "")
    assert asgiref.local.__version__
