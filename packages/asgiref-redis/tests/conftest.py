"""A Redis for the whole run, a connection of its own for each test, and logs that must be clean."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_redis import MISSING, RealRedis, is_installed

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def redis_server() -> None:
    """Skip what needs the program where it is missing; where nobody reads that, in CI, fail."""
    if not is_installed():
        if os.environ.get("CI"):
            pytest.fail(MISSING)
        pytest.skip(MISSING)


@pytest.fixture(scope="session")
def shared_redis(
    redis_server: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealRedis]:
    """A Redis that no test may stop."""
    server = RealRedis(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_redis(redis_server: None, tmp_path: Path) -> Iterator[RealRedis]:
    """A Redis that a test may treat as it likes."""
    server = RealRedis(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def connection() -> str:
    """The name of a connection that no other test uses."""
    return f"test{next(_numbers)}"
