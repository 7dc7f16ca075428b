"""The error messages of the README's two commands on machines where they cannot run."""

import ast
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from checkouts import ROOT, closed_address, copy_checkout

COMMANDS = ("run_tests.py", "demo/run.py")
STATE = {"run_tests.py": ".tox-bootstrap", "demo/run.py": ".demo"}
MUST_PARSE = (*COMMANDS, "tools/command_line.py", "tools/private_environment.py")

pytestmark = pytest.mark.timeout(180)


@dataclass(frozen=True, slots=True)
class Checkout:
    """A copy of this checkout in which no command has run yet."""

    root: Path

    def start(
        self,
        *command: str,
        python: str | Path = sys.executable,
        before: tuple[str, ...] = (),
        **variables: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command without access to an index, so that it cannot install anything."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON"))}
        offline = {"PIP_INDEX_URL": closed_address(), "PIP_RETRIES": "1"}
        return subprocess.run(
            [*before, str(python), *command],
            cwd=self.root,
            env={**inherited, "PIP_CONFIG_FILE": os.devnull, **offline, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=150,
        )

    def is_untouched(self) -> bool:
        return not any((self.root / folder).exists() for folder in STATE.values())


def one_sentence(done: subprocess.CompletedProcess[str]) -> str:
    """Return the message of a command that refused to run, which must be a single line."""
    assert done.returncode == 1, done
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].endswith("."), lines
    return lines[0]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(copy_checkout(tmp_path / "checkout"))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_answers_before_anything_is_prepared(command: str, checkout: Checkout) -> None:
    done = checkout.start(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")
    assert checkout.is_untouched()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_mistyped_option_is_named_before_anything_is_prepared(
    command: str, checkout: Checkout
) -> None:
    done = checkout.start(command, "--chek")
    assert done.returncode == 2
    assert "--chek" in done.stderr
    assert checkout.is_untouched()


def test_a_mistyped_label_is_named_before_anything_is_prepared(checkout: Checkout) -> None:
    done = checkout.start("run_tests.py", "-m", "pythns")
    assert done.returncode == 2
    assert "'pythns'" in done.stderr
    assert "pythons" in done.stderr
    assert checkout.is_untouched()


@pytest.mark.parametrize("command", COMMANDS)
def test_no_internet_connection(command: str, checkout: Checkout) -> None:
    said = one_sentence(checkout.start(command))
    assert "connect this machine to the internet" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_no_venv_module(command: str, checkout: Checkout, tmp_path: Path) -> None:
    (tmp_path / "venv.py").write_text("raise ImportError")
    said = one_sentence(checkout.start(command, PYTHONPATH=str(tmp_path)))
    assert "`sudo apt install python3-venv`" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_a_python_without_ensurepip_and_pip(
    command: str, checkout: Checkout, tmp_path: Path
) -> None:
    """Debian without python3-venv has a venv module that does only half of its work."""
    for module in ("ensurepip", "pip"):
        (tmp_path / f"{module}.py").write_text("")
    said = one_sentence(checkout.start(command, PYTHONPATH=str(tmp_path)))
    assert "`sudo apt install python3-venv`" in said


@pytest.fixture
def read_only(checkout: Checkout) -> Iterator[tuple[str, ...]]:
    """Make the checkout read-only; yield the prefix that a command then needs."""
    if os.geteuid() != 0:
        checkout.root.chmod(0o555)
        yield ()
        checkout.root.chmod(0o755)
        return
    # Permissions do not stop root.
    mount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && cd "$0" && exec "$@"'
    before = ("unshare", "--mount", "sh", "-c", mount, str(checkout.root))
    if not shutil.which("unshare") or subprocess.run([*before, "true"]).returncode:
        pytest.skip("root may not mount anything here")
    yield before


@pytest.mark.skipif(os.name != "posix", reason="the permissions are POSIX's")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_read_only_checkout(command: str, checkout: Checkout, read_only: tuple[str, ...]) -> None:
    said = one_sentence(checkout.start(command, before=read_only))
    assert f"cannot write to {checkout.root} (" in said
    assert "make that folder writable" in said


def old_pythons() -> list[Path]:
    """Return one interpreter for each old version on this machine."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = []
    for minor in range(6, 11):
        places = [shutil.which(f"python3.{minor}"), *versions.glob(f"3.{minor}.*/bin/python")]
        found += [Path(place) for place in places if place and works(place)][:1]
    return found


def works(python: str | Path) -> bool:
    """Whether the interpreter runs: a version manager's shim may point to nothing."""
    return subprocess.run([python, "-c", ""], capture_output=True).returncode == 0


def test_the_commands_can_be_parsed_by_python_3_6() -> None:
    for path in MUST_PARSE:
        ast.parse((ROOT / path).read_text("utf-8"), path, feature_version=(3, 6))


PRETEND = """
import runpy, sys
sys.version_info, sys.version, sys.argv = (3, 6, 15), "3.6.15 (pretended)", [{0!r}]
sys.path.insert(0, {1!r})
runpy.run_path({0!r}, run_name="__main__")
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_python_that_is_too_old(command: str, checkout: Checkout) -> None:
    """Try every old Python on this machine, and one that only claims to be old."""
    pretended = PRETEND.format(command, str((checkout.root / command).parent))
    answers = [one_sentence(checkout.start("-c", pretended))]
    answers += [one_sentence(checkout.start(command, python=python)) for python in old_pythons()]
    for said in answers:
        assert "Python 3.11 or newer is needed" in said
    assert checkout.is_untouched()


def test_a_port_in_use_is_named_before_anything_is_prepared(checkout: Checkout) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = one_sentence(checkout.start("demo/run.py", "--port", str(port)))
    assert f"port {port} is in use" in said
    assert "--port" in said
    assert checkout.is_untouched()


def test_a_port_that_needs_privileges(checkout: Checkout) -> None:
    first_free = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if not first_free.exists() or int(first_free.read_text()) <= 81:
        pytest.skip("no port needs privileges here")
    before: tuple[str, ...] = ()
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("setpriv is not installed (Debian and Ubuntu: apt install util-linux)")
        before = ("setpriv", "--bounding-set=-net_bind_service")
    said = one_sentence(checkout.start("demo/run.py", "--port", "81", before=before))
    assert "port 81 needs privileges" in said
    assert checkout.is_untouched()
