"""The README's two commands on machines where they cannot run: each says why in one sentence."""

import ast
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from checkouts import ROOT, copy_checkout
from private_environment import CannotPrepare, call, is_offline

COMMANDS = ("run_tests.py", "demo/run.py")
MUST_PARSE = (*COMMANDS, "tools/command_line.py", "tools/private_environment.py")
OLD_PYTHONS = map(str, (Path.home() / ".pyenv/versions").glob("3.[6-9].*/bin/python"))
#: A new Python that claims to be an old one.
PRETEND = """
import runpy, sys
sys.version_info, sys.version, sys.argv = (3, 6, 15), "3.6.15 (pretended)", [{0!r}]
sys.path.insert(0, {1!r})
runpy.run_path({0!r}, run_name="__main__")
"""
#: No server listens on this port.
OFFLINE = {"PIP_INDEX_URL": "http://127.0.0.1:1/simple", "PIP_RETRIES": "1"}
#: Run a command without the permission to bind to a low port, even if root runs the tests.
CONFINED = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")
READ_ONLY = 'mount --bind . . && mount -o remount,bind,ro . && cd "$PWD" && exec "$0" "$@"'

Start = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of this checkout in which no command has run yet."""
    return copy_checkout(tmp_path / "checkout")


@pytest.fixture
def start(checkout: Path, tmp_path: Path) -> Start:
    """Return a function that runs a command without an index, so it cannot install anything."""

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON"))}
        variables = {"PIP_CONFIG_FILE": os.devnull, "PYTHONPATH": str(tmp_path)}
        return subprocess.run(
            command,
            cwd=checkout,
            env={**inherited, **OFFLINE, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=150,
        )

    return run


def one_sentence(done: subprocess.CompletedProcess[str]) -> str:
    """Return the message of a command that refused to run, which must be a single line."""
    assert (done.returncode, done.stderr.count("\n"), done.stderr[-2:]) == (1, 1, ".\n"), done
    return done.stderr


def is_untouched(checkout: Path) -> bool:
    return not any((checkout / folder).exists() for folder in (".tox-bootstrap", ".demo"))


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        ("run_tests.py --help", 0, "usage: run_tests.py"),
        ("demo/run.py --help", 0, "usage: run.py"),
        ("run_tests.py --chek", 2, "--chek"),
        ("demo/run.py --chek", 2, "--chek"),
        ("run_tests.py -m pythns", 2, "'pythns'"),
        ("demo/run.py --port {taken}", 1, "port {taken} is in use"),
    ],
)
def test_a_wrong_option_is_named_before_anything_is_prepared(
    command: str, status: int, said: str, start: Start, checkout: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        done = start(sys.executable, *command.format(taken=taken).split())
    assert done.returncode == status
    assert said.format(taken=taken) in (done.stdout or done.stderr)
    assert status != 1 or one_sentence(done)
    assert is_untouched(checkout)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("modules", "said"),
    [
        ({}, "connect this machine to the internet"),
        ({"venv": "raise ImportError"}, "`sudo apt install python3-venv`"),
        # Debian without python3-venv has a venv module that does only half of its work.
        ({"ensurepip": "", "pip": ""}, "`sudo apt install python3-venv`"),
    ],
    ids=["no internet connection", "no venv", "no ensurepip and no pip"],
)
def test_a_machine_that_lacks_something_is_told_what(
    modules: dict[str, str], said: str, command: str, start: Start, tmp_path: Path
) -> None:
    for name, source in modules.items():
        (tmp_path / f"{name}.py").write_text(source)
    assert said in one_sentence(start(sys.executable, command))


@pytest.mark.parametrize(
    ("command", "script", "said"),
    [
        ("run_tests.py", READ_ONLY, "make that folder writable"),
        ("demo/run.py", READ_ONLY, "make that folder writable"),
        ("demo/run.py --port 81", 'exec "$0" "$@"', "port 81 needs privileges"),
    ],
)
def test_a_user_who_lacks_a_permission_is_told_which(
    command: str, script: str, said: str, start: Start, checkout: Path
) -> None:
    if not shutil.which("unshare") or subprocess.run([*CONFINED, "mount --bind . ."]).returncode:
        pytest.skip("mounting is not permitted here")
    assert said in one_sentence(start(*CONFINED, script, sys.executable, *command.split()))
    assert is_untouched(checkout)


@pytest.mark.parametrize("python", [*OLD_PYTHONS, "pretended"])
@pytest.mark.parametrize("command", COMMANDS)
def test_an_old_python_is_told_which_one_is_needed(
    command: str, python: str, start: Start, checkout: Path
) -> None:
    pretended = PRETEND.format(command, str((checkout / command).parent))
    done = (
        start(sys.executable, "-c", pretended) if python == "pretended" else start(python, command)
    )
    assert "Python 3.11 or newer is needed" in one_sentence(done)
    assert is_untouched(checkout)


def test_the_commands_can_be_parsed_by_python_3_6() -> None:
    for path in MUST_PARSE:
        ast.parse((ROOT / path).read_text("utf-8"), path, feature_version=(3, 6))


def test_a_command_that_fails_is_shown_with_its_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_USER", "1")
    script = "import os, sys; sys.exit('%s, no luck' % os.environ.get('PIP_USER'))"
    with pytest.raises(CannotPrepare, match=r"could not get luck.*\nNone, no luck$"):
        call([sys.executable, "-c", script], "luck")


def test_an_index_that_does_not_answer_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)
    assert is_offline(sys.executable)
