"""Hears of messages on channels, which may change; comes back by itself.

Messages that are published while it is away are lost, as Redis has it. So whoever listens looks
once in a while anyway, and hears an empty text when it begins, or begins again, to listen to a
channel: what came before that was not heard.

A host that is gone says nothing, and nor does a channel on which nothing happens. So when it has
been quiet for a while the server is asked for a sign of life, and without one it counts as lost.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from ._backoff import Backoff
from ._driver import LOST, heeding_cancellation
from ._tasks import end


class Listener:
    """Listens to some channels of one Redis.

    Args:
        make: gives a subscriber of redis-py with a connection of its own.
        channels: those at first.
        hear: gets a channel and a text.
        patience: seconds of silence after which a sign of life is asked for, and awaited.
    """

    def __init__(
        self,
        make: Callable[[], Awaitable[Any]],
        channels: set[str],
        hear: Callable[[str, str], None],
        patience: float,
    ) -> None:
        self._make = make
        self._channels = channels
        self._hear = hear
        self._patience = patience
        self._changed = asyncio.Event()

    def subscribe(self, channel: str) -> None:
        self._channels.add(channel)
        self._changed.set()

    def unsubscribe(self, channel: str) -> None:
        self._channels.discard(channel)
        self._changed.set()

    async def run(self) -> None:
        """Listen until cancelled."""
        backoff = Backoff()
        while True:
            with suppress(*LOST):
                subscriber = await self._make()
                try:
                    with heeding_cancellation():
                        await subscriber.subscribe(*self._channels)
                    backoff.reset()
                    await self._follow(subscriber, set(self._channels))
                finally:
                    with suppress(*LOST):
                        await subscriber.aclose()
            await asyncio.sleep(backoff.next())

    async def _follow(self, subscriber: Any, known: set[str]) -> None:
        tasks = [
            asyncio.ensure_future(self._read(subscriber)),
            asyncio.ensure_future(self._change(subscriber, known)),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await end(tasks)

    async def _read(self, subscriber: Any) -> None:
        asked = False
        while True:
            with heeding_cancellation():
                message = await subscriber.get_message(timeout=self._patience)
                if message is None:
                    if asked:
                        raise ConnectionError("no sign of life")
                    await subscriber.ping()
            asked = message is None
            if message is None or message["type"] not in ("message", "subscribe"):
                continue
            text = message["data"].decode() if message["type"] == "message" else ""
            self._hear(message["channel"].decode(), text)

    async def _change(self, subscriber: Any, known: set[str]) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            wanted = set(self._channels)
            with heeding_cancellation():
                if wanted - known:
                    await subscriber.subscribe(*(wanted - known))
                if known - wanted:
                    await subscriber.unsubscribe(*(known - wanted))
            known = wanted
