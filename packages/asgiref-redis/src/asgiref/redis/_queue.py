"""What `get_or_create_application_instance` of a gateway gives: the way to a scope elsewhere."""

import asyncio
from typing import Any, NoReturn

from ._backlog import Backlog


class ScopeQueue(asyncio.Queue[Any]):
    """The input queue of a scope whose application runs in some worker.

    It is an ``asyncio.Queue`` by type, as in `StatelessServer`. While the gateway's backlog is full
    ``put`` waits, and ``put_nowait`` raises asyncio.QueueFull. ``join`` waits until Redis has all
    that was put into any queue of the gateway. Nothing can be got from it.

    Before the gateway runs, what is put waits for that. After its end, putting raises
    RedisServerError, and so does joining if something did not get to Redis.

    Args:
        backlog: where what is put goes: the gateway's, which makes these queues.
        scope_id: the scope's.
        scope: the scope, encoded.
    """

    def __init__(self, backlog: Backlog, scope_id: str, scope: bytes) -> None:
        self.scope_id: str = scope_id
        self._id = scope_id.encode()
        self._scope = scope
        self._backlog = backlog

    def __repr__(self) -> str:
        return f"<ScopeQueue of {self.scope_id!r}>"

    @property
    def maxsize(self) -> int:
        return 0

    def qsize(self) -> int:
        return 0

    def empty(self) -> bool:
        return True

    def full(self) -> bool:
        return self._backlog.is_full()

    def put_nowait(self, item: Any) -> None:
        """Have a message stored. Any thread of the server may call it.

        Args:
            item: the message: a mapping.

        Raises:
            asyncio.QueueFull: if the gateway's backlog has no room.
            RedisServerError: if the gateway has ended.
            TypeError: if the message is no mapping, or has what the codec cannot carry.
            ValueError: if it is too large.
        """
        self._backlog.take(self._id, self._scope, item)

    async def put(self, item: Any) -> None:
        """Likewise, after a wait for room in the backlog.

        Args:
            item: the message: a mapping.

        Raises:
            RedisServerError: if the gateway has ended, or ends before there is room; others as
                `put_nowait`.
        """
        while self._backlog.is_full():
            await self._backlog.room()
        self.put_nowait(item)

    async def join(self) -> None:
        """Wait until Redis has all that was put into any queue of the gateway.

        Raises:
            RedisServerError: if the gateway ends before that.
        """
        await self._backlog.all_stored()

    def get_nowait(self) -> NoReturn:
        raise NotImplementedError(
            f"The messages of scope {self.scope_id!r} are received by a worker, not here."
        )

    async def get(self) -> NoReturn:
        self.get_nowait()

    def task_done(self) -> NoReturn:
        self.get_nowait()
