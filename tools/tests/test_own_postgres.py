"""The server of the demo, the docs tests and the benchmarks: how it starts and how it ends."""

import os
import select
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import own_postgres
import pytest

TOOLS = Path(own_postgres.__file__).parent
PROGRAM = """
import sys
import own_postgres
server = own_postgres.OwnPostgres()
server.start()
print(server.pid, flush=True)
sys.stdin.read()
"""

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(sys.platform != "linux", reason="needs pidfd_open and /proc"),
]
needs_postgres = pytest.mark.skipif(
    own_postgres.find_binaries() is None, reason="postgres is not installed"
)


def data_of(server: int) -> Path:
    command = Path(f"/proc/{server}/cmdline").read_text().split("\0")
    return Path(command[command.index("-D") + 1])


def wait_for_end(process: int, then: Callable[[], object]) -> None:
    end = os.pidfd_open(process)
    then()
    assert select.select([end], [], [], 60)[0], "the server keeps running"
    os.close(end)


@needs_postgres
def test_a_server_has_the_settings_it_was_given_and_leaves_nothing() -> None:
    with own_postgres.own_postgres(max_connections="23") as server:
        data = data_of(server.pid)
        assert "--max-connections=23" in Path(f"/proc/{server.pid}/cmdline").read_text()
        assert (data / "PG_VERSION").read_text().strip() == server.version
    assert not Path(f"/proc/{server.pid}").exists()
    assert not data.parent.exists()


@needs_postgres
def test_a_server_ends_with_a_parent_that_is_killed() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=TOOLS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        server = int(parent.stdout.readline())
        wait_for_end(server, parent.kill)


def test_the_folder_that_the_environment_names_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for program in ("initdb", "postgres"):
        (tmp_path / program).touch()
    monkeypatch.setenv(own_postgres.VARIABLE, str(tmp_path))
    assert own_postgres.find_binaries() == tmp_path


def test_a_missing_postgres_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(own_postgres.VARIABLE, str(tmp_path))
    with pytest.raises(own_postgres.NoServer, match="apt install postgresql"):
        own_postgres.OwnPostgres().start()


@needs_postgres
@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root changes its user")
def test_root_can_run_the_programs_of_a_private_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL runs as another user, which may not enter root's folders."""
    binaries = own_postgres.find_binaries()
    assert binaries is not None
    package, private = binaries.parents[1], tmp_path / "private"
    shutil.copytree(binaries.parent, private / package.name / "install", symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, private / libraries.name)
    private.chmod(0o700)
    monkeypatch.setenv(own_postgres.VARIABLE, str(private / package.name / "install" / "bin"))
    with own_postgres.own_postgres() as server:
        assert server.pid
