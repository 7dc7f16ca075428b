"""The demo as a process: how it starts, and how it ends while browsers are busy."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[1]
START = (
    "import sys; from pathlib import Path; sys.path.append('../tools'); "
    "from app.main import main; "
    "sys.exit(main(sys.argv[2:], Path(sys.argv[1])))"
)

posix_only = pytest.mark.skipif(os.name != "posix", reason="Windows has no signals to send")


def start(state: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", START, str(state), *arguments],
        cwd=DEMO,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def running(state: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a demo; yield its process and port."""
    process = start(state, *arguments)
    try:
        assert process.stdout is not None
        address = None
        while address is None:
            line = process.stdout.readline()
            assert line, process.communicate()
            address = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
        yield process, int(address[1])
    finally:
        process.kill()
        process.communicate()


def half_way(port: int, path: str) -> http.client.HTTPConnection:
    """Return a connection whose response has started and does not end."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path)
    connection.getresponse().read(10)
    return connection


@posix_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_demo_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path, "--port", "0") as (process, port):
        events = half_way(port, "/events")
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        events.close()
    assert (process.returncode, out.splitlines()[-1], err) == (0, "Ended.", "")


@posix_only
def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with running(tmp_path, "--port", "0") as (process, port):
        # If a browser stops reading, uvicorn waits for it for some seconds.
        download = half_way(port, "/sample/1024")
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        while "Ending" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        download.close()


@posix_only
def test_a_download_in_the_middle_does_not_hold_the_end_up(tmp_path: Path) -> None:
    with running(tmp_path, "--port", "0") as (process, port):
        download = half_way(port, "/sample/1024")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        download.close()
    assert (process.returncode, out.splitlines()[-1]) == (0, "Ended.")
    assert "Cancel 1 running task(s)" in err
    assert len(err.splitlines()) == 1


def test_a_port_that_was_asked_for_must_be_free(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = start(tmp_path, "--port", str(taken.getsockname()[1]))
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert err.startswith("The demo cannot run: ")
    assert "Traceback" not in err


def test_no_chat_server_is_one_sentence(tmp_path: Path) -> None:
    process = start(tmp_path, "--port", "0", "--irc", "127.0.0.1:1")
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "bot could not start: the chat server at 127.0.0.1:1 cannot be reached" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments", [["--port", "70000"], ["--port", "x"], ["--irc", "nowhere"], ["--irc", "h:0"]]
)
def test_a_wrong_command_line_is_refused(tmp_path: Path, arguments: list[str]) -> None:
    process = start(tmp_path, *arguments)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert arguments[1] in err
