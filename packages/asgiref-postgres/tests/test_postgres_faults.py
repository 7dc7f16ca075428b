"""Faults under load, on a real server with real processes: nothing lost, no silent duplicates."""

import asyncio
import os
import signal
from pathlib import Path

import asyncpg
import pytest
from chat import until
from ledger import Ledger
from processes import Workers, empty, load, owners, recorder
from proxy import Proxy
from real_postgres import RealPostgres

from asgiref.postgres import send

pytestmark = pytest.mark.asyncio

#: The number of runs of each test; the release procedure asks for 20.
REPEATS = int(os.environ.get("ASGIREF_POSTGRES_REPEATS", "1"))


@pytest.fixture(params=range(REPEATS), autouse=True)
def repetition(request: pytest.FixtureRequest) -> int:
    return int(request.param)


async def test_a_killed_worker_loses_nothing(database: str) -> None:
    async with load(database, database) as (gateway, workers):
        workers.processes[0].kill()
        await gateway.answers(500)
        await workers.add()


@pytest.mark.thorough
async def test_a_frozen_worker_that_wakes_up_does_no_harm(database: str) -> None:
    async with load(database, database) as (gateway, workers):
        frozen = workers.processes[0]
        frozen.send_signal(signal.SIGSTOP)
        await owners(database, 1)
        await gateway.answers(2000)
        frozen.send_signal(signal.SIGCONT)
        await owners(database, 2)


@pytest.mark.thorough
async def test_a_killed_server_loses_nothing(database: str, server: RealPostgres) -> None:
    async with load(database, database) as (gateway, _):
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        await gateway.answers(500)


@pytest.mark.thorough
async def test_a_connection_cut_in_the_middle_of_a_reply_loses_nothing(
    database: str, server: RealPostgres
) -> None:
    async with Proxy(server.port) as proxy:
        url = database.replace(str(server.port), str(proxy.port))
        async with load(url, url) as (gateway, _):
            for size in (1, 1000, 5000, 20000):
                proxy.cut_after = size
                await gateway.answers(500)


@pytest.mark.thorough
async def test_a_network_that_swallows_packets_loses_nothing(
    database: str, server: RealPostgres
) -> None:
    async with Proxy(server.port) as proxy:
        url = database.replace(str(server.port), str(proxy.port))
        async with load(url, url) as (gateway, _):
            proxy.swallows = True
            await until(gateway.has_lost_its_session)
            proxy.swallows = False
            await owners(database, 2)
            await gateway.answers(500)


@pytest.mark.thorough
async def test_workers_that_join_and_leave_interrupt_no_message(database: str) -> None:
    async with load(database, database) as (gateway, workers):
        for _ in range(3):
            await workers.add()
            await owners(database, 3)
            leaving = workers.processes.pop(0)
            leaving.terminate()
            assert await leaving.wait() == 0
            await gateway.answers(300)
        assert gateway.ledger.redelivered == 0


async def test_a_second_gateway_takes_over_from_a_killed_one(database: str, tmp_path: Path) -> None:
    path = tmp_path / "events"
    workers, ledger = Workers(database), Ledger()
    gateways = [await recorder(database, path)]
    assert gateways[0].stdout is not None
    assert await gateways[0].stdout.readline() == b"owner\n"
    gateways.append(await recorder(database, path))
    try:
        await workers.add()
        connection = await asyncpg.connect(database)
        for number in range(600):
            if number == 300:
                gateways[0].kill()
            scope_id = f"scope{number % 7}"
            message = {"type": "count", "number": ledger.next_number(scope_id)}
            await send(scope_id, message, connection=connection)
        assert gateways[1].stdout is not None
        assert await gateways[1].stdout.readline() == b"owner\n"
        await until(lambda: empty(connection))
        await connection.close()
    finally:
        await workers.end()
        for gateway in gateways:
            if gateway.returncode is None:
                gateway.terminate()
            await gateway.wait()
    for line in path.read_text().splitlines():
        scope_id, text, redelivered = line.split()
        ledger.answer(scope_id, int(text), redelivered == "1")
    ledger.check()


@pytest.mark.thorough
async def test_a_message_that_kills_its_worker_becomes_a_dead_letter_alone(database: str) -> None:
    async with load(database, database) as (gateway, workers):
        await send("scope1x", {"type": "count", "number": 0, "poison": True}, database=database)
        connection = await asyncpg.connect(database)

        async def is_dead() -> bool:
            for process in list(workers.processes):
                if process.returncode is not None:
                    workers.processes.remove(process)
                    await workers.add()
            found = await connection.fetch("SELECT scope_id FROM asgiref.dead_letters")
            return [row[0] for row in found] == ["scope1x"]

        await until(is_dead)
        await connection.close()
        await gateway.answers(500)


@pytest.mark.thorough
async def test_a_session_that_is_stuck_in_a_request_is_ended(database: str) -> None:
    async with load(database, database) as (gateway, workers):
        stuck = await asyncpg.connect(database)
        workers.processes[0].terminate()
        workers.processes[1].terminate()
        await asyncio.gather(*(process.wait() for process in workers.processes))
        await stuck.execute("SELECT pg_advisory_lock('asgiref'::regnamespace::oid::integer, 1)")
        sleeping = asyncio.ensure_future(stuck.execute("SELECT pg_sleep(600)"))
        workers.processes.clear()
        await workers.add()
        with pytest.raises((asyncpg.AdminShutdownError, asyncpg.ConnectionDoesNotExistError)):
            await sleeping
        await owners(database, 1)
        await gateway.answers(10)
