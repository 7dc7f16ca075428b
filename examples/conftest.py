"""Real servers for the tests, which start on a free port, can restart, and stop at the end."""

import os
import random
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent
for folder in ("irc_chatbot", "mqtt_worker"):
    sys.path.insert(0, str(EXAMPLES / folder))


class RealServer:
    """A program that listens on ``port`` of 127.0.0.1, and then prints the text ``ready``."""

    def __init__(self, command: list[str], port: int, ready: str) -> None:
        self.port = port
        self._command = command
        self._ready = ready
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert self._process.stdout is not None
        said = ""
        for line in self._process.stdout:
            said += line
            if self._ready in line:
                # Further output must not fill the pipe.
                threading.Thread(target=self._process.stdout.read, daemon=True).start()
                return
        raise AssertionError(f"{self._command[0]} did not start:\n{said}")

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(30)
            assert process.stdout is not None
            process.stdout.close()


def free_port() -> int:
    """Return a free port below the range that other tests' outgoing connections use."""
    while True:
        port = random.randrange(15_000, 30_000)
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port


StartServer = Callable[[str, str, str], RealServer]


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[StartServer]:
    """Return a function that starts a program; its configuration gets a free port as ``{port}``."""
    servers: list[RealServer] = []

    def start(name: str, configuration: str, ready: str) -> RealServer:
        program = shutil.which(name, path=os.pathsep.join([os.environ["PATH"], "/usr/sbin"]))
        if program is None:
            pytest.skip(f"{name} is not installed (Debian and Ubuntu: apt install {name})")
        port = free_port()
        path = tmp_path / f"{name}.conf"
        path.write_text(configuration.format(port=port))
        option = {"ngircd": ["-n", "-f"], "mosquitto": ["-c"]}[name]
        servers.append(RealServer([program, *option, str(path)], port, ready))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.stop()
