"""The demo as one object: it builds the pieces, starts them in order, and stops them in reverse."""

from __future__ import annotations

import contextlib
import importlib.util
import queue
import secrets
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING

import own_postgres  # from tools/

from asgiref.sync import async_to_sync

from .bot import ChatBot
from .bot_connection import BotConnection
from .chat_users import ChatUsers
from .fleet_facts import PARTITIONS, TIMEOUT_SECONDS
from .game import GuessingGame
from .guestbook import ChatFacts, make_guestbook
from .irc_server import IrcServer
from .pieces import Piece, PieceFailed, PieceThread
from .ports import HOST, bind
from .storage import Storage
from .trace import Trace
from .uvicorn_piece import UvicornPiece
from .web import KillWorker, Web

if TYPE_CHECKING:
    from asgiref.postgres import Database


class Wake(Enum):
    """The reason why the waiting main thread continues."""

    SIGNAL = auto()
    PIECE_ENDED = auto()


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings from the command line.

    ``irc`` is ``None`` for the embedded server. ``workers`` is the number of processes for the
    bot's scopes; ``database`` is the URL of their database, or ``None`` for our own PostgreSQL.
    """

    data: Path
    port: int
    irc: tuple[str, int] | None = None
    bot_nick: str = "guessbot"
    channel: str = "#asgiref"
    workers: int = 0
    database: str | None = None


@dataclass(frozen=True, slots=True)
class Addresses:
    """The HTTP and IRC addresses of the demo."""

    http_port: int
    irc_host: str
    irc_port: int

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.http_port}/"


MakeGame = Callable[[Storage, Trace], GuessingGame]


class Demo:
    """The running demo. ``wakes`` wakes the waiting thread and gives the reason.

    ``wakes`` is a ``SimpleQueue``, because only its ``put`` is guaranteed to be safe in a signal
    handler that interrupts a ``get`` of the same queue.
    """

    def __init__(self, settings: Settings, make_game: MakeGame = GuessingGame) -> None:
        self.wakes: queue.SimpleQueue[Wake] = queue.SimpleQueue()
        self.trace = Trace()
        self._settings = settings
        self._make_game = make_game
        self._storage = Storage(settings.data)
        self._threads: list[PieceThread] = []
        self._games = ""
        self._postgres = own_postgres.OwnPostgres(lambda: self.wakes.put(Wake.PIECE_ENDED))
        self._database: Database | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[Addresses]:
        """Run all pieces for the duration of a ``with`` block. Raises ``PieceFailed``."""
        try:
            yield self._start()
        finally:
            self._stop()

    def _start(self) -> Addresses:
        # Start the database first, because it may be missing.
        database = self._start_database() if self._settings.workers else None
        irc_host, irc_port = self._settings.irc or self._start_irc_server()
        listener = bind(self._settings.port)
        try:
            connection = BotConnection(
                irc_host, irc_port, self._settings.bot_nick, self._settings.channel, self.trace
            )
            kill = None
            if database is not None:
                kill = self._start_fleet(connection, database)
            else:
                self._start_bot(connection)
            self._start_web(connection, kill, irc_host, irc_port, listener)
        except BaseException:
            listener.close()
            raise
        return Addresses(listener.getsockname()[1], irc_host, irc_port)

    def _start_database(self) -> Database:
        """Start a PostgreSQL if no database is given, and create our own schema in it."""
        if reason := why_no_fleet(self._settings.database):
            raise PieceFailed(f"there can be no workers, since {reason}")
        # Import here: without workers, asgiref-postgres need not be installed.
        from asgiref.postgres import Database, migrate

        try:
            url = self._settings.database or self._postgres.start()
        except own_postgres.NoServer as error:
            raise PieceFailed(str(error)) from None
        # Each demo has its own schema: of two gateways in one schema, one would wait.
        schema = f"asgiref_demo_{secrets.token_hex(4)}"
        database = Database(url, schema, timeout=TIMEOUT_SECONDS)
        try:
            async_to_sync(migrate)(database, partitions=PARTITIONS)
        except Exception as error:  # the driver's, which has many
            raise PieceFailed(f"the database cannot be used: {error or repr(error)}") from error
        self._database = database
        return database

    def _start_irc_server(self) -> tuple[str, int]:
        server = IrcServer(self.trace)
        self._start_piece(server)
        return HOST, server.port

    def _start_bot(self, connection: BotConnection) -> None:
        game = self._make_game(self._storage, self.trace)
        self._start_piece(ChatBot(game, self.trace, connection))

    def _start_fleet(self, connection: BotConnection, database: Database) -> KillWorker:
        from .fleet import Fleet
        from .fleet_bot import FleetBot

        bot = FleetBot(database, self.trace, connection)
        self._start_piece(bot)
        self._games = f"{bot.run_mark}/"
        fleet = Fleet(database, self._settings.data, self._settings.workers, bot, self.trace)
        self._start_piece(fleet)
        return fleet.kill

    def _start_web(
        self,
        connection: BotConnection,
        kill: KillWorker | None,
        host: str,
        port: int,
        listener: socket.socket,
    ) -> None:
        embedded, workers = self._settings.irc is None, self._settings.workers

        def chat_facts() -> ChatFacts:
            address = f"{host}:{port}"
            return ChatFacts(address, connection.nick, connection.channel, embedded, workers)

        users = ChatUsers(host, port, connection.channel, lambda: connection.nick, self.trace)
        flask_app = make_guestbook(self._storage, self.trace, chat_facts)
        web = Web(flask_app, users, self.trace, kill)
        self._start_piece(UvicornPiece(web, listener, self.trace))

    def _start_piece(self, piece: Piece) -> None:
        thread = PieceThread(piece, lambda: self.wakes.put(Wake.PIECE_ENDED))
        thread.start()
        self._threads.append(thread)

    def _stop(self) -> None:
        """Stop all started pieces in reverse order, even if one of them fails."""
        failures: list[PieceFailed] = []
        while self._threads:
            try:
                self._threads.pop().stop()
            except PieceFailed as failure:
                failures.append(failure)
        try:
            self._leave_database()
        except (PieceFailed, own_postgres.NoServer) as failure:
            failures.append(PieceFailed(str(failure)))
        if self._games:
            self._storage.forget_games(self._games)
        if failures:
            raise failures[0]

    def _leave_database(self) -> None:
        """Drop our schema from a shared database, or end our own server."""
        database, self._database = self._database, None
        if database is not None and self._settings.database:
            try:
                async_to_sync(_drop_schema)(database)
            except Exception as error:  # the driver's, which has many
                raise PieceFailed(f"the schema {database.schema} stays: {error}") from error
        self._postgres.stop()


async def _drop_schema(database: Database) -> None:
    connection = await database.connect()
    try:
        await connection.execute(f'DROP SCHEMA "{database.schema}" CASCADE')
    finally:
        await connection.close()


def why_no_fleet(database: str | None = None) -> str | None:
    """Return why workers cannot run with this database or our own, if they cannot."""
    if not all(map(importlib.util.find_spec, ("asgiref.postgres", "asyncpg"))):
        return "asgiref-postgres is not installed"
    if database is None and own_postgres.find_binaries() is None:
        return (
            "there is no PostgreSQL on this machine "
            "(Debian and Ubuntu: apt install postgresql; or name a database with --database URL)"
        )
    return None
