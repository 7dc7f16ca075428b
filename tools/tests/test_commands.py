"""The README's two commands on machines where they cannot run: each says why in one sentence."""

import ast
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from checkouts import ROOT, copy_checkout
from private_environment import CannotPrepare, call, is_offline

COMMANDS = ("run_tests.py", "demo/run.py")
MUST_PARSE = (*COMMANDS, "tools/command_line.py", "tools/private_environment.py")
OLD_PYTHONS = (Path.home() / ".pyenv/versions").glob("3.[6-9].*/bin/python")
#: Makes a new Python claim to be an old one.
PRETEND = (
    "import runpy, sys; sys.version_info, sys.version = (3, 6, 15), '3.6.15 (pretended)'; "
    "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
)
#: Without the permission to bind to a low port, even if root runs the tests.
CONFINED = "unshare --user --map-root-user --mount sh -c"
READ_ONLY = 'mount --bind . . && mount -o remount,bind,ro . && cd "$PWD" &&'

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a copy of this checkout in which no command has run yet, without an index."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "PYTHON"))]:
        monkeypatch.delenv(name)
    no_server = {"PIP_INDEX_URL": "http://127.0.0.1:1/simple", "PIP_CONFIG_FILE": os.devnull}
    modules = {"PYTHONPATH": str(tmp_path), "MODULES": str(tmp_path)}
    programs = {"PYTHON": sys.executable, "PRETEND": PRETEND}
    for name, value in {**no_server, **modules, **programs, "PIP_RETRIES": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(copy_checkout(tmp_path / "checkout"))


def start(command: str) -> subprocess.CompletedProcess[str]:
    if "unshare" in command and os.system(f"{CONFINED} 'mount --bind . .'"):
        pytest.skip("mounting is not permitted here")
    return subprocess.run(
        ["sh", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("status", "said", "command"),
    [
        (0, "usage: run_tests.py", "$PYTHON run_tests.py --help"),
        (0, "usage: run.py", "$PYTHON demo/run.py --help"),
        (2, "--chek", "$PYTHON run_tests.py --chek"),
        (2, "--chek", "$PYTHON demo/run.py --chek"),
        (2, "'pythns'", "$PYTHON run_tests.py -m pythns"),
        (1, "port {port} is in use", "$PYTHON demo/run.py --port {port}"),
        (1, "port 81 needs privileges", f"{CONFINED} '$PYTHON demo/run.py --port 81'"),
    ],
)
def test_a_wrong_option_is_named_before_anything_is_prepared(
    status: int, said: str, command: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = start(command.format(port=port))
    assert done.returncode == status
    assert said.format(port=port) in (done.stdout or done.stderr)
    assert not {".tox-bootstrap", ".demo"} & {*os.listdir()}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("connect this machine to the internet", "$PYTHON {}"),
        (
            "`sudo apt install python3-venv`",
            "echo raise ImportError > $MODULES/venv.py; $PYTHON {}",
        ),
        # Debian without python3-venv has a venv module that does only half of its work.
        (
            "`sudo apt install python3-venv`",
            "touch $MODULES/ensurepip.py $MODULES/pip.py; $PYTHON {}",
        ),
        ("make that folder writable", f"{CONFINED} '{READ_ONLY} $PYTHON {{}}'"),
        ("Python 3.11 or newer is needed", '$PYTHON -c "$PRETEND" {}'),
        *(("Python 3.11 or newer is needed", f"{python} {{}}") for python in OLD_PYTHONS),
    ],
)
def test_a_command_that_cannot_run_says_why_in_one_sentence(
    said: str, line: str, command: str
) -> None:
    done = start(line.format(command))
    assert said in done.stderr
    assert (done.returncode, done.stderr.count("\n"), done.stderr[-2:]) == (1, 1, ".\n")


def test_the_commands_can_be_parsed_by_python_3_6() -> None:
    for path in MUST_PARSE:
        ast.parse((ROOT / path).read_text("utf-8"), path, feature_version=(3, 6))


def test_a_command_that_fails_is_shown_with_its_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_USER", "1")
    script = "import os, sys; sys.exit('%s, no luck' % os.environ.get('PIP_USER'))"
    with pytest.raises(CannotPrepare, match=r"could not get luck.*\nNone, no luck$"):
        call([sys.executable, "-c", script], "luck")


def test_an_index_that_does_not_answer_is_noticed() -> None:
    assert is_offline(sys.executable)
