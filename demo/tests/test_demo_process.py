"""The demo as a process: how it starts, and how it ends while browsers are busy."""

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import own_postgres
import pytest
from app import options

DEMO = Path(__file__).resolve().parents[1]
START = "import run, sys; run.STATE = run.Path(sys.argv.pop(1)); sys.exit(run.run_here())"

posix_only = pytest.mark.skipif(os.name != "posix", reason="Windows has no signals to send")
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def running(state: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a demo on a free port; yield its process and address."""
    command = [sys.executable, "-c", START, str(state), "--port", "0", *arguments]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=DEMO, stdout=pipe, stderr=pipe, text=True)
    try:
        assert process.stdout is not None
        address = re.search(r"http:\S+", process.stdout.readline())
        assert address, process.communicate()
        yield process, address[0]
    finally:
        process.kill()
        process.communicate()


@posix_only
@pytest.mark.parametrize("path", ["events", "sample/1024"])
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_demo_cleanly(tmp_path: Path, number: signal.Signals, path: str) -> None:
    with running(tmp_path) as (process, url), httpx.stream("GET", url + path) as busy:
        next(busy.iter_raw(10))
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out.splitlines()[-1]) == (0, "Ended.")
    # If a browser stops reading, uvicorn waits for it for some seconds, and says so.
    assert [line for line in err.splitlines() if "Cancel 1 running task(s)" not in line] == []


@posix_only
def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with running(tmp_path) as (process, url), httpx.stream("GET", url + "sample/1024"):
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        while "Ending" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130


def children_of(pid: int) -> list[int]:
    """Return all descendants of a process."""
    texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    children = map(int, " ".join(texts).split())
    return [each for child in children for each in (child, *children_of(child))]


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
@pytest.mark.skipif(own_postgres.find_binaries() is None, reason="there is no PostgreSQL")
@pytest.mark.parametrize("number", [*SIGNALS, signal.SIGKILL])
def test_no_process_outlives_the_demo(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path, "--workers", "2") as (process, _):
        children = children_of(process.pid)
        names = " ".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in children)
        assert set(re.findall(r"worker-\d", names)) == {"worker-1", "worker-2"}
        assert "own_postgres.py" in names
        ends = [os.pidfd_open(pid) for pid in children]
        process.send_signal(number)
        for end in ends:
            assert select.select([end], [], [], 30)[0], "a process outlived the demo"
            os.close(end)
        err = process.communicate(timeout=30)[1]
    if number is not signal.SIGKILL:
        assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize("line", ["--port 70000", "--port x", "--workers 9", "--database p://"])
def test_a_wrong_command_line_is_refused(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        options.parse(line.split(), Path())
    assert line.split()[0] in capsys.readouterr().err
