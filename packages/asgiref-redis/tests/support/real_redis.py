"""A real ``redis-server`` on a free port: started, killed, started again with what it had."""

import os
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path

MISSING = "redis-server is not installed (Debian and Ubuntu: apt install redis-server)"


def program() -> str | None:
    return shutil.which("redis-server", path=os.pathsep.join([os.environ["PATH"], "/usr/sbin"]))


def is_installed() -> bool:
    return program() is not None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


class RealRedis:
    """A server that writes each command to its disk before it answers.

    Args:
        folder: where it keeps its data.
        options: further options of its command line.
        kind: ``"sentinel"`` for one, whose first option is the file with its configuration.
        port: where it listens; any that is free by default.
    """

    def __init__(
        self, folder: Path, *options: str, kind: str = "server", port: int | None = None
    ) -> None:
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._kind = kind
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def command(self) -> list[str]:
        server = program()
        assert server is not None, MISSING
        if self._kind == "sentinel":
            port = ["--port", str(self.port), "--bind", "127.0.0.1"]
            return [server, self._options[0], *port, *self._options[1:]]
        return [
            *(server, "--port", str(self.port), "--bind", "127.0.0.1"),
            *("--dir", str(self._folder), "--save", "", "--appendonly", "yes"),
            *("--appendfsync", "always", "--daemonize", "no", "--logfile", ""),
            *self._options,
        ]

    def start(self) -> "RealRedis":
        self._process = process = subprocess.Popen(
            self.command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if "Ready to accept connections" in line or "+monitor" in line:
                # What it says from now on must not fill the pipe.
                self._reader = threading.Thread(target=process.stdout.read, daemon=True)
                self._reader.start()
                return self
        raise AssertionError(f"redis-server did not start:\n{said}")

    def pause(self) -> None:
        """It takes connections, as its host does, and says nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """As ``kill -9`` does."""
        self._end("kill")

    def kill_in_the_middle_of_writing(self, what: bytes) -> None:
        """Likewise; its file ends before the end of the last transaction that contains this."""
        self.kill()
        folder, old = self._folder / "appendonlydir", self._folder / "appendonly.aof"
        [file] = [old] if old.exists() else folder.glob("*.incr.aof")  # old: before Redis 7
        written = file.read_bytes()
        os.truncate(file, written.index(b"EXEC", written.rindex(what)) + 2)

    def stop(self) -> None:
        self._end("terminate")

    def _end(self, how: str) -> None:
        process, self._process = self._process, None
        if process is not None:
            getattr(process, how)()
            process.send_signal(signal.SIGCONT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:  # left alone, it would hold up the end of the tests
                process.kill()
                process.wait(30)
            assert process.stdout is not None
            if self._reader is not None:
                self._reader.join(30)
            process.stdout.close()
