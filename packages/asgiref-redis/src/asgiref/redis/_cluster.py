"""A cluster: each key has a node, nodes fail one by one, and the others go on.

Commands go to each node in one pipeline of its own, all nodes at the same time. What a node does
not answer is `Unanswered`, call by call; the answers of the others count. (redis-py's own pipeline
over several nodes raises when one of them is away, and nobody learns the answers of the others.
Single commands instead need a connection for each: 64 calls to one node took 13 to 17 ms, 10 of
them redis-py's computing, and in a pipeline 3 ms. A gateway and a worker with 64 partitions had 205
connections to it, and now have 9.)

A node that has failed is away: what is for it is `Unanswered` at once, and waits for no timeout,
until the one task that looks after the node finds that it answers again, or that its slots have
become another node's. Nothing else looks for the cluster's new shape: redis-py's commands would do
so before whatever comes next, for whichever node that is, and let it wait for the dead one.

Redirections are not followed. A node that says MOVED has done nothing, so the new shape is looked
for, and the call made again by whoever made it. While a slot moves (ASK, TRYAGAIN) a script of
several keys cannot run anywhere; it can when the slot has arrived.
"""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ._backoff import Backoff
from ._driver import LOST, asynchronous, exceptions, is_transient, text_of
from ._errors import Unreachable
from ._single import Command, check_replicas
from ._tasks import end


class Unanswered(Unreachable):
    """In place of an answer: the node that it should come from has not given it."""


class Cluster:
    """Sends commands to the nodes that have their keys.

    Args:
        client: redis-py's.
        describe: which cluster it is, for errors.
        replica_wait: milliseconds to wait for replicas.
    """

    def __init__(self, client: Any, describe: str, replica_wait: int) -> None:
        self._client = client
        self._client.commands_parser = _NoParser()
        self._describe = describe
        self._replica_wait = replica_wait
        self._away: dict[str, asyncio.Task[None]] = {}
        self._looking = asyncio.Lock()

    def _node(self, key: str) -> Any:
        """The node, or None for a slot that nobody has."""
        try:
            return self._client.get_node_from_key(key)
        except LOST:
            return None

    def node_of(self, key: str) -> str:
        node = self._node(key)
        return "" if node is None else str(node.name)

    async def send(self, commands: Sequence[tuple[str, Command]], replicas: int) -> list[Any]:
        """The answers, in which errors of nodes are values, and `Unanswered`; raises nothing."""
        places: dict[str, list[int]] = {}
        nodes: dict[str, Any] = {}
        for n, (key, _) in enumerate(commands):
            node = self._node(key)
            name = "" if node is None else node.name
            nodes[name] = node
            places.setdefault(name, []).append(n)
        sending = [
            self._send_to(nodes[name], [commands[n][1] for n in numbers], replicas)
            for name, numbers in places.items()
        ]
        if len(sending) == 1:
            return await sending[0]
        answers: list[Any] = [None] * len(commands)
        for numbers, found in zip(places.values(), await asyncio.gather(*sending), strict=True):
            for n, answer in zip(numbers, found, strict=True):
                answers[n] = answer
        return answers

    async def _send_to(self, node: Any, commands: Sequence[Command], replicas: int) -> list[Any]:
        if node is None:
            self._look_after("", None)
            return self._unanswered("no node has the slot", len(commands))
        if node.name in self._away:
            return self._unanswered(f"{node.name} is away", len(commands))
        try:
            answers = await self._pipeline(node, commands, replicas)
        except Unreachable as error:  # too few replicas
            return self._unanswered(str(error), len(commands))
        except LOST as error:
            self._look_after(node.name, node)
            return self._unanswered(text_of(error), len(commands))
        return [self._judged(node, answer) for answer in answers]

    async def _pipeline(self, node: Any, commands: Sequence[Command], replicas: int) -> list[Any]:
        pipeline = self._client.pipeline()
        for command in commands:
            pipeline.execute_command(*command, target_nodes=node)
        if replicas:  # on the same connection: WAIT is for what was written on its own
            pipeline.execute_command("WAIT", replicas, self._replica_wait, target_nodes=node)
        answers: list[Any] = await pipeline.execute(raise_on_error=False, allow_redirections=False)
        if replicas:
            check_replicas(answers.pop(), replicas)
        return answers

    def _judged(self, node: Any, answer: Any) -> Any:
        if not isinstance(answer, BaseException):
            return answer
        if isinstance(answer, exceptions.ResponseError) and not is_transient(answer):
            return answer
        if isinstance(answer, exceptions.MovedError | exceptions.ClusterDownError):
            self._look_after("", None)  # the node is there, and has not the slot
        elif not isinstance(answer, exceptions.TryAgainError | exceptions.AskError):
            self._look_after(node.name, node)
        return self._unanswered(text_of(answer), 1)[0]

    def _unanswered(self, why: str, count: int) -> list[Unanswered]:
        answer = Unanswered(f"{self._describe} does not answer everything: {why}.")
        return [answer] * count

    # Nodes that are away

    def _look_after(self, name: str, node: Any) -> None:
        """Count a node as away until it is back; without one, only look for the new shape."""
        if name not in self._away:
            self._away[name] = asyncio.get_running_loop().create_task(self._until_back(name, node))

    async def _until_back(self, name: str, node: Any) -> None:
        backoff = Backoff(most=1.0)
        try:
            while True:
                if await self._is_settled(node):
                    return
                await asyncio.sleep(backoff.next())
        finally:
            del self._away[name]

    async def _is_settled(self, node: Any) -> bool:
        """Look at the cluster's shape; whether nothing need be asked of a node, or it answers."""
        with suppress(*LOST):
            async with self._looking:
                await self._client.nodes_manager.initialize()
            primaries = self._client.get_primaries()
            if node is None or node.name not in {each.name for each in primaries}:
                return True
            [answer] = await self._pipeline(node, [("PING",)], 0)
            return not isinstance(answer, BaseException)
        return False

    # Everything else

    async def ask(self, *words: str | int) -> list[Any]:
        """The answer of each master, or the error; raises redis-py's if there is no cluster."""
        await self._client.initialize()
        nodes = self._client.get_primaries()
        asking = (self._pipeline(node, [words], 0) for node in nodes)
        found = await asyncio.gather(*asking, return_exceptions=True)
        for node, each in zip(nodes, found, strict=True):
            if isinstance(each, LOST):
                self._look_after(node.name, node)
        return [each if isinstance(each, BaseException) else each[0] for each in found]

    async def subscriber(self) -> Any:
        """At any node: each passes on what all of them publish."""
        nodes = [node for node in self._client.get_nodes() if node.name not in self._away]
        if not nodes:
            raise ConnectionError("No node of the cluster answers.")
        return _Subscriber(random.choice(nodes))

    async def close(self) -> None:
        await end(self._away.values())
        with suppress(*LOST):
            await self._client.aclose()


class _NoParser:
    """In place of what asks the first master for all commands, to find the keys in them.

    Here everything says itself which node it is for; and that master may be the one that is away.
    """

    async def initialize(self, node: Any) -> None:
        pass


class _Subscriber:
    """A subscriber with a connection as the node's others, but outside their pool."""

    def __init__(self, node: Any) -> None:
        pool = asynchronous.ConnectionPool(
            connection_class=node.connection_class, **node.connection_kwargs
        )
        self._client = asynchronous.Redis.from_pool(pool)
        self._subscriber = self._client.pubsub()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._subscriber, name)

    async def aclose(self) -> None:
        await self._subscriber.aclose()
        await self._client.aclose()
