"""A simulated reader, who runs the commands and the code on a page in an empty environment.

The environment is empty at first; only the page's own commands install into it. Commands find the
programs of that environment and no others. Two of them are stand-ins: ``pip`` is uv's, which takes
a tenth of a second where pip takes five, and ``curl`` is a few lines of Python, since not every
machine has it. A page on PostgreSQL finds the URL of an empty database in its environment. In the
output that a page shows, ``...`` stands for any text.
"""

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from markdown_it import MarkdownIt
from repository import ROOT
from uv import find_uv_bin

sys.path.append(str(ROOT / "tools"))

from own_postgres import own_postgres  # from tools/

__all__ = ["Reader", "has_examples"]

SECONDS_TO_END = 15
CURL = """\
import argparse, sys, urllib.request
parser = argparse.ArgumentParser()
parser.add_argument("-X", dest="method")
parser.add_argument("-T", dest="upload")
parser.add_argument("--data", type=str.encode)
parser.add_argument("url")
typed = parser.parse_args()
# Like curl, urllib sends the data of a pipe in chunks.
body = sys.stdin.buffer if typed.upload == "-" else typed.data
request = urllib.request.Request(typed.url, body, method=typed.method)
print(urllib.request.urlopen(request).read().decode().removesuffix("\\n"))
"""
SAVE_THIS_AS = re.compile(r"Save this as `(\w+\.py)`")
EXAMPLE = re.compile(r"^```python$|^\$ python \w+\.py\b", re.M)
EMPTY_FILE = re.compile(r"Create an empty file `(\w+\.py)`")
# The reader has an environment and the wheels before the first line of a page.
ALREADY_DONE = ("python3 -m venv .venv", ". .venv/bin/activate", "pip wheel ")
# The pages use the servers' default port; the reader adds one that is free.
ON_PORT = {
    "uvicorn": "--port {port}",
    "hypercorn": "--bind 127.0.0.1:{port}",
    "granian": "--port {port}",
    "gunicorn": "--bind 127.0.0.1:{port}",
    "waitress-serve": "",  # has another default: the page names the address
    "pyuwsgi": "",  # has none
}


def has_examples(page: Path) -> bool:
    """Whether the page has code that runs as it stands, or runs a file that it shows."""
    return EXAMPLE.search(page.read_text("utf-8")) is not None


@dataclass(slots=True)
class Reader:
    """Reads one page from top to bottom, in an empty folder.

    With `repeats_requests`, the reader sends the page's last request to each further server too.
    """

    folder: Path
    repeats_requests: bool = False
    last_request: tuple[str, str] = ("", "")
    code: list[str] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)
    last_code: str = ""
    unread_code: bool = False
    port: str = "8000"
    servers: list[subprocess.Popen[str]] = field(default_factory=list)
    database: str = ""

    def read(self, page: Path) -> None:
        self._make_environment()
        whole = page.read_text("utf-8")
        with contextlib.ExitStack() as stack:
            if "python -m asgiref.postgres" in whole:
                self.database = stack.enter_context(own_postgres()).url
            stack.enter_context(self._ending_servers())
            for kind, text in _parts(whole):
                self._take(kind, text)
            self._run_code()

    def _make_environment(self) -> None:
        (self.folder / "dist").symlink_to(ROOT / "dist")
        uv = find_uv_bin()
        subprocess.run(
            [uv, "venv", "--quiet", "--python", sys.executable, self.folder / "environment"],
            check=True,
        )
        programs = self.folder / "programs"
        programs.mkdir()
        (programs / "curl.py").write_text(CURL)
        self._write_program("pip", f'"{uv}" pip "$@" --quiet')
        self._write_program("curl", f'"{sys.executable}" -I "{programs}/curl.py" "$@"')

    def _write_program(self, name: str, command: str) -> None:
        program = self.folder / "programs" / name
        program.write_text(f"#!{shutil.which('sh')}\nexec {command}\n")
        program.chmod(0o755)

    def _take(self, kind: str, text: str) -> None:
        match kind:
            case "python":
                self.code.append(text)
                self.last_code = text
                self.unread_code = True
            case "py":  # does not run with the page's other code
                self.last_code = text
            case "text" if self.unread_code:
                self.printed.append(text)
            case "console":
                self._run_code()
                for command, shown in _commands(text):
                    self._run_command(command, shown)
            case "paragraph" if empty := EMPTY_FILE.search(text):
                (self.folder / empty[1]).touch()
            case "paragraph" if saved := SAVE_THIS_AS.search(text):
                (self.folder / saved[1]).write_text(self.last_code, "utf-8")

    def _run_code(self) -> None:
        """Run all of the page's code so far; an import skips the code for `__main__`."""
        if self.unread_code:
            (self.folder / "page.py").write_text("\n".join(self.code), "utf-8")
            done = self._call("python", "-W", "error", "-c", "import page")
            _compare("the page's code", done.stderr, "")
            if self.printed:  # a README shows its output in comments
                _compare("the page's code", done.stdout, "".join(self.printed))
            self.unread_code = False

    def _run_command(self, command: str, shown: str) -> None:
        if command.startswith(ALREADY_DONE):
            return
        if command.partition(" ")[0] in ON_PORT:
            self._serve(command)
            if self.repeats_requests and self.last_request[0]:
                for _ in range(3):
                    self._run_command(*self.last_request)
        elif command.endswith(" &"):
            self._start(command.removesuffix(" &"))
        else:
            if command.startswith("curl "):
                self.last_request = command, shown
            here = command.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")
            done = self._call("sh", "-c", here)
            _compare(command, done.stdout if done.returncode == 0 else done.stderr, shown)

    def _call(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = self._environment()
        program = shutil.which(command[0], path=environment["PATH"]) or shutil.which(command[0])
        return subprocess.run(
            [str(program), *command[1:]],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_", "UV_"))}
        own = self.folder / "environment"
        path = f"{self.folder / 'programs'}{os.pathsep}{own / 'bin'}"
        variables = {"PATH": path, "VIRTUAL_ENV": str(own)}
        if self.database:
            variables["ASGIREF_POSTGRES_DATABASE"] = self.database
        return {**kept, **variables}

    def _serve(self, command: str) -> None:
        """End the server that runs, and start another one on a free port."""
        self._end_servers()
        self.port = _free_port()
        here = command.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")
        option = ON_PORT[command.partition(" ")[0]].format(port=self.port)
        server = self._start(f"{here} {option}")
        while server.poll() is None:  # the time limit of the test applies
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", int(self.port)), 1).close()
                return
            time.sleep(0.05)
        self.servers.remove(server)
        raise AssertionError(f"{command} ended: {server.communicate()[1]}")

    def _start(self, command: str) -> subprocess.Popen[str]:
        """Start a server that the page leaves running in the background."""
        server = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {command}"],
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.servers.append(server)
        return server

    @contextmanager
    def _ending_servers(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._end_servers()

    def _end_servers(self) -> None:
        while self.servers:
            server = self.servers.pop()
            server.send_signal(signal.SIGTERM)
            try:
                _, said = server.communicate(timeout=SECONDS_TO_END)
            except subprocess.TimeoutExpired:  # Granian sometimes, if it has just started
                os.killpg(server.pid, signal.SIGKILL)
                _, said = server.communicate()
            _compare("output of the server", "".join(re.findall("Traceback.*", said, re.S)), "")


def _free_port() -> str:
    """Return a port below those that the system gives to outgoing connections."""
    while True:
        port = random.randrange(15_000, 30_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return str(port)


def _compare(what: str, found: str, shown: str) -> None:
    if re.fullmatch(re.escape(shown).replace(r"\.\.\.", ".*"), found) is None:
        raise AssertionError(f"{what}: the page shows\n{shown}\nbut the output is\n{found}")


def _parts(text: str) -> Iterator[tuple[str, str]]:
    """Yield code blocks with their language, and paragraphs, in order."""
    for token in MarkdownIt("commonmark").parse(text):
        if token.type == "fence":
            yield token.info, token.content
        elif token.type == "inline":
            yield "paragraph", token.content


def _commands(console: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a console block, with the output that the page shows."""
    for part in re.split(r"^\$ ", console, flags=re.M)[1:]:
        command, _, shown = part.replace("\\\n", "").partition("\n")
        yield command, shown
