"""One server: a Redis of its own, or whichever is the master that sentinels name."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ._driver import LOST, exceptions
from ._errors import Unreachable

Command = tuple[str | bytes | int, ...]


class Single:
    """Sends commands to one server.

    Args:
        client: redis-py's.
        others: clients that belong to it, to be closed as well.
        replica_wait: milliseconds to wait for replicas.
    """

    def __init__(self, client: Any, others: Sequence[Any], replica_wait: int) -> None:
        self._client = client
        self._others = others
        self._replica_wait = replica_wait

    def node_of(self, key: str) -> str:
        return ""

    async def send(self, commands: Sequence[tuple[str, Command]], replicas: int) -> list[Any]:
        """The answers, in which an error of the server is a value. Raises what redis-py raises."""
        if len(commands) == 1 and not replicas:
            try:
                return [await self._client.execute_command(*commands[0][1])]
            except exceptions.ResponseError as error:
                return [error]
        async with self._client.pipeline(transaction=False) as pipeline:
            for _, command in commands:
                pipeline.execute_command(*command)
            if replicas:  # on the same connection: WAIT is for what was written on its own
                pipeline.execute_command("WAIT", replicas, self._replica_wait)
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
        if replicas:
            check_replicas(answers.pop(), replicas)
        return answers

    async def ask(self, *words: str | int) -> list[Any]:
        """The answer of each server that must be there, or what redis-py raises."""
        return [await self._client.execute_command(*words)]

    async def subscriber(self) -> Any:
        return self._client.pubsub()

    async def close(self) -> None:
        for client in (self._client, *self._others):
            with suppress(*LOST):  # what is lost is closed
                await client.aclose()


def check_replicas(answer: Any, replicas: int) -> None:
    """Raise Unreachable if that is not what WAIT answers when enough replicas have everything."""
    if isinstance(answer, BaseException):
        raise answer
    if answer < replicas:
        raise Unreachable(f"Only {answer} of {replicas} replicas are up to date.")
