"""The whole demo as one object: builds the pieces, starts them in order, stops them in reverse."""

from __future__ import annotations

import contextlib
import importlib.util
import queue
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from .bot import ChatBot
from .bot_connection import BotConnection
from .chat_users import ChatUsers
from .game import GuessingGame
from .guestbook import ChatFacts, make_guestbook
from .irc_server import IrcServer
from .pieces import Piece, PieceFailed, PieceThread
from .ports import HOST, bind
from .redis_server import OwnRedis, find_redis_server
from .storage import Storage
from .trace import Trace
from .uvicorn_piece import UvicornPiece
from .web import KillWorker, Web


class Wake(Enum):
    """Why the main thread, which waits, goes on."""

    SIGNAL = auto()
    PIECE_ENDED = auto()


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line decides.

    ``irc`` is ``None`` for the embedded server. With ``workers``, the bot's scopes run in so many
    processes; ``redis`` is the URL between them, ``None`` for a server of our own.
    """

    data: Path
    port: int
    irc: tuple[str, int] | None = None
    bot_nick: str = "guessbot"
    channel: str = "#asgiref"
    workers: int = 0
    redis: str | None = None


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the demo answers: HTTP and IRC."""

    http_port: int
    irc_host: str
    irc_port: int

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.http_port}/"


MakeGame = Callable[[Storage, Trace], GuessingGame]


class Demo:
    """The running demo. ``wakes`` tells the thread that waits why it should stop waiting.

    ``wakes`` is a ``SimpleQueue`` because its ``put`` is the one hand-over that Python promises to
    be safe in a signal handler that interrupts a ``get`` of the same queue.
    """

    def __init__(self, settings: Settings, make_game: MakeGame = GuessingGame) -> None:
        self.wakes: queue.SimpleQueue[Wake] = queue.SimpleQueue()
        self.trace = Trace()
        self._settings = settings
        self._make_game = make_game
        self._storage = Storage(settings.data)
        self._threads: list[PieceThread] = []
        self._games = ""
        self._redis = OwnRedis(lambda: self.wakes.put(Wake.PIECE_ENDED))

    @contextlib.contextmanager
    def running(self) -> Iterator[Addresses]:
        """Run all pieces for the time of a ``with`` block. Raises ``PieceFailed``."""
        try:
            yield self._start()
        finally:
            self._stop()

    def _start(self) -> Addresses:
        # First of all what may not be there.
        redis = self._start_redis() if self._settings.workers else ""
        irc_host, irc_port = self._settings.irc or self._start_irc_server()
        listener = bind(self._settings.port)
        try:
            connection = BotConnection(
                irc_host, irc_port, self._settings.bot_nick, self._settings.channel, self.trace
            )
            kill = None
            if redis:
                kill = self._start_fleet(connection, redis)
            else:
                self._start_bot(connection)
            self._start_web(connection, kill, irc_host, irc_port, listener)
        except BaseException:
            listener.close()
            raise
        return Addresses(listener.getsockname()[1], irc_host, irc_port)

    def _start_redis(self) -> str:
        if reason := why_no_fleet(self._settings.redis):
            raise PieceFailed(f"there can be no workers, since {reason}")
        return self._settings.redis or self._redis.start()

    def _start_irc_server(self) -> tuple[str, int]:
        server = IrcServer(self.trace)
        self._start_piece(server)
        return HOST, server.port

    def _start_bot(self, connection: BotConnection) -> None:
        game = self._make_game(self._storage, self.trace)
        self._start_piece(ChatBot(game, self.trace, connection))

    def _start_fleet(self, connection: BotConnection, redis: str) -> KillWorker:
        # Imported here: without workers, asgiref-redis need not be installed.
        from .fleet import Fleet
        from .fleet_bot import FleetBot

        bot = FleetBot(redis, self.trace, connection)
        self._start_piece(bot)
        self._games = f"{bot.run_mark}/"
        fleet = Fleet(redis, self._settings.data, self._settings.workers, bot, self.trace)
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
        """Stop what was started, the last first, each even if another fails."""
        failures: list[PieceFailed] = []
        while self._threads:
            try:
                self._threads.pop().stop()
            except PieceFailed as failure:
                failures.append(failure)
        try:
            self._redis.stop()
        except PieceFailed as failure:
            failures.append(failure)
        if self._games:
            self._storage.forget_games(self._games)
        if failures:
            raise failures[0]


def why_no_fleet(redis: str | None = None) -> str | None:
    """What is missing for workers that have this Redis, or one of our own."""
    if not all(map(importlib.util.find_spec, ("asgiref.redis", "redis"))):
        return "asgiref-redis is not installed"
    if redis is None and find_redis_server() is None:
        return (
            "redis-server is not installed "
            "(Debian and Ubuntu: apt install redis-server; or name a Redis with --redis URL)"
        )
    return None
