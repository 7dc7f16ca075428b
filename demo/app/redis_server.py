"""A ``redis-server`` for the time of the demo, on a free port, with a password.

The password is for other users of the machine, to whom 127.0.0.1 is as near as to us: with Redis
before 7, whoever may change its settings can write files as its owner. It is told in a file that
only we can read, in a temporary folder. Nothing else is kept there: the demo never starts the same
Redis again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from .pieces import PieceFailed

START_SECONDS = 20.0
STOP_SECONDS = 15.0
ATTEMPTS = 3
_APP_PARENT = Path(__file__).resolve().parents[1]


def find_redis_server() -> str | None:
    """The path of the machine's ``redis-server``; Debian may have it where only root looks."""
    places = [os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"]
    return shutil.which("redis-server", path=os.pathsep.join(places))


class OwnRedis:
    """Ended by ``stop``; ``app.redis_keeper`` sees to it when nobody can call that any more.

    ``on_end`` is called when a server that was ready has ended, for whatever reason.
    """

    def __init__(self, on_end: Callable[[], None] = lambda: None) -> None:
        self.url = ""
        self._on_end = on_end
        self._keeper: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def start(self) -> str:
        """Return the URL once it accepts connections. Raises ``PieceFailed``."""
        program = find_redis_server()
        if program is None:
            raise PieceFailed("no redis-server is installed")
        for attempt in range(1, ATTEMPTS + 1):  # somebody may take the free port before we do
            try:
                self.url = self._start(program)
                return self.url
            except PieceFailed:
                self.stop()
                if attempt == ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def _start(self, program: str) -> str:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        password = secrets.token_urlsafe(16)
        folder = tempfile.mkdtemp(prefix="asgiref-demo-redis-")
        Path(folder, "redis.conf").write_text(
            f"bind 127.0.0.1\nport {port}\nrequirepass {password}\n"
            f'dir "{folder}"\nsave ""\nappendonly no\ndaemonize no\nlogfile ""\n'
        )
        self._keeper = subprocess.Popen(
            [sys.executable, "-m", "app.redis_keeper", program, folder],
            cwd=_APP_PARENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is the demo's alone, which ends things in order
        )
        ready: Future[None] = Future()
        reading = (self._keeper, ready, self._on_end)
        self._reader = threading.Thread(target=_read, args=reading, name="redis-log")
        self._reader.start()
        try:
            ready.result(START_SECONDS)
        except TimeoutError:
            raise PieceFailed(f"{program} did not start in time") from None
        return f"redis://:{password}@127.0.0.1:{port}"

    def stop(self) -> None:
        """End it, if it runs. Raises ``PieceFailed`` if it does not end in time."""
        keeper, self._keeper = self._keeper, None
        if keeper is None or self._reader is None:
            return
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        with contextlib.suppress(OSError):
            keeper.stdin.close()
        try:
            keeper.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise PieceFailed("redis-server did not end in time") from None
        self._reader.join()
        keeper.stdout.close()


def _read(keeper: subprocess.Popen[str], ready: Future[None], on_end: Callable[[], None]) -> None:
    """Read what it says to its end, so that the pipe never fills; tell when it is ready."""
    assert keeper.stdout is not None
    last = "it said nothing"
    for line in keeper.stdout:
        last = line.strip() or last
        if "Ready to accept connections" in line and not ready.done():
            ready.set_result(None)
    if ready.done():
        on_end()
    else:
        ready.set_exception(PieceFailed(f"redis-server could not start: {last}"))
