"""The chat server: an ASGI application that speaks WebSocket.

Connect to ``/chat?nick=ann`` and send ``bob: hello``; bob receives ``ann: hello``. Lines from the
server itself start with ``*``. Invariant: everything runs on uvicorn's loop, and a nickname belongs
to one connection from its first line to ``* ann left``, which every other user receives.
"""

import asyncio
import re
from urllib.parse import parse_qs

from . import Receive, Scope, Send
from .trace import Trace

REFUSED = 4000
"""The close code for a nickname that cannot be used."""

_NICK = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,29}")


class ChatServer:
    """Carries lines between the users, who are in memory only."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        # Unbounded: uvicorn disconnects a user who does not answer its pings for 20 seconds.
        self._users: dict[str, asyncio.Queue[str]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one user from the connection to its end."""
        await receive()
        await send({"type": "websocket.accept"})  # a refusal before this would not carry its reason
        nick = parse_qs(scope["query_string"].decode("latin-1")).get("nick", [""])[0]
        if reason := self._refusal(nick):
            await send({"type": "websocket.close", "code": REFUSED, "reason": reason})
            return
        lines = self._users[nick.lower()] = asyncio.Queue()
        writer = asyncio.create_task(_write(lines, send))
        try:
            while (message := await receive())["type"] == "websocket.receive":
                self._trace.ran("Chat server (ASGI WebSocket)")
                self._carry(nick, message.get("text") or "")
        finally:
            writer.cancel()
            del self._users[nick.lower()]
            for other in self._users.values():
                other.put_nowait(f"* {nick} left")

    def _refusal(self, nick: str) -> str:
        if not _NICK.fullmatch(nick):
            return "A nickname is a letter, then up to 29 letters, digits or - _."
        return f"The nickname {nick} is already in use." if nick.lower() in self._users else ""

    def _carry(self, nick: str, line: str) -> None:
        name, _, text = line.partition(":")
        receiver = self._users.get(name.strip().lower())
        if receiver is None:
            answer = f"* No user has this name: write NAME: TEXT, not {line!r}."
            self._users[nick.lower()].put_nowait(answer)
        else:
            receiver.put_nowait(f"{nick}: {' '.join(text.split())}")


async def _write(lines: asyncio.Queue[str], send: Send) -> None:
    while True:
        await send({"type": "websocket.send", "text": await lines.get()})
