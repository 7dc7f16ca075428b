"""The server of the demo, the docs tests and the benchmarks: how it starts and how it ends."""

import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import own_postgres
import pytest

PROGRAM = """
import sys
import own_postgres
with own_postgres.own_postgres() as server:
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


@needs_postgres
@pytest.mark.parametrize("ending", ["stopped", "killed"])
def test_a_server_ends_with_its_parent_and_leaves_nothing(ending: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=Path(own_postgres.__file__).parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        server = Path("/proc", parent.stdout.readline().strip())
        data = (server / "cwd").resolve()
        assert (data / "PG_VERSION").exists()
        keeper = os.pidfd_open(int((server / "stat").read_text().split()[3]))
        if ending == "killed":
            parent.kill()
    assert select.select([keeper], [], [], 60)[0], "the keeper keeps running"
    os.close(keeper)
    assert not server.exists()
    assert not data.parent.exists()


@needs_postgres
def test_a_server_that_ends_by_itself_is_reported() -> None:
    ended = threading.Event()
    server = own_postgres.OwnPostgres(ended.set)
    server.start()
    os.kill(server.pid, signal.SIGINT)
    assert ended.wait(60)
    server.stop()


def test_the_folder_that_the_environment_names_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(own_postgres.VARIABLE, str(tmp_path))
    with pytest.raises(own_postgres.NoServer, match="apt install postgresql"):
        own_postgres.OwnPostgres().start()
    for program in ("initdb", "postgres"):
        (tmp_path / program).touch()
    assert own_postgres.find_binaries() == tmp_path
