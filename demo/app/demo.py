"""Starts the pieces of the demo in order, each on its own thread, and stops them in reverse.

Invariant: the main thread only starts the pieces, waits and stops them, so a signal never
interrupts it in the middle of other work. If a piece ends without being asked to, the whole demo
has failed.
"""

import asyncio
import contextlib
import secrets
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
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
from .options import HOST, Settings, bind
from .trace import Trace
from .web import Web, serve

START_SECONDS = 30.0
STOP_SECONDS = 15.0

Work = Callable[[Callable[[], None]], Coroutine[Any, Any, None]]
"""Works until cancelled, and calls its argument when it is ready, perhaps more than once."""


class PieceFailed(Exception):
    """A piece could not start, ended by itself, or did not end when asked; the text says why."""


@contextlib.contextmanager
def _piece(name: str, work: Work, on_end: Callable[[], None]) -> Iterator[None]:
    """Run ``work`` on its own thread and event loop, from its readiness to the block's end.

    Calls ``on_end`` when the piece has ended. Raises ``PieceFailed``.
    """
    cancel: Future[Callable[[], object]] = Future()
    started = threading.Event()

    async def main() -> None:
        threading.current_thread().name = name
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        cancel.set_result(partial(loop.call_soon_threadsafe, task.cancel))
        with contextlib.suppress(asyncio.CancelledError):
            await work(started.set)

    pool = ThreadPoolExecutor(1)
    ended = pool.submit(lambda: asyncio.run(main()))
    ended.add_done_callback(lambda _: started.set())
    ended.add_done_callback(lambda _: on_end())
    try:
        if not started.wait(START_SECONDS) or ended.done():
            raise PieceFailed(f"{name} did not start")
        yield
    finally:
        if cancel.done():
            with contextlib.suppress(RuntimeError):  # the loop is closed: the piece has ended
                cancel.result()()
        try:
            error = ended.exception(STOP_SECONDS)
        except TimeoutError:
            raise PieceFailed(f"{name} did not end in time") from None
        pool.shutdown()
        if error:  # SystemExit too: uvicorn raises it if it cannot start
            raise PieceFailed(f"{name} failed: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def running(settings: Settings, on_end: Callable[[], None] = lambda: None) -> Iterator[int]:
    """Run the demo for the duration of a ``with`` block; yield its port.

    ``on_end`` is called, on another thread, whenever a piece has ended. Raises ``PieceFailed``, and
    ``NoServer`` if there is no PostgreSQL for the workers.
    """
    with ExitStack() as stack:
        trace = Trace()
        folder = stack.enter_context(TemporaryDirectory(prefix="asgiref-demo-games-"))
        games = Path(folder, "games.sqlite3")
        # Start the database first, because it may be missing.
        database = _database(settings, stack, on_end) if settings.workers else None
        listener = stack.enter_context(bind(settings.port))
        port: int = listener.getsockname()[1]
        url, fleet = f"ws://{HOST}:{port}/chat", None
        if database is None:
            bot = Bot(GuessingGame(games), url=url, trace=trace)
        else:
            bot = FleetBot(database, url=url, trace=trace, name="the demo's gateway")
            fleet = Fleet(database, games, settings.workers, bot, trace)
        facts = {"bot": NICK, "url": url, "workers": settings.workers, "replace": REPLACE_SECONDS}
        flask = make_flask(settings.data, trace, facts, fleet.kill if fleet else lambda name: False)
        web = Web(flask, trace, settings.state / "reference")
        stack.enter_context(_piece("uvicorn", partial(serve, web, listener), on_end))
        stack.enter_context(_piece("bot", bot.work, on_end))
        if fleet:
            stack.enter_context(_piece("fleet", fleet.work, on_end))
        yield port


def _database(settings: Settings, stack: ExitStack, on_end: Callable[[], None]) -> Database:
    """Create a schema of our own in the given database, or in a server of our own."""
    server = own_postgres.OwnPostgres(on_end)
    stack.callback(server.stop)
    # Each demo has its own schema: if two gateways shared one, one of them would wait.
    schema = f"asgiref_demo_{secrets.token_hex(4)}"
    database = Database(settings.database or server.start(), schema, timeout=TIMEOUT_SECONDS)
    _call(partial(migrate, database, partitions=PARTITIONS), "the database cannot be used")
    if settings.database:
        stack.callback(_call, partial(_drop_schema, database), f"the schema {schema} remains")
    return database


def _call(query: Callable[[], Coroutine[Any, Any, object]], complaint: str) -> None:
    try:
        async_to_sync(query)()
    except Exception as error:  # the driver raises many kinds
        raise PieceFailed(f"{complaint}: {error or repr(error)}") from error


async def _drop_schema(database: Database) -> None:
    connection = await database.connect()
    await connection.execute(f'DROP SCHEMA "{database.schema}" CASCADE')
    await connection.close()
