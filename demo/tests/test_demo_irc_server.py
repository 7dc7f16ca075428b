"""The embedded chat server, seen by clients on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from app import irc_server
from app.irc_server import IrcServer
from app.trace import Trace

pytestmark = pytest.mark.asyncio


class Client:
    """A client that reads and writes raw lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, *lines: str) -> None:
        self.writer.write("".join(f"{line}\r\n" for line in lines).encode())
        await self.writer.drain()

    async def line(self) -> str:
        return (await self.reader.readline()).decode().rstrip("\r\n")

    async def until(self, part: str) -> str:
        while line := await self.line():
            if part in line:
                return line
        raise AssertionError(f"the connection ended before {part!r} came")

    async def settle(self) -> list[str]:
        """Return all lines that the server has sent so far, in order."""
        await self.send("PING :settled")
        lines = []
        while "settled" not in (line := await self.line()):
            lines.append(line)
        return lines


class Room:
    """A running server that clients can join."""

    def __init__(self, server: IrcServer, stack: AsyncExitStack) -> None:
        self.server, self._stack = server, stack

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.server.port))
        self._stack.callback(client.writer.close)
        return client

    async def join(self, nick: str, *channels: str) -> Client:
        client = await self.connect()
        await client.send(f"NICK {nick}", f"USER {nick} 0 * :{nick}")
        await client.send(*(f"JOIN {channel}" for channel in channels))
        await client.settle()
        return client


@asynccontextmanager
async def server_running(ping_after: float = 60.0) -> AsyncIterator[Room]:
    server = IrcServer(Trace(), ping_after=ping_after)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.close)
        await server.start()
        yield Room(server, stack)


async def test_a_client_is_welcomed_once_it_has_said_who_it_is() -> None:
    async with server_running() as room:
        client = await room.connect()
        await client.send("CAP LS 302", "NICK ann")
        assert await client.settle() == [":irc.demo CAP * LS :"]
        await client.send("USER ann 0 * :Ann Example")
        assert (await client.line()).startswith(":irc.demo 001 ann :Welcome")


async def test_private_messages_reach_their_receiver_only() -> None:
    async with server_running() as room:
        ann, bob, eve = [await room.join(nick) for nick in ("ann", "bob", "eve")]
        await ann.send("PRIVMSG BOB :hello you")
        assert await ann.settle() == []
        assert await bob.settle() == [":ann!ann@localhost PRIVMSG bob :hello you"]
        assert await eve.settle() == []


async def test_a_channel_hears_its_members_and_nobody_else() -> None:
    async with server_running() as room:
        ann, bob = await room.join("ann", "#x"), await room.join("bob", "#x")
        eve = await room.join("eve")
        assert await ann.settle() == [":bob!bob@localhost JOIN #x"]
        await ann.send("PRIVMSG #X :hello all")
        await ann.settle()
        assert await bob.settle() == [":ann!ann@localhost PRIVMSG #x :hello all"]
        await eve.send("PRIVMSG #x :let me in")
        assert [line.split()[1] for line in await eve.settle()] == ["401"]
        assert await bob.settle() == []


async def test_names_and_parting() -> None:
    async with server_running() as room:
        ann, bob = await room.join("ann", "#x"), await room.join("bob", "#x")
        await ann.settle()
        await ann.send("NAMES #x")
        assert (await ann.settle())[0] == ":irc.demo 353 ann = #x :ann bob"
        await bob.send("PART #x :enough")
        await bob.settle()
        assert await ann.settle() == [":bob!bob@localhost PART #x enough"]
        await bob.send("PART #x")
        assert [line.split()[1] for line in await bob.settle()] == ["442"]


async def test_a_nickname_in_use_is_refused_until_it_is_free() -> None:
    async with server_running() as room:
        ann, other = await room.join("ann", "#x"), await room.connect()
        await other.send("NICK ANN")
        assert " 433 " in await other.line()
        await ann.send("NICK anna")
        assert await ann.settle() == [":ann!ann@localhost NICK anna"]
        await other.send("NICK ANN", "USER o 0 * :O")
        assert " 001 ANN " in await other.line()


async def test_neighbours_hear_of_a_quit_and_of_a_lost_connection() -> None:
    async with server_running() as room:
        ann, bob, eve = [await room.join(nick, "#x") for nick in ("ann", "bob", "eve")]
        await bob.send("QUIT :good night")
        assert await bob.until("ERROR") == "ERROR :Goodbye: good night"
        assert await ann.until("QUIT") == ":bob!bob@localhost QUIT :good night"
        eve.writer.transport.abort()
        assert await ann.until("QUIT") == ":eve!eve@localhost QUIT :Connection lost"


@pytest.mark.parametrize(
    ("line", "numeric"),
    [
        ("FLY away", "421"),
        ("PRIVMSG nobody :hi", "401"),
        ("PRIVMSG ann", "461"),
        ("JOIN x", "403"),
        ("NICK 1ann", "432"),
        ("USER x 0 * :x", "462"),
    ],
)
async def test_what_is_wrong_is_answered_with_a_number(line: str, numeric: str) -> None:
    async with server_running() as room:
        ann = await room.join("ann")
        await ann.send(line)
        assert [answer.split()[1] for answer in await ann.settle()] == [numeric]


async def test_nothing_but_registration_before_the_welcome() -> None:
    async with server_running() as room:
        client = await room.connect()
        await client.send("JOIN #x")
        assert (await client.line()).split()[1] == "451"


async def test_a_notice_is_never_answered() -> None:
    async with server_running() as room:
        ann = await room.join("ann")
        await ann.send("NOTICE nobody :hi")
        assert await ann.settle() == []


async def test_empty_and_overlong_lines_do_no_harm() -> None:
    async with server_running() as room:
        ann, bob = await room.join("ann"), await room.join("bob")
        await ann.send("", ":", f"PRIVMSG bob :{'x' * 3000}")
        await ann.settle()
        (heard,) = await bob.settle()
        assert len(heard.encode()) <= 510


async def test_a_line_without_end_closes_the_connection() -> None:
    async with server_running() as room:
        client = await room.connect()
        client.writer.write(b"x" * 100_000)
        assert await client.reader.read() == b""


async def test_a_silent_client_is_asked_and_then_let_go() -> None:
    async with server_running(ping_after=0.05) as room:
        client = await room.connect()
        assert await client.line() == "PING irc.demo"
        assert await client.reader.read() == b""


async def test_a_client_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(irc_server, "MAX_UNREAD", 10_000)
    async with server_running() as room:
        ann, deaf = await room.join("ann", "#x"), await room.join("d", "#x")
        deaf.writer.transport.pause_reading()  # type: ignore[attr-defined]
        # Each line becomes many messages: the system buffers megabytes before the limit counts.
        flood = f"PRIVMSG {','.join('d' * 100)} :{'x' * 280}"
        heard: list[str] = []
        while not any(" QUIT " in line for line in heard):
            await ann.send(*[flood] * 10)
            heard = await ann.settle()
        assert next(line for line in heard if " QUIT " in line).startswith(":d!")


async def test_closing_says_goodbye() -> None:
    async with server_running() as room:
        ann = await room.join("ann")
        await room.server.close()
        assert await ann.line() == "ERROR :The server is closing"


async def test_closing_waits_for_a_connection_that_is_just_ending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wait_closed = asyncio.StreamWriter.wait_closed
    ending, may_end = asyncio.Event(), asyncio.Event()

    async def slow_wait_closed(writer: asyncio.StreamWriter) -> None:
        ending.set()
        await may_end.wait()
        await wait_closed(writer)

    monkeypatch.setattr(asyncio.StreamWriter, "wait_closed", slow_wait_closed)
    async with server_running() as room:
        ann = await room.join("ann")
        await ann.send("QUIT")
        await ending.wait()
        asyncio.get_running_loop().call_soon(may_end.set)
        await room.server.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}
