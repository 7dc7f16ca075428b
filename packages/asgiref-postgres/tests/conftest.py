"""One server for all tests, and an empty schema for each test."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from real_postgres import RealPostgres, real_postgres

from asgiref.postgres import Database, migrate


@pytest.fixture(scope="session")
def server() -> Iterator[RealPostgres]:
    with real_postgres() as started:
        yield started


@pytest.fixture
def database(server: RealPostgres) -> str:
    """The URL of a database with an empty schema."""

    async def prepare() -> None:
        connection = await asyncpg.connect(server.url)
        await connection.execute("DROP SCHEMA IF EXISTS asgiref CASCADE")
        await connection.close()
        await migrate(Database(server.url), partitions=16)

    asyncio.run(prepare())
    return server.url


@pytest_asyncio.fixture
async def connection(database: str) -> AsyncIterator[Any]:
    opened = await asyncpg.connect(database)
    yield opened
    await opened.close()


os.environ.setdefault("PYTHONUNBUFFERED", "1")
