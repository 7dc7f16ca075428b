"""Run a Redis server and its sentinel while a suite runs.

Both listen on free ports of the loopback interface only, and store nothing on disk. The suite's
tests and the project's own defaults contain the usual ports, so this module replaces them in the
downloaded copy, which is the copy that the tests import.
"""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from .errors import SuiteError

REDIS_PORT, SENTINEL_PORT = "6379", "26379"
SENTINEL_PASSWORD = "channels_redis"  # the tests send this one
START_SECONDS = 20
SETTINGS = ("--bind", "127.0.0.1", "-::1", "--protected-mode", "no")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def redis_beside(source: Path, folder: Path) -> Iterator[None]:
    """Run both servers in ``folder``, and point the suite in ``source`` to them."""
    program = shutil.which("redis-server")
    if program is None:
        raise SuiteError(
            "no redis-server on this machine: install it (Debian: apt install redis-server)"
        )
    redis, sentinel = free_port(), free_port()
    _replace_ports(source, {SENTINEL_PORT: sentinel, REDIS_PORT: redis})
    with contextlib.ExitStack() as servers:
        servers.enter_context(_redis(program, redis, folder))
        servers.enter_context(_sentinel(program, sentinel, redis, folder))
        yield


def _replace_ports(source: Path, ports: dict[str, int]) -> None:
    for module in source.rglob("*.py"):
        text = module.read_text("utf-8")
        for usual, ours in ports.items():
            text = text.replace(f"localhost:{usual}", f"localhost:{ours}")
            text = text.replace(f'("localhost", {usual})', f'("localhost", {ours})')
        module.write_text(text, "utf-8")


def _redis(program: str, port: int, folder: Path) -> contextlib.AbstractContextManager[None]:
    return _server([program, "--port", str(port), *SETTINGS, "--save", ""], port, folder)


def _sentinel(
    program: str, port: int, redis: int, folder: Path
) -> contextlib.AbstractContextManager[None]:
    config = folder / "sentinel.conf"
    lines = f"port {port}\nsentinel monitor sentinel 127.0.0.1 {redis} 1\n"
    config.write_text(f"{lines}requirepass {SENTINEL_PASSWORD}\n", "utf-8")
    return _server([program, str(config), "--sentinel", *SETTINGS], port, folder)


@contextlib.contextmanager
def _server(command: list[str], port: int, folder: Path) -> Iterator[None]:
    log = folder / f"{port}.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(command, cwd=folder, stdout=output, stderr=output) as server,
    ):
        try:
            _wait_for(server, port, log)
            yield
        finally:
            server.terminate()


def _wait_for(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    said = log.read_text("utf-8", "replace")
    raise SuiteError(f"redis-server did not listen on port {port}:\n{said}")
