"""Long and rare faults under load: failover, a full disk, a restart, workers coming and going."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from chat import until
from processes import empty, load, owners, recorder
from real_postgres import RealPostgres, real_postgres

from asgiref.postgres import Database, migrate, send

pytestmark = [pytest.mark.asyncio, pytest.mark.thorough, pytest.mark.timeout(400)]

REPEATS = int(os.environ.get("ASGIREF_POSTGRES_REPEATS", "1"))
MINUTES = float(os.environ.get("ASGIREF_POSTGRES_MINUTES", "2"))


@pytest.fixture(params=range(REPEATS), autouse=True)
def repetition(request: pytest.FixtureRequest) -> int:
    return int(request.param)


async def test_a_server_restart_loses_nothing(database: str, server: RealPostgres) -> None:
    async with load(database, database) as (gateway, _):
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        await gateway.answers(500)


async def test_a_gateway_killed_under_load_is_replaced_and_loses_no_event(
    database: str, tmp_path: Path
) -> None:
    path = tmp_path / "events"
    gateways = [await recorder(database, path), await recorder(database, path)]
    first = await owner_of(gateways)
    second = next(each for each in gateways if each is not first)
    connection = await asyncpg.connect(database)
    try:
        async with load_by_sending(database, 1000) as halfway:
            await halfway.wait()
            first.kill()
            assert second.stdout is not None
            assert await second.stdout.readline() == b"owner\n"
        await until(lambda: empty(connection))
    finally:
        await connection.close()
        for gateway in gateways:
            if gateway.returncode is None:
                gateway.terminate()
            await gateway.wait()
    seen: dict[str, int] = {}
    for line in path.read_text().splitlines():
        scope_id, number, redelivered = line.split()
        assert int(number) == seen.get(scope_id, 0) or redelivered == "1", line
        seen[scope_id] = max(seen.get(scope_id, 0), int(number) + 1)
    assert seen == {f"scope{number}": 100 for number in range(10)}


async def owner_of(
    gateways: list[asyncio.subprocess.Process],
) -> asyncio.subprocess.Process:
    """Return the first gateway that reports that it is the owner."""
    reads = {
        asyncio.ensure_future(each.stdout.readline()): each for each in gateways if each.stdout
    }
    done, waiting = await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)
    for each in waiting:
        each.cancel()
    await asyncio.wait(reads)
    return reads[done.pop()]


@asynccontextmanager
async def load_by_sending(database: str, count: int) -> AsyncIterator[asyncio.Event]:
    """Have a worker echo ``count`` messages for ten scopes; set the event after half of them."""
    from processes import Workers

    halfway = asyncio.Event()

    async def run() -> None:
        connection = await asyncpg.connect(database)
        for number in range(count):
            message = {"type": "count", "number": number // 10}
            await send(f"scope{number % 10}", message, connection=connection)
            if number == count // 2:
                halfway.set()
        await connection.close()

    workers = Workers(database)
    await workers.add()
    sending = asyncio.ensure_future(run())
    try:
        yield halfway
        await sending
        async with asyncio.timeout(60):
            connection = await asyncpg.connect(database)
            await until(lambda: empty(connection))
            await connection.close()
    finally:
        sending.cancel()
        await workers.end()


async def test_workers_that_come_and_go_at_random_lose_nothing(database: str) -> None:
    chance = random.Random(int(os.environ.get("ASGIREF_POSTGRES_SEED", "1")))
    async with load(database, database, MINUTES * 60 + 120) as (gateway, workers):
        end = asyncio.get_running_loop().time() + MINUTES * 60
        while asyncio.get_running_loop().time() < end:
            if len(workers.processes) < 3 and chance.random() < 0.6:
                await workers.add()
            elif len(workers.processes) > 1:
                leaving = workers.processes.pop(chance.randrange(len(workers.processes)))
                leaving.send_signal(chance.choice([signal.SIGTERM, signal.SIGKILL]))
                await leaving.wait()
            await gateway.answers(chance.randrange(1, 1000))


async def test_a_failover_to_a_replica_loses_nothing() -> None:
    with real_postgres() as primary:
        await migrate(Database(primary.url), partitions=16)
        with replica_of(primary) as replica:
            # Only commits that the replica has confirmed survive the loss of the primary.
            await set_and_reload(primary, "synchronous_standby_names", "*")
            url = (
                f"postgresql://postgres@127.0.0.1:{primary.port},127.0.0.1:{replica.port}/postgres"
            )
            async with load(url, url, 180) as (gateway, _):
                await asyncio.to_thread(primary.kill)
                replica.promote()
                await gateway.answers(2000)
                await owners(replica.url, 2)


async def set_and_reload(server: RealPostgres, name: str, value: str) -> None:
    async def has_set() -> bool:
        with contextlib.suppress(asyncpg.PostgresError, OSError):
            connection = await asyncpg.connect(server.url)
            try:
                await connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
                await connection.execute("SELECT pg_reload_conf()")
            finally:
                await connection.close()
            return True
        return False

    await until(has_set)


@contextlib.contextmanager
def replica_of(primary: RealPostgres) -> Iterator[RealPostgres]:
    """Start a server that replicates ``primary``."""
    with tempfile.TemporaryDirectory(
        prefix="asgiref-postgres-", ignore_cleanup_errors=True
    ) as name:
        os.chmod(name, 0o755)
        replica = RealPostgres(Path(name), primary.binaries)
        replica.copy(primary)
        replica.start()
        try:
            yield replica
        finally:
            replica.stop(signal.SIGQUIT)


async def test_a_full_disk_loses_nothing() -> None:
    with small_disk(160) as directory:
        server = RealPostgres(directory, max_wal_size="32MB", min_wal_size="32MB")
        server.initialize()
        server.start()
        try:
            await migrate(Database(server.url), partitions=16)
            async with load(server.url, server.url, 180) as (gateway, _):
                filler = directory / "filler"
                with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                    while True:
                        file.write(bytes(1 << 16))
                await until(gateway.has_lost_its_session)
                filler.unlink()
                await asyncio.to_thread(server.start_again)
                await gateway.answers(500)
        finally:
            server.stop(signal.SIGQUIT)


@contextlib.contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """Mount a file system of the given size."""
    if shutil.which("mount") is None or os.getuid() != 0:
        pytest.skip("Only root can mount a small file system.")
    with tempfile.TemporaryDirectory(prefix="asgiref-postgres-") as name:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", name]
        done = subprocess.run(mount, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"A small file system cannot be mounted here: {done.stderr.strip()}")
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "-l", name], check=True)
