"""The clients of ``check``: a browser and chat users on plain sockets.

They do not use the demo's own code for HTTP, events or IRC, because a mistake on both sides would
cancel out. All calls block, but none for longer than ``SECONDS``.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8")

    def json(self) -> Any:
        return json.loads(self.body)


class Browser:
    """Makes HTTP requests to the demo, each on its own connection."""

    def __init__(self, port: int) -> None:
        self._port = port

    def connection(self) -> http.client.HTTPConnection:
        """Return a connection for low-level use."""
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=SECONDS)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request; a body given as an iterable is sent chunked, piece by piece."""
        connection = self.connection()
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, fields, response.read())
        finally:
            connection.close()

    def post_json(self, path: str, **call: str) -> Answer:
        """POST a JSON object."""
        headers = {"Content-Type": "application/json"}
        return self.request("POST", path, json.dumps(call).encode(), headers)


@dataclass(frozen=True, slots=True)
class Seen:
    """One event of the stream."""

    number: int
    kind: str
    data: Any


class EventReader:
    """Reads the page's event stream on a thread until closed."""

    def __init__(self, browser: Browser, last_event_id: int = 0) -> None:
        self._connection = browser.connection()
        self._connection.request("GET", "/events", headers={"Last-Event-ID": str(last_event_id)})
        # Get the socket now: the connection object drops it once the response has started.
        self._socket: socket.socket = self._connection.sock
        self._response = self._connection.getresponse()
        self.content_type = self._response.getheader("content-type") or ""
        self._changed = threading.Condition()
        self._seen: list[Seen] = []
        self._thread = threading.Thread(target=self._read, name="check-events")
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):  # the server closed it first
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._response.close()
        self._connection.close()

    def wait_for(self, kind: str, fits: Callable[[Any], bool]) -> Seen:
        """Return the first event of this kind that fits. Raises ``TimeoutError`` if none comes."""
        deadline = time.monotonic() + SECONDS
        with self._changed:
            while True:
                for seen in self._seen:
                    if seen.kind == kind and fits(seen.data):
                        return seen
                if not self._changed.wait(deadline - time.monotonic()):
                    raise TimeoutError(f"the event stream did not show such a {kind!r} event")

    def seen(self) -> list[Seen]:
        """Return all events so far."""
        with self._changed:
            return list(self._seen)

    def _read(self) -> None:
        fields: dict[str, str] = {}
        try:
            while line := self._response.readline():
                name, _, value = line.decode("utf-8").rstrip("\n").partition(": ")
                if name:
                    fields[name] = value
                elif "data" in fields:
                    self._add(Seen(int(fields["id"]), fields["event"], json.loads(fields["data"])))
                    fields = {}
        except (OSError, http.client.HTTPException):
            pass  # closed from our side

    def _add(self, seen: Seen) -> None:
        with self._changed:
            self._seen.append(seen)
            self._changed.notify_all()


class IrcUser:
    """A person with an IRC client."""

    def __init__(self, host: str, port: int, nick: str) -> None:
        self.nick = nick
        self._socket = socket.create_connection((host, port), timeout=SECONDS)
        self._lines = self._socket.makefile("r", encoding="utf-8", newline="\r\n")
        self.send(f"NICK {nick}")
        self.send(f"USER {nick} 0 * :{nick}")
        self.wait_for(" 001 ")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.send("QUIT :done")
        finally:
            self._lines.close()
            self._socket.close()

    def send(self, line: str) -> None:
        """Send a raw line."""
        self._socket.sendall(line.encode() + b"\r\n")

    def wait_for(self, part: str) -> str:
        """Return the next line that contains ``part``, and answer PINGs in the meantime."""
        while line := self._lines.readline():
            if line.startswith("PING"):
                self.send("PONG" + line[4:].rstrip())
            elif part in line:
                return line.rstrip()
        raise ConnectionError(f"the chat server closed the connection of {self.nick}")

    def ask(self, target: str, text: str) -> str:
        """Say something to ``target`` and return the text of the next message to us."""
        self.send(f"PRIVMSG {target} :{text}")
        return self.hear()

    def hear(self) -> str:
        """Return the text of the next message to us."""
        return self.wait_for(" PRIVMSG ").split(" ", 3)[3].removeprefix(":")
