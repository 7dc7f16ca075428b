"""Servers in separate processes, with a WSGI application of `projects` behind WsgiToAsgi."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx

PROJECTS = Path(__file__).parent.parent / "projects"
FREE_PORT = "a free port"
UVICORN = ("uvicorn", "--port", "0", "--no-access-log", "--loop")
COMMANDS = {
    "uvicorn": (*UVICORN, "asyncio"),
    "uvloop": (*UVICORN, "uvloop"),
    "hypercorn": ("hypercorn", "--bind", "127.0.0.1:0"),
    "daphne": ("daphne", "--port", "0"),
    "granian": ("granian", "--interface", "asgi", "--no-ws", "--port", FREE_PORT),
}
STARTED = re.compile(r"(?:running on http://|TCP address )127.0.0.1:(\d+)|Started worker-1", re.I)
# The text that each server logs about an application that raised.
ERRORS = (
    "Application callable raised an exception",
    "Exception in ASGI application",
    "Error in ASGI Framework",
    "Exception inside application",
)


def free_port() -> int:
    """Return a port below the range from which outgoing connections of other tests take theirs.

    Otherwise a connection could take the port before the server binds it.
    """
    while True:
        port = random.randrange(15_000, 30_000)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port


class Server:
    """A server in a separate process, on a free port, with its log."""

    def __init__(self, name: str, application: str = "wsgi_site:application") -> None:
        self.name = name
        given = str(free_port())
        module, *options = (given if part is FREE_PORT else part for part in COMMANDS[name])
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *options, application],
            cwd=PROJECTS,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.log: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log.append(line)
            if match := STARTED.search(line):
                self.port = int(match[1] or given)
                break
        else:
            raise AssertionError(f"{name} did not start:\n" + "".join(self.log))
        self.reader = threading.Thread(target=self._read_log)
        self.reader.start()
        self._await_listening()

    def _await_listening(self) -> None:
        """Wait: Granian logs that it has started shortly before it listens."""
        for _ in range(200):
            try:
                self.connect().close()
            except ConnectionRefusedError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(f"{self.name} does not listen")

    def _read_log(self) -> None:
        assert self.process.stdout is not None
        self.log.extend(self.process.stdout)

    def stop(self) -> str:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:  # Granian sometimes, if it has just started
            os.killpg(self.process.pid, signal.SIGKILL)  # with its worker processes
            self.process.wait()
        self.reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return "".join(self.log)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=30)
