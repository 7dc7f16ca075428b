"""Starts the pieces of the demo in order, each on its own thread, and stops them in reverse.

Invariant: the main thread only starts the pieces, waits and stops them, so a signal never
interrupts it in the middle of other work. If a piece ends without being asked to, the whole demo
has failed.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import own_postgres  # from tools/

from asgiref.postgres import Database, migrate
from asgiref.sync import async_to_sync

from .bot import NICK, Bot, FleetBot
from .fleet import PARTITIONS, REPLACE_SECONDS, TIMEOUT_SECONDS, Fleet
from .game import GuessingGame
from .guestbook import make_flask
from .options import HOST, bind
from .storage import Storage
from .trace import Trace
from .web import Web, serve

START_SECONDS = 30.0
STOP_SECONDS = 15.0
MAX_SCOPES = 500

Work = Callable[[Callable[[], None]], Coroutine[Any, Any, None]]
"""Works until cancelled, and calls its argument when it is ready, perhaps more than once."""


class PieceFailed(Exception):
    """A piece could not start, ended by itself, or did not end when asked; the text says why."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings from the command line.

    ``reference`` is the folder with asgiref 3.13.0. ``workers`` is the number of processes for the
    bot's scopes; ``database`` is the URL of their database, or ``None`` for our own PostgreSQL.
    """

    data: Path
    port: int
    reference: Path
    workers: int = 0
    database: str | None = None


class Piece:
    """Runs ``work`` on its own thread and event loop; calls ``on_end`` when it has ended."""

    def __init__(self, name: str, work: Work, on_end: Callable[[], None]) -> None:
        self._name, self._work, self._on_end = name, work, on_end
        self._ready: Future[None] = Future()
        self._cancel: Callable[[], object] = lambda: None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=name)

    def start(self) -> None:
        """Start, and return once the piece is ready. Raises ``PieceFailed`` if it ends instead."""
        self._thread.start()
        try:
            self._ready.result(START_SECONDS)
        except TimeoutError:
            self.stop()
            raise PieceFailed(f"{self._name} did not start in time") from None

    def stop(self) -> None:
        """Stop, and return once the thread has ended. Raises ``PieceFailed``."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: the piece has ended
            self._cancel()
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            raise PieceFailed(f"{self._name} did not end in time")
        if self._failure is not None:
            raise PieceFailed(f"{self._name} failed: {self._failure!r}") from self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # SystemExit too: uvicorn raises it when it cannot start
            self._failure = error
        finally:
            if not self._ready.done():
                reason = self._failure or "it ended at once"
                failure = PieceFailed(f"{self._name} could not start: {reason}")
                self._ready.set_exception(failure)
            self._on_end()

    async def _main(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._cancel = partial(asyncio.get_running_loop().call_soon_threadsafe, task.cancel)

        def ready() -> None:
            if not self._ready.done():
                self._ready.set_result(None)

        await self._work(ready)


@contextlib.contextmanager
def running(
    settings: Settings,
    on_end: Callable[[], None] = lambda: None,
    make_game: Callable[[Path], GuessingGame] = GuessingGame,
) -> Iterator[int]:
    """Run the demo for the duration of a ``with`` block; yield its port. Raises ``PieceFailed``.

    ``on_end`` is called, on another thread, whenever a piece has ended.
    """
    with ExitStack() as stack:

        def start(name: str, work: Work) -> None:
            piece = Piece(name, work, on_end)
            piece.start()
            stack.callback(piece.stop)

        trace, storage = Trace(), Storage(settings.data)
        folder = stack.enter_context(TemporaryDirectory(prefix="asgiref-demo-games-"))
        games = Path(folder, "games.sqlite3")
        # Start the database first, because it may be missing.
        database = stack.enter_context(_database(settings, on_end)) if settings.workers else None
        listener = stack.enter_context(bind(settings.port))
        port: int = listener.getsockname()[1]
        url, fleet = f"ws://{HOST}:{port}/chat", None
        if database is None:
            bot = Bot(make_game(games), MAX_SCOPES, url=url, trace=trace)
        else:
            bot = FleetBot(database, url=url, trace=trace, name="the demo's gateway")
            fleet = Fleet(database, games, settings.workers, bot, trace)
        facts = {"bot": NICK, "url": url, "workers": settings.workers, "replace": REPLACE_SECONDS}
        kill = fleet.kill if fleet else lambda name: False
        web = Web(make_flask(storage, trace, facts, kill), trace, settings.reference)
        start("uvicorn", partial(serve, web, listener, trace))
        start("bot", bot.work)
        if fleet:
            start("fleet", fleet.work)
        yield port


@contextlib.contextmanager
def _database(settings: Settings, on_end: Callable[[], None]) -> Iterator[Database]:
    """Yield a schema of our own in the given database, or in a server of our own."""
    server = own_postgres.OwnPostgres(on_end)
    try:
        url = settings.database or server.start()
        # Each demo has its own schema: if two gateways shared one, one of them would wait.
        schema = f"asgiref_demo_{secrets.token_hex(4)}"
        database = Database(url, schema, timeout=TIMEOUT_SECONDS)
        _call("the database cannot be used", migrate, database, partitions=PARTITIONS)
        try:
            yield database
        finally:
            if settings.database:
                _call(f"the schema {schema} remains in the database", _drop_schema, database)
    except own_postgres.NoServer as error:
        raise PieceFailed(f"the workers need a database: {error}") from None
    finally:
        server.stop()


def _call(complaint: str, query: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    try:
        async_to_sync(query)(*arguments, **options)
    except Exception as error:  # the driver raises many kinds
        raise PieceFailed(f"{complaint}: {error or repr(error)}") from error


async def _drop_schema(database: Database) -> None:
    connection = await database.connect()
    try:
        await connection.execute(f'DROP SCHEMA "{database.schema}" CASCADE')
    finally:
        await connection.close()
