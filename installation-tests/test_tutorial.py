"""The tutorial works for a reader who follows it word for word, from a clone and nothing else."""

import contextlib
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from instructions import ROOT
from terminal import copy_checkout

PAGE = ROOT / "docs" / "tutorial.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)
EMPTY = re.compile(r"Create an empty file `(\w+\.py)`")
SAVED = re.compile(r"Save this as `(\w+\.py)`")

# Not every machine has curl.
CURL = """\
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1]).read().decode())
"""


@dataclass(slots=True)
class Follower:
    """Types the page's commands into a shell in the clone, and edits files as the page says."""

    clone: Path
    port: str
    programs: Path
    growing: Path = field(init=False)
    printed: str = ""
    last_block: str = ""
    servers: list[subprocess.Popen[str]] = field(default_factory=list)

    def follow(self, page: str) -> None:
        end = 0
        for fence in FENCE.finditer(page):
            self._read(page[end : fence.start()])
            after = FENCE.split(page[fence.end() :], maxsplit=1)[0]
            self._take(fence[1], fence[2], after)
            end = fence.end()

    def _read(self, prose: str) -> None:
        if found := EMPTY.search(prose):
            self.growing = self.clone / found[1]
            self.growing.touch()
        if found := SAVED.search(prose):
            (self.clone / found[1]).write_text(self.last_block, "utf-8")
        if "press Ctrl-C in the first terminal" in prose:
            self.end_servers()

    def _take(self, language: str, text: str, after: str) -> None:
        if language == "console":
            self._type(text)
        elif language == "python":
            self.last_block = text
            if not SAVED.search(after) and "third file" not in after:
                self.growing.write_text(self.growing.read_text("utf-8") + text, "utf-8")
        elif language == "text" and self.last_block in self.growing.read_text("utf-8"):
            self.printed += text
            assert self._shell(f"python {self.growing.name}") == self.printed, self.last_block

    def _type(self, block: str) -> None:
        for command, shown in re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", block, re.M):
            here = command.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")
            if command.startswith("uvicorn "):
                self._serve(here)
            elif (output := self._shell(here)).strip() != shown.strip() and shown:
                raise AssertionError(f"{command} printed {output!r}")

    def _shell(self, command: str) -> str:
        done = subprocess.run(
            self._in_the_environment(command),
            cwd=self.clone,
            env=self._surroundings(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def _in_the_environment(self, command: str) -> list[str]:
        """A new shell for each command, so each has to activate what the page has activated."""
        active = self.clone / ".venv" / "bin" / "activate"
        first = ". .venv/bin/activate; " if active.exists() else ""
        return ["sh", "-c", f"{first}exec {command}" if "activate" not in command else command]

    def _surroundings(self) -> dict[str, str]:
        leave_out = ("PYTHON", "VIRTUAL_ENV", "TOX_", "PIP_")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(leave_out)}
        path = os.pathsep.join([str(self.programs), "/usr/local/bin", "/usr/bin", "/bin"])
        return {**kept, "PATH": path, "UVICORN_PORT": self.port}

    def _serve(self, command: str) -> None:
        server = subprocess.Popen(
            self._in_the_environment(command),
            cwd=self.clone,
            env=self._surroundings(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.servers.append(server)
        while server.poll() is None:  # the time limit of the test applies
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", int(self.port)), 1).close()
                return
            time.sleep(0.05)
        raise AssertionError(f"{command} ended with status {server.returncode}")

    def end_servers(self) -> None:
        while self.servers:
            server = self.servers.pop()
            server.terminate()
            server.wait()


def free_port() -> str:
    while True:
        port = random.randrange(15_000, 30_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return str(port)


@pytest.fixture
def follower(tmp_path: Path) -> Iterator[Follower]:
    clone, programs = tmp_path / "clone", tmp_path / "programs"
    copy_checkout(clone)
    programs.mkdir()
    (programs / "python3").symlink_to(sys.executable)
    if shutil.which("curl") is None:
        curl = programs / "curl"
        curl.write_text(f"#!{sys.executable}\n{CURL}")
        curl.chmod(0o755)
    following = Follower(clone, free_port(), programs)
    yield following
    following.end_servers()


def test_the_tutorial_works_word_for_word_in_a_new_clone(follower: Follower) -> None:
    follower.follow(PAGE.read_text("utf-8"))

    written = {path.name for path in follower.clone.glob("*.py")}
    assert {"tutorial.py", "greeter.py", "check_greeter.py"} <= written
    assert len(follower.printed.splitlines()) > 15
