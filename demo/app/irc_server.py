"""The embedded chat server: the part of RFC 1459 that lets ordinary IRC clients talk to each other.

It knows NICK, USER, JOIN, PART, PRIVMSG, NOTICE, NAMES, TOPIC, MODE (answers only), WHO (an empty
list), CAP (none), PING, PONG and QUIT; no operators, no services, no other servers.

Rules: everything runs on one event loop, so the two tables (users by nickname, channels by name)
need no lock. A command changes them and queues its answers without an ``await`` in between, so no
other session sees a half-finished change. The server never waits for a slow reader: like real
servers, it disconnects a client that leaves more than ``MAX_UNREAD`` bytes unread.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from .irc import MAX_LINE, Message, fold, is_channel, is_nick
from .trace import Tracer

SERVER_NAME = "irc.demo"
PING_AFTER_SECONDS = 60.0
MAX_UNREAD = 1 << 20
MAX_SESSIONS = 200


@dataclass(slots=True, eq=False)
class Session:
    """One connection. ``nick`` and ``user`` are empty until the client has given them."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    nick: str = ""
    user: str = ""
    welcomed: bool = False
    quit_reason: str | None = None
    channels: set[str] = field(default_factory=set)

    @property
    def prefix(self) -> str:
        return f"{self.nick}!{self.user}@localhost"

    def send(self, message: Message) -> None:
        """Queue a message, or disconnect a client that does not read."""
        if self.writer.is_closing():
            return
        self.writer.write(message.encode())
        if self.writer.transport.get_write_buffer_size() > MAX_UNREAD:
            self.writer.transport.abort()

    def reply(self, numeric: str, *params: str) -> None:
        """Queue a numbered reply of the server (RFC 1459, section 6)."""
        self.send(Message(numeric, (self.nick or "*", *params), SERVER_NAME))


@dataclass(slots=True)
class Channel:
    """A channel exists while it has members."""

    name: str
    members: set[Session] = field(default_factory=set)


class IrcServer:
    """An IRC server on one address.

    ``run_piece`` blocks the calling thread until ``stop``; a test with its own loop awaits
    ``start`` and ``close`` instead.
    """

    name = "irc-server"

    def __init__(self, trace: Tracer, *, ping_after: float = PING_AFTER_SECONDS) -> None:
        self.port = 0
        self._trace = trace
        self._ping_after = ping_after
        self._sessions: set[Session] = set()
        self._tasks: set[asyncio.Task[None]] = set()  # they outlive their sessions to close sockets
        self._nicks: dict[str, Session] = {}
        self._channels: dict[str, Channel] = {}
        self._listener: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()

    def run_piece(self, ready: Callable[[], None]) -> None:
        """Serve on a free port of 127.0.0.1 until ``stop``; call ``ready`` once it listens."""
        asyncio.run(self._run(ready))

    async def _run(self, ready: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._trace.name_loop("the chat server's loop")
        await self.start()
        ready()
        await self._stopping.wait()
        await self.close()

    def stop(self) -> None:
        """Ask ``run_piece`` to end; safe from any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the piece has ended
                self._loop.call_soon_threadsafe(self._stopping.set)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen on the running loop and return the port."""
        self._listener = await asyncio.start_server(self._serve, host, port, limit=16 * MAX_LINE)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self.port

    async def close(self) -> None:
        """Stop listening, say goodbye to all clients, and wait until the last session has ended."""
        if self._listener is not None:
            self._listener.close()
        for session in list(self._sessions):
            session.send(Message("ERROR", ("The server is closing",)))
            session.writer.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # One connection

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session(reader, writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if len(self._sessions) >= MAX_SESSIONS:
            session.send(Message("ERROR", ("Too many connections",)))
            writer.close()
            return
        self._sessions.add(session)
        reason = "Connection lost"
        try:
            reason = await self._read(session)
        except (OSError, ValueError):  # ValueError: a line beyond the reader's limit
            pass
        finally:
            self._sessions.discard(session)
            self._leave_all(session, reason)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _read(self, session: Session) -> str:
        """Run the client's commands until it quits; return the reason for the other users."""
        while session.quit_reason is None:
            line = await self._next_line(session)
            if line is None:
                return "Ping timeout"
            if not line:
                return "Connection lost"
            with contextlib.suppress(ValueError):
                self._obey(session, Message.decode(line[:MAX_LINE]))
        session.send(Message("ERROR", (f"Goodbye: {session.quit_reason}",)))
        return session.quit_reason

    async def _next_line(self, session: Session) -> bytes | None:
        """Return the next line: empty at the end of the connection, ``None`` after a silence."""
        line = asyncio.ensure_future(session.reader.readline())
        try:
            for attempt in range(2):
                done, _ = await asyncio.wait({line}, timeout=self._ping_after)
                if done:
                    return line.result()
                if attempt == 0:
                    session.send(Message("PING", (SERVER_NAME,)))
            return None
        finally:
            line.cancel()

    # Commands

    def _obey(self, session: Session, message: Message) -> None:
        self._trace.ran("Embedded IRC server")
        handler = _COMMANDS.get(message.command)
        if handler is None:
            session.reply("421", message.command, "Unknown command")
        elif not session.welcomed and message.command not in _BEFORE_WELCOME:
            session.reply("451", "You have not registered")
        elif len([p for p in message.params if p]) < _NEEDS.get(message.command, 0):
            session.reply("461", message.command, "Not enough parameters")
        else:
            handler(self, session, message)

    def _nick(self, session: Session, message: Message) -> None:
        nick = message.param(0)
        if not is_nick(nick):
            session.reply("432", nick.replace(" ", "_") or "*", "Erroneous nickname")
            return
        if self._nicks.get(fold(nick), session) is not session:
            session.reply("433", nick, "Nickname is already in use")
            return
        if session.welcomed:
            self._tell(self._neighbours(session) | {session}, "NICK", nick, sender=session)
        self._nicks.pop(fold(session.nick), None)
        self._nicks[fold(nick)] = session
        session.nick = nick
        self._welcome(session)

    def _user(self, session: Session, message: Message) -> None:
        if session.welcomed:
            session.reply("462", "You may not register twice")
            return
        name = "".join(c for c in message.param(0) if c.isalnum() or c in "-_.")
        session.user = name[:20] or "user"
        self._welcome(session)

    def _welcome(self, session: Session) -> None:
        if session.welcomed or not session.nick or not session.user:
            return
        session.welcomed = True
        session.reply("001", f"Welcome to the demo's chat server, {session.prefix}")
        session.reply("002", f"Your host is {SERVER_NAME}")
        session.reply("422", "There is no message of the day")

    def _join(self, session: Session, message: Message) -> None:
        for name in message.param(0).split(","):
            if not is_channel(name):
                session.reply("403", name.replace(" ", "_") or "*", "No such channel")
                continue
            channel = self._channels.setdefault(fold(name), Channel(name))
            if session in channel.members:
                continue
            channel.members.add(session)
            session.channels.add(fold(name))
            self._tell(channel.members, "JOIN", channel.name, sender=session)
            self._list_members(session, channel)

    def _list_members(self, session: Session, channel: Channel) -> None:
        nicks = " ".join(sorted(member.nick for member in channel.members))
        session.reply("353", "=", channel.name, nicks)
        session.reply("366", channel.name, "End of the list of names")

    def _names(self, session: Session, message: Message) -> None:
        channel = self._channels.get(fold(message.param(0)))
        if channel is not None:
            self._list_members(session, channel)
        else:
            session.reply("366", message.param(0) or "*", "End of the list of names")

    def _part(self, session: Session, message: Message) -> None:
        for name in message.param(0).split(","):
            channel = self._channels.get(fold(name))
            if channel is None or session not in channel.members:
                session.reply("442", name or "*", "You are not on that channel")
                continue
            reason = message.param(1) or session.nick
            self._tell(channel.members, "PART", channel.name, reason, sender=session)
            self._remove(session, channel)

    def _privmsg(self, session: Session, message: Message) -> None:
        self._speak(session, message, complain=True)

    def _notice(self, session: Session, message: Message) -> None:
        self._speak(session, message, complain=False)  # a NOTICE must never be answered (4.4.2)

    def _speak(self, session: Session, message: Message, *, complain: bool) -> None:
        text = message.param(1)
        for target in message.param(0).split(","):
            channel = self._channels.get(fold(target))
            user = self._nicks.get(fold(target))
            if channel is not None and session in channel.members:
                others = channel.members - {session}
                self._tell(others, message.command, channel.name, text, sender=session)
            elif user is not None and user.welcomed:
                self._tell([user], message.command, user.nick, text, sender=session)
            elif complain:
                session.reply("401", target or "*", "No such nickname, or not on that channel")

    def _ping(self, session: Session, message: Message) -> None:
        session.send(Message("PONG", (SERVER_NAME, message.param(0)), SERVER_NAME))

    def _nothing(self, session: Session, message: Message) -> None:
        """Ignore a PONG: its arrival alone shows that the client is alive."""

    def _cap(self, session: Session, message: Message) -> None:
        if message.param(0).upper() == "LS":
            session.send(Message("CAP", (session.nick or "*", "LS", ""), SERVER_NAME))

    def _mode(self, session: Session, message: Message) -> None:
        if is_channel(message.param(0)):
            session.reply("324", message.param(0), "+")

    def _topic(self, session: Session, message: Message) -> None:
        session.reply("331", message.param(0), "No topic is set")

    def _who(self, session: Session, message: Message) -> None:
        session.reply("315", message.param(0) or "*", "End of the list")

    def _quit(self, session: Session, message: Message) -> None:
        session.quit_reason = message.param(0) or "Client quit"

    # Recipients

    def _tell(
        self, listeners: Iterable[Session], command: str, *params: str, sender: Session
    ) -> None:
        message = Message(command, params, sender.prefix)
        for listener in listeners:
            listener.send(message)

    def _neighbours(self, session: Session) -> set[Session]:
        """Return all sessions that share a channel with ``session``."""
        channels = [self._channels[name] for name in session.channels]
        return {member for channel in channels for member in channel.members} - {session}

    def _remove(self, session: Session, channel: Channel) -> None:
        channel.members.discard(session)
        session.channels.discard(fold(channel.name))
        if not channel.members:
            del self._channels[fold(channel.name)]

    def _leave_all(self, session: Session, reason: str) -> None:
        """Forget a session and tell its neighbours."""
        self._tell(self._neighbours(session), "QUIT", reason, sender=session)
        for name in list(session.channels):
            self._remove(session, self._channels[name])
        if self._nicks.get(fold(session.nick)) is session:
            del self._nicks[fold(session.nick)]


_Handler = Callable[[IrcServer, Session, Message], None]
_COMMANDS: Mapping[str, _Handler] = {
    "CAP": IrcServer._cap,
    "JOIN": IrcServer._join,
    "MODE": IrcServer._mode,
    "NAMES": IrcServer._names,
    "NICK": IrcServer._nick,
    "NOTICE": IrcServer._notice,
    "PART": IrcServer._part,
    "PING": IrcServer._ping,
    "PONG": IrcServer._nothing,
    "PRIVMSG": IrcServer._privmsg,
    "QUIT": IrcServer._quit,
    "TOPIC": IrcServer._topic,
    "USER": IrcServer._user,
    "WHO": IrcServer._who,
}
_BEFORE_WELCOME = frozenset({"CAP", "NICK", "PING", "PONG", "QUIT", "USER"})
_NEEDS: Mapping[str, int] = {
    "JOIN": 1,
    "MODE": 1,
    "NICK": 1,
    "NOTICE": 2,
    "PART": 1,
    "PING": 1,
    "PRIVMSG": 2,
    "TOPIC": 1,
    "USER": 4,
}
