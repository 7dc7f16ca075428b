"""A real cluster: masters, each with one replica, on free ports; nodes are killed and come back."""

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from pieces import until
from real_redis import RealRedis
from redis.asyncio import Redis
from redis.asyncio.cluster import key_slot

SLOTS = 16384
#: Milliseconds after which a node that does not answer the others counts as failed.
NODE_TIMEOUT = 1000


def free_port_pair() -> int:
    """A port that is free, and so is the one 10,000 above, on which nodes talk to each other.

    Both are below those that the system gives to whoever asks for any.
    """
    while True:
        port = random.randrange(12_000, 22_000)
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for each in (port, port + 10_000):
                stack.enter_context(socket.create_server(("127.0.0.1", each)))
            return port


class RealCluster:
    """Three masters, of which each has a third of the slots, and a replica for each.

    Attributes:
        masters, replicas: the servers, a replica at the same place as its master.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.masters: list[RealRedis] = []
        self.replicas: list[RealRedis] = []
        self._clients: dict[int, Redis] = {}
        for number in range(6):
            place = folder / f"node{number}"
            place.mkdir()
            server = RealRedis(
                place,
                *("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT)),
                *("--cluster-require-full-coverage", "no", "--repl-diskless-sync-delay", "0"),
                *("--appendfsync", "everysec"),  # a master that is killed does not come back
                *options,
                port=free_port_pair(),
            )
            (self.masters if number < 3 else self.replicas).append(server)

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.masters)
        return f"redis+cluster://{hosts}"

    async def say(self, server: RealRedis, *words: Any) -> Any:
        return await self._clients[server.port].execute_command(*words)

    def master_of(self, key: str) -> int:
        """The number of the master that a key had at first."""
        return key_slot(key.encode()) * 3 // SLOTS

    async def _has_all(self, server: RealRedis) -> bool:
        said = (await self.say(server, "CLUSTER", "INFO")).decode()
        return "cluster_state:ok" in said and "cluster_known_nodes:6\r" in said

    async def allow_failover(self, replica: RealRedis, allowed: bool) -> None:
        word = "no" if allowed else "yes"
        await self.say(replica, "CONFIG", "SET", "cluster-replica-no-failover", word)

    async def role(self, server: RealRedis) -> str:
        return str((await self._clients[server.port].info("replication"))["role"])

    @asynccontextmanager
    async def running(self) -> AsyncIterator["RealCluster"]:
        servers = [*self.masters, *self.replicas]
        async with AsyncExitStack() as stack:
            for server in servers:
                stack.callback(server.stop)
                server.start()
                client = Redis.from_url(server.url)
                self._clients[server.port] = await stack.enter_async_context(client)
            for number, master in enumerate(self.masters):
                first, last = -(-number * SLOTS // 3), -(-(number + 1) * SLOTS // 3) - 1
                await self.say(master, "CLUSTER", "ADDSLOTSRANGE", first, last)
                await self.say(master, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            for server in servers[1:]:
                await self.say(server, "CLUSTER", "MEET", "127.0.0.1", servers[0].port)
            for server in servers:
                await until(lambda server=server: self._has_all(server))  # type: ignore[misc]
            for master, replica in zip(self.masters, self.replicas, strict=True):
                name = await self.say(master, "CLUSTER", "MYID")
                await self._replicate(replica, name.decode())

                async def follows(master: RealRedis = master) -> bool:
                    return bool(await self.say(master, "WAIT", 1, 100))

                await until(follows)
            yield self

    async def _replicate(self, replica: RealRedis, name: str) -> None:
        """A node may not know the master yet that it is to follow."""
        while True:
            try:
                await self.say(replica, "CLUSTER", "REPLICATE", name)
            except Exception as error:
                if "Unknown node" not in str(error):
                    raise
                await asyncio.sleep(0.05)
            else:
                return
