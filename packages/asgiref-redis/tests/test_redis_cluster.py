"""A cluster of three masters with a replica each, of which one fails: the others go on."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import redis_apps
from ledger import Ledger
from pieces import Gateway, echo, running, until, worker
from real_cluster import RealCluster
from real_redis import RealRedis

from asgiref.redis import RedisWorker, status
from asgiref.redis._keys import ConnectionKeys, PartitionKeys, partition_of
from asgiref.redis._status_table import remove_group

pytestmark = pytest.mark.asyncio

PARTITIONS = 16
#: Redis answers before its replicas have what was written, and a failover forgets what they have
#: not. With ``replicas=1`` nothing counts before that, so then nothing is lost.
SETTINGS: dict[str, Any] = {"replicas": 1, "lease": 5}


@pytest_asyncio.fixture
async def cluster(redis_server: None, tmp_path: Path) -> AsyncIterator[RealCluster]:
    async with RealCluster(tmp_path).running() as started:
        yield started


class Scene:
    """A gateway and two workers on a cluster, and where everything is."""

    def __init__(self, cluster: RealCluster, connection: str) -> None:
        self.cluster = cluster
        keys = [PartitionKeys.of(connection, n) for n in range(PARTITIONS)]
        self._masters = [cluster.master_of(each.incoming) for each in keys]
        self.master_of_settings = cluster.master_of(ConnectionKeys.of(connection).settings)
        self.gateway = Gateway(
            cluster.url, connection, partitions=PARTITIONS, backlog=1_000_000, **SETTINGS
        )
        self.workers: list[RedisWorker] = [
            worker(redis_apps.echo, cluster.url, connection, name=name, **SETTINGS)
            for name in ("worker-a", "worker-b")
        ]
        self.ledger = Ledger(self.gateway, 48)

    async def __aenter__(self) -> "Scene":
        async with AsyncExitStack() as stack:
            for each in (self.gateway, *self.workers):
                await stack.enter_async_context(running(each))
            await until(lambda: [len(each.partitions) for each in self.workers] == [8, 8])
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._stack.__aexit__(*error)

    def partitions(self, master: int) -> set[int]:
        return {n for n, each in enumerate(self._masters) if each == master}

    def scopes(self, master: int) -> set[str]:
        partitions = self.partitions(master)
        return {
            each
            for each in self.ledger.scopes
            if partition_of(each.encode(), PARTITIONS) in partitions
        }

    def tokens(self) -> dict[int, int]:
        """The lease of each partition that is held."""
        held = [each._holdings.held for each in self.workers if each._holdings is not None]
        return {n: partition.token for each in held for n, partition in each.items()}

    def judge(self) -> None:
        self.ledger.verify()
        self.ledger.verify_fencing()


@pytest.mark.parametrize(
    ("is_killed", "has_settings"),
    [
        pytest.param(True, True, id="killed-settings"),
        pytest.param(False, False, id="silent-partitions"),
        pytest.param(True, False, id="killed-partitions", marks=pytest.mark.soak),
        pytest.param(False, True, id="silent-settings", marks=pytest.mark.soak),
    ],
)
async def test_while_one_master_is_away_the_partitions_of_the_others_go_on(
    cluster: RealCluster, connection: str, is_killed: bool, has_settings: bool
) -> None:
    """Until the leases on the failed one are over; and after its failover all is answered.

    The master that fails has the lease of the gateway and the members (``settings``), or has not.
    It is gone, or it takes connections and says nothing. Its replica does not take over before the
    test has seen what goes on without both.
    """
    async with Scene(cluster, connection) as scene:
        ledger = scene.ledger
        victim = next(n for n in range(3) if (n == scene.master_of_settings) is has_settings)
        failed, replica = scene.partitions(victim), cluster.replicas[victim]
        assert 0 < len(failed) < PARTITIONS
        waiting, going_on = scene.scopes(victim), ledger.scopes - scene.scopes(victim)
        await cluster.allow_failover(replica, False)
        async with ledger.sending(0.1):
            await ledger.receive_until(lambda: ledger.answered(ledger.scopes) > 500)
            tokens = scene.tokens()
            with away(cluster.masters[victim], is_killed):
                await ledger.receive_until(lambda: not failed & scene.tokens().keys())
                before = ledger.answered(going_on)
                await ledger.receive_until(lambda: ledger.answered(going_on) > before + 500)
                assert scene.tokens() == {n: tokens[n] for n in tokens.keys() - failed}
                assert await cluster.role(replica) == "slave"
                await cluster.allow_failover(replica, True)
                await until(lambda: is_master(cluster, replica))
            before = ledger.answered(waiting)
            await ledger.receive_until(lambda: ledger.answered(waiting) > before + 500)
        await ledger.receive_all()
        scene.judge()
        assert {again for each in going_on for _, again in ledger.heard[each]} == {False}


@pytest.mark.parametrize("count", [1, pytest.param(3, marks=pytest.mark.soak)])
async def test_failovers_under_load_lose_nothing(
    cluster: RealCluster, connection: str, count: int
) -> None:
    async with Scene(cluster, connection) as scene:
        ledger = scene.ledger
        async with ledger.sending(0.1):
            await ledger.receive_until(lambda: ledger.answered(ledger.scopes) > 500)
            for victim in range(count):
                with away(cluster.masters[victim], True):
                    await until(lambda n=victim: is_master(cluster, cluster.replicas[n]))  # type: ignore[misc]
                goal = ledger.answered(scene.scopes(victim)) + 500
                await ledger.receive_until(
                    lambda n=victim, goal=goal: ledger.answered(scene.scopes(n)) > goal  # type: ignore[misc]
                )
        await ledger.receive_all()
        scene.judge()


async def test_gateway_and_workers_start_while_a_master_is_away(
    cluster: RealCluster, connection: str
) -> None:
    """Partitions of the others work at once, its own when it is back; also the URL may name it."""
    scene = Scene(cluster, connection)
    victim = next(n for n in range(3) if n != scene.master_of_settings)
    waiting = scene.scopes(victim)
    await cluster.allow_failover(cluster.replicas[victim], False)
    cluster.masters.insert(0, cluster.masters.pop(victim))  # the first in the URL
    gateway = Gateway(cluster.url, connection, partitions=PARTITIONS, lease=5)
    heard: set[str] = set()
    async with AsyncExitStack() as stack:
        with away(cluster.masters[0], is_killed=False):
            await stack.enter_async_context(running(gateway))
            server = worker(echo, cluster.url, connection, lease=5)
            await stack.enter_async_context(running(server))
            for name in scene.ledger.scopes:
                scope = {"type": "test", "id": name}
                queue = gateway.get_or_create_application_instance(name, scope)
                queue.put_nowait({"type": "say"})
            while heard != scene.ledger.scopes - waiting:
                heard.add((await gateway.heard())["scope"])
        while heard != scene.ledger.scopes:
            heard.add((await gateway.heard())["scope"])


async def test_status_and_remove_group_look_at_all_masters(
    cluster: RealCluster, connection: str
) -> None:
    url = cluster.url
    async with running(Gateway(url, connection, partitions=PARTITIONS)) as gateway:
        async with running(worker(echo, url, connection)) as server:
            await until(lambda: len(server.partitions) == PARTITIONS)
        for number in range(48):
            await gateway.say(f"scope{number}")
        found = await status(url, connection)
        assert sum(each.groups[0].lag for each in found.partitions) == 48
        await remove_group(url, connection, "group")
        found = await status(url, connection)
        assert [each.groups for each in found.partitions] == PARTITIONS * [()]


@contextmanager
def away(server: RealRedis, is_killed: bool) -> Iterator[None]:
    """It is gone, or stopped, and back afterwards: as the replica of whoever has taken over."""
    if is_killed:
        server.kill()
        yield
        server.start()
    else:
        server.pause()
        yield
        server.resume()


async def is_master(cluster: RealCluster, server: RealRedis) -> bool:
    return await cluster.role(server) == "master"
