"""Worker and gateway processes for fault tests, and queries about them."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
from chat import until
from ledger import LedgerGateway

from asgiref.postgres import Database

SUPPORT = Path(__file__).parent


async def start(*arguments: str, url: str, silence: float = 2.0) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "asgiref.postgres",
        "worker",
        *(arguments or ("postgres_apps:echo",)),
        "--database",
        url,
        "--timeout",
        str(silence),
        cwd=SUPPORT,
    )


class Workers:
    """Worker processes; `end` kills them all."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.processes: list[asyncio.subprocess.Process] = []

    async def add(self) -> asyncio.subprocess.Process:
        process = await start(url=self._url)
        self.processes.append(process)
        return process

    async def end(self) -> None:
        for process in self.processes:
            if process.returncode is None:
                process.kill()
        await asyncio.gather(*(process.wait() for process in self.processes))


@asynccontextmanager
async def load(
    gateway_url: str, worker_url: str, seconds: float = 90
) -> AsyncIterator[tuple[LedgerGateway, Workers]]:
    """Run two workers and a gateway that checks every answer; finally wait for all answers."""
    gateway = LedgerGateway(Database(gateway_url, timeout=2.0))
    workers = Workers(worker_url)
    try:
        for _ in range(2):
            await workers.add()
        async with asyncio.timeout(seconds):
            serving = asyncio.ensure_future(gateway.arun())
            await gateway.answers(500)
            yield gateway, workers
            await gateway.answers(500)
            gateway.may_send = False
            await serving
    except TimeoutError:
        gateway.ledger.check()  # its error says more than a timeout
        raise
    finally:
        await workers.end()
    gateway.ledger.check()


async def recorder(url: str, path: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "postgres_apps.py", url, str(path), cwd=SUPPORT,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def empty(connection: Any) -> bool:
    return bool(await connection.fetchval("SELECT count(*) FROM asgiref.messages") == 0)


async def owners(url: str, count: int) -> None:
    """Wait until that many workers own all partitions."""
    connection = await asyncpg.connect(url)

    async def are_owned() -> bool:
        rows = await connection.fetch(
            "SELECT pid, count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2"
            " AND classid = 'asgiref'::regnamespace::oid AND objid BETWEEN 1 AND 4096 GROUP BY pid"
        )
        return len(rows) == count and sum(row["n"] for row in rows) == 16

    try:
        await until(are_owned)
    finally:
        await connection.close()
