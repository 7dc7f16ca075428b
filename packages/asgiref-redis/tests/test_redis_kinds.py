"""Sentinels, a cluster, TLS and users with few rights: real ones."""

import itertools
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from ledger import Ledger
from pieces import Gateway, echo, running, until, worker
from processes import worker_process
from real_redis import RealRedis, free_port
from redis.asyncio import Redis
from redis.asyncio.cluster import key_slot

from asgiref.redis import status
from asgiref.redis._keys import PartitionKeys, partition_of

pytestmark = pytest.mark.asyncio


@pytest.fixture
def servers(redis_server: None) -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def started(stack: ExitStack, folder: Path, *options: str, **settings: Any) -> RealRedis:
    folder.mkdir()
    server = RealRedis(folder, *options, **settings)
    stack.callback(server.stop)
    return server.start()


async def echoes(url: str, connection: str) -> None:
    """Messages to many scopes come back, in order."""
    async with running(Gateway(url, connection)) as gateway, running(worker(echo, url, connection)):
        for number in range(20):
            for name in ("ada", "ben", "cleo", "dora", "eve"):
                await gateway.say(name, number=number)
        heard: dict[str, list[int]] = {}
        for _ in range(100):
            message = await gateway.heard()
            heard.setdefault(message["scope"], []).append(message["number"])
        assert len(heard) == 5
        assert all(numbers == list(range(20)) for numbers in heard.values())


async def alone(server: RealRedis, url: str) -> str:
    """The URL of a cluster of one node, which has all slots."""
    async with Redis.from_url(url) as client:
        await client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)

        async def works() -> bool:
            return "cluster_state:ok" in str(await client.execute_command("CLUSTER", "INFO"))

        await until(works)
    return url.replace("://", "+cluster://")


async def test_in_a_cluster_no_command_spans_partitions(
    servers: ExitStack, tmp_path: Path, connection: str
) -> None:
    """One node with all slots refuses keys of two slots in one command, as many do."""
    server = started(servers, tmp_path / "node", "--cluster-enabled", "yes")
    url = await alone(server, server.url)
    await echoes(url, connection)
    found = await status(url, connection)
    assert sum(each.groups[0].lag for each in found.partitions) == 0


async def test_a_slot_that_no_node_has_holds_up_its_partition_only(
    servers: ExitStack, tmp_path: Path, connection: str
) -> None:
    """As one that is on its way from a node to another."""
    options = ("--cluster-enabled", "yes", "--cluster-require-full-coverage", "no")
    server = started(servers, tmp_path / "node", *options)
    url = await alone(server, server.url)
    slot = key_slot(PartitionKeys.of(connection, 0).incoming.encode())
    names = [f"scope{number}" for number in range(40)]
    held_up = {name for name in names if partition_of(name.encode(), 8) == 0}
    async with (
        running(Gateway(url, connection, lease=30)) as gateway,
        running(worker(echo, url, connection, lease=30)) as workers,
        Redis.from_url(server.url) as client,
    ):
        await until(lambda: len(workers.partitions) == 8)
        await client.execute_command("CLUSTER", "DELSLOTS", slot)
        for turn in range(20):
            for name in names:
                scope = {"type": "test", "id": name}
                queue = gateway.get_or_create_application_instance(name, scope)
                queue.put_nowait({"type": "say", "turn": turn})
            heard = {(await gateway.heard())["scope"] for _ in range(40 - len(held_up))}
            assert heard == set(names) - held_up
        await client.execute_command("CLUSTER", "ADDSLOTS", slot)
        for _ in range(20 * len(held_up)):
            assert (await gateway.heard())["scope"] in held_up


async def test_a_cluster_needs_few_connections_for_many_partitions(
    servers: ExitStack, tmp_path: Path, connection: str
) -> None:
    server = started(servers, tmp_path / "node", "--cluster-enabled", "yes")
    url = await alone(server, server.url)
    async with running(Gateway(url, connection, partitions=300, lease=10)) as gateway:
        for number in range(1000):
            queue = gateway.get_or_create_application_instance(f"scope{number}", {"type": "t"})
            queue.put_nowait({"type": "say"})
        await queue.join()
        async with Redis.from_url(server.url) as client:
            assert len(await client.client_list()) < 10


async def test_a_failover_by_sentinels_loses_nothing(
    servers: ExitStack, tmp_path: Path, connection: str
) -> None:
    """With ``replicas=1``, what was accepted is on a replica, and the best one becomes master."""
    master = started(servers, tmp_path / "master")
    port = str(master.port)
    replicas = [
        started(servers, tmp_path / name, "--replicaof", "127.0.0.1", port) for name in ("a", "b")
    ]
    async with Redis.from_url(master.url) as client:
        while await client.execute_command("WAIT", 2, 100) < 2:
            pass
    places = []
    for number in range(3):
        folder = tmp_path / f"sentinel{number}"
        folder.mkdir()
        configuration = folder / "sentinel.conf"
        configuration.write_text(
            f"sentinel monitor main 127.0.0.1 {master.port} 2\n"
            "sentinel down-after-milliseconds main 500\n"
            "sentinel failover-timeout main 3000\n"
        )
        sentinel = RealRedis(folder, str(configuration), "--sentinel", kind="sentinel")
        servers.callback(sentinel.stop)
        sentinel.start()
        places.append(f"127.0.0.1:{sentinel.port}")
    async with Redis.from_url(places[0].join(("redis://", ""))) as client:
        # A failover needs sentinels that know each other and the replicas.
        async def know_each_other() -> bool:
            facts = str(await client.execute_command("SENTINEL", "MASTER", "main"))
            words = re.findall(r"[\w-]+", facts.replace("b'", "'"))
            found_of = dict(itertools.pairwise(words))
            return (found_of["num-other-sentinels"], found_of["num-slaves"]) == ("2", "2")

        await until(know_each_other)
    url = f"redis+sentinel://{','.join(places)}/main"
    process = worker_process(tmp_path, url, connection, "echo", "--replicas", "1")
    servers.callback(process.clean_up)
    async with running(Gateway(url, connection, replicas=1, lease=2)) as gateway:
        ledger = Ledger(gateway, 10)
        async with ledger.sending():
            await ledger.receive_from(process.pid, tell=100)
            master.kill()
            await ledger.receive_from(process.pid, tell=300)
        await ledger.receive_all()
        ledger.verify()
        ledger.verify_fencing()
    roles = []
    for replica in replicas:
        async with Redis.from_url(replica.url) as client:
            roles.append((await client.info())["role"])
    assert sorted(roles) == ["master", "slave"]


async def test_a_user_needs_the_rights_to_its_keys_and_channels_only(
    servers: ExitStack, tmp_path: Path, connection: str
) -> None:
    server = started(servers, tmp_path / "node")
    async with Redis.from_url(server.url) as client:
        rights = "on >secret ~asgiref:* &asgiref:* +@all -@dangerous +info"
        await client.execute_command("ACL", "SETUSER", "worker", *rights.split())
        await client.execute_command("ACL", "SETUSER", "default", "off")
    await echoes(server.url.replace("//", "//worker:secret@"), connection)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A key, and a certificate for 127.0.0.1 that it has signed itself."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return key, certificate


async def test_tls(
    servers: ExitStack, tmp_path: Path, connection: str, certificate: tuple[Path, Path]
) -> None:
    port = free_port()
    started(
        servers,
        tmp_path / "node",
        *("--tls-port", str(port), "--tls-auth-clients", "no"),
        *("--tls-key-file", str(certificate[0])),
        *("--tls-cert-file", str(certificate[1])),
    )
    await echoes(f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate[1]}", connection)


async def test_tls_in_a_cluster(
    servers: ExitStack, tmp_path: Path, connection: str, certificate: tuple[Path, Path]
) -> None:
    """Also the connection on which gateway and workers are woken."""
    port = free_port()
    server = started(
        servers,
        tmp_path / "node",
        *("--cluster-enabled", "yes", "--tls-cluster", "yes", "--tls-auth-clients", "no"),
        *("--tls-port", str(port), "--tls-key-file", str(certificate[0])),
        *("--tls-cert-file", str(certificate[1]), "--tls-ca-cert-file", str(certificate[1])),
    )
    query = f"?ssl_ca_certs={certificate[1]}"
    url = await alone(server, f"rediss://127.0.0.1:{port}{query}")
    async with (
        running(Gateway(url, connection, lease=60)) as gateway,
        running(worker(echo, url, connection, lease=60)),
    ):
        for number in range(5):  # with such a lease nobody looks without being woken
            await gateway.say("ada", number=number)
            assert (await gateway.heard())["number"] == number


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_both_codecs_are_read_by_everybody(
    shared_redis: RealRedis, connection: str, codec: str
) -> None:
    url = shared_redis.url
    async with (
        running(Gateway(url, connection, codec=codec)) as gateway,
        running(worker(echo, url, connection)),
    ):
        await gateway.say("ada", text="höre")
        assert await gateway.heard() == {"type": "say", "text": "höre", "scope": "ada"}


async def test_msgpack_carries_bytes(shared_redis: RealRedis, connection: str) -> None:
    url = shared_redis.url
    async with (
        running(Gateway(url, connection, codec="msgpack")) as gateway,
        running(worker(echo, url, connection, codec="msgpack")),
    ):
        await gateway.say("ada", data=b"\x00\xff")
        assert (await gateway.heard())["data"] == b"\x00\xff"
